"""Published files, to whoever has a URL that the daemon signed."""

import os
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from mimetypes import guess_type
from pathlib import Path, PurePosixPath
from time import time

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, StreamingResponse

from daemon.api.access import TheService
from daemon.api.bodies import Route
from daemon.api.problems import Problem
from daemon.errors import Forbidden, NotFound, StoreFailure
from daemon.store.bucket import Bucket
from daemon.store.folder import Folder
from daemon.threads import in_thread

router = APIRouter(route_class=Route)

_TYPES = {".avif": "image/avif", ".webp": "image/webp", ".vtt": "text/vtt", ".bif": "application/octet-stream"}
_TYPES |= {".m3u8": "application/vnd.apple.mpegurl", ".mpd": "application/dash+xml"}
_QUESTIONS = ("range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since")
_ANSWERS = ("content-length", "content-range", "accept-ranges", "etag", "last-modified")


@router.api_route(
    "/files/{path:path}",
    methods=["GET", "HEAD"],
    operation_id="get_file",
    response_class=FileResponse,
    responses={200: {"content": {"application/octet-stream": {}}}, 403: {"model": Problem}, 404: {"model": Problem}},
)
async def get_file(
    request: Request, service: TheService, path: str, expires: str = "", key: str = "", signature: str = ""
) -> Response:
    """A published file. The URL comes with the job's report; ranges and conditions are understood."""
    place = request.scope["raw_path"].decode("ascii", errors="replace").partition("?")[0]
    if not service.signer.is_signed("GET", place, expires, key, signature, time()):
        raise Forbidden("this URL is not signed by this daemon, or has expired: ask for the job's report again")
    left = max(0, int(expires) - int(time()))
    return await file_response(request, service.store, path, f"private, max-age={left}")


async def file_response(request: Request, store: Folder | Bucket, path: str, cache_control: str) -> Response:
    """A published file, given as a path below the store's root. Raises NotFound, and StoreFailure.

    From a bucket it comes through the daemon too, and not by a redirect: a URL that a client may keep for ever must not
    lead to one that is over in a few days."""
    if any(not part or part.startswith(".") for part in path.split("/")):
        raise NotFound("there is no such file")
    headers = {"Cache-Control": cache_control, "X-Content-Type-Options": "nosniff"}
    if isinstance(store, Bucket):
        return await _passed_on(request, store, path, headers)
    full, status = await in_thread(_look, store.root, path)
    return FileResponse(full, media_type=_type_of(path), headers=headers, stat_result=status)


async def _passed_on(request: Request, bucket: Bucket, path: str, headers: Mapping[str, str]) -> Response:
    """The bucket's own answer to the same question: it understands ranges and conditions."""
    asked = {name: request.headers[name] for name in _QUESTIONS if name in request.headers}
    answering = AsyncExitStack()
    try:
        answer = await answering.enter_async_context(bucket.stream(request.method, path, asked))
        if answer.status == 404:
            raise NotFound("there is no such file")
        if answer.status not in (200, 206, 304, 412, 416):
            raise StoreFailure(f"reading a published file failed: the bucket answered {answer.status}")
    except BaseException:
        await answering.aclose()
        raise
    kept = {name: answer.headers[name] for name in _ANSWERS if name in answer.headers}
    has_body = request.method == "GET" and answer.status in (200, 206)
    if not has_body:
        await answering.aclose()
        if answer.status in (412, 416):
            kept.pop("content-length", None)  # of what it says of that
        return Response(status_code=answer.status, headers={**headers, **kept}, media_type=_type_of(path))

    async def body() -> AsyncIterator[bytes]:
        async with answering:
            async for chunk in answer.body:
                yield chunk

    return StreamingResponse(body(), answer.status, headers={**headers, **kept}, media_type=_type_of(path))


def _type_of(path: str) -> str:
    return _TYPES.get(PurePosixPath(path).suffix.lower()) or guess_type(path)[0] or "application/octet-stream"


def _look(root: Path, path: str) -> tuple[Path, os.stat_result]:
    """A regular file that lies below the root, reached through no link."""
    full = root / path
    try:
        status = full.lstat()
        good = stat.S_ISREG(status.st_mode) and full.resolve() == root.resolve() / path
    except (OSError, ValueError):
        good = False
    if not good:
        raise NotFound("there is no such file")
    return full, status
