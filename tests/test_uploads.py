"""Uploads by tus, with a client of its own (`tuspy`), over connections that break and daemons that are killed."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from clips import Clip
from harness import Site, free_port, until
from qencode3.utils import get_tus_from_url
from sqlalchemy import update
from test_qencode_api import THUMBNAIL, Door, clip, picture, serving  # noqa: F401  clip is a fixture
from tusclient.client import TusClient

from daemon.catalogue import organisations
from daemon.tables import uploads

pytestmark = pytest.mark.daemons

MIB = 1 << 20
VERSION = {"Tus-Resumable": "1.0.0"}
PIECE = VERSION | {"Content-Type": "application/offset+octet-stream"}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, clip: Clip) -> Iterator[Door]:  # noqa: F811
    site = Site(tmp_path_factory.mktemp("uploads"), clip.path.parent)
    with serving(site, clip, uploads__max_bytes=64 * MIB, uploads__org_bytes=256 * MIB) as made:
        yield made


def announced(door: Door, length: int, task: str = "", **headers: str) -> str:
    """The URL of a new upload."""
    answer = announce(door, length, task, **headers)
    assert answer.status_code == 201, answer.text
    return str(answer.headers["location"])


def announce(door: Door, length: object, task: str = "", **headers: str) -> httpx.Response:
    url = f"{door.url}/v1/upload_file/{task or door.task()}"
    return httpx.post(url, headers=VERSION | {"Upload-Length": str(length)} | headers)


def put(url: str, offset: object, data: bytes, **headers: str) -> httpx.Response:
    return httpx.patch(url, content=data, headers=PIECE | {"Upload-Offset": str(offset)} | headers, timeout=60)


def offset(url: str) -> int:
    answer = httpx.head(url, headers=VERSION)
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
    return int(answer.headers["upload-offset"])


def source_of(url: str) -> str:
    return "tus:" + url.rpartition("/")[2]


def stored(door: Door, url: str) -> Path:
    return door.site.root / "uploads" / url.rpartition("/")[2]


# From the upload to the picture.


def test_a_task_of_an_upload(door: Door) -> None:
    task = door.task()
    with door.clip.path.open("rb") as film:
        uploader = TusClient(f"{door.url}/v1/upload_file/{task}").uploader(file_stream=film, chunk_size=10_000)
        uploader.upload()
    source = get_tus_from_url(uploader.url)
    assert source == source_of(uploader.url)
    started = door.ask("start_encode2", task_token=task, query=door.query(THUMBNAIL, source=source))
    assert started["error"] == 0, started
    status = door.ended(task)
    assert status["error"] == 0 and picture(status["images"][0]["url"]).width == 100
    again = door.task()  # it stays for others, until it expires
    door.ask("start_encode2", task_token=again, query=door.query(THUMBNAIL, source=source))
    assert door.ended(again)["error"] == 0


def test_of_its_own_organisation_only_and_when_it_is_whole(door: Door) -> None:
    data = door.clip.path.read_bytes()
    url = announced(door, len(data))
    put(url, 0, data[:-1])
    for source in (source_of(url), "tus:", "tus:../thumbd.db", "tus:" + "0" * 36, f"tus:{stored(door, url)}"):
        task = door.task()
        door.ask("start_encode2", task_token=task, query=door.query(THUMBNAIL, source=source))
        status = door.ended(task)
        assert status["error"] == 1 and "there is no such upload" in status["error_description"], source
    put(url, len(data) - 1, data[-1:])
    other = door.site.ask(lambda c: organisations.add(c, "other", [], 5))
    token = door.ask("access_token", api_key=other)["token"]
    task = door.ask("create_task", token=token)["task_token"]
    door.ask("start_encode2", task_token=task, query=door.query(THUMBNAIL, source=source_of(url)))
    assert "there is no such upload" in door.ended(task)["error_description"]
    headers = {"X-Api-Key": door.key}
    registering = httpx.put(f"{door.url}/videos/film", json={"source": source_of(url)}, headers=headers)
    assert registering.status_code == 409
    # Natively too.
    job = {"source": source_of(url), "outputs": [{"output": "thumbnail", "at": 0}]}
    made = httpx.post(f"{door.url}/jobs", json=job, headers=headers).json()
    assert httpx.get(f"{door.url}/jobs/{made['id']}?wait=60", headers=headers).json()["status"] == "completed"


# The protocol.


def test_in_pieces(door: Door) -> None:
    data = os.urandom(3 * MIB + 17)
    url = announced(door, len(data), **{"Upload-Metadata": "filename ZmlsbS5tcDQ="})
    for begin in range(0, len(data), MIB):
        assert offset(url) == begin
        answer = put(url, begin, data[begin : begin + MIB])
        assert answer.status_code == 204 and answer.content == b""
        assert int(answer.headers["upload-offset"]) == min(begin + MIB, len(data))
        assert answer.headers["tus-resumable"] == "1.0.0"
        assert parsedate_to_datetime(answer.headers["upload-expires"]).timestamp() > 0
    head = httpx.head(url, headers=VERSION).headers
    assert (head["upload-length"], head["upload-metadata"]) == (str(len(data)), "filename ZmlsbS5tcDQ=")
    assert stored(door, url).read_bytes() == data
    assert stored(door, url).stat().st_mode & 0o777 == 0o600


def test_tuspy(door: Door, tmp_path: Path) -> None:
    file = tmp_path / "film.bin"
    file.write_bytes(os.urandom(5 * MIB))
    client = TusClient(f"{door.url}/v1/upload_file/{door.task()}")
    with file.open("rb") as stream:
        uploader = client.uploader(file_stream=stream, chunk_size=MIB, metadata={"filename": "film.bin"})
        uploader.upload(stop_at=2 * MIB)
        other = client.uploader(file_stream=stream, url=uploader.url, chunk_size=MIB)  # as after the client's restart
        assert other.offset == 2 * MIB
        other.upload()
    assert stored(door, uploader.url).read_bytes() == file.read_bytes()


def test_what_is_spoken(door: Door) -> None:
    for path in ("", "/" + "0" * 32):
        answer = httpx.options(f"{door.url}/v1/upload_file{path}")
        assert answer.status_code == 204
        said = answer.headers
        assert (said["tus-version"], said["tus-extension"]) == ("1.0.0", "creation,expiration,termination")
        assert said["tus-max-size"] == str(64 * MIB)
        assert "PATCH" in said["access-control-allow-methods"] and said["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    ("length", "headers", "status"),
    [
        ("", {}, 400),
        ("-1", {}, 400),
        ("1e3", {}, 400),
        ("٣", {}, 400),
        ("9" * 30, {}, 400),
        (64 * MIB + 1, {}, 413),
        (1, {"Tus-Resumable": "0.2.0"}, 412),
        (1, {"Tus-Resumable": ""}, 412),
        (1, {"Upload-Metadata": "x" * 5000}, 400),
    ],
)
def test_what_cannot_be_announced(length: object, headers: dict[str, str], status: int, door: Door) -> None:
    if isinstance(length, str) and not length.isascii():
        length = ""
    answer = announce(door, length, **headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.headers["tus-resumable"], answer.headers["access-control-allow-origin"]) == ("1.0.0", "*")


def test_for_what_tasks(door: Door) -> None:
    for task in ("0" * 32, "x", "../.."):
        assert announce(door, 1, task).status_code in (400, 404)
    started = door.start(THUMBNAIL)
    assert announce(door, 1, started).status_code == 409
    url = announced(door, 1)
    elsewhere = url.replace(url.split("/")[-2], door.task())
    assert httpx.head(elsewhere, headers=VERSION).status_code == 404
    assert put(elsewhere, 0, b"x").status_code == 404
    assert httpx.delete(elsewhere, headers=VERSION).status_code == 404
    assert offset(url) == 0


def test_what_cannot_be_appended(door: Door) -> None:
    url = announced(door, 10)
    assert put(url, 1, b"x").status_code == 409
    assert put(url, "x", b"x").status_code == 400
    assert put(url, 0, b"x", **{"Content-Type": "text/plain"}).status_code == 415
    assert put(url, 0, b"x", **{"Tus-Resumable": "2.0.0"}).status_code == 412
    assert offset(url) == 0
    assert put(url, 0, b"0123456789more").status_code == 413
    assert offset(url) == 10 and stored(door, url).read_bytes() == b"0123456789"
    assert put(url, 10, b"more").status_code == 413
    assert put(url, 10, b"").status_code == 204
    assert put(url, 0, b"0123456789").status_code == 409


def test_it_is_removed(door: Door) -> None:
    url = announced(door, 10)
    put(url, 0, b"01234")
    assert httpx.delete(url, headers=VERSION).status_code == 204
    assert httpx.head(url, headers=VERSION).status_code == 404 and not stored(door, url).exists()
    assert put(url, 5, b"5").status_code == 404 and httpx.delete(url, headers=VERSION).status_code == 404


def test_only_so_many_bytes_of_an_organisation(tmp_path: Path, clip: Clip) -> None:  # noqa: F811
    with serving(Site(tmp_path, clip.path.parent), clip, uploads__org_bytes=100) as door:
        urls = [announced(door, 40), announced(door, 60)]
        refused = announce(door, 1)
        assert refused.status_code == 429 and "100 bytes" in refused.json()["detail"]
        assert httpx.delete(urls[0], headers=VERSION).status_code == 204
        assert announce(door, 40).status_code == 201


def test_a_full_disk(tmp_path: Path, clip: Clip) -> None:  # noqa: F811
    fault = 'from daemon import uploads\nbefore(uploads.os, "pwrite", fail(errno.ENOSPC), calls=range(2, 4))'
    with serving(Site(tmp_path, clip.path.parent), clip, fault=fault) as door:
        data = os.urandom(3 * MIB)
        url = announced(door, len(data))
        full = put(url, 0, data)
        assert full.status_code == 503 and "No space left" in full.json()["detail"]
        here = offset(url)
        assert put(url, here, data[here:]).status_code == 204
        assert stored(door, url).read_bytes() == data


# What breaks.


def broken_off(url: str, offset: int, data: bytes, announced: int) -> None:
    """Sends less than it says, and hangs up."""
    with begun(url, offset, announced) as connection:
        connection.sendall(data)


def begun(url: str, offset: int, length: int) -> Any:
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname or "", parts.port or 0))
    head = f"PATCH {parts.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nUpload-Offset: {offset}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in PIECE.items())
    connection.sendall(head.encode() + b"\r\n")
    return closing(connection)


def test_a_connection_that_breaks(door: Door) -> None:
    data = os.urandom(5 * MIB)
    url = announced(door, len(data))
    for _ in range(20):
        here = offset(url)
        broken_off(url, here, data[here : here + 300_000], len(data) - here)
        assert offset(url) >= here
    here = until(lambda: offset(url), "something of it was kept")
    assert here >= 300_000  # nothing that came is lost
    assert put(url, here, data[here:]).status_code == 204
    assert stored(door, url).read_bytes() == data


def test_a_connection_that_hangs_is_taken_over(door: Door) -> None:
    """Its client has come again, over another one."""
    data = os.urandom(MIB)
    url = announced(door, len(data))
    with begun(url, 0, len(data)) as hanging:
        hanging.sendall(data[: MIB // 2])
        here = until(lambda: offset(url), "what came is kept")
        assert put(url, here, data[here:]).status_code == 204
        assert offset(url) == MIB and stored(door, url).read_bytes() == data
        assert b" 409 " in hanging.recv(1000).split(b"\r\n")[0]


def test_many_at_once_write_one_file(door: Door) -> None:
    data = os.urandom(4 * MIB)
    url = announced(door, len(data))
    answers: list[int] = []

    def bring() -> None:
        while (here := offset(url)) < len(data):
            answers.append(put(url, here, data[here : here + MIB // 2]).status_code)

    threads = [threading.Thread(target=bring) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {204, 409} and stored(door, url).read_bytes() == data


def test_two_daemons_of_one_table(tmp_path: Path, clip: Clip) -> None:  # noqa: F811
    site = Site(tmp_path, clip.path.parent)
    with serving(site, clip) as one, serving(site, clip, one.key) as two:
        data = os.urandom(2 * MIB)
        url = announced(one, len(data))
        there = url.replace(one.url, two.url)
        with begun(url, 0, len(data)) as hanging:
            hanging.sendall(data[:MIB])
            until(lambda: stored(one, url).exists(), "the first daemon writes")
            busy = put(there, 0, data)
            assert busy.status_code == 503 and "another daemon" in busy.json()["detail"]
        here = until(lambda: offset(there), "what came is kept")
        assert put(there, here, data[here:]).status_code == 204
        assert stored(one, url).read_bytes() == data


@pytest.mark.parametrize(("name", "calls", "some"), [("pwrite", 20, True), ("fsync", 1, False), ("fsync", 2, True)])
def test_a_daemon_that_is_killed(name: str, calls: int, some: bool, tmp_path: Path, clip: Clip) -> None:  # noqa: F811
    """What was told to be received is there afterwards, and the client goes on where it is told to."""
    # 16 MiB are synced at once: it dies after some of them were, or before.
    fault = f'before(os, "{name}", die, only=file_in("/uploads/"), calls={calls})'
    data = os.urandom(40 * MIB)
    site, listen = Site(tmp_path, clip.path.parent), f"127.0.0.1:{free_port()}"
    with serving(site, clip, listen=listen, fault=fault) as door:
        url = announced(door, len(data))
        with pytest.raises(httpx.TransportError):
            put(url, 0, data)
        door.daemon.killed()
    with serving(site, clip, door.key, listen) as door:
        here = offset(url)
        assert here >= 16 * MIB if some else here == 0
        assert stored(door, url).read_bytes()[:here] == data[:here]
        file = tmp_path / "film.bin"
        file.write_bytes(data)
        with file.open("rb") as stream:
            uploader = TusClient(url).uploader(file_stream=stream, url=url, chunk_size=8 * MIB)
            assert uploader.offset == here
            uploader.upload()
        assert stored(door, url).read_bytes() == data


def test_a_slow_client_is_heard_as_long_as_it_sends(tmp_path: Path, clip: Clip) -> None:  # noqa: F811
    fault = "from daemon import serving\nserving._PATIENCE = 0.2\nserving._LEAST_BYTES = 1000"
    with serving(Site(tmp_path, clip.path.parent), clip, fault=fault) as door:
        data = os.urandom(200_000)
        url = announced(door, len(data))
        with begun(url, 0, len(data)) as steady:
            # Sent in steps, each when the one before was written: far longer than its patience in all.
            stop = threading.Event()
            for begin in range(0, len(data), 10_000):
                steady.sendall(data[begin : begin + 10_000])
                stop.wait(0.1)
            assert b" 204 " in steady.recv(1000).split(b"\r\n")[0]
        url = announced(door, 10)
        with begun(url, 0, 10) as silent:
            silent.sendall(b"0")
            silent.settimeout(30)
            assert silent.recv(1000) == b""  # it is hung up
        assert offset(url) == 1


# What becomes of those that nobody wants any more.


def test_what_expired_is_swept(tmp_path: Path, clip: Clip) -> None:  # noqa: F811
    site = Site(tmp_path, clip.path.parent)
    data = clip.path.read_bytes()
    stray = site.root / "uploads" / "0a1b2c3d-0000-4000-8000-000000000000"
    with serving(site, clip) as door:
        gone, wanted, kept = (announced(door, len(data)) for _ in range(3))
        for url in (gone, wanted, kept):
            put(url, 0, data)
        expired = uploads.c.id.in_([url.rpartition("/")[2] for url in (gone, wanted)])
        site.ask(lambda c: c.execute(update(uploads).where(expired).values(expires_at=1)))
        assert httpx.head(gone, headers=VERSION).status_code == 404
        door.daemon.kill()
    stray.write_bytes(b"of a row that is gone")
    (stray.parent / "somebody's").write_bytes(b"not ours")
    # A job that waits for one of them is what keeps it.
    site.drop({"org": "acme", "source": source_of(wanted), "outputs": [{"output": "thumbnail", "at": 0}]})
    with serving(site, clip, door.key, fault="from daemon import app\napp._SWEEP_SECONDS = 0.2") as door:
        report = site.report()
        assert report.status == "completed"
        until(lambda: not stored(door, gone).exists() and not stray.exists(), "what expired is gone")
        until(lambda: not stored(door, wanted).exists(), "and so is what the job waited for, once it is over")
        assert stored(door, kept).exists() and (stray.parent / "somebody's").exists()
