"""Every failure as a status code of gRPC (google.rpc.Code), and as the HTTP status that REST gives it."""

import uuid
from dataclasses import dataclass

import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import code_pb2 as code
from google.rpc.error_details_pb2 import RequestInfo
from google.rpc.status_pb2 import Status
from sqlalchemy.exc import DBAPIError

from daemon.errors import (
    BadRequest,
    Conflict,
    FailedPrecondition,
    Failure,
    Forbidden,
    NotFound,
    Overloaded,
    QuotaExceeded,
    StoreFailure,
    Unauthenticated,
    WorkerFailure,
)

log = structlog.get_logger()

# The nearest type above a failure's counts.
CODE: dict[type[Failure], int] = {
    BadRequest: code.INVALID_ARGUMENT,
    Unauthenticated: code.UNAUTHENTICATED,
    Forbidden: code.PERMISSION_DENIED,
    NotFound: code.NOT_FOUND,
    Conflict: code.ALREADY_EXISTS,
    FailedPrecondition: code.FAILED_PRECONDITION,
    QuotaExceeded: code.RESOURCE_EXHAUSTED,
    Overloaded: code.UNAVAILABLE,
    StoreFailure: code.UNAVAILABLE,
    WorkerFailure: code.UNAVAILABLE,
    Failure: code.INTERNAL,
}

HTTP_STATUS: dict[int, int] = {
    code.INVALID_ARGUMENT: 400,
    code.FAILED_PRECONDITION: 400,
    code.UNAUTHENTICATED: 401,
    code.PERMISSION_DENIED: 403,
    code.NOT_FOUND: 404,
    code.ALREADY_EXISTS: 409,
    code.RESOURCE_EXHAUSTED: 429,
    code.INTERNAL: 500,
    code.UNAVAILABLE: 503,
}


@dataclass(frozen=True)
class Asked:
    """One request, for its answer and the log."""

    call: str
    id: str


def asked(call: str) -> Asked:
    return Asked(call, str(uuid.uuid4()))


def status_of(error: Exception, request: Asked) -> Status:
    """What its sender hears of it; the log hears more where it is our own fault."""
    said = {"call": request.call, "request": request.id}
    if isinstance(error, Failure):
        number = next(CODE[kind] for kind in type(error).__mro__ if kind in CODE)
        if number == code.INTERNAL:
            log.error("a call failed", **said, code=error.code, reason=error.message)
        return status_with(number, error.message, request)
    if isinstance(error, DBAPIError):
        log.error("the job table cannot be reached", **said, reason=str(error.orig))
        return status_with(code.UNAVAILABLE, "the job table cannot be reached", request)
    log.error("internal error", **said, exc_info=error)
    return status_with(code.INTERNAL, "internal error", request)


def status_with(number: int, message: str, request: Asked) -> Status:
    """The status that goes over the wire; by the id of the request its sender and the log speak of the same one."""
    details = AnyMessage()
    details.Pack(RequestInfo(request_id=request.id))
    return Status(code=number, message=message, details=[details])
