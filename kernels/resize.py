"""Launches `resize.cu`: decoded surfaces in device memory to sRGB pictures in device memory, many in one launch.

Importing this does nothing and needs no CuPy; `resize` needs CuPy and a GPU, and says so.
"""

from __future__ import annotations

import functools
import importlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.colour import Matrix, yuv_to_rgb
from kernels.hdr import (
    NOMINAL_PEAK,
    SDR_WHITE,
    Primaries,
    Transfer,
    gain_at_knots,
    light_of_codes,
    peak_of,
    srgb_codes,
    to_bt709,
)
from kernels.orientation import UPRIGHT, Orientation
from kernels.reference import SITING, Siting
from kernels.weights import Filter, resample_weights

Format = Literal["nv12", "p016", "nv16", "p216", "yuv444", "yuv444_16"]
Array = NDArray[Any]

TILE = (32, 16)  # TILE_WIDTH and TILE_HEIGHT of resize.cu
MOST_JOBS = 65_535  # a grid is no deeper
MOST_TABLE_BYTES = 64 << 20  # of weights and tables that are kept, of each stream


class NoGpu(RuntimeError):
    """There is nothing here that the kernel could run on."""


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


def resize(jobs: Sequence[Job], stream: Any = None) -> None:
    """Starts all `jobs` in one launch on a CuPy stream (None: the current one), and does not wait for it. Until it has
    run, the surfaces have to keep their pictures. Raises ValueError for what cannot be, and NoGpu."""
    if jobs:
        launch("resize", lambda tables: pack(jobs, tables), stream)


def launch(kernel: str, packed: Callable[[Tables], tuple[Array, list[Table]]], stream: Any = None) -> None:
    """Starts one of the kernels on what `packed` makes, as `pack` does."""
    cupy = import_cupy()
    if stream is None:
        stream = cupy.cuda.get_current_stream()
    with stream:
        tables = _tables_of(cupy, stream)
        records, _held = packed(tables)
        on_device = cupy.asarray(records.view(np.uint8))
        _kernel(kernel, cupy.cuda.Device().id)(grid(records), (_THREADS,), (on_device,))
        # What is freed from here on is used again in the stream's own order only.
        tables.trim()


_THREADS = 256  # of resize.cu
_SOURCE = Path(__file__).with_name("resize.cu")


def source() -> str:
    return _SOURCE.read_text(encoding="utf-8")


def options() -> tuple[str, ...]:
    """For the compiler."""
    return ("--std=c++17", f"-DJOB_BYTES={JOB.itemsize}")


def import_cupy() -> Any:
    """CuPy, where there is a GPU for it. Raises NoGpu."""
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        raise NoGpu(
            f"the kernel is launched by CuPy, which cannot be imported ({error}): install thumbd[gpu]"
        ) from error
    if not cupy.cuda.is_available():
        raise NoGpu("CuPy finds no NVIDIA GPU, or no driver of one")
    return cupy


@functools.cache
def _kernel(name: str, device: int) -> Any:
    """Of the current device, which `device` names."""
    return import_cupy().RawModule(code=source(), options=options()).get_function(name)


# --- weights and tables ------------------------------------------------------------------------------------------


class Table(NamedTuple):
    array: Any  # as it was uploaded; holding it keeps it
    address: int
    size: int  # bytes


class Tables:
    """Weights and tables in device memory, by what they were made from. Not for several threads, nor for several
    streams: memory that one stream frees must not be written while another still reads it."""

    def __init__(self, upload: Callable[[Array], tuple[Any, int]], most_bytes: int = MOST_TABLE_BYTES) -> None:
        """`upload` brings an array to the device: what holds it there, and its address."""
        self._upload = upload
        self._most_bytes = most_bytes
        self._kept: OrderedDict[tuple[object, ...], Table] = OrderedDict()

    def get(self, make: Callable[..., Array], *made_from: Any) -> Table:
        """What `make(*made_from)` gives, made and uploaded where it is not there yet."""
        key = (make, *made_from)
        if key not in self._kept:
            array = np.ascontiguousarray(make(*made_from))
            self._kept[key] = Table(*self._upload(array), array.nbytes)
        self._kept.move_to_end(key)
        return self._kept[key]

    def trim(self) -> None:
        """Drops what was not used for longest, until the rest is small enough."""
        size = sum(table.size for table in self._kept.values())
        while size > self._most_bytes:
            _, dropped = self._kept.popitem(last=False)
            size -= dropped.size

    def __len__(self) -> int:
        return len(self._kept)


class Side(NamedTuple):
    """What is resampled along one axis: `source` samples of which `extent` are laid over `scaled` pixels, and of these
    `wanted` from `first` on are wanted. `offset`: the siting of chroma."""

    source: int
    extent: float
    offset: float
    scaled: int
    first: int
    wanted: int


def _taps(side: Side, filter: Filter) -> NDArray[np.int32]:
    """(support + 1, wanted): the taps' bits, transposed so that neighbouring pixels' lie side by side, then the
    starts."""
    weights = resample_weights(side.source, side.scaled, filter, offset=side.offset, extent=side.extent)
    part = slice(side.first, side.first + side.wanted)
    return np.vstack((weights.taps[part].T.view(np.int32), weights.start[part]))


_own = threading.local()
_MOST_STREAMS = 8  # of a thread


def _tables_of(cupy: Any, stream: Any) -> Tables:
    def upload(array: Array) -> tuple[Any, int]:
        there = cupy.asarray(array)
        return there, int(there.data.ptr)

    kept: OrderedDict[tuple[int, int], Tables] = _own.__dict__.setdefault("tables", OrderedDict())
    key = (cupy.cuda.Device().id, stream.ptr)
    if key not in kept:
        kept[key] = Tables(upload)
        if len(kept) > _MOST_STREAMS:
            kept.popitem(last=False)
    kept.move_to_end(key)
    return kept[key]


# --- jobs as the kernel reads them -------------------------------------------------------------------------------

_AXIS = np.dtype([("taps", "u8"), ("start", "u8"), ("target", "i4"), ("support", "i4")], align=True)
_PLANE = np.dtype(
    [("data", "u8"), ("pitch", "i8"), ("width", "i4"), ("sample_bytes", "i4"), ("across", _AXIS), ("down", _AXIS)],
    align=True,
)
# `struct Job` of resize.cu, member for member.
JOB = np.dtype(
    [
        ("planes", _PLANE, 3),
        ("matrix", "f4", 9),
        ("bias", "f4", 3),
        ("interleaved", "i4"),
        ("light", "u8"),
        ("gain", "u8"),
        ("srgb", "u8"),
        ("most", "f4"),
        ("ootf", "f4"),
        ("to_bt709", "f4", 9),
        ("out", "u8"),
        ("out_across", "i8"),
        ("out_down", "i8"),
        ("width", "i4"),
        ("height", "i4"),
    ],
    align=True,
)


def grid(records: Array) -> tuple[int, int, int]:
    """Blocks: as many tiles as the largest picture has, for every picture."""
    columns, rows = (-(-int(records[side].max()) // tile) for side, tile in zip(("width", "height"), TILE, strict=True))
    return columns, rows, len(records)


def pack(jobs: Sequence[Job], tables: Tables) -> tuple[Array, list[Table]]:
    """The jobs as the kernel `resize` reads them, `JOB` (len(jobs),), and the tables that they point into: hold these
    until the kernel was started."""
    return _pack(jobs, tables, lambda job, table: [_record_of(plane, job.filter, table) for plane in planes_of(job)])


class Floats(NamedTuple):
    """A plane that was brought to the lying size of a picture, float32, its channels interleaved. `pitch` in bytes."""

    address: int
    pitch: int


def pack_floats(jobs: Sequence[Job], planes: Sequence[Sequence[Floats]], tables: Tables) -> tuple[Array, list[Table]]:
    """As `pack`, for the kernel `paint_floats`: of every job the planes as floats."""
    given = iter(planes)
    return _pack(
        jobs, tables, lambda job, _: [_floats_of(*both) for both in zip(next(given), planes_of(job), strict=True)]
    )


_Get = Callable[..., Table]
_NO_AXIS = (0, 0, 0, 0)
_NO_PLANE = (0, 0, 0, 0, _NO_AXIS, _NO_AXIS)
_NO_LIGHT = (0, 0, 0, 0.0, 0.0, (0.0,) * 9)


def _pack(jobs: Sequence[Job], tables: Tables, planes: Callable[[Job, _Get], list[Any]]) -> tuple[Array, list[Table]]:
    if len(jobs) > MOST_JOBS:
        raise ValueError(f"{len(jobs)} pictures at once are more than {MOST_JOBS}")
    held: list[Table] = []

    def table(make: Callable[..., Array], *made_from: Any) -> Table:
        held.append(tables.get(make, *made_from))
        return held[-1]

    records = []
    for job in jobs:
        check(job)
        of_planes = planes(job, table)
        across, down = _lying_window(job)
        records.append(
            (
                of_planes + [_NO_PLANE] * (3 - len(of_planes)),
                *_affine(job),
                LAYOUTS[job.surface.format].interleaved,
                *_light(job, table),
                *_out(job),
                across[1],
                down[1],
            )
        )
    return np.array(records, JOB), held


def check(job: Job) -> None:
    """Raises ValueError where a job cannot be."""
    surface, window = job.surface, _window(job)
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


def _window(job: Job) -> Window:
    return job.window or Window(0, 0, *job.size)


def _lying_window(job: Job) -> tuple[tuple[int, int], tuple[int, int]]:
    """First and count of the wanted pixels across and down the surface as it lies."""
    window, (width, height) = _window(job), job.size
    left = width - window.left - window.width if job.turn.flip_x else window.left
    top = height - window.top - window.height if job.turn.flip_y else window.top
    sides = (left, window.width), (top, window.height)
    return (sides[1], sides[0]) if job.turn.swapped else sides


def _out(job: Job) -> tuple[int, int, int]:
    """Where the first pixel of the surface as it lies is written, and how far from it the next ones across and down."""
    window, turn = _window(job), job.turn
    across = -3 if turn.flip_x else 3
    down = -job.out_pitch if turn.flip_y else job.out_pitch
    first = job.out
    first += 3 * (window.width - 1) if turn.flip_x else 0
    first += job.out_pitch * (window.height - 1) if turn.flip_y else 0
    return (first, down, across) if turn.swapped else (first, across, down)


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
    across, down = _lying_window(job)
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


def _record_of(plane: Plane, filter: Filter, table: _Get) -> tuple[Any, ...]:
    axes = [_axis(side, filter, table) for side in (plane.across, plane.down)]
    return (plane.address, plane.pitch, plane.across.source * plane.channels, plane.sample_bytes, *axes)


def _floats_of(floats: Floats, plane: Plane) -> tuple[Any, ...]:
    first = floats.address + plane.down.first * floats.pitch + plane.across.first * plane.channels * 4
    return (first, floats.pitch, plane.across.scaled * plane.channels, 4, _NO_AXIS, _NO_AXIS)


def _axis(side: Side, filter: Filter, table: _Get) -> tuple[int, int, int, int]:
    taps = table(_taps, side, filter)
    support = taps.size // (4 * side.wanted) - 1
    return taps.address, taps.address + 4 * side.wanted * support, side.wanted, support


def _halved(length: int, by: int) -> int:
    return -(-length // by)


def _affine(job: Job) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(9,) and (3,): R'G'B' in 0..255 is the matrix times the samples as they are stored, plus the bias."""
    matrix, offset = yuv_to_rgb(job.matrix, job.full_range, job.surface.depth)
    stored = 16 - job.surface.depth if LAYOUTS[job.surface.format].sample_bytes == 2 else 0
    return (matrix / 2**stored).ravel(), -matrix @ offset


def _light(job: Job, table: _Get) -> tuple[Any, ...]:
    if job.transfer == "sdr" and job.primaries == "bt709":
        return _NO_LIGHT
    peak = peak_of(job.transfer, job.peak)
    return (
        table(light_of_codes, job.transfer).address,
        0 if job.transfer == "sdr" else table(gain_at_knots, peak).address,
        table(srgb_codes).address,
        peak / SDR_WHITE,
        NOMINAL_PEAK / SDR_WHITE if job.transfer == "hlg" else 0.0,
        to_bt709(job.primaries).ravel(),
    )
