"""Opening the source of a job: below an allowed root, never through a link, never anything but a regular file."""

import errno
import os
import stat
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from daemon.errors import Failure, SourceEmpty, SourceMissing, SourceRefused, SourceUnreadable
from daemon.threads import in_thread

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class Opened:
    """An open source: the descriptor for a worker, its bytes, and what tells it from another one that was at the same
    place before; None where nothing does."""

    descriptor: int
    size: int
    identity: str | None


class Sources:
    """What may be read. `roots`: folders below which sources must lie, None for the user's own rights. `uploads`: the
    folder of those, None where there are none."""

    def __init__(self, roots: Sequence[Path] | None, max_bytes: int, uploads: Path | None = None) -> None:
        self._uploads = uploads
        self._roots = None if roots is None else [_Root(root) for root in roots]
        self._max_bytes = max_bytes

    @asynccontextmanager
    async def open(self, source: str, roots: tuple[Path, ...] | None = None) -> AsyncGenerator[Opened, None]:
        """An open file. A relative path is looked for below each root in turn. Raises a SourceFailure that names the
        source and what to do."""
        async with self._opened(partial(self._open, source)) as opened:
            yield opened

    @asynccontextmanager
    async def open_upload(self, source: str, id: str) -> AsyncGenerator[Opened, None]:
        """An upload, by an id that the daemon gave. Raises a SourceFailure that names the source and what to do."""
        if self._uploads is None:
            raise SourceRefused(f"source {source!r}: only a daemon has uploads")
        async with self._opened(partial(self._checked, source, partial(_walk, self._uploads, (id,)))) as opened:
            yield opened

    @asynccontextmanager
    async def _opened(self, opening: Callable[[], int]) -> AsyncGenerator[Opened, None]:
        descriptor = await in_thread(opening)
        try:
            status = os.fstat(descriptor)
            identity = f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
            yield Opened(descriptor, status.st_size, identity)
        finally:
            os.close(descriptor)

    def _open(self, source: str) -> int:
        if "://" in source or source.startswith(("video:", "tus:")):
            raise SourceRefused(f"source {source!r}: only paths of files are supported by this version")
        if self._roots is None:
            return self._checked(source, partial(os.open, source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        if not self._roots:
            raise SourceRefused(f"source {source!r}: no folder may be read: name some in the setting sources.roots")
        path = os.path.normpath(source)
        below = [(root.real, root.below(path)) for root in self._roots]
        inside = [(root, parts) for root, parts in below if parts is not None]
        if not inside:
            raise SourceRefused(f"source {source!r}: it lies outside the folders of the setting sources.roots")
        failure: Failure | None = None
        for root, parts in inside:
            try:
                return self._checked(source, partial(_walk, root, parts))
            except SourceMissing as missing:
                failure = missing
        raise failure or SourceMissing(f"source {source!r}: there is no such file")

    def _checked(self, source: str, opening: Callable[[], int]) -> int:
        try:
            descriptor = opening()
        except OSError as error:
            raise _failure(source, error) from None
        except ValueError:  # it holds what no path can
            raise SourceRefused(f"source {source!r}: no file can have such a name") from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise SourceRefused(f"source {source!r}: it is no regular file: give the path of a video")
            if status.st_size == 0:
                raise SourceEmpty(f"source {source!r}: the file is empty: is it still being written?")
            if status.st_size > self._max_bytes:
                raise SourceRefused(
                    f"source {source!r}: it has {status.st_size} bytes, {self._max_bytes} are allowed "
                    "(setting sources.max_bytes)"
                )
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


class _Root:
    """A folder below which sources may lie. A source may be named by the path that was set or by the real one."""

    def __init__(self, root: Path) -> None:
        self.real = Path(os.path.realpath(root))
        self._names = {self.real, Path(os.path.abspath(root))}

    def below(self, path: str) -> Sequence[str] | None:
        """The parts of a normalised path below this folder, None where it lies elsewhere."""
        parts = Path(path).parts
        if not Path(path).is_absolute():
            return None if parts[:1] == ("..",) else parts
        return next(
            (Path(path).relative_to(name).parts for name in self._names if Path(path).is_relative_to(name)), None
        )


def _walk(root: Path, parts: Sequence[str]) -> int:
    """Opens each part relative to the one before, following no link: nobody can swap a folder on the way."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            below = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = below
        return os.open(parts[-1] if parts else ".", _FILE, dir_fd=folder)
    finally:
        os.close(folder)


def _failure(source: str, error: OSError) -> Failure:
    match error.errno:
        case errno.ENOENT:
            return SourceMissing(f"source {source!r}: there is no such file: check its path")
        case errno.ELOOP | errno.ENOTDIR:
            return SourceRefused(f"source {source!r}: a part of its path is a link or no folder: give its real path")
        case errno.EACCES | errno.EPERM:
            return SourceRefused(f"source {source!r}: it may not be read: give the daemon's user the right to")
        case errno.ENXIO:
            return SourceRefused(f"source {source!r}: it is no regular file: give the path of a video")
        case errno.ENAMETOOLONG | errno.EINVAL:
            return SourceRefused(f"source {source!r}: no file can have such a name")
    return SourceUnreadable(f"source {source!r}: opening it failed ({error.strerror})")
