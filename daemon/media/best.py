"""The search for the best picture of a video, or of each interval of a series. Pure but for the frames it is shown.

**Bounded.** Of a whole video 20 keyframes, spread evenly, are decoded and scored, and each only once where an index
tells them apart. Only where fewer than three of them show anything (a short clip of one group of pictures that fades
in, say) other frames are looked at: four each from the keyframes at three places, up to 4 s on. So no more than 23
keyframes are decoded, and beyond them 12 s of video. Of an interval of a series four keyframes are scored at most; one
that holds none has its ordinary picture.

**Never black where anything else was found**: a blank picture is chosen only if all are. Of near-duplicates (a title
card that stands for a minute, a static camera) only the first counts. In a series a picture that resembles the one
before gives way to another that is nearly as good.

**Deterministic**: scores are rounded, and the earlier one of two equals wins, in whatever order threads bring them.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from daemon.media.container import Container
from daemon.media.facts import Facts
from daemon.media.geometry import Layout, fit_into
from daemon.media.plan import How, Instant
from daemon.media.score import Score, score
from daemon.media.studio import Studio, View

Interval = tuple[Fraction, Fraction]  # seconds from the first frame: from, and before

OF_A_VIDEO = 20
OF_AN_INTERVAL = 4
_ENOUGH = 3  # pictures that show something
_PLACES = 3  # from which more frames are looked at where there are not enough
_FURTHER = (Fraction(1, 2), Fraction(1), Fraction(2), Fraction(4))  # seconds on from there
_BOX = (160, 160)  # pixels, in which pictures are scored
_NEARLY = 0.7  # of the best score: good enough for the sake of variety


@dataclass(frozen=True)
class Choice:
    """The frame chosen: `time` in seconds from the first frame, where `how` finds it again."""

    time: Fraction
    how: How
    score: float


@dataclass(frozen=True)
class _Candidate:
    time: Fraction
    how: How
    score: Score


class Search:
    """One search. `instants` are to be shown to `take` with their index; then `further` may want more, once."""

    def __init__(self, intervals: Sequence[Interval], each: int, facts: Facts, container: Container) -> None:
        self._intervals = intervals
        self._facts = facts
        self._lock = threading.Lock()
        self._found: list[dict[Fraction, _Candidate]] = [{} for _ in intervals]
        self.instants: list[Instant] = []
        self._interval_of: list[int] = []
        for number, interval in enumerate(intervals):
            self._want(number, _keyframes(interval, each, facts, container), facts.how("keyframe"))

    def take(self, index: int, view: View, studio: Studio) -> None:
        """Scores a frame for the instant with this index."""
        number = self._interval_of[index]
        begin, end = self._intervals[number]
        if not (begin <= view.time < end or view.time == begin == 0):
            return
        small = fit_into(_BOX, view.display).scaled
        scored = score(studio.shape(view, Layout(small, small)))
        with self._lock:
            self._found[number].setdefault(view.time, _Candidate(view.time, self.instants[index].how, scored))

    def further(self) -> range:
        """The indexes of instants that are to be shown as well, where too little was found."""
        before = len(self.instants)
        if len(self._intervals) > 1:
            return range(before, before)
        for number, (begin, end) in enumerate(self._intervals):
            found = self._found[number]
            if sum(not candidate.score.blank for candidate in found.values()) >= _ENOUGH:
                continue
            times = sorted(found) or [begin]
            places = times[:: max(1, len(times) // _PLACES)][:_PLACES]
            wanted = {place + step for place in places for step in _FURTHER if place + step < end}
            self._want(number, sorted(wanted - found.keys()), "exact")
        return range(before, len(self.instants))

    def choices(self) -> list[Choice | None]:
        """For each interval its best frame, None where none could be decoded."""
        chosen: list[Choice | None] = []
        before: Score | None = None
        for found in self._found:
            best = _best(sorted(found.values(), key=lambda candidate: candidate.time), before)
            if best is None:
                chosen.append(None)
            else:
                before = best.score
                chosen.append(Choice(best.time, best.how, best.score.value))
        return chosen

    def _want(self, number: int, times: Sequence[Fraction], how: How) -> None:
        self.instants += [Instant(self._facts.ticks(time), how) for time in times]
        self._interval_of += [number] * len(times)


def _keyframes(interval: Interval, each: int, facts: Facts, container: Container) -> list[Fraction]:
    """Times in seconds, spread evenly, of which no two have the same keyframe where an index tells."""
    begin, end = interval
    if facts.end - facts.start <= facts.step:
        return [begin]
    times: dict[object, Fraction] = {}
    for n in range(each):
        time = begin + (end - begin) * Fraction(2 * n + 1, 2 * each)
        ticks = facts.ticks(time)
        following = container.next_keyframe(ticks.numerator // ticks.denominator) if container.indexed else time
        times.setdefault(following, time)
    return list(times.values())


def _best(candidates: Sequence[_Candidate], before: Score | None) -> _Candidate | None:
    """Of candidates in order of time."""
    distinct: list[_Candidate] = []
    for candidate in candidates:
        if not any(candidate.score.resembles(other.score) for other in distinct):
            distinct.append(candidate)
    if not distinct:
        return None
    shown = [candidate for candidate in distinct if not candidate.score.blank] or distinct
    best = max(shown, key=_value)
    if before is not None and best.score.resembles(before):
        others = [c for c in shown if not c.score.resembles(before) and _value(c) >= _NEARLY * _value(best)]
        best = max(others, key=_value, default=best)
    return best


def _value(candidate: _Candidate) -> float:
    return candidate.score.value
