"""A client of the HTTP API. What is not read here may be in an answer too: a newer daemon says more."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from daemon.cli.terminal import plain
from daemon.errors import Failure, Later, from_dict
from daemon.job import Job
from daemon.report import Status

_SECONDS = 30.0  # for an answer, beyond what the daemon was asked to wait
_PAGE = 1000  # jobs of an answer


class Unreachable(Later):
    """No answer, or none that a daemon would give. It may be starting again."""

    code = "unreachable"


class _Answer(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


Answer = TypeVar("Answer", bound=_Answer)


class Picture(_Answer):
    path: str | None = None
    url: str | None = None


class Output(_Answer):
    """`path` is below the store's root; every `url` is signed, and needs no key."""

    path: str
    url: str
    pictures: list[Picture] | None = None
    other_urls: dict[str, str] = {}

    @property
    def urls(self) -> Mapping[str, str]:
        """Path -> URL of each file."""
        pictures = {each.path: each.url for each in self.pictures or () if each.path and each.url}
        return {self.path: self.url} | pictures | self.other_urls


class Error(_Answer):
    code: str
    message: str
    output: str | None = None


class RemoteJob(_Answer):
    """A job's report, as far as there is one; `made` of `in_all` pictures are there."""

    id: str
    org: str
    status: Status
    outputs: list[Output] = []
    warnings: list[str] = []
    error: Error | None = None
    made: int = 0
    in_all: int = 0

    @property
    def over(self) -> bool:
        return self.status in ("completed", "failed")


class _Page(_Answer):
    jobs: list[RemoteJob]
    next_page_token: str | None = None


class _Wrong(_Answer):
    location: str
    message: str


class _Problem(_Answer):
    """RFC 9457's, with thumbd's own name of the failure."""

    detail: str
    code: str = Failure.code
    errors: list[_Wrong] = []


class Client:
    """Speaks to the daemon at `url` with an API key. Each call raises what the daemon said no with, each wrong field
    named, and Unreachable. As a context its connections are closed at the end."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url.rstrip("/")
        trust = httpx.create_ssl_context()
        self._api = httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {key}"}, verify=trust)
        self._files = httpx.Client(verify=trust, timeout=_SECONDS)  # signed URLs need no key, and may lead elsewhere

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._api.close()
        self._files.close()

    def submit(self, job: Job) -> RemoteJob:
        """Where the job has an id, twice is once."""
        return self._call(RemoteJob, "POST", "/jobs", json=job.model_dump(mode="json", exclude_unset=True))

    def job(self, id: str, wait: float = 0) -> RemoteJob:
        """What became of it: at once where it is over, else within `wait` seconds (60 at most)."""
        return self._call(RemoteJob, "GET", f"/jobs/{quote(id, safe='')}", {"wait": wait}, wait=wait)

    def jobs(self, most: int) -> list[RemoteJob]:
        """The newest ones first."""
        found: list[RemoteJob] = []
        token: dict[str, str] = {}
        while True:
            page = self._call(_Page, "GET", "/jobs", {"page_size": min(_PAGE, most - len(found)), **token})
            found += page.jobs
            if not page.next_page_token or not page.jobs or len(found) >= most:
                return found[:most]
            token = {"page_token": page.next_page_token}

    def cancel(self, id: str) -> RemoteJob:
        """How it was when it was asked to end."""
        return self._call(RemoteJob, "DELETE", f"/jobs/{quote(id, safe='')}")

    def retry(self, id: str) -> RemoteJob:
        """Raises FailedPrecondition where it has not failed."""
        return self._call(RemoteJob, "POST", f"/jobs/{quote(id, safe='')}/retry")

    def fetch(self, url: str, file: Path) -> None:
        """Writes what a signed URL of the daemon leads to."""
        try:
            with self._files.stream("GET", url) as answer:
                if not answer.is_success:
                    answer.read()
                    raise _failure(answer)
                with file.open("wb") as out:
                    for piece in answer.iter_bytes():
                        out.write(piece)
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise Unreachable(
                f"{url.partition('?')[0]} cannot be fetched ({type(error).__name__}): is the daemon's setting "
                "http.public_url right?"
            ) from None

    def _call(
        self,
        kind: type[Answer],
        method: str,
        path: str,
        params: Mapping[str, str | float] | None = None,
        json: Any = None,
        wait: float = 0,
    ) -> Answer:
        try:
            answer = self._api.request(method, path, params=params, json=json, timeout=_SECONDS + wait)
        except httpx.RequestError as error:
            raise Unreachable(f"no daemon answers at {self.url} ({type(error).__name__}): is it running?") from None
        if not answer.is_success:
            raise _failure(answer)
        try:
            return kind.model_validate_json(answer.content)
        except ValidationError:
            raise Unreachable(f"what answers at {self.url} is no thumbd") from None


def _failure(answer: httpx.Response) -> Failure:
    """What was answered in the place of what was asked for."""
    try:
        problem = _Problem.model_validate_json(answer.content)
    except ValidationError:
        return Unreachable(f"what answers at {answer.url.host} is no thumbd: it said {answer.status_code}")
    wrong = "; ".join(f"{each.location.removeprefix('body.')}: {each.message}" for each in problem.errors)
    failure = from_dict({"code": problem.code, "message": plain(wrong or problem.detail)})
    seconds = answer.headers.get("Retry-After", "")
    if isinstance(failure, Later) and seconds.isascii() and seconds.isdecimal():
        failure.retry_after = int(seconds)
    return failure
