"""The end of files that were to live for a while only: they leave the store, and the manifest; the report stays."""

from functools import partial

from daemon.catalogue import artifacts
from daemon.database import Database
from daemon.errors import TargetRefused
from daemon.jobs import lease
from daemon.jobs.errands import Errand
from daemon.owed.runner import Later
from daemon.report import Report
from daemon.store.protocol import Store
from daemon.threads import in_thread

_WAIT = 1.0  # seconds for a publication to end


class Expiry:
    """Pays with the removal of files. While such an errand runs nothing is published where it removes."""

    def __init__(self, database: Database, store: Store) -> None:
        self._database = database
        self._store = store

    async def pay(self, errand: Errand) -> str:
        """Raises Later while a job publishes there, and StoreFailure."""
        found = await self._database.run(lambda c: lease.expire(c, errand.job))
        if found == "wait":
            raise Later(_WAIT)
        if found == "gone":
            raise TargetRefused("there is no job any more that made the files")
        job, taken = found
        over = frozenset(errand.target["outputs"])
        files = [file for output in job.report.outputs if output.name in over for file in output.files]
        doomed = [file for file in files if file not in taken]
        await self._database.run(lambda c: artifacts.forget(c, errand.job, files))
        rewrite = partial(without, job=job.report, over=over)
        await in_thread(self._store.expire, job.destination, doomed, rewrite)
        return f"{len(doomed)} files"


def without(manifest: bytes, *, job: Report, over: frozenset[str]) -> bytes | None:
    """The manifest of a job less these outputs, None where none is left; that of any other job as it is."""
    try:
        report = Report.model_validate_json(manifest)
    except ValueError:
        return manifest
    if (report.id, report.org, report.attempt) != (job.id, job.org, job.attempt):
        return manifest
    left = [output for output in report.outputs if output.name not in over]
    return report.model_copy(update={"outputs": left}).json_bytes() if left else None
