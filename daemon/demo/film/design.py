"""What everything is drawn with: sizes, colours as the film stores them (BT.709, 4:2:0), and easing."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

TO_YUV = np.array([[0.1826, 0.6142, 0.0620], [-0.1006, -0.3386, 0.4392], [0.4392, -0.3989, -0.0403]], dtype=np.float32)
ZERO_YUV = np.array([16, 128, 128], dtype=np.float32)


class Size(NamedTuple):
    """The picture's size, and its scale: everything was designed on 720 lines."""

    width: int
    height: int

    def px(self, length: float) -> int:
        """A length on 720 lines in pixels of this picture, never nothing."""
        return max(1, round(length * self.height / 720))

    def even(self, length: float) -> int:
        """The same as an even number, as sprites need it that are to stand side by side."""
        return max(2, self.px(length) // 2 * 2)

    @property
    def unit(self) -> float:
        """Pixels of this picture to one of the design."""
        return self.height / 720


def yuv(colour: str) -> Floats:
    """A CSS colour as the film stores it."""
    return (TO_YUV @ np.array(ImageColor.getrgb(colour)[:3], np.float32) + ZERO_YUV).astype(np.float32)


def gradient(size: Size, *stops: tuple[float, str]) -> Floats:
    """One colour for every line of the picture, through stops given as (fraction of the height, colour)."""
    return between(size, *((place, yuv(colour)) for place, colour in stops))


def between(size: Size, *stops: tuple[float, Floats]) -> Floats:
    """The same through colours as the film stores them."""
    lines = (np.arange(size.height) + 0.5) / size.height
    places, colours = [place for place, _ in stops], np.stack([colour for _, colour in stops])
    return np.stack([np.interp(lines, places, colours[:, i]) for i in range(3)], axis=1).astype(np.float32)


def ease(value: float, start: float = 0.0, end: float = 1.0) -> float:
    """0 before start, 1 after end, without a jolt between."""
    part = min(1.0, max(0.0, (value - start) / (end - start)))
    return part * part * (3 - 2 * part)


def mix(first: Floats, second: Floats, part: float) -> Floats:
    """The colours on the way from the first to the second."""
    return first + (second - first) * np.float32(part)
