"""A look at a source in a worker: its facts, once a picture of it has come out."""

import asyncio
import tempfile
from contextlib import aclosing
from pathlib import Path

from daemon.errors import WorkerFailure
from daemon.job import Job
from daemon.production import Made, Production
from daemon.report import SourceFacts
from daemon.sources import Opened
from daemon.store.folder import Staging
from daemon.task import Task
from daemon.worker.handle import Worker

# The first keyframe, and hardly any of it: what cannot be decoded at all is no video.
_FIRST = {"output": "thumbnail", "at": 0, "accuracy": "keyframe", "width": 16, "height": 16, "fit": "stretch"}
_LOOK = Task(jobs=(Job.check({"source": "video", "outputs": [_FIRST]}).outputs,))


class Probe:
    """Probes one source at a time, in a worker of its own that is started when it is needed."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._busy = asyncio.Lock()

    async def facts(self, source: Opened) -> SourceFacts:
        """Of an open source. Raises the source's failure, and WorkerFailure."""
        async with self._busy:
            with tempfile.TemporaryDirectory(prefix="thumbd-probe-") as folder:
                return await self._facts(source, Staging(Path(folder)))

    async def _facts(self, source: Opened, staging: Staging) -> SourceFacts:
        if not self._worker.alive:
            await self._worker.start()
        production = Production(_LOOK, [staging], lambda job, done, in_all: None)
        made: Made | None = None
        async with aclosing(production.run(self._worker, source.descriptor, source.answers)) as jobs:
            async for each in jobs:
                made = each
        if made is None or made.source is None:
            raise (made and made.failure) or WorkerFailure("the worker said nothing of the source")
        if made.failure is not None:
            raise made.failure
        return made.source

    async def close(self) -> None:
        await self._worker.kill()
