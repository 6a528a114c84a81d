"""CuPy without a GPU: as much of it as the launcher, DALI's resize and `CupyCard` use. Memory of the card is that of
the host, and the kernels run on this CPU, whose compiler has made them. What is given to a stream is done at once."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from kernel_cases import Host
from numpy.typing import NDArray

from daemon.media import nvidia
from kernels import dali, tables
from kernels import resize as launcher
from kernels.job import Job
from kernels.records import JOB
from kernels.resize import resize


class HostArray:
    """Memory of the card. `get` copies it to the host."""

    def __init__(self, cupy: HostCupy, array: NDArray[Any]) -> None:
        self._cupy = cupy
        self.array = array
        self.data = SimpleNamespace(ptr=array.ctypes.data)
        self.strides = array.strides
        self.shape = array.shape

    def get(self, *, stream: Any, out: NDArray[Any], blocking: bool) -> None:
        assert not blocking, "who waits for each copy waits too often"
        self._cupy.copies.append((stream.ptr, out.nbytes))
        out[...] = self.array


class Stream:
    def __init__(self, cupy: HostCupy, ptr: int) -> None:
        self._cupy = cupy
        self.ptr = ptr
        self.waits = 0

    def __enter__(self) -> None:
        self._cupy.current.append(self)

    def __exit__(self, *raised: Any) -> None:
        self._cupy.current.pop()

    def synchronize(self) -> None:
        self.waits += 1


class HostCupy:
    """Stands for the module. It is a machine for `kernel_cases` as well, which launches through it."""

    def __init__(self, library: Path, cards: int = 1) -> None:
        self.host = Host(library)
        self.uploads = 0
        self.launches: list[tuple[int, tuple[int, ...]]] = []  # on which stream, and threads of a block
        self.pictures: list[int] = []  # of each launch
        self.copies: list[tuple[int, int]] = []  # to the host: on which stream, and bytes
        self.current: list[Stream] = []  # innermost last
        self._streams = 100
        self.mine = self.stream(1)
        self.ndarray = _view
        self.ascontiguousarray = np.ascontiguousarray
        self.cuda = SimpleNamespace(
            is_available=lambda: True,
            get_current_stream=lambda: self.current[-1] if self.current else self.stream(0),
            Device=lambda number=0: _Device(id=number),
            Stream=self._new_stream,
            alloc=_allocated,
            UnownedMemory=lambda address, size, owner: (ctypes.c_ubyte * size).from_address(address),
            MemoryPointer=lambda memory, offset: memory,
            runtime=SimpleNamespace(
                getDeviceCount=lambda: cards,
                CUDARuntimeError=RuntimeError,
                memcpyDeviceToDevice=3,
                memcpyAsync=lambda to, source, size, kind, stream: ctypes.memmove(to, source, size),
            ),
        )

    def stream(self, ptr: int) -> Stream:
        return Stream(self, ptr)

    def _new_stream(self, *, non_blocking: bool) -> Stream:
        assert non_blocking, "the default stream would wait for all others"
        self._streams += 1
        return self.stream(self._streams)

    def asarray(self, array: NDArray[Any]) -> HostArray:
        assert self.current, "memory belongs to the stream that is current when it is taken"
        self.uploads += 1
        return HostArray(self, array.copy())

    def empty(self, shape: Any, dtype: Any) -> HostArray:
        assert self.current, "memory belongs to the stream that is current when it is taken"
        return HostArray(self, np.empty(shape, dtype))

    def from_dlpack(self, tensor: Any) -> HostArray:
        return HostArray(self, np.asarray(tensor))

    def RawModule(self, code: str, options: tuple[str, ...]) -> Any:
        assert "KERNEL void resize(" in code
        assert f"-DJOB_BYTES={JOB.itemsize}" in options
        return SimpleNamespace(get_function=lambda name: partial(self.launch, name))

    def launch(self, name: str, grid: tuple[int, int, int], block: tuple[int, ...], arguments: tuple[Any]) -> None:
        self.launches.append((self.current[-1].ptr, block))
        self.pictures.append(grid[2])
        self.host.launch(name, arguments[0].data.ptr, grid)

    def upload(self, array: NDArray[Any]) -> tuple[Any, int]:
        return self.host.upload(array)

    def run(self, jobs: Sequence[Job]) -> None:
        resize(jobs, self.mine)

    def download(self, held: Any) -> NDArray[np.uint8]:
        return self.host.download(held)


class _Device(SimpleNamespace):
    id: int

    def __enter__(self) -> _Device:
        return self

    def __exit__(self, *raised: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass


def _allocated(size: int) -> Any:
    memory = np.empty(size, np.uint8)
    return SimpleNamespace(ptr=memory.ctypes.data, held=memory)


def _view(shape: Any, dtype: Any, memory: Any, strides: Any) -> NDArray[Any]:
    return np.ndarray(shape, dtype, memory, 0, strides)


@contextmanager
def standing_in(library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostCupy]:
    """`library`: the kernels, compiled for this CPU."""
    cupy = HostCupy(library)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "cupyx", SimpleNamespace(empty_pinned=np.empty))
    monkeypatch.setattr(tables, "_own", SimpleNamespace())
    monkeypatch.setattr(dali, "_context", lambda device, stream: nullcontext())  # its CPU operators need none
    caches = (launcher._kernel, nvidia.cupy)
    for cache in caches:
        cache.cache_clear()
    yield cupy
    for cache in caches:
        cache.cache_clear()
