"""Remote sources through a whole daemon and its command: off unless said, right when it goes well, one clear line when
not; nothing is left of what hangs, and no secret is said by anybody."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from clips import RECIPES, Clip, make
from film_server import Answer, FilmServer
from harness import Running, Site, thumbnail, until
from moto.server import ThreadedMotoServer
from test_cli import called

from daemon.jobs import table

pytestmark = pytest.mark.daemons

KEY, SECRET = "AKIASHOWNNOWHERE", "a-secret-shown-nowhere"
SIGNED = "film.mp4?X-Signature=secret-of-the-url"


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> Clip:
    return make(RECIPES[0], clip_folder)


@pytest.fixture
def site(tmp_path: Path, clip: Clip) -> Site:
    return Site(tmp_path, clip.path.parent)


@pytest.fixture
def server(clip: Clip) -> Iterator[FilmServer]:
    with FilmServer(clip.path.read_bytes() + bytes(1 << 20)) as server:  # so that not all of it comes at once
        yield server


def allowing(*servers: FilmServer, **settings: object) -> dict[str, object]:
    hosts = json.dumps([server.host for server in servers])
    said = {"schemes": '["http"]', "allowed_hosts": hosts, "private_hosts": hosts, "connect_seconds": 5, **settings}
    return {f"sources__{name}": value for name, value in said.items()}


def job_of(source: str, **keys: Any) -> dict[str, Any]:
    return {"source": source, "outputs": [thumbnail(1)], **keys}


def error_of(site: Site, name: str) -> tuple[str, str]:
    error = site.report(name, "failed").error
    assert error is not None
    return error.code, error.message


def test_a_remote_film(site: Site, server: FilmServer, clip: Clip) -> None:
    with site.daemon(**allowing(server)) as daemon:
        daemon.ready()
        site.drop(job_of(server.url(SIGNED), destination="there"), "there.json")
        there = site.report("there")
        site.check_pictures(there, clip)
        site.drop(job_of(str(clip.path), destination="here"), "here.json")
        here = site.report("here")
        assert (site.store / there.outputs[0].path).read_bytes() == (site.store / here.outputs[0].path).read_bytes()
        site.check_clean()
        metrics = daemon.metrics()
        assert metrics['thumbd_source_requests_total{outcome="ok",scheme="http"}'] == len(server.asked)
        assert metrics['thumbd_source_received_bytes_total{scheme="http"}'] == server.sent
        assert metrics["thumbd_source_read_bytes_total"] > 0
    assert "secret-of-the-url" not in daemon.log_file.read_text()


def test_remote_sources_are_off_unless_said(site: Site, server: FilmServer) -> None:
    with site.daemon() as daemon:
        daemon.ready()
        site.drop(job_of(server.url(SIGNED)))
        assert error_of(site, "job") == (
            "source_refused",
            f"source '{server.url()}': http:// may not be read (setting sources.schemes)",
        )
    assert server.asked == []


def test_each_server_has_its_own_end(site: Site, server: FilmServer, clip: Clip) -> None:
    """Also what goes wrong only while it is decoded is what it is, not just unreadable."""

    def behave(answer: Answer) -> None:
        kind = answer.path.partition("?")[0].strip("/")
        if answer.number == 1 or not kind.isdigit():
            answer.part(cut=70_000 if kind == "cut" else None)
        else:
            answer.say(int(kind))

    server.behaviour = behave
    canary = FilmServer(clip.path.read_bytes())
    with canary, site.daemon(**allowing(server, tries=1), job__attempts=1) as daemon:
        daemon.ready()
        for kind, code in {"404": "missing", "403": "refused", "503": "unreadable", "200": "empty"}.items():
            server.asked.append(server.asked[0] if server.asked else None)  # type: ignore[arg-type]
            site.drop(job_of(server.url(f"{kind}?secret-of-the-url")), f"{kind}.json")
            found, said = error_of(site, kind)
            assert found == f"source_{code}" and said.startswith(f"source '{server.url(kind)}': "), said
            server.asked.clear()
            site.drop(job_of(server.url(f"{kind}?secret-of-the-url")), f"later-{kind}.json")
            found, said = error_of(site, f"later-{kind}")
            expected = "changed" if kind == "200" else code
            assert found == f"source_{expected}" and said.startswith(f"source '{server.url(kind)}': "), said
        site.drop(job_of(server.url("cut"), destination="cut"), "cut.json")
        site.check_pictures(site.report("cut"), clip)
        for name, url in {"canary": canary.url(), "link-local": "http://169.254.169.254/latest"}.items():
            server.behaviour = lambda answer, url=url: answer.redirect(url)  # type: ignore[misc]
            site.drop(job_of(server.url(name)), f"{name}.json")
            assert error_of(site, name)[0] == "source_refused"
            site.drop(job_of(url), f"{name}-itself.json")
            assert error_of(site, f"{name}-itself")[0] == "source_refused"
        assert canary.asked == []
        site.check_clean()
        log = daemon.log_file.read_text()
    reports = "".join(path.read_text() for path in (site.spool / "failed").iterdir())
    assert "secret-of-the-url" not in log + reports


def test_a_film_that_changes_is_read_again_from_the_start(site: Site, server: FilmServer, clip: Clip) -> None:
    tags = iter(['"1"'] + ['"2"'] * 1000)
    server.behaviour = lambda answer: answer.part(ETag=next(tags))
    with site.daemon(**allowing(server)) as daemon:
        daemon.ready()
        site.drop(job_of(server.url()))
        site.check_pictures(site.report(), clip)
        assert daemon.metrics()['thumbd_job_retries_total{reason="source_changed"}'] == 1


# What hangs.


def hanging(server: FilmServer) -> threading.Event:
    """From the second request on it keeps silent, and tells that it was asked."""
    asked = threading.Event()

    def hang(answer: Answer) -> None:
        if answer.number > 1 and not server.go.is_set():
            asked.set()
            server.go.wait(60)
        answer.part()

    server.behaviour = hang
    return asked


def hung(site: Site, server: FilmServer, daemon: Running) -> None:
    asked = hanging(server)
    daemon.ready()
    site.drop(job_of(server.url(), id="hangs"))
    until(asked.is_set, "the worker waits for the network")


def test_a_daemon_that_is_killed_while_it_reads_leaves_nothing(site: Site, server: FilmServer, clip: Clip) -> None:
    with site.daemon(**allowing(server)) as daemon:
        hung(site, server, daemon)
        daemon.kill()
    until(lambda: not site.orphans(), "there are no orphans")
    server.go.set()
    with site.daemon(**allowing(server)) as daemon:
        daemon.ready()
        site.check_pictures(site.report(), clip)
        site.check_clean()


def test_a_daemon_that_is_told_twice_to_stop_does_not_wait_for_the_network(site: Site, server: FilmServer) -> None:
    with site.daemon(**allowing(server)) as daemon:
        hung(site, server, daemon)
        daemon.signal(signal.SIGTERM)
        until(lambda: daemon.said("draining"), "it drains")
        daemon.signal(signal.SIGTERM)
        assert daemon.exit_code() == 0
    assert site.row()["state"] == "queued" and not site.orphans()


def test_a_job_that_is_cancelled_while_it_reads(site: Site, server: FilmServer, clip: Clip) -> None:
    with site.daemon(**allowing(server)) as daemon:
        hung(site, server, daemon)
        site.ask(lambda c: table.cancel(c, None, "hangs"))
        assert error_of(site, "job")[0] == "cancelled"
        server.go.set()
        site.drop(job_of(server.url(), destination="after"), "after.json")
        site.check_pictures(site.report("after"), clip)
        site.check_clean()


# Buckets.


@pytest.fixture
def bucket(clip: Clip) -> Iterator[str]:
    """The endpoint of an S3 server with the film in it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=KEY, aws_secret_access_key=SECRET
    )
    for name in ("films", "others"):
        client.create_bucket(Bucket=name)
        client.upload_file(str(clip.path), name, "folder/a film, ü+é?#%20.mp4")
        client.put_object(Bucket=name, Key="empty.mp4", Body=b"")
    client.close()
    yield endpoint
    server.stop()


def s3_settings(endpoint: str) -> dict[str, object]:
    said = {"endpoint": endpoint, "key": KEY, "secret": SECRET, "buckets": '["films", "nowhere"]'}
    return {"sources__schemes": '["s3"]', **{f"sources__s3__{name}": value for name, value in said.items()}}


def test_films_in_buckets(site: Site, bucket: str, clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with site.daemon(**s3_settings(bucket)) as daemon:
        daemon.ready()
        site.drop(job_of("s3://films/folder/a film, ü+é?#%20.mp4", destination="film"), "film.json")
        site.check_pictures(site.report("film"), clip)
        wrong = {
            "s3://films/none.mp4": ("source_missing", "no such file (status 404)"),
            "s3://nowhere/film.mp4": ("source_missing", "no such file (status 404)"),
            "s3://films/empty.mp4": ("source_empty", "the file is empty"),
            "s3://others/empty.mp4": (
                "source_refused",
                "its bucket may not be read (setting sources.s3.buckets)",
            ),
            "s3://films/../others/empty.mp4": ("source_refused", "empty parts or dots"),
            "s3://films/a//b": ("source_refused", "empty parts or dots"),
            "s3://films/": ("source_refused", "it names no file of a bucket"),
            "s3://films": ("source_refused", "it names no file of a bucket"),
            "s3:///film.mp4": ("source_refused", "it names no file of a bucket"),
            "s3://key:secret@films/film.mp4": ("source_refused", "may not be read"),
            f"{bucket}/films/empty.mp4": ("source_refused", "http:// may not be read (setting sources.schemes)"),
        }
        for number, (source, (code, said)) in enumerate(wrong.items()):
            site.drop(job_of(source), f"wrong-{number}.json")
            found = error_of(site, f"wrong-{number}")
            assert (found[0], said in found[1]) == (code, True), found
        assert daemon.metrics()['thumbd_source_requests_total{outcome="ok",scheme="s3"}'] >= 1
    told = daemon.log_file.read_text() + "".join(path.read_text() for path in (site.spool / "failed").iterdir())
    assert not [secret for secret in (KEY, SECRET, "X-Amz", "secret@") if secret in told]


def test_buckets_need_credentials(site: Site, bucket: str) -> None:
    with site.daemon(**{**s3_settings(bucket), "sources__s3__secret": ""}) as daemon:
        daemon.ready()
        site.drop(job_of("s3://films/film.mp4"))
        assert "settings sources.s3.key and sources.s3.secret" in error_of(site, "job")[1]


# The command.


def configured(folder: Path, server: FilmServer) -> Path:
    path = folder / "thumbd.toml"
    path.write_text(
        f'spool.root = "{folder}/spool"\nstore.root = "{folder}/store"\ndatabase = "sqlite:///{folder}/thumbd.db"\n'
        f'[sources]\nschemes = ["http"]\nallowed_hosts = ["{server.host}"]\nprivate_hosts = ["{server.host}"]\n'
        f'[sources.s3]\nkey = "{KEY}"\nsecret = "{SECRET}"\n'
    )
    return path


def test_a_picture_of_a_remote_film_without_a_daemon(tmp_path: Path, server: FilmServer) -> None:
    config = configured(tmp_path, server)
    ran = called(tmp_path, "run", server.url(SIGNED), "--at", "1.0s", "--width", 160, "--config", config)
    assert (ran.returncode, ran.stderr, ran.stdout) == (0, "", "film.webp\n")
    ran = called(tmp_path, "run", server.url(SIGNED), "--at", "1.0s")
    assert ran.returncode == 1 and "setting sources.schemes" in ran.stderr and "secret" not in ran.stderr
    server.behaviour = lambda answer: answer.say(404)
    ran = called(tmp_path, "run", server.url(SIGNED), "--at", "1.0s", "--config", config)
    assert ran.returncode == 1 and "no such file" in ran.stderr and "secret" not in ran.stderr


def test_a_url_is_submitted_as_it_is_and_shown_without_its_query(tmp_path: Path, server: FilmServer) -> None:
    config = configured(tmp_path, server)
    (tmp_path / "spool" / "in").mkdir(parents=True)
    called(tmp_path, "submit", server.url(SIGNED), "--at", 1, "--config", config)
    (dropped,) = (path for path in (tmp_path / "spool" / "in").iterdir() if path.is_file())
    assert dropped.name.startswith("film.")
    assert json.loads(dropped.read_bytes())["source"] == server.url(SIGNED)


def test_credentials_are_not_shown(tmp_path: Path, server: FilmServer) -> None:
    ran = called(tmp_path, "check", "--config", configured(tmp_path, server))
    assert '"key": "**********"' in ran.stdout and '"secret": "**********"' in ran.stdout
    assert KEY not in ran.stdout + ran.stderr and SECRET not in ran.stdout + ran.stderr
    broken = tmp_path / "broken.toml"
    broken.write_text(f'[sources.s3]\nsecret = ["{SECRET}"]\n')
    ran = called(tmp_path, "check", "--config", broken)
    assert ran.returncode == 2 and "sources.s3.secret" in ran.stderr and SECRET not in ran.stderr


def test_a_file_at_hand_is_not_fetched(site: Site, server: FilmServer, clip: Clip) -> None:
    aliases = json.dumps({server.url(""): str(clip.path.parent)})
    with site.daemon(sources__aliases=aliases, sources__roots="[]") as daemon:
        daemon.ready()
        site.drop(job_of(server.url(clip.path.name)))
        site.check_pictures(site.report(), clip)
    assert server.asked == [] and os.listdir(site.store)
