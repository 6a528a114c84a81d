"""What is needed of NVIDIA: the driver's libraries, and packages. Imported only where CUDA is asked for.

All of these raise DeviceMissing, which says in a line what is missing and what to do.
"""

import ctypes
import functools
import importlib
from typing import Any

from daemon.errors import DeviceMissing

_INSTALL = "pip install 'thumbd[gpu]'"
_VIDEO = "install the driver whole; a container needs NVIDIA_DRIVER_CAPABILITIES=compute,utility,video"
# What must be there, in this order, and what it means where it is not. PyNvVideoCodec needs all three, also to decode.
_LIBRARIES = {
    "libcuda.so.1": "there is no NVIDIA driver (libcuda.so.1): install one, or start the container with --gpus all",
    "libnvcuvid.so.1": f"the NVIDIA driver lacks its video part (libnvcuvid.so.1): {_VIDEO}",
    "libnvidia-encode.so.1": f"the NVIDIA driver lacks its video part (libnvidia-encode.so.1): {_VIDEO}",
}


def check_driver() -> None:
    """That the driver is there and starts: cheaper to find out than by importing CuPy."""
    for name, meaning in _LIBRARIES.items():
        try:
            ctypes.CDLL(name)
        except OSError:
            raise DeviceMissing(meaning) from None
    if (code := ctypes.CDLL("libcuda.so.1").cuInit(0)) != 0:
        raise DeviceMissing(f"the NVIDIA driver does not start, or finds no GPU (cuInit says {code}): see nvidia-smi")


@functools.cache
def cupy() -> Any:
    return _package("cupy", "CuPy")


@functools.cache
def video_codec() -> Any:
    return _package("PyNvVideoCodec", "PyNvVideoCodec")


@functools.cache
def image_codec() -> Any:
    return _package("nvidia.nvimgcodec", "nvImageCodec")


def _package(name: str, called: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and name.startswith(error.name):
            raise DeviceMissing(f"{called} is not installed: {_INSTALL}") from None
        raise DeviceMissing(f"{called} cannot be imported ({error}): {_INSTALL}") from None
    except (ImportError, RuntimeError, OSError) as error:  # PyNvVideoCodec says RuntimeError where the driver lacks
        raise DeviceMissing(
            f"{called} cannot be loaded ({first_line(error)}): {_INSTALL}, and see the driver"
        ) from None


def first_line(error: BaseException) -> str:
    """Of what a library says."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
