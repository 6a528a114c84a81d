"""A file that the supervisor has opened for one output, and its writing."""

import errno
import os

from daemon.errors import BadJob, StoreFailure
from daemon.media.source import Cursor


class Sink(Cursor):
    """The file object that libav and Pillow write to: a descriptor and a position of its own. Raises StoreFailure where
    the disk is full or broken, BadJob where the file becomes larger than a worker may write. The descriptor stays the
    caller's; nothing reaches it any more once this is closed, whoever still holds on to it."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._closed = False
        self._size = 0

    @property
    def size(self) -> int:
        return self._size

    def anew(self) -> "Sink":
        """The same file, empty again; this one is closed. Raises StoreFailure."""
        self.close()
        try:
            os.ftruncate(self._descriptor, 0)
        except OSError as error:
            raise StoreFailure(f"writing failed: {error.strerror} (free space, or mend the folder)") from None
        return Sink(self._descriptor)

    def write(self, data: bytes) -> int:
        if self._closed:
            raise ValueError("the file is closed")
        view = memoryview(data)
        while view:
            written = self._write(view)
            view = view[written:]
            self._position += written
            self._size = max(self._size, self._position)
        return len(data)

    def _write(self, view: memoryview) -> int:
        try:
            return os.pwrite(self._descriptor, view, self._position)
        except OSError as error:
            if error.errno == errno.EFBIG:
                raise BadJob("the file becomes too large: ask for a shorter or smaller one") from None
            raise StoreFailure(f"writing failed: {error.strerror} (free space, or mend the folder)") from None

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self._closed = True
