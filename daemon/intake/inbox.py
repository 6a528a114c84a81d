"""The spool at work: takes dropped files into the table, and pays the reports that are owed."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import monotonic

import structlog
from sqlalchemy.exc import DBAPIError
from watchfiles import Change, awatch

from daemon.database import Database
from daemon.errors import BadJob
from daemon.intake.spool import FOLDERS, Dropped, Spool, Unfit, parse
from daemon.job import Job
from daemon.jobs import lease, table
from daemon.jobs.retry import Policy
from daemon.jobs.row import PRIORITIES, Publication
from daemon.jobs.table import NewJob
from daemon.metrics import Metrics
from daemon.owed.promise import Promise
from daemon.store.protocol import folder_of
from daemon.threads import in_thread

log = structlog.get_logger()

_LONGEST = 1000  # characters of a reason: some quote what was said
_AT_ONCE = 500  # files a scan, and reports a payment
_PRIORITY_OF = {folder: priority for priority, folder in FOLDERS.items()}


class Inbox:
    """Brings jobs from the spool to the table, and their reports back. `accepted` hears of new ones, and whether they
    may owe something at once."""

    def __init__(
        self,
        spool: Spool,
        database: Database,
        metrics: Metrics,
        scan_seconds: float,
        accepted: Callable[[bool], None],
        promise: Promise,
    ) -> None:
        self._spool = spool
        self._promise = promise
        self._database = database
        self._metrics = metrics
        self._scan_seconds = scan_seconds
        self._accepted = accepted
        self._news = asyncio.Event()
        self._news.set()  # what was dropped before there was a daemon
        self._due = asyncio.Event()
        self.paused: str | None = None  # why nothing is taken in

    def settled(self) -> None:
        """A job ended: its report is due."""
        self._due.set()

    def wake(self) -> None:
        """There may be something in the drop folders."""
        self._news.set()

    async def run(self) -> None:
        """Scans at every event, and every few seconds: events are only a wake-up, never the truth."""
        more = False
        while True:
            if not more:
                with contextlib.suppress(TimeoutError):
                    # Not wait_for: until Python 3.12 it may swallow a cancellation that comes with the event.
                    async with asyncio.timeout(self._scan_seconds):
                        await self._news.wait()
            self._news.clear()
            more = False
            if self.paused is None:
                try:
                    more = await self._take_in()
                except (OSError, DBAPIError) as error:
                    log.error("the spool cannot be read", reason=str(error))
                    await asyncio.sleep(self._scan_seconds)

    async def watch(self) -> None:
        """Wakes `run` when files are dropped."""
        folders = [self._spool.root / folder for folder in FOLDERS.values()]

        def dropped(change: Change, path: str) -> bool:
            return change is not Change.deleted and not Path(path).name.startswith(".")

        try:
            async for _ in awatch(*folders, watch_filter=dropped, step=5, debounce=50, recursive=False):
                self._news.set()
        except (OSError, RuntimeError) as error:  # no inotify here, or no more watches allowed
            log.warning("files are found by scanning only", reason=str(error))
        await asyncio.Event().wait()

    async def pay(self) -> None:
        """Writes reports as they become due, and looks now and then for those that somebody else left."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._scan_seconds):
                    await self._due.wait()
            self._due.clear()
            try:
                await self.pay_all()
            except (OSError, DBAPIError) as error:
                log.error("reports cannot be written", reason=str(error))
                await asyncio.sleep(self._scan_seconds)

    async def pay_all(self) -> None:
        """Writes all reports that are due. Raises OSError, DBAPIError."""
        more = True
        while more:
            owed = await self._database.run(lambda c: table.owed(c, _AT_ONCE))
            more = len(owed) == _AT_ONCE
            if owed:
                await in_thread(self._spool.write_reports, owed)
                # After all of them, in one transaction: writing one twice does no harm.
                await self._database.run(partial(table.reported, paid=owed))

    async def recover(self, owner: str, lease_seconds: float, policy: Policy) -> list[Publication]:
        """Takes over what owners that are gone have left; publications that are to be rolled forward."""
        lost = await in_thread(lambda: list(self._spool.lost_owners()))
        names = [gone for gone, _ in lost]
        over = self._spool.leave
        try:
            for gone in names:
                await self._accept_all(await in_thread(self._spool.unfinished, gone))
            taken = await self._database.run(lambda c: lease.take_over(c, owner, names, lease_seconds, policy))
            over = self._spool.bury
        finally:
            for gone, lock in lost:
                over(gone, lock)
        if taken.queued or taken.failed or taken.publications or names:
            log.info("took over", owners=len(names), queued=taken.queued, publishing=len(taken.publications))
            self._accepted(True)
            self._due.set()
        return list(taken.publications)

    async def _take_in(self) -> bool:
        # What is claimed still could not be brought to its end: the disk or the table said no.
        left_over = await in_thread(self._spool.unfinished, self._spool.owner)
        begun = monotonic()
        scan = await in_thread(self._spool.scan, _AT_ONCE)
        self._metrics.spool_scan_duration.observe(monotonic() - begun)
        gone = Counter(file.folder for file in scan.claimed)
        for folder, count in scan.seen.items():
            self._metrics.spool_files.labels(folder).set(count - gone[folder])
        for left in scan.left:
            self._metrics.jobs_rejected.labels("spool", left.why.reason).inc()
            log.warning("left", file=left.name, folder=left.folder, reason=left.why.message)
        await self._accept_all([*left_over, *scan.claimed])
        return scan.more

    async def _accept_all(self, claimed: Sequence[Dropped]) -> None:
        """Raises what came in the way of the first that could not be accepted, after all were tried."""
        outcomes = await asyncio.gather(*map(self._accept, claimed), return_exceptions=True)
        if claimed:
            self._accepted(True)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _accept(self, dropped: Dropped) -> None:
        """From a claimed file to a committed row, or to a refusal. Doing it twice makes one row, or one refusal."""
        new = _judge(dropped, self._promise)
        if isinstance(new, Unfit):
            self._metrics.jobs_rejected.labels("spool", new.reason).inc()
            log.warning("refused", file=dropped.name, reason=new.message)
            await in_thread(self._spool.refuse, dropped, new.message)
            return
        if await self._database.run(lambda c: table.add(c, new)):
            self._metrics.jobs_submitted.labels("spool").inc()
            log.info("accepted", job_id=new.id, org=new.org, file=dropped.name)
        else:
            self._due.set()
            log.info("known already", job_id=new.id, org=new.org, file=dropped.name)
        await in_thread(self._spool.taken_in, dropped)


def _judge(dropped: Dropped, promise: Promise) -> NewJob | Unfit:
    if isinstance(dropped.held, Unfit):
        return dropped.held
    try:
        priority = _PRIORITY_OF.get(dropped.folder, "normal")
        return new_job(parse(dropped.held), dropped.key, promise, priority, dropped.name)
    except BadJob as bad:
        return Unfit(bad.code, bad.message[:_LONGEST])
    except Exception as error:  # a fault of our own: one file must not end every daemon that finds it
        log.exception("internal error", file=dropped.name)
        return Unfit("failed", f"internal error: {type(error).__name__}")


def new_job(
    asked: Job, key: str, promise: Promise, priority: str = "normal", report_to: str | None = None, dialect: str = ""
) -> NewJob:
    """A checked job on its way into the table, with what will be owed for it; its own priority wins. Raises BadJob."""
    job, errands = promise.of(asked, dialect)
    id = job.id or key
    destination = job.destination or id
    return NewJob(
        key=key,
        org=job.org,
        id=id,
        source=job.source,
        destination=folder_of(job.org) + destination,
        priority=PRIORITIES[job.priority or priority],
        job=job.model_dump_json(exclude_unset=True),  # a default that was said may keep another one away
        report_to=report_to,
        errands=errands,
    )
