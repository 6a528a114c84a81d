"""Routes whose bodies and parameters are strict: every wrong one is named with its place and value."""

from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from typing import Any, ClassVar

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope

from daemon.api.problems import wrong
from daemon.complaints import complaints_of
from daemon.errors import BadRequest, Complaint, TooLarge

MAX_BODY = 1 << 20  # bytes
_MOST_COMPLAINTS = 8


class _StrictRequest(Request):
    """Its body is read no further than may be; its JSON by a parser that lets no NaN, no half of a character and no
    bottomless nesting pass."""

    def __init__(self, scope: Scope, receive: Receive, most: int | None) -> None:
        super().__init__(scope, receive)
        self._most = most

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Raises TooLarge."""
        length = 0
        async for chunk in super().stream():
            length += len(chunk)
            if self._most is not None and length > self._most:
                raise TooLarge(f"the body is longer than {self._most} bytes")
            yield chunk

    async def json(self) -> Any:
        try:
            return from_json(await self.body(), allow_inf_nan=False)
        except ValueError as error:
            raise wrong(f"not JSON: {error}", "body") from None


class Route(APIRoute):
    """A route that reads its body strictly. Raises BadRequest, TooLarge."""

    most: ClassVar[int | None] = MAX_BODY  # bytes

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(_StrictRequest(request.scope, request.receive, self.most))
            except RequestValidationError as error:
                raise refusal(_complaints(error)) from None
            except HTTPException as error:  # FastAPI's word for whatever comes of reading a body
                if isinstance(error.__cause__, BadRequest):
                    raise error.__cause__ from None
                raise

        return handled


class UploadRoute(Route):
    """A route that takes its body piece by piece, and has a limit of its own."""

    most = None


def refusal(complaints: Sequence[Complaint]) -> BadRequest:
    """All that is wrong with a request, in one failure."""
    return BadRequest("; ".join(f"{c.place}: {c.message}" for c in complaints), complaints)


def _complaints(error: RequestValidationError) -> list[Complaint]:
    """Each place begins with where it is: body, query, path or header."""
    found = []
    for entry in error.errors()[:_MOST_COMPLAINTS]:
        where, *within = entry["loc"]
        [complaint] = complaints_of([{**entry, "loc": tuple(within)}])
        if isinstance(complaint.value, bytes):
            complaint = Complaint("send the body as application/json", complaint.place, None)
        place = f"{where}.{complaint.place}" if complaint.place else str(where)
        found.append(Complaint(complaint.message, place, complaint.value))
    return found
