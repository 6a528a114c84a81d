"""Launches `resize.cu`: decoded surfaces in device memory to sRGB pictures in device memory, many in one launch.

Importing this does nothing and needs no CuPy; `resize` needs CuPy and a GPU, and says so.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kernels.job import Job
from kernels.records import JOB, grid, pack
from kernels.tables import Array, Table, Tables, tables_of

_THREADS = 256  # of resize.cu
_SOURCE = Path(__file__).with_name("resize.cu")


class NoGpu(RuntimeError):
    """There is nothing here that the kernel could run on."""


def resize(jobs: Sequence[Job], stream: Any = None) -> None:
    """Starts all `jobs` in one launch on a CuPy stream (None: the current one), and does not wait for it. Until it has
    run, the surfaces have to keep their pictures. Raises ValueError for what cannot be, and NoGpu."""
    if jobs:
        launch("resize", lambda tables: pack(jobs, tables), stream)


def launch(kernel: str, packed: Callable[[Tables], tuple[Array, list[Table]]], stream: Any = None) -> None:
    """Starts one of the kernels on what `packed` makes, as `pack` does."""
    cupy = import_cupy()
    if stream is None:
        stream = cupy.cuda.get_current_stream()
    with stream:
        tables = tables_of(cupy, stream)
        records, _held = packed(tables)
        on_device = cupy.asarray(records.view(np.uint8))
        _kernel(kernel, cupy.cuda.Device().id)(grid(records), (_THREADS,), (on_device,))
        # What is freed from here on is used again in the stream's own order only.
        tables.trim()


def source() -> str:
    return _SOURCE.read_text(encoding="utf-8")


def options() -> tuple[str, ...]:
    """For the compiler."""
    return ("--std=c++17", f"-DJOB_BYTES={JOB.itemsize}")


def import_cupy() -> Any:
    """CuPy, where there is a GPU for it. Raises NoGpu."""
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        raise NoGpu(
            f"the kernel is launched by CuPy, which cannot be imported ({error}): install thumbd[gpu]"
        ) from error
    if not cupy.cuda.is_available():
        raise NoGpu("CuPy finds no NVIDIA GPU, or no driver of one")
    return cupy


@functools.cache
def _kernel(name: str, device: int) -> Any:
    """Of the current device, which `device` names."""
    return import_cupy().RawModule(code=source(), options=options()).get_function(name)
