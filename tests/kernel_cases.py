"""What the kernel's tests share: pictures as surfaces in memory, what the reference makes of them, and the two machines
that the kernel's text runs on: a GPU, and this CPU by its own compiler."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels import resize as launcher
from kernels.colour import Matrix
from kernels.hdr import NOMINAL_PEAK, Primaries, Transfer, to_srgb
from kernels.job import LAYOUTS, Format, Job, Surface, Window, stacked
from kernels.orientation import UPRIGHT, Orientation
from kernels.records import grid, pack
from kernels.reference import Siting, quantise, resize_yuv
from kernels.tables import Tables
from kernels.weights import Filter

FORMATS: tuple[Format, ...] = get_args(Format)
MATRICES: tuple[Matrix | None, ...] = (*get_args(Matrix), None)
FILTERS: tuple[Filter, ...] = get_args(Filter)

Bytes = NDArray[np.uint8]
Content = Literal["noise", "least", "most", "checkerboard", "columns", "black and white", "waves"]
BARE = 77  # what a sheet holds before anything is written


@dataclass(frozen=True)
class Case:
    """`spare`: samples of a row, and rows, that the surface has beyond its picture. `shift`: in samples, where it
    begins. `tight`: chroma lacks the last row and column of an odd size, and rows are as long as luma's."""

    format: Format = "nv12"
    source: tuple[int, int] = (50, 38)
    size: tuple[int, int] = (17, 13)
    depth: int = 0  # the least that the format holds
    matrix: Matrix | None = "bt709"
    full_range: bool = False
    siting: Siting = "left"
    filter: Filter = "lanczos3"
    content: Content = "noise"
    primaries: Primaries = "bt709"
    transfer: Transfer = "sdr"
    peak: float = NOMINAL_PEAK
    turn: Orientation = UPRIGHT
    window: Window | None = None
    spare: tuple[int, int] = (0, 0)
    shift: int = 0
    tight: bool = False

    @property
    def bits(self) -> int:
        return self.depth or (8 if LAYOUTS[self.format].sample_bytes == 1 else 10)

    @property
    def subsampling(self) -> tuple[int, int]:
        return LAYOUTS[self.format].subsampling

    @property
    def chroma(self) -> tuple[int, int]:
        """Width and height of its planes."""
        up = 0 if self.tight else 1
        across, down = (
            (length + up * (by - 1)) // by for length, by in zip(self.source, self.subsampling, strict=True)
        )
        return across, down

    @property
    def is_srgb(self) -> bool:
        return self.transfer == "sdr" and self.primaries == "bt709"


def planes_of(case: Case) -> list[NDArray[np.uint16]]:
    """Y, U and V, right-aligned."""
    width, height = case.source
    rng = np.random.default_rng(width * 10_007 + height)
    most = 2**case.bits - 1
    planes = []
    for i, (w, h) in enumerate((case.source, case.chroma, case.chroma)):
        y, x = np.mgrid[0:h, 0:w]
        match case.content:
            case "noise":
                plane = rng.integers(0, most + 1, (h, w))
            case "black and white":
                plane = rng.integers(0, 2, (h, w)) * most
            case "least":
                plane = np.zeros((h, w))
            case "most":
                plane = np.full((h, w), most)
            case "checkerboard":
                plane = (x + y) % 2 * most
            case "waves":
                plane = most * (0.5 + 0.3 * np.cos(x * 40 / w + i) * np.sin(y * 30 / h + 2 * i))
            case "columns":
                plane = x % 2 * most
        planes.append(plane.astype(np.uint16))
    return planes


def memory_of(case: Case, planes: Sequence[NDArray[np.uint16]]) -> tuple[Bytes, int, int]:
    """The surface as bytes, with its pitch and the rows of its planes; what is spare is noise."""
    layout = LAYOUTS[case.format]
    (width, height), size = case.source, layout.sample_bytes
    row = max(width, case.chroma[0] * (2 if layout.interleaved else 1)) * size
    pitch, rows = row + case.spare[0] * size, height + case.spare[1]
    y, u, v = (plane << (16 - case.bits) if size == 2 else plane for plane in planes)
    chroma = [np.stack((u, v), axis=-1).reshape(len(u), -1)] if layout.interleaved else [u, v]
    shift = case.shift * size
    memory = np.random.default_rng(1).integers(0, 256, shift + pitch * rows * (1 + len(chroma)), np.uint8)
    for i, plane in enumerate((y, *chroma)):
        there = memory[shift + i * rows * pitch :][: pitch * len(plane)].reshape(-1, pitch)
        there[:, : plane.shape[1] * size] = plane.astype(np.uint8 if size == 1 else np.uint16).view(np.uint8)
    # Not a byte more than the last row has.
    last = shift + pitch * (rows * len(chroma) + len(chroma[-1]) - 1) + chroma[-1].shape[1] * size
    return memory[:last].copy(), pitch, rows


def expected(case: Case) -> Bytes:
    """What the reference makes of it, (height, width, 3), turned as the daemon turns pictures."""
    lying = case.size[::-1] if case.turn.swapped else case.size
    rgb = resize_yuv(
        *planes_of(case),
        lying,
        matrix=case.matrix,
        full_range=case.full_range,
        depth=case.bits,
        siting=case.siting,
        filter=case.filter,
        subsampling=case.subsampling,
    )
    if case.is_srgb:
        picture = quantise(rgb)
    else:
        signal = (np.clip(rgb / 255, 0, 1) * 65535 + 0.5).astype(np.uint16)
        picture = to_srgb(signal, case.primaries, case.transfer, case.peak)
    upright = case.turn.turn(picture)
    left, top, width, height = case.window or (0, 0, *case.size)
    return upright[top : top + height, left : left + width]


class Machine(Protocol):
    def upload(self, array: NDArray[Any]) -> tuple[Any, int]:
        """What holds it there, and its address."""

    def run(self, jobs: Sequence[Job]) -> None: ...

    def download(self, held: Any) -> Bytes: ...


def job_of(case: Case, surface: int, pitch: int, rows: int, out: int, out_pitch: int) -> Job:
    size = LAYOUTS[case.format].sample_bytes
    planes = stacked(surface + case.shift * size, pitch, rows, case.format)
    return Job(
        surface=Surface(planes, pitch, *case.source, case.format, case.bits, case.chroma[1] if case.tight else None),
        size=case.size,
        out=out,
        out_pitch=out_pitch,
        matrix=case.matrix,
        full_range=case.full_range,
        primaries=case.primaries,
        transfer=case.transfer,
        peak=case.peak,
        siting=case.siting,
        filter=case.filter,
        turn=case.turn,
        window=case.window,
    )


def pictures(machine: Machine, cases: Sequence[Case]) -> list[Bytes]:
    """What the kernel makes of all cases in one launch, (height, width, 3). Each is written amid a larger sheet, whose
    other pixels stay."""
    held, jobs, sheets = [], [], []
    for case in cases:
        memory, pitch, rows = memory_of(case, planes_of(case))
        surface, address = machine.upload(memory)
        width, height = case.window[2:] if case.window else case.size
        sheet, corner = machine.upload(np.full((height + 3, width + 5, 3), BARE, np.uint8))
        out_pitch = 3 * (width + 5)
        jobs.append(job_of(case, address, pitch, rows, corner + out_pitch + 3 * 2, out_pitch))
        held.append(surface)
        sheets.append(sheet)
    machine.run(jobs)
    made = [machine.download(sheet) for sheet in sheets]
    cut = []
    for sheet in made:
        cut.append(sheet[1:-2, 2:-3].copy())
        sheet[1:-2, 2:-3] = BARE
        assert (sheet == BARE).all(), "it wrote beside the picture"
    return cut


class Apart(NamedTuple):
    """How far kernel and reference are apart: at most, of 255, and the share of the values that differ at all."""

    most: int
    share: float


def apart(machine: Machine, case: Case, *others: Case) -> list[Apart]:
    """For every case, made in one launch."""
    cases = (case, *others)
    found = []
    for each, picture in zip(cases, pictures(machine, cases), strict=True):
        difference = np.abs(picture.astype(int) - expected(each))
        found.append(Apart(int(difference.max()), float(np.mean(difference > 0))))
    return found


class Host:
    """This CPU, running the kernel's text compiled by its own compiler. `order`: odd, in which the threads follow each
    other."""

    def __init__(self, library: Path, order: int = 1) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.launch_resize.restype = ctypes.c_longlong
        self.order = order
        self.bytes_read = 0  # of samples, by the last `resize`

    def upload(self, array: NDArray[Any]) -> tuple[Any, int]:
        own = array.copy()
        return own, own.ctypes.data

    def run(self, jobs: Sequence[Job]) -> None:
        records, _held = pack(jobs, Tables(self.upload))
        self.bytes_read = self.launch("resize", records.ctypes.data, grid(records))

    def launch(self, kernel: str, jobs: int, blocks: tuple[int, int, int]) -> Any:
        start = getattr(self._library, f"launch_{kernel}")
        return start(ctypes.c_void_p(jobs), (ctypes.c_int * 3)(*blocks), self.order)

    def download(self, held: Any) -> Bytes:
        return held


class Gpu:
    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._stream = cupy.cuda.Stream(non_blocking=True)

    def upload(self, array: NDArray[Any]) -> tuple[Any, int]:
        with self._stream:
            there = self._cupy.asarray(array)
        return there, there.data.ptr

    def run(self, jobs: Sequence[Job]) -> None:
        launcher.resize(jobs, self._stream)

    def download(self, held: Any) -> Bytes:
        with self._stream:
            return self._cupy.asnumpy(held)


# Where the strips of 224 samples end, words do, and tiles of 32 x 16 do; ratios from many to one to one to many.
_SIZES = (
    ((64, 48), (64, 48)),
    ((64, 48), (32, 16)),
    ((66, 34), (33, 17)),
    ((321, 181), (97, 33)),
    ((322, 182), (40, 70)),
    ((1023, 30), (3, 2)),
    ((905, 17), (40, 3)),
    ((9, 700), (2, 40)),
    ((7, 5), (3, 2)),
    ((5, 3), (70, 50)),
    ((4, 4), (1, 1)),
    ((2, 1), (1, 2)),
    ((1, 1), (5, 5)),
)
_TURNS = [Orientation(*ways) for ways in product((False, True), repeat=3)]
_DEPTHS: tuple[tuple[Format, int], ...] = (
    *(("nv12", 8), ("yuv444", 8)),
    *(("p016", 10), ("p016", 12), ("p016", 16), ("yuv444_16", 10), ("yuv444_16", 12), ("yuv444_16", 9)),
)

FAMILIES: dict[str, list[Case]] = {
    "codings": [
        Case(format, depth=depth, matrix=matrix, full_range=full)
        for (format, depth), matrix, full in product(_DEPTHS, MATRICES, (False, True))
    ],
    "extremes": [
        Case(format, content=content, filter=filter, depth=0 if format == "nv12" else 16, full_range=full)
        for format, content, filter, full in product(
            ("nv12", "p016", "yuv444_16"), get_args(Content), FILTERS, (False, True)
        )
    ],
    "sizes": [
        Case(format, source, size, filter=filter)
        for format, (source, size), filter in product(FORMATS, _SIZES, ("lanczos3", "area"))
    ],
    "memory": [
        Case(format, (width, 35), (13, 9), spare=(spare, spare), shift=shift, tight=tight)
        for format, width, spare, shift, tight in product(FORMATS, (47, 52), (0, 1, 2, 8), (0, 1, 2, 4), (False, True))
        if not (tight and spare)  # where rows have room for it, chroma's last column is there
    ],
    "sitings": [
        Case(format, siting=siting, filter=filter, source=source)
        for format, siting, filter, source in product(FORMATS, get_args(Siting), FILTERS, ((50, 38), (51, 39)))
    ],
    "turns": [
        Case(format, source=(90, 50), size=size, turn=turn, window=window)
        for format, turn, (size, window) in product(
            ("nv12", "yuv444_16"),
            _TURNS,
            (
                ((45, 25), None),
                ((45, 25), Window(10, 4, 25, 17)),
                ((45, 25), Window(40, 20, 5, 5)),
                ((200, 70), Window(33, 17, 90, 50)),
            ),
        )
    ],
    "hdr": [
        Case(format, depth=depth, matrix="bt2020", transfer=transfer, primaries=primaries, peak=peak, full_range=full)
        for (format, depth), (transfer, primaries, peak), full in product(
            _DEPTHS,
            (
                *(
                    (transfer, primaries, 1000.0)
                    for transfer, primaries in product(get_args(Transfer), get_args(Primaries))
                ),
                *(("pq", "bt2020", peak) for peak in (203.0, 600.0, 4000.0, 10_000.0)),
                ("hlg", "bt2020", 4000.0),  # which says nothing of HLG
            ),
            (False, True),
        )
        if (transfer, primaries) != ("sdr", "bt709")
    ],
}


def need_dali() -> None:
    """Skips where DALI is not installed, or fails where REQUIRE_DALI says that it has to be."""
    try:
        import nvidia.dali  # noqa: F401
    except ImportError as error:
        (pytest.fail if os.environ.get("REQUIRE_DALI") == "1" else pytest.skip)(f"DALI is not installed ({error})")


def compiler() -> str | None:
    return shutil.which(os.environ.get("CXX", "g++"))


def compiled(folder: Path, *options: str) -> Path:
    """The kernel's text as a library for this CPU."""
    text, library = folder / "kernel.cpp", folder / "kernel.so"
    shim = Path(__file__).with_name("host_kernel.h").read_text(encoding="utf-8")
    text.write_text(shim + launcher.source(), encoding="utf-8")
    command = [
        compiler(),
        *launcher.options(),
        "-O2",
        "-fno-strict-aliasing",
        "-Wno-unknown-pragmas",
        "-shared",
        "-fPIC",
    ]
    subprocess.run([*command, *options, text, "-o", library], check=True)
    return library


def main() -> None:
    """Runs every case on the library that is named, for those who watch its memory."""
    machine = Host(Path(sys.argv[1]))
    for cases in FAMILIES.values():
        pictures(machine, cases)


if __name__ == "__main__":
    main()
