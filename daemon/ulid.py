"""ULIDs: 26 characters that sort by the time at which they were made (https://github.com/ulid/spec)."""

import os
import threading
import time

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_lock = threading.Lock()
_last = 0


def new_ulid() -> str:
    """A ULID greater than every one that this process made before, also within one millisecond."""
    global _last
    with _lock:
        fresh = time.time_ns() // 1_000_000 << 80 | int.from_bytes(os.urandom(10))
        _last = fresh if fresh >> 80 > _last >> 80 else _last + 1
        value = _last
    return "".join(_ALPHABET[value >> shift & 31] for shift in range(125, -1, -5))
