"""The types of what a job says: names, sizes, times, rates and URLs, each checked where it is read."""

import re
from fractions import Fraction
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    Strict,
    ValidationError,
    WithJsonSchema,
)

from daemon.complaints import explain
from daemon.target import Target
from daemon.times import Length, Time, positive

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"  # of jobs, organisations, videos
_MAX_FPS = 240
_MAX_KEYFRAME = 100_000
_MAX_TARGETS = 16
_MAX_LIFETIME = 10 * 366 * 86400

Format = Literal["webp", "jpeg", "png", "avif"]
AnimationFormat = Literal["webp", "gif", "avif"]
Fit = Literal["inside", "cover", "pad", "stretch"]
Rotation = Literal[0, 90, 180, 270]
Accuracy = Literal["exact", "keyframe", "nearest"]
Priority = Literal["high", "normal", "low"]
Best = Literal["best"]
Pick = Literal["first", "best"]
Index = Literal["vtt", "hls", "dash", "bif", "json"]
FolderLayout = Literal["jellyfin", "emby", "plex"]
AnyFormat = Format | AnimationFormat | Index | Literal["mp4"]
SUFFIX: dict[AnyFormat, str] = {
    "webp": ".webp",
    "jpeg": ".jpg",
    "png": ".png",
    "avif": ".avif",
    "gif": ".gif",
    "mp4": ".mp4",
    "vtt": ".vtt",
    "hls": ".m3u8",
    "dash": ".mpd",
    "bif": ".bif",
    "json": ".json",
}


def check_part(part: str) -> str:
    """One part of a path that a job may choose: it can neither leave its folder nor hide in it."""
    if not part or not part[0].isalnum():
        raise ValueError(f"{part!r} must begin with a letter or digit")
    if not part.isprintable() or "/" in part or "\\" in part:
        raise ValueError(f"{part!r} must not hold slashes, backslashes or control characters")
    if len(part.encode()) > 180:
        raise ValueError(f"{part[:20]!r}… is longer than 180 bytes")
    return part


def _check_destination(path: str) -> str:
    parts = path.split("/")
    if len(path.encode()) > 1000 or len(parts) > 32:
        raise ValueError("must have at most 1000 bytes and 32 parts")
    for part in parts:
        check_part(part)
    return path


def _check_pattern(pattern: str) -> str:
    if not re.fullmatch(r"[^{}]*\{n(:0[1-9])?\}[^{}]*", pattern):
        raise ValueError(f'{pattern[:40]!r} must hold the number once, as in "thumb_{{n:04}}"')
    check_part(pattern.format(n=1))
    return pattern


def _check_base_url(url: str) -> str:
    # What follows is a file name, so there is no room for a query; and every index must hold it as it is.
    if not re.fullmatch(r"(https?://(?!/)|/(?!/))([A-Za-z0-9._~:/@!$&'()*+,;=\[\]-]|%[0-9A-Fa-f]{2})*", url):
        raise ValueError(
            f'{url[:40]!r} must be a URL such as "https://cdn.example/film/" or an absolute path such as "/film/", '
            "without ? or #, all else than the characters of a URL written as %XX"
        )
    try:
        host = urlsplit(url).hostname
    except ValueError as error:
        raise ValueError(f"{url[:40]!r}: {error}") from None
    if not url.startswith("/") and not host:
        raise ValueError(f"{url[:40]!r} has no host")
    return url


def _check_callback(url: str) -> str:
    # Told without the URL, which may hold a token.
    if not re.fullmatch(r"https?://([A-Za-z0-9._~:/?@!$&'()*+,;=\[\]-]|%[0-9A-Fa-f]{2})+", url):
        raise ValueError('must be a URL such as "https://host/path", without #, all other characters written as %XX')
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        named = False
    if not named:
        raise ValueError("has no host, or no port that there is")
    if parts.username is not None:
        raise ValueError("must hold no user and password: the call is signed instead")
    return url


def _check_lifetime(time: Time) -> Time:
    if time.relative or time.value > _MAX_LIFETIME:
        raise ValueError(f"is a time of at most {_MAX_LIFETIME} seconds, not a percentage")
    return time


def _all_different(indexes: tuple[Index, ...]) -> tuple[Index, ...]:
    if len(set(indexes)) < len(indexes):
        raise ValueError("names an index twice")
    return indexes


# JSON has its own types: "320" is no number here, and 1 is no truth value.
Whole = Annotated[int, Strict()]
Flag = Annotated[bool, Strict()]
Name = Annotated[str, AfterValidator(check_part)]
Side = Annotated[Whole, Field(ge=1, le=4096)]
Destination = Annotated[str, AfterValidator(_check_destination)]
CallbackUrl = Annotated[str, Field(max_length=4000), AfterValidator(_check_callback)]
Lifetime = Annotated[Length, AfterValidator(_check_lifetime)]
Targets = Annotated[tuple[Target, ...], Field(max_length=_MAX_TARGETS)]
Pattern = Annotated[str, AfterValidator(_check_pattern)]
Indexes = Annotated[tuple[Index, ...], AfterValidator(_all_different)]
BaseUrl = Annotated[str, Field(max_length=2000), AfterValidator(_check_base_url)]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FrameNumber(Model):
    """The picture with this number in display order; the first is 0."""

    frame: Annotated[Whole, Field(ge=0, le=10**9)]


def _read_at(said: object) -> "FrameNumber | Time | Best":
    if said == "best":
        return "best"
    if said == "middle":
        return Time(Fraction(1, 2), relative=True)
    if isinstance(said, FrameNumber):
        return said
    if isinstance(said, dict):
        try:
            return FrameNumber.model_validate(said)
        except ValidationError as error:
            raise ValueError(f'write {{"frame": N}}, N counted from 0: {explain(error)}') from None
    return Time.read(said)


At = Annotated[FrameNumber | Time | Best, BeforeValidator(_read_at)]


def _read_rate(said: object) -> Fraction:
    """A number, or text such as "30000/1001"; decimal numbers are kept exact."""
    if isinstance(said, Fraction):
        return said
    text = said if isinstance(said, str) else str(said) if type(said) in (int, float) else ""
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?|\d{1,9}/0*[1-9]\d{0,6}", text):
        raise ValueError(f'frames a second are a number, or text such as "30000/1001", not {str(said)[:40]!r}')
    rate = Fraction(text)
    if not Fraction(1, 1000) <= rate <= _MAX_FPS:
        raise ValueError(f"frames a second lie between 0.001 and {_MAX_FPS}, not {text}")
    return rate


def _read_keyframe(said: object) -> int | Time:
    """How many frames, or how long a time, which is text."""
    if isinstance(said, Time):
        return said
    if isinstance(said, str) and not said.strip().replace(".", "").isdecimal():
        return positive(Time.read(said))
    if type(said) is int and 1 <= said <= _MAX_KEYFRAME:
        return said
    raise ValueError(
        f'a whole number of frames between 1 and {_MAX_KEYFRAME}, or a time with its unit such as "3s", not '
        f"{str(said)[:40]!r}"
    )


Rate = Annotated[
    Fraction,
    PlainValidator(_read_rate),
    PlainSerializer(str),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": 240}, {"type": "string"}]}),
]
Keyframe = Annotated[
    int | Time,
    PlainValidator(_read_keyframe),
    PlainSerializer(lambda keyframe: keyframe.said() if isinstance(keyframe, Time) else keyframe),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1, "maximum": _MAX_KEYFRAME}, {"type": "string"}]}),
]
