"""The verbs of those who run jobs, from the claim to the end. Each is one function of a connection, to be run by
`Database.run`.

Whoever holds a job holds its fencing token; every verb that changes a held job is conditional on it and says whether
it still held.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import Any, Literal

from sqlalchemy import (
    Connection,
    Float,
    and_,
    bindparam,
    func,
    literal,
    or_,
    select,
    true,
    union_all,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from daemon.errors import Failure
from daemon.jobs import errands
from daemon.jobs.fairness import Candidate, in_turn, room_for
from daemon.jobs.retry import Again, Over, Policy, judge_lost
from daemon.jobs.row import (
    PRIORITIES,
    Held,
    Known,
    Publication,
    Settled,
    ended,
    failed_report,
    held_of,
    known_of,
    queued_again,
)
from daemon.report import Report
from daemon.tables import COMPLETED, FAILED, PUBLISHING, QUEUED, RUNNING, jobs, now

_LOCK = 0x7468756D  # PostgreSQL's advisory lock: claims and beginnings of publications are made one after the other
_LINE = (jobs.c.key, jobs.c.org, jobs.c.source, jobs.c.priority, jobs.c.run_at, jobs.c.suspect)


@dataclass(frozen=True)
class TakenOver:
    """What became of the jobs of owners that are gone."""

    queued: int
    failed: int
    publications: tuple[Publication, ...]


def claim(
    connection: Connection, owner: str, slots: int, riders: int, lease: float, caps: Mapping[str, int]
) -> list[list[Held]]:
    """Up to `slots` batches for `owner`: in each the job whose turn it is, and up to `riders` queued jobs of the same
    organisation on the same source. A suspect is claimed alone, and only by an owner that runs nothing else."""
    _one_at_a_time(connection)
    active = connection.execute(_ACTIVE).all()
    running = Counter(row.org for row in active)
    mine = [row for row in active if row.owner == owner]
    if any(row.suspect for row in mine):
        return []
    rows = {row.key: row for row in connection.execute(_next_in_line(connection.dialect.name, slots))}
    candidates = [Candidate(row.key, row.org, (row.priority, row.run_at, row.key)) for row in rows.values()]
    batches: list[list[Held]] = []
    for turn in in_turn(candidates, running, caps, slots):
        lead = rows[turn.key]
        if not room_for(lead.org, running, caps, 1):
            continue  # taken by those who rode along before
        if lead.suspect:
            # It runs with nothing beside it: others wait until it had its turn.
            if not mine and not batches and (held := _take(connection, [lead.key], owner, lease)):
                batches.append(held)
            break
        keys = [lead.key]
        room = room_for(lead.org, running, caps, riders + 1) - 1
        if room > 0:
            asked = {"org": lead.org, "source": lead.source, "lead": lead.key, "most": room}
            keys += connection.execute(_RIDERS, asked).scalars()
        if held := _take(connection, keys, owner, lease):
            running[lead.org] += len(held)
            batches.append(held)
    return batches


@cache
def _next_in_line(dialect: str, each: int) -> Any:
    """The first `each` due jobs of every organisation and priority. The cost grows with the number of organisations,
    not with the length of their queues: the index is skipped through from one organisation to the next."""
    queued = jobs.c.state == QUEUED
    orgs = select(func.min(jobs.c.org).label("org")).where(queued).cte("orgs", recursive=True)
    following = select(func.min(jobs.c.org)).where(queued, jobs.c.org > orgs.c.org).correlate(orgs).scalar_subquery()
    orgs = orgs.union_all(select(following).where(orgs.c.org.is_not(None)))
    priorities = union_all(*(select(literal(n).label("priority")) for n in PRIORITIES.values())).cte("priorities")
    heads = (
        select(*_LINE)
        .where(queued, jobs.c.org == orgs.c.org, jobs.c.priority == priorities.c.priority, jobs.c.run_at <= now())
        .order_by(jobs.c.run_at, jobs.c.key)
        .limit(each)
        .correlate(orgs, priorities)
    )
    lines = orgs.join(priorities, true())
    if dialect == "postgresql":
        first = heads.lateral()
        return select(first).select_from(lines.join(first, true()))
    # SQLite has no LATERAL, but looks up one key after the other.
    return select(*_LINE).select_from(lines.join(jobs, jobs.c.key.in_(heads.with_only_columns(jobs.c.key))))


def _take(connection: Connection, keys: Sequence[str], owner: str, lease: float) -> list[Held]:
    rows = {row.key: row for row in connection.execute(_TAKE, {"keys": keys, "by": owner, "lease": lease})}
    return [held_of(rows[key]) for key in keys if key in rows]


def start(connection: Connection, held: Sequence[Held]) -> list[Held]:
    """Says that these jobs are given to a worker now; those that are still held."""
    return [job for job in held if connection.execute(_START, _as_held(job)).first()]


def heartbeat(
    connection: Connection, owner: str, lease: float, progress: Mapping[str, tuple[int, int]]
) -> tuple[set[str], set[str]]:
    """Renews the owner's leases and writes how far its jobs are: key -> (pictures made, in all). Returns the keys that
    it still holds, and those of them that somebody wants cancelled."""
    for key, (made, in_all) in progress.items():
        values = {"pictures_made": made, "pictures_in_all": in_all}
        connection.execute(update(jobs).where(jobs.c.key == key, jobs.c.owner == owner).values(values))
    renewed = (
        update(jobs)
        .where(jobs.c.owner == owner, jobs.c.state.in_((RUNNING, PUBLISHING)))
        .values(lease_until=now() + lease)
        .returning(jobs.c.key, jobs.c.cancelled)
    )
    rows = connection.execute(renewed).all()
    return {row.key for row in rows}, {row.key for row in rows if row.cancelled}


def publishing(connection: Connection, held: Held, report: str) -> Literal["go", "wait", "cancelled", "lost"]:
    """The point of no return. `wait` while another job publishes to the same destination, or inside or around it."""
    _one_at_a_time(connection)
    mine = connection.execute(_MINE, _as_held(held)).first()
    if mine is None or mine.state not in (RUNNING, PUBLISHING):
        return "lost"
    if mine.state == PUBLISHING:
        return "go"  # it was said before, and the answer to that was lost
    if mine.cancelled:
        return "cancelled"
    if any(_touches(held.destination, other) for other in connection.execute(_BUSY).scalars()):
        return "wait"
    connection.execute(_PUBLISH, {**_as_held(held), "its_report": report, "its_staging": held.staging})
    return "go"


def complete(connection: Connection, publication: Publication) -> Settled | None:
    """The outputs are where they belong. None where somebody else said so before."""
    return _end(connection, _COMPLETE, publication)


def withdraw(connection: Connection, publication: Publication, failure: Failure) -> Settled | None:
    """The outputs can never be where they belong. None where somebody else said so before."""
    mine = _as_held(publication)
    row = connection.execute(select(jobs, now().label("waited")).where(_PUBLISHES), mine).one_or_none()
    if row is None:
        return None
    values = {"state": FAILED, "staging": None, "report": failed_report(held_of(row), failure), **ended()}
    return _end(connection, update(jobs).where(_PUBLISHES).values(values).returning(jobs), publication)


def fail(connection: Connection, held: Held, report: str) -> Settled | None:
    """The job failed for good. None where it is not held any more."""
    values = {"state": FAILED, "report": report, **ended()}
    return _end(connection, update(jobs).where(_HOLDS).values(values).returning(jobs), held)


def _end(connection: Connection, change: ReturningUpdate[Any], held: Held | Publication) -> Settled | None:
    row = connection.execute(change, _as_held(held)).one_or_none()
    if row is None:
        return None
    return Settled(known_of(row), row.report_due, errands.job_ended(connection, row.key, row.state))


def put_back(connection: Connection, held: Held, verdict: Again) -> bool:
    """Queues a held job again. False where it is not held any more."""
    return bool(connection.execute(update(jobs).where(_HOLDS).values(queued_again(verdict)), _as_held(held)).rowcount)


def release(connection: Connection, owner: str) -> int:
    """Gives everything that the owner runs back, uncharged; how many jobs. What it publishes is anybody's at once."""
    mine = update(jobs).where(jobs.c.owner == owner)
    connection.execute(mine.where(jobs.c.state == PUBLISHING).values(lease_until=0))
    given_back = connection.execute(mine.where(jobs.c.state == RUNNING).values(_GIVEN_BACK)).rowcount
    errands.release(connection, owner)
    return given_back


def give_back_unknown(connection: Connection, owner: str, known: Collection[str]) -> int:
    """Gives back, uncharged, what the owner runs without knowing it: a claim was committed, and the answer to it was
    lost. How many jobs."""
    unknown = update(jobs).where(jobs.c.owner == owner, jobs.c.state == RUNNING, jobs.c.key.not_in(known))
    return connection.execute(unknown.values(_GIVEN_BACK)).rowcount


def take_over(connection: Connection, by: str, gone: Sequence[str], lease: float, policy: Policy) -> TakenOver:
    """Takes the jobs and errands of owners that are gone, and those whose lease ran out; never its own, which it still
    has: it may have been paused itself."""
    late = and_(jobs.c.lease_until < now(), jobs.c.owner != by)
    lost = and_(jobs.c.state.in_((RUNNING, PUBLISHING)), or_(jobs.c.owner.in_(gone), late))
    queued, failed, publications = 0, 0, []
    for row in connection.execute(select(jobs, now().label("waited")).where(lost).with_for_update()).all():
        mine = jobs.c.key == row.key
        if row.state == PUBLISHING:
            connection.execute(update(jobs).where(mine).values(owner=by, lease_until=now() + lease))
            publications.append(Publication(row.key, row.token, row.staging, row.destination))
            continue
        held = held_of(row)
        verdict = judge_lost(held.history, alone=held.suspect, policy=policy) if row.started else None
        if isinstance(verdict, Over):
            failed += 1
            values = {"state": FAILED, "report": failed_report(held, verdict.failure), **ended()}
            connection.execute(update(jobs).where(mine).values(values))
            errands.job_ended(connection, row.key, FAILED)
        else:
            queued += 1
            back = queued_again(verdict or Again(0.0, held.history, alone=held.suspect))
            connection.execute(update(jobs).where(mine).values(back))
    errands.take_over(connection, by, gone)
    return TakenOver(queued, failed, tuple(publications))


def expire(connection: Connection, key: str) -> tuple[Known, frozenset[str]] | Literal["wait", "gone"]:
    """A completed job some of whose files are to be removed, by one who runs an errand that says so, and those of its
    files that a later job has published since. `wait` while a job publishes there; from now on none will begin to."""
    _one_at_a_time(connection)
    row = connection.execute(select(jobs).where(jobs.c.key == key, jobs.c.state == COMPLETED)).one_or_none()
    if row is None:
        return "gone"
    busy = select(jobs.c.destination).where(jobs.c.state == PUBLISHING)
    if any(_touches(row.destination, other) for other in connection.execute(busy).scalars()):
        return "wait"
    known = known_of(row)
    files = {file for output in known.report.outputs for file in output.files}
    # Whoever wrote one of these files did so from one of the folders around it.
    around = {str(folder) for file in files for folder in PurePosixPath(file).parents}
    others = select(jobs.c.report).where(jobs.c.destination.in_(around), jobs.c.state == COMPLETED)
    others = others.where(jobs.c.ended_at >= row.ended_at, jobs.c.key != key)
    taken: set[str] = set()
    for text in connection.execute(others).scalars():
        taken.update(file for output in Report.model_validate_json(text).outputs for file in output.files)
    return known, frozenset(files & taken)


def _one_at_a_time(connection: Connection) -> None:
    """Until the transaction ends; in SQLite there is but one anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))


def _as_held(held: Held | Publication) -> dict[str, Any]:
    """Its key and token, for statements that are conditional on them."""
    return {"held_key": held.key, "held_token": held.token}


def _touches(a: str, b: str) -> bool:
    return a == b or a.startswith(b + "/") or b.startswith(a + "/")


# What every job asks, built once: building a statement takes several times as long as asking it.

_HELD = and_(jobs.c.key == bindparam("held_key"), jobs.c.token == bindparam("held_token"))
_HOLDS, _PUBLISHES = and_(_HELD, jobs.c.state == RUNNING), and_(_HELD, jobs.c.state == PUBLISHING)
_ACTIVE = select(jobs.c.org, jobs.c.owner, jobs.c.suspect).where(jobs.c.state == RUNNING)
_RIDERS = (
    select(jobs.c.key)
    .where(jobs.c.state == QUEUED, jobs.c.org == bindparam("org"), jobs.c.source == bindparam("source"))
    .where(jobs.c.key != bindparam("lead"), jobs.c.suspect.is_(False), jobs.c.run_at <= now())
    .order_by(jobs.c.priority, jobs.c.key)
    .limit(bindparam("most"))
)
_TAKE = (
    update(jobs)
    # Concatenated, so that no planner takes the state's index for it, and reads the whole queue instead of these keys.
    .where(jobs.c.key.in_(bindparam("keys", expanding=True)), jobs.c.state.concat("") == QUEUED)
    .values(
        state=RUNNING,
        token=jobs.c.token + 1,
        owner=bindparam("by"),
        lease_until=now() + bindparam("lease", type_=Float),
        started=False,
        pictures_made=0,
        pictures_in_all=0,
    )
    .returning(jobs, (now() - jobs.c.run_at).label("waited"))
)
_START = update(jobs).where(_HOLDS).values(started=True, starts=jobs.c.starts + 1).returning(jobs.c.key)
_GIVEN_BACK = {"state": QUEUED, "owner": None, "lease_until": None, "started": False, "run_at": now()}
_MINE = select(jobs.c.cancelled, jobs.c.state).where(_HELD).with_for_update()
_BUSY = select(jobs.c.destination).where(jobs.c.state == PUBLISHING).union_all(errands.expiring())
_PUBLISH = (
    update(jobs)
    .where(_HOLDS)
    .values(state=PUBLISHING, report=bindparam("its_report"), staging=bindparam("its_staging"))
)
_COMPLETE = update(jobs).where(_PUBLISHES).values(state=COMPLETED, staging=None, **ended()).returning(jobs)
