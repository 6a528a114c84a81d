"""What is asked of the kernel: pictures of decoded surfaces in device memory, and what they need of each plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from kernels.colour import Matrix
from kernels.hdr import NOMINAL_PEAK, Primaries, Transfer
from kernels.orientation import UPRIGHT, Orientation
from kernels.reference import SITING, Siting
from kernels.weights import Filter

Format = Literal["nv12", "p016", "nv16", "p216", "yuv444", "yuv444_16"]


class Layout(NamedTuple):
    """How a format lies in memory. `subsampling`: luma samples to one of chroma, across and down. Chroma is one plane,
    U and V in turn, or two. Samples of two bytes have their bits in the upper ones."""

    sample_bytes: int
    subsampling: tuple[int, int]
    interleaved: bool


# What NVDEC writes.
LAYOUTS: dict[Format, Layout] = {
    "nv12": Layout(1, (2, 2), True),
    "p016": Layout(2, (2, 2), True),
    "nv16": Layout(1, (2, 1), True),
    "p216": Layout(2, (2, 1), True),
    "yuv444": Layout(1, (1, 1), False),
    "yuv444_16": Layout(2, (1, 1), False),
}


@dataclass(frozen=True, slots=True)
class Surface:
    """A decoded picture in device memory. `planes`: addresses, of luma and interleaved chroma, or of Y, U and V;
    `pitch`: bytes from row to row, the same for all. `width` and `height` are what is to be seen, in luma samples;
    what is coded beyond is not looked at. `depth`: bits of a sample. `chroma_rows`: where there are fewer than half of
    an odd height, rounded up."""

    planes: tuple[int, ...]
    pitch: int
    width: int
    height: int
    format: Format
    depth: int = 8
    chroma_rows: int | None = None


def stacked(address: int, pitch: int, rows: int, format: Format) -> tuple[int, ...]:
    """`Surface.planes` where they follow each other, each but the last having `rows` rows: the coded height."""
    return tuple(address + i * rows * pitch for i in range(2 if LAYOUTS[format].interleaved else 3))


class Window(NamedTuple):
    """A part of a picture, in its pixels, upright."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Job:
    """One picture. The whole surface is turned and scaled to `size`, (width, height) upright; what `window` cuts out of
    that (None: nothing is cut) is written to `out`, the address of its first byte, as rows of R, G and B, `out_pitch`
    bytes apart. So a tile is written into a sheet by the address of its corner and the sheet's pitch.

    `matrix` to `peak` are what the samples mean, as in `kernels.colour` and `kernels.hdr`."""

    surface: Surface
    size: tuple[int, int]
    out: int
    out_pitch: int
    matrix: Matrix | None
    full_range: bool = False
    primaries: Primaries = "bt709"
    transfer: Transfer = "sdr"
    peak: float = NOMINAL_PEAK
    siting: Siting = "left"
    filter: Filter = "lanczos3"
    turn: Orientation = UPRIGHT
    window: Window | None = None


def check(job: Job) -> None:
    """Raises ValueError where a job cannot be."""
    surface, window = job.surface, window_of(job)
    if surface.format not in LAYOUTS:
        raise ValueError(f"no surface format: {surface.format!r}")
    layout = LAYOUTS[surface.format]
    if min(surface.width, surface.height, *job.size, window.width, window.height) < 1:
        raise ValueError(f"nothing to see: {surface.width}x{surface.height} to {job.size}, of which {window}")
    if not (surface.depth == 8 if layout.sample_bytes == 1 else 8 < surface.depth <= 16):
        raise ValueError(f"{surface.format} holds no samples of {surface.depth} bits")
    if len(surface.planes) != (2 if layout.interleaved else 3) or not all(surface.planes):
        raise ValueError(f"{surface.format} has {2 if layout.interleaved else 3} planes, given are {surface.planes}")
    if any(address % layout.sample_bytes for address in (*surface.planes, surface.pitch)):
        raise ValueError("samples of two bytes must lie at even addresses, with an even pitch")
    if surface.pitch < max(surface.width, 2 if layout.interleaved else 1) * layout.sample_bytes:
        raise ValueError(f"a pitch of {surface.pitch} bytes is less than a row of {surface.width} samples")
    if surface.chroma_rows is not None and not 1 <= surface.chroma_rows <= _halved(
        surface.height, layout.subsampling[1]
    ):
        raise ValueError(f"{surface.chroma_rows} rows of chroma do not fit {surface.height} of luma")
    if min(window.left, window.top) < 0 or (
        window.left + window.width > job.size[0] or window.top + window.height > job.size[1]
    ):
        raise ValueError(f"{window} is not inside {job.size}")
    if not job.out or job.out_pitch < 3 * window.width:
        raise ValueError(f"no place for {window} at {job.out} with a pitch of {job.out_pitch} bytes")


def window_of(job: Job) -> Window:
    return job.window or Window(0, 0, *job.size)


def lying_window(job: Job) -> tuple[tuple[int, int], tuple[int, int]]:
    """First and count of the wanted pixels across and down the surface as it lies."""
    window, (width, height) = window_of(job), job.size
    left = width - window.left - window.width if job.turn.flip_x else window.left
    top = height - window.top - window.height if job.turn.flip_y else window.top
    sides = (left, window.width), (top, window.height)
    return (sides[1], sides[0]) if job.turn.swapped else sides


class Side(NamedTuple):
    """What is resampled along one axis: `source` samples of which `extent` are laid over `scaled` pixels, and of these
    `wanted` from `first` on are wanted. `offset`: the siting of chroma."""

    source: int
    extent: float
    offset: float
    scaled: int
    first: int
    wanted: int


class Plane(NamedTuple):
    """A plane of a surface, and what of it becomes the picture as it lies."""

    address: int
    pitch: int
    sample_bytes: int
    channels: int
    across: Side
    down: Side

    @property
    def array(self) -> tuple[tuple[int, int, int], tuple[int, int, int], np.dtype[Any]]:
        """As (height, width, channels): shape, strides, type."""
        shape = (self.down.source, self.across.source, self.channels)
        strides = (self.pitch, self.channels * self.sample_bytes, self.sample_bytes)
        return shape, strides, np.dtype(f"u{self.sample_bytes}")


def planes_of(job: Job) -> list[Plane]:
    surface, layout = job.surface, LAYOUTS[job.surface.format]
    lying = job.size[::-1] if job.turn.swapped else job.size
    across, down = lying_window(job)
    x_offset, y_offset = SITING[job.siting]
    planes = []
    for i, address in enumerate(surface.planes):
        channels = 2 if i and layout.interleaved else 1
        over, under = layout.subsampling if i else (1, 1)
        # Chroma of an odd width may lack its last sample, which packed rows have no room for.
        width = min(_halved(surface.width, over), surface.pitch // (channels * layout.sample_bytes))
        height = (surface.chroma_rows if i else None) or _halved(surface.height, under)
        sides = (
            Side(width, surface.width / over, x_offset if over > 1 else 0.0, lying[0], *across),
            Side(height, surface.height / under, y_offset if under > 1 else 0.0, lying[1], *down),
        )
        planes.append(Plane(address, surface.pitch, layout.sample_bytes, channels, *sides))
    return planes


def _halved(length: int, by: int) -> int:
    return -(-length // by)
