"""Claims jobs for the workers, keeps their leases, and says how many batches run at once."""

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count
from time import monotonic

import structlog
from sqlalchemy import Connection

from daemon.batch import Batch, Claimed
from daemon.catalogue import organisations
from daemon.catalogue.videos import place_of
from daemon.errors import Failure
from daemon.jobs import lease
from daemon.jobs.row import Publication
from daemon.means import AGAIN_SECONDS, Means, Terms
from daemon.worker.handle import Worker

log = structlog.get_logger()


class Dispatcher:
    """Keeps the workers busy with claimed jobs. Call `wake` when there may be new ones."""

    def __init__(self, means: Means, workers: Sequence[Worker]) -> None:
        self.paused: str | None = None  # why nothing is claimed
        self.moved = monotonic()  # when the heart last beat
        self._means = means
        self._terms = means.terms
        self._workers = workers
        self._batches: set[Batch] = set()
        self._adopted: set[asyncio.Task[Failure | None]] = set()
        self._news = asyncio.Event()  # there may be something to claim, as there may be at the start
        self._news.set()
        self._looking = asyncio.Lock()
        self._draining = False

    def wake(self) -> None:
        """There may be something to claim."""
        self._news.set()

    def drain(self) -> None:
        """Claims nothing more; `run` ends when what runs is over."""
        self._draining = True
        self._news.set()

    def pause(self, reason: str) -> None:
        """Claims nothing until `resume`."""
        self.paused = reason

    def resume(self) -> None:
        self.paused = None
        self._news.set()

    async def run(self) -> None:
        """One lane a worker, and a heart that beats for what they hold."""
        try:
            async with asyncio.TaskGroup() as all_of_it:
                heart = all_of_it.create_task(self._heart())
                async with asyncio.TaskGroup() as lanes:
                    for worker in self._workers:
                        lanes.create_task(self._lane(worker))
                await asyncio.gather(*self._adopted)
                heart.cancel()
        finally:
            for task in self._adopted:
                task.cancel()

    def adopt(self, publication: Publication) -> None:
        """Rolls forward, beside all else, what an owner that is gone has left."""
        task = asyncio.create_task(self._means.roll_forward(publication))
        self._adopted.add(task)
        task.add_done_callback(self._adopted.discard)

    async def _lane(self, worker: Worker) -> None:
        while not self._draining:
            if not worker.alive:
                try:
                    await worker.start()
                except Failure as failure:
                    log.error("a worker cannot be started", reason=failure.message)
                    await asyncio.sleep(AGAIN_SECONDS)
                    continue
            claimed = await self._claim()
            if claimed:
                batch = Batch(self._means, worker, claimed, self.pause, self.wake)
                self._batches.add(batch)
                try:
                    await batch.run()
                finally:
                    self._batches.discard(batch)
                    self._news.set()  # what was kept from running beside it
            else:
                try:
                    # Not wait_for: until Python 3.12 it may swallow a cancellation that comes with the event.
                    async with asyncio.timeout(self._terms.idle_poll):
                        await self._news.wait()
                except TimeoutError:
                    self._news.set()  # another daemon of the table may have brought some

    async def _claim(self) -> Claimed | None:
        """One lane looks after the other, and none where the one before has just seen that there is nothing."""
        async with self._looking:
            if not self._news.is_set():
                return None
            self._news.clear()
            if self.paused or self._draining:
                return None
            known = [job.key for batch in self._batches for job in batch.held]
            claimed = await self._means.insist("claim", partial(_claim, self._terms, known, count()))
            if claimed:
                self._news.set()
            return claimed

    async def _heart(self) -> None:
        while True:
            await asyncio.sleep(self._terms.beat)
            progress = {key: made for batch in self._batches for key, made in batch.take_progress().items()}
            beat = partial(lease.heartbeat, owner=self._terms.owner, lease=self._terms.lease, progress=progress)
            held, cancelled = await self._means.insist("heartbeat", beat)
            self.moved = monotonic()
            for batch in self._batches:
                batch.keep_only(held, cancelled)


def _claim(terms: Terms, known: Sequence[str], tries: Iterator[int], connection: Connection) -> Claimed | None:
    """The next batch, claimed, found and started in one transaction. `known`: the keys of those that run."""
    if next(tries) > 0:
        lease.give_back_unknown(connection, terms.owner, known)
    caps = organisations.caps(connection)
    batches = lease.claim(connection, terms.owner, 1, terms.riders, terms.lease, caps)
    if not batches:
        return None
    [held] = batches
    try:
        place = place_of(connection, held[0].org, held[0].source)
    except Failure as failure:
        return Claimed(held, failure)
    lease.start(connection, held)
    return Claimed(held, place)
