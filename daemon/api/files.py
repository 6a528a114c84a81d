"""Published files, to whoever has a URL that the daemon signed."""

import os
import stat
from dataclasses import dataclass
from mimetypes import guess_type
from pathlib import Path
from time import time

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse

from daemon.api.access import TheService
from daemon.api.bodies import Route
from daemon.api.problems import Problem
from daemon.errors import Forbidden, NotFound
from daemon.service import Service
from daemon.threads import in_thread

router = APIRouter(route_class=Route)

_TYPES = {".avif": "image/avif", ".webp": "image/webp", ".vtt": "text/vtt", ".bif": "application/octet-stream"}
_TYPES |= {".m3u8": "application/vnd.apple.mpegurl", ".mpd": "application/dash+xml"}


@router.api_route(
    "/files/{path:path}",
    methods=["GET", "HEAD"],
    operation_id="get_file",
    response_class=FileResponse,
    responses={200: {"content": {"application/octet-stream": {}}}, 403: {"model": Problem}, 404: {"model": Problem}},
)
async def get_file(
    request: Request, service: TheService, path: str, expires: str = "", key: str = "", signature: str = ""
) -> Response:
    """A published file. The URL comes with the job's report; ranges and conditions are understood."""
    left = seconds_left(request, service, "GET", Signed(expires, key, signature))
    return await file_response(service.root, path, f"private, max-age={left}")


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


async def file_response(root: Path, path: str, cache_control: str) -> Response:
    """A file below the store's root. Raises NotFound."""
    full, status = await in_thread(_look, root, path)
    suffix = full.suffix.lower()
    return FileResponse(
        full,
        media_type=_TYPES.get(suffix) or guess_type(full.name)[0] or "application/octet-stream",
        headers={"Cache-Control": cache_control, "X-Content-Type-Options": "nosniff"},
        stat_result=status,
    )


def _look(root: Path, path: str) -> tuple[Path, os.stat_result]:
    """A regular file that lies below the root, reached through no link, none of it hidden."""
    full = root / path
    parts = path.split("/")
    try:
        status = full.lstat()
        good = stat.S_ISREG(status.st_mode) and full.resolve() == root.resolve() / path
    except (OSError, ValueError):
        good = False
    if not good or any(not part or part.startswith(".") for part in parts):
        raise NotFound("there is no such file")
    return full, status
