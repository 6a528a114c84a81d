"""thumbd's own HTTP API through a real daemon: what it answers when asked well, and that nothing that anybody can send
is more than a problem with a name."""

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from clips import RECIPES, Clip, make, not_a_video
from doors import Door, door_of, job_of, problem
from harness import Site, thumbnail, until

from daemon.catalogue import organisations
from daemon.job import Job

FAULTS = """
from daemon.store.folder import Folder
import daemon.api.published
before(Folder, "stage", hold("work"), calls=ALWAYS, fuse="hold-work")
after(daemon.api.published, "_open", hold("opened"), fuse="hold-opened")
"""

NEVER_LOOKS = """
from dataclasses import replace
import daemon.app
terms_of = daemon.app.terms_of
daemon.app.terms_of = lambda *said: replace(terms_of(*said), idle_poll=3600)
"""


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> Clip:
    return make(RECIPES[0], clip_folder)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, clip: Clip) -> Iterator[Door]:
    root = tmp_path_factory.mktemp("api")
    (root / "media").mkdir()
    site = Site(root, clip.path.parent, root / "media")
    with door_of(site, FAULTS) as door:
        yield door
        log = door.daemon.log_file.read_text()
        assert "Traceback" not in log and "internal error" not in log, log[-4000:]


@pytest.fixture
def one(door: Door) -> Iterator[httpx.Client]:
    with door.client("one") as client:
        yield client


@pytest.fixture
def held(door: Door) -> Iterator[Door]:
    """While it lasts no job is worked on."""
    door.site.light("hold-work")
    yield door
    door.site.put_out("hold-work")
    (door.site.fuses / "work.held").unlink(missing_ok=True)


# --- jobs -----------------------------------------------------------------------------------------------------------


def test_a_job_is_taken_in_worked_on_and_told(door: Door, one: httpx.Client, clip: Clip) -> None:
    report = door.ended(one, job_of(clip.path, thumbnail(1, name="p", tag="t"), id="whole", payload="mine"))
    assert (report["id"], report["org"], report["status"], report["payload"]) == ("whole", "one", "completed", "mine")
    assert (report["made"], report["in_all"], report["error"]) == (1, 1, None) or report["made"] <= report["in_all"]
    assert abs(report["created_at"] - time.time()) < 60
    [output] = report["outputs"]
    assert output["path"] == "orgs/one/whole/p.png" and output["url"].startswith(f"{door.url}/files/orgs/one/whole/")
    with door.client(None) as anybody:
        picture = anybody.get(output["url"])
    assert picture.status_code == 200 and picture.content == (door.site.store / output["path"]).read_bytes()


def test_every_form_of_a_job_is_the_job_that_was_sent(held: Door, one: httpx.Client, clip: Clip) -> None:
    """What the API has parsed is written down and read again."""
    said = {
        "id": "forms",
        "source": str(clip.path),
        "destination": "a/b",
        "priority": "low",
        "cache": True,
        "payload": "é\u2028",
        "outputs": [
            *(thumbnail(at, name=f"t{n}") for n, at in enumerate((1, 1.25, "1s", "1m2.5s", "00:00:01.500", "15%"))),
            *(thumbnail(at, name=f"a{n}") for n, at in enumerate(({"frame": 3}, "middle", "best", "1200ms"))),
            {"output": "thumbnails", "every": "2s", "start": "1s", "end": "90%", "files": "x_{n:04}", "optional": True},
            {"output": "sprite", "count": 5, "columns": 2, "rows": 2, "indexes": ["vtt", "bif"]},
            {"output": "clip", "start": 0.5, "duration": "1s", "keyframe": "3s", "fps": 12.5},
            {"output": "animation", "duration": 1, "format": "gif"},
        ],
    }
    assert one.post("/jobs", json=said).status_code == 202
    [row] = [row for row in held.site.rows("id, job") if row["id"] == "forms"]
    assert Job.read(row["job"]) == Job.check({**said, "org": "one"})
    assert one.delete("/jobs/forms").status_code == 200


def test_the_same_id_is_the_same_job(one: httpx.Client, held: Door, clip: Clip) -> None:
    first = one.post("/jobs", json=job_of(clip.path, id="twice"))
    again = one.post("/jobs", json=job_of("/another.mp4", id="twice"))
    assert first.status_code == again.status_code == 202
    assert all(first.json()[name] == again.json()[name] for name in ("id", "created_at"))
    assert [row["source"] for row in held.site.rows("id, source") if row["id"] == "twice"] == [str(clip.path)]
    with held.client("two") as two:
        assert two.get("/jobs/twice").status_code == 404, "an id is an organisation's own"


def test_a_failed_job_says_why(door: Door, one: httpx.Client) -> None:
    report = door.ended(one, job_of("/nowhere/at all.mp4"))
    assert report["status"] == "failed" and report["outputs"] == []
    assert report["error"]["code"] == "source_refused" and "/nowhere/at all.mp4" in report["error"]["message"]


def test_jobs_are_listed_page_by_page_the_newest_first(held: Door, clip: Clip) -> None:
    with held.client("lister") as client:
        for n in range(7):
            client.post("/jobs", json=job_of(clip.path, id=f"j{n}"))
        seen, token = [], None
        while token or not seen:
            page = client.get("/jobs", params={"page_size": 3, **({"page_token": token} if token else {})}).json()
            seen += [job["id"] for job in page["jobs"]]
            assert len(page["jobs"]) <= 3
            token = page["next_page_token"]
        assert seen == [f"j{n}" for n in reversed(range(7))]
        client.delete("/jobs/j3")

        def listed(state: str) -> list[str]:
            return [job["id"] for job in client.get("/jobs", params={"state": state}).json()["jobs"]]

        assert listed("failed") == ["j3"] and listed("completed") == []
        assert sorted(listed("pending") + listed("processing")) == ["j0", "j1", "j2", "j4", "j5", "j6"]
        exactly = client.get("/jobs", params={"page_size": 7}).json()
        assert len(exactly["jobs"]) == 7 and exactly["next_page_token"] is None
        for n in range(7):
            client.delete(f"/jobs/j{n}")


def test_a_waiting_job_that_is_cancelled_is_over(held: Door, one: httpx.Client, clip: Clip) -> None:
    one.post("/jobs", json=job_of(clip.path, id="first"))
    until((held.site.fuses / "work.held").exists, "the lane is busy")
    one.post("/jobs", json=job_of(clip.path.with_name("other.mp4"), id="behind"))
    report = one.delete("/jobs/behind").json()
    assert (report["status"], report["error"]["code"]) == ("failed", "cancelled")
    assert one.delete("/jobs/behind").json() == report, "one that is over stays as it is"
    running = one.delete("/jobs/first").json()
    assert running["status"] == "processing"
    held.site.put_out("hold-work")
    (held.site.fuses / "work.held").unlink()
    ended = one.get("/jobs/first", params={"wait": 30}).json()
    assert (ended["status"], ended["error"]["code"]) == ("failed", "cancelled")


def test_a_failed_job_is_queued_again(held: Door, one: httpx.Client, clip: Clip) -> None:
    one.post("/jobs", json=job_of(clip.path, id="busy"))
    until((held.site.fuses / "work.held").exists, "the lane is busy")
    queued = one.post("/jobs", json=job_of(clip.path.with_name("other.mp4"), id="again")).json()
    assert problem(one.post("/jobs/again/retry"), 409)["code"] == "failed_precondition"
    assert one.delete("/jobs/again").json()["status"] == "failed"
    with held.client("two") as two:
        problem(two.post("/jobs/again/retry"), 404)
    answer = one.post("/jobs/again/retry")
    assert (answer.status_code, answer.json()) == (202, queued)
    told = problem(one.post("/jobs/again/retry"), 409)
    assert told["detail"] == "job 'again' is pending: only failed jobs can be run again"
    problem(one.post("/jobs/none/retry"), 404)
    for id in ("again", "busy"):
        one.delete(f"/jobs/{id}")


def test_a_job_that_is_queued_again_is_run_at_once(tmp_path: Path, clip: Clip) -> None:
    """By a daemon that looks for jobs only when it is woken."""
    source = tmp_path / "later.mp4"
    with door_of(Site(tmp_path, tmp_path), NEVER_LOOKS) as door, door.client("one") as client:
        assert door.ended(client, job_of(source, id="later"))["error"]["code"] == "source_missing"
        shutil.copy(clip.path, source)
        assert client.post("/jobs/later/retry").json()["error"] is None
        report = client.get("/jobs/later", params={"wait": 20}).json()
    assert (report["status"], report["attempt"]) == ("completed", 2)


def test_who_waits_hears_of_the_end_as_it_comes(held: Door, one: httpx.Client, clip: Clip) -> None:
    """By an event, and not by the look that is taken every second."""
    one.post("/jobs", json=job_of(clip.path, id="waited"))
    until((held.site.fuses / "work.held").exists, "the lane is busy")
    one.post("/jobs", json=job_of(clip.path.with_name("other.mp4"), id="queued"))
    heard: dict[str, float] = {}

    def wait(id: str, number: int) -> None:
        with held.client("one") as client:
            assert client.get(f"/jobs/{id}", params={"wait": 60}).json()["status"] == "failed"
            heard[f"{id}{number}"] = time.monotonic()

    def waiting(id: str) -> list[threading.Thread]:
        threads = [threading.Thread(target=wait, args=(id, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        return threads

    delays = []
    for id, end in (("queued", 0.0), ("waited", 0.0)):
        threads = waiting(id)
        until(lambda: waits(held) >= 8, "all of them wait")
        one.delete(f"/jobs/{id}")
        end = time.monotonic()
        if id == "waited":
            until(lambda: held.site.rows("cancelled"), "it is asked to end")
            held.site.put_out("hold-work")
            (held.site.fuses / "work.held").unlink()
            until(
                lambda: not [r for r in held.site.rows("state, id") if r["id"] == "waited" and r["state"] != "failed"],
                "over",
            )
            end = time.monotonic()
        for thread in threads:
            thread.join(30)
        delays.append(max(heard.values()) - end)
        assert len(heard) == 8
        heard.clear()
    assert max(delays) < 0.5, delays


def waits(door: Door) -> int:
    """How many connections to the door there are."""
    table = Path("/proc/net/tcp").read_text().splitlines()[1:]
    port = f":{door.port:04X}"
    return sum(line.split()[1].endswith(port) and line.split()[3] == "01" for line in table)


def test_a_wait_that_ends_before_the_job_tells_how_far_it_is(held: Door, one: httpx.Client, clip: Clip) -> None:
    one.post("/jobs", json=job_of(clip.path, id="slow"))
    begun = time.monotonic()
    report = one.get("/jobs/slow", params={"wait": 0.3}).json()
    assert report["status"] in ("pending", "processing") and time.monotonic() - begun >= 0.3
    one.delete("/jobs/slow")


# --- videos ---------------------------------------------------------------------------------------------------------


def test_a_video_is_registered_changed_listed_and_forgotten(door: Door, one: httpx.Client, clip: Clip) -> None:
    film = door.site.root / "media" / "film.mp4"
    shutil.copy(clip.path, film)
    made = one.put("/videos/film", json={"source": str(film)})
    assert made.status_code == 200
    video = made.json()
    assert (video["id"], video["channel"], video["source"]) == ("film", "one", str(film))
    assert video["facts"]["codec"] == "h264" and video["facts"]["width"] == 320
    assert one.put("/videos/film", json={"source": str(film)}).json() == video
    assert one.get("/videos/film").json() == video
    moved = one.put("/videos/film", json={"source": str(film), "channel": "sport"}).json()
    assert moved == {**video, "channel": "sport"}
    os.utime(film, (1, 1))
    assert one.put("/videos/film", json={"source": str(film)}).json()["revision"] != video["revision"]
    report = door.ended(one, job_of("video:film"))
    assert report["status"] == "completed"
    one.put("/videos/g", json={"source": str(film)})
    first = one.get("/videos", params={"page_size": 1}).json()
    second = one.get("/videos", params={"page_size": 1, "page_token": first["next_page_token"]}).json()
    assert [video["id"] for page in (first, second) for video in page["videos"]] == ["film", "g"]
    assert second["next_page_token"] is None
    for id in ("film", "g"):
        gone = one.delete(f"/videos/{id}")
        assert (gone.status_code, gone.content) == (204, b"")
        problem(one.get(f"/videos/{id}"), 404)
        problem(one.delete(f"/videos/{id}"), 404)


def test_what_cannot_be_a_video_is_refused_with_its_reason(door: Door, one: httpx.Client) -> None:
    media = door.site.root / "media"
    (media / "empty.mp4").touch()
    noise, text = not_a_video(media)
    (media / "link.mp4").symlink_to(noise)
    expected = {
        "/etc/passwd": "source_refused",
        str(media / "missing.mp4"): "source_missing",
        str(media / "empty.mp4"): "source_empty",
        str(noise): "not_a_video",
        str(text): "not_a_video",
        str(media / "link.mp4"): "source_refused",
        str(media): "source_refused",
        "../../etc/passwd": "source_refused",
    }
    for source, code in expected.items():
        told = problem(one.put("/videos/v", json={"source": source}), 422)
        assert told["code"] == code and source in told["detail"], source
    problem(one.put("/videos/v", json={"source": "video:film"}), 409)
    problem(one.get("/videos/v"), 404)


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(door: Door, clip: Clip) -> tuple[str, Path]:
    """A signed URL and the file."""
    with door.client("one") as client:
        report = door.ended(client, job_of(clip.path, thumbnail(1, name="p"), id="published"))
    [output] = report["outputs"]
    return output["url"], door.site.store / output["path"]


def test_a_file_comes_with_all_that_a_cache_wants(published: tuple[str, Path]) -> None:
    url, file = published
    whole = httpx.get(url)
    assert whole.status_code == 200 and whole.content == file.read_bytes()
    headers = whole.headers
    assert (headers["content-type"], headers["accept-ranges"]) == ("image/png", "bytes")
    assert headers["x-content-type-options"] == "nosniff" and headers["content-length"] == str(file.stat().st_size)
    kind, _, age = headers["cache-control"].partition(", max-age=")
    assert kind == "private" and 0 < int(age) <= 12 * 3600 + 60
    head = httpx.head(url)
    assert head.status_code == 200 and head.content == b""
    assert {**head.headers, "date": "", "cache-control": ""} == {**headers, "date": "", "cache-control": ""}


@pytest.mark.parametrize(
    ("said", "status", "part"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=10-", 206, slice(10, None)),
        ("bytes=-10", 206, slice(-10, None)),
        ("bytes=0-999999999", 206, slice(None)),
        ("bytes=999999999-", 416, None),
        ("bytes=0-1,999999999-", 200, slice(None)),
        ("bytes=x", 200, slice(None)),
        ("bytes=5-2", 200, slice(None)),
        ("bytes=", 200, slice(None)),
        ("lines=0-9", 200, slice(None)),
        ("nonsense", 200, slice(None)),
        ("bytes=" + "9" * 5000 + "-", 200, slice(None)),
        ("bytes=" + ",".join(["0-"] * 4000), 200, slice(None)),
    ],
    ids=lambda value: str(value)[:20],
)
def test_ranges(published: tuple[str, Path], said: str, status: int, part: slice | None) -> None:
    url, file = published
    answer = httpx.get(url, headers={"Range": said})
    assert answer.status_code == status
    if part is not None:
        assert answer.content == file.read_bytes()[part]
    else:
        assert answer.headers["content-range"] == f"bytes */{file.stat().st_size}"


@pytest.mark.parametrize("length", [0, 1, 1 << 20, (1 << 20) + 1])
def test_files_of_any_length_come_alike(door: Door, length: int) -> None:
    """Little ones are read when they are opened, others piece by piece."""
    data = os.urandom(length)
    (door.site.store / f"{length}.bin").write_bytes(data)
    url = door.signed(f"/files/{length}.bin")
    got, head = httpx.get(url), httpx.head(url)
    assert got.content == data and head.content == b""
    passing = ("date", "cache-control")  # the seconds that the URL is good for
    told = {name: value for name, value in got.headers.items() if name not in passing}
    assert told == {name: value for name, value in head.headers.items() if name not in passing}
    assert told["content-length"] == str(length) and told["accept-ranges"] == "bytes" and told["etag"]
    in_part = httpx.head(url, headers={"Range": "bytes=0-0"})
    assert (in_part.status_code, in_part.headers["content-length"]) == (200, str(length)), "ranges are for GET alone"


def test_several_ranges_and_ranges_of_what_has_changed(published: tuple[str, Path]) -> None:
    url, file = published
    data = file.read_bytes()
    several = httpx.get(url, headers={"Range": "bytes=0-3,10-13"})
    assert several.status_code == 206 and several.headers["content-type"].startswith("multipart/byteranges")
    assert data[0:4] in several.content and data[10:14] in several.content and len(several.content) < 400
    etag = several.headers["etag"]
    assert httpx.get(url, headers={"Range": "bytes=0-3", "If-Range": etag}).content == data[:4]
    assert httpx.get(url, headers={"Range": "bytes=0-3", "If-Range": '"other"'}).content == data


def test_what_the_client_has_is_not_sent_again(published: tuple[str, Path]) -> None:
    url, file = published
    first = httpx.get(url)
    etag, changed = first.headers["etag"], first.headers["last-modified"]
    later, earlier = (formatdate(file.stat().st_mtime + by, usegmt=True) for by in (60, -60))
    for asked in (
        {"If-None-Match": etag}, {"If-None-Match": f'"x", W/{etag}'}, {"If-None-Match": "*"},
        {"If-Modified-Since": changed}, {"If-Modified-Since": later},
        {"If-None-Match": etag, "If-Modified-Since": earlier},
    ):  # fmt: skip
        for method in ("GET", "HEAD"):
            answer = httpx.request(method, url, headers=asked)
            assert (answer.status_code, answer.content) == (304, b""), asked
            assert answer.headers["etag"] == etag and answer.headers["cache-control"].startswith("private")
    for asked in (
        {"If-None-Match": '"x"'}, {"If-None-Match": ""}, {"If-None-Match": etag[1:-1]}, {"If-Modified-Since": earlier},
        {"If-Modified-Since": "yesterday"}, {"If-None-Match": '"x"', "If-Modified-Since": later},
    ):  # fmt: skip
        assert httpx.get(url, headers=asked).content == first.content, asked


def test_a_file_that_is_published_over_meanwhile_comes_whole(door: Door, published: tuple[str, Path]) -> None:
    url, file = published
    before = file.read_bytes()
    door.site.light("hold-opened")
    answers: list[httpx.Response] = []
    client = threading.Thread(target=lambda: answers.append(httpx.get(url, timeout=30)))
    client.start()
    opened = door.site.fuses / "opened.held"
    until(opened.exists, "the file is open")
    other = file.with_name("other")
    other.write_bytes(b"much shorter")
    other.rename(file)
    opened.unlink()
    client.join()
    assert answers[0].content == before
    file.unlink()
    problem(httpx.get(url), 404)
    file.write_bytes(before)


def test_a_url_is_good_as_it_was_signed_and_no_longer(door: Door, published: tuple[str, Path]) -> None:
    url, file = published
    parts = urlsplit(url)
    query = dict(part.split("=") for part in parts.query.split("&"))
    expired = door.signed(parts.path, life=-5)
    altered = [
        {**query, "expires": str(int(query["expires"]) + 1)},
        {**query, "signature": "0" * 32},
        {**query, "key": "another"},
        {"expires": query["expires"], "key": query["key"]},
        {**query, "expires": "9" * 400},
        {**query, "signature": "é" * 32},
        {**query, "key": "\0"},
        {},
    ]
    for values in altered:
        problem(httpx.get(f"{door.url}{parts.path}", params=values), 403)
    problem(httpx.get(expired), 403)
    other = file.with_name("q.png")
    other.write_bytes(b"x")
    problem(httpx.get(url.replace("/p.png", "/q.png")), 403)
    problem(httpx.put(url, content=b"x"), 405)
    assert httpx.get(url).status_code == httpx.get(url).status_code == 200, (
        "until it expires it is good again and again"
    )


def test_nothing_but_published_files_is_ever_served(door: Door, published: tuple[str, Path]) -> None:
    """Even signed: what a path may reach is decided by what is there, not by who made the URL."""
    store, (_, file) = door.site.store, published
    secret = door.site.root / "secret"
    secret.write_text("secret")
    (store / ".hidden").write_text("secret")
    (store / "folder.png").mkdir()
    (store / "link.png").symlink_to(secret)
    (store / "inside.png").symlink_to(file)
    (store / "linked").symlink_to(door.site.root)
    (store / ".staging" / "x").mkdir(parents=True, exist_ok=True)
    (store / ".staging" / "x" / "p.png").write_text("secret")
    os.mkfifo(store / "fifo.png")
    here = file.relative_to(store)
    paths = [
        "../secret", "%2e%2e/secret", "..%2fsecret", "%2e%2e%2fsecret", "orgs/../../secret", "orgs/%2e%2e/%2e%2e/x",
        ".hidden", "%2ehidden", "folder.png", "folder.png/", "link.png", "inside.png", "linked/secret", "fifo.png",
        ".staging/x/p.png", "%2estaging/x/p.png", "", "/", "//", f"/{here}", f"{here}/", f"orgs//{here}", f"./{here}",
        str(secret), f"/{secret}", "%00", "a%00b", f"{here}%00.png", "\\..\\secret", "a" * 300, "/".join("a" * 3000),
        "%ff%fe", "%ed%a0%80", "nothing.png", f"{here}/nothing.png", "~", "%25", "orgs",
    ]  # fmt: skip
    for path in paths:
        target = door.signed(f"/files/{path}").removeprefix(door.url)
        answer = door.say(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 404") and b"secret" not in answer, (path, answer)
    assert httpx.get(door.signed(f"/files/{here}")).status_code == 200


# --- what is wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "place", "value"),
    [
        ({"outputs": [thumbnail()]}, "body.source", None),
        ({"source": "x"}, "body.outputs", None),
        (job_of("x", thumbnail(width=5000)), "body.outputs[0].width", 5000),
        (job_of("x", thumbnail(), thumbnail(format="bmp", name="b")), "body.outputs[1].format", "bmp"),
        (job_of("x", thumbnail(at="soon")), "body.outputs[0].at", "soon"),
        (job_of("x", thumbnail(surprise=1)), "body.outputs[0].surprise", 1),
        (job_of("x", {"output": "film"}), "body.outputs[0]", None),
        (job_of("x", outputs={}), "body.outputs", "{}"),
        (job_of("x", org="two"), "body.org", "two"),
        (job_of("x", colour="red"), "body.colour", "red"),
        (job_of("x", priority="urgent"), "body.priority", "urgent"),
        (job_of("x", id="../x"), "body.id", "../x"),
        (job_of("x", id="x" * 65), "body.id", "x" * 65),
        (job_of("x", destination="../x"), "body.destination", "../x"),
        (job_of("x", cache="maybe"), "body.cache", "maybe"),
        (job_of("x", payload="x" * 1001), "body.payload", "x" * 200 + "…"),
        (job_of(""), "body.source", ""),
        (job_of("\0"), "body.source", "\0"),
        ([], "body", "[]"),
        ("text", "body", "text"),
        (None, "body", None),
        (5, "body", 5),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_each_wrong_field_is_named_with_its_place_and_value(
    one: httpx.Client, body: Any, place: str, value: Any
) -> None:
    told = problem(one.post("/jobs", content=json.dumps(body), headers={"Content-Type": "application/json"}), 400)
    found = {error["location"]: error["value"] for error in told["errors"]}
    assert place in found, told
    if value is not None:
        assert found[place] == value
    assert place in told["detail"]


def test_all_that_is_wrong_is_told_at_once(one: httpx.Client) -> None:
    told = problem(one.post("/jobs", json={**job_of("x", thumbnail(width=0, quality=101)), "x": 1}), 400)
    assert {error["location"] for error in told["errors"]} == {
        "body.outputs[0].width",
        "body.outputs[0].quality",
        "body.x",
    }


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/jobs?page_size=0", "query.page_size"), ("/jobs?page_size=1001", "query.page_size"),
        ("/jobs?page_size=x", "query.page_size"), ("/jobs?state=done", "query.state"),
        ("/jobs?page_token=x", "query.page_token"), ("/jobs?page_token=", "query.page_token"),
        ("/jobs/x?wait=-1", "query.wait"), ("/jobs/x?wait=61", "query.wait"), ("/jobs/x?wait=nan", "query.wait"),
        ("/jobs/x?wait=inf", "query.wait"), ("/jobs/x?wait=1e400", "query.wait"), ("/jobs/-x", "path.id"),
        ("/jobs/.x", "path.id"), ("/jobs/%2e%2e", "path.id"), ("/jobs/" + "x" * 65, "path.id"),
        ("/jobs/%00", "path.id"), ("/jobs/x%0a", "path.id"), ("/jobs/%ff", "path.id"), ("/videos/%C3%A9", "path.id"),
        ("/videos?page_token=../x", "query.page_token"),
    ],
)  # fmt: skip
def test_wrong_paths_and_queries_are_named(one: httpx.Client, path: str, place: str) -> None:
    told = problem(one.get(path), 400)
    assert [error["location"] for error in told["errors"]] == [place]


@pytest.mark.parametrize(
    "path", ["/", "/jobs/", "/jobs/a/b", "/jobs/a%2fb", "/jobs//x", "//jobs", "/JOBS", "/videos/a/b", "/file"]
)
def test_what_is_no_place_is_not_found(one: httpx.Client, path: str) -> None:
    problem(one.get(f"{one.base_url}{path}"), 404)


@pytest.mark.parametrize("method", ["PATCH", "TRACE", "OPTIONS", "HEAD", "PUT", "BREW"])
def test_a_method_that_is_not_there(one: httpx.Client, method: str) -> None:
    answer = one.request(method, "/jobs")
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "POST"}


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"{", b"{}x", b"\xff\xfe", b"\xef\xbb\xbf{}", b"\0", b"nul", b"[" * 100_000, b'{"a":' * 100_000,
        b'{"source":' * 150 + b"1" + b"}" * 150, b'{"source":"\\ud800"}', b'{"\\udfff":1}', b'{"a":"\xed\xa0\x80"}',
        b'{"outputs":[{"output":"thumbnail","at":NaN}]}', b'{"outputs":[{"output":"thumbnail","at":-Infinity}]}',
        b'{"outputs":[{"output":"thumbnail","at":1,"width":' + b"9" * 4000 + b"}]}",
        b'{"outputs":[{"output":"thumbnail","at":1,"width":' + b"9" * 5000 + b"}]}",
        b'{"outputs":[{"output":"thumbnail","at":1,"width":1e400}]}',
        b'{"outputs":[{"output":"thumbnail","at":1,"width":-1E-400}]}',
        b'{"outputs":[' + b"{}," * 5000 + b"{}]}", b'{"outputs":' + b"[" * 190 + b"]" * 190 + b"}",
        b'{"source":"' + b"x" * 5000 + b'"}', b'{"' + b"k" * 100_000 + b'":1}', b'{"a":1,"a":2}',
    ],
    ids=lambda body: ascii(body[:16] + body[-16:]),
)  # fmt: skip
def test_a_body_that_is_no_job_is_a_problem_and_no_more(one: httpx.Client, body: bytes) -> None:
    for method, path in (("POST", "/jobs"), ("PUT", "/videos/v")):
        told = problem(one.request(method, path, content=body, headers=JSON), 400)
        assert told["errors"] and all(error["location"].startswith("body") for error in told["errors"])
        assert len(told["detail"]) < 4000


@pytest.mark.parametrize(
    "type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x", "", "application/jsonx", None],
)
def test_a_body_of_another_type_is_told_which_one_it_should_have(
    one: httpx.Client, clip: Clip, type: str | None
) -> None:
    headers = {} if type is None else {"Content-Type": type}
    told = problem(one.post("/jobs", content=json.dumps(job_of(clip.path)), headers=headers), 400)
    assert told["errors"] == [{"message": "send the body as application/json", "location": "body", "value": None}]


def test_a_body_may_have_a_mebibyte_and_no_byte_more(door: Door, one: httpx.Client) -> None:
    job = json.dumps(job_of("/nowhere.mp4")).encode()
    fits = job + b" " * ((1 << 20) - len(job))
    assert one.post("/jobs", content=fits, headers=JSON).status_code == 202
    assert problem(one.post("/jobs", content=fits + b" ", headers=JSON), 413)["code"] == "too_large"
    pieces = [fits[n : n + 50_000] for n in range(0, len(fits), 50_000)]
    assert one.post("/jobs", content=iter(pieces), headers=JSON).status_code == 202
    problem(one.post("/jobs", content=iter([*pieces, b" "]), headers=JSON), 413)


@pytest.mark.parametrize(
    "headers",
    [
        {}, {"Authorization": ""}, {"Authorization": "Bearer"}, {"Authorization": "Bearer x"},
        {"Authorization": "Basic b25lOm9uZQ=="}, {"X-Api-Key": ""}, {"X-Api-Key": "x"}, {"X-Api-Key": "x" * 20_000},
        {"Authorization": b"Bearer \xff\xfe"}, {"X-Api-Key": b"\xe9"}, {"Authorization": "Bearer x", "X-Api-Key": "y"},
    ],
    ids=lambda headers: ascii(headers)[:40],
)  # fmt: skip
def test_without_a_good_key_nobody_comes_in(door: Door, headers: dict[str, str]) -> None:
    with door.client(None) as nobody:
        for method, path in (("GET", "/jobs"), ("GET", "/jobs/x"), ("DELETE", "/jobs/x"), ("GET", "/videos")):
            answer = nobody.request(method, path, headers=headers)
            assert problem(answer, 401)["code"] == "unauthenticated"
            assert answer.headers["www-authenticate"] == "Bearer"


def test_either_header_brings_the_key(door: Door) -> None:
    key = door.key("one")
    for headers in ({"Authorization": f"Bearer {key}"}, {"authorization": f"bearer {key}"}, {"X-Api-Key": key}):
        assert httpx.get(f"{door.url}/jobs", headers=headers).status_code == 200, headers
    assert httpx.get(f"{door.url}/jobs", headers={"Authorization": "Bearer x", "X-Api-Key": key}).status_code == 401


def test_a_key_that_was_taken_away_is_refused_soon(door: Door) -> None:
    """It is believed for a second, and then looked up again, however often it comes."""
    with door.client("short-lived") as client:
        assert client.get("/jobs").status_code == 200
        door.site.ask(lambda c: organisations.remove(c, "short-lived"))
        until(lambda: client.get("/jobs").status_code == 401, "the key is looked up again")
        door.site.ask(lambda c: organisations.add(c, "short-lived", [], None))
        assert client.get("/jobs").status_code == 401


def test_routes_and_not_paths_are_counted(door: Door, one: httpx.Client) -> None:
    for path in ("/jobs/a", "/jobs/b", "/x/y", "/files/a?key=secret"):
        one.get(path)
    one.request("BREW", "/jobs")
    counted = [name for name in door.daemon.metrics() if name.startswith("thumbd_http_requests_total")]
    assert any('route="/jobs/{id}"' in name and 'code="404"' in name for name in counted)
    assert any('method="other"' in name for name in counted) and any('route="none"' in name for name in counted)
    routes = set(one.get("/openapi.json").json()["paths"])
    for name in counted:
        route = name.partition('route="')[2].partition('"')[0].replace(":path}", "}")
        assert route in routes | {"none", "/openapi.json"} or route.startswith("/v1/"), name
