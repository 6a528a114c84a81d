"""What the URLs that were given out lead to: where a picture is uploaded to, and scaled pictures. No API key is asked
for: the URLs are signed."""

import tempfile
from io import BufferedRandom
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException

from daemon.api.access import TheService
from daemon.api.bodies import Route, UploadRoute
from daemon.api.files import Signed, file_response, seconds_left
from daemon.api.problems import Problem
from daemon.api.yandex.thumbnails import Thumbnails, Uploaded
from daemon.darkroom import Box, Format
from daemon.threads import in_thread

_FORMATS: dict[str, Uploaded] = {"image/png": "png", "image/jpeg": "jpeg", "image/gif": "gif"}
_SCALED: dict[str, Format] = {"jpg": "jpeg", "webp": "webp"}
Id = Annotated[str, Path(max_length=50)]
Side = Annotated[int, Path(ge=1, le=4096)]
Suffix = Annotated[str, Path(pattern="^(jpg|webp)$")]
TheSignature = Annotated[Signed, Depends(Signed)]


def router(thumbnails: Thumbnails) -> APIRouter:
    """These routes, for these thumbnails."""
    uploads = APIRouter(route_class=UploadRoute)
    pictures = APIRouter(route_class=Route)

    @uploads.put(
        "/uploads/{id}",
        responses=_problems(409, 413, 415, 422, 503),
        openapi_extra={"requestBody": {"required": True, "content": {kind: {} for kind in _FORMATS}}},
    )
    async def upload_thumbnail(request: Request, service: TheService, id: Id, signed: TheSignature) -> Response:
        """Takes the picture of a thumbnail. The URL comes with `GenerateUploadURL`."""
        seconds_left(request, service, "PUT", signed)
        format = _FORMATS.get(request.headers.get("content-type", "").partition(";")[0].strip().lower())
        if format is None:
            raise HTTPException(415, f"Content-Type: send {', '.join(_FORMATS)}")
        # Unnamed: a daemon that dies leaves nothing of it.
        with tempfile.TemporaryFile() as file:
            await _receive(request, file, thumbnails.terms.upload_bytes)
            await thumbnails.upload(id, format, file)
        return Response()

    @pictures.api_route(
        "/thumbnails/{id}/{width}x{height}.{suffix}",
        methods=["GET", "HEAD"],
        operation_id="get_scaled_thumbnail",
        response_class=FileResponse,
        responses={200: {"content": {"image/jpeg": {}, "image/webp": {}}}, **_problems(422, 503)},
    )
    async def get_scaled_thumbnail(
        request: Request, service: TheService, id: Id, width: Side, height: Side, suffix: Suffix, signed: TheSignature
    ) -> Response:
        """A scaled thumbnail. The URL comes with `BatchGenerateDownloadURLs`."""
        left = seconds_left(request, service, "GET", signed)
        path = await thumbnails.scaled(id, Box(width, height, _SCALED[suffix]))
        return await file_response(request, service.store, path, f"private, max-age={left}")

    routes = APIRouter()
    routes.include_router(uploads)
    routes.include_router(pictures)
    return routes


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Problem, "description": "A problem"} for status in (400, 403, 404, *statuses)}


async def _receive(request: Request, file: BufferedRandom, most: int) -> None:
    """Writes a body to a file, as it comes. Raises HTTPException where it is too large."""
    size = 0
    if (length := request.headers.get("content-length", "")).isdecimal():
        _check_size(int(length), most)
    async for part in request.stream():
        size += len(part)
        _check_size(size, most)
        await in_thread(file.write, part)
    await in_thread(file.flush)


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise HTTPException(413, f"the picture is too large: {most} bytes are taken (setting yandex.upload_bytes)")
