"""The reference is the oracle for the CUDA kernel and for libswscale, so it is held to oracles of its own:
Pillow for the filters, an integral for `area`, the standards' numbers for the colours, and libswscale for the whole.
"""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from kernels.colour import LUMA_WEIGHTS, Matrix, untagged_matrix, yuv_to_rgb
from kernels.reference import (
    SITING,
    Siting,
    Words,
    psnr,
    quantise,
    resize_plane,
    resize_rgb,
    semi_planar,
    yuv420_to_rgb,
)
from kernels.weights import Filter, resample_weights

FILTERS: tuple[Filter, ...] = get_args(Filter)
MATRICES: tuple[Matrix, ...] = tuple(LUMA_WEIGHTS)
EVERY_CODING = [(matrix, full_range) for matrix in MATRICES for full_range in (False, True)]
Planes = tuple[Words, Words, Words]

lengths = st.integers(1, 300)
filters = st.sampled_from(FILTERS)


# --- weights ---------------------------------------------------------------------------------------------------


@given(lengths, lengths, filters, st.floats(-0.5, 0.5))
@settings(deadline=None)
def test_rows_sum_to_one_and_stay_inside(source: int, target: int, filter: Filter, offset: float) -> None:
    weights = resample_weights(source, target, filter, offset=offset)
    assert weights.start.dtype == np.int32
    assert weights.taps.dtype == np.float32
    assert weights.taps.shape == (target, weights.support)
    assert np.allclose(weights.taps.sum(axis=1), 1, atol=1e-5)
    assert weights.start.min() >= 0
    assert weights.start.max() + weights.support <= source
    assert np.all(np.diff(weights.start) >= 0)


@given(lengths, lengths, filters, st.floats(-0.5, 0.5))
@settings(deadline=None)
def test_mirrored_picture_mirrored_weights(source: int, target: int, filter: Filter, offset: float) -> None:
    weights = resample_weights(source, target, filter, offset=offset).dense()
    mirrored = resample_weights(source, target, filter, offset=-offset).dense()
    assert np.allclose(weights, mirrored[::-1, ::-1], atol=1e-4)


@given(lengths, filters)
@settings(deadline=None)
def test_same_size_changes_nothing(length: int, filter: Filter) -> None:
    assert np.allclose(resample_weights(length, length, filter).dense(), np.eye(length), atol=1e-6)


@given(st.tuples(lengths, lengths), st.tuples(lengths, lengths), filters, st.integers(0, 255))
@settings(deadline=None, max_examples=30)
def test_constant_stays_constant(shape: tuple[int, int], size: tuple[int, int], filter: Filter, value: int) -> None:
    image = np.full((*shape, 3), value, np.uint8)
    assert np.allclose(resize_rgb(image, size, filter), value, atol=0.01)


@given(st.integers(1, 200), st.integers(1, 200))
@settings(deadline=None)
def test_area_is_the_integral_over_the_window(source: int, target: int) -> None:
    """Shrinking: the mean of the piecewise constant picture between two exact edges, taken from its integral."""
    source, target = max(source, target), min(source, target)
    samples = np.random.default_rng(source * 211 + target).uniform(0, 255, source)
    integral = np.concatenate([[0], np.cumsum(samples)])
    edges = np.interp(np.arange(target + 1) * source / target, np.arange(source + 1), integral)
    expected = np.diff(edges) * target / source
    assert np.allclose(resample_weights(source, target, "area").dense() @ samples, expected, atol=1e-3)


@pytest.mark.parametrize("filter", FILTERS)
def test_a_crop_is_an_offset_and_an_extent(filter: Filter) -> None:
    """Away from the crop's edges, where it may look at its surroundings, it is the resampling of the slice."""
    samples = np.random.default_rng(1).uniform(0, 255, 200)
    cropped = resample_weights(200, 20, filter, offset=40, extent=120).dense() @ samples
    assert np.allclose(cropped[3:-3], (resample_weights(120, 20, filter).dense() @ samples[40:160])[3:-3], atol=1e-3)


def test_nothing_cannot_be_resampled() -> None:
    with pytest.raises(ValueError, match="cannot resample"):
        resample_weights(0, 5, "area")


# --- against Pillow --------------------------------------------------------------------------------------------

PILLOW: dict[Filter, Image.Resampling] = {
    "triangle": Image.Resampling.BILINEAR,
    "catmull_rom": Image.Resampling.BICUBIC,
    "lanczos3": Image.Resampling.LANCZOS,
}
SIZES = [
    ((960, 540), (160, 90)),
    ((321, 181), (97, 33)),
    ((64, 48), (16, 12)),
    ((7, 5), (3, 2)),
    ((33, 17), (100, 60)),
    ((500, 3), (2, 2)),
    ((100, 100), (7, 99)),
    ((1, 1), (5, 5)),
]


def pictures(size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """Noise over the whole range, and noise of black and white only: the worst for rounding and for clipping."""
    rng = np.random.default_rng(0)
    shape = (size[1], size[0], 3)
    return [rng.integers(0, 256, shape, np.uint8), rng.integers(0, 2, shape, np.uint8) * np.uint8(255)]


@pytest.mark.parametrize("filter", PILLOW)
@pytest.mark.parametrize(("source", "target"), SIZES)
def test_equals_pillow_in_floats(source: tuple[int, int], target: tuple[int, int], filter: Filter) -> None:
    """In mode F Pillow neither rounds nor clips, so the two agree to single precision: 0.002 of 255."""
    for picture in pictures(source):
        plane = picture[..., 0].astype(np.float32)
        theirs = np.asarray(Image.fromarray(plane).resize(target, PILLOW[filter]))
        assert np.abs(resize_plane(plane, target, filter) - theirs).max() < 0.002


@pytest.mark.parametrize("filter", PILLOW)
@pytest.mark.parametrize(("source", "target"), SIZES)
def test_equals_pillow_in_bytes(source: tuple[int, int], target: tuple[int, int], filter: Filter) -> None:
    """Within 1 of 255 where both round between the passes: Pillow goes across first and stores bytes there.

    Without that the two differ by up to 60 on black and white noise: what overshoots 0..255 in the first pass is
    cut off by Pillow and kept by the reference, as a kernel with a floating point intermediate keeps it.
    """
    for picture in pictures(source):
        theirs = np.asarray(Image.fromarray(picture).resize(target, PILLOW[filter])).astype(int)
        across = quantise(resize_rgb(picture, (target[0], source[1]), filter))
        assert np.abs(quantise(resize_rgb(across, target, filter)) - theirs).max() <= 1


@pytest.mark.parametrize("factor", [2, 3, 7])
def test_area_equals_pillow_box_at_whole_factors(factor: int) -> None:
    """Only there: elsewhere Pillow's BOX takes a sample whole or not at all, without the fraction covered."""
    for picture in pictures((40 * factor, 30 * factor)):
        theirs = np.asarray(Image.fromarray(picture).resize((40, 30), Image.Resampling.BOX)).astype(int)
        assert np.abs(quantise(resize_rgb(picture, (40, 30), "area")) - theirs).max() <= 1


# --- colour ----------------------------------------------------------------------------------------------------

WHITE, BLACK, RED, GREEN, BLUE = (255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)
Triple = tuple[int, int, int]


@pytest.mark.parametrize(
    ("matrix", "full_range", "depth", "yuv", "rgb"),
    [
        *[(m, False, 8, (235, 128, 128), WHITE) for m in MATRICES],
        *[(m, False, 8, (16, 128, 128), BLACK) for m in MATRICES],
        *[(m, False, 10, (940, 512, 512), WHITE) for m in MATRICES],
        *[(m, False, 12, (256, 2048, 2048), BLACK) for m in MATRICES],
        *[(m, True, 8, (255, 128, 128), WHITE) for m in MATRICES],
        *[(m, True, 10, (0, 512, 512), BLACK) for m in MATRICES],
        *[(m, True, 10, (1023, 512, 512), WHITE) for m in MATRICES],
        ("bt709", False, 8, (126, 128, 128), (128, 128, 128)),
        # 100 % colour bars
        ("bt601", False, 8, (81, 90, 240), RED),
        ("bt601", False, 8, (145, 54, 34), GREEN),
        ("bt601", False, 8, (41, 240, 110), BLUE),
        ("bt709", False, 8, (63, 102, 240), RED),
        ("bt709", False, 8, (173, 42, 26), GREEN),
        ("bt709", False, 8, (32, 240, 118), BLUE),
        ("bt709", False, 10, (250, 409, 960), RED),
        ("bt2020", False, 10, (294, 387, 960), RED),
        ("bt2020", False, 10, (658, 189, 100), GREEN),
        ("bt2020", False, 10, (116, 960, 476), BLUE),
        # JPEG
        ("bt601", True, 8, (76, 85, 255), RED),
        ("bt601", True, 8, (150, 44, 21), GREEN),
        ("bt601", True, 8, (29, 255, 107), BLUE),
    ],
)
def test_known_colours(matrix: Matrix, full_range: bool, depth: int, yuv: Triple, rgb: Triple) -> None:
    """White, black and grey exactly; the bars within the 2 steps that rounding them to integers has cost."""
    m, offset = yuv_to_rgb(matrix, full_range, depth)
    got = quantise(m @ (np.array(yuv) - offset)).astype(int)
    tolerance = 0 if len(set(rgb)) == 1 else 2 if depth == 8 else 1
    assert np.abs(got - rgb).max() <= tolerance


@pytest.mark.parametrize(("matrix", "full_range"), EVERY_CODING)
@pytest.mark.parametrize(("depth", "tolerance"), [(8, 2), (10, 1), (12, 1), (16, 0)])
def test_colours_round_trip(matrix: Matrix, full_range: bool, depth: int, tolerance: int) -> None:
    m, offset = yuv_to_rgb(matrix, full_range, depth)
    rgb = np.array(list(product(range(0, 256, 15), repeat=3)))
    yuv = np.rint(rgb @ np.linalg.inv(m).T + offset)
    assert np.abs(quantise((yuv - offset) @ m.T).astype(int) - rgb).max() <= tolerance


@pytest.mark.parametrize("full_range", [False, True])
def test_ycgco(full_range: bool) -> None:
    """ITU-T H.273, 8.3: Y = (R + 2 G + B) / 4, Cg = G / 2 - (R + B) / 4, Co = (R - B) / 2."""
    rgb = np.array([[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0.2, 0.7, 0.4]])
    r, g, b = rgb.T
    coded = np.stack([(r + 2 * g + b) / 4, g / 2 - (r + b) / 4, (r - b) / 2], axis=-1)
    samples = coded * (255 if full_range else (219, 224, 224)) + (0 if full_range else 16, 128, 128)
    matrix, offset = yuv_to_rgb("ycgco", full_range)
    assert np.allclose((samples - offset) @ matrix.T, 255 * rgb)


@pytest.mark.parametrize("matrix", MATRICES)
def test_luma_weights_are_what_grey_is_made_of(matrix: Matrix) -> None:
    m, offset = yuv_to_rgb(matrix, True)
    kr, kb = LUMA_WEIGHTS[matrix]
    assert np.allclose(np.linalg.inv(m)[0], [kr, 1 - kr - kb, kb])
    assert np.allclose(offset, [0, 128, 128])


def test_limited_samples_in_upper_bits_are_sixteen_bit_samples() -> None:
    ten, sixteen = yuv_to_rgb("bt2020", False, 10), yuv_to_rgb("bt2020", False, 16)
    assert np.allclose(ten.matrix, sixteen.matrix * 64)
    assert np.allclose(ten.offset * 64, sixteen.offset)


def test_untagged_sources() -> None:
    assert [untagged_matrix(h) for h in (480, 576, 719, 720, 1080)] == ["bt601"] * 3 + ["bt709"] * 2


def test_no_such_depth() -> None:
    with pytest.raises(ValueError, match="depth"):
        yuv_to_rgb("bt709", False, 7)


# --- planes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("siting", SITING)
@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("size", [(320, 180), (321, 181)])
def test_chroma_is_found_where_it_stands(siting: Siting, filter: Filter, size: tuple[int, int]) -> None:
    """A ramp of Cr, sampled where the siting says, comes out as that ramp, also at odd sizes.

    Every filter here keeps a straight line straight away from the edges, so red there is known exactly.
    """
    (width, height), (w, h) = size, (40, 30)
    # Where chroma stands, in luma samples.
    columns = 2 * np.arange((width + 1) // 2) + (0.5 if siting.endswith("left") else 1.0)
    rows = 2 * np.arange((height + 1) // 2) + {"top": 0.5, "bot": 1.5}.get(siting[:3], 1.0)
    cr = 16384 + 40 * columns[None, :] + 30 * rows[:, None]
    y = np.full((height, width), 30000, np.uint16)
    u = np.full(cr.shape, 32768, np.uint16)
    got = yuv420_to_rgb(
        y, u, np.rint(cr).astype(np.uint16), (w, h), matrix="bt709", depth=16, siting=siting, filter=filter
    )
    x_at, y_at = (np.arange(w) + 0.5) * width / w, (np.arange(h) + 0.5) * height / h
    m, offset = yuv_to_rgb("bt709", False, 16)
    red = m[0] @ (np.array([30000, 32768, 0]) - offset) + m[0, 2] * (16384 + 40 * x_at[None] + 30 * y_at[:, None])
    inner = (slice(4, -4), slice(4, -4))
    assert np.abs(got[..., 0] - red)[inner].max() < 0.5 + 0.02


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 60), st.integers(1, 60), filters)
@settings(deadline=None, max_examples=50)
def test_flat_colour_at_any_size(width: int, height: int, w: int, h: int, filter: Filter) -> None:
    half = ((height + 1) // 2, (width + 1) // 2)
    planes = (np.full((height, width), 63), np.full(half, 102), np.full(half, 240))
    y, u, v = (plane.astype(np.uint8) for plane in planes)
    got = yuv420_to_rgb(y, u, v, (w, h), matrix="bt709", filter=filter)
    assert got.shape == (h, w, 3)
    assert got.dtype == np.uint8
    assert np.abs(got.astype(int) - got[0, 0]).max() == 0
    assert np.abs(got[0, 0].astype(int) - RED).max() <= 2


@pytest.mark.parametrize(("depth", "dtype"), [(8, np.uint8), (10, np.uint16), (12, np.uint16), (16, np.uint16)])
def test_semi_planar(depth: int, dtype: type[Any]) -> None:
    rng = np.random.default_rng(0)
    y, u, v = (rng.integers(0, 2**depth, shape).astype(dtype) for shape in ((6, 8), (3, 4), (3, 4)))
    chroma = np.stack([u, v], axis=-1).reshape(3, 8)
    surface = (np.concatenate([y, chroma]) << (0 if depth == 8 else 16 - depth)).astype(dtype)
    for expected, got in zip((y, u, v), semi_planar(surface, 6, depth), strict=True):
        assert np.array_equal(expected, got)


def test_chroma_may_lack_its_odd_last_row_and_column() -> None:
    """NVDEC's NV12 of 321 x 181 holds 160 x 90 of chroma: the edge alone may differ."""
    y, u, v = planes_of(painting(321, 181), "bt709")
    whole = yuv420_to_rgb(y, u, v, (80, 45), matrix="bt709", filter="area").astype(int)
    short = yuv420_to_rgb(y, u[:-1, :-1], v[:-1, :-1], (80, 45), matrix="bt709", filter="area")
    assert np.array_equal(whole[:-1, :-1], short[:-1, :-1])


def test_psnr() -> None:
    black = np.zeros((4, 4), np.uint8)
    assert psnr(black, black) == float("inf")
    assert psnr(black, black + 255) == pytest.approx(0)
    assert psnr(black, black + 1) == pytest.approx(48.13, abs=0.01)


# --- against libswscale ----------------------------------------------------------------------------------------

SWS: dict[Filter, Interpolation] = {
    "area": Interpolation.AREA,
    "triangle": Interpolation.BILINEAR,
    "bicubic": Interpolation.BICUBIC,
    "lanczos3": Interpolation.LANCZOS,
}
COLORSPACE: dict[Matrix, Colorspace] = {
    "fcc": Colorspace.FCC,
    "smpte240m": Colorspace.SMPTE240M,
    "bt601": Colorspace.ITU601,
    "bt709": Colorspace.ITU709,
    "bt2020": Colorspace.BT2020,
}
EXACT = Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP | Interpolation.ACCURATE_RND


def painting(width: int, height: int) -> NDArray[np.float64]:
    """RGB in 0..255 with rings, saturated edges and noise."""
    y, x = np.mgrid[0:height, 0:width]
    rings = 127 + 100 * np.cos(((x - width / 2) ** 2 + (y - height / 2) ** 2) / width)
    bars = 255 * np.stack([x // 13 % 2, y // 9 % 2, (x + y) // 17 % 2], axis=-1)
    noise = np.random.default_rng(0).normal(0, 20, (height, width, 3))
    return np.clip(np.where((x < width / 2)[..., None], rings[..., None], bars) + noise, 0, 255)


def planes_of(rgb: NDArray[Any], matrix: Matrix, full_range: bool = False, depth: int = 8) -> Planes:
    """4:2:0 of a picture, each chroma sample the mean of its four."""
    m, offset = yuv_to_rgb(matrix, full_range, depth)
    yuv = rgb @ np.linalg.inv(m).T + offset
    height, width = rgb.shape[:2]
    even = np.pad(yuv, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
    chroma = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2, 3).mean(axis=(1, 3))
    samples = (np.rint(yuv[..., 0]), np.rint(chroma[..., 1]), np.rint(chroma[..., 2]))
    y, u, v = (plane.astype(np.uint8 if depth == 8 else np.uint16) for plane in samples)
    return y, u, v


def by_libswscale(
    planes: Planes, format: str, size: tuple[int, int], filter: Filter, matrix: Matrix, full_range: bool
) -> NDArray[np.uint8]:
    frame = av.VideoFrame(planes[0].shape[1], planes[0].shape[0], format)
    for plane, samples in zip(frame.planes, planes, strict=True):
        rows = np.frombuffer(memoryview(plane), samples.dtype).reshape(plane.height, -1)
        rows[:, : samples.shape[1]] = samples
    small = VideoReformatter().reformat(
        frame,
        *size,
        "gbrp",  # planar: as exact as rgb24 and twice as fast; see bench/scalers.py
        src_colorspace=COLORSPACE[matrix],
        src_color_range=ColorRange.JPEG if full_range else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=SWS[filter] | EXACT,
        threads=1,
    )
    return np.asarray(small.to_ndarray(), np.uint8)


@pytest.mark.parametrize("filter", SWS)
@pytest.mark.parametrize(("format", "depth"), [("yuv420p", 8), ("yuv420p10le", 10)])
@pytest.mark.parametrize("target", [(160, 90), (97, 55), (640, 360)])
def test_equals_libswscale(filter: Filter, format: str, depth: int, target: tuple[int, int]) -> None:
    """Frames made here name no siting, which libswscale takes for centred. The edges it treats in its own way."""
    planes = planes_of(painting(640, 360), "bt709", depth=depth)
    mine = yuv420_to_rgb(*planes, target, matrix="bt709", depth=depth, siting="center", filter=filter)
    theirs = by_libswscale(planes, format, target, filter, "bt709", False)
    inner = (slice(4, -4), slice(4, -4))
    assert psnr(mine[inner], theirs[inner]) > 58
    assert np.abs(mine[inner].astype(int) - theirs[inner]).max() <= 2


@pytest.mark.parametrize(("matrix", "full_range"), EVERY_CODING)
def test_libswscale_honours_matrix_and_range(matrix: Matrix, full_range: bool) -> None:
    for colour in (WHITE, BLACK, RED, GREEN, BLUE, (200, 120, 40)):
        planes = planes_of(np.broadcast_to(colour, (32, 32, 3)), matrix, full_range)
        mine = yuv420_to_rgb(*planes, (16, 16), matrix=matrix, full_range=full_range, filter="area").astype(int)
        assert np.abs(mine - by_libswscale(planes, "yuv420p", (16, 16), "area", matrix, full_range)).max() <= 1
