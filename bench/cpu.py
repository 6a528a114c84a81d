"""thumbd, from the drop into a running daemon's spool to the report, beside what people use today, in one run.

Every figure is a median of turns taken one after the other, never two at once. Ratios are what counts: absolute times
are this machine's.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any

from bench import films
from bench.bound import times as bound_times
from bench.running import running

COUNT = 38
START = 5.3  # seconds: the wanted instants lie anywhere between keyframes
SIZE = (320, 180)
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench cpu", description=__doc__)
    parser.add_argument("--media", type=Path, help="a film of your own instead of a made one")
    parser.add_argument("--turns", type=int, default=5, help="turns of each, the median counts (default 5)")
    parser.add_argument("--threads", type=int, default=min(2, len(os.sched_getaffinity(0))))
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "thumbd-bench", help="made films")
    asked = parser.parse_args()
    asked.keep.mkdir(parents=True, exist_ok=True)
    film = asked.media or films.h264(asked.keep, 1920, 1080, 380)
    results: dict[str, Any] = {"machine": machine(), "film": film.name, "pictures": COUNT, "threads": asked.threads}
    print(
        f"{film.name}, {COUNT} pictures of {SIZE[0]}x{SIZE[1]}, {asked.threads} threads, on {results['machine']['cpu']}"
    )
    results["keyframe as JPEG"] = compare("keyframe", "jpeg", film, asked)
    results["exact as WebP"] = compare("exact", "webp", film, asked)
    results["peak memory of a worker, MB"] = memory(asked)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"cpu-{results['machine']['slug']}.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\nwritten to {path}")


def compare(how: str, format: str, film: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Times thumbd and all the others that are installed; prints and returns medians and ratios."""
    rivals = {name: rival for name, rival in RIVALS[how].items() if shutil.which(rival.__name__)}
    times: dict[str, list[float]] = {name: [] for name in ("thumbd", "bound", *rivals)}
    with daemon(film.parent, asked.threads) as drop:
        drop(film, how, format)  # the first job pays for nothing that later ones do not, but warms the page cache
        for _ in range(asked.turns):
            times["thumbd"].append(drop(film, how, format))
            times["bound"].append(bound(film, how, format, asked.threads))
    for name, rival in rivals.items():
        # The slow ones need no more turns to be told apart.
        for _ in range(min(asked.turns, 2)):
            with tempfile.TemporaryDirectory() as folder:
                begun = perf_counter()
                rival(film, Path(folder), asked.threads)
                times[name].append(perf_counter() - begun)
                made = len(os.listdir(folder))
                assert made in (COUNT, COUNT + 1, 1), f"{name} made {made} files"
    ours = median(times["thumbd"])
    print(f"\n{how} as {format}")
    rows = {}
    for name, taken in times.items():
        rows[name] = {"seconds": round(median(taken), 4), "all": [round(t, 4) for t in taken]}
        if name != "thumbd":
            rows[name]["times thumbd"] = round(median(taken) / ours, 2)
        print(f"  {name:<42} {median(taken):8.3f} s   {median(taken) / ours:6.2f} x thumbd")
    allowed = 1.25 * median(times["bound"]) + 0.05
    rows["bound"]["1.25 x bound + 50 ms"] = round(allowed, 4)
    print(f"  {'1.25 x bound + 50 ms':<42} {allowed:8.3f} s   {'kept' if ours <= allowed else 'NOT KEPT'}")
    return rows


# Others.


def ffmpeg(film: Path, folder: Path, threads: int) -> None:
    """The whole film is decoded."""
    filters = "fps=1/10,scale=320:180,tile=10x4"
    _ffmpeg(threads, [], film, ["-vf", filters, "-frames:v", "1"], folder / "sheet.jpg")


def ffmpeg_nokey(film: Path, folder: Path, threads: int) -> None:
    """All keyframes are decoded."""
    _ffmpeg(threads, ["-skip_frame", "nokey"], film, ["-vf", "fps=1/10,scale=320:180"], folder / "%03d.jpg")


def ffmpeg_seek(film: Path, folder: Path, threads: int) -> None:
    """One process a picture."""
    for n, at in enumerate(_times(film)):
        rest = ["-frames:v", "1", "-vf", "scale=320:180"]
        _ffmpeg(threads, ["-ss", f"{at:.3f}"], film, rest, folder / f"{n:03}.webp")


def ffmpegthumbnailer(film: Path, folder: Path, threads: int) -> None:
    """One process a picture, at the keyframe."""
    for n, time in enumerate(_times(film)):
        second = int(time)
        at = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
        _call("ffmpegthumbnailer", "-i", film, "-o", folder / f"{n:03}.jpg", "-s", "320", "-t", at, "-c", "jpeg")


def _times(film: Path) -> list[float]:
    """Seconds of the wanted pictures, the same for everyone who can be told."""
    return bound_times(film, COUNT, START)


def _ffmpeg(threads: int, before: list[str], film: Path, after: list[str], out: Path) -> None:
    _call("ffmpeg", "-v", "error", "-threads", threads, *before, "-i", film, *after, out)


def _call(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, stdin=subprocess.DEVNULL, capture_output=True)


ffmpeg_nokey.__name__ = ffmpeg_seek.__name__ = "ffmpeg"  # the command that each needs
RIVALS: dict[str, dict[str, Callable[[Path, Path, int], None]]] = {
    "keyframe": {"ffmpegthumbnailer, a loop": ffmpegthumbnailer, "ffmpeg -skip_frame nokey": ffmpeg_nokey},
    "exact": {"ffmpeg -ss, a loop": ffmpeg_seek, "ffmpeg -vf fps=1/10,scale,tile": ffmpeg},
}


def bound(film: Path, how: str, format: str, threads: int) -> float:
    """Seconds of the bare loop, in a process of its own."""
    words = [sys.executable, "-m", "bench.bound", str(film), how, format, str(COUNT), str(START), str(threads)]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


# Ourselves.


@contextmanager
def daemon(media: Path, threads: int, pids: list[int] | None = None) -> Iterator[Callable[[Path, str, str], float]]:
    """A running daemon; the function drops a job and gives the seconds until its report is there."""
    with running(media, THREADS=threads, WORKERS=1) as found:
        if pids is not None:
            pids += found.children()
        yield lambda film, how, format: _drop(found.folder, film, how, format)


def _drop(folder: Path, film: Path, how: str, format: str) -> float:
    name = f"{how}-{format}-{perf_counter()}"
    width, height = SIZE
    look = {"width": width, "height": height, "format": format, "accuracy": how}
    job = {
        "id": name,
        "source": str(film),
        "outputs": [{"output": "thumbnails", "count": COUNT, "start": START, **look}],
    }
    part = folder / "spool" / f"{name}.tmp"
    part.write_text(json.dumps(job))
    report = folder / "spool" / "done" / f"{name}.{name}.json"
    failed = folder / "spool" / "failed" / report.name
    begun = perf_counter()
    part.rename(folder / "spool" / "in" / f"{name}.json")
    while not report.exists():
        assert not failed.exists(), failed.read_text()
        sleep(0.001)
    took = perf_counter() - begun
    output = json.loads(report.read_text())["outputs"][0]
    assert output["cached"] is False and len(output["pictures"]) == COUNT
    return took


def memory(asked: argparse.Namespace) -> dict[str, float]:
    """Peak resident memory of a worker after each kind of film: the video's length and the number of pictures must
    not show in it."""
    cases = {
        "1080p H.264, 38 s": films.h264(asked.keep, 1920, 1080, 38),
        "1080p H.264, 380 s": films.h264(asked.keep, 1920, 1080, 380),
        "4K HEVC 10 bit, 20 s": films.hevc_10_bit(asked.keep, 3840, 2160, 20),
    }
    print("\npeak memory of a worker")
    peaks = {}
    for name, film in cases.items():
        pids: list[int] = []
        with daemon(film.parent, asked.threads, pids) as drop:
            drop(film, "exact", "webp")
            status = Path(f"/proc/{pids[0]}/status").read_text()
            peaks[name] = round(int(status.split("VmHWM:")[1].split()[0]) / 1000, 1)
        print(f"  {name:<42} {peaks[name]:8.1f} MB")
    return peaks


def machine() -> dict[str, Any]:
    """What it was measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    cores = len(os.sched_getaffinity(0))
    slug = "-".join("".join(c if c.isalnum() else " " for c in f"{cpu} {cores} cores".lower()).split())
    versions = {name: version(name) for name in ("thumbd", "av", "pillow", "numpy")}
    return {"cpu": cpu, "cores": cores, "slug": slug, "date": datetime.now(UTC).date().isoformat(), **versions}
