"""Parts of published files: through a daemon whose store is a bucket they come as from a folder, whatever the bucket's
server makes of ranges."""

import random
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from buckets import moto, rclone
from doors import Door, door_of
from harness import Site, until
from starlette.datastructures import Headers
from test_bucket_daemon import InBucket

from daemon.api import passed_on
from daemon.net import Answer
from daemon.store.folder import Folder

pytestmark = pytest.mark.daemons

DATA = random.Random(1).randbytes(1000)
WHOLE = (200, "bytes", None, "1000", DATA)
HOLD = """
def of_a_part(objects, method, name, headers, *rest):
    return method == "GET" and "range" in headers

before(S3Bucket, "stream", hold("part"), only=of_a_part, fuse="hold-part")
"""


@dataclass(frozen=True)
class Both:
    """Daemons whose stores are a bucket and a folder, with the same files."""

    bucket: Door
    folder: Door

    def put(self, path: str, data: bytes) -> None:
        assert isinstance(self.bucket.site, InBucket)
        with self.bucket.site.bucket() as bucket, tempfile.TemporaryFile() as file:
            file.write(data)
            file.flush()
            for store in (bucket, Folder(self.folder.site.store)):
                store.keep(path, file.fileno())


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ({"range": "bytes=1-2"}, {"range": "bytes=1-2"}),
        ({"range": "bytes=1-2", "if-range": '"a"'}, {"range": "bytes=1-2"}),
        ({"range": "bytes=1-2", "if-range": 'W/"a"'}, {}),  # which is never the same (RFC 9110, 13.1.5)
        ({"range": "bytes=0-1,500-600"}, {}),
        ({"range": "bytes=500-600,700-800"}, {}),
    ],
    ids=str,
)
@pytest.mark.parametrize("etag", ['"a"', 'W/"a"'])
def test_which_part_a_bucket_is_asked_for(asked: dict[str, str], part: dict[str, str], etag: str) -> None:
    if asked.get("if-range") == '"a"' and etag != '"a"':
        part = {}
    whole = Answer("", 200, {"content-length": "100", "etag": etag}, _nothing())
    assert passed_on._part(Headers(asked), whole) == part


async def _nothing() -> AsyncIterator[bytes]:
    for chunk in ():
        yield chunk


@contextmanager
def server(name: str, root: Path) -> Iterator[int]:
    if name == "moto":
        with moto("films") as running:
            yield running.port
    else:
        (root / "films").mkdir(parents=True)
        with rclone(root) as port:
            yield port


@pytest.fixture(scope="module", params=["moto", "rclone"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    one, other = (tmp_path_factory.mktemp(name) for name in ("bucket", "folder"))
    with (
        server(request.param, one / "served") as port,
        door_of(InBucket(one, port), HOLD) as in_bucket,
        door_of(Site(other)) as in_folder,
    ):
        both = Both(in_bucket, in_folder)
        both.put("film/a.webp", DATA)
        yield both


def ask(door: Door, path: str = "film/a.webp", method: str = "GET", **headers: str) -> httpx.Response:
    said = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.request(method, door.signed(f"/files/{path}"), headers=said, timeout=60)


def told(answer: httpx.Response) -> tuple[object, ...]:
    """What it says of ranges, and the bytes."""
    names = ("accept-ranges", "content-range", "content-length")
    return answer.status_code, *(answer.headers.get(name) for name in names), answer.content


@pytest.mark.parametrize(
    ("said", "status", "part"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=100-199", 206, slice(100, 200)),
        ("bytes=-10", 206, slice(-10, None)),
        ("bytes=990-", 206, slice(990, None)),
        ("bytes=0-", 206, slice(None)),
        ("bytes=990-999999", 206, slice(990, None)),
        ("bytes=-999999", 206, slice(None)),
        ("bytes=10-19,15-29", 206, slice(10, 30)),
        ("bytes=1000-", 416, slice(0)),
        ("bytes=0-1,1000-", 200, slice(None)),
        ("bytes=-0", 416, slice(0)),
        ("bytes=5-2", 200, slice(None)),
        ("bytes=", 200, slice(None)),
        ("lines=0-9", 200, slice(None)),
        ("nonsense", 200, slice(None)),
    ],
)
def test_a_range(both: Both, said: str, status: int, part: slice) -> None:
    answer = ask(both.bucket, range=said)
    assert (answer.status_code, answer.content) == (status, DATA[part])
    assert told(answer) == told(ask(both.folder, range=said))


@pytest.mark.parametrize("said", ["bytes=0-9", "bytes=1000-", "bytes=0-3,10-13"])
def test_ranges_are_of_no_meaning_to_head(both: Both, said: str) -> None:
    """Of all methods only GET has them (RFC 9110, 14.2)."""
    for door in (both.bucket, both.folder):
        for asked in ({}, {"range": said}):
            assert told(ask(door, method="HEAD", **asked)) == (*WHOLE[:-1], b"")


def test_several_ranges_come_apart_from_a_folder_and_whole_from_a_bucket(both: Both) -> None:
    """S3 has one range in an answer; who is asked for several may answer with all (RFC 9110, 14.2)."""
    apart, whole = (ask(door, range="bytes=0-3,10-13") for door in (both.folder, both.bucket))
    assert apart.status_code == 206 and apart.headers["content-type"].startswith("multipart/byteranges")
    assert told(whole) == WHOLE


@pytest.mark.parametrize("by", ["etag", "last-modified"])
def test_a_range_of_what_the_client_has_a_part_of(both: Both, by: str) -> None:
    for door in (both.bucket, both.folder):
        known = ask(door).headers[by]
        other = {"etag": '"other"', "last-modified": "Tue, 14 Nov 2023 22:13:20 GMT"}[by]
        last = ask(door, range="bytes=-10", if_range=known)
        assert told(last) == (206, "bytes", "bytes 990-999/1000", "10", DATA[-10:])
        assert ask(door, range="bytes=1000-", if_range=known).headers["content-range"] == "bytes */1000"
        for said in ("bytes=-10", "bytes=1000-"):
            for outdated in (other, f"W/{known}"):
                assert told(ask(door, range=said, if_range=outdated)) == WHOLE


def test_a_range_of_what_is_not_there(both: Both) -> None:
    for door in (both.bucket, both.folder):
        assert ask(door, "film/none.webp", range="bytes=0-9").status_code == 404


def test_what_the_client_has_is_not_sent_again_in_part(both: Both) -> None:
    for door in (both.bucket, both.folder):
        etag = ask(door).headers["etag"]
        answer = ask(door, range="bytes=0-9", if_none_match=etag)
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)


@pytest.mark.parametrize("length", [5, 1000], ids=["shorter", "as long"])
def test_a_file_that_is_published_over_meanwhile_is_not_taken_for_the_one_before(both: Both, length: int) -> None:
    """Nor a part of it for one of that."""
    path, later = f"film/{length}.webp", random.Random(2).randbytes(length)
    both.put(path, DATA)
    etag = ask(both.bucket, path).headers["etag"]
    site = both.bucket.site
    site.light("hold-part")
    answers: list[httpx.Response] = []
    client = threading.Thread(target=lambda: answers.append(ask(both.bucket, path, range="bytes=10-19", if_range=etag)))
    client.start()
    until((site.fuses / "part.held").exists, "it has seen the file and asks for a part")
    both.put(path, later)
    site.put_out("part.held")
    client.join()
    assert told(answers[0]) == (200, "bytes", None, str(length), later)
    assert answers[0].headers["etag"] == ask(both.bucket, path).headers["etag"] != etag
