"""Qencode's transcoding query, as far as it speaks of thumbnails and of clips as MP4. Numbers may come as strings."""

import re
from math import isfinite
from typing import Any, TypeVar

from pydantic_core import from_json

from daemon.errors import BadJob
from daemon.job import MAX_JOB_BYTES, MAX_OUTPUTS, Job

N = TypeVar("N", int, float)

MAX_PAYLOAD = 1000  # characters

_QUERY = {"source", "format", "retry_on_error", "upscale", "callback_url"}
_COMMON = {
    "output",
    "width",
    "height",
    "size",
    "resolution",
    "resize_mode",
    "image_format",
    "quality",
    "tag",
    "user_tag",
    "destination",
    "allow_soft_fail",
    "rotate",
}
_ONE = _COMMON | {"time", "frame_number", "start_time"}
_MANY = _COMMON | {"interval", "sprite", "columns"}
_SIZE = {"width", "height", "size", "resolution", "resize_mode"}
_CLIP = {"output", "tag", "user_tag", "destination", "allow_soft_fail", "rotate", *_SIZE}
_CLIP |= {"framerate", "keyframe", "file_extension", "start_time", "duration", "video_codec"}
_FORMATS = {"png": "png", "jpg": "jpeg", "jpeg": "jpeg", "webp": "webp"}
_DESTINATION = {"url", "key", "secret", "permissions", "storage_class", "cache_control"}
_AMAZON = re.compile(r"(?:s3[.-])?([a-z0-9-]+)\.amazonaws\.com")


class MissingField(BadJob):
    """Something that must be said is not."""


class NotWrapped(BadJob):
    """JSON without the object `query` that all else stands in."""


class PayloadTooLong(BadJob):
    """What is to come back verbatim is longer than that may be."""


def is_query(text: bytes) -> bool:
    """Whether this is `{"query": …}` rather than a job of our own."""
    try:
        said = from_json(text)
    except ValueError:
        return False
    return isinstance(said, dict) and "query" in said


def read_query(text: bytes, payload: str | None = None) -> Job:
    """The job that a query asks for. `payload` may stand beside the text or in it. Raises BadJob naming what is wrong,
    or not supported, and where: MissingField, NotWrapped, PayloadTooLong where it is that."""
    if len(text) > MAX_JOB_BYTES:
        raise BadJob("a query is one JSON object of at most 1 MiB")
    try:
        said = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise BadJob(f"query: not JSON: {error}") from None
    if not isinstance(said, dict) or "query" not in said:
        raise NotWrapped('the query field is required: write {"query": {"source": …, "format": […]}}')
    _refuse_unknown(said, {"query", "payload"}, "")
    query = said["query"]
    if not isinstance(query, dict):
        raise BadJob("query: must be an object with source and format")
    _refuse_unknown(query, _QUERY, "query.")
    for key in ("source", "format"):
        if key not in query:
            raise MissingField(f"query.{key}: is missing")
    formats = query["format"]
    if not isinstance(formats, list) or not formats:
        raise BadJob("query.format: must be a list of at least one output")
    if len(formats) > MAX_OUTPUTS:
        raise BadJob(f"query.format: holds at most {MAX_OUTPUTS} outputs, not {len(formats)}")
    upscale = _flag(query, "upscale", "query.")
    many = sum(_is_series(f) and str(f.get("sprite", 0)) != "1" for f in formats)
    outputs = [_output(f, f"query.format[{n}]", upscale, only_series=many == 1) for n, f in enumerate(formats)]
    job = {"source": query["source"], "outputs": outputs}
    if query.get("callback_url"):
        job["callback_url"] = query["callback_url"]
    if (verbatim := said.get("payload", payload)) is not None:
        if isinstance(verbatim, str) and len(verbatim) > MAX_PAYLOAD:
            raise PayloadTooLong(f"payload: has at most {MAX_PAYLOAD} characters")
        job["payload"] = verbatim
    try:
        return Job.check(job)
    except BadJob as bad:
        raise in_its_words(bad) from None


def in_its_words(bad: BadJob) -> BadJob:
    """What is wrong with a job, said of the query that it came of."""
    return BadJob(bad.message.replace("outputs[", "query.format[").replace("].deliver", "].destination"))


def _is_series(asked: Any) -> bool:
    return isinstance(asked, dict) and (asked.get("output") == "thumbnails" or "interval" in asked)


def _output(asked: Any, place: str, upscale: bool, *, only_series: bool) -> dict[str, Any]:
    if not isinstance(asked, dict):
        raise BadJob(f"{place}: must be an object")
    if "output" not in asked:
        raise MissingField(f"{place}.output: is missing")
    if asked["output"] not in ("thumbnail", "thumbnails", "mp4"):
        said = repr(asked["output"])[:60]
        raise BadJob(f"{place}.output: {said} is not supported: only thumbnail, thumbnails and mp4 are")
    if asked["output"] == "mp4":
        return _clip(asked, place) | {"upscale": upscale}
    look = _look(asked, place) | {"upscale": upscale}
    if not _is_series(asked):
        _refuse_unknown(asked, _ONE, f"{place}.")
        return look | {"output": "thumbnail", "at": _at(asked, place)}
    _refuse_unknown(asked, _MANY, f"{place}.")
    if "interval" not in asked:
        raise MissingField(f"{place}.interval: is missing")
    look["every"] = _number(asked["interval"], f"{place}.interval", int)
    if _flag(asked, "sprite", f"{place}."):
        if "columns" in asked:
            look["columns"] = _number(asked["columns"], f"{place}.columns", int)
        return look | {"output": "sprite", "rows": 100}  # one picture, unless it would be beyond measure
    return look | {"output": "thumbnails"} | ({"files": "thumb_{n:04}"} if only_series else {})


def _clip(asked: dict[str, Any], place: str) -> dict[str, Any]:
    _refuse_unknown(asked, _CLIP, f"{place}.")
    for key, only in (("file_extension", "mp4"), ("video_codec", "libx264")):
        if asked.get(key, only) != only:
            raise BadJob(f"{place}.{key}: {repr(asked[key])[:60]} is not supported: only {only} is")
    clip: dict[str, Any] = {"output": "clip", **_size(asked, place), **_common(asked, place)}
    for key, ours in (("start_time", "start"), ("duration", "duration")):
        if key in asked:
            clip[ours] = _number(asked[key], f"{place}.{key}", float)
    if "framerate" in asked:
        _number(asked["framerate"], f"{place}.framerate", float)
        clip["fps"] = str(asked["framerate"])
    if "keyframe" in asked:
        said = str(asked["keyframe"])
        clip["keyframe"] = said if said.endswith("s") else _number(said, f"{place}.keyframe", int)
    return clip


def _at(asked: dict[str, Any], place: str) -> Any:
    if "frame_number" in asked:
        return {"frame": _number(asked["frame_number"], f"{place}.frame_number", int)}
    if "start_time" in asked:
        return _number(asked["start_time"], f"{place}.start_time", float)
    if "time" not in asked:
        raise MissingField(f"{place}.time: is missing, and so are frame_number and start_time")
    share = _number(asked["time"], f"{place}.time", float)
    if not 0 <= share <= 1:
        raise BadJob(f"{place}.time: a fraction of the duration between 0 and 1, not {repr(asked['time'])[:40]}")
    return f"{share * 100:.9f}%"


def _look(asked: dict[str, Any], place: str) -> dict[str, Any]:
    format = asked.get("image_format", "png")
    if not isinstance(format, str) or format not in _FORMATS:
        raise BadJob(f"{place}.image_format: {repr(format)[:60]} is none of {', '.join(_FORMATS)}")
    look: dict[str, Any] = {"format": _FORMATS[format]}
    if "quality" in asked and format != "png":
        look["quality"] = _number(asked["quality"], f"{place}.quality", int)
    return look | _size(asked, place) | _common(asked, place)


def _common(asked: dict[str, Any], place: str) -> dict[str, Any]:
    """What all formats may say besides."""
    look: dict[str, Any] = {}
    tag = asked.get("user_tag", asked.get("tag"))
    if tag is not None:
        look["tag"] = tag
    if _flag(asked, "allow_soft_fail", f"{place}."):
        look["optional"] = True
    if "rotate" in asked:
        look["rotate"] = _number(asked["rotate"], f"{place}.rotate", int)
    if asked.get("destination"):
        look["deliver"] = _targets(asked, f"{place}.destination")
    return look


def _targets(asked: dict[str, Any], place: str) -> list[dict[str, Any]]:
    """One destination, or a list of them. A series goes into a folder, all else has its name there."""
    said = asked["destination"]
    several = isinstance(said, list)
    return [
        _target(each, f"{place}[{n}]" if several else place, folder=_is_series(asked))
        for n, each in enumerate(said if several else [said])
    ]


def _target(said: Any, place: str, *, folder: bool) -> dict[str, Any]:
    """Credentials are in it: what is wrong is told without what was said."""
    if not isinstance(said, dict):
        raise BadJob(f"{place}: must be an object with url, key and secret")
    _refuse_unknown(said, _DESTINATION, f"{place}.")
    for key in ("url", "key", "secret"):
        if not said.get(key):
            raise MissingField(f"{place}.{key}: is missing")
    if not isinstance(said["url"], str):
        raise BadJob(f"{place}.url: must be text")
    target = {key: value for key, value in said.items() if value not in (None, "")}
    target["url"], host = _url(said["url"], place)
    if host:
        amazon = _AMAZON.fullmatch(host)
        target |= {"region": amazon[1] if amazon[1] != "s3" else "us-east-1"} if amazon else {"endpoint": host}
    if folder and not target["url"].endswith("/"):
        target["url"] += "/"
    return target


def _url(url: str, place: str) -> tuple[str, str]:
    """A destination's URL as ours, and the host that was in it: there `s3://host/bucket/key`, here `s3://bucket/key`.
    Azure's may hold the host of the account, or begin with the container."""
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    if scheme == "s3":
        if not path:
            raise BadJob(f"{place}.url: write it as in s3://nyc3.digitaloceanspaces.com/bucket/folder/file.jpg")
        return f"s3://{path}", host.lower()
    if scheme == "azblob" and host.lower().endswith(".blob.core.windows.net"):
        return f"azblob://{path}", ""
    return url, ""


def _size(asked: dict[str, Any], place: str) -> dict[str, Any]:
    mode = asked.get("resize_mode", "scale")
    if mode not in ("scale", "crop"):
        raise BadJob(f"{place}.resize_mode: {repr(mode)[:60]} is none of scale, crop")
    if "resolution" in asked:
        return {"short_side": _number(asked["resolution"], f"{place}.resolution", int)}
    sides: dict[str, Any] = {
        key: _number(asked[key], f"{place}.{key}", int) for key in ("width", "height") if key in asked
    }
    if "size" in asked:
        width, parted, height = str(asked["size"]).lower().partition("x")
        if not parted:
            raise BadJob(f'{place}.size: write it as "320x240", not {repr(asked["size"])[:40]}')
        sides = {"width": _number(width, f"{place}.size", int), "height": _number(height, f"{place}.size", int)}
    if len(sides) == 2:
        return sides | {"fit": "cover" if mode == "crop" else "stretch"}
    return sides


def _flag(said: dict[str, Any], key: str, place: str) -> bool:
    """0 or 1; without it 0."""
    flag = _number(said.get(key, 0), f"{place}{key}", int)
    if flag not in (0, 1):
        raise BadJob(f"{place}{key}: 0 or 1 is needed, not {flag}")
    return flag == 1


def _number(said: Any, place: str, kind: type[N]) -> N:
    """An int or float that may be said as text. Raises BadJob where it is none, or not whole where an int is needed."""
    try:
        if isinstance(said, int | float | str) and not isinstance(said, bool):
            number = kind(said)
            if isfinite(number) and (isinstance(said, str) or number == said):
                return number
    except (ValueError, OverflowError):
        pass
    needed = "a whole number" if kind is int else "a number"
    raise BadJob(f"{place}: {needed} is needed, not {repr(said)[:40]}")


def _refuse_unknown(said: dict[str, Any], known: set[str], place: str) -> None:
    for key in said:
        if key not in known:
            raise BadJob(f"{place}{key if key.isprintable() else ascii(key)}"[:200] + ": unknown key, or not supported")
