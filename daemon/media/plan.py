"""Wanted instants to runs: what one opening reads in one go. Pure.

Runs are independent, so threads take them from one queue; small runs keep all threads busy to the end (38 exact
pictures on two threads: 3.2 s with fine-grained runs, 4.2 s with two halves).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeVar, overload

T = TypeVar("T")
How = Literal["exact", "keyframe", "nearest"]


@dataclass(frozen=True, order=True, slots=True)
class Instant:
    """A point on the stream's own time line in ticks of its time base (not rounded), and which frame stands for it."""

    ticks: Fraction
    how: How = "exact"

    @property
    def limit(self) -> int:
        """The last whole tick not after the instant: a frame is shown at it if its PTS is <= this."""
        return self.ticks.numerator // self.ticks.denominator


class Lazy(Sequence[T]):
    """`make(n)` for each n of a range, made when it is asked for: of a long film there may be a million."""

    def __init__(self, make: Callable[[int], T], numbers: range) -> None:
        self._make = make
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> "Lazy[T]": ...
    def __getitem__(self, index: int | slice) -> "T | Lazy[T]":
        if isinstance(index, slice):
            return Lazy(self._make, self._numbers[index])
        return self._make(self._numbers[index])


@dataclass(frozen=True, slots=True)
class Run:
    """Instants in ascending order, all of one kind. `in_turn`: frames must come in the order of their instants."""

    instants: Sequence[Instant]
    in_turn: bool = False


def plan(
    wanted: Iterable[Instant],
    group_of: Callable[[int], int | None],
    together: Fraction,
    first: Iterable[Instant] = (),
) -> list[Run]:
    """Groups instants into runs, in the order in which they should be taken: those of `first` before the others.

    `group_of(ticks)` numbers the groups of pictures, None where the container does not tell. Exact instants of one
    group share a run, since they share its decoding. Where the groups are unknown, instants at most `together` ticks
    apart do. Each keyframe instant is a run of its own: it costs one packet.
    """
    runs: list[Run] = []
    groups: dict[int, list[Instant]] = {}
    count, previous = 0, None
    for instant in sorted(set(wanted)):
        if instant.how != "exact":
            runs.append(Run((instant,)))
            continue
        group = group_of(instant.limit)
        if group is None:
            if previous is not None and instant.ticks - previous > together:
                count += 1
            group, previous = count, instant.ticks
        groups.setdefault(group, []).append(instant)
    early = frozenset(first)
    runs += [Run(tuple(instants)) for instants in groups.values()]
    return sorted(runs, key=lambda run: (early.isdisjoint(run.instants), run.instants[0].ticks))
