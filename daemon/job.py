"""What may be asked of thumbd: the job, its outputs, and the one place where they are checked.

A `Job` is frozen, knows nothing of files or queues, and is the same from whichever side it came (spool, command line,
a service's dialect). Unknown keys are refused by name; every complaint says where it is and what was found there.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import Annotated, Any, Literal, Self
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
    field_validator,
    model_validator,
)
from pydantic import JsonValue as Json
from pydantic_core import from_json

from daemon.errors import BadJob, Complaint
from daemon.target import Target
from daemon.times import Length, Time, positive

MAX_JOB_BYTES = 1 << 20
MAX_OUTPUTS = 64
MANIFEST = "manifest.json"
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"  # of jobs, organisations, videos
MAX_FPS = 240
MAX_KEYFRAME = 100_000
MAX_TARGETS = 16
MAX_LIFETIME = 10 * 366 * 86400

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
    if time.relative or time.value > MAX_LIFETIME:
        raise ValueError(f"is a time of at most {MAX_LIFETIME} seconds, not a percentage")
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
Targets = Annotated[tuple[Target, ...], Field(max_length=MAX_TARGETS)]
BaseUrl = Annotated[str, Field(max_length=2000), AfterValidator(_check_base_url)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FrameNumber(_Model):
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
    if not Fraction(1, 1000) <= rate <= MAX_FPS:
        raise ValueError(f"frames a second lie between 0.001 and {MAX_FPS}, not {text}")
    return rate


def _read_keyframe(said: object) -> int | Time:
    """How many frames, or how long a time, which is text."""
    if isinstance(said, Time):
        return said
    if isinstance(said, str) and not said.strip().replace(".", "").isdecimal():
        return positive(Time.read(said))
    if type(said) is int and 1 <= said <= MAX_KEYFRAME:
        return said
    raise ValueError(
        f'a whole number of frames between 1 and {MAX_KEYFRAME}, or a time with its unit such as "3s", not '
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
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1, "maximum": MAX_KEYFRAME}, {"type": "string"}]}),
]


class Look(_Model):
    """What every output may say about how it looks, and what becomes of it: `rotate`, degrees clockwise, before it is
    sized; `ttl`, after which its files are removed; and where they are delivered to."""

    name: Name = ""
    width: Side | None = None
    height: Side | None = None
    short_side: Side | None = None
    fit: Fit = "inside"
    upscale: Flag = False
    rotate: Rotation = 0
    quality: Annotated[Whole, Field(ge=1, le=100)] | None = None
    tag: Annotated[str, Field(max_length=1000)] | None = None
    optional: Flag = False
    ttl: Lifetime | None = None
    deliver: Targets = ()

    @model_validator(mode="after")
    def _one_way_to_say_the_size(self) -> Self:
        if self.short_side is not None and (self.width is not None or self.height is not None):
            raise ValueError("short_side cannot go with width or height: give one or the other")
        if self.fit != "inside" and self.short_side is None and (self.width is None) != (self.height is None):
            raise ValueError(f"fit {self.fit!r} needs both width and height")
        return self


class Picture(Look):
    """What every output of stills may say besides."""

    format: Format = "webp"
    accuracy: Accuracy = "exact"


class Thumbnail(Picture):
    """One picture."""

    output: Literal["thumbnail"]
    at: At

    @property
    def file(self) -> str:
        return self.name + SUFFIX[self.format]


class _Series(Picture):
    """`pick`: of each interval its first picture, or the best of its keyframes."""

    every: Length | None = None
    count: Annotated[Whole, Field(ge=1, le=100_000)] | None = None
    start: Time | None = None
    end: Time | None = None
    pick: Pick = "first"
    base_url: BaseUrl | None = None

    @model_validator(mode="after")
    def _one_way_to_say_how_many(self) -> Self:
        if (self.every is None) == (self.count is None):
            raise ValueError("give either every (a time between pictures) or count (how many pictures)")
        return self


class Thumbnails(_Series):
    """A numbered series and its WebVTT."""

    output: Literal["thumbnails"]
    files: Annotated[str, AfterValidator(_check_pattern)] | None = None

    def file(self, number: int) -> str:
        """The file name of picture `number`, counted from 1."""
        stem = self.files.format(n=number) if self.files else f"{self.name}-{number:04}"
        return stem + SUFFIX[self.format]


class Sprite(_Series):
    """Sheets of tiles and their index files; with `layout`, as a media server wants to find them."""

    output: Literal["sprite"]
    width: Side | None = 320
    format: Format = "jpeg"
    columns: Annotated[Whole, Field(ge=1, le=100)] = 10
    rows: Annotated[Whole, Field(ge=1, le=100)] = 10
    indexes: Annotated[tuple[Index, ...], AfterValidator(_all_different)] = ("vtt",)
    layout: FolderLayout | None = None

    @model_validator(mode="before")
    @classmethod
    def _other_defaults(cls, said: Any) -> Any:
        if not isinstance(said, dict):
            return said
        defaults: dict[str, Any] = {}
        if any(said.get(key) is not None for key in ("height", "short_side")):
            defaults["width"] = None
        if (layout := said.get("layout")) is not None:
            defaults["indexes"] = () if layout == "jellyfin" else ("bif",)
            defaults["upscale"] = layout != "plex"  # its files are the only ones not named after their width
        return {**defaults, **said}

    @model_validator(mode="after")
    def _what_indexes_hold(self) -> Self:
        counted = [f'index "{index}"' for index in self.indexes if index in ("hls", "dash", "bif")]
        counted += [f'layout "{self.layout}"'] if self.layout else []
        for what in counted:
            if self.start is not None and self.start.value:
                raise ValueError(f"{what} counts its tiles from the video's begin: leave out start")
            allowed = ("jpeg",) if self.layout or what == 'index "bif"' else ("jpeg", "png")
            if self.format not in allowed:
                raise ValueError(f"{what} takes no {self.format} pictures: give format {' or '.join(allowed)}")
        return self

    @model_validator(mode="after")
    def _what_layouts_need(self) -> Self:
        if self.layout in ("emby", "plex") and self.indexes != ("bif",):
            raise ValueError(f'layout "{self.layout}" is one BIF and nothing else: leave out indexes')
        if self.layout in ("jellyfin", "emby"):
            if self.width is None or (self.height is not None and self.fit == "inside"):
                raise ValueError(f'layout "{self.layout}" names files after their width: give width alone')
            if not self.upscale:
                raise ValueError(f'layout "{self.layout}" names files after their width: leave out upscale')
        if self.layout == "emby" and (self.every is None or self.every.relative or self.every.value.denominator != 1):
            raise ValueError('layout "emby" names files after their interval: give every in whole seconds')
        return self

    @property
    def has_sheets(self) -> bool:
        return self.layout not in ("emby", "plex")

    @property
    def sheet_names(self) -> tuple[str, str, int]:
        """What stands before and after the number of a sheet, and with how many digits the number is written at
        least. A layout's sheets lie in folders of their own."""
        if self.layout == "jellyfin":
            return f"{self.name}.trickplay/{self.width} - {self.columns}x{self.rows}/", SUFFIX[self.format], 1
        return f"{self.name}-", SUFFIX[self.format], 3

    def file(self, number: int) -> str:
        """The file name of sheet `number`, counted from 0."""
        before, after, digits = self.sheet_names
        return f"{before}{number:0{digits}}{after}"

    def index_file(self, index: Index) -> str:
        """The file name of an index."""
        if self.layout == "emby" and self.every is not None:
            return f"{self.name}-{self.width}-{self.every.value}.bif"
        return "index-sd.bif" if self.layout == "plex" else self.name + SUFFIX[index]


class Moving(Look):
    """A stretch of the video that moves: one file, which may be too large to be held in memory."""

    start: Time = Time(Fraction(0))
    duration: Length | None = None


class Clip(Moving):
    """An MP4: H.264, and AAC where the source has sound. Without `fps` every frame of the source is in it, each at its
    own time. `keyframe`: the most frames (a whole number) or the longest time from one keyframe to the next."""

    output: Literal["clip"]
    format: Literal["mp4"] = "mp4"
    fps: Rate | None = None
    keyframe: Keyframe | None = None
    audio: Flag = True

    @property
    def file(self) -> str:
        return self.name + SUFFIX[self.format]


class Animation(Moving):
    """A silent loop, played for ever. At `start` + n / `fps` it shows what the video shows then. Without `duration` it
    is 3 seconds long, or as long as the video is from `start` on."""

    output: Literal["animation"]
    format: AnimationFormat = "webp"
    fps: Rate = Fraction(10)

    @model_validator(mode="after")
    def _slow_enough(self) -> Self:
        if self.format == "gif" and self.fps > 50:
            raise ValueError(f"a GIF has at most 50 frames a second, not {float(self.fps):g}")
        return self

    @property
    def file(self) -> str:
        return self.name + SUFFIX[self.format]


Output = Annotated[Thumbnail | Thumbnails | Sprite | Clip | Animation, Field(discriminator="output")]


class Job(_Model):
    """One JSON object: a source and the pictures wanted from it. `ttl`: of the outputs that have none of their own;
    `deliver`: where all files go."""

    id: Annotated[str, Field(pattern=NAME)] | None = None
    org: Annotated[str, Field(pattern=NAME)] = "default"
    source: Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]*$")]
    destination: Destination | None = None
    priority: Priority | None = None
    outputs: Annotated[tuple[Output, ...], Field(json_schema_extra={"minItems": 1, "maxItems": MAX_OUTPUTS})]
    cache: Flag = False
    payload: Annotated[str, Field(max_length=1000)] | None = None
    callback_url: CallbackUrl | None = None
    ttl: Lifetime | None = None
    deliver: Targets = ()

    @field_validator("outputs", mode="before")
    @classmethod
    def _not_too_many(cls, said: object) -> object:
        """Before they are read: in 1 MiB there may be a hundred thousand."""
        if isinstance(said, list | tuple) and not 1 <= len(said) <= MAX_OUTPUTS:
            raise ValueError(f"must hold 1 to {MAX_OUTPUTS} outputs, not {len(said)}")
        return said

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.org == "default" and (self.destination or "").split("/")[0] == "orgs":
            raise ValueError('destination may not lie below "orgs": that is where other organisations are')
        named = tuple(
            output if output.name else output.model_copy(update={"name": f"{output.output}-{n}"})
            for n, output in enumerate(self.outputs, 1)
        )
        object.__setattr__(self, "outputs", named)
        writers = [
            ("the manifest", (Files(MANIFEST, "", "json"),)),
            *((f"output {o.name!r}", files_of(o)) for o in named),
        ]
        for (who, files), (other, others) in combinations(writers, 2):
            if any(one.meets(another) for one in files for another in others):
                raise ValueError(f"{who} and {other} would write the same file: give them different names")
        return self

    @classmethod
    def read(cls, text: str | bytes) -> "Job":
        """Reads a job's JSON. Raises `BadJob` naming each wrong key, its place and what is wrong there."""
        if len(text.encode() if isinstance(text, str) else text) > MAX_JOB_BYTES:
            raise BadJob("a job is one JSON object of at most 1 MiB")
        try:
            said = from_json(text, allow_inf_nan=False)
        except ValueError as error:
            raise BadJob(f"job: not JSON: {error}") from None
        return cls.check(said)

    @classmethod
    def check(cls, said: object) -> "Job":
        """Checks a job that is parsed already. Raises `BadJob` as `read` does."""
        try:
            return cls.model_validate(said)
        except ValidationError as error:
            raise BadJob(explain(error)) from None


_MOST_DIGITS = 9  # as many as a pattern may ask for


@dataclass(frozen=True)
class Files:
    """Files of one format that an output may write: `before` + `after`, with a number between them where `numbered`."""

    before: str
    after: str
    format: AnyFormat
    numbered: bool = False

    def holds(self, name: str) -> bool:
        if not self.numbered:
            return name == self.before + self.after
        number = name[len(self.before) : len(name) - len(self.after)]
        digits = number.isdecimal() and number.isascii() and len(number) <= _MOST_DIGITS
        return digits and name.startswith(self.before) and name.endswith(self.after)

    def meets(self, other: "Files") -> bool:
        """Whether both may write one name."""
        if not self.numbered or not other.numbered:
            one, many = (other, self) if self.numbered else (self, other)
            return many.holds(one.before + one.after)
        short, long = sorted((self.before, other.before), key=len)
        tail, longer_tail = sorted((self.after, other.after), key=len)
        return (
            long.startswith(short)
            and longer_tail.endswith(tail)
            and _only_digits(long[len(short) :])
            and _only_digits(longer_tail[: len(longer_tail) - len(tail)])
        )


def _only_digits(text: str) -> bool:
    return not text or (text.isascii() and text.isdecimal())


def files_of(output: Output) -> tuple[Files, ...]:
    """All that an output may write."""
    if isinstance(output, Thumbnail | Moving):
        return (Files(output.name, SUFFIX[output.format], output.format),)
    if isinstance(output, Sprite):
        before, after, _ = output.sheet_names
        sheets = (Files(before, after, output.format, numbered=True),) if output.has_sheets else ()
        return *sheets, *(Files(output.index_file(index), "", index) for index in output.indexes)
    before, after = re.split(r"\{n[^}]*\}", output.files) if output.files else (output.name + "-", "")
    pictures = Files(before, after + SUFFIX[output.format], output.format, numbered=True)
    return pictures, Files(output.name, ".vtt", "vtt")


_SECRET = frozenset({"callback_url", "deliver", "key", "secret"})  # may hold credentials


def _without_secrets(said: Any) -> Any:
    if isinstance(said, dict):
        return {key: "…" if key in _SECRET else _without_secrets(value) for key, value in said.items()}
    return [_without_secrets(value) for value in said] if isinstance(said, list | tuple) else said


def complaints_of(errors: Sequence[Mapping[str, Any]]) -> list[Complaint]:
    """What is wrong, and where: at `outputs[0].width`, that it should be at most 4096. `errors` are pydantic's."""
    found = []
    for entry in errors[:_MOST_COMPLAINTS]:
        place = ""
        for position, step in enumerate(entry["loc"]):
            if isinstance(step, int):
                place += f"[{step}]"
            elif position != _TAG or entry["loc"][0] != "outputs":
                place += f".{step}"
        text = "unknown key" if entry["type"] == "extra_forbidden" else entry["msg"].removeprefix("Value error, ")
        told = entry["type"] != "missing" and _SECRET.isdisjoint(entry["loc"])
        value = _without_secrets(entry["input"]) if told else None
        found.append(Complaint(text[:300], place.lstrip(".")[:100], value))
    return found


def explain(error: ValidationError) -> str:
    """One line for all complaints: `outputs[0].width: Input should be less than or equal to 4096 (got 5000)`."""
    errors = error.errors(include_url=False)[:_MOST_COMPLAINTS]
    lines = []
    for entry, complaint in zip(errors, complaints_of(errors), strict=True):
        clear = entry["type"] in ("value_error", "missing", "json_invalid", "extra_forbidden")
        told = not clear and _SECRET.isdisjoint(entry["loc"])
        got = f" (got {str(complaint.value)[:60]!r})" if told else ""
        lines.append(f"{complaint.place or 'job'}: {complaint.message}{got}")
    return "; ".join(dict.fromkeys(lines))


_MOST_COMPLAINTS = 8
_TAG = 2  # in outputs[0].width pydantic puts the kind of output, which tells it apart, at this step


def job_schema() -> dict[str, Json]:
    """The JSON Schema of a job (2020-12)."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Job.model_json_schema()}
