"""Files behind `https://` and `http://`, in pieces.

A server that sends no parts of files is read whole where the file is small. A file that changes while it is read is an
error: its tag goes along with every request, and what comes back is compared.
"""

import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.metadata import version
from typing import TypeVar
from urllib.parse import urljoin

import httpcore

from daemon.errors import SourceChanged, SourceEmpty, SourceFailure, SourceMissing, SourceRefused, SourceUnreadable
from daemon.net import FAILED, AddressRefused, Answer, Client
from daemon.sources.opened import Opened
from daemon.sources.ranges import Patience, Take, insist, limited
from daemon.sources.remote import Counted, answered, in_memory
from daemon.sources.vetting import Vetting

T = TypeVar("T")
Check = Callable[[Answer], T]

_FIRST = 64 << 10  # bytes asked for as it is opened
_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_GONE = (404, 410)
_LATER = (408, 425, 429)
_EMPTY = "the file is empty: is it still being written?"
_LENGTH = re.compile(r"\d{1,18}", re.ASCII)
_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)


class Http:
    """Opens what `vetting` allows. `whole_bytes`: most of a file whose server sends no parts; `kept_bytes`: that are
    kept of a source while it is read; `counted` hears of each request."""

    def __init__(
        self, vetting: Vetting, max_bytes: int, whole_bytes: int, kept_bytes: int, patience: Patience, counted: Counted
    ) -> None:
        self._vetting = vetting
        self._max_bytes = max_bytes
        self._whole_bytes = min(whole_bytes, max_bytes)
        self._kept_bytes = kept_bytes
        self._patience = patience
        self._counted = counted

    @asynccontextmanager
    async def open(self, source: str, url: str | None = None) -> AsyncIterator[Opened]:
        """`url`: where the source is, if it is no URL itself. Raises a SourceFailure, at the end as well, for what
        could not be read."""
        vetted = self._vetting.url(url or source)
        async with Client(self._vetting.reach) as client:
            server = _Server(client, self._vetting, self._patience, self._counted)
            async with limited(self._patience):
                found, begin = await insist(lambda: self._find(server, vetted), self._patience)
            identity = found.version.identity(source)
            if found.in_parts:
                file = _File(server, vetted, found.url, found.version, identity)
                async with answered(file, self._patience, self._kept_bytes, begin) as opened:
                    yield opened
            else:
                with in_memory(begin, identity) as opened:
                    yield opened

    async def _find(self, server: "_Server", url: str) -> tuple["_Found", bytes]:
        """What is there, and its first bytes; all of them where it cannot be had in parts."""
        begin = bytearray()
        found: _Found | None = None

        def take(data: bytes) -> None:
            begin.extend(data)
            if len(begin) > max(_FIRST, self._whole_bytes):
                raise self._too_large_whole()

        def look(response: Answer) -> _Found:
            nonlocal found
            return (found := self._look(response))

        try:
            found = await server.ask(url, {"Range": f"bytes=0-{_FIRST - 1}"}, look, take)
        except SourceUnreadable:
            # A part that breaks off is gone on with when it is read.
            if found is None or not found.in_parts or not begin:
                raise
        if not found.in_parts and not begin:
            raise SourceEmpty(_EMPTY)
        version = found.version if found.in_parts else replace(found.version, size=len(begin))
        return replace(found, version=version), bytes(begin)

    def _look(self, response: Answer) -> "_Found":
        if response.status == 416:  # not even its first byte is there
            raise SourceEmpty(_EMPTY)
        _raise_for(response)
        size = _length(response) if response.status == 200 else _part(response, 0)
        if size == 0:
            raise SourceEmpty(_EMPTY)
        if size is not None and size > self._max_bytes:
            raise SourceRefused(f"it has {size} bytes, {self._max_bytes} are allowed (setting sources.max_bytes)")
        if response.status == 200 and size is not None and size > self._whole_bytes:
            raise self._too_large_whole()
        tag, modified = response.headers.get("etag"), response.headers.get("last-modified")
        return _Found(response.url, _Version(size or 0, tag, modified), in_parts=response.status == 206)

    def _too_large_whole(self) -> SourceRefused:
        most = self._whole_bytes
        return SourceRefused(
            f"its server sends no parts of files, and it has more than {most} bytes (setting sources.whole_bytes)"
        )


@dataclass(frozen=True)
class _Version:
    """What a server says of a file that changes with it."""

    size: int
    tag: str | None
    modified: str | None

    @property
    def strong_tag(self) -> str | None:
        """A tag that promises equal bytes."""
        return self.tag if self.tag is not None and self.tag.startswith('"') else None

    def identity(self, source: str) -> str | None:
        # Servers make tags of time and size: another file may have the same.
        tag = self.strong_tag
        return None if tag is None else "http:" + sha256(f"{source}\n{tag}\n{self.size}".encode()).hexdigest()

    def is_of(self, response: Answer, size: int) -> bool:
        tag, modified = response.headers.get("etag"), response.headers.get("last-modified")
        if self.tag is not None and tag is not None:
            return (self.size, self.tag) == (size, tag)
        return self.size == size and (self.modified is None or modified is None or self.modified == modified)


@dataclass(frozen=True)
class _Found:
    """Where a file was found after all redirects."""

    url: str
    version: _Version
    in_parts: bool


class _File:
    """An origin: a file that is sent in parts. `asked`: the URL that led to it."""

    def __init__(self, server: "_Server", asked: str, url: str, version: _Version, identity: str | None) -> None:
        self._server = server
        self._asked = asked
        self._url = url
        self._version = version
        self.size = version.size
        self.identity = identity

    async def get(self, offset: int, size: int, take: Take) -> None:
        headers = {"Range": f"bytes={offset}-{offset + size - 1}"}
        if self._version.strong_tag is not None:
            headers["If-Range"] = self._version.strong_tag

        def check(response: Answer) -> None:
            if response.status in (200, 412, 416):
                raise SourceChanged("it changed while it was read")
            _raise_for(response)
            if not self._version.is_of(response, _part(response, offset)):
                raise SourceChanged("it changed while it was read")

        try:
            await self._server.ask(self._url, headers, check, take, size)
        except (SourceMissing, SourceRefused):
            if self._url == self._asked:
                raise
            # Where its server sent us on to is there for some time only.
            self._url = self._asked
            await self._server.ask(self._url, headers, check, take, size)


class _Server:
    """Is sent requests that are vetted; what became of them is told, and counted."""

    def __init__(self, client: Client, vetting: Vetting, patience: Patience, counted: Counted) -> None:
        self._client = client
        self._vetting = vetting
        self._patience = patience
        self._counted = counted
        self._about = {"Accept-Encoding": "identity", "User-Agent": f"thumbd/{version('thumbd')}"}

    async def ask(
        self, url: str, headers: Mapping[str, str], check: Check[T], take: Take, most: int | None = None
    ) -> T:
        """What `check` makes of the answer to a GET; then its body goes to `take`, `most` bytes of it. Raises what
        these raise, and a SourceFailure."""
        outcome, received = "ok", 0
        try:
            async with self._followed(url, headers) as response:
                checked = check(response)
                async for data in response.body:
                    received += len(data)
                    take(data)
                    # What is whole comes to its end by itself, and the connection is used again.
                    if most is not None and received >= most and received != _length(response):
                        break
                return checked
        except SourceFailure as failure:
            outcome = failure.code
            raise
        except (AddressRefused, *FAILED) as error:
            failed = _failed(error)
            outcome = failed.code
            raise failed from None
        finally:
            self._counted(url.partition(":")[0].lower(), outcome, received)

    @asynccontextmanager
    async def _followed(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[Answer]:
        patience = self._patience
        for _ in range(_MOST_REDIRECTS + 1):
            async with self._client.ask(
                "GET", url, {**self._about, **headers}, silence=patience.silence, connect=patience.connect
            ) as response:
                place = response.headers.get("location")
                if response.status not in _REDIRECTS or place is None:
                    yield response
                    return
                try:
                    onward = urljoin(url, place)
                except ValueError:
                    raise SourceRefused("its server sends us on to what is no URL") from None
            url = self._vetting.url(onward)
        raise SourceRefused(f"its server sends us on more than {_MOST_REDIRECTS} times")


def _length(response: Answer) -> int | None:
    """What it says that it has."""
    said = _LENGTH.fullmatch(response.headers.get("content-length", ""))
    return int(said[0]) if said else None


def _part(response: Answer, offset: int) -> int:
    """The size of the whole file, where a part from `offset` on was sent. Raises SourceRefused."""
    said = _RANGE.fullmatch(response.headers.get("content-range", ""))
    first, last, size = map(int, said.groups()) if said else (-1, -1, 0)
    if not first == offset <= last < size:
        raise SourceRefused("its server sends other parts than it is asked for")
    return size


def _raise_for(response: Answer) -> None:
    """Raises a SourceFailure unless there is something to read."""
    status = response.status
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise SourceRefused("its server sends it compressed, though asked not to")
    if status in (200, 206):
        return
    if status in _GONE:
        raise SourceMissing(f"its server has no such file (status {status}): check its URL")
    if status in _LATER or status >= 500:
        raise SourceUnreadable(f"its server cannot send it now (status {status})")
    if status in (401, 403):
        raise SourceRefused(f"its server does not give it to us (status {status}): give a URL that needs no password")
    raise SourceRefused(f"its server does not send it (status {status})")


def _failed(error: Exception) -> SourceFailure:
    match error, error.__context__:  # httpcore's pool takes the cause away
        case AddressRefused(message=said), _:
            return SourceRefused(f"{said} (setting sources.private_hosts)")
        case _, ssl.SSLCertVerificationError():
            return SourceRefused("its server has no certificate that can be trusted")
        case _, socket.gaierror() | UnicodeError():
            return SourceUnreadable("its host is not found")
        case httpcore.TimeoutException() | TimeoutError(), _:
            return SourceUnreadable("its server does not answer in time")
    return SourceUnreadable("the connection to its server broke")
