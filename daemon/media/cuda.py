"""An NVIDIA card: NVDEC decodes, the kernel shrinks, and what neither is right for is left to the CPU."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice

import av
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from daemon.media.choice import Choice
from daemon.media.colour import Colour
from daemon.media.cpu import CpuDevice
from daemon.media.cupy_card import CupyCard
from daemon.media.device import RGB, CardLost, Decoder, Device, Frame, Hardware, Look, Packets, Pixels, Unfit
from daemon.media.geometry import MAX_PIXELS, Size
from daemon.media.nvdec import CODECS, NvdecDecoder, Pool, Session, capabilities
from daemon.media.nvidia import check_driver, first_line, video_codec
from daemon.media.nvimgcodec import NvJpeg
from daemon.media.siting import siting_of
from daemon.media.surface import Card, JpegEncoder, Kind, Surface

_SAMPLE_PACKETS = 64  # in which a first picture must come out
_CHROMA = {(8, 8): 420, (8, 16): 422, (16, 16): 444}  # by the size of chroma for 16x16 of luma


def open_cuda(choice: Choice) -> "Cuda":
    """Raises DeviceMissing, which says what is missing and what to do."""
    check_driver()
    video_codec()
    card = CupyCard(choice.card, choice.resize)
    capabilities(choice.card)["h264", 420, 8]  # loads the decoding library, or says that it is missing
    jpeg = LargeJpeg(NvJpeg(choice.card), choice.jpeg_pixels) if choice.jpeg_pixels else None
    return Cuda(card, jpeg)


@dataclass(frozen=True, slots=True)
class LargeJpeg:
    """What makes JPEG of pictures of at least so many `pixels`."""

    encoder: JpegEncoder
    pixels: int


class Cuda:
    """One card, for all sources of a process; `fit` gives what does one of them."""

    def __init__(self, card: Card, jpeg: LargeJpeg | None = None) -> None:
        self._card = card
        self._jpeg = jpeg
        self._pool = Pool(lambda kind: Session(card, kind))
        self.name = f"cuda:{card.number}"
        self.note = "an NVIDIA card is usable"
        self.otherwise: Hardware = CpuDevice()

    def fit(self, stream: VideoStream | None, packets: Packets, *, timed: bool) -> Device:
        """Looks at one keyframe that libav decodes: only so pixel format, colour, orientation, and what else goes along
        with frames are known for sure, for NVDEC tells none of it and containers may leave it out. It costs one
        keyframe a source."""
        if stream is None:
            raise Unfit("still", "it is a file of still pictures")
        codec = stream.codec_context.codec.canonical_name
        if codec not in CODECS:
            raise Unfit("codec", f"NVDEC does not decode {codec}")
        if not timed:
            raise Unfit("times", "its packets do not tell when their frames are shown")
        frame = _sample(stream, packets())
        kind = self._kind(codec, stream, frame)
        look = CpuDevice().look(frame, stream)
        look = replace(look, colour=replace(look.colour, siting=siting_of(frame)))
        return CudaDevice(self.name, self._card, self._pool, kind, look, self._jpeg)

    def _kind(self, codec: str, stream: VideoStream, frame: VideoFrame) -> Kind:
        format = frame.format
        if format.has_palette:
            raise Unfit("palette", f"its pictures have a palette ({format.name})")
        if any(component.is_alpha for component in format.components):
            raise Unfit("alpha", f"its pictures may be transparent ({format.name})")
        if frame.interlaced_frame:
            raise Unfit("interlaced", "its pictures are interlaced")
        chroma = _CHROMA.get((format.chroma_width(16), format.chroma_height(16)))
        if chroma is None or len(format.components) != 3:
            raise Unfit("chroma", f"NVDEC does not decode {codec} as {format.name}")
        depth = max(component.bits for component in format.components)
        context = stream.codec_context
        coded = (context.coded_width or frame.width, context.coded_height or frame.height)
        self._check(codec, chroma, depth, coded)
        return Kind(codec, chroma, depth, coded, (frame.width, frame.height))

    def _check(self, codec: str, chroma: int, depth: int, coded: Size) -> None:
        known = capabilities(self._card.number)
        said = known.get((codec, chroma, depth))
        if said is None or not said.supported:
            if (eight := known.get((codec, chroma, 8))) is not None and eight.supported:
                raise Unfit("depth", f"this card's NVDEC does not decode {codec} of {depth} bits")
            if (usual := known.get((codec, 420, 8))) is not None and usual.supported:
                raise Unfit("chroma", f"this card's NVDEC does not decode {codec} with chroma 4:{str(chroma)[1:]}")
            raise Unfit("codec", f"this card's NVDEC does not decode {codec}")
        if not said.takes(coded) or coded[0] * coded[1] > MAX_PIXELS:
            raise Unfit("size", f"this card's NVDEC does not decode {codec} of {coded[0]}x{coded[1]}")


class CudaDevice:
    """A card for one source."""

    def __init__(self, name: str, card: Card, pool: Pool, kind: Kind, look: Look, jpeg: LargeJpeg | None) -> None:
        self.name = name
        self._card = card
        self._pool = pool
        self._kind = kind
        self._look = look
        self._jpeg = jpeg

    def decoder(self, stream: VideoStream) -> Decoder:
        return NvdecDecoder(stream, self._card, self._kind, self._pool)

    def look(self, frame: Frame, stream: VideoStream) -> Look:
        return self._look

    def resize(self, frame: Frame, sizes: Sequence[Size], colour: Colour) -> list[Pixels]:
        if not isinstance(frame, Surface):
            raise TypeError("the card shapes the frames that it decoded")
        with self._told("a picture"):
            return self._card.resize(frame, sizes, colour)

    def jpeg(self, picture: RGB, quality: int) -> bytes | None:
        large = self._jpeg
        if large is None or picture.shape[0] * picture.shape[1] < large.pixels:
            return None
        with self._told("a JPEG"):
            return large.encoder.encode(picture, quality)

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Whatever the libraries raise as what it means for the source."""
        try:
            yield
        except Exception as error:
            if not self._card.works():
                raise CardLost(str(error)) from error
            raise Unfit("error", f"the card failed to make {what} ({first_line(error)})") from error


def _sample(stream: VideoStream, packets: Iterator["Packet[VideoStream]"]) -> VideoFrame:
    """The first picture that libav makes of a lone key packet."""
    context = stream.codec_context
    context.thread_count = 1
    for packet in islice(packets, _SAMPLE_PACKETS):
        if packet.is_keyframe:
            frames = (*_decoded(context, packet), *_decoded(context, None))
            context.flush_buffers()
            for frame in frames:
                if not frame.is_corrupt:
                    return frame
    raise Unfit("entry", "libav makes no picture of a key packet alone")


def _decoded(context: "av.VideoCodecContext", packet: "Packet[VideoStream] | None") -> list[VideoFrame]:
    try:
        return context.decode(packet)
    except av.FFmpegError:
        return []
