"""Colour charts as video: what they show is known, and coded here by formulas of our own, not by libswscale.

A chart is twelve patches, four across and three down, no two alike, so that any turn, flip or squeeze shows. `write`
makes a video of a few frames of it, in the pixel format and with the tags that a `Chart` says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Size = tuple[int, int]

ACROSS, DOWN = 4, 3
# R'G'B' of SDR, 0..1: greys with black and white, then colours at 75 % and some that are hardly saturated.
PATCHES: Floats = (
    np.array(
        [
            *((0, 0, 0), (0x55, 0x55, 0x55), (0xAA, 0xAA, 0xAA), (255, 255, 255)),
            *((191, 0, 0), (0, 191, 0), (0, 0, 191), (191, 191, 0)),
            *((150, 90, 70), (90, 120, 60), (200, 160, 220), (40, 60, 90)),
        ]
    )
    / 255
)
GREYS: Floats = np.repeat(np.linspace(0, 1, 12)[:, None], 3, axis=1)

KR_KB = {
    "601": (0.299, 0.114),
    "709": (0.2126, 0.0722),
    "2020": (0.2627, 0.0593),
    "fcc": (0.3, 0.11),
    "240": (0.212, 0.087),
}
FRAMES = 3


@dataclass(frozen=True)
class Chart:
    """One video of a chart. `matrix`: which one the samples are made with; `tags`: color_range, colorspace,
    color_primaries and color_trc as in ITU-T H.273 (range: 1 limited, 2 full). `signal`: the patches, as coded."""

    name: str
    suffix: str
    codec: str
    pix_fmt: str
    matrix: str = "601"
    full: bool = False
    tags: tuple[tuple[str, int], ...] = ()
    size: Size = (192, 144)
    options: tuple[tuple[str, str], ...] = ()
    signal: Floats | None = None
    alpha: bool = False  # the right half is half transparent, and its last column wholly
    sample_aspect: Fraction | None = None
    turn: tuple[int, bool, bool] | None = None  # degrees counter-clockwise, then mirrored: left to right, upside down

    @property
    def patches(self) -> Floats:
        return PATCHES if self.signal is None else self.signal


def picture(patches: Floats, size: Size) -> Floats:
    """(height, width, 3), 0..1."""
    width, height = size
    column, row = np.arange(width) * ACROSS // width, np.arange(height) * DOWN // height
    return patches[row[:, None] * ACROSS + column[None, :]]


def coverage(size: Size) -> Floats:
    """(height, width), 0..1: what `alpha` means."""
    column = np.arange(size[0]) * ACROSS // size[0]
    return np.broadcast_to(np.array([1.0, 1.0, 0.5, 0.0])[column], (size[1], size[0]))


def patch_means(image: NDArray[np.uint8]) -> Floats:
    """(DOWN, ACROSS, channels): the middles of the patches of a picture of any size, 0..255."""
    height, width = image.shape[:2]
    means = np.empty((DOWN, ACROSS, image.shape[2]))
    for row in range(DOWN):
        for column in range(ACROSS):
            y = slice(round(height * (row + 0.3) / DOWN), round(height * (row + 0.7) / DOWN))
            x = slice(round(width * (column + 0.3) / ACROSS), round(width * (column + 0.7) / ACROSS))
            means[row, column] = image[y, x].reshape(-1, image.shape[2]).mean(axis=0)
    return means


def frame_of(chart: Chart) -> av.VideoFrame:
    """The chart as one frame, its samples computed here."""
    frame = av.VideoFrame(*chart.size, chart.pix_fmt)
    rgb = picture(chart.patches, chart.size)
    for plane, samples in zip(frame.planes, _planes(chart, rgb), strict=True):
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        data = np.ascontiguousarray(samples).view(np.uint8).reshape(samples.shape[0], -1)
        rows[: data.shape[0], : data.shape[1]] = data
    return frame


def _planes(chart: Chart, rgb: Floats) -> list[NDArray[Any]]:
    format = chart.pix_fmt
    opacity = coverage(chart.size) if chart.alpha else np.ones(rgb.shape[:2])
    if format in ("rgb24", "rgba", "bgra", "argb", "bgr24", "rgb555le"):
        return [_packed(format, rgb, opacity)]
    depth = next((int(end) for end in ("16", "14", "12", "10", "9") if format.removesuffix("le").endswith(end)), 8)
    dtype = np.uint8 if depth == 8 else np.dtype("<u2")
    top = 2**depth - 1
    if format.startswith("gbr"):
        planes = [rgb[..., 1], rgb[..., 2], rgb[..., 0], *([opacity] if "a" in format else [])]
        low, high = (0, top) if chart.full else (16 << depth - 8, 235 << depth - 8)
        return [np.rint(low + (high - low) * plane).astype(dtype) for plane in planes]
    y, cb, cr = _to_yuv(rgb, chart.matrix)
    black, luma, chroma = (0, top, top) if chart.full else (16 << depth - 8, 219 << depth - 8, 224 << depth - 8)
    planes = [np.rint(black + luma * y)]
    if not format.startswith("gray"):
        right, down = {"420": (2, 2), "422": (2, 1), "444": (1, 1), "411": (4, 1), "410": (4, 4), "440": (1, 2)}[
            format.lstrip("yuvaj")[:3]
        ]
        for plane in (cb, cr):
            padded = np.pad(plane, ((0, -plane.shape[0] % down), (0, -plane.shape[1] % right)), mode="edge")
            small = padded.reshape(padded.shape[0] // down, down, padded.shape[1] // right, right).mean(axis=(1, 3))
            planes.append(np.rint((1 << depth - 1) + chroma * small))
    if format.startswith("yuva"):
        planes.append(np.rint(top * opacity))
    return [np.clip(plane, 0, top).astype(dtype) for plane in planes]


def _packed(format: str, rgb: Floats, opacity: Floats) -> NDArray[Any]:
    if format == "rgb555le":
        r, g, b = np.moveaxis(np.rint(rgb * 31).astype(np.uint16), -1, 0)
        return r << 10 | g << 5 | b
    channels = dict(zip("rgba", (*np.moveaxis(rgb, -1, 0), opacity), strict=True))
    return np.rint(255 * np.stack([channels[letter] for letter in format.rstrip("2045")], axis=-1)).astype(np.uint8)


def _to_yuv(rgb: Floats, matrix: str) -> tuple[Floats, Floats, Floats]:
    """Y' in 0..1, Cb and Cr (Cg and Co) in -1/2..1/2."""
    r, g, b = np.moveaxis(rgb, -1, 0)
    if matrix == "ycgco":
        return (r + 2 * g + b) / 4, (-r + 2 * g - b) / 4, (r - b) / 2
    kr, kb = KR_KB[matrix]
    y = kr * r + (1 - kr - kb) * g + kb * b
    return y, (b - y) / (2 * (1 - kb)), (r - y) / (2 * (1 - kr))


def write(chart: Chart, folder: Path, paint: Callable[[int], av.VideoFrame] | None = None) -> Path:
    """The video, written into `folder` unless it is there. `paint`: frame n, else the chart itself."""
    path = folder / (chart.name + chart.suffix)
    if path.exists():
        return path
    with av.open(path, "w", container_options={"fflags": "+bitexact"}) as output:
        stream = output.add_stream(
            chart.codec,
            rate=25,
            options=dict(chart.options),
            width=chart.size[0],
            height=chart.size[1],
            pix_fmt=chart.pix_fmt,
        )
        assert isinstance(stream, VideoStream)
        stream.codec_context.thread_count = 1
        for tag, value in chart.tags:
            setattr(stream.codec_context, tag, value)
        if chart.sample_aspect is not None:
            stream.codec_context.sample_aspect_ratio = chart.sample_aspect
        if chart.turn is not None:
            degrees, hflip, vflip = chart.turn
            stream.set_display_rotation(degrees, hflip=hflip, vflip=vflip)
        packets: list[Packet[Any]] = []
        for n in range(1 if chart.suffix in STILL else FRAMES):
            frame = paint(n) if paint else frame_of(chart)
            frame.pts, frame.time_base = n, Fraction(1, 25)
            for tag, value in chart.tags:
                setattr(frame, tag.replace("color_primaries", "color_primaries"), value)
            packets += stream.encode(frame)
        output.mux(packets + stream.encode(None))
    return path


STILL = (".png", ".jpg", ".bmp", ".webp", ".tiff")


# --- how far two colours are apart ------------------------------------------------------------------------------


def delta_e(one: Floats, other: Floats) -> Floats:
    """CIE 1976: the distance in CIELAB (D65) of sRGB colours, 0..255; about 2.3 is just noticeable."""
    difference: Floats = np.linalg.norm(_lab(one) - _lab(other), axis=-1)
    return difference


def _lab(srgb: Floats) -> Floats:
    signal = np.asarray(srgb) / 255
    light = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    ratio = light @ to_xyz.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)
