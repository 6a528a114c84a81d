"""AV1 packets (temporal units): their OBUs, and as much of the headers as tells whether anything refers to a frame.

Section numbers are those of the AV1 bitstream specification, version 1.0.0 with errata 1.
"""

from collections.abc import Iterator
from dataclasses import dataclass

_SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6  # obu_type (6.2.2)
_KEY, _INTRA_ONLY, _SWITCH = 0, 2, 3  # frame_type (6.8.2)
_CHOSEN = 2  # SELECT_SCREEN_CONTENT_TOOLS, SELECT_INTEGER_MV: each frame says it


@dataclass(frozen=True, slots=True)
class Operating:
    """An operating point: which layers are its own, and whether frames may tell when it is to be decoded."""

    layers: int
    timed: bool


@dataclass(frozen=True, slots=True)
class Sequence:
    """What has to be known of a sequence header to read those of its frames (5.5). `numbered`: frames have ids, of
    which none may be missing. `presentation_bits`, `removal_bits`: of times, None where there are none."""

    reduced: bool
    numbered: bool
    screen_content_tools: int
    integer_mv: int
    order_hint_bits: int
    presentation_bits: int | None
    removal_bits: int | None
    operating: tuple[Operating, ...]


def obus(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, layers (the bits of the temporal, then of the spatial id) and payload of each (5.3). Raises ValueError
    where a length is wrong."""
    position = 0
    while position < len(data):
        head, position = data[position], position + 1
        layers = 0
        if head & 4:
            extension, position = _byte(data, position), position + 1
            layers = extension >> 3
        size = len(data) - position
        if head & 2:
            size, position = _leb128(data, position)
        if position + size > len(data):
            raise ValueError("a packet is shorter than its units")
        yield head >> 3 & 15, layers, data[position : position + size]
        position += size


def sequence_of(data: bytes) -> Sequence | None:
    """The last sequence header among the OBUs, None where there is none. Raises ValueError where it is damaged."""
    headers = [payload for kind, _, payload in obus(data) if kind == _SEQUENCE]
    return _sequence(_Bits(headers[-1])) if headers else None


def is_disposable(data: bytes, sequence: Sequence) -> bool:
    """Whether all frames of a packet are such that none of them becomes a reference (7.20): `refresh_frame_flags` is 0.
    Then nothing of them is left: what later frames take over of earlier ones, probabilities and all, lies with the
    references. Raises ValueError where it is damaged."""
    frames = []
    for kind, layers, payload in obus(data):
        if kind == _SEQUENCE:
            return False
        if kind in (_FRAME_HEADER, _FRAME):
            frames.append(_refreshes_nothing(_Bits(payload), sequence, layers))
    return bool(frames) and all(frames)


def _sequence(bits: "_Bits") -> Sequence:
    bits.take(4)  # profile, still picture
    reduced = bool(bits.take(1))
    presentation = removal = None
    operating = [Operating(0, False)]
    if reduced:
        bits.take(5)
    else:
        equal = True
        delay = 0
        if bits.take(1):  # timing_info (5.5.3)
            bits.take(64)
            equal = bool(bits.take(1))
            if equal:
                bits.take_uvlc()
            if bits.take(1):  # decoder_model_info (5.5.4)
                delay = bits.take(5) + 1
                bits.take(32)
                removal, presentation = bits.take(5) + 1, bits.take(5) + 1
        delayed = bits.take(1)
        operating = []
        for _ in range(bits.take(5) + 1):
            layers = bits.take(12)
            if bits.take(5) > 7:
                bits.take(1)
            timed = removal is not None and bool(bits.take(1))
            if timed:
                bits.take(2 * delay + 1)
            if delayed and bits.take(1):
                bits.take(4)
            operating.append(Operating(layers, timed))
        if equal:
            presentation = None
    across, down = bits.take(4) + 1, bits.take(4) + 1
    bits.take(across + down)
    numbered = not reduced and bool(bits.take(1))
    if numbered:
        bits.take(7)
    bits.take(3)
    tools = integer_mv = _CHOSEN
    hint_bits = 0
    if not reduced:
        bits.take(4)
        ordered = bits.take(1)
        if ordered:
            bits.take(2)
        tools = _CHOSEN if bits.take(1) else bits.take(1)
        if tools > 0:
            integer_mv = _CHOSEN if bits.take(1) else bits.take(1)
        hint_bits = bits.take(3) + 1 if ordered else 0
    return Sequence(reduced, numbered, tools, integer_mv, hint_bits, presentation, removal, tuple(operating))


def _refreshes_nothing(bits: "_Bits", sequence: Sequence, layers: int) -> bool:
    """By the beginning of a frame header (5.9.2). One that shows an earlier frame is no work, and may bring a key
    frame back: it is not."""
    if sequence.reduced or sequence.numbered or bits.take(1):
        return False
    kind, shown = bits.take(2), bits.take(1)
    if kind == _SWITCH or (kind == _KEY and shown):
        return False
    if not shown:
        bits.take(1)
    elif sequence.presentation_bits is not None:
        bits.take(sequence.presentation_bits)
    resilient = bits.take(1)
    bits.take(1)
    tools = bits.take(1) if sequence.screen_content_tools == _CHOSEN else sequence.screen_content_tools
    if tools and sequence.integer_mv == _CHOSEN:
        bits.take(1)
    bits.take(1 + sequence.order_hint_bits)
    if kind not in (_KEY, _INTRA_ONLY) and not resilient:
        bits.take(3)
    if sequence.removal_bits is not None and bits.take(1):
        temporal, spatial = layers >> 2, layers & 3
        for each in sequence.operating:
            inside = each.layers >> temporal & 1 and each.layers >> (spatial + 8) & 1
            if each.timed and (each.layers == 0 or inside):
                bits.take(sequence.removal_bits)
    return bits.take(8) == 0


class _Bits:
    """Bits of a header, the highest first (4.10.2). Raises ValueError at the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, count: int) -> int:
        first, after = self._position // 8, -(-(self._position + count) // 8)
        if after > len(self._data):
            raise ValueError("a header is cut off")
        self._position += count
        return int.from_bytes(self._data[first:after]) >> (8 * after - self._position) & ((1 << count) - 1)

    def take_uvlc(self) -> int:
        """4.10.3."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return self.take(zeros) + (1 << zeros) - 1 if zeros < 32 else (1 << 32) - 1


def _byte(data: bytes, position: int) -> int:
    if position >= len(data):
        raise ValueError("a packet is shorter than its units")
    return data[position]


def _leb128(data: bytes, position: int) -> tuple[int, int]:
    """4.10.5: the number, and where it ends."""
    number = 0
    for shift in range(0, 56, 7):
        byte, position = _byte(data, position), position + 1
        number |= (byte & 127) << shift
        if not byte & 128:
            return number, position
    raise ValueError("a length is longer than may be")
