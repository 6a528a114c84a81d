"""What is done right here: the daemon itself, a job without one, and a look at the machine."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from daemon import log
from daemon.app import Daemon
from daemon.cli.asked import is_job_file, job_file, job_of
from daemon.cli.beside import ConfigOption
from daemon.cli.options import with_outputs
from daemon.cli.terminal import JsonOption, progress_bars, show_report
from daemon.config import StoreSettings, cores, load
from daemon.errors import shown
from daemon.job import job_schema
from daemon.once import run_once


def serve(config: ConfigOption = None) -> None:
    """The daemon. SIGTERM drains it, a second one ends it at once."""
    settings = load(config)
    log.set_up(settings.log.format, settings.log.level)

    async def run() -> None:
        daemon = Daemon(settings)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, daemon.stop)
        await daemon.run()

    asyncio.run(run())


@with_outputs
def run(
    what: Annotated[str, typer.Argument(metavar="JOB.json|VIDEO", help="A job file, or a video.")],
    out: Annotated[Path, typer.Option(help="Where the pictures go.", file_okay=False)] = Path(),
    as_json: JsonOption = False,
    config: ConfigOption = None,
    *,
    options: dict[str, Any],
) -> None:
    """One job without a daemon, with your own rights."""
    job = job_file(what, options) if is_job_file(what) else job_of(what, options)
    destination = (job.destination or job.id or Path(what).stem) if is_job_file(what) else ""
    settings = load(config).model_copy(
        update={"store": StoreSettings(root=out, background=load(config).store.background)}
    )
    with progress_bars() as progress:
        bar = progress.add_task(Path(shown(job.source)).name, total=None)
        told = lambda done, in_all: progress.update(bar, completed=done, total=in_all or None)  # noqa: E731
        report = asyncio.run(run_once(job, settings, destination, told, threads=max(2, cores())))
        if report.status == "completed":
            progress.update(bar, completed=1, total=1)
    show_report(report, out, as_json)


def schema() -> None:
    """JSON Schema of a job."""
    print(json.dumps(job_schema(), indent=1))


def check(config: ConfigOption = None) -> None:
    """What this machine can do, and whether the settings work."""
    from daemon.check import check_machine  # here: image libraries take half a second, and others need none

    sys.exit(0 if asyncio.run(check_machine(load(config), Console(soft_wrap=True))) else 1)


def demo(
    video: Annotated[Path | None, typer.Option(help="Your own film instead of the sample.", dir_okay=False)] = None,
    out: Annotated[Path | None, typer.Option(help="Where to; default: a new temporary folder.")] = None,
    seconds: Annotated[float, typer.Option(help="Length of the sample film.", min=2, max=600)] = 60,
) -> None:
    """Makes a film, starts a daemon, drops a job, and shows what comes out."""
    from daemon.demo.command import run_demo  # here: as above

    sys.exit(run_demo(video, out, seconds))
