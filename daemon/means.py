"""What all batches of a daemon are run with, and how what they make is published."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import TypeVar

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from daemon.catalogue import artifacts
from daemon.catalogue.artifacts import Artifact, Origin
from daemon.database import Database
from daemon.errors import BadJob, Failure, StoreFailure
from daemon.jobs import lease
from daemon.jobs.retry import Policy
from daemon.jobs.row import Held, Publication, Settled
from daemon.metrics import Metrics
from daemon.report import Report
from daemon.sources import Sources
from daemon.store.protocol import Store
from daemon.task import Limits
from daemon.threads import in_thread

log = structlog.get_logger()
T = TypeVar("T")

AGAIN_SECONDS = 1.0  # between tries of what must be done in the end


@dataclass(frozen=True)
class Terms:
    """How jobs are claimed and run. Times in seconds; `riders`: jobs that may share a pass with the one in turn."""

    owner: str
    lease: float = 30.0
    beat: float = 1.0
    idle_poll: float = 1.0
    riders: int = 64
    threads: int = 2
    background: tuple[int, int, int] = (0, 0, 0)
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Means:
    """Table, store and sources, and the terms on which they are used. `settled` hears of a job that ended, and what
    it owes."""

    database: Database
    store: Store
    sources: Sources
    metrics: Metrics
    policy: Policy
    terms: Terms
    settled: Callable[[Settled], None]

    async def insist(self, op: str, change: Callable[[Connection], T]) -> T:
        """A change of the job table, timed. Waits for a database that cannot be reached just now."""
        while True:
            begun = monotonic()
            try:
                return await self.database.run(change)
            except DBAPIError as error:
                log.error("the job table cannot be reached", op=op, reason=str(error.orig))
            finally:
                self.metrics.table_duration.labels(op).observe(monotonic() - begun)
            await asyncio.sleep(AGAIN_SECONDS)

    async def known_artifacts(self, org: str, recipes: Sequence[str]) -> dict[str, Artifact]:
        """What was published by these recipes."""
        return await self.insist("cache", lambda c: artifacts.equals(c, org, recipes))

    async def begin_publishing(self, held: Held, report: Report, origin: Origin, recipes: Sequence[str | None]) -> str:
        """The point of no return: from here on it is known what will be where. See `lease.publishing`."""
        return await self.insist("publishing", partial(_begin, held, report, origin, recipes))

    async def roll_forward(self, publication: Publication) -> Failure | None:
        """Brings a publication to its end, however often that takes: it is past the point of no return. The failure
        where there can be no end."""
        refused: Failure | None = None
        while True:
            try:
                await in_thread(_publish, self.store, publication)
                break
            except StoreFailure as failure:
                log.error("publishing will be tried again", job=publication.key, reason=failure.message)
                await asyncio.sleep(AGAIN_SECONDS)
            except BadJob as bad:  # since it was staged another job has put a file where it needs a folder
                refused = bad
                break
        if refused is None:
            settled = await self.insist("complete", lambda c: _complete(c, publication))
        else:
            settled = await self.insist("withdraw", lambda c: _withdraw(c, publication, refused))
        if settled:
            self.settled(settled)  # at once: it may be queued again at any moment
        if refused is not None:
            await in_thread(self.store.staged(publication.staging).discard)
        return refused


def _publish(store: Store, publication: Publication) -> None:
    store.check_destination(publication.destination)
    store.publish(publication.staging, publication.destination)


def _complete(connection: Connection, publication: Publication) -> Settled | None:
    if settled := lease.complete(connection, publication):
        artifacts.show(connection, publication.key)
    return settled


def _withdraw(connection: Connection, publication: Publication, failure: Failure) -> Settled | None:
    if settled := lease.withdraw(connection, publication, failure):
        artifacts.withdraw(connection, publication.key)
    return settled


def _begin(held: Held, report: Report, origin: Origin, recipes: Sequence[str | None], connection: Connection) -> str:
    answer = lease.publishing(connection, held, report.model_dump_json())
    if answer == "go":
        made = zip(report.outputs, recipes, strict=True)
        artifacts.announce(connection, held.key, held.org, held.id, held.destination, report.source, origin, list(made))
    return answer
