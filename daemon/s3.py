"""Objects in buckets by S3's protocol: one PUT, or parts where they are large; never a file whole in memory.

Not by obstore, for four reasons: it cannot sign an `x-amz-acl`, nor delete an object only if it is still the one that
was seen; it looks names up itself, after they were vetted, and keeps to no host when it is told to go elsewhere. What
is signed comes from botocore, what is sent goes through `daemon.net`.
"""

import asyncio
import contextlib
import hmac
import html
import os
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from urllib.parse import quote, urlsplit

from daemon.errors import StoreFailure, TargetFailure, TargetRefused
from daemon.net import FAILED, AddressRefused, Answer, Client, reason_of
from daemon.threads import in_thread

PART = 8 << 20  # bytes; S3 wants 5 MiB at least
_MOST_PARTS = 10_000
_HEARD = 4 << 20  # bytes of an answer that are read; a page of a listing has 1000 names
_LONGEST_LIFE = 7 * 86400  # seconds that a signed URL may be good
_PASSING_CODES = frozenset({"SlowDown", "RequestTimeout", "OperationAborted", "RequestTimeTooSkewed", "InternalError"})


@dataclass(frozen=True)
class Said:
    """An answer that was heard."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    @property
    def code(self) -> str:
        """S3's name for what went wrong."""
        found = re.search(rb"<Code>([A-Za-z0-9.]{1,64})</Code>", self.body)
        return found[1].decode() if found else ""


@dataclass(frozen=True)
class Object:
    """What an object held when it was read; `etag` names that content to the server."""

    data: bytes
    etag: str


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

    async def put(self, name: str, descriptor: int, content_type: str) -> None:
        """Makes, or replaces, an object of an open file. Raises TargetFailure, TargetRefused, StoreFailure."""
        about = {**self.headers, "Content-Type": content_type}
        size = os.fstat(descriptor).st_size
        if size <= PART:
            await self._ask("PUT", name, "", about, await self._read(descriptor, 0, PART))
        else:
            await self._put_parts(name, descriptor, size, about)

    async def put_bytes(self, name: str, data: bytes, content_type: str, *, instead_of: str = "") -> bool:
        """The same with what is in memory, at most 5 GiB. `instead_of`: an ETag; False where the object is another one
        by now, or none. Raises TargetFailure, TargetRefused."""
        about = {**self.headers, "Content-Type": content_type} | ({"If-Match": instead_of} if instead_of else {})
        allowed = (404, 409, 412) if instead_of else ()
        return _is_done(await self._ask("PUT", name, "", about, data, allowed))

    async def get(self, name: str) -> Object | None:
        """What an object holds; None where there is none. Raises TargetFailure, TargetRefused."""
        async with self.stream("GET", name, {}) as answer:
            data = b"".join([chunk async for chunk in answer.body])
            told = Said(answer.status, answer.headers, data)
        if told.status == 200:
            return Object(data, told.headers.get("etag", ""))
        if told.code == "NoSuchKey":
            return None
        raise self._failure(told)

    async def get_to(self, name: str, descriptor: int) -> bool:
        """Writes what an object holds to an open file; False where there is none. Raises TargetFailure, TargetRefused,
        StoreFailure."""
        async with self.stream("GET", name, {}) as answer:
            if answer.status == 200:
                async for chunk in answer.body:
                    await in_thread(_write, descriptor, chunk)
                return True
            told = Said(answer.status, answer.headers, b"".join([chunk async for chunk in answer.body]))
        if told.code == "NoSuchKey":
            return False
        raise self._failure(told)

    async def copy(self, name: str, to: str) -> bool:
        """Makes, or replaces, an object by what another one, of 5 GiB at most, holds; False where that is not there.
        Raises TargetFailure, TargetRefused."""
        source = {"x-amz-copy-source": f"/{self.bucket}/{_quoted(name)}"}
        return _is_done(await self._ask("PUT", to, "", {**self.headers, **source}, allowed=(404,)))

    async def delete(self, name: str, etag: str = "") -> bool:
        """Removes an object, where it is there. With an ETag: only what that names; False where the object is another
        one by now, or gone. Raises TargetFailure, TargetRefused."""
        if etag:
            return _is_done(await self._ask("DELETE", name, "", {"If-Match": etag}, allowed=(404, 409, 412)))
        await self._ask("DELETE", name, "", {}, allowed=(404,))
        return True

    async def sizes(self, prefix: str) -> dict[str, int]:
        """All objects whose names begin so, and their bytes. Raises TargetFailure, TargetRefused."""
        found: dict[str, int] = {}
        async for page in self._pages(prefix, ""):
            for each in re.findall(r"<Contents>(.*?)</Contents>", page, re.DOTALL):
                name, size = re.search(r"<Key>([^<]*)</Key>", each), re.search(r"<Size>(\d+)</Size>", each)
                if name and size:
                    found[html.unescape(name[1])] = int(size[1])
        return found

    async def folders(self, prefix: str) -> list[str]:
        """What follows the prefix, up to a slash, in the names of objects. Raises TargetFailure, TargetRefused."""
        found: list[str] = []
        async for page in self._pages(prefix, "/"):
            names = re.findall(r"<CommonPrefixes>\s*<Prefix>([^<]*)</Prefix>", page)
            found += [html.unescape(name).removeprefix(prefix).rstrip("/") for name in names]
        return found

    async def _pages(self, prefix: str, delimiter: str) -> AsyncIterator[str]:
        asked = {"delimiter": delimiter, "list-type": "2", "prefix": prefix}
        while True:
            page = (await self._ask("GET", "", _query(asked), {})).text
            yield page
            further = re.search(r"<NextContinuationToken>([^<]{1,2000})</NextContinuationToken>", page)
            if further is None:
                return
            asked["continuation-token"] = html.unescape(further[1])

    def url(self, name: str, begins: int, seconds: int) -> str:
        """A URL under which anybody gets an object for so long, 7 days at most, from this time on."""
        when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(begins))
        scope = [when[:8], self.region, "s3", "aws4_request"]
        query = _query(
            {
                "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
                "X-Amz-Credential": "/".join([self.key, *scope]),
                "X-Amz-Date": when,
                "X-Amz-Expires": str(min(seconds, _LONGEST_LIFE)),
                "X-Amz-SignedHeaders": "host",
            }
        )
        path = f"/{self.bucket}/{_quoted(name)}"
        canonical = f"GET\n{path}\n{query}\nhost:{_host(self.origin)}\n\nhost\nUNSIGNED-PAYLOAD"
        signing = f"AWS4{self.secret}".encode()
        for part in scope:
            signing = hmac.digest(signing, part.encode(), "sha256")
        said = f"AWS4-HMAC-SHA256\n{when}\n{'/'.join(scope)}\n{sha256(canonical.encode()).hexdigest()}"
        return f"{self.origin}{path}?{query}&X-Amz-Signature={hmac.digest(signing, said.encode(), 'sha256').hex()}"

    async def _put_parts(self, name: str, descriptor: int, size: int, about: Mapping[str, str]) -> None:
        begun = await self._ask("POST", name, "uploads=", about)
        found = re.search(r"<UploadId>([^<]{1,2000})</UploadId>", begun.text)
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

    async def _ask(
        self,
        method: str,
        name: str,
        query: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        allowed: tuple[int, ...] = (),
    ) -> Said:
        """One signed request, whose answer may also have an `allowed` status. Raises TargetFailure, or TargetRefused
        where it will be refused for ever."""
        async with self.stream(method, name, headers, query, body) as answer:
            heard = b""
            async for chunk in answer.body:
                heard += chunk
                if len(heard) > _HEARD:
                    break
            told = Said(answer.status, answer.headers, heard)
        # The end of an upload in parts, and a copy, may be answered 200 and be an error all the same.
        if _is_done(told) and not told.code:
            return told
        if told.status in allowed and (told.status != 404 or told.code == "NoSuchKey"):
            return told
        raise self._failure(told)

    @asynccontextmanager
    async def stream(
        self, method: str, name: str, headers: Mapping[str, str], query: str = "", body: bytes = b""
    ) -> AsyncIterator[Answer]:
        """The answer to a signed request, whatever it is, as it comes. Raises TargetFailure, TargetRefused."""
        url = f"{self.origin}/{self.bucket}" + (f"/{_quoted(name)}" if name else "") + (f"?{query}" if query else "")
        signed = await in_thread(self._signed, method, url, headers, body)
        try:
            async with self.client.ask(method, url, signed, body, silence=self.timeout) as answer:
                yield answer
        except AddressRefused as refused:
            raise TargetRefused(f"{refused.message} (setting deliveries.allowed_hosts)") from None
        except FAILED as error:
            raise TargetFailure(reason_of(error)) from error

    def _failure(self, told: Said) -> TargetFailure:
        said = f"answered {told.status}" + (f" {told.code}" if told.code else "")
        if (region := told.headers.get("x-amz-bucket-region", "")) and region != self.region:
            return TargetRefused(f"{said}: the bucket's region is {region[:40]!r}, not {self.region!r}")
        passing = told.status in (408, 425, 429) or told.status >= 500 or told.status < 300
        return (TargetFailure if passing or told.code in _PASSING_CODES else TargetRefused)(said)

    def _signed(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        # Here: they take longer than all else that a daemon imports, and most daemons have no bucket.
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        request = AWSRequest(method, url, headers=dict(headers), data=body)
        S3SigV4Auth(Credentials(self.key, self.secret), "s3", self.region).add_auth(request)
        return dict(request.headers.items())


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError as error:
        raise StoreFailure(f"writing a copy of a published file failed: {error.strerror}") from error


def _is_done(answer: Said) -> bool:
    return 200 <= answer.status < 300


def _host(origin: str) -> str:
    """As clients say it: without the port that is the scheme's own."""
    parts = urlsplit(origin)
    return parts.netloc.removesuffix({"http": ":80", "https": ":443"}[parts.scheme])


def _quoted(name: str) -> str:
    return quote(name, safe="/-_.~")


def _query(asked: Mapping[str, str]) -> str:
    """In the order, and with the quoting, in which it is signed."""
    return "&".join(f"{quote(key, safe='-_.~')}={quote(value, safe='-_.~')}" for key, value in sorted(asked.items()))
