"""Frames to small R'G'B' pictures with libswscale, and what it lacks.

Why this call: `python -m bench.scalers` holds libswscale against the NumPy reference. Plain `rgb24` with any filter
halves the horizontal chroma and rounds through truncating tables (22 dB on saturated edges; white becomes 253). Full
chroma interpolation and accurate rounding cure that (56 to 61 dB against the reference), and planar `gbrp` gives the
same pixels as `rgb24` in half the time. Lanczos (3 lobes, widened when shrinking) keeps the detail that area averaging
blurs (31 dB from it), for 1.7 ms instead of 0.5 ms beside the 10 ms of decoding a 1080p keyframe.

What it lacks is made good here, on the small picture and in 16 bits (`gbrp16`, no slower than `gbrp`): HDR and other
primaries (`kernels.hdr`); the YCgCo matrix; limited range in grey and RGB, which it always takes as full; and alpha,
which has to be multiplied in before pixels are mixed, or hidden colours shine through.
"""

import threading
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from daemon.media.colour import Colour
from daemon.media.deinterlace import deinterlace
from daemon.media.device import Pixels
from daemon.media.geometry import Size
from kernels.colour import yuv_to_rgb
from kernels.hdr import to_srgb

_FILTER = (
    Interpolation.LANCZOS | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP | Interpolation.ACCURATE_RND
)
_MATRICES = {
    "bt709": Colorspace.ITU709,
    "bt601": Colorspace.ITU601,
    "bt2020": Colorspace.BT2020,
    "fcc": Colorspace.FCC,
    "smpte240m": Colorspace.SMPTE240M,
}
_ANY_MATRIX = Colorspace.ITU709  # where there is nothing to convert
_MAX_SCALERS = 16

_Words = NDArray[np.uint16]

_own = threading.local()  # a reformatter rebuilds its tables when anything changes, and is not for several threads


def scale(frame: VideoFrame, size: Size, colour: Colour) -> Pixels:
    """The whole frame as sRGB, uint8 (height, width, 3); (height, width, 4) where some of it is transparent, with
    straight alpha."""
    if frame.interlaced_frame:
        frame = deinterlace(frame)
    if frame.format.is_rgb and min(component.bits for component in frame.format.components) < 8:
        # When it scales, libswscale only shifts few bits up: white would be 248. Without scaling it repeats them.
        frame = frame.reformat(format="rgb24")
    opacity = None
    if _may_be_transparent(frame) and (straight := _transparent(frame, colour)) is not None:
        signal, opacity = _mixed(straight, size)
    elif colour.matrix == "ycgco":
        signal = _from_ycgco(_converted(frame, size, "yuv444p", colour), colour.full_range)
    elif colour.is_srgb and not _is_narrow(colour):
        return np.asarray(_converted(frame, size, "gbrp", colour), np.uint8)
    else:
        signal = _signal(frame, size, colour)
    if _is_narrow(colour):
        signal = _widened(signal)
    picture = _eight_bits(signal) if colour.is_srgb else to_srgb(signal, colour.primaries, colour.transfer, colour.peak)
    return picture if opacity is None else np.dstack((picture, _eight_bits(opacity)))


def _signal(frame: VideoFrame, size: Size, colour: Colour) -> _Words:
    """R'G'B' in 16 bits. Of samples of 8 bits libswscale makes no more than 8; and it shifts up where it should scale.
    White from limited range is 255/256, from n bits of full range 1 - 1/2^n: in PQ that is several percent of light."""
    bits = max(component.bits for component in frame.format.components)
    if bits <= 8:
        eight: NDArray[np.uint8] = _converted(frame, size, "gbrp", colour)
        return eight.astype(np.uint16) * np.uint16(257)
    limited = colour.matrix is not None and not colour.full_range
    white = 255 / 256 if limited else 1 - 2.0**-bits
    return _words(_converted(frame, size, "gbrp16le", colour) / np.float32(65535 * white))


def _converted(frame: VideoFrame, size: Size, format: str, colour: Colour) -> Any:
    """uint8 or uint16 (height, width, channels), as `format` has it; YUV formats keep the source's matrix and range."""
    matrix = _MATRICES.get(colour.matrix or "", _ANY_MATRIX)
    given = ColorRange.JPEG if colour.full_range else ColorRange.MPEG
    small = _reformatter(frame, size, format).reformat(
        frame,
        width=size[0],
        height=size[1],
        format=format,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=given,
        dst_color_range=given if format.startswith("yuv") else ColorRange.JPEG,
        interpolation=_FILTER,
        threads=1,
    )
    return small.to_ndarray(channel_last=True)


def _is_narrow(colour: Colour) -> bool:
    """Samples that are not YUV but keep to the limited range all the same: libswscale does not widen them."""
    return colour.matrix is None and not colour.full_range


def _widened(signal: _Words) -> _Words:
    """From 16 to 235 (of 255) to all of 16 bits."""
    return _words((signal.astype(np.float32) / 257 - 16) / 219)


def _from_ycgco(yuv: NDArray[np.uint8], full_range: bool) -> _Words:
    matrix, offset = yuv_to_rgb("ycgco", full_range)
    return _words((yuv - offset) @ matrix.T / 255)


def _words(unit: NDArray[np.floating[Any]]) -> _Words:
    """0..1 to 16 bits, clipped and rounded."""
    words: _Words = (np.clip(unit, 0, 1) * 65535 + 0.5).astype(np.uint16)
    return words


def _eight_bits(signal: _Words) -> Pixels:
    return ((signal.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _may_be_transparent(frame: VideoFrame) -> bool:
    return frame.format.has_palette or any(component.is_alpha for component in frame.format.components)


def _transparent(frame: VideoFrame, colour: Colour) -> NDArray[np.uint8] | None:
    """The whole frame, (height, width, 4) with straight alpha; None where it is opaque after all."""
    # In 8 bits: to 16 libswscale would bring white as 65283.
    straight: NDArray[np.uint8] = _converted(frame, (frame.width, frame.height), "rgba", colour)
    return None if straight[..., 3].min(initial=255) == 255 else straight


def _mixed(straight: NDArray[np.uint8], size: Size) -> tuple[_Words, _Words]:
    """R'G'B' and alpha of the small picture: scaled premultiplied, so that what is transparent has no colour."""
    words = straight.astype(np.uint32)
    words[..., :3] *= words[..., 3:]
    words[..., 3] *= 255
    premultiplied = VideoFrame.from_ndarray((words * 65535 // 65025).astype(np.uint16), "rgba64le")
    small = _converted(premultiplied, size, "rgba64le", Colour(matrix=None, full_range=True))
    opacity = small[..., 3]
    return _words(small[..., :3] / np.maximum(opacity, 1)[..., None].astype(np.float32)), opacity


def _reformatter(frame: VideoFrame, size: Size, format: str) -> VideoReformatter:
    kept: dict[tuple[object, ...], VideoReformatter] = _own.__dict__.setdefault("reformatters", {})
    key = (frame.width, frame.height, frame.format.name, size, format)
    if key not in kept:
        if len(kept) >= _MAX_SCALERS:
            kept.pop(next(iter(kept)))
        kept[key] = VideoReformatter()
    return kept[key]
