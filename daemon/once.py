"""One job without a daemon: the same worker, checks and publication, with the user's own rights."""

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

from daemon.batch import report_of
from daemon.build import build_sources, build_worker, terms_of
from daemon.config import Settings
from daemon.errors import BadJob, Failure
from daemon.files import MANIFEST, files_of
from daemon.job import Job
from daemon.owed.promise import refuse_owing
from daemon.production import Made, Production
from daemon.report import Report
from daemon.store.folder import Folder
from daemon.task import Task
from daemon.ulid import new_ulid


async def run_once(
    job: Job, settings: Settings, destination: str, told: Callable[[int, int], None], threads: int
) -> Report:
    """Runs a job into `<store.root>/<destination>` and gives its report. `told` hears (pictures made, in all). Raises
    BadJob where it asks for what only a daemon does."""
    refuse_owing(job)
    id = job.id or new_ulid()
    store = Folder(settings.store.root)
    worker = build_worker(settings)
    terms = terms_of(settings, "once")
    task = Task(jobs=(job.outputs,), threads=threads, background=terms.background, limits=terms.limits)
    name = f"once-{new_ulid()}"
    made: Made | None = None
    try:
        async with build_sources(settings.sources, None).open(job.source) as opened:
            store.check()
            if destination:
                store.check_destination(destination)
            _spare_foreign_manifest(store.root / destination / MANIFEST)
            _spare_source(job, store.root / destination)
            staging = store.stage(name)
            await worker.start()
            production = Production(task, [staging], lambda _, done, in_all: told(done, in_all))
            async with aclosing(production.run(worker, opened.descriptor, opened.answers)) as jobs:
                async for each in jobs:
                    made = each
            if made is None or made.failure is not None:
                raise made.failure if made and made.failure else Failure("the worker said nothing of the job")
            report = report_of(job, id, 1, made, destination)
            staging.write({MANIFEST: report.json_bytes()})
            store.publish(name, destination)
    except Failure as said:
        report = report_of(job, id, 1, made, destination, said)
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await worker.kill()
        store.staged(name).discard()
    return report


def _spare_source(job: Job, folder: Path) -> None:
    """The picture of `loop.webp` would be called just like it."""
    source = Path(job.source)
    if source.exists() and folder.exists() and source.resolve().parent == folder.resolve():
        name = source.resolve().name
        for output in job.outputs:
            if any(files.holds(name) for files in files_of(output)):
                raise BadJob(f"output {output.name!r} would replace its own source: give --name, or --out")


def _spare_foreign_manifest(path: Path) -> None:
    """Many a web project has a file of this name; ours replaces only its like."""
    if path.exists():
        try:
            Report.model_validate_json(path.read_bytes())
        except (OSError, ValueError):
            raise BadJob(f"{path} is there and is none of ours: give another folder with --out") from None
