"""Jobs of a daemon anywhere, over its HTTP API."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from time import monotonic, sleep
from typing import ParamSpec, TypeVar

import httpx

from daemon.catalogue.organisations import DEFAULT
from daemon.cli.asked import Asked
from daemon.cli.client import Client, RemoteJob
from daemon.cli.terminal import INTERRUPTED, errors, fail, plain, progress_bars
from daemon.errors import BadJob, BadRequest, Cancelled, FailedPrecondition, Later, NotFound

P = ParamSpec("P")
T = TypeVar("T")

KEY = "THUMBD_API_KEY"
_LONG, _SHORT = 30.0, 1.0  # seconds that the daemon is asked to wait where nobody watches, and where somebody does
_PATIENCE = 60.0  # seconds that a daemon may be away while its jobs are waited for


def submit(url: str, jobs: Sequence[Asked]) -> None:
    """Posts jobs and prints their ids, each as soon as it is accepted."""
    with _daemon(url) as client:
        for asked in jobs:
            _post(client, asked)
            print(asked.id, flush=True)


def submit_and_wait(url: str, jobs: Sequence[Asked], out: Path | None, as_json: bool) -> bool:
    """Posts jobs, waits until they are over, and shows their reports; with `out` their files are saved below it.
    Whether all are completed."""
    with _daemon(url) as client:
        for asked in jobs:
            _post(client, asked)
        try:
            over = _wait(client, jobs)
            for asked, job in zip(jobs, over, strict=True):
                files = _links(job) if out is None else _saved(client, asked, job, out)
                _show(job, files, as_json)
        except KeyboardInterrupt:
            ids = " ".join(asked.id for asked in jobs)
            fail(f"interrupted: the daemon goes on with {ids}: see `thumbd status --url {client.url}`", INTERRUPTED)
    return all(job.status == "completed" for job in over)


def status(url: str, id: str | None, most: int, as_json: bool) -> None:
    with _daemon(url) as client:
        found = client.jobs(most) if id is None else [client.job(id)]
    if as_json:
        shown = [job.model_dump(mode="json") for job in found]
        print(json.dumps(shown if id is None else shown[0], indent=1))
        return
    for job in found:
        print(_line_of(job))
    if not found:
        print("no jobs yet")


def retry(url: str, id: str) -> None:
    with _daemon(url) as client:
        try:
            client.retry(id)
        except FailedPrecondition as otherwise:
            fail(otherwise.message, 1)
    print(f"{id}: queued again")


def cancel(url: str, id: str) -> None:
    with _daemon(url) as client:
        job = client.cancel(id)
    if job.over and not (job.error and job.error.code == Cancelled.code):
        fail(f"job {id!r} is {job.status}: it is over already", 1)
    print(f"{id}: cancelled")


@contextmanager
def _daemon(url: str) -> Iterator[Client]:
    key = os.environ.get(KEY, "").strip()
    if not key:
        fail(f"no API key: put the one that `thumbd org add` printed into {KEY}", 2)
    if not (key.isascii() and key.isprintable()):
        fail(f"{KEY} holds no API key: put the one that `thumbd org add` printed into it", 2)
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.userinfo or parsed.query or parsed.fragment:
        fail("--url: write http://host:port, as in http://127.0.0.1:8080", 2)
    with Client(url, key) as client:
        try:
            yield client
        except NotFound as missing:
            fail(f"{missing.message}, says {client.url}", 1)


def _post(client: Client, asked: Asked) -> None:
    try:
        client.submit(asked.job)
    except (BadJob, BadRequest) as bad:
        raise BadJob(f"{asked.what}: {bad.message}") from None


def _wait(client: Client, jobs: Sequence[Asked]) -> list[RemoteJob]:
    """Until every job is over, showing how far each is."""
    known: dict[str, RemoteJob] = {}
    names = {asked.id: asked.stem for asked in jobs}
    with progress_bars() as progress:
        bars = {id: progress.add_task(f"{name} (waiting)", total=None) for id, name in names.items()}
        while waiting := [id for id in names if id not in known or not known[id].over]:
            # The daemon waits with us for the first one; the others are looked at where somebody watches.
            for n, id in enumerate(waiting[:1] if progress.disable else waiting):
                seconds = 0 if n else _LONG if progress.disable else _SHORT
                job = known[id] = _patiently(client.job, id, seconds)
                about = f"{names[id]} ({job.status})"
                done, in_all = (1, 1) if job.over else (job.made, job.in_all or None)
                progress.update(bars[id], description=about, completed=done, total=in_all)
    return [known[id] for id in names]


def _patiently(ask: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The answer, once there is one: the daemon may be starting again."""
    until = monotonic() + _PATIENCE
    while True:
        try:
            return ask(*args, **kwargs)
        except Later as later:
            if monotonic() + later.retry_after > until:
                raise
            sleep(later.retry_after)


def _links(job: RemoteJob) -> list[str]:
    """The signed URLs of what was published."""
    return [url for output in job.outputs for url in output.urls.values()]


def _saved(client: Client, asked: Asked, job: RemoteJob, out: Path) -> list[str]:
    """Saves what was published as it lies below the job's destination, and says where."""
    saved = []
    for output in job.outputs:
        for path, url in output.urls.items():
            file = out / asked.folder / _below(asked, job, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_name(f".{file.name}.part")
            try:
                client.fetch(url, part)
                part.replace(file)
            except OSError as error:
                fail(f"{file} cannot be written: {error.strerror}", 1)
            finally:
                part.unlink(missing_ok=True)
            saved.append(str(file))
    return saved


def _below(asked: Asked, job: RemoteJob, path: str) -> PurePosixPath:
    """A published file below the job's destination. It is another machine that names it."""
    store = "" if job.org == DEFAULT else f"orgs/{job.org}/"
    file = PurePosixPath(path.removeprefix(f"{store}{asked.destination}/"))
    if file.is_absolute() or any(part.startswith(".") for part in file.parts) or not path.isprintable():
        fail(f"the daemon named a file {path!r}: it is not saved", 1)
    return file


def _show(job: RemoteJob, files: Sequence[str], as_json: bool) -> None:
    for warning in job.warnings:
        errors.print(f"thumbd: warning: {plain(warning)}", markup=False)
    if as_json:
        print(json.dumps(job.model_dump(mode="json"), indent=1))
    else:
        for file in files:
            print(plain(file))
    if job.error is not None:
        message = f"{job.error.output}: {job.error.message}" if job.error.output else job.error.message
        errors.print(f"thumbd: {plain(job.id)}: {plain(message)}", markup=False)


def _line_of(job: RemoteJob) -> str:
    """One line a job, as of the table's: id, org, state, and what is to be said."""
    said = job.error.message if job.error else ""
    if job.status == "processing" and job.in_all:
        said = f"{job.made} of {job.in_all} pictures"
    return plain(f"{job.id:<26}  {job.org:<10}  {job.status:<10}  {said}".rstrip())
