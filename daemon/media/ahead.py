"""A wrapper around an iterator: its items are made on a thread of their own while earlier ones are used."""

import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _Over:
    error: BaseException


def ahead(items: Iterator[T], most: int) -> Generator[T, None, None]:
    """The same items, at most `most` of them waiting to be taken. Raises what `items` raises, in its place."""
    room = threading.Semaphore(most)
    given_up = threading.Event()
    line: queue.SimpleQueue[T | _Over] = queue.SimpleQueue()

    def make() -> None:
        try:
            while True:
                room.acquire()
                if given_up.is_set():
                    return
                line.put(next(items))
        except BaseException as error:  # noqa: BLE001  also the end of the items: it belongs to whoever takes them
            line.put(_Over(error))

    maker = threading.Thread(target=make, name="ahead", daemon=True)
    maker.start()
    try:
        while not isinstance(item := line.get(), _Over):
            room.release()
            yield item
        if not isinstance(item.error, StopIteration):
            raise item.error
    finally:
        given_up.set()
        room.release()
        maker.join()
