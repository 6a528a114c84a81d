"""Random reads of a file that is elsewhere, in few requests and little memory.

The file is a row of blocks. Those that were read are kept up to a budget; those that a read lacks are asked for
together where they are neighbours; and whoever reads on where it left off gets as much ahead as it has read so far.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby

from daemon.sources.ranges import Take

Fetch = Callable[[int, int, Take], Awaitable[None]]

_PLACES = 16  # that are remembered as being read on from
_GAP = 256 << 10  # bytes that may be left out and it is still reading on: other streams' packets lie between


class Blocks:
    """`fetch(offset, size, take)` gets a piece of a file of `size` bytes. Keeps `budget` bytes at most, and what
    is just being read. Call `close` at the end."""

    def __init__(self, fetch: Fetch, size: int, budget: int = 16 << 20, block: int = 64 << 10) -> None:
        self._fetch = fetch
        self._size = size
        self._block = block
        self._most_kept = max(1, budget // block)
        self._most_ahead = budget // 4
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._coming: dict[int, asyncio.Future[bytes]] = {}
        self._loads: set[asyncio.Task[None]] = set()
        self._places: OrderedDict[int, int] = OrderedDict()  # where a reader left off: how much it has read

    async def read(self, offset: int, size: int) -> bytes:
        """Exactly these bytes, which must be there. Raises a SourceFailure."""
        wanted = range(offset // self._block, -(-(offset + size) // self._block))
        ahead = self._ahead(offset, size)
        self._load([n for n in (*wanted, *ahead) if n not in self._kept and n not in self._coming])
        # What is kept is held on to before anything else may take its place.
        parts = [self._coming.get(n) or self._taken(n) for n in wanted]
        data = b"".join([part if isinstance(part, bytes) else await asyncio.shield(part) for part in parts])
        begin = offset - wanted.start * self._block
        return data[begin : begin + size]

    def keep(self, data: bytes) -> None:
        """Bytes from the start of the file that are there already; whole blocks of them are kept."""
        for number in range(-(-min(len(data), self._size) // self._block)):
            begin, end = self._bounds(number, number + 1)
            if end <= len(data):
                self._put(number, data[begin:end])

    async def close(self) -> None:
        """Nothing is on its way any more."""
        loads = list(self._loads)
        for load in loads:
            load.cancel()
        await asyncio.gather(*loads, return_exceptions=True)

    def _taken(self, number: int) -> bytes:
        self._kept.move_to_end(number)
        return self._kept[number]

    def _put(self, number: int, data: bytes) -> None:
        self._kept[number] = data
        while len(self._kept) > self._most_kept:
            self._kept.popitem(last=False)

    def _bounds(self, first: int, end: int) -> tuple[int, int]:
        return first * self._block, min(end * self._block, self._size)

    def _ahead(self, offset: int, size: int) -> range:
        """The blocks that whoever reads this is likely to read next, or none."""
        end = offset + size
        place = max((place for place in self._places if place <= offset <= place + _GAP), default=None)
        read = 0 if place is None else self._places.pop(place)
        self._places[end] = read + size
        if len(self._places) > _PLACES:
            self._places.popitem(last=False)
        next_block, most = -(-end // self._block), min(read, self._most_ahead)
        last = min(end + most, self._size)
        blocks = range(next_block, max(next_block, -(-last // self._block)))
        lacking = [n for n in blocks if n not in self._kept and n not in self._coming]
        # Many small requests are worse than a few large ones: as long as half of it is there, the rest can wait.
        if not lacking or lacking[0] * self._block > end + most // 2 or len(self._coming) > self._most_kept // 2:
            return range(0)
        return blocks

    def _load(self, numbers: Sequence[int]) -> None:
        """Asks for blocks, in order, with one request for those that are neighbours."""
        neighbours = groupby(enumerate(numbers), lambda placed: placed[1] - placed[0])
        for _, run in neighbours:
            coming = {number: asyncio.get_running_loop().create_future() for _, number in run}
            self._coming.update(coming)
            load = asyncio.create_task(self._get(coming))
            self._loads.add(load)
            load.add_done_callback(self._loads.discard)

    async def _get(self, coming: dict[int, "asyncio.Future[bytes]"]) -> None:
        numbers = iter(coming)
        number = next(numbers)
        arrived = bytearray()

        def take(data: bytes) -> None:
            nonlocal number
            arrived.extend(data)
            while number in coming:
                begin, end = self._bounds(number, number + 1)
                if len(arrived) < end - begin:
                    return
                block = bytes(arrived[: end - begin])
                del arrived[: end - begin]
                self._arrived(number, coming[number], block)
                number = next(numbers, -1)

        begin, end = self._bounds(number, max(coming) + 1)
        try:
            await self._fetch(begin, end - begin, take)
        except Exception as failure:  # noqa: BLE001  whoever waits for the blocks is told
            for future in coming.values():
                if not future.done():
                    future.set_exception(failure)
                    future.exception()  # looked at: nobody may be waiting for what was read ahead
        finally:
            for number, future in coming.items():
                if self._coming.get(number) is future:
                    del self._coming[number]
                future.cancel()

    def _arrived(self, number: int, future: "asyncio.Future[bytes]", block: bytes) -> None:
        future.set_result(block)
        del self._coming[number]
        self._put(number, block)
