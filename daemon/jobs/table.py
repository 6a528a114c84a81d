"""The verbs of those who bring jobs, ask for them and clear them away. Each is one function of a connection, to be run
by `Database.run`."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from daemon.errors import Cancelled
from daemon.jobs import errands
from daemon.jobs.errands import NewErrand
from daemon.jobs.retry import Again, History
from daemon.jobs.row import Known, ended, failed_report, held_of, known_of, queued_again
from daemon.tables import ENDED, FAILED, PUBLISHING, QUEUED, RUNNING, jobs, now


@dataclass(frozen=True)
class NewJob:
    """A checked job on its way into the table. `report_to`: the spool name under which its report is wanted. `errands`:
    what will be owed for it besides."""

    key: str
    org: str
    id: str
    source: str
    destination: str
    priority: int
    job: str
    report_to: str | None = None
    errands: tuple[NewErrand, ...] = ()

    @property
    def owes_at_once(self) -> bool:
        return any(errand.event == QUEUED for errand in self.errands)


@dataclass(frozen=True)
class Owed:
    """A report that is still to be written under these spool names."""

    key: str
    id: str
    report: str
    failed: bool
    names: tuple[str, ...]


def add(connection: Connection, new: NewJob) -> Known | None:
    """Takes a job in, and returns it; None where it is known already (same key, or same id of the same organisation).
    Then its report goes to the new name too."""
    names = [new.report_to] if new.report_to else []
    values = {
        "key": new.key,
        "org": new.org,
        "id": new.id,
        "source": new.source,
        "destination": new.destination,
        "priority": new.priority,
        "job": new.job,
        "reports_to": json.dumps(names),
    }
    if (taken := connection.execute(_insertion(connection.dialect.name), values).one_or_none()) is not None:
        errands.add(connection, new.key, new.org, new.errands)
        return known_of(taken)
    known = or_(jobs.c.key == new.key, and_(jobs.c.org == new.org, jobs.c.id == new.id))
    found = select(jobs.c.key, jobs.c.reports_to, jobs.c.state).where(known).order_by(jobs.c.key == new.key).limit(1)
    row = connection.execute(found.with_for_update()).one_or_none()
    if row is None:
        return add(connection, new)  # it was forgotten in between
    if names:
        union = json.dumps(sorted({*json.loads(row.reports_to), *names}))
        also = {"reports_to": union, "report_due": row.state in ENDED}
        connection.execute(update(jobs).where(jobs.c.key == row.key).values(also))
    return None


@cache
def _insertion(dialect: str) -> Any:
    insert = postgresql.insert(jobs) if dialect == "postgresql" else sqlite.insert(jobs)
    given = ("key", "org", "id", "source", "destination", "priority", "job", "reports_to")
    taken: dict[str, Any] = {name: bindparam(name) for name in given}
    values = {**taken, "state": QUEUED, "created_at": now(), "run_at": now()}
    return insert.values(values).on_conflict_do_nothing().returning(jobs)


def cancel(connection: Connection, org: str | None, id: str) -> str | None:
    """Ends a queued job, asks for the end of a running one; the state it was in, None if there is no such job."""
    row = _find(connection, org, id, change=True)
    if row is None:
        return None
    values: dict[str, Any] = {"cancelled": True}
    if row.state == QUEUED:
        values |= {"state": FAILED, "report": failed_report(held_of(row), Cancelled("cancelled")), **ended()}
    if row.state not in ENDED:
        connection.execute(update(jobs).where(jobs.c.key == row.key).values(values))
    if row.state == QUEUED:
        errands.job_ended(connection, row.key, FAILED)
    return str(row.state)


def retry(connection: Connection, org: str | None, id: str) -> str | None:
    """Queues a failed job anew, its history forgotten; the state it was in, None if there is no such job."""
    row = _find(connection, org, id, change=True)
    if row is None:
        return None
    if row.state == FAILED:
        fresh = {"ended_at": None, "report": None, "report_due": False, "cancelled": False}
        values = queued_again(Again(0.0, History())) | fresh
        connection.execute(update(jobs).where(jobs.c.key == row.key).values(values))
        errands.job_again(connection, row.key)
    return str(row.state)


def get(connection: Connection, org: str | None, id: str) -> Known | None:
    row = _find(connection, org, id)
    return None if row is None else known_of(row)


def get_by_key(connection: Connection, key: str) -> Known | None:
    row = connection.execute(select(jobs).where(jobs.c.key == key)).one_or_none()
    return None if row is None else known_of(row)


def latest(connection: Connection, most: int, states: Sequence[str] = ()) -> list[Known]:
    """The newest jobs, the newest first."""
    return list(_newest_first(connection, most, states))


def page(
    connection: Connection, most: int, letters: int, states: Sequence[str], org: str, before: str | None
) -> tuple[list[Known], bool]:
    """The newest jobs of an organisation, older than the one with the key `before`, and whether there are more. It ends
    before their reports have more than so many letters, but has a job."""
    found: list[Known] = []
    for known in _newest_first(connection, most + 1, states, org, before):
        letters -= len(known.told or "")
        if found and (len(found) == most or letters < 0):
            return found, True
        found.append(known)
    return found, False


def _newest_first(
    connection: Connection, most: int, states: Sequence[str], org: str | None = None, before: str | None = None
) -> Iterator[Known]:
    chosen = select(jobs, now().label("waited")).order_by(jobs.c.key.desc()).limit(most)
    if org is not None:
        chosen = chosen.where(jobs.c.org == org)
    if before is not None:
        chosen = chosen.where(jobs.c.key < before)
    if states:
        chosen = chosen.where(jobs.c.state.in_(states))
    with connection.execute(chosen, execution_options={"yield_per": 20}) as rows:  # whoever asks may have enough
        yield from map(known_of, rows)


def counts(connection: Connection) -> dict[str, int]:
    """How many jobs there are in each state."""
    grouped = select(jobs.c.state, func.count()).group_by(jobs.c.state)
    return {row[0]: row[1] for row in connection.execute(grouped)}


def oldest_queued(connection: Connection) -> float | None:
    """When the oldest job that waits came in, in seconds since 1970."""
    return connection.execute(select(func.min(jobs.c.created_at)).where(jobs.c.state == QUEUED)).scalar()


def running_by_org(connection: Connection) -> dict[str, int]:
    grouped = select(jobs.c.org, func.count()).where(jobs.c.state == RUNNING).group_by(jobs.c.org)
    return {row[0]: row[1] for row in connection.execute(grouped)}


def owed(connection: Connection, most: int) -> list[Owed]:
    """Reports that are due, the oldest first."""
    due = select(jobs).where(jobs.c.report_due).order_by(jobs.c.ended_at).limit(most)
    return [
        Owed(row.key, row.id, row.report, row.state == FAILED, tuple(json.loads(row.reports_to)))
        for row in connection.execute(due)
    ]


def reported(connection: Connection, paid: Sequence[Owed]) -> None:
    """These reports were written, as they were and under all the names that were asked for when they were read."""
    for report in paid:
        names = jobs.c.reports_to == json.dumps(sorted(report.names))
        same = and_(jobs.c.key == report.key, jobs.c.report == report.report, names)
        connection.execute(update(jobs).where(same).values(report_due=False))


def stagings_over(connection: Connection, names: Sequence[str]) -> set[str]:
    """Those of these staging folders whose attempt is over. Of names that the table does not know it says nothing."""
    keys = {name.partition(".")[0] for name in names}
    known = select(jobs.c.key, jobs.c.token, jobs.c.state).where(jobs.c.key.in_(keys))
    live = {}
    for row in connection.execute(known):
        live[row.key] = f"{row.key}.{row.token}" if row.state in (RUNNING, PUBLISHING) else ""
    return {name for name in names if (key := name.partition(".")[0]) in live and live[key] != name}


def forget(connection: Connection, older_than: float, most: int = 1000) -> int:
    """Removes jobs that ended more than `older_than` seconds ago and owe nothing; how many."""
    old = (
        select(jobs.c.key)
        .where(jobs.c.state.in_(ENDED), jobs.c.ended_at < now() - older_than, jobs.c.report_due.is_(False))
        .where(jobs.c.key.not_in(errands.owing_jobs()))
        .limit(most)
    )
    # Its state once more: somebody may just have queued it again.
    mine = delete(jobs).where(jobs.c.key.in_(old), jobs.c.state.in_(ENDED))
    gone = connection.execute(mine.returning(jobs.c.key)).scalars().all()
    errands.forget(connection, gone)
    return len(gone)


def _find(connection: Connection, org: str | None, id: str, *, change: bool = False) -> Row[Any] | None:
    return connection.execute(_newest(org is not None, change), {"its_id": id, "its_org": org}).one_or_none()


@cache
def _newest(of_org: bool, change: bool) -> Any:
    found = select(jobs, now().label("waited")).where(jobs.c.id == bindparam("its_id"))
    if of_org:
        found = found.where(jobs.c.org == bindparam("its_org"))
    found = found.order_by(jobs.c.key.desc()).limit(1)
    return found.with_for_update() if change else found
