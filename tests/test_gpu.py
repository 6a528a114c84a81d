"""On a real GPU: the right frames, and the pictures that the CPU makes.

    REQUIRE_GPU=1 pytest -m gpu tests/test_gpu.py

Needs PyAV, NumPy, Pillow, pydantic, CuPy and PyNvVideoCodec, and the tree on PYTHONPATH; skipped where there is no GPU,
but with REQUIRE_GPU=1 a skip is a failure. DALI and nvImageCodec are tried where they are installed. With
GPU_TESTS_ON=cpu the CPU stands in for the GPU: that proves the tests.

What is measured on the way (PSNR, memory) is put into the JUnit report (`--junitxml`), from which `bench gpu` takes it.
"""

from __future__ import annotations

import functools
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

import av
import charts
import clips
import numpy as np
import pytest
from charts import Chart
from clips import RECIPES, Clip, Recipe, read_number
from rendering import render
from test_pictures import CASES, HLG, NITS, PQ, X264, X265, hlg, pq, tags

from daemon.media.cards import why_none
from daemon.media.choose_device import open_device
from daemon.media.container import open_container
from daemon.media.cpu import CpuDevice
from daemon.media.device import Unfit
from daemon.media.plan import How, Instant, plan
from daemon.media.source import FileSource
from daemon.media.video import Track

ON = os.environ.get("GPU_TESTS_ON", "cuda:0")
CPU = CpuDevice()
LEAST_PSNR = 40.0  # dB, between the picture of the GPU and that of the CPU
TINY = Fraction(1, 100_000)
make = functools.cache(clips.make)
# CuPy and its like warn of toolkits that they do not find.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

# What NVDEC decodes on every card from Turing to Hopper, in the containers and timings that matter.
NAMES = (
    "h264",
    "h264-nonref-b",
    "h264-one-gop",
    "h264-open-gop",
    "h264-open-gop-ts",
    "h264-refresh-ts",
    "h264-edit-mov",
    "h264-vfr",
    "h264-vfr-ts",
    "h264-gap-mkv",
    "h264-frag",
    "h264-mkv",
    "h264-flv",
    "h264-raw",
    "h264-444",  # that it lacks: the CPU's pictures then
    "hevc",
    "hevc-vfr",
    "hevc-open-gop",
    "hevc-open-gop-ts",
    "hevc-10-bit",
    "hevc-raw",
    "vp8",
    "vp9",
    "vp9-mp4",
    "vp9-alt-ref",
    "av1-mkv",
    "mpeg2-ts",
    "mpeg4-avi-b",
)
LARGE = (640, 360)  # NVDEC takes no picture below 144 x 144 of some codecs


@pytest.fixture(scope="session")
def device() -> Any:
    if ON != "cpu" and (why := why_none()) is not None:
        pytest.skip(why)
    return open_device(ON)


# --- frames -----------------------------------------------------------------------------------------------------


def recipe_of(name: str) -> Recipe:
    recipe = next(recipe for recipe in RECIPES if recipe.name == name)
    return recipe if recipe.size[1] >= 144 else replace(recipe, name=f"{name}-large", size=LARGE)


EVERY = [pytest.param(recipe_of(name), id=name) for name in NAMES]


@contextmanager
def track_of(path: Path, hardware: Any) -> Iterator[tuple[Any, Any, Track, Any]]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        container = open_container(FileSource(descriptor))
        facts = container.measure()
        device = container.fit(hardware, timed=facts.timing == "shown")
        track = Track(container, facts, device)
        try:
            yield facts, container, track, device
        finally:
            track.close()
    finally:
        os.close(descriptor)


def shown(path: Path, seconds: list[Fraction], how: How, hardware: Any) -> dict[Fraction, int]:
    """The numbers of the frames that stand for these instants; by the CPU where the card is unfit."""
    try:
        return _shown(path, seconds, how, hardware)
    except Unfit:
        return _shown(path, seconds, how, hardware.otherwise)


def _shown(path: Path, seconds: list[Fraction], how: How, hardware: Any) -> dict[Fraction, int]:
    found = {}
    with track_of(path, hardware) as (facts, container, track, device):
        instants = {Instant(facts.ticks(at), how): at for at in seconds}
        group_of = container.group if facts.timing != "counted" else lambda ticks: 0
        for run in plan(instants, group_of, 2 / facts.time_base):
            for picture in track.frames(run):
                # At once: the surface that NVDEC decoded to is used again.
                (small,) = device.resize(picture.frame, [(160, 120)], track.look(picture.frame).colour)
                found[instants[picture.instant]] = read_number(small)
    return found


def borders(clip: Clip) -> list[Fraction]:
    """Instants at, just before and just after the begin of frames worth looking at, and the end."""
    last = len(clip.times) - 1
    keys = {clip.numbers.index(number) for number in clip.keyframes if number in clip.numbers}
    near = {0, 1, last - 1, last, *(k + d for k in keys for d in (-1, 0, 1)), *range(0, last, 9)}
    times = [clip.times[n] for n in near if 0 <= n <= last]
    return sorted({max(Fraction(0), time + shift) for time in times for shift in (-TINY, 0, TINY)} | {clip.end})


@pytest.mark.parametrize("recipe", EVERY)
def test_exact_picture_is_the_one_shown(recipe: Recipe, device: Any, clip_folder: Path) -> None:
    clip = make(recipe, clip_folder)
    asked = borders(clip)
    assert shown(clip.path, asked, "exact", device) == {at: clip.number_at(at) for at in asked}


@pytest.mark.parametrize("how", ["keyframe", "nearest"])
@pytest.mark.parametrize("recipe", EVERY)
def test_keyframe_picture_is_the_keyframe(recipe: Recipe, how: How, device: Any, clip_folder: Path) -> None:
    clip = make(recipe, clip_folder)
    times = [clip.times[clip.numbers.index(number)] for number in clip.keyframes]

    def truth(at: Fraction) -> int:
        if not times or recipe.container in clips.COUNTED:
            return clip.number_at(at)
        if how == "keyframe" or len(times) == 1:
            return clip.keyframes[max(bisect_right(times, at) - 1, 0)]
        return clip.keyframes[min(range(len(times)), key=lambda n: (abs(times[n] - at), n))]

    asked = borders(clip)
    with track_of(clip.path, CPU) as (facts, _, _, _):
        known = facts.timing == "shown"
    expected = {at: truth(at) if known else clip.number_at(at) for at in asked}
    assert shown(clip.path, asked, how, device) == expected


# --- pictures ---------------------------------------------------------------------------------------------------

BY_NAME = {chart.name: chart for chart in CASES}
CHARTS = [
    *(
        BY_NAME[name]
        for name in (
            "untagged-sd",
            "untagged-hd",
            "untagged-hevc",
            "bt601-hd",
            "bt709-sd",
            "bt2020-sd",
            "fcc",
            "smpte240m",
            "derived-matrix",
            "full-h264",
            "full-vp9",
            "limited-vp9",
            "yuv420-10",  # High 10: not on every card
            "yuv420-12",
            "yuv444",
            "odd",
            "sar-4-3",
            "sar-ts",
            "turned-90",
            "turned-180",
            "turned-270",
            "mirrored",
            "upside-down",
            "transposed",
            "transverse",
            "phone",
        )
    ),
    Chart("hevc-10-limited", ".mp4", "libx265", "yuv420p10le", "709", tags=tags(1, 1, 1, 1), options=X265),
    Chart("hevc-10-full", ".mp4", "libx265", "yuv420p10le", "709", True, tags=tags(2, 1, 1, 1), options=X265),
    Chart("hevc-10-601-hd", ".mp4", "libx265", "yuv420p10le", "601", tags=tags(1, 6), size=(192, 720), options=X265),
    Chart("h264-1080", ".mp4", "libx264", "yuv420p", "709", size=(1920, 1080), options=X264),  # coded as 1088 lines
    *(
        Chart(f"siting-{name}", ".mp4", "libx264", "yuv420p", "601", options=(*X264, ("x264-params", f"chromaloc={n}")))
        for n, name in enumerate(("left", "center", "topleft", "top"))
    ),
    Chart("siting-of-vp9", ".webm", "libvpx-vp9", "yuv420p", "601", options=(("lossless", "1"), ("cpu-used", "8"))),
    Chart("cropped", ".mp4", "libx264", "yuv420p", "601", size=(190, 150), options=X264),
    replace(PQ, signal=np.repeat(pq(NITS)[:, None], 3, axis=1)),
    replace(HLG, signal=np.repeat(hlg((NITS / 1000) ** (1 / 1.2))[:, None], 3, axis=1)),
]


def thumbnails(width: int) -> Mapping[str, Any]:
    return {"output": "thumbnail", "at": 0, "format": "png", "name": "p", "width": width}


def psnr(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    """dB, at most 99."""
    assert one.shape == other.shape
    error = float(np.mean((one.astype(float) - other) ** 2))
    return 99.0 if error == 0 else min(99.0, 10 * np.log10(255**2 / error))


@pytest.mark.parametrize("chart", [pytest.param(chart, id=chart.name) for chart in CHARTS])
def test_picture_is_that_of_the_cpu(
    chart: Chart, device: Any, clip_folder: Path, record_property: Callable[[str, object], None]
) -> None:
    path = charts.write(chart, clip_folder)
    for width in (96, 150):
        ours = render(path, (thumbnails(width),), hardware=device)
        theirs = render(path, (thumbnails(width),))
        decibels = psnr(ours.picture("p.png"), theirs.picture("p.png"))
        by_cpu = [warning for warning in ours.source_warnings if warning.startswith(BY_CPU)]
        # What the CPU made twice proves nothing: it is not counted among the decibels.
        record_property(f"{'left to the CPU' if by_cpu else 'PSNR'}, {chart.name} {width}", round(decibels, 1))
        assert decibels >= LEAST_PSNR


def detailed(number: int, size: tuple[int, int]) -> av.VideoFrame:
    """Moving waves with fine grain: what a filter that aliases would betray."""
    grain = np.random.default_rng(number).integers(-20, 20, (size[1], size[0], 1))
    picture = np.clip(clips.draw(number, size).astype(int) + grain, 0, 255).astype(np.uint8)
    return av.VideoFrame.from_ndarray(picture, "rgb24")


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "options"),
    [("libx264", "yuv420p", X264), ("libx265", "yuv420p10le", X265), ("libvpx-vp9", "yuv420p", (("cpu-used", "8"),))],
)
@pytest.mark.parametrize("width", [160, 320, 1000])
def test_a_detailed_picture_is_that_of_the_cpu(
    codec: str,
    pix_fmt: str,
    options: clips.Pairs,
    width: int,
    device: Any,
    clip_folder: Path,
    record_property: Callable[[str, object], None],
) -> None:
    suffix = ".webm" if "vpx" in codec else ".mp4"
    chart = Chart(f"detail-{codec}", suffix, codec, pix_fmt, "709", size=(1280, 720), options=options)
    path = charts.write(chart, clip_folder, lambda n: detailed(n, chart.size).reformat(format=pix_fmt))
    one, other = (render(path, (thumbnails(width),), hardware=each).picture("p.png") for each in (device, CPU))
    decibels = psnr(one, other)
    record_property(f"PSNR, {chart.name} {width}", round(decibels, 1))
    assert decibels >= LEAST_PSNR


# --- many files, one device -------------------------------------------------------------------------------------


def test_decoders_are_used_again_for_files_of_other_sizes(device: Any, clip_folder: Path) -> None:
    """In turns and back again: whatever a pool keeps of one file must not show in the next."""
    sizes = ((320, 180), (640, 360), (352, 288), (640, 352), (320, 180), (1280, 720), (640, 360), (320, 192))
    kinds = (("h264", clips.X264), ("hevc-10-bit", clips.X265))
    for turn in range(2):
        for width, height in sizes:
            for kind, _ in kinds:
                recipe = replace(recipe_of(kind), name=f"{kind}-{width}x{height}", size=(width, height), frames=40)
                clip = make(recipe, clip_folder)
                asked = [clip.times[n] for n in (3, 17 + turn, 36)]
                assert shown(clip.path, asked, "exact", device) == {at: clip.number_at(at) for at in asked}


def test_a_sprite_is_that_of_the_cpu(device: Any, clip_folder: Path) -> None:
    clip = make(recipe_of("h264"), clip_folder)
    sprite = {"output": "sprite", "count": 20, "columns": 5, "width": 160, "format": "png", "name": "scrub"}
    ours, theirs = render(clip.path, (sprite,), hardware=device, threads=4), render(clip.path, (sprite,))
    assert ours.files.keys() == theirs.files.keys()
    sheets = [name for name in ours.files if name.endswith(".png")]
    assert sheets
    for name in sheets:
        assert psnr(ours.picture(name), theirs.picture(name)) >= LEAST_PSNR
    assert {name: ours.files[name] for name in ours.files if name not in sheets} == {
        name: theirs.files[name] for name in theirs.files if name not in sheets
    }


@pytest.mark.parametrize(
    ("package", "how", "format"), [("nvidia.dali", "dali/0", "png"), ("nvidia.nvimgcodec", "kernel/1", "jpeg")]
)
def test_what_else_the_card_may_work_with(
    package: str,
    how: str,
    format: str,
    device: Any,
    clip_folder: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """DALI shrinks, held beside the CPU; nvImageCodec makes all JPEG, beside Pillow of the same pictures. Neither has
    to be installed where there is a GPU."""
    other = device
    if ON != "cpu":
        try:
            import_module(package)
        except ImportError as missing:
            record_property(f"not tested, {package}", str(missing))
            return
        other = open_device(f"{ON}/{how}")
    clip = make(recipe_of("h264"), clip_folder)
    sprite = {"output": "sprite", "count": 20, "columns": 5, "width": 160, "format": format, "name": "scrub"}
    poster = {"output": "thumbnail", "at": 1, "width": 600, "format": format, "name": "poster"}
    ours = render(clip.path, (sprite, poster), hardware=other, threads=4)
    theirs = render(clip.path, (sprite, poster), hardware=device if format == "jpeg" else CPU)
    assert ours.fallbacks == []
    names = [name for name in theirs.files if not name.endswith(".vtt")]
    assert len(names) == 2
    for name in names:
        decibels = psnr(ours.picture(name), theirs.picture(name))
        record_property(f"PSNR, {package} {name}", round(decibels, 1))
        assert decibels >= LEAST_PSNR


def test_many_threads_share_the_device(device: Any, clip_folder: Path) -> None:
    clip = make(recipe_of("h264"), clip_folder)
    output = {"output": "thumbnails", "count": 60, "width": 160, "format": "png", "name": "s"}
    ours = render(clip.path, (output,), hardware=device, threads=16)
    numbers = {picture.path: picture.time for picture in ours.reports["s"].pictures or ()}
    assert len(numbers) == 60
    for path, time in numbers.items():
        assert path is not None
        assert read_number(ours.picture(path)) == clip.number_at(Fraction(time).limit_denominator(90_000))


def test_memory_stays_bounded(device: Any, clip_folder: Path, record_property: Callable[[str, object], None]) -> None:
    """200 sources of ten sizes, with fresh tracks each: what the GPU holds after 50 of them it holds after all."""
    if ON == "cpu":
        pytest.skip("it is the GPU's memory that is looked at")
    cupy = import_module("cupy")

    def used() -> int:
        free, total = cupy.cuda.Device(int(ON.partition(":")[2] or 0)).mem_info
        return int(total - free)

    found = []
    for n in range(200):
        width = 320 + 64 * (n % 10)
        recipe = replace(recipe_of("h264"), name=f"bounded-{width}", size=(width, 240), frames=20, gop=10)
        clip = make(recipe, clip_folder)
        at = clip.times[n % 20]
        assert shown(clip.path, [at], "exact", device) == {at: clip.number_at(at)}
        if n % 10 == 9:
            found.append(used())
    grown = found[-1] - max(found[:5])
    record_property("memory grown over 150 sources, MB", grown >> 20)
    assert grown <= 64 << 20, f"{[each >> 20 for each in found]} MiB"


# --- what the card does not decode ------------------------------------------------------------------------------


BY_CPU = "decoded by the CPU: "
FRAME = {"output": "thumbnail", "at": {"frame": 5}, "format": "png", "name": "p", "width": 160}


def fallbacks(name: str, device: Any, clip_folder: Path) -> list[str]:
    """What the report says of a device that was unfit; the frame is the right one in any case."""
    clip = make(recipe_of(name), clip_folder)
    rendered = render(clip.path, (FRAME,), hardware=device)
    assert read_number(rendered.picture("p.png")[..., :3]) == clip.numbers[5]
    return [warning for warning in rendered.source_warnings if warning.startswith(BY_CPU)]


@pytest.mark.parametrize("name", ["mpeg4-avi-b", "h264-444", "ffv1-mkv", "prores-mov", "gif"])
def test_what_nvdec_lacks_is_decoded_by_the_cpu_and_the_report_says_why(
    name: str, device: Any, clip_folder: Path
) -> None:
    if ON == "cpu":
        assert fallbacks(name, device, clip_folder) == []
        return
    (warning,) = fallbacks(name, device, clip_folder)
    assert len(warning) > len(BY_CPU)


@pytest.mark.parametrize(
    "name", ["h264", "h264-one-gop", "h264-vfr", "h264-ts", "h264-mkv", "hevc", "hevc-10-bit", "vp9"]
)
def test_what_nvdec_has_is_decoded_by_the_gpu(name: str, device: Any, clip_folder: Path) -> None:
    assert fallbacks(name, device, clip_folder) == []
