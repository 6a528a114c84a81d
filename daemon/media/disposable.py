"""Packets that nothing refers to: where their own pictures are not wanted they need not be decoded at all. Pure.

- H.264: `nal_ref_idc` is 0 (ITU-T H.264, 7.4.1).
- HEVC: the types `_N` say that no picture *of the same sub-layer* refers to it; one of a higher sub-layer may
  (ITU-T H.265, 7.4.2.2). So only those of the highest one count.
- MPEG-1 and MPEG-2: B pictures (ISO/IEC 13818-2, 6.3.9).
- AV1: temporal units all of whose frames refresh no reference (`av1.py`). Of those with hidden frames, which others
  refer to, and a shown one, to which nothing does, all is decoded: to cut such a unit is not what NVDEC was tried on.
- VP8 and VP9: none. A frame that refreshes no reference still leaves its probabilities, its segments and its motion
  vectors to the next one (VP9 bitstream specification, 6.1.2 and 6.4.20; RFC 6386, 9.11), unless each is coded to
  withstand errors.
"""

import re
from collections.abc import Iterator

_SLICES = range(1, 6)  # of H.264
_VCL = range(32)  # of HEVC
_HEVC_N = frozenset(range(0, 16, 2))  # TRAIL_N, TSA_N, STSA_N, RADL_N, RASL_N and what is reserved beside them
_PICTURE = re.compile(rb"\x00\x00\x01\x00.(.)", re.DOTALL)  # then 10 bits of order, and 3 of type
_B = 3


def h264(units: Iterator[bytes]) -> bool:
    slices = [unit[0] for unit in units if unit[0] & 31 in _SLICES]
    return bool(slices) and all(head >> 5 & 3 == 0 for head in slices)


def hevc(units: Iterator[bytes], highest: int) -> bool:
    """`highest`: the highest TemporalId that the stream may use."""
    heads = [unit[:2] for unit in units if len(unit) > 2 and unit[0] >> 1 & 63 in _VCL]
    return bool(heads) and all(head[0] >> 1 & 63 in _HEVC_N and (head[1] & 7) - 1 == highest for head in heads)


def mpeg(packet: bytes) -> bool:
    """MPEG-1 and MPEG-2; both pictures of a packet with two fields."""
    types = [found[1][0] >> 3 & 7 for found in _PICTURE.finditer(packet)]
    return bool(types) and all(kind == _B for kind in types)
