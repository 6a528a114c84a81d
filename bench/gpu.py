"""thumbd on an NVIDIA GPU: are its pictures right, then how many a second, beside what else could make them.

One command does all, in under 8 minutes, from the tree and without network:

    PYTHONPATH=. python -m bench gpu --results FOLDER

It writes FOLDER/<name of the GPU>.json and .svg (default: bench/results/). The machine needs a driver with its video
part and, for Python 3.11 or newer: PyAV, NumPy, Pillow, pydantic, pydantic-settings, CuPy with NVRTC, PyNvVideoCodec
and pytest; with hypothesis the kernel's own tests run there, too. ffmpeg, nvImageCodec, torchcodec and DALI are
measured where they are there. What could not be measured is listed with its reason under "not measured".

Films are made first: H.264, HEVC in 10 bit and VP9, 1080p. Crews of processes and threads (`crew.py`) then make
pictures from them, a warm-up and some turns each; the median counts. `nvidia-smi dmon` says how busy NVDEC is.
With `--device cpu` the CPU stands in for the GPU, to try the command itself.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Any

from bench import films
from bench.asked import Asked, Row
from bench.bars import chart
from bench.bound import times as bound_times
from bench.card import Watch
from bench.correctness import correctness
from bench.crew import CannotMeasure, Crew, middle, rates
from bench.jpeg import crossing
from bench.others import ALL, apart

RESULTS = Path(__file__).parent / "results"
WAYS = (("keyframe", "jpeg", "keyframe as JPEG"), ("exact", "webp", "exact as WebP"))
MAIN, INSTANTS, START = "H.264 1080p", 60, 5.3
OTHERS_SECONDS = 45.0
PACKAGES = ("av", "numpy", "pillow", "cupy-cuda13x", "PyNvVideoCodec", "nvidia-nvimgcodec-cu13", "torch", "torchcodec")
PACKAGES += ("nvidia-dali-cuda130",)


@dataclass(frozen=True)
class Team:
    """A crew to be measured."""

    who: str
    device: str
    processes: int
    threads: int


def teams(device: str, engines: int, cores: int) -> list[Team]:
    """The most telling first: time may run out. No session uses more than one engine, so fewer threads than engines
    leave some idle; more processes do not share an interpreter's lock."""
    shapes = [
        (1, engines),
        (1, 2 * engines),
        (1, 1),
        (min(4, engines), -(-2 * engines // min(4, engines))),
        (1, 3 * engines),
        (engines, 2),
    ]
    ours = [Team(f"thumbd, {p} x {t} threads", device, p, t) for p, t in dict.fromkeys(shapes)]
    cpu = Team(f"CPU: thumbd, {max(1, cores // 2)} x {min(2, cores)} threads", "cpu", max(1, cores // 2), min(2, cores))
    return [*ours[:2], cpu, *ours[2:]]


@dataclass
class Measuring:
    """What was found so far, and why not all was."""

    deadline: float
    rows: list[Row] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def part(self, name: str, seconds: float, measure: Callable[[], Iterable[Row]]) -> None:
        """Goes on where a part fails, and begins none that there is no time for."""
        left = self.deadline - perf_counter()
        if left < seconds:
            self.missing[name] = f"no time was left: it takes about {seconds:.0f} s, and {max(0.0, left):.0f} were"
            return
        try:
            for row in measure():
                self.rows.append(row)
                print(_line(row), flush=True)
        except CannotMeasure as reason:
            self.missing[name] = str(reason)
        except Exception as error:  # noqa: BLE001  the other figures are worth having
            self.missing[name] = f"{type(error).__name__}: {error}"
        if name in self.missing:
            print(f"  {name}: not measured: {self.missing[name]}", flush=True)


def _line(row: Row) -> str:
    busy = f"   NVDEC {row['NVDEC %']:.0f} %" if row.get("NVDEC %") is not None else ""
    return f"  {row['what']:<48} {row['who']:<46} {row['per second']:>10,.1f}/s{busy}"


def main() -> None:
    asked = arguments(sys.argv[1:])
    deadline = perf_counter() + asked.limit
    card = card_of(asked.device)
    print(f"{card['name']}, {card['engines']} NVDEC engines, driver {card['driver']}")
    result: dict[str, Any] = {"card": card, "machine": machine()}
    result["correctness"] = {"not run": "asked to leave it out"} if asked.no_tests else correctness(asked.device)
    print(f"correctness: {json.dumps({k: v for k, v in result['correctness'].items() if k != 'measured'})[:2000]}")
    measuring = Measuring(deadline)
    with Watch(_index(asked.device)) as watch:
        measure(asked, card["engines"], measuring, watch)
    result["gpu.jpeg_pixels"] = jpeg_pixels(measuring.rows)
    whole = watch.between(0, perf_counter())
    if whole["NVDEC %"] is None:
        measuring.missing["NVDEC utilisation"] = "nvidia-smi is not there, or does not say"
    result["pictures"] = compared(measuring.rows)
    result["peak memory of the card, MB"] = whole["memory of the card, MB"]
    result["not measured"] = measuring.missing
    write(result, asked.results)


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda:0", help="cuda:N, or cpu to try the command (default cuda:0)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder to write to")
    parser.add_argument("--limit", type=float, default=400.0, help="seconds after which nothing more is begun")
    parser.add_argument("--turns", type=int, default=3, help="turns of each, the median counts (default 3)")
    parser.add_argument("--seconds", type=float, default=2.5, help="of one turn of a crew (default 2.5)")
    parser.add_argument("--media", type=Path, help="a film of your own instead of the made H.264 one")
    parser.add_argument("--only", help="parts whose names hold this word")
    parser.add_argument("--no-tests", action="store_true", help="leave the tests of correctness out")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "thumbd-bench", help="made films")
    return parser.parse_args(words)


def card_of(device: str) -> dict[str, Any]:
    """What the card says of itself; ends the program where there is none."""
    if device == "cpu":
        return {"name": "CPU in the place of a GPU", "engines": 1, "driver": "none"}
    words = [sys.executable, "-m", "daemon.media.cards"]
    said = subprocess.run(words, capture_output=True, text=True, timeout=120)
    try:
        answer = json.loads(said.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        sys.exit(f"the look at the GPUs failed:\n{said.stderr}")
    if answer["why_none"]:
        sys.exit(f"no GPU can be measured: {answer['why_none']}")
    index = _index(device)
    if index >= len(answer["cards"]):
        sys.exit(f"there is no {device}: {len(answer['cards'])} GPUs are there")
    card: dict[str, Any] = answer["cards"][index]
    if not card["engines"]:
        sys.exit(f"{card['name']} has no NVDEC engine")
    return card


def _index(device: str) -> int:
    return int(device.partition(":")[2] or 0)


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "no"
    cores = len(os.sched_getaffinity(0))
    when = datetime.now(UTC).isoformat(timespec="minutes")
    return {"cpu": cpu, "cores": cores, "date": when, "python": platform.python_version(), **found}


# How many a second?


def measure(asked: argparse.Namespace, engines: int, measuring: Measuring, watch: Watch) -> None:
    asked.keep.mkdir(parents=True, exist_ok=True)

    def part(name: str, seconds: float, how: Callable[[], Iterable[Row]]) -> None:
        if asked.only is None or asked.only in name:
            measuring.part(name, seconds, how)

    main_film = asked.media or films.h264(asked.keep, 1920, 1080, 380)
    crews = teams(asked.device, engines, len(os.sched_getaffinity(0)))
    seconds = 2 * (asked.turns + 1) * (asked.seconds + 0.5) + 4
    best, cpu = crews[1], next(team for team in crews if team.device == "cpu")
    for team in crews[:3]:
        part(f"{MAIN}: {team.who}", seconds, lambda team=team: crew_rows(MAIN, main_film, team, asked, watch))
    instants = bound_times(main_film, INSTANTS, START)
    others = Asked(main_film, instants, asked.turns, _index(asked.device))
    for name in ALL:
        part(name, min(20.0, OTHERS_SECONDS), lambda name=name: named(MAIN, apart(name, others, OTHERS_SECONDS)))
    for title, make in (("HEVC 10 bit 1080p", films.hevc_10_bit), ("VP9 1080p", films.vp9)):
        for team in (best, cpu):

            def rows(title: str = title, make: Any = make, team: Team = team) -> Iterable[Row]:
                return crew_rows(title, make(asked.keep, 1920, 1080, 120), team, asked, watch)

            part(f"{title}: {team.who}", seconds + 10, rows)
    for team in crews[3:]:
        part(f"{MAIN}: {team.who}", seconds, lambda team=team: crew_rows(MAIN, main_film, team, asked, watch))


def crew_rows(title: str, film: Path, team: Team, asked: argparse.Namespace, watch: Watch) -> Iterable[Row]:
    """Keyframe and exact pictures by one crew."""
    with Crew(team.device, team.processes, team.threads, film) as crew:
        for how, format, what in WAYS:
            crew.turn(how, format, min(1.0, asked.seconds))
            begun = perf_counter()
            turns = [crew.turn(how, format, asked.seconds) for _ in range(asked.turns)]
            busy = watch.between(begun, perf_counter()) if team.device != "cpu" else {}
            stages = {stage: round(1000 * spent, 3) for stage, spent in middle(turns).stages.items()}
            spent = {"ms of each stage for a picture, summed over threads": stages}
            yield {"what": f"{title}, {what}", "who": team.who, **rates(turns), **busy, **spent}


def named(title: str, rows: Iterable[Row]) -> list[Row]:
    """Rows of others, those that make the same pictures under the name that ours have."""
    ours = {what for _, _, what in WAYS}
    return [row | {"what": f"{title}, {row['what']}"} if row["what"] in ours else row for row in rows]


def jpeg_pixels(rows: list[Row]) -> dict[str, int | None]:
    """What to set it to: from how many pixels on nvImageCodec is faster than Pillow."""
    cores = len(os.sched_getaffinity(0))
    found = {f"{who} each": crossing(rows, threads) for who, threads in (("1 thread", 1), (f"{cores} threads", cores))}
    for who, pixels in found.items():
        said = "nowhere, or not measured" if pixels is None else f"from {pixels} pixels on"
        print(f"  JPEG by nvImageCodec is faster than by Pillow, {who}: {said}", flush=True)
    return found


def compared(rows: list[Row]) -> list[Row]:
    """Each beside the CPU of the same machine in the same run."""
    cpu = {row["what"]: row["per second"] for row in rows if row["who"].startswith("CPU")}
    return [
        row | {"times the CPU": round(row["per second"] / cpu[row["what"]], 2)} if cpu.get(row["what"]) else row
        for row in rows
    ]


# What is written.


def write(result: Mapping[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    slug = "-".join("".join(c if c.isalnum() else " " for c in result["card"]["name"].lower()).split())
    path = folder / f"{slug}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    groups: dict[str, dict[str, float]] = {}
    for row in result["pictures"]:
        groups.setdefault(f"{row['what']}, a second", {})[row["who"]] = row["per second"]
    about = result["machine"]
    where = f"{about['cpu']}, {about['cores']} cores, driver {result['card']['driver']}, {about['date']}"
    note = f"{where}; medians; thumbd: processes x threads"
    picture = path.with_suffix(".svg")
    picture.write_text(chart(result["card"]["name"], groups, note))
    print(f"\nnot measured: {json.dumps(result['not measured'], indent=1)}\nwritten to {path} and {picture}")
