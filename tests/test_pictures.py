"""The picture is right: colour, range, geometry, alpha, for every way in which videos code them.

Each case is one line: a chart (`charts.py`) as video, and through the whole of a worker's task to a PNG. The truth is
the chart itself, laid as a player would show it. Colours may differ by `LIMIT` (CIE 1976), a just noticeable difference.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import charts
import numpy as np
import pytest
from charts import ACROSS, DOWN, GREYS, PATCHES, Chart, Floats, delta_e, patch_means
from PIL import Image
from rendering import Rendered, render

LIMIT = 2.3

# Lossless, so that what differs is ours.
X264 = (("qp", "0"), ("preset", "ultrafast"))
X265 = (("preset", "ultrafast"), ("x265-params", "lossless=1:log-level=none"))
VP9 = (("lossless", "1"), ("cpu-used", "8"), ("deadline", "realtime"))
MJPEG = (("flags", "+qscale"), ("global_quality", "118"))
PRORES = (("profile", "4444"),)


def tags(range: int = 0, matrix: int = 2, primaries: int = 2, transfer: int = 2) -> tuple[tuple[str, int], ...]:
    said = {"color_range": range, "colorspace": matrix, "color_primaries": primaries, "color_trc": transfer}
    return tuple((key, value) for key, value in said.items() if value != (0 if key == "color_range" else 2))


TALL, SHORT = (192, 720), (192, 700)

CASES = (
    # The rule for untagged video: BT.601 below 720 lines, else BT.709, limited.
    Chart("untagged-sd", ".mp4", "libx264", "yuv420p", "601", size=SHORT, options=X264),
    Chart("untagged-hd", ".mp4", "libx264", "yuv420p", "709", size=TALL, options=X264),
    Chart("untagged-hevc", ".mp4", "libx265", "yuv420p", "601", options=X265),
    Chart("untagged-raw", ".nut", "rawvideo", "yuv420p", "601"),
    # Matrices, against the rule.
    Chart("bt601-hd", ".mp4", "libx264", "yuv420p", "601", tags=tags(1, 6, 1, 1), size=TALL, options=X264),
    Chart("bt601-pal-hd", ".mp4", "libx264", "yuv420p", "601", tags=tags(1, 5, 1, 1), size=TALL, options=X264),
    Chart("bt709-sd", ".mp4", "libx264", "yuv420p", "709", tags=tags(1, 1, 1, 1), options=X264),
    Chart("bt2020-sd", ".mp4", "libx264", "yuv420p", "2020", tags=tags(1, 9, 1, 14), options=X264),
    Chart("bt2020-constant", ".mp4", "libx265", "yuv444p", "2020", tags=tags(1, 9, 1, 15), options=X265),
    Chart("fcc", ".mp4", "libx264", "yuv420p", "fcc", tags=tags(1, 4, 1, 1), options=X264),
    Chart("smpte240m", ".mp4", "libx264", "yuv420p", "240", tags=tags(1, 7, 1, 1), options=X264),
    Chart("ycgco", ".mp4", "libx264", "yuv444p", "ycgco", tags=tags(1, 8, 1, 1), options=X264),
    Chart("ycgco-full", ".mp4", "libx264", "yuv444p", "ycgco", True, tags=tags(2, 8, 1, 1), options=X264),
    Chart("derived-matrix", ".mp4", "libx265", "yuv420p", "709", tags=tags(1, 12, 1, 1), options=X265),
    # Ranges.
    Chart("full-h264", ".mp4", "libx264", "yuv420p", "709", True, tags=tags(2, 1, 1, 1), options=X264),
    Chart("full-h264-10", ".mp4", "libx264", "yuv420p10le", "709", True, tags=tags(2, 1, 1, 1), options=X264),
    Chart("full-vp9", ".webm", "libvpx-vp9", "yuv420p", "601", True, tags=tags(2, 5), options=VP9),
    Chart("full-ffv1", ".mkv", "ffv1", "yuv444p", "601", True, tags=tags(2, 5)),
    Chart("full-mjpeg", ".avi", "mjpeg", "yuvj420p", "601", True, options=MJPEG),
    Chart("limited-vp9", ".webm", "libvpx-vp9", "yuv420p", "709", tags=tags(1, 1), options=VP9),
    # Pixel formats.
    Chart("yuv422", ".mp4", "libx264", "yuv422p", "601", options=X264),
    Chart("yuv444", ".mp4", "libx264", "yuv444p", "601", options=X264),
    Chart("yuv420-10", ".mp4", "libx264", "yuv420p10le", "601", options=X264),
    Chart("yuv422-10", ".mp4", "libx264", "yuv422p10le", "601", options=X264),
    Chart("yuv444-10", ".mp4", "libx264", "yuv444p10le", "601", options=X264),
    Chart("yuv420-12", ".mp4", "libx265", "yuv420p12le", "601", options=X265),
    Chart("yuv422-12", ".mkv", "ffv1", "yuv422p12le", "601"),
    Chart("yuv444-16", ".mkv", "ffv1", "yuv444p16le", "601"),
    Chart("yuv411", ".nut", "rawvideo", "yuv411p", "601"),
    Chart("yuv410", ".nut", "rawvideo", "yuv410p", "601"),
    Chart("yuv440", ".nut", "rawvideo", "yuv440p", "601"),
    Chart("prores", ".mov", "prores_ks", "yuv422p10le", "601"),
    Chart("grey-tagged-full", ".mkv", "ffv1", "gray", full=True, tags=tags(2), signal=GREYS),
    Chart("grey-tagged-limited", ".mkv", "ffv1", "gray", tags=tags(1), signal=GREYS),
    Chart("grey-raw", ".mkv", "ffv1", "gray", full=True, signal=GREYS),
    Chart("grey-raw-10", ".mkv", "ffv1", "gray10le", full=True, signal=GREYS),
    Chart("grey-hevc", ".mp4", "libx265", "gray", signal=GREYS, options=X265),
    Chart("grey-hevc-10", ".mp4", "libx265", "gray10le", signal=GREYS, options=X265),
    Chart("rgb-png", ".mov", "png", "rgb24"),
    Chart("rgb-h264", ".mkv", "libx264rgb", "rgb24", options=X264),
    Chart("rgb-ffv1-10", ".mkv", "ffv1", "gbrp10le", full=True),
    Chart("rgb-limited", ".mkv", "ffv1", "gbrp10le", tags=tags(1)),
    Chart("rgb-raw", ".avi", "rawvideo", "bgr24"),
    Chart("rgb555", ".nut", "rawvideo", "rgb555le", signal=np.rint(PATCHES * 31) / 31),
    Chart("odd", ".webm", "libvpx-vp9", "yuv420p", "601", size=(193, 145), options=VP9),
    Chart("odd-ffv1", ".mkv", "ffv1", "yuv420p", "601", size=(195, 147)),
    # Geometry.
    Chart("sar-4-3", ".mp4", "libx264", "yuv420p", "601", sample_aspect=Fraction(4, 3), options=X264),
    Chart("sar-8-9", ".mkv", "libx264", "yuv420p", "601", sample_aspect=Fraction(8, 9), options=X264),
    Chart("sar-ts", ".ts", "libx264", "yuv420p", "601", sample_aspect=Fraction(64, 45), options=X264),  # of the codec
    Chart("sar-mpeg2", ".mpg", "mpeg2video", "yuv420p", "601", sample_aspect=Fraction(4, 3), options=MJPEG),
    Chart("turned-90", ".mp4", "libx264", "yuv420p", "601", turn=(90, False, False), options=X264),
    Chart("turned-180", ".mov", "libx264", "yuv420p", "601", turn=(180, False, False), options=X264),
    Chart("turned-270", ".mkv", "libx264", "yuv420p", "601", turn=(-90, False, False), options=X264),
    Chart("mirrored", ".mp4", "libx264", "yuv420p", "601", turn=(0, True, False), options=X264),
    Chart("upside-down", ".mov", "libx264", "yuv420p", "601", turn=(0, False, True), options=X264),
    Chart("transposed", ".mp4", "libx264", "yuv420p", "601", turn=(90, True, False), options=X264),
    Chart("transverse", ".mkv", "libx264", "yuv420p", "601", turn=(90, False, True), options=X264),
    Chart("phone", ".mp4", "libx264", "yuv420p", "709", tags=tags(1, 1, 1, 1), sample_aspect=Fraction(4, 3), turn=(-90, False, False), options=X264),
    # Alpha, over the background where the format has none.
    Chart("alpha-prores", ".mov", "prores_ks", "yuva444p10le", "601", alpha=True, options=PRORES),
    Chart("alpha-qtrle", ".mov", "qtrle", "argb", alpha=True),
    Chart("alpha-ffv1", ".mkv", "ffv1", "yuva420p", "601", alpha=True),
    Chart("alpha-png", ".mov", "png", "rgba", alpha=True),
)


def small(chart: Chart) -> dict[str, Any]:
    """A box whose picture is smaller than the chart, so that it is scaled."""
    return {"output": "thumbnail", "at": 0, "format": "png", "name": "p", "width": 96}


def expected_size(chart: Chart, width: int = 96) -> tuple[int, int]:
    wide, high = round(chart.size[0] * (chart.sample_aspect or 1)), chart.size[1]
    if chart.turn and chart.turn[0] % 180:
        wide, high = high, wide
    return width, round(Fraction(high * width, wide))


def as_shown(chart: Chart, patches: Floats) -> Floats:
    """(rows, columns, …) of the patches as a player lays them."""
    laid = patches.reshape(DOWN, ACROSS, -1)
    if chart.turn:
        degrees, hflip, vflip = chart.turn
        laid = np.rot90(laid, degrees // 90)
        laid = laid[:: -1 if vflip else 1, :: -1 if hflip else 1]
    return laid


def means(picture: np.ndarray[Any, Any], rows: int, columns: int) -> Floats:
    """The middles of patches that are `columns` across and `rows` down."""
    lying = picture if (rows, columns) == (DOWN, ACROSS) else picture.swapaxes(0, 1)
    found = patch_means(lying)
    return found if lying is picture else found.swapaxes(0, 1)


def check(chart: Chart, picture: np.ndarray[Any, Any], truth: Floats, limit: float = LIMIT) -> None:
    """`truth`: (rows, columns, 3) sRGB 0..255."""
    shown = means(picture, *truth.shape[:2])
    apart = delta_e(shown[..., :3], truth)
    assert apart.max() <= limit, f"{chart.name}: {apart.round(1).tolist()}\n{shown.round().tolist()}\n{truth.round().tolist()}"


def made(chart: Chart, folder: Path, *outputs: dict[str, Any]) -> Rendered:
    return render(charts.write(chart, folder), outputs or (small(chart),))


@pytest.mark.parametrize("chart", [pytest.param(chart, id=chart.name) for chart in CASES])
def test_picture(chart: Chart, clip_folder: Path) -> None:
    rendered = made(chart, clip_folder)
    picture = rendered.picture("p.png")
    assert (picture.shape[1], picture.shape[0]) == expected_size(chart)
    truth = as_shown(chart, chart.patches * 255)
    if not chart.alpha:
        assert picture.shape[2] == 3
        check(chart, picture, truth)
        return
    cover = means(picture, DOWN, ACROSS)[..., 3]
    assert np.abs(cover - 255 * np.array([1, 1, 0.5, 0])).max() <= 2
    seen = cover > 0
    check(chart, np.where(picture[..., 3:] > 0, picture[..., :3], 0).astype(np.uint8), truth * seen[..., None])


@pytest.mark.parametrize("chart", [pytest.param(chart, id=chart.name) for chart in CASES if chart.alpha])
def test_what_is_transparent_lies_over_the_background(chart: Chart, clip_folder: Path) -> None:
    output = small(chart) | {"format": "jpeg", "quality": 100}
    rendered = render(charts.write(chart, clip_folder), (output,), background=(0, 100, 200))
    cover = np.array([1, 1, 0.5, 0])[None, :, None]
    truth = chart.patches.reshape(DOWN, ACROSS, 3) * 255 * cover + np.array([0, 100, 200]) * (1 - cover)
    check(chart, rendered.picture("p.jpg"), truth, limit=4)


def test_hidden_colours_do_not_shine_through(clip_folder: Path) -> None:
    """A white disc on nothing, and nothing is coded as black: no dark rim."""
    size = (192, 144)
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    inside = (x - 96) ** 2 + (y - 72) ** 2 < 50**2
    rgba = np.where(inside[..., None], np.uint8(255), np.uint8(0)).repeat(4, axis=2)
    path = clip_folder / "disc.png"
    Image.fromarray(rgba).save(path)
    picture = render(path, ({"output": "thumbnail", "at": 0, "format": "png", "name": "p", "width": 50},)).picture("p.png")
    seen = picture[..., 3] > 25
    assert 0.2 < seen.mean() < 0.5
    assert (picture[seen][:, :3] >= 250).all()


# --- HDR and other primaries ------------------------------------------------------------------------------------

HDR10 = replace(CASES[0], name="pq", codec="libx265", pix_fmt="yuv420p10le", matrix="2020", options=X265, size=(192, 144))
PQ = replace(HDR10, tags=tags(1, 9, 9, 16))
HLG = replace(HDR10, name="hlg", tags=tags(1, 9, 9, 18))


def pq(nits: Iterable[float]) -> Floats:
    """SMPTE ST 2084, the inverse EOTF."""
    y = np.asarray(list(nits)) / 10_000
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    return ((c1 + c2 * y**m1) / (1 + c3 * y**m1)) ** m2


def hlg(scene: Floats) -> Floats:
    """ITU-R BT.2100, the OETF of scene light 0..1."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


def srgb(light: Floats) -> Floats:
    """Light, 1 is SDR white, to sRGB 0..255."""
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


# cd/m2: below the knee, around white, highlights.
NITS = np.array([0, 0.5, 2, 5, 10, 26, 60, 203, 280, 380, 500, 1000.0])


def greys_of(rendered: Rendered) -> Floats:
    picture = rendered.picture("p.png")
    shown = patch_means(picture).reshape(12, 3)
    assert np.ptp(shown, axis=1).max() <= 2, "a grey is no grey any more"
    return shown.mean(axis=1)


@pytest.mark.parametrize("chart", [PQ, HLG], ids=["pq", "hlg"])
def test_hdr_keeps_mid_tones_and_rolls_highlights_off(chart: Chart, clip_folder: Path) -> None:
    # HLG: display light is 1000 times the scene's to the power of 1.2.
    coded = pq(NITS) if chart.name == "pq" else hlg((NITS / 1000) ** (1 / 1.2))
    grey = greys_of(made(replace(chart, signal=np.repeat(coded[:, None], 3, axis=1)), clip_folder))
    mids = NITS <= 60
    assert np.abs(grey[mids] - srgb(NITS[mids] / 203)).max() <= 2, "mid tones are as bright as they were"
    assert (np.diff(grey) >= 1.5).all(), f"two highlights became one: {grey.round(1).tolist()}"
    assert 220 <= grey[NITS == 203] <= 240, "white keeps room for highlights, and is still white"
    assert grey[-1] >= 253


def test_hdr_highlights_follow_the_peak_that_the_source_names(clip_folder: Path) -> None:
    """MaxCLL 4000: 1000 cd/m2 is not the brightest any more, and 4000 is not clipped."""
    nits = np.array([0, 1, 5, 10, 20, 26, 100, 203, 400, 700, 1000, 4000.0])
    options = (X265[0], ("x265-params", X265[1][1] + ":max-cll=4000,400:hdr10=1"))
    chart = replace(PQ, name="pq-4000", signal=np.repeat(pq(nits)[:, None], 3, axis=1), options=options)
    grey = greys_of(made(chart, clip_folder))
    assert (np.diff(grey) >= 1.5).all(), grey.round(1).tolist()
    assert np.abs(grey[:6] - srgb(nits[:6] / 203)).max() <= 2
    assert grey[10] < 252
    assert grey[-1] >= 253


BT2020_TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])  # BT.2087
P3_TO_BT709 = np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]])


def in_other_primaries(to_bt709: Floats, peak: float = 1.0) -> tuple[Floats, Floats]:
    """Light in those primaries whose colours are the patches, at `peak` of white, and the sRGB truth."""
    signal = PATCHES
    light = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4) * peak
    return np.clip(light @ np.linalg.inv(to_bt709).T, 0, None), srgb(light)


def test_hdr_colours_keep_their_hue(clip_folder: Path) -> None:
    """BT.709 colours in a BT.2020 container, all below the knee: they come out as they are."""
    light, truth = in_other_primaries(BT2020_TO_BT709, peak=0.3)
    chart = replace(PQ, name="pq-colours", signal=pq((light * 203).ravel()).reshape(-1, 3), pix_fmt="yuv444p12le")
    check(chart, made(chart, clip_folder).picture("p.png"), truth.reshape(DOWN, ACROSS, 3))


@pytest.mark.parametrize(
    ("name", "matrix", "primaries", "to_bt709"),
    [("wide", 9, 9, BT2020_TO_BT709), ("p3", 1, 12, P3_TO_BT709)],
)
def test_sdr_in_other_primaries(name: str, matrix: int, primaries: int, to_bt709: Floats, clip_folder: Path) -> None:
    light, truth = in_other_primaries(to_bt709)
    signal = srgb(light) / 255
    chart = Chart(
        f"sdr-{name}", ".mp4", "libx265", "yuv444p10le", {9: "2020", 1: "709"}[matrix],
        tags=tags(1, matrix, primaries, 1), signal=signal, options=X265,
    )  # fmt: skip
    check(chart, made(chart, clip_folder).picture("p.png"), truth.reshape(DOWN, ACROSS, 3))


def test_dolby_vision_without_base_layer_is_told(clip_folder: Path) -> None:
    path = charts.write(replace(HDR10, name="dolby", tags=(), options=(*X265, ("tag", "hvc1"))), clip_folder)
    data = path.read_bytes()
    for entry in (b"hev1", b"hvc1"):
        data = data.replace(entry, b"dvh1")
    dolby = clip_folder / "dolby-5.mp4"
    dolby.write_bytes(data)
    output = {"output": "thumbnail", "at": 0, "format": "png", "name": "p", "width": 96}
    assert any("Dolby Vision" in warning for warning in render(dolby, (output,)).source_warnings)
    assert not render(path, (output,)).source_warnings


def png(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(data)))
