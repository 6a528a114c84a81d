"""Qencode's transcoding query, as far as it speaks of thumbnails and of clips as MP4. Numbers may come as strings."""

from math import isfinite
from typing import Any, TypeVar

from pydantic_core import from_json

from daemon.errors import BadJob
from daemon.job import MAX_JOB_BYTES, Job

N = TypeVar("N", int, float)

_QUERY = {"source", "format", "retry_on_error", "upscale"}
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
}
_ONE = _COMMON | {"time", "frame_number", "start_time"}
_MANY = _COMMON | {"interval", "sprite", "columns"}
_SIZE = {"width", "height", "size", "resolution", "resize_mode"}
_CLIP = {"output", "tag", "user_tag", "destination", "allow_soft_fail", *_SIZE}
_CLIP |= {"framerate", "keyframe", "file_extension", "start_time", "duration", "video_codec"}
_FORMATS = {"png": "png", "jpg": "jpeg", "jpeg": "jpeg", "webp": "webp"}


def is_query(text: bytes) -> bool:
    """Whether this is `{"query": …}` rather than a job of our own."""
    try:
        said = from_json(text)
    except ValueError:
        return False
    return isinstance(said, dict) and "query" in said


def read_query(text: bytes) -> Job:
    """The job that a query asks for. Raises BadJob naming what is wrong, or not supported, and where."""
    if len(text) > MAX_JOB_BYTES:
        raise BadJob("a query is one JSON object of at most 1 MiB")
    said = from_json(text)
    _refuse_unknown(said, {"query", "payload"}, "")
    query = said["query"]
    if not isinstance(query, dict):
        raise BadJob("query: must be an object with source and format")
    _refuse_unknown(query, _QUERY, "query.")
    formats = query.get("format")
    if not isinstance(formats, list) or not formats:
        raise BadJob("query.format: must be a list of at least one output")
    upscale = _number(query.get("upscale", 0), "query.upscale", int) == 1
    many = sum(_is_series(f) for f in formats)
    outputs = [_output(f, f"query.format[{n}]", upscale, only_series=many == 1) for n, f in enumerate(formats)]
    job = {"source": query.get("source"), "outputs": outputs}
    if "payload" in said:
        job["payload"] = said["payload"]
    try:
        return Job.check(job)
    except BadJob as bad:
        raise BadJob(bad.message.replace("outputs[", "query.format[")) from None


def _is_series(asked: Any) -> bool:
    return isinstance(asked, dict) and (asked.get("output") == "thumbnails" or "interval" in asked)


def _output(asked: Any, place: str, upscale: bool, *, only_series: bool) -> dict[str, Any]:
    if not isinstance(asked, dict):
        raise BadJob(f"{place}: must be an object")
    if asked.get("output") not in ("thumbnail", "thumbnails", "mp4"):
        said = asked.get("output")
        raise BadJob(f"{place}.output: {said!r} is not supported: only thumbnail, thumbnails and mp4 are")
    if asked.get("destination"):
        raise BadJob(f"{place}.destination: deliveries are not supported by this version: leave it out")
    if asked["output"] == "mp4":
        return _clip(asked, place) | {"upscale": upscale}
    look = _look(asked, place) | {"upscale": upscale}
    if not _is_series(asked):
        _refuse_unknown(asked, _ONE, f"{place}.")
        return look | {"output": "thumbnail", "at": _at(asked, place)}
    _refuse_unknown(asked, _MANY, f"{place}.")
    look["every"] = _number(asked.get("interval"), f"{place}.interval", int)
    if _number(asked.get("sprite", 0), f"{place}.sprite", int):
        if "columns" in asked:
            look["columns"] = _number(asked["columns"], f"{place}.columns", int)
        return look | {"output": "sprite", "rows": 100}  # one picture, unless it would be beyond measure
    return look | {"output": "thumbnails"} | ({"files": "thumb_{n:04}"} if only_series else {})


def _clip(asked: dict[str, Any], place: str) -> dict[str, Any]:
    _refuse_unknown(asked, _CLIP, f"{place}.")
    for key, only in (("file_extension", "mp4"), ("video_codec", "libx264")):
        if asked.get(key, only) != only:
            raise BadJob(f"{place}.{key}: {asked[key]!r} is not supported: only {only} is")
    clip: dict[str, Any] = {"output": "clip", **_size(asked, place), **_tagged(asked, place)}
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
    share = _number(asked.get("time"), f"{place}.time", float)
    if not 0 <= share <= 1:
        raise BadJob(f"{place}.time: a fraction of the duration between 0 and 1, not {asked['time']!r}")
    return f"{share * 100:.9f}%"


def _look(asked: dict[str, Any], place: str) -> dict[str, Any]:
    format = asked.get("image_format", "png")
    if not isinstance(format, str) or format not in _FORMATS:
        raise BadJob(f"{place}.image_format: {format!r} is none of {', '.join(_FORMATS)}")
    look: dict[str, Any] = {"format": _FORMATS[format]}
    if "quality" in asked and format != "png":
        look["quality"] = _number(asked["quality"], f"{place}.quality", int)
    return look | _size(asked, place) | _tagged(asked, place)


def _tagged(asked: dict[str, Any], place: str) -> dict[str, Any]:
    look: dict[str, Any] = {}
    tag = asked.get("user_tag", asked.get("tag"))
    if tag is not None:
        look["tag"] = tag
    if _number(asked.get("allow_soft_fail", 0), f"{place}.allow_soft_fail", int):
        look["optional"] = True
    return look


def _size(asked: dict[str, Any], place: str) -> dict[str, Any]:
    mode = asked.get("resize_mode", "scale")
    if mode not in ("scale", "crop"):
        raise BadJob(f"{place}.resize_mode: {mode!r} is none of scale, crop")
    if "resolution" in asked:
        return {"short_side": _number(asked["resolution"], f"{place}.resolution", int)}
    sides: dict[str, Any] = {
        key: _number(asked[key], f"{place}.{key}", int) for key in ("width", "height") if key in asked
    }
    if "size" in asked:
        width, parted, height = str(asked["size"]).lower().partition("x")
        if not parted:
            raise BadJob(f'{place}.size: write it as "320x240", not {asked["size"]!r}')
        sides = {"width": _number(width, f"{place}.size", int), "height": _number(height, f"{place}.size", int)}
    if len(sides) == 2:
        return sides | {"fit": "cover" if mode == "crop" else "stretch"}
    return sides


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
            raise BadJob(f"{place}{key}: unknown key, or not supported by this version")
