"""A folder of pictures: each attempt writes to a staging folder of its own, and is published by renaming.

    <root>/.staging/<name>/        files of one attempt, some in folders within, none of them seen by anybody
    <root>/<destination>/          published, the manifest last of all

Publication can be begun again by anyone at any point, and by two at once: whatever was moved already is not there to
be moved twice.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from daemon.errors import BadJob, StoreFailure
from daemon.files import MANIFEST
from daemon.store.staging import Staging, store_failures
from daemon.ulid import new_ulid

STAGING = ".staging"
_ASIDE = ".manifest-"  # before a ULID: a manifest put aside
_OVER = ".over"  # after the name of a staging folder whose publication is over


class Folder:
    """The store in a folder. Destinations are relative paths that `daemon.fields` has checked."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def stage(self, name: str) -> Staging:
        """A new, empty staging folder. Raises StoreFailure."""
        path = self.root / STAGING / name
        with store_failures("making a staging folder"):
            for _ in range(3):
                # Another attempt's end may remove the common folder in between.
                with contextlib.suppress(FileNotFoundError):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    shutil.rmtree(path, ignore_errors=True)
                    path.mkdir()
                    return Staging(path)
            raise FileNotFoundError(errno.ENOENT, "it disappears again and again", str(path))

    def check_destination(self, destination: str) -> None:
        """Raises BadJob where a part of the destination is there and is no folder."""
        path = self.root
        for part in destination.split("/"):
            path /= part
            if os.path.lexists(path) and not path.is_dir():
                raise BadJob(f"destination: {path.relative_to(self.root)} is a file in the store, not a folder")

    def staged(self, name: str) -> Staging:
        """A staging folder made before, which may be gone."""
        return Staging(self.root / STAGING / name)

    def publish(self, name: str, destination: str) -> None:
        """Moves what was staged under `name` to the destination: as a whole where that is new, else file by file,
        the manifest last. Does nothing where it was moved already. Raises StoreFailure; and BadJob, before anything
        is moved, where another job's folder has the name of a file, or its file that of a folder."""
        staging, target = self.root / STAGING / name, self.root / destination
        with store_failures(f"publishing to {destination}"):
            self._make_parents(target)
            try:
                if target.exists():
                    raise OSError(errno.EEXIST, "there are files")
                for folder in _tree(staging)[0]:
                    _sync_folder(staging / folder)
                staging.rename(target)
            except FileNotFoundError:
                pass  # all of it was moved before
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                    raise
                self._move_files(staging, target)
            with contextlib.suppress(FileNotFoundError):  # moved before, and taken away since
                _sync_folder(target)
                _sync_folder(target.parent)
        for left in (name + _OVER, name):
            self.staged(left).discard()

    def _move_files(self, staging: Path, target: Path) -> None:
        """Somebody else may do the same at any moment, or wake up from a pause long after it was done. So an older
        manifest, which would call the mixture complete, is moved into the staging folder: where the publication is
        over there is none, and the manifest at the destination is left alone. If what was moved is our own, for
        somebody else had just finished, it is put back."""
        try:
            ours = (staging / MANIFEST).read_bytes()
            folders, files = _tree(staging)
        except FileNotFoundError:
            return  # somebody else has moved them
        for file in files:
            if (target / file).is_dir():
                raise BadJob(f"destination: {(target / file).relative_to(self.root)} is a folder, not a file")
        for folder in folders[1:]:
            if (target / folder).is_file():
                raise BadJob(f"destination: {(target / folder).relative_to(self.root)} is a file, not a folder")
        with contextlib.suppress(FileNotFoundError):
            aside = staging / f"{_ASIDE}{new_ulid()}"
            (target / MANIFEST).rename(aside)
            _put_back(ours, aside, target)
            _sync_folder(target)
        with contextlib.suppress(FileNotFoundError):
            for folder in folders[1:]:
                (target / folder).mkdir(exist_ok=True)
        for file in sorted(files, key=lambda file: file == MANIFEST):
            if file == MANIFEST:
                for folder in folders:
                    _sync_folder(target / folder)
            if not file.startswith(_ASIDE):
                with contextlib.suppress(FileNotFoundError):
                    (staging / file).rename(target / file)
        over = staging.with_name(staging.name + _OVER)
        with contextlib.suppress(FileNotFoundError):
            staging.rename(over)  # from here on nobody puts a manifest aside there
            for aside in over.glob(f"{_ASIDE}*"):
                _put_back(ours, aside, target)

    def _make_parents(self, target: Path) -> None:
        missing = []
        parent = target.parent
        while not parent.exists():
            missing.append(parent)
            parent = parent.parent
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            _sync_folder(folder.parent)

    def open(self, file: str) -> int:
        """The descriptor of a published file, to be read, given as a path below the root. Raises FileNotFoundError, and
        StoreFailure."""
        with store_failures(f"reading {file}", but=FileNotFoundError):
            try:
                return os.open(self.root / file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError as error:
                if error.errno == errno.ELOOP:  # nothing of ours is a link
                    raise FileNotFoundError(errno.ENOENT, "it is a link", file) from None
                raise

    def url(self, file: str, begins: int, seconds: int) -> None:
        """A URL of a published file that leads there without the daemon: there is none."""

    def expire(self, destination: str, files: Iterable[str], rewrite: Callable[[bytes], bytes | None]) -> None:
        """Removes published files, given as paths below the root, and folders of the destination that are empty then.
        `rewrite` makes of the manifest what is true afterwards, None where there is to be none; that is done first.
        Folders around the destination stay: somebody may just want to publish there. May be done again. Raises
        StoreFailure."""
        target = self.root / destination
        manifest, fresh = target / MANIFEST, target / f"{_ASIDE}fresh"
        with store_failures(f"removing what expired in {destination}"):
            fresh.unlink(missing_ok=True)  # somebody died over it
            with contextlib.suppress(FileNotFoundError):
                text = manifest.read_bytes()
                if (left := rewrite(text)) is None:
                    manifest.unlink()
                elif left != text:
                    with fresh.open("wb") as file:
                        file.write(left)
                        file.flush()
                        os.fsync(file.fileno())
                    fresh.rename(manifest)
                _sync_folder(target)
            for name in files:
                (self.root / name).unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                for folder in reversed(_tree(target)[0]):
                    with contextlib.suppress(OSError):  # there is something in it
                        (target / folder).rmdir()
                _sync_folder(target.parent)

    def keep(self, path: str, source: int) -> None:
        """Copies an open file to this path: all of it, or nothing. Raises StoreFailure."""
        target = self.root / path
        part = target.with_name(f".{new_ulid()}")
        with store_failures(f"writing {target.name}"):
            self._make_parents(target)
            try:
                with part.open("xb") as copy:
                    size, position = os.fstat(source).st_size, 0
                    while position < size:
                        position += os.sendfile(copy.fileno(), source, position, size - position)
                    os.fsync(copy.fileno())
                part.rename(target)
            except OSError:
                part.unlink(missing_ok=True)
                raise
            _sync_folder(target.parent)

    def has(self, file: str) -> bool:
        """Whether there is such a file."""
        return os.path.lexists(self.root / file)

    def folders(self, path: str) -> list[str]:
        """The names of the folders in this one, which may not be there."""
        with store_failures(f"reading {path}"), contextlib.suppress(FileNotFoundError):
            return [entry.name for entry in os.scandir(self.root / path) if entry.is_dir(follow_symlinks=False)]
        return []

    def remove(self, path: str) -> None:
        """Takes a file, or a folder with all that it holds, away."""
        full = self.root / path
        if full.is_dir():
            shutil.rmtree(full, ignore_errors=True)
        else:
            full.unlink(missing_ok=True)

    def sweep(self, over: Iterable[str]) -> None:
        """Removes these staging folders, and the common one where it is empty."""
        for name in over:
            self.staged(name).discard()
        with contextlib.suppress(OSError):
            (self.root / STAGING).rmdir()

    def staging_names(self) -> list[str]:
        try:
            return os.listdir(self.root / STAGING)
        except FileNotFoundError:
            return []

    def free_bytes(self) -> int:
        """Room that is left on the disk."""
        return shutil.disk_usage(self.root).free

    async def close(self) -> None:
        """Nothing is held."""

    def check(self) -> None:
        """Raises StoreFailure unless the folder is there, or can be made, and takes files."""
        with store_failures(f"writing to {self.root}"):
            if self.root.exists() and not self.root.is_dir():
                raise StoreFailure(f"{self.root} is no folder: name another one, or move it away")
            self.root.mkdir(parents=True, exist_ok=True)
            probe = self.root / f".probe-{os.getpid()}"
            try:
                with probe.open("wb") as file:
                    probe.unlink()  # now: nobody may be there to do it later
                    file.write(bytes(1 << 16))
                    os.fsync(file.fileno())
            finally:
                probe.unlink(missing_ok=True)


def _tree(top: Path) -> tuple[list[str], list[str]]:
    """Folders and files, as paths below `top`: a folder comes before those within, the first is `top` itself."""
    folders: list[str] = [""]
    files: list[str] = []
    for folder in folders:  # which grows
        with os.scandir(top / folder) as entries:
            for entry in entries:
                found = folders if entry.is_dir(follow_symlinks=False) else files
                found.append(os.path.join(folder, entry.name))
    return folders, files


def _put_back(ours: bytes, aside: Path, target: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if aside.read_bytes() == ours:
            aside.rename(target / MANIFEST)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
