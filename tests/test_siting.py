"""Where chroma stands: libswscale reads it of the stream, we of libswscale, and the card makes the CPU's pictures."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import host_cupy
import numpy as np
import pytest
from kernel_cases import compiled, compiler
from numpy.typing import NDArray
from standin import HostCard

from daemon.media import cuda
from daemon.media.colour import Colour
from daemon.media.cupy_card import CupyCard
from daemon.media.nvdec import Capability
from daemon.media.scale import scale
from daemon.media.siting import siting_of
from daemon.media.surface import Kind, Surface
from kernels.reference import SITING, Siting, psnr, yuv420_to_rgb

SIZE = (320, 192)
COLOUR = Colour(matrix="bt601", full_range=False)


@dataclass(frozen=True)
class Case:
    codec: str
    suffix: str
    siting: Siting
    options: tuple[tuple[str, str], ...] = ()
    pix_fmt: str = "yuv420p"


def x264(said: str) -> tuple[tuple[str, str], ...]:
    return (("qp", "1"), ("preset", "ultrafast"), ("x264-params", f"threads=1:{said}"))


def x265(said: str) -> tuple[tuple[str, str], ...]:
    return (("qp", "1"), ("preset", "ultrafast"), ("x265-params", f"log-level=none:{said}"))


FINE = (("flags", "+qscale"), ("global_quality", "118"))
SVT = (("preset", "10"), ("crf", "2"))
CASES = {
    "h264": Case("libx264", ".mp4", "left", x264("bframes=0")),
    **{
        f"h264-{n}": Case("libx264", ".mp4", siting, x264(f"chromaloc={n}"))
        for n, siting in enumerate(("left", "center", "topleft", "top", "bottomleft", "bottom"))
    },
    "h264-ts": Case("libx264", ".ts", "topleft", x264("chromaloc=2")),
    "hevc": Case("libx265", ".mp4", "left", x265("bframes=0")),
    "hevc-10-topleft": Case("libx265", ".mp4", "topleft", x265("chromaloc=2"), "yuv420p10le"),
    "hevc-center": Case("libx265", ".mkv", "center", x265("chromaloc=1")),
    "av1": Case("libsvtav1", ".mp4", "center", (*SVT, ("svtav1-params", "lp=1"))),
    "av1-left": Case("libsvtav1", ".mp4", "left", (*SVT, ("svtav1-params", "lp=1:chroma-sample-position=1"))),
    "av1-topleft": Case("libsvtav1", ".mkv", "topleft", (*SVT, ("svtav1-params", "lp=1:chroma-sample-position=2"))),
    "vp8": Case("libvpx", ".webm", "center", (("crf", "4"), ("b", "8M"))),
    "vp9": Case("libvpx-vp9", ".webm", "center", (("crf", "4"), ("b", "0"), ("cpu-used", "8"))),
    "mpeg1": Case("mpeg1video", ".mpg", "center", FINE),
    "mpeg2": Case("mpeg2video", ".ts", "left", FINE),
}


def planes() -> list[NDArray[np.uint8]]:
    """Grey with waves of colour that are wrong where chroma is looked for elsewhere."""
    width, height = SIZE
    y, x = np.mgrid[0 : height // 2, 0 : width // 2]
    waves = [(128 + 90 * np.sin(at / 2.3)).astype(np.uint8) for at in (x, y)]
    return [np.full((height, width), 120, np.uint8), *waves]


def write(case: Case, path: Path) -> Path:
    frame = av.VideoFrame(*SIZE, "yuv420p")
    for plane, samples in zip(frame.planes, planes(), strict=True):
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        rows[:, : samples.shape[1]] = samples
        plane.update(rows.tobytes())
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream(case.codec, rate=25, width=SIZE[0], height=SIZE[1], pix_fmt=case.pix_fmt)
        stream.options = dict(case.options)
        stream.codec_context.thread_count = 1
        for n in range(3):
            frame.pts = n
            output.mux(stream.encode(frame.reformat(format=case.pix_fmt)))
        output.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def decoded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("sitings")
    kept: dict[str, av.VideoFrame] = {}

    def decode(name: str) -> av.VideoFrame:
        if name not in kept:
            with av.open(str(write(CASES[name], folder / f"{name}{CASES[name].suffix}"))) as container:
                kept[name] = next(container.decode(video=0))
        return kept[name]

    return decode


def samples_of(frame: av.VideoFrame) -> list[NDArray[Any]]:
    kind = np.uint16 if "10" in frame.format.name else np.uint8
    found = []
    for plane in frame.planes:
        rows = np.frombuffer(plane, kind).reshape(plane.height, -1)  # type: ignore[call-overload]
        found.append(rows[:, : plane.width])
    return found


@pytest.mark.parametrize("name", CASES)
def test_libswscale_is_asked_where_it_looks(name: str, decoded: Any) -> None:
    """What is found is what the stream says, and with it, and it alone, the reference makes the CPU's picture."""
    frame, size = decoded(name), (224, 130)
    shown = samples_of(frame)
    found = siting_of(frame)
    assert found == CASES[name].siting
    assert all((one == other).all() for one, other in zip(shown, samples_of(frame), strict=True)), "it is left alone"
    depth = 10 if "10" in frame.format.name else 8
    by_cpu = scale(frame, size, COLOUR)
    near = {
        siting: psnr(by_cpu, yuv420_to_rgb(*shown, size, matrix="bt601", depth=depth, siting=siting, filter="lanczos3"))
        for siting in SITING
    }
    assert near.pop(found) > 45
    assert max(near.values()) < 35


@pytest.mark.parametrize("pix_fmt", ["yuv422p", "yuv444p", "yuv420p10le", "yuv444p12le", "gbrp"])
def test_any_format_has_one(pix_fmt: str, decoded: Any) -> None:
    for name in ("h264", "h264-2", "vp9"):
        assert siting_of(decoded(name).reformat(format=pix_fmt)) == CASES[name].siting


@pytest.mark.parametrize("name", ["h264", "h264-1", "h264-2", "h264-5", "vp9", "mpeg2"])
def test_the_card_makes_the_picture_of_the_cpu(
    name: str, decoded: Any, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiler():
        (pytest.fail if os.environ.get("REQUIRE_HOST_COMPILER") == "1" else pytest.skip)("there is no g++")
    frame = decoded(name)
    y, u, v = samples_of(frame)
    memory = np.vstack((y, np.stack((u, v), axis=-1).reshape(len(u), -1)))
    with host_cupy.standing_in(compiled(tmp_path_factory.mktemp("kernel")), monkeypatch):
        card = CupyCard(0)
        lane, kind = card.lane(), Kind("h264", 420, 8, SIZE, SIZE)
        surface = Surface(0, kind, lane, lane.copy(memory.ctypes.data, memory.nbytes))
        colours = [replace(COLOUR, siting=siting) for siting in (siting_of(frame), "top")]
        right, wrong = (card.resize(surface, [(224, 130)], colour)[0] for colour in colours)
    by_cpu = scale(frame, (224, 130), COLOUR)
    assert psnr(right, by_cpu) > 45
    assert psnr(wrong, by_cpu) < 35


@pytest.mark.parametrize("name", ["h264", "h264-2", "vp9"])
def test_the_card_is_told_that_of_the_stream(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    can = Capability(True, (48, 16), (8192, 8192), 262_144, 1)
    monkeypatch.setattr(cuda, "capabilities", lambda number: {(codec, 420, 8): can for codec in ("h264", "vp9")})
    with av.open(str(write(CASES[name], tmp_path / f"film{CASES[name].suffix}"))) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        device = cuda.Cuda(HostCard()).fit(stream, lambda: iter(packets), timed=True)
        assert device.look(packets[0], stream).colour.siting == CASES[name].siting  # type: ignore[arg-type]
