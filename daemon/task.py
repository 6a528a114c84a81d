"""The two sides of the worker's wire: a `Task` goes in, events come out.

All are frozen models and cross as JSON, some with a body of bytes beside them. The supervisor checks every event again
on arrival: a worker has decoded hostile data and may say anything.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from daemon.fields import AnyFormat
from daemon.job import MAX_OUTPUTS
from daemon.outputs import Moving, Output
from daemon.report import OutputReport

Whole = Annotated[int, Field(ge=0, le=1 << 62)]
Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=2000)]
# The first wrong entry is enough: a complaint about each of millions would take gigabytes.
Counts = Annotated[tuple[Whole, ...], Field(fail_fast=True)]
Texts = Annotated[tuple[Text, ...], Field(fail_fast=True)]


# Descriptors of outputs that go with one task: as many as one job may need. The kernel takes 253 at a time.
MAX_FILES = MAX_OUTPUTS


# Why the CPU did a source that another device was to do: what that device lacks or cannot be trusted with, or `error`.
FallbackReason = Literal[
    "codec", "chroma", "depth", "size", "interlaced", "palette", "alpha", "still", "times", "entry", "error"
]
CARD_LOST = 75  # exit status of a worker that can do nothing more with its card


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Limits(_Model):
    """`pictures`: most pictures of one output. `held_bytes`: packets of one group of pictures kept at a
    time. `decoded_bytes`: about what the decoders of a source may hold together."""

    pictures: int = 20_000
    held_bytes: int = 64 << 20
    decoded_bytes: int = 1 << 28


class Task(_Model):
    """The outputs of several jobs on one source. The source itself goes along as a descriptor, and after it one for
    each output that is written to a file and not sent, in the order of `files`."""

    kind: Literal["task"] = "task"
    jobs: tuple[tuple[Output, ...], ...]
    threads: int = 1
    background: tuple[int, int, int] = (0, 0, 0)
    limits: Limits = Limits()

    @property
    def files(self) -> tuple[tuple[int, int], ...]:
        """(job, output) of each output that the worker writes to a descriptor."""
        return tuple(
            (job, number)
            for job, outputs in enumerate(self.jobs)
            for number, output in enumerate(outputs)
            if isinstance(output, Moving)
        )


class Stop(_Model):
    """The jobs of the running task that need not be gone on with."""

    kind: Literal["stop"] = "stop"
    jobs: tuple[int, ...]


class Ready(_Model):
    """The worker has imported all it needs and opens nothing from here on. `note`: why it is this device."""

    kind: Literal["ready"] = "ready"
    ffmpeg: Text
    device: Annotated[str, Field(max_length=20)]
    note: Text = ""


class Unable(_Model):
    """The worker cannot work on this machine, and says why; it ends."""

    kind: Literal["unable"] = "unable"
    code: Annotated[str, Field(max_length=40)]
    message: Text


class Planned(_Model):
    """How many pictures each job has, in the task's order."""

    kind: Literal["planned"] = "planned"
    pictures: Counts


class Progress(_Model):
    """Something moved: packets sent to decoders, pictures shaped for each job, bytes of the source read."""

    kind: Literal["progress"] = "progress"
    packets: Whole
    pictures: Counts


class FellBack(_Model):
    """The device could not do the source, and the CPU does it from the start. Outputs that were made or have failed
    stay as they are; the files of all others are void. At most once in a task."""

    kind: Literal["fell_back"] = "fell_back"
    reason: FallbackReason


class FileMade(_Model):
    """One whole file of an output, its bytes in the body. For a picture with its size in pixels. What was written to a
    descriptor has no body but its `size` in bytes."""

    kind: Literal["file"] = "file"
    job: Whole
    output: Whole
    name: Annotated[str, Field(max_length=300)]
    format: AnyFormat
    width: Whole = 0
    height: Whole = 0
    size: Whole = 0


class OutputMade(_Model):
    """All files of an output were sent. Paths in the report are bare file names."""

    kind: Literal["output"] = "output"
    job: Whole
    output: Whole
    report: OutputReport
    warnings: Texts = ()


class OutputFailed(_Model):
    """An output has no pictures. Where it is not optional its job is over with this error."""

    kind: Literal["output_failed"] = "output_failed"
    job: Whole
    output: Whole
    code: Annotated[str, Field(max_length=40)]
    message: Text


class StageTimes(_Model):
    """Seconds, summed over threads; `open` is opening and measuring the source."""

    open: Seconds = 0.0
    decode: Seconds = 0.0
    resize: Seconds = 0.0
    encode: Seconds = 0.0


class JobOver(_Model):
    """All outputs of a job were made or failed. `times` are those of the whole task until now."""

    kind: Literal["job_over"] = "job_over"
    job: Whole
    times: StageTimes


class TaskOver(_Model):
    """The last event of a task. `error` where the source as a whole failed."""

    kind: Literal["task_over"] = "task_over"
    code: Annotated[str, Field(max_length=40)] | None = None
    message: Text = ""
    times: StageTimes = StageTimes()
    read_bytes: Whole = 0
    frames: Whole = 0


class SourceMeasured(_Model):
    """Facts of the source: duration in seconds, display size in square pixels, upright."""

    kind: Literal["source"] = "source"
    duration: Seconds
    width: Whole
    height: Whole
    codec: Annotated[str, Field(max_length=40)]
    fps: Seconds | None
    warnings: Texts = ()


Event = Annotated[
    Ready
    | Unable
    | Planned
    | Progress
    | FellBack
    | FileMade
    | OutputMade
    | OutputFailed
    | JobOver
    | TaskOver
    | SourceMeasured,
    Field(discriminator="kind"),
]
Order = Annotated[Task | Stop, Field(discriminator="kind")]
