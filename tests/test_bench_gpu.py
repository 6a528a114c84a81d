"""`python -m bench gpu`, as far as it can be tried without a GPU: the CPU stands in, or timings are made up."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench import asked, card, correctness, gpu, jpeg, others
from bench.asked import Asked
from bench.bars import chart
from bench.card import Sample, Watch, samples
from bench.correctness import told
from bench.crew import CannotMeasure, Crew, Turn, middle, rates, summed
from bench.gpu import Measuring, Team, compared, teams
from daemon.demo.film import make_film
from daemon.media import nvidia

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def film(clip_folder: Path) -> Path:
    path = clip_folder / "bench.mp4"
    make_film(path, seconds=4, width=320, height=180)
    return path


# --- a crew -----------------------------------------------------------------------------------------------------


def test_a_crew_makes_pictures_for_as_long_as_it_is_told(film: Path) -> None:
    with Crew("cpu", 2, 1, film) as crew:
        crew.turn("keyframe", "jpeg", 0.1)
        begun = perf_counter()
        turn = crew.turn("keyframe", "jpeg", 0.3)
        took = perf_counter() - begun
        exact = crew.turn("exact", "webp", 0.1)
    assert took >= 0.3
    assert turn.rate > 20 and exact.rate > 1
    assert all(spent > 0 for spent in turn.stages.values())
    # Each picture costs a thread its stages; there are two threads.
    assert sum(turn.stages.values()) <= 2.2 / turn.rate


def test_a_crew_says_why_it_cannot(film: Path, tmp_path: Path) -> None:
    (tmp_path / "no.mp4").write_bytes(b"no video")
    with Crew("cpu", 1, 1, tmp_path / "no.mp4") as crew, pytest.raises(CannotMeasure, match="NotAVideo"):
        crew.turn("keyframe", "jpeg", 0.1)
    with Crew("cuda:77", 1, 1, film) as crew, pytest.raises(CannotMeasure, match="cuda"):
        crew.turn("keyframe", "jpeg", 0.1)


def test_a_crew_that_hangs_is_ended(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.crew._PATIENCE", 0.2)
    with Crew("cpu", 1, 1, film) as crew:
        members = crew._members
        os.kill(members[0].pid, 19)  # stopped
        with pytest.raises(CannotMeasure, match="hung"):
            crew.turn("keyframe", "jpeg", 0.1)
    assert members[0].returncode == -9


def test_turns_of_several_processes_are_added_up() -> None:
    stages = {"open": 1.0, "decode": 4.0, "resize": 2.0, "encode": 1.0}
    turn = summed(
        [{"pictures": 30, "seconds": 2.0, "stages": stages}, {"pictures": 10, "seconds": 1.0, "stages": stages}]
    )
    assert turn.rate == 25
    assert turn.stages == {"open": 0.05, "decode": 0.2, "resize": 0.1, "encode": 0.05}
    turns = [Turn(rate, {}) for rate in (5.0, 1.0, 3.0)]
    assert middle(turns).rate == 3
    assert rates(turns) == {"per second": 3.0, "all": [5.0, 1.0, 3.0]}


# --- what is planned, and how it ends ---------------------------------------------------------------------------


def test_crews_follow_the_engines() -> None:
    planned = teams("cuda:0", 7, 16)
    shapes = [(team.processes, team.threads) for team in planned if team.device == "cuda:0"]
    assert shapes == [(1, 7), (1, 14), (1, 1), (4, 4), (1, 21), (7, 2)]
    assert planned[2] == Team("CPU: thumbd, 8 x 2 threads", "cpu", 8, 2), "what all is held beside comes early"
    assert len({team.who for team in planned}) == len(planned)
    few = [(team.processes, team.threads) for team in teams("cuda:0", 1, 1)]
    assert few == [(1, 1), (1, 2), (1, 1), (1, 3)]


ROW = {"what": "w", "who": "CPU: thumbd", "per second": 2.0}


def broken() -> Iterator[dict[str, Any]]:
    yield ROW
    raise CannotMeasure("it broke")


def test_a_part_that_fails_costs_only_itself() -> None:
    measuring = Measuring(perf_counter() + 100)
    measuring.part("broken", 1, broken)
    measuring.part("raises", 1, lambda: [][0])
    measuring.part("long", 1000, lambda: [ROW])
    measuring.part("fine", 1, lambda: [ROW | {"who": "thumbd"}])
    assert [row["who"] for row in measuring.rows] == ["CPU: thumbd", "thumbd"]
    assert list(measuring.missing) == ["broken", "raises", "long"]
    assert measuring.missing["broken"] == "it broke"
    assert "IndexError" in measuring.missing["raises"]
    assert "no time was left: it takes about 1000 s" in measuring.missing["long"]


def test_each_is_held_beside_the_cpu_where_it_did_the_same() -> None:
    rows = [ROW, {"what": "w", "who": "thumbd", "per second": 9.0}, {"what": "v", "who": "thumbd", "per second": 9.0}]
    assert [row.get("times the CPU") for row in compared(rows)] == [1.0, 4.5, None]


def test_a_machine_without_a_gpu_is_told_why() -> None:
    if (
        subprocess.run([sys.executable, "-c", "import ctypes; ctypes.CDLL('libcuda.so.1')"], check=False).returncode
        == 0
    ):
        pytest.skip("there is a driver here")
    ran = subprocess.run([sys.executable, "-m", "bench", "gpu"], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr == (
        "no GPU can be measured: there is no NVIDIA driver (libcuda.so.1): install one, or start the container with "
        "--gpus all\n"
    )


# --- what nvidia-smi says ---------------------------------------------------------------------------------------

# As drivers of the 570s print it, and an older one without some of the columns.
DMON = """\
# gpu     sm    mem    enc    dec    jpg    ofa     fb   bar1   ccpm
# Idx      %      %      %      %      %      %     MB     MB     MB
    0      3      1      0     97      0      0   1234      5      0
    0      -      -      -      -      -      -      -      -      -
# gpu    sm   mem   enc   dec    fb  bar1
# Idx     %     %     %     %    MB    MB
    0    10     1     0    50   900     3
    0    10
"""


def test_samples_follow_the_header() -> None:
    found = [(sample.decoder, sample.compute, sample.used) for sample in samples(DMON.splitlines())]
    assert found == [(97, 3, 1234), (None, None, None), (50, 10, 900)]


def test_a_watch_tells_of_the_time_that_is_asked_for() -> None:
    watch = Watch(0)
    watch.samples = [Sample(t, dec, None, used) for t, dec, used in ((1.5, 9, 999), (2.5, 50, 10), (3.5, 70, 20))]
    assert watch.between(1.0, 3.5) == {"NVDEC %": 60.0, "SM %": None, "memory of the card, MB": 20}
    assert watch.between(9, 10) == {"NVDEC %": None, "SM %": None, "memory of the card, MB": None}


def test_a_watch_reads_what_the_program_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{DMON}END\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with Watch(0) as watch:
        until = perf_counter() + 10
        while len(watch.samples) < 3 and perf_counter() < until:
            pass
    assert [sample.decoder for sample in watch.samples] == [97, None, 50]


def test_without_the_program_there_are_no_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "which", lambda name: None)
    with Watch(0) as watch:
        assert watch.samples == []


# --- others -----------------------------------------------------------------------------------------------------


def test_what_runs_apart_gives_rows_or_a_reason(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = Asked(film, (0.7, 2.3), 1)
    (row,) = others.apart("demux", wanted, 60)
    assert row["per second"] > 10 and len(row["all"]) == 1
    with pytest.raises(CannotMeasure, match="took more than"):
        others.apart("pillow", wanted, 0.01)
    with pytest.raises(CannotMeasure, match="KeyError: 'nothing of the kind'"):
        others.apart("nothing of the kind", wanted, 60)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(CannotMeasure, match="ended with status 1"):
        others.apart("demux", wanted, 60)


@pytest.mark.parametrize(
    "name", ["simple decoder", "threaded decoder", "nvimgcodec", "our jpeg", "torchcodec", "dali", "kernel"]
)
def test_a_library_that_is_not_there_is_named(name: str, film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = ("PyNvVideoCodec", "nvidia", "torchcodec", "cupy")
    for module in missing:
        monkeypatch.setitem(sys.modules, module, None)
    nvidia.image_codec.cache_clear()
    with pytest.raises(CannotMeasure, match=r"cannot be imported|is not installed"):
        others.ALL[name](Asked(film, (0.7,), 1))


def jpegs(pillow: dict[int, float], ours: dict[int, float], threads: int = 1) -> list[dict[str, Any]]:
    """Rows of both, by the width of what was encoded."""
    said = {jpeg.PILLOW: pillow, jpeg.OURS: ours}
    return [
        {"what": jpeg.what(size), "who": jpeg.who_of(who, threads), "per second": rates[size[0]]}
        for size in jpeg.SHEETS
        for who, rates in said.items()
        if size[0] in rates
    ]


SLOW = {320: 900.0, 640: 200.0, 1280: 50.0, 1920: 25.0, 4096: 6.0}


def test_where_jpeg_by_the_card_begins_to_pay() -> None:
    faster = {320: 100.0, 640: 90.0, 1280: 60.0, 1920: 40.0, 4096: 20.0}
    assert jpeg.crossing(jpegs(SLOW, faster), 1) == 1280 * 720
    assert jpeg.crossing(jpegs(SLOW, dict.fromkeys(SLOW, 1e9)), 1) == 320 * 180
    assert jpeg.crossing(jpegs(SLOW, faster | {1920: 24.0}), 1) == 4096 * 2304, "not where larger ones are slower"
    assert jpeg.crossing(jpegs(SLOW, faster | {4096: 5.0}), 1) is None
    assert jpeg.crossing(jpegs(SLOW, {}), 1) is None
    assert jpeg.crossing(jpegs(SLOW, faster), 16) is None, "of others"


def test_what_to_set_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: range(16))
    rows = jpegs(SLOW, dict.fromkeys(SLOW, 30.0)) + jpegs(SLOW, dict.fromkeys(SLOW, 1.0), 16)
    assert gpu.jpeg_pixels(rows) == {"1 thread each": 1920 * 1080, "16 threads each": None}
    said = capsys.readouterr().out
    assert "1 thread each: from 2073600 pixels on" in said and "16 threads each: nowhere" in said


def test_the_frames_asked_for_are_those_shown(film: Path) -> None:
    """30 frames a second, a keyframe every 2 s."""
    exact, keys = others._frame_numbers(Asked(film, (0.0, 0.7, 2.01, 3.9), 1))
    assert exact == [0, 21, 60, 117]
    assert keys == [0, 60]


def test_a_rate_is_the_median_of_turns_after_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 1.0, 1.5, 2.0, 6.0])
    monkeypatch.setattr(asked, "perf_counter", lambda: next(clock))
    calls: list[int] = []
    row = asked.row("what", "who", 4, 3, lambda: calls.append(1), "a note")
    assert len(calls) == 4
    assert row == {"what": "what", "who": "who", "per second": 4.0, "all": [4.0, 8.0, 1.0], "note": "a note"}


def test_the_job_of_the_kernel_is_one_that_it_takes() -> None:
    records = pytest.importorskip("kernels.records")
    surface, out = np.zeros((1620, 1920), np.uint8), np.zeros((180, 320, 3), np.uint8)
    tables = records.Tables(lambda array: (array, array.ctypes.data))
    packed, _ = records.pack([others.job(surface.ctypes.data, out.ctypes.data)], tables)
    assert len(packed) == 1


# --- what is written --------------------------------------------------------------------------------------------

JUNIT = """<testsuites><testsuite>
<testcase name="a"><properties><property name="PSNR x 96" value="48.5"/></properties></testcase>
<testcase name="b"><properties><property name="PSNR y 96" value="39.0"/></properties>
<failure message="assert 39.0 &gt;= 40&#10;more">trace</failure></testcase>
<testcase name="c"><skipped message="no"/></testcase>
<testcase name="d"><properties><property name="fell back, e" value="codec"/></properties>
<error message="broke"/></testcase>
</testsuite></testsuites>"""


def test_the_tests_report_is_understood() -> None:
    assert told(JUNIT) == {
        "passed": 1,
        "failed": {"b": ["assert 39.0 >= 40"], "d": ["broke"]},
        "skipped": ["c"],
        "least PSNR against the CPU path, dB": 39.0,
        "measured": {"PSNR x 96": "48.5", "PSNR y 96": "39.0", "fell back, e": "codec"},
    }


def test_a_chart_is_an_svg_to_scale() -> None:
    svg = chart("A <card>", {"one": {"thumbd, 1": 50.0, "CPU: 2": 100.0}, "two": {"other": 0.0}}, "a note & more")
    root = ElementTree.fromstring(svg)
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "A <card>" and texts[-1] == "a note & more"
    bars = list(root.iter("{http://www.w3.org/2000/svg}rect"))[1:]
    long = [float(each.get("width") or 0) for each in bars]
    assert long[0] * 2 == pytest.approx(long[1], abs=0.2) and long[1] > 100 and long[2] == 0
    assert len({each.get("fill") for each in bars}) == 3
    assert [each for each in texts if each in ("50.0", "100.0", "0.0")] == ["50.0", "100.0", "0.0"]
    lowest = max(float(each.get("y") or 0) for each in root.iter() if each.get("y"))
    assert lowest < float(root.get("height") or 0)


def test_the_whole_command_with_the_cpu_in_place_of_a_gpu(film: Path, tmp_path: Path) -> None:
    """One turn of each of what the name says; the rest is left out, and said to be."""
    words = ["--device", "cpu", "--media", str(film), "--results", str(tmp_path), "--keep", str(tmp_path)]
    words += ["--turns", "1", "--seconds", "0.1", "--limit", "60", "--no-tests", "--only", "H.264 1080p: thumbd, 1 x 1"]
    ran = subprocess.run([sys.executable, "-m", "bench", "gpu", *words], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    result = json.loads((tmp_path / "cpu-in-the-place-of-a-gpu.json").read_text())
    assert [row["what"] for row in result["pictures"]] == [
        "H.264 1080p, keyframe as JPEG",
        "H.264 1080p, exact as WebP",
    ]
    for row in result["pictures"]:
        assert row["per second"] == row["all"][0] > 0
        assert set(row["ms of each stage for a picture, summed over threads"]) == {"open", "decode", "resize", "encode"}
    assert result["correctness"] == {"not run": "asked to leave it out"}
    assert result["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert "H.264 1080p: thumbd, 1 x 1" not in result["not measured"]
    ElementTree.fromstring((tmp_path / "cpu-in-the-place-of-a-gpu.svg").read_text())


def test_what_is_run_on_a_gpu_machine_needs_no_more_than_is_there() -> None:
    """Neither the database nor the web, nor what only tests use."""
    program = f"""
import sys
for name in ("structlog", "sqlalchemy", "starlette", "uvicorn", "typer", "rich", "watchfiles", "hypothesis"):
    sys.modules[name] = None
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
import bench.gpu, bench.crew, bench.others, daemon.media.cards, conftest, test_gpu
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd="/", capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_correctness_comes_from_the_tests_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest is called as it will be there; what it writes is read."""
    seen: dict[str, Any] = {}

    def run(words: list[str], **options: Any) -> Any:
        seen.update(words=words, env=options["env"])
        report = next(word for word in words if word.startswith("--junitxml=")).partition("=")[2]
        Path(report).write_text(JUNIT)
        return SimpleNamespace(returncode=1, stdout="")

    monkeypatch.setattr(correctness.subprocess, "run", run)
    found = correctness.correctness("cuda:1")
    assert found["least PSNR against the CPU path, dB"] == 39.0
    assert (seen["env"]["GPU_TESTS_ON"], seen["env"]["REQUIRE_GPU"]) == ("cuda:1", "1")
    assert "tests/test_gpu.py" in seen["words"]
