"""What libswscale makes of hard pictures, against the exact reference, and what it costs: `python -m bench.scalers`.

The picture is six panels: zone plate, letters, saturated edges, noise, gradients, and noise as of nature (1/f). Each
row is one way to call PyAV's reformatter on one thread: PSNR in dB of red, green and blue against the reference with
the same filter, of everything against Lanczos, the mean error in steps of 255, and the best time of several.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction
from math import inf
from typing import Any, cast

import av
import av.filter
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from kernels.colour import Matrix, yuv_to_rgb
from kernels.reference import Words, psnr, quantise, resize_rgb, yuv420_to_rgb
from kernels.weights import Filter

Planes = tuple[Words, Words, Words]
Picture = NDArray[np.uint8]
Way = Callable[[av.VideoFrame, tuple[int, int]], av.VideoFrame]

POINT = Interpolation.POINT
ACCURATE = Interpolation.ACCURATE_RND
FULL = Interpolation.FULL_CHR_H_INT
EXACT = ACCURATE | FULL | Interpolation.FULL_CHR_H_INP
FILTERS: dict[Interpolation, Filter] = {
    Interpolation.FAST_BILINEAR: "triangle",
    Interpolation.AREA: "area",
    Interpolation.BILINEAR: "triangle",
    Interpolation.BICUBIC: "bicubic",
    Interpolation.LANCZOS: "lanczos3",
}
COLORSPACES: dict[Matrix, Colorspace] = {
    "bt601": Colorspace.ITU601,
    "bt709": Colorspace.ITU709,
    "bt2020": Colorspace.BT2020,
}


def panels(width: int, height: int) -> NDArray[np.float64]:
    """RGB in 0..255."""
    rng = np.random.default_rng(0)
    w, h = width // 3, height // 2
    y, x = np.mgrid[0:h, 0:w].astype(float)
    zone = 127.5 + 127.5 * np.cos(np.pi * ((x - w / 2) ** 2 + (y - h / 2) ** 2) / w)
    strokes = (rng.random((h, w // 2 + 1)) < 0.5).repeat(2, axis=1)[:, :w]
    letters = np.where((y % 16 < 10) & (x % 11 < 8) & strokes, 20.0, 235.0)
    corners = 255.0 * np.array([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)])
    blocks = corners[rng.integers(0, 8, (h // 9 + 1, w // 13 + 1)).repeat(9, 0).repeat(13, 1)[:h, :w]]
    noise = 128 + rng.normal(0, 40, (h, w, 3))
    gradients = 255 * np.stack([x / w, y / h, 1 - x / w], axis=-1)
    spectrum = np.fft.rfft2(rng.normal(size=(3, h, w)))
    spectrum /= np.maximum(np.hypot(np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)), 1 / w)
    nature = np.moveaxis(np.fft.irfft2(spectrum, (h, w)), 0, -1)
    nature = 128 + 50 * nature / nature.std()

    picture = np.zeros((height, width, 3))
    grey = np.ones(3)
    tiles = [zone[..., None] * grey, letters[..., None] * grey, blocks, noise, gradients, nature]
    for i, tile in enumerate(tiles):
        picture[i // 3 * h : i // 3 * h + h, i % 3 * w : i % 3 * w + w] = tile
    return np.clip(picture, 0, 255)


def planes_of(rgb: NDArray[Any], matrix: Matrix = "bt709", full_range: bool = False, depth: int = 8) -> Planes:
    """4:2:0 of a picture, each chroma sample the mean of its four: centred."""
    m, offset = yuv_to_rgb(matrix, full_range, depth)
    yuv = rgb @ np.linalg.inv(m).T + offset
    height, width = rgb.shape[:2]
    even = np.pad(yuv, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
    chroma = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2, 3).mean(axis=(1, 3))
    samples = (np.rint(yuv[..., 0]), np.rint(chroma[..., 1]), np.rint(chroma[..., 2]))
    y, u, v = (plane.astype(np.uint8 if depth == 8 else np.uint16) for plane in samples)
    return y, u, v


def frame_of(planes: Planes, format: str = "yuv420p") -> av.VideoFrame:
    frame = av.VideoFrame(planes[0].shape[1], planes[0].shape[0], format)
    for plane, samples in zip(frame.planes, planes, strict=True):
        rows = np.frombuffer(memoryview(plane), samples.dtype).reshape(plane.height, -1)
        rows[:, : samples.shape[1]] = samples
    return frame


def reformat(
    by: VideoReformatter,
    frame: av.VideoFrame,
    size: tuple[int, int],
    format: str,
    flags: Interpolation,
    matrix: Matrix = "bt709",
    full_range: bool = False,
) -> av.VideoFrame:
    """Everything said aloud: what is left out PyAV takes from the frame's tags, and untagged means BT.601 to it."""
    planar = format.startswith("yuv")
    return by.reformat(
        frame,
        *size,
        format,
        src_colorspace=COLORSPACES[matrix],
        dst_colorspace=COLORSPACES[matrix],
        src_color_range=ColorRange.JPEG if full_range else ColorRange.MPEG,
        dst_color_range=ColorRange.MPEG if planar and not full_range else ColorRange.JPEG,
        interpolation=flags,
        threads=1,
    )


def one_step(format: str, flags: Interpolation) -> Way:
    by = VideoReformatter()
    return lambda frame, size: reformat(by, frame, size, format, flags)


def two_steps(between: str, first: Interpolation, then: Interpolation) -> Way:
    shrink, convert = VideoReformatter(), VideoReformatter()
    return lambda frame, size: reformat(convert, reformat(shrink, frame, size, between, first), size, "rgb24", then)


def ways(f: Interpolation) -> dict[str, Way]:
    return {
        "rgb24": one_step("rgb24", f),
        "rgb24, accurate": one_step("rgb24", f | ACCURATE),
        "rgb24, full chroma": one_step("rgb24", f | FULL),
        "rgb24, all three": one_step("rgb24", f | EXACT),
        "gbrp, all three, then rgb24": two_steps("gbrp", f | EXACT, POINT),
        "yuv420p, then rgb24, all three": two_steps("yuv420p", f | ACCURATE, f | EXACT),
        "yuv444p, then rgb24, all three": two_steps("yuv444p", f | ACCURATE, POINT | EXACT),
    }


def pixels(frame: av.VideoFrame) -> Picture:
    return np.asarray(frame.to_ndarray(), np.uint8)


def timed(calls: list[Way], frame: av.VideoFrame, size: tuple[int, int], rounds: int = 12) -> list[float]:
    """The best time of each in ms. Others share this machine: in rounds, so that a slow moment hits all alike."""
    best = [inf] * len(calls)
    for _ in range(rounds):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call(frame, size)
            best[i] = min(best[i], time.perf_counter() - start)
    return [seconds * 1e3 for seconds in best]


def table(source: tuple[int, int], target: tuple[int, int]) -> None:
    planes = planes_of(panels(*source))
    frame = frame_of(planes)
    exact = {
        filter: yuv420_to_rgb(*planes, target, matrix="bt709", siting="center", filter=filter)
        for filter in set(FILTERS.values())
    }
    print(f"\n{source[0]}x{source[1]} yuv420p to {target[0]}x{target[1]}")
    print(f"{'':46}    R     G     B   Lanczos   mean     ms")
    rows = [(flag, name, call) for flag in FILTERS for name, call in ways(flag).items()]
    for (flag, name, call), spent in zip(rows, timed([row[2] for row in rows], frame, target), strict=True):
        got, truth = pixels(call(frame, target)), exact[FILTERS[flag]]
        channels = " ".join(f"{psnr(got[..., c], truth[..., c]):5.1f}" for c in range(3))
        mean = float((got.astype(float) - truth).mean())
        against = psnr(got, exact["lanczos3"])
        print(f"{flag.name:14}{name:32} {channels}   {against:6.1f}  {mean:+5.2f}  {spent:5.2f}")


def tagged(frame: av.VideoFrame, filter: str, tag: str) -> av.VideoFrame:
    """The frame with a tag that PyAV cannot write: its fields or its chroma's place."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25))
    graph.link_nodes(source, graph.add(filter, tag), graph.add("buffersink")).configure()
    frame.pts = 0
    graph.push(frame)
    return cast(av.VideoFrame, graph.pull())


def special_cases() -> None:
    """Lanczos away from the common case, as PSNR against the reference (which is right about all of them)."""
    whole, half = (640, 360), (320, 180)
    picture = panels(*whole)
    planes = planes_of(picture)
    frame = frame_of(planes)
    lanczos = Interpolation.LANCZOS

    def row(name: str, frame: av.VideoFrame, truth: Picture, flags: Interpolation = EXACT, **coding: Any) -> None:
        size = (truth.shape[1], truth.shape[0])
        got = pixels(reformat(VideoReformatter(), frame, size, "gbrp", lanczos | flags, **coding))
        print(f"{name:64} {psnr(got, truth):6.1f}")

    def exact(planes: Planes = planes, size: tuple[int, int] = half, **coding: Any) -> Picture:
        return yuv420_to_rgb(*planes, size, **({"matrix": "bt709", "siting": "center"} | coding), filter="lanczos3")

    print("\nLanczos to gbrp, special cases" + " " * 37 + "PSNR")
    for matrix, full_range in ((m, r) for m in COLORSPACES for r in (False, True)):
        coded = planes_of(picture, matrix, full_range)
        coding: dict[str, Any] = {"matrix": matrix, "full_range": full_range}
        row(f"{matrix}, {'full' if full_range else 'limited'} range", frame_of(coded), exact(coded, **coding), **coding)
    jpeg = planes_of(picture, "bt601", True)
    row(
        "yuvj420p said to be limited",
        frame_of(jpeg, "yuvj420p"),
        exact(jpeg, matrix="bt601", full_range=True),
        matrix="bt601",
    )
    untold = VideoReformatter().reformat(frame, *half, "gbrp", interpolation=lanczos | EXACT, threads=1)
    print(f"{'bt709, nothing tagged and nothing said':64} {psnr(pixels(untold), exact()):6.1f}")
    for depth in (10, 12):
        deep = planes_of(picture, depth=depth)
        row(f"{depth} bit", frame_of(deep, f"yuv420p{depth}le"), exact(deep, depth=depth))
    row("same size", frame, exact(size=whole))
    row("same size, not accurate: chroma is doubled, not interpolated", frame, exact(size=whole), FULL)
    odd = planes_of(picture[:-1, :-1])
    row("odd size: chroma is stretched to the half sample missing", frame_of(odd), exact(odd))
    source = av.VideoFrame.from_ndarray(quantise(picture), "rgb24")
    shrunk = quantise(resize_rgb(quantise(picture), half, "lanczos3"))
    row("from rgb24", source, shrunk)
    row("from rgb24, without full chroma input", source, shrunk, ACCURATE | FULL)
    grey = av.VideoFrame(*whole, "gray")
    np.frombuffer(memoryview(grey.planes[0]), np.uint8).reshape(whole[1], -1)[:, : whole[0]] = planes[0]
    neutral = np.full_like(planes[1], 128)
    row("grey of limited range: taken for full range", grey, exact((planes[0], neutral, neutral)))
    for siting in ("left", "center", "topleft"):
        placed = tagged(frame, "setparams", f"chroma_location={siting}")
        row(f"chroma tagged {siting}", placed, exact(siting=siting))
    row("chroma untagged, but stands left", frame, exact(siting="left"))
    row("flagged interlaced: each field is scaled alone", tagged(frame, "setfield", "mode=tff"), exact())


def main() -> None:
    print(f"PyAV {av.__version__}, libswscale {'.'.join(map(str, av.library_versions['libswscale']))}")
    print("PSNR in dB: each channel against the exact same filter, then all against exact Lanczos; mean error; time")
    for source, target in (((1920, 1080), (320, 180)), ((1920, 1080), (640, 360)), ((1280, 720), (320, 180))):
        table(source, target)
    special_cases()


if __name__ == "__main__":
    main()
