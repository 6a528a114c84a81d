"""One batch as one story: claimed, opened, staged, run in a worker, published, settled. Read it from top to bottom."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic

import structlog

from daemon.cache import Reused, reuse
from daemon.catalogue.artifacts import Origin, recipe
from daemon.catalogue.videos import Place
from daemon.errors import BadJob, Cancelled, Failure, Interrupted, LeaseLost, SourceFailure, StoreFailure
from daemon.files import MANIFEST
from daemon.job import Job
from daemon.jobs import lease
from daemon.jobs.retry import Over, judge
from daemon.jobs.row import Held, Publication, failed_report
from daemon.means import Means
from daemon.outputs import Output
from daemon.production import Made, Production, Tally
from daemon.report import ErrorReport, Report, Timings, placed
from daemon.sources import Opened
from daemon.store.protocol import Staging, Store
from daemon.task import MAX_FILES, Task
from daemon.threads import in_thread
from daemon.worker.handle import Worker

log = structlog.get_logger()


@dataclass(frozen=True)
class Claimed:
    """Jobs that were claimed together, on one source: where that is, or why it is nowhere."""

    held: Sequence[Held]
    place: Place | Failure


class Batch:
    """Jobs that were claimed together, in one worker. `pause` is called with the reason where no batch can be published
    just now, `wake` where a job has been put back."""

    def __init__(
        self,
        means: Means,
        worker: Worker,
        claimed: Claimed,
        pause: Callable[[str], None],
        wake: Callable[[], None],
    ) -> None:
        self._means = means
        self._metrics = means.metrics
        self._pause = pause
        self._wake = wake
        self._worker = worker
        self.held = held = claimed.held
        self._place = claimed.place
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
        self._metrics.batch_jobs.observe(len(self.held))
        for held in self.held:
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
        sources, place = self._means.sources, self._place
        if isinstance(place, Failure):
            raise place
        for held in self.held:
            try:
                self._jobs[held.key] = Job.read(held.job)
            except BadJob as bad:  # of another version
                await self._failed(held, bad)
        if not self._open:
            return
        opening = (
            sources.open(place.source, place.roots)
            if place.upload is None
            else sources.open_upload(place.source, place.upload)
        )
        async with opening as opened:
            self._origin = Origin(opened.identity, place.revision)
            files = 0
            for held in list(self._open.values()):
                # The files of a task go over the wire at once, and one job's always can.
                files += len(Task(jobs=(self._jobs[held.key].outputs,)).files)
                if files > MAX_FILES:
                    await self._failed(held, Interrupted("those that share its pass write enough files"))
                else:
                    await self._stage(held)
            for held in list(self._open.values()):
                if await self._find_equal(held):
                    self._performing.append(held)
            if self._performing:
                await self._produce(opened)

    async def _stage(self, held: Held) -> None:
        try:
            self._stagings[held.key] = await in_thread(_stage, self._means.store, held)
        except Failure as failure:
            await self._failed(held, failure)

    async def _find_equal(self, held: Held) -> bool:
        """Takes what was made before; whether anything is left to be made. Else the job is settled."""
        means, job = self._means, self._jobs[held.key]
        device, background = self._worker.device, means.terms.background
        made_of = {n: recipe(self._origin, output, device, background) for n, output in enumerate(job.outputs)}
        self._recipes[held.key] = recipes = {n: known for n, known in made_of.items() if known is not None}
        if job.cache:
            staging = self._stagings[held.key]
            ask = partial(means.known_artifacts, held.org)
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
        terms = self._means.terms
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
        report = self._report(held, made)
        await in_thread(self._stagings[held.key].write, {MANIFEST: report.json_bytes()})
        recipes = [self._recipes[held.key].get(n) for n in made.outputs]
        while (answer := await self._means.begin_publishing(held, report, self._origin, recipes)) == "wait":
            await asyncio.sleep(0.05)
        if answer == "lost":
            raise LeaseLost("another owner has it")
        if answer == "cancelled":
            raise Cancelled("cancelled while it ran")
        self._open.pop(held.key)  # past the point of no return: nobody may fail it any more
        publication = Publication(held.key, held.token, held.staging, held.destination)
        refused = await self._means.roll_forward(publication)
        self._over(held, "failed" if refused else "completed", refused)

    async def _failed(self, held: Held, failure: Failure, *, alone: bool = True, made: Made | None = None) -> None:
        """Settles a job that has no pictures, by the verdict of the retry policy."""
        means = self._means
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
            self._pause("store")
        verdict = judge(held.history, failure, alone=alone, policy=means.policy)
        if isinstance(verdict, Over):
            report = self._report(held, made, verdict.failure).model_dump_json()
            settled = await means.insist("fail", lambda c: lease.fail(c, held, report))
            self._over(held, "failed", failure)
            if settled:
                means.settled(settled)
        else:
            again = verdict
            await means.insist("put_back", lambda c: lease.put_back(c, held, again))
            self._metrics.job_retries.labels(failure.code).inc()
            self._over(held, "again", failure)
            self._wake()

    def _report(self, held: Held, made: Made | None, failure: Failure | None = None) -> Report:
        if (job := self._jobs.get(held.key)) is not None:
            report = report_of(job, held.id, held.token, made, held.destination, failure)
        else:
            report = Report.model_validate_json(failed_report(held, failure or Failure("it was never read")))
        timings = report.timings.model_copy(update={"queue": round(held.queued_seconds, 6)})
        return report.model_copy(update={"timings": timings})

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


def _stage(store: Store, held: Held) -> Staging:
    store.check_destination(held.destination)
    return store.stage(held.staging)


def _who(held: Held) -> dict[str, object]:
    return {"job_id": held.id, "org": held.org, "attempt": held.token, "token": held.token}
