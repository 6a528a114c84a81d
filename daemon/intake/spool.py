"""The spool: an inbox and an outbox, not a database.

    in/  in/high/  in/low/     jobs are dropped here; names beginning with "." or ending in .tmp .part ~ are left alone
    claimed/<owner>/           private to a daemon: <ulid>__<name>, and a lock that it holds for its life
                               (<ulid>_high_<name>, <ulid>_low_<name> where that is where it was dropped)
    done/  failed/             reports, <name>.<id>.json; an id that ends the name already stands once

A file is discovered by scanning, read when it is complete, claimed by renaming (which gives it its id), and belongs to
the daemon once its row is committed. Blocking: to be called in a thread.
"""

import contextlib
import errno
import fcntl
import heapq
import json
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import time

from daemon.dialects import qencode
from daemon.errors import BadJob
from daemon.job import MAX_JOB_BYTES, Job
from daemon.jobs.table import Owed
from daemon.report import ErrorReport, Report
from daemon.ulid import new_ulid

FOLDERS = {"high": "in/high", "normal": "in", "low": "in/low"}
_MARKS = {"in/high": "high", "in": "", "in/low": "low"}
_FOLDER_OF = {mark: folder for folder, mark in _MARKS.items()}
_LOCK = ".lock"
_SETTLE_SECONDS = 30.0  # a file that is still no complete job after these is none
_NAME_BYTES = 255
# What opening says of files that will never be read.
_UNFIT = {
    errno.ELOOP: "a link",
    errno.EACCES: "unreadable",
    errno.EPERM: "unreadable",
    errno.ENXIO: "no plain file",
    errno.ENODEV: "no plain file",
}
_LEFT_ALONE = (".tmp", ".part", "~")


@dataclass(frozen=True)
class Unfit:
    """Why a file is no job."""

    reason: str
    message: str


@dataclass(frozen=True)
class Dropped:
    """A file that was claimed: `path` in the owner's folder, `key` its ULID, `name` as it was dropped, what it held, or
    why that is no job."""

    path: Path
    key: str
    name: str
    folder: str
    held: bytes | Unfit


@dataclass(frozen=True)
class Left:
    """A file that cannot be taken and stays where it is: told of once."""

    name: str
    folder: str
    why: Unfit


@dataclass(frozen=True)
class Scan:
    """What one look into the drop folders found. `more`: there is more than was taken."""

    claimed: tuple[Dropped, ...]
    left: tuple[Left, ...]
    seen: dict[str, int]
    more: bool


class Spool:
    """One daemon's view of the spool."""

    def __init__(self, root: Path, owner: str, settle_seconds: float = _SETTLE_SECONDS) -> None:
        self.root = root
        self.owner = owner
        self._settle_seconds = settle_seconds
        self._mine = root / "claimed" / owner
        self._lock: int | None = None
        self._no_files: set[tuple[str, str]] = set()
        self._told: set[tuple[str, str, str]] = set()

    def open(self) -> None:
        """Makes the folders and takes this owner's lock. Raises OSError."""
        for folder in (*FOLDERS.values(), "done", "failed"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        # Locked before it bears its name: nobody takes a newborn owner for a lost one. Inheritable by nobody: a worker
        # that outlived the daemon would keep its jobs from the others.
        newborn = self.root / "claimed" / f".{self.owner}"
        newborn.mkdir(parents=True)
        self._lock = os.open(newborn / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        newborn.rename(self._mine)

    def close(self) -> None:
        """Gives the lock back; an empty folder goes with it."""
        if self._lock is not None:
            if not self.unfinished(self.owner):
                (self._mine / _LOCK).unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    self._mine.rmdir()
            os.close(self._lock)
            self._lock = None

    # Coming in.

    def scan(self, most: int) -> Scan:
        """Claims up to `most` complete jobs, and what will never be one, by priority and name."""
        claimed: list[Dropped] = []
        left: list[Left] = []
        seen: dict[str, int] = {}
        more = False
        for folder in FOLDERS.values():
            names, seen[folder] = self._names(folder, most)
            more = more or seen[folder] > len(names)
            for name in names:
                if len(claimed) >= most:
                    more = True
                    break
                match self._take(folder, name):
                    case Dropped() as dropped:
                        claimed.append(dropped)
                    case Left() as stays if (stays.folder, stays.name, stays.why.message) not in self._told:
                        self._told.add((stays.folder, stays.name, stays.why.message))
                        left.append(stays)
        return Scan(tuple(claimed), tuple(left), seen, more and bool(claimed))

    def _names(self, folder: str, most: int) -> tuple[list[str], int]:
        """The first names in order, in bounded memory however many there are, and how many there are."""
        count = 0

        def names() -> Iterator[str]:
            nonlocal count
            with os.scandir(self.root / folder) as entries:
                for entry in entries:
                    name = entry.name
                    if is_left_alone(name):
                        continue
                    if folder == "in" and name in ("high", "low") and entry.is_dir(follow_symlinks=False):
                        continue
                    if (folder, name) in self._no_files and not _may_be_taken(entry):
                        continue
                    count += 1
                    yield name

        # Some may have to be passed over: look at twice as many as are wanted.
        first = heapq.nsmallest(2 * most, names())
        return first, count

    def _take(self, folder: str, name: str) -> Dropped | Left | None:
        """Claims one file; None if it is not complete yet, or gone."""
        path = self.root / folder / name
        key = new_ulid()
        target = self._mine / f"{key}_{_MARKS[folder]}_{_short(name, _NAME_BYTES - 32)}"
        try:
            held, status = _read(path)
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISLNK(status.st_mode):
                self._no_files.add((folder, name))
                return Left(name, folder, Unfit("not_a_file", f"{name!r}: it is no plain file, and is left there"))
            if isinstance(held, bytes) and not _is_object(held):
                if time() - status.st_ctime < self._settle_seconds:
                    return None  # still being written, perhaps
                held = Unfit("not_json", f"{name!r}: it is not one JSON object")
            path.rename(target)
            if _identity(target.lstat()) != _identity(status):
                again, _ = _read(target)  # somebody put another file there, or began to write, after it was read
                held = again if isinstance(again, Unfit) or _is_object(again) else held
        except FileNotFoundError:
            return None  # another daemon was faster
        except OSError as error:
            return Left(name, folder, Unfit("left", f"{name!r}: {error.strerror}: it is tried again and again"))
        return Dropped(target, key, name, folder, held)

    def refuse(self, dropped: Dropped, message: str) -> None:
        """Moves a claimed file that is no job to `failed/`, the reason beside it. May be done twice."""
        error = ErrorReport(code=BadJob.code, message=message)
        report = Report(id=dropped.key, org="default", status="failed", error=error)
        _write(self.root / "failed" / _report_name(dropped.name, dropped.key), report.json_bytes())
        name = f"{_short(_stem(dropped.name), _NAME_BYTES - 40)}.{dropped.key}.rejected"
        with contextlib.suppress(FileNotFoundError):
            dropped.path.rename(self.root / "failed" / name)

    def unfinished(self, owner: str) -> list[Dropped]:
        """What an owner has claimed and not finished taking in."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            for file in sorted(os.listdir(self.root / "claimed" / owner)):
                key, mark, name = (*file.split("_", 2), "", "")[:3]
                if file == _LOCK or not name:
                    continue
                path = self.root / "claimed" / owner / file
                with contextlib.suppress(FileNotFoundError):
                    found.append(Dropped(path, key, name, _FOLDER_OF.get(mark, "in"), _read(path)[0]))
        return found

    def taken_in(self, dropped: Dropped) -> None:
        """Its row is committed: the file has done its part."""
        dropped.path.unlink(missing_ok=True)

    # Owners that are gone.

    def lost_owners(self) -> Iterator[tuple[str, int]]:
        """Other owners whose lock is free, each with its lock, now held; give it to `bury` when their jobs are safe."""
        for owner in os.listdir(self.root / "claimed"):
            if owner == self.owner or owner.startswith("."):
                continue
            try:
                lock = os.open(self.root / "claimed" / owner / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError:
                continue  # gone, or not ours to look into
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock)
                continue
            yield owner, lock

    def leave(self, owner: str, lock: int) -> None:
        """Leaves an owner as it was found, for another time."""
        os.close(lock)

    def bury(self, owner: str, lock: int) -> None:
        """Removes what is left of an owner."""
        folder = self.root / "claimed" / owner
        (folder / _LOCK).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()
        os.close(lock)

    # Going out.

    def write_reports(self, due: Iterable[Owed]) -> None:
        """The reports of ended jobs, each under every name that asked for it. Raises OSError."""
        for owed in due:
            folder = self.root / ("failed" if owed.failed else "done")
            report = Report.model_validate_json(owed.report).json_bytes()
            for name in owed.names:
                _write(folder / _report_name(name, owed.id), report)

    def forget_reports(self, older_than: float) -> int:
        """Removes reports written more than `older_than` seconds ago; how many."""
        removed = 0
        for folder in ("done", "failed"):
            with os.scandir(self.root / folder) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):
                        if time() - entry.stat(follow_symlinks=False).st_mtime > older_than:
                            Path(entry.path).unlink()
                            removed += 1
        return removed


def parse(text: bytes) -> Job:
    """The job in a dropped file: our own JSON, or a Qencode query. Raises BadJob."""
    return qencode.read_query(text) if qencode.is_query(text) else Job.read(text)


def _read(path: Path) -> tuple[bytes | Unfit, os.stat_result]:
    """What a file holds, or why it is no job, never following a link nor waiting for anybody; and its status. Raises
    OSError where that may pass."""
    name = path.name
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        why = _UNFIT.get(error.errno or 0)
        if why is None:
            raise
        return Unfit("not_a_file", f"{name!r}: it is {why}: jobs are plain files"), path.lstat()
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return Unfit("not_a_file", f"{name!r}: it is no plain file"), status
        if status.st_size > MAX_JOB_BYTES:
            return Unfit("too_large", f"{name!r}: a job has at most 1 MiB"), status
        return os.pread(descriptor, MAX_JOB_BYTES + 1, 0), status
    finally:
        os.close(descriptor)


def is_left_alone(name: str) -> bool:
    """Whether a file of this name is never taken: it is being written, perhaps."""
    return name.startswith(".") or name.endswith(_LEFT_ALONE)


def _may_be_taken(entry: "os.DirEntry[str]") -> bool:
    return entry.is_file(follow_symlinks=False) or entry.is_symlink()


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """Of a file and what it holds; a number alone may be given to another file at once."""
    return status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except RecursionError:
        return True  # complete, and too deep: the job's own check says so
    except ValueError:
        return False


def _stem(name: str) -> str:
    return name[:-5] if name.endswith(".json") else name


def _report_name(name: str, id: str) -> str:
    return f"{_short(_stem(name).removesuffix(f'.{id}'), _NAME_BYTES - len(id) - 6)}.{id}.json"


def _short(name: str, size: int) -> str:
    return os.fsdecode(os.fsencode(name)[:size])


def _write(path: Path, data: bytes) -> None:
    """The whole file or none of it, on disk when this returns."""
    temporary = path.with_name(f".{new_ulid()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
