"""Outputs that move: frames come in order, one after another, and go to a file that is open already."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from time import perf_counter

import av

from daemon.errors import AtPastEnd, BadJob, Failure
from daemon.media.ahead import ahead
from daemon.media.container import Container
from daemon.media.device import RGB
from daemon.media.facts import Facts
from daemon.media.geometry import Layout, Size, fit_into
from daemon.media.outputs import Emit, Making, seconds
from daemon.media.plan import Lazy
from daemon.media.sink import Sink
from daemon.media.stamps import frames_between
from daemon.media.studio import Studio, View
from daemon.outputs import Animation, Clip
from daemon.report import OutputReport
from daemon.task import FileMade, OutputMade

ANIMATION_SECONDS = Fraction(3)  # unless said otherwise
_AHEAD = 4  # pictures that wait for the encoder


@dataclass(frozen=True)
class Stretch:
    """The part of a video that is wanted, in seconds from its first frame: the frames shown at `ats`, ascending, of
    which the first is `start`."""

    start: Fraction
    end: Fraction
    ats: Sequence[Fraction]
    warnings: tuple[str, ...] = ()


def stretch(asked: Clip | Animation, container: Container, facts: Facts, most: int) -> Stretch:
    """With `fps` the instants start + n / fps before the end; without it `start` and the times of all frames shown
    after it and before the end. Raises AtPastEnd, and BadJob where an animation would have more than `most` frames; of
    a clip the time of a task and the size of a file are the bounds."""
    duration = facts.duration
    start = asked.start.seconds(duration)
    if start >= duration:
        raise AtPastEnd(f"start is {float(start):g} s, but the video ends after {float(duration):.3f} s")
    end = duration
    warnings: tuple[str, ...] = ()
    if asked.duration is not None:
        end = start + asked.duration.seconds(duration)
    elif isinstance(asked, Animation):
        end = min(start + ANIMATION_SECONDS, duration)
    if end > duration:
        warnings = (
            f"{asked.name}: it would end at {float(end):g} s, the video ends after {float(duration):.3f} s: cut there",
        )
        end = duration
    rate = asked.fps
    if rate is None:
        times = frames_between(container, facts, start, end)
        ats = Lazy(lambda n: facts.seconds(times[n - 1]) if n else start, range(len(times) + 1))
        return Stretch(start, end, ats, warnings)
    count = ceil((end - start) * rate)
    if isinstance(asked, Animation) and count > most:
        raise BadJob(f"{count} frames are asked for, {most} are allowed (setting job.pictures)")
    return Stretch(start, end, Lazy(lambda n: start + n / rate, range(count)), warnings)


class MovingMaker(Making):
    """Makes one file of all frames of a stretch: pictures are made on one thread, and encoded on another."""

    asked: Clip | Animation

    def __init__(
        self, asked: Clip | Animation, wanted: Stretch, place: tuple[int, int], studio: Studio, emit: Emit, sink: Sink
    ) -> None:
        super().__init__(asked, wanted.ats, place, studio, emit)
        self.warnings += wanted.warnings
        self._wanted = wanted
        self._sink = sink
        self._first = Fraction(0)  # presentation time of the first frame
        self._lost: list[Fraction] = []
        self._waited = 0.0  # seconds spent on waiting for pictures

    def make(self, views: Iterator[View]) -> None:
        """Takes the frame of each instant and writes the file. Raises Failure, and whatever `views` raises."""
        begun = perf_counter()
        try:
            with closing(ahead(self._pictures(views), _AHEAD)) as pictures:
                size = self._write(self._waited_for(pictures))
        except (av.FFmpegError, MemoryError) as error:
            raise Failure(f"encoding failed: {error}") from None
        finally:
            self._sink.close()
            self._studio.clock.add("encode", perf_counter() - begun - self._waited)
        self._tell(size)
        self.over = True

    @abstractmethod
    def _write(self, pictures: Iterator[RGB]) -> Size:
        """Encodes one picture for each instant into the sink, all of one size, which it gives back."""

    @abstractmethod
    def _lay_out(self, display: Size) -> Layout:
        """For the first frame's display size; all others are fitted into what comes of it."""

    @abstractmethod
    def _duration(self) -> Fraction:
        """Seconds that the file plays."""

    def _pictures(self, views: Iterator[View]) -> Iterator[RGB]:
        size: Size | None = None
        for n in range(len(self.ats)):
            view = next(views).turned(self.asked.rotate)
            if size is None:
                size = self._lay_out(self._studio.nominal_display(view)).size
                self._first = view.time
            layout = self._lay_out(view.display)
            picture = self._studio.shape(view, layout if layout.size == size else fit_into(size, view.display))
            if not view.exact:
                self._lost.append(self.ats[n])
            self.taken += 1
            yield picture

    def _waited_for(self, pictures: Iterator[RGB]) -> Iterator[RGB]:
        while True:
            begun = perf_counter()
            picture = next(pictures, None)
            self._waited += perf_counter() - begun
            if picture is None:
                return
            yield picture

    def _tell(self, size: Size) -> None:
        asked = self.asked
        if self._lost:
            self.warnings.append(
                f"{asked.name}: {len(self._lost)} frames from {float(self._lost[0]):.3f} s to "
                f"{float(self._lost[-1]):.3f} s cannot be decoded, others stand for them"
            )
        width, height = size
        written = self._sink.size
        made = FileMade(
            job=self.job,
            output=self.output,
            name=asked.file,
            format=asked.format,
            width=width,
            height=height,
            size=written,
        )
        self._emit(made, b"")
        report = OutputReport(
            name=asked.name,
            output=asked.output,
            path=asked.file,
            width=width,
            height=height,
            format=asked.format,
            bytes=written,
            at=seconds(self._wanted.start),
            time=seconds(self._first),
            duration=seconds(self._duration()),
            frames=len(self.ats),
            device=self._studio.device.name,
            tag=asked.tag,
            files=[asked.file],
        )
        told = OutputMade(job=self.job, output=self.output, report=report, warnings=tuple(self.warnings))
        self._emit(told, b"")
