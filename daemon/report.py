"""What happened to a job: the object that the spool, the command line and every API give, and `manifest.json` holds."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Status = Literal["pending", "processing", "completed", "failed"]


Score = Annotated[float | None, Field(exclude_if=lambda score: score is None)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceFacts(_Model):
    """`duration` in seconds; `width` x `height` is the display size: sample aspect and rotation applied."""

    duration: float
    width: int
    height: int
    codec: str
    fps: float | None


class PictureReport(_Model):
    """One picture of a series or sprite: asked and true presentation time in seconds; `path` for a series, `score`
    (0 to 1) where it was picked as the best."""

    at: float
    time: float
    path: str | None = None
    score: Score = None


class OutputReport(_Model):
    """One output. `path` is below the store's root. For a sprite `width` x `height` is one tile. A clip or animation
    begins `at` what was asked with the frame of `time`, and has `frames` in `duration` seconds."""

    name: str
    output: str
    path: str
    width: int
    height: int
    format: str
    bytes: int
    at: float | None = None
    time: float | None = None
    score: Score = None
    duration: float | None = None
    frames: int | None = None
    device: str
    cached: bool = False
    tag: str | None = None
    files: Annotated[list[str], Field(fail_fast=True)] = Field(default_factory=list)
    pictures: Annotated[list[PictureReport], Field(fail_fast=True)] | None = None


class Timings(_Model):
    """Seconds: `queue` and `publish` by the clock, the others summed over the threads that shared the work."""

    queue: float = 0.0
    decode: float = 0.0
    resize: float = 0.0
    encode: float = 0.0
    publish: float = 0.0


class ErrorReport(_Model):
    code: str
    message: str
    output: str | None = None


class Report(_Model):
    id: str
    org: str
    status: Status
    attempt: int = 0
    source: SourceFacts | None = None
    outputs: list[OutputReport] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    error: ErrorReport | None = None
    timings: Timings = Timings()
    payload: str | None = None

    def json_bytes(self) -> bytes:
        return (self.model_dump_json(indent=1) + "\n").encode()

    def as_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


def placed(output: OutputReport, destination: str) -> OutputReport:
    """An output whose paths are bare names, with its paths as they are below the store's root."""
    return _renamed(output, lambda file: f"{destination}/{file}" if destination else file)


def bare(output: OutputReport, destination: str) -> OutputReport:
    """The inverse of `placed`."""
    return _renamed(output, lambda file: file.removeprefix(f"{destination}/"))


def _renamed(output: OutputReport, name: Callable[[str], str]) -> OutputReport:
    pictures = output.pictures and [
        picture.model_copy(update={"path": name(picture.path)}) if picture.path else picture
        for picture in output.pictures
    ]
    files = [name(file) for file in output.files]
    return output.model_copy(update={"path": name(output.path), "files": files, "pictures": pictures})
