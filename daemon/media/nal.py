"""H.264 and HEVC packets as NVDEC reads them: NAL units behind start codes, parameter sets before what needs them.

MP4, MOV, Matroska and FLV put a length before each unit, and the parameter sets aside (ISO/IEC 14496-15, 5.3.3 and
8.3.3). libav's bitstream filters rewrite that too, but they put the parameter sets before IDR pictures only, and keep a
state over packets. Decoding begins at any key packet here, so that each of those is to have them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

START = b"\0\0\1"
_IDR, _SEI = 5, 6  # of H.264 (ITU-T H.264, table 7-1)
_RECOVERY_POINT = 6  # payload type (ITU-T H.264, D.1)
_IRAP = range(16, 24)  # of HEVC: IDR, BLA, CRA (ITU-T H.265, table 7-1)
_HEVC_SPS = 33


@dataclass(frozen=True, slots=True)
class Framing:
    """How the packets of a stream hold their units. `length`: bytes of the length before each, None where there are
    start codes. `parameter_sets`: what the container has put aside, behind start codes."""

    length: int | None = None
    parameter_sets: bytes = b""


def framing_of(codec: str, extradata: bytes | None) -> Framing:
    """By the extradata of an H.264 or HEVC stream. Raises ValueError where they are damaged."""
    if not extradata or extradata.startswith((START, b"\0" + START)):
        return Framing(None, extradata or b"")
    try:
        return _of_avc(extradata) if codec == "h264" else _of_hevc(extradata)
    except IndexError:
        raise ValueError("its parameter sets are cut off") from None


def units(data: bytes, length: int | None) -> Iterator[bytes]:
    """The NAL units of a packet, without what stands before each. Raises ValueError where a length is wrong."""
    return _by_start_codes(data) if length is None else _by_lengths(data, length)


def with_start_codes(data: bytes, length: int | None) -> bytes:
    """A packet as NVDEC reads it. Raises ValueError where a length is wrong."""
    return data if length is None else b"".join(START + unit for unit in _by_lengths(data, length))


def is_entry(codec: str, found: Iterator[bytes]) -> bool:
    """Whether decoding may begin at a picture of these units, and be right from it on: IDR pictures, the random access
    pictures of HEVC, and recovery points of H.264 where nothing has to be waited for. At all others (gradual refresh,
    pictures that a container calls key) NVDEC gives pictures that are not whole and does not say so."""
    if codec == "hevc":
        return any(unit[0] >> 1 & 63 in _IRAP for unit in found)
    return any(unit[0] & 31 == _IDR or (unit[0] & 31 == _SEI and _recovers_at_once(unit)) for unit in found)


def highest_sub_layer(found: Iterator[bytes]) -> int | None:
    """The highest TemporalId that a sequence parameter set among these HEVC units allows (ITU-T H.265, 7.3.2.2)."""
    return next((unit[2] >> 1 & 7 for unit in found if unit[0] >> 1 & 63 == _HEVC_SPS and len(unit) > 2), None)


def _of_avc(extradata: bytes) -> Framing:
    sets, position = [], 5
    for mask in (31, 255):  # sequence, then picture parameter sets
        count, position = extradata[position] & mask, position + 1
        for _ in range(count):
            unit, position = _behind_length(extradata, position)
            sets.append(unit)
    return Framing((extradata[4] & 3) + 1, b"".join(START + unit for unit in sets))


def _of_hevc(extradata: bytes) -> Framing:
    sets, position = [], 23
    for _ in range(extradata[22]):
        count, position = extradata[position + 1] << 8 | extradata[position + 2], position + 3
        for _ in range(count):
            unit, position = _behind_length(extradata, position)
            sets.append(unit)
    return Framing((extradata[21] & 3) + 1, b"".join(START + unit for unit in sets))


def _behind_length(extradata: bytes, position: int) -> tuple[bytes, int]:
    end = position + 2 + (extradata[position] << 8 | extradata[position + 1])
    if end > len(extradata):
        raise IndexError
    return extradata[position + 2 : end], end


def _by_lengths(data: bytes, length: int) -> Iterator[bytes]:
    position = 0
    while position < len(data):
        begin = position + length
        position = begin + int.from_bytes(data[position:begin])
        if position > len(data):
            raise ValueError("a packet is shorter than its units")
        if position > begin:
            yield data[begin:position]


def _by_start_codes(data: bytes) -> Iterator[bytes]:
    begin = data.find(START)
    while begin >= 0:
        following = data.find(START, begin + 3)
        unit = data[begin + 3 : None if following < 0 else following]
        if unit:
            yield unit
        begin = following


def _recovers_at_once(sei: bytes) -> bool:
    """Whether it holds a recovery point with recovery_frame_cnt 0, which as ue(v) is a single bit, 1 (D.2.8)."""
    plain = sei.replace(b"\0\0\3", b"\0\0")  # 7.4.1.1
    position = 1
    while position + 2 < len(plain):
        numbers = []
        for _ in range(2):  # type and size, each with as many bytes of 255 as it needs
            number = 0
            while position < len(plain) and plain[position] == 255:
                number, position = number + 255, position + 1
            if position >= len(plain):
                return False
            numbers.append(number + plain[position])
            position += 1
        kind, size = numbers
        if kind == _RECOVERY_POINT and position < len(plain):
            return bool(plain[position] & 128)
        position += size
    return False
