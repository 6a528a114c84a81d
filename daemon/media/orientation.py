"""How a frame is to be turned and mirrored to stand upright, by its display matrix."""

import struct

from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

from daemon.media.colour import side_data
from kernels.orientation import UPRIGHT, Orientation

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
