"""Decoded pictures in the memory of a card, and what is asked of that card. No CUDA here: only its shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from daemon.media.colour import Colour
from daemon.media.device import RGB, Pixels
from daemon.media.geometry import Size


class Block(Protocol):
    """Memory of the card; it is free again when nobody holds this any more."""

    @property
    def address(self) -> int: ...


class Lane(Protocol):
    """A stream of the card: what is started on it happens in that order. One of its own for each session, so that
    sessions do not wait for each other."""

    @property
    def handle(self) -> int:
        """A CUstream."""

    def copy(self, address: int, size: int) -> Block:
        """Starts to copy so many bytes of the card's memory."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What sessions are alike in. `codec`: libav's name; `chroma`: 420, 422 or 444; `depth`: bits of a sample; sizes
    in pixels, `display` being what is to be seen of what is `coded`. A session is never changed to another coded
    size or another part of it: PyNvVideoCodec takes that without a word and goes on as before."""

    codec: str
    chroma: int
    depth: int
    coded: Size
    display: Size

    @property
    def pitch(self) -> int:
        """Bytes of a row, as PyNvVideoCodec packs it."""
        width = self.display[0]
        return (width if self.chroma == 444 else width + width % 2) * (1 if self.depth == 8 else 2)

    @property
    def bytes(self) -> int:
        """Of a whole picture: where an odd height halves, the last row of chroma is half a row."""
        return self.pitch * self.display[1] * {420: 3, 422: 4, 444: 6}[self.chroma] // 2


@dataclass(frozen=True, slots=True)
class Surface:
    """A decoded picture that stays as it is: planes follow one another in `block`, luma and interleaved chroma, or
    three planes where chroma is 444. Samples of more than 8 bits stand in the upper bits of two bytes."""

    pts: int | None
    kind: Kind
    lane: Lane
    block: Block

    @property
    def width(self) -> int:
        return self.kind.display[0]

    @property
    def height(self) -> int:
        return self.kind.display[1]

    @property
    def is_corrupt(self) -> bool:
        """NVDEC conceals what is damaged and says nothing."""
        return False


class JpegEncoder(Protocol):
    """Of one card, for several threads."""

    def encode(self, picture: RGB, quality: int) -> bytes:
        """From memory of the host."""


class Card(Protocol):
    """One card, of which several threads ask."""

    @property
    def number(self) -> int: ...

    def lane(self) -> Lane: ...

    def works(self) -> bool:
        """False once an error has made all later calls fail: only a new process helps."""

    def resize(self, surface: Surface, sizes: Sequence[Size], colour: Colour) -> list[Pixels]:
        """For each size the whole surface in sRGB, uint8 (height, width, 3), in memory of the host."""
