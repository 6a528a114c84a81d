"""Which packet is the picture at t, and which packets must be decoded for it. Pure: stamps in, positions out.

The picture at t is the frame with the largest presentation time <= t. Never PTS + duration: durations are guessed or
absent. A packet's frame can be decoded from a key packet whose PTS is not after its own (a frame before its key
packet in display order is a leading picture and needs the group before).
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stamp:
    """What selection needs to know of a packet, times in ticks of the stream's time base."""

    pts: int
    key: bool
    shown: bool = True


@dataclass(frozen=True, slots=True)
class Span:
    """Packets [start, stop) in decode order; of these the frames at `wanted` (PTS) are to come out."""

    start: int
    stop: int
    wanted: frozenset[int] = frozenset()


def pick(stamps: Sequence[Stamp], limits: Iterable[int]) -> list[int | None]:
    """For each limit the position of the shown packet with the largest PTS <= it, None if there is none."""
    order = sorted((stamp.pts, -position) for position, stamp in enumerate(stamps) if stamp.shown)
    found = (bisect_right(order, (limit, 1)) for limit in limits)
    return [-order[n - 1][1] if n else None for n in found]


def first_shown(stamps: Sequence[Stamp]) -> int | None:
    """Position of the shown packet with the smallest PTS, None if none is shown."""
    return min((n for n, stamp in enumerate(stamps) if stamp.shown), key=lambda n: stamps[n].pts, default=None)


def entry(stamps: Sequence[Stamp], wanted: int, before: int | None = None) -> int | None:
    """Position of the key packet from which packet `wanted` can be decoded: the last with a PTS not after its own,
    and not after `before`, where that is given."""
    latest = stamps[wanted].pts if before is None else min(before, stamps[wanted].pts)
    for position in range(wanted, -1, -1):
        if stamps[position].key and stamps[position].pts <= latest:
            return position
    return None


def spans(
    stamps: Sequence[Stamp], wanted: Iterable[int], start: int | None = None, before: int | None = None
) -> list[Span]:
    """What to decode for the packets at the positions `wanted`, in decode order, overlapping stretches merged.

    `start` is where decoding may begin for packets without a key packet before them (the decoder stands there, or
    the stream begins there); `before` as in `entry`. Raises ValueError if there is no entry and no `start`.
    """
    found: list[Span] = []
    for position in sorted(set(wanted)):
        begin = entry(stamps, position, before)
        if begin is None:
            if start is None:
                raise ValueError("no key packet before the wanted one")
            begin = start
        pts = frozenset({stamps[position].pts})
        # A leading picture may reach back over several spans.
        while found and begin < found[-1].stop:
            last = found.pop()
            begin, pts = min(begin, last.start), pts | last.wanted
        found.append(Span(begin, position + 1, pts))
    return found
