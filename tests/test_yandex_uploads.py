"""Uploads by signed URLs: whole or not at all, what they say they are, within the limits, and served as they came."""

import io
import struct
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from harness import until
from PIL import Image
from yandex_door import KINDS, Client, Door, opened, picture, size_of

from daemon.catalogue.signing import signer

pytestmark = pytest.mark.daemons

LIMIT, PIXELS = 200_000, 4_000_000
# With a fuse each: killed before an upload is where it belongs, and after that, before its row says so; no room.
FAULT = """
import daemon.catalogue.thumbnails, daemon.store.folder
before(Path, "rename", die, only=to("_thumbnails"), fuse="before")
before(daemon.catalogue.thumbnails, "uploaded", die, fuse="after")
before(os, "sendfile", fail(errno.ENOSPC), ALWAYS, fuse="full")
"""


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path) -> Iterator[Door]:
    settings = {"yandex__upload_bytes": LIMIT, "yandex__upload_pixels": PIXELS, "store__background": "#00ff00"}
    with opened(tmp_path_factory.mktemp("uploads"), clip_folder, FAULT, **settings) as door:
        yield door


def url_of(door: Door, id: str) -> str:
    return str(door.ok("GenerateUploadURL", thumbnail_id=id)["upload_url"])


def refused(door: Door, data: bytes, kind: str = "image/png") -> httpx.Response:
    """The answer to an upload, after which nothing is there."""
    id = door.create()
    answer = door.put(url_of(door, id), data, kind)
    assert door.downloads(id) == [{"thumbnail_id": id}]
    assert not list(door.site.store.rglob(f"{id}/*"))
    assert answer.headers["content-type"] == "application/problem+json"
    return answer


def png_header(width: int, height: int) -> bytes:
    """A PNG that says this size and holds hardly anything."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def animated(format: str) -> bytes:
    file = io.BytesIO()
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "green", "blue")]
    frames[0].save(file, format, save_all=True, append_images=frames[1:], duration=100)
    return file.getvalue()


def turned() -> bytes:
    """A JPEG that lies on its side, as phones make them."""
    file = io.BytesIO()
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (400, 200)).save(file, "jpeg", exif=exif)
    return file.getvalue()


@pytest.mark.parametrize(
    ("format", "original", "box"),
    [
        ("png", picture(300, 200), (270, 180)),
        ("png", picture(300, 200, "png", bits=8, optimize=True), (270, 180)),
        ("jpeg", picture(300, 200, "jpeg", quality=90, progressive=True), (270, 180)),
        ("jpeg", turned(), (90, 180)),
        ("jpeg", picture(300, 200, "jpeg", icc_profile=bytes(100_000)), (270, 180)),
        ("gif", picture(300, 200, "gif"), (270, 180)),
        ("gif", animated("gif"), (40, 30)),
        ("png", animated("png"), (40, 30)),
        ("png", picture(1, 1), (1, 1)),
    ],
    ids=[
        "png",
        "png of few colours",
        "jpeg",
        "turned jpeg",
        "jpeg of a large profile",
        "gif",
        "moving gif",
        "moving png",
        "one pixel",
    ],
)
def test_the_original_is_served_byte_for_byte_with_its_own_type(
    door: Door, format: str, original: bytes, box: tuple[int, int]
) -> None:
    id = door.upload(original, KINDS[format])
    [urls] = door.downloads(id)
    answer = httpx.get(urls["original_url"])
    assert answer.content == original
    assert answer.headers["content-type"] == KINDS[format]
    assert answer.headers["x-content-type-options"] == "nosniff"
    for version in urls["scaled_urls"][:2]:
        assert size_of(httpx.get(version["url"], timeout=60).content)[1] == box


def test_what_is_transparent_is_laid_over_the_background(door: Door) -> None:
    clear = io.BytesIO()
    Image.new("RGBA", (64, 64), (255, 255, 255, 0)).save(clear, "png")
    [urls] = door.downloads(door.upload(clear.getvalue()))
    jpeg = Image.open(io.BytesIO(httpx.get(urls["scaled_urls"][0]["url"]).content)).convert("RGB")
    red, green, blue = jpeg.getpixel((32, 32))  # type: ignore[misc]
    assert green > 240 and red < 16 and blue < 16


def test_other_types_are_refused(door: Door) -> None:
    for kind in ("image/webp", "text/html", "application/octet-stream", "image/svg+xml", "", "image"):
        answer = refused(door, picture(10, 10), kind)
        assert answer.status_code == 415 and "image/png, image/jpeg, image/gif" in answer.json()["detail"]


def test_the_type_may_have_parameters_and_any_case(door: Door) -> None:
    id = door.create()
    assert door.put(url_of(door, id), picture(10, 10), "Image/PNG; charset=binary").status_code == 200


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("png", picture(10, 10, "jpeg")),
        ("jpeg", picture(10, 10, "png")),
        ("gif", picture(10, 10, "webp")),
        ("png", b"<script>alert(1)</script>" * 100),
        ("jpeg", b""),
        ("png", b"\x89PNG\r\n\x1a\n"),
    ],
    ids=["jpeg as png", "png as jpeg", "webp as gif", "a script", "nothing", "the signature alone"],
)
def test_a_picture_that_is_not_what_it_says_is_refused(door: Door, kind: str, data: bytes) -> None:
    answer = refused(door, data, KINDS[kind])
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["location"] == "header.content-type"


@pytest.mark.parametrize("format", ["png", "jpeg"])
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_truncated_picture_is_refused(door: Door, format: str, part: float) -> None:
    whole = picture(600, 400, format)
    answer = refused(door, whole[: int(len(whole) * part)], KINDS[format])
    assert answer.status_code == 422, answer.text


def test_a_truncated_gif_is_refused(door: Door) -> None:
    whole = picture(600, 400, "gif")
    answer = refused(door, whole[: len(whole) // 20], KINDS["gif"])
    assert answer.status_code == 422, answer.text


def test_a_bomb_is_refused_before_anything_decodes_it(door: Door) -> None:
    answer = refused(door, png_header(30_000, 30_000))
    assert answer.status_code == 422 and answer.json()["code"] == "source_refused"
    assert "30000x30000" in answer.json()["detail"]


def test_one_pixel_more_than_allowed_is_too_large(door: Door) -> None:
    assert door.upload(picture(2000, 2000))
    answer = refused(door, picture(2000, 2001))
    assert answer.status_code == 422 and str(PIXELS) in answer.json()["detail"]


def test_one_byte_more_than_allowed_is_too_large(door: Door) -> None:
    small = picture(10, 10)
    padded = small + bytes(LIMIT - len(small))
    assert door.upload(padded)
    answer = refused(door, padded + b"\0")
    assert answer.status_code == 413 and str(LIMIT) in answer.json()["detail"]


def test_a_body_that_does_not_say_how_long_it_is_is_bounded_too(door: Door) -> None:
    id = door.create()
    parts = (bytes(10_000) for _ in range(1000))
    try:
        answer = httpx.put(url_of(door, id), content=parts, headers={"Content-Type": "image/png"}, timeout=60)
        assert answer.status_code == 413
    except httpx.WriteError:
        pass  # it was cut off before the client listened
    assert door.downloads(id) == [{"thumbnail_id": id}]


def test_a_signed_url_is_good_for_its_own_thumbnail_method_and_time(door: Door) -> None:
    id, other = door.create(), door.create()
    url = url_of(door, id)
    data = picture(10, 10)
    for altered in (
        url.replace(id, other),
        url.replace("expires=1", "expires=2"),
        url.replace("expires=1", "expires=0"),
        url.partition("?")[0],
        url.replace("signature=", "signature=0"),
    ):
        answer = door.put(altered, data)
        assert answer.status_code == 403, altered
    assert httpx.get(url).status_code in (404, 405)
    [scaled] = {door.downloads(door.upload(data))[0]["scaled_urls"][0]["url"]}
    assert httpx.put(scaled, content=data).status_code in (404, 405)
    assert door.put(url, data).status_code == 200


def test_an_expired_url_is_forbidden(door: Door) -> None:
    place = f"/uploads/{door.create()}"
    made = door.site.ask(signer)
    for seconds, status in ((-2, 403), (60, 200)):
        url = f"{door.url}{place}?{made.sign('PUT', place, int(time.time()) + seconds)}"
        assert door.put(url, picture(10, 10)).status_code == status


def test_an_upload_for_a_thumbnail_that_was_deleted_is_not_found(door: Door) -> None:
    id = door.create()
    url = url_of(door, id)
    door.ok("Delete", thumbnail_id=id)
    assert door.put(url, picture(10, 10)).status_code == 404


def test_the_same_picture_may_come_twice_another_one_may_not(door: Door) -> None:
    first, second = picture(10, 10), picture(11, 11)
    id = door.create()
    url = url_of(door, id)
    assert door.put(url, first).status_code == 200
    assert door.put(url, first).status_code == 200
    assert door.put(url, second).status_code == 409
    assert door.refused("GenerateUploadURL", thumbnail_id=id)[0] == "ALREADY_EXISTS"
    [urls] = door.downloads(id)
    assert httpx.get(urls["original_url"]).content == first


def test_uploads_at_once_leave_one_of_them_whole(door: Door) -> None:
    id = door.create()
    url = url_of(door, id)
    pictures = [picture(10 + number, 20) for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        statuses = [answer.status_code for answer in pool.map(lambda data: door.put(url, data), pictures)]
    assert sorted(statuses) == [200, *[409] * 5]
    [urls] = door.downloads(id)
    assert httpx.get(urls["original_url"]).content == pictures[statuses.index(200)]
    assert len(list(door.site.store.rglob(f"{id}/*"))) == 1


def test_the_picture_of_a_job_takes_no_upload(door: Door) -> None:
    door.job("video:film", {"output": "thumbnail", "at": 0, "width": 64})
    id = door.listed(video_id="film")[0]
    assert door.refused("GenerateUploadURL", thumbnail_id=id)[0] == "FAILED_PRECONDITION"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_in_the_middle_there_is_no_upload_or_a_whole_one(tmp_path: Path, clip_folder: Path, moment: str) -> None:
    with opened(tmp_path, clip_folder, FAULT) as door:
        id = door.create()
        url = url_of(door, id)
        door.site.light(moment)
        original = picture(100, 100)
        with pytest.raises(httpx.TransportError):
            door.put(url, original)
        door.daemon.killed()
        strays = [door.site.store / "orgs/acme/_thumbnails" / "01AAAAAAAAAAAAAAAAAAAAAAAA"]
        strays.append(door.site.store / "_thumbnails/01BBBBBBBBBBBBBBBBBBBBBBBB")
        for stray in strays:
            stray.mkdir(parents=True)
            (stray / "320x180.webp").write_bytes(b"x")
        settings = {"http__listen": door.url.removeprefix("http://"), "grpc__listen": door.address}
        with door.site.daemon(**settings) as again, Client(door.address) as client:
            again.ready()
            door.client = client
            assert door.downloads(id) == [{"thumbnail_id": id}]
            assert door.put(url, original).status_code == 200
            [urls] = door.downloads(id)
            assert httpx.get(urls["original_url"]).content == original
            until(lambda: not any(stray.exists() for stray in strays), "what no thumbnail has is swept")
            assert httpx.get(urls["original_url"]).content == original
            door.ok("Delete", thumbnail_id=id)
            assert not list(door.site.store.rglob(f"*{id}*"))


def test_a_full_disk_takes_no_upload(door: Door) -> None:
    id = door.create()
    url = url_of(door, id)
    door.site.light("full")
    answer = door.put(url, picture(10, 10))
    assert answer.status_code == 503 and answer.json()["code"] == "store_failed"
    door.site.put_out("full")
    assert door.downloads(id) == [{"thumbnail_id": id}]
    assert not list(door.site.store.rglob(f"{id}/*"))
    assert door.put(url, picture(10, 10)).status_code == 200


def test_no_key_is_needed_and_none_helps(door: Door) -> None:
    id = door.create()
    bare = f"{door.url}/uploads/{id}"
    assert (
        door.rest("PUT", f"/uploads/{id}", content=picture(9, 9), headers={"Content-Type": "image/png"}).status_code
        == 403
    )
    assert door.put(bare, picture(9, 9)).status_code == 403
