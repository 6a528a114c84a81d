"""The dispatcher, with real workers on a real table: what becomes of jobs when the answer to a claim is lost."""

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import PATIENCE, TESTS, thumbnail
from ledger import Unheard, new
from sqlalchemy import Row, select

from daemon.batch import Claimed
from daemon.database import open_engine
from daemon.dispatch import Dispatcher
from daemon.errors import BadJob
from daemon.job import Job
from daemon.jobs import table
from daemon.jobs.retry import Policy
from daemon.jobs.row import Known, Settled
from daemon.means import Means, Terms
from daemon.metrics import Metrics
from daemon.sources import Sources
from daemon.sources.files import Files
from daemon.store.folder import Folder
from daemon.store.staging import Staging
from daemon.tables import COMPLETED, FAILED, RUNNING, jobs
from daemon.worker.handle import Watch, Worker

WORKER = (sys.executable, "-S", str(TESTS / "bad_worker.py"), "well")


class Gated(Folder):
    """A store in which the job `waiting` stages nothing before it is let go, and `refused` cannot be published, nor be
    cleared away before that."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reached, self.go = threading.Event(), threading.Event()

    def stage(self, name: str) -> Staging:
        if name.startswith("waiting."):
            self.reached.set()
            assert self.go.wait(PATIENCE)
        return super().stage(name)

    def publish(self, name: str, destination: str) -> None:
        if name.startswith("refused."):
            raise BadJob("destination: there is a file")
        super().publish(name, destination)

    def staged(self, name: str) -> Staging:
        staging = super().staged(name)
        if name.startswith("refused."):
            discard = staging.discard
            staging.discard = lambda: self.go.wait(PATIENCE) and discard()  # type: ignore[method-assign]
        return staging


class Bench:
    """A dispatcher with two workers, on a table that loses the answer to the first claim of the job `unheard`."""

    def __init__(self, root: Path) -> None:
        self.database = Unheard(open_engine(f"sqlite:///{root / 'thumbd.db'}"), _claims_unheard)
        self.store = Gated(root / "store")
        self.ended: asyncio.Queue[Known] = asyncio.Queue()
        self._media = root
        self._workers = [Worker("cpu", Watch(), lambda how: None, WORKER) for _ in range(2)]
        means = Means(
            self.database,
            self.store,
            Sources(Files((root,), 1 << 20, {})),
            Metrics(),
            Policy(),
            Terms("a"),
            self._settled,
        )
        self._dispatcher = Dispatcher(means, self._workers)

    def _settled(self, settled: Settled) -> None:
        self.ended.put_nowait(settled.job)

    async def add(self, key: str) -> None:
        source = self._media / key
        source.write_bytes(b"a film")
        job = Job.check({"source": str(source), "outputs": [thumbnail(1, name="good")]})
        added = new(key, source=str(source), job=job.model_dump_json(exclude_unset=True))
        assert await self.database.run(lambda c: table.add(c, added))
        self._dispatcher.wake()

    async def row(self, key: str) -> Row[Any]:
        return await self.database.run(lambda c: c.execute(select(jobs).where(jobs.c.key == key)).one())

    def tell(self, story: Callable[[], Awaitable[None]]) -> None:
        """Runs the dispatcher beside a story, and drains it at its end."""

        async def whole() -> None:
            running = asyncio.create_task(self._dispatcher.run())
            try:
                async with asyncio.timeout(PATIENCE):
                    await story()
                    self._dispatcher.drain()
                    await running
            finally:
                self.store.go.set()
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                for worker in self._workers:
                    await worker.kill()

        asyncio.run(whole())


def _claims_unheard(answer: Any) -> bool:
    return isinstance(answer, Claimed) and any(held.key == "unheard" for held in answer.held)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr("daemon.means.AGAIN_SECONDS", 0.001)
    bench = Bench(tmp_path)
    yield bench
    bench.database.close()


def test_a_job_whose_claim_was_not_heard_of_is_run_once(bench: Bench) -> None:
    """It was committed: the job is this owner's, who does not know of it, and whose heart keeps the lease alive."""

    async def story() -> None:
        await bench.add("unheard")
        ended = await bench.ended.get()
        assert (ended.key, ended.state, ended.attempt) == ("unheard", COMPLETED, 2)
        row = await bench.row("unheard")
        assert (row.owner, row.failures, row.deaths, row.lost_starts, row.suspect) == (None, 0, 0, 0, False)

    bench.tell(story)
    assert bench.database.lost == 1 and bench.ended.empty()


def test_who_waits_hears_of_a_withdrawn_job_before_its_files_are_cleared_away(bench: Bench) -> None:
    """From the moment when it has failed it may be queued again."""

    async def story() -> None:
        await bench.add("refused")
        ended = await bench.ended.get()
        assert (ended.key, ended.state) == ("refused", FAILED)
        bench.store.go.set()

    bench.tell(story)


def test_what_runs_is_not_given_back_with_it(bench: Bench) -> None:
    async def story() -> None:
        await bench.add("waiting")
        await asyncio.to_thread(bench.store.reached.wait, PATIENCE)
        await bench.add("unheard")
        ended = await bench.ended.get()
        assert (ended.key, ended.state, ended.attempt) == ("unheard", COMPLETED, 2)
        row = await bench.row("waiting")
        assert (row.state, row.owner, row.token) == (RUNNING, "a", 1)
        bench.store.go.set()
        ended = await bench.ended.get()
        assert (ended.key, ended.state, ended.attempt) == ("waiting", COMPLETED, 1)

    bench.tell(story)
    assert bench.database.lost == 1 and bench.ended.empty()
