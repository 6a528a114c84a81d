"""Still pictures as sources, and animated WebP: read by Pillow, seen as videos of one or a few frames.

libav could decode most of them, but it has no demuxer for animated WebP, and it neither mirrors by EXIF nor heeds
colour profiles, which phones rely on. GIF and APNG are videos to libav and stay there.
"""

import functools
import io
from collections.abc import Iterator
from fractions import Fraction
from itertools import accumulate
from typing import Any

import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import (
    BmpImagePlugin,
    Image,
    ImageCms,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from daemon.errors import NotAVideo, SourceRefused, SourceUnreadable
from daemon.media.colour import Colour
from daemon.media.device import Decoder, Device, Frame, Hardware, Look
from daemon.media.facts import Facts
from daemon.media.geometry import MAX_PIXELS
from daemon.media.source import Source
from kernels.orientation import UPRIGHT

# Named here, so that they are imported now: a worker opens no file after its start.
PLUGINS = (BmpImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin)
FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
TIME_BASE = Fraction(1, 1000)
STILL_TICKS = 40  # how long a lone picture is shown: what libav says of them
_MOST_BYTES = 256 << 20  # the file is held in memory
_EXIF_ORIENTATION, _SIDEWAYS = 274, (5, 6, 7, 8)  # EXIF 2.32, 4.6.5.1
_LOOK = Look(UPRIGHT, Colour(matrix=None, full_range=True), None)
_UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)


def is_webp(source: Source) -> bool:
    head = source.read_at(0, 12)
    return head[:4] == b"RIFF" and head[8:] == b"WEBP"


class Stills:
    """One opening of a picture file: what `Demuxer` is for a container. Raises NotAVideo where it cannot be read,
    SourceRefused where it is too large."""

    time_base = TIME_BASE
    indexed = True

    def __init__(self, source: Source) -> None:
        if source.size > _MOST_BYTES:
            raise SourceRefused(f"a picture file of {source.size} bytes: at most {_MOST_BYTES} are read")
        try:
            data = source.read_at(0, source.size)
        except OSError as error:
            raise SourceUnreadable(f"reading it failed ({error.strerror})") from None
        self._image = _opened(data)
        self._next = 0
        self._shown = _webp_ticks(data) or [STILL_TICKS]  # how long each picture is shown

    def measure(self) -> Facts:
        width, height = self._image.size
        if self._lies_on_its_side():
            width, height = height, width
        end = sum(self._shown)
        return Facts(
            time_base=TIME_BASE,
            start=0,
            end=end,
            codec=(self._image.format or "").lower(),
            width=width,
            height=height,
            fps=round(1000 * len(self._shown) / end, 4) if len(self._shown) > 1 else None,
            timing="shown",
            step=max(1, end // len(self._shown)),
            missing=0,
            cut=None,
            warnings=(),
        )

    def _lies_on_its_side(self) -> bool:
        try:
            # A TIFF is turned by Pillow as it is opened, all others when they are decoded.
            return self._image.format != "TIFF" and self._image.getexif().get(_EXIF_ORIENTATION, 1) in _SIDEWAYS
        except _UNREADABLE as error:
            raise _no_picture(error) from None

    def fit(self, hardware: Hardware, *, timed: bool) -> Device:
        return hardware.fit(None, self.packets, timed=timed)

    def decoder(self, device: Device) -> Decoder:
        """Pictures are decoded by the CPU, whatever the device."""
        return _PictureDecoder(self._image)

    def look(self, device: Device, frame: Frame) -> Look:
        """The decoder has turned them upright and to sRGB."""
        return _LOOK

    def group(self, ticks: int) -> int | None:
        """One group: an animation can only be decoded from its beginning."""
        return 0

    def next_keyframe(self, ticks: int) -> int | None:
        return next((start for start in accumulate(self._shown[:-1]) if start > ticks), None)

    def packets(self) -> Iterator["Packet[VideoStream]"]:
        """One packet for each picture from here on, whose content is its number."""
        starts = list(accumulate(self._shown, initial=0))
        while self._next < len(self._shown):
            number, self._next = self._next, self._next + 1
            packet: Packet[Any] = Packet(str(number).encode())
            packet.pts = packet.dts = starts[number]
            packet.duration = self._shown[number]
            packet.is_keyframe = True
            yield packet

    def seek(self, ticks: int) -> None:
        """To the picture shown at `ticks`."""
        ends = list(accumulate(self._shown))
        self._next = next((n for n, end in enumerate(ends) if end > ticks), len(ends) - 1)

    def rewind(self) -> None:
        self._next = 0

    def close(self) -> None:
        self._image.close()


class _PictureDecoder:
    def __init__(self, image: Image.Image) -> None:
        self._image = image

    def decode(self, packet: "Packet[VideoStream]", *, needed: bool) -> Iterator[Frame]:
        if not needed:
            return
        try:
            self._image.seek(int(bytes(packet)))
            picture = _as_srgb(ImageOps.exif_transpose(self._image))
            if self._image.format == "BMP" and picture.mode == "RGBA" and picture.getchannel("A").getbbox() is None:
                picture = picture.convert("RGB")  # its fourth byte is not used
        except _UNREADABLE:
            return
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgba" if picture.mode == "RGBA" else "rgb24")
        frame.pts, frame.time_base = packet.pts, TIME_BASE
        yield frame

    def drain(self) -> Iterator[Frame]:
        yield from ()

    def reset(self) -> None:
        pass


def _opened(data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except _UNREADABLE as error:
        raise _no_picture(error) from None
    if image.width * image.height > MAX_PIXELS:
        raise SourceRefused(f"its pictures are {image.width}x{image.height}: larger than 64 megapixels")
    return image


def _no_picture(error: Exception) -> NotAVideo:
    return NotAVideo(f"a picture that cannot be read ({error}): give a whole one")


def _as_srgb(image: Image.Image) -> Image.Image:
    """RGB or RGBA, 8 bits."""
    if image.mode.startswith("I"):
        # 16 bits of grey, which Pillow would clip to 8.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    transparent = image.has_transparency_data
    if (profile := image.info.get("icc_profile")) and image.mode in ("RGB", "RGBA", "L", "CMYK"):
        try:
            converted = ImageCms.profileToProfile(
                image, io.BytesIO(profile), _srgb(), outputMode="RGBA" if image.mode == "RGBA" else "RGB"
            )
            return converted or image
        except (ImageCms.PyCMSError, OSError):
            pass  # a broken profile says nothing of the colours
    return image.convert("RGBA" if transparent else "RGB")


@functools.cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _webp_ticks(data: bytes) -> list[int]:
    """How long each picture of an animated WebP is shown, in milliseconds (RFC 9649, 2.7.1.1); empty for others."""
    if data[:4] != b"RIFF" or data[8:16] != b"WEBPVP8X":
        return []
    ticks, position = [], 12
    while position + 8 <= len(data):
        kind, size = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        if kind == b"ANMF":
            ticks.append(max(1, int.from_bytes(data[position + 20 : position + 23], "little")))
        position += 8 + size + size % 2
    return ticks
