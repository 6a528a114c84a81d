"""Jobs of a running daemon: through its spool and job table, or over HTTP."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn
from urllib.parse import urlsplit

import typer
from sqlalchemy import Connection

from daemon.cli import spool
from daemon.cli.asked import Asked, asked, source_of
from daemon.cli.beside import ConfigOption, ask_once
from daemon.cli.options import with_outputs
from daemon.cli.terminal import JsonOption, fail, show_report
from daemon.config import Settings, load
from daemon.errors import shown
from daemon.jobs import errands, table
from daemon.jobs.row import Known
from daemon.tables import DONE, FAILED, QUEUED, RUNNING

UrlOption = Annotated[
    str | None, typer.Option("--url", help="Of a daemon's HTTP API; THUMBD_API_KEY in the environment has the key.")
]


@with_outputs
def submit(
    what: Annotated[list[str], typer.Argument(metavar="JOB.json…|VIDEO", help="Job files, or one video.")],
    url: UrlOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until the jobs are over, with progress.")] = False,
    priority: Annotated[str | None, typer.Option(help="high, normal or low.")] = None,
    destination: Annotated[str | None, typer.Option(help="Folder below the store's root.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="With --url: wait, and save the files here.", file_okay=False)
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    *,
    options: dict[str, Any],
) -> None:
    """Drops jobs into the spool of a running daemon, or posts them to one at a URL."""
    more = {key: value for key, value in {"priority": priority, "destination": destination}.items() if value}
    jobs = [asked(each, each if url else source_of(each), options, more) for each in what]
    if url is None:
        if out is not None:
            fail("--out goes with --url: beside a daemon the pictures are in its store", 2)
        completed = _through_spool(load(config), jobs, wait, as_json)
    else:
        from daemon.cli import remote  # here: who speaks to no daemon waits for no HTTP library

        if wait or out is not None:
            completed = remote.submit_and_wait(url, jobs, out, as_json)
        else:
            remote.submit(url, jobs)
            completed = True
    if not completed:
        sys.exit(1)


def _through_spool(settings: Settings, jobs: Sequence[Asked], wait: bool, as_json: bool) -> bool:
    """Whether none has failed that was waited for."""
    before = [refusal for each in jobs for refusal in spool.refusals(settings, each)]
    for each in jobs:
        spool.drop(settings, each)
    if not wait:
        for each in jobs:
            print(each.id)
        return True
    reports = spool.wait_for(settings, jobs, before)
    for report in reports:
        show_report(report, settings.store.root, as_json, leave=False)
    return all(report.status == "completed" for report in reports)


def status(
    id: Annotated[str | None, typer.Argument(help="A job; without it the newest ones.")] = None,
    url: UrlOption = None,
    most: Annotated[int, typer.Option(help="How many of the newest.", min=1, max=10_000)] = 20,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """What the job table knows, or a daemon at a URL."""
    if url is not None:
        from daemon.cli import remote  # here: as above

        remote.status(url, id, most, as_json)
        return
    settings = load(config)
    if id is not None:
        known, owed = ask_once(settings, lambda c: _with_errands(c, table.get(c, None, id)))
        if known is None:
            _fail_missing(settings, id)
        print(json.dumps(known.report.as_dict(), indent=1) if as_json else _line_of(known))
        if not as_json:
            print("".join(f"  {_line_of_errand(errand)}\n" for errand in owed if errand.state != DONE), end="")
        return
    newest = ask_once(settings, lambda c: table.latest(c, most))
    if as_json:
        print(json.dumps([known.report.as_dict() for known in newest], indent=1))
        return
    for known in newest:
        print(_line_of(known))
    counts = ask_once(settings, table.counts)
    print("  ".join(f"{state}: {count}" for state, count in counts.items()) or "no jobs yet")


def retry(id: str, url: UrlOption = None, config: ConfigOption = None) -> None:
    """Queues a failed job again."""
    if url is not None:
        from daemon.cli import remote  # here: as above

        remote.retry(url, id)
        return
    settings = load(config)
    state = ask_once(settings, lambda c: table.retry(c, None, id))
    _tell_change(settings, id, state, FAILED, "queued again", "only failed jobs can be run again")


def cancel(id: str, url: UrlOption = None, config: ConfigOption = None) -> None:
    """Ends a job that waits or runs."""
    if url is not None:
        from daemon.cli import remote  # here: as above

        remote.cancel(url, id)
        return
    settings = load(config)
    state = ask_once(settings, lambda c: table.cancel(c, None, id))
    _tell_change(settings, id, "running" if state == QUEUED else state, "running", "cancelled", "it is over already")


def _tell_change(settings: Settings, id: str, state: str | None, needed: str, done: str, otherwise: str) -> None:
    if state is None:
        _fail_missing(settings, id)
    if state != needed:
        fail(f"job {id!r} is {state}: {otherwise}", 1)
    print(f"{id}: {done}")


def _fail_missing(settings: Settings, id: str) -> NoReturn:
    lying = spool.lying(settings)
    perhaps = f"; a file that still lies in {lying} is not known before a daemon takes it in" if lying else ""
    fail(f"there is no job {id!r}: `thumbd status` lists the newest{perhaps}", 1)


def _with_errands(connection: Connection, known: Known | None) -> tuple[Known | None, list[errands.Known]]:
    return known, errands.of(connection, known.key) if known else []


def _line_of_errand(errand: errands.Known) -> str:
    """What is still owed, or was not paid. Of a callback only the host is told: the rest of its URL may be a secret."""
    where = ", ".join(errand.target.get("outputs", ()))
    if errand.kind == "callback":
        where = urlsplit(errand.target["url"]).netloc
    elif errand.kind == "delivery":
        where = errand.target["target"]["url"]
    tries = f"after {errand.attempts} failed attempts" if errand.attempts and errand.state != FAILED else ""
    return "  ".join(said for said in (errand.kind, errand.state, where, tries, errand.message or "") if said)


def _line_of(known: Known) -> str:
    """One line a job, for eyes and for grep: id, org, state, source, and what is to be said."""
    said = known.report.error.message if known.report.error else ""
    if known.state == RUNNING and known.pictures_in_all:
        said = f"{known.pictures_made} of {known.pictures_in_all} pictures"
    return f"{known.id:<26}  {known.org:<10}  {known.state:<10}  {shown(known.source)}  {said}".rstrip()
