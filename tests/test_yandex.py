"""Yandex Cloud Video's ThumbnailService as its own clients see it: every call through the stubs of `yandexcloud`, every
line of its table, every limit, and nothing of one organisation to another."""

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub
from harness import thumbnail, until
from yandex_door import Client, Door, opened, picture, size_of

from daemon.catalogue.operations import REMEMBERED
from daemon.tables import operations

pytestmark = pytest.mark.daemons

SERVICE = "yandex.cloud.video.v1.ThumbnailService"
BOXES = [(320, 180), (640, 360), (1280, 720)]
LONG = "x" * 51
HELD = 'before(daemon.catalogue.thumbnails, "get", hold("get"), ALWAYS, fuse="get")'
FAULT = f"import daemon.catalogue.thumbnails\n{HELD}\n"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path) -> Iterator[Door]:
    with opened(tmp_path_factory.mktemp("yandex"), clip_folder, FAULT, workers=2) as door:
        yield door


@pytest.fixture(scope="module")
def made(door: Door) -> str:
    """A thumbnail that a job made of the film."""
    door.job("video:film", thumbnail(1, name="one"))
    return door.listed(video_id="film")[0]


def raw(door: Door, call: str, request: bytes, **metadata: str) -> bytes:
    """A call whose messages are bytes."""
    sent = {"authorization": f"Bearer {door.mine}", **metadata}
    with grpc.insecure_channel(door.address) as channel:
        answer = channel.unary_unary(f"/{SERVICE}/{call}")(request, metadata=tuple(sent.items()), timeout=30)
    assert isinstance(answer, bytes)
    return answer


def text(number: int, value: str) -> bytes:
    """A text field of a message."""
    tag, data = number << 3 | 2, value.encode()
    return varint(tag) + varint(len(data)) + data


def varint(number: int) -> bytes:
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


# The six calls, and operations.


def test_the_life_of_an_upload(door: Door) -> None:
    operation = door.ok("Create", video_id="film")
    id = operation["metadata"]["thumbnail_id"]
    assert operation["done"] is True and operation["created_by"] == "acme"
    assert operation["metadata"]["@type"] == "type.googleapis.com/yandex.cloud.video.v1.CreateThumbnailMetadata"
    made = operation["response"]
    assert made.pop("@type") == "type.googleapis.com/yandex.cloud.video.v1.Thumbnail"
    assert made["id"] == id and made["channel_id"] == "acme" and made["video_id"] == "film"
    assert door.ok("Get", thumbnail_id=id) == made
    [before] = door.downloads(id)
    assert before == {"thumbnail_id": id}  # empty URLs
    original = picture(1000, 500)
    url = door.ok("GenerateUploadURL", thumbnail_id=id)["upload_url"]
    assert door.put(url, original).status_code == 200
    assert door.ok("Get", thumbnail_id=id) == made
    [after] = door.downloads(id)
    assert httpx.get(after["original_url"]).content == original
    gone = door.ok("Delete", thumbnail_id=id)
    assert gone["done"] is True and gone["metadata"]["thumbnail_id"] == id
    assert gone["metadata"]["@type"] == "type.googleapis.com/yandex.cloud.video.v1.DeleteThumbnailMetadata"
    assert gone["response"]["@type"] == "type.googleapis.com/google.protobuf.Empty"
    assert door.refused("Get", thumbnail_id=id) == ("NOT_FOUND", f"there is no thumbnail {id!r}")
    assert door.refused("Delete", thumbnail_id=id)[0] == "NOT_FOUND"
    assert id not in door.listed(video_id="film")
    for url in (after["original_url"], after["scaled_urls"][0]["url"]):
        assert httpx.get(url).status_code == 404
    assert not list(door.site.store.rglob(f"{id}/*"))


def test_waiters_find_an_operation_later_and_after_a_restart(tmp_path: Path, clip_folder: Path) -> None:
    with opened(tmp_path, clip_folder) as door:
        created = door.ok("Create", video_id="film")
        id = created["response"]["id"]
        deleted = door.ok("Delete", thumbnail_id=id)
        key, other = [("authorization", f"Bearer {door.mine}")], door.theirs
        door.daemon.signal(signal.SIGTERM)
        assert door.daemon.exit_code() == 0
        with door.site.daemon(grpc__listen=door.address) as again:
            again.ready()
            with Client(door.address) as client:
                waited = client.ask("wait", {"operation_id": created["id"]}, None, key)
                assert waited["done"] is True and waited["thumbnail"]["id"] == id
                assert client.ask("wait", {"operation_id": deleted["id"]}, None, key)["done"] is True
                known = client.call("Operation", {"operation_id": created["id"]}, door.mine)
                assert known.message == created
                hidden = client.call("Operation", {"operation_id": created["id"]}, other)
                assert (hidden.code, hidden.details) == ("NOT_FOUND", f"there is no operation {created['id']!r}")


def test_a_frame_that_a_job_made_is_a_thumbnail_like_an_uploaded_one(door: Door, made: str) -> None:
    known = door.ok("Get", thumbnail_id=made)
    assert (known["id"], known["channel_id"], known["video_id"]) == (made, "acme", "film")
    assert known["created_at"]
    assert made in door.listed(video_id="film")
    [urls] = door.downloads(made)
    assert size_of(httpx.get(urls["original_url"]).content) == ("PNG", (160, 90))


def test_a_path_that_opens_the_same_file_makes_thumbnails_of_the_video(door: Door) -> None:
    before = set(door.listed(video_id="film"))
    door.job(str(door.clip.path), thumbnail(2, name="by-path"))
    [new] = set(door.listed(video_id="film")) - before
    assert door.ok("Get", thumbnail_id=new)["video_id"] == "film"
    [urls] = door.downloads(new)
    assert httpx.get(urls["original_url"]).status_code == 200


def test_what_is_made_of_a_file_of_two_videos_belongs_to_both(door: Door) -> None:
    door.register("twin-a", door.clip.path, channel="twins")
    door.register("twin-b", door.clip.path, channel="twins")
    for at in (1, 2, 3):
        door.job(str(door.clip.path), thumbnail(at, name="twin"))
    mine, hers = door.listed(video_id="twin-a"), door.listed(video_id="twin-b")
    assert mine == hers and len(mine) >= 3
    assert door.ok("Get", thumbnail_id=mine[0])["video_id"] == "film"  # the first by id
    pages = walk(door, 1, channel_id="twins")
    assert sorted(pages) == sorted([*mine, *hers])
    assert [found["thumbnail_id"] for found in door.downloads(mine[0], channel="twins")] == [mine[0]]


def test_series_sheets_and_clips_are_no_thumbnails(door: Door) -> None:
    before = door.listed(video_id="cartoon")
    door.job(
        "video:cartoon",
        {"output": "thumbnails", "count": 3, "width": 64},
        {"output": "sprite", "count": 4, "width": 64},
        {"output": "animation", "start": 0, "duration": 1, "width": 64},
    )
    assert door.listed(video_id="cartoon") == before


def test_a_video_without_a_channel_is_in_one_named_like_its_organisation(door: Door) -> None:
    assert door.ok("Get", thumbnail_id=door.create(video_id="film"))["channel_id"] == "acme"
    assert door.ok("Get", thumbnail_id=door.create(video_id="cartoon"))["channel_id"] == "kids"


def test_a_thumbnail_of_another_channel_is_not_found(door: Door, made: str) -> None:
    id = door.create(video_id="cartoon")
    assert [found["thumbnail_id"] for found in door.downloads(id, channel="kids")] == [id]
    for channel in ("acme", "nobody", "rival"):
        refusal = door.refused("BatchGenerateDownloadURLs", channel_id=channel, thumbnail_ids=[made, id])
        assert refusal[0] == "NOT_FOUND"


def test_a_deleted_picture_of_a_job_is_no_thumbnail_but_stays_what_the_job_published(door: Door) -> None:
    report = door.job("video:film", thumbnail(3, name="stays"))
    id = door.listed(video_id="film")[0]
    [urls] = door.downloads(id)
    scaled = urls["scaled_urls"][0]["url"]
    assert httpx.get(scaled).status_code == 200
    door.ok("Delete", thumbnail_id=id)
    assert door.refused("Get", thumbnail_id=id)[0] == "NOT_FOUND"
    assert httpx.get(scaled).status_code == 404
    assert httpx.get(urls["original_url"]).status_code == 200
    assert (door.site.store / report["outputs"][0]["path"]).is_file()


# A batch of URLs.


def test_a_batch_answers_in_the_order_of_the_request_and_duplicates_twice(door: Door, made: str) -> None:
    ids = [made, door.upload(picture(50, 50)), door.create()]
    asked = [ids[2], ids[0], ids[1], ids[0]]
    found = door.downloads(*asked)
    assert [each["thumbnail_id"] for each in found] == asked
    assert found[1] == found[3]


def test_an_unknown_id_makes_the_whole_batch_not_found(door: Door, made: str) -> None:
    for unknown in ("nope", "", "\x00", "' or 1=1 --", "é"):
        refusal = door.refused("BatchGenerateDownloadURLs", channel_id="acme", thumbnail_ids=[made, unknown])
        assert refusal == ("NOT_FOUND", f"there is no thumbnail {unknown!r} in channel 'acme'")


@pytest.mark.parametrize(
    ("size", "scaled"),
    [
        ((1920, 1080), [(320, 180), (640, 360), (1280, 720)]),
        ((1001, 333), [(320, 106), (640, 213), (1001, 333)]),  # never upscaled
        ((333, 1001), [(60, 180), (120, 360), (240, 720)]),
        ((1, 3000), [(1, 180), (1, 360), (1, 720)]),
        ((3000, 1), [(320, 1), (640, 1), (1280, 1)]),
        ((160, 90), [(160, 90)] * 3),
    ],
)
def test_scaled_versions_keep_their_shape_within_each_box(
    door: Door, size: tuple[int, int], scaled: list[tuple[int, int]]
) -> None:
    [urls] = door.downloads(door.upload(picture(*size)))
    versions = urls["scaled_urls"]
    said = [(int(v["max_width"]), int(v["max_height"]), v["image_format"]) for v in versions]
    assert said == [(*box, format) for box in BOXES for format in ("JPEG", "WEBP")]
    for version, wanted in zip(versions, [box for box in scaled for _ in range(2)], strict=True):
        answer = httpx.get(version["url"], timeout=60)
        assert answer.status_code == 200, answer.text
        format = version["image_format"]
        assert size_of(answer.content) == (format, wanted)
        assert answer.headers["content-type"] == {"JPEG": "image/jpeg", "WEBP": "image/webp"}[format]


@pytest.mark.parametrize("format", ["jpeg", "webp", "avif", "png"])
def test_pictures_of_jobs_are_scaled_whatever_their_format(door: Door, format: str) -> None:
    door.job("video:film", thumbnail(1, name=f"as-{format}", format=format, width=1000, upscale=True))
    [urls] = door.downloads(door.listed(video_id="film")[0])
    for version in urls["scaled_urls"]:
        kind, (width, _) = size_of(httpx.get(version["url"], timeout=60).content)
        assert (kind, width) == (version["image_format"], min(1000, int(version["max_width"])))


def test_a_scaled_version_is_made_once_and_then_a_file(door: Door) -> None:
    id = door.upload(picture(400, 300))
    [urls] = door.downloads(id)
    url = urls["scaled_urls"][1]["url"]
    files = door.site.store / "orgs/acme/_thumbnails" / id
    assert len(list(files.iterdir())) == 1
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: httpx.get(url, timeout=60), range(8)))
    assert len({answer.content for answer in answers}) == 1
    scaled = files / "320x180.webp"
    first = scaled.stat()
    assert httpx.get(url).content == answers[0].content == scaled.read_bytes()
    assert scaled.stat() == first
    assert "max-age=" in answers[0].headers["cache-control"]


def test_urls_live_for_twelve_hours_and_only_for_what_they_were_signed(door: Door, made: str) -> None:
    [urls] = door.downloads(made)
    for url in (
        urls["original_url"],
        urls["scaled_urls"][0]["url"],
        door.ok("GenerateUploadURL", thumbnail_id=door.create())["upload_url"],
    ):
        parts = httpx.URL(url)
        left = int(parts.params["expires"]) - door.site.ask(
            lambda c: c.exec_driver_sql("select unixepoch()").scalar_one()
        )
        assert 12 * 3600 - 5 <= left <= 12 * 3600 + 60
    scaled = urls["scaled_urls"][0]["url"]
    for altered in (
        scaled.replace("320x180", "321x180"),
        scaled.replace("320x180.jpg", "640x360.jpg"),
        scaled.replace("expires=1", "expires=2"),
        scaled.partition("?")[0],
        scaled[:-1] + ("0" if scaled[-1] != "0" else "1"),
    ):
        assert httpx.get(altered).status_code == 403, altered


# Lists.


def walk(door: Door, size: int, between: Callable[[], object] = lambda: None, **parent: str) -> list[str]:
    """The ids of all pages."""
    found, token = [], ""
    while True:
        page = door.ok("List", **parent, page_size=size, page_token=token)
        found += [each["id"] for each in page.get("thumbnails", [])]
        token = page.get("next_page_token", "")
        if not token:
            return found
        between()


def test_pages_survive_inserts_and_deletions(door: Door) -> None:
    door.register("paged", door.clip.path.with_name(f"cartoon-{door.clip.path.name}"), channel="paged")
    ids = [door.create(video_id="paged") for _ in range(7)]
    stays = [id for id in reversed(ids) if id != ids[3]]
    spare = [ids[3]]

    def meddle() -> None:
        door.create(video_id="paged")
        if spare:
            door.ok("Delete", thumbnail_id=spare.pop())

    found = walk(door, 2, meddle, video_id="paged")
    assert [id for id in found if id in stays] == stays
    assert len(found) == len(set(found))


def test_a_page_token_that_was_shown_last_may_be_deleted(door: Door) -> None:
    door.register("cut", door.clip.path.with_name(f"cartoon-{door.clip.path.name}"), channel="cut")
    ids = [door.create(video_id="cut") for _ in range(4)]
    page = door.ok("List", video_id="cut", page_size=2)
    door.ok("Delete", thumbnail_id=ids[2])
    rest = door.ok("List", video_id="cut", page_size=2, page_token=page["next_page_token"])
    assert [each["id"] for each in rest["thumbnails"]] == [ids[1], ids[0]]
    assert "next_page_token" not in rest  # empty at the end


def test_the_deprecated_channel_lists_what_all_its_videos_have(door: Door) -> None:
    door.register("show", door.clip.path.with_name(f"cartoon-{door.clip.path.name}"), channel="shows")
    first = door.create(video_id="show")
    raw(door, "Create", text(1, "shows"))
    second, *others = door.listed(channel_id="shows")
    assert others == [first] == door.listed(channel_id="shows", video_id="show")
    assert walk(door, 1, channel_id="shows") == [second, first]
    assert door.refused("List", channel_id="acme", video_id="show")[0] == "NOT_FOUND"
    assert door.refused("List", channel_id="unheard-of")[0] == "NOT_FOUND"


def test_page_tokens_are_good_for_their_own_list_only(door: Door, made: str) -> None:
    door.create()
    token = door.ok("List", video_id="film", page_size=1)["next_page_token"]
    assert "thumbnails" in door.ok("List", video_id="film", page_size=1, page_token=token)
    forged = f"{'0' * 32}.{made}.film"
    for bad in (forged, token[:-1], token[1:], "abc", "é", "...", "%%%", "A" * 14_999, token + "A"):
        refusal = door.refused("List", video_id="film", page_token=bad)
        assert refusal[0] == "INVALID_ARGUMENT" and "page_token" in refusal[1], bad
    assert door.refused("List", video_id="cartoon", page_token=token)[0] == "INVALID_ARGUMENT"
    assert door.refused("List", channel_id="acme", page_token=token)[0] == "INVALID_ARGUMENT"


# Older clients.


def test_clients_from_before_april_2026_create_for_a_channel(door: Door) -> None:
    request = text(1, "kids")  # CreateThumbnailRequest {string channel_id = 1}
    raw(door, "Create", request)
    [id] = [id for id in door.listed(channel_id="kids") if "video_id" not in door.ok("Get", thumbnail_id=id)]
    known = door.ok("Get", thumbnail_id=id)
    assert known == {"id": id, "channel_id": "kids", "created_at": known["created_at"]}
    door.put(door.ok("GenerateUploadURL", thumbnail_id=id)["upload_url"], original := picture(9, 9))
    [urls] = door.downloads(id, channel="kids")
    assert httpx.get(urls["original_url"]).content == original
    door.ok("Delete", thumbnail_id=id)
    for channel in ("rival", "unheard-of"):
        with pytest.raises(grpc.RpcError) as refused:
            raw(door, "Create", text(1, channel))
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_older_clients_read_the_original_from_field_2(door: Door, made: str) -> None:
    """They call it `download_url`."""
    answer = raw(door, "BatchGenerateDownloadURLs", text(1, "acme") + text(2, made))
    [urls] = door.downloads(made)
    assert text(1, made) + text(2, urls["original_url"]) in answer


# Limits: (call, request, what is wrong with it).

FIFTY = "x" * 50
INVALID: list[tuple[str, dict[str, Any], str]] = [
    *((call, {"thumbnail_id": ""}, "thumbnail_id: it is required") for call in ("Get", "GenerateUploadURL", "Delete")),
    *((call, {"thumbnail_id": LONG}, "thumbnail_id: at most 50") for call in ("Get", "GenerateUploadURL", "Delete")),
    ("List", {}, "video_id: name"),
    ("List", {"video_id": ""}, "video_id: it is required"),
    ("List", {"video_id": LONG}, "video_id: at most 50"),
    ("List", {"episode_id": LONG}, "episode_id: at most 50"),
    ("List", {"channel_id": LONG}, "channel_id: at most 50"),
    ("List", {"video_id": "film", "page_size": 101}, "page_size: at least 0 and at most 100"),
    ("List", {"video_id": "film", "page_size": -1}, "page_size: at least 0 and at most 100"),
    ("List", {"video_id": "film", "page_token": "x" * 15_001}, "page_token: at most 15000"),
    ("List", {"video_id": "film", "page_token": "x" * 15_000}, "page_token: take it from"),
    ("Create", {}, "video_id: name"),
    ("Create", {"video_id": ""}, "video_id: it is required"),
    ("Create", {"episode_id": ""}, "episode_id: it is required"),
    ("Create", {"video_id": LONG}, "video_id: at most 50"),
    ("BatchGenerateDownloadURLs", {"thumbnail_ids": ["x"]}, "channel_id: it is required"),
    ("BatchGenerateDownloadURLs", {"channel_id": LONG, "thumbnail_ids": ["x"]}, "channel_id: at most 50"),
    ("BatchGenerateDownloadURLs", {"channel_id": "acme"}, "thumbnail_ids: at least 1 and at most 100"),
    ("BatchGenerateDownloadURLs", {"channel_id": "acme", "thumbnail_ids": ["x"] * 101}, "thumbnail_ids: at least 1"),
    ("BatchGenerateDownloadURLs", {"channel_id": "acme", "thumbnail_ids": ["x", LONG]}, "thumbnail_ids[1]: at most 50"),
    ("Operation", {"operation_id": ""}, "operation_id: it is required"),
    ("Operation", {"operation_id": LONG}, "operation_id: at most 50"),
]
UNKNOWN: list[tuple[str, dict[str, Any]]] = [
    *((call, {"thumbnail_id": FIFTY}) for call in ("Get", "GenerateUploadURL", "Delete")),
    *((call, {"thumbnail_id": "\x00"}) for call in ("Get", "GenerateUploadURL", "Delete")),
    ("List", {"video_id": FIFTY}),
    ("List", {"video_id": "\x00"}),
    ("List", {"episode_id": FIFTY}),
    ("List", {"channel_id": FIFTY}),
    ("Create", {"video_id": FIFTY}),
    ("Create", {"episode_id": "e"}),
    ("BatchGenerateDownloadURLs", {"channel_id": FIFTY, "thumbnail_ids": ["x"]}),
    ("BatchGenerateDownloadURLs", {"channel_id": "acme", "thumbnail_ids": [FIFTY]}),
    ("Operation", {"operation_id": FIFTY}),
    ("Operation", {"operation_id": "\x00"}),
]


@pytest.mark.parametrize(("call", "request_", "why"), INVALID)
def test_what_is_beyond_a_limit_is_an_invalid_argument(
    door: Door, call: str, request_: dict[str, Any], why: str
) -> None:
    code, details = door.refused(call, **request_)
    assert code == "INVALID_ARGUMENT" and details.startswith(why), details


@pytest.mark.parametrize(("call", "request_"), UNKNOWN)
def test_what_does_not_exist_is_not_found(door: Door, call: str, request_: dict[str, Any]) -> None:
    assert door.refused(call, **request_)[0] == "NOT_FOUND"


def test_the_most_that_is_allowed_is_answered(door: Door, made: str) -> None:
    assert len(door.downloads(*[made] * 100)) == 100
    assert len(door.downloads(made)) == 1
    assert door.ok("List", video_id="film", page_size=100)["thumbnails"]
    assert len(door.ok("List", video_id="film", page_size=1)["thumbnails"]) == 1
    assert door.ok("List", video_id="film", page_size=0) == door.ok("List", video_id="film")


# Who may.


def test_each_call_wants_a_bearer_token(door: Door, made: str) -> None:
    requests: dict[str, dict[str, Any]] = {
        "Get": {"thumbnail_id": made},
        "List": {"video_id": "film"},
        "Create": {"video_id": "film"},
        "BatchGenerateDownloadURLs": {"channel_id": "acme", "thumbnail_ids": [made]},
        "GenerateUploadURL": {"thumbnail_id": made},
        "Delete": {"thumbnail_id": made},
        "Operation": {"operation_id": "x"},
    }
    for call, request in requests.items():
        for metadata in (
            [],
            [("authorization", "Bearer wrong")],
            [("authorization", door.mine)],
            [("x-api-key", door.mine)],
        ):
            answer = door.client.call(call, request, None, metadata)
            assert answer.code == "UNAUTHENTICATED" and answer.request_id, (call, answer)


def test_nothing_of_one_organisation_is_seen_by_another(door: Door, made: str) -> None:
    """Another's looks exactly like what does not exist."""
    upload = door.create()
    operation = door.ok("Create", video_id="film")["id"]
    asked: list[tuple[str, dict[str, Any], str]] = [
        *((call, {"thumbnail_id": id}, id) for call in ("Get", "GenerateUploadURL", "Delete") for id in (made, upload)),
        ("List", {"video_id": "film"}, "film"),
        ("List", {"channel_id": "acme"}, "acme"),
        ("List", {"channel_id": "kids"}, "kids"),
        ("Create", {"video_id": "film"}, "film"),
        ("BatchGenerateDownloadURLs", {"channel_id": "acme", "thumbnail_ids": [made]}, "acme"),
        ("BatchGenerateDownloadURLs", {"channel_id": "rival", "thumbnail_ids": [made]}, made),
        ("Operation", {"operation_id": operation}, operation),
    ]
    for call, request, id in asked:
        nothing = "n" * len(id)
        missing = {
            name: nothing if value == id else [nothing] if value == [id] else value for name, value in request.items()
        }
        theirs, none = door.refused(call, door.theirs, **request), door.refused(call, door.theirs, **missing)
        assert theirs[0] == "NOT_FOUND"
        assert theirs[1].replace(id, nothing) == none[1], call
    assert door.ok("Get", thumbnail_id=made) and door.ok("Get", thumbnail_id=upload)
    assert door.listed(door.theirs, video_id="secret") == []


def test_page_tokens_of_another_organisation_are_bad(door: Door) -> None:
    for _ in range(2):
        door.create(door.theirs, video_id="secret")
    token = door.ok("List", door.theirs, video_id="secret", page_size=1)["next_page_token"]
    assert door.refused("List", video_id="film", page_token=token)[0] == "INVALID_ARGUMENT"


# The same request again.


def test_a_request_under_the_same_key_is_answered_as_before(door: Door) -> None:
    key = [("idempotency-key", "5e3a0e4e-aaaa-4bbb-8ccc-1234567890ab")]
    first, again = (door.client.call("Create", {"video_id": "film"}, door.mine, key) for _ in range(2))
    assert first.code == "OK" and first.message == again.message
    id = first.message["response"]["id"]
    assert door.listed(video_id="film").count(id) == 1
    other = door.client.call("Create", {"video_id": "cartoon"}, door.mine, key)
    assert other.code == "INVALID_ARGUMENT" and "idempotency" in other.details
    rival = door.client.call("Create", {"video_id": "secret"}, door.theirs, key)
    assert rival.code == "OK"
    gone = [("idempotency-key", "delete-it")]
    deleted = [door.client.call("Delete", {"thumbnail_id": id}, door.mine, gone) for _ in range(2)]
    assert deleted[0].code == "OK" and deleted[0].message == deleted[1].message
    day_ago = operations.update().where(operations.c.id == first.message["id"])
    door.site.ask(lambda c: c.execute(day_ago.values(created_at=operations.c.created_at - REMEMBERED - 1)))
    later = door.client.call("Create", {"video_id": "film"}, door.mine, key)
    assert later.code == "OK" and later.message["id"] != first.message["id"]
    for bad in ("x" * 201,):
        assert (
            door.client.call("Create", {"video_id": "film"}, door.mine, [("idempotency-key", bad)]).code
            == "INVALID_ARGUMENT"
        )


# The server.


def test_a_deadline_and_a_cancellation_end_a_call(door: Door, made: str) -> None:
    door.site.light("get")
    late = door.client.call("Get", {"thumbnail_id": made}, door.mine, timeout=0.3)
    assert late.code == "DEADLINE_EXCEEDED"
    cancelled = door.client.call("Get", {"thumbnail_id": made}, door.mine, cancel=0.2)
    assert cancelled.code == "CANCELLED"
    door.site.put_out("get")
    door.site.put_out("get.held")
    assert door.ok("Get", thumbnail_id=made)
    name = f'thumbd_grpc_requests_total{{code="CANCELLED",method="/{SERVICE}/Get"}}'
    until(lambda: door.daemon.metrics().get(name) == 2, "both were ended on the server too")


def test_messages_of_more_than_a_mib_are_refused(door: Door) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        raw(door, "Get", text(1, "x" * (1 << 20)))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises(grpc.RpcError) as read:
        raw(door, "Get", text(1, "x" * ((1 << 20) - 100)))
    assert read.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_what_is_no_message_ends_nothing(door: Door, made: str) -> None:
    with pytest.raises(grpc.RpcError):
        raw(door, "Get", b"\xff\xff\xff")
    with pytest.raises(grpc.RpcError) as unknown:
        raw(door, "Rename", b"")
    assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert door.ok("Get", thumbnail_id=made)


def test_health_says_ready_and_reflection_is_off(door: Door) -> None:
    with grpc.insecure_channel(door.address) as channel:
        for service in ("", SERVICE, "yandex.cloud.operation.OperationService"):
            answer = HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        asked = iter([ServerReflectionRequest(list_services="")])
        with pytest.raises(grpc.RpcError) as off:
            list(ServerReflectionStub(channel).ServerReflectionInfo(asked, timeout=30))
        assert off.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_who_watches_leaves_room_for_calls(door: Door, made: str) -> None:
    """No key is needed to watch, and it never ends."""
    with grpc.insecure_channel(door.address) as channel:
        asked = health_pb2.HealthCheckRequest(service=SERVICE)
        watching = [HealthStub(channel).Watch(asked, timeout=60) for _ in range(50)]
        assert {next(each).status for each in watching} == {health_pb2.HealthCheckResponse.SERVING}
        with pytest.raises(grpc.RpcError) as full:
            next(HealthStub(channel).Watch(asked, timeout=60))
        assert full.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert door.ok("Get", thumbnail_id=made)
        for each in watching:
            each.cancel()


def test_who_looks_at_the_reflection_leaves_room_for_calls(tmp_path: Path, clip_folder: Path) -> None:
    """No key is needed for that either, and its end is the client's business."""
    with opened(tmp_path, clip_folder, grpc__reflection="true") as door, grpc.insecure_channel(door.address) as channel:
        over = threading.Event()

        def asking() -> Iterator[ServerReflectionRequest]:
            yield ServerReflectionRequest(list_services="")
            over.wait(60)

        looking = [ServerReflectionStub(channel).ServerReflectionInfo(asking(), timeout=60) for _ in range(50)]
        assert all(next(each).list_services_response.service for each in looking)
        with pytest.raises(grpc.RpcError) as full:
            next(ServerReflectionStub(channel).ServerReflectionInfo(asking(), timeout=60))
        assert full.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert door.create()
        over.set()
        assert all(list(each) == [] for each in looking)
        [again] = ServerReflectionStub(channel).ServerReflectionInfo(asking(), timeout=60)
        assert again.list_services_response.service


def test_metrics_count_calls(door: Door, made: str) -> None:
    name = f'thumbd_grpc_requests_total{{code="OK",method="/{SERVICE}/Get"}}'
    before = door.daemon.metrics().get(name, 0)
    door.ok("Get", thumbnail_id=made)
    assert door.daemon.metrics()[name] == before + 1


def test_logs_hold_no_keys_and_no_signatures(door: Door, made: str) -> None:
    [urls] = door.downloads(made)
    httpx.get(urls["scaled_urls"][0]["url"])
    log = door.daemon.log_file.read_text()
    assert door.mine not in log and "signature=" not in log


def test_a_drain_ends_calls_in_order_and_health_says_so(tmp_path: Path, clip_folder: Path) -> None:
    with opened(tmp_path, clip_folder, grpc__reflection="true", grace=20) as door:
        id = door.create()
        with grpc.insecure_channel(door.address) as channel:
            asked = iter([ServerReflectionRequest(list_services="")])
            [listed] = ServerReflectionStub(channel).ServerReflectionInfo(asked, timeout=30)
            assert SERVICE in [each.name for each in listed.list_services_response.service]
            watching = HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=60)
            assert next(watching).status == health_pb2.HealthCheckResponse.SERVING
            assert door.ok("Get", thumbnail_id=id)
            door.daemon.signal(signal.SIGTERM)
            states = []
            with pytest.raises(grpc.RpcError):
                for state in watching:
                    states.append(state.status)
            assert states == [health_pb2.HealthCheckResponse.NOT_SERVING]
        assert door.daemon.exit_code() == 0


def test_a_port_that_is_taken_is_named(tmp_path: Path, clip_folder: Path) -> None:
    with opened(tmp_path, clip_folder) as door, door.site.daemon(grpc__listen=door.address) as second:
        assert second.exit_code() == 2
        assert f"grpc.listen {door.address}" in second.log_file.read_text()
