"""The supervisor's side of a source that is no file: hears what a worker wants to read, and answers.

A worker has decoded hostile data and may ask for anything. Whatever is not within the source, or the wire's caps, is a
`fault`, for which it is stopped.
"""

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from daemon.worker.reads import ANSWER, ASK, MOST_ASKED, MOST_BYTES, SIZE

Read = Callable[[int, int], Awaitable[bytes]]


class Answers:
    """What one worker reads in one task. `read(offset, size)` gives exactly so many bytes. `descriptor` is the worker's
    end. As a context: at its end nothing is on its way any more."""

    def __init__(self, read: Read, size: int) -> None:
        self._read = read
        self._size = size
        self._asked: dict[int, asyncio.Task[None]] = {}
        self._pending = 0
        self._changed: Callable[[], None] = lambda: None
        self.fault: str | None = None  # what the worker asked for against the rules
        self.failure: Exception | None = None  # the first that a read raised

    async def __aenter__(self) -> Self:
        ours, self._theirs = socket.socketpair()
        self.descriptor = self._theirs.fileno()
        self._reader, self._writer = await asyncio.open_connection(sock=ours)
        self._writer.write(SIZE.pack(self._size))
        self._hearing = asyncio.create_task(self._hear(), name="answers")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        ending = [self._hearing, *self._asked.values()]
        for task in ending:
            task.cancel()
        self._writer.close()
        self._theirs.close()
        await asyncio.gather(*ending, return_exceptions=True)

    @property
    def pending(self) -> bool:
        """Bytes that the worker asked for are still to come: its silence is not its own."""
        return self._pending > 0

    @contextmanager
    def telling(self, changed: Callable[[], None]) -> Iterator[None]:
        """`changed` is called whenever `pending` or `fault` may have changed."""
        self._changed = changed
        try:
            yield
        finally:
            self._changed = lambda: None

    async def _hear(self) -> None:
        while self.fault is None:
            try:
                await self._writer.drain()  # nothing more is heard of one that does not take its answers
                id, offset, size = ASK.unpack(await self._reader.readexactly(ASK.size))
            except (asyncio.IncompleteReadError, OSError):
                return  # the worker has read enough
            self.fault = self._wrong(id, offset, size)
            if self.fault is None:
                self._asked[id] = asyncio.create_task(self._answer(id, offset, size))
            self._changed()

    def _wrong(self, id: int, offset: int, size: int) -> str | None:
        if not 0 < size <= MOST_BYTES:
            return f"it asks for {size} bytes of its source at once"
        if offset + size > self._size:
            return "it asks for bytes beyond the end of its source"
        if id in self._asked:
            return "it asks twice under one number"
        if len(self._asked) >= MOST_ASKED:
            return f"it asks for more than {MOST_ASKED} pieces of its source at once"
        return None

    async def _answer(self, id: int, offset: int, size: int) -> None:
        self._pending += 1
        try:
            data, status = await self._read(offset, size), 0
        except Exception as failure:  # noqa: BLE001  told by whoever opened the source; the worker must hear of it
            self.failure = self.failure or failure
            data, status = b"", errno.EIO
        finally:
            self._pending -= 1
            del self._asked[id]
            self._changed()
        self._writer.write(ANSWER.pack(id, status, len(data)) + data)
