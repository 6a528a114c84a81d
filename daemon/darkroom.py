"""Pictures that are kept for thumbnails: what was uploaded, and scaled versions, made when they are first asked for.

    <the organisation's folder>/_thumbnails/<id>/<ULID>.png      an upload, as it came
    <the organisation's folder>/_thumbnails/<id>/320x180.webp    scaled to fit a box

No job can publish there: the parts of its destination begin with a letter or digit. The picture of a thumbnail never
changes, so what is there is right. A folder is of no use once no thumbnail has its id: nothing else is known of it.
"""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from daemon.catalogue.organisations import DEFAULT
from daemon.errors import NotFound
from daemon.fields import SUFFIX
from daemon.job import Job
from daemon.probe import facts_of
from daemon.report import SourceFacts
from daemon.sideline import Sideline
from daemon.sources import Opened
from daemon.store.protocol import Store, folder_of
from daemon.store.staging import Staging
from daemon.threads import in_thread
from daemon.ulid import new_ulid

FOLDER = "_thumbnails"
Format = Literal["jpeg", "webp"]


@dataclass(frozen=True)
class Box:
    """What a scaled picture fits into, in pixels. It keeps its shape, and is never larger than it was."""

    width: int
    height: int
    format: Format

    @property
    def file(self) -> str:
        return f"{self.width}x{self.height}{SUFFIX[self.format]}"


class Darkroom:
    """Hostile pictures are decoded in the worker of `line` only."""

    def __init__(self, store: Store, line: Sideline) -> None:
        self._store = store
        self._line = line
        self._making: dict[str, asyncio.Task[None]] = {}

    async def examine(self, descriptor: int) -> SourceFacts:
        """Decodes an open picture. Raises a SourceFailure where it cannot be, and WorkerFailure."""
        return await facts_of(self._line, _opened(descriptor))

    async def keep(self, org: str, id: str, descriptor: int, suffix: str) -> str:
        """Keeps an open picture as it is; its path below the store's root. Raises StoreFailure."""
        path = f"{_folder(org, id)}/{new_ulid()}{suffix}"
        await in_thread(self._store.keep, path, descriptor)
        return path

    async def forget(self, path: str) -> None:
        """Takes a picture away that was kept."""
        await in_thread(self._store.remove, path)

    async def forget_all(self, org: str, id: str) -> None:
        """Takes away all that is kept of a thumbnail."""
        await in_thread(self._store.remove, _folder(org, id))

    async def scaled(self, org: str, id: str, original: str, box: Box) -> str:
        """The path of a scaled version of the file `original`, which is made now where it is not there yet: once, for
        all who ask meanwhile. Raises NotFound, a SourceFailure, StoreFailure and WorkerFailure."""
        path = f"{_folder(org, id)}/{box.file}"
        if not await in_thread(self._store.has, path):
            making = self._making.get(path)
            if making is None:
                making = self._making[path] = asyncio.create_task(self._make(original, box, path))
                making.add_done_callback(partial(self._made, path))
            await asyncio.shield(making)
        return path

    async def _make(self, original: str, box: Box, path: str) -> None:
        asked = {"output": "thumbnail", "at": 0, "width": box.width, "height": box.height, "format": box.format}
        outputs = Job.check({"source": "picture", "outputs": [asked]}).outputs
        try:
            source = await in_thread(self._store.open, original)
        except FileNotFoundError:
            raise NotFound("there is no such file") from None
        try:
            with tempfile.TemporaryDirectory(prefix="thumbd-scaled-") as folder:
                made = await self._line.make(outputs, _opened(source), Staging(Path(folder)))
                await in_thread(self._keep, Path(folder) / made.outputs[0].path, path)
        finally:
            os.close(source)

    def _keep(self, file: Path, path: str) -> None:
        with file.open("rb") as scaled:
            self._store.keep(path, scaled.fileno())

    def _made(self, path: str, making: "asyncio.Task[None]") -> None:
        del self._making[path]
        if not making.cancelled():
            making.exception()  # told to those who asked, if they still listen

    def kept(self) -> Iterator[tuple[str, str]]:
        """(organisation, id) of every thumbnail of which something is kept."""
        for org in (DEFAULT, *self._store.folders("orgs")):
            yield from ((org, id) for id in self._store.folders(f"{folder_of(org)}{FOLDER}"))

    async def close(self) -> None:
        for making in self._making.values():
            making.cancel()
        await asyncio.gather(*self._making.values(), return_exceptions=True)
        await self._line.close()


def _opened(descriptor: int) -> Opened:
    return Opened(descriptor, os.fstat(descriptor).st_size, None)


def _folder(org: str, id: str) -> str:
    return f"{folder_of(org)}{FOLDER}/{id}"
