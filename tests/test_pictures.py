"""The picture is right: colour, range, geometry, alpha, for every way in which videos code them.

Each case is one line: a chart (`charts.py`) as video, and through the whole of a worker's task to a PNG. The truth is
the chart itself, laid as a player would show it. Colours may differ by `LIMIT` (CIE 1976): less than is noticeable.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import charts
import clips
import numpy as np
import pytest
from av.filter.graph import Graph
from charts import ACROSS, DOWN, GREYS, PATCHES, Chart, Floats, delta_e, patch_means
from PIL import Image, ImageCms
from rendering import Rendered, render

from daemon.errors import AtPastEnd, DecodeFailed, NotAVideo

LIMIT = 1.8

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
    Chart(
        "phone",
        ".mp4",
        "libx264",
        "yuv420p",
        "709",
        tags=tags(1, 1, 1, 1),
        sample_aspect=Fraction(4, 3),
        turn=(-90, False, False),
        options=X264,
    ),
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
    assert apart.max() <= limit, (
        f"{chart.name}: {apart.round(1).tolist()}\n{shown.round().tolist()}\n{truth.round().tolist()}"
    )


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
    picture = render(path, ({"output": "thumbnail", "at": 0, "format": "png", "name": "p", "width": 50},)).picture(
        "p.png"
    )
    seen = picture[..., 3] > 25
    assert 0.2 < seen.mean() < 0.5
    assert (picture[seen][:, :3] >= 247).all()


# --- HDR and other primaries ------------------------------------------------------------------------------------

HDR10 = replace(
    CASES[0], name="pq", codec="libx265", pix_fmt="yuv420p10le", matrix="2020", options=X265, size=(192, 144)
)
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


BT2020_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
)  # BT.2087
# BT.601 525 lines (SMPTE 170M), by SMPTE RP 177.
SMPTE_C_TO_BT709 = np.array([[0.9395, 0.0502, 0.0103], [0.0178, 0.9658, 0.0164], [-0.0016, -0.0044, 1.0060]])
P3_TO_BT709 = np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]])


def in_other_primaries(to_bt709: Floats, peak: float = 1.0) -> tuple[Floats, Floats]:
    """Light in those primaries whose colours are the patches, at `peak` of white, as near as they can be, and the sRGB
    truth."""
    signal = PATCHES
    light = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4) * peak
    theirs = np.clip(light @ np.linalg.inv(to_bt709).T, 0, None)
    return theirs, srgb(theirs @ to_bt709.T)


def test_hdr_colours_keep_their_hue(clip_folder: Path) -> None:
    """BT.709 colours in a BT.2020 container, all below the knee: they come out as they are."""
    light, truth = in_other_primaries(BT2020_TO_BT709, peak=0.3)
    chart = replace(PQ, name="pq-colours", signal=pq((light * 203).ravel()).reshape(-1, 3), pix_fmt="yuv444p12le")
    check(chart, made(chart, clip_folder).picture("p.png"), truth.reshape(DOWN, ACROSS, 3))


@pytest.mark.parametrize(
    ("name", "matrix", "primaries", "to_bt709"),
    [("wide", 9, 9, BT2020_TO_BT709), ("p3", 1, 12, P3_TO_BT709), ("ntsc", 6, 6, SMPTE_C_TO_BT709)],
)
def test_sdr_in_other_primaries(name: str, matrix: int, primaries: int, to_bt709: Floats, clip_folder: Path) -> None:
    light, truth = in_other_primaries(to_bt709)
    signal = srgb(light) / 255
    chart = Chart(
        f"sdr-{name}", ".mp4", "libx265", "yuv444p10le", {9: "2020", 1: "709", 6: "601"}[matrix],
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


# --- interlaced -------------------------------------------------------------------------------------------------


def interlaced(size: charts.Size, format: str, first: str) -> Callable[[int], av.VideoFrame]:
    """Frame n shows picture 2 n in the lines of its first field (`tff`: the upper ones), and 2 n + 1 in the others."""

    def paint(n: int) -> av.VideoFrame:
        fields = [
            av.VideoFrame.from_ndarray(clips.draw(2 * n + k, size), "rgb24").reformat(format=format) for k in (0, 1)
        ]
        woven = av.VideoFrame(*size, format)
        # Chroma belongs to a field as well: its lines alternate.
        for plane, *both in zip(woven.planes, *(field.planes for field in fields), strict=True):
            rows, one, other = (np.frombuffer(p, np.uint8).reshape(-1, p.line_size) for p in (plane, *both))
            upper, lower = (one, other) if first == "tff" else (other, one)
            rows[0::2], rows[1::2] = upper[0::2], lower[1::2]
        graph = Graph()
        source = graph.add_buffer(width=size[0], height=size[1], format=woven.format, time_base=Fraction(1, 25))
        graph.link_nodes(source, graph.add("setfield", first), graph.add("buffersink")).configure()
        graph.vpush(woven)
        return graph.vpull()

    return paint


PAL = (720, 576)
X264_INTERLACED = (("qp", "8"), ("preset", "ultrafast"), ("flags", "+ildct+ilme"))
MPEG2_INTERLACED = (("global_quality", "118"), ("flags", "+ildct+ilme+qscale"))
INTERLACED = (
    ("tff", Chart("tff-h264", ".ts", "libx264", "yuv420p", size=PAL, options=X264_INTERLACED)),
    ("bff", Chart("bff-h264", ".mp4", "libx264", "yuv420p", size=PAL, options=X264_INTERLACED)),
    ("tff", Chart("tff-h264-422-10", ".mkv", "libx264", "yuv422p10le", size=PAL, options=X264_INTERLACED)),
    ("tff", Chart("tff-mpeg2", ".mpg", "mpeg2video", "yuv420p", size=PAL, options=MPEG2_INTERLACED)),
    ("bff", Chart("bff-mpeg2-422", ".ts", "mpeg2video", "yuv422p", size=PAL, options=MPEG2_INTERLACED)),
    ("tff", Chart("tff-prores", ".mov", "prores_ks", "yuv422p10le", size=PAL, options=(("flags", "+ildct"),))),
    ("bff", Chart("bff-dv", ".avi", "dvvideo", "yuv420p", size=PAL)),
)


@pytest.mark.parametrize("width", [180, 720])
@pytest.mark.parametrize(("first", "chart"), [pytest.param(*case, id=case[1].name) for case in INTERLACED])
def test_interlaced(first: str, chart: Chart, width: int, clip_folder: Path) -> None:
    """The picture of the field that is shown first, without a comb and without anything of the other."""
    path = charts.write(chart, clip_folder, interlaced(chart.size, chart.pix_fmt, first))
    height = width * 576 // 720
    for n in range(charts.FRAMES):
        output = {
            "output": "thumbnail",
            "at": {"frame": n},
            "format": "png",
            "name": "p",
            "width": width,
            "height": height,
            "fit": "stretch",
        }
        picture = render(path, (output,)).picture("p.png")
        assert clips.read_number(picture) == 2 * n
        truth = Image.fromarray(clips.draw(2 * n, chart.size)).resize((width, height), Image.Resampling.LANCZOS)
        assert psnr(picture, np.asarray(truth)) >= 30


def psnr(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


# --- still pictures, and moving ones in picture formats ----------------------------------------------------------

ONE = {"output": "thumbnail", "at": 0, "format": "png", "name": "p"}
CHART = (charts.picture(PATCHES, (192, 144)) * 255).round().astype(np.uint8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".png", ".tiff"])
def test_still_stands_as_its_exif_says(suffix: str, orientation: int, tmp_path: Path) -> None:
    image = Image.fromarray(CHART)
    exif = image.getexif()
    exif[274] = orientation
    path = tmp_path / f"still{suffix}"
    image.save(
        path, exif=exif, **({"lossless": True} if suffix == ".webp" else {"quality": 95} if suffix == ".jpg" else {})
    )
    rendered = render(path, (ONE,))
    picture = rendered.picture("p.png")
    # EXIF 2.32, tag 274: which side of the picture row 0 and column 0 are.
    laid = PATCHES.reshape(DOWN, ACROSS, 3)
    laid = {
        1: laid, 2: laid[:, ::-1], 3: laid[::-1, ::-1], 4: laid[::-1],
        5: laid.swapaxes(0, 1), 6: laid[::-1].swapaxes(0, 1),
        7: laid[::-1, ::-1].swapaxes(0, 1), 8: laid[:, ::-1].swapaxes(0, 1),
    }[orientation]  # fmt: skip
    assert picture.shape[:2] == ((144, 192) if orientation < 5 else (192, 144))
    assert rendered.source is not None
    assert (rendered.source.width, rendered.source.height) == picture.shape[1::-1]
    assert delta_e(means(picture, *laid.shape[:2]), laid * 255).max() <= LIMIT


STILLS: dict[str, Callable[[Image.Image, Path], None]] = {
    "rgb.png": lambda image, path: image.save(path),
    "palette.png": lambda image, path: image.quantize(256).save(path),
    "grey-16.png": lambda image, path: Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(
        path
    ),
    "grey.jpg": lambda image, path: image.convert("L").save(path, quality=95),
    "cmyk.jpg": lambda image, path: image.convert("CMYK").save(path, quality=98),
    "progressive.jpg": lambda image, path: image.save(path, quality=95, progressive=True),
    "still.webp": lambda image, path: image.save(path, quality=95),
    "still.bmp": lambda image, path: image.save(path),
    "lzw.tiff": lambda image, path: image.save(path, compression="tiff_lzw"),
}


@pytest.mark.parametrize("name", STILLS)
def test_still(name: str, tmp_path: Path) -> None:
    """A picture is a video of one frame: every time is that of its only picture."""
    path = tmp_path / name
    image = Image.fromarray(CHART)
    STILLS[name](image, path)
    truth = np.asarray(image.convert("L").convert("RGB") if "grey" in name else image)
    ats = {"zero": 0, "middle": "middle", "half": "50%", "number": {"frame": 0}}
    rendered = render(path, [ONE | {"name": name, "at": at} for name, at in ats.items()])
    for output in ats:
        picture = rendered.picture(f"{output}.png")
        # Palettes and lossy coding with half of the chroma.
        assert delta_e(patch_means(picture), patch_means(truth)).max() <= 4
    with pytest.raises(AtPastEnd):
        render(path, (ONE | {"at": 1},))
    with pytest.raises(AtPastEnd):
        render(path, (ONE | {"at": {"frame": 1}},))


def test_bmp_whose_fourth_byte_is_unused_is_opaque(tmp_path: Path) -> None:
    """BITMAPV4HEADER with a mask for alpha, and nothing but zeros in it."""
    path = tmp_path / "unused.bmp"
    pixels = np.dstack((CHART[::-1, :, ::-1], np.zeros(CHART.shape[:2], np.uint8)))
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    info = struct.pack("<IiiHHIIiiII", 108, 192, 144, 1, 32, 3, pixels.nbytes, 2835, 2835, 0, 0) + masks
    head = struct.pack("<2sIHHI", b"BM", 122 + pixels.nbytes, 0, 0, 122)
    path.write_bytes(head + info + bytes(108 - len(info)) + pixels.tobytes())
    with Image.open(path) as image:
        assert image.mode == "RGBA"
    picture = render(path, (ONE,)).picture("p.png")
    assert (picture == CHART).all()


def test_jpegs_one_after_another_are_a_video(tmp_path: Path) -> None:
    """Cameras stream so, and libav may take it for a picture."""
    path = tmp_path / "stream.jpg"
    data = io.BytesIO()
    for n in range(8):
        Image.fromarray(clips.draw(n, (160, 90))).save(data, "JPEG", quality=90)
    path.write_bytes(data.getvalue())
    rendered = render(path, [ONE | {"name": f"f{n}", "at": {"frame": n}} for n in range(8)])
    assert [clips.read_number(rendered.picture(f"f{n}.png")) for n in range(8)] == list(range(8))
    assert rendered.source is not None
    assert rendered.source.duration == pytest.approx(8 / 25)


def test_still_is_converted_from_its_colour_profile(tmp_path: Path) -> None:
    """One whose profile says that red is green and green is blue: what comes out is what its profile says."""
    swapped = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    data = bytearray(swapped.tobytes())
    places = {bytes(data[n : n + 4]): n for n in range(132, 132 + 12 * int.from_bytes(data[128:132]), 12)}
    red, green = places[b"rXYZ"], places[b"gXYZ"]
    data[red + 4 : red + 8], data[green + 4 : green + 8] = data[green + 4 : green + 8], data[red + 4 : red + 8]
    path = tmp_path / "profile.png"
    Image.fromarray(CHART).save(path, icc_profile=bytes(data))
    check(CASES[0], render(path, (ONE,)).picture("p.png"), PATCHES.reshape(DOWN, ACROSS, 3)[..., [1, 0, 2]] * 255)


def test_animated_webp(tmp_path: Path) -> None:
    path = tmp_path / "moving.webp"
    pictures = [Image.fromarray(clips.draw(n, (160, 90))) for n in range(6)]
    shown = [100, 300, 40, 1000, 200, 60]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=shown, quality=90)
    begins = np.cumsum([0, *shown])
    ats = {f"at{at}": at for at in sorted({0, *begins[1:-1], *(begins[1:-1] - 1), begins[-1]})}
    rendered = render(path, [ONE | {"name": name, "at": f"{at}ms"} for name, at in ats.items()], threads=2)
    for name, at in ats.items():
        number = clips.read_number(rendered.picture(f"{name}.png"))
        assert number == max(n for n in range(6) if begins[n] <= at), at
    assert rendered.source is not None
    assert rendered.source.duration == pytest.approx(1.7)
    every = render(path, ({"output": "thumbnails", "every": "400ms", "format": "png", "name": "s"},))
    assert [clips.read_number(every.picture(f"s-{n + 1:04}.png")) for n in range(5)] == [0, 2, 3, 3, 4]


def test_transparent_animated_webp(tmp_path: Path) -> None:
    path = tmp_path / "disc.webp"
    frames = []
    for n in range(3):
        rgba = np.full((90, 160, 4), 1, np.uint8)
        rgba[:, 40 * n : 40 * n + 40] = (200, 40, 40, 255)
        frames.append(Image.fromarray(rgba))
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100, lossless=True)
    picture = render(path, (ONE | {"at": "150ms"},)).picture("p.png")
    assert (picture[:, 45:75] == (200, 40, 40, 255)).all()
    assert (picture[:, :35, 3] <= 1).all()


@pytest.mark.parametrize("name", ["torn.webp", "torn.png", "torn.jpg"])
def test_torn_still(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    Image.fromarray(clips.draw(7, (320, 180))).save(path)
    data = path.read_bytes()
    for keep in (0.5, 0.02):
        path.write_bytes(data[: max(20, int(len(data) * keep))])
        with pytest.raises((NotAVideo, DecodeFailed)):
            render(path, (ONE,))


# --- what changes on the way ------------------------------------------------------------------------------------


def changing(folder: Path) -> Path:
    """MPEG-TS whose size, and with it the shape of its pictures, changes after 10 frames: 320x180, then 180x320."""
    path = folder / "changing.ts"
    with av.open(path, "w") as output:
        stream = output.add_stream("libx264", rate=25, width=320, height=180, pix_fmt="yuv420p")
        for part, (width, height) in enumerate(((320, 180), (180, 320))):
            encoder = av.CodecContext.create("libx264", "w")
            encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = (
                width,
                height,
                "yuv420p",
                Fraction(1, 25),
            )
            encoder.options = {"preset": "veryfast", "qp": "16", "x264-params": "bframes=0"}
            packets = []
            for n in range(10):
                frame = av.VideoFrame.from_ndarray(clips.draw(10 * part + n, (width, height)), "rgb24")
                frame.pts, frame.time_base = n, Fraction(1, 25)
                packets += encoder.encode(frame)
            for packet in packets + encoder.encode(None):
                packet.stream, packet.pts, packet.dts = stream, packet.pts + 10 * part, packet.dts + 10 * part
                packet.time_base = Fraction(1, 25)
                output.mux(packet)
    return path


def test_size_that_changes_in_mid_stream(clip_folder: Path) -> None:
    outputs = [
        {"output": "thumbnails", "count": 20, "format": "png", "name": "s", "width": 160, "height": 160},
        {"output": "sprite", "count": 20, "format": "png", "name": "t", "columns": 20, "width": 160},
    ]
    rendered = render(changing(clip_folder), outputs)
    for n in range(20):
        picture = rendered.picture(f"s-{n + 1:04}.png")
        assert picture.shape == ((90, 160, 3) if n < 10 else (160, 90, 3))
        assert clips.read_number(picture) == n
    tiles = rendered.picture("t-000.png")
    assert tiles.shape == (90, 3200, 3)
    for n in range(20):
        tile = tiles[:, 160 * n : 160 * n + 160]
        # Tiles are all of one size: a picture of another shape stands in the middle of its own.
        left = 0 if n < 10 else (160 - round(90 * 180 / 320)) // 2
        assert clips.read_number(tile[:, left : 160 - left]) == n
        assert not tile[:, :left].any()


# --- cover art --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "audio", "format"), [(".mp3", "libmp3lame", "mp3"), (".flac", "flac", "flac"), (".m4a", "aac", "mp4")]
)
def test_cover_of_an_audio_file(suffix: str, audio: str, format: str, clip_folder: Path) -> None:
    """It is the picture of the file, whatever the time."""
    path = clip_folder / f"song{suffix}"
    with av.open(path, "w", format=format) as output:
        packets = clips._audio(output, audio)
        packets += clips._cover(output)
        output.mux(packets)
    rendered = render(path, [ONE, ONE | {"name": "m", "at": "middle"}])
    for name in ("p", "m"):
        picture = rendered.picture(f"{name}.png")
        assert clips.read_number(picture) == clips.COVER
        assert picture.shape == (90, 160, 3)


# --- what is read -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"movflags": "+faststart"}], ids=["index-last", "index-first"])
def test_a_picture_reads_little_of_a_large_file(options: dict[str, str], tmp_path: Path) -> None:
    """Also where the index stands at the end. Most of it is the first eight packets: they tell where a video begins."""
    path = tmp_path / "large.mp4"
    rng = np.random.default_rng(1)
    with av.open(path, "w", container_options=options) as output:
        stream = output.add_stream("libx264", rate=25, options={"preset": "ultrafast", "qp": "2"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        stream.codec_context.gop_size = 4
        for _n in range(200):
            noise = rng.integers(0, 255, (180, 320, 3), np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(noise, "rgb24")))
        output.mux(stream.encode(None))
    size = path.stat().st_size
    assert size > 10 << 20
    for outputs, share in (
        ([ONE | {"at": "50%", "accuracy": "keyframe"}], 0.06),
        ([ONE | {"at": "50%"}], 0.08),
        ([{"output": "thumbnails", "count": 5, "format": "png", "name": "s", "accuracy": "keyframe"}], 0.12),
    ):
        assert render(path, outputs).over.read_bytes < share * size
