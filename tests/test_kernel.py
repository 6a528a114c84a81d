"""The CUDA kernel against the NumPy reference, the same cases on two machines: a GPU where there is one
(`pytest -m gpu`), and this CPU, for which the kernel's text is compiled by its own compiler. And that NVRTC makes of it
what fits a GPU, and that the launcher does the rest.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import host_cupy
import numpy as np
import pytest
from host_cupy import HostCupy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_cases import (
    FAMILIES,
    FILTERS,
    FORMATS,
    MATRICES,
    Apart,
    Case,
    Gpu,
    Host,
    Machine,
    apart,
    compiled,
    compiler,
    job_of,
    pictures,
    planes_of,
)
from numpy.typing import NDArray
from PIL import Image

from daemon.media.colour import Colour
from daemon.media.scale import scale
from kernels.cubin import ARCHITECTURES, NvrtcMissing, needs
from kernels.job import LAYOUTS, Format, Window
from kernels.orientation import Orientation
from kernels.records import pack
from kernels.reference import psnr, quantise
from kernels.resize import NoGpu, resize
from kernels.tables import Tables
from kernels.traffic import traffic
from kernels.weights import Filter

# Of 255. Both add in single precision, in another order, and round once; with light it is three times. So values
# differ where they lie between two codes, which is seldom: that shows a rounding that is always off.
LIMIT, HDR_LIMIT, SHARE = 1, 2, 0.001
# What a thread may have where four blocks are to run on a multiprocessor at once.
MOST_REGISTERS = 64


def missing(what: str, variable: str) -> Any:
    """Skips, or fails where the variable says that it has to be here."""
    return (pytest.fail if os.environ.get(variable) == "1" else pytest.skip)(what)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not compiler():
        missing("there is no g++ to compile the kernel's text for this CPU", "REQUIRE_HOST_COMPILER")
    return compiled(tmp_path_factory.mktemp("kernel"), "-Wall", "-Wextra", "-Werror")


@pytest.fixture(scope="module")
def host(library: Path) -> Host:
    return Host(library)


def gpu() -> Gpu:
    try:
        import cupy
    except ImportError:
        return missing("there is no CuPy", "REQUIRE_GPU")
    if not cupy.cuda.is_available():
        missing("CuPy finds no GPU", "REQUIRE_GPU")
    return Gpu(cupy)


@pytest.fixture(scope="module", params=["host", pytest.param("gpu", marks=pytest.mark.gpu)])
def machine(request: pytest.FixtureRequest) -> Machine:
    return gpu() if request.param == "gpu" else request.getfixturevalue("host")


# --- against the reference ---------------------------------------------------------------------------------------


def holds(found: list[Apart], cases: list[Case], limit: int) -> None:
    most = [each.most for each in found]
    worst = int(np.argmax(most))
    assert most[worst] <= limit, f"{most[worst]} of 255: {cases[worst]}"
    share = float(np.mean([each.share for each in found]))
    assert share <= SHARE, f"{share:.2%} of all values differ"


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_the_reference(family: str, machine: Machine) -> None:
    """All cases of a family in one launch: other formats, sizes, colours and filters side by side."""
    cases = FAMILIES[family]
    holds(apart(machine, *cases), cases, HDR_LIMIT if family == "hdr" else LIMIT)


def test_all_families_in_one_launch(machine: Machine) -> None:
    """What is launched together has no effect on each other."""
    some = [case for cases in FAMILIES.values() for case in cases[::7]]
    holds(apart(machine, *some), some, HDR_LIMIT)


sides = st.integers(1, 130)


@st.composite
def any_case(draw: st.DrawFn) -> Case:
    format = draw(st.sampled_from(FORMATS))
    width, height = draw(sides), draw(sides)
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    window = Window(left, top, draw(st.integers(1, width - left)), draw(st.integers(1, height - top)))
    return Case(
        format=format,
        source=(draw(st.integers(1, 600)), draw(sides)),
        size=(width, height),
        depth=8 if LAYOUTS[format].sample_bytes == 1 else draw(st.integers(9, 16)),
        matrix=draw(st.sampled_from(MATRICES)),
        full_range=draw(st.booleans()),
        siting=draw(st.sampled_from(["left", "center", "topleft"])),
        filter=draw(st.sampled_from(FILTERS)),
        content=draw(st.sampled_from(["noise", "black and white"])),
        transfer=draw(st.sampled_from(["sdr", "pq", "hlg"])),
        primaries=draw(st.sampled_from(["bt709", "bt2020", "display-p3"])),
        peak=draw(st.sampled_from([203.0, 1000.0, 10_000.0])),
        turn=Orientation(draw(st.booleans()), draw(st.booleans()), draw(st.booleans())),
        window=draw(st.sampled_from([None, window])),
        spare=(draw(st.integers(0, 9)), draw(st.integers(0, 3))),
        shift=draw(st.integers(0, 4)),
    )


@given(st.lists(any_case(), min_size=1, max_size=3))
@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_comes(host: Host, cases: list[Case]) -> None:
    assert max(each.most for each in apart(host, *cases)) <= HDR_LIMIT


# --- against Pillow ----------------------------------------------------------------------------------------------

PILLOW: dict[Filter, Image.Resampling] = {
    "triangle": Image.Resampling.BILINEAR,
    "catmull_rom": Image.Resampling.BICUBIC,
    "lanczos3": Image.Resampling.LANCZOS,
}


@pytest.mark.parametrize("filter", PILLOW)
def test_equals_pillow(filter: Filter, machine: Machine) -> None:
    """Planes of G, B and R are only resampled, and Pillow neither rounds nor clips between the passes in mode F."""
    case = Case("yuv444", (321, 181), (97, 33), matrix=None, full_range=True, filter=filter)
    (got,) = pictures(machine, [case])
    g, b, r = planes_of(case)
    for channel, plane in enumerate((r, g, b)):
        theirs = Image.fromarray(plane.astype(np.float32)).resize(case.size, PILLOW[filter])
        assert np.abs(got[..., channel].astype(int) - quantise(np.asarray(theirs))).max() <= 1


# --- against what the daemon does without a GPU ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "theirs", "depth", "colour"),
    [
        ("nv12", "yuv420p", 8, Colour("bt601", False)),
        ("nv12", "yuv420p", 8, Colour("bt709", True)),
        ("nv12", "yuv420p", 8, Colour("bt709", False, "display-p3")),
        ("p016", "yuv420p10le", 10, Colour("bt709", False)),
        ("p016", "yuv420p10le", 10, Colour("bt2020", False, "bt2020", "pq", 4000.0)),
        ("p216", "yuv422p10le", 10, Colour("bt709", False)),
        ("yuv444", "yuv444p", 8, Colour("ycgco", True)),
        ("yuv444_16", "yuv444p12le", 12, Colour("bt2020", False, "bt2020", "hlg")),
        ("yuv444", "gbrp", 8, Colour(None, True)),
    ],
    ids=str,
)
def test_equals_the_cpu_path(format: Format, theirs: str, depth: int, colour: Colour, machine: Machine) -> None:
    """libswscale repeats the outermost samples where the kernel cuts its window: the edges differ, and are left out."""
    case = Case(
        format,
        (640, 360),
        (160, 90),
        depth,
        colour.matrix,
        colour.full_range,
        siting="center",
        content="waves",
        primaries=colour.primaries,
        transfer=colour.transfer,
        peak=colour.peak,
    )
    frame = av.VideoFrame(*case.source, theirs)
    for plane, samples in zip(frame.planes, planes_of(case), strict=True):
        stored = samples.astype(np.uint8 if depth == 8 else np.uint16)
        np.frombuffer(memoryview(plane), stored.dtype).reshape(plane.height, -1)[:, : stored.shape[1]] = stored
    (got,) = pictures(machine, [case])
    inner = (slice(4, -4), slice(4, -4))
    assert psnr(got[inner], scale(frame, case.size, colour)[inner]) > 50


# --- what a GPU does otherwise than this CPU ---------------------------------------------------------------------


@pytest.mark.parametrize("order", [255, 77], ids=["backwards", "scattered"])
def test_threads_need_not_run_in_order(order: int, library: Path) -> None:
    """Between two barriers no thread reads what another writes: in any order they make the same picture, to the bit."""
    some = [case for cases in FAMILIES.values() for case in cases[::5]]
    for forwards, otherwise in zip(pictures(Host(library), some), pictures(Host(library, order), some), strict=True):
        assert np.array_equal(forwards, otherwise)


def test_nothing_is_read_or_written_beyond_its_memory(tmp_path: Path) -> None:
    """Every case again, under the compiler's watch over addresses, alignment and arithmetic."""
    if not (found := compiler()):
        missing("there is no g++", "REQUIRE_HOST_COMPILER")
    asked = subprocess.run([str(found), "-print-file-name=libasan.so"], check=True, capture_output=True, text=True)
    watch = Path(asked.stdout.strip())
    if not watch.is_absolute():
        missing("this compiler has no AddressSanitizer", "REQUIRE_HOST_COMPILER")
    library = compiled(tmp_path, "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g1")
    environment = os.environ | {
        "LD_PRELOAD": str(watch.resolve()),
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    child = [sys.executable, str(Path(__file__).with_name("kernel_cases.py")), str(library)]
    ended = subprocess.run(child, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]


@pytest.mark.parametrize(("filter", "size"), [("lanczos3", (320, 180)), ("area", (320, 180)), ("area", (97, 55))])
def test_reads_what_was_counted_on_paper(filter: Filter, size: tuple[int, int], host: Host) -> None:
    """And a little more, since it reads whole words."""
    pictures(host, [Case(source=(1920, 1080), size=size, filter=filter)])
    counted = traffic((1920, 1080), size, filter).loads
    assert counted <= host.bytes_read <= 1.03 * counted


def test_reads_the_source_once_but_for_the_rims_of_tiles() -> None:
    """What kernels/resize.cu says of 1080p to 320x180."""
    by_lanczos, by_area = (traffic((1920, 1080), (320, 180), filter) for filter in ("lanczos3", "area"))
    assert by_lanczos.reached == by_area.reached == by_lanczos.source == 1920 * 1080 * 3 // 2
    assert by_lanczos.through_l2 / by_lanczos.reached == pytest.approx(1.49, abs=0.005)
    assert by_area.through_l2 / by_area.reached == pytest.approx(1.02, abs=0.005)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_fits_a_multiprocessor(architecture: str) -> None:
    """Four blocks at once, and nothing in local memory, which would be written and read through the caches."""
    try:
        found = needs(architecture)
    except NvrtcMissing as error:
        missing(str(error), "REQUIRE_NVRTC")
    assert set(found) == {"resize", "paint_floats"}
    for need in found.values():
        assert need.registers <= MOST_REGISTERS
        assert (need.stack, need.spilled) == (0, 0)
        # 64 KB is what Turing has, and what leaves later ones most of their L1 cache; of each block 1 KB is CUDA's.
        assert 4 * (need.shared + 1024) <= 64 << 10


# --- the launcher ------------------------------------------------------------------------------------------------


def test_importing_it_imports_no_cupy() -> None:
    code = "import sys, kernels.resize, kernels.cubin; sys.exit('cupy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})


JOB = job_of(Case(), 4096, 50, 38, 1 << 20, 60)


def test_says_that_cupy_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(NoGpu, match="install thumbd"):
        resize([JOB])


def test_says_that_there_is_no_gpu() -> None:
    cupy = pytest.importorskip("cupy", exc_type=ImportError)
    if cupy.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(NoGpu, match="no NVIDIA GPU"):
        resize([JOB])


def test_nothing_to_do_needs_no_gpu() -> None:
    resize([])


@pytest.fixture
def stand_in(library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostCupy]:
    with host_cupy.standing_in(library, monkeypatch) as cupy:
        yield cupy


def test_launches_through_cupy(stand_in: HostCupy) -> None:
    cases = FAMILIES["turns"] + FAMILIES["hdr"][::9]
    holds(apart(stand_in, *cases), cases, HDR_LIMIT)
    assert stand_in.launches == [(1, (256,))]


def test_weights_and_tables_are_uploaded_once(stand_in: HostCupy) -> None:
    cases = [Case(), Case(turn=Orientation(flip_x=True)), Case(transfer="pq"), Case(transfer="pq", content="most")]
    pictures(stand_in, cases)
    # The jobs; of luma and of chroma the weights across and down; light, gain and sRGB.
    assert stand_in.uploads == 1 + 4 + 3
    pictures(stand_in, cases)
    assert stand_in.uploads == 1 + 4 + 3 + 1
    stand_in.mine = stand_in.stream(2)
    pictures(stand_in, cases)
    assert stand_in.uploads == 2 * (1 + 4 + 3) + 1, "another stream has its own, or it would read what was freed"


def test_what_is_kept_is_bounded_and_what_is_used_stays() -> None:
    def zeros(size: int, which: int) -> NDArray[Any]:
        return np.full(size, which, np.uint8)

    def upload(array: NDArray[Any]) -> tuple[Any, int]:
        return array, array.ctypes.data

    tables = Tables(upload, most_bytes=1000)
    for which in range(10):
        tables.get(zeros, 300, which)
        tables.get(zeros, 100, 0)
    assert len(tables) == 11, "while jobs are packed nothing is dropped: some of them may point to it"
    kept = tables.get(zeros, 100, 0)
    tables.trim()
    assert len(tables) == 4
    assert tables.get(zeros, 100, 0) is kept
    assert tables.get(zeros, 300, 9).array[0] == 9


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"size": (0, 5)}, "nothing to see"),
        ({"window": Window(0, 0, 0, 3)}, "nothing to see"),
        ({"window": Window(10, 0, 8, 3)}, "not inside"),
        ({"window": Window(-1, 0, 8, 3)}, "not inside"),
        ({"out": 0}, "no place"),
        ({"out_pitch": 50}, "no place"),
        ({"matrix": "bt7"}, "no matrix"),
        ({"surface": {"format": "yuv"}}, "no surface format"),
        ({"surface": {"width": 0}}, "nothing to see"),
        ({"surface": {"depth": 10}}, "of 10 bits"),
        ({"surface": {"format": "p016"}}, "of 8 bits"),
        ({"surface": {"planes": (4096,)}}, "has 2 planes"),
        ({"surface": {"planes": (4096, 0)}}, "has 2 planes"),
        ({"surface": {"pitch": 49}}, "pitch of 49"),
        ({"surface": {"format": "p016", "depth": 10, "pitch": 101}}, "even"),
        ({"surface": {"format": "p016", "depth": 10, "planes": (4096, 8191)}}, "even"),
        ({"surface": {"chroma_rows": 20}}, "20 rows of chroma"),
    ],
    ids=str,
)
def test_jobs_that_cannot_be(wrong: dict[str, Any], says: str) -> None:
    parts = dict(wrong)
    if "surface" in parts:
        parts["surface"] = replace(JOB.surface, **parts["surface"])
    with pytest.raises(ValueError, match=says):
        pack([replace(JOB, **parts)], Tables(lambda array: (array, 1)))


def test_more_pictures_than_a_grid_is_deep() -> None:
    with pytest.raises(ValueError, match="65536 pictures"):
        pack([JOB] * 65_536, Tables(lambda array: (array, 1)))
