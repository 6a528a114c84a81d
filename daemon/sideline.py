"""A worker beside the lanes, for small tasks that somebody waits for: no row, no queue, one task after another."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

from daemon.errors import WorkerFailure
from daemon.outputs import Output
from daemon.production import Made, Production
from daemon.sources import Opened
from daemon.store.staging import Staging
from daemon.task import Task
from daemon.worker.handle import Worker


class Sideline:
    """Its worker is started when it is needed. `background`: what lies under what is transparent."""

    def __init__(self, worker: Worker, background: tuple[int, int, int] = (0, 0, 0)) -> None:
        self._worker = worker
        self._background = background
        self._busy = asyncio.Lock()

    async def make(self, outputs: Sequence[Output], source: Opened, staging: Staging) -> Made:
        """Makes these outputs of an open source, staged. Raises the source's failure, StoreFailure and
        WorkerFailure."""
        task = Task(jobs=(tuple(outputs),), background=self._background)
        async with self._busy:
            if not self._worker.alive:
                await self._worker.start()
            made: Made | None = None
            production = Production(task, [staging], lambda job, done, in_all: None)
            async with aclosing(production.run(self._worker, source.descriptor, source.answers)) as jobs:
                async for each in jobs:
                    made = each
        if made is None:
            raise WorkerFailure("the worker said nothing of the source")
        if made.failure is not None:
            raise made.failure
        return made

    async def close(self) -> None:
        await self._worker.kill()
