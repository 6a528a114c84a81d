"""A look at a source in a worker: its facts, once a picture of it has come out."""

import tempfile
from pathlib import Path

from daemon.errors import WorkerFailure
from daemon.job import Job
from daemon.report import SourceFacts
from daemon.sideline import Sideline
from daemon.sources import Opened
from daemon.store.staging import Staging
from daemon.worker.handle import Worker

# The first keyframe, and hardly any of it: what cannot be decoded at all is no video.
_FIRST = {"output": "thumbnail", "at": 0, "accuracy": "keyframe", "width": 16, "height": 16, "fit": "stretch"}
_LOOK = Job.check({"source": "video", "outputs": [_FIRST]}).outputs


async def facts_of(line: Sideline, source: Opened) -> SourceFacts:
    """Of an open source. Raises the source's failure, and WorkerFailure."""
    with tempfile.TemporaryDirectory(prefix="thumbd-probe-") as folder:
        made = await line.make(_LOOK, source, Staging(Path(folder)))
    if made.source is None:
        raise WorkerFailure("the worker said nothing of the source")
    return made.source


class Probe:
    """Probes one source at a time, in a worker of its own that is started when it is needed."""

    def __init__(self, worker: Worker) -> None:
        self._line = Sideline(worker)

    async def facts(self, source: Opened) -> SourceFacts:
        """Of an open source. Raises the source's failure, and WorkerFailure."""
        return await facts_of(self._line, source)

    async def close(self) -> None:
        await self._line.close()
