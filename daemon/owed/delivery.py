"""Deliveries: the published files of a job, or of one of its outputs, to a bucket of the one who asked for them."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from pydantic import ValidationError

from daemon.addresses import Hosts
from daemon.database import Database
from daemon.errors import TargetRefused
from daemon.files import MANIFEST
from daemon.jobs import table
from daemon.jobs.errands import Errand
from daemon.media_types import media_type
from daemon.net import PORTS, Client, Reach
from daemon.owed.secrets import Box
from daemon.report import Report
from daemon.s3 import S3Bucket
from daemon.store.protocol import Store
from daemon.target import Target
from daemon.threads import in_thread

_GOOGLE = "storage.googleapis.com"


class Bucket(Protocol):
    """Where objects go."""

    async def put(self, name: str, descriptor: int, content_type: str) -> None:
        """Makes, or replaces, an object of an open file. Raises TargetFailure, TargetRefused, StoreFailure."""


@dataclass(frozen=True)
class Endpoints:
    """Which hosts may be delivered to, as `Hosts` writes them. `allowed_hosts` are allowed too, and may have private
    addresses; `plain_hosts` are spoken to without TLS."""

    enabled: bool
    allowed: tuple[str, ...]
    allowed_hosts: tuple[str, ...]
    plain_hosts: tuple[str, ...]

    def refusal_of(self, target: Target) -> str | None:
        """Why nothing may be delivered there; None where it may."""
        if not self.enabled:
            return "this daemon delivers nothing (setting deliveries.enabled)"
        scheme, host, port, _ = _origin(target)
        if not Hosts([*self.allowed, *self.allowed_hosts]).has(host, port):
            return f"host {host!r} is not among those that may be delivered to (setting deliveries.endpoints)"
        if scheme == "http" and not Hosts(self.plain_hosts).has(host, port):
            return f"host {host!r} may only be spoken to by https (setting deliveries.plain_hosts)"
        return None

    def origin_of(self, target: Target) -> str:
        """Scheme, host and port. Raises TargetRefused."""
        if why := self.refusal_of(target):
            raise TargetRefused(why)
        scheme, host, port, rest = _origin(target)
        return f"{scheme or ('http' if Hosts(self.plain_hosts).has(host, port) else 'https')}://{rest}"


def _origin(target: Target) -> tuple[str, str, int, str]:
    """The scheme, "" where none is given; host and port, as they are compared; and both as they are said."""
    if target.scheme == "gs":
        return "https", _GOOGLE, 443, _GOOGLE
    if target.is_azure:
        host = f"{target.key}.blob.core.windows.net"
        return "https", host, 443, host
    said = target.endpoint or (f"s3.{target.region}.amazonaws.com" if target.region else "s3.amazonaws.com")
    parts = urlsplit(said if "://" in said else f"//{said}")
    return parts.scheme, parts.hostname or "", parts.port or PORTS[parts.scheme or "https"], parts.netloc


def region_of(target: Target, host: str) -> str:
    """As it is given, else as the host's name has it; else what those who have no regions expect."""
    found = re.fullmatch(r"(?:.*\.)?s3[.-](?:dualstack\.)?([a-z]{2}-[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?", host)
    default = "auto" if target.scheme == "gs" else "us-east-1"
    return target.region or (found[1] if found else default)


class Deliveries:
    """Pays deliveries from the store."""

    def __init__(self, database: Database, store: Store, box: Box, endpoints: Endpoints, timeout: float) -> None:
        self._database = database
        self._store = store
        self._box = box
        self._endpoints = endpoints
        self._timeout = timeout
        self._client = Client(Reach(endpoints.allowed_hosts))

    async def pay(self, errand: Errand) -> str:
        """Delivers all files that it speaks of, each anew. Raises TargetFailure, TargetRefused, StoreFailure."""
        job = await self._database.run(lambda c: table.get_by_key(c, errand.job))
        if job is None or job.status != "completed":
            raise TargetRefused("there is no job any more that made the files")
        if errand.secret is None:
            raise TargetRefused("its credentials were deleted when the job had failed: submit it anew")
        credentials = json.loads(self._box.open(errand.secret, errand.key))
        try:
            target = Target.model_validate(errand.target["target"] | credentials)
        except ValidationError:  # whose text holds them
            raise TargetRefused("this version takes no such target") from None
        files = await in_thread(lambda: files_of(job.report, job.destination, errand.target["output"]))
        if not files:
            return "there was nothing to deliver"
        bucket = self._bucket(target)
        for file, name in files:
            alone = len(files) == 1 and errand.target["output"] is not None
            await self._put(bucket, target.object_name(name, alone=alone), file)
        return f"{len(files)} files"

    async def _put(self, bucket: Bucket, name: str, file: str) -> None:
        try:
            descriptor = await in_thread(self._store.open, file)
        except FileNotFoundError:
            raise TargetRefused(f"{file.rpartition('/')[2]} is not in the store any more") from None
        try:
            await bucket.put(name, descriptor, media_type(file))
        finally:
            os.close(descriptor)

    def _bucket(self, target: Target) -> Bucket:
        origin = self._endpoints.origin_of(target)
        if target.is_azure:
            from daemon.owed.azure import AzureContainer, azure_store  # here: it takes a tenth of a second

            store = azure_store(target.bucket, target.key, target.secret, self._timeout)
            about = {"Storage-Class": target.storage_class, "Cache-Control": target.cache_control}
            return AzureContainer(store, {name: value for name, value in about.items() if value})
        headers = {
            "x-amz-acl": target.permissions,
            "x-amz-storage-class": target.storage_class,
            "Cache-Control": target.cache_control,
        }
        return S3Bucket(
            self._client,
            origin,
            target.bucket,
            region_of(target, urlsplit(origin).hostname or ""),
            target.key,
            target.secret,
            {name: value for name, value in headers.items() if value},
            self._timeout,
        )

    async def close(self) -> None:
        await self._client.close()


def files_of(report: Report, destination: str, output: str | None) -> Sequence[tuple[str, str]]:
    """Of a job that was published, or of one of its outputs: each file below the store's root, and its name below the
    destination. The manifest, which is the whole job's, comes last."""
    chosen = [each for each in report.outputs if output in (None, each.name)]
    if not chosen:
        return []
    files = [file for each in chosen for file in each.files]
    named = [(file, file.removeprefix(f"{destination}/")) for file in files]
    return named if output is not None else [*named, (f"{destination}/{MANIFEST}", MANIFEST)]
