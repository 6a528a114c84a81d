"""The CPU: libav decodes, libswscale shrinks.

The scaling call is chosen by `bench/scalers.py`, which holds it against the NumPy reference in `kernels`.
"""

from collections.abc import Iterator, Sequence

import av
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from daemon.errors import SourceRefused
from daemon.media.colour import Colour, colour_of
from daemon.media.device import RGB, Decoder, Device, Frame, Look, Packets, Pixels
from daemon.media.geometry import MAX_PIXELS, Size
from daemon.media.orientation import orientation_of
from daemon.media.scale import scale


class CpuDevice:
    name = "cpu"
    otherwise = None

    def __init__(self, note: str = "") -> None:
        self.note = note

    def fit(self, stream: VideoStream | None, packets: Packets, *, timed: bool) -> Device:
        return self

    def decoder(self, stream: VideoStream) -> Decoder:
        return CpuDecoder(stream)

    def look(self, frame: Frame, stream: VideoStream) -> Look:
        own, context = _own(frame), stream.codec_context
        return Look(
            orientation=orientation_of(own),
            colour=colour_of(own, context.codec.canonical_name, context.codec_tag),
            # Of the container, else of the codec (known there once a frame was decoded).
            sample_aspect=stream.sample_aspect_ratio or context.sample_aspect_ratio,
        )

    def resize(self, frame: Frame, sizes: Sequence[Size], colour: Colour) -> list[Pixels]:
        own = _own(frame)
        return [scale(own, size, colour) for size in sizes]

    def jpeg(self, picture: RGB, quality: int) -> bytes | None:
        return None


class CpuDecoder:
    """One libav context, one thread: runs are what is done in parallel (contexts shared between threads, or frame
    threads with their delay, gain nothing there)."""

    def __init__(self, stream: VideoStream) -> None:
        self._context = stream.codec_context
        self._context.thread_count = 1
        self._fed = False
        # libdav1d and other libraries read it only once, when they are opened.
        self._can_skip = not self._context.codec.name.startswith("lib")

    def decode(self, packet: "Packet[VideoStream]", *, needed: bool) -> Iterator[Frame]:
        self._context.skip_frame = "DEFAULT" if needed or not self._can_skip else "NONREF"
        self._fed = True
        yield from self._frames(packet)

    def drain(self) -> Iterator[Frame]:
        yield from self._frames(None)
        self.reset()

    def reset(self) -> None:
        if self._fed:
            self._context.flush_buffers()
            self._fed = False

    def _frames(self, packet: "Packet[VideoStream] | None") -> Iterator[Frame]:
        try:
            frames = self._context.decode(packet)
        except av.FFmpegError:
            return  # whatever the decoder cannot make sense of
        for frame in frames:
            if frame.width * frame.height > MAX_PIXELS:
                raise SourceRefused(f"its pictures are {frame.width}x{frame.height}: larger than 64 megapixels")
            yield frame


def _own(frame: Frame) -> VideoFrame:
    if not isinstance(frame, VideoFrame):
        raise TypeError("the CPU shapes the frames that it decoded")
    return frame
