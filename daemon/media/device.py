"""What a device is: it turns packets into frames, and frames into small RGB pictures. Everything else exists once."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from daemon.media.colour import Colour
from daemon.media.geometry import Size
from daemon.media.orientation import Orientation

RGB = NDArray[np.uint8]  # (height, width, 3)
Pixels = NDArray[np.uint8]  # (height, width, 3), or 4 with straight alpha


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


class Decoder(Protocol):
    """Packets of one stream to frames, in display order, on one thread. Damaged packets give no frame, no error."""

    def decode(self, packet: "Packet[VideoStream]", *, needed: bool) -> Iterable[Frame]:
        """A packet in decode order. Where not `needed` its frame need not come out if nothing refers to it."""

    def drain(self) -> Iterable[Frame]:
        """Frames still held back; afterwards the decoder is as new."""

    def reset(self) -> None:
        """Drops what is held back; afterwards the decoder is as new."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a frame is to be seen. `sample_aspect`: width of a sample to its height, None where nothing is said."""

    orientation: Orientation
    colour: Colour
    sample_aspect: Fraction | None


class Device(Protocol):
    name: str

    def decoder(self, stream: VideoStream) -> Decoder: ...

    def look(self, frame: Frame, stream: VideoStream) -> Look:
        """What a frame, and the stream that it came from, say of how it is to be seen."""

    def resize(self, frame: Frame, size: Size, colour: Colour) -> Pixels:
        """The whole frame as it lies in memory (not turned), in sRGB: uint8 (height, width, 3), or 4 with straight
        alpha where some of it is transparent."""
