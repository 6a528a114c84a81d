"""How Qencode's API is asked and answers: form fields in; HTTP 200 with an error number out, whatever happens."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Annotated, Any
from urllib.parse import parse_qs

import structlog
from fastapi import Depends, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException

from daemon.dialects.qencode import MissingField, NotWrapped, PayloadTooLong
from daemon.errors import (
    BadJob,
    BadRequest,
    Failure,
    Forbidden,
    Later,
    NotFound,
    Overloaded,
    Unauthenticated,
)

log = structlog.get_logger()

MOST_BYTES = 4 << 20  # of a form: a query of 1 MiB, each of its characters written as %XX, and something more
_MOST_DISCARDED = 64 << 20
_MOST_FIELDS = 1000


class BadKey(BadRequest):
    """An API key that is none."""


class BadToken(BadRequest):
    """A token that is none, or was used up."""


class BadTaskTokens(BadRequest):
    """A list of task tokens that holds none."""


class NoProfile(NotFound):
    """A stored profile: there are none here."""


# The nearest type above a failure's counts.
NUMBERS: dict[type[Failure], int] = {
    Failure: 1,
    BadKey: 2,
    Unauthenticated: 3,
    BadToken: 4,
    NotFound: 5,
    Forbidden: 6,
    Later: 8,
    PayloadTooLong: 9,
    BadJob: 11,
    BadRequest: 11,
    NoProfile: 12,
    BadTaskTokens: 13,
    MissingField: 14,
    NotWrapped: 19,
}


def number_of(failure: Failure) -> int:
    return next(NUMBERS[kind] for kind in type(failure).__mro__ if kind in NUMBERS)


def success(**fields: Any) -> Response:
    return JSONResponse({"error": 0, "success": True, **fields})


def refusal(failure: Failure) -> Response:
    """The failure as an answer."""
    later = {"retry_after": failure.retry_after} if isinstance(failure, Later) else {}
    error = {"error": number_of(failure), "message": _printable(failure.message), **later}
    return JSONResponse({**error, "success": False, "result": None})


class Fields:
    """The fields of a form, which may stand in the URL too."""

    def __init__(self, said: Mapping[str, list[str]]) -> None:
        self._said = said

    def get(self, name: str) -> str | None:
        """What was said last; None where nothing was."""
        return next(iter(reversed(self._said.get(name, ()))), None) or None

    def need(self, name: str) -> str:
        """Raises MissingField."""
        if (value := self.get(name)) is None:
            raise MissingField(f"the field {name} is missing")
        return value

    def all(self, *names: str) -> list[str]:
        return [value for name in names for value in self._said.get(name, ())]


async def _fields(request: Request) -> Fields:
    """Raises BadRequest, PayloadTooLong."""
    body, size = bytearray(), 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= MOST_BYTES:
            body += chunk
        elif size > _MOST_DISCARDED:  # until then it is heard to its end, so that the answer is heard too
            break
    if size > MOST_BYTES:
        raise PayloadTooLong(f"a request has at most {MOST_BYTES} bytes")
    if body and not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise BadRequest("send the fields as application/x-www-form-urlencoded")
    said: dict[str, list[str]] = {}
    for text in (request.scope["query_string"], bytes(body)):
        try:
            found = parse_qs(text.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
        except ValueError:
            raise BadRequest(f"the form is no UTF-8, or has more than {_MOST_FIELDS} fields") from None
        for name, values in found.items():
            said.setdefault(name, []).extend(values)
    return Fields(said)


Form = Annotated[Fields, Depends(_fields)]


class Route(APIRoute):
    """A route that never answers anything but HTTP 200."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except Failure as failure:
                return refusal(failure)
            except HTTPException as error:
                return refusal(BadRequest(str(error.detail)))
            except DBAPIError as error:
                log.error("the job table cannot be reached", path=self.path, reason=str(error.orig))
                return refusal(Overloaded("the job table cannot be reached", retry_after=10))
            except Exception as error:  # a fault of our own
                log.exception("internal error", path=self.path)
                return refusal(Failure(f"internal error: {type(error).__name__}"))

        return handled


def _printable(message: str) -> str:
    """JSON that its clients can read holds no halves of characters."""
    return message.encode(errors="replace").decode()
