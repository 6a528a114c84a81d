"""Serving an application over HTTP beside all else, with patience for slow clients that has an end."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

_PATIENCE = 20.0  # seconds between two looks at a request that is not whole: after the second one it is given up
_LEAST_BYTES = 64 << 10  # of a body between two looks, where it is not whole: uploads are large
_IDLE_SECONDS = 75  # between requests of a connection
_CONNECTIONS = 1000
_UNREAD_SECONDS = 60  # without any of an answer being taken: the client is gone
_LAST_WORDS = 2  # seconds for answers under way when all ends


def listening_socket(listen: str) -> socket.socket:
    """A bound socket for `host:port`. Raises OSError."""
    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, for asyncio turns Nagle's algorithm off (40 ms an answer) only where it is.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(_UNREAD_SECONDS * 1000))
        bound.bind((host.strip("[]"), int(port)))
    except OSError:
        bound.close()
        raise
    return bound


class Server(uvicorn.Server):
    """Signals are the daemon's own business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Patient(H11Protocol):
    """Closes a connection on which a request does not become whole in time: its head, or its body where that does not
    come with some speed either."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._received = self._received_before = 0  # bytes, in all, and at the last look
        self._waiting_for = self._unfinished()
        self._patience = self.loop.call_later(_PATIENCE, self._look)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        unfinished, before = self._unfinished(), self._waiting_for
        slow = self._received - self._received_before < _LEAST_BYTES
        if unfinished is not None and unfinished == before and (slow or unfinished[1] == "head"):
            self.transport.close()
            return
        self._received_before = self._received
        self._waiting_for = unfinished
        self._patience = self.loop.call_later(_PATIENCE, self._look)

    def _unfinished(self) -> tuple[object, str] | None:
        """The request that has begun and is not whole, None where there is none."""
        cycle = self.cycle
        if cycle is None:
            return None, "head"
        if cycle.response_complete:
            return (cycle, "head") if self.conn.trailing_data[0] else None
        return (cycle, "body") if cycle.more_body else None


async def serve(app: ASGIApp, bound: socket.socket) -> None:
    """Until cancelled."""
    config = uvicorn.Config(
        app,
        http=_Patient,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=_LAST_WORDS,
        limit_concurrency=_CONNECTIONS,
        h11_max_incomplete_event_size=32 << 10,
    )
    server = Server(config)
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving
        raise
