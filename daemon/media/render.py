"""A task from top to bottom: open the source, measure it, plan, let threads take the runs, hand out what they make."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from fractions import Fraction
from functools import partial
from time import perf_counter

from daemon.errors import Failure, StoreFailure
from daemon.media.animation import AnimationMaker
from daemon.media.best import Choice, Interval, Search
from daemon.media.clip import ClipMaker
from daemon.media.container import Container, open_container
from daemon.media.device import Hardware, Unfit
from daemon.media.facts import Facts
from daemon.media.geometry import Layout
from daemon.media.moving import MovingMaker, stretch
from daemon.media.outputs import MAKERS, Maker, Making
from daemon.media.plan import Instant, Lazy, Run, plan
from daemon.media.pool import Piece, Pool
from daemon.media.reading import Shown
from daemon.media.sink import Sink
from daemon.media.source import Source
from daemon.media.studio import Clock, Studio, View
from daemon.media.video import Track
from daemon.media.wanted import Stills, instants, intervals, is_searched
from daemon.outputs import Animation, Clip, Output
from daemon.task import (
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

_DECODED_FRAMES = 8  # that a decoder holds, about: references and those not yet shown
_EIGHT_BIT = frozenset({"h264", "mpeg4", "mpeg2video", "mpeg1video", "vp8", "mjpeg", "flv1", "h263"})  # nearly always
_TOGETHER = Fraction(2)  # seconds between exact instants that share a run where the groups of pictures are unknown

Sent = FellBack | FileMade | OutputMade | OutputFailed | JobOver | Planned | SourceMeasured
Emit = Callable[[Sent, bytes], None]
Consumers = dict[Instant, list[tuple[Maker, int]]]


class _Unwanted(Exception):
    """Nobody waits for the output any more."""


class Rendering:
    """One task on one source. `run` sends every event through `emit` (thread-safe) and returns the last one. `sinks`:
    where the outputs go that are written to a file, by their job and number; those that are begun anew are replaced."""

    def __init__(
        self, task: Task, source: Source, sinks: MutableMapping[tuple[int, int], Sink], hardware: Hardware, emit: Emit
    ) -> None:
        self._task = task
        self._sinks = sinks
        self._source = source
        self._hardware = hardware
        self._emit = emit
        self._clock = Clock()
        self._over: set[int] = set()
        self._lock = threading.Lock()
        self._warnings: tuple[str, ...] = ()
        self._made: set[tuple[int, int]] = set()  # outputs that are over, with the device before
        self._begin()

    def _begin(self) -> None:
        self._pool = Pool(self._open_track)
        self._jobs: list[list[Making]] = []
        self._measured = False
        self._found: dict[tuple[Interval, ...], list[Choice | None]] = {}

    def stop(self, jobs: tuple[int, ...]) -> None:
        """Goes on with nothing of these jobs."""
        with self._lock:
            self._over.update(jobs)

    def progress(self) -> Progress:
        """How far it is; any thread may ask."""
        pictures = (sum(maker.taken for maker in makers) for makers in self._jobs)
        return Progress(packets=self._pool.packets_sent + self._source.bytes_read, pictures=tuple(pictures))

    def run(self) -> TaskOver:
        error: Failure | None = None
        try:
            try:
                self._render()
            except Unfit as unfit:
                self._fall_back(unfit)
                self._render()
        except Failure as failure:
            error = failure
        return TaskOver(
            code=error.code if error else None,
            message=error.message if error else "",
            times=self._times(),
            read_bytes=self._source.bytes_read,
            frames=self._pool.frames_decoded,
        )

    def _fall_back(self, unfit: Unfit) -> None:
        """Begins anew with the device that does what this one cannot. What was made is not made again."""
        if self._hardware.otherwise is None:
            raise unfit
        self._emit(FellBack(reason=unfit.reason), b"")
        self._hardware = self._hardware.otherwise
        self._warnings = (f"decoded by the CPU: {unfit.message}",)
        self._made |= {(maker.job, maker.output) for makers in self._jobs for maker in makers if maker.over}
        for place, sink in self._sinks.items():
            if place not in self._made:
                self._sinks[place] = sink.anew()
        self._begin()

    def _render(self) -> None:
        with self._clock.timing("open"):
            container = open_container(self._source)
            self._facts = container.measure()
            try:
                self._device = container.fit(self._hardware, timed=self._facts.timing == "shown")
            except Exception:
                container.close()
                raise
        self._studio = Studio(self._device, self._facts, self._task.background, self._clock)
        try:
            self._pool.add(self._track(container))
            consumers = self._prepare(container)
            self._emit(Planned(pictures=tuple(sum(len(m.ats) for m in makers) for makers in self._jobs)), b"")
            stills = [maker for maker in self._jobs[0] if isinstance(maker, Maker)]
            first = [self._instant(maker, n) for maker in stills for n in range(len(maker.ats))]
            runs = self._runs(consumers, container, first)
            moving = [m for makers in self._jobs for m in makers if isinstance(m, MovingMaker)]
            # What moves takes longest: begun first it is over soonest, but the first job does not wait for the others'.
            self._work(
                [
                    *(partial(self._make_moving, m) for m in moving if m.job == 0),
                    *(partial(self._make, run, consumers) for run in runs),
                    *(partial(self._make_moving, m) for m in moving if m.job > 0),
                ]
            )
        finally:
            self._pool.close()
        if not self._measured:
            self._tell_measured(self._facts.width, self._facts.height)

    def _runs(self, wanted: Iterable[Instant], container: Container, first: Iterable[Instant] = ()) -> list[Run]:
        group_of = container.group if self._facts.timing != "counted" else _one_group
        return plan(wanted, group_of, _TOGETHER / self._facts.time_base, first)

    # What is wanted.

    def _prepare(self, container: Container) -> Consumers:
        consumers: Consumers = defaultdict(list)
        for job, outputs in enumerate(self._task.jobs):
            makers: list[Making] = []
            self._jobs.append(makers)
            for number, asked in enumerate(outputs):
                if (job, number) in self._made:
                    continue
                try:
                    makers.append(self._maker(asked, (job, number), container))
                except Failure as failure:
                    if failure.retry:
                        raise
                    self._fail(job, number, asked, failure)
            for maker in makers:
                if isinstance(maker, Maker):
                    for n in range(len(maker.ats)):
                        consumers[self._instant(maker, n)].append((maker, n))
            self._end_if_over(job)
        return consumers

    def _maker(self, asked: Output, place: tuple[int, int], container: Container) -> Making:
        limits = self._task.limits
        if isinstance(asked, Clip):
            wanted = stretch(asked, container, self._facts, limits.pictures)
            return ClipMaker(asked, wanted, place, self._studio, self._emit, self._sinks[place], self._source)
        if isinstance(asked, Animation):
            wanted = stretch(asked, container, self._facts, limits.pictures)
            return AnimationMaker(asked, wanted, place, self._studio, self._emit, self._sinks[place])
        choices: list[Choice | None] = self._search(asked, container) if is_searched(asked) else []
        ats, warnings = instants(asked, container, self._facts, limits.pictures, choices)
        maker = MAKERS[type(asked)](asked, ats, place, self._studio, self._emit)
        maker.warnings += warnings
        maker.choices = {n: choice for n, choice in enumerate(choices) if choice is not None}
        return maker

    def _instant(self, maker: Maker, index: int) -> Instant:
        if (choice := maker.choices.get(index)) is not None:
            return Instant(self._facts.ticks(choice.time), choice.how)
        return Instant(self._facts.ticks(maker.ats[index]), self._facts.how(maker.asked.accuracy))

    def _search(self, asked: Stills, container: Container) -> list[Choice | None]:
        """The best frame of the video, or of each interval of a series; searched but once for outputs that want the
        same."""
        places, each = intervals(asked, self._facts.duration, self._task.limits.pictures)
        if (found := self._found.get(places)) is None:
            search = Search(places, each, self._facts, container)
            self._show(search, range(len(search.instants)), container)
            self._show(search, search.further(), container)
            found = self._found[places] = search.choices()
        return found

    def _show(self, search: Search, indexes: range, container: Container) -> None:
        """Shows frames to a search; where one cannot be decoded it has to do without."""
        wanted: dict[Instant, list[int]] = defaultdict(list)
        for index in indexes:
            wanted[search.instants[index]].append(index)

        def show(run: Run, track: Track) -> None:
            for shown in self._frames(track, run, lambda _: True, lambda *_: None):
                for index in wanted[shown.instant]:
                    search.take(index, self._view(track, shown), self._studio)

        self._work([partial(show, run) for run in self._runs(wanted, container)])

    # What is made.

    def _work(self, pieces: Sequence[Piece]) -> None:
        self._pool.work(pieces, _threads(self._task, self._facts, len(pieces)))

    def _open_track(self) -> Track:
        with self._clock.timing("open"):
            return self._track(open_container(self._source))

    def _track(self, container: Container) -> Track:
        return Track(container, self._facts, self._device, self._task.limits.held_bytes)

    def _make(self, run: Run, consumers: Consumers, track: Track) -> None:
        def wanted(instant: Instant) -> bool:
            return any(self._wants(maker) for maker, _ in consumers[instant])

        def lost(instant: Instant, failure: Failure) -> None:
            for maker, _ in consumers[instant]:
                self._fail(maker.job, maker.output, maker.asked, failure)
                self._end_if_over(maker.job)

        for shown in self._frames(track, run, wanted, lost):
            self._hand_out(self._view(track, shown), consumers[shown.instant])

    def _frames(
        self,
        track: Track,
        run: Run,
        wanted: Callable[[Instant], bool],
        lost: Callable[[Instant, Failure], None],
    ) -> Iterator[Shown]:
        """The frames of a run; `lost` hears of those that cannot be decoded. Raises failures that may pass."""
        left = [instant for instant in run.instants if wanted(instant)]
        while left and not self._pool.broken:
            try:
                for shown in self._timed(track.frames(Run(tuple(left)))):
                    left.remove(shown.instant)
                    yield shown
                    if self._pool.broken:
                        return
            except Failure as failure:
                if failure.retry:
                    raise
                lost(left.pop(0), failure)
                left = [instant for instant in left if wanted(instant)]

    def _make_moving(self, maker: MovingMaker, track: Track) -> None:
        if not self._wants(maker):
            return
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
        instants = Lazy(lambda n: Instant(self._facts.ticks(maker.ats[n])), range(len(maker.ats)))
        for shown in self._timed(track.frames(Run(instants, in_turn=True))):
            if self._pool.broken or not self._wants(maker):
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

    def _view(self, track: Track, shown: Shown) -> View:
        look = track.look(shown.frame)
        view = self._studio.view(shown.frame, shown.pts, look, shown.exact)
        if not self._measured:
            self._tell_measured(*self._studio.nominal_display(view), look.colour.warning)
        return view

    def _hand_out(self, view: View, takers: list[tuple[Maker, int]]) -> None:
        self._studio.shape_all(view, self._layouts(view, takers))
        for maker, index in takers:
            if not self._wants(maker):
                continue
            try:
                maker.take(index, view)
            except Failure as failure:
                self._fail(maker.job, maker.output, maker.asked, failure)
            self._end_if_over(maker.job)

    def _layouts(self, view: View, takers: list[tuple[Maker, int]]) -> Iterator[Layout]:
        for maker, _ in takers:
            if self._wants(maker) and not maker.asked.rotate:  # what is turned is shaped by itself
                try:
                    layout = maker.layout(view)
                except Failure:
                    continue  # it says so when it takes the view
                yield layout

    def _wants(self, maker: Making) -> bool:
        return not maker.over and maker.job not in self._over

    # What is told.

    def _times(self) -> StageTimes:
        return StageTimes(**{stage: self._clock.spent(stage) for stage in StageTimes.model_fields})

    def _tell_measured(self, width: int, height: int, warning: str | None = None) -> None:
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
                warnings=(*self._warnings, *facts.warnings, *([] if warning is None else [warning])),
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


def _threads(task: Task, facts: Facts, runs: int) -> int:
    """As many as there are runs, unless so many decoders would hold too many decoded frames. One of 4K HEVC in 10 bit
    was measured to hold 210 MB: eight frames and a little."""
    pixel = 1.5 if facts.codec in _EIGHT_BIT else 3.0
    decoder = facts.width * facts.height * pixel * _DECODED_FRAMES
    return max(1, min(task.threads, runs, int(task.limits.decoded_bytes / max(1.0, decoder))))
