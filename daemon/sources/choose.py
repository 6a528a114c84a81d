"""From a job's text to an open source, wherever it is."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from daemon.errors import SourceFailure, SourceRefused
from daemon.sources.files import Files
from daemon.sources.http import Http
from daemon.sources.opened import Opened
from daemon.sources.s3 import S3
from daemon.sources.vetting import HTTP
from daemon.threads import in_thread


class Sources:
    """What may be read. `http`, `s3` and `uploads`, the folder of those: None where nothing of that kind may."""

    def __init__(
        self, files: Files, http: Http | None = None, s3: S3 | None = None, uploads: Files | None = None
    ) -> None:
        self._files = files
        self._uploads = uploads
        self._http = http
        self._s3 = s3

    @asynccontextmanager
    async def open(self, source: str, roots: tuple[Path, ...] | None = None) -> AsyncIterator[Opened]:
        """The source for one task. `roots` narrows the folders that may be read; None: all that the settings allow.
        Raises a SourceFailure that names the source and what to do; at the end as well, for what could not be read."""
        try:
            async with self._way(source, roots) as opened:
                yield opened
        except SourceFailure as failure:
            raise failure.named(source) from None

    @asynccontextmanager
    async def open_upload(self, source: str, id: str) -> AsyncIterator[Opened]:
        """An upload, by an id that the daemon gave. Raises a SourceFailure that names the source and what to do."""
        try:
            if self._uploads is None:
                raise SourceRefused("only a daemon has uploads")
            async with self._file(self._uploads, id, None) as opened:
                yield opened
        except SourceFailure as failure:
            raise failure.named(source) from None

    def _way(self, source: str, roots: Sequence[Path] | None) -> AbstractAsyncContextManager[Opened]:
        scheme, is_url, _ = source.partition("://")
        if source.startswith(("video:", "tus:")):
            raise SourceRefused("only a job of a daemon may name a registered video or an upload")
        if not is_url or self._files.at_hand(source):
            return self._file(self._files, source, roots)
        if scheme.lower() in HTTP and self._http is not None:
            return self._http.open(source)
        if scheme == "s3" and self._s3 is not None:
            return self._s3.open(source)
        if scheme.lower() in (*HTTP, "s3"):
            raise SourceRefused(f"{scheme}:// may not be read (setting sources.schemes)")
        raise SourceRefused("only paths of files, https://, http:// and s3:// can be read")

    @asynccontextmanager
    async def _file(self, files: Files, source: str, roots: Sequence[Path] | None) -> AsyncIterator[Opened]:
        # Held here and not given back: a cancellation meanwhile would lose it.
        descriptors: list[int] = []
        try:
            await in_thread(lambda: descriptors.append(files.open(source, roots)))
            yield _opened(descriptors[0])
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def _opened(descriptor: int) -> Opened:
    status = os.fstat(descriptor)
    identity = f"file:{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
    return Opened(descriptor, status.st_size, identity)
