"""What a device is: it turns packets into frames, and frames into small RGB pictures. Everything else exists once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from daemon.media.colour import Colour
from daemon.media.geometry import Size
from daemon.task import FallbackReason
from kernels.orientation import Orientation

RGB = NDArray[np.uint8]  # (height, width, 3)
Pixels = NDArray[np.uint8]  # (height, width, 3), or 4 with straight alpha


Packets = Callable[[], Iterator["Packet[VideoStream]"]]  # from the very first on


class Unfit(Exception):
    """The device cannot do this source, or not be trusted with it: `Hardware.otherwise` is to do it from the start."""

    def __init__(self, reason: FallbackReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class CardLost(Exception):
    """Nothing more can be done with the device in this process."""


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
    """Packets of one stream to frames, in display order, on one thread. Damaged packets give no frame, no error. What
    `reset` was not called for may hold much: call it at the end."""

    def decode(self, packet: "Packet[VideoStream]", *, needed: bool) -> Iterable[Frame]:
        """A packet in decode order. Where not `needed` its frame need not come out."""

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
    """What one source is decoded and shaped with. Whatever is called may raise Unfit and CardLost."""

    name: str

    def decoder(self, stream: VideoStream) -> Decoder: ...

    def look(self, frame: Frame, stream: VideoStream) -> Look:
        """What a frame, and the stream that it came from, say of how it is to be seen."""

    def resize(self, frame: Frame, sizes: Sequence[Size], colour: Colour) -> list[Pixels]:
        """For each size the whole frame as it lies in memory (not turned), in sRGB: uint8 (height, width, 3), or 4 with
        straight alpha where some of it is transparent."""

    def jpeg(self, picture: RGB, quality: int) -> bytes | None:
        """The picture as JPEG, quality 1 to 100; None where pictures of its size are better left to Pillow."""


class Hardware(Protocol):
    """What the devices of sources come from, for the life of a process. `note`: why it was chosen, empty where it was
    asked for."""

    name: str
    note: str

    @property
    def otherwise(self) -> "Hardware | None":
        """Does the sources that this one is unfit for; None where it is fit for all."""

    def fit(self, stream: VideoStream | None, packets: Packets, *, timed: bool) -> Device:
        """The device of one source. `stream`: of one opening of it, None of a file of still pictures; `timed`: its
        packets tell when their frames are shown. Raises Unfit."""
