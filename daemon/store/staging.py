"""A staging folder on this machine: the files of one attempt, before they are published."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from daemon.errors import StoreFailure

_OPEN_AT_ONCE = 64  # files
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_NEW_FOR_OTHERS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Staging:
    """Files of one attempt, which are on disk when `write` returns."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        return self._path.name

    def write(self, files: Mapping[str, bytes]) -> None:
        """Writes whole files. Raises StoreFailure where the disk is full or broken; none of them is there then."""
        written: list[Path] = []
        with store_failures(f"writing {next(iter(files), '')}"):
            try:
                names = iter(files)
                while some := list(islice(names, _OPEN_AT_ONCE)):
                    self._write({file: files[file] for file in some}, written)
            except OSError:
                # After a failed fsync the pages may be marked clean: these files are not tried a second time.
                for path in written:
                    path.unlink(missing_ok=True)
                raise

    def _write(self, files: Mapping[str, bytes], written: list[Path]) -> None:
        descriptors: list[int] = []
        try:
            for file, data in files.items():
                path = self._path / file
                for folder in reversed(Path(file).parents[:-1]):
                    (self._path / folder).mkdir(exist_ok=True)
                descriptors.append(descriptor := os.open(path, _NEW, 0o644))
                written.append(path)
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
            for descriptor in descriptors:
                os.fsync(descriptor)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def open(self, file: str) -> int:
        """The descriptor of a new, empty file, for somebody else to write to. Raises StoreFailure."""
        with store_failures(f"making {file}"):
            return os.open(self._path / file, _NEW_FOR_OTHERS, 0o644)

    def adopt(self, files: Mapping[str, str]) -> int:
        """Files that were published before, once more: links to them, or copies where there can be none; their bytes
        in all. `files`: their names here -> their places below the store's root. Published files are replaced, never
        changed. Raises FileNotFoundError, and StoreFailure."""
        root = self._path.parent.parent
        return sum(self._adopt(file, root / published) for file, published in files.items())

    def _adopt(self, file: str, published: Path) -> int:
        path = self._path / file
        with store_failures(f"linking {file}", but=FileNotFoundError):
            for folder in reversed(Path(file).parents[:-1]):
                (self._path / folder).mkdir(exist_ok=True)
            try:
                os.link(published, path, follow_symlinks=False)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP):
                    raise
                with published.open("rb") as original, path.open("xb") as copy:
                    shutil.copyfileobj(original, copy)
                    copy.flush()
                    os.fsync(copy.fileno())
            return path.stat().st_size

    def settle(self, file: str, descriptor: int) -> None:
        """Brings what was written to an open file to the disk. Raises StoreFailure."""
        with store_failures(f"writing {file}"):
            os.fsync(descriptor)

    def remove(self, file: str) -> None:
        """A file that is not wanted after all, and the folders that hold nothing else."""
        (self._path / file).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            for folder in Path(file).parents[:-1]:
                (self._path / folder).rmdir()

    def discard(self) -> None:
        """Removes all of it, and the common folder where it was the last."""
        shutil.rmtree(self._path, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._path.parent.rmdir()


@contextlib.contextmanager
def store_failures(doing: str, but: type[OSError] | tuple[()] = ()) -> Iterator[None]:
    """Raises StoreFailure for an OSError, except for `but`. `doing`: what was being done."""
    try:
        yield
    except but:
        raise
    except OSError as error:
        raise StoreFailure(f"{doing} failed: {error.strerror or error} (free space, or mend the folder)") from error
