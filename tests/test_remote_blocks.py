"""Reads through blocks give the bytes of the file, whatever the order; in few requests, ahead only of who reads on, and
within the memory that is allowed."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.errors import SourceUnreadable
from daemon.sources.blocks import Blocks
from daemon.sources.ranges import Patience, Take, fetch

KIB = 1 << 10


class Film:
    """An origin in memory, which notes the pieces asked for. Gives them in bits of `bit` bytes."""

    identity = None

    def __init__(self, size: int, bit: int = 7 * KIB) -> None:
        self.size = size
        self.data = Random(size).randbytes(size)
        self.bit = bit
        self.asked: list[tuple[int, int]] = []
        self.broken: Callable[[int], None] = lambda _: None  # hears how many were asked

    async def get(self, offset: int, size: int, take: Take) -> None:
        self.asked.append((offset, size))
        self.broken(len(self.asked))
        for at in range(offset, offset + size, self.bit):
            await asyncio.sleep(0)
            take(self.data[at : min(at + self.bit, offset + size)])

    async def fetch(self, offset: int, size: int, take: Take) -> None:
        await fetch(self, offset, size, take, Patience(tries=2, delay=0))


def told(film: Film, story: Callable[[Blocks], Awaitable[None]], budget: int = 1 << 20, block: int = 64 * KIB) -> None:
    async def whole() -> None:
        blocks = Blocks(film.fetch, film.size, budget, block)
        try:
            await story(blocks)
        finally:
            await blocks.close()

    asyncio.run(whole())


@given(data=st.data())
def test_any_reads_give_the_bytes_of_the_file(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 5000), "size")
    film = Film(size, bit=data.draw(st.integers(1, 400), "bit"))
    place = st.integers(0, size - 1).flatmap(lambda at: st.tuples(st.just(at), st.integers(1, size - at)))
    rounds = data.draw(st.lists(st.lists(place, min_size=1, max_size=4), max_size=12), "reads")
    block, budget = data.draw(st.integers(1, 300), "block"), data.draw(st.integers(1, 6000), "budget")

    async def story(blocks: Blocks) -> None:
        for reads in rounds:
            found = await asyncio.gather(*(blocks.read(at, length) for at, length in reads))
            assert list(found) == [film.data[at : at + length] for at, length in reads]

    told(film, story, budget, block)


@given(st.integers(0, 400), st.integers(1, 90), st.integers(1, 400))
def test_what_is_there_at_the_beginning_is_not_asked_for(there: int, block: int, size: int) -> None:
    film = Film(size)

    async def story(blocks: Blocks) -> None:
        blocks.keep(film.data[:there])
        assert await blocks.read(0, size) == film.data
        assert sum(length for _, length in film.asked) <= size - min(there, size) + block

    told(film, story, 1000, block)


def test_a_random_read_takes_little() -> None:
    film = Film(8 << 20)
    places = [number << 20 for number in (1, 3, 5, 2, 7, 4)]

    async def story(blocks: Blocks) -> None:
        for at in places:
            await blocks.read(at + 100, 63 * KIB)

    told(film, story)
    assert film.asked == [(at, 64 * KIB) for at in places]


def test_reading_on_takes_ever_more_at_once() -> None:
    film = Film(8 << 20)

    async def story(blocks: Blocks) -> None:
        for at in range(0, film.size, 32 * KIB):
            assert await blocks.read(at, 32 * KIB) == film.data[at : at + 32 * KIB]

    told(film, story, budget=16 << 20)
    assert sum(length for _, length in film.asked) == film.size
    assert len(film.asked) < 20


def test_what_is_read_ahead_is_never_more_than_was_read() -> None:
    film = Film(8 << 20)

    async def story(blocks: Blocks) -> None:
        read = 0
        for at in range(0, 3 << 20, 32 * KIB):
            read += len(await blocks.read(at, 32 * KIB))
            assert sum(length for _, length in film.asked) <= 2 * read + 64 * KIB

    told(film, story, budget=16 << 20)


def test_neighbours_are_asked_for_together_and_once() -> None:
    film = Film(1 << 20)

    async def story(blocks: Blocks) -> None:
        await blocks.read(4 * 64 * KIB, 1)
        await asyncio.gather(*(blocks.read(0, 9 * 64 * KIB) for _ in range(5)))

    told(film, story)
    assert sorted(film.asked) == [(0, 4 * 64 * KIB), (4 * 64 * KIB, 64 * KIB), (5 * 64 * KIB, 4 * 64 * KIB)]


def test_one_slow_read_keeps_no_other_waiting() -> None:
    film = Film(4 << 20)
    held = asyncio.Event()
    plain = film.fetch

    async def slow(offset: int, size: int, take: Take) -> None:
        if offset == 0:
            await held.wait()
        await plain(offset, size, take)

    film.fetch = slow  # type: ignore[method-assign]

    async def story(blocks: Blocks) -> None:
        first = asyncio.create_task(blocks.read(0, 10))
        assert await blocks.read(2 << 20, 10) == film.data[2 << 20 :][:10]
        assert not first.done()
        held.set()
        assert await first == film.data[:10]

    told(film, story)


def test_memory_stays_within_the_budget() -> None:
    film, budget = Film(32 << 20), 1 << 20
    most = 0

    async def story(blocks: Blocks) -> None:
        nonlocal most
        for at in range(0, film.size - 64 * KIB, 48 * KIB):
            await asyncio.gather(blocks.read(at, 32 * KIB), blocks.read(film.size - at - 32 * KIB, 32 * KIB))
            held = sum(map(len, blocks._kept.values())) + len(blocks._coming) * 64 * KIB
            most = max(most, held)

    told(film, story, budget)
    assert most <= 2 * budget


def test_what_fails_is_told_to_who_waits_and_asked_for_again() -> None:
    film = Film(1 << 20)

    def broken(number: int) -> None:
        if number <= 2:
            raise SourceUnreadable("the network is down")

    film.broken = broken

    async def story(blocks: Blocks) -> None:
        with pytest.raises(SourceUnreadable, match="down"):
            await blocks.read(0, 100)
        assert await blocks.read(0, 100) == film.data[:100]

    told(film, story)


def test_it_goes_on_where_it_broke() -> None:
    film = Film(1 << 20, bit=10 * KIB)
    plain = film.get

    async def breaking(offset: int, size: int, take: Take) -> None:
        """Breaks after 100 KiB each time."""
        await plain(offset, min(size, 100 * KIB), take)
        if size > 100 * KIB:
            raise SourceUnreadable("the network is down")

    film.get = breaking  # type: ignore[method-assign]

    async def story(blocks: Blocks) -> None:
        assert await blocks.read(0, film.size) == film.data

    told(film, story)
    assert [offset for offset, _ in film.asked] == list(range(0, film.size, 100 * KIB))


def test_nothing_is_left_where_reading_ends_early() -> None:
    film = Film(1 << 20)
    held = asyncio.Event()

    async def never(offset: int, size: int, take: Take) -> None:
        await held.wait()

    film.fetch = never  # type: ignore[method-assign]

    async def whole() -> None:
        before = asyncio.all_tasks()
        blocks = Blocks(film.fetch, film.size)
        reading = asyncio.create_task(blocks.read(0, 100))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await blocks.close()
        assert asyncio.all_tasks() == before

    asyncio.run(whole())
