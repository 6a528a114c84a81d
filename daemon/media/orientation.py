"""How a frame is to be turned and mirrored to stand upright: one of the eight ways of its display matrix."""

import struct
from dataclasses import dataclass

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from daemon.media.colour import side_data


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

    def then(self, other: "Orientation") -> "Orientation":
        """First this, then the other."""
        flip_x, flip_y = (self.flip_y, self.flip_x) if other.swapped else (self.flip_x, self.flip_y)
        return Orientation(self.swapped != other.swapped, flip_x != other.flip_x, flip_y != other.flip_y)


UPRIGHT = Orientation()
# By degrees, counter-clockwise.
_TURNS = (UPRIGHT, Orientation(True, False, True), Orientation(False, True, True), Orientation(True, True, False))


def clockwise(degrees: int) -> Orientation:
    """A multiple of 90."""
    return _TURNS[-degrees // 90 % 4]


def orientation_of(frame: VideoFrame) -> Orientation:
    """By the display matrix (ISO/IEC 14496-12, 6.2.2): a point (x, y) is shown at (a x + c y, b x + d y)."""
    for data in side_data(frame):
        if data.type is Type.DISPLAYMATRIX and data.buffer_size >= 36:
            a, b, _, c, d, *_ = struct.unpack_from("=9i", bytes(data))
            if abs(b) + abs(c) > abs(a) + abs(d):
                return Orientation(True, flip_x=c < 0, flip_y=b < 0)
            return Orientation(False, flip_x=a < 0, flip_y=d < 0)
    # Where PyAV cannot list the side data it still knows the rotation.
    return _TURNS[round(frame.rotation / 90) % 4]
