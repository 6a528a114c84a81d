"""From a worker's events to staged files: each event is checked against what was asked before it counts.

A worker has decoded hostile data and may say anything. Whatever it was not asked for ends it (WorkerLied).
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from time import monotonic

from daemon.errors import BadJob, Failure, SourceFailure, StoreFailure, WorkerLied, from_dict
from daemon.files import Files, files_of
from daemon.outputs import Output
from daemon.report import OutputReport, SourceFacts, Timings
from daemon.store.headers import picture_header
from daemon.store.protocol import Staging
from daemon.task import (
    Event,
    FallbackReason,
    FellBack,
    FileMade,
    JobOver,
    OutputFailed,
    OutputMade,
    Planned,
    Progress,
    SourceMeasured,
    StageTimes,
    Task,
    TaskOver,
)
from daemon.threads import in_thread
from daemon.worker.answers import Answers
from daemon.worker.handle import Worker

_MOST_UNWRITTEN = 64 << 20  # bytes of a job's files that wait for the disk
_CPU = "cpu"  # the device that does what another one cannot
_HEADER = 64 << 10  # bytes of a file in which its header must lie


@dataclass(frozen=True)
class Made:
    """What became of one job in the worker: its outputs by their numbers, staged, or the failure."""

    job: int
    outputs: Mapping[int, OutputReport]
    warnings: tuple[str, ...]
    source: SourceFacts | None
    timings: Timings
    failure: Failure | None


@dataclass
class _Collected:
    """One job on its way."""

    outputs: Sequence[Output]
    permitted: Sequence[tuple[Files, ...]]
    staging: Staging
    files: dict[int, dict[str, int]] = field(default_factory=dict)
    reports: dict[int, OutputReport] = field(default_factory=dict)
    failures: dict[int, Failure] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    unwritten: dict[str, bytes] = field(default_factory=dict)
    open: dict[int, int] = field(default_factory=dict)  # descriptors of the outputs that the worker writes itself
    unsettled: dict[str, int] = field(default_factory=dict)  # those that it has written
    writing: "asyncio.Task[None] | None" = None
    written_in: float = 0.0
    over: bool = False
    stopped: bool = False


@dataclass
class Tally:
    """What a task cost, for the metrics; read it when the task is over. `fallback`: why the CPU did it after all."""

    times: StageTimes = field(default_factory=StageTimes)
    read_bytes: int = 0
    written_bytes: int = 0
    frames: int = 0
    codec: str = ""
    device: str = ""
    fallback: FallbackReason | None = None
    encoded: dict[str, int] = field(default_factory=dict)


async def _write_behind(job: _Collected) -> None:
    """Writes what has come, then what came meanwhile: the disk's time is not the worker's."""
    while job.unwritten or job.unsettled:
        files, job.unwritten = job.unwritten, {}
        written, job.unsettled = job.unsettled, {}
        begun = monotonic()
        await in_thread(job.staging.write, files)
        for file, descriptor in written.items():
            await in_thread(job.staging.settle, file, descriptor)
        job.written_in += monotonic() - begun
    job.writing = None


class Production:
    """One task in a worker, and what comes of it. `told` hears (job, pictures made, pictures in all)."""

    def __init__(self, task: Task, stagings: Sequence[Staging], told: Callable[[int, int, int], None]) -> None:
        self._task = task
        self._jobs = [
            _Collected(outputs, [files_of(output) for output in outputs], place)
            for outputs, place in zip(task.jobs, stagings, strict=True)
        ]
        self._told = told
        self._planned: tuple[int, ...] = tuple(0 for _ in self._jobs)
        self._source: SourceFacts | None = None
        self._source_warnings: tuple[str, ...] = ()
        self.tally = Tally()

    async def run(self, worker: Worker, source: int, answers: Answers | None = None) -> AsyncGenerator[Made, None]:
        """Yields each job when it is over. `answers`: of a source that is no file. Raises what `Worker.run` raises, the
        source's own failure, and StoreFailure; the jobs not yet yielded share that fate."""
        self.tally.device = worker.device
        try:
            files = [await in_thread(self._open, *place) for place in self._task.files]
            async with aclosing(worker.run(self._task, source, files, answers)) as events:
                try:
                    async for event, body in events:
                        if (made := await self._hear(event, body)) is not None:
                            yield made
                except WorkerLied:
                    await worker.kill("lied")
                    raise
        finally:
            # Nothing is written any more when the caller discards what was staged.
            writing = [job.writing for job in self._jobs if job.writing is not None]
            await asyncio.gather(*writing, return_exceptions=True)
            for job in self._jobs:
                for descriptor in job.open.values():
                    os.close(descriptor)

    def _open(self, number: int, output: int) -> int:
        """Opens the file of an output that the worker writes itself."""
        job = self._jobs[number]
        (file,) = job.permitted[output]
        job.open[output] = job.staging.open(file.before + file.after)
        return job.open[output]

    def stop(self, job: int) -> None:
        """Listens to nothing more about a job, and begins to write nothing more of it."""
        self._jobs[job].stopped = True
        self._jobs[job].unwritten.clear()
        self._jobs[job].unsettled.clear()

    async def written(self, job: int) -> None:
        """Nothing is written of a job that was stopped once this is over."""
        if (writing := self._jobs[job].writing) is not None:
            await asyncio.gather(writing, return_exceptions=True)

    async def _hear(self, event: Event, body: bytes) -> Made | None:
        """The job that an event ends."""
        match event:
            case FellBack():
                await self._fell_back(event)
            case FileMade():
                await self._file(event, body)
            case OutputMade():
                self._output(event)
            case OutputFailed():
                self._output_failed(event)
            case JobOver():
                return await self._job_over(event)
            case SourceMeasured():
                self._measured(event)
            case Planned():
                self._planned = self._per_job(event.pictures)
                self._tell(tuple(0 for _ in self._jobs))
            case Progress():
                self._tell(self._per_job(event.pictures))
            case TaskOver():
                self._task_over(event)
            case _:
                raise WorkerLied(f"the worker was stopped: {event.kind!r} is no word within a task")
        return None

    async def _fell_back(self, event: FellBack) -> None:
        """Forgets the files of outputs that are not over, and takes them out of the staging."""
        if self.tally.device == _CPU:
            raise WorkerLied("the worker was stopped: there is no device that it could fall back from")
        self.tally.device, self.tally.fallback = _CPU, event.reason
        for job in self._jobs:
            if job.over or job.stopped:
                continue
            void = [output for output in job.files if output not in job.reports and output not in job.failures]
            if void and job.writing is not None:
                await job.writing
            for output in void:
                for file in job.files.pop(output):
                    await in_thread(job.staging.remove, file)

    async def _file(self, event: FileMade, body: bytes) -> None:
        if (found := self._asked(event.job, event.output)) is None:
            return
        job, asked = found
        files = job.files.setdefault(event.output, {})
        permitted = job.permitted[event.output]
        format = next((some.format for some in permitted if some.holds(event.name)), None)
        if event.name in files or format is None:
            raise WorkerLied(f"the worker was stopped: {event.name!r} is not a file of output {asked.name!r}")
        if len(files) >= (most := self._task.limits.pictures + len(permitted)):
            raise WorkerLied(f"the worker was stopped: more than {most} files of output {asked.name!r}")
        size, head, opened = len(body), body, job.open.get(event.output)
        if opened is not None:
            size, head = await in_thread(_look_at, opened)
        if (event.size, len(body)) != ((0, size) if opened is None else (size, 0)):
            raise WorkerLied(f"the worker was stopped: {event.name!r} has {size} bytes, not what it says")
        is_picture = format == asked.format
        if event.format != format or (is_picture and picture_header(head) != (format, (event.width, event.height))):
            kind = "picture" if is_picture else format
            raise WorkerLied(f"the worker was stopped: {event.name!r} is not the {kind} that it says it is")
        if is_picture:
            self.tally.encoded[format] = self.tally.encoded.get(format, 0) + 1
        files[event.name] = size
        self.tally.written_bytes += size
        if job.stopped:
            return
        if opened is not None:
            job.unsettled[event.name] = opened
        else:
            job.unwritten[event.name] = body
        if job.writing is None:
            job.writing = asyncio.create_task(_write_behind(job))
        elif sum(map(len, job.unwritten.values())) > _MOST_UNWRITTEN:
            await job.writing

    def _output(self, event: OutputMade) -> None:
        if (found := self._asked(event.job, event.output)) is None:
            return
        job, asked = found
        files = job.files.get(event.output, {})
        report = event.report
        named = [report.path, *(picture.path for picture in report.pictures or () if picture.path is not None)]
        said = (report.name, report.output, report.format, report.tag, report.cached, report.device)
        if (
            said != (asked.name, asked.output, asked.format, asked.tag, False, self.tally.device)
            or sorted(files) != report.files
            or report.bytes != sum(files.values())
        ):
            raise WorkerLied(f"the worker was stopped: its report of output {asked.name!r} is not what it sent")
        if any(path not in files for path in named):
            raise WorkerLied(f"the worker was stopped: output {asked.name!r} names files that it did not send")
        job.reports[event.output] = report
        job.warnings += event.warnings

    def _output_failed(self, event: OutputFailed) -> None:
        if (found := self._asked(event.job, event.output)) is None:
            return
        job, asked = found
        # Only where it writes itself can it know that the store is full.
        job.failures[event.output] = _said(event.code, event.message, asked.name, storing=event.output in job.open)
        if asked.optional:
            job.warnings.append(f"{asked.name}: {event.message}")

    async def _job_over(self, event: JobOver) -> Made | None:
        if event.job >= len(self._jobs) or self._jobs[event.job].over:
            raise WorkerLied("the worker was stopped: it ends a job that it was not asked for, or ends it twice")
        job = self._jobs[event.job]
        if job.stopped:
            return None
        told = job.reports.keys() | job.failures.keys()
        failures = sorted(job.failures.items())
        fatal = next((f for n, f in failures if not job.outputs[n].optional or isinstance(f, StoreFailure)), None)
        if fatal is None and told != set(range(len(job.outputs))):
            raise WorkerLied("the worker was stopped: it said that a job is over whose outputs are not")
        job.over = True
        if job.writing is not None:
            await job.writing
        for output in job.failures:
            opened = [file.before + file.after for file in job.permitted[output]] if output in job.open else []
            for file in (*job.files.get(output, ()), *opened):
                await in_thread(job.staging.remove, file)
        times = event.times
        return Made(
            job=event.job,
            outputs=dict(sorted(job.reports.items())),
            warnings=(*self._source_warnings, *job.warnings),
            source=self._source,
            timings=Timings(
                decode=round(times.open + times.decode, 6),
                resize=round(times.resize, 6),
                encode=round(times.encode, 6),
                publish=round(job.written_in, 6),
            ),
            failure=fatal,
        )

    def _measured(self, event: SourceMeasured) -> None:
        self._source = SourceFacts(
            duration=event.duration, width=event.width, height=event.height, codec=event.codec, fps=event.fps
        )
        self._source_warnings = event.warnings
        self.tally.codec = event.codec

    def _task_over(self, event: TaskOver) -> None:
        self.tally.times = event.times
        self.tally.read_bytes = event.read_bytes
        self.tally.frames = event.frames
        if event.code is not None:
            raise _said(event.code, event.message)
        if not all(job.over or job.stopped for job in self._jobs):
            raise WorkerLied("the worker was stopped: it ended its task with jobs that are not over")

    def _tell(self, made: tuple[int, ...]) -> None:
        for number, (done, in_all) in enumerate(zip(made, self._planned, strict=False)):
            self._told(number, done, in_all)

    def _per_job(self, numbers: tuple[int, ...]) -> tuple[int, ...]:
        if len(numbers) > len(self._jobs):
            raise WorkerLied("the worker was stopped: it counts more jobs than it was given")
        return numbers

    def _asked(self, number: int, output: int) -> tuple[_Collected, Output] | None:
        """The job and output that an event speaks of; None where a thread of the worker was still busy with what
        another thread, or the supervisor, had given up."""
        if number >= len(self._jobs) or output >= len(self._jobs[number].outputs):
            raise WorkerLied("the worker was stopped: it speaks of an output that it was not asked for")
        job = self._jobs[number]
        if job.stopped or output in job.failures or (job.over and job.failures):
            return None
        if output in job.reports or job.over:
            raise WorkerLied("the worker was stopped: it speaks of an output that is over")
        return job, job.outputs[output]


def _look_at(descriptor: int) -> tuple[int, bytes]:
    """The size and the beginning of an open file."""
    return os.fstat(descriptor).st_size, os.pread(descriptor, _HEADER, 0)


def _said(code: str, message: str, output: str | None = None, *, storing: bool = False) -> Failure:
    """A failure in a worker's words, which may only speak of the job and its source; and where it is `storing` of the
    store."""
    failure = from_dict({"code": code, "message": message, "output": output})
    allowed = isinstance(failure, BadJob | SourceFailure) or (storing and isinstance(failure, StoreFailure))
    if not allowed and type(failure) is not Failure:
        raise WorkerLied(f"the worker was stopped: it may not say {code!r}")
    return failure
