"""How a picture is to be turned and mirrored to stand upright: one of eight ways."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Orientation:
    """First rows become columns where `swapped`, then the picture is mirrored: left to right where `flip_x`, upside
    down where `flip_y`."""

    swapped: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def turn(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A view of (height, width, channels), upright."""
        turned = picture.swapaxes(0, 1) if self.swapped else picture
        return turned[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]

    def then(self, other: Orientation) -> Orientation:
        """First this, then the other."""
        flip_x, flip_y = (self.flip_y, self.flip_x) if other.swapped else (self.flip_x, self.flip_y)
        return Orientation(self.swapped != other.swapped, flip_x != other.flip_x, flip_y != other.flip_y)


UPRIGHT = Orientation()
