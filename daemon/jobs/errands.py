"""The verbs of what jobs owe: callbacks, deliveries to buckets, the removal of files that expire.

All that a job will ever owe is written down with it, asleep; the change of the job's state that makes it due wakes it
in the same transaction, so that no crash loses any of it. From then on errands are claimed as jobs are: whoever runs
one holds its fencing token, and every change is conditional on it.

    dormant ── the job's state is the errand's event ──► due ── claim ──► running ── finish ──► done, failed
                                                          ▲                  │
                                                          └── put back, release, take over

What is sealed in an errand is gone in the transaction in which the errand, or a job that fails, ends.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    true,
    update,
)

from daemon.jobs.fairness import Candidate, in_turn
from daemon.tables import COMPLETED, DORMANT, DUE, ENDED, QUEUED, RUNNING, errands, jobs, now
from daemon.ulid import new_ulid

Kind = Literal["callback", "delivery", "expiry"]
Event = Literal["queued", "completed", "failed"]
KINDS: tuple[Kind, ...] = ("callback", "delivery", "expiry")
_OPEN = (DUE, RUNNING)


@dataclass(frozen=True)
class NewErrand:
    """On its way into the table with its job. `event`: what makes it due, `delay` seconds later. `secret` is sealed."""

    key: str
    kind: Kind
    event: Event
    target: Mapping[str, Any]
    dialect: str = ""
    secret: str | None = None
    delay: float = 0.0


@dataclass(frozen=True)
class Errand:
    """One that was claimed, under its token. `job` is the job's key, `job_id` what the outside calls it."""

    key: str
    token: int
    job: str
    job_id: str
    org: str
    kind: Kind
    event: Event
    dialect: str
    target: Mapping[str, Any]
    secret: str | None
    attempts: int


@dataclass(frozen=True)
class Known:
    """What the table knows of an errand, for those who ask. `state`: due, running, done or failed; a delivery may also
    be dormant, its job not being completed."""

    key: str
    kind: Kind
    event: Event
    target: Mapping[str, Any]
    state: str
    attempts: int
    due_at: float | None
    message: str | None


def add(connection: Connection, job: str, org: str, owing: Sequence[NewErrand]) -> None:
    """Writes down what a new, queued job will owe."""
    for new in owing:
        due = new.event == QUEUED
        connection.execute(
            insert(errands).values(
                key=new.key,
                job=job,
                org=org,
                kind=new.kind,
                event=new.event,
                dialect=new.dialect,
                target=json.dumps(new.target),
                secret=new.secret,
                delay=new.delay,
                state=DUE if due else DORMANT,
                due_at=now() + new.delay if due else None,
                created_at=now(),
            )
        )


def job_ended(connection: Connection, job: str, state: str) -> bool:
    """Wakes what is owed now; of a job that failed nothing sealed is left. Whether the job has errands at all."""
    if connection.execute(_ANY, {"its_job": job}).first() is None:
        return False  # as most do
    mine = update(errands).where(errands.c.job == job, errands.c.state == DORMANT)
    if state == COMPLETED:
        connection.execute(mine.where(errands.c.kind == "delivery").values(state=DUE, due_at=now()))
    else:
        connection.execute(mine.where(errands.c.secret.is_not(None)).values(secret=None))
    _wake_the_rest(connection, job)
    return True


def _wake_the_rest(connection: Connection, job: str) -> None:
    """What follows a job's end waits until its deliveries are over: files are not removed before, and who is called
    back finds them. A callback waits also until those before it were tried once."""
    other = errands.alias()
    delivering = exists().where(other.c.job == job, other.c.kind == "delivery", other.c.state.in_(_OPEN))
    untried = or_(other.c.state == RUNNING, and_(other.c.state == DUE, other.c.attempts == 0))
    calling = exists().where(other.c.job == job, other.c.kind == "callback", other.c.event == QUEUED, untried)
    of_job = select(jobs.c.state).where(jobs.c.key == job, jobs.c.state.in_(ENDED)).scalar_subquery()
    since = select(jobs.c.ended_at).where(jobs.c.key == job).scalar_subquery()
    connection.execute(
        update(errands)
        .where(errands.c.job == job, errands.c.state == DORMANT, errands.c.kind != "delivery")
        .where(errands.c.event == of_job, ~delivering, or_(errands.c.kind != "callback", ~calling))
        .values(state=DUE, due_at=since + errands.c.delay)
    )


def job_again(connection: Connection, job: str) -> None:
    """A failed job is queued anew by hand: what it owes is asleep again, and whoever runs some of it holds it no more.
    Those who were told of its failure will know the next one as another."""
    asleep = {"state": DORMANT, "due_at": None, "attempts": 0, "owner": None, "lease_until": None}
    mine = select(errands.c.key).where(errands.c.job == job, errands.c.event != QUEUED)
    for key in connection.execute(mine.order_by(errands.c.key)).scalars().all():
        values = {"key": new_ulid(), "message": None, "ended_at": None, **asleep}
        connection.execute(update(errands).where(errands.c.key == key).values(values))


def claim(connection: Connection, owner: str, room: Mapping[Kind, int], lease: float) -> list[Errand]:
    """Errands that are due for `owner`, of each kind as many as there is room for, fairly over organisations."""
    wanted = [kind for kind, most in room.items() if most > 0]
    if not wanted:
        return []
    # Mostly there is nothing at all: one cheap question tells.
    there = connection.execute(_which_are_due(*wanted)).one()
    keys: list[str] = []
    for kind in (kind for kind, any_due in zip(wanted, there, strict=True) if any_due):
        rows = connection.execute(_next_in_line(connection.dialect.name, kind, room[kind])).all()
        candidates = [Candidate(row.key, row.org, (0, row.due_at, row.key)) for row in rows]
        keys += [each.key for each in in_turn(candidates, _running(connection, kind), {}, room[kind])]
    return _take(connection, keys, owner, lease) if keys else []


@cache
def _which_are_due(*kinds: Kind) -> Any:
    return select(*(exists().where(errands.c.state == DUE, errands.c.kind == kind) for kind in kinds))


@cache
def _next_in_line(dialect: str, kind: Kind, each: int) -> Any:
    """The first `each` due ones of every organisation, found as the job table finds its own."""
    due = and_(errands.c.state == DUE, errands.c.kind == kind)
    orgs = select(func.min(errands.c.org).label("org")).where(due).cte("orgs", recursive=True)
    following = select(func.min(errands.c.org)).where(due, errands.c.org > orgs.c.org).correlate(orgs)
    orgs = orgs.union_all(select(following.scalar_subquery()).where(orgs.c.org.is_not(None)))
    heads = (
        select(errands.c.key, errands.c.org, errands.c.due_at)
        .where(due, errands.c.org == orgs.c.org, errands.c.due_at <= now())
        .order_by(errands.c.due_at, errands.c.key)
        .limit(each)
        .correlate(orgs)
    )
    if dialect == "postgresql":
        first = heads.lateral()
        return select(first).select_from(orgs.join(first, true()))
    found = errands.c.key.in_(heads.with_only_columns(errands.c.key))
    return select(errands.c.key, errands.c.org, errands.c.due_at).select_from(orgs.join(errands, found))


def _running(connection: Connection, kind: Kind) -> Counter[str]:
    running = select(errands.c.org, func.count()).where(errands.c.state == RUNNING, errands.c.kind == kind)
    return Counter({row[0]: row[1] for row in connection.execute(running.group_by(errands.c.org))})


def _take(connection: Connection, keys: Sequence[str], owner: str, lease: float) -> list[Errand]:
    taken = (
        update(errands)
        .where(errands.c.key.in_(keys), errands.c.state.concat("") == DUE)  # concatenated: as the job table does it
        .values(state=RUNNING, token=errands.c.token + 1, owner=owner, lease_until=now() + lease)
        .returning(errands)
    )
    rows = {row.key: row for row in connection.execute(taken)}
    of_jobs = select(jobs.c.key, jobs.c.id).where(jobs.c.key.in_({row.job for row in rows.values()}))
    ids = {row.key: row.id for row in connection.execute(of_jobs)}
    return [
        Errand(
            key=row.key,
            token=row.token,
            job=row.job,
            job_id=ids[row.job],
            org=row.org,
            kind=row.kind,
            event=row.event,
            dialect=row.dialect,
            target=json.loads(row.target),
            secret=row.secret,
            attempts=row.attempts,
        )
        for row in (rows[key] for key in keys if key in rows)
    ]


def heartbeat(connection: Connection, owner: str, lease: float) -> set[tuple[str, int]]:
    """Renews the owner's leases; the keys and tokens that it still holds."""
    mine = update(errands).where(errands.c.owner == owner, errands.c.state == RUNNING)
    renewed = mine.values(lease_until=now() + lease).returning(errands.c.key, errands.c.token)
    return {(row.key, row.token) for row in connection.execute(renewed)}


def finish(connection: Connection, errand: Errand, outcome: Literal["done", "failed"], message: str | None) -> bool:
    """It is over, for good or bad, and what it had sealed is gone. False where it is not held any more."""
    values = {"state": outcome, "secret": None, "message": message, "ended_at": now()}
    _lock(connection, errand.job)
    ended = update(errands).where(_holds(errand)).values(owner=None, lease_until=None, **values)
    if not connection.execute(ended).rowcount:
        return False
    _wake_the_rest(connection, errand.job)
    return True


def put_back(connection: Connection, errand: Errand, delay: float, message: str | None, *, charged: bool) -> bool:
    """Due again after `delay` seconds. False where it is not held any more."""
    values = {"attempts": errands.c.attempts + int(charged), "message": message, "due_at": now() + delay}
    _lock(connection, errand.job)
    back = update(errands).where(_holds(errand)).values(state=DUE, owner=None, lease_until=None, **values)
    if not connection.execute(back).rowcount:
        return False
    _wake_the_rest(connection, errand.job)
    return True


def release(connection: Connection, owner: str) -> None:
    """Gives everything that the owner runs back."""
    connection.execute(update(errands).where(errands.c.owner == owner, errands.c.state == RUNNING).values(_anybodys()))


def give_back_unknown(connection: Connection, owner: str, known: Collection[str]) -> None:
    """Gives back what the owner runs without knowing it: the answer to a claim was lost."""
    mine = update(errands).where(errands.c.owner == owner, errands.c.state == RUNNING, errands.c.key.not_in(known))
    connection.execute(mine.values(_anybodys()))


def take_over(connection: Connection, by: str, gone: Sequence[str]) -> None:
    """Gives back what owners that are gone ran, and those whose lease ran out; never its own."""
    late = and_(errands.c.lease_until < now(), errands.c.owner != by)
    lost = and_(errands.c.state == RUNNING, or_(errands.c.owner.in_(gone), late))
    connection.execute(update(errands).where(lost).values(_anybodys()))


def of(connection: Connection, job: str) -> list[Known]:
    """What a job owes, or has paid: all its deliveries, else what is due or was."""
    told = or_(errands.c.state != DORMANT, errands.c.kind == "delivery")
    rows = connection.execute(select(errands).where(errands.c.job == job, told).order_by(errands.c.key))
    return [
        Known(row.key, row.kind, row.event, json.loads(row.target), row.state, row.attempts, row.due_at, row.message)
        for row in rows
    ]


def counts(connection: Connection) -> dict[str, int]:
    """How many errands of each kind are due or running; those with a later time, too."""
    grouped = select(errands.c.kind, func.count()).where(errands.c.state.in_(_OPEN)).group_by(errands.c.kind)
    return {row[0]: row[1] for row in connection.execute(grouped)}


def owing_jobs() -> Select[tuple[str]]:
    """The keys of the jobs that still owe something."""
    return select(errands.c.job).where(errands.c.state.in_(_OPEN))


def forget(connection: Connection, forgotten: Sequence[str]) -> None:
    """Of jobs that are not in the table any more."""
    connection.execute(delete(errands).where(errands.c.job.in_(forgotten)))


def expiring() -> Select[tuple[str]]:
    """The destinations of jobs whose files are being removed."""
    running = and_(errands.c.kind == "expiry", errands.c.state == RUNNING)
    return select(jobs.c.destination).join(errands, errands.c.job == jobs.c.key).where(running)


def _lock(connection: Connection, job: str) -> None:
    """What a job owes is changed by one after the other: of two that end at once, the later wakes what waits for both.
    In SQLite that is so anyway."""
    connection.execute(select(jobs.c.key).where(jobs.c.key == job).with_for_update())


def _anybodys() -> dict[str, Any]:
    return {"state": DUE, "owner": None, "lease_until": None, "due_at": now()}


def _holds(errand: Errand) -> ColumnElement[bool]:
    mine = and_(errands.c.key == errand.key, errands.c.token == errand.token)
    return and_(mine, errands.c.state == RUNNING)


_ANY = select(errands.c.key).where(errands.c.job == bindparam("its_job")).limit(1)
