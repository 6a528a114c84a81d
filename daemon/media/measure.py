"""When a video begins and ends, by the times of its packets, and what those are worth."""

import re
from fractions import Fraction
from itertools import islice, pairwise
from typing import TYPE_CHECKING

from av.packet import Packet
from av.video.stream import VideoStream

from daemon.errors import NotAVideo
from daemon.media.facts import Facts, Timing
from daemon.media.formats import ONE_TIME
from daemon.media.select import Stamp

if TYPE_CHECKING:
    from daemon.media.demux import Demuxer

_A_STILL = Fraction(1, 25)  # seconds that a picture alone stands for, as libavformat has it
_HEAD = 64  # packets read to find the first displayed frame; no codec reorders further
_STAMPS = 8  # and at least so many before their order is trusted
# ISO/IEC 11172-2, 2.4.2.4, and 13818-2, 6.2.2.6: 25 bits of time code, then closed_gop.
_GOP = re.compile(rb"\x00\x00\x01\xb8...(.)", re.DOTALL)
_CLOSED = 0x40


def measure(demuxer: "Demuxer") -> Facts:
    """Reads what is needed to know when the video begins and ends. `demuxer` is fresh, and left anywhere."""
    stream, context = demuxer.stream, demuxer.stream.codec_context
    rate = stream.average_rate or stream.guessed_rate
    step = max(1, round(1 / (rate * demuxer.time_base))) if rate else 1
    start, timing = _begin(demuxer)
    known = stream.duration if demuxer.indexed else None
    if demuxer.cover:
        known = max(step, round(_A_STILL / demuxer.time_base))
    end = start + known if known else _end(demuxer, start, step, timing)
    warnings = []
    claimed = None if demuxer.cover or demuxer.indexed else demuxer.claimed_duration
    if claimed and claimed > 2 + Fraction(5, 4) * (end - start) * demuxer.time_base:
        warnings.append(
            f"the container speaks of {float(claimed):.1f} s, but its video ends after "
            f"{float((end - start) * demuxer.time_base):.1f} s: is the file cut off?"
        )
    return Facts(
        time_base=demuxer.time_base,
        start=start,
        end=end,
        codec=context.codec.canonical_name,
        width=context.width,
        height=context.height,
        fps=round(float(rate), 4) if rate else None,
        timing=timing,
        step=step,
        missing=demuxer.missing_bytes,
        cut=demuxer.cut,
        warnings=tuple(warnings),
    )


def _begin(demuxer: "Demuxer") -> tuple[int, Timing]:
    """PTS of the first displayed frame, and what the times of packets are worth."""
    if demuxer.format == "dirac":
        return 0, "counted"  # its times are numbers of pictures
    codec = demuxer.stream.codec_context.codec
    head: list[Stamp] = []
    first_dts: int | None = None
    closed = False
    for packet in islice(demuxer.packets(), _HEAD):
        if packet.is_keyframe and not any(stamp.key for stamp in head):
            closed = codec.canonical_name in ("mpeg1video", "mpeg2video") and _is_closed(packet)
        first_dts = packet.dts if first_dts is None else first_dts
        if packet.pts is None:
            return head[0].pts if head else first_dts or 0, "counted"
        head.append(Stamp(packet.pts, packet.is_keyframe, shown=not packet.is_discard))
        shown = [stamp.pts for stamp in head if stamp.shown]
        if len(shown) >= _STAMPS and packet.dts is not None and packet.dts > min(shown):
            break
    if not head:
        raise NotAVideo("its video stream holds no packet")
    rising = all(a.pts < b.pts for a, b in pairwise(head))
    if demuxer.format in ONE_TIME and codec.reorder and rising and first_dts is not None:
        return first_dts, "ordered"
    # Frames before the first key packet, in decode or in display order, cannot be decoded: unless that packet begins
    # a closed group.
    first = next((n for n, stamp in enumerate(head) if stamp.key), 0)
    shown = [stamp.pts for stamp in head[first:] if stamp.shown and (closed or stamp.pts >= head[first].pts)]
    return min(shown, default=head[first].pts), "shown"


def _is_closed(key: "Packet[VideoStream]") -> bool:
    group = _GOP.search(bytes(key))
    return group is not None and bool(group[1][0] & _CLOSED)


def _end(demuxer: "Demuxer", start: int, step: int, timing: Timing) -> int:
    """End of the last displayed frame: by the packets near the end, or by all where seeking leads nowhere."""
    if timing == "counted":
        demuxer.rewind()
        # A packet may be a field.
        return start + sum(packet.duration or step for packet in demuxer.packets())
    # From well before the end, for the packet shown last is not the last one in the file; and again from there where
    # the end that the container claims is another stream's.
    early = max(int(2 / demuxer.time_base), _HEAD * step)
    seek = start + max(0, int((demuxer.claimed_duration or 0) / demuxer.time_base) - early)
    while seek > start:
        demuxer.seek(seek)
        first, end = _latest(demuxer, step, timing)
        if first is not None and end is not None and first <= end - early:
            return end
        seek = (seek if end is None else min(end, seek)) - early
        early *= 2
    demuxer.rewind()
    return max(start + 1, _latest(demuxer, step, timing)[1] or 0)


def _latest(demuxer: "Demuxer", step: int, timing: Timing) -> tuple[int | None, int | None]:
    """The first time read from here on, and the end of the frame shown last."""
    first, end = None, None
    for packet in demuxer.packets():
        stamp = packet.pts if timing == "shown" else packet.dts
        if stamp is not None and not packet.is_discard:
            first = stamp if first is None else first
            end = max(end or stamp, stamp + (packet.duration or step))
    return first, end
