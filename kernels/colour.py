"""YUV to R'G'B': one affine map per standard, range and bit depth.

From the luma weights Kr and Kb (Kg = 1 - Kr - Kb), with Y in 0..1 and Cb, Cr in -1/2..1/2:

    R = Y + 2 (1 - Kr) Cr
    B = Y + 2 (1 - Kb) Cb
    G = Y - 2 (1 - Kr) Kr/Kg Cr - 2 (1 - Kb) Kb/Kg Cb

    bt601       Kr = 0.299    Kb = 0.114     ITU-R BT.601-7, 2.5.1
    bt709       Kr = 0.2126   Kb = 0.0722    ITU-R BT.709-6, 3.2
    bt2020      Kr = 0.2627   Kb = 0.0593    ITU-R BT.2020-2, table 4, non-constant luminance
    fcc         Kr = 0.30     Kb = 0.11      ITU-T H.273, table 4
    smpte240m   Kr = 0.212    Kb = 0.087     SMPTE 240M

and without such weights (ITU-T H.273, 8.3), Cg in the place of Cb and Co in that of Cr:

    ycgco       R = Y - Cg + Co    G = Y + Cg    B = Y - Cg - Co

and without any: planes of G, B and R, in this order, all coded as luma is (ITU-T H.273, matrix 0).

How samples of n bits code them is ITU-T H.273, 8.3. Limited range: 2^(n-8) times 16 + 219 Y, 128 + 224 C.
Full range: (2^n - 1) Y, and 2^(n-1) + (2^n - 1) C.

The rule for untagged sources: BT.601 below 720 lines, else BT.709; limited range.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Matrix = Literal["bt601", "bt709", "bt2020", "fcc", "smpte240m", "ycgco"]

LUMA_WEIGHTS: dict[Matrix, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
    "fcc": (0.30, 0.11),
    "smpte240m": (0.212, 0.087),
}


class YuvToRgb(NamedTuple):
    """`rgb = matrix @ (yuv - offset)`, with RGB in 0..255 whatever the depth of the samples."""

    matrix: NDArray[np.float64]  # (3, 3)
    offset: NDArray[np.float64]  # (3,)


def yuv_to_rgb(matrix: Matrix | None, full_range: bool, depth: int = 8) -> YuvToRgb:
    """The map for samples of `depth` bits, right-aligned (10-bit: 0..1023). None: of planes of G, B and R."""
    if not 8 <= depth <= 16:
        raise ValueError(f"no sample depth: {depth}")
    step, top = 2.0 ** (depth - 8), 2.0**depth - 1
    black, luma, chroma = (0.0, top, top) if full_range else (16 * step, 219 * step, 224 * step)
    if matrix is None:
        return YuvToRgb(np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]) * (255 / luma), np.full(3, black))
    scale = 255 / np.array([luma, chroma, chroma])
    return YuvToRgb(_analogue(matrix) * scale, np.array([black, 128 * step, 128 * step]))


def _analogue(matrix: Matrix) -> NDArray[np.float64]:
    if matrix == "ycgco":
        return np.array([[1.0, -1, 1], [1, 1, 0], [1, -1, -1]])
    if matrix not in LUMA_WEIGHTS:
        raise ValueError(f"no matrix: {matrix!r}")
    kr, kb = LUMA_WEIGHTS[matrix]
    kg = 1 - kr - kb
    red, blue = 2 * (1 - kr), 2 * (1 - kb)
    return np.array([[1, 0, red], [1, -blue * kb / kg, -red * kr / kg], [1, blue, 0]])


def untagged_matrix(height: int) -> Matrix:
    """The matrix of a source that names none, by its number of lines."""
    return "bt601" if height < 720 else "bt709"
