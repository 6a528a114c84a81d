"""Packed bitstreams: AVI by DivX and Xvid with two frames in one packet and a packet of nothing behind it.

AVI gives one time to each packet, in the order of display. Of packed frames libavformat makes wrong presentation times
of these, so they are unpacked here and each frame is given its own.
"""

import re
from collections.abc import Iterable, Iterator

from av import BitStreamFilterContext
from av.packet import Packet
from av.video.stream import VideoStream

_SIGN = re.compile(rb"DivX\d+(?:b|Build)\d+p")
_VOP = re.compile(rb"\x00\x00\x01\xb6(.)", re.DOTALL)  # ISO/IEC 14496-2, 6.2.5: two bits of type follow
_B = 0b10


def is_packed(stream: VideoStream) -> bool:
    context = stream.codec_context
    return context.codec.canonical_name == "mpeg4" and bool(_SIGN.search(context.extradata or b""))


def unpack(packets: "Iterable[Packet[VideoStream]]", stream: VideoStream) -> "Iterator[Packet[VideoStream]]":
    """One frame a packet, in decode order, with presentation times."""
    unpacking = BitStreamFilterContext("mpeg4_unpack_bframes", stream)
    held: list[Packet[VideoStream]] = []  # a frame and the B frames shown before it
    for packet in packets:
        for one in unpacking.filter(packet):
            if held and not _is_b(one):
                yield from _timed(held)
                held = []
            held.append(one)
    yield from _timed(held)


def _timed(group: "list[Packet[VideoStream]]") -> "Iterator[Packet[VideoStream]]":
    slots = [packet.dts for packet in group]
    for packet, slot in zip(group, [*slots[-1:], *slots[:-1]], strict=True):
        packet.pts = slot
        yield packet


def _is_b(packet: "Packet[VideoStream]") -> bool:
    vop = _VOP.search(bytes(packet))
    return vop is not None and vop[1][0] >> 6 == _B
