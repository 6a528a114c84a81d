"""A cancellation waits for the thread, and none is swallowed."""

import asyncio
import threading
from pathlib import Path

import pytest
from harness import PROMISE

from daemon.database import Database, open_engine
from daemon.intake.inbox import Inbox
from daemon.intake.spool import Spool
from daemon.metrics import Metrics
from daemon.threads import in_thread


def test_the_result_and_the_error_are_those_of_the_work() -> None:
    def divide(a: int, b: int) -> float:
        return a / b

    assert asyncio.run(in_thread(divide, 6, b=3)) == 2
    with pytest.raises(ZeroDivisionError):
        asyncio.run(in_thread(divide, 6, 0))


@pytest.mark.parametrize("fails", [False, True])
def test_cancelled_it_ends_when_the_thread_has(fails: bool) -> None:
    begun, go = threading.Event(), threading.Event()
    ended = []

    def work() -> None:
        begun.set()
        assert go.wait(40)
        ended.append(True)
        if fails:
            raise OSError("nobody is there to hear it")

    async def cancel_twice() -> None:
        task = asyncio.create_task(in_thread(work))
        await asyncio.to_thread(begun.wait, 40)
        for _ in range(2):
            task.cancel()
            for _ in range(10):
                await asyncio.sleep(0)
            assert not task.done()
        go.set()
        await asyncio.wait([task])
        assert ended == [True] and task.cancelled()

    asyncio.run(cancel_twice())


@pytest.mark.parametrize("turns", range(4))
def test_an_inbox_that_is_woken_and_cancelled_at_once_ends(tmp_path: Path, turns: int) -> None:
    """`asyncio.wait_for` swallows the cancellation here, until Python 3.12."""
    database = Database(open_engine(f"sqlite:///{tmp_path / 'thumbd.db'}"))
    spool = Spool(tmp_path / "spool", "me", 0)
    spool.open()
    inbox = Inbox(spool, database, Metrics(), 1000, lambda owing: None, PROMISE)
    inbox.paused = "it has nothing to do but wait"

    async def wake_and_cancel() -> None:
        task = asyncio.create_task(inbox.run())
        for _ in range(10):
            await asyncio.sleep(0)
        inbox.wake()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=5)
        assert done and task.cancelled()

    asyncio.run(wake_and_cancel())
    database.close()
    spool.close()
