"""Published files, to whoever has a URL that the daemon signed."""

from dataclasses import dataclass
from time import time
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse

from daemon.api.access import TheService
from daemon.api.bodies import Route
from daemon.api.passed_on import passed_on
from daemon.api.problems import Problem
from daemon.api.published import Published, open_and_read
from daemon.errors import Forbidden, NotFound
from daemon.service import Service
from daemon.store.bucket import Bucket
from daemon.store.folder import Folder
from daemon.threads import in_thread

router = APIRouter(route_class=Route)

_ANY: dict[str, Any] = {"*/*": {}}
_TEXT: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
# What the OpenAPI document says of a route that answers with `file_response`.
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file", "content": _ANY},
    206: {"description": "Parts of the file", "content": _ANY},
    304: {"description": "The file that the client has already"},
    404: {"model": Problem},
    416: {"description": "There is no such range", "content": _TEXT},
}


@router.api_route(
    "/files/{path:path}",
    methods=["GET", "HEAD"],
    operation_id="get_file",
    response_class=FileResponse,
    responses={**ANSWERS, 403: {"model": Problem}},
)
async def get_file(
    request: Request, service: TheService, path: str, expires: str = "", key: str = "", signature: str = ""
) -> Response:
    """A published file. The URL comes with the job's report; ranges and conditions are understood."""
    left = seconds_left(request, service, "GET", Signed(expires, key, signature))
    return await file_response(request, service.store, path, f"private, max-age={left}")


@dataclass(frozen=True)
class Signed:
    """What the query of a signed URL holds."""

    expires: str = ""
    key: str = ""
    signature: str = ""


def seconds_left(request: Request, service: Service, method: str, signed: Signed) -> int:
    """How long the URL of a request is still good. Raises Forbidden where the daemon did not sign it for this method,
    or it has expired."""
    place = request.scope["raw_path"].decode("ascii", errors="replace").partition("?")[0]
    if not service.signer.is_signed(method, place, signed.expires, signed.key, signed.signature, time()):
        raise Forbidden("this URL is not signed by this daemon, or has expired: ask for a new one")
    return max(0, int(signed.expires) - int(time()))


async def file_response(request: Request, store: Folder | Bucket, path: str, cache_control: str) -> Response:
    """A published file, given as a path below the store's root. Raises NotFound, and StoreFailure.

    From a bucket it comes through the daemon too, and not by a redirect: a URL that a client may keep for ever must not
    lead to one that is over in a few days."""
    if any(not part or part.startswith(".") or "\0" in part for part in path.split("/")):
        raise NotFound("there is no such file")
    headers = {"Cache-Control": cache_control, "X-Content-Type-Options": "nosniff"}
    if isinstance(store, Bucket):
        return await passed_on(request, store, path, headers)
    file, content = await in_thread(open_and_read, store.root, path)
    return Published(file, content, path, headers)
