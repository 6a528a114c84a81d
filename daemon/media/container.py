"""What packets are read from: a container that libavformat knows, or a file of still pictures."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Protocol

from av.packet import Packet
from av.video.stream import VideoStream

from daemon.media.demux import Demuxer
from daemon.media.device import Decoder, Device, Frame, Hardware, Look
from daemon.media.facts import Facts
from daemon.media.source import Source
from daemon.media.stills import Stills, is_webp

_PILLOW_READS = frozenset({"bmp_pipe", "jpeg_pipe", "png_pipe", "tiff_pipe"})


class Container(Protocol):
    """One opening of a source, for one thread. All times in ticks of `time_base`."""

    time_base: Fraction

    @property
    def indexed(self) -> bool:
        """`next_keyframe` knows all keyframes."""

    def measure(self) -> Facts:
        """What is true of the video as a whole. Called once, when fresh; leaves the position anywhere."""

    def packets(self) -> Iterator["Packet[VideoStream]"]:
        """The video's packets from here on, in decode order."""

    def seek(self, ticks: int) -> None:
        """To a packet at or before `ticks` where that can be had, else to the start: reading tells where we are."""

    def rewind(self) -> None:
        """To the very first packet."""

    def group(self, ticks: int) -> int | None:
        """A number for the group of pictures that holds `ticks`, None where nothing tells. For planning only."""

    def next_keyframe(self, ticks: int) -> int | None:
        """DTS of the first key packet after `ticks`, None where nothing tells or there is none."""

    def fit(self, hardware: Hardware, *, timed: bool) -> Device:
        """The device of this source. May leave the position anywhere. Raises Unfit."""

    def decoder(self, device: Device) -> Decoder: ...

    def look(self, device: Device, frame: Frame) -> Look: ...

    def close(self) -> None: ...


def open_container(source: Source) -> Container:
    """Raises NotAVideo, SourceRefused and SourceUnreadable."""
    if is_webp(source):
        return Stills(source)
    demuxer = Demuxer(source)
    if demuxer.format not in _PILLOW_READS or not demuxer.is_still:
        return demuxer
    demuxer.close()
    return Stills(source)
