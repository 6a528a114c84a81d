"""Files: below an allowed root, never through a link, never anything but a regular file."""

import errno
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import unquote

from daemon.errors import Failure, SourceEmpty, SourceMissing, SourceRefused, SourceUnreadable

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Place = tuple[Path, Sequence[str]]  # a folder, and the parts of a path below it, none of which may be a link


class Files:
    """What may be read. `roots`: folders below which files must lie, None for the user's own rights. `aliases`: what
    URLs begin with, and the folders where the same files are at hand."""

    def __init__(self, roots: Sequence[Path] | None, max_bytes: int, aliases: Mapping[str, Path]) -> None:
        self._roots = None if roots is None else [_Folder(root) for root in roots]
        self._max_bytes = max_bytes
        self._aliases = [(begin, _Folder(aliases[begin])) for begin in sorted(aliases, key=len, reverse=True)]

    def at_hand(self, source: str) -> bool:
        """Whether a URL names a file that is here."""
        return any(source.startswith(begin) for begin, _ in self._aliases)

    def open(self, source: str, within: Sequence[Path] | None = None) -> int:
        """A descriptor of the file. `within`: only below these folders, as far as they lie below the roots. A relative
        path is looked for below each of them, or each root, in turn. Raises a SourceFailure that says
        what to do."""
        narrowed = None if within is None else [_Folder(folder) for folder in within]
        if self.at_hand(source):
            places = self._aliased(source, narrowed)
        elif self._roots is None and narrowed is None:
            return self._checked(partial(os.open, source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        else:
            places = self._below(source, narrowed)
        failure: Failure | None = None
        for place in places:
            try:
                return self._checked(partial(_walk, *place))
            except SourceMissing as missing:
                failure = missing
        raise failure or SourceMissing("there is no such file")

    def _aliased(self, source: str, narrowed: "Sequence[_Folder] | None") -> list[Place]:
        begin, folder = next(alias for alias in self._aliases if source.startswith(alias[0]))
        rest = source.removeprefix(begin)
        parts = unquote(rest, errors="surrogateescape").split("/")
        if "?" in rest or "#" in rest or not all(parts) or {".", ".."}.intersection(parts):
            raise SourceRefused(f"it is no plain path below {begin} (setting sources.aliases)")
        file = folder.real.joinpath(*parts)
        if narrowed is not None and not any(file.is_relative_to(each.real) for each in narrowed):
            raise SourceRefused("it lies outside the folders that its organisation may read")
        return [(folder.real, parts)]

    def _below(self, source: str, narrowed: "Sequence[_Folder] | None") -> list[Place]:
        """Where a path may be. Each part below a root is walked, also those of the folders that narrow it."""
        if self._roots == []:
            raise SourceRefused("no folder may be read: name some in the setting sources.roots")
        path = os.path.normpath(source)
        found: list[Place] = []
        for folder in self._roots or () if narrowed is None else narrowed:
            parts = folder.below(path)
            roots = self._roots or [folder]
            root = next((root.real for root in roots if folder.real.is_relative_to(root.real)), None)
            if parts is not None and root is not None:
                found.append((root, (*folder.real.relative_to(root).parts, *parts)))
        if not found:
            which = "of the setting sources.roots" if narrowed is None else "that its organisation may read"
            raise SourceRefused(f"it lies outside the folders {which}")
        return found

    def _checked(self, opening: Callable[[], int]) -> int:
        try:
            descriptor = opening()
        except OSError as error:
            raise _failure(error) from None
        except ValueError:  # it holds what no path can
            raise SourceRefused("no file can have such a name") from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise SourceRefused("it is no regular file: give the path of a video")
            if status.st_size == 0:
                raise SourceEmpty("the file is empty: is it still being written?")
            if status.st_size > self._max_bytes:
                raise SourceRefused(
                    f"it has {status.st_size} bytes, {self._max_bytes} are allowed (setting sources.max_bytes)"
                )
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


class _Folder:
    """A folder below which files may lie. A file may be named by the path that was set or by the real one."""

    def __init__(self, path: Path) -> None:
        self.real = Path(os.path.realpath(path))
        self._names = {self.real, Path(os.path.abspath(path))}

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


def _failure(error: OSError) -> Failure:
    match error.errno:
        case errno.ENOENT:
            return SourceMissing("there is no such file: check its path")
        case errno.ELOOP | errno.ENOTDIR:
            return SourceRefused("a part of its path is a link or no folder: give its real path")
        case errno.EACCES | errno.EPERM:
            return SourceRefused("it may not be read: give the daemon's user the right to")
        case errno.ENXIO:
            return SourceRefused("it is no regular file: give the path of a video")
        case errno.ENAMETOOLONG | errno.EINVAL:
            return SourceRefused("no file can have such a name")
    return SourceUnreadable(f"opening it failed ({error.strerror})")
