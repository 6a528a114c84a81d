"""A task from top to bottom: open the source, measure it, plan, let threads take the runs, hand out what they make."""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from time import perf_counter

from daemon.errors import AtPastEnd, Failure, StoreFailure
from daemon.job import Animation, Clip, FrameNumber, Output, Sprite, Thumbnail, Thumbnails
from daemon.media.animation import AnimationMaker
from daemon.media.clip import ClipMaker
from daemon.media.demux import Demuxer, Facts, measure
from daemon.media.device import Device, sample_aspect
from daemon.media.moving import MovingMaker, stretch
from daemon.media.outputs import MAKERS, Maker, Making, series
from daemon.media.plan import Instant, Lazy, Run, plan
from daemon.media.reading import Shown
from daemon.media.sink import Sink
from daemon.media.source import Source
from daemon.media.stamps import time_of_frame
from daemon.media.studio import Clock, Studio, View
from daemon.media.video import Track
from daemon.task import (
    FileMade,
    JobOver,
    Limits,
    OutputFailed,
    OutputMade,
    Planned,
    Progress,
    SourceMeasured,
    StageTimes,
    Task,
    TaskOver,
)

_DECODED_FRAMES = 8  # that a decoder holds, about: references and those not yet shown
_EIGHT_BIT = frozenset({"h264", "mpeg4", "mpeg2video", "mpeg1video", "vp8", "mjpeg", "flv1", "h263"})  # nearly always
_TOGETHER = Fraction(2)  # seconds between exact instants that share a run where the groups of pictures are unknown

Sent = FileMade | OutputMade | OutputFailed | JobOver | Planned | SourceMeasured
Emit = Callable[[Sent, bytes], None]
Consumers = dict[Instant, list[tuple[Maker, int]]]


class _Unwanted(Exception):
    """Nobody waits for the output any more."""


class Rendering:
    """One task on one source. `run` sends every event through `emit` (thread-safe) and returns the last one. `sinks`:
    where the outputs go that are written to a file, by their job and number."""

    def __init__(
        self, task: Task, source: Source, sinks: Mapping[tuple[int, int], Sink], device: Device, emit: Emit
    ) -> None:
        self._task = task
        self._sinks = sinks
        self._source = source
        self._device = device
        self._emit = emit
        self._clock = Clock()
        self._tracks: list[Track] = []
        self._jobs: list[list[Making]] = []
        self._over: set[int] = set()
        self._lock = threading.Lock()
        self._broken = False
        self._measured = False

    def stop(self, jobs: tuple[int, ...]) -> None:
        """Goes on with nothing of these jobs."""
        with self._lock:
            self._over.update(jobs)

    def progress(self) -> Progress:
        """How far it is; any thread may ask."""
        pictures = (sum(maker.taken for maker in makers) for makers in self._jobs)
        packets = sum(track.packets_sent for track in self._tracks) + self._source.bytes_read
        return Progress(packets=packets, pictures=tuple(pictures))

    def run(self) -> TaskOver:
        error: Failure | None = None
        try:
            self._render()
        except Failure as failure:
            error = failure
        return TaskOver(
            code=error.code if error else None,
            message=error.message if error else "",
            times=self._times(),
            read_bytes=self._source.bytes_read,
            frames=sum(track.frames_decoded for track in self._tracks),
        )

    def _render(self) -> None:
        with self._clock.timing("open"):
            demuxer = Demuxer(self._source)
            self._facts = measure(demuxer)
        self._studio = Studio(self._device, self._facts, self._task.background, self._clock)
        consumers = self._prepare(demuxer)
        self._emit(Planned(pictures=tuple(sum(len(m.ats) for m in makers) for makers in self._jobs)), b"")
        stills = [maker for maker in self._jobs[0] if isinstance(maker, Maker)]
        first = [self._instant(maker, n) for maker in stills for n in range(len(maker.ats))]
        together = _TOGETHER / self._facts.time_base
        group_of = demuxer.group if self._facts.timing != "counted" else _one_group
        # What moves takes longest: begun first it is over soonest, but the first job does not wait for the others'.
        moving = [m for makers in self._jobs for m in makers if isinstance(m, MovingMaker)]
        runs: deque[Run | MovingMaker] = deque(plan(consumers, group_of, together, first))
        runs.extendleft(m for m in moving if m.job == 0)
        runs.extend(m for m in moving if m.job > 0)
        openings = [demuxer, *(None for _ in range(_threads(self._task, self._facts, len(runs)) - 1))]
        with ThreadPoolExecutor(len(openings), thread_name_prefix="run") as pool:
            for done in [pool.submit(self._take_runs, runs, consumers, opening) for opening in openings]:
                done.result()
        if not self._measured:
            self._tell_measured(self._facts.width, self._facts.height)

    # What is wanted.

    def _prepare(self, demuxer: Demuxer) -> Consumers:
        consumers: Consumers = defaultdict(list)
        for job, outputs in enumerate(self._task.jobs):
            makers: list[Making] = []
            self._jobs.append(makers)
            for number, asked in enumerate(outputs):
                try:
                    makers.append(self._maker(asked, (job, number), demuxer))
                except Failure as failure:
                    self._fail(job, number, asked, failure)
            for maker in makers:
                if isinstance(maker, Maker):
                    for n in range(len(maker.ats)):
                        consumers[self._instant(maker, n)].append((maker, n))
            self._end_if_over(job)
        return consumers

    def _maker(self, asked: Output, place: tuple[int, int], demuxer: Demuxer) -> Making:
        limits = self._task.limits
        if isinstance(asked, Clip):
            wanted = stretch(asked, demuxer, self._facts, limits.pictures)
            sink = self._sinks[place]
            return ClipMaker(asked, wanted, place, self._studio, self._emit, sink, self._source)
        if isinstance(asked, Animation):
            wanted = stretch(asked, demuxer, self._facts, limits.pictures)
            return AnimationMaker(asked, wanted, place, self._studio, self._emit, self._sinks[place])
        ats, warnings = _instants(asked, demuxer, self._facts, limits)
        maker = MAKERS[type(asked)](asked, ats, place, self._studio, self._emit)
        maker.warnings += warnings
        return maker

    def _instant(self, maker: Making, index: int) -> Instant:
        return Instant(self._facts.ticks(maker.ats[index]), maker.asked.accuracy)

    # What is made.

    def _take_runs(self, runs: deque[Run | MovingMaker], consumers: Consumers, demuxer: Demuxer | None) -> None:
        track: Track | None = None
        try:
            while runs and not self._broken:
                try:
                    run = runs.popleft()
                except IndexError:
                    break
                if track is None:
                    track = self._open_track(demuxer)
                if isinstance(run, Run):
                    self._take_run(track, run, consumers)
                elif self._wants(run):
                    self._take_moving(track, run)
        except BaseException:
            self._broken = True
            raise
        finally:
            if track is not None:
                track.close()
            elif demuxer is not None:
                demuxer.close()

    def _open_track(self, demuxer: Demuxer | None) -> Track:
        with self._clock.timing("open"):
            track = Track(demuxer or Demuxer(self._source), self._facts, self._device, self._task.limits.held_bytes)
        with self._lock:
            self._tracks.append(track)
        return track

    def _take_run(self, track: Track, run: Run, consumers: Consumers) -> None:
        left = [instant for instant in run.instants if any(self._wants(m) for m, _ in consumers[instant])]
        while left and not self._broken:
            try:
                for shown in self._timed(track.frames(Run(tuple(left)))):
                    left.remove(shown.instant)
                    self._hand_out(track, shown, consumers[shown.instant])
                    if self._broken:
                        return
            except Failure as failure:
                if failure.retry:
                    raise
                for maker, _ in consumers[left.pop(0)]:
                    self._fail(maker.job, maker.output, maker.asked, failure)
                    self._end_if_over(maker.job)
                left = [instant for instant in left if any(self._wants(m) for m, _ in consumers[instant])]

    def _take_moving(self, track: Track, maker: MovingMaker) -> None:
        try:
            maker.make(self._views(track, maker))
        except _Unwanted:
            return
        except Failure as failure:
            if failure.retry and not isinstance(failure, StoreFailure):
                raise
            self._fail(maker.job, maker.output, maker.asked, failure)
        self._end_if_over(maker.job)

    def _views(self, track: Track, maker: MovingMaker) -> Iterator[View]:
        instants = Lazy(lambda n: self._instant(maker, n), range(len(maker.ats)))
        for shown in self._timed(track.frames(Run(instants, in_turn=True))):
            if self._broken or not self._wants(maker):
                raise _Unwanted
            yield self._view(track, shown)

    def _timed(self, frames: Iterator[Shown]) -> Iterator[Shown]:
        while True:
            begun = perf_counter()
            shown = next(frames, None)
            self._clock.add("decode", perf_counter() - begun)
            if shown is None:
                return
            yield shown

    def _hand_out(self, track: Track, shown: Shown, takers: list[tuple[Maker, int]]) -> None:
        view = self._view(track, shown)
        for maker, index in takers:
            if not self._wants(maker):
                continue
            try:
                maker.take(index, view)
            except Failure as failure:
                self._fail(maker.job, maker.output, maker.asked, failure)
            self._end_if_over(maker.job)

    def _view(self, track: Track, shown: Shown) -> View:
        view = self._studio.view(shown.frame, shown.pts, sample_aspect(track.stream), shown.exact)
        if not self._measured:
            self._tell_measured(*self._studio.nominal_display(view))
        return view

    def _wants(self, maker: Making) -> bool:
        return not maker.over and maker.job not in self._over

    # What is told.

    def _times(self) -> StageTimes:
        return StageTimes(**{stage: self._clock.spent(stage) for stage in StageTimes.model_fields})

    def _tell_measured(self, width: int, height: int) -> None:
        with self._lock:
            if self._measured:
                return
            self._measured = True
        facts = self._facts
        self._emit(
            SourceMeasured(
                duration=round(float(facts.duration), 6),
                width=width,
                height=height,
                codec=facts.codec,
                fps=facts.fps,
                warnings=facts.warnings,
            ),
            b"",
        )

    def _fail(self, job: int, output: int, asked: Output, failure: Failure) -> None:
        with self._lock:
            if job in self._over:
                return
            for maker in self._jobs[job]:
                if maker.output == output:
                    if maker.over:
                        return
                    maker.over = True
            # A full disk is no fault of the output: the job waits until there is room.
            fatal = not asked.optional or isinstance(failure, StoreFailure)
            if fatal:
                self._over.add(job)
        self._emit(OutputFailed(job=job, output=output, code=failure.code, message=failure.message), b"")
        if fatal:
            self._emit(JobOver(job=job, times=self._times()), b"")

    def _end_if_over(self, job: int) -> None:
        with self._lock:
            if job in self._over or not all(maker.over for maker in self._jobs[job]):
                return
            self._over.add(job)
        self._emit(JobOver(job=job, times=self._times()), b"")


def _one_group(ticks: int) -> int:
    return 0


def _instants(
    asked: Thumbnail | Thumbnails | Sprite, demuxer: Demuxer, facts: Facts, limits: Limits
) -> tuple[list[Fraction], list[str]]:
    duration = facts.duration
    if not isinstance(asked, Thumbnail):
        return series(asked, duration, limits.pictures)
    if isinstance(asked.at, FrameNumber):
        return [time_of_frame(demuxer, facts, asked.at.frame)], []
    at = asked.at.seconds(duration)
    if at > duration:
        raise AtPastEnd(f"at is {float(at):g} s, but the video ends after {float(duration):.3f} s")
    return [at], []


def _threads(task: Task, facts: Facts, runs: int) -> int:
    """As many as there are runs, unless so many decoders would hold too many decoded frames. One of 4K HEVC in 10 bit
    was measured to hold 210 MB: eight frames and a little."""
    pixel = 1.5 if facts.codec in _EIGHT_BIT else 3.0
    decoder = facts.width * facts.height * pixel * _DECODED_FRAMES
    return max(1, min(task.threads, runs, int(task.limits.decoded_bytes / max(1.0, decoder))))
