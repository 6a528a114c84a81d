"""What a worker is given of a file that is elsewhere."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

from daemon.errors import SourceUnreadable
from daemon.sources.blocks import Blocks
from daemon.sources.opened import Opened
from daemon.sources.ranges import Origin, Patience, fetch
from daemon.worker.answers import Answers

Counted = Callable[[str, str, int], None]  # of a request: scheme, outcome, bytes that came


@asynccontextmanager
async def answered(origin: Origin, patience: Patience, kept_bytes: int, begin: bytes = b"") -> AsyncIterator[Opened]:
    """A file that is read as the worker asks. `begin`: its first bytes, as far as they are known. What the worker only
    calls unreadable leaves as what it really was."""
    blocks = Blocks(partial(fetch, origin, patience=patience), origin.size, kept_bytes)
    blocks.keep(begin)
    try:
        async with Answers(blocks.read, origin.size) as answers:
            try:
                yield Opened(answers.descriptor, origin.size, origin.identity, answers)
            except SourceUnreadable:
                if answers.failure is None:
                    raise
                raise answers.failure from None
    finally:
        await blocks.close()


@contextmanager
def in_memory(data: bytes, identity: str | None) -> Iterator[Opened]:
    """A whole file, which a worker sees as it sees those on disks."""
    descriptor = os.memfd_create("source", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        yield Opened(descriptor, len(data), identity)
    finally:
        os.close(descriptor)
