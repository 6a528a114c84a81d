"""Weights of an antialiased, separable resampling: computed once here, used by every implementation.

Coordinates run along one axis in source samples: sample k covers [k, k + 1] and stands at k + 1/2. With
`extent` source samples (all of them, unless told otherwise) laid over `target` samples:

    scale      = extent / target
    centre[i]  = (i + 1/2) * scale + offset             where target sample i looks
    width      = max(1, scale)                          grows when shrinking: this is the antialiasing
    tap[i, k]  = f((k + 1/2 - centre[i]) / width)       then divided by the sum of its row

`area` is integrated instead of sampled: its tap is the part of [centre - width/2, centre + width/2] that
sample k covers, to the exact fraction. Enlarging by `area` is therefore linear interpolation. The others are
functions f(x):

    triangle      1 - |x|                                  |x| < 1
    catmull_rom   (a+2)|x|^3 - (a+3)|x|^2 + 1              |x| < 1      a = -1/2
    bicubic       a (|x|^3 - 5|x|^2 + 8|x| - 4)       1 <= |x| < 2      a = -3/5, otherwise the same
    lanczos3      sinc(x) sinc(x/3)                        |x| < 3      sinc(x) = sin(pi x) / (pi x)

The cubic: R. Keys, "Cubic Convolution Interpolation for Digital Image Processing", IEEE Trans. ASSP 29
(1981). Lanczos: K. Turkowski, "Filters for Common Resampling Tasks", Graphics Gems I (1990). Pillow's BICUBIC
has a = -1/2, libswscale's (`param0` 0, `param1` 0.6) a = -3/5.

At the edges a window is cut to the picture and what remains is normalised again. Pillow does the same;
libswscale repeats the outermost sample, which differs within half a window of the edge and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Filter = Literal["area", "triangle", "catmull_rom", "bicubic", "lanczos3"]

_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Weights:
    """Target sample i is `sum(taps[i, j] * source[start[i] + j] for j in range(support))`.

    No index leaves the source, so applying this needs no clamp: 0 <= start and start + support <= source.
    """

    source: int
    start: NDArray[np.int32]  # (target,)
    taps: NDArray[np.float32]  # (target, support), each row sums to 1

    @property
    def support(self) -> int:
        return int(self.taps.shape[1])

    def dense(self) -> NDArray[np.float32]:
        """The same as a matrix (target, source): resampling is then one product."""
        matrix = np.zeros((len(self.start), self.source), np.float32)
        np.put_along_axis(matrix, self.start[:, None] + np.arange(self.support), self.taps, axis=1)
        return matrix


def resample_weights(
    source: int, target: int, filter: Filter, *, offset: float = 0.0, extent: float | None = None
) -> Weights:
    """Weights that take `source` samples to `target`.

    `offset` moves where every target sample looks, in source samples: the siting of chroma, or the start of a
    crop. `extent` is how many source samples the target spans: half the luma width for chroma (a picture 321
    wide has 161 samples of chroma, which stand for 160.5), or the size of a crop.
    """
    if source < 1 or target < 1:
        raise ValueError(f"cannot resample {source} samples to {target}")
    scale = (source if extent is None else extent) / target
    width = max(1.0, scale)
    radius = (width + 1) / 2 if filter == "area" else _KERNELS[filter][0] * width

    # Sited chroma may be looked for beyond the last sample; further out than the edge is nothing to see.
    centre = np.clip((np.arange(target) + 0.5) * scale + offset, 0, source)
    support = min(ceil(2 * radius), source)
    start = np.clip(np.floor(centre - radius + 0.5), 0, source - support).astype(np.int32)
    distance = start[:, None] + np.arange(support) + 0.5 - centre[:, None]

    if filter == "area":
        taps = np.clip((width + 1) / 2 - np.abs(distance), 0, 1)  # the overlap of a window with a unit sample
    else:
        taps = _KERNELS[filter][1](np.abs(distance) / width)
    taps /= taps.sum(axis=1, keepdims=True)
    return Weights(source, start, taps.astype(np.float32))


def _triangle(x: _Array) -> _Array:
    return np.maximum(1 - x, 0)


def _cubic(a: float) -> Callable[[_Array], _Array]:
    def kernel(x: _Array) -> _Array:
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = a * (((x - 5) * x + 8) * x - 4)
        return np.where(x < 1, near, np.where(x < 2, far, 0))

    return kernel


def _lanczos3(x: _Array) -> _Array:
    return np.where(x < 3, np.sinc(x) * np.sinc(x / 3), 0)


# Each with its radius at width 1; all are even functions and are given |x|.
_KERNELS: dict[Filter, tuple[int, Callable[[_Array], _Array]]] = {
    "triangle": (1, _triangle),
    "catmull_rom": (2, _cubic(-0.5)),
    "bicubic": (2, _cubic(-0.6)),
    "lanczos3": (3, _lanczos3),
}
