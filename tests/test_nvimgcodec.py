"""JPEG by nvImageCodec: the real package, whose encoder for the CPU stands in for the card's; and when it is asked."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import standin
from PIL import Image

from daemon.errors import BadJob, DeviceMissing
from daemon.media import cuda, nvdec, nvidia
from daemon.media.choice import Choice
from daemon.media.colour import Colour
from daemon.media.cuda import CudaDevice, LargeJpeg, open_cuda
from daemon.media.device import CardLost, Look, Unfit
from daemon.media.encode import encode
from daemon.media.nvimgcodec import NvJpeg
from daemon.media.studio import Clock, Studio
from daemon.media.surface import Kind
from daemon.store.headers import picture_header
from kernels.orientation import UPRIGHT


@pytest.fixture
def codec(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The real package, but for where its encoders work; `made`: what each was asked to be."""
    try:
        from nvidia import nvimgcodec as real
    except ImportError as error:
        (pytest.fail if os.environ.get("REQUIRE_DALI") == "1" else pytest.skip)(f"it is not installed ({error})")
    made: list[dict[str, Any]] = []

    def encoder(**asked: Any) -> Any:
        made.append(asked)
        return real.Encoder(device_id=real.NVIMGCODEC_DEVICE_CPU_ONLY, max_num_cpu_threads=1)

    public = {name: getattr(real, name) for name in dir(real) if not name.startswith("_")}
    module = SimpleNamespace(**{**public, "Encoder": encoder, "made": made})
    monkeypatch.setitem(sys.modules, "nvidia.nvimgcodec", module)
    nvidia.image_codec.cache_clear()
    yield module
    nvidia.image_codec.cache_clear()


def waves(width: int, height: int) -> np.ndarray[Any, Any]:
    y, x = np.mgrid[0:height, 0:width]
    signals = (np.sin(x / 9), np.cos(y / 7), np.sin((x + y) / 11))
    return np.stack([128 + 100 * each for each in signals], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("quality", [1, 50, 85, 100])
def test_it_is_the_jpeg_that_pillow_makes(quality: int, codec: Any) -> None:
    picture = waves(322, 181)
    made = NvJpeg(0).encode(picture, quality)
    assert picture_header(made) == ("jpeg", (322, 181))
    ours, theirs = (Image.open(io.BytesIO(data)) for data in (made, encode(picture, "jpeg", quality)))
    assert isinstance(ours, Image.Image) and ours.quantization == theirs.quantization  # type: ignore[attr-defined]
    assert ours.layer == theirs.layer, "as much chroma"  # type: ignore[attr-defined]
    assert np.abs(np.asarray(ours).astype(int) - np.asarray(theirs)).max() <= 3


def test_pictures_that_do_not_lie_in_a_row(codec: Any) -> None:
    picture = waves(100, 80)
    made = NvJpeg(0).encode(picture[::-1, 10:50], 85)
    assert made == NvJpeg(0).encode(np.ascontiguousarray(picture[::-1, 10:50]), 85)


def test_the_cpu_is_not_among_its_backends(codec: Any) -> None:
    NvJpeg(3)
    (asked,) = codec.made
    assert asked["device_id"] == 3
    assert {backend.backend_kind for backend in asked["backends"]} == {
        codec.BackendKind.GPU_ONLY,
        codec.BackendKind.HYBRID_CPU_GPU,
    }


def test_nothing_is_said_to_be_made_of_nothing(codec: Any) -> None:
    with pytest.raises(RuntimeError, match="made nothing of a picture of 10x10"):
        NvJpeg(0).encode(np.zeros((10, 10, 5), np.uint8), 85)


def test_one_that_makes_nothing_is_not_begun_with(codec: Any) -> None:
    codec.Encoder = lambda **asked: SimpleNamespace(encode=lambda *_, **__: None)
    with pytest.raises(DeviceMissing, match=r"no JPEG on card 1 \(.*64x64\): pip install .*leave gpu\.jpeg_pixels out"):
        NvJpeg(1)


def test_without_a_card_it_says_so() -> None:
    """The real package."""
    if nvidia_is_here():
        pytest.skip("there is a card")
    pytest.importorskip("nvidia.nvimgcodec")
    nvidia.image_codec.cache_clear()
    with pytest.raises(DeviceMissing, match=r"nvImageCodec makes no JPEG on card 0 \(.*\): pip install") as refusal:
        NvJpeg(0)
    assert "\n" not in refusal.value.message


def nvidia_is_here() -> bool:
    try:
        nvidia.check_driver()
    except DeviceMissing:
        return False
    return True


@pytest.mark.parametrize(("pixels", "made"), [(0, []), (9, [2])])
def test_it_is_made_only_where_it_is_asked_for(pixels: int, made: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first task: its libraries are loaded then."""
    asked: list[int] = []
    monkeypatch.setattr(cuda, "check_driver", lambda: None)
    monkeypatch.setattr(cuda, "video_codec", lambda: None)
    monkeypatch.setattr(cuda, "CupyCard", lambda number, resize: standin.HostCard())
    monkeypatch.setattr(cuda, "capabilities", lambda number: {("h264", 420, 8): None})
    monkeypatch.setattr(cuda, "NvJpeg", asked.append)
    open_cuda(Choice("cuda:2", jpeg_pixels=pixels))
    assert asked == made


# --- when it is asked -----------------------------------------------------------------------------------------------

LOOK = Look(UPRIGHT, Colour(matrix="bt709", full_range=False), None)
KIND = Kind("h264", 420, 8, (64, 64), (64, 64))


class Fake:
    """Makes as JPEG what tells what it was asked for; `broken`: nothing."""

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken

    def encode(self, picture: Any, quality: int) -> bytes:
        if self.broken:
            raise RuntimeError("it made nothing\nof that")
        return f"{picture.shape} {quality}".encode()


def device(broken: bool = False, card: str = "", pixels: int = 40 * 30) -> CudaDevice:
    pool = nvdec.Pool(lambda kind: nvdec.Session(standin.HostCard(), kind))
    return CudaDevice("cuda:0", standin.HostCard(card), pool, KIND, LOOK, LargeJpeg(Fake(broken), pixels))


def studio_of(device: CudaDevice) -> Studio:
    return Studio(device, None, (0, 0, 0), Clock())  # type: ignore[arg-type]  # nothing here asks for facts


def test_large_jpeg_is_the_cards_and_all_else_is_pillows() -> None:
    studio = studio_of(device())
    large, small = waves(40, 30), waves(40, 29)
    assert studio.encode(large, "jpeg", None) == b"(30, 40, 3) 85"
    assert studio.encode(large, "jpeg", 7) == b"(30, 40, 3) 7"
    assert studio.encode(small, "jpeg", None) == encode(small, "jpeg", None)
    for format in ("webp", "png", "avif"):
        assert studio.encode(large, format, None) == encode(large, format, None)


def test_a_failure_leaves_the_source_to_the_cpu() -> None:
    with pytest.raises(Unfit, match=r"the card failed to make a JPEG \(it made nothing\)") as unfit:
        studio_of(device(broken=True)).encode(waves(40, 30), "jpeg", None)
    assert unfit.value.reason == "error"


def test_a_lost_card_ends_all() -> None:
    with pytest.raises(CardLost):
        studio_of(device(broken=True, card="card")).encode(waves(40, 30), "jpeg", None)


def test_the_side_of_a_jpeg_is_limited_whoever_makes_it() -> None:
    with pytest.raises(BadJob, match="at most 65500 pixels a side"):
        studio_of(device()).encode(np.zeros((1, 65_501, 3), np.uint8), "jpeg", None)
