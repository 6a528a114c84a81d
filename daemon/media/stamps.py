"""When frames are shown, read from the packets alone: nothing is decoded."""

from array import array
from fractions import Fraction
from heapq import heappop, heappush
from math import floor

from daemon.errors import AtPastEnd
from daemon.media.container import Container
from daemon.media.facts import Facts


def time_of_frame(container: Container, facts: Facts, number: int) -> Fraction:
    """Presentation time in seconds of the frame with this number in display order, the first is 0. Reads the packets
    up to it: only their times tell where variable frame rates put it. Raises AtPastEnd."""
    if facts.timing == "counted":
        at = number * facts.step * facts.time_base
        if at >= facts.duration:
            raise AtPastEnd(f"frame {number} is asked for, but the video ends after {float(facts.duration):.3f} s")
        return at
    container.rewind()
    pending: list[int] = []
    passed = -1
    for packet in container.packets():
        stamp = packet.pts if facts.timing == "shown" else packet.dts
        if stamp is None or packet.is_discard or stamp < facts.start:
            continue
        heappush(pending, stamp)
        # A packet's DTS is not after any later packet's PTS: what lies before it is in its final order.
        while packet.dts is not None and pending and pending[0] <= packet.dts:
            passed, time = passed + 1, heappop(pending)
            if passed == number:
                return facts.seconds(time)
    while pending:
        passed, time = passed + 1, heappop(pending)
        if passed == number:
            return facts.seconds(time)
    raise AtPastEnd(f"frame {number} is asked for, but the video has {passed + 1} frames: the last is {passed}")


def frames_between(container: Container, facts: Facts, start: Fraction, end: Fraction) -> "array[int]":
    """The presentation times of the frames shown after `start` and before `end` (seconds from the first frame), in
    ticks, ascending. Reads the packets from a key packet at or before `start` on."""
    after, before = facts.ticks(start), facts.ticks(end)
    if facts.timing == "counted":
        first = floor((after - facts.start) / facts.step) + 1
        times = range(facts.start + first * facts.step, 1 << 62, facts.step)
        return array("q", times[: max(0, -((times[0] - before) // facts.step))])
    seek, step = floor(after), 1 / facts.time_base
    while seek > facts.start:
        container.seek(seek)
        found = _between(container, facts, after, before, from_start=False)
        if found is not None:
            return found
        seek, step = seek - int(step), step * 4
    container.rewind()
    return _between(container, facts, after, before, from_start=True) or array("q")


def _between(
    container: Container, facts: Facts, after: Fraction, before: Fraction, *, from_start: bool
) -> "array[int] | None":
    """None where no key packet was met early enough: frames may lie before where reading began."""
    entered = from_start
    found = set()
    for packet in container.packets():
        stamp = packet.pts if facts.timing == "shown" else packet.dts
        if stamp is not None and stamp >= facts.start and not packet.is_discard:
            entered = entered or (packet.is_keyframe and stamp <= after)
            if after < stamp < before:
                found.add(stamp)
        if packet.dts is not None and packet.dts > after:
            if not entered:
                return None
            if packet.dts >= before:
                break
    return array("q", sorted(found)) if entered else None
