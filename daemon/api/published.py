"""A published file in a folder, as an answer: its type, its ranges, and its opening below the store's root."""

import errno
import os
import stat
from collections.abc import Mapping
from email.utils import parsedate
from io import FileIO
from mimetypes import guess_type
from pathlib import Path, PurePosixPath

from fastapi import Response
from fastapi.responses import FileResponse
from starlette.datastructures import Headers
from starlette.responses import MalformedRangeHeader, RangeNotSatisfiable
from starlette.types import Receive, Scope, Send

from daemon.errors import NotFound, StoreFailure

_TYPES = {".avif": "image/avif", ".webp": "image/webp", ".vtt": "text/vtt", ".bif": "application/octet-stream"}
_TYPES |= {".m3u8": "application/vnd.apple.mpegurl", ".mpd": "application/dash+xml"}
_AT_ONCE = 1 << 20  # bytes of a file that is read when it is opened: on the way to a thread once, not four times
_BELOW = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES, errno.ENXIO}


class Published(FileResponse):
    """An open file: whatever is published to its place meanwhile, one file is answered, and whole. `content`: all of
    it, where it has been read."""

    def __init__(self, file: FileIO, content: bytes | None, path: str, headers: Mapping[str, str]) -> None:
        super().__init__(
            f"/proc/self/fd/{file.fileno()}",
            media_type=type_of(path),
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
    def ranges_of(cls, asked: str, size: int) -> list[tuple[int, int]]:
        """What a Range header means of so many bytes: where each begins and ends; none where it is not understood.
        Raises RangeNotSatisfiable."""
        return cls._parse_range_header(asked, size)

    @classmethod
    def _parse_range_header(cls, http_range: str, file_size: int) -> list[tuple[int, int]]:
        """What is no range is not understood, and all of the file is the answer (RFC 9110, 14.2); so it is where of
        several there are not all (15.5.17)."""
        try:
            return super()._parse_range_header(http_range, file_size)
        except MalformedRangeHeader:
            return []
        except RangeNotSatisfiable:
            if "," not in http_range:
                raise
            return []

    def _is_known(self, asked: Headers) -> bool:
        """Whether it is what the client has (RFC 9110, 13.1)."""
        if (tags := asked.get("if-none-match")) is not None:
            known = [tag.strip().removeprefix("W/") for tag in tags.split(",")]
            return self.headers["etag"] in known or "*" in known
        since, changed = parsedate(asked.get("if-modified-since")), parsedate(self.headers["last-modified"])
        return since is not None and changed is not None and changed <= since


def type_of(path: str) -> str:
    return _TYPES.get(PurePosixPath(path).suffix.lower()) or guess_type(path)[0] or "application/octet-stream"


def open_and_read(root: Path, path: str) -> tuple[FileIO, bytes | None]:
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
