"""A job is checked whole before anything is done, and every complaint says where it is and what was found there."""

import json
from fractions import Fraction
from itertools import combinations
from typing import Any

import pytest
from harness import PROMISE
from hypothesis import example, given
from hypothesis import strategies as st

from daemon.errors import BadJob
from daemon.fields import FrameNumber
from daemon.files import files_of
from daemon.intake.inbox import new_job
from daemon.job import MAX_JOB_BYTES, Job, job_schema
from daemon.outputs import Animation, Clip, Output, Sprite, Thumbnail, Thumbnails
from daemon.times import Time

Json = dict[str, Any]


def may_write(output: Output, file: str) -> bool:
    return any(files.holds(file) for files in files_of(output))


def thumbnail(**keys: Any) -> Json:
    return {"output": "thumbnail", "at": 1} | keys


def series(**keys: Any) -> Json:
    return {"output": "thumbnails", "every": 5} | keys


def sprite(**keys: Any) -> Json:
    return {"output": "sprite", "every": 5} | keys


def job(*outputs: object, **keys: Any) -> Json:
    return {"source": "film.mp4", "outputs": outputs} | keys


def read(said: object) -> Job:
    return Job.read(json.dumps(said))


def complaint(said: object) -> str:
    with pytest.raises(BadJob) as refusal:
        read(said)
    return refusal.value.message


def only(output: Json) -> Output:
    (read_back,) = read(job(output)).outputs
    return read_back


# --- what goes without saying ---------------------------------------------------------------------------------


def test_defaults_of_a_job() -> None:
    said = read(job(thumbnail()))
    assert (said.id, said.org, said.destination, said.priority, said.payload) == (None, "default", None, None, None)
    assert not said.cache


@pytest.mark.parametrize("output", [thumbnail(), series()])
def test_defaults_of_a_picture(output: Json) -> None:
    said = only(output)
    assert (said.width, said.height, said.short_side, said.fit, said.upscale) == (None, None, None, "inside", False)
    assert (said.format, said.quality, said.accuracy, said.optional, said.tag) == ("webp", None, "exact", False, None)


def test_defaults_of_a_sprite() -> None:
    said = only(sprite())
    assert isinstance(said, Sprite)
    assert (said.format, said.columns, said.rows, said.indexes) == ("jpeg", 10, 10, ("vtt",))


@pytest.mark.parametrize(
    ("keys", "sides"),
    [
        ({}, (320, None, None)),
        ({"width": 100}, (100, None, None)),
        ({"height": 90}, (None, 90, None)),
        ({"short_side": 90}, (None, None, 90)),
        ({"width": 160, "height": 90}, (160, 90, None)),
        ({"height": None}, (320, None, None)),  # null says nothing
        ({"short_side": None}, (320, None, None)),
    ],
)
def test_tiles_are_320_wide_unless_a_size_is_given(keys: Json, sides: tuple[int | None, ...]) -> None:
    said = only(sprite(**keys))
    assert (said.width, said.height, said.short_side) == sides


def test_unnamed_outputs_are_named_by_kind_and_place() -> None:
    said = read(job(thumbnail(), series(), thumbnail(name="poster"), sprite()))
    assert [output.name for output in said.outputs] == ["thumbnail-1", "thumbnails-2", "poster", "sprite-4"]


@pytest.mark.parametrize(
    ("output", "number", "file"),
    [
        (thumbnail(name="poster"), None, "poster.webp"),
        (thumbnail(name="poster", format="jpeg"), None, "poster.jpg"),
        (series(name="film"), 1, "film-0001.webp"),
        (series(name="film"), 12345, "film-12345.webp"),
        (series(name="film", files="thumb_{n:04}", format="png"), 7, "thumb_0007.png"),
        (series(name="film", files="{n}"), 7, "7.webp"),
        (sprite(name="film"), 0, "film-000.jpg"),
        (sprite(name="film", format="avif"), 12, "film-012.avif"),
    ],
)
def test_file_names(output: Json, number: int | None, file: str) -> None:
    said = only(output)
    if isinstance(said, Thumbnail):
        assert said.file == file
    else:
        assert number is not None
        assert said.file(number) == file


@pytest.mark.parametrize(
    ("keys", "file"),
    [
        ({"indexes": ["vtt"]}, "film.vtt"),
        ({"indexes": ["hls"]}, "film.m3u8"),
        ({"indexes": ["dash"]}, "film.mpd"),
        ({"indexes": ["bif"]}, "film.bif"),
        ({"indexes": ["json"]}, "film.json"),
        ({"layout": "emby"}, "film-320-5.bif"),
        ({"layout": "emby", "width": 240, "every": "1m10s"}, "film-240-70.bif"),
        ({"layout": "plex"}, "index-sd.bif"),
        ({"layout": "jellyfin", "indexes": ["hls"]}, "film.m3u8"),
    ],
)
def test_names_of_index_files(keys: Json, file: str) -> None:
    said = only(sprite(name="film", **keys))
    assert isinstance(said, Sprite)
    assert [said.index_file(index) for index in said.indexes] == [file]
    assert may_write(said, file)


def test_a_sprite_for_jellyfin() -> None:
    said = only(sprite(name="film", layout="jellyfin"))
    assert isinstance(said, Sprite)
    assert (said.indexes, said.upscale, said.has_sheets) == ((), True, True)
    assert [said.file(n) for n in (0, 9, 10)] == [f"film.trickplay/320 - 10x10/{n}.jpg" for n in (0, 9, 10)]
    said = only(sprite(name="film", layout="jellyfin", width=160, columns=5, rows=4, height=100, fit="pad"))
    assert isinstance(said, Sprite)
    assert said.file(0) == "film.trickplay/160 - 5x4/0.jpg"


@pytest.mark.parametrize(("layout", "upscale"), [("emby", True), ("plex", False)])
def test_a_sprite_that_is_a_bif_alone(layout: str, upscale: bool) -> None:
    said = only(sprite(layout=layout, start=0))
    assert isinstance(said, Sprite)
    assert (said.indexes, said.upscale, said.has_sheets) == (("bif",), upscale, False)
    assert [files.format for files in files_of(said)] == ["bif"]


@pytest.mark.parametrize(
    "url",
    [
        "/",
        "/film",
        "/film/a.b/~c/%20$&'()*+,;=:@",
        "http://cdn.example",
        "https://user@cdn.example:8080/film/",
        "https://[::1]:80/film",
        "/" + "x" * 1999,
    ],
)
def test_a_base_url(url: str) -> None:
    for kind in (series, sprite):
        said = only(kind(base_url=url))
        assert not isinstance(said, Thumbnail)
        assert said.base_url == url


@pytest.mark.parametrize(
    ("said", "at"),
    [
        (0, Time(Fraction(0))),
        (0.1, Time(Fraction(1, 10))),
        ("1m2.5s", Time(Fraction(125, 2))),
        ("15%", Time(Fraction(3, 20), relative=True)),
        ("middle", Time(Fraction(1, 2), relative=True)),
        ({"frame": 0}, FrameNumber(frame=0)),
        ({"frame": 10**9}, FrameNumber(frame=10**9)),
    ],
)
def test_ways_to_say_at(said: object, at: object) -> None:
    thumb = only(thumbnail(at=said))
    assert isinstance(thumb, Thumbnail)
    assert thumb.at == at


# --- what is refused, and in which words ------------------------------------------------------------------------

# The job, the place that is named, and what must be found in what is said of it.
WRONG: list[tuple[object, str, str]] = [
    ([], "job", "'[]'"),
    (None, "job", "None"),
    ("film.mp4", "job", "film.mp4"),
    ({}, "source", "required"),
    ({"source": "film.mp4"}, "outputs", "required"),
    (job(thumbnail(), source=""), "source", "''"),
    (job(thumbnail(), source=7), "source", "'7'"),
    (job(thumbnail(), source="a" * 4097), "source", "4096"),
    (job(thumbnail(), source="a\0b"), "source", "\\x00"),
    (job(thumbnail(), id=""), "id", "''"),
    (job(thumbnail(), id="a" * 65), "id", "aaa"),
    (job(thumbnail(), id="a/b"), "id", "a/b"),
    (job(thumbnail(), id=".a"), "id", ".a"),
    (job(thumbnail(), id="a\n"), "id", "a\\n"),
    (job(thumbnail(), id=7), "id", "'7'"),
    (job(thumbnail(), org="../x"), "org", "../x"),
    (job(thumbnail(), org=None), "org", "None"),
    (job(thumbnail(), priority="urgent"), "priority", "urgent"),
    (job(thumbnail(), payload="p" * 1001), "payload", "1000"),
    (job(thumbnail(), payload={}), "payload", "{}"),
    (job(thumbnail(), cache="yes"), "cache", "yes"),
    (job(thumbnail(), colour="red"), "colour", "unknown key"),
    (job(thumbnail(), sprite="red"), "sprite", "unknown key"),
    (job(thumbnail(), thumbnail="red"), "thumbnail", "unknown key"),
    (job(), "outputs", "not 0"),
    (job(*[thumbnail()] * 65), "outputs", "not 65"),
    (job(outputs=3), "outputs", "'3'"),
    (job(outputs={"output": "thumbnail"}), "outputs", "thumbnail"),
    (job(3), "outputs[0]", "'3'"),
    (job({"at": 1}), "outputs[0]", "'output'"),
    (job({"output": "film"}), "outputs[0]", "'film'"),
    (job({"output": "clip", "accuracy": "exact"}), "outputs[0].accuracy", "unknown key"),
    (job({"output": "clip", "format": "webm"}), "outputs[0].format", "'mp4'"),
    (job({"output": "clip", "at": 1}), "outputs[0].at", "unknown key"),
    (job({"output": "clip", "audio": 1}), "outputs[0].audio", "1"),
    (job({"output": "clip", "fps": 0}), "outputs[0].fps", "between 0.001 and 240"),
    (job({"output": "clip", "fps": 241}), "outputs[0].fps", "between 0.001 and 240"),
    (job({"output": "clip", "fps": True}), "outputs[0].fps", "30000/1001"),
    (job({"output": "clip", "fps": "1/0"}), "outputs[0].fps", "30000/1001"),
    (job({"output": "clip", "fps": "9" * 1000}), "outputs[0].fps", "30000/1001"),
    (job({"output": "clip", "keyframe": 0}), "outputs[0].keyframe", "whole number"),
    (job({"output": "clip", "keyframe": 2.5}), "outputs[0].keyframe", "whole number"),
    (job({"output": "clip", "keyframe": "25"}), "outputs[0].keyframe", "whole number"),
    (job({"output": "clip", "keyframe": "0s"}), "outputs[0].keyframe", "millisecond"),
    (job({"output": "clip", "duration": 0}), "outputs[0].duration", "millisecond"),
    (job({"output": "animation", "format": "png"}), "outputs[0].format", "'gif'"),
    (job({"output": "animation", "keyframe": 5}), "outputs[0].keyframe", "unknown key"),
    (job({"output": "animation", "format": "gif", "fps": 51}), "outputs[0]", "at most 50"),
    (job({"output": "poster"}), "outputs[0]", "'poster'"),
    (job({"output": ["thumbnail"]}), "outputs[0]", "thumbnail"),
    (job({"output": "thumbnail"}), "outputs[0].at", "required"),
    (job(thumbnail(), thumbnail(colour="red")), "outputs[1].colour", "unknown key"),
    (job(thumbnail(every=1)), "outputs[0].every", "unknown key"),
    (job(thumbnail(thumbnail=1)), "outputs[0].thumbnail", "unknown key"),
    (job(series(columns=1)), "outputs[0].columns", "unknown key"),
    (job(sprite(files="{n}")), "outputs[0].files", "unknown key"),
    (job(thumbnail(at="worst")), "outputs[0].at", "'worst' is no time"),
    (job(thumbnail(at=-1)), "outputs[0].at", "-1"),
    (job(thumbnail(at=True)), "outputs[0].at", '"12s"'),
    (job(thumbnail(at=None)), "outputs[0].at", '"12s"'),
    (job(thumbnail(at="abc")), "outputs[0].at", "'abc'"),
    (job(thumbnail(at="101%")), "outputs[0].at", "101%"),
    (job(thumbnail(at={"frame": -1})), "outputs[0].at", "-1"),
    (job(thumbnail(at={"frame": 1.5})), "outputs[0].at", "1.5"),
    (job(thumbnail(at={"frame": True})), "outputs[0].at", "True"),
    (job(thumbnail(at={"frame": "1"})), "outputs[0].at", "'1'"),
    (job(thumbnail(at={"frame": 10**9 + 1})), "outputs[0].at", "1000000001"),
    (job(thumbnail(at={"frames": 1})), "outputs[0].at", "frames: unknown key"),
    (job(thumbnail(at={})), "outputs[0].at", '{"frame": N}'),
    (job(thumbnail(width=0)), "outputs[0].width", "'0'"),
    (job(thumbnail(width=4097)), "outputs[0].width", "'4097'"),
    (job(thumbnail(width="320")), "outputs[0].width", "'320'"),
    (job(thumbnail(width=320.0)), "outputs[0].width", "'320.0'"),
    (job(thumbnail(width=True)), "outputs[0].width", "'True'"),
    (job(thumbnail(width=10**300)), "outputs[0].width", "10000"),
    (job(thumbnail(height=-1)), "outputs[0].height", "'-1'"),
    (job(thumbnail(short_side=5000)), "outputs[0].short_side", "'5000'"),
    (job(thumbnail(short_side=90, width=160)), "outputs[0]", "short_side"),
    (job(sprite(short_side=90, width=160)), "outputs[0]", "short_side"),
    (job(thumbnail(fit="contain")), "outputs[0].fit", "'contain'"),
    (job(thumbnail(fit="cover", width=160)), "outputs[0]", "'cover' needs both"),
    (job(sprite(fit="pad")), "outputs[0]", "'pad' needs both"),
    (job(thumbnail(upscale=1)), "outputs[0].upscale", "'1'"),
    (job(thumbnail(upscale="true")), "outputs[0].upscale", "'true'"),
    (job(thumbnail(format="jpg")), "outputs[0].format", "'jpg'"),
    (job(thumbnail(quality=0)), "outputs[0].quality", "'0'"),
    (job(thumbnail(quality=101)), "outputs[0].quality", "'101'"),
    (job(thumbnail(accuracy="fast")), "outputs[0].accuracy", "'fast'"),
    (job(thumbnail(tag="t" * 1001)), "outputs[0].tag", "1000"),
    (job(series(every=0)), "outputs[0].every", "at least a millisecond"),
    (job(series(every="0%")), "outputs[0].every", "at least a millisecond"),
    (job(series(every=[])), "outputs[0].every", '"12s"'),
    (job(series(count=3)), "outputs[0]", "either every"),
    (job({"output": "thumbnails"}), "outputs[0]", "either every"),
    (job({"output": "sprite", "count": 0}), "outputs[0].count", "'0'"),
    (job({"output": "sprite", "count": 100_001}), "outputs[0].count", "'100001'"),
    (job(series(start="end")), "outputs[0].start", "'end'"),
    (job(series(end="-1s")), "outputs[0].end", "'-1s'"),
    (job(sprite(columns=0)), "outputs[0].columns", "'0'"),
    (job(sprite(rows=101)), "outputs[0].rows", "'101'"),
    (job(sprite(indexes=["roku"])), "outputs[0].indexes[0]", "'roku'"),
    (job(sprite(indexes=["vtt", "hls", "vtt"])), "outputs[0].indexes", "twice"),
    (
        job(sprite(indexes=["hls"], format="webp")),
        "outputs[0]",
        '"hls" takes no webp pictures: give format jpeg or png',
    ),
    (job(sprite(indexes=["dash"], format="avif")), "outputs[0]", '"dash" takes no avif'),
    (job(sprite(indexes=["bif"], format="png")), "outputs[0]", '"bif" takes no png pictures: give format jpeg'),
    (job(sprite(indexes=["vtt", "hls"], start=1)), "outputs[0]", '"hls" counts its tiles from the video\'s begin'),
    (job(sprite(indexes=["dash"], start="10%")), "outputs[0]", '"dash" counts'),
    (job(sprite(indexes=["json", "bif"], start=0.1)), "outputs[0]", '"bif" counts'),
    (job(sprite(layout="kodi")), "outputs[0].layout", "'kodi'"),
    (job(sprite(layout="jellyfin", format="png")), "outputs[0]", '"jellyfin" takes no png'),
    (job(sprite(layout="jellyfin", start=1)), "outputs[0]", '"jellyfin" counts'),
    (job(sprite(layout="jellyfin", short_side=90)), "outputs[0]", '"jellyfin" names files after their width'),
    (job(sprite(layout="jellyfin", height=90)), "outputs[0]", "give width alone"),
    (job(sprite(layout="jellyfin", width=160, height=90)), "outputs[0]", "give width alone"),
    (job(sprite(layout="jellyfin", upscale=False)), "outputs[0]", "leave out upscale"),
    (job(sprite(layout="emby", every=2.5)), "outputs[0]", "every in whole seconds"),
    (job(sprite(layout="emby", every="10%")), "outputs[0]", "every in whole seconds"),
    (job({"output": "sprite", "count": 10, "layout": "emby"}), "outputs[0]", "every in whole seconds"),
    (job(sprite(layout="emby", height=90)), "outputs[0]", "give width alone"),
    (job(sprite(layout="emby", indexes=["vtt"])), "outputs[0]", '"emby" is one BIF and nothing else'),
    (job(sprite(layout="plex", indexes=[])), "outputs[0]", '"plex" is one BIF and nothing else'),
    (job(sprite(layout="plex", start=5)), "outputs[0]", "leave out start"),
    (job(sprite(layout="plex", format="webp")), "outputs[0]", "takes no webp"),
    (job(thumbnail(base_url="/film")), "outputs[0].base_url", "unknown key"),
    (job(series(layout="plex")), "outputs[0].layout", "unknown key"),
    *[
        (job(kind(base_url=url)), "outputs[0].base_url", found)
        for kind in (series, sprite)
        for url, found in [
            ("", "''"),
            ("film", "'film'"),
            ("../film", "'../film'"),
            ("//cdn.example/film", "'//cdn.example"),
            ("ftp://cdn.example/film", "'ftp://cdn"),
            ("javascript:alert(1)", "'javascript"),
            ("https://", "'https://'"),
            ("https:///film", "'https:///film'"),
            ("https://:80/film", "no host"),
            ("https://[::1/film", "'https://[::1"),
            ("https://a b/", "'https://a b"),
            ("https://cdn.example/film?", "without ?"),
            ("https://cdn.example/film#x", "without ?"),
            ("/a\nb", "/a"),
            ("/a\0b", "/a"),
            ("/film/\u2028", "/film/"),
            ("/Ö", "%XX"),
            ("/100%", "%XX"),
            ('/"', "%XX"),
            ("/<", "%XX"),
            ("/" + "x" * 2000, "2000"),
            (7, "'7'"),
        ]
    ],
    (job(sprite(indexes="vtt")), "outputs[0].indexes", "'vtt'"),
    (job(series(files="thumb")), "outputs[0].files", "{n:04}"),
    (job(series(files="{n}{n}")), "outputs[0].files", "{n}{n}"),
    (job(series(files="{m}")), "outputs[0].files", "{m}"),
    (job(series(files="{n!r}")), "outputs[0].files", "{n!r}"),
    (job(series(files="{n.real}")), "outputs[0].files", "{n.real}"),
    (job(series(files="{n:099}")), "outputs[0].files", "{n:099}"),
    (job(series(files="{n:x}")), "outputs[0].files", "{n:x}"),
    (job(series(files="../{n}")), "outputs[0].files", "../1"),
    (job(series(files="a/{n}")), "outputs[0].files", "a/1"),
    (job(series(files=".{n}")), "outputs[0].files", ".1"),
]


@pytest.mark.parametrize(("said", "place", "found"), WRONG, ids=lambda value: f"{value!s:.50}")
def test_every_wrong_key_is_named_with_its_place_and_value(said: object, place: str, found: str) -> None:
    named, _, about = complaint(said).partition(": ")
    assert named == place
    assert found in about


def test_all_wrong_keys_are_named_at_once() -> None:
    said = complaint(job(thumbnail(width=0), sprite(rows=0), colour="red"))
    assert {line.split(":")[0] for line in said.split("; ")} == {"outputs[0].width", "outputs[1].rows", "colour"}


def test_no_complaint_repeats_what_is_long() -> None:
    long = "x" * 100_000
    for said in (
        job(thumbnail(), id=long),
        job(thumbnail(), destination=long),
        job(thumbnail(name=long)),
        job(thumbnail(at=long)),
        job(series(files=long)),
        job({"output": long}),
        job(thumbnail(width=10**4000)),
    ):
        assert len(complaint(said)) < 1000


NOT_JSON: list[str | bytes] = [
    "",
    " ",
    "{",
    "{}{}",
    "{'source': 1}",
    '{"source": NaN}',
    '{"source": Infinity}',
    '{"source": "\ud800"}'.encode("utf-8", "surrogatepass"),
    r'{"source": "\ud800"}',
    b"\xff\xfe{\x00}\x00",
    "[" * 100_000,
    '{"outputs":' * 10_000,
    "[" * 1000 + "]" * 1000,
    '{"source": 1' + "0" * 100_000 + "}",
]


@pytest.mark.parametrize("text", NOT_JSON, ids=lambda text: f"{text!r:.30}")
def test_what_is_no_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(BadJob, match="not JSON"):
        Job.read(text)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_a_time_is_a_finite_number(number: str) -> None:
    with pytest.raises(BadJob):
        Job.read(json.dumps(job(thumbnail(at=12345))).replace("12345", number))


def test_a_job_has_at_most_a_mebibyte() -> None:
    whole = json.dumps(job(thumbnail()))
    assert Job.read(whole + " " * (MAX_JOB_BYTES - len(whole)))
    with pytest.raises(BadJob, match="1 MiB"):
        Job.read(whole + " " * (MAX_JOB_BYTES - len(whole) + 1))


def test_it_is_bytes_that_are_counted() -> None:
    text = json.dumps(job(thumbnail(), payload="é"), ensure_ascii=False).ljust(MAX_JOB_BYTES)
    assert len(text) == MAX_JOB_BYTES < len(text.encode())
    for said in (text, text.encode()):
        with pytest.raises(BadJob, match="1 MiB"):
            Job.read(said)


# --- names and destinations -------------------------------------------------------------------------------------

HOSTILE = [
    "",
    ".",
    "..",
    "../x",
    "a/../b",
    "a/..",
    "/abs",
    "a//b",
    "a/",
    "a/./b",
    ".hidden",
    "a/.hidden",
    "-rf",
    "_x",
    " x",
    "~root",
    "a\0b",
    "a\nb",
    "a\x1bb",
    "a\x7fb",
    "a\u202eb",  # writes what follows from right to left
    "a\\b",
    "..\\x",
    "C:\\x",
    "x" * 181,
    "x" * 300,
    "é" * 91,
]


@pytest.mark.parametrize("name", [*HOSTILE, "a/b"], ids=lambda name: f"{name!a:.20}")
def test_a_name_neither_leaves_its_folder_nor_hides_in_it(name: str) -> None:
    assert complaint(job(thumbnail(name=name))).startswith("outputs[0].name: ")


@pytest.mark.parametrize("path", [*HOSTILE, "/".join("x" * 33), "/".join(["x" * 100] * 10)], ids=lambda p: f"{p!a:.20}")
def test_a_destination_neither_leaves_the_store_nor_hides_in_it(path: str) -> None:
    assert complaint(job(thumbnail(), destination=path)).startswith("destination: ")


@pytest.mark.parametrize("path", ["orgs", "orgs/x", "orgs/x/y"])
def test_the_default_organisation_does_not_write_to_the_others(path: str) -> None:
    assert "orgs" in complaint(job(thumbnail(), destination=path))
    assert read(job(thumbnail(), destination=path, org="acme")).destination == path


@pytest.mark.parametrize("path", ["film", "a/b/c", "orgsx/y", "a/orgs", "ä b/ç", "9", "a..b", "x" * 180])
def test_other_destinations_are_taken_as_they_are(path: str) -> None:
    assert read(job(thumbnail(), destination=path)).destination == path


NAMES = ["poster", "9", "a.b", "a..b", "a b", "Ö", "日本", "a|b", "a+b(c)[d]^$.*?", "a{n}b", "a%2eb", "x" * 180]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize("kind", [thumbnail, series, sprite])
def test_other_names_are_taken_as_they_are(name: str, kind: Any) -> None:
    output = only(kind(name=name))
    assert output.name == name
    file = output.file if isinstance(output, Thumbnail) else output.file(1)
    assert file.startswith(name)
    assert may_write(output, file)


# --- what may be written, and by whom ---------------------------------------------------------------------------

CLASHES: list[tuple[Json, Json]] = [
    (thumbnail(name="a"), thumbnail(name="a")),
    (series(name="a"), series(name="a", format="png")),  # a.vtt
    (series(name="a"), sprite(name="a", format="png")),  # a.vtt
    (series(name="a"), thumbnail(name="a-0001")),
    (series(name="a"), thumbnail(name="a-0012")),
    (series(name="a"), thumbnail(name="a-12345")),
    (sprite(name="a"), thumbnail(name="a-000", format="jpeg")),
    (sprite(name="a"), thumbnail(name="a-123", format="jpeg")),
    (sprite(name="a", format="webp"), series(name="b", files="a-{n:03}")),
    (series(name="a", files="t{n:04}"), series(name="b", files="t{n}")),
    (series(name="a", files="t{n:04}"), thumbnail(name="t0001")),
    (series(name="a", files="t{n}"), series(name="b", files="t1{n}")),
    (series(name="a", files="{n}1"), series(name="b", files="1{n}")),
    (series(name="a", files="{n}2"), series(name="b", files="1{n}")),  # 12
    (series(name="a", files="{n}x"), series(name="b", files="7{n}x")),
    (series(name="a-b"), series(name="c", files="a-b-{n:04}")),
    (thumbnail(name="thumbnail-2"), thumbnail()),
    (thumbnail(name="sprite-2-000", format="jpeg"), sprite()),
    (series(name="a|b"), thumbnail(name="a|b-0001")),
    (series(name="a(b"), thumbnail(name="a(b-0001")),
    (sprite(name="a", indexes=["json", "vtt"]), series(name="a")),
    (sprite(name="a", indexes=["bif"]), sprite(name="a", indexes=["bif"], format="jpeg")),
    (sprite(name="a", layout="plex"), sprite(name="b", layout="plex")),
    (sprite(name="a-320-5", indexes=["bif"]), sprite(name="a", layout="emby")),
    (sprite(name="a", layout="jellyfin"), sprite(name="a", layout="jellyfin", quality=7)),
]


@pytest.mark.parametrize(("one", "other"), CLASHES, ids=lambda output: "-".join(map(str, output.values())))
def test_two_outputs_may_not_write_one_file(one: Json, other: Json) -> None:
    for pair in ((one, other), (other, one)) if "name" in other else ((one, other),):
        assert "same file" in complaint(job(*pair))


PEACE: list[tuple[Json, Json]] = [
    (thumbnail(name="a"), thumbnail(name="b")),
    (thumbnail(name="a"), thumbnail(name="a", format="png")),
    (thumbnail(name="a"), thumbnail(name="A")),
    (thumbnail(name="a"), series(name="a")),
    (thumbnail(name="a-0001"), sprite(name="a")),  # WebP and JPEG
    (thumbnail(name="a-x"), series(name="a")),
    (series(name="a"), series(name="a-b")),
    (series(name="a", files="t{n}"), series(name="b", files="u{n}")),
    (series(name="a", files="t{n}x"), series(name="b", files="t{n}y")),
    (series(name="a"), sprite(name="b")),
    (series(name="a.b"), thumbnail(name="axb-0001")),
    (thumbnail(name="manifest"), thumbnail(name="manifest.json")),
    (sprite(name="a", indexes=["hls", "json"]), series(name="a")),
    (sprite(name="a", layout="jellyfin"), sprite(name="a", layout="jellyfin", width=640)),
    (sprite(name="a", layout="jellyfin"), sprite(name="a", layout="emby")),
    (sprite(name="a", layout="jellyfin"), sprite(name="a")),
]


@pytest.mark.parametrize(("one", "other"), PEACE, ids=lambda output: "-".join(map(str, output.values())))
def test_other_outputs_stand_side_by_side(one: Json, other: Json) -> None:
    assert len(read(job(one, other)).outputs) == 2


def test_no_index_stands_where_the_manifest_is() -> None:
    assert "manifest" in complaint(job(sprite(name="manifest", indexes=["json"])))
    assert read(job(sprite(name="manifest")))


def test_many_outputs_without_names_stand_side_by_side() -> None:
    assert len(read(job(*[thumbnail(), series(), sprite(), thumbnail()] * 16)).outputs) == 64


literals = st.sampled_from(["", "1", "2", "10", "x", "-"])
patterns = st.builds(lambda *parts: "".join(parts), literals, st.sampled_from(["{n}", "{n:02}", "{n:04}"]), literals)


@given(patterns, patterns)
@example("{n}2", "1{n}")
def test_no_two_series_that_are_taken_meet(one: str, other: str) -> None:
    try:
        a, b = read(job(series(name="a", files=one), series(name="b", files=other))).outputs
    except BadJob:
        return
    assert isinstance(a, Thumbnails)
    assert isinstance(b, Thumbnails)
    assert not {a.file(n) for n in range(1, 300)} & {b.file(n) for n in range(1, 300)}


MAY_WRITE: list[tuple[Json, list[str], list[str]]] = [
    (thumbnail(name="a"), ["a.webp"], ["a.jpg", "a.vtt", "a", "A.webp", "xa.webp", "a.webp.tmp", "../a.webp", ""]),
    (
        series(name="a"),
        ["a-0001.webp", "a-99999.webp", "a.vtt"],
        ["a-.webp", "a-x.webp", "a-0001.jpg", "b.vtt", "a.webp", "manifest.json", "a-0001.webp\n", "a-0001_webp"],
    ),
    (
        series(name="a", files="t_{n:04}"),
        ["t_0001.webp", "t_12345.webp", "a.vtt"],
        ["a-0001.webp", "t_.webp", "t.vtt", "t_{n:04}.webp", "t_ 1.webp"],
    ),
    (sprite(name="a"), ["a-000.jpg", "a-1000.jpg", "a.vtt"], ["a.jpg", "a-000.webp", "a-000.vtt", "a-000.jpg|a.vtt"]),
    (sprite(name="a", indexes=["hls"]), ["a-000.jpg", "a.m3u8"], ["a.vtt", "a.bif", "a.mpd", "a.json"]),
    (
        sprite(name="a", layout="jellyfin"),
        ["a.trickplay/320 - 10x10/0.jpg", "a.trickplay/320 - 10x10/12.jpg"],
        [
            "a-000.jpg",
            "a.vtt",
            "a.trickplay/0.jpg",
            "a.trickplay/320 - 10x10/x.jpg",
            "a.trickplay/320 - 10x10/../0.jpg",
            "a.trickplay/320 - 10x10/0/0.jpg",
            "/a.trickplay/320 - 10x10/0.jpg",
        ],
    ),
    (sprite(name="a", layout="emby"), ["a-320-5.bif"], ["a-000.jpg", "a.bif", "a-320-10.bif", "a-320-5.bif/0.jpg"]),
    (sprite(name="a", layout="plex"), ["index-sd.bif"], ["a-000.jpg", "a.bif"]),
    (thumbnail(name="a.b"), ["a.b.webp"], ["axb.webp"]),
    (thumbnail(name="a|b"), ["a|b.webp"], ["a", "b.webp"]),
]


@pytest.mark.parametrize(("output", "yes", "no"), MAY_WRITE, ids=lambda value: f"{value!s:.40}")
def test_an_output_writes_its_own_files_and_no_others(output: Json, yes: list[str], no: list[str]) -> None:
    said = only(output)
    assert [file for file in yes if not may_write(said, file)] == []
    assert [file for file in no if may_write(said, file)] == []


@given(literals, st.sampled_from(["{n}", *(f"{{n:{zero}{width}}}" for zero in ("", "0") for width in "149")]), literals)
def test_a_pattern_that_is_taken_gives_files_that_may_be_written(before: str, number: str, after: str) -> None:
    try:
        said = only(series(files=before + number + after))
    except BadJob:
        return
    assert isinstance(said, Thumbnails)
    for n in (1, 9, 10, 99_999):
        assert may_write(said, said.file(n)), said.file(n)
        assert " " not in said.file(n)


# --- there and back ---------------------------------------------------------------------------------------------

times = st.one_of(
    st.integers(0, 10**9),
    st.floats(0, 1e9),
    st.builds("{:.3f}{}".format, st.floats(0, 100), st.sampled_from(["", "s", "ms", "m", "h", "%"])),
)
lengths = st.one_of(st.floats(0, 10, exclude_min=True), st.sampled_from(["1ms", "1%", 1, 0.1, 1 / 3]))
amounts = st.one_of(
    st.builds(lambda every: {"every": every}, lengths), st.builds(lambda n: {"count": n}, st.integers(1, 9))
)
sizes: st.SearchStrategy[Json] = st.sampled_from(
    [{}, {"width": 160}, {"height": 90}, {"short_side": 90}, {"width": 160, "height": 90, "fit": "cover"}]
)
ats = st.one_of(times, st.just("middle"), st.builds(lambda n: {"frame": n}, st.integers(0, 10**9)))
outputs = st.one_of(
    st.builds(lambda at, size: {"output": "thumbnail", "at": at, **size}, ats, sizes),
    st.builds(
        lambda kind, amount, size, start: {"output": kind, "start": start, **amount, **size},
        st.sampled_from(["thumbnails", "sprite"]),
        amounts,
        sizes,
        st.one_of(st.none(), times),
    ),
)
jobs = st.builds(
    lambda outputs, payload, priority: job(*outputs, payload=payload, priority=priority),
    st.lists(outputs, min_size=1, max_size=4),
    st.one_of(st.none(), st.text(max_size=20)),
    st.sampled_from([None, "high", "normal", "low"]),
)


def near(one: Any, other: Any) -> bool:
    """Alike, times within a billionth."""
    if isinstance(one, Time) and isinstance(other, Time):
        return one.relative == other.relative and abs(one.value - other.value) <= Fraction(1, 10**9)
    return bool(one == other)


@given(jobs)
@example(job(series(every=1e-10)))
@example(job(thumbnail(at="999999999999h")))
def test_what_a_job_says_of_itself_reads_back(said: Json) -> None:
    try:
        first = Job.check(said)
    except BadJob:
        return
    for text in (first.model_dump_json(), new_job(first, "key", PROMISE).job):
        again = Job.read(text)
        assert first.model_dump(exclude={"outputs"}) == again.model_dump(exclude={"outputs"})
        for one, other in zip(first.outputs, again.outputs, strict=True):
            assert type(one) is type(other)
            assert all(near(getattr(one, key), getattr(other, key)) for key in type(one).model_fields)


@pytest.mark.parametrize(
    "said",
    [
        sprite(width=320, height=180),
        sprite(width=320, height=180, fit="cover"),
        sprite(layout="jellyfin", indexes=["vtt"]),
        sprite(layout="plex", upscale=False),
        sprite(width=None, height=90),
        {"output": "clip", "start": 1, "duration": 2, "fps": 23.976023},
        {"output": "animation", "start": 1, "duration": 2, "fps": "240000000/1000001"},
    ],
)
def test_a_stored_job_is_what_was_accepted(said: Json) -> None:
    """Also where it says what would be so without it, but keeps another default away."""
    accepted = read(job(said))
    assert Job.read(new_job(accepted, "key", PROMISE).job).model_dump() == accepted.model_dump()


def test_a_job_reads_back_as_it_was() -> None:
    said = read(
        job(
            thumbnail(at="middle", tag="t", quality=7),
            thumbnail(at={"frame": 3}, optional=True),
            series(start="10%", end="1m", files="t{n:04}", accuracy="nearest"),
            {"output": "sprite", "count": 7, "height": 90, "columns": 3, "indexes": []},
            sprite(indexes=["json", "bif", "dash", "hls", "vtt"], base_url="https://cdn.example/film"),
            *(sprite(layout=layout) for layout in ("jellyfin", "emby", "plex")),
            id="one",
            org="acme",
            destination="orgs/x",
            priority="low",
            payload="p",
        )
    )
    assert Job.read(said.model_dump_json()) == said


def test_a_job_cannot_be_changed() -> None:
    said = read(job(thumbnail()))
    with pytest.raises(ValueError, match="frozen"):
        said.source = "other.mp4"
    with pytest.raises(ValueError, match="frozen"):
        said.outputs[0].name = "other"


# --- the schema -------------------------------------------------------------------------------------------------


def of_schema(name: str) -> Json:
    found: Any = job_schema()["$defs"]
    kind: Json = found[name]
    return kind


def test_the_schema_is_json_and_says_which() -> None:
    schema = json.loads(json.dumps(job_schema()))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["source", "outputs"]


KINDS = {name: name.capitalize() for name in ("thumbnail", "thumbnails", "sprite", "clip", "animation")}


@pytest.mark.parametrize("kind", [*KINDS.values(), "FrameNumber"])
def test_the_schema_refuses_unknown_keys(kind: str) -> None:
    assert job_schema()["additionalProperties"] is False
    assert of_schema(kind)["additionalProperties"] is False


def test_the_schema_tells_outputs_apart() -> None:
    properties: Any = job_schema()["properties"]
    said = properties["outputs"]
    assert (said["minItems"], said["maxItems"]) == (1, 64)
    assert set(said["items"]["discriminator"]["mapping"]) == {*KINDS}
    for one, other in combinations(KINDS.values(), 2):
        assert of_schema(one)["properties"]["output"]["const"] != of_schema(other)["properties"]["output"]["const"]


@pytest.mark.parametrize("key", ["width", "height", "short_side"])
def test_the_schema_bounds_the_sides(key: str) -> None:
    whole, null = of_schema("Thumbnail")["properties"][key]["anyOf"]
    assert whole == {"type": "integer", "minimum": 1, "maximum": 4096}
    assert null == {"type": "null"}


def test_the_schema_lets_a_time_be_a_number_text_a_frame_or_the_best() -> None:
    frame, time, best = of_schema("Thumbnail")["properties"]["at"]["anyOf"]
    assert best == {"const": "best", "type": "string"}
    assert frame == {"$ref": "#/$defs/FrameNumber"}
    assert [way["type"] for way in time["anyOf"]] == ["number", "string"]


def test_the_schema_of_what_moves() -> None:
    clip, animation = of_schema("Clip")["properties"], of_schema("Animation")["properties"]
    assert [way["type"] for way in clip["keyframe"]["anyOf"]] == ["integer", "string", "null"]
    assert [way["type"] for way in animation["fps"]["anyOf"]] == ["number", "string"]
    assert (clip["format"]["const"], animation["format"]["enum"]) == ("mp4", ["webp", "gif", "avif"])
    assert clip.keys() - animation.keys() == {"keyframe", "audio"}


# --- what moves -------------------------------------------------------------------------------------------------


def test_defaults_of_a_clip_and_an_animation() -> None:
    clip, animation = read(job({"output": "clip"}, {"output": "animation"})).outputs
    assert isinstance(clip, Clip) and isinstance(animation, Animation)
    assert (clip.start.value, clip.duration, clip.fps, clip.keyframe, clip.audio) == (0, None, None, None, True)
    assert (animation.duration, animation.fps, animation.format) == (None, 10, "webp")
    assert (clip.file, animation.file) == ("clip-1.mp4", "animation-2.webp")
    assert may_write(clip, "clip-1.mp4") and not may_write(clip, "clip-1.vtt")


@pytest.mark.parametrize(
    ("said", "fps"), [(25, "25"), (29.97, "29.97"), ("30000/1001", "30000/1001"), ("12.5", "12.5"), (0.001, "0.001")]
)
def test_frames_a_second_are_exact(said: object, fps: str) -> None:
    clip = only({"output": "clip", "fps": said})
    assert isinstance(clip, Clip) and clip.fps == Fraction(fps)
    assert Job.read(Job(source="a", outputs=(clip,)).model_dump_json()).outputs == (clip,)


@pytest.mark.parametrize(
    ("said", "keyframe"), [(25, 25), ("3s", Time(Fraction(3))), ("0:00:02.5", Time(Fraction("2.5")))]
)
def test_keyframes_are_frames_or_a_time(said: object, keyframe: object) -> None:
    clip = only({"output": "clip", "keyframe": said})
    assert isinstance(clip, Clip) and clip.keyframe == keyframe
    assert Job.read(Job(source="a", outputs=(clip,)).model_dump_json()).outputs == (clip,)


def test_names_are_told_apart_by_what_is_written() -> None:
    outputs = [{"output": kind, "name": "a", **more} for kind, more in (("clip", {}), ("animation", {"format": "gif"}))]
    assert len(read(job(*outputs, thumbnail(name="a"))).outputs) == 3
    assert "would write the same file" in complaint(job(thumbnail(name="a"), {"output": "animation", "name": "a"}))
