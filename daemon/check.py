"""`thumbd check`: what this machine can do, and whether the settings work on it."""

import asyncio
import errno
import json
import sqlite3
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import httpx
import PIL
from rich.console import Console
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from daemon.build import build_store, build_worker
from daemon.catalogue import organisations
from daemon.config import HttpSettings, Settings, StoreSettings, cores
from daemon.database import open_engine
from daemon.errors import Failure
from daemon.media.encode import encoders
from daemon.serving import listening_socket
from daemon.store.folder import Folder
from daemon.threads import in_thread

CARDS = [sys.executable, "-P", "-m", "daemon.media.cards"]
DOOR_SECONDS = 5.0  # for whoever listens where the API is to
CARDS_SECONDS = 60.0  # CUDA takes seconds to start where there are several GPUs


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
    except Failure as failure:
        say("device", False, failure.message)
    finally:
        await worker.kill()
    _say_cards(*await ask_cards(), settings.device, say)
    for format, library in encoders().items():
        say(format, library is not None, f"Pillow {PIL.__version__}, library {library or 'missing'}")
    say("workers", True, f"{settings.worker_processes} x {settings.worker_threads} threads on {cores()} cores")
    if settings.store.url:
        say("store.url", *await _bucket(settings.store))
    folders = {
        "store.root": settings.store.root,
        "spool.root": settings.spool.root,
        "uploads.root": settings.uploads.root,
    }
    for name, root in folders.items():
        try:
            Folder(root).check()
            say(name, True, f"{root.resolve()} takes files, {Folder(root).free_bytes() >> 20} MiB free")
        except Failure as failure:
            say(name, False, failure.message)
    try:
        engine = open_engine(settings.database)
        with engine.connect() as connection:
            found = organisations.all_of_them(connection)
        engine.dispose()
        say("database", True, engine.url.render_as_string())
        keys = sum(each.keys for each in found)
        say("orgs", True, f"{len(found)} with {keys} API keys" if found else "none: `thumbd org add NAME` adds one")
    except Failure as failure:
        say("database", False, failure.message)
    say("http.listen", *await _door(settings.http))
    for name, listen in (("metrics.listen", settings.metrics.listen), ("grpc.listen", settings.grpc.listen)):
        if listen:
            say(name, *await _listener(listen, settings.metrics.listen))
    roots = settings.sources.roots
    for root in roots:
        say("sources", root.is_dir(), str(root) if root.is_dir() else f"{root} is not there")
    if not roots:
        say("sources", True, "no files may be read by the daemon: name folders in the setting sources.roots")
    console.print("\nsettings in force:", highlight=False)
    shown = settings.model_copy(update={"database": _without_password(settings.database)})
    for line in shown.model_dump_json(indent=1).splitlines()[1:-1]:
        console.print(line, markup=False, highlight=False)
    return good


async def _bucket(settings: StoreSettings) -> tuple[bool, str]:
    """Whether the bucket takes objects."""
    store = build_store(settings)
    try:
        await in_thread(store.check)
        return True, f"{settings.url} at {settings.s3.place} takes, lists and removes objects"
    except Failure as failure:
        return False, failure.message
    finally:
        await store.close()


async def _door(http: HttpSettings) -> tuple[bool, str]:
    """Whether the API can listen where it is to, or a daemon does already; and how clients find it."""
    if not http.listen:
        return True, "nowhere: there will be no HTTP API"
    found = f"{http.listen}, clients find it at {http.base_url} (setting http.public_url)"
    try:
        listening_socket(http.listen).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE and await _answers(f"http://{http.listen}/openapi.json", _is_ours):
            return True, f"{found}; a daemon listens there now"
        return False, f"{http.listen}: {error.strerror}: give another host:port"
    return True, found


async def _listener(listen: str, metrics: str) -> tuple[bool, str]:
    """Whether one can listen there, or a daemon does already: its probes say that it is one."""
    try:
        listening_socket(listen).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE and await _answers(f"http://{metrics}/livez", lambda said: "ok" in said):
            return True, f"{listen}; a daemon is running there now"
        return False, f"{listen}: {error.strerror}: give another host:port"
    return True, listen


def _is_ours(document: Any) -> bool:
    return bool(document["info"]["title"] == "thumbd")


async def _answers(url: str, rightly: Callable[[Any], bool]) -> bool:
    """Whether the JSON that is there is what a daemon would say."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=DOOR_SECONDS) as client:
            return rightly((await client.get(url)).json())
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError):
        return False


async def ask_cards() -> tuple[str | None, list[dict[str, Any]]]:
    """Why there is no GPU, or the GPUs that there are, as `daemon.media.cards` has them."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*CARDS, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(CARDS_SECONDS):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.communicate()
        return f"the look at the GPUs took more than {CARDS_SECONDS:g} s", []
    try:
        answer = json.loads(out.splitlines()[-1])
        return answer["why_none"], answer["cards"]
    except (IndexError, ValueError):
        last = next(reversed(err.decode(errors="replace").splitlines()), "")
        return f"the look at the GPUs ended with status {process.returncode} {last}".strip(), []


def _say_cards(
    why: str | None, cards: list[dict[str, Any]], device: str, say: Callable[[str, bool, str], None]
) -> None:
    """A GPU that is not there, or broken, is a fault only where it would be used."""
    if not cards:
        say("gpu", not device.startswith("cuda"), f"none: {why}")
    for card in cards:
        what = f"gpu {card['index']}"
        free, total = card["free_bytes"] >> 20, card["total_bytes"] >> 20
        about = f"{card['name']}, driver {card['driver']}, {card['engines']} NVDEC engines"
        say(what, True, f"{about}, {free} of {total} MiB free")
        formats = ", ".join(f"{name} up to {width}x{height}" for name, (width, height) in card["formats"].items())
        trouble = card["trouble"]
        right = f"NOT right: {trouble}" if trouble else "right"
        used = device in ("auto", "cuda", f"cuda:{card['index']}")
        say(what, not (trouble and used), f"decodes {formats or 'nothing'}; the test clip is {right}")


def _without_password(url: str) -> str:
    try:
        return make_url(url).render_as_string()
    except ArgumentError:
        return url.rpartition("@")[2]
