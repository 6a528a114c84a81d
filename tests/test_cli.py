"""The command as its users type it: what it makes, prints and returns."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import pytest
from clips import RECIPES, make, not_a_video, read_number
from command import THUMBD, called, environment, one_line, thumbd
from harness import free_port
from PIL import Image
from sqlalchemy import Engine

from daemon.config import BadSettings
from daemon.database import open_engine
from daemon.errors import DecodeFailed
from daemon.jobs import lease, row, table
from daemon.jobs.row import Publication
from daemon.jobs.table import NewJob
from daemon.listening import listen
from daemon.report import ErrorReport, Report
from daemon.serving import listening_socket

H264 = next(recipe for recipe in RECIPES if recipe.name == "h264")


@pytest.fixture
def film(clip_folder: Path) -> Path:
    return make(H264, clip_folder).path


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[Engine]:
    """Those of the daemon in this folder."""
    engine = open_engine(f"sqlite:///{tmp_path / 'thumbd-data' / 'thumbd.db'}")
    yield engine
    engine.dispose()


def number(picture: Path) -> int:
    with Image.open(picture) as image:
        return read_number(np.asarray(image.convert("RGB")))


def test_a_picture_goes_right_into_the_folder(tmp_path: Path, film: Path) -> None:
    ran = thumbd(tmp_path, "run", film, "--at", "1.0s", "--width", 160)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines() == ["h264.webp"]
    assert sorted(os.listdir(tmp_path)) == ["h264.webp", "manifest.json"]
    assert number(tmp_path / "h264.webp") == 25


def test_several_times_and_a_sprite_at_once(tmp_path: Path, film: Path) -> None:
    ran = called(tmp_path, "run", film, "--at", "0", "--at", "50%", "--count", 4, "--sprite", "--out", "o", "--json")
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert [output["output"] for output in report["outputs"]] == ["thumbnail", "thumbnail", "sprite"]
    for output in report["outputs"]:
        assert all((tmp_path / "o" / file).is_file() for file in output["files"])
    assert number(tmp_path / "o" / report["outputs"][1]["path"]) == 37


def test_a_clip_lies_beside_its_video(tmp_path: Path, film: Path) -> None:
    copy = tmp_path / "film.mp4"
    copy.write_bytes(film.read_bytes())
    ran = called(tmp_path, "run", "film.mp4", "--clip", "--start", "1", "--duration", "0.2s", "--fps", "10", "--json")
    assert ran.returncode == 0, ran.stderr
    [output] = json.loads(ran.stdout)["outputs"]
    assert (output["path"], output["frames"], output["duration"]) == ("film-clip.mp4", 2, 0.2)
    assert called(tmp_path, "run", "film.mp4", "--animation", "--start", "2").stdout == "film-animation.webp\n"
    assert number(tmp_path / "film-animation.webp") == 50
    assert copy.read_bytes() == film.read_bytes()


def test_a_job_file_goes_to_its_destination(tmp_path: Path, film: Path) -> None:
    job = {"source": str(film), "destination": "a/b", "outputs": [{"output": "thumbnail", "name": "p", "at": 0}]}
    (tmp_path / "job.json").write_text(json.dumps(job))
    ran = called(tmp_path, "run", "job.json")
    assert (ran.returncode, ran.stdout) == (0, "a/b/p.webp\n")
    assert json.loads((tmp_path / "a/b/manifest.json").read_text())["outputs"][0]["path"] == "a/b/p.webp"


def test_a_job_that_fails_says_why_and_leaves_nothing(tmp_path: Path, film: Path) -> None:
    noise, _ = not_a_video(tmp_path)
    before = sorted(os.listdir(tmp_path))
    for source, at, said in (
        (noise, "1", "no container"),
        (film, "99s", "ends after"),
        ("no.mp4", "1", "no such file"),
    ):
        ran = called(tmp_path, "run", source, "--at", at)
        assert ran.returncode == 1
        assert one_line(ran.stderr), ran.stderr
        assert said in ran.stderr
        assert ran.stdout == ""
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "FILM", "--width", "5000"], "width"),
        (["run", "FILM", "--at", "later"], "no time"),
        (["run", "FILM", "--at", "worst"], "'worst' is no time"),
        (["run", "FILM", "--sprite"], "--every or --count"),
        (["run", "FILM", "--duration", "1"], "--duration goes with --clip or --animation"),
        (["run", "FILM", "--clip", "--every", "1"], "--every and --clip do not go together: leave one of them out"),
        (["run", "FILM", "--clip", "--animation"], "--animation and --clip do not go together"),
        (["run", "FILM", "--animation", "--end", "1"], "--start and --duration say which stretch --animation takes"),
        (["submit", "FILM", "--clip", "--sprite"], "--sprite and --clip do not go together"),
        (["run", "FILM", "--start", "1"], "--start needs --every or --count, --clip or --animation"),
        (["run", "FILM", "--at", "1", "--end", "2"], "--end needs --every or --count"),
        (["run", "FILM", "--pick", "best"], "--pick needs --every or --count"),
        (["run", "FILM", "--nonsense"], "No such option"),
        (["run", "wrong.json"], "outpts"),
        (["run", "missing.json"], "No such file"),
        (["run", "wrong.json", "--at", "1"], "--at"),
        (["submit", "FILM"], "no spool"),
        (["serve", "--config", "nowhere.toml"], "nowhere.toml"),
        (["dance"], "No such command"),
    ],
)
def test_wrong_use_is_2(words: list[str], said: str, tmp_path: Path, film: Path) -> None:
    (tmp_path / "wrong.json").write_text('{"source": "a", "outpts": 1, "outputs": [{"output": "thumbnail", "at": 1}]}')
    ran = called(tmp_path, *(str(film) if word == "FILM" else word for word in words))
    assert (ran.returncode, ran.stdout) == (2, "")
    assert one_line(ran.stderr), ran.stderr
    assert said in ran.stderr


def test_the_schema_is_one(tmp_path: Path) -> None:
    schema = json.loads(thumbd(tmp_path, "schema").stdout)
    assert schema["type"] == "object"
    assert {"source", "outputs", "destination", "priority"} <= schema["properties"].keys()


def test_check_says_what_works_and_what_does_not(tmp_path: Path) -> None:
    # Ports that nobody else can have: other tests have daemons at the usual ones.
    free = "".join(f'{door}.listen = "127.0.0.1:0"\n' for door in ("http", "metrics", "grpc"))
    (tmp_path / "good.toml").write_text(f'{free}http.public_url = "https://thumbs.example/"\n')
    fine = called(tmp_path, "check", "--config", "good.toml")
    assert fine.returncode == 0, fine.stdout
    assert "FAIL" not in fine.stdout
    assert "clients find it at https://thumbs.example (" in fine.stdout
    (tmp_path / "bad.toml").write_text(f'device = "cuda:0"\n{free}[store]\nroot = "/proc/nowhere"\n')
    bad = called(tmp_path, "check", "--config", "bad.toml")
    assert bad.returncode == 1
    failed = [line.split()[1] for line in bad.stdout.splitlines() if line.startswith("FAIL")]
    assert failed == ["device", "gpu", "store.root"]


def test_check_says_whether_the_api_can_listen_and_who_may_ask(tmp_path: Path) -> None:
    with socket.socket() as one, socket.socket() as another, socket.socket() as third:
        doors = {}
        for door, other in {"http.listen": one, "metrics.listen": another, "grpc.listen": third}.items():
            other.bind(("127.0.0.1", 0))
            doors[door] = f"127.0.0.1:{other.getsockname()[1]}"
        (tmp_path / "a.toml").write_text("".join(f'{door} = "{taken}"\n' for door, taken in doors.items()))
        assert called(tmp_path, "org", "add", "acme").returncode == 0
        ran = called(tmp_path, "check", "--config", "a.toml")
    assert ran.returncode == 1
    lines = {line.split()[1]: line for line in ran.stdout.splitlines() if line.startswith(("ok", "FAIL"))}
    for door, taken in doors.items():
        assert lines[door].startswith("FAIL") and f"{taken}: Address already in use" in lines[door]
    assert lines["orgs"].endswith(" 1 with 1 API keys")


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["status", "x"],
        ["cancel", "x"],
        ["retry", "x"],
        ["org", "list"],
        ["video", "list"],
        ["video", "add", "acme", "x", "film.mp4"],
    ],
    ids=" ".join,
)
def test_who_asks_where_no_database_is_makes_none(tmp_path: Path, words: list[str]) -> None:
    ran = called(tmp_path, *words)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert one_line(ran.stderr) and f"no database at {tmp_path}/thumbd-data/thumbd.db (setting database)" in ran.stderr
    assert "start `thumbd serve`" in ran.stderr and "--config" in ran.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.usefixtures("tables")
def test_the_table_of_nobody_is_empty(tmp_path: Path) -> None:
    assert called(tmp_path, "status").stdout == "no jobs yet\n"
    for words in (["status", "x"], ["cancel", "x"], ["retry", "x"]):
        ran = called(tmp_path, *words)
        assert ran.returncode == 1
        assert "there is no job 'x'" in ran.stderr


@pytest.mark.parametrize(
    ("copy", "options"),
    [("loop.webp", []), ("film.mp4", ["--clip", "--name", "film", "--duration", "0.2s"])],
)
def test_a_source_is_not_replaced_by_its_picture(copy: str, options: list[str], tmp_path: Path, film: Path) -> None:
    """Elsewhere it may be called like it."""
    shutil.copy(film, tmp_path / copy)
    before = (tmp_path / copy).read_bytes()
    for source in (copy, f"./{copy}", str(tmp_path / copy)):
        ran = thumbd(tmp_path, "run", source, *options)
        assert ran.returncode == 1 and "would replace its own source: give --name, or --out" in ran.stderr
        assert (tmp_path / copy).read_bytes() == before
    assert thumbd(tmp_path, "run", copy, "--out", "there", *options).returncode == 0
    assert (tmp_path / "there" / copy).exists()


@pytest.mark.parametrize("door", ["metrics", "http", "grpc"])
def test_a_daemon_that_cannot_listen_says_where_and_what_to_do(tmp_path: Path, door: str) -> None:
    free = {f"THUMBD_{each}__LISTEN": "127.0.0.1:0" for each in ("METRICS", "HTTP", "GRPC")}
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        ran = thumbd(tmp_path, "serve", **{**free, f"THUMBD_{door.upper()}__LISTEN": taken})
    assert (ran.returncode, ran.stdout) == (2, "")
    advice = "another daemon may be running there: stop it, or give this setting another host:port"
    assert ran.stderr == f"thumbd: {door}.listen {taken}: Address already in use: {advice}\n"


def test_two_doors_are_not_one(tmp_path: Path) -> None:
    same = f"127.0.0.1:{free_port()}"
    doors = {"THUMBD_METRICS__LISTEN": same, "THUMBD_HTTP__LISTEN": same, "THUMBD_GRPC__LISTEN": ""}
    ran = thumbd(tmp_path, "serve", **doors)
    assert ran.returncode == 2 and one_line(ran.stderr)
    assert f"http.listen and metrics.listen are both {same}: give one another port" in ran.stderr


def test_an_address_that_another_daemon_took_meanwhile_is_named() -> None:
    """Two may be bound to it until one of them listens."""
    address = f"127.0.0.1:{free_port()}"
    with listening_socket(address) as one, listening_socket(address) as other:
        one.listen()
        with pytest.raises(BadSettings, match=f"http.listen {address}: Address already in use: another"):
            listen("http.listen", address, other)


def test_who_waits_where_no_daemon_is_hears_of_it(tmp_path: Path) -> None:
    """And is told, when he gives up, what goes on."""
    for folder in ("in", "done", "failed"):
        (tmp_path / "spool" / folder).mkdir(parents=True)
    (tmp_path / "job.json").write_text('{"id": "x", "source": "a", "outputs": [{"output": "thumbnail", "at": 1}]}')
    command = [*THUMBD, "submit", "job.json", "--wait"]
    settings = environment(THUMBD_SPOOL__ROOT="spool", THUMBD_DATABASE="sqlite:///t.db")
    running = subprocess.Popen(command, cwd=tmp_path, env=settings, stderr=subprocess.PIPE, text=True)
    with running, running.stderr as stderr:  # type: ignore[union-attr]
        said = stderr.readline()
        assert "no daemon has taken x in yet: is `thumbd serve` running" in said and "wait in spool/in" in said
        running.send_signal(signal.SIGINT)
        # Where it comes while the line before is still being written, Rich writes that once more.
        assert stderr.read().endswith("thumbd: interrupted: the daemon goes on with x: see `thumbd status`\n")
    assert running.returncode == 130


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, film: Path) -> None:
    command = [
        sys.executable,
        "-P",
        "-m",
        "daemon",
        "run",
        str(film),
        "--every",
        "0.04",
        "--width",
        "4000",
        "--upscale",
    ]
    running = subprocess.Popen([*command, "--format", "png"], cwd=tmp_path, stderr=subprocess.PIPE)
    deadline = monotonic() + 60
    while not list(tmp_path.glob(".staging/*/*")) and monotonic() < deadline:
        assert running.poll() is None, running.communicate()
        sleep(0.01)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert os.listdir(tmp_path) == []


# What is said of wrong use, and to whom.


def test_without_words_it_helps(tmp_path: Path) -> None:
    ran = called(tmp_path)
    assert ran.returncode == 0
    assert all(command in ran.stdout for command in ("run", "submit", "serve", "status", "demo", "check", "schema"))


def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    ran = called(tmp_path, "--version")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"thumbd {version('thumbd')}\n", "")


@pytest.mark.parametrize("option", ["--count", "--width", "--height", "--short-side", "--quality"])
def test_nothing_is_a_number_too(tmp_path: Path, film: Path, option: str) -> None:
    ran = called(tmp_path, "run", film, option, 0)
    assert ran.returncode == 2
    assert one_line(ran.stderr) and option[2:].replace("-", "_") in ran.stderr


@pytest.mark.parametrize(
    ("name", "made"),
    [
        (".hidden.mp4", "hidden.webp"),
        ("_-x.mp4", "x.webp"),
        ("ein Film (2).mp4", "ein Film (2).webp"),
        ("a\nb\\c.mp4", "abc.webp"),
        ("---.mp4", "video.webp"),
        ("film", "film.webp"),
        ("ä" * 100 + ".mp4", "ä" * 60 + ".webp"),
    ],
)
def test_a_video_may_be_called_anything(tmp_path: Path, film: Path, name: str, made: str) -> None:
    (tmp_path / name).symlink_to(film)
    ran = called(tmp_path, "run", tmp_path / name, "--width", 32, "--out", "o")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert sorted(os.listdir(tmp_path / "o")) == sorted([made, "manifest.json"])


@pytest.mark.usefixtures("tables")
def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    for words in (["schema"], ["status"]):
        reading, writing = os.pipe()
        os.close(reading)
        command = [sys.executable, "-P", "-m", "daemon", *words]
        ran = subprocess.run(command, cwd=tmp_path, env=environment, stdout=writing, stderr=subprocess.PIPE)
        os.close(writing)
        assert ran.stderr == b""


def test_no_password_is_shown(tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="without the extra `postgres` no such database is opened")
    (tmp_path / "a.toml").write_text('database = "postgresql://me:hunter2@127.0.0.1:1/x?connect_timeout=1"\n')
    for words in (["check"], ["status"], ["cancel", "x"]):
        ran = called(tmp_path, *words, "--config", "a.toml")
        assert ran.returncode in (1, 2)
        assert "hunter2" not in ran.stdout + ran.stderr
        assert "postgresql" in ran.stdout + ran.stderr


# The job table from the command line.


@pytest.fixture
def jobs(tables: Engine) -> Engine:
    """One job waits, one runs, one failed, one is done."""
    with tables.begin() as connection:
        for id in ("done", "failed", "running", "waiting"):
            job = NewJob(id, "default", id, f"/media/{id}.mp4", id, 1, "{}")
            table.add(connection, job)
            if id == "waiting":
                continue
            ((held,),) = lease.claim(connection, "owner", 1, 0, 30.0, {})
            if id == "failed":
                lease.fail(connection, held, row.failed_report(held, DecodeFailed("frame 7 is broken")))
            if id == "done":
                report = Report(id=id, org="default", status="completed", attempt=1)
                lease.publishing(connection, held, report.model_dump_json())
                lease.complete(connection, Publication(held.key, held.token, held.staging, held.destination))
    return tables


@pytest.mark.usefixtures("jobs")
def test_status_shows_the_newest_first_and_how_many(tmp_path: Path) -> None:
    *lines, counts = called(tmp_path, "status").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["waiting", "running", "failed", "done"]
    assert "frame 7 is broken" in lines[2]
    assert sorted(counts.split("  ")) == ["completed: 1", "failed: 1", "queued: 1", "running: 1"]
    assert [line.split()[0] for line in called(tmp_path, "status", "--most", 1).stdout.splitlines()][:1] == ["waiting"]


@pytest.mark.usefixtures("jobs")
def test_status_of_one_job(tmp_path: Path) -> None:
    assert "failed" in thumbd(tmp_path, "status", "failed").stdout
    report = json.loads(called(tmp_path, "status", "failed", "--json").stdout)
    assert (report["status"], report["error"]["code"]) == ("failed", "decode_failed")
    reports = json.loads(called(tmp_path, "status", "--json").stdout)
    assert [report["status"] for report in reports] == ["pending", "processing", "failed", "completed"]


@pytest.mark.parametrize(
    ("command", "id", "code", "said", "state"),
    [
        ("cancel", "waiting", 0, "waiting: cancelled", "failed"),
        ("cancel", "running", 0, "running: cancelled", "running"),
        ("cancel", "failed", 1, "job 'failed' is failed: it is over already", "failed"),
        ("cancel", "done", 1, "job 'done' is completed: it is over already", "completed"),
        ("retry", "failed", 0, "failed: queued again", "queued"),
        ("retry", "waiting", 1, "job 'waiting' is queued: only failed jobs can be run again", "queued"),
        ("retry", "done", 1, "job 'done' is completed: only failed jobs can be run again", "completed"),
    ],
)
def test_cancel_and_retry(
    tmp_path: Path, jobs: Engine, command: str, id: str, code: int, said: str, state: str
) -> None:
    ran = called(tmp_path, command, id)
    assert ran.returncode == code
    assert said in (ran.stderr if code else ran.stdout)
    with jobs.begin() as connection:
        known = table.get(connection, None, id)
    assert known is not None and known.state == state


# Dropping jobs into a spool.


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "thumbd-data" / "spool" / "in"
    folder.mkdir(parents=True)
    return folder


def test_a_video_is_dropped_by_its_whole_path(tmp_path: Path, inbox: Path, film: Path) -> None:
    (tmp_path / ".film.mp4").symlink_to(film)
    words = ["submit", ".film.mp4", "--at", "1s", "--width", "99", "--priority", "high", "--destination", "a/b"]
    ran = called(tmp_path, *words)
    assert (ran.returncode, ran.stderr) == (0, "")
    (dropped,) = inbox.iterdir()
    id = ran.stdout.strip()
    assert dropped.name == f"film.{id}.json"
    job = json.loads(dropped.read_bytes())
    assert (job["id"], job["source"]) == (id, str(tmp_path / ".film.mp4"))
    assert (job["priority"], job["destination"]) == ("high", "a/b")
    assert [(output["output"], output["width"]) for output in job["outputs"]] == [("thumbnail", 99)]


@pytest.mark.parametrize(
    ("what", "name"),
    [("video:film.v2", "film.webp"), ("https://cdn.example/a/film.mp4?token=hunter2.x", "film.webp")],
)
def test_what_is_no_path_is_dropped_as_it_was_written(tmp_path: Path, inbox: Path, what: str, name: str) -> None:
    assert called(tmp_path, "submit", what).returncode == 0
    (dropped,) = inbox.iterdir()
    job = json.loads(dropped.read_bytes())
    assert (job["source"], f"{job['outputs'][0]['name']}.webp") == (what, name)
    assert "hunter2" not in dropped.name


def test_job_files_are_dropped_as_they_are(tmp_path: Path, inbox: Path) -> None:
    for name in ("one", "two"):
        job = {"id": name, "source": "a.mp4", "outputs": [{"output": "thumbnail", "at": "middle"}]}
        (tmp_path / f"{name}.json").write_text(json.dumps(job))
    ran = called(tmp_path, "submit", "one.json", "two.json")
    assert (ran.returncode, ran.stdout) == (0, "one\ntwo\n")
    assert sorted(os.listdir(inbox)) == ["one.one.json", "two.two.json"]
    assert json.loads((inbox / "one.one.json").read_bytes())["source"] == "a.mp4"


@pytest.mark.usefixtures("tables")
def test_who_asks_for_a_job_is_told_of_files_that_were_not_taken_in(tmp_path: Path, inbox: Path) -> None:
    (inbox / "low").mkdir()
    (inbox / ".half.json.tmp").touch()
    for words in (["status", "x"], ["cancel", "x"], ["retry", "x"]):
        (inbox / "low" / "film.x.json").unlink(missing_ok=True)
        (inbox / "low" / "film.x.json.part").touch()
        missing = "thumbd: there is no job 'x': `thumbd status` lists the newest"
        assert called(tmp_path, *words).stderr == f"{missing}\n"
        (inbox / "low" / "film.x.json").touch()
        ran = called(tmp_path, *words)
        lies = "a file that still lies in thumbd-data/spool/in/low is not known before a daemon takes it in"
        assert (ran.returncode, ran.stdout, ran.stderr) == (1, "", f"{missing}; {lies}\n")


def test_if_one_job_is_wrong_none_is_dropped(tmp_path: Path, inbox: Path) -> None:
    (tmp_path / "good.json").write_text('{"source": "a", "outputs": [{"output": "thumbnail", "at": 1}]}')
    (tmp_path / "bad.json").write_text('{"source": "a", "outputs": []}')
    ran = called(tmp_path, "submit", "good.json", "bad.json")
    assert ran.returncode == 2
    assert one_line(ran.stderr) and "bad.json: " in ran.stderr
    assert os.listdir(inbox) == []


def test_submitting_and_waiting_for_it(tmp_path: Path, film: Path) -> None:
    """Beside a running daemon: one job that is done, and one whose source is not there."""
    (tmp_path / "a.toml").write_text(
        'workers = 1\nhttp.listen = ""\ngrpc.listen = ""\nmetrics.listen = "127.0.0.1:0"\n'
        f'spool.min_free_bytes = 0\nsources.roots = ["{film.parent}"]\nwebhooks.enabled = false\n'
    )
    for name, source in (("good", film), ("bad", film.parent / "none.mp4"), ("refused", film)):
        job = {"id": name, "source": str(source), "outputs": [{"output": "thumbnail", "name": "p", "at": 1}]}
        calling = {"callback_url": "https://host/"} if name == "refused" else {}
        (tmp_path / f"{name}.json").write_text(json.dumps(job | calling))
    serving = subprocess.Popen(
        [sys.executable, "-P", "-m", "daemon", "serve", "--config", "a.toml"], cwd=tmp_path, stderr=subprocess.DEVNULL
    )
    try:
        deadline = monotonic() + 30
        while not (tmp_path / "thumbd-data/spool/in").is_dir() and monotonic() < deadline:
            sleep(0.05)
        ran = thumbd(tmp_path, "submit", "good.json", "bad.json", "--wait", "--config", "a.toml")
        assert ran.returncode == 1, ran.stderr
        assert ran.stdout == "thumbd-data/store/good/p.webp\n"
        assert number(tmp_path / "thumbd-data/store/good/p.webp") == 25
        assert one_line(ran.stderr) and "bad: " in ran.stderr and "no such file" in ran.stderr
        ran = thumbd(tmp_path, "submit", "good.json", "--wait", "--json", "--config", "a.toml")
        assert (ran.returncode, json.loads(ran.stdout)["status"]) == (0, "completed")
        ran = thumbd(tmp_path, "submit", "refused.json", "--wait", "--config", "a.toml")
        assert ran.returncode == 1
        assert one_line(ran.stderr) and "refused: callback_url: this daemon calls nobody back" in ran.stderr
        for file in (tmp_path / "thumbd-data/spool/failed").glob("refused.*"):
            file.unlink()
        for folder, name in (("done", "good"), ("failed", "bad")):
            assert os.listdir(tmp_path / "thumbd-data/spool" / folder) == [f"{name}.{name}.json"]
    finally:
        serving.terminate()
        assert serving.wait(30) == 0


def test_an_old_refusal_is_not_of_what_is_dropped_now(tmp_path: Path) -> None:
    for folder in ("in", "done", "failed"):
        (tmp_path / "spool" / folder).mkdir(parents=True)
    error = ErrorReport(code="bad_job", message="no")
    old = Report(id="KEY", org="default", status="failed", error=error)
    (tmp_path / "spool/failed/film.x.KEY.json").write_bytes(old.json_bytes())
    (tmp_path / "spool/failed/film.x.KEY.rejected").touch()
    (tmp_path / "film.json").write_text('{"id": "x", "source": "a", "outputs": [{"output": "thumbnail", "at": 1}]}')
    settings = environment(THUMBD_SPOOL__ROOT="spool", THUMBD_DATABASE="sqlite:///t.db")
    command = [*THUMBD, "submit", "film.json", "--wait", "--json"]
    running = subprocess.Popen(command, cwd=tmp_path, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with running, running.stderr as stderr:  # type: ignore[union-attr]
        stderr.readline()  # which it says after three seconds: it has looked for refusals by then
        assert running.poll() is None
        made = Report(id="x", org="default", status="completed")
        (tmp_path / "spool/done/film.x.json").write_bytes(made.json_bytes())
        assert json.loads(running.stdout.read())["status"] == "completed"  # type: ignore[union-attr]


def test_a_manifest_of_somebody_else_is_spared(tmp_path: Path, film: Path) -> None:
    foreign = tmp_path / "manifest.json"
    foreign.write_text('{"name": "a web project"}')
    ran = thumbd(tmp_path, "run", film)
    assert ran.returncode == 1
    assert "none of ours" in ran.stderr
    assert foreign.read_text() == '{"name": "a web project"}'
    assert os.listdir(tmp_path) == ["manifest.json"]


def test_what_comes_after_a_job_is_for_a_daemon(tmp_path: Path, film: Path) -> None:
    said = {"source": str(film), "outputs": [{"output": "thumbnail", "at": 1}], "callback_url": "https://host/"}
    (tmp_path / "job.json").write_text(json.dumps(said))
    done = called(tmp_path, "run", "job.json")
    assert done.returncode == 2 and "callback_url: only a daemon does what comes after a job" in done.stderr
    assert os.listdir(tmp_path) == ["job.json"]
