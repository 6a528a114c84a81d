"""Published files, to whoever has a URL that the daemon signed."""

import errno
import os
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from email.utils import parsedate
from io import FileIO
from mimetypes import guess_type
from pathlib import Path, PurePosixPath
from time import time
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from starlette.datastructures import Headers
from starlette.responses import MalformedRangeHeader, RangeNotSatisfiable
from starlette.types import Receive, Scope, Send

from daemon.api.access import TheService
from daemon.api.bodies import Route
from daemon.api.problems import Problem
from daemon.errors import Forbidden, NotFound, StoreFailure
from daemon.net import Answer
from daemon.service import Service
from daemon.store.bucket import Bucket
from daemon.store.folder import Folder
from daemon.threads import in_thread

router = APIRouter(route_class=Route)

_TYPES = {".avif": "image/avif", ".webp": "image/webp", ".vtt": "text/vtt", ".bif": "application/octet-stream"}
_TYPES |= {".m3u8": "application/vnd.apple.mpegurl", ".mpd": "application/dash+xml"}
_AT_ONCE = 1 << 20  # bytes of a file that is read when it is opened: on the way to a thread once, not four times
_BELOW = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES, errno.ENXIO}

_ANY: dict[str, Any] = {"*/*": {}}
_TEXT: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
# What the OpenAPI document says of a route that answers with `file_response`.
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file", "content": _ANY},
    206: {"description": "Parts of the file", "content": _ANY},
    304: {"description": "The file that the client has already"},
    404: {"model": Problem},
    416: {"description": "There is no such range", "content": _TEXT},
}
_CONDITIONS = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")
_ANSWERS = ("content-length", "content-range", "accept-ranges", "etag", "last-modified")


@router.api_route(
    "/files/{path:path}",
    methods=["GET", "HEAD"],
    operation_id="get_file",
    response_class=FileResponse,
    responses={**ANSWERS, 403: {"model": Problem}},
)
async def get_file(
    request: Request, service: TheService, path: str, expires: str = "", key: str = "", signature: str = ""
) -> Response:
    """A published file. The URL comes with the job's report; ranges and conditions are understood."""
    left = seconds_left(request, service, "GET", Signed(expires, key, signature))
    return await file_response(request, service.store, path, f"private, max-age={left}")


@dataclass(frozen=True)
class Signed:
    """What the query of a signed URL holds."""

    expires: str = ""
    key: str = ""
    signature: str = ""


def seconds_left(request: Request, service: Service, method: str, signed: Signed) -> int:
    """How long the URL of a request is still good. Raises Forbidden where the daemon did not sign it for this method,
    or it has expired."""
    place = request.scope["raw_path"].decode("ascii", errors="replace").partition("?")[0]
    if not service.signer.is_signed(method, place, signed.expires, signed.key, signed.signature, time()):
        raise Forbidden("this URL is not signed by this daemon, or has expired: ask for a new one")
    return max(0, int(signed.expires) - int(time()))


async def file_response(request: Request, store: Folder | Bucket, path: str, cache_control: str) -> Response:
    """A published file, given as a path below the store's root. Raises NotFound, and StoreFailure.

    From a bucket it comes through the daemon too, and not by a redirect: a URL that a client may keep for ever must not
    lead to one that is over in a few days."""
    if any(not part or part.startswith(".") or "\0" in part for part in path.split("/")):
        raise NotFound("there is no such file")
    headers = {"Cache-Control": cache_control, "X-Content-Type-Options": "nosniff"}
    if isinstance(store, Bucket):
        return await _passed_on(request, store, path, headers)
    file, content = await in_thread(_open_and_read, store.root, path)
    return _Published(file, content, path, headers)


class _Published(FileResponse):
    """An open file: whatever is published to its place meanwhile, one file is answered, and whole. `content`: all of
    it, where it has been read."""

    def __init__(self, file: FileIO, content: bytes | None, path: str, headers: Mapping[str, str]) -> None:
        super().__init__(
            f"/proc/self/fd/{file.fileno()}",
            media_type=_type_of(path),
            headers=headers,
            stat_result=os.fstat(file.fileno()),
        )
        self._file = file
        self._content = content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            asked = Headers(scope=scope)
            if self._is_known(asked):
                told = {name: self.headers[name] for name in ("cache-control", "etag", "last-modified")}
                await Response(status_code=304, headers=told)(scope, receive, send)
            # Ranges are for GET alone (RFC 9110, 14.2).
            elif scope["method"] == "HEAD" or (self._content is not None and "range" not in asked):
                body = b"" if scope["method"] == "HEAD" else self._content
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await send({"type": "http.response.body", "body": body})
            else:
                await super().__call__(scope, receive, send)

    @classmethod
    def _parse_range_header(cls, http_range: str, file_size: int) -> list[tuple[int, int]]:
        """What is no range is not understood, and all of the file is the answer (RFC 9110, 14.2)."""
        try:
            return super()._parse_range_header(http_range, file_size)
        except MalformedRangeHeader:
            return []

    def _is_known(self, asked: Headers) -> bool:
        """Whether it is what the client has (RFC 9110, 13.1)."""
        if (tags := asked.get("if-none-match")) is not None:
            known = [tag.strip().removeprefix("W/") for tag in tags.split(",")]
            return self.headers["etag"] in known or "*" in known
        since, changed = parsedate(asked.get("if-modified-since")), parsedate(self.headers["last-modified"])
        return since is not None and changed is not None and changed <= since


async def _passed_on(request: Request, bucket: Bucket, path: str, headers: Mapping[str, str]) -> Response:
    """The bucket's own answer to the same question. It understands conditions; what range is meant is seen here, and
    asked for in words in which all servers agree. For some take others wrong, or answer 200 to any, none of those tried
    knows If-Range, and none says how long a file is in which there is no such range."""
    asked = {name: request.headers[name] for name in _CONDITIONS if name in request.headers}
    part: dict[str, str] = {}
    tag: str | None = None
    if request.method == "GET" and "range" in request.headers:
        whole = await _whole(bucket, path, asked)
        tag = whole.headers.get("etag")
        try:
            part = _part(request.headers, whole)
        except RangeNotSatisfiable as none:
            told = {"Content-Range": f"bytes */{none.max_size}", "Cache-Control": "no-store"}
            return Response(status_code=416, headers={**headers, **told})
    answering = AsyncExitStack()
    try:
        answer = await answering.enter_async_context(bucket.stream(request.method, path, {**asked, **part}))
        if part and answer.status in (200, 206, 416) and answer.headers.get("etag") != tag:  # published over meanwhile
            await answering.aclose()
            answer = await answering.enter_async_context(bucket.stream("GET", path, asked))
        if answer.status == 404:
            raise NotFound("there is no such file")
        if answer.status not in (200, 206, 304, 412):
            raise StoreFailure(f"reading a published file failed: the bucket answered {answer.status}")
    except BaseException:
        await answering.aclose()
        raise
    kept = {name: answer.headers[name] for name in _ANSWERS if name in answer.headers}
    status = 206 if "content-range" in kept else answer.status
    has_body = request.method == "GET" and status in (200, 206)
    if not has_body:
        await answering.aclose()
        if status == 412:
            kept.pop("content-length", None)  # of what it says of that
            headers = {**headers, "Cache-Control": "no-store"}
        return Response(status_code=status, headers={**headers, **kept}, media_type=_type_of(path))

    async def body() -> AsyncIterator[bytes]:
        async with answering:
            async for chunk in answer.body:
                yield chunk

    return StreamingResponse(body(), status, headers={**headers, **kept}, media_type=_type_of(path))


async def _whole(bucket: Bucket, path: str, asked: Mapping[str, str]) -> Answer:
    """What the bucket says of all of a file."""
    async with bucket.stream("HEAD", path, asked) as answer:
        async for _ in answer.body:
            pass  # there is none; its end is heard, so that the connection is used again
    return answer


def _part(asked: Headers, whole: Answer) -> dict[str, str]:
    """How the bucket is asked for the range that is meant; nothing where all of the file is the answer, as it may be to
    several ranges (RFC 9110, 14.2): S3 knows but one. Raises RangeNotSatisfiable."""
    size, etag, changed = map(whole.headers.get, ("content-length", "etag", "last-modified"))
    if whole.status != 200 or size is None or asked.get("if-range") not in (None, etag, changed):
        return {}
    ranges = _Published._parse_range_header(asked["range"], int(size))
    if len(ranges) != 1:
        return {}
    [(start, end)] = ranges
    return {"range": f"bytes={start}-{end - 1}"}


def _type_of(path: str) -> str:
    return _TYPES.get(PurePosixPath(path).suffix.lower()) or guess_type(path)[0] or "application/octet-stream"


def _open_and_read(root: Path, path: str) -> tuple[FileIO, bytes | None]:
    """A published file, and all of it where that is little. Raises as `_open`."""
    file = _open(root, path)
    try:
        return file, file.readall() if os.fstat(file.fileno()).st_size <= _AT_ONCE else None
    except OSError as error:
        file.close()
        raise StoreFailure(f"a published file cannot be read: {error.strerror}") from None


def _open(root: Path, path: str) -> FileIO:
    """A regular file that lies below the root, reached through no link. Each part is opened relative to the one before.
    Raises NotFound, StoreFailure."""
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_CLOEXEC)
        for part in path.split("/"):
            above, descriptor = descriptor, -1
            try:
                descriptor = os.open(part, _BELOW, dir_fd=above)
            finally:
                os.close(above)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise NotFound("there is no such file") from None
        raise StoreFailure(f"a published file cannot be opened: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotFound("there is no such file")
    return FileIO(descriptor)
