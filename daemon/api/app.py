"""The HTTP application: its routes, the limits of size, and what the metrics hear of it."""

import re
from importlib.metadata import version
from time import monotonic

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daemon.api import files, hesedvid, native, problems, qencode, tus
from daemon.api.qencode_status import Teller
from daemon.metrics import Metrics
from daemon.service import Service
from daemon.uploads import Uploads

MAX_BODY = 1 << 20


def http_app(service: Service, uploads: Uploads, hesedvid_fit: hesedvid.Fit, qencode_teller: Teller) -> FastAPI:
    """All doors in one application. `hesedvid_fit`: how its pictures come to exactly the asked size."""
    app = FastAPI(
        title="thumbd",
        version=version("thumbd"),
        description="Turns video into stills: posters, series, scrub sprites.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        max_body_size=MAX_BODY,
    )
    app.state.service = service
    problems.install(app)
    routers = (hesedvid.router(hesedvid_fit), qencode.router(qencode_teller), tus.router(uploads))
    for router in (native.router, files.router, *routers):
        app.include_router(router)
    app.add_middleware(_Measured, metrics=service.metrics)
    app.add_middleware(_SingleSlashes)
    return app


class _SingleSlashes:
    """Qencode's clients write `//v1/status` and the like."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and "//" in scope["path"]:
            path = re.sub("/{2,}", "/", scope["path"])
            if qencode.PATHS.fullmatch(path):
                scope = {**scope, "path": path, "raw_path": path.encode()}
        await self._app(scope, receive, send)


class _Measured:
    """Counts and times every answer by its route, never by its path."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, code = monotonic(), 500

        async def sending(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.http_requests.labels(route, method, str(code)).inc()
            self._metrics.http_duration.labels(route).observe(monotonic() - begun)


_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
