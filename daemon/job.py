"""What may be asked of thumbd: the job, its outputs, and the one place where they are checked.

A `Job` is frozen, knows nothing of files or queues, and is the same from whichever side it came (spool, command line,
a service's dialect). Unknown keys are refused by name; every complaint says where it is and what was found there.
"""

import re
from fractions import Fraction
from functools import lru_cache
from itertools import combinations
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    model_validator,
)
from pydantic import JsonValue as Json
from pydantic_core import from_json

from daemon.errors import BadJob
from daemon.times import Length, Time

MAX_JOB_BYTES = 1 << 20
MAX_OUTPUTS = 64
MANIFEST = "manifest.json"

Format = Literal["webp", "jpeg", "png", "avif"]
Fit = Literal["inside", "cover", "pad", "stretch"]
Accuracy = Literal["exact", "keyframe", "nearest"]
Priority = Literal["high", "normal", "low"]
SUFFIX: dict[Format, str] = {"webp": ".webp", "jpeg": ".jpg", "png": ".png", "avif": ".avif"}


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
    if not re.fullmatch(r"[^{}]*\{n(:0?[1-9])?\}[^{}]*", pattern):
        raise ValueError(f'{pattern[:40]!r} must hold the number once, as in "thumb_{{n:04}}"')
    check_part(pattern.format(n=1))
    return pattern


# JSON has its own types: "320" is no number here, and 1 is no truth value.
Whole = Annotated[int, Strict()]
Flag = Annotated[bool, Strict()]
Name = Annotated[str, AfterValidator(check_part)]
Side = Annotated[Whole, Field(ge=1, le=4096)]
Destination = Annotated[str, AfterValidator(_check_destination)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FrameNumber(_Model):
    """The picture with this number in display order; the first is 0."""

    frame: Annotated[Whole, Field(ge=0, le=10**9)]


def _read_at(said: object) -> "FrameNumber | Time":
    if said == "best":
        raise ValueError('"best" is not supported by this version: give a time, "middle" or {"frame": N}')
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


At = Annotated[FrameNumber | Time, BeforeValidator(_read_at)]


class Picture(_Model):
    """What every output may say about how its pictures look."""

    name: Name = ""
    width: Side | None = None
    height: Side | None = None
    short_side: Side | None = None
    fit: Fit = "inside"
    upscale: Flag = False
    format: Format = "webp"
    quality: Annotated[Whole, Field(ge=1, le=100)] | None = None
    accuracy: Accuracy = "exact"
    tag: Annotated[str, Field(max_length=1000)] | None = None
    optional: Flag = False

    @model_validator(mode="after")
    def _one_way_to_say_the_size(self) -> Self:
        if self.short_side is not None and (self.width is not None or self.height is not None):
            raise ValueError("short_side cannot go with width or height: give one or the other")
        if self.fit != "inside" and self.short_side is None and (self.width is None) != (self.height is None):
            raise ValueError(f"fit {self.fit!r} needs both width and height")
        return self


class Thumbnail(Picture):
    """One picture."""

    output: Literal["thumbnail"]
    at: At

    @property
    def file(self) -> str:
        return self.name + SUFFIX[self.format]


class _Series(Picture):
    every: Length | None = None
    count: Annotated[Whole, Field(ge=1, le=100_000)] | None = None
    start: Time | None = None
    end: Time | None = None

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
    """Sheets of tiles and their index files."""

    output: Literal["sprite"]
    width: Side | None = 320
    format: Format = "jpeg"
    columns: Annotated[Whole, Field(ge=1, le=100)] = 10
    rows: Annotated[Whole, Field(ge=1, le=100)] = 10
    indexes: tuple[Literal["vtt"], ...] = ("vtt",)

    @model_validator(mode="before")
    @classmethod
    def _other_sizes_replace_the_default_width(cls, said: Any) -> Any:
        if isinstance(said, dict) and "width" not in said and {"height", "short_side"} & said.keys():
            return {**said, "width": None}
        return said

    def file(self, number: int) -> str:
        """The file name of sheet `number`, counted from 0."""
        return f"{self.name}-{number:03}{SUFFIX[self.format]}"


Output = Annotated[Thumbnail | Thumbnails | Sprite, Field(discriminator="output")]


class Job(_Model):
    """One JSON object: a source and the pictures wanted from it."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] | None = None
    org: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = "default"
    source: Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]*$")]
    destination: Destination | None = None
    priority: Priority | None = None
    outputs: Annotated[tuple[Output, ...], Field(json_schema_extra={"minItems": 1, "maxItems": MAX_OUTPUTS})]
    cache: Literal[False] = False
    payload: Annotated[str, Field(max_length=1000)] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        # Counted here and not by the field: there a wrong output would be counted as none, a second complaint.
        if not 1 <= len(self.outputs) <= MAX_OUTPUTS:
            raise ValueError(f"outputs must hold 1 to {MAX_OUTPUTS} outputs, not {len(self.outputs)}")
        if self.org == "default" and (self.destination or "").split("/")[0] == "orgs":
            raise ValueError('destination may not lie below "orgs": that is where other organisations are')
        named = tuple(
            output if output.name else output.model_copy(update={"name": f"{output.output}-{n}"})
            for n, output in enumerate(self.outputs, 1)
        )
        object.__setattr__(self, "outputs", named)
        for a, b in combinations([("the manifest", re.escape(MANIFEST)), *map(_names, named)], 2):
            if any(_overlap(x, y) for x in a[1].split("|") for y in b[1].split("|")):
                raise ValueError(f"{a[0]} and {b[0]} would write the same file: give them different names")
        return self

    @classmethod
    def read(cls, text: str | bytes) -> "Job":
        """Reads a job's JSON. Raises `BadJob` naming each wrong key, its place and what is wrong there."""
        if len(text) > MAX_JOB_BYTES:
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


def _names(output: Thumbnail | Thumbnails | Sprite) -> tuple[str, str]:
    """Who writes, and the file names it writes: literals with `\\d+` for a number, parted by `|`."""
    who, vtt = f"output {output.name!r}", re.escape(output.name + ".vtt")
    if isinstance(output, Thumbnail):
        return who, re.escape(output.file)
    if isinstance(output, Sprite):
        return who, rf"{re.escape(output.name)}\-\d+{re.escape(SUFFIX[output.format])}|{vtt}"
    stem = re.sub(r"\\\{n.*?\\\}", r"\\d+", re.escape(output.files or f"{output.name}-{{n}}"))
    return who, rf"{stem}{re.escape(SUFFIX[output.format])}|{vtt}"


def may_write(output: Thumbnail | Thumbnails | Sprite, file: str) -> bool:
    """Whether a file of this name can be one of the output's."""
    return _pattern(output).fullmatch(file) is not None


@lru_cache(maxsize=256)
def _pattern(output: Thumbnail | Thumbnails | Sprite) -> re.Pattern[str]:
    return re.compile(_names(output)[1])


def _overlap(a: str, b: str) -> bool:
    def sample(pattern: str) -> str:
        return re.sub(r"\\(.)", r"\1", pattern.replace(r"\d+", "0001"))

    return bool(re.fullmatch(a, sample(b)) or re.fullmatch(b, sample(a)))


def explain(error: ValidationError) -> str:
    """One line for all complaints: `outputs[0].width: Input should be less than or equal to 4096 (got 5000)`."""
    lines = []
    for entry in error.errors(include_url=False)[:8]:
        place = ""
        for step in entry["loc"]:
            if isinstance(step, int):
                place += f"[{step}]"
            elif step not in _UNION_STEPS:
                place += f".{step}"
        text = entry["msg"].removeprefix("Value error, ")
        if entry["type"] == "extra_forbidden":
            text = "unknown key"
        elif entry["type"] not in ("value_error", "missing", "json_invalid"):
            text += f" (got {str(entry['input'])[:60]!r})"
        lines.append(f"{place.lstrip('.') or 'job'}: {text}")
    return "; ".join(dict.fromkeys(lines))


# Steps that pydantic puts into a place for its own reasons: the tags of the union.
_UNION_STEPS = {"thumbnail", "thumbnails", "sprite"}


def job_schema() -> dict[str, Json]:
    """The JSON Schema of a job (2020-12)."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Job.model_json_schema()}
