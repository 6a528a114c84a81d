"""Weights and tables that stay in device memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

MOST_TABLE_BYTES = 64 << 20  # of weights and tables that are kept, of each stream


class Table(NamedTuple):
    array: Any  # as it was uploaded; holding it keeps it
    address: int
    size: int  # bytes


class Tables:
    """Weights and tables in device memory, by what they were made from. Not for several threads, nor for several
    streams: memory that one stream frees must not be written while another still reads it."""

    def __init__(self, upload: Callable[[Array], tuple[Any, int]], most_bytes: int = MOST_TABLE_BYTES) -> None:
        """`upload` brings an array to the device: what holds it there, and its address."""
        self._upload = upload
        self._most_bytes = most_bytes
        self._kept: OrderedDict[tuple[object, ...], Table] = OrderedDict()

    def get(self, make: Callable[..., Array], *made_from: Any) -> Table:
        """What `make(*made_from)` gives, made and uploaded where it is not there yet."""
        key = (make, *made_from)
        if key not in self._kept:
            array = np.ascontiguousarray(make(*made_from))
            self._kept[key] = Table(*self._upload(array), array.nbytes)
        self._kept.move_to_end(key)
        return self._kept[key]

    def trim(self) -> None:
        """Drops what was not used for longest, until the rest is small enough."""
        size = sum(table.size for table in self._kept.values())
        while size > self._most_bytes:
            _, dropped = self._kept.popitem(last=False)
            size -= dropped.size

    def __len__(self) -> int:
        return len(self._kept)


_own = threading.local()
_MOST_STREAMS = 8  # of a thread


def tables_of(cupy: Any, stream: Any) -> Tables:
    """This thread's own, of a stream of the current device."""

    def upload(array: Array) -> tuple[Any, int]:
        there = cupy.asarray(array)
        return there, int(there.data.ptr)

    kept: OrderedDict[tuple[int, int], Tables] = _own.__dict__.setdefault("tables", OrderedDict())
    key = (cupy.cuda.Device().id, stream.ptr)
    if key not in kept:
        kept[key] = Tables(upload)
        if len(kept) > _MOST_STREAMS:
            kept.popitem(last=False)
    kept.move_to_end(key)
    return kept[key]
