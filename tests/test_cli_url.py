"""`submit`, `status`, `cancel` and `retry` with `--url`: jobs of a daemon anywhere."""

import io
import json
import shutil
import signal
import subprocess
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from clips import RECIPES, Clip, make
from command import THUMBD, called, environment, one_line
from harness import PATIENCE, Running, Site, free_port, number_in, until
from rich.console import Console

pytestmark = pytest.mark.daemons

KEY = "thumbd_key"


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> Clip:
    return make(next(recipe for recipe in RECIPES if recipe.name == "h264"), clip_folder)


class Door:
    """A daemon with its API, and the key of an organisation."""

    def __init__(self, site: Site, daemon: Running, url: str) -> None:
        self.site, self.daemon, self.url = site, daemon, url
        added = called(site.root, "org", "add", "acme", THUMBD_DATABASE=f"sqlite:///{site.database}")
        self.key = added.stdout.strip()

    def thumbd(self, folder: Path, command: str, *words: object) -> CompletedProcess[str]:
        return called(folder, command, "--url", self.url, *words, THUMBD_API_KEY=self.key)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, clip: Clip) -> Iterator[Door]:
    site = Site(tmp_path_factory.mktemp("door"), clip.path.parent)
    listen = f"127.0.0.1:{free_port()}"
    with site.daemon(http__listen=listen) as daemon:
        yield Door(site, daemon.ready(), f"http://{listen}")


def fetched(url: str, to: Path) -> Path:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        to.write_bytes(answer.read())
    return to


# A real daemon.


def test_a_video_is_submitted_as_written_and_its_picture_is_a_url(door: Door, tmp_path: Path, clip: Clip) -> None:
    ran = door.thumbd(tmp_path, "submit", clip.path.name, "--at", "1s", "--width", 160, "--wait")
    assert (ran.returncode, ran.stderr) == (0, "")
    [url] = ran.stdout.splitlines()
    assert "/h264.webp?" in url
    assert number_in(fetched(url, tmp_path / "a.webp")) == 25


def test_a_registered_video_by_its_id(door: Door, tmp_path: Path, clip: Clip) -> None:
    settings = {
        "THUMBD_DATABASE": f"sqlite:///{door.site.database}",
        "THUMBD_SOURCES__ROOTS": json.dumps([str(clip.path.parent)]),
    }
    assert called(tmp_path, "video", "add", "acme", "film", clip.path, **settings).returncode == 0
    ran = door.thumbd(tmp_path, "submit", "video:film", "--at", "1s", "--out", "o")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == "o/film.webp\n"
    assert number_in(tmp_path / "o" / "film.webp") == 25


def test_without_waiting_the_id_is_said(door: Door, tmp_path: Path, clip: Clip) -> None:
    ran = door.thumbd(tmp_path, "submit", clip.path, "--priority", "high", "--destination", "a/b")
    assert (ran.returncode, ran.stderr) == (0, "")
    id = ran.stdout.strip()
    until(lambda: "completed" in door.thumbd(tmp_path, "status", id).stdout, "the job is done")
    report = json.loads(door.thumbd(tmp_path, "status", id, "--json").stdout)
    assert (report["id"], report["org"], report["status"]) == (id, "acme", "completed")
    assert report["outputs"][0]["path"] == "orgs/acme/a/b/h264.webp"


def test_every_file_is_saved(door: Door, tmp_path: Path, clip: Clip) -> None:
    sheets = {"output": "sprite", "name": "scrub", "count": 6, "columns": 2, "rows": 2, "indexes": ["vtt", "json"]}
    series = {"output": "thumbnails", "name": "s", "count": 2, "width": 64}
    job = {"id": "saved", "source": str(clip.path), "destination": "a/c", "outputs": [sheets, series]}
    (tmp_path / "job.json").write_text(json.dumps(job))
    ran = door.thumbd(tmp_path, "submit", "job.json", "--out", "o", "--json")
    assert ran.returncode == 0, ran.stderr
    saved = {str(path.relative_to(tmp_path / "o")) for path in (tmp_path / "o").rglob("*") if path.is_file()}
    report = json.loads(ran.stdout)
    assert saved == {file.removeprefix("orgs/acme/") for output in report["outputs"] for file in output["files"]}
    assert {"a/c/scrub-000.jpg", "a/c/scrub-001.jpg", "a/c/scrub.vtt", "a/c/scrub.json", "a/c/s-0001.webp"} <= saved
    for file in saved:
        published = door.site.store / "orgs" / "acme" / file
        assert (tmp_path / "o" / file).read_bytes() == published.read_bytes()


def test_a_job_that_fails_is_1(door: Door, tmp_path: Path, clip: Clip) -> None:
    for name, source in (("good", clip.path), ("bad", "none.mp4")):
        job = {"id": f"{name}-one", "source": str(source), "outputs": [{"output": "thumbnail", "at": 1}]}
        (tmp_path / f"{name}.json").write_text(json.dumps(job))
    ran = door.thumbd(tmp_path, "submit", "bad.json", "good.json", "--out", "o")
    assert (ran.returncode, ran.stdout) == (1, "o/good-one/thumbnail-1.webp\n")
    assert one_line(ran.stderr) and "bad-one: " in ran.stderr and "no such file" in ran.stderr
    assert "no such file" in door.thumbd(tmp_path, "status", "bad-one").stdout
    ran = door.thumbd(tmp_path, "cancel", "bad-one")
    assert ran.returncode == 1
    assert one_line(ran.stderr) and "job 'bad-one' is failed: it is over already" in ran.stderr


def test_the_newest_jobs_come_first_over_all_pages(
    door: Door, tmp_path: Path, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.cli.client._PAGE", 2)
    ids = [door.thumbd(tmp_path, "submit", clip.path).stdout.strip() for _ in range(3)]
    shown = door.thumbd(tmp_path, "status", "--most", 3).stdout.splitlines()
    assert [line.split()[0] for line in shown] == ids[::-1]
    reports = json.loads(door.thumbd(tmp_path, "status", "--most", 3, "--json").stdout)
    assert [report["id"] for report in reports] == ids[::-1]


def test_a_failed_job_is_queued_again(door: Door, tmp_path: Path, clip: Clip) -> None:
    later = clip.path.with_name("later.mp4")
    id = door.thumbd(tmp_path, "submit", later, "--at", "1s").stdout.strip()
    until(lambda: "failed" in door.thumbd(tmp_path, "status", id).stdout, "the job has failed")
    shutil.copy(clip.path, later)
    ran = door.thumbd(tmp_path, "retry", id)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"{id}: queued again\n", "")
    until(lambda: "completed" in door.thumbd(tmp_path, "status", id).stdout, "the job is done")
    later.unlink()
    ran = door.thumbd(tmp_path, "retry", id)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == f"thumbd: job '{id}' is completed: only failed jobs can be run again\n"


@pytest.mark.parametrize("command", ["status", "cancel", "retry"])
def test_a_job_that_is_not_there_is_named(door: Door, tmp_path: Path, command: str) -> None:
    ran = door.thumbd(tmp_path, command, "none")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == f"thumbd: there is no job 'none', says {door.url}\n"
    ran = door.thumbd(tmp_path, command, "../videos")
    assert ran.returncode in (1, 2) and ran.stdout == ""
    assert one_line(ran.stderr)


def test_each_wrong_field_is_named(door: Door, tmp_path: Path) -> None:
    """What this version knows to be wrong is not sent; what only the daemon knows, it says."""
    good = {"source": "a", "outputs": [{"output": "thumbnail", "at": 1}]}
    (tmp_path / "here.json").write_text(json.dumps({**good, "outputs": [{"output": "thumbnail", "at": 1, "widht": 2}]}))
    (tmp_path / "there.json").write_text(json.dumps({**good, "org": "other"}))
    ran = door.thumbd(tmp_path, "submit", "here.json")
    assert ran.returncode == 2
    assert one_line(ran.stderr) and "here.json: outputs[0].widht: unknown key" in ran.stderr
    ran = door.thumbd(tmp_path, "submit", "there.json")
    assert ran.returncode == 2
    assert one_line(ran.stderr) and "there.json: org: a job belongs to the organisation of the API key" in ran.stderr


def test_check_knows_a_daemon_that_listens_already(door: Door, tmp_path: Path) -> None:
    ran = called(tmp_path, "check", THUMBD_HTTP__LISTEN=door.url.removeprefix("http://"))
    assert ran.returncode == 0, ran.stdout
    assert f"clients find it at {door.url} (setting http.public_url); a daemon listens there now" in ran.stdout


# Wrong use.


@pytest.mark.parametrize(
    ("key", "said"),
    [("", "put the one that"), (" ", "put the one that"), ("thumbd_wrong", "not known"), ("ä\n", "holds no API key")],
)
@pytest.mark.parametrize("words", [("submit", "a.mp4"), ("status",), ("cancel", "x"), ("retry", "x")])
def test_a_wrong_key_is_2(door: Door, tmp_path: Path, key: str, said: str, words: tuple[str, ...]) -> None:
    ran = called(tmp_path, words[0], "--url", door.url, *words[1:], THUMBD_API_KEY=key)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert one_line(ran.stderr) and said in ran.stderr


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8080", "ftp://a", "http://", "http://me:hunter2@a", "http://a?b=c", "http://a:b"],
)
def test_a_wrong_url_is_2(tmp_path: Path, url: str) -> None:
    ran = called(tmp_path, "status", "--url", url, THUMBD_API_KEY=KEY)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert one_line(ran.stderr) and "http://host:port" in ran.stderr and "hunter2" not in ran.stderr


def test_nobody_answers(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    for words in (["submit", "a.mp4", "--wait"], ["status"], ["status", "x"], ["cancel", "x"], ["retry", "x"]):
        ran = called(tmp_path, words[0], "--url", url, *words[1:], THUMBD_API_KEY=KEY)
        assert (ran.returncode, ran.stdout) == (2, "")
        assert one_line(ran.stderr) and f"no daemon answers at {url}" in ran.stderr


def test_somebody_else_answers(door: Door, tmp_path: Path) -> None:
    metrics = f"http://127.0.0.1:{door.daemon._port}"
    ran = called(tmp_path, "status", "--url", metrics, THUMBD_API_KEY=KEY)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert one_line(ran.stderr) and "is no thumbd: it said 404" in ran.stderr


def test_files_are_saved_from_a_url_only(tmp_path: Path) -> None:
    ran = called(tmp_path, "submit", "a.mp4", "--out", "o")
    assert ran.returncode == 2
    assert one_line(ran.stderr) and "--out goes with --url" in ran.stderr


# A daemon that answers as it is told to.

Answer = Callable[[str, str], tuple[int, dict[str, str], object] | None]


class Pretender:
    """`answer(method, path)`: status, headers and JSON; None breaks the connection. `asked`: what was, and the keys."""

    def __init__(self, answer: Answer) -> None:
        self.asked: list[tuple[str, str]] = []
        self.keys: set[str] = set()

        class Handler(BaseHTTPRequestHandler):
            def handle_any(handler) -> None:
                handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
                self.asked.append((handler.command, handler.path))
                self.keys.add(handler.headers.get("Authorization", ""))
                if (said := answer(handler.command, handler.path)) is None:
                    handler.close_connection = True
                    return
                status, headers, body = said
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                handler.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    handler.send_header(name, value)
                handler.end_headers()
                handler.wfile.write(data)

            do_GET = do_POST = do_DELETE = handle_any

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> "Pretender":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def job(status: str, **keys: object) -> dict[str, object]:
    return {"id": "x", "org": "acme", "status": status, "said_by": "a newer version", **keys}


def test_a_daemon_that_starts_again_is_waited_for(tmp_path: Path) -> None:
    busy = (503, {"Retry-After": "0"}, {"title": "Service Unavailable", "detail": "draining", "code": "overloaded"})
    answers = iter([busy, None, (200, {}, job("processing", made=1, in_all=2)), (200, {}, job("completed"))])

    def answer(method: str, path: str) -> Any:
        return (202, {}, job("pending")) if method == "POST" else next(answers)

    with Pretender(answer) as daemon:
        ran = called(tmp_path, "submit", "--url", daemon.url, "a.mp4", "--wait", "--json", THUMBD_API_KEY=KEY)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert json.loads(ran.stdout)["said_by"] == "a newer version"
    [posted, *polled] = daemon.asked
    assert posted == ("POST", "/jobs")
    assert len(polled) == 4 and all(path.startswith("/jobs/") and "wait=30" in path for _, path in polled)
    assert daemon.keys == {f"Bearer {KEY}"}


def test_on_a_terminal_all_jobs_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long wait for the first one would let the others' progress stand still."""
    screen = Console(file=io.StringIO(), force_terminal=True, width=100)
    monkeypatch.setattr("daemon.cli.terminal.errors", screen)
    polls: Counter[str] = Counter()

    def answer(method: str, path: str) -> Any:
        polls[path] += method == "GET"
        state = "completed" if polls[path] > 1 else "processing"
        return 200, {}, job(state, made=1, in_all=2)

    for id in "xy":
        text = json.dumps({"id": id, "source": "a", "outputs": [{"output": "thumbnail", "at": 1}]})
        (tmp_path / f"{id}.json").write_text(text)
    with Pretender(answer) as daemon:
        ran = called(tmp_path, "submit", "--url", daemon.url, "x.json", "y.json", "--wait", THUMBD_API_KEY=KEY)
    assert ran.returncode == 0, ran.stderr
    assert polls == {"/jobs": 0, "/jobs/x?wait=1.0": 2, "/jobs/y?wait=0": 2}


@pytest.mark.parametrize(
    ("status", "code", "exit", "said"),
    [
        ("failed", "cancelled", 0, "x: cancelled\n"),
        ("processing", None, 0, "x: cancelled\n"),
        ("completed", None, 1, "thumbd: job 'x' is completed: it is over already\n"),
    ],
)
def test_cancelling(tmp_path: Path, status: str, code: str | None, exit: int, said: str) -> None:
    error = code and {"code": code, "message": "cancelled", "output": None}
    with Pretender(lambda method, path: (200, {}, job(status, error=error))) as daemon:
        ran = called(tmp_path, "cancel", "--url", f"{daemon.url}/", "x", THUMBD_API_KEY=KEY)
    assert (ran.returncode, ran.stdout + ran.stderr) == (exit, said)
    assert daemon.asked == [("DELETE", "/jobs/x")]


def test_patience_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.cli.remote._PATIENCE", 0.0)
    full = (503, {"Retry-After": "3600"}, {"detail": "draining", "code": "overloaded"})
    with Pretender(lambda method, path: (202, {}, job("pending")) if method == "POST" else full) as daemon:
        ran = called(tmp_path, "submit", "--url", daemon.url, "a.mp4", "--wait", THUMBD_API_KEY=KEY)
    assert (ran.returncode, ran.stdout, ran.stderr) == (2, "", "thumbd: draining\n")


def test_all_that_is_wrong_stands_in_one_line(tmp_path: Path) -> None:
    errors = [
        {"message": "at most\n4096", "location": "body.outputs[0].width", "value": 5000},
        {"message": "unknown \x1b[31mkey", "location": "body.later", "value": 1},
    ]
    problem = {"title": "Bad Request", "status": 400, "detail": "much", "code": "bad_request", "errors": errors}
    with Pretender(lambda method, path: (400, {"Content-Type": "application/problem+json"}, problem)) as daemon:
        ran = called(tmp_path, "submit", "--url", daemon.url, "a.mp4", THUMBD_API_KEY=KEY)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "thumbd: a.mp4: outputs[0].width: at most 4096; later: unknown  [31mkey\n"


@pytest.mark.parametrize("path", ["../up.webp", "/etc/up.webp", "orgs/acme/x/../../up.webp", "orgs/acme/x/.up", "a\nb"])
def test_no_file_is_saved_where_it_does_not_belong(tmp_path: Path, path: str) -> None:
    def answer(method: str, asked: str) -> Any:
        output = {"path": path, "url": f"{daemon.url}/files/up", "other_urls": {}}
        return (200, {}, b"bytes") if asked == "/files/up" else (202, {}, job("completed", outputs=[output]))

    (tmp_path / "o").mkdir()
    with Pretender(answer) as daemon:
        ran = called(tmp_path / "o", "submit", "--url", daemon.url, "a.mp4", "--out", "p", THUMBD_API_KEY=KEY)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert one_line(ran.stderr) and "it is not saved" in ran.stderr
    assert [str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*")] == ["o"]


def test_the_key_goes_to_the_daemon_alone(tmp_path: Path) -> None:
    with Pretender(lambda method, path: (200, {}, b"a picture")) as elsewhere:
        output = {"path": "orgs/acme/y/a.webp", "url": f"{elsewhere.url}/files/a?signature=1"}
        with Pretender(lambda method, path: (202, {}, job("completed", outputs=[output]))) as daemon:
            ran = called(tmp_path, "submit", "--url", daemon.url, "a.mp4", "--out", "o", THUMBD_API_KEY=KEY)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert [file.read_bytes() for file in tmp_path.rglob("a.webp")] == [b"a picture"]
    assert (daemon.keys, elsewhere.keys) == ({f"Bearer {KEY}"}, {""})


def test_a_file_that_breaks_off_is_not_there(tmp_path: Path) -> None:
    """Nor is its signed URL told."""

    def answer(method: str, asked: str) -> Any:
        output = {"path": "orgs/acme/y/a.webp", "url": f"{daemon.url}/files/a?signature=hunter2"}
        return None if asked.startswith("/files") else (202, {}, job("completed", outputs=[output]))

    with Pretender(answer) as daemon:
        ran = called(tmp_path, "submit", "--url", daemon.url, "a.mp4", "--out", "o", THUMBD_API_KEY=KEY)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert one_line(ran.stderr) and "cannot be fetched" in ran.stderr and "hunter2" not in ran.stderr
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_ctrl_c_while_waiting_ends_the_waiting_only(tmp_path: Path) -> None:
    polled, let_go = threading.Event(), threading.Event()

    def answer(method: str, path: str) -> Any:
        if method == "POST":
            return 202, {}, job("pending")
        polled.set()
        let_go.wait(PATIENCE)
        return None

    (tmp_path / "job.json").write_text('{"id": "x", "source": "a", "outputs": [{"output": "thumbnail", "at": 1}]}')
    with Pretender(answer) as daemon:
        command = [*THUMBD, "submit", "--url", daemon.url, "job.json", "--wait"]
        running = subprocess.Popen(
            command, cwd=tmp_path, env=environment(THUMBD_API_KEY=KEY), stderr=subprocess.PIPE, text=True
        )
        try:
            assert polled.wait(PATIENCE)
            running.send_signal(signal.SIGINT)
            _, said = running.communicate(timeout=PATIENCE)
        finally:
            let_go.set()
            running.kill()
            running.wait()
    assert running.returncode == 130
    assert said == f"thumbd: interrupted: the daemon goes on with x: see `thumbd status --url {daemon.url}`\n"
    assert [method for method, _ in daemon.asked] == ["POST", "GET"]
