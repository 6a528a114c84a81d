"""Jobs as the kernel reads them: records of `resize.cu`, and the tables that they point into."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.colour import yuv_to_rgb
from kernels.hdr import NOMINAL_PEAK, SDR_WHITE, gain_at_knots, light_of_codes, peak_of, srgb_codes, to_bt709
from kernels.job import LAYOUTS, Job, Plane, Side, check, lying_window, planes_of, window_of
from kernels.tables import Array, Table, Tables
from kernels.weights import Filter, resample_weights

TILE = (32, 16)  # TILE_WIDTH and TILE_HEIGHT of resize.cu
MOST_JOBS = 65_535  # a grid is no deeper
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
        across, down = lying_window(job)
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


def _out(job: Job) -> tuple[int, int, int]:
    """Where the first pixel of the surface as it lies is written, and how far from it the next ones across and down."""
    window, turn = window_of(job), job.turn
    across = -3 if turn.flip_x else 3
    down = -job.out_pitch if turn.flip_y else job.out_pitch
    first = job.out
    first += 3 * (window.width - 1) if turn.flip_x else 0
    first += job.out_pitch * (window.height - 1) if turn.flip_y else 0
    return (first, down, across) if turn.swapped else (first, across, down)


def _taps(side: Side, filter: Filter) -> NDArray[np.int32]:
    """(support + 1, wanted): the taps' bits, transposed so that neighbouring pixels' lie side by side, then the
    starts."""
    weights = resample_weights(side.source, side.scaled, filter, offset=side.offset, extent=side.extent)
    part = slice(side.first, side.first + side.wanted)
    return np.vstack((weights.taps[part].T.view(np.int32), weights.start[part]))


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
