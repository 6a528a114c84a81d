"""Qencode's transcoding API, as far as it makes pictures and clips: an access token, a task, its start, its status.

A task is one job. Its files lie in the store for a while, below URLs that are signed for their folder, so that the
names in a WebVTT lead to its pictures.
"""

import re
from datetime import UTC, datetime
from fractions import Fraction
from functools import partial
from time import time
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse
from sqlalchemy import Connection

from daemon.api.access import TheService
from daemon.api.bodies import Route as StrictRoute
from daemon.api.files import file_response
from daemon.api.problems import Problem
from daemon.api.qencode_answers import BadKey, BadTaskTokens, BadToken, Form, NoProfile, Route, number_of, success
from daemon.api.qencode_status import DIALECT, SIGNED, Teller
from daemon.catalogue import organisations, qencode
from daemon.catalogue.qencode import QencodeTask
from daemon.dialects.qencode import MAX_PAYLOAD, PayloadTooLong, in_its_words, read_query
from daemon.errors import BadJob, Forbidden, NotFound
from daemon.files import MANIFEST
from daemon.jobs import errands, table
from daemon.jobs.row import Known
from daemon.service import Service
from daemon.threads import in_thread
from daemon.times import Time

UPLOADS = "/v1/upload_file"
STATUS = "/v1/status"
PATHS = re.compile(rf"/v1/(access_token|create_task|start_encode2?|status)|{UPLOADS}(/.*)?")
_METHODS = ["GET", "POST"]
_MOST_TASKS = 100  # in one question after their status
_ANY_SIZE = 1 << 62
_UNKNOWN = "there is no such task, or it is not started yet"
_NO_TASK = {"status": None, "error": number_of(BadTaskTokens("")), "error_description": _UNKNOWN}


def router(teller: Teller) -> APIRouter:
    """The routes. They answer HTTP 200 always; GET and repeated slashes are what some of its clients send. They
    stand in the service's own documentation, not in the daemon's."""
    # What comes is counted as it is read: who sends too much is answered as all others are.
    api = APIRouter(route_class=Route, include_in_schema=False)

    @api.api_route("/v1/access_token", methods=_METHODS, openapi_extra=_form("api_key"))
    async def access_token(service: TheService, form: Form) -> Response:
        """A token for an API key. `expire` is in UTC."""
        key = form.need("api_key")
        if not re.fullmatch(r"[!-~]{12,200}", key):
            raise BadKey("the API key is none: it has 12 characters at least, and no spaces")
        org = await service.authenticate(key)
        token, expires = await service.ask(lambda c: qencode.give_token(c, org.name, teller.lives.token))
        return success(token=token, expire=f"{datetime.fromtimestamp(int(expires), UTC):%Y-%m-%dT%H:%M:%S}")

    @api.api_route("/v1/create_task", methods=_METHODS, openapi_extra=_form("token"))
    async def create_task(service: TheService, form: Form) -> Response:
        """A task, and where its source may be uploaded to."""
        token = _token(form.need("token"), "token")

        def create(connection: Connection) -> QencodeTask:
            if (org := qencode.org_of_token(connection, token)) is None:
                raise NotFound("the token is not known, or has expired: ask for another one")
            _check_organisation(connection, org)
            return qencode.create_task(connection, org)

        task = await service.ask(create)
        return success(task_token=task.token, upload_url=service.terms.public_url + UPLOADS)

    @api.api_route("/v1/start_encode2", methods=_METHODS, openapi_extra=_form("task_token", "query", "payload"))
    async def start_encode2(service: TheService, form: Form) -> Response:
        """Starts a task, once. When this is answered it has a status."""
        token, query, payload = form.need("task_token"), form.need("query"), form.get("payload")
        task = await _task(service, token)
        if payload is not None and len(payload) > MAX_PAYLOAD:
            raise PayloadTooLong(f"payload: has at most {MAX_PAYLOAD} characters")
        job = read_query(query.encode(), payload)
        job = job.model_copy(update={"ttl": Time(Fraction(teller.lives.files))})
        try:
            await service.submit(task.org, job, via=DIALECT, dialect=DIALECT, also=partial(_start, task))
        except BadJob as bad:
            raise in_its_words(bad) from None
        return success(status_url=service.terms.public_url + STATUS)

    @api.api_route("/v1/start_encode", methods=_METHODS, openapi_extra=_form("task_token", "profiles", "uri"))
    async def start_encode(service: TheService, form: Form) -> Response:
        """By stored profiles, which there are none of here."""
        await _task(service, form.need("task_token"))
        raise NoProfile("there are no stored profiles here: say what is wanted in the query of start_encode2")

    @api.api_route(STATUS, methods=_METHODS, openapi_extra=_form("task_tokens"))
    async def status(service: TheService, form: Form) -> Response:
        """How far tasks are. `task_tokens`: one, or several with commas between them, or the field several times."""
        said = ",".join(form.all("task_tokens", "task_tokens[]", "task_token"))
        tokens = list(dict.fromkeys(token.strip() for token in said.split(",") if token.strip()))
        if not tokens or len(tokens) > _MOST_TASKS or not all(map(_is_token, tokens)):
            raise BadTaskTokens(f"task_tokens: one to {_MOST_TASKS} task tokens are needed, with commas between them")
        found = await service.ask(lambda c: {token: _found(c, token) for token in tokens})
        if not any(found.values()):
            raise BadTaskTokens(f"task_tokens: {_UNKNOWN}")
        at = {"status_url": service.terms.public_url + STATUS}
        # Long series have many URLs to sign: not on the event loop.
        told = await in_thread(lambda: {t: teller.status(*one) | at if one else _NO_TASK for t, one in found.items()})
        return success(statuses=told)

    files = APIRouter(route_class=StrictRoute, include_in_schema=False)

    @files.api_route(
        "/v1/temporary/{expires}/{key}/{signature}/{path:path}",
        methods=["GET", "HEAD"],
        response_class=FileResponse,
        responses={
            200: {"content": {"application/octet-stream": {}}},
            403: {"model": Problem},
            404: {"model": Problem},
        },
    )
    async def temporary_file(
        request: Request, service: TheService, expires: str, key: str, signature: str, path: str
    ) -> Response:
        """A file of a task. The URL comes with the task's status, and is good for all files beside it."""
        folder, _, name = path.rpartition("/")
        if not service.signer.is_signed(SIGNED, folder, expires, key, signature, time()):
            raise Forbidden("this URL is not signed by this daemon, or has expired: ask for the task's status again")
        if name == MANIFEST:
            raise NotFound("there is no such file")
        left = max(0, int(expires) - int(time()))
        answer = await file_response(request, service.store, path, f"private, max-age={left}")
        answer.headers["Access-Control-Allow-Origin"] = "*"  # players fetch a WebVTT from pages of other hosts
        return answer

    whole = APIRouter()
    whole.include_router(api)
    whole.include_router(files)
    return whole


def _form(*names: str) -> dict[str, Any]:
    """The fields, for the OpenAPI document."""
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
    return {"requestBody": {"content": {"application/x-www-form-urlencoded": {"schema": schema}}}}


def _is_token(token: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{32}", token) is not None


def _token(token: str, name: str) -> str:
    if not _is_token(token):
        raise BadToken(f"{name}: is no token: it has 32 characters, 0 to 9 and a to f")
    return token


def _check_organisation(connection: Connection, org: str) -> None:
    if organisations.get(connection, org) is None:
        raise Forbidden("the organisation that this token was given to is not here any more")


async def _task(service: Service, token: str) -> QencodeTask:
    """A task that is not started yet. Raises BadToken, NotFound, Forbidden."""
    _token(token, "task_token")

    def find(connection: Connection) -> QencodeTask:
        if (found := qencode.task(connection, token)) is None:
            raise NotFound("task_token: there is no such task")
        _check_organisation(connection, found.org)
        return found

    task = await service.ask(find)
    if task.job is not None:
        raise _started()
    return task


def _start(task: QencodeTask, connection: Connection, job: str) -> None:
    if not qencode.start(connection, task.token, job):
        raise _started()


def _started() -> BadToken:
    return BadToken("task_token: this task was started already: create another one")


def _found(connection: Connection, token: str) -> tuple[Known, list[errands.Known]] | None:
    """What is known of a task's job, and of what follows it."""
    task = qencode.task(connection, token)
    known = table.get(connection, task.org, task.job) if task is not None and task.job is not None else None
    return None if known is None else (known, errands.of(connection, known.key))
