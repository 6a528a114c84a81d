"""Items are made ahead, not too many of them, and what goes wrong on either side ends both."""

import threading
from collections.abc import Iterator

import pytest

from daemon.media.ahead import ahead


def numbers(count: int, made: list[int], ready: threading.Event | None = None) -> Iterator[int]:
    for n in range(count):
        made.append(n)
        if ready is not None and len(made) == 4:
            ready.set()
        yield n


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_all_items_come_in_their_order() -> None:
    made: list[int] = []
    assert list(ahead(numbers(1000, made), 3)) == list(range(1000)) == made
    assert list(ahead(iter(()), 3)) == []
    assert "ahead" not in threads()


def test_items_are_made_before_they_are_taken_but_not_too_many() -> None:
    made: list[int] = []
    ready = threading.Event()
    items = ahead(numbers(100, made, ready), 3)
    assert next(items) == 0
    assert ready.wait(10)  # three wait, and one was taken
    assert made == [0, 1, 2, 3]
    items.close()
    assert "ahead" not in threads()


def test_what_the_items_raise_comes_in_its_place() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise KeyError("two")

    items = ahead(broken(), 5)
    assert next(items) == 1
    with pytest.raises(KeyError, match="two"):
        next(items)
    assert "ahead" not in threads()


def test_who_gives_up_ends_the_making() -> None:
    made: list[int] = []
    with pytest.raises(ZeroDivisionError):
        for n in ahead(numbers(10**9, made), 2):
            _ = 1 / (5 - n)
    assert len(made) <= 5 + 1 + 2 + 1
