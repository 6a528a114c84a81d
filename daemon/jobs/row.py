"""A row of the job table: what those see who run the job, and those who ask for it; and the values of its changes."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import Row

from daemon.errors import Failure
from daemon.jobs.retry import Again, History
from daemon.report import ErrorReport, Report, Status
from daemon.tables import COMPLETED, ENDED, FAILED, PUBLISHING, QUEUED, RUNNING, jobs, now

PRIORITIES = {"high": 0, "normal": 1, "low": 2}
STATUS: dict[str, Status] = {
    QUEUED: "pending",
    RUNNING: "processing",
    PUBLISHING: "processing",
    COMPLETED: "completed",
    FAILED: "failed",
}


@dataclass(frozen=True)
class Held:
    """A job that was claimed, under its token."""

    key: str
    token: int
    org: str
    id: str
    source: str
    destination: str
    job: str
    suspect: bool
    queued_seconds: float
    history: History

    @property
    def staging(self) -> str:
        """The name of its staging folder: no two attempts share one."""
        return f"{self.key}.{self.token}"


@dataclass(frozen=True)
class Publication:
    """A job past the point of no return, to be rolled forward by whoever holds it."""

    key: str
    token: int
    staging: str
    destination: str


@dataclass(frozen=True)
class Known:
    """What the table knows of a job, for those who ask. `job` is its JSON, `told` its report's once it is over."""

    key: str
    org: str
    id: str
    source: str
    destination: str
    state: str
    attempt: int
    pictures_made: int
    pictures_in_all: int
    created_at: float
    job: str
    told: str | None

    @property
    def status(self) -> Status:
        return STATUS[self.state]

    @property
    def is_over(self) -> bool:
        return self.state in ENDED

    @cached_property
    def report(self) -> Report:
        """Read when it is first asked for: that of a long series takes a while, and not the database thread's."""
        if self.told is not None:
            return Report.model_validate_json(self.told)
        payload = json.loads(self.job).get("payload")
        return Report(id=self.id, org=self.org, status=self.status, attempt=self.attempt, payload=payload)


@dataclass(frozen=True)
class Settled:
    """A job that has just ended, and what it may owe now: `reports` to the spool, and `errands`."""

    job: Known
    reports: bool
    errands: bool


def held_of(row: Row[Any]) -> Held:
    return Held(
        key=row.key,
        token=row.token,
        org=row.org,
        id=row.id,
        source=row.source,
        destination=row.destination,
        job=row.job,
        suspect=bool(row.suspect),
        queued_seconds=max(0.0, row.waited),
        history=History(row.failures, row.deaths, row.lost_starts),
    )


def known_of(row: Row[Any]) -> Known:
    return Known(
        key=row.key,
        org=row.org,
        id=row.id,
        source=row.source,
        destination=row.destination,
        state=row.state,
        attempt=row.token,
        pictures_made=row.pictures_made,
        pictures_in_all=row.pictures_in_all,
        created_at=row.created_at,
        job=row.job,
        told=row.report if row.state in ENDED else None,
    )


def failed_report(held: Held, failure: Failure) -> str:
    """The report of a job that has none of its own to tell."""
    return Report(
        id=held.id,
        org=held.org,
        status="failed",
        attempt=held.token,
        error=ErrorReport(code=failure.code, message=failure.message, output=failure.output),
        payload=json.loads(held.job).get("payload"),
    ).model_dump_json()


def ended() -> dict[str, Any]:
    owes = jobs.c.reports_to != "[]"
    return {"ended_at": now(), "owner": None, "lease_until": None, "report_due": owes}


def queued_again(verdict: Again) -> dict[str, Any]:
    history = verdict.history
    return {
        "state": QUEUED,
        "owner": None,
        "lease_until": None,
        "started": False,
        "run_at": now() + verdict.delay,
        "failures": history.failures,
        "deaths": history.deaths,
        "lost_starts": history.lost_starts,
        "suspect": verdict.alone,
    }
