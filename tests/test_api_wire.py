"""The HTTP door at the level of bytes and of trouble: torn, slow and lying clients, a daemon that can take nothing in,
and one that is told to stop."""

import json
import signal
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from clips import RECIPES, Clip, make
from doors import Door, door_of, heard, job_of, problem
from harness import PATIENCE, Site, thumbnail, until

pytestmark = pytest.mark.daemons

# Patience is short, and the look whether all is well frequent.
FAULTS = """
import daemon.app, daemon.serving
daemon.app._LOOK_SECONDS = 0.1
daemon.serving._PATIENCE = 0.4
daemon.serving._UNREAD_SECONDS = 1
from daemon.store.folder import Folder
before(Folder, "stage", hold("work"), calls=ALWAYS, fuse="hold-work")
before(Folder, "check", fail(errno.ENOSPC), calls=ALWAYS, fuse="full-disk")
"""


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> Clip:
    return make(RECIPES[0], clip_folder)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, clip: Clip) -> Iterator[Door]:
    site = Site(tmp_path_factory.mktemp("wire"), clip.path.parent)
    with door_of(site, FAULTS, spool__max_queued=5) as door:
        yield door
        log = door.daemon.log_file.read_text()
        assert "Traceback" not in log and "internal error" not in log, log[-4000:]


def request(door: Door, method: str = "GET", path: str = "/jobs", body: bytes = b"", *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"X-Api-Key: {door.key('one')}", *headers]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def test_what_is_no_http_is_refused_and_the_door_stays_open(door: Door) -> None:
    key = f"X-Api-Key: {door.key('one')}\r\n".encode()
    close = b"Connection: close\r\n\r\n"
    for said in (
        b"\r\n\r\n\r\nhello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n\r\n",
        b"GET /jobs HTTP/1.1\r\n" + key + close,  # no Host
        b"GET /jobs HTTP/1.1\r\nHost: x\r\nHost: y\r\n" + key + close,
        b"GET /jobs HTTP/9.9\r\nHost: x\r\n" + close,
        b"GET /jo\xffbs HTTP/1.1\r\nHost: x\r\n" + close,
        b"GET /jobs HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 70_000 + b"\r\n" + close,
        b"GET /" + b"y" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n" + close,
        b"GET /jobs HTTP/1.1\r\nHost: x\r\n folded: x\r\n" + close,
        b"GET /jobs HTTP/1.1\r\nHost: x\r\nbad header\r\n" + close,
        b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n" + key + close,
        b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n" + key + close,
        b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n" + key + close,
        b"POST /jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n" + key + close,
        b"POST /jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + key + b"\r\nnonsense\r\n\r\n",
        b"POST /jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + key + b"\r\nffffffffffffffffff\r\n{}",
    ):
        answer = door.say(said)
        status = answer.split(b" ")[1][:1] if answer else b"4"
        assert status == b"4", (said[:80], answer[:200])
    with door.client() as client:
        assert client.get("/jobs").status_code == 200


def test_one_after_the_other_on_one_connection(door: Door) -> None:
    """Pipelined: said at once, answered in order."""
    said = b"".join(request(door, path=f"/jobs/p{n}") for n in range(20))
    answer = door.say(said + request(door, "GET", "/jobs/last", b"", "Connection: close"))
    assert answer.count(b"HTTP/1.1 404") == 21
    assert [answer.index(f"'p{n}'".encode()) for n in range(20)] == sorted(
        answer.index(f"'p{n}'".encode()) for n in range(20)
    )


def test_a_body_in_pieces_is_a_body(door: Door) -> None:
    body = json.dumps(job_of("/nowhere.mp4", id="pieces")).encode()
    pieces = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:1], body[1:2], body[2:])) + b"0\r\n\r\n"
    headers = ("Transfer-Encoding: chunked", "Content-Type: application/json", "Connection: close")
    assert b"HTTP/1.1 202" in door.say(request(door, "POST", "/jobs", b"", *headers) + pieces)
    both = request(door, "POST", "/jobs", b"", *headers, "Content-Length: 5") + pieces
    assert door.say(both).startswith((b"HTTP/1.1 400", b"HTTP/1.1 202")), "one of them counts, and never both"


@pytest.mark.parametrize(
    "said",
    ["", "GET", "GET /jobs HTTP/1.1\r\nHost: x\r\n", "HEAD+BODY", "AFTER", "CHUNKS"],
    ids=["nothing", "word", "head", "body", "second", "chunks"],
)
def test_a_request_that_never_becomes_whole_is_given_up(door: Door, said: str) -> None:
    body = json.dumps(job_of("/nowhere.mp4")).encode()
    first = {
        "HEAD+BODY": request(door, "POST", "/jobs", body)[:-5],
        "AFTER": request(door) + b"GET /jo",
        "CHUNKS": request(door, "POST", "/jobs", b"", "Transfer-Encoding: chunked") + b"5\r\nab",
    }.get(said, said.encode())
    answer = door.say(first)  # returns when the other side has closed
    assert b"HTTP/1.1 5" not in answer


def test_a_request_that_comes_drop_by_drop_is_given_up(door: Door) -> None:
    with socket.create_connection(("127.0.0.1", door.port), timeout=PATIENCE) as connection:
        connection.sendall(b"GET /jobs HTTP/1.1\r\nHost: x\r\n")
        ended = threading.Event()

        def drip() -> None:
            while not ended.wait(0.05):
                try:
                    connection.sendall(b"X-Drop: 1\r\n")
                except OSError:
                    return

        dripping = threading.Thread(target=drip)
        dripping.start()
        heard(connection)
        ended.set()
        dripping.join()


def test_who_takes_nothing_of_an_answer_is_given_up(door: Door) -> None:
    """Its windows are full; what is left lies in the daemon until it gives up."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(PATIENCE)
        connection.connect(("127.0.0.1", door.port))
        connection.sendall(request(door, path="/openapi.json") * 500)
        port = connection.getsockname()[1]

        def gone() -> bool:
            lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
            return not any(
                local.endswith(f":{door.port:04X}") and remote.endswith(f":{port:04X}")
                for _, local, remote, *_ in lines
            )

        until(gone, "the daemon gives the connection up")


def test_a_client_that_hangs_up_costs_nothing(door: Door, clip: Clip) -> None:
    body = json.dumps(job_of(clip.path, id="hung-up")).encode()
    for said in (request(door, "POST", "/jobs", body), request(door, "POST", "/jobs", body)[:-3], request(door)):
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", door.port)) as connection:
                connection.sendall(said)
    with door.client() as client:
        until(lambda: client.get("/jobs/hung-up").status_code == 200, "what was whole is accepted")


# --- trouble --------------------------------------------------------------------------------------------------------


def refused(door: Door, why: str) -> bool:
    """Whether new jobs are refused for this reason."""
    with door.client() as client:
        answer = client.post("/jobs", json=job_of("/nowhere.mp4"))
        if answer.status_code == 202:
            return False
        told = problem(answer, 503)
        assert told["code"] == "overloaded" and int(answer.headers["retry-after"]) > 0
        return why in told["detail"]


def accepted(door: Door) -> bool:
    with door.client() as client:
        return client.post("/jobs", json=job_of("/nowhere.mp4")).status_code == 202


def test_a_full_disk_is_told_as_later(door: Door) -> None:
    with door.client() as client:
        failed = door.ended(client, job_of("/nowhere.mp4", id="before"))
        door.site.light("full-disk")
        until(lambda: refused(door, "No space left"), "nothing is taken in")
        assert client.post("/jobs", json=job_of("/x.mp4", id="before")).status_code == 202, "it was accepted before"
        assert problem(client.post("/jobs/before/retry"), 503)["code"] == "overloaded"
        assert client.get("/jobs/before").json() == failed and client.get("/jobs").status_code == 200
        door.site.put_out("full-disk")
        until(lambda: accepted(door), "jobs are taken in again")


def test_a_full_table_is_told_as_later(door: Door, clip: Clip) -> None:
    door.site.light("hold-work")
    with door.client() as client:
        client.post("/jobs", json=job_of(clip.path, id="held"))
        until((door.site.fuses / "work.held").exists, "the lane is busy")
        for n in range(6):
            client.post("/jobs", json=job_of(clip.path.with_name(f"{n}.mp4"), id=f"full-{n}"))
        until(lambda: refused(door, "5 are allowed"), "nothing is taken in")
        for n in range(6):
            client.delete(f"/jobs/full-{n}")
        until(lambda: accepted(door), "jobs are taken in again")
        door.site.put_out("hold-work")
        (door.site.fuses / "work.held").unlink()


def test_a_database_that_fails_is_told_as_later(door: Door) -> None:
    """Its tables are out of the way for a moment."""
    with door.client() as client:
        with closing(sqlite3.connect(door.site.database, timeout=30)) as table:
            table.execute("alter table api_keys rename to elsewhere")
        for method, path in (("GET", "/jobs"), ("POST", "/jobs"), ("GET", "/jobs/x"), ("PUT", "/videos/x")):
            # One that the daemon has not looked up a moment ago.
            unknown = {"Authorization": f"Bearer {method}-{path}"}
            answer = client.request(method, path, headers=unknown, json={} if method in ("POST", "PUT") else None)
            told = problem(answer, 503)
            assert told["detail"] == "the job table cannot be reached" and answer.headers["retry-after"]
        with closing(sqlite3.connect(door.site.database, timeout=30)) as table:
            table.execute("alter table elsewhere rename to api_keys")
        assert client.get("/jobs").status_code == 200


# --- the end --------------------------------------------------------------------------------------------------------


def test_who_waits_hears_what_is_known_when_the_daemon_stops(tmp_path: Path, clip: Clip) -> None:
    """And who is idle, or half way through a request, keeps nothing from ending."""
    site = Site(tmp_path, clip.path.parent)
    patient = FAULTS.replace("_PATIENCE = 0.4", "_PATIENCE = 1000")
    with door_of(site, patient) as door, door.client() as client:
        site.light("hold-work")
        client.post("/jobs", json=job_of(clip.path, thumbnail(1), id="waits"))
        until((site.fuses / "work.held").exists, "the lane is busy")
        answers: list[httpx.Response] = []

        def wait() -> None:
            with door.client() as waiting:
                answers.append(waiting.get("/jobs/waits", params={"wait": 60}))

        waiting = [threading.Thread(target=wait) for _ in range(5)]
        for thread in waiting:
            thread.start()
        idle, torn = (socket.create_connection(("127.0.0.1", door.port)) for _ in range(2))
        torn.sendall(request(door)[:-4])
        route = 'thumbd_http_requests_total{code="202",method="POST",route="/jobs"}'
        until(lambda: door.daemon.metrics().get(route), "the job is accepted")
        until(lambda: connections(door) >= 7, "all are there")
        door.daemon.signal(signal.SIGTERM)
        for thread in waiting:
            thread.join(PATIENCE)
        assert [answer.status_code for answer in answers] == [200] * 5
        assert {answer.json()["status"] for answer in answers} == {"processing"}
        refusal = client.post("/jobs", json=job_of("/late.mp4"))
        assert problem(refusal, 503)["detail"].endswith("draining")
        site.put_out("hold-work")
        (site.fuses / "work.held").unlink()
        assert door.daemon.exit_code() == 0
        assert heard(idle) == b""
        idle.close()
        torn.close()
        assert [row["state"] for row in site.rows("state")] == ["completed"]


def connections(door: Door) -> int:
    """How many there are to the door."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[1].endswith(f":{door.port:04X}") and line.split()[3] == "01" for line in lines)
