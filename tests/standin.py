"""PyNvVideoCodec without a GPU: builds the stand-in of `tests/driver`, and a card whose memory is the host's.

Every sample that a session of the stand-in gives is the number of the packet that was sent, modulo 256.
"""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from daemon.media.colour import Colour
from daemon.media.device import Pixels
from daemon.media.geometry import Size
from daemon.media.surface import Surface

DRIVER = Path(__file__).with_name("driver")
LIBRARIES = {"cuda": "libcuda.so.1", "nvcuvid": "libnvcuvid.so.1", "nvencode": "libnvidia-encode.so.1"}


def missing() -> str | None:
    """What lacks to build and use the stand-in."""
    if importlib.util.find_spec("PyNvVideoCodec") is None:
        return "PyNvVideoCodec is not installed"
    if (compiler := shutil.which("gcc")) is None:
        return "there is no gcc"
    probe = "#include <ffnvcodec/dynlink_cuda.h>\n#include <ffnvcodec/dynlink_nvcuvid.h>\n"
    tried = subprocess.run([compiler, "-fsyntax-only", "-x", "c", "-"], input=probe, text=True, capture_output=True)
    return "the headers of ffnvcodec are not installed (Debian: libffmpeg-nvenc-dev)" if tried.returncode else None


def build(folder: Path) -> Path:
    """The folder of the three libraries, for LD_LIBRARY_PATH."""
    for source, library in LIBRARIES.items():
        command = ["gcc", "-O1", "-shared", "-fPIC", "-o", folder / library, DRIVER / f"{source}.c"]
        subprocess.run(command, check=True)
    return folder


class HostBlock:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self._buffer = ctypes.create_string_buffer(data, len(data))
        self.address = ctypes.addressof(self._buffer)


class HostLane:
    handle = 0x1000

    def copy(self, address: int, size: int) -> HostBlock:
        return HostBlock(ctypes.string_at(address, size))


class HostCard:
    """`broken`: what fails from now on: nothing, a `resize`, or the whole `card`."""

    number = 0

    def __init__(self, broken: str = "") -> None:
        self.broken = broken
        self.lanes: list[HostLane] = []
        self.shaped: list[list[Size]] = []  # sizes that were asked for together

    def lane(self) -> HostLane:
        self.lanes.append(HostLane())
        return self.lanes[-1]

    def works(self) -> bool:
        return self.broken != "card"

    def resize(self, surface: Surface, sizes: Sequence[Size], colour: Colour) -> list[Pixels]:
        """Pictures that are all the number of their packet."""
        if self.broken:
            raise RuntimeError(f"the stand-in's {self.broken} is broken")
        self.shaped.append(list(sizes))
        return [np.full((height, width, 3), number_in(surface), np.uint8) for width, height in sizes]


def number_in(surface: Surface) -> int:
    """The number of the packet, modulo 256. ValueError where not all samples are alike."""
    block = surface.block
    assert isinstance(block, HostBlock)
    values = set(block.data)
    if len(values) != 1 or len(block.data) != surface.kind.bytes:
        raise ValueError(f"not one picture: {len(block.data)} bytes of {sorted(values)}")
    return values.pop()
