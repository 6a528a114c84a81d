"""Sees whether a daemon can work, and tells the metrics how things are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from daemon.database import Database
from daemon.errors import StoreFailure
from daemon.jobs import errands, table
from daemon.metrics import Metrics
from daemon.store.folder import Folder
from daemon.store.protocol import Store
from daemon.tables import QUEUED, STATES
from daemon.threads import in_thread
from daemon.worker.handle import Worker


@dataclass(frozen=True)
class Health:
    """`troubles` keep the daemon from working; it is `full` where it works, but has no room for more jobs. Both say
    why."""

    troubles: tuple[str, ...] = ()
    full: str | None = None


class Lookout:
    """`least_free`: bytes that store and spool need; `most_queued`: jobs that may wait."""

    def __init__(
        self,
        database: Database,
        store: Store,
        spool: Path,
        workers: Sequence[Worker],
        metrics: Metrics,
        least_free: int,
        most_queued: int,
    ) -> None:
        self._database = database
        self._store = store
        self._spool = Folder(spool)
        self._workers = workers
        self._metrics = metrics
        self._least_free = least_free
        self._most_queued = most_queued

    async def look(self) -> Health:
        """How things are now."""
        troubles, full = await self._disk_troubles(), None
        try:
            full = await self._look_at_table()
        except DBAPIError as error:
            troubles.append(f"the job table cannot be reached: {error.orig}")
        alive = sum(worker.alive for worker in self._workers)
        if not alive:
            troubles.append("no worker is up")
        self._metrics.workers.labels("up").set(alive)
        self._metrics.workers.labels("down").set(len(self._workers) - alive)
        self._metrics.intake_paused.labels("trouble").set(bool(troubles))
        self._metrics.intake_paused.labels("full").set(full is not None)
        return Health(tuple(troubles), full)

    async def _disk_troubles(self) -> list[str]:
        try:
            await in_thread(self._store.check)
            free = min(self._store.free_bytes(), self._spool.free_bytes())
        except StoreFailure as failure:
            return [failure.message]
        except OSError as error:
            return [f"the spool cannot be reached: {error.strerror}"]
        self._metrics.spool_free.set(free)
        if free >= self._least_free:
            return []
        return [f"{free} bytes are free, {self._least_free} are needed (setting spool.min_free_bytes)"]

    async def _look_at_table(self) -> str | None:
        """Why there is no room for more jobs. Raises DBAPIError."""

        def look(c: Connection) -> tuple[dict[str, int], float | None, dict[str, int], dict[str, int]]:
            return table.counts(c), table.oldest_queued(c), table.running_by_org(c), errands.counts(c)

        counts, oldest, running, owed = await self._database.run(look)
        for state in STATES:
            self._metrics.jobs.labels(state).set(counts.get(state, 0))
        self._metrics.oldest_queued.set(oldest or 0)
        self._metrics.org_running.clear()
        for org, count in running.items():
            self._metrics.org_running.labels(org).set(count)
        for kind in errands.KINDS:
            self._metrics.owed.labels(kind).set(owed.get(kind, 0))
        if (queued := counts.get(QUEUED, 0)) < self._most_queued:
            return None
        return f"{queued} jobs are queued, {self._most_queued} are allowed (setting spool.max_queued)"
