"""What a device is: it turns packets into frames, and frames into small RGB pictures. Everything else exists once."""

from collections.abc import Iterable
from fractions import Fraction
from typing import Protocol

import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from daemon.media.geometry import Size

RGB = NDArray[np.uint8]


class Frame(Protocol):
    """A decoded frame, wherever its pixels lie. `pts` in ticks of the stream's time base."""

    @property
    def pts(self) -> int | None: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def is_corrupt(self) -> bool:
        """Its data were damaged or not whole."""

    @property
    def rotation(self) -> int:
        """Degrees, counter-clockwise, by which the frame is to be turned to stand upright."""


class Decoder(Protocol):
    """Packets of one stream to frames, in display order, on one thread. Damaged packets give no frame, no error."""

    def decode(self, packet: "Packet[VideoStream]", *, needed: bool) -> Iterable[Frame]:
        """A packet in decode order. Where not `needed` its frame need not come out if nothing refers to it."""

    def drain(self) -> Iterable[Frame]:
        """Frames still held back; afterwards the decoder is as new."""

    def reset(self) -> None:
        """Drops what is held back; afterwards the decoder is as new."""


class Device(Protocol):
    name: str

    def decoder(self, stream: VideoStream) -> Decoder: ...

    def resize(self, frame: Frame, size: Size) -> RGB:
        """The whole frame as it lies in memory (not rotated) as R'G'B', uint8, shape (height, width, 3)."""


def sample_aspect(stream: VideoStream) -> Fraction | None:
    """Of the container, else of the codec (known there once a frame was decoded)."""
    return stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
