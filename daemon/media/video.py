"""A run: reads packets, selects, decodes, and yields the frame for each instant.

The wanted packet is chosen before anything is decoded: read until a packet's DTS is past the instant, take the
largest PTS <= it, decode from its key packet, drop on the way what nothing refers to. Where that frame does not come
out (recovery points, gradual refresh, lone fields, damage) decoding starts one key packet further back.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from heapq import heappop, heappush

from av.packet import Packet
from av.video.stream import VideoStream

from daemon.errors import DecodeFailed
from daemon.media.container import Container
from daemon.media.device import Decoder, Device, Frame, Look
from daemon.media.facts import Facts
from daemon.media.plan import Instant, Run
from daemon.media.reading import Entry, NoKeyPacket, Reading, Shown

HELD_BYTES = 64 << 20  # packets of one group of pictures that are kept before any is decoded
_LOST_AT_ONCE = 16  # frames that are held until all of them are made good
_TRIES = 3  # so many key packets further back, then the frame before the wanted one has to do


@dataclass(frozen=True, slots=True)
class KeyPacket:
    """A key packet and its PTS in ticks."""

    pts: int
    packet: "Packet[VideoStream]"


class Counted:
    """A decoder that counts what goes through it: the measure of progress."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.frames = 0
        self.packets = 0

    def decode(self, packet: "Packet[VideoStream]", *, needed: bool) -> Iterator[Frame]:
        self.packets += 1
        for frame in self._decoder.decode(packet, needed=needed):
            self.frames += 1
            yield frame

    def drain(self) -> Iterator[Frame]:
        for frame in self._decoder.drain():
            self.frames += 1
            yield frame

    def reset(self) -> None:
        self._decoder.reset()


class Track:
    """One opening of a source and its decoder; for one thread."""

    def __init__(self, container: Container, facts: Facts, device: Device, held_bytes: int = HELD_BYTES) -> None:
        self._container = container
        self._facts = facts
        self._device = device
        self._decoder = Counted(container.decoder(device))
        self._held_bytes = held_bytes

    def look(self, frame: Frame) -> Look:
        """How a frame of this track is to be seen."""
        return self._container.look(self._device, frame)

    def frames(self, run: Run) -> Iterator[Shown]:
        """Yields once for each instant of the run. Raises DecodeFailed for the first that has no frame."""
        if self._facts.timing != "shown":
            yield from self._in_order(run.instants)
        elif run.instants[0].how == "exact":
            cut = self._facts.cut
            there = len(run.instants) if cut is None else bisect_left(run.instants, cut, key=lambda i: i.limit)
            present = run.instants[:there]
            yield from self._in_turn(present) if run.in_turn else self._exact(present)
            if there < len(run.instants):
                raise self._no_frame(run.instants[there])
        else:
            for instant in run.instants:
                yield self._keyframe(instant)

    @property
    def frames_decoded(self) -> int:
        return self._decoder.frames

    @property
    def packets_sent(self) -> int:
        return self._decoder.packets

    def close(self) -> None:
        self._decoder.reset()
        self._container.close()

    # Exact: the frame shown at the instant.

    def _exact(self, instants: Sequence[Instant]) -> Iterator[Shown]:
        remaining = list(instants)
        if not remaining:
            return
        start = Entry(instants[0].limit)
        step = 1 / self._facts.time_base
        failures = 0
        while remaining:
            reading = Reading(self._container, self._decoder, start, self._held_bytes)
            try:
                for shown in reading.frames(list(remaining)):
                    remaining.remove(shown.instant)
                    yield shown
            except NoKeyPacket:
                if start.seek is None:
                    raise self._no_frame(remaining[0]) from None
                start = replace(start, seek=self._further(start.seek - int(step)))
                step *= 4
                continue
            if remaining:
                if start.lenient or self._facts.missing:
                    raise self._no_frame(remaining[0])
                failures += 1
                before = reading.entered[remaining[0]] - 1
                seek = self._further(before)
                start = Entry(seek, before, thorough=True, lenient=seek is None or failures >= _TRIES)

    def _in_turn(self, instants: Sequence[Instant]) -> Iterator[Shown]:
        """As `_exact`, but where a frame does not come out it is made good before those after it are gone on with."""
        done = 0
        while done < len(instants):
            lost = len(instants)
            reading = Reading(self._container, self._decoder, Entry(instants[done].limit), self._held_bytes)
            try:
                for shown in reading.frames(instants[done:]):
                    if shown.instant != instants[done]:
                        lost = bisect_left(instants, shown.instant)
                        break
                    done += 1
                    yield shown
            except NoKeyPacket:
                lost = done + 1
            while done < lost:
                some = instants[done : min(lost, done + _LOST_AT_ONCE)]
                yield from sorted(self._exact(some), key=lambda shown: shown.instant)
                done += len(some)

    def _further(self, ticks: int) -> int | None:
        """Where to seek next; None is the very start."""
        return ticks if ticks > self._facts.start else None

    # Keyframe: one packet, sent and flushed.

    def _keyframe(self, instant: Instant) -> Shown:
        if self._facts.cut is not None and instant.limit >= self._facts.cut:
            raise self._no_frame(instant)
        seek: int | None = instant.limit
        step = 1 / self._facts.time_base
        self._go_to(seek)
        before, after = self._key_packets_around(instant, seek is not None)
        while before is None and seek is not None:
            seek = self._further(seek - int(step))
            step *= 4
            self._go_to(seek)
            before, after = self._key_packets_around(instant, seek is not None)
        chosen = _nearer(instant, before, after) if instant.how == "nearest" else before or after
        if instant.how == "nearest" and before is not None and after is None and self._facts.cut is not None:
            following = self._container.next_keyframe(before.packet.dts or before.pts)
            if following is not None and following - instant.ticks < instant.ticks - before.pts:
                raise self._no_frame(instant)
        if chosen is None:
            # No packet is flagged as key: there is only decoding from the start.
            return next(self._exact((instant,)))
        self._decoder.reset()
        for frame in (*self._decoder.decode(chosen.packet, needed=True), *self._decoder.drain()):
            if frame.pts == chosen.pts and not frame.is_corrupt:
                return Shown(instant, chosen.pts, frame)
        # A lone field, a recovery point: its frame needs more than this packet.
        shown = next(self._exact((Instant(Fraction(chosen.pts)),)))
        return Shown(instant, shown.pts, shown.frame, shown.exact)

    def _key_packets_around(self, instant: Instant, sought: bool) -> tuple[KeyPacket | None, KeyPacket | None]:
        """The last key packet shown at or before the instant, and the first after it where that was met."""
        before: KeyPacket | None = None
        for packet in self._container.packets():
            dts = packet.dts
            if packet.is_keyframe and not packet.is_discard and packet.pts is not None:
                if packet.pts > instant.limit:
                    return before, KeyPacket(packet.pts, packet)
                if before is None or packet.pts > before.pts:
                    before = KeyPacket(packet.pts, packet)
                following = self._container.next_keyframe(packet.pts if dts is None else dts)
                if instant.how == "keyframe" and following is not None and following > instant.limit:
                    break
            # Past the instant no packet can be shown at or before it any more; the nearest may still follow.
            if dts is not None and dts > instant.limit:
                if instant.how == "keyframe" and (before is not None or sought):
                    break
                if before is not None and dts - instant.ticks > instant.ticks - before.pts:
                    break
        return before, None

    # In order: packets without presentation times.

    def _in_order(self, instants: Sequence[Instant]) -> Iterator[Shown]:
        remaining = deque(instants)
        seek = None if self._facts.timing == "counted" else self._further(instants[0].limit)
        step = 1 / self._facts.time_base
        while remaining:
            latest: tuple[int, Frame] | None = None
            for pts, frame in self._frames_in_order(seek):
                if latest is None and pts > remaining[0].limit and seek is not None:
                    break
                while latest is not None and remaining and pts > remaining[0].limit:
                    yield Shown(remaining.popleft(), *latest)
                if not remaining:
                    break
                latest = pts, frame
            if latest is not None:
                while remaining:
                    yield Shown(remaining.popleft(), *latest)
            elif seek is None:
                raise self._no_frame(remaining[0])
            else:
                seek = self._further(seek - int(step))
                step *= 4

    def _frames_in_order(self, seek: int | None) -> Iterator[tuple[int, Frame]]:
        """Frames in display order from the first key packet on, each with its time: the n-th smallest of the
        packets' times is that of the n-th frame."""
        self._go_to(seek)
        self._decoder.reset()
        times: list[int] = []
        counted = self._facts.start
        begun = False
        for packet in self._container.packets():
            begun = begun or packet.is_keyframe or seek is None
            if not begun:
                continue
            if self._facts.timing == "ordered" and packet.dts is not None:
                heappush(times, packet.dts)
            for frame in self._decoder.decode(packet, needed=True):
                yield heappop(times) if times else counted, frame
                counted += self._facts.step
        for frame in self._decoder.drain():
            yield heappop(times) if times else counted, frame
            counted += self._facts.step

    def _go_to(self, seek: int | None) -> None:
        if seek is None:
            self._container.rewind()
        else:
            self._container.seek(seek)

    def _no_frame(self, instant: Instant) -> DecodeFailed:
        at = float(self._facts.seconds(instant.limit))
        if self._facts.missing:
            return DecodeFailed(
                f"no picture at {at:.3f} s: the file is cut off, {self._facts.missing} bytes are missing at its "
                "end: copy it again, whole"
            )
        return DecodeFailed(f"no picture at {at:.3f} s can be decoded: the video is damaged there, give another time")


def _nearer(instant: Instant, before: KeyPacket | None, after: KeyPacket | None) -> KeyPacket | None:
    if before is None or after is None:
        return before or after
    return after if after.pts - instant.ticks < instant.ticks - before.pts else before
