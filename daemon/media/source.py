"""A source is `read_at(offset, size)` and a size; every opening of it has a position of its own.

Two openings through `fd:` or a `dup` of one descriptor would share one file offset and corrupt each other.
"""

import os
import threading
from abc import ABC, abstractmethod
from typing import Protocol


class Source(Protocol):
    """Random access to the bytes of a video."""

    @property
    def size(self) -> int:
        """Bytes in all."""

    @property
    def bytes_read(self) -> int:
        """Bytes read so far, by all openings."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; fewer only at the end. Raises OSError."""


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
