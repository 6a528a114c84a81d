"""What a store does, be it a folder or a bucket. Its calls block, and may come from any thread."""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol


def folder_of(org: str) -> str:
    """What the paths of an organisation begin with."""
    return "" if org == "default" else f"orgs/{org}/"


class Staging(Protocol):
    """The files of one attempt, before they are published. What was written is safe when the call returns."""

    @property
    def name(self) -> str: ...

    def write(self, files: Mapping[str, bytes]) -> None:
        """Whole files. Raises StoreFailure: then this attempt is over."""

    def adopt(self, files: Mapping[str, str]) -> int:
        """Files that were published before, once more; their bytes in all. `files`: their names here -> their places
        below the store's root. Raises FileNotFoundError, and StoreFailure."""

    def open(self, file: str) -> int:
        """The descriptor of a new, empty file, for somebody else to write to. Raises StoreFailure."""

    def settle(self, file: str, descriptor: int) -> None:
        """What was written to an open file is safe when this returns. Raises StoreFailure."""

    def remove(self, file: str) -> None:
        """A file that is not wanted after all. Raises StoreFailure."""

    def discard(self) -> None:
        """Removes all of it. What could not be removed now is swept later."""


class Store(Protocol):
    """Destinations are relative paths that `daemon.fields` has checked, files paths below the store's root."""

    def stage(self, name: str) -> Staging:
        """A new, empty staging. Raises StoreFailure."""

    def staged(self, name: str) -> Staging:
        """A staging made before, which may be gone."""

    def check_destination(self, destination: str) -> None:
        """Raises BadJob where nothing can be published there."""

    def publish(self, name: str, destination: str) -> None:
        """Moves what was staged under `name` to the destination, the manifest last; an older manifest is gone before
        anything is replaced. May be begun again at any point, by anybody, and by two at once; does nothing where all
        was moved already. Raises StoreFailure; and BadJob, before anything is moved."""

    def open(self, file: str) -> int:
        """The descriptor of a published file, to be read. Raises FileNotFoundError, and StoreFailure."""

    def url(self, file: str, begins: int, seconds: int) -> str | None:
        """A URL of a published file that is good for so long from this time on, and leads there without the daemon;
        None where there is none such."""

    def expire(self, destination: str, files: Iterable[str], rewrite: Callable[[bytes], bytes | None]) -> None:
        """Removes published files. `rewrite` makes of the manifest what is true afterwards, None where there is to be
        none; that is done first. May be done again. Raises StoreFailure."""

    def keep(self, path: str, source: int) -> None:
        """Copies an open file to this path: all of it, or nothing. Raises StoreFailure."""

    def has(self, file: str) -> bool:
        """Whether there is such a file. Raises StoreFailure."""

    def folders(self, path: str) -> list[str]:
        """The names of the folders in this one, which may not be there. Raises StoreFailure."""

    def remove(self, path: str) -> None:
        """Takes a file, or a folder with all that it holds, away. Raises StoreFailure."""

    def staging_names(self) -> list[str]:
        """Of all stagings that are there."""

    def sweep(self, over: Iterable[str]) -> None:
        """Removes these stagings."""

    def free_bytes(self) -> int:
        """Room that is left on this machine's disk."""

    def check(self) -> None:
        """Raises StoreFailure unless it takes files."""

    async def close(self) -> None:
        """Lets go of what it holds; nothing is asked of it afterwards."""
