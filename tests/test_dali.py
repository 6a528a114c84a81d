"""DALI's resampling against the reference: on a GPU as it is used there, and on this CPU by DALI's own CPU operators,
with the kernel's last step compiled for it. Two implementations by different hands that agree."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from kernel_cases import Bytes, Case, Gpu, Host, Machine, compiled, compiler, expected, job_of, need_dali, pictures
from numpy.typing import NDArray

from kernels import dali
from kernels.job import Job, Plane, Window
from kernels.orientation import Orientation
from kernels.records import Floats, grid, pack_floats
from kernels.resize import NoGpu
from kernels.tables import Tables

# Of 255: DALI takes its weights from tables.
LIMIT, HDR_LIMIT = 1, 2


class DaliOnGpu(Gpu):
    def run(self, jobs: Sequence[Job]) -> None:
        dali.resize(jobs, self._stream)


class DaliOnHost:
    def __init__(self, host: Host) -> None:
        self._host = host
        self._memory: dict[int, NDArray[Any]] = {}

    def upload(self, array: NDArray[Any]) -> tuple[Any, int]:
        own, address = self._host.upload(array)
        self._memory[address] = own
        return own, address

    def download(self, held: Any) -> Bytes:
        return self._host.download(held)

    def view(self, plane: Plane) -> NDArray[Any]:
        start = max(address for address in self._memory if address <= plane.address)
        shape, strides, dtype = plane.array
        return np.ascontiguousarray(np.ndarray(shape, dtype, self._memory[start].data, plane.address - start, strides))

    def run(self, jobs: Sequence[Job]) -> None:
        made = [[np.asarray(plane) for plane in planes] for planes in dali.resampled(jobs, self.view)]
        floats = [[Floats(plane.ctypes.data, plane.strides[0]) for plane in planes] for planes in made]
        records, _held = pack_floats(jobs, floats, Tables(self.upload))
        self._host.launch("paint_floats", records.ctypes.data, grid(records))


@pytest.fixture(scope="module", params=["host", pytest.param("gpu", marks=pytest.mark.gpu)])
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    need_dali()
    if request.param == "host":
        if not compiler():
            (pytest.fail if os.environ.get("REQUIRE_HOST_COMPILER") == "1" else pytest.skip)("there is no g++")
        return DaliOnHost(Host(compiled(tmp_path_factory.mktemp("kernel"))))
    cupy = pytest.importorskip("cupy", reason="there is no CuPy")
    if not cupy.cuda.is_available():
        (pytest.fail if os.environ.get("REQUIRE_GPU") == "1" else pytest.skip)("CuPy finds no GPU")
    return DaliOnGpu(cupy)


INSIDE = Window(4, 4, 37, 20)  # where neither looks beyond the edge
CASES = [
    *(
        Case(format, (321, 181), (45, 28), filter=filter, siting=siting, window=INSIDE)
        for format, filter, siting in product(
            ("nv12", "p016", "p216", "yuv444", "yuv444_16"), dali.INTERPOLATIONS, ("left", "center", "topleft")
        )
    ),
    *(
        Case(
            "nv12", (320, 180), (28, 45) if turn[0] else (45, 28), turn=Orientation(*turn), window=Window(5, 4, 17, 19)
        )
        for turn in product((False, True), repeat=3)
    ),
    Case("nv12", (320, 180), (45, 28), spare=(7, 3), shift=1, window=INSIDE),
]
HDR = [
    Case("p016", (320, 180), (45, 28), 10, "bt2020", transfer=transfer, primaries="bt2020", window=INSIDE)
    for transfer in ("sdr", "pq", "hlg")
]


@pytest.mark.parametrize(("cases", "limit"), [(CASES, LIMIT), (HDR, HDR_LIMIT)], ids=["sdr", "hdr"])
def test_equals_the_reference(cases: list[Case], limit: int, machine: Machine) -> None:
    for case, picture in zip(cases, pictures(machine, cases), strict=True):
        difference = np.abs(picture.astype(int) - expected(case))
        assert difference.max() <= limit, case
        assert np.mean(difference > 0) < 0.1, case


def test_filters_that_it_lacks() -> None:
    need_dali()
    with pytest.raises(ValueError, match="no filter 'area'"):
        dali.resampled([job_of(Case(filter="area"), 4096, 50, 38, 1 << 20, 60)], lambda plane: None)


def test_says_that_dali_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nvidia.dali.experimental.dynamic", None)
    with pytest.raises(NoGpu, match="DALI"):
        dali.resampled([job_of(Case(), 4096, 50, 38, 1 << 20, 60)], lambda plane: None)


def test_says_that_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False)))
    with pytest.raises(NoGpu, match="GPU"):
        dali.resize([job_of(Case(), 4096, 50, 38, 1 << 20, 60)])
