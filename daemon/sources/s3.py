"""Files in buckets: `s3://bucket/key` is read as the HTTP file that it is, through a URL signed for this one reading.

Which buckets, with whose credentials and where, the settings say; never a job, and nothing of the environment.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from pydantic import SecretStr

from daemon.errors import SourceRefused
from daemon.sources.http import Http
from daemon.sources.opened import Opened

if TYPE_CHECKING:
    from obstore.store import S3Credential

_SIGNED_FOR = timedelta(days=1)  # longer than any job takes


@dataclass(frozen=True)
class Buckets:
    """Those that may be read by their `names`, and where they are: an `endpoint` such as https://s3.eu-west-1.amazonaws.com."""

    endpoint: str
    region: str
    key: SecretStr
    secret: SecretStr
    names: tuple[str, ...]


class S3:
    """`http` opens what lies at the endpoint."""

    def __init__(self, place: Buckets, http: Http) -> None:
        self._place = place
        self._http = http

    @asynccontextmanager
    async def open(self, source: str) -> AsyncIterator[Opened]:
        """Raises a SourceFailure."""
        bucket, _, key = source.removeprefix("s3://").partition("/")
        if not bucket or not key:
            raise SourceRefused("it names no file of a bucket: write s3://bucket/film.mp4")
        if bucket not in self._place.names:
            raise SourceRefused("its bucket may not be read (setting sources.s3.buckets)")
        async with self._http.open(source, await self._sign(bucket, key)) as opened:
            yield opened

    async def _sign(self, bucket: str, key: str) -> str:
        import obstore  # here: it takes a tenth of a second, and most daemons read no buckets
        from obstore.exceptions import BaseError
        from obstore.store import S3Store

        place = self._place
        if not place.key.get_secret_value() or not place.secret.get_secret_value():
            raise SourceRefused("there are no credentials for it (settings sources.s3.key and sources.s3.secret)")

        def credentials() -> "S3Credential":
            # Given in this way nothing of the environment is mixed in.
            key, secret = place.key.get_secret_value(), place.secret.get_secret_value()
            return {"access_key_id": key, "secret_access_key": secret, "token": None, "expires_at": None}

        try:
            store = S3Store(
                bucket,
                endpoint=place.endpoint,
                region=place.region,
                client_options={"allow_http": True},
                credential_provider=credentials,
            )
            return await obstore.sign_async(store, "GET", key, _SIGNED_FOR)
        except (BaseError, TypeError, ValueError):
            raise SourceRefused("its key is none that can be asked for: it has empty parts or dots") from None
