"""BIF, the index of Roku, Plex and Emby: all tiles as JPEGs in one file, little-endian.

0   magic   8 version   12 count   16 milliseconds by which stamps are multiplied   20 zeros
64  count + 1 times (stamp, offset from the begin of the file), the last with 0xFFFFFFFF and the end of the file
…   the JPEGs
"""

import struct
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate

from daemon.errors import BadJob

MAX_BIF = 192 << 20  # bytes: it is put together in memory, and crosses the worker's wire in one piece
_HEADER = struct.Struct("<8sIII44x")
_ENTRY = struct.Struct("<II")
_MAGIC = b"\x89BIF\r\n\x1a\n"
_LAST = 0xFFFFFFFF


def bif(pictures: Sequence[bytes], step: Fraction) -> bytes:
    """`pictures`: JPEGs, `step` seconds apart from 0 on. Stamps count whole intervals where an interval is a whole
    number of milliseconds, else milliseconds. Raises BadJob where 32 bits of milliseconds are too few."""
    milliseconds = step * 1000
    if milliseconds.denominator == 1 and milliseconds < _LAST:
        multiplier, stamps = int(milliseconds), list(range(len(pictures)))
    else:
        multiplier, stamps = 1, [round(n * milliseconds) for n in range(len(pictures))]
    if stamps[-1] >= _LAST:
        raise BadJob("a BIF tells milliseconds of 49 days at most: give an interval of whole milliseconds")
    first = _HEADER.size + _ENTRY.size * (len(pictures) + 1)
    offsets = accumulate(map(len, pictures), initial=first)
    entries = [_ENTRY.pack(stamp, offset) for stamp, offset in zip([*stamps, _LAST], offsets, strict=True)]
    return b"".join((_HEADER.pack(_MAGIC, 0, len(pictures), multiplier), *entries, *pictures))
