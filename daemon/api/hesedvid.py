"""HesedVid's Thumbnails API (`/v1/api/…`), for its clients as they are: generate, best available, status, and the
pictures themselves under URLs that are known before there is a file."""

import hashlib
import json
import re
from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, Generic, Literal, TypeVar

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field, Strict
from sqlalchemy import Connection

from daemon.api.access import SECURITY, Caller, TheService
from daemon.api.bodies import Route
from daemon.api.files import ANSWERS, file_response
from daemon.api.problems import Problem
from daemon.catalogue import artifacts, videos
from daemon.catalogue.artifacts import Artifact
from daemon.catalogue.organisations import Organisation
from daemon.catalogue.videos import SCHEME, Video
from daemon.errors import AtPastEnd, Forbidden, NotFound
from daemon.job import Job
from daemon.jobs import table
from daemon.jobs.row import Known
from daemon.report import Status
from daemon.service import Service

B = TypeVar("B", bound=BaseModel)
Fit = Literal["cover", "pad", "stretch"]
Side = Annotated[int, Strict(), Field(ge=1, le=4096)]
Milliseconds = Annotated[int, Strict(), Field(ge=0, le=(1 << 31) - 1)]
Word = Annotated[str, Path(min_length=1, max_length=100, pattern=r"^[^\x00]*$")]

_ID = "thumb_job_"
_SIGNED = "hesedvid"  # what the mac of a URL is for
_FOR_EVER = "public, max-age=31536000, immutable"


class Wanted(BaseModel):
    """A picture of exactly this size in pixels, at this time in milliseconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: Side
    height: Side
    timestampMs: Milliseconds

    @property
    def name(self) -> str:
        return f"{self.timestampMs}_{self.width}x{self.height}"


class Generation(BaseModel):
    jobId: str
    url: str
    status: Status


class Progress(BaseModel):
    status: Status
    url: str


class Best(BaseModel):
    """Without a picture yet: `available` false, no URL and no size."""

    url: str
    available: bool
    width: int
    height: int


class Both(BaseModel, Generic[B]):
    """The page of the service shows its answers within `body`, its sample code reads them at the top."""

    model_config = ConfigDict(extra="allow")

    body: B


def both(body: B) -> Both[B]:
    return Both[B].model_construct(body=body, **body.model_dump())


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Problem, "description": "A problem"} for status in (400, 401, 429, *statuses)}


def router(fit: Fit) -> APIRouter:
    """The routes. `fit`: how a picture comes to exactly the asked size."""
    keyed = APIRouter(prefix="/v1/api", route_class=Route, dependencies=SECURITY, tags=["HesedVid"])

    @keyed.post("/{org_id}/videos/{public_id}/thumbnails", responses=_problems(403, 404, 422, 503))
    async def generate_thumbnail(
        caller: Caller, service: TheService, org_id: Word, public_id: Word, wanted: Wanted
    ) -> Both[Generation]:
        """Has a picture made, unless there is one. Its URL is good as soon as the job is completed."""
        found, made = await service.ask(partial(_seen, public_id, wanted))
        video = _theirs(found, caller, org_id, public_id)
        if made:
            return both(Generation(jobId=made[0].job_id, url=_url(service, video, wanted), status="completed"))
        known = await service.submit(
            caller.name, _job(video, wanted, fit), via="hesedvid", spending="generations", again=True
        )
        url = _url(service, video, wanted)
        return both(Generation(jobId=known.id, url=url, status=known.status))

    @keyed.get("/{org_id}/videos/{public_id}/thumbnail", responses=_problems(403, 404))
    async def best_thumbnail(caller: Caller, service: TheService, org_id: Word, public_id: Word) -> Both[Best]:
        """The picture with the most pixels that was made of a video."""
        looked_up, found = await service.spend(caller.name, "retrievals", partial(_best, public_id))
        video = _theirs(looked_up, caller, org_id, public_id)
        if found is None:
            return both(Best(url="", available=False, width=0, height=0))
        report, wanted = found.report, _wanted(found.report.name)
        ours = wanted is not None and found.job_id == _job_id(video, wanted)
        url = _url(service, video, wanted) if ours and wanted else service.file_url(report.path)
        best = Best(url=url, available=True, width=report.width, height=report.height)
        return both(best)

    @keyed.get("/thumbnails/{job_id}", responses=_problems(404))
    async def thumbnail_status(caller: Caller, service: TheService, job_id: Word) -> Both[Progress]:
        """How far a picture is."""
        return both(await _progress(service, caller, job_id))

    @keyed.get("/{org_id}/thumbnails/{job_id}", responses=_problems(403, 404))
    async def thumbnail_status_of(caller: Caller, service: TheService, org_id: Word, job_id: Word) -> Both[Progress]:
        """How far a picture is, under the name of its organisation."""
        return both(await _progress(service, caller, job_id, org_id))

    open_to_all = APIRouter(route_class=Route, tags=["HesedVid"])

    @open_to_all.api_route(
        "/t/{mac}/{public_id}/thumbnails/custom/{name}.webp",
        methods=["GET", "HEAD"],
        response_class=FileResponse,
        operation_id="get_custom_thumbnail",
        responses={**ANSWERS, 200: {"content": {"image/webp": {}}}},
    )
    async def custom_thumbnail(request: Request, service: TheService, mac: str, public_id: str, name: str) -> Response:
        """A picture, once it is there. No key is needed: nobody guesses such a URL."""
        wanted = _wanted(name)
        if wanted is not None and "\0" not in public_id:
            video, made = await service.ask(partial(_seen, public_id, wanted))
            if made and video is not None and service.signer.is_mac(mac, *_signed(video)):
                return await file_response(request, service.store, made[0].report.path, _FOR_EVER)
        raise NotFound("there is no such picture, or not yet")

    whole = APIRouter()
    whole.include_router(keyed)
    whole.include_router(open_to_all)
    return whole


def _own(caller: Organisation, org_id: str) -> None:
    if org_id != caller.name:
        raise Forbidden("this API key is not of that organisation")


def _seen(public_id: str, wanted: Wanted, connection: Connection) -> tuple[Video | None, Sequence[Artifact]]:
    """A video, and what was made of it as it is wanted, the job of which may be long forgotten."""
    video = videos.get(connection, public_id)
    return video, artifacts.of_job(connection, video.org, _job_id(video, wanted)) if video is not None else ()


def _best(public_id: str, connection: Connection) -> tuple[Video | None, Artifact | None]:
    video = videos.get(connection, public_id)
    return video, artifacts.largest_thumbnail(connection, video) if video is not None else None


def _theirs(video: Video | None, caller: Organisation, org_id: str, public_id: str) -> Video:
    """Raises Forbidden, and NotFound."""
    _own(caller, org_id)
    if video is None:
        raise NotFound(f"there is no video {public_id!r}")
    if video.org != caller.name:
        raise Forbidden(f"the video {public_id!r} does not belong to your organisation")
    return video


async def _progress(service: Service, caller: Organisation, job_id: str, org_id: str | None = None) -> Progress:
    asked = partial(_known, caller.name, job_id)
    known, made, video = await service.spend(caller.name, "status_calls", asked)
    if org_id is not None:
        _own(caller, org_id)
    if known is not None:
        name = json.loads(known.job)["outputs"][0].get("name", "")  # all else of the job was checked, and is not asked
        return Progress(status=known.status, url=_url_of(service, video, name, job_id))
    if made is not None:  # its job is long forgotten
        return Progress(status="completed", url=_url_of(service, video, made.report.name, job_id))
    raise NotFound(f"there is no thumbnail job {job_id!r}")


def _known(org: str, job_id: str, connection: Connection) -> tuple[Known | None, Artifact | None, Video | None]:
    """A job, or what it had made, and the video, where that is as it was."""
    if not job_id.startswith(_ID):
        return None, None, None
    if (known := table.get(connection, org, job_id)) is not None:
        return known, None, videos.get(connection, known.source.removeprefix(SCHEME))
    for made in artifacts.of_job(connection, org, job_id):
        return None, made, videos.by_revision(connection, made.revision) if made.revision is not None else None
    return None, None, None


def _job(video: Video, wanted: Wanted, fit: Fit) -> Job:
    """Raises AtPastEnd."""
    at, duration = Decimal(wanted.timestampMs) / 1000, Decimal(repr(video.facts.duration))
    if at > duration:
        raise AtPastEnd(f"the video lasts {video.facts.duration * 1000:.0f} ms, {wanted.timestampMs} ms is after that")
    # The duration is known to the microsecond: what is that near to it means the last picture.
    last = duration - at <= Decimal("0.000001")
    picture = {
        "output": "thumbnail",
        "name": wanted.name,
        "at": "100%" if last else f"{wanted.timestampMs}ms",
        "width": wanted.width,
        "height": wanted.height,
        "fit": fit,
        "upscale": True,
        "format": "webp",
    }
    id = _job_id(video, wanted)
    return Job.check({"id": id, "source": SCHEME + video.id, "cache": True, "outputs": [picture]})


def _job_id(video: Video, wanted: Wanted) -> str:
    """The same picture of the same video is the same job, whoever asks and whenever."""
    what = f"{video.org}/{video.revision}/{wanted.name}"
    return _ID + hashlib.sha256(what.encode()).hexdigest()[:24]


def _wanted(name: str) -> Wanted | None:
    """The inverse of `Wanted.name`."""
    if not (parts := re.fullmatch(r"(0|[1-9]\d{0,9})_([1-9]\d{0,3})x([1-9]\d{0,3})", name, re.ASCII)):
        return None
    at, width, height = map(int, parts.groups())
    try:
        return Wanted(width=width, height=height, timestampMs=at)
    except ValueError:
        return None


def _signed(video: Video) -> tuple[str, ...]:
    return _SIGNED, video.org, video.id, video.revision


def _url(service: Service, video: Video, wanted: Wanted) -> str:
    mac = service.signer.mac(*_signed(video))
    return f"{service.terms.public_url}/t/{mac}/{video.id}/thumbnails/custom/{wanted.name}.webp"


def _url_of(service: Service, video: Video | None, name: str, job_id: str) -> str:
    """Of the picture with this name that a job has made; none where its video has changed since, or is gone."""
    wanted = _wanted(name)
    if video is None or wanted is None or job_id != _job_id(video, wanted):
        return ""
    return _url(service, video, wanted)
