"""Uploads by the tus protocol, version 1.0.0 (https://tus.io), below the token of the task that they are for:
`POST /v1/upload_file/{task_token}` makes one, its `Location` takes the bytes, and `tus:` and the last part of that is a
job's source."""

import re
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, HTTPException, Path, Request, Response
from sqlalchemy.exc import DBAPIError
from starlette.requests import ClientDisconnect

from daemon.api.access import TheService
from daemon.api.bodies import UploadRoute
from daemon.api.problems import answer_logged, answer_without_table, refusal_of, wrong
from daemon.catalogue import organisations, qencode
from daemon.catalogue.uploads import Upload
from daemon.errors import Conflict, Failure, NotFound
from daemon.uploads import Uploads

ROOT = "/v1/upload_file"
_VERSION = "1.0.0"
_PIECE = "application/offset+octet-stream"
_METHODS = "OPTIONS, POST, HEAD, PATCH, DELETE"
_HEADERS = "Tus-Resumable, Upload-Length, Upload-Metadata, Upload-Offset, Content-Type"
_SHOWN = "Location, Tus-Resumable, Tus-Version, Tus-Max-Size, Tus-Extension, Upload-Offset, Upload-Length, "
_SHOWN += "Upload-Metadata, Upload-Expires"

Task = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
Id = Annotated[str, Path(pattern=r"^[0-9a-f-]{36}$")]
Whole = Annotated[str, Header(max_length=20)]
About = Annotated[str, Header(max_length=4096, pattern=r"^[ -~]*$")]


class _Route(UploadRoute):
    """A route whose answers, refusals too, are those of the protocol. Browsers upload from pages of other hosts: the
    task's token, which stands in the path and so in no log, is the only key."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                response = await handle(request)
            except Failure as failure:
                response = answer_logged(failure, self.path)
            except DBAPIError as error:
                response = answer_without_table(error, self.path)
            except HTTPException as error:
                response = refusal_of(error)
            response.headers["Tus-Resumable"] = _VERSION
            response.headers["Access-Control-Allow-Origin"] = "*"
            response.headers["Access-Control-Expose-Headers"] = _SHOWN
            response.headers["Cache-Control"] = "no-store"
            return response

        return handled


def _in_version(tus_resumable: Annotated[str, Header()] = "") -> None:
    if tus_resumable != _VERSION:
        raise HTTPException(412, f"send Tus-Resumable: {_VERSION}", {"Tus-Version": _VERSION})


def router(uploads: Uploads) -> APIRouter:
    spoken = APIRouter(prefix=ROOT, route_class=_Route, include_in_schema=False, dependencies=[Depends(_in_version)])

    @spoken.post("/{task}", status_code=201)
    async def create_upload(
        service: TheService, response: Response, task: Task, upload_length: Whole = "", upload_metadata: About = ""
    ) -> None:
        """Announces a file of `Upload-Length` bytes."""
        length = _number(upload_length, "Upload-Length")
        found = await service.ask(lambda c: qencode.task(c, task))
        if found is None or await service.ask(lambda c: organisations.get(c, found.org)) is None:
            raise NotFound("there is no such task")
        if found.job is not None:
            raise Conflict("this task was started already: create another one")
        upload = await uploads.create(found.org, task, length, upload_metadata)
        response.headers["Location"] = f"{service.terms.public_url}{ROOT}/{task}/{upload.id}"
        _tell(response, upload)

    @spoken.head("/{task}/{id}")
    async def look_at_upload(response: Response, task: Task, id: Id) -> None:
        """How much of it is here: where to go on."""
        upload = await uploads.get(task, id)
        response.headers["Upload-Length"] = str(upload.length)
        if upload.about:
            response.headers["Upload-Metadata"] = upload.about
        _tell(response, upload)

    @spoken.patch("/{task}/{id}", status_code=204)
    async def append_to_upload(
        request: Request,
        response: Response,
        task: Task,
        id: Id,
        upload_offset: Whole = "",
        content_type: Annotated[str, Header()] = "",
    ) -> None:
        """Bytes from `Upload-Offset` on. What came before a connection broke is kept."""
        if content_type != _PIECE:
            raise HTTPException(415, f"send Content-Type: {_PIECE}")
        offset = _number(upload_offset, "Upload-Offset")
        try:
            _tell(response, await uploads.append(task, id, offset, request.stream()))
        except ClientDisconnect:
            raise HTTPException(400, "the connection broke") from None  # nobody hears it

    @spoken.delete("/{task}/{id}", status_code=204)
    async def remove_upload(task: Task, id: Id) -> None:
        """Removes it, whether it is whole or not."""
        await uploads.remove(task, id)

    asked = APIRouter(prefix=ROOT, route_class=_Route, include_in_schema=False)

    @asked.options("", status_code=204)
    @asked.options("/{task}", status_code=204, include_in_schema=False)
    @asked.options("/{task}/{id}", status_code=204, include_in_schema=False)
    async def what_is_spoken(response: Response) -> None:
        """What of the protocol there is, also for browsers that ask before they upload."""
        response.headers["Tus-Version"] = _VERSION
        response.headers["Tus-Max-Size"] = str(uploads.most)
        response.headers["Tus-Extension"] = "creation,expiration,termination"
        response.headers["Access-Control-Allow-Methods"] = _METHODS
        response.headers["Access-Control-Allow-Headers"] = _HEADERS

    whole = APIRouter()
    whole.include_router(spoken)
    whole.include_router(asked)
    return whole


def _tell(response: Response, upload: Upload) -> None:
    response.headers["Upload-Offset"] = str(upload.received)
    response.headers["Upload-Expires"] = format_datetime(datetime.fromtimestamp(upload.expires_at, UTC), usegmt=True)


def _number(said: str, name: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", said, re.ASCII):
        raise wrong("a whole number of bytes is needed", f"header.{name}", said or None)
    return int(said)
