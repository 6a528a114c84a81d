"""Faults for a daemon under test: what it calls is replaced in its own process, before it begins (see `harness`).

    before(Spool, "taken_in", die)                             killed before the first call
    after(Path, "rename", die, calls=3, only=to("/film/"))     killed after the third call that `only` picks
    before(os, "fsync", fail(errno.EIO), calls=range(1, 4))    three errors

With a `fuse` a fault lies idle until the file of that name is there (`Site.light`). A fault that strikes at one call
burns its fuse, so that a daemon that comes after is spared; others last until somebody removes the file.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Container
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

Act = Callable[[], object]
Only = Callable[..., bool]

FUSES = Path("fuses")  # set by the harness
ALWAYS = range(1, 1 << 60)


def die() -> None:
    """kill -9, of this very process."""
    os.kill(os.getpid(), signal.SIGKILL)


def fail(number: int) -> Act:
    """Raises the OSError of this errno."""

    def act() -> NoReturn:
        raise OSError(number, os.strerror(number))

    return act


def hold(name: str) -> Act:
    """Stays there, having said so, as long as the file `<name>.held` is there."""

    def act() -> None:
        held = FUSES / f"{name}.held"
        held.touch()
        while held.exists():
            time.sleep(0.01)

    return act


def before(
    owner: object,
    name: str,
    act: Act,
    calls: int | Container[int] = 1,
    only: Only | None = None,
    fuse: str | None = None,
) -> None:
    """Lets `act` happen before these calls of `owner.name`, counted from 1 among those that `only` picks."""
    _replace(owner, name, act, calls, only, fuse, first=True)


def after(
    owner: object,
    name: str,
    act: Act,
    calls: int | Container[int] = 1,
    only: Only | None = None,
    fuse: str | None = None,
) -> None:
    """Lets `act` happen after these calls of `owner.name`."""
    _replace(owner, name, act, calls, only, fuse, first=False)


def to(part: str) -> Only:
    """Picks calls the last of whose paths holds `part`."""

    def picked(*arguments: object, **keys: object) -> bool:
        paths = [argument for argument in arguments if isinstance(argument, str | Path)]
        return part in str(paths[-1])

    return picked


def file_in(part: str) -> Only:
    """Picks calls whose first argument is the descriptor of a file or folder with `part` in its path."""
    return lambda descriptor, *rest: part in str(Path(f"/proc/self/fd/{descriptor}").readlink())


def _replace(
    owner: object, name: str, act: Act, calls: int | Container[int], only: Only | None, fuse: str | None, *, first: bool
) -> None:
    real: Callable[..., Any] = getattr(owner, name)
    lock = threading.Lock()
    count = 0

    def strikes(*args: object, **keys: object) -> bool:
        nonlocal count
        if fuse is not None and not os.path.lexists(FUSES / fuse):
            return False
        if only is not None and not only(*args, **keys):
            return False
        with lock:
            count += 1
            if not isinstance(calls, int):
                return count in calls
            if count == calls and fuse is not None:
                (FUSES / fuse).unlink()
                count = 0
                return True
            return count == calls

    @wraps(real)
    def replaced(*args: object, **keys: object) -> object:
        struck = strikes(*args, **keys)
        if struck and first:
            act()
        result = real(*args, **keys)
        if struck and not first:
            act()
        return result

    setattr(owner, name, replaced)
