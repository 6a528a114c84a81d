"""Clears away what nobody needs any more."""

import contextlib
from dataclasses import dataclass
from functools import partial

import structlog
from sqlalchemy.exc import DBAPIError

from daemon.catalogue import operations, qencode
from daemon.catalogue.thumbnails import unknown
from daemon.darkroom import Darkroom
from daemon.database import Database
from daemon.errors import Failure, StoreFailure
from daemon.intake.spool import Spool
from daemon.jobs import table
from daemon.store.protocol import Store
from daemon.threads import in_thread
from daemon.uploads import Uploads

log = structlog.get_logger()

_TOGETHER = 500  # thumbnails


@dataclass(frozen=True)
class Retention:
    """Seconds: of reports in the spool, of jobs in the table, of tasks of Qencode's that nobody started."""

    reports: float
    jobs: float
    unstarted: float


@dataclass(frozen=True)
class Sweeper:
    """It is never in a hurry: what cannot be reached is swept the next time."""

    database: Database
    store: Store
    spool: Spool
    darkroom: Darkroom
    uploads: Uploads
    keep: Retention

    async def stagings(self) -> None:
        """Those of attempts that are over."""
        with contextlib.suppress(StoreFailure):
            names = await in_thread(self.store.staging_names)
            over = await self.database.run(lambda c: table.stagings_over(c, names)) if names else set()
            await in_thread(self.store.sweep, over)

    async def all_that_is_old(self) -> None:
        try:
            await in_thread(self.spool.forget_reports, self.keep.reports)
            while await self.database.run(lambda c: table.forget(c, self.keep.jobs)):
                pass
            while await self.database.run(lambda c: operations.forget(c, self.keep.jobs)):
                pass
            await self._pictures()
            await self.database.run(partial(qencode.forget, unstarted=self.keep.unstarted, started=self.keep.jobs))
            await self.uploads.sweep()
        except (DBAPIError, OSError, Failure) as error:
            log.warning("the sweep was broken off, and comes again", reason=str(error))

    async def _pictures(self) -> None:
        """Of thumbnails that are no more."""
        kept = await in_thread(lambda: list(self.darkroom.kept()))
        for first in range(0, len(kept), _TOGETHER):
            some = kept[first : first + _TOGETHER]
            gone = await self.database.run(partial(unknown, ids=[id for _, id in some]))
            for org, id in some:
                if id in gone:
                    await self.darkroom.forget_all(org, id)
