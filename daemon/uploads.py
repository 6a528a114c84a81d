"""The bytes of uploads: one file for each below a folder of the settings, named by an id that the daemon gave.

What a client is told to be received is on the disk: it is synced before its row says so. Whoever writes holds a lock on
the file that ends with the process; a client that comes again while its broken connection is still being listened to
ends that.
"""

import asyncio
import errno
import fcntl
import os
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path

from daemon.catalogue import uploads
from daemon.catalogue.uploads import Upload
from daemon.database import Database
from daemon.errors import Conflict, NotFound, Overloaded, TooLarge
from daemon.threads import in_thread

_WRITTEN = 1 << 20  # bytes that are written at once
_SYNCED = 16 << 20  # bytes that may be lost at once
_LOOK_AGAIN = 60  # seconds, where there is no room
_LOOKED_UP = 1000  # names at once
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Uploads:
    """`most`: bytes of one upload; `allowed`: of all of an organisation; `life`: seconds that one stays after the last
    byte came; `least_free`: bytes of the disk that are left alone."""

    def __init__(self, database: Database, root: Path, most: int, allowed: int, life: float, least_free: int) -> None:
        self.root = root
        self.most = most
        self._database = database
        self._allowed = allowed
        self._life = life
        self._least_free = least_free
        self._writing: dict[str, _Writing] = {}

    async def create(self, org: str, task: str, length: int, about: str) -> Upload:
        """Raises TooLarge, QuotaExceeded, Overloaded."""
        if length > self.most:
            raise TooLarge(f"an upload has at most {self.most} bytes (setting uploads.max_bytes)")
        coming = await self._database.run(uploads.still_coming)  # what others were promised room for
        if length + coming + self._least_free > await in_thread(_free, self.root):
            raise Overloaded("there is no room for it on the disk now", _LOOK_AGAIN)
        return await self._database.run(
            lambda c: uploads.create(c, org, task, length, about, self._life, self._allowed)
        )

    async def get(self, task: str, id: str) -> Upload:
        """An upload of a task, when nobody writes it any more. Raises NotFound."""
        await self._find(task, id)
        await self._settle(id)
        return await self._find(task, id)

    async def append(self, task: str, id: str, offset: int, pieces: AsyncIterator[bytes]) -> Upload:
        """Writes what comes from `offset` on; also where that breaks off everything that came is kept. Raises NotFound,
        Conflict where `offset` is not where it goes on, TooLarge where more comes than was announced, Overloaded."""
        upload = await self._find(task, id)
        await self._settle(id)
        self._writing[id] = writing = _Writing()
        try:
            async with self._locked(upload) as descriptor:
                upload = await self._find(task, id)
                if offset != upload.received:
                    raise Conflict(f"it goes on at {upload.received}, not at {offset}")
                return await self._write(upload, descriptor, writing.pieces(pieces))
        finally:
            del self._writing[id]
            writing.over.set()

    async def remove(self, task: str, id: str) -> None:
        """Raises NotFound."""
        upload = await self._find(task, id)
        await self._settle(id)
        await self._database.run(lambda c: uploads.remove(c, upload.id))
        await in_thread((self.root / upload.id).unlink, missing_ok=True)

    async def sweep(self) -> int:
        """Removes what expired, and files that no row knows; how many files. May be done by many at once, and
        again: a row is always gone before its file."""
        await self._database.run(uploads.remove_expired)
        if not await in_thread(self.root.exists):
            return 0
        names = [name for name in await in_thread(os.listdir, self.root) if _ID.fullmatch(name)]
        removed = 0
        for first in range(0, len(names), _LOOKED_UP):
            some = names[first : first + _LOOKED_UP]
            for name in await self._database.run(partial(uploads.unknown, ids=some)):
                await in_thread((self.root / name).unlink, missing_ok=True)
                removed += 1
        return removed

    async def _find(self, task: str, id: str) -> Upload:
        found = await self._database.run(lambda c: uploads.get(c, id))
        if found is None or found.task != task:
            raise NotFound("there is no such upload, or it has expired")
        return found

    async def _settle(self, id: str) -> None:
        """Ends what writes it: its client has come again."""
        while (writing := self._writing.get(id)) is not None:
            writing.stop.set()
            await writing.over.wait()

    @asynccontextmanager
    async def _locked(self, upload: Upload) -> AsyncIterator[int]:
        """A descriptor of its file, which no other daemon writes meanwhile."""
        descriptors: list[int] = []  # held here: a cancellation would lose what a thread returns
        try:
            with _disk():
                await in_thread(lambda: descriptors.append(_open(self.root / upload.id)))
            yield descriptors[0]
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    async def _write(self, upload: Upload, descriptor: int, pieces: AsyncIterator[bytes]) -> Upload:
        held, written = bytearray(), upload.received

        async def flush() -> None:
            nonlocal written
            with _disk():
                await in_thread(_write_all, descriptor, bytes(held), written)
            written += len(held)
            held.clear()

        async def keep() -> None:
            nonlocal upload
            if held:
                await flush()
            if written == upload.received:
                return
            with _disk():
                await in_thread(os.fsync, descriptor)
            before = upload.received
            kept = await self._database.run(lambda c: uploads.receive(c, upload.id, before, written, self._life))
            if kept is None:
                raise NotFound("this upload was removed meanwhile")
            upload = kept

        try:
            async for piece in pieces:
                held += piece
                if written + len(held) > upload.length:
                    del held[upload.length - written :]
                    raise TooLarge(f"it was announced to have {upload.length} bytes, and more came")
                if len(held) >= _WRITTEN:
                    await flush()
                if written - upload.received >= _SYNCED:
                    await keep()
        finally:
            await keep()
        return upload


class _Writing:
    """Somebody writes. `stop`: is to end; `over`: has ended."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.over = asyncio.Event()

    async def pieces(self, source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Raises Conflict when it is to stop."""

        async def pull() -> bytes | None:
            return await anext(source, None)

        stopping = asyncio.create_task(self.stop.wait())
        pulling: asyncio.Task[bytes | None] | None = None
        try:
            while True:
                pulling = asyncio.create_task(pull())
                await asyncio.wait((pulling, stopping), return_when=asyncio.FIRST_COMPLETED)
                if not pulling.done():
                    raise Conflict("another request goes on with this upload")
                if (piece := pulling.result()) is None:
                    return
                yield piece
        finally:
            for task in (stopping, pulling):
                if task is not None:
                    task.cancel()
                    with suppress(asyncio.CancelledError, Exception):
                        await task


def _free(root: Path) -> int:
    """Bytes on the disk of a folder, which is made where there is none."""
    with _disk():
        root.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(root).free


def _open(path: Path) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_size == 0:
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count


@contextmanager
def _disk() -> Iterator[None]:
    """What goes wrong there, as a failure that may pass."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN):
            raise Overloaded("another daemon is receiving this upload", 1) from error
        raise Overloaded(f"the disk does not take it: {error.strerror}", _LOOK_AGAIN) from error
