"""Pieces of a file that is elsewhere, however often the network breaks."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from daemon.errors import SourceChanged, SourceUnreadable

T = TypeVar("T")
Take = Callable[[bytes], None]


@dataclass(frozen=True)
class Patience:
    """Seconds: until a connection is there, without a byte of an answer, and for a whole piece with all that is tried
    again. `tries`: in a row without a byte, `delay` seconds before the second and twice as many before each further."""

    connect: float = 10.0
    silence: float = 30.0
    piece: float = 120.0
    tries: int = 4
    delay: float = 0.5


class Origin(Protocol):
    """A file that is elsewhere, as it was when it was opened."""

    size: int
    identity: str | None

    async def get(self, offset: int, size: int, take: Take) -> None:
        """Asks for a piece once, and gives its bytes to `take` as they come: fewer where it ends early. Raises a
        SourceFailure; SourceUnreadable where asking again may help, SourceChanged where it cannot."""


async def fetch(origin: Origin, offset: int, size: int, take: Take, patience: Patience) -> None:
    """Gives exactly so many bytes to `take`, as they come; what breaks is gone on with where it broke. Raises a
    SourceFailure."""
    taken = 0

    def count(data: bytes) -> None:
        nonlocal taken
        data = data[: size - taken]
        taken += len(data)
        take(data)

    async def ask() -> None:
        before = taken
        await origin.get(offset + taken, size - taken, count)
        if taken == before:
            raise SourceUnreadable("what should follow does not come")

    async with limited(patience):
        while taken < size:
            await insist(ask, patience, lambda: taken)


@asynccontextmanager
async def limited(patience: Patience) -> AsyncIterator[None]:
    """What takes longer than a piece may. Raises SourceUnreadable."""
    try:
        async with asyncio.timeout(patience.piece):
            yield
    except TimeoutError:
        raise SourceUnreadable(f"no piece of it came whole in {patience.piece:g} s") from None


async def insist(attempt: Callable[[], Awaitable[T]], patience: Patience, moved: Callable[[], int] = lambda: 0) -> T:
    """Tries again what raises SourceUnreadable; `moved` grows where a try came further than the one before. Raises a
    SourceFailure."""
    failed = 0
    while True:
        before = moved()
        try:
            return await attempt()
        except SourceChanged:
            raise
        except SourceUnreadable:
            failed = 1 if moved() > before else failed + 1
            if failed >= patience.tries:
                raise
        await asyncio.sleep(patience.delay * 2 ** (failed - 1))
