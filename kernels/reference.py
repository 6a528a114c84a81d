"""The conversion in plain NumPy: slow, exact, and the oracle for the CUDA kernel and for libswscale.

Sizes are (width, height), as in Pillow; arrays are (height, width) or (height, width, channels).
"""

from __future__ import annotations

from math import inf, log10
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kernels.colour import Matrix, yuv_to_rgb
from kernels.weights import Filter, resample_weights

Siting = Literal["left", "center", "topleft", "top", "bottomleft", "bottom"]
Samples = NDArray[np.number[Any]]
Words = NDArray[np.uint8] | NDArray[np.uint16]
Floats = NDArray[np.float32]

# Where to look for 4:2:0 chroma, as (x, y) in chroma samples. At `center` a sample stands amid its four luma
# samples and the planes simply cover each other (JPEG, MPEG-1). At `left` (MPEG-2; H.264 and HEVC by default)
# it stands on the even luma columns, half a luma sample before that: the same place of the picture is found a
# quarter of a chroma sample further on. At `topleft` (BT.2020) it stands on the even rows too. At `bottomleft` it
# stands on the odd rows; `top` and `bottom` are between the columns (ITU-T H.273, 8.7).
SITING: dict[Siting, tuple[float, float]] = {
    "left": (0.25, 0.0),
    "center": (0.0, 0.0),
    "topleft": (0.25, 0.25),
    "top": (0.0, 0.25),
    "bottomleft": (0.25, -0.25),
    "bottom": (0.0, -0.25),
}


def resize_plane(
    plane: Samples,
    size: tuple[int, int],
    filter: Filter,
    *,
    offset: tuple[float, float] = (0.0, 0.0),
    extent: tuple[float, float] | None = None,
) -> Floats:
    """(H, W) of any number to float32 (h, w), neither rounded nor clipped.

    `offset` and `extent` are (x, y) of what `resample_weights` calls so.
    """
    (height, width), (w, h) = plane.shape, size
    extent_x, extent_y = extent or (None, None)
    across = resample_weights(width, w, filter, offset=offset[0], extent=extent_x).dense()
    down = resample_weights(height, h, filter, offset=offset[1], extent=extent_y).dense()
    return down @ plane.astype(np.float32) @ across.T


def resize_rgb(image: Samples, size: tuple[int, int], filter: Filter) -> Floats:
    """(H, W, C) of any number to float32 (h, w, C), neither rounded nor clipped."""
    return np.stack([resize_plane(channel, size, filter) for channel in np.moveaxis(image, -1, 0)], axis=-1)


def resize_yuv(
    y: Samples,
    u: Samples,
    v: Samples,
    size: tuple[int, int],
    *,
    matrix: Matrix | None,
    full_range: bool = False,
    depth: int = 8,
    siting: Siting = "left",
    filter: Filter,
    subsampling: tuple[int, int] = (2, 2),
) -> NDArray[np.float64]:
    """Planes (H, W), (H', W'), (H', W') to R'G'B' (h, w, 3) in 0..255, neither rounded nor clipped.

    `subsampling`: luma samples to one of chroma, across and down; H' and W' are H and W divided by it, rounded up.
    Chroma may lack its odd last row or column (NVDEC's NV12 does).

    Each plane is resampled once, straight to the target, and the colours are made there: chroma is never
    enlarged to luma's size in between.
    """
    (height, width), (across, down) = y.shape, subsampling
    extent = (width / across, height / down)
    x_offset, y_offset = SITING[siting]
    offset = (x_offset if across > 1 else 0.0, y_offset if down > 1 else 0.0)
    planes = [resize_plane(y, size, filter)]
    planes += [resize_plane(plane, size, filter, offset=offset, extent=extent) for plane in (u, v)]
    to_rgb, zero = yuv_to_rgb(matrix, full_range, depth)
    return (np.stack(planes, axis=-1) - zero) @ to_rgb.T


def yuv420_to_rgb(
    y: Samples,
    u: Samples,
    v: Samples,
    size: tuple[int, int],
    *,
    matrix: Matrix,
    full_range: bool = False,
    depth: int = 8,
    siting: Siting = "left",
    filter: Filter,
) -> NDArray[np.uint8]:
    """Planes (H, W), (H', W'), (H', W') to uint8 (h, w, 3), with H' = ceil(H/2) and W' = ceil(W/2)."""
    rgb = resize_yuv(y, u, v, size, matrix=matrix, full_range=full_range, depth=depth, siting=siting, filter=filter)
    return quantise(rgb)


def semi_planar(surface: Words, height: int, depth: int = 8) -> tuple[Words, Words, Words]:
    """Y, U and V of an NV12 (uint8, `depth` 8) or P010, P012, P016 surface (uint16, `depth` 10 to 16).

    The surface has rows of luma, then rows of interleaved chroma. P01x holds its samples in the upper bits;
    they come back right-aligned.
    """
    samples: Words = surface if depth == 8 else np.right_shift(surface, 16 - depth)
    chroma = samples[height:]
    return samples[:height], chroma[:, 0::2], chroma[:, 1::2]


def quantise(image: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Clipped to 0..255 and rounded, halves upwards."""
    rounded: NDArray[np.uint8] = np.floor(np.clip(image, 0, 255) + 0.5).astype(np.uint8)
    return rounded


def psnr(a: Samples, b: Samples) -> float:
    """Peak signal to noise ratio in dB, for a peak of 255."""
    error = float(np.mean(np.square(a.astype(np.float64) - b)))
    return inf if error == 0 else 10 * log10(255**2 / error)
