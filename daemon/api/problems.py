"""Every failure as an HTTP status and an `application/problem+json` (RFC 9457)."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from daemon.errors import (
    AtPastEnd,
    BadJob,
    BadRequest,
    Complaint,
    Conflict,
    FailedPrecondition,
    Failure,
    Forbidden,
    Later,
    NotFound,
    Overloaded,
    QuotaExceeded,
    SourceFailure,
    SourceUnreadable,
    StoreFailure,
    TooLarge,
    Unauthenticated,
    WorkerFailure,
)

log = structlog.get_logger()
MEDIA_TYPE = "application/problem+json"

# The nearest type above a failure's counts.
STATUS: dict[type[Failure], int] = {
    BadRequest: 400,
    BadJob: 400,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    FailedPrecondition: 409,
    TooLarge: 413,
    AtPastEnd: 422,
    SourceFailure: 422,
    QuotaExceeded: 429,
    SourceUnreadable: 503,
    StoreFailure: 503,
    Overloaded: 503,
    WorkerFailure: 503,
    Failure: 500,
}
_TITLES = {422: "Unprocessable Entity"}  # which Python 3.13 calls by its newer name
_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
_RETRY_AFTER = 10  # seconds, where the failure does not say it
_LONGEST_VALUE = 200  # characters of a wrong value that are told


class ProblemError(BaseModel):
    """One wrong value and its place, as in `body.outputs[0].width`."""

    message: str
    location: str
    value: Any = None


class Problem(BaseModel):
    """Why a request failed. `title` is the status' reason phrase; `code` is thumbd's own name of the failure."""

    title: str
    status: int
    detail: str
    code: str
    errors: list[ProblemError] = Field(default_factory=list)


def status_of(failure: Failure) -> int:
    return next(STATUS[kind] for kind in type(failure).__mro__ if kind in STATUS)


def answer(failure: Failure) -> Response:
    """The failure as a response."""
    status = status_of(failure)
    complaints = failure.complaints if isinstance(failure, BadRequest) else ()
    errors = [ProblemError(message=c.message, location=c.place, value=_short(c.value)) for c in complaints]
    headers = {}
    if isinstance(failure, Later):
        headers["Retry-After"] = str(failure.retry_after)
    elif status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(_RETRY_AFTER)
    if isinstance(failure, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    return _response(status, failure.message, failure.code, errors, headers)


def answer_logged(failure: Failure, route: str) -> Response:
    """The failure as a response; one that is ours is logged, with the route of the request."""
    if status_of(failure) >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("a request failed", route=route, code=failure.code, reason=failure.message)
    return answer(failure)


def answer_without_table(error: Exception, route: str) -> Response:
    """What is said where the database failed."""
    log.error("the job table cannot be reached", route=route, reason=str(getattr(error, "orig", "")))
    return answer(Overloaded("the job table cannot be reached", _RETRY_AFTER))


def refusal_of(error: HTTPException, headers: Mapping[str, str] | None = None) -> Response:
    """What is said by a status alone, as a response."""
    code = "not_found" if error.status_code == HTTPStatus.NOT_FOUND else "bad_request"
    return _response(error.status_code, str(error.detail), code, [], dict(headers or error.headers or {}))


def install(app: FastAPI) -> None:
    """Makes every failure of a route such an answer."""

    async def failed(request: Request, failure: Exception) -> Response:
        if not isinstance(failure, Failure):
            raise failure
        return answer_logged(failure, _route_of(request))

    async def no_table(request: Request, failure: Exception) -> Response:
        return answer_without_table(failure, _route_of(request))

    async def refused(request: Request, failure: Exception) -> Response:
        if not isinstance(failure, HTTPException):
            raise failure
        headers = dict(failure.headers or {})
        if failure.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(_methods_at(request))
        return refusal_of(failure, headers)

    async def internal(request: Request, failure: Exception) -> Response:
        return _response(500, "internal error", "failed", [], {})

    app.add_exception_handler(Failure, failed)
    app.add_exception_handler(DBAPIError, no_table)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(Exception, internal)


def _methods_at(request: Request) -> list[str]:
    """All methods that some route has for the path of a request; Starlette names those of the first one only."""
    scopes = {method: {**request.scope, "method": method} for method in _METHODS}
    routes = request.app.routes
    return [method for method in _METHODS if any(r.matches(scopes[method])[0] is Match.FULL for r in routes)]


def _route_of(request: Request) -> str:
    """As the log may have it: the path itself may be all that a URL's owner needs."""
    return str(getattr(request.scope.get("route"), "path", "none"))


def wrong(message: str, place: str, value: Any = None) -> BadRequest:
    """One wrong value."""
    return BadRequest(f"{place}: {message}", [Complaint(message, place, value)])


def _response(status: int, detail: str, code: str, errors: list[ProblemError], headers: dict[str, str]) -> Response:
    title = _TITLES.get(status) or HTTPStatus(status).phrase
    problem = Problem(title=title, status=status, detail=detail, code=code, errors=errors)
    # What is wrong now may be right in a moment: nobody may keep it.
    return JSONResponse(problem.model_dump(mode="json"), status, {"Cache-Control": "no-store", **headers}, MEDIA_TYPE)


def _short(value: Any) -> Any:
    """A wrong value, as far as it is told: numbers and short texts as they are."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else repr(value)
    text = text.encode(errors="replace").decode()
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"
