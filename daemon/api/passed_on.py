"""A published file in a bucket, as an answer: the bucket's own, passed on."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.datastructures import Headers
from starlette.responses import RangeNotSatisfiable

from daemon.api.published import Published, type_of
from daemon.errors import NotFound, StoreFailure
from daemon.net import Answer
from daemon.store.bucket import Bucket

_CONDITIONS = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")
_ANSWERS = ("content-length", "content-range", "accept-ranges", "etag", "last-modified")


async def passed_on(request: Request, bucket: Bucket, path: str, headers: Mapping[str, str]) -> Response:
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
        return Response(status_code=status, headers={**headers, **kept}, media_type=type_of(path))

    async def body() -> AsyncIterator[bytes]:
        async with answering:
            async for chunk in answer.body:
                yield chunk

    return StreamingResponse(body(), status, headers={**headers, **kept}, media_type=type_of(path))


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
    same = asked.get("if-range")
    if whole.status != 200 or size is None or same not in (None, etag, changed) or (same or "").startswith("W/"):
        return {}
    ranges = Published.ranges_of(asked["range"], int(size))
    if len(ranges) != 1:
        return {}
    [(start, end)] = ranges
    return {"range": f"bytes={start}-{end - 1}"}
