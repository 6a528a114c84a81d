"""`thumbd check`: what this machine can do, and whether the settings work on it."""

import sqlite3
import sys
from importlib.metadata import version

import PIL
from rich.console import Console
from sqlalchemy import make_url, text
from sqlalchemy.exc import ArgumentError

from daemon.app import build_worker
from daemon.config import Settings, cores
from daemon.errors import Failure
from daemon.jobs.database import open_engine
from daemon.media.encode import encoders
from daemon.store.folder import Folder


async def check_machine(settings: Settings, console: Console) -> bool:
    """Prints one line for each thing; True if a daemon could run."""
    good = True

    def say(what: str, fine: bool, how: str) -> None:
        nonlocal good
        good = good and fine
        console.print(f"{'ok  ' if fine else 'FAIL'}  {what:<12} {how}", markup=False, highlight=False)

    say("thumbd", True, f"{version('thumbd')}, Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}")
    worker = build_worker(settings)
    try:
        await worker.start()
        say("device", True, f"{worker.device} (asked: {settings.device}); PyAV {version('av')}, FFmpeg {worker.ffmpeg}")
        say("gpu", True, "none used: this version decodes on the CPU")
    except Failure as failure:
        say("device", False, failure.message)
    finally:
        await worker.kill()
    for format, library in encoders().items():
        say(format, library is not None, f"Pillow {PIL.__version__}, library {library or 'missing'}")
    say("workers", True, f"{settings.worker_processes} x {settings.worker_threads} threads on {cores()} cores")
    for name, root in (("store.root", settings.store.root), ("spool.root", settings.spool.root)):
        try:
            Folder(root).check()
            say(name, True, f"{root.resolve()} takes files, {Folder(root).free_bytes() >> 20} MiB free")
        except Failure as failure:
            say(name, False, f"{root}: {failure.message}")
    try:
        engine = open_engine(settings.database)
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        engine.dispose()
        say("database", True, engine.url.render_as_string())
    except Failure as failure:
        say("database", False, failure.message)
    roots = settings.sources.roots
    for root in roots:
        say("sources", root.is_dir(), str(root) if root.is_dir() else f"{root} is not there")
    if not roots:
        say("sources", True, "none may be read by the daemon: name folders in the setting sources.roots")
    console.print("\nsettings in force:", highlight=False)
    shown = settings.model_copy(update={"database": _without_password(settings.database)})
    for line in shown.model_dump_json(indent=1).splitlines()[1:-1]:
        console.print(line, markup=False, highlight=False)
    return good


def _without_password(url: str) -> str:
    try:
        return make_url(url).render_as_string()
    except ArgumentError:
        return url.rpartition("@")[2]
