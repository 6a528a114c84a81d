"""The same calls as JSON over HTTP: protobuf's own mapping of messages to JSON, in camelCase, int64 as text."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToJson, ParseDict, ParseError
from google.protobuf.message import Message
from google.rpc.code_pb2 import RESOURCE_EXHAUSTED
from pydantic_core import from_json
from starlette.requests import ClientDisconnect

from daemon.api.access import bearer
from daemon.api.bodies import Route
from daemon.api.problems import wrong
from daemon.api.yandex.calls import BATCH, CREATE, DELETE, GET, GET_OPERATION, LIST, UPLOAD_URL, Call
from daemon.api.yandex.codes import HTTP_STATUS, asked, status_of, status_with
from daemon.api.yandex.thumbnails import Thumbnails
from daemon.errors import Later, NotFound, TooLarge, Unauthenticated

_PLACE = "/video/v1/thumbnails"
_ROUTES = (
    ("GET", f"{_PLACE}/{{thumbnail_id}}", GET),
    ("GET", _PLACE, LIST),
    ("POST", _PLACE, CREATE),
    ("POST", f"{_PLACE}:batchGenerateDownloadURLs", BATCH),
    ("POST", f"{_PLACE}/{{thumbnail_id}}:generateUploadURL", UPLOAD_URL),
    ("DELETE", f"{_PLACE}/{{thumbnail_id}}", DELETE),
    ("GET", "/operations/{operation_id}", GET_OPERATION),
)
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_LONGEST_NAME = 100  # characters of a field that is told
_KINDS = {FieldDescriptor.TYPE_STRING: "a text", FieldDescriptor.TYPE_INT64: "a whole number"}


def router(thumbnails: Thumbnails) -> APIRouter:
    """The routes of all calls. They stand in the service's own documentation, not in the daemon's."""
    routes = APIRouter(route_class=Route, include_in_schema=False)
    for method, path, call in _ROUTES:
        routes.add_api_route(path, _endpoint(thumbnails, call), methods=[method], name=call.name)
    # After them: whatever else is asked for gets an answer of the same form.
    routes.add_api_route("/video/v1/{rest:path}", _endpoint(thumbnails, None), methods=_METHODS)
    return routes


def _endpoint(thumbnails: Thumbnails, call: Call | None) -> Any:
    async def answer(request: Request) -> Response:
        asking = asked(call.name if call else "none")
        headers = {"X-Request-Id": asking.id}
        try:
            if call is None:
                raise NotFound("there is no such call")
            org = await thumbnails.service.authenticate(bearer(request.headers.get("authorization", "")))
            message = _message(call.request, await _fields(request))
            found = await call.run(thumbnails, org.name, message, request.headers.get("idempotency-key"))
            return _json(200, found, headers)
        except ClientDisconnect:
            raise
        except TooLarge as error:
            return _json(413, status_with(RESOURCE_EXHAUSTED, error.message, asking), headers)
        except Exception as error:  # noqa: BLE001  everything has an answer of this form
            status = status_of(error, asking)
            if isinstance(error, Later):
                headers["Retry-After"] = str(error.retry_after)
            if isinstance(error, Unauthenticated):
                headers["WWW-Authenticate"] = "Bearer"
            return _json(HTTP_STATUS[status.code], status, headers)

    return answer


async def _fields(request: Request) -> dict[str, Any]:
    """What a request says: in its body or its query, and in its path, which wins."""
    if request.method == "POST":
        body = await request.body()
        try:
            said = from_json(body, allow_inf_nan=False) if body else {}
        except ValueError as error:
            raise wrong(f"not JSON: {error}", "body") from None
        if not isinstance(said, dict):
            raise wrong("a JSON object is needed", "body")
    else:
        said = {}
        for name, value in request.query_params.multi_items():
            if name in said:
                raise wrong("it is given twice", name)
            said[name] = value
    return {**said, **request.path_params}


def _message(kind: type[Message], said: Mapping[str, Any]) -> Message:
    """Raises BadRequest, which names the field that does not fit."""
    known = {name: field for field in kind.DESCRIPTOR.fields for name in (field.name, field.json_name)}
    parents = [name for name in said if name in known and known[name].containing_oneof and said[name] is not None]
    if len(parents) > 1:
        raise wrong(f"give one of {' and '.join(parents)}", parents[0])
    message = kind()
    for name, value in said.items():
        if name not in known:
            raise wrong("there is no such field", name[:_LONGEST_NAME])
        try:
            ParseDict({name: value}, message)
        except (ParseError, ValueError, TypeError):
            field = known[name]
            what = _KINDS[field.type]
            raise wrong(f"it is {'a list of texts' if field.is_repeated else what}", name, value) from None
    return message


def _json(status: int, message: Message, headers: Mapping[str, str]) -> Response:
    text = MessageToJson(message, always_print_fields_with_no_presence=True, indent=None, ensure_ascii=False)
    return Response(text, status, headers, "application/json")
