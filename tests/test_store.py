"""The store in a folder: published whole or not at all, by whoever gets to it, however often they are interrupted."""

import contextlib
import errno
import itertools
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import BadJob, StoreFailure
from daemon.files import MANIFEST
from daemon.store.folder import STAGING, Folder

NAME = "01ARZ3NDEKTSV4RRFFQ69G5FAV.2"
OLDER = {"poster.webp": b"older", "gone.webp": b"older", "tiles/0.jpg": b"older", MANIFEST: b"older"}
NEWER = {"poster.webp": b"newer", "added.vtt": b"newer", "tiles/320/0.jpg": b"newer", MANIFEST: b"newer"}
MIXED = OLDER | NEWER


class Crash(BaseException):
    """The end of the process, as far as its files are concerned."""


@pytest.fixture
def store(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "store")


def stage(store: Folder, files: dict[str, bytes] = NEWER, name: str = NAME) -> None:
    staging = store.stage(name)
    for file, data in files.items():
        staging.write({file: data})


def publish(store: Folder, destination: str, files: dict[str, bytes] = NEWER, name: str = NAME) -> None:
    stage(store, files, name)
    store.publish(name, destination)


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if not path.is_dir()}


def never_a_wrong_manifest(folder: Path) -> None:
    """Where there is a manifest, everything that it speaks of is there and of its own time."""
    if (folder / MANIFEST).exists():
        speaks_of = OLDER if (folder / MANIFEST).read_bytes() == b"older" else NEWER
        assert files_in(folder).items() >= speaks_of.items()


# Publishing.


@pytest.mark.parametrize("destination", ["film", "a/b/c", "orgs/one/film"])
def test_a_new_destination(store: Folder, destination: str) -> None:
    publish(store, destination)
    assert files_in(store.root) == {f"{destination}/{file}": data for file, data in NEWER.items()}
    assert not (store.root / STAGING).exists()


def test_an_existing_destination_keeps_what_is_not_replaced(store: Folder) -> None:
    publish(store, "film", OLDER, "older.1")
    publish(store, "film")
    assert files_in(store.root / "film") == MIXED
    assert not (store.root / STAGING).exists()


def test_destinations_inside_and_around_each_other(store: Folder) -> None:
    publish(store, "film/posters", OLDER, "1.1")
    publish(store, "film", NEWER, "2.1")
    publish(store, "film/posters/small", OLDER, "3.1")
    assert files_in(store.root / "film") == {
        **NEWER,
        **{f"posters/{file}": data for file, data in OLDER.items()},
        **{f"posters/small/{file}": data for file, data in OLDER.items()},
    }


def test_into_the_root_itself(store: Folder) -> None:
    store.root.mkdir()
    (store.root / "mine.txt").write_bytes(b"mine")
    publish(store, "")
    assert files_in(store.root) == {**NEWER, "mine.txt": b"mine"}


def test_publishing_again_changes_nothing(store: Folder) -> None:
    for destination in ("new", "old"):
        publish(store, "old", OLDER, "older.1")
        publish(store, destination)
        before = files_in(store.root)
        store.publish(NAME, destination)
        assert files_in(store.root) == before


def test_publishing_what_was_taken_away_since_does_nothing(store: Folder) -> None:
    publish(store, "film")
    shutil.rmtree(store.root / "film")
    store.publish(NAME, "film")
    assert files_in(store.root) == {}


def test_the_manifest_comes_last(store: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(store, "film", OLDER, "older.1")
    stage(store)
    arrived: list[str] = []
    rename = os.rename

    def record(source: Any, target: Any, **options: Any) -> None:
        rename(source, target, **options)
        if Path(target).is_relative_to(store.root / "film") and STAGING in Path(source).parts:
            arrived.append(str(Path(target).relative_to(store.root / "film")))

    monkeypatch.setattr(os, "rename", record)
    store.publish(NAME, "film")
    assert sorted(arrived) == sorted(NEWER) and arrived[-1] == MANIFEST


def test_files_are_on_disk_before_they_are_seen(store: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync, rename = os.fsync, os.rename

    def sync(descriptor: int) -> None:
        synced.append(str(path_of(descriptor)))
        fsync(descriptor)

    def move(source: Any, target: Any, **options: Any) -> None:
        if Path(target).is_relative_to(store.root / "film") and STAGING in Path(source).parts:
            assert str(source) in synced
        if Path(target) == store.root / "film" / MANIFEST:
            # The folders at the destination, after all that was moved into them, the one that is new included.
            for folder in ("film", "film/tiles", "film/tiles/320"):
                assert str(store.root / folder) in synced
        rename(source, target, **options)

    publish(store, "film", OLDER, "older.1")
    synced.clear()
    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "rename", move)
    publish(store, "film")
    assert str(store.root) in synced


def test_folders_are_on_disk_before_they_are_seen(store: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all of it is moved at once, its folders must know their files by then."""
    synced: list[str] = []
    moved: list[str] = []
    fsync, rename = os.fsync, os.rename

    def sync(descriptor: int) -> None:
        synced.append(str(path_of(descriptor)))
        fsync(descriptor)

    def move(source: Any, target: Any, **options: Any) -> None:
        moved.append(str(target))
        for folder in ("", "tiles", "tiles/320"):
            assert str(Path(source) / folder) in synced
        rename(source, target, **options)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "rename", move)
    publish(store, "film")
    assert moved == [str(store.root / "film")]


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_an_interrupted_publication_is_brought_to_its_end(
    store: Folder, monkeypatch: pytest.MonkeyPatch, existing: bool, done: bool
) -> None:
    """At every renaming, before or after it: publishing again leads to the same files."""
    rename = os.rename
    interrupted = 0
    for nth in range(20):
        folder = Folder(store.root / str(nth))
        if existing:
            publish(folder, "film", OLDER, "older.1")
        stage(folder)
        left = nth

        def crash(source: Any, target: Any, **options: Any) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                if done:
                    rename(source, target, **options)
                raise Crash
            rename(source, target, **options)

        with monkeypatch.context() as patched:
            patched.setattr(os, "rename", crash)
            try:
                folder.publish(NAME, "film")
            except Crash:
                interrupted += 1
        never_a_wrong_manifest(folder.root / "film")
        folder.publish(NAME, "film")
        assert files_in(folder.root) == {f"film/{file}": data for file, data in (MIXED if existing else NEWER).items()}
        assert os.listdir(folder.root) == ["film"]
    assert interrupted > len(NEWER) if existing else interrupted == 1


class Publisher(threading.Thread):
    """Publishes until it comes to its `at`-th look at the disk, and goes on from there when it is told to."""

    def __init__(self, folder: Folder, at: int) -> None:
        super().__init__()
        self.steps = 0
        self._folder, self._at = folder, at
        self._stopped, self._go = threading.Event(), threading.Event()
        self._failed: BaseException | None = None
        self.start()
        self._stopped.wait()

    def run(self) -> None:
        try:
            self._folder.publish(NAME, "film")
        except StoreFailure as failure:
            self._failed = failure
        self._stopped.set()

    def step(self) -> None:
        if self.steps == self._at:
            self._stopped.set()
            self._go.wait()
        self.steps += 1

    def to_the_end(self) -> int:
        self._go.set()
        self.join()
        assert self._failed is None
        return self.steps


@pytest.fixture
def stepwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Publishers can be stopped before whatever they do on the disk."""

    def stepping(real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            if isinstance(me := threading.current_thread(), Publisher):
                me.step()
            return real(*arguments, **options)

        return call

    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    for owner, name in ((os, "rename"), (os, "scandir"), (os, "mkdir"), (os, "stat"), (shutil, "rmtree")):
        monkeypatch.setattr(owner, name, stepping(getattr(owner, name)))


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.usefixtures("stepwise")
def test_two_who_publish_the_same_at_once_come_to_the_same(tmp_path: Path, existing: bool) -> None:
    """An owner that was taken for dead wakes up: wherever each of them stands, the outcome is the same."""
    folder = Folder(tmp_path)

    def staged() -> None:
        shutil.rmtree(tmp_path / "film", ignore_errors=True)
        if existing:
            publish(folder, "film", OLDER, "older.1")
        stage(folder)

    staged()
    steps = Publisher(folder, -1).to_the_end()
    for places in itertools.product(range(steps + 1), repeat=2):
        staged()
        publishers = [Publisher(folder, at) for at in places]
        for publisher in publishers:
            publisher.to_the_end()
        assert files_in(tmp_path / "film") == (MIXED if existing else NEWER), places
        assert os.listdir(tmp_path) == ["film"], places


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.usefixtures("stepwise")
def test_one_who_wakes_up_late_spares_what_came_after(tmp_path: Path, existing: bool) -> None:
    """He was taken for dead, his publication brought to its end, and another job published to the same place."""
    folder = Folder(tmp_path)
    latest = {"poster.webp": b"latest", MANIFEST: b"latest"}
    at, steps = 0, 1
    while at < steps:
        if existing:
            publish(folder, "film", OLDER, "older.1")
        stage(folder)
        sleeper = Publisher(folder, at)
        folder.publish(NAME, "film")
        publish(folder, "film", latest, "latest.1")
        steps = sleeper.to_the_end()
        assert files_in(tmp_path / "film") == (MIXED if existing else NEWER) | latest, at
        assert os.listdir(tmp_path) == ["film"], at
        shutil.rmtree(tmp_path / "film")
        at += 1
    assert at > 3


def test_what_stands_in_the_way_is_said(store: Folder) -> None:
    publish(store, "film", {"poster.webp": b"x"}, "older.1")
    stage(store)
    with pytest.raises(StoreFailure, match=r"publishing to film/poster\.webp failed: Not a directory"):
        store.publish(NAME, "film/poster.webp")
    assert files_in(store.root / STAGING / NAME) == NEWER


def test_a_file_never_stands_where_another_job_has_its_folder(store: Folder) -> None:
    """No later try can mend that: it is said before anything is moved."""
    publish(store, "film", {"first.webp": b"x", MANIFEST: b"x"}, "older.1")
    publish(store, "film/poster.webp", OLDER, "older.2")
    before = files_in(store.root / "film")
    stage(store)
    with pytest.raises(BadJob, match=r"film/poster\.webp is a folder"):
        store.publish(NAME, "film")
    assert files_in(store.root / "film") == before


@pytest.mark.parametrize("folder", ["tiles", "tiles/320"])
def test_a_folder_never_stands_where_another_job_has_its_file(store: Folder, folder: str) -> None:
    publish(store, "film", {folder: b"a file", MANIFEST: b"x"}, "older.1")
    before = files_in(store.root / "film")
    stage(store)
    with pytest.raises(BadJob, match=rf"film/{folder} is a file, not a folder"):
        store.publish(NAME, "film")
    assert files_in(store.root / "film") == before


# Destinations.


def test_a_destination_that_is_free_or_a_folder_is_good(store: Folder) -> None:
    publish(store, "film")
    for destination in ("film", "film/inside", "elsewhere/far/away"):
        store.check_destination(destination)


@pytest.mark.parametrize("destination", ["film/poster.webp", "film/poster.webp/inside"])
def test_a_destination_that_is_a_file_is_refused(store: Folder, destination: str) -> None:
    publish(store, "film")
    with pytest.raises(BadJob, match=r"destination: film/poster\.webp is a file"):
        store.check_destination(destination)


def test_a_destination_that_is_a_dangling_link_is_refused(store: Folder) -> None:
    store.root.mkdir()
    (store.root / "film").symlink_to("nowhere")
    with pytest.raises(BadJob, match="film is a file"):
        store.check_destination("film")


# Staging.


def test_staging_begins_empty(store: Folder) -> None:
    stage(store)
    store.stage(NAME)
    assert files_in(store.root / STAGING / NAME) == {}


def test_nothing_of_it_is_seen_before_it_is_published(store: Folder) -> None:
    stage(store)
    assert os.listdir(store.root) == [STAGING]
    assert store.staging_names() == [NAME]


def test_discarding_leaves_nothing(store: Folder) -> None:
    stage(store)
    stage(store, name="other.1")
    store.staged(NAME).discard()
    assert store.staging_names() == ["other.1"]
    store.staged("other.1").discard()
    store.staged("other.1").discard()
    assert os.listdir(store.root) == []
    assert store.staging_names() == []


def test_sweeping_takes_what_is_over_and_nothing_else(store: Folder) -> None:
    for name in ("a.1", "b.1", "c.1"):
        stage(store, name=name)
    store.sweep(["a.1", "c.1", "unknown.1"])
    assert store.staging_names() == ["b.1"]
    store.sweep([])
    assert store.staging_names() == ["b.1"]
    store.sweep(["b.1"])
    assert os.listdir(store.root) == []


def test_a_file_can_be_taken_back(store: Folder) -> None:
    stage(store)
    store.staged(NAME).remove("poster.webp")
    store.staged(NAME).remove("poster.webp")
    assert files_in(store.root / STAGING / NAME).keys() == NEWER.keys() - {"poster.webp"}


def test_a_folder_goes_with_its_last_file(store: Folder) -> None:
    stage(store, {**OLDER, **NEWER})
    staging = store.staged(NAME)
    staging.remove("tiles/320/0.jpg")
    staging.remove("tiles/320/0.jpg")
    assert os.listdir(store.root / STAGING / NAME / "tiles") == ["0.jpg"]
    staging.remove("tiles/0.jpg")
    assert sorted(os.listdir(store.root / STAGING / NAME)) == sorted(
        ["poster.webp", "added.vtt", "gone.webp", MANIFEST]
    )


def test_the_common_folder_may_vanish_while_another_begins(store: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    mkdir = os.mkdir
    vanished: list[bool] = []

    def vanish(path: Any, *arguments: Any, **options: Any) -> None:
        if Path(path).name == NAME and not vanished:
            (store.root / STAGING).rmdir()
            vanished.append(True)
        mkdir(path, *arguments, **options)

    monkeypatch.setattr(os, "mkdir", vanish)
    assert store.stage(NAME).name == NAME
    assert store.staging_names() == [NAME]


def test_no_file_is_written_twice(store: Folder) -> None:
    staging = store.stage(NAME)
    staging.write({"poster.webp": b"first"})
    with pytest.raises(StoreFailure, match=r"writing poster\.webp failed: File exists"):
        staging.write({"poster.webp": b"second"})
    assert files_in(store.root / STAGING / NAME) == {"poster.webp": b"first"}


def test_writing_to_what_was_swept_fails(store: Folder) -> None:
    staging = store.stage(NAME)
    store.sweep([NAME])
    for late in ("poster.webp", "tiles/320/0.jpg"):
        with pytest.raises(StoreFailure, match="No such file"):
            staging.write({late: b"late"})
    assert os.listdir(store.root) == []


# A disk that is full or broken.


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB, where one may be mounted."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", path], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system may be mounted here: {mounted.stderr.decode().strip()}")
    yield path
    subprocess.run(["umount", path], check=True)


def test_a_full_disk_leaves_no_part_of_a_file(small_disk: Path) -> None:
    store = Folder(small_disk)
    staging = store.stage(NAME)
    staging.write({"fits.webp": bytes(200_000)})
    with pytest.raises(StoreFailure, match=r"writing large\.webp failed: No space left on device \(free space"):
        staging.write({"large.webp": bytes(2_000_000)})
    assert files_in(small_disk / STAGING / NAME) == {"fits.webp": bytes(200_000)}
    staging.write({"large.webp": bytes(200_000)})
    store.publish(NAME, "film")
    assert len(files_in(small_disk / "film")) == 2


def test_a_full_disk_is_found_by_checking(small_disk: Path) -> None:
    store = Folder(small_disk)
    store.check()
    (small_disk / "rest").write_bytes(bytes(store.free_bytes()))
    with pytest.raises(StoreFailure, match=r"writing to .* failed: No space left on device"):
        store.check()
    assert os.listdir(small_disk) == ["rest"]
    (small_disk / "rest").unlink()
    store.check()
    assert os.listdir(small_disk) == []


@pytest.mark.parametrize("call", ["write", "fsync"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_disk_that_fails_leaves_no_file(
    store: Folder, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    staging = store.stage(NAME)
    staging.write({"before.webp": b"before"})
    tries: list[int] = []

    def broken(descriptor: int, *data: Any) -> int:
        tries.append(descriptor)
        if call == "write" and len(tries) == 1:
            return 1  # a part of it went out
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, broken)
        with pytest.raises(StoreFailure, match=os.strerror(number)) as raised:
            staging.write({"poster.webp": b"poster"})
    assert raised.value.retry and not raised.value.charged
    assert len(tries) == (2 if call == "write" else 1)
    assert files_in(store.root / STAGING / NAME) == {"before.webp": b"before"}
    assert all(not path_of(descriptor).exists() for descriptor in tries)


def path_of(descriptor: int) -> Path:
    """Of what is open; of a file that is closed, a path that is not there."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/self/fd/{descriptor}").readlink()
    return Path("/closed")


def test_files_that_are_written_together_fail_together(store: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    staging = store.stage(NAME)
    fsync = os.fsync
    synced: list[int] = []

    def broken(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(StoreFailure, match=r"writing a\.webp failed: Input/output error"):
        staging.write({"a.webp": b"a", "b.webp": b"b", "c.webp": b"c"})
    assert files_in(store.root / STAGING / NAME) == {}


def test_writes_go_on_where_the_system_stopped(store: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    store.stage(NAME).write({"poster.webp": b"0123456789"})
    assert files_in(store.root / STAGING / NAME) == {"poster.webp": b"0123456789"}


def test_a_root_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreFailure, match=r"writing to .*store failed: Not a directory"):
        Folder(tmp_path / "file" / "store").check()
    with pytest.raises(StoreFailure, match="making a staging folder failed: Not a directory"):
        Folder(tmp_path / "file" / "store").stage(NAME)


# Files that somebody else writes.


def test_an_open_file_is_new_and_published_with_the_others(store: Folder) -> None:
    staging = store.stage(NAME)
    descriptor = staging.open("clip.mp4")
    os.pwrite(descriptor, b"frames", 0)
    staging.settle("clip.mp4", descriptor)
    os.close(descriptor)
    staging.write({MANIFEST: b"newer"})
    store.publish(NAME, "film")
    assert files_in(store.root) == {"film/clip.mp4": b"frames", f"film/{MANIFEST}": b"newer"}


def test_no_file_is_opened_that_is_there(store: Folder, tmp_path: Path) -> None:
    staging = store.stage(NAME)
    staging.write({"there.mp4": b"frames"})
    (store.root / STAGING / NAME / "link.mp4").symlink_to(tmp_path / "elsewhere")
    for file in ("there.mp4", "link.mp4"):
        with pytest.raises(StoreFailure):
            staging.open(file)
    assert not (tmp_path / "elsewhere").exists()


def test_what_does_not_reach_the_disk_is_a_failure(store: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    staging = store.stage(NAME)
    descriptor = staging.open("clip.mp4")

    def fails(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(StoreFailure, match=r"writing clip\.mp4"):
        staging.settle("clip.mp4", descriptor)
    os.close(descriptor)


# What is kept beside the jobs' own.


def keep(store: Folder, path: str, data: bytes, folder: Path) -> None:
    source = folder / "source"
    source.write_bytes(data)
    with source.open("rb") as file:
        store.keep(path, file.fileno())


def test_a_file_is_kept_opened_and_removed(store: Folder, tmp_path: Path) -> None:
    data = os.urandom(300_000)
    keep(store, "orgs/one/_kept/id/a.png", data, tmp_path)
    descriptor = store.open("orgs/one/_kept/id/a.png")
    try:
        assert os.pread(descriptor, 1 << 20, 0) == data
    finally:
        os.close(descriptor)
    keep(store, "orgs/one/_kept/id/b.png", b"b", tmp_path)
    store.remove("orgs/one/_kept/id/a.png")
    assert files_in(store.root) == {"orgs/one/_kept/id/b.png": b"b"}
    store.remove("orgs/one/_kept/id")
    store.remove("orgs/one/_kept/id")
    assert files_in(store.root) == {}
    with pytest.raises(FileNotFoundError):
        store.open("orgs/one/_kept/id/a.png")


def test_a_link_in_the_store_is_not_opened(store: Folder, tmp_path: Path) -> None:
    keep(store, "a", b"a", tmp_path)
    (store.root / "link").symlink_to(tmp_path / "source")
    with pytest.raises(FileNotFoundError):
        store.open("link")


@pytest.mark.parametrize("call", ["sendfile", "fsync", "rename"])
def test_what_cannot_be_kept_leaves_nothing(
    store: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    keep(store, "folder/before", b"a", tmp_path)
    monkeypatch.setattr(Path if call == "rename" else os, call, full)
    with pytest.raises(StoreFailure):
        keep(store, "folder/after", b"b", tmp_path)
    assert files_in(store.root) == {"folder/before": b"a"}
