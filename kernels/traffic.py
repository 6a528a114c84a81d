"""How many bytes `resize.cu` moves, counted from the weights themselves, tile by tile, as it walks.

What a tile reads of a plane is the rectangle that its taps reach, once from beyond the multiprocessor (the rows of one
tile are reached by several of its target rows, through the L1 cache). Neighbouring tiles share the rims of their
rectangles: that is what is read more than once through L2. From memory every byte comes once, as long as a surface fits
into L2. Weights are not counted: they are small, and stay in L2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from kernels.job import LAYOUTS, Format
from kernels.records import TILE
from kernels.reference import SITING
from kernels.weights import Filter, Weights, resample_weights


@dataclass(frozen=True)
class Traffic:
    """Bytes of one picture. `source`: of the surface. `reached`: of it, what any tap reaches. `through_l2`: read by
    all tiles together. `loads`: asked of the L1 cache. `written`: the picture."""

    source: int
    reached: int
    through_l2: int
    loads: int
    written: int

    @property
    def moved(self) -> int:
        """The least that memory has to move."""
        return self.reached + self.written


class _Reach(NamedTuple):
    """Samples along one axis: reached by any tap; by each tile, added up; by each target, added up."""

    any: int
    by_tiles: int
    by_targets: int


def _reach(weights: Weights, tile: int) -> _Reach:
    starts, ends = weights.start, weights.start + weights.support
    by_tiles = sum(int(ends[i : i + tile][-1] - starts[i]) for i in range(0, len(starts), tile))
    return _Reach(int(ends[-1] - starts[0]), by_tiles, weights.taps.size)


def traffic(source: tuple[int, int], size: tuple[int, int], filter: Filter, format: Format = "nv12") -> Traffic:
    layout = LAYOUTS[format]
    counted = [0, 0, 0, 0]
    for plane in range(3):
        by = layout.subsampling if plane else (1, 1)
        siting = SITING["left"]
        across, down = (
            _reach(
                resample_weights(
                    -(-source[i] // by[i]),
                    size[i],
                    filter,
                    offset=siting[i] if by[i] > 1 else 0.0,
                    extent=source[i] / by[i],
                ),
                TILE[i],
            )
            for i in (0, 1)
        )
        samples = (
            -(-source[0] // by[0]) * -(-source[1] // by[1]),
            across.any * down.any,
            across.by_tiles * down.by_tiles,
            across.by_tiles * down.by_targets,
        )
        counted = [sum(pair) for pair in zip(counted, samples, strict=True)]
    of_surface, reached, through_l2, loads = (count * layout.sample_bytes for count in counted)
    return Traffic(of_surface, reached, through_l2, loads, 3 * size[0] * size[1])
