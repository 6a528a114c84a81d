"""A source is `read_at(offset, size)` and a size; every opening of it has a position of its own.

Two openings through `fd:` or a `dup` of one descriptor would share one file offset and corrupt each other.
"""

import errno
import os
import queue
import socket
import stat
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Protocol

from daemon.worker.reads import ANSWER, ASK, MOST_ASKED, MOST_BYTES, SIZE


class Source(Protocol):
    """Random access to the bytes of a video."""

    @property
    def size(self) -> int:
        """Bytes in all."""

    @property
    def bytes_read(self) -> int:
        """Bytes read so far, by all openings."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; fewer only at the end. Any thread may. Raises OSError."""

    def close(self) -> None:
        """Nothing more is read."""


def open_source(descriptor: int) -> Source:
    """The source behind a descriptor that a worker was given: a file, or a socket over which the supervisor answers.
    Raises OSError."""
    return RemoteSource(descriptor) if stat.S_ISSOCK(os.fstat(descriptor).st_mode) else FileSource(descriptor)


class FileSource:
    """A source behind a descriptor of a regular file. The descriptor stays the caller's."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self.size = os.fstat(descriptor).st_size
        self.bytes_read = 0

    def read_at(self, offset: int, size: int) -> bytes:
        data = os.pread(self._descriptor, size, offset)
        with self._lock:
            self.bytes_read += len(data)
        return data

    def close(self) -> None:
        """The descriptor is not ours to close."""


class RemoteSource:
    """A source that the supervisor reads. Each thread waits for its own answer only; one more hears them all."""

    def __init__(self, descriptor: int) -> None:
        self._wire = socket.socket(fileno=os.dup(descriptor))
        self._lock = threading.Lock()
        self._turns = threading.Semaphore(MOST_ASKED)
        self._waiting: dict[int, queue.SimpleQueue[bytes | int]] = {}  # for bytes, or an errno
        self._last = 0
        self._over = False
        self.bytes_read = 0
        self.size: int = SIZE.unpack(self._exactly(SIZE.size))[0]
        self._hearing = threading.Thread(target=self._hear, name="answers", daemon=True)
        self._hearing.start()

    def read_at(self, offset: int, size: int) -> bytes:
        end = min(self.size, offset + size)
        parts = [self._ask(at, min(MOST_BYTES, end - at)) for at in range(offset, end, MOST_BYTES)]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        with suppress(OSError):
            self._wire.shutdown(socket.SHUT_RDWR)
        self._hearing.join()
        self._wire.close()

    def _ask(self, offset: int, size: int) -> bytes:
        answer: queue.SimpleQueue[bytes | int] = queue.SimpleQueue()
        with self._turns:
            with self._lock:
                if self._over:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                id = self._last = (self._last + 1) & 0xFFFFFFFF
                self._waiting[id] = answer
                self._wire.sendall(ASK.pack(id, offset, size))
            said = answer.get()
        if isinstance(said, int):
            raise OSError(said, os.strerror(said))
        with self._lock:
            self.bytes_read += len(said)
        return said

    def _hear(self) -> None:
        with suppress(OSError):
            while True:
                id, status, length = ANSWER.unpack(self._exactly(ANSWER.size))
                data = self._exactly(length)
                with self._lock:
                    waiting = self._waiting.pop(id)
                waiting.put(status or data)
        with self._lock:
            self._over = True
            left = list(self._waiting.values())
        for waiting in left:
            waiting.put(errno.EIO)

    def _exactly(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            part = self._wire.recv(size - len(parts))
            if not part:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            parts += part
        return bytes(parts)


class Cursor(ABC):
    """The position of a file object, from 0."""

    def __init__(self) -> None:
        self._position = 0

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes up to the end."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def seekable(self) -> bool:
        return True


class Opening(Cursor):
    """The file object that PyAV reads: a source and a position. Keeps the first OSError, which libav would hide."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source
        self.error: OSError | None = None

    def read(self, size: int = -1) -> bytes:
        wanted = self.size - self._position if size < 0 else size
        try:
            data = self._source.read_at(self._position, wanted)
        except OSError as error:
            self.error = self.error or error
            raise
        self._position += len(data)
        return data

    @property
    def size(self) -> int:
        return self._source.size
