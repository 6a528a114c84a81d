"""Objects in buckets by S3's protocol: one PUT, or parts where they are large; never a file whole in memory.

Not by obstore, for three reasons: it cannot sign an `x-amz-acl`, looks names up itself, after they were vetted, and
keeps to no host when it is told to go elsewhere. What is signed comes from botocore, what is sent goes through
`daemon.net`.
"""

import asyncio
import contextlib
import html
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from daemon.errors import StoreFailure, TargetFailure, TargetRefused
from daemon.net import FAILED, AddressRefused, Client, reason_of
from daemon.threads import in_thread

PART = 8 << 20  # bytes; S3 wants 5 MiB at least
_MOST_PARTS = 10_000
_HEARD = 64 << 10  # bytes of an answer that are read
_PASSING_CODES = frozenset({"SlowDown", "RequestTimeout", "OperationAborted", "RequestTimeTooSkewed", "InternalError"})


@dataclass(frozen=True)
class Said:
    """An answer that was heard."""

    status: int
    headers: Mapping[str, str]
    body: str

    @property
    def code(self) -> str:
        """S3's name for what went wrong."""
        found = re.search(r"<Code>([A-Za-z0-9.]{1,64})</Code>", self.body)
        return found[1] if found else ""


@dataclass(frozen=True)
class S3Bucket:
    """`origin`: such as `https://s3.eu-west-2.amazonaws.com`; the bucket's name comes first in the path. `headers` go
    with every object. `timeout`: seconds without any progress."""

    client: Client
    origin: str
    bucket: str
    region: str
    key: str = field(repr=False)
    secret: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 60.0

    async def put(self, name: str, file: Path, content_type: str) -> None:
        """Makes, or replaces, an object. Raises TargetFailure, TargetRefused, StoreFailure."""
        about = {**self.headers, "Content-Type": content_type}
        try:
            descriptor = await in_thread(os.open, file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise TargetRefused(f"{file.name} is not in the store any more") from None
        except OSError as error:
            raise StoreFailure(f"reading {file.name} failed: {error.strerror}") from error
        try:
            size = os.fstat(descriptor).st_size
            if size <= PART:
                await self._ask("PUT", name, "", about, await self._read(descriptor, 0, PART))
            else:
                await self._put_parts(name, descriptor, size, about)
        finally:
            os.close(descriptor)

    async def _put_parts(self, name: str, descriptor: int, size: int, about: Mapping[str, str]) -> None:
        begun = await self._ask("POST", name, "uploads=", about)
        found = re.search(r"<UploadId>([^<]{1,2000})</UploadId>", begun.body)
        if found is None:
            raise TargetFailure("it gave no id for an upload in parts")
        upload = f"uploadId={quote(html.unescape(found[1]), safe='')}"
        try:
            part = max(PART, -(-size // _MOST_PARTS))
            tags = []
            for number, offset in enumerate(range(0, size, part), 1):
                data = await self._read(descriptor, offset, min(part, size - offset))
                answer = await self._ask("PUT", name, f"partNumber={number}&{upload}", {}, data)
                tags.append(answer.headers.get("etag", ""))
            listed = "".join(
                f"<Part><PartNumber>{number}</PartNumber><ETag>{html.escape(tag)}</ETag></Part>"
                for number, tag in enumerate(tags, 1)
            )
            whole = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
            await self._ask("POST", name, upload, {"Content-Type": "application/xml"}, whole)
        except BaseException:
            # Or its parts would be kept, and paid for. Not a reason to fail for another reason.
            with contextlib.suppress(TargetFailure, TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(5):
                    await self._ask("DELETE", name, upload, {})
            raise

    async def _read(self, descriptor: int, offset: int, size: int) -> bytes:
        def read() -> bytes:
            return os.pread(descriptor, size, offset)

        try:
            return await in_thread(read)
        except OSError as error:
            raise StoreFailure(f"reading a published file failed: {error.strerror}") from error

    async def _ask(self, method: str, name: str, query: str, headers: Mapping[str, str], body: bytes = b"") -> Said:
        """One signed request. Raises TargetFailure, or TargetRefused where it will be refused for ever."""
        url = f"{self.origin}/{self.bucket}/{quote(name, safe='/-_.~')}" + (f"?{query}" if query else "")
        signed = await in_thread(self._signed, method, url, headers, body)
        try:
            async with self.client.ask(method, url, signed, body, silence=self.timeout) as answer:
                heard = b""
                async for chunk in answer.body:
                    heard += chunk
                    if len(heard) > _HEARD:
                        break
                told = Said(answer.status, answer.headers, heard.decode("utf-8", "replace"))
        except AddressRefused as refused:
            raise TargetRefused(f"{refused.message} (setting deliveries.allowed_hosts)") from None
        except FAILED as error:
            raise TargetFailure(reason_of(error)) from error
        # The end of an upload in parts may be answered 200 and be an error all the same.
        if 200 <= told.status < 300 and not told.code:
            return told
        raise self._failure(told)

    def _failure(self, told: Said) -> TargetFailure:
        said = f"answered {told.status}" + (f" {told.code}" if told.code else "")
        if (region := told.headers.get("x-amz-bucket-region", "")) and region != self.region:
            return TargetRefused(f"{said}: the bucket's region is {region[:40]!r}, not {self.region!r}")
        passing = told.status in (408, 425, 429) or told.status >= 500 or told.status < 300
        return (TargetFailure if passing or told.code in _PASSING_CODES else TargetRefused)(said)

    def _signed(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        request = AWSRequest(method, url, headers=dict(headers), data=body)
        S3SigV4Auth(Credentials(self.key, self.secret), "s3", self.region).add_auth(request)
        return dict(request.headers.items())
