"""`thumbd check` and GPUs: the clip that they decode, what is said of them, and why there is none."""

import asyncio
import ctypes
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from rich.console import Console

from daemon import check
from daemon.media import cards, nvdec, nvidia
from daemon.media.cards import BITS, CLIP, RATE, Card
from daemon.media.nvdec import CODECS

CARD = Card(0, "Some Card", "580.65.06", 7, 70 << 30, 80 << 30, {"H.264": (4096, 4096), "VP9": (8192, 8192)}, None)


def write_clip(path: Path) -> None:
    """How check.mp4 was made: one keyframe, B-frames, five bars that show the frame's number."""
    with av.open(path, "w", container_options={"fflags": "+bitexact", "movflags": "faststart"}) as output:
        stream = output.add_stream("libx264", rate=RATE, width=320, height=192, pix_fmt="yuv420p")
        stream.options = {
            "preset": "veryslow",
            "qp": "30",
            "g": "25",
            "bf": "3",
            "b_strategy": "0",
            "sc_threshold": "0",
        }
        stream.codec_context.thread_count = 1
        for number in range(RATE):
            bars = [255 * (number >> bit & 1) for bit in reversed(range(BITS))]
            picture = np.repeat(np.array(bars, np.uint8), 320 // BITS)
            frame = av.VideoFrame.from_ndarray(np.broadcast_to(picture[None, :, None], (192, 320, 3)).copy(), "rgb24")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def test_every_frame_of_the_clip_shows_its_number() -> None:
    with av.open(CLIP) as container:
        frames = list(container.decode(video=0))
        assert [cards.read(frame.to_ndarray(format="rgb24")) for frame in frames] == list(range(RATE))
        assert [frame.key_frame for frame in frames] == [True] + [False] * (RATE - 1)
        assert any(frame.pict_type == av.video.frame.PictureType.B for frame in frames)
    assert CLIP.stat().st_size < 8000


def test_the_clip_is_decoded_through_our_own_demuxing_and_planning() -> None:
    assert cards.trouble_of("cpu") is None


def test_a_device_that_leaves_the_clip_to_the_cpu_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from daemon.media.cpu import CpuDevice

    monkeypatch.setattr(cards, "open_device", lambda name: CpuDevice())
    assert cards.trouble_of("cuda:0") == "it left the clip to the CPU"


def test_a_device_that_decodes_another_frame_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "read", lambda picture: 3)
    assert cards.trouble_of("cpu") == "it decoded frame 3 where 17 was asked for"


def test_a_device_that_breaks_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise RuntimeError("cuvidCreateDecoder failed\nat somewhere.cpp:12")

    monkeypatch.setattr(cards, "open_device", broken)
    assert cards.trouble_of("cuda:0") == "RuntimeError: cuvidCreateDecoder failed"


# --- why there is none ------------------------------------------------------------------------------------------


def a_machine(
    monkeypatch: pytest.MonkeyPatch, *, lacks: str = "", cuda: int = 0, packages: Mapping[str, Any] | None = None
) -> None:
    """Has the driver's libraries but for those that it `lacks`, and these packages."""

    def load(name: str) -> Any:
        if name == lacks:
            raise OSError(f"{name}: cannot open shared object file")
        return SimpleNamespace(cuInit=lambda flags: cuda)

    def find(name: str) -> Any:
        found = (packages or {}).get(name)
        if not isinstance(found, SimpleNamespace):
            raise found or ModuleNotFoundError(f"No module named {name!r}", name=name)
        return found

    monkeypatch.setattr(ctypes, "CDLL", load)
    monkeypatch.setattr(nvidia, "importlib", SimpleNamespace(import_module=find))
    for package in (nvidia.cupy, nvidia.video_codec):
        package.cache_clear()


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    """Packages that stood in are forgotten."""
    yield
    for kept in (nvidia.cupy, nvidia.video_codec, nvdec.capabilities):
        kept.cache_clear()


CODEC, CUPY = SimpleNamespace(), SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False))
WHY: list[tuple[dict[str, Any], str]] = [
    ({"lacks": "libcuda.so.1"}, "there is no NVIDIA driver (libcuda.so.1): install one"),
    (
        {"lacks": "libnvcuvid.so.1"},
        "lacks its video part (libnvcuvid.so.1): install the driver whole; a container needs",
    ),
    ({"lacks": "libnvidia-encode.so.1"}, "lacks its video part (libnvidia-encode.so.1)"),
    ({"cuda": 100}, "finds no GPU (cuInit says 100)"),
    ({"packages": {}}, "PyNvVideoCodec is not installed"),
    ({"packages": {"PyNvVideoCodec": RuntimeError("too old\nby far")}}, "PyNvVideoCodec cannot be loaded (too old): "),
    ({"packages": {"PyNvVideoCodec": CODEC}}, "CuPy is not installed"),
    ({"packages": {"PyNvVideoCodec": CODEC, "cupy": CUPY}}, "CuPy finds no GPU"),
]


@pytest.mark.parametrize(("machine", "said"), WHY, ids=[said[:30] for _, said in WHY])
def test_why_there_is_none_is_named(machine: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    a_machine(monkeypatch, **machine)
    why = cards.why_none()
    assert why is not None and said in why and "\n" not in why


# --- what is said of those that are there -----------------------------------------------------------------------


def test_a_card_is_asked_for_all_that_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wrapper's answers are those of the real one on a stand-in driver."""

    def caps(gpuid: int, codec: str, chromaformat: int, bitdepth: int) -> dict[str, int]:
        assert (gpuid, chromaformat) == (1, 420)
        if codec == "AV1":
            raise ValueError("the driver does not know it")
        largest = {"width_max": 4096, "height_max": 4080, "mb_num_max": 65280}
        can = codec == "H264"
        return {"supported": can, "num_decoder_engines": 7 * can, "width_min": 48, "height_min": 16, **largest}

    codecs, chromas = {name: name for name in CODECS.values()}, {"420": 420}
    nvc = SimpleNamespace(
        GetDecoderCaps=caps,
        cudaVideoCodec=SimpleNamespace(__members__=codecs),
        cudaVideoChromaFormat=SimpleNamespace(__members__=chromas),
    )
    runtime = SimpleNamespace(getDeviceProperties=lambda index: {"name": b"Some Card"})
    cupy = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime, Device=lambda n: SimpleNamespace(mem_info=(5, 9))))
    a_machine(monkeypatch, packages={"PyNvVideoCodec": nvc, "cupy": cupy})
    monkeypatch.setattr(cards, "_driver", lambda: "580.65.06")
    monkeypatch.setattr(cards, "trouble_of", lambda device: f"asked {device}")
    assert cards._card(1) == Card(1, "Some Card", "580.65.06", 7, 5, 9, {"H.264": (4096, 4080)}, "asked cuda:1")


def lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ask: Callable[[], Any], device: str) -> tuple[bool, str]:
    """Whether the check of a machine is green, and what it says of GPUs."""
    from daemon.config import Settings, SpoolSettings, StoreSettings

    async def answer() -> Any:
        return ask()

    monkeypatch.setattr(check, "ask_cards", answer)
    settings = Settings(
        device=device,
        database=f"sqlite:///{tmp_path / 't.db'}",
        spool=SpoolSettings(root=tmp_path / "spool"),
        store=StoreSettings(root=tmp_path / "store"),
    )
    for root in ("spool", "store"):
        (tmp_path / root).mkdir()
    out = io.StringIO()
    good = asyncio.run(check.check_machine(settings, Console(file=out, width=500)))
    return good, "\n".join(line for line in out.getvalue().splitlines() if line[6:9] == "gpu")


def test_check_says_why_there_is_none_and_stays_green(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    good, said = lines(monkeypatch, tmp_path, lambda: ("no NVIDIA driver here", []), "cpu")
    assert good and said == "ok    gpu          none: no NVIDIA driver here"


def test_check_shows_a_card_and_that_it_decodes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shown = json.loads(cards.as_json(None, [CARD]))["cards"]
    good, said = lines(monkeypatch, tmp_path, lambda: (None, shown), "cpu")
    assert good
    assert said == (
        "ok    gpu 0        Some Card, driver 580.65.06, 7 NVDEC engines, 71680 of 81920 MiB free\n"
        "ok    gpu 0        decodes H.264 up to 4096x4096, VP9 up to 8192x8192; the test clip is right"
    )


@pytest.mark.parametrize(("device", "green"), [("cpu", True), ("auto", False)])
def test_a_card_that_does_not_decode_fails_the_check_if_it_may_be_used(
    device: str, green: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shown = json.loads(cards.as_json(None, [CARD]))["cards"]
    shown[0]["trouble"] = "it decoded frame 3"
    good, said = lines(monkeypatch, tmp_path, lambda: (None, shown), device)
    assert good is green
    assert "the test clip is NOT right: it decoded frame 3" in said


# --- the process that asks --------------------------------------------------------------------------------------


def with_process(monkeypatch: pytest.MonkeyPatch, program: str) -> tuple[str | None, list[dict[str, Any]]]:
    monkeypatch.setattr(check, "CARDS", [sys.executable, "-c", program])
    return asyncio.run(check.ask_cards())


def test_the_real_process_answers() -> None:
    why, found = asyncio.run(check.ask_cards())
    assert (why is None) == bool(found)


def test_its_last_line_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    program = f"print('some chatter'); print({cards.as_json(None, [CARD])!r})"
    why, found = with_process(monkeypatch, program)
    assert why is None and found[0]["engines"] == 7


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import os; os.abort()", "the look at the GPUs ended with status -6"),
        ("raise SystemExit('no luck')", "no luck"),
        ("print('what?')", "the look at the GPUs ended with status 0"),
        ("import time; time.sleep(60)", "the look at the GPUs took more than 0.5 s"),
    ],
)
def test_one_that_breaks_or_hangs_is_a_reason(program: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "CARDS_SECONDS", 0.5 if "sleep" in program else 30.0)
    why, found = with_process(monkeypatch, program)
    assert why is not None and said in why and not found
