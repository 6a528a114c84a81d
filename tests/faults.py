"""Faults for a daemon under test: what it calls is replaced in its own process, before it begins (see `harness`).

    before(Spool, "taken_in", die)                             killed before the first call
    after(Path, "rename", die, calls=3, only=into("/film/"))   killed after the third call that `only` picks
    before(os, "fsync", fail(errno.EIO), calls=range(1, 4))    three errors
"""

import os
import signal
import threading
from collections.abc import Callable, Container
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

Act = Callable[[], object]
Only = Callable[..., bool]


def die() -> None:
    """kill -9, of this very process."""
    os.kill(os.getpid(), signal.SIGKILL)


def pause() -> None:
    """Stops until somebody sends SIGCONT."""
    os.kill(os.getpid(), signal.SIGSTOP)


def fail(number: int) -> Act:
    """Raises the OSError of this errno."""

    def act() -> NoReturn:
        raise OSError(number, os.strerror(number))

    return act


def before(owner: object, name: str, act: Act, calls: int | Container[int] = 1, only: Only | None = None) -> None:
    """Lets `act` happen before these calls of `owner.name`, counted from 1 among those that `only` picks."""
    _replace(owner, name, act, calls, only, first=True)


def after(owner: object, name: str, act: Act, calls: int | Container[int] = 1, only: Only | None = None) -> None:
    """Lets `act` happen after these calls of `owner.name`."""
    _replace(owner, name, act, calls, only, first=False)


def into(part: str) -> Only:
    """Picks calls one of whose paths holds `part`."""
    return lambda *paths, **keys: any(part in str(path) for path in paths)


def file_in(part: str, while_there: Path | None = None) -> Only:
    """Picks calls whose first argument is the descriptor of a file with `part` in its path; only while another file is
    there, if one is given."""

    def picked(descriptor: int, *rest: object) -> bool:
        if while_there is not None and not os.path.lexists(while_there):
            return False
        return part in os.readlink(f"/proc/self/fd/{descriptor}")

    return picked


def _replace(
    owner: object, name: str, act: Act, calls: int | Container[int], only: Only | None, *, first: bool
) -> None:
    real: Callable[..., Any] = getattr(owner, name)
    struck = range(calls, calls + 1) if isinstance(calls, int) else calls
    lock = threading.Lock()
    count = 0

    def is_struck(*args: object, **keys: object) -> bool:
        nonlocal count
        if only is not None and not only(*args, **keys):
            return False
        with lock:
            count += 1
            return count in struck

    @wraps(real)
    def replaced(*args: object, **keys: object) -> object:
        now = is_struck(*args, **keys)
        if now and first:
            act()
        result = real(*args, **keys)
        if now and not first:
            act()
        return result

    setattr(owner, name, replaced)
