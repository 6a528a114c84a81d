"""Probes and metrics, on one port: `/livez`, `/readyz`, `/metrics`."""

from collections.abc import Callable, Sequence

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
