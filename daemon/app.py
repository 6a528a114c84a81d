"""A whole daemon: runs what is built of the settings, sees to it that all is well, and stops it in order."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence
from importlib.metadata import version
from time import monotonic
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import DBAPIError
from starlette.types import ASGIApp

from daemon.api.qencode_status import DIALECT
from daemon.api.yandex.thumbnails import Thumbnails
from daemon.build import (
    build_box,
    build_darkroom,
    build_deliveries,
    build_errands,
    build_http_app,
    build_probe,
    build_promise,
    build_rpc,
    build_sources,
    build_store,
    build_uploads,
    build_webhooks,
    build_worker,
    policy_of,
    qencode_teller,
    retention_of,
    service_terms_of,
    terms_of,
    thumbnail_terms_of,
)
from daemon.catalogue.signing import signer
from daemon.config import BadSettings, Settings
from daemon.database import Database, open_engine
from daemon.dispatch import Dispatcher
from daemon.errors import StoreFailure
from daemon.health import health_app
from daemon.intake.inbox import Inbox
from daemon.intake.spool import Spool
from daemon.jobs import lease
from daemon.jobs.row import Settled
from daemon.listening import bind, listen
from daemon.lookout import Health, Lookout
from daemon.means import Means
from daemon.metrics import Metrics
from daemon.owed.expiry import Expiry
from daemon.owed.webhook import Occasion, Wording
from daemon.service import Service
from daemon.serving import serve
from daemon.sweep import Sweeper
from daemon.threads import in_thread
from daemon.ulid import new_ulid

if TYPE_CHECKING:
    from daemon.api.yandex.grpc import Rpc

log = structlog.get_logger()

_LOOK_SECONDS = 2.0
_SWEEP_SECONDS = 3600.0
_STUCK_SECONDS = 60.0  # without a beat of the heart: the loop or the database hangs


class Daemon:
    """A whole daemon. `run` returns when `stop` was called and what ran is over, or given back."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.owner = new_ulid()
        self.metrics = Metrics()
        self._policy = policy_of(settings)
        self._store = build_store(settings.store)
        self._spool = Spool(settings.spool.root, self.owner, settings.spool.settle_seconds)
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._troubles: tuple[str, ...] = ("it is starting",)
        self._service: Service | None = None
        self._rpc: Rpc | None = None

    def stop(self) -> None:
        """First call: drain. Second call: end at once."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    async def run(self) -> None:
        """Raises a Failure that says which setting keeps it from starting."""
        settings = self._settings
        bound, door = await in_thread(self._open)
        self._database = Database(open_engine(settings.database))
        self._workers = [build_worker(settings, self.metrics) for _ in range(settings.worker_processes)]
        self._sources = build_sources(settings.sources, settings.sources.roots, self.metrics, settings.uploads.root)
        means = Means(
            database=self._database,
            store=self._store,
            sources=self._sources,
            metrics=self.metrics,
            policy=self._policy,
            terms=terms_of(settings, self.owner),
            settled=self._settled,
        )
        self._dispatcher = Dispatcher(means, self._workers)
        self._promise = build_promise(settings, self._box)
        self._inbox = Inbox(
            self._spool, self._database, self.metrics, settings.spool.scan_seconds, self._accepted, self._promise
        )
        self._uploads = build_uploads(settings, self._database)
        self._probe = build_probe(settings)
        self._darkroom = build_darkroom(settings, self._store)
        self._lookout = Lookout(
            self._database,
            self._store,
            settings.spool.root,
            self._workers,
            self.metrics,
            settings.spool.min_free_bytes,
            settings.spool.max_queued,
        )
        self._sweeper = Sweeper(
            self._database, self._store, self._spool, self._darkroom, self._uploads, retention_of(settings)
        )
        callback = build_webhooks(settings.webhooks, self._database, {DIALECT: self._qencode_callback})
        delivery = build_deliveries(settings.deliveries, self._database, self._store, self._box)
        expiry = Expiry(self._database, self._store)
        self._callers = (callback, delivery)
        self._errands = build_errands(settings, self._database, self.metrics, self.owner, callback, delivery, expiry)
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
        self._box = build_box(self._settings)
        bound = bind("metrics.listen", self._settings.metrics.listen)
        door = bind("http.listen", self._settings.http.listen) if self._settings.http.listen else None
        if self._settings.grpc.listen:
            # Tried only: gRPC binds its own, and where it cannot its C core writes a line as nobody else's.
            bind("grpc.listen", self._settings.grpc.listen).close()
        return bound, door

    async def _front_door(self) -> Service:
        return Service(
            database=self._database,
            store=self._store,
            sources=self._sources,
            probe=self._probe,
            signer=await self._database.run(signer),
            metrics=self.metrics,
            terms=service_terms_of(self._settings),
            promise=self._promise,
            accepted=self._accepted,
            closed=lambda: self._inbox.paused,
        )

    async def _serve(self, bound: socket.socket, door: socket.socket | None) -> None:
        self.metrics.build_info.labels(version("thumbd"), self._workers[0].ffmpeg, "").set(1)
        self._service = service = await self._front_door()
        thumbnails = Thumbnails(service, self._darkroom, thumbnail_terms_of(self._settings))
        self._rpc = build_rpc(self._settings, thumbnails, self.metrics)
        app = health_app(self.metrics.registry, self._not_alive, self._not_ready)
        listen("metrics.listen", self._settings.metrics.listen, bound)
        if door is not None:
            listen("http.listen", self._settings.http.listen, door)
        log.info("serving", **self._where())
        sources = self._settings.sources
        if not (sources.roots or sources.aliases or sources.schemes):
            log.warning("no source may be read: name folders in the setting sources.roots")
        chores = [
            asyncio.create_task(chore, name=name)
            for name, chore in {
                "health": serve(app, bound),
                **({"http": serve(self._http_app(service, thumbnails), door)} if door else {}),
                **({"grpc": self._rpc.serve()} if self._rpc else {}),
                "look": self._look_often(),
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

    def _http_app(self, service: Service, thumbnails: Thumbnails) -> ASGIApp:
        return build_http_app(self._settings, service, self._uploads, thumbnails)

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as both:
            both.create_task(self._dispatcher.run())
            both.create_task(self._errands.run())

    async def _drain(self, lanes: "asyncio.Task[None]") -> None:
        log.info("draining", grace=self._settings.grace)
        self._troubles = ("it is draining",)
        self.metrics.ready.set(0)
        if self._rpc is not None:
            await self._rpc.set_ready(False)
        self._inbox.paused = "draining"
        self._dispatcher.drain()
        if self._service is not None:
            self._service.drain()
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
        await self._darkroom.close()
        with contextlib.suppress(DBAPIError, OSError):
            given_back = await self._database.run(lambda c: lease.release(c, self.owner))
            await self._sweeper.stagings()
            await self._inbox.pay_all()
            log.info("stopped", given_back=given_back)
        for caller in self._callers:
            await caller.close()
        await self._store.close()
        await in_thread(self._database.close)
        self._spool.close()

    def _accepted(self, owing: bool) -> None:
        self._dispatcher.wake()
        if owing:
            self._errands.wake()

    def _settled(self, settled: Settled) -> None:
        """Wakes only who has something to do: the table has one thread, and others wait for it."""
        if self._service is not None:
            self._service.settled(settled.job)
        if settled.reports:
            self._inbox.settled()
        if settled.errands:
            self._errands.wake()

    async def _qencode_callback(self, occasion: Occasion) -> Wording:
        assert self._service is not None  # noqa: S101  it is there before any errand is run
        return await qencode_teller(self._settings, self._service).callback(occasion)

    # Chores.

    async def _recover(self) -> None:
        for publication in await self._inbox.recover(self.owner, self._settings.job.lease, self._policy):
            self._dispatcher.adopt(publication)
        await self._sweeper.stagings()

    async def _recover_often(self) -> None:
        while True:
            await asyncio.sleep(self._settings.job.lease / 3)
            with contextlib.suppress(DBAPIError, OSError):
                await self._recover()

    async def _sweep_often(self) -> None:
        while True:
            await self._sweeper.all_that_is_old()
            await asyncio.sleep(_SWEEP_SECONDS)

    async def _look_often(self) -> None:
        while True:
            health = await self._lookout.look()
            if not self._stopping.is_set():
                self._troubles = health.troubles
                self.metrics.ready.set(not health.troubles)
                if self._rpc is not None:
                    await self._rpc.set_ready(not health.troubles)
                self._pause_or_resume(health)
            await asyncio.sleep(_LOOK_SECONDS)

    def _pause_or_resume(self, health: Health) -> None:
        """Nothing is taken in while there is trouble or no room; nothing is claimed while there is trouble."""
        trouble = health.troubles[0] if health.troubles else None
        reason = trouble or health.full
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
            "grpc": self._settings.grpc.listen or "none",
            "metrics": f"http://{self._settings.metrics.listen}",
            "workers": f"{len(self._workers)} x {self._settings.worker_threads} threads",
            "pid": str(os.getpid()),
        }


async def _cancel(tasks: "Sequence[asyncio.Task[object]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
