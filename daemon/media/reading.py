"""One reading of the packets around some instants: what is selected of them, decoded, and comes out.

Packets without a key packet before them, frames that do not come out: what is done about that is in `video.py`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from av.packet import Packet
from av.video.stream import VideoStream

from daemon.media.container import Container
from daemon.media.device import Decoder, Frame
from daemon.media.plan import Instant
from daemon.media.select import Span, Stamp, entry, first_shown, pick, spans

_NEVER = -(1 << 63)
_MANY = 256  # instants that wait for their frames before packets are decoded


@dataclass(frozen=True, slots=True)
class Shown:
    """The frame at an instant, its PTS in ticks; `exact` is False where the wanted frame itself did not come out."""

    instant: Instant
    pts: int
    frame: Frame
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Entry:
    """Where and how a reading begins. `seek`: ticks, None for the very start. `before`: decoding begins at a key
    packet not shown after it. `thorough`: packets that nothing refers to are decoded too. `lenient`: where a wanted
    frame does not come out, the last one before it will do."""

    seek: int | None
    before: int | None = None
    thorough: bool = False
    lenient: bool = False


class NoKeyPacket(Exception):
    """What was read holds no key packet early enough."""


# Stands for all instants that are later than what was read so far: for now the same frame is the picture at each.
_LATER = Instant(Fraction((1 << 62) - 1))


class Reading:
    """One reading of the packets around some instants, and the decoding of those that they need.

    Normally all packets up to the last instant are read before any is decoded. Where they are more than `held_bytes`
    (one group of pictures may be a whole film), or the pictures of many instants are among them, they are decoded piece
    by piece, and what is the picture at an instant may be bettered by a later piece. So what is held, and the work done
    for each frame, do not grow with the number of instants.
    """

    def __init__(self, container: Container, decoder: Decoder, start: Entry, held_bytes: int) -> None:
        self._container = container
        self._decoder = decoder
        self._start = start
        self._held_bytes = held_bytes
        self._running = False  # the decoder stands right before the first held packet
        self._wanted: dict[Instant, int] = {}  # the best PTS so far
        self._kept: dict[Instant, Frame] = {}  # frames of those that a later piece may better
        self._instead: dict[Instant, Frame] = {}  # the last frame before, where the wanted one may not come out
        self._begun = 0  # PTS of the key packet from which the decoder runs
        self.entered: dict[Instant, int] = {}  # PTS of the key packet from which each was decoded

    def frames(self, instants: Sequence[Instant]) -> Iterator[Shown]:
        """The frames that come out, each for all its instants; instants whose frame does not are left out. Frames come
        in the order of their instants, but for those that stand for frames that did not come out."""
        coming, count, last = 0, len(instants), instants[-1].limit
        waiting: list[Instant] = []
        self._decoder.reset()
        if self._start.seek is None:
            self._container.rewind()
        else:
            self._container.seek(self._start.seek)
        held: list[Packet[VideoStream]] = []
        size, latest = 0, _NEVER
        for packet in self._container.packets():
            held.append(packet)
            size += packet.size
            if packet.dts is not None and packet.dts > last:
                break
            latest = max(latest, _time(packet) if packet.dts is None else max(packet.dts, _time(packet)))
            while coming < count and instants[coming].limit <= latest:
                waiting.append(self._arrived(instants[coming]))
                coming += 1
            if size > self._held_bytes or len(waiting) >= _MANY:
                first = waiting[0] if waiting else instants[coming]
                if useless := _before_last_entry(held, first.limit, self._start.before):
                    del held[:useless]
                    self._running = False
                else:
                    later = [_LATER] if coming < count else []
                    waiting += later
                    yield from self._decode(held, waiting, _time(packet) if packet.dts is None else packet.dts)
                    for instant in later:
                        waiting.remove(instant)
                    held.clear()
                size = sum(packet.size for packet in held)
                if not waiting and coming == count:
                    return
        waiting += [self._arrived(instants[n]) for n in range(coming, count)]
        self._wanted.pop(_LATER, None)
        yield from self._decode(held, waiting, None)
        for instant in waiting:
            if instant in self._kept:
                yield Shown(instant, self._wanted[instant], self._kept[instant])
            elif instant in self._instead:
                frame = self._instead[instant]
                yield Shown(instant, frame.pts or 0, frame, exact=False)

    def _arrived(self, instant: Instant) -> Instant:
        """An instant that what is read from here on may settle: until now the later ones were seen as one."""
        if _LATER in self.entered:
            self.entered[instant], self._wanted[instant] = self.entered[_LATER], self._wanted[_LATER]
        for frames in (self._kept, self._instead):
            if _LATER in frames:
                frames[instant] = frames[_LATER]
        return instant

    def _decode(
        self, held: Sequence["Packet[VideoStream]"], waiting: list[Instant], horizon: int | None
    ) -> Iterator[Shown]:
        """Decodes what the held packets give. Packets still to come are shown after `horizon`; None: none come.
        Takes the instants that are settled out of `waiting`."""
        stamps = [Stamp(_time(packet), packet.is_keyframe, not packet.is_discard) for packet in held]
        todo = self._select(stamps, waiting, horizon)
        if horizon is not None:
            # The next piece goes on from here, so all of this one is sent.
            todo = [*todo[:-1], Span(todo[-1].start, len(held), todo[-1].wanted)] if todo else [Span(0, len(held))]
        elif not todo and self._running:
            todo = [Span(len(held), len(held))]  # nothing more is sent, but frames of earlier pieces are still to come
        for instant in [each for each in waiting if each in self._kept and _settled(each, horizon)]:
            yield self._settle(instant, waiting, self._kept.pop(instant))
        due: dict[int, list[Instant]] = {}
        for instant, pts in self._wanted.items():
            due.setdefault(pts, []).append(instant)
        for span in todo:
            for frame in self._decoded(held, stamps, span, last=span is todo[-1] and horizon is not None):
                if self._start.lenient:
                    self._remember(frame, waiting)
                if frame.is_corrupt:
                    continue
                for instant in due.pop(frame.pts, ()) if frame.pts is not None else ():
                    if _settled(instant, horizon):
                        yield self._settle(instant, waiting, frame)
                    else:
                        self._kept[instant] = frame

    def _settle(self, instant: Instant, waiting: list[Instant], frame: Frame) -> Shown:
        waiting.remove(instant)
        self._instead.pop(instant, None)
        del self.entered[instant]
        return Shown(instant, self._wanted.pop(instant), frame)

    def _select(self, stamps: Sequence[Stamp], waiting: Sequence[Instant], horizon: int | None) -> list[Span]:
        at_start = self._start.seek is None and not self._running
        chosen: list[int] = []
        for instant, found in zip(waiting, pick(stamps, (instant.limit for instant in waiting)), strict=True):
            # The first frame stands for all that comes before it.
            position = first_shown(stamps) if found is None and at_start and instant not in self._wanted else found
            if position is None or stamps[position].pts <= self._wanted.get(instant, _NEVER):
                if instant not in self._wanted and (
                    horizon is None
                    or instant.limit < horizon
                    or not (self._running or self._can_enter(stamps, instant))
                ):
                    raise NoKeyPacket
                continue
            begin = entry(stamps, position, self._start.before)
            if begin is None and not self._running and self._start.seek is not None:
                raise NoKeyPacket
            self.entered[instant] = self._begun if begin is None and self._running else stamps[begin or 0].pts
            self._wanted[instant] = stamps[position].pts
            self._kept.pop(instant, None)
            chosen.append(position)
        return spans(stamps, chosen, start=0, before=self._start.before)

    def _can_enter(self, stamps: Sequence[Stamp], instant: Instant) -> bool:
        latest = instant.limit if self._start.before is None else min(instant.limit, self._start.before)
        return self._start.seek is None or any(stamp.key and stamp.pts <= latest for stamp in stamps)

    def _decoded(
        self, held: Sequence["Packet[VideoStream]"], stamps: Sequence[Stamp], span: Span, last: bool
    ) -> Iterator[Frame]:
        if span.start and self._running:
            yield from self._decoder.drain()  # frames that earlier pieces still owe
        elif not self._running:
            self._decoder.reset()
        if not (self._running and span.start == 0) and span.start < len(stamps):
            self._begun = stamps[span.start].pts
        for packet, stamp in zip(held[span.start : span.stop], stamps[span.start : span.stop], strict=True):
            yield from self._decoder.decode(packet, needed=self._start.thorough or stamp.pts in span.wanted)
        self._running = last
        if not last:
            yield from self._decoder.drain()

    def _remember(self, frame: Frame, waiting: Sequence[Instant]) -> None:
        """Keeps a frame for the instants after it; a damaged one only where there is no other."""
        for instant in waiting:
            first = instant not in self._instead
            early_enough = frame.pts is not None and (
                frame.pts <= instant.limit or (self._start.seek is None and first)
            )
            if early_enough and (first or not frame.is_corrupt):
                self._instead[instant] = frame


def _settled(instant: Instant, horizon: int | None) -> bool:
    """Whether no packet still to come can be the picture at it."""
    return horizon is None or instant.limit < horizon


def _before_last_entry(held: Sequence["Packet[VideoStream]"], limit: int, before: int | None) -> int:
    """How many packets come before the last key packet shown at or before `limit`: they are not needed for it."""
    limit = limit if before is None else min(limit, before)
    for position in range(len(held) - 1, 0, -1):
        if held[position].is_keyframe and not held[position].is_discard and _time(held[position]) <= limit:
            return position
    return 0


def _time(packet: "Packet[VideoStream]") -> int:
    """PTS in ticks; a lone packet without one is never the picture at anything."""
    if packet.pts is not None:
        return packet.pts
    return packet.dts if packet.dts is not None else 1 << 62
