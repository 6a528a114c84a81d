"""A daemon whose store is a bucket: what is published, under which URLs, and who brings it to its end.

The bucket is one of rclone's, which checks signatures; the folder behind it is looked at as any store is."""

import asyncio
import json
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from buckets import KEY, SECRET, moto, rclone
from clips import RECIPES, Clip, make
from harness import Running, Site, free_port, thumbnail, until

from daemon.catalogue import organisations
from daemon.store.bucket import Bucket
from daemon.store.requests import Place

pytestmark = pytest.mark.daemons

FAULTS = """
import daemon.app
from daemon.jobs import lease
from daemon.s3 import S3Bucket
from daemon.store.bucket import Bucket

daemon.app._LOOK_SECONDS = 0.25

def named(*parts):
    return lambda objects, name, *rest, **keys: any(part in name for part in parts)
"""


class InBucket(Site):
    """A site whose daemons publish to a bucket."""

    def __init__(self, root: Path, port: int, *media: Path) -> None:
        super().__init__(root, *media)
        self.store = root / "served" / "films" / "a" / "b"
        self._port = port

    def daemon(self, fault: str = "", **settings: object) -> Running:
        said = {
            "store__root": self.root / "scratch",
            "store__url": "s3://films/a/b/",
            "store__s3__endpoint": f"http://127.0.0.1:{self._port}",
            "store__s3__key": KEY,
            "store__s3__secret": SECRET,
            **settings,
        }
        return super().daemon(FAULTS + fault if fault else "", **said)

    @contextmanager
    def bucket(self) -> Iterator[Bucket]:
        """What the daemons see of it."""
        origin = f"http://127.0.0.1:{self._port}"
        bucket = Bucket(Place(origin, "films", "a/b/", "us-east-1", KEY, SECRET), self.root / "scratch")
        yield bucket
        asyncio.run(bucket.close())

    def check_nothing_left(self) -> None:
        """Nothing is staged, nothing lies on this machine, and no credentials are in any log."""
        until(lambda: not list(self.store.glob(".staging/**/*.*")), "nothing is staged")
        assert list((self.root / "scratch").rglob("*")) == []
        for path in self.root.glob("*.log"):
            text = path.read_text()
            assert KEY not in text and SECRET not in text and "X-Amz-Signature" not in text


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> Clip:
    return make(RECIPES[0], clip_folder)


@pytest.fixture
def site(tmp_path: Path, clip: Clip) -> Iterator[InBucket]:
    (tmp_path / "served" / "films").mkdir(parents=True)
    with rclone(tmp_path / "served") as port:
        yield InBucket(tmp_path, port, clip.path.parent)


def job(clip: Clip, destination: str, count: int = 4, **keys: Any) -> dict[str, Any]:
    series = {"output": "thumbnails", "count": count, "name": "series", "width": 160, "format": "png"}
    return {
        "source": str(clip.path),
        "destination": destination,
        "outputs": [series, thumbnail(1, name="poster")],
        "cache": True,
        **keys,
    }


def test_everything_comes_to_the_bucket(site: InBucket, clip: Clip) -> None:
    outputs = [
        thumbnail(1, name="poster"),
        {"output": "sprite", "name": "scrub", "count": 4, "width": 64, "layout": "jellyfin"},
        {"output": "clip", "name": "teaser", "start": 0, "duration": 1, "width": 160},
    ]
    with site.daemon():
        site.drop({"source": str(clip.path), "destination": "film", "outputs": outputs})
        report = site.report()
        assert report.status == "completed" and site.manifest("film") == report
        named = {"film/manifest.json", *(file for output in report.outputs for file in output.files)}
        assert {str(path.relative_to(site.store)) for path in site.files("film")} == named
        assert (site.store / "film/teaser.mp4").stat().st_size == report.outputs[2].bytes
        site.check_nothing_left()


def test_what_is_equal_is_copied_and_what_expires_leaves(site: InBucket, clip: Clip) -> None:
    with site.daemon():
        site.drop(job(clip, "first"), "first.json")
        first = site.report("first")
        site.drop(job(clip, "second", ttl="10ms", id="second"), "second.json")
        second = site.report("second")
        assert [output.cached for output in second.outputs] == [True, True]
        until(lambda: not list(site.files("second")), "it has expired")
        site.check_published(first)
        site.check_nothing_left()


def test_deliveries_are_made_of_what_lies_there(site: InBucket, clip: Clip) -> None:
    here = '["127.0.0.1"]'
    with moto("films") as other, site.daemon(deliveries__allowed_hosts=here, deliveries__plain_hosts=here):
        to = {"url": "s3://films/x/", "endpoint": other.endpoint, "key": "OTHERKEY", "secret": "another"}
        site.drop(job(clip, "film", deliver=[to]))
        report = site.report()
        names = {path.name for path in site.files("film")}
        until(lambda: other.names("films") == {f"x/{name}" for name in names}, "all is delivered")
        for name in names:
            assert other.ask(f"films/x/{name}").data == (site.store / "film" / name).read_bytes()
        site.check_published(report)
        site.check_nothing_left()


# URLs.


@contextmanager
def served(site: InBucket) -> Iterator[tuple[httpx.Client, Running]]:
    listen = f"127.0.0.1:{free_port()}"
    with site.daemon(http__listen=listen) as daemon:
        daemon.ready()
        key = site.ask(lambda c: organisations.add(c, "one", [], 5))
        with httpx.Client(base_url=f"http://{listen}", headers={"X-Api-Key": str(key)}, timeout=60) as client:
            yield client, daemon


def test_urls_are_the_buckets_own(site: InBucket, clip: Clip) -> None:
    with served(site) as (client, _):
        asked = {"source": str(clip.path), "outputs": [thumbnail(1, name="poster")]}
        made = client.post("/jobs", params={"wait": 30}, json=asked).json()
        if made["status"] != "completed":
            made = until(
                lambda: (found := client.get(f"/jobs/{made['id']}").json())["status"] == "completed" and found, "made"
            )
        [output] = made["outputs"]
        assert output["url"].startswith(f"http://127.0.0.1:{site._port}/films/a/b/orgs/one/")
        fetched = httpx.get(output["url"])
        assert fetched.status_code == 200 and fetched.content == (site.store / output["path"]).read_bytes()
        assert fetched.headers["content-type"] == "image/png"


def test_hesedvids_urls_stream_from_the_bucket(site: InBucket, clip: Clip) -> None:
    with served(site) as (client, _):
        client.put("/videos/film", json={"source": str(clip.path)}).raise_for_status()
        wanted = {"width": 160, "height": 90, "timestampMs": 1000}
        made = client.post("/v1/api/one/videos/film/thumbnails", json=wanted).json()
        until(lambda: httpx.get(made["url"]).status_code == 200, "it is there")
        whole = httpx.get(made["url"])
        [path] = [path for path in site.files("orgs") if path.suffix == ".webp"]
        assert whole.content == path.read_bytes() and whole.headers["content-type"] == "image/webp"
        assert whole.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert whole.headers["content-length"] == str(len(whole.content)) and "content-disposition" not in whole.headers
        head = httpx.head(made["url"])
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(whole.content))
        again = httpx.get(made["url"], headers={"If-None-Match": whole.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        with site.bucket() as bucket:
            file = path.relative_to(site.store)
            bucket.expire(str(file.parent), [str(file)], lambda manifest: manifest)
        assert httpx.get(made["url"]).status_code == 404


# Death.


# Before or after the nth call of what, of those whose object's name holds one of these; and the attempt that publishes.
KILLED = [
    ('before(S3Bucket, "put_bytes", die, calls=2, only=named(".staging/")', 2),
    ('before(S3Bucket, "put_bytes", die, only=named("manifest.json")', 2),
    ('after(lease, "publishing", die', 2),
    ('before(Bucket, "publish", die', 1),
    ('before(S3Bucket, "delete", die, only=named("film/manifest.json")', 1),
    *((f'before(S3Bucket, "copy", die, calls={nth}', 1) for nth in (1, 3, 5)),
    ('before(S3Bucket, "copy", die, only=named("manifest.json")', 1),
    *((f'before(S3Bucket, "delete", die, calls={nth}, only=named("film/", ".staging/")', 1) for nth in (2, 3, 6)),
    ('after(Bucket, "publish", die', 1),
    ('after(lease, "complete", die', 1),
]


@pytest.mark.slow
def test_kill_9_at_each_step(site: InBucket, clip: Clip) -> None:
    """Each daemon carries all faults; whoever makes one good dies of the next. There is always something to replace."""
    faults = "".join(f'{fault}, fuse="{number}")\n' for number, (fault, _) in enumerate(KILLED))
    daemon = site.daemon(faults, job__lease=1)
    for number, (fault, attempt) in enumerate(KILLED):
        destination = f"{number}-film"
        newer = job(clip, destination, count=5, cache=False)
        newer["outputs"][0]["end"] = "50%"  # the same names, other pictures
        with daemon:
            site.drop(job(clip, destination, count=6), f"older-{number}.json")
            site.report(f"older-{number}")
            site.light(str(number))
            site.drop(newer, f"newer-{number}.json")
            daemon.killed()
        _check_half(site, destination)
        daemon = site.daemon(faults, job__lease=1)
        report = site.report(f"newer-{number}")
        assert report.attempt == attempt, fault
        site.check_pictures(report, clip)
        site.check_published(report, with_nothing_else=False)
        site.check_nothing_left()
    daemon.kill()


def _check_half(site: InBucket, destination: str) -> None:
    """There is a manifest only where everything that it speaks of is there, and of its time."""
    if (site.store / destination / "manifest.json").exists():
        site.check_published(site.manifest(destination), with_nothing_else=False)


def test_another_daemon_brings_to_its_end_what_a_dead_one_has_begun(site: InBucket, clip: Clip) -> None:
    """Which has nothing of it on its own disk; and the work goes on while the dead one, which only slept, wakes up."""
    hold = 'before(S3Bucket, "copy", hold("copy"), calls=3, fuse="hold-copy")\n'
    with site.daemon(hold, job__lease=1) as sleeper:
        sleeper.ready()
        site.light("hold-copy")
        site.drop(job(clip, "film"), "first.json")
        until((site.fuses / "copy.held").exists, "it is held")
        site.freeze(sleeper)
        with site.daemon(job__lease=1, store__root=site.root / "elsewhere") as other:
            first = site.report("first")
            assert first.attempt == 1 and len(other.workers()) == 1
            site.check_pictures(first, clip)
            site.drop(job(clip, "film", count=2), "second.json")
            second = site.report("second")
            site.check_published(second, with_nothing_else=False)
            before = {path: path.read_bytes() for path in site.files("film")}
            site.put_out("copy.held")
            sleeper.signal(signal.SIGCONT)
            other.kill()
            site.drop(job(clip, "after"), "after.json")
            site.check_published(site.report("after"))
        assert {path: path.read_bytes() for path in site.files("film")} == before
        site.check_published(second, with_nothing_else=False)
        site.check_nothing_left()


def test_two_daemons_publish_to_the_same_place(site: InBucket, clip: Clip) -> None:
    with site.daemon() as one, site.daemon(store__root=site.root / "elsewhere") as other:
        one.ready(), other.ready()
        for number in range(12):
            site.drop(job(clip, "film", count=2 + number % 3, cache=False), f"{number}.json")
        reports = site.wait_for(12).values()
        assert {report.status for report in reports} == {"completed"}
        last = site.manifest("film")
        assert last in reports
        site.check_published(last, with_nothing_else=False)
        site.check_pictures(last, clip)
        site.check_nothing_left()


# A bucket that cannot be reached.


def test_it_says_when_the_bucket_is_gone_and_goes_on_when_it_is_back(tmp_path: Path, clip: Clip) -> None:
    (tmp_path / "served" / "films").mkdir(parents=True)
    with rclone(tmp_path / "served") as real, _Relay(real) as relay:
        site = InBucket(tmp_path, relay.port, clip.path.parent)
        quick = "import daemon.store.bucket\ndaemon.store.bucket._TRUSTED = 0\n"
        with site.daemon(quick) as daemon:
            daemon.ready()
            relay.cut()
            until(lambda: daemon.answer("/readyz")[0] == 503, "it says that it is not ready")
            assert "the bucket: " in daemon.answer("/readyz")[1]
            assert daemon.answer("/livez")[0] == 200
            site.drop(job(clip, "film"))
            relay.mend()
            report = site.report()
            assert report.attempt == 1
            site.check_published(report)
            daemon.ready()


class _Relay:
    """Passes connections on, unless it is cut."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._cut = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "_Relay":
        return self

    def __exit__(self, *given: object) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        self._cut.set()
        for each in self._open:
            each.close()

    def mend(self) -> None:
        self._cut.clear()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._cut.is_set():
                near.close()
                continue
            self._open.append(near)
            far = socket.create_connection(("127.0.0.1", self._to))
            self._open.append(far)
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=_pass_on, args=(one, other), daemon=True).start()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    try:
        while data := one.recv(1 << 16):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        one.close()
        other.close()


def test_check_says_how_the_bucket_is(site: InBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "THUMBD_STORE__URL": "s3://films/a",
        "THUMBD_STORE__ROOT": str(site.root / "scratch"),
        "THUMBD_STORE__S3__ENDPOINT": f"http://127.0.0.1:{site._port}",
        "THUMBD_STORE__S3__KEY": KEY,
        "THUMBD_STORE__S3__SECRET": SECRET,
        "THUMBD_DEVICE": "cpu",
        "THUMBD_HTTP__LISTEN": "",
    }
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    text = site.thumbd("check")
    assert f"ok    store.url    s3://films/a at http://127.0.0.1:{site._port} takes, lists and removes objects" in text
    assert KEY not in text and SECRET not in text
    assert json.dumps("s3://films/a") in text
