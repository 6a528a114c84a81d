"""Builds the parts of a daemon of its settings. Nothing of it runs yet."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from starlette.types import ASGIApp

from daemon.api.qencode_status import DIALECT, Lives, Teller
from daemon.api.yandex.thumbnails import Terms as ThumbnailTerms
from daemon.api.yandex.thumbnails import Thumbnails
from daemon.catalogue import organisations
from daemon.config import BadSettings, DeliveriesSettings, Settings, SourcesSettings, StoreSettings, WebhooksSettings
from daemon.darkroom import Box, Darkroom, Format
from daemon.database import Database
from daemon.jobs.retry import Policy
from daemon.means import Terms
from daemon.media.choice import Choice
from daemon.metrics import Metrics
from daemon.owed.delivery import Deliveries, Endpoints
from daemon.owed.expiry import Expiry
from daemon.owed.promise import Promise
from daemon.owed.runner import Backoff, Runner, Trade
from daemon.owed.secrets import BadKey, box_of
from daemon.owed.secrets import Box as SecretsBox
from daemon.owed.webhook import Renderer, Webhooks
from daemon.probe import Probe
from daemon.service import Service
from daemon.service import Terms as ServiceTerms
from daemon.sideline import Sideline
from daemon.sources import Sources
from daemon.sources.files import Files
from daemon.sources.http import Http
from daemon.sources.ranges import Patience
from daemon.sources.s3 import S3, Buckets
from daemon.sources.vetting import Vetting
from daemon.store.bucket import Bucket
from daemon.store.folder import Folder
from daemon.store.protocol import Store
from daemon.store.requests import Place
from daemon.sweep import Retention
from daemon.task import Limits
from daemon.uploads import Uploads
from daemon.worker.handle import Watch, Worker

if TYPE_CHECKING:
    from daemon.api.yandex.grpc import Rpc

log = structlog.get_logger()

_EXPIRIES = 2  # at once
_DARKROOM_SECONDS = 30.0  # for one picture, which somebody waits for


def build_worker(settings: Settings, metrics: Metrics | None = None) -> Worker:
    """A worker process, not yet started."""

    def exited(reason: str) -> None:
        if metrics is not None:
            metrics.worker_exits.labels(reason).inc()

    choice = Choice(settings.device, settings.gpu.resize, settings.gpu.jpeg_pixels)
    return Worker(str(choice), Watch(settings.job.stall, settings.job.timeout), exited)


def build_sources(
    settings: SourcesSettings,
    roots: Sequence[Path] | None,
    metrics: Metrics | None = None,
    uploads: Path | None = None,
) -> Sources:
    """What may be read. `roots`: None for the user's own rights to files; `uploads`: the folder of those, where there
    are any."""
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
        None if uploads is None else Files((uploads,), settings.max_bytes, {}),
    )


def build_store(settings: StoreSettings) -> Folder | Bucket:
    """Where pictures are published."""
    if not settings.url:
        return Folder(settings.root)
    bucket, _, prefix = settings.url.removeprefix("s3://").partition("/")
    prefix, said = prefix.strip("/"), settings.s3
    key, secret = said.key.get_secret_value(), said.secret.get_secret_value()
    return Bucket(Place(said.place, bucket, prefix and f"{prefix}/", said.region, key, secret), settings.root)


def build_probe(settings: Settings) -> Probe:
    """Looks at sources in a worker of its own, not yet started."""
    return Probe(build_worker(settings.model_copy(update={"device": "cpu"})))


def build_uploads(settings: Settings, database: Database) -> Uploads:
    said = settings.uploads
    least_free = settings.spool.min_free_bytes
    return Uploads(database, said.root, said.max_bytes, said.org_bytes, said.hours * 3600, least_free)


def build_darkroom(settings: Settings, store: Store) -> Darkroom:
    patience = min(_DARKROOM_SECONDS, settings.job.timeout)
    line = Sideline(Worker("cpu", Watch(patience, patience), lambda how: None), background_of(settings))
    return Darkroom(store, line)


def background_of(settings: Settings) -> tuple[int, int, int]:
    """Red, green and blue of what lies under what is transparent."""
    red, green, blue = bytes.fromhex(settings.store.background[1:])
    return red, green, blue


def thumbnail_terms_of(settings: Settings) -> ThumbnailTerms:
    asked = settings.yandex
    sizes = [box.split("x") for box in asked.boxes]
    formats: dict[str, Format] = {"JPEG": "jpeg", "WEBP": "webp"}
    return ThumbnailTerms(
        boxes=[Box(int(width), int(height), formats[name]) for width, height in sizes for name in asked.formats],
        url_life=asked.url_life,
        upload_bytes=asked.upload_bytes,
        upload_pixels=asked.upload_pixels,
    )


def terms_of(settings: Settings, owner: str) -> Terms:
    return Terms(
        owner=owner,
        lease=settings.job.lease,
        beat=min(1.0, settings.job.lease / 3),
        riders=settings.job.riders,
        threads=settings.worker_threads,
        background=background_of(settings),
        limits=Limits(
            pictures=settings.job.pictures,
            held_bytes=settings.job.held_bytes,
            decoded_bytes=settings.job.decoded_bytes,
        ),
    )


def policy_of(settings: Settings) -> Policy:
    return Policy(attempts=settings.job.attempts, first_delay=settings.job.retry_delay)


def retention_of(settings: Settings) -> Retention:
    return Retention(settings.retention.reports, settings.retention.jobs, settings.qencode.token_seconds)


def service_terms_of(settings: Settings) -> ServiceTerms:
    return ServiceTerms(settings.http.base_url, settings.http.url_life, settings.limits.model_dump())


def build_box(settings: Settings) -> SecretsBox:
    """What keeps the secrets of targets. Raises BadSettings."""
    try:
        return box_of(settings.secrets.key, settings.secrets.key_file)
    except BadKey as bad:
        raise BadSettings(bad.message) from None


def build_promise(settings: Settings, box: SecretsBox) -> Promise:
    """What a job may be promised to be followed by."""
    refusal_of = endpoints_of(settings.deliveries).refusal_of
    return Promise(box.seal, settings.webhooks.enabled, refusal_of, frozenset({DIALECT}))


def endpoints_of(settings: DeliveriesSettings) -> Endpoints:
    return Endpoints(settings.enabled, settings.endpoints, settings.allowed_hosts, settings.plain_hosts)


def build_webhooks(settings: WebhooksSettings, database: Database, worded: Mapping[str, Renderer]) -> Webhooks:
    """`worded`: who words the callbacks of a dialect."""

    async def secret_of(org: str) -> bytes | None:
        known = await database.run(lambda c: organisations.get(c, org))
        return (known.webhook_secret if known else settings.secret).encode() or None

    return Webhooks(database, settings.allowed_hosts, settings.timeout, secret_of, worded)


def build_deliveries(settings: DeliveriesSettings, database: Database, store: Store, box: SecretsBox) -> Deliveries:
    return Deliveries(database, store, box, endpoints_of(settings), settings.timeout)


def build_errands(
    settings: Settings,
    database: Database,
    metrics: Metrics,
    owner: str,
    webhooks: Webhooks,
    deliveries: Deliveries,
    expiry: Expiry,
) -> Runner:
    """Pays what is owed after jobs."""

    def backoff(said: WebhooksSettings | DeliveriesSettings) -> Backoff:
        return Backoff(said.attempts, said.first_delay, said.longest_delay)

    return Runner(
        database,
        metrics,
        owner,
        {
            "callback": Trade(webhooks.pay, settings.webhooks.at_once, backoff(settings.webhooks)),
            "delivery": Trade(deliveries.pay, settings.deliveries.at_once, backoff(settings.deliveries)),
            "expiry": Trade(expiry.pay, _EXPIRIES, Backoff()),
        },
        settings.job.lease,
    )


def qencode_teller(settings: Settings, service: Service) -> Teller:
    said = settings.qencode
    lives = Lives(token=int(said.token_seconds), files=max(1, round(said.temporary_hours * 3600)))
    return Teller(service, lives, endpoints_of(settings.deliveries).origin_of)


# The doors are imported where they are wanted: it takes half a second, and those without an API need none of it.


def build_http_app(settings: Settings, service: Service, uploads: Uploads, thumbnails: Thumbnails) -> ASGIApp:
    from daemon.api.app import http_app

    return http_app(service, settings.hesedvid.fit, uploads, qencode_teller(settings, service), thumbnails)


def build_rpc(settings: Settings, thumbnails: Thumbnails, metrics: Metrics) -> "Rpc | None":
    """The gRPC server, where one is wanted. Raises BadSettings."""
    asked = settings.grpc
    if not asked.listen:
        return None
    if not settings.http.listen and not settings.http.public_url:
        log.warning("what gRPC gives out leads nowhere: set http.listen, or http.public_url")
    from daemon.api.yandex.grpc import Rpc

    try:
        return Rpc(asked.listen, thumbnails, metrics, reflected=asked.reflection)
    except OSError as error:
        raise BadSettings(f"grpc.listen {asked.listen}: {error}") from None
