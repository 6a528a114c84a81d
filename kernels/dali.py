"""The same call as `kernels.resize.resize`, with planes brought to size by NVIDIA DALI: a second implementation of the
resampling, by others. Colour, light, turning and writing are the kernel's (`paint_floats`).

Every plane is resampled once, straight to the target, the siting of chroma being a region of interest. DALI's filters
are those of `kernels.weights` but for the edges: there it repeats the outermost samples, where ours cut the window and
normalise what remains. It has neither `area` nor `bicubic`.

Importing this imports neither DALI nor CuPy.
"""

from __future__ import annotations

import importlib
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kernels.job import Job, Plane, planes_of
from kernels.records import Floats, pack_floats
from kernels.resize import NoGpu, import_cupy, launch
from kernels.weights import Filter

INTERPOLATIONS: dict[Filter, str] = {
    "triangle": "INTERP_TRIANGULAR",
    "catmull_rom": "INTERP_CUBIC",
    "lanczos3": "INTERP_LANCZOS3",
}

_MOST_CONTEXTS = 8  # of a thread

_own = threading.local()


def resize(jobs: Sequence[Job], stream: Any = None) -> None:
    """Makes all `jobs` on a CuPy stream (None: the current one), and waits for them. Raises ValueError for what cannot
    be, and NoGpu."""
    if not jobs:
        return
    cupy = import_cupy()
    if stream is None:
        stream = cupy.cuda.get_current_stream()
    with stream, _context(cupy.cuda.Device().id, stream.ptr):
        planes = [
            [cupy.from_dlpack(plane) for plane in planes]
            for planes in resampled(jobs, lambda plane: _on_device(cupy, plane))
        ]
        floats = [[Floats(plane.data.ptr, plane.strides[0]) for plane in planes] for planes in planes]
        launch("paint_floats", lambda tables: pack_floats(jobs, floats, tables), stream)
        # What DALI made lies in its own memory, and must stay until it was painted.
        stream.synchronize()


def resampled(jobs: Sequence[Job], view: Callable[[Plane], Any]) -> list[list[Any]]:
    """The planes of every job as it lies, whole, float32 (height, width, channels), as tensors of DALI.

    `view` gives a plane as a dense array (height, width, channels), uint8 or uint16; where it lies, DALI works.
    """
    ndd, types = _dali("nvidia.dali.experimental.dynamic"), _dali("nvidia.dali.types")
    made: list[list[Any]] = [[None] * len(job.surface.planes) for job in jobs]
    # What goes together in one call: arrays of one type, by one filter.
    alike: defaultdict[tuple[Filter, int, int], list[tuple[int, int, Plane]]] = defaultdict(list)
    for n, job in enumerate(jobs):
        if job.filter not in INTERPOLATIONS:
            raise ValueError(f"DALI has no filter {job.filter!r}: it has {', '.join(INTERPOLATIONS)}")
        for i, plane in enumerate(planes_of(job)):
            alike[job.filter, plane.sample_bytes, plane.channels].append((n, i, plane))
    for (filter, _, _), members in alike.items():
        sides = [(plane.down, plane.across) for _, _, plane in members]
        batch = ndd.resize(
            ndd.as_batch([view(plane) for _, _, plane in members], layout="HWC"),
            size=_each(ndd, [[side.scaled for side in both] for both in sides]),
            roi_start=_each(ndd, [[side.offset for side in both] for both in sides]),
            roi_end=_each(ndd, [[side.offset + side.extent for side in both] for both in sides]),
            interp_type=getattr(types, INTERPOLATIONS[filter]),
            antialias=True,
            dtype=ndd.float32,
        )
        for (n, i, _), tensor in zip(members, batch.tensors, strict=True):
            made[n][i] = tensor
    return made


def _each(ndd: Any, values: list[list[float]]) -> Any:
    """An argument that differs from picture to picture."""
    return ndd.as_batch([np.array(value, np.float32) for value in values])


def _on_device(cupy: Any, plane: Plane) -> Any:
    """The plane, copied only where its rows are not packed: DALI takes nothing else."""
    shape, strides, dtype = plane.array
    size = (shape[0] - 1) * strides[0] + shape[1] * strides[1]
    memory = cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(plane.address, size, None), 0)
    return cupy.ascontiguousarray(cupy.ndarray(shape, dtype, memory, strides))


def _context(device: int, stream: int) -> Any:
    """DALI's operators of this thread, working on this stream; they are costly to make anew."""
    kept: OrderedDict[tuple[int, int], Any] = _own.__dict__.setdefault("contexts", OrderedDict())
    if (device, stream) not in kept:
        ndd = _dali("nvidia.dali.experimental.dynamic")
        kept[device, stream] = ndd.EvalContext(device_id=device, cuda_stream=stream)
        if len(kept) > _MOST_CONTEXTS:
            kept.popitem(last=False)
    kept.move_to_end((device, stream))
    return kept[device, stream]


def _dali(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise NoGpu(f"DALI cannot be imported ({error}): install thumbd[gpu]") from error
