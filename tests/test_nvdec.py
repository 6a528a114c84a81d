"""NVDEC where there is none: on a stand-in driver, and what is said on a machine without a GPU."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import standin
from deliberate import ENVIRONMENT

from daemon.build import build_worker
from daemon.config import GpuSettings, Settings
from daemon.errors import DeviceMissing
from daemon.media import cupy_card, nvidia
from daemon.media.choice import Choice
from daemon.media.choose_device import open_device
from daemon.media.colour import Colour
from daemon.media.cpu import CpuDevice
from daemon.media.surface import Kind, Surface
from kernels.job import check

TESTS = Path(__file__).parent


def has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


without_gpu = pytest.mark.skipif(has_driver(), reason="this machine has an NVIDIA driver")


def test_on_the_stand_in(tmp_path: Path) -> None:
    if reason := standin.missing():
        if os.environ.get("REQUIRE_FAKE_DRIVER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(standin.build(tmp_path))}
    plugins = ["no:cacheprovider", *(["deliberate"] if ENVIRONMENT in os.environ else [])]
    options = [word for plugin in plugins for word in ("-p", plugin)]
    command = [sys.executable, "-m", "pytest", "-x", *options, str(TESTS / "on_standin.py")]
    done = subprocess.run(command, env=environment, cwd=TESTS.parent, text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@without_gpu
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:3"])
def test_a_named_card_that_is_not_there(name: str) -> None:
    with pytest.raises(DeviceMissing, match=rf"device '{name}': there is no NVIDIA driver .* install one"):
        open_device(name)


@without_gpu
def test_auto_takes_the_cpu_and_says_why() -> None:
    chosen = open_device("auto")
    assert isinstance(chosen, CpuDevice)
    assert chosen.note.startswith("no GPU is used: there is no NVIDIA driver")
    assert open_device("cpu").note == ""


@pytest.mark.parametrize("choice", [Choice("cpu", "dali"), Choice("cpu", jpeg_pixels=1)])
def test_settings_for_a_gpu_are_none_for_the_cpu(choice: Choice) -> None:
    with pytest.raises(DeviceMissing, match=r"'cpu': gpu\.resize and gpu\.jpeg_pixels are for a GPU: leave"):
        open_device(str(choice))


def test_the_settings_reach_the_worker(tmp_path: Path) -> None:
    """A whole worker, which has no card to do it with."""

    async def story(settings: Settings) -> str:
        worker = build_worker(settings)
        try:
            await worker.start()
        except DeviceMissing as missing:
            return missing.message
        finally:
            await worker.kill()
        return f"{worker.device}: {worker.note}"

    said = {
        device: asyncio.run(story(Settings(device=device, gpu=GpuSettings(resize="dali", jpeg_pixels=9))))
        for device in ("cpu", "auto")
    }
    assert said["cpu"].startswith("device 'cpu': gpu.resize and gpu.jpeg_pixels")
    if not has_driver():
        assert said["auto"].startswith("cpu: no GPU is used: there is no NVIDIA driver")


@without_gpu
def test_the_package_without_a_driver() -> None:
    """It raises RuntimeError when it is imported."""
    with pytest.raises(
        DeviceMissing, match=r"PyNvVideoCodec cannot be loaded .*see the driver|PyNvVideoCodec is not inst"
    ):
        nvidia.video_codec()


@pytest.mark.parametrize(
    ("package", "name"),
    [
        (nvidia.video_codec, "PyNvVideoCodec"),
        (nvidia.cupy, "cupy"),
        (nvidia.image_codec, "nvidia"),
        (nvidia.image_codec, "nvidia.nvimgcodec"),
    ],
)
def test_a_package_that_is_not_installed(package: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "nvidia.nvimgcodec", raising=False)
    monkeypatch.setitem(sys.modules, name, None)
    package.cache_clear()
    with pytest.raises(DeviceMissing, match=r"is not installed: pip install 'thumbd\[gpu\]'"):
        package()


def test_a_package_that_lacks_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cupy.py").write_text("import nothing_of_the_kind\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    nvidia.cupy.cache_clear()
    with pytest.raises(DeviceMissing, match=r"CuPy cannot be imported .*nothing_of_the_kind"):
        nvidia.cupy()


def test_nothing_of_cuda_is_imported_for_the_cpu() -> None:
    code = (
        "import sys; import daemon.worker.process; from daemon.media.choose_device import open_device; "
        "open_device('cpu'); assert not {'cupy', 'PyNvVideoCodec', 'daemon.media.cuda'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("chroma", [420, 422, 444])
@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("size", [(320, 180), (321, 181), (64, 17)])
def test_what_the_kernel_is_told_of_a_surface(chroma: int, depth: int, size: tuple[int, int]) -> None:
    """All of its planes are within the block."""
    kind = Kind("hevc", chroma, depth, size, size)
    surface = Surface(0, kind, standin.HostLane(), standin.HostBlock(bytes(kind.bytes)))
    job = cupy_card._job(surface, (16, 9), Colour(matrix="bt709", full_range=True, peak=500.0), out=4096)
    check(job)
    planes = job.surface
    assert planes.planes[0] == surface.block.address
    below = 2 if chroma == 420 else 1
    rows = planes.chroma_rows or -(-size[1] // below)
    assert planes.planes[-1] + rows * planes.pitch <= surface.block.address + kind.bytes
    assert (job.matrix, job.full_range, job.peak, job.out_pitch) == ("bt709", True, 500.0, 48)
