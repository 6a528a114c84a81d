"""Where a daemon listens: each setting's address, and what is said where another has it."""

import contextlib
import errno
import socket
from collections.abc import Iterator

from daemon.config import BadSettings
from daemon.serving import listening_socket


def bind(setting: str, address: str) -> socket.socket:
    """A bound socket for the `host:port` of a setting. Raises BadSettings."""
    with _refusal_named(setting, address):
        return listening_socket(address)


def listen(setting: str, address: str, bound: socket.socket) -> None:
    """Raises BadSettings where a daemon that began at the same moment was first: both could be bound to it."""
    with _refusal_named(setting, address):
        bound.listen()


@contextlib.contextmanager
def _refusal_named(setting: str, address: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        running = "another daemon may be running there: stop it, or " if error.errno == errno.EADDRINUSE else ""
        advice = f"{running}give this setting another host:port"
        raise BadSettings(f"{setting} {address}: {error.strerror}: {advice}") from None
