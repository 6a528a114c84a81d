"""Publication to a bucket: whoever is interrupted, or wakes up late, at whatever request, does no harm; and URLs."""

import asyncio
import threading
import time
import urllib.error
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore import auth
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from buckets import KEY, SECRET, Moto, moto, rclone
from listener import always, listening
from test_store_contract import MIXED, NAME, NEWER, OLDER, Tried

from daemon.errors import BadJob, StoreFailure
from daemon.files import MANIFEST
from daemon.net import Answer
from daemon.s3 import S3Bucket
from daemon.store.bucket import Bucket
from daemon.store.requests import Place
from daemon.threads import in_thread

pytestmark = pytest.mark.daemons

LATEST = {"poster.webp": b"latest", MANIFEST: b"latest"}
_numbers = count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[Moto]:
    with moto("films") as running:
        yield running


def place(port: int, prefix: str = "") -> Place:
    return Place(f"http://127.0.0.1:{port}", "films", prefix, "us-east-1", KEY, SECRET)


class Bench:
    """A place of its own in the bucket, and daemons of several machines that publish there."""

    def __init__(self, server: Moto, scratch: Path) -> None:
        self.server = server
        self.prefix = f"{next(_numbers)}/"
        self._scratch = scratch
        self._open: list[Bucket] = []

    def machine(self) -> Bucket:
        self._open.append(bucket := Bucket(place(self.server.port, self.prefix), self._scratch))
        return bucket

    def tried(self) -> Tried:
        return Tried(self.machine(), self.look)

    def look(self) -> dict[str, bytes]:
        found = {}
        for name in self.server.names("films"):
            if name.startswith(self.prefix):
                try:
                    found[name.removeprefix(self.prefix)] = self.server.ask(f"films/{name}").data
                except urllib.error.HTTPError as error:
                    with error:
                        assert error.code == 404  # since it was listed
        return found

    def published(self) -> dict[str, bytes]:
        return {name.removeprefix("film/"): data for name, data in self.look().items() if name.startswith("film/")}

    def check_manifest(self) -> None:
        """Where there is a manifest, everything that it speaks of is there and of its own time."""
        files = self.published()
        if MANIFEST in files:
            assert files.items() >= (OLDER if files[MANIFEST] == b"older" else NEWER).items()

    def close(self) -> None:
        for bucket in self._open:
            asyncio.run(bucket.close())


@pytest.fixture
def bench(server: Moto, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(server, tmp_path)
    yield made
    made.close()


class Crash(BaseException):
    """The end of the process, as far as its bucket is concerned."""


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> dict[object, Any]:
    """Who is asked before, and told after, each request of a bucket's connections."""
    watched: dict[object, Any] = {}
    stream = S3Bucket.stream

    @asynccontextmanager
    async def watched_stream(
        self: S3Bucket, method: str, name: str, headers: Mapping[str, str], query: str = "", body: bytes = b""
    ) -> AsyncIterator[Answer]:
        if (watcher := watched.get(self.client)) is not None:
            await watcher.before()
        async with stream(self, method, name, headers, query, body) as answer:
            if watcher is not None:
                watcher.after()
            yield answer

    monkeypatch.setattr(S3Bucket, "stream", watched_stream)
    return watched


def client_of(bucket: Bucket) -> object:
    return bucket.requests._objects.client


class Dying:
    """Dies before its nth request, or after the answer has come; nothing is asked any more then."""

    def __init__(self, nth: int, done: bool) -> None:
        self._left, self._done = nth, done
        self.is_dead = False

    async def before(self) -> None:
        self._left -= 1
        if self.is_dead or (self._left < 0 and not self._done):
            self.is_dead = True
            raise Crash

    def after(self) -> None:
        if self._left < 0:
            self.is_dead = True
            raise Crash


class Sleeping:
    """Sends nothing from its nth request on before it is told to."""

    def __init__(self, nth: int) -> None:
        self._nth = nth
        self.asked = 0
        self.go = threading.Event()
        self.sleeps = threading.Event()

    async def before(self) -> None:
        self.asked += 1
        if self.asked > self._nth:
            self.sleeps.set()
            await in_thread(self.go.wait)

    def after(self) -> None:
        pass


@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_an_interrupted_publication_is_brought_to_its_end_elsewhere(
    server: Moto, tmp_path: Path, watch: dict[object, Any], existing: bool, done: bool
) -> None:
    interrupted = 0
    for nth in count():
        bench = Bench(server, tmp_path)
        if existing:
            bench.tried().publish("film", OLDER, "older.1")
        first = bench.tried()
        first.stage()
        watch[client_of(first.store)] = dying = Dying(nth, done)  # type: ignore[arg-type]
        try:
            first.store.publish(NAME, "film")
        except Crash:
            interrupted += 1
        bench.check_manifest()
        bench.machine().publish(NAME, "film")
        assert bench.look() == {f"film/{file}": data for file, data in (MIXED if existing else NEWER).items()}, nth
        bench.close()
        if not dying.is_dead:
            break
    assert interrupted == _requests(existing)


def _requests(existing: bool) -> int:
    """Of one publication: both manifests, the older one's end, the list, the copies; the staged manifest's end, the
    list again, the end of the others."""
    return 2 + existing + 1 + len(NEWER) + 1 + 1 + len(NEWER) - 1


def sleeper(bench: Bench, watch: dict[object, Any], nth: int) -> tuple[Sleeping, threading.Thread, list[BaseException]]:
    """One who has come to his nth request of the publication, or to its end."""
    bucket = bench.machine()
    watch[client_of(bucket)] = sleeping = Sleeping(nth)
    failed: list[BaseException] = []

    def publish() -> None:
        try:
            bucket.publish(NAME, "film")
        except StoreFailure as failure:
            failed.append(failure)
        sleeping.sleeps.set()

    thread = threading.Thread(target=publish)
    thread.start()
    sleeping.sleeps.wait()
    return sleeping, thread, failed


@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
def test_one_who_wakes_up_late_spares_what_came_after(
    server: Moto, tmp_path: Path, watch: dict[object, Any], existing: bool
) -> None:
    """He was taken for dead, his publication brought to its end, and another job published to the same place."""
    for nth in range(_requests(existing)):
        bench = Bench(server, tmp_path)
        if existing:
            bench.tried().publish("film", OLDER, "older.1")
        bench.tried().stage()
        sleeping, thread, failed = sleeper(bench, watch, nth)
        assert sleeping.asked > nth
        bench.machine().publish(NAME, "film")
        bench.tried().publish("film", LATEST, "latest.1")
        sleeping.go.set()
        thread.join()
        assert not failed, nth
        expected = (MIXED if existing else NEWER) | LATEST
        assert bench.look() == {f"film/{file}": data for file, data in expected.items()}, nth
        bench.close()


@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
def test_two_who_publish_the_same_at_once(bench: Bench, watch: dict[object, Any], existing: bool) -> None:
    if existing:
        bench.tried().publish("film", OLDER, "older.1")
    bench.tried().stage()
    both = [sleeper(bench, watch, nth) for nth in (0, 2)]
    for sleeping, _, _ in both:
        sleeping.go.set()
    for _, thread, failed in both:
        thread.join()
        assert not failed
    assert bench.published() == (MIXED if existing else NEWER)
    assert bench.machine().staging_names() == []


def test_the_manifest_comes_last_and_the_older_one_goes_first(server: Moto, bench: Bench) -> None:
    bench.tried().publish("film", OLDER, "older.1")
    tried = bench.tried()
    tried.stage()
    seen: list[tuple[str, str]] = []
    stream = S3Bucket.stream

    def recording(self: S3Bucket, method: str, name: str, *rest: Any, **keys: Any) -> Any:
        if name.startswith(f"{bench.prefix}film/") and method != "GET":
            seen.append((method, name.removeprefix(f"{bench.prefix}film/")))
        return stream(self, method, name, *rest, **keys)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(S3Bucket, "stream", recording)
        tried.store.publish(NAME, "film")
    assert seen[0] == ("DELETE", MANIFEST) and seen[-1] == ("PUT", MANIFEST)
    assert {name for _, name in seen[1:]} == set(NEWER)


def test_objects_have_their_types(server: Moto, bench: Bench) -> None:
    bench.tried().publish("film")
    types = {"poster.webp": "image/webp", "added.vtt": "text/vtt; charset=utf-8", MANIFEST: "application/json"}
    for file, kind in types.items():
        assert server.ask(f"films/{bench.prefix}film/{file}").headers["content-type"] == kind


def test_a_destination_that_is_too_long_is_refused(bench: Bench) -> None:
    store = bench.machine()
    store.check_destination("x" * 700)
    with pytest.raises(BadJob, match="longer than a bucket allows"):
        store.check_destination("ü" * 400)


# What the bucket says.


def test_what_is_wrong_is_said_without_secrets(server: Moto, tmp_path: Path) -> None:
    nowhere = Place(f"http://{server.endpoint}", "nobodys", "", "us-east-1", KEY, SECRET)
    store = Bucket(nowhere, tmp_path)
    with pytest.raises(StoreFailure, match=r"answered 404 NoSuchBucket .*store\.url") as caught:
        store.check()
    for ask in (lambda: store.publish(NAME, "film"), lambda: store.staging_names(), lambda: store.open("film/x")):
        with pytest.raises(StoreFailure, match="NoSuchBucket"):
            ask()
    asyncio.run(store.close())
    assert SECRET not in repr(nowhere) + str(nowhere) + str(caught.value) and KEY not in str(caught.value)


def test_what_passes_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.store.requests._AGAIN", 0.001)
    answers = iter([503, 500, 200])

    with listening(lambda call, handler: next(answers)) as listener:
        store = Bucket(place(listener.port), tmp_path)
        store.staged(NAME).write({"poster.webp": b"x"})
        asyncio.run(store.close())
        assert len(listener.calls) == 3
    with listening(always(503)) as listener:
        store = Bucket(place(listener.port), tmp_path)
        with pytest.raises(StoreFailure, match=r"writing poster\.webp failed: the bucket: answered 503") as caught:
            store.staged(NAME).write({"poster.webp": b"x"})
        asyncio.run(store.close())
    assert caught.value.retry and not caught.value.charged


def test_what_could_not_be_taken_back_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or it would be published."""
    monkeypatch.setattr("daemon.store.requests._AGAIN", 0.001)
    with listening(always(503)) as listener:
        store = Bucket(place(listener.port), tmp_path)
        with pytest.raises(StoreFailure, match="removing objects failed"):
            store.staged(NAME).remove("poster.webp")
        store.staged(NAME).discard()  # it is swept later
        asyncio.run(store.close())


def test_a_check_is_remembered_until_something_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.store.requests._AGAIN", 0.001)
    status = [200]
    with listening(lambda call, handler: status[0]) as listener:
        store = Bucket(place(listener.port), tmp_path)
        for _ in range(3):
            store.check()
        assert [call.method for call in listener.calls] == ["PUT", "GET", "DELETE"]
        status[0] = 503
        with pytest.raises(StoreFailure):
            store.staged(NAME).write({"poster.webp": b"x"})
        with pytest.raises(StoreFailure):
            store.check()
        status[0] = 200
        store.check()
        asyncio.run(store.close())


# URLs.


NAMES = ["film/poster.webp", "ein Ordner/ü+ä~=(1)&'$,;@:!*.webp"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("port", [9000, 80])
def test_urls_are_signed_as_botocore_signs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, port: int
) -> None:
    now = datetime(2026, 11, 22, 4, 5, 6, tzinfo=UTC)
    monkeypatch.setattr(auth, "get_current_datetime", lambda *given: now)
    ours = Bucket(place(port, "a/"), tmp_path).url(name, int(now.timestamp()), 3600)
    request = AWSRequest("GET", ours.partition("?")[0])
    S3SigV4QueryAuth(Credentials(KEY, SECRET), "s3", "us-east-1", 3600).add_auth(request)
    assert sorted(ours.partition("?")[2].split("&")) == sorted(request.url.partition("?")[2].split("&"))
    assert SECRET not in ours


def test_urls_are_good_for_a_time(tmp_path: Path) -> None:
    (tmp_path / "served" / "films").mkdir(parents=True)
    with rclone(tmp_path / "served") as port:
        store = Bucket(place(port), tmp_path / "s")
        staging = store.stage(NAME)
        staging.write({"poster.webp": b"picture", MANIFEST: b"x"})
        store.publish(NAME, "ein Ordner/ü+ä")
        now = int(time.time())
        url = store.url("ein Ordner/ü+ä/poster.webp", now - 30, 120)
        assert httpx.get(url, timeout=20).content == b"picture"
        old = store.url("ein Ordner/ü+ä/poster.webp", now - 300, 120)
        for wrong in (old, url[:-1] + ("0" if url[-1] != "0" else "1"), url.replace("poster", "other")):
            assert httpx.get(wrong, timeout=20).status_code in (400, 403)
        asyncio.run(store.close())
