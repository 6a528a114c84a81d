"""The composition root: builds a daemon of the settings, runs it, and stops it in order."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from time import monotonic

import structlog
from sqlalchemy.exc import DBAPIError
from starlette.types import ASGIApp

from daemon.catalogue import organisations
from daemon.catalogue.signing import signer
from daemon.config import BadSettings, DeliveriesSettings, Settings, SourcesSettings, StoreSettings, WebhooksSettings
from daemon.database import Database, open_engine
from daemon.dispatch import Dispatcher, Terms
from daemon.errors import StoreFailure
from daemon.health import health_app
from daemon.intake.inbox import Inbox
from daemon.intake.spool import Spool
from daemon.jobs import errands, table
from daemon.jobs.retry import Policy
from daemon.media.choice import Choice
from daemon.metrics import Metrics
from daemon.owed.delivery import Deliveries, Endpoints
from daemon.owed.expiry import Expiry
from daemon.owed.promise import Promise
from daemon.owed.runner import Backoff, Runner, Trade
from daemon.owed.secrets import BadKey, box_of
from daemon.owed.webhook import Webhooks
from daemon.probe import Probe
from daemon.service import Service
from daemon.service import Terms as ServiceTerms
from daemon.serving import listening_socket, serve
from daemon.sources import Sources
from daemon.sources.files import Files
from daemon.sources.http import Http
from daemon.sources.ranges import Patience
from daemon.sources.s3 import S3, Buckets
from daemon.sources.vetting import Vetting
from daemon.store.bucket import Bucket
from daemon.store.folder import Folder
from daemon.store.requests import Place
from daemon.tables import QUEUED, STATES
from daemon.task import Limits
from daemon.threads import in_thread
from daemon.ulid import new_ulid
from daemon.worker.handle import Watch, Worker

log = structlog.get_logger()

_LOOK_SECONDS = 2.0
_SWEEP_SECONDS = 3600.0
_EXPIRIES = 2  # at once
_STUCK_SECONDS = 60.0  # without a beat of the heart: the loop or the database hangs


def build_worker(settings: Settings, metrics: Metrics | None = None) -> Worker:
    """A worker process, not yet started."""

    def exited(reason: str) -> None:
        if metrics is not None:
            metrics.worker_exits.labels(reason).inc()

    choice = Choice(settings.device, settings.gpu.resize, settings.gpu.jpeg_pixels)
    return Worker(str(choice), Watch(settings.job.stall, settings.job.timeout), exited)


def build_sources(settings: SourcesSettings, roots: Sequence[Path] | None, metrics: Metrics | None = None) -> Sources:
    """What may be read. `roots`: None for the user's own rights to files."""
    patience = Patience(settings.connect_seconds, settings.silence_seconds, settings.piece_seconds, settings.tries)

    def http(vetting: Vetting, label: str | None = None) -> Http:
        def counted(scheme: str, outcome: str, received: int) -> None:
            if metrics is not None:
                metrics.source_requests.labels(label or scheme, outcome).inc()
                metrics.source_received.labels(label or scheme).inc(received)

        return Http(vetting, settings.max_bytes, settings.whole_bytes, settings.kept_bytes, patience, counted)

    schemes = [scheme for scheme in settings.schemes if scheme != "s3"]
    said = settings.s3
    scheme, _, host = said.place.partition("://")
    # The settings themselves name the endpoint: its address may be any, and nothing else is spoken to.
    return Sources(
        Files(roots, settings.max_bytes, settings.aliases),
        http(Vetting(schemes, settings.allowed_hosts, settings.private_hosts, settings.ports)) if schemes else None,
        S3(
            Buckets(said.place, said.region, said.key, said.secret, said.buckets),
            http(Vetting([scheme], [host], [host], (80, 443)), "s3"),
        )
        if "s3" in settings.schemes
        else None,
    )


def build_store(settings: StoreSettings) -> Folder | Bucket:
    """Where pictures are published."""
    if not settings.url:
        return Folder(settings.root)
    bucket, _, prefix = settings.url.removeprefix("s3://").partition("/")
    prefix, said = prefix.strip("/"), settings.s3
    key, secret = said.key.get_secret_value(), said.secret.get_secret_value()
    return Bucket(
        Place(said.place, bucket, prefix and f"{prefix}/", said.region, key, secret),
        settings.root,
    )


def build_probe(settings: Settings) -> Probe:
    """Looks at sources in a worker of its own, not yet started."""
    return Probe(build_worker(settings.model_copy(update={"device": "cpu"})))


def terms_of(settings: Settings, owner: str) -> Terms:
    background = bytes.fromhex(settings.store.background[1:])
    return Terms(
        owner=owner,
        lease=settings.job.lease,
        beat=min(1.0, settings.job.lease / 3),
        riders=settings.job.riders,
        threads=settings.worker_threads,
        background=(background[0], background[1], background[2]),
        limits=Limits(
            pictures=settings.job.pictures,
            held_bytes=settings.job.held_bytes,
            decoded_bytes=settings.job.decoded_bytes,
        ),
    )


class Daemon:
    """A whole daemon. `run` returns when `stop` was called and what ran is over, or given back."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.owner = new_ulid()
        self.metrics = Metrics()
        self._policy = Policy(attempts=settings.job.attempts, first_delay=settings.job.retry_delay)
        self._store = build_store(settings.store)
        self._spool = Spool(settings.spool.root, self.owner, settings.spool.settle_seconds)
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._troubles: tuple[str, ...] = ("it is starting",)
        self._service: Service | None = None
        self._full: str | None = None  # why there is no room for more jobs

    def stop(self) -> None:
        """First call: drain. Second call: end at once."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    async def run(self) -> None:
        """Raises a Failure that says which setting keeps it from starting."""
        bound, door = await in_thread(self._open)
        self._database = Database(open_engine(self._settings.database))
        self._workers = [build_worker(self._settings, self.metrics) for _ in range(self._settings.worker_processes)]
        self._dispatcher = Dispatcher(
            database=self._database,
            store=self._store,
            sources=build_sources(self._settings.sources, self._settings.sources.roots, self.metrics),
            workers=self._workers,
            metrics=self.metrics,
            policy=self._policy,
            terms=terms_of(self._settings, self.owner),
            settled=self._settled,
        )
        self._promise = Promise(self._box.seal, self._settings.webhooks.enabled, self._endpoints().refusal_of)
        self._inbox = Inbox(
            self._spool,
            self._database,
            self.metrics,
            self._settings.spool.scan_seconds,
            self._accepted,
            self._promise,
        )
        self._probe = build_probe(self._settings)
        self._errands = self._build_errands()
        try:
            # The first worker shows whether the wanted device is there at all.
            await self._workers[0].start()
            await self._recover()
            await self._serve(bound, door)
        finally:
            await self._close()

    def _open(self) -> tuple[socket.socket, socket.socket | None]:
        """The sockets of the metrics and, where it is wanted, of the API."""
        try:
            self._store.check()
            self._spool.open()
        except StoreFailure as failure:
            setting = "store.url" if self._settings.store.url else "store.root"
            raise BadSettings(f"{setting}: {failure.message}") from None
        except OSError as error:
            raise BadSettings(f"spool.root {self._spool.root}: {error.strerror or error}") from None
        try:
            self._box = box_of(self._settings.secrets.key, self._settings.secrets.key_file)
        except BadKey as bad:
            raise BadSettings(bad.message) from None
        bound = _socket("metrics.listen", self._settings.metrics.listen)
        return bound, _socket("http.listen", self._settings.http.listen) if self._settings.http.listen else None

    async def _front_door(self) -> Service:
        http, limits = self._settings.http, self._settings.limits
        return Service(
            database=self._database,
            store=self._store,
            sources=self._dispatcher.sources,
            probe=self._probe,
            signer=await self._database.run(signer),
            metrics=self.metrics,
            terms=ServiceTerms(http.base_url, http.url_life, limits.model_dump()),
            promise=self._promise,
            accepted=self._accepted,
            closed=lambda: self._inbox.paused,
        )

    def _http_app(self, service: Service) -> ASGIApp:
        from daemon.api.app import http_app  # here: it takes half a second, and those without an API need none of it

        return http_app(service, self._settings.hesedvid.fit)

    async def _serve(self, bound: socket.socket, door: socket.socket | None) -> None:
        self.metrics.build_info.labels(version("thumbd"), self._workers[0].ffmpeg, "").set(1)
        self._service = service = await self._front_door()
        app = health_app(self.metrics.registry, self._not_alive, self._not_ready)
        log.info("serving", **self._where())
        sources = self._settings.sources
        if not (sources.roots or sources.aliases or sources.schemes):
            log.warning("no source may be read: name folders in the setting sources.roots")
        chores = [
            asyncio.create_task(chore, name=name)
            for name, chore in {
                "health": serve(app, bound),
                **({"http": serve(self._http_app(service), door)} if door else {}),
                "look": self._look(),
                "inbox": self._inbox.run(),
                "reports": self._inbox.pay(),
                "recovery": self._recover_often(),
                "sweep": self._sweep_often(),
                **({"watch": self._inbox.watch()} if self._settings.spool.watch else {}),
            }.items()
        ]
        lanes = asyncio.create_task(self._work(), name="lanes")
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            done, _ = await asyncio.wait([*chores, lanes, stopping], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()  # a chore that ends is a fault: it is raised here
            await self._drain(lanes)
        finally:
            await _cancel([*chores, lanes, stopping])

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as both:
            both.create_task(self._dispatcher.run())
            both.create_task(self._errands.run())

    async def _drain(self, lanes: "asyncio.Task[None]") -> None:
        log.info("draining", grace=self._settings.grace)
        self._troubles = ("it is draining",)
        self.metrics.ready.set(0)
        self._inbox.paused = "draining"
        self._dispatcher.drain()
        self._errands.drain()
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait([lanes, hurry], timeout=self._settings.grace, return_when=asyncio.FIRST_COMPLETED)
        await _cancel([hurry])
        if lanes.done():
            lanes.result()

    async def _close(self) -> None:
        """Workers first, then what they held, then the reports that are due, then the lock."""
        for worker in self._workers:
            await worker.kill()
        await self._probe.close()
        with contextlib.suppress(DBAPIError, OSError):
            given_back = await self._database.run(lambda c: table.release(c, self.owner))
            await self._sweep_stagings()
            await self._inbox.pay_all()
            log.info("stopped", given_back=given_back)
        for caller in self._callers:
            await caller.close()
        await self._store.close()
        await in_thread(self._database.close)
        self._spool.close()

    # What is owed.

    def _endpoints(self) -> Endpoints:
        said = self._settings.deliveries
        return Endpoints(said.enabled, said.endpoints, said.allowed_hosts, said.plain_hosts)

    def _build_errands(self) -> Runner:
        webhooks, deliveries = self._settings.webhooks, self._settings.deliveries

        async def secret_of(org: str) -> bytes | None:
            known = await self._database.run(lambda c: organisations.get(c, org))
            return (known.webhook_secret if known else webhooks.secret).encode() or None

        callback = Webhooks(self._database, webhooks.allowed_hosts, webhooks.timeout, secret_of, {})
        delivery = Deliveries(self._database, self._store, self._box, self._endpoints(), deliveries.timeout)
        expiry = Expiry(self._database, self._store)
        self._callers = (callback, delivery)

        def backoff(said: WebhooksSettings | DeliveriesSettings) -> Backoff:
            return Backoff(said.attempts, said.first_delay, said.longest_delay)

        return Runner(
            self._database,
            self.metrics,
            self.owner,
            {
                "callback": Trade(callback.pay, webhooks.at_once, backoff(webhooks)),
                "delivery": Trade(delivery.pay, deliveries.at_once, backoff(deliveries)),
                "expiry": Trade(expiry.pay, _EXPIRIES, Backoff()),
            },
            self._settings.job.lease,
        )

    def _accepted(self) -> None:
        self._dispatcher.wake()
        self._errands.wake()

    def _settled(self, key: str) -> None:
        self._inbox.settled()
        self._errands.wake()
        if self._service is not None:
            self._service.settled(key)

    # Chores.

    async def _recover(self) -> None:
        for publication in await self._inbox.recover(self.owner, self._settings.job.lease, self._policy):
            self._dispatcher.adopt(publication)
        await self._sweep_stagings()

    async def _recover_often(self) -> None:
        while True:
            await asyncio.sleep(self._settings.job.lease / 3)
            with contextlib.suppress(DBAPIError, OSError):
                await self._recover()

    async def _sweep_stagings(self) -> None:
        with contextlib.suppress(StoreFailure):  # it is swept the next time
            names = await in_thread(self._store.staging_names)
            over = await self._database.run(lambda c: table.stagings_over(c, names)) if names else set()
            await in_thread(self._store.sweep, over)

    async def _sweep_often(self) -> None:
        keep = self._settings.retention
        while True:
            with contextlib.suppress(DBAPIError, OSError):
                await in_thread(self._spool.forget_reports, keep.reports)
                while await self._database.run(lambda c: table.forget(c, keep.jobs)):
                    pass
            await asyncio.sleep(_SWEEP_SECONDS)

    async def _look(self) -> None:
        """Sees every few seconds whether it can work, and tells the metrics how things are."""
        while True:
            troubles = [*await self._store_troubles(), *await self._table_troubles()]
            if not any(worker.alive for worker in self._workers):
                troubles.append("no worker is up")
            if not self._stopping.is_set():
                self._troubles = tuple(troubles)
                self.metrics.ready.set(not troubles)
                self._pause_or_resume(troubles, self._full)
            alive = sum(worker.alive for worker in self._workers)
            self.metrics.workers.labels("up").set(alive)
            self.metrics.workers.labels("down").set(len(self._workers) - alive)
            await asyncio.sleep(_LOOK_SECONDS)

    def _pause_or_resume(self, troubles: Sequence[str], full: str | None) -> None:
        """Nothing is taken in while there is trouble or no room; nothing is claimed while there is trouble."""
        trouble = troubles[0] if troubles else None
        reason = trouble or full
        if reason and self._inbox.paused is None:
            log.error("intake pauses", reason=reason)
        if reason is None and self._inbox.paused:
            log.info("intake goes on")
            self._inbox.wake()
        self._inbox.paused = reason
        if trouble:
            self._dispatcher.pause(trouble)
        elif self._dispatcher.paused:
            log.info("work goes on")
            self._dispatcher.resume()
        self.metrics.intake_paused.labels("trouble").set(trouble is not None)
        self.metrics.intake_paused.labels("full").set(full is not None)

    async def _store_troubles(self) -> list[str]:
        least = self._settings.spool.min_free_bytes
        try:
            await in_thread(self._store.check)
            free = min(self._store.free_bytes(), Folder(self._settings.spool.root).free_bytes())
        except StoreFailure as failure:
            return [failure.message]
        except OSError as error:
            return [f"the spool cannot be reached: {error.strerror}"]
        self.metrics.spool_free.set(free)
        return [f"{free} bytes are free, {least} are needed (setting spool.min_free_bytes)"] if free < least else []

    async def _table_troubles(self) -> list[str]:
        try:
            counts = await self._database.run(table.counts)
            oldest = await self._database.run(table.oldest_queued)
            running = await self._database.run(table.running_by_org)
            owed = await self._database.run(errands.counts)
        except DBAPIError as error:
            return [f"the job table cannot be reached: {error.orig}"]
        for state in STATES:
            self.metrics.jobs.labels(state).set(counts.get(state, 0))
        self.metrics.oldest_queued.set(oldest or 0)
        self.metrics.org_running.clear()
        for org, count in running.items():
            self.metrics.org_running.labels(org).set(count)
        for kind in errands.KINDS:
            self.metrics.owed.labels(kind).set(owed.get(kind, 0))
        most, queued = self._settings.spool.max_queued, counts.get(QUEUED, 0)
        full = f"{queued} jobs are queued, {most} are allowed (setting spool.max_queued)"
        self._full = full if queued >= most else None
        return []

    def _not_alive(self) -> list[str]:
        silent = monotonic() - self._dispatcher.moved
        return [f"nothing moved for {silent:.0f} s"] if silent > _STUCK_SECONDS else []

    def _not_ready(self) -> Sequence[str]:
        return self._troubles

    def _where(self) -> dict[str, str]:
        store, spool = self._settings.store, self._settings.spool
        return {
            "spool": str(spool.root.resolve()),
            "store": store.url or str(store.root.resolve()),
            "device": self._workers[0].device,
            **({"device_note": self._workers[0].note} if self._workers[0].note else {}),
            "http": self._settings.http.base_url if self._settings.http.listen else "none",
            "metrics": f"http://{self._settings.metrics.listen}",
            "workers": f"{len(self._workers)} x {self._settings.worker_threads} threads",
            "pid": str(os.getpid()),
        }


def _socket(setting: str, listen: str) -> socket.socket:
    try:
        return listening_socket(listen)
    except OSError as error:
        raise BadSettings(f"{setting} {listen}: {error.strerror}") from None


async def _cancel(tasks: "Sequence[asyncio.Task[object]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
