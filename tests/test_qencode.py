"""Qencode's query: every attribute that we know means what it means there, and every other is refused by name."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.dialects.qencode import is_query, read_query
from daemon.errors import BadJob
from daemon.job import Job

THUMBNAIL = {"output": "thumbnail", "time": 0.5}
SERIES = {"output": "thumbnails", "interval": 10}
KEYS_OF = {"key": "abcde12345", "secret": "hunter2"}
THERE = {"url": "s3://nyc3.digitaloceanspaces.com/qencode3/test/a.png", **KEYS_OF}


def read(*formats: object, **query: object) -> Job:
    return read_query(json.dumps({"query": {"source": "/media/film.mp4", "format": list(formats), **query}}).encode())


def made(*formats: object, **query: object) -> list[dict[str, Any]]:
    """The outputs that come of these, less what is as it always is."""
    outputs = read(*formats, **query).model_dump(mode="json", exclude_defaults=True)["outputs"]
    return [{key: value for key, value in output.items() if key != "name"} for output in outputs]


def refused(*formats: object, **query: object) -> str:
    with pytest.raises(BadJob) as raised:
        read(*formats, **query)
    return raised.value.message


# One picture.


@pytest.mark.parametrize(
    ("said", "at"),
    [
        ({"time": 0.5}, "50%"),
        ({"time": "0.25"}, "25%"),
        ({"time": 0}, "0%"),
        ({"time": 1}, "100%"),
        ({"time": "1.0"}, "100%"),
        ({"time": 0.123456789}, "12.3456789%"),
        ({"start_time": 12}, 12),
        ({"start_time": "12.5"}, 12.5),
        ({"start_time": "1e1"}, 10),
        ({"frame_number": 100}, {"frame": 100}),
        ({"frame_number": "100"}, {"frame": 100}),
        ({"frame_number": 7, "time": 0.5}, {"frame": 7}),
        ({"frame_number": 7, "time": 0.5, "start_time": 3}, {"frame": 7}),
        ({"start_time": 3, "time": 0.5}, 3),
    ],
)
def test_when(said: dict[str, Any], at: Any) -> None:
    ours = {"source": "/media/film.mp4", "outputs": [{"output": "thumbnail", "at": at, "format": "png"}]}
    assert read({"output": "thumbnail", **said}) == Job.check(ours)


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ({}, {"format": "png"}),
        ({"width": 320}, {"width": 320}),
        ({"height": "240"}, {"height": 240}),
        ({"width": 320, "height": 240}, {"width": 320, "height": 240, "fit": "stretch"}),
        ({"width": 320, "height": 240, "resize_mode": "scale"}, {"width": 320, "height": 240, "fit": "stretch"}),
        ({"width": 320, "height": 240, "resize_mode": "crop"}, {"width": 320, "height": 240, "fit": "cover"}),
        ({"width": 320, "resize_mode": "crop"}, {"width": 320}),
        ({"size": "320x240"}, {"width": 320, "height": 240, "fit": "stretch"}),
        ({"size": "320X240", "resize_mode": "crop"}, {"width": 320, "height": 240, "fit": "cover"}),
        ({"size": "320x240", "width": 1}, {"width": 320, "height": 240, "fit": "stretch"}),
        ({"resolution": 480}, {"short_side": 480}),
        ({"resolution": "480", "width": 320, "size": "1x1"}, {"short_side": 480}),
        ({"image_format": "jpg"}, {"format": "jpeg"}),
        ({"image_format": "jpeg", "quality": "70"}, {"format": "jpeg", "quality": 70}),
        ({"image_format": "webp", "quality": 70}, {"format": "webp", "quality": 70}),
        ({"image_format": "png", "quality": 70}, {"format": "png"}),
        ({"tag": "a"}, {"tag": "a"}),
        ({"user_tag": "b"}, {"tag": "b"}),
        ({"tag": "a", "user_tag": "b"}, {"tag": "b"}),
        ({"allow_soft_fail": 1}, {"optional": True}),
        ({"allow_soft_fail": "0"}, {}),
        ({"rotate": "90"}, {"rotate": 90}),
        ({"rotate": 0}, {}),
        ({"destination": ""}, {}),
        ({"destination": None}, {}),
        ({"destination": []}, {}),
    ],
)
def test_what_it_looks_like(said: dict[str, Any], means: dict[str, Any]) -> None:
    ours = {"output": "thumbnail", "at": "50%", "format": "png", **means}
    assert read({**THUMBNAIL, **said}) == Job.check({"source": "/media/film.mp4", "outputs": [ours]})


@pytest.mark.parametrize(("said", "upscale"), [({}, False), ({"upscale": 0}, False), ({"upscale": "1"}, True)])
def test_upscaling_is_said_once_for_all(said: dict[str, Any], upscale: bool) -> None:
    assert [output.upscale for output in read(THUMBNAIL, SERIES, **said).outputs] == [upscale] * 2


# Many pictures.


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ({"interval": 10}, {"output": "thumbnails", "every": 10, "files": "thumb_{n:04}"}),
        ({"interval": "10"}, {"output": "thumbnails", "every": 10, "files": "thumb_{n:04}"}),
        ({"interval": 10, "sprite": 0}, {"output": "thumbnails", "every": 10, "files": "thumb_{n:04}"}),
        ({"interval": 10, "sprite": 1}, {"output": "sprite", "every": 10, "rows": 100}),
        (
            {"interval": 10, "sprite": "1", "columns": "5", "width": 160},
            {"output": "sprite", "every": 10, "rows": 100, "columns": 5, "width": 160},
        ),
        ({"interval": 10, "columns": 5}, {"output": "thumbnails", "every": 10, "files": "thumb_{n:04}"}),
        (
            {"interval": 10, "image_format": "jpg", "size": "320x180", "tag": "x"},
            {
                "output": "thumbnails",
                "every": 10,
                "files": "thumb_{n:04}",
                "format": "jpeg",
                "width": 320,
                "height": 180,
                "fit": "stretch",
                "tag": "x",
            },
        ),
    ],
)
@pytest.mark.parametrize("output", ["thumbnail", "thumbnails"])
def test_series(output: str, said: dict[str, Any], means: dict[str, Any]) -> None:
    """A thumbnail with an interval is a series, too."""
    ours = {"format": "png", **means}
    assert read({"output": output, **said}) == Job.check({"source": "/media/film.mp4", "outputs": [ours]})


def test_several_series_have_names_of_their_own() -> None:
    outputs = read(SERIES, {**SERIES, "interval": 5}, THUMBNAIL).outputs
    names = {output.name for output in outputs}
    assert len(names) == 3 and all("thumb_" not in str(output) for output in outputs)


def test_formats_keep_their_order() -> None:
    outputs = read(THUMBNAIL, SERIES, {**THUMBNAIL, "time": 1}).outputs
    assert [output.output for output in outputs] == ["thumbnail", "thumbnails", "thumbnail"]


# A clip.


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ({}, {}),
        ({"start_time": "10", "duration": "20"}, {"start": 10, "duration": 20}),
        ({"start_time": 1.5, "duration": 0.5}, {"start": 1.5, "duration": 0.5}),
        ({"framerate": "29.97"}, {"fps": "29.97"}),
        ({"framerate": 25}, {"fps": 25}),
        ({"keyframe": "25"}, {"keyframe": 25}),
        ({"keyframe": 25}, {"keyframe": 25}),
        ({"keyframe": "3s"}, {"keyframe": "3s"}),
        ({"file_extension": "mp4", "video_codec": "libx264"}, {}),
        ({"size": "360x240"}, {"width": 360, "height": 240, "fit": "stretch"}),
        ({"size": "360x240", "resize_mode": "crop"}, {"width": 360, "height": 240, "fit": "cover"}),
        ({"width": "360"}, {"width": 360}),
        ({"resolution": 480}, {"short_side": 480}),
        ({"tag": "a", "user_tag": "b"}, {"tag": "b"}),
        ({"allow_soft_fail": "1"}, {"optional": True}),
        ({"rotate": "270"}, {"rotate": 270}),
        ({"destination": ""}, {}),
    ],
)
def test_a_clip(said: dict[str, Any], means: dict[str, Any]) -> None:
    ours = {"source": "/media/film.mp4", "outputs": [{"output": "clip", **means}]}
    assert read({"output": "mp4", **said}) == Job.check(ours)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"start_time": "x"}, "start_time: a number is needed, not 'x'"),
        ({"duration": 0}, "duration: must be at least a millisecond"),
        ({"framerate": "fast"}, "framerate: a number is needed, not 'fast'"),
        ({"framerate": 0}, "fps: frames a second lie between"),
        ({"keyframe": 2.5}, "keyframe: a whole number is needed, not '2.5'"),
        ({"keyframe": "ages"}, "keyframe: 'ages' is no time"),
        ({"file_extension": "mov"}, "file_extension: 'mov' is not supported: only mp4 is"),
        ({"video_codec": "libx265"}, "video_codec: 'libx265' is not supported: only libx264 is"),
        ({"quality": 20}, "quality: unknown key, or not supported"),
        ({"bitrate": "500"}, "bitrate: unknown key, or not supported"),
        ({"time": 0.5}, "time: unknown key, or not supported"),
        ({"destination": {"url": "s3://host/bucket/key"}}, "destination.key: is missing"),
        ({"rotate": "45"}, "rotate: "),
    ],
)
def test_what_is_wrong_with_a_clip_is_named_with_its_place(said: dict[str, Any], complaint: str) -> None:
    message = refused(THUMBNAIL, {"output": "mp4", **said})
    assert message.startswith(f"query.format[1].{complaint}")


# Where it goes.


@pytest.mark.parametrize(
    ("url", "target"),
    [
        (THERE["url"], {"url": "s3://qencode3/test/a.png", "endpoint": "nyc3.digitaloceanspaces.com"}),
        ("s3://127.0.0.1:9000/bucket/a.png", {"url": "s3://bucket/a.png", "endpoint": "127.0.0.1:9000"}),
        ("s3://s3.amazonaws.com/bucket/a.png", {"url": "s3://bucket/a.png", "region": "us-east-1"}),
        ("s3://s3.eu-west-2.amazonaws.com/bucket/a", {"url": "s3://bucket/a", "region": "eu-west-2"}),
        ("s3://s3-eu-west-1.amazonaws.com/bucket/a", {"url": "s3://bucket/a", "region": "eu-west-1"}),
        ("s3://us-east-1.amazonaws.com/bucket/a", {"url": "s3://bucket/a", "region": "us-east-1"}),
        ("azblob://container/a.png", {"url": "azblob://container/a.png"}),
        ("azblob://account.blob.core.windows.net/container/a", {"url": "azblob://container/a"}),
    ],
)
def test_a_destination(url: str, target: dict[str, str]) -> None:
    [output] = read({**THUMBNAIL, "destination": {**THERE, "url": url}}).outputs
    assert [each.model_dump(exclude_none=True) for each in output.deliver] == [target | KEYS_OF]


def test_several_destinations_and_how_their_objects_are_to_be() -> None:
    more = {"permissions": "public-read", "storage_class": "STANDARD_IA", "cache_control": "max-age=60"}
    [output] = read({**THUMBNAIL, "destination": [THERE, {**THERE, **more}]}).outputs
    plain, other = output.deliver
    assert plain.permissions is None and other.model_dump(include=set(more)) == more


@pytest.mark.parametrize("url", ["s3://host.example/bucket/folder", "s3://host.example/bucket/folder/"])
def test_a_series_goes_into_a_folder(url: str) -> None:
    destination = {**THERE, "url": url}
    series, sprite = read(*[{**SERIES, "destination": destination, "sprite": n} for n in (0, 1)]).outputs
    assert series.deliver[0].url == sprite.deliver[0].url == "s3://bucket/folder/"
    [one] = read({**THUMBNAIL, "destination": destination}).outputs
    assert one.deliver[0].url == url.replace("host.example/", "")


def test_a_callback() -> None:
    assert read(THUMBNAIL, callback_url="https://host.example/hook?id=1").callback_url
    assert read(THUMBNAIL, callback_url="").callback_url is None


# The query.


def test_the_payload_stands_beside_the_query() -> None:
    said = {"query": {"source": "a", "format": [THUMBNAIL]}, "payload": "mine"}
    assert read_query(json.dumps(said).encode()).payload == "mine"


def test_a_repeat_is_ours_anyway() -> None:
    assert read(THUMBNAIL, retry_on_error=1) == read(THUMBNAIL)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        (b'{"query": {}}', True),
        (b'{"query": null, "x": 1}', True),
        (b'{"source": "a"}', False),
        (b'[{"query": {}}]', False),
        (b'"query"', False),
        (b"query", False),
        (b"", False),
        (b"\xff", False),
    ],
)
def test_a_query_is_told_from_a_job(text: bytes, is_one: bool) -> None:
    assert is_query(text) is is_one


# What is refused, and where.


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"callback_url": "ftp://a/b"}, "callback_url: must be a URL"),
        ({"callback_url": "http://a/" + "b" * 4000}, "callback_url: "),
        ({"callback_url": 5}, "callback_url: "),
        ({"use_subtask_callback": 1}, "query.use_subtask_callback: unknown key, or not supported"),
        ({"stitch": []}, "query.stitch: unknown key, or not supported"),
        ({"encoder_version": 2}, "query.encoder_version: unknown key, or not supported"),
        ({"format": []}, "query.format: must be a list of at least one output"),
        ({"format": {}}, "query.format: must be a list of at least one output"),
        ({"format": None}, "query.format: must be a list of at least one output"),
        ({"format": ["thumbnail"]}, "query.format[0]: must be an object"),
        ({"source": None}, "source: "),
        ({"source": ["a", "b"]}, "source: "),
        ({"upscale": "yes"}, "query.upscale: a whole number is needed, not 'yes'"),
    ],
)
def test_what_is_wrong_with_a_query_is_named(query: dict[str, Any], said: str) -> None:
    assert refused(THUMBNAIL, **query).startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"query": []}', "query: must be an object"),
        (b'{"query": {"format": []}}', "query.source: is missing"),
        (b'{"query": {"source": "a"}}', "query.format: is missing"),
        (b'{"query": {"source": "a", "format": [{}]}}', "query.format[0].output: is missing"),
        (b'{"query": {"source": "a", "format": [{"output": "thumbnails"}]}}', "query.format[0].interval: is missing"),
        (b'{"query": {"source": "a", "format": [{"output": "thumbnail"}]}}', "query.format[0].time: is missing"),
        (b'{"source": "a"}', "the query field is required"),
        (b'{"query": ', "query: not JSON"),
        (b'{"query": null}', "query: must be an object"),
        (b'{"query": {}, "api_key": "x"}', "api_key: unknown key"),
        (b'{"query": {"source": "a", "format": [{"output": "thumbnail", "time": 0}]}, "payload": 1}', "payload: "),
        (b'{"query": ' + b" " * (1 << 20) + b"{}}", "at most 1 MiB"),
    ],
)
def test_what_is_wrong_around_a_query_is_named(text: bytes, said: str) -> None:
    with pytest.raises(BadJob, match=said.replace("[", r"\[")):
        read_query(text)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"output": "webm"}, "output: 'webm' is not supported: only thumbnail, thumbnails and mp4 are"),
        ({"output": "advanced_hls"}, "output: 'advanced_hls' is not supported"),
        ({"output": None}, "output: None is not supported"),
        ({"output": ["thumbnail"]}, "output: ['thumbnail'] is not supported"),
        ({"destination": {"url": "s3://host/bucket/key", "secret": "hunter2"}}, "destination.key: is missing"),
        ({"destination": {"url": "s3://h/b/k", "key": "k", "secret": ""}}, "destination.secret: is missing"),
        ({"destination": {"key": "k", "secret": "hunter2"}}, "destination.url: is missing"),
        ({"destination": "s3://host/bucket/key"}, "destination: must be an object with url, key and secret"),
        ({"destination": [5]}, "destination[0]: must be an object"),
        ({"destination": {"url": 5, **KEYS_OF}}, "destination.url: must be text"),
        ({"destination": {"url": "s3://bucket", **KEYS_OF}}, "destination.url: write it as in s3://nyc3."),
        ({"destination": {"url": "b2://bucket/key", **KEYS_OF}}, "destination[0].url: b2:// is not supported"),
        ({"destination": {"url": "ftp://host/key", **KEYS_OF}}, "destination[0].url: ftp:// is not supported"),
        ({"destination": {"url": "sftp://host/key", **KEYS_OF}}, "destination[0].url: sftp:// is not supported"),
        ({"destination": [THERE, {**THERE, "permissions": "all"}]}, "destination[1].permissions: "),
        ({"destination": {**THERE, "is_passive": 1}}, "destination.is_passive: unknown key, or not supported"),
        ({"rotate": 45}, "rotate: "),
        ({"rotate": "left"}, "rotate: a whole number is needed, not 'left'"),
        ({"interval": 5}, "time: unknown key, or not supported"),
        ({"sprite": 1}, "sprite: unknown key, or not supported"),
        ({"columns": 5}, "columns: unknown key, or not supported"),
        ({"video_codec": "libx264"}, "video_codec: unknown key, or not supported"),
        ({"logo": {}}, "logo: unknown key, or not supported"),
        ({"time": 1.5}, "time: a fraction of the duration between 0 and 1, not 1.5"),
        ({"time": -0.1}, "time: a fraction of the duration between 0 and 1, not -0.1"),
        ({"time": "nan"}, "time: a number is needed, not 'nan'"),
        ({"time": "half"}, "time: a number is needed, not 'half'"),
        ({"time": True}, "time: a number is needed, not True"),
        ({"time": None}, "time: a number is needed, not None"),
        ({"start_time": "inf"}, "start_time: a number is needed, not 'inf'"),
        ({"start_time": -1}, "at: "),
        ({"frame_number": 1.5}, "frame_number: a whole number is needed, not 1.5"),
        ({"frame_number": -1}, "at"),
        ({"width": "wide"}, "width: a whole number is needed, not 'wide'"),
        ({"width": 320.5}, "width: a whole number is needed, not 320.5"),
        ({"width": 0}, "width: "),
        ({"width": 5000}, "width: "),
        ({"height": []}, "height: a whole number is needed, not []"),
        ({"size": "320"}, "size: write it as \"320x240\", not '320'"),
        ({"size": "320x"}, "size: a whole number is needed, not ''"),
        ({"size": "axb"}, "size: a whole number is needed, not 'a'"),
        ({"size": 320}, 'size: write it as "320x240", not 320'),
        ({"resolution": "HD"}, "resolution: a whole number is needed, not 'HD'"),
        ({"resolution": 0}, "short_side: "),
        ({"resize_mode": "pad"}, "resize_mode: 'pad' is none of scale, crop"),
        ({"resize_mode": {}}, "resize_mode: {} is none of scale, crop"),
        ({"resize_mode": "pad", "resolution": 480}, "resize_mode: 'pad' is none of scale, crop"),
        ({"image_format": "gif"}, "image_format: 'gif' is none of png, jpg, jpeg, webp"),
        ({"image_format": []}, "image_format: [] is none of png, jpg, jpeg, webp"),
        ({"image_format": None}, "image_format: None is none of png, jpg, jpeg, webp"),
        ({"image_format": "jpg", "quality": 101}, "quality: "),
        ({"image_format": "jpg", "quality": "best"}, "quality: a whole number is needed, not 'best'"),
        ({"tag": 5}, "tag: "),
        ({"allow_soft_fail": "yes"}, "allow_soft_fail: a whole number is needed, not 'yes'"),
    ],
)
def test_what_is_wrong_with_a_format_is_named_with_its_place(said: dict[str, Any], complaint: str) -> None:
    message = refused(SERIES, {**THUMBNAIL, **said})
    assert message.startswith(f"query.format[1].{complaint}")
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"interval": None}, "interval: a whole number is needed, not None"),
        ({"interval": 1.5}, "interval: a whole number is needed, not 1.5"),
        ({"interval": 0}, "every: "),
        ({"interval": 1, "sprite": 1, "columns": 0}, "columns: "),
        ({"interval": 1, "sprite": 1, "columns": "many"}, "columns: a whole number is needed, not 'many'"),
        ({"interval": 1, "frame_number": 3}, "frame_number: unknown key"),
    ],
)
def test_what_is_wrong_with_a_series_is_named_with_its_place(said: dict[str, Any], complaint: str) -> None:
    message = refused(THUMBNAIL, {"output": "thumbnails", **said})
    assert message.startswith(f"query.format[1].{complaint}")


# Whatever comes.

KEYS = ["output", "width", "height", "size", "resolution", "resize_mode", "image_format", "quality", "tag", "user_tag"]
KEYS += ["rotate", "framerate", "keyframe", "duration", "file_extension", "video_codec"]
KEYS += ["destination", "allow_soft_fail", "time", "frame_number", "start_time", "interval", "sprite", "columns"]
WORDS = ["thumbnail", "thumbnails", "320x240", "crop", "png", "jpg", "1", "0.5", "-1", "nan", "1e400", "٣", ""]
values = st.one_of(
    *(st.none(), st.booleans(), st.integers(-2, 5000), st.integers(), st.floats(), st.sampled_from(WORDS), st.text()),
    *(st.lists(st.integers(), max_size=2), st.dictionaries(st.text(), st.none(), max_size=2)),
)
clips = st.dictionaries(st.sampled_from(KEYS), values).map(lambda said: {**said, "output": "mp4"})
formats = st.one_of(values, st.dictionaries(st.sampled_from(KEYS), values), clips, st.just(THUMBNAIL), st.just(SERIES))


@given(
    st.fixed_dictionaries(
        {}, optional={"source": values, "format": st.lists(formats, max_size=3) | values, "upscale": values}
    )
)
def test_whatever_is_said_is_a_job_or_a_bad_job(query: dict[str, Any]) -> None:
    text = json.dumps({"query": query}).encode()
    assert is_query(text)
    try:
        read_query(text)
    except BadJob as bad:
        assert bad.message and "\n" not in bad.message


@given(st.dictionaries(st.sampled_from(KEYS), values))
def test_whatever_a_thumbnail_says(said: dict[str, Any]) -> None:
    try:
        read({**THUMBNAIL, **said}, {**SERIES, **said})
    except BadJob as bad:
        assert bad.message.startswith(("query.format[", "job", "query: not JSON"))
