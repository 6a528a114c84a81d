"""Probes and metrics, on one port: `/livez`, `/readyz`, `/metrics`."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from daemon.threads import in_thread

Troubles = Callable[[], Sequence[str]]


def health_app(registry: CollectorRegistry, not_alive: Troubles, not_ready: Troubles) -> Starlette:
    """200 while nothing is wrong; else 503, and what is."""

    def answer(troubles: Sequence[str]) -> Response:
        return JSONResponse({"ok": not troubles, "troubles": list(troubles)}, 503 if troubles else 200)

    async def livez(request: Request) -> Response:
        return answer(not_alive())

    async def readyz(request: Request) -> Response:
        return answer(not_ready())

    async def metrics(request: Request) -> Response:
        return Response(await in_thread(generate_latest, registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics)])


def listening_socket(listen: str) -> socket.socket:
    """A bound socket for `host:port`. Raises OSError."""
    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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


async def serve(app: Starlette, bound: socket.socket) -> None:
    """Until cancelled."""
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_keep_alive=5)
    server = Server(config)
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        server.force_exit = True
        await serving
        raise
