"""What every store does, tried on each: a folder, a bucket of moto, and one of rclone, which checks signatures."""

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from buckets import KEY, SECRET, Moto, moto, rclone

from daemon.files import MANIFEST
from daemon.store.bucket import Bucket
from daemon.store.folder import Folder
from daemon.store.protocol import Store
from daemon.store.requests import Place

pytestmark = pytest.mark.daemons

NAME = "01ARZ3NDEKTSV4RRFFQ69G5FAV.2"
OLDER = {"poster.webp": b"older", "gone.webp": b"older", "tiles/0.jpg": b"older", MANIFEST: b"older"}
NEWER = {"poster.webp": b"newer", "added.vtt": b"newer", "tiles/320/0.jpg": b"newer", MANIFEST: b"newer"}
MIXED = OLDER | NEWER


@dataclass(frozen=True)
class Tried:
    """A store, and `look` at all that it holds."""

    store: Store
    look: Callable[[], dict[str, bytes]]

    def stage(self, files: dict[str, bytes] = NEWER, name: str = NAME) -> None:
        staging = self.store.stage(name)
        staging.write({file: data for file, data in files.items() if file != MANIFEST})
        staging.write({MANIFEST: files[MANIFEST]})

    def publish(self, destination: str, files: dict[str, bytes] = NEWER, name: str = NAME) -> None:
        self.stage(files, name)
        self.store.publish(name, destination)


def below(folder: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{folder}/{file}": data for file, data in files.items()}


@pytest.fixture(scope="module")
def server() -> Iterator[Moto]:
    with moto("films") as running:
        yield running


@pytest.fixture(params=["folder", "moto", "rclone"])
def tried(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tried]:
    def files_in(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    if request.param == "folder":
        folder = Folder(tmp_path / "store")
        yield Tried(folder, lambda: files_in(folder.root))
        return
    if request.param == "moto":
        server: Moto = request.getfixturevalue("server")
        prefix = f"{request.node.name}/"
        bucket = Bucket(Place(f"http://{server.endpoint}", "films", prefix, "us-east-1", KEY, SECRET), tmp_path / "s")

        def look() -> dict[str, bytes]:
            names = [name for name in server.names("films") if name.startswith(prefix)]
            return {name.removeprefix(prefix): server.ask(f"films/{name}").data for name in names}

        yield Tried(bucket, look)
    else:
        (tmp_path / "served" / "films").mkdir(parents=True)
        with rclone(tmp_path / "served") as port:
            bucket = Bucket(Place(f"http://127.0.0.1:{port}", "films", "", "us-east-1", KEY, SECRET), tmp_path / "s")
            yield Tried(bucket, lambda: files_in(tmp_path / "served" / "films"))
    asyncio.run(bucket.close())
    assert os.listdir(tmp_path / "s") == [] if (tmp_path / "s").exists() else True


@pytest.mark.parametrize("destination", ["film", "a/b/c", "orgs/one/film", "ein Ordner/ü+ä~=(1)&'$,;@:!*"])
def test_a_new_destination(tried: Tried, destination: str) -> None:
    tried.publish(destination)
    assert tried.look() == below(destination, NEWER)
    assert tried.store.staging_names() == []


def test_an_existing_destination_keeps_what_is_not_replaced(tried: Tried) -> None:
    tried.publish("film", OLDER, "older.1")
    tried.publish("film")
    assert tried.look() == below("film", MIXED)


def test_destinations_inside_and_around_each_other(tried: Tried) -> None:
    tried.publish("film/posters", OLDER, "1.1")
    tried.publish("film", NEWER, "2.1")
    tried.publish("film/posters/small", OLDER, "3.1")
    inside = below("film/posters", OLDER) | below("film/posters/small", OLDER)
    assert tried.look() == below("film", NEWER) | inside


def test_publishing_again_changes_nothing(tried: Tried) -> None:
    for destination in ("new", "old"):
        tried.publish("old", OLDER, "older.1")
        tried.publish(destination)
        before = tried.look()
        tried.store.publish(NAME, destination)
        assert tried.look() == before


def test_publishing_what_was_taken_away_since_does_nothing(tried: Tried) -> None:
    tried.publish("film")
    tried.store.expire("film", [f"film/{file}" for file in NEWER], lambda manifest: None)
    tried.store.publish(NAME, "film")
    assert tried.look() == {}


def test_staging_begins_empty(tried: Tried) -> None:
    tried.stage()
    tried.store.stage(NAME)
    assert tried.look() == {}


def test_nothing_of_it_is_seen_before_it_is_published(tried: Tried) -> None:
    tried.stage()
    assert tried.store.staging_names() == [NAME]
    assert all(name.startswith(".staging/") for name in tried.look())


def test_discarding_leaves_nothing(tried: Tried) -> None:
    tried.stage()
    tried.stage(name="other.1")
    tried.store.staged(NAME).discard()
    assert tried.store.staging_names() == ["other.1"]
    for _ in range(2):
        tried.store.staged("other.1").discard()
    assert tried.look() == {} and tried.store.staging_names() == []


def test_sweeping_takes_what_is_over_and_nothing_else(tried: Tried) -> None:
    for name in ("a.1", "b.1", "b.11"):
        tried.stage(name=name)
    tried.store.sweep(["a.1", "b.1", "unknown.1"])
    assert tried.store.staging_names() == ["b.11"]
    tried.store.sweep([])
    assert tried.store.staging_names() == ["b.11"]


def test_a_file_can_be_taken_back(tried: Tried) -> None:
    tried.stage()
    for _ in range(2):
        tried.store.staged(NAME).remove("tiles/320/0.jpg")
    tried.store.publish(NAME, "film")
    assert tried.look() == below("film", {file: NEWER[file] for file in NEWER if file != "tiles/320/0.jpg"})


def test_an_open_file_is_published_with_the_others(tried: Tried) -> None:
    staging = tried.store.stage(NAME)
    descriptor = staging.open("clip.mp4")
    data = os.urandom((16 << 20) + 5)  # in parts, where that is how it goes
    os.pwrite(descriptor, data, 0)
    staging.settle("clip.mp4", descriptor)
    os.close(descriptor)
    staging.write({MANIFEST: b"newer"})
    tried.store.publish(NAME, "film")
    assert tried.look() == below("film", {"clip.mp4": data, MANIFEST: b"newer"})


def test_an_open_file_that_nobody_wants_leaves_nothing(tried: Tried) -> None:
    staging = tried.store.stage(NAME)
    os.close(staging.open("clip.mp4"))
    staging.remove("clip.mp4")
    staging.discard()
    assert tried.look() == {}


def test_what_was_published_is_taken_once_more(tried: Tried) -> None:
    tried.publish("film")
    staging = tried.store.stage("again.1")
    assert staging.adopt({"cover.webp": "film/poster.webp", "t/1/0.jpg": "film/tiles/320/0.jpg"}) == 10
    staging.write({MANIFEST: b"again"})
    tried.store.publish("again.1", "copy")
    tried.publish("film", OLDER | {"tiles/320/0.jpg": b"replaced"}, "later.1")
    copied = {"cover.webp": b"newer", "t/1/0.jpg": b"newer", MANIFEST: b"again"}
    assert {name: data for name, data in tried.look().items() if name.startswith("copy/")} == below("copy", copied)


def test_what_is_gone_is_taken_by_nobody(tried: Tried) -> None:
    tried.publish("film")
    staging = tried.store.stage("again.1")
    with pytest.raises(FileNotFoundError):
        staging.adopt({"a.webp": "film/poster.webp", "b.webp": "film/never.webp"})
    with pytest.raises(FileNotFoundError):
        tried.store.open("film/never.webp")


def test_published_files_are_read(tried: Tried) -> None:
    tried.publish("film")
    descriptor = tried.store.open("film/tiles/320/0.jpg")
    assert os.read(descriptor, 100) == b"newer" and os.fstat(descriptor).st_size == 5
    os.close(descriptor)


def test_what_expires_leaves_and_the_manifest_knows(tried: Tried) -> None:
    tried.publish("film")
    for _ in range(2):
        tried.store.expire("film", ["film/poster.webp", "film/tiles/320/0.jpg"], lambda manifest: b"the rest")
        assert tried.look() == below("film", {"added.vtt": b"newer", MANIFEST: b"the rest"})
    tried.store.expire("film", ["film/added.vtt"], lambda manifest: None)
    assert tried.look() == {}


def test_it_is_well(tried: Tried) -> None:
    for _ in range(2):
        tried.store.check()
    assert tried.look() == {} and tried.store.free_bytes() > 0


def test_what_is_kept_beside_it_is_found_listed_and_removed(tried: Tried, tmp_path: Path) -> None:
    store = tried.store
    picture = tmp_path / "picture"
    picture.write_bytes(data := os.urandom(100_000))
    assert store.folders("orgs") == [] and not store.has("orgs/one/_kept/a/1.png")
    store.remove("orgs/one/_kept/a")
    with picture.open("rb") as file:
        for path in ("orgs/one/_kept/a/1.png", "orgs/one/_kept/a/2.png", "orgs/one/_kept/ab/1.png"):
            store.keep(path, file.fileno())
    assert store.has("orgs/one/_kept/a/1.png") and not store.has("orgs/one/_kept/a/1.pn")
    assert store.folders("orgs") == ["one"] and sorted(store.folders("orgs/one/_kept")) == ["a", "ab"]
    descriptor = store.open("orgs/one/_kept/a/2.png")
    try:
        assert os.pread(descriptor, 1 << 20, 0) == data
    finally:
        os.close(descriptor)
    store.remove("orgs/one/_kept/a/1.png")
    assert set(tried.look()) == {"orgs/one/_kept/a/2.png", "orgs/one/_kept/ab/1.png"}
    for _ in range(2):
        store.remove("orgs/one/_kept/a")
    assert set(tried.look()) == {"orgs/one/_kept/ab/1.png"}
    with pytest.raises(FileNotFoundError):
        store.open("orgs/one/_kept/a/2.png")
