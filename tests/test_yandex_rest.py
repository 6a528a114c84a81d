"""Yandex's REST mapping of the same calls: camelCase, int64 as text, its own errors, Idempotency-Key."""

import re
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from google.rpc import code_pb2
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from harness import until
from yandex_door import Door, opened, picture

from daemon.api.yandex.codes import CODE, HTTP_STATUS, asked, status_of
from daemon.errors import (
    BY_CODE,
    BadRequest,
    Conflict,
    FailedPrecondition,
    Failure,
    Forbidden,
    NotFound,
    Overloaded,
    QuotaExceeded,
    Unauthenticated,
)

pytestmark = pytest.mark.daemons

PLACE = "/video/v1/thumbnails"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# With fuses: the tables cannot be reached, and a fault of our own.
FAULT = """
import daemon.catalogue.operations, sqlite3
from sqlalchemy.exc import OperationalError
def no_table(): raise OperationalError("select secret", {}, sqlite3.OperationalError("disk I/O error"))
def fault(): raise ZeroDivisionError("secret")
before(daemon.catalogue.operations, "get", no_table, ALWAYS, fuse="no table")
from daemon.store.folder import Folder
before(Folder, "check", fail(errno.EIO), ALWAYS, fuse="store")
before(daemon.catalogue.operations, "get", fault, ALWAYS, fuse="fault")
"""


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, clip_folder: Any) -> Iterator[Door]:
    with opened(tmp_path_factory.mktemp("rest"), clip_folder, FAULT) as door:
        yield door


def ok(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert UUID.fullmatch(answer.headers["x-request-id"])
    return dict(answer.json())


def refused(answer: httpx.Response, status: int, code: int, said: str = "") -> str:
    """Of exactly this form; its message."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    request_id = answer.headers["x-request-id"]
    details = [{"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": request_id, "servingData": ""}]
    assert body == {"code": code, "message": body["message"], "details": details}
    assert said in body["message"], body
    return str(body["message"])


def test_the_whole_life_of_a_thumbnail(door: Door) -> None:
    operation = ok(door.rest("POST", PLACE, json={"videoId": "film"}))
    id = operation["metadata"]["thumbnailId"]
    assert operation["done"] is True and operation["createdBy"] == "acme"
    assert operation["metadata"]["@type"].endswith("CreateThumbnailMetadata")
    made = operation["response"]
    assert made["@type"] == "type.googleapis.com/yandex.cloud.video.v1.Thumbnail"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", made["createdAt"])
    assert (made["id"], made["channelId"], made["videoId"]) == (id, "acme", "film")
    assert ok(door.rest("GET", f"/operations/{operation['id']}")) == operation
    assert ok(door.rest("GET", f"{PLACE}/{id}")) == {name: made[name] for name in made if name != "@type"}
    empty = ok(
        door.rest("POST", f"{PLACE}:batchGenerateDownloadURLs", json={"channelId": "acme", "thumbnailIds": [id]})
    )
    assert empty == {"downloadUrls": [{"thumbnailId": id, "originalUrl": "", "scaledUrls": []}]}
    url = ok(door.rest("POST", f"{PLACE}/{id}:generateUploadURL"))["uploadUrl"]
    assert door.put(url, original := picture(640, 480)).status_code == 200
    [urls] = ok(
        door.rest("POST", f"{PLACE}:batchGenerateDownloadURLs", json={"channelId": "acme", "thumbnailIds": [id]})
    )["downloadUrls"]
    assert httpx.get(urls["originalUrl"]).content == original
    first = urls["scaledUrls"][0]
    assert (first["maxWidth"], first["maxHeight"], first["imageFormat"]) == ("320", "180", "JPEG")  # int64 as text
    gone = ok(door.rest("DELETE", f"{PLACE}/{id}"))
    assert gone["response"] == {"@type": "type.googleapis.com/google.protobuf.Empty"}
    refused(door.rest("GET", f"{PLACE}/{id}"), 404, code_pb2.NOT_FOUND, id)


def test_lists_page_by_page(door: Door) -> None:
    ids = [door.create(video_id="cartoon") for _ in range(3)]
    first = ok(door.rest("GET", PLACE, params={"videoId": "cartoon", "pageSize": "2"}))
    assert [each["id"] for each in first["thumbnails"]] == [ids[2], ids[1]]
    token = first["nextPageToken"]
    last = ok(door.rest("GET", PLACE, params={"video_id": "cartoon", "page_token": token}))
    assert [each["id"] for each in last["thumbnails"]] == [ids[0]] and last["nextPageToken"] == ""
    assert (
        ok(door.rest("GET", PLACE, params={"channelId": "kids", "pageSize": "1"}))["thumbnails"]
        == first["thumbnails"][:1]
    )
    empty = ok(door.rest("GET", PLACE, door.theirs, params={"videoId": "secret"}))
    assert empty == {"thumbnails": [], "nextPageToken": ""}


def test_the_same_idempotency_key_has_the_same_answer(door: Door) -> None:
    key = {"Idempotency-Key": "0b0c0d0e-1111-2222-3333-444455556666"}
    first = ok(door.rest("POST", PLACE, json={"videoId": "film"}, headers=key))
    assert ok(door.rest("POST", PLACE, json={"video_id": "film"}, headers=key)) == first
    refused(door.rest("POST", PLACE, json={"videoId": "cartoon"}, headers=key), 400, 3, "idempotency")
    id = first["response"]["id"]
    assert door.listed(video_id="film").count(id) == 1
    gone = {"Idempotency-Key": "gone"}
    deleted = ok(door.rest("DELETE", f"{PLACE}/{id}", headers=gone))
    assert ok(door.rest("DELETE", f"{PLACE}/{id}", headers=gone)) == deleted
    refused(door.rest("DELETE", f"{PLACE}/{id}"), 404, 5)
    refused(door.rest("POST", PLACE, json={"videoId": "film"}, headers={"Idempotency-Key": "x" * 201}), 400, 3)


BATCH = f"{PLACE}:batchGenerateDownloadURLs"
WRONG: list[tuple[str, str, dict[str, Any], str]] = [
    ("POST", PLACE, {"json": {}}, "video_id: name"),
    ("POST", PLACE, {"json": {"videoId": "film", "episodeId": "e"}}, "give one of"),
    ("POST", PLACE, {"json": {"videoId": 5}}, "videoId: it is a text"),
    ("POST", PLACE, {"json": {"videoId": "film", "more": 1}}, "more: there is no such field"),
    ("POST", PLACE, {"json": ["film"]}, "body: a JSON object is needed"),
    ("POST", PLACE, {"content": b"{"}, "body: not JSON"),
    ("POST", PLACE, {"content": b'{"videoId": NaN}'}, "body: not JSON"),
    ("POST", PLACE, {"content": b"\xff"}, "body: not JSON"),
    ("POST", PLACE, {"content": b'{"videoId": "\\ud800"}'}, ""),
    ("POST", BATCH, {"json": {"channelId": "acme", "thumbnailIds": "x"}}, "thumbnailIds: it is a list of texts"),
    ("POST", BATCH, {"json": {"channelId": "acme", "thumbnailIds": []}}, "thumbnail_ids: at least 1"),
    ("POST", BATCH, {"json": {"channelId": "acme", "thumbnailIds": ["x"] * 101}}, "thumbnail_ids: at least 1"),
    ("POST", BATCH, {"json": {"thumbnailIds": ["x"]}}, "channel_id: it is required"),
    ("GET", f"{PLACE}/{'x' * 51}", {}, "thumbnail_id: at most 50"),
    ("DELETE", f"{PLACE}/{'x' * 51}", {}, "thumbnail_id: at most 50"),
    ("POST", f"{PLACE}/{'x' * 51}:generateUploadURL", {}, "thumbnail_id: at most 50"),
    ("GET", PLACE, {}, "video_id: name"),
    ("GET", PLACE, {"params": {"videoId": "film", "pageSize": "101"}}, "page_size: at least 0"),
    ("GET", PLACE, {"params": {"videoId": "film", "pageSize": "-1"}}, "page_size: at least 0"),
    ("GET", PLACE, {"params": {"videoId": "film", "pageSize": "many"}}, "pageSize: it is a whole number"),
    ("GET", PLACE, {"params": {"videoId": "film", "pageSize": str(1 << 63)}}, "pageSize: it is a whole number"),
    ("GET", PLACE, {"params": {"videoId": "film", "pageToken": "forged"}}, "page_token: take it"),
    ("GET", PLACE, {"params": {"videoId": "film", "episodeId": "e"}}, "give one of"),
    ("GET", PLACE, {"params": [("videoId", "film"), ("videoId", "cartoon")]}, "videoId: it is given twice"),
    ("GET", PLACE, {"params": {"videoId": "film", "sort": "id"}}, "sort: there is no such field"),
]


@pytest.mark.parametrize(("method", "path", "sent", "said"), WRONG)
def test_what_is_wrong_is_named(door: Door, method: str, path: str, sent: dict[str, Any], said: str) -> None:
    refused(door.rest(method, path, **sent), 400, code_pb2.INVALID_ARGUMENT, said)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": ""}])
def test_each_call_wants_a_bearer_token(door: Door, headers: dict[str, str]) -> None:
    for method, path in (
        ("GET", PLACE),
        ("POST", PLACE),
        ("POST", BATCH),
        ("GET", f"{PLACE}/x"),
        ("DELETE", f"{PLACE}/x"),
        ("POST", f"{PLACE}/x:generateUploadURL"),
        ("GET", "/operations/x"),
    ):
        answer = httpx.request(method, door.url + path, headers=headers)
        refused(answer, 401, code_pb2.UNAUTHENTICATED)
        assert answer.headers["www-authenticate"] == "Bearer"
        # The keys of other services' clients are none here.
        refused(httpx.request(method, door.url + path, headers={"X-Api-Key": door.mine}), 401, 16)


def test_nothing_of_one_organisation_is_seen_by_another(door: Door) -> None:
    id = door.upload(picture(9, 9))
    operation = door.ok("Create", video_id="film")["id"]
    for method, path, sent in (
        ("GET", f"{PLACE}/{id}", {}),
        ("DELETE", f"{PLACE}/{id}", {}),
        ("POST", f"{PLACE}/{id}:generateUploadURL", {}),
        ("GET", PLACE, {"params": {"videoId": "film"}}),
        ("POST", PLACE, {"json": {"videoId": "film"}}),
        ("POST", BATCH, {"json": {"channelId": "acme", "thumbnailIds": [id]}}),
        ("POST", BATCH, {"json": {"channelId": "rival", "thumbnailIds": [id]}}),
        ("GET", f"/operations/{operation}", {}),
    ):
        refused(door.rest(method, path, door.theirs, **sent), 404, code_pb2.NOT_FOUND)  # type: ignore[arg-type]


def test_other_paths_have_an_answer_of_the_same_form(door: Door) -> None:
    for method, path in (
        ("GET", "/video/v1/videos"),
        ("PATCH", f"{PLACE}/x"),
        ("POST", f"{PLACE}/x:rename"),
        ("GET", f"{PLACE}/a/b"),
    ):
        refused(door.rest(method, path), 404, code_pb2.NOT_FOUND)


def test_states_that_do_not_fit(door: Door) -> None:
    id = door.upload(picture(9, 9))
    refused(door.rest("POST", f"{PLACE}/{id}:generateUploadURL"), 409, code_pb2.ALREADY_EXISTS)
    door.job("video:film", {"output": "thumbnail", "at": 0, "width": 64})
    made = door.listed(video_id="film")[0]
    refused(door.rest("POST", f"{PLACE}/{made}:generateUploadURL"), 400, code_pb2.FAILED_PRECONDITION)


def test_a_body_of_more_than_a_mib_is_refused(door: Door) -> None:
    answer = door.rest("POST", PLACE, content=b'{"videoId": "' + b"x" * (1 << 20) + b'"}')
    assert answer.status_code == 413


def test_faults_of_our_own_tell_nothing(door: Door) -> None:
    operation = door.ok("Create", video_id="film")["id"]
    for fuse, status, code, grpc_code in (
        ("fault", 500, code_pb2.INTERNAL, "INTERNAL"),
        ("no table", 503, code_pb2.UNAVAILABLE, "UNAVAILABLE"),
    ):
        door.site.light(fuse)
        said = refused(door.rest("GET", f"/operations/{operation}"), status, code)
        assert door.refused("Operation", operation_id=operation) == (grpc_code, said)
        assert "secret" not in said and "disk" not in said
        door.site.put_out(fuse)
    assert ok(door.rest("GET", f"/operations/{operation}"))["id"] == operation


def test_a_daemon_that_takes_nothing_in_is_unavailable_and_still_answers(door: Door) -> None:
    id = door.create()
    url = door.ok("GenerateUploadURL", thumbnail_id=id)["upload_url"]
    door.site.light("store")
    until(lambda: not door.daemon.is_ready(), "the daemon noticed")
    answer = door.rest("POST", PLACE, json={"videoId": "film"})
    refused(answer, 503, code_pb2.UNAVAILABLE, "nothing is taken in now")
    assert int(answer.headers["retry-after"]) > 0
    assert door.refused("Create", video_id="film")[0] == "UNAVAILABLE"
    assert door.put(url, picture(9, 9)).status_code == 503
    assert ok(door.rest("GET", f"{PLACE}/{id}"))["id"] == id
    with grpc.insecure_channel(door.address) as channel:
        health = HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
        assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
    door.site.put_out("store")
    until(door.daemon.is_ready, "the daemon is ready again")
    assert door.put(url, picture(9, 9)).status_code == 200


# "INVALID_ARGUMENT 400, NOT_FOUND 404, ALREADY_EXISTS 409, PERMISSION_DENIED 403, RESOURCE_EXHAUSTED 429,
#  FAILED_PRECONDITION 400, INTERNAL 500, UNAVAILABLE 503, UNAUTHENTICATED 401"
@pytest.mark.parametrize(
    ("failure", "name", "status"),
    [
        (BadRequest("x"), "INVALID_ARGUMENT", 400),
        (NotFound("x"), "NOT_FOUND", 404),
        (Conflict("x"), "ALREADY_EXISTS", 409),
        (Forbidden("x"), "PERMISSION_DENIED", 403),
        (QuotaExceeded("x"), "RESOURCE_EXHAUSTED", 429),
        (FailedPrecondition("x"), "FAILED_PRECONDITION", 400),
        (Failure("x"), "INTERNAL", 500),
        (Overloaded("x"), "UNAVAILABLE", 503),
        (Unauthenticated("x"), "UNAUTHENTICATED", 401),
    ],
)
def test_each_failure_has_its_code_and_status(failure: Failure, name: str, status: int) -> None:
    said = status_of(failure, asked("Get"))
    assert code_pb2.Code.Name(said.code) == name and HTTP_STATUS[said.code] == status


def test_every_failure_has_a_code() -> None:
    for kind in BY_CODE.values():
        assert HTTP_STATUS[status_of(kind("x"), asked("Get")).code]
    assert set(CODE.values()) <= set(HTTP_STATUS)
