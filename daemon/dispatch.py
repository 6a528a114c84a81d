"""One batch as one story: claimed, opened, staged, run in a worker, published, settled.

`Dispatcher.run` says how many at once; everything about one batch is in `_Batch`, to be read from top to bottom.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic
from typing import TypeVar

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from daemon.cache import Reused, reuse
from daemon.catalogue import artifacts, organisations
from daemon.catalogue.artifacts import Artifact, Origin, recipe
from daemon.catalogue.videos import place_of
from daemon.database import Database
from daemon.errors import BadJob, Cancelled, Failure, Interrupted, LeaseLost, SourceFailure, StoreFailure
from daemon.job import MANIFEST, Job, Output
from daemon.jobs import table
from daemon.jobs.retry import Over, Policy, judge
from daemon.jobs.table import Held, Publication
from daemon.metrics import Metrics
from daemon.production import Made, Production, Tally
from daemon.report import ErrorReport, Report, Timings, placed
from daemon.sources import Opened, Sources
from daemon.store.protocol import Staging, Store
from daemon.task import MAX_FILES, Limits, Task
from daemon.threads import in_thread
from daemon.worker.handle import Worker

log = structlog.get_logger()
T = TypeVar("T")

_AGAIN = 1.0  # seconds between tries of what must be done in the end


@dataclass(frozen=True)
class Terms:
    """How jobs are claimed and run. Times in seconds; `riders`: jobs that may share a pass with the one in turn."""

    owner: str
    lease: float = 30.0
    beat: float = 1.0
    idle_poll: float = 1.0
    riders: int = 64
    threads: int = 2
    background: tuple[int, int, int] = (0, 0, 0)
    limits: Limits = field(default_factory=Limits)


class Dispatcher:
    """Keeps the workers busy with claimed jobs. Call `wake` when there may be new ones."""

    def __init__(
        self,
        database: Database,
        store: Store,
        sources: Sources,
        workers: Sequence[Worker],
        metrics: Metrics,
        policy: Policy,
        terms: Terms,
        settled: Callable[[str], None],
    ) -> None:
        self.database = database
        self.store = store
        self.sources = sources
        self.metrics = metrics
        self.policy = policy
        self.terms = terms
        self.settled = settled
        self.paused: str | None = None  # why nothing is claimed
        self.moved = monotonic()  # when the heart last beat
        self._workers = workers
        self._batches: set[_Batch] = set()
        self._adopted: set[asyncio.Task[Failure | None]] = set()
        self._news = asyncio.Event()
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
        heart = asyncio.create_task(self._heart())
        try:
            async with asyncio.TaskGroup() as lanes:
                for worker in self._workers:
                    lanes.create_task(self._lane(worker))
            await asyncio.gather(*self._adopted)
        finally:
            for task in (heart, *self._adopted):
                task.cancel()

    async def do(self, op: str, change: Callable[[Connection], T]) -> T:
        """A change of the job table, timed."""
        begun = monotonic()
        try:
            return await self.database.run(change)
        finally:
            self.metrics.table_duration.labels(op).observe(monotonic() - begun)

    async def known_artifacts(self, org: str, recipes: Sequence[str]) -> dict[str, Artifact]:
        """What was published by these recipes."""
        return await self.insist("cache", lambda c: artifacts.equals(c, org, recipes))

    def adopt(self, publication: Publication) -> None:
        """Rolls forward, beside all else, what an owner that is gone has left."""
        task = asyncio.create_task(self.roll_forward(publication))
        self._adopted.add(task)
        task.add_done_callback(self._adopted.discard)

    async def roll_forward(self, publication: Publication) -> Failure | None:
        """Brings a publication to its end, however often that takes: it is past the point of no return. The failure
        where there can be no end."""
        refused: Failure | None = None
        while True:
            try:
                await in_thread(self.store.check_destination, publication.destination)
                await in_thread(self.store.publish, publication.staging, publication.destination)
                break
            except StoreFailure as failure:
                log.error("publishing will be tried again", job=publication.key, reason=failure.message)
                await asyncio.sleep(_AGAIN)
            except BadJob as bad:  # since it was staged another job has put a file where it needs a folder
                refused = bad
                break
        if refused is None:
            ended = await self.insist("complete", lambda c: _complete(c, publication))
        else:
            ended = await self.insist("withdraw", lambda c: _withdraw(c, publication, refused))
            await in_thread(self.store.staged(publication.staging).discard)
        if ended:
            self.settled(publication.key)
        return refused

    async def insist(self, op: str, change: Callable[[Connection], T]) -> T:
        """As `do`, but waits for a database that cannot be reached just now."""
        while True:
            try:
                return await self.do(op, change)
            except DBAPIError as error:
                log.error("the job table cannot be reached", op=op, reason=str(error.orig))
                await asyncio.sleep(_AGAIN)

    async def _lane(self, worker: Worker) -> None:
        while not self._draining:
            self._news.clear()
            if not worker.alive:
                try:
                    await worker.start()
                except Failure as failure:
                    log.error("a worker cannot be started", reason=failure.message)
                    await asyncio.sleep(_AGAIN)
                    continue
            held = [] if self.paused else await self._claim()
            if held:
                batch = _Batch(self, worker, held)
                self._batches.add(batch)
                try:
                    await batch.run()
                finally:
                    self._batches.discard(batch)
            else:
                with contextlib.suppress(TimeoutError):
                    # Not wait_for: until Python 3.12 it may swallow a cancellation that comes with the event.
                    async with asyncio.timeout(self.terms.idle_poll):
                        await self._news.wait()

    async def _claim(self) -> list[Held]:
        terms = self.terms

        def claim(connection: Connection) -> list[list[Held]]:
            caps = organisations.caps(connection)
            return table.claim(connection, terms.owner, 1, terms.riders, terms.lease, caps)

        batches = await self.insist("claim", claim)
        return batches[0] if batches else []

    async def _heart(self) -> None:
        while True:
            await asyncio.sleep(self.terms.beat)
            progress = {key: made for batch in self._batches for key, made in batch.take_progress().items()}
            beat = partial(table.heartbeat, owner=self.terms.owner, lease=self.terms.lease, progress=progress)
            held, cancelled = await self.insist("heartbeat", beat)
            self.moved = monotonic()
            for batch in self._batches:
                batch.keep_only(held, cancelled)


class _Batch:
    """Jobs that were claimed together, in one worker."""

    def __init__(self, dispatcher: Dispatcher, worker: Worker, held: Sequence[Held]) -> None:
        self._dispatcher = dispatcher
        self._metrics = dispatcher.metrics
        self._worker = worker
        self._all = held
        self._jobs: dict[str, Job] = {}
        self._origin = Origin()
        self._recipes: dict[str, dict[int, str]] = {}
        self._reused: dict[str, Reused] = {job.key: Reused() for job in held}
        self._open: dict[str, Held] = {job.key: job for job in held}  # not yet settled
        self._settling: dict[str, asyncio.Task[None]] = {}
        self._stagings: dict[str, Staging] = {}
        self._dropped: dict[str, Failure] = {}
        self._performing: list[Held] = []
        self._production: Production | None = None
        self._progress: dict[str, tuple[int, int]] = {}
        self._begun = monotonic()

    async def run(self) -> None:
        """From claimed to settled. Raises nothing but cancellation: then the jobs are still held."""
        self._metrics.batch_jobs.observe(len(self._all))
        for held in self._all:
            self._metrics.queue_duration.observe(held.queued_seconds)
            log.info("claimed", **_who(held), suspect=held.suspect)
        try:
            await self._perform()
            failure = Failure("the worker said nothing of it")
        except Failure as failed:
            failure = failed
        except Exception as error:  # a fault of our own must not end the daemon, nor leave jobs held for ever
            log.exception("internal error")
            failure = Failure(f"internal error: {type(error).__name__}")
        alone = len(self._performing) == 1
        for held in list(self._open.values()):
            await self._failed(held, failure, alone=alone)

    async def _perform(self) -> None:
        dispatcher, lead = self._dispatcher, self._all[0]
        self._jobs = {held.key: Job.read(held.job) for held in self._all}
        place = await dispatcher.insist("place", lambda c: place_of(c, lead.org, lead.source))
        async with dispatcher.sources.open(place.source, place.roots) as opened:
            self._origin = Origin(opened.identity, place.revision)
            files = 0
            for held in self._all:
                # The files of a task go over the wire at once, and one job's always can.
                files += len(Task(jobs=(self._jobs[held.key].outputs,)).files)
                if files > MAX_FILES:
                    await self._failed(held, Interrupted("those that share its pass write enough files"))
                else:
                    await self._stage(held)
            staged = list(self._open.values())
            started = await dispatcher.insist("start", lambda c: table.start(c, staged))
            for held in staged:
                if held not in started:
                    await self._failed(held, LeaseLost("another owner has it"))
                elif await self._find_equal(held):
                    self._performing.append(held)
            if self._performing:
                await self._produce(opened)

    async def _stage(self, held: Held) -> None:
        store = self._dispatcher.store
        try:
            await in_thread(store.check_destination, held.destination)
            self._stagings[held.key] = await in_thread(store.stage, held.staging)
        except Failure as failure:
            await self._failed(held, failure)

    async def _find_equal(self, held: Held) -> bool:
        """Takes what was made before; whether anything is left to be made. Else the job is settled."""
        dispatcher, job = self._dispatcher, self._jobs[held.key]
        device, background = self._worker.device, dispatcher.terms.background
        made_of = {n: recipe(self._origin, output, device, background) for n, output in enumerate(job.outputs)}
        self._recipes[held.key] = recipes = {n: known for n, known in made_of.items() if known is not None}
        if job.cache:
            staging = self._stagings[held.key]
            ask = partial(dispatcher.known_artifacts, held.org)
            self._reused[held.key] = reused = await reuse(staging, job.outputs, recipes, ask)
            self._metrics.cache_requests.labels("hit").inc(len(reused.outputs))
            self._metrics.cache_requests.labels("miss").inc(len(job.outputs) - len(reused.outputs))
            if len(reused.outputs) == len(job.outputs):
                nothing = Made(0, {}, warnings=(), source=reused.source, timings=Timings(), failure=None)
                await self._finish(held, nothing)
                return False
        return True

    def _left(self, held: Held) -> dict[int, Output]:
        """The outputs that are to be made, by their numbers in the job."""
        reused = self._reused[held.key].outputs
        return {n: output for n, output in enumerate(self._jobs[held.key].outputs) if n not in reused}

    async def _produce(self, opened: Opened) -> None:
        terms = self._dispatcher.terms
        task = Task(
            jobs=tuple(tuple(self._left(held).values()) for held in self._performing),
            threads=terms.threads,
            background=terms.background,
            limits=terms.limits,
        )
        stagings = [self._stagings[held.key] for held in self._performing]
        self._production = production = Production(task, stagings, self._note)
        try:
            async with aclosing(production.run(self._worker, opened.descriptor, opened.answers)) as jobs:
                async for made in jobs:
                    held = self._performing[made.job]
                    self._settle(held, self._finish(held, made))
        except asyncio.CancelledError:
            for settling in self._settling.values():
                settling.cancel()
            raise
        finally:
            await asyncio.gather(*self._settling.values())
            self._count(production.tally)

    def _settle(self, held: Held, settling: Coroutine[None, None, None]) -> None:
        """Once only, and beside the decoding of the jobs that come after: it goes on should the worker die of those."""
        if held.key in self._settling:
            settling.close()
        else:
            self._settling[held.key] = asyncio.create_task(settling)

    async def _finish(self, held: Held, made: Made) -> None:
        failure = self._dropped.get(held.key) or made.failure
        try:
            if failure is not None:
                raise failure
            await self._publish(held, self._whole(held, made))
        except Failure as failed:
            await self._failed(held, failed, made=made)

    def _whole(self, held: Held, made: Made) -> Made:
        """What was made and what was there before, by the numbers of the job's outputs."""
        numbers, reused = list(self._left(held)), self._reused[held.key]
        outputs = {numbers[n]: report for n, report in made.outputs.items()} | dict(reused.outputs)
        return replace(made, outputs=dict(sorted(outputs.items())), source=made.source or reused.source)

    async def _drop(self, production: Production, number: int, failure: Failure) -> None:
        await production.written(number)
        await self._failed(self._performing[number], failure)

    async def _publish(self, held: Held, made: Made) -> None:
        report = _report(held, made)
        await in_thread(self._stagings[held.key].write, {MANIFEST: report.json_bytes()})
        recipes = [self._recipes[held.key].get(n) for n in made.outputs]
        begin = partial(_begin_publishing, held, report, self._origin, recipes)
        while (answer := await self._dispatcher.insist("publishing", begin)) == "wait":
            await asyncio.sleep(0.05)
        if answer == "lost":
            raise LeaseLost("another owner has it")
        if answer == "cancelled":
            raise Cancelled("cancelled while it ran")
        self._open.pop(held.key)  # past the point of no return: nobody may fail it any more
        publication = Publication(held.key, held.token, held.staging, held.destination)
        refused = await self._dispatcher.roll_forward(publication)
        self._over(held, "failed" if refused else "completed", refused)

    async def _failed(self, held: Held, failure: Failure, *, alone: bool = True, made: Made | None = None) -> None:
        """Settles a job that has no pictures, by the verdict of the retry policy."""
        dispatcher = self._dispatcher
        failure = self._dropped.get(held.key, failure)
        if isinstance(failure, SourceFailure):
            failure = failure.named(held.source)
        if held.key in self._stagings:
            await in_thread(self._stagings[held.key].discard)
        if isinstance(failure, LeaseLost):
            self._metrics.lease_lost.inc()
            self._over(held, "lost", failure)
            return
        if isinstance(failure, StoreFailure):
            dispatcher.pause("store")
        verdict = judge(held.history, failure, alone=alone, policy=dispatcher.policy)
        if isinstance(verdict, Over):
            report = _report(held, made, verdict.failure).model_dump_json()
            still = await dispatcher.insist("fail", lambda c: table.fail(c, held, report))
            self._over(held, "failed", failure)
            if still:
                dispatcher.settled(held.key)
        else:
            again = verdict
            await dispatcher.insist("put_back", lambda c: table.put_back(c, held, again))
            self._metrics.job_retries.labels(failure.code).inc()
            self._over(held, "again", failure)
            dispatcher.wake()

    def _over(self, held: Held, outcome: str, failure: Failure | None = None) -> None:
        self._open.pop(held.key, None)
        self._progress.pop(held.key, None)
        seconds = monotonic() - self._begun
        if outcome in ("completed", "failed"):
            label = "cancelled" if isinstance(failure, Cancelled) else outcome
            self._metrics.jobs_finished.labels(label).inc()
            self._metrics.job_duration.labels(label).observe(seconds)
        reason = {"code": failure.code, "reason": failure.message} if failure else {}
        say = log.info if failure is None else log.warning
        say(outcome, **_who(held), worker=self._worker.pid, seconds=round(seconds, 3), **reason)

    # What the heart asks of it.

    def take_progress(self) -> dict[str, tuple[int, int]]:
        progress, self._progress = self._progress, {}
        return progress

    def keep_only(self, held: set[str], cancelled: set[str]) -> None:
        """Goes on with nothing that another owner has, or that somebody wants cancelled."""
        for number, job in enumerate(self._performing):
            if job.key not in self._open or job.key in self._dropped:
                continue
            if job.key not in held:
                self._dropped[job.key] = LeaseLost("another owner has it")
            elif job.key in cancelled:
                self._dropped[job.key] = Cancelled("cancelled while it ran")
            else:
                continue
            if self._production is not None:
                self._production.stop(number)
                self._worker.stop_jobs([number])
                self._settle(job, self._drop(self._production, number, self._dropped[job.key]))

    def _note(self, job: int, made: int, in_all: int) -> None:
        self._progress[self._performing[job].key] = (made, in_all)

    def _count(self, tally: Tally) -> None:
        for stage, seconds in tally.times.model_dump().items():
            self._metrics.stage_duration.labels(stage).observe(seconds)
        self._metrics.source_read.inc(tally.read_bytes)
        self._metrics.output_written.inc(tally.written_bytes)
        if tally.frames:
            self._metrics.frames_decoded.labels(tally.device, tally.codec).inc(tally.frames)
        if tally.fallback:
            self._metrics.decode_fallbacks.labels(tally.fallback).inc()
        for format, count in tally.encoded.items():
            self._metrics.pictures_encoded.labels(format).inc(count)


def _complete(connection: Connection, publication: Publication) -> bool:
    if ended := table.complete(connection, publication):
        artifacts.show(connection, publication.key)
    return ended


def _withdraw(connection: Connection, publication: Publication, failure: Failure) -> bool:
    if ended := table.withdraw(connection, publication, failure):
        artifacts.withdraw(connection, publication.key)
    return ended


def _begin_publishing(
    held: Held, report: Report, origin: Origin, recipes: Sequence[str | None], connection: Connection
) -> str:
    """The point of no return: from here on it is known what will be where."""
    answer = table.publishing(connection, held, report.model_dump_json())
    if answer == "go":
        made = zip(report.outputs, recipes, strict=True)
        artifacts.announce(connection, held.key, held.org, held.id, held.destination, report.source, origin, list(made))
    return answer


def report_of(
    job: Job, id: str, attempt: int, made: Made | None, destination: str, failure: Failure | None = None
) -> Report:
    """The report of an attempt that ended: completed with what was `made`, or failed."""
    return Report(
        id=id,
        org=job.org,
        status="failed" if failure else "completed",
        attempt=attempt,
        source=made.source if made else None,
        outputs=[placed(report, destination) for report in made.outputs.values()] if made and not failure else [],
        warnings=list(made.warnings) if made else [],
        error=ErrorReport.model_validate(failure.as_dict()) if failure else None,
        timings=made.timings if made else Timings(),
        payload=job.payload,
    )


def _report(held: Held, made: Made | None, failure: Failure | None = None) -> Report:
    report = report_of(Job.read(held.job), held.id, held.token, made, held.destination, failure)
    timings = report.timings.model_copy(update={"queue": round(held.queued_seconds, 6)})
    return report.model_copy(update={"timings": timings})


def _who(held: Held) -> dict[str, object]:
    return {"job_id": held.id, "org": held.org, "attempt": held.token, "token": held.token}
