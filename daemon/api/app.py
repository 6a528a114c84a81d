"""The HTTP application: its routes, its document, and what the metrics hear of it."""

import re
from importlib.metadata import version
from time import monotonic
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daemon.api import files, hesedvid, native, problems, qencode, tus
from daemon.api.document import truthful
from daemon.api.qencode_status import Teller
from daemon.api.yandex import pictures, rest
from daemon.api.yandex.thumbnails import Thumbnails
from daemon.metrics import Metrics
from daemon.service import Service
from daemon.uploads import Uploads


def http_app(
    service: Service,
    hesedvid_fit: hesedvid.Fit,
    uploads: Uploads,
    qencode_teller: Teller,
    thumbnails: Thumbnails,
) -> FastAPI:
    """All doors in one application. `hesedvid_fit`: how its pictures come to exactly the asked size."""
    app = _Documented(
        title="thumbd",
        version=version("thumbd"),
        description="Turns video into stills: posters, series, scrub sprites.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    problems.install(app)
    routers = (hesedvid.router(hesedvid_fit), qencode.router(qencode_teller), tus.router(uploads))
    for router in (native.router, files.router, *routers):
        app.include_router(router)
    for router in (pictures.router(thumbnails), rest.router(thumbnails)):
        app.include_router(router)
    app.add_middleware(_Measured, metrics=service.metrics)
    app.add_middleware(_SingleSlashes)
    return app


class _Documented(FastAPI):
    """Its OpenAPI document says how it really answers."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = truthful(super().openapi())
        return self.openapi_schema


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
