"""thumbd's own API: jobs and videos of the organisation whose key comes with the request."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from daemon.api.access import SECURITY, Caller, TheService
from daemon.api.bodies import Route
from daemon.api.problems import Problem
from daemon.catalogue.videos import CHANNEL, Video
from daemon.errors import NotFound
from daemon.fields import NAME
from daemon.job import Job
from daemon.jobs.row import Known
from daemon.report import OutputReport, PictureReport, Report, SourceFacts, Status
from daemon.service import Service
from daemon.tables import COMPLETED, FAILED, PUBLISHING, QUEUED, RUNNING
from daemon.threads import in_thread

router = APIRouter(route_class=Route, dependencies=SECURITY)

Id = Annotated[str, Path(pattern=NAME)]
Wait = Annotated[float, Query(ge=0, le=60, description="Seconds to wait for the end of the job.")]
PageSize = Annotated[int, Query(ge=1, le=1000)]
PageToken = Annotated[str | None, Query(pattern=r"^[0-9A-HJKMNP-TV-Z]{26}$")]
VideoToken = Annotated[str | None, Query(pattern=NAME)]

_SHORT = 8 << 10  # letters of a report that is read, and its URLs signed, sooner than a thread is woken
_STATES: dict[Status, tuple[str, ...]] = {
    "pending": (QUEUED,),
    "processing": (RUNNING, PUBLISHING),
    "completed": (COMPLETED,),
    "failed": (FAILED,),
}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Problem, "description": "A problem"} for status in (400, 401, *statuses)}


def _left_out(org: str) -> str:
    raise ValueError("a job belongs to the organisation of the API key: leave it out")


class NewJob(Job):
    """A job; its organisation is the key's."""

    org: SkipJsonSchema[Annotated[str, AfterValidator(_left_out)]] = "default"


class PictureView(PictureReport):
    """`url`: signed, where the picture is a file of its own."""

    url: str | None = None


class OutputView(OutputReport):
    """`url`: signed, of the file at `path`; `other_urls`: of those that are neither this nor `pictures`."""

    url: str
    other_urls: dict[str, str] = Field(default_factory=dict)
    pictures: list[PictureView] | None = None  # type: ignore[assignment]


class JobView(Report):
    """A job's report, as far as there is one. `made` of `in_all` pictures are there while it runs; `created_at` in
    seconds since 1970."""

    outputs: list[OutputView] = Field(default_factory=list)  # type: ignore[assignment]
    created_at: float
    made: int
    in_all: int


class JobPage(BaseModel):
    """The newest jobs first. `next_page_token`: where the next page begins, null after the last."""

    jobs: list[JobView]
    next_page_token: str | None


class NewVideo(BaseModel):
    """A video's source, and the channel that it is in (one named like its organisation)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]*$")]
    channel: Annotated[str, Field(pattern=CHANNEL)] | None = None


class VideoView(BaseModel):
    """A registered video. `revision` changes whenever its pictures may."""

    id: str
    channel: str
    source: str
    revision: str
    facts: SourceFacts
    created_at: float


class VideoPage(BaseModel):
    videos: list[VideoView]
    next_page_token: str | None


@router.post("/jobs", status_code=202, responses=_problems(429, 503))
async def submit_job(caller: Caller, service: TheService, job: NewJob) -> JobView:
    """Accepts a job. One whose id is known already is the job that was."""
    plain = Job.model_validate(job.model_dump(mode="json", exclude_unset=True))
    return await _told(service, await service.submit(caller.name, plain, via="http"))


@router.get("/jobs", responses=_problems())
async def list_jobs(
    caller: Caller,
    service: TheService,
    state: Status | None = None,
    page_size: PageSize = 100,
    page_token: PageToken = None,
) -> JobPage:
    """The organisation's jobs. A page may have fewer than `page_size` though another one follows."""
    states = _STATES[state] if state else ()
    jobs, more = await service.jobs(caller.name, states, page_token, page_size)
    views = await in_thread(lambda: [_job_view(service, known) for known in jobs])
    return JobPage(jobs=views, next_page_token=jobs[-1].key if more else None)


@router.get("/jobs/{id}", responses=_problems(404))
async def get_job(caller: Caller, service: TheService, id: Id, wait: Wait = 0) -> JobView:
    """A job, at once or when it is over."""
    return await _told(service, await service.job(caller.name, id, wait), id)


@router.delete("/jobs/{id}", responses=_problems(404))
async def cancel_job(caller: Caller, service: TheService, id: Id) -> JobView:
    """Ends a job that waits, and asks one that runs to end. One that is over stays as it is."""
    return await _told(service, await service.cancel(caller.name, id), id)


@router.post("/jobs/{id}/retry", status_code=202, responses=_problems(404, 409, 503))
async def retry_job(caller: Caller, service: TheService, id: Id) -> JobView:
    """Queues a failed job again, as the same job. One that has not failed stays as it is."""
    return await _told(service, await service.retry(caller.name, id), id)


@router.put("/videos/{id}", responses=_problems(409, 422, 503))
async def put_video(caller: Caller, service: TheService, id: Id, video: NewVideo) -> VideoView:
    """Registers a video under an id of your own, or changes it. It is looked at before this answers."""
    return _video_view(await service.register(caller, id, video.source, video.channel))


@router.get("/videos", responses=_problems())
async def list_videos(
    caller: Caller, service: TheService, page_size: PageSize = 100, page_token: VideoToken = None
) -> VideoPage:
    """The organisation's videos, by their ids."""
    videos = await service.videos(caller.name, page_token or "", page_size + 1)
    shown = videos[:page_size]
    more = len(videos) > page_size
    return VideoPage(videos=[_video_view(video) for video in shown], next_page_token=shown[-1].id if more else None)


@router.get("/videos/{id}", responses=_problems(404))
async def get_video(caller: Caller, service: TheService, id: Id) -> VideoView:
    """A registered video."""
    video = await service.video(id)
    if video is None or video.org != caller.name:
        raise NotFound(f"there is no video {id!r}")
    return _video_view(video)


@router.delete("/videos/{id}", status_code=204, responses=_problems(404))
async def delete_video(caller: Caller, service: TheService, id: Id) -> Response:
    """Forgets a video; its pictures stay in the store."""
    await service.remove_video(caller.name, id)
    return Response(status_code=204)


async def _told(service: Service, known: Known | None, id: str = "") -> JobView:
    if known is None:
        raise NotFound(f"there is no job {id!r}")
    # A series of 20,000 pictures has as many URLs to sign: not on the event loop.
    long = len(known.told or "") > _SHORT
    return await in_thread(_job_view, service, known) if long else _job_view(service, known)


def _job_view(service: Service, known: Known) -> JobView:
    report = known.report
    outputs = [_output_view(service, output) for output in report.outputs]
    return JobView.model_validate(
        {
            **dict(report),
            "outputs": outputs,
            "created_at": known.created_at,
            "made": known.pictures_made,
            "in_all": known.pictures_in_all,
        }
    )


def _output_view(service: Service, output: OutputReport) -> OutputView:
    pictures = output.pictures and [
        PictureView.model_validate({**dict(each), "url": each.path and service.file_url(each.path)})
        for each in output.pictures
    ]
    told = {output.path, *(each.path for each in output.pictures or ())}
    others = {path: service.file_url(path) for path in output.files if path not in told}
    url = service.file_url(output.path)
    return OutputView.model_validate({**dict(output), "url": url, "other_urls": others, "pictures": pictures})


def _video_view(video: Video) -> VideoView:
    return VideoView(
        id=video.id,
        channel=video.channel,
        source=video.source,
        revision=video.revision,
        facts=video.facts,
        created_at=video.created_at,
    )
