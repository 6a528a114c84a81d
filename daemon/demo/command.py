"""`thumbd demo`: a film, a daemon, a job in its spool, pictures, and a page to look at them."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from daemon.demo.film import make_film
from daemon.demo.page import write_page
from daemon.job import Job

console = Console(highlight=False, soft_wrap=True)
Daemon = subprocess.Popen[bytes]
_PATIENCE = 600.0  # seconds until the demo gives its job up


def run_demo(video: Path | None, out: Path | None, seconds: float) -> int:
    """Shows the main job from end to end; the exit code of the command."""
    folder = out or Path(tempfile.mkdtemp(prefix="thumbd-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    with _progress() as progress:
        film = video.resolve() if video else _film(folder, seconds, progress)
        if not film.is_file():
            console.print(f"thumbd: {film} is not there: --video takes a file")
            return 2
        bar = progress.add_task("daemon starts", total=None)
        daemon = _start_daemon(folder, film.parent)
        try:
            report, took = _through_the_spool(folder, film, daemon, progress, bar)
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait()
    if report is None:
        console.print(f"thumbd: the daemon did not finish: see {folder / 'daemon.log'}")
        return 1
    if report["status"] != "completed":
        console.print(f"thumbd: {report['error']['message']}")
        return 1
    pictures = folder / "store" / "demo"
    page = write_page(report, pictures, video=os.path.relpath(film, pictures), title=film.name)
    _tell(report, pictures, page, took)
    return 0


def _film(folder: Path, seconds: float, progress: Progress) -> Path:
    path = folder / "media" / "film.mp4"
    path.parent.mkdir(exist_ok=True)
    bar = progress.add_task("painting a sample film", total=1.0)
    make_film(path, seconds=seconds, progress=lambda share: progress.update(bar, completed=share))
    progress.update(bar, completed=1.0, description="sample film")
    return path


def _start_daemon(folder: Path, media: Path) -> Daemon:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{probe.getsockname()[1]}"
    settings = {
        "THUMBD_SPOOL__ROOT": str(folder / "spool"),
        "THUMBD_STORE__ROOT": str(folder / "store"),
        "THUMBD_DATABASE": f"sqlite:///{folder / 'thumbd.db'}",
        "THUMBD_SOURCES__ROOTS": json.dumps([str(media)]),
        "THUMBD_METRICS__LISTEN": listen,
        "THUMBD_HTTP__LISTEN": "",
        "THUMBD_GRPC__LISTEN": "",
        "THUMBD_SPOOL__MIN_FREE_BYTES": "0",
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("THUMBD_")}
    with (folder / "daemon.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "daemon", "serve"],
            env=inherited | settings,
            stdin=subprocess.DEVNULL,
            stderr=log,
        )
    deadline = monotonic() + _PATIENCE
    while process.poll() is None and monotonic() < deadline and not _ready(listen):
        sleep(0.05)
    return process


def _ready(listen: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{listen}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _through_the_spool(
    folder: Path, film: Path, daemon: Daemon, progress: Progress, bar: TaskID
) -> tuple[dict[str, Any] | None, float]:
    """The report of the demo's job, and the seconds from the drop to it; no report if the daemon ended or hangs."""
    job = Job.check(
        {
            "id": f"demo-{os.getpid()}",
            "source": str(film),
            "destination": "demo",
            "outputs": [
                {"output": "thumbnail", "name": "poster", "at": "20%", "width": 1280},
                {"output": "thumbnails", "name": "scene", "count": 12, "width": 480},
                {"output": "sprite", "name": "scrub", "count": 60, "width": 320},
            ],
        }
    )
    progress.update(bar, description="job dropped into the spool: 73 pictures")
    inbox = folder / "spool" / "in"
    dropped = inbox / ".demo.tmp"
    dropped.write_text(job.model_dump_json(exclude_unset=True))
    begun = monotonic()
    dropped.rename(inbox / "demo.json")
    while daemon.poll() is None and monotonic() < begun + _PATIENCE:
        for outcome in ("done", "failed"):
            path = folder / "spool" / outcome / f"demo.{job.id}.json"
            if path.is_file():
                took = monotonic() - begun
                progress.update(bar, completed=1, total=1)
                return json.loads(path.read_bytes()), took
        sleep(0.005)
    return None, 0.0


def _tell(report: dict[str, Any], pictures: Path, page: Path, took: float) -> None:
    source, made = report["source"], 0
    console.print(
        "\n{width}x{height} {codec}, {duration:.1f} s, {fps:g} fps\n".format(**source | {"fps": source["fps"] or 0})
    )
    for output in report["outputs"]:
        count = len(output["pictures"]) if output["pictures"] else 1
        made += count
        size = f"{output['width']}x{output['height']} {output['format']}"
        console.print(f"  {output['output']:<11} {count:>4} of {size:<15} {output['bytes'] / 1024:>7.0f} KiB")
        shown = output["files"] if len(output["files"]) <= 3 else [*output["files"][:2], "…", output["files"][-1]]
        console.print(f"  {'':<11} {', '.join(Path(file).name for file in shown)}", style="dim")
    timings = report["timings"]
    console.print(
        f"\n{made} pictures in {took:.2f} s, from the drop into the spool to the report "
        f"({timings['decode']:.2f} s decoding, {timings['resize']:.2f} s resizing, {timings['encode']:.2f} s encoding, "
        f"summed over threads)"
    )
    console.print(f"pictures   {pictures}")
    console.print(f"look at    [bold]{page.resolve().as_uri()}[/bold]")


def _progress() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
