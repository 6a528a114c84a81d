"""Only regular files below the allowed roots are opened, whatever a path says and whoever moves things meanwhile."""

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import Failure, SourceEmpty, SourceMissing, SourceRefused, SourceUnreadable
from daemon.sources import Sources

FILM, SECRET = b"a film", b"a secret"
MOST = 100


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """A root with a film in it, and a secret beside it."""
    root = tmp_path / "media"
    (root / "folder" / "deep").mkdir(parents=True)
    (root / "film.mp4").write_bytes(FILM)
    (root / "folder" / "deep" / "film.mp4").write_bytes(FILM)
    (tmp_path / "secret.mp4").write_bytes(SECRET)
    (tmp_path / "media2").mkdir()
    (tmp_path / "media2" / "secret.mp4").write_bytes(SECRET)
    return root


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    before = os.listdir("/proc/self/fd")
    yield
    assert os.listdir("/proc/self/fd") == before


def read(roots: list[Path] | None, source: str | Path) -> bytes:
    descriptor = Sources(roots, MOST)._open(str(source))
    try:
        return os.read(descriptor, 2 * MOST)
    finally:
        os.close(descriptor)


def refused(roots: list[Path] | None, source: str | Path, kind: type[Failure] = SourceRefused) -> str:
    """The message, less the source that it begins with."""
    with pytest.raises(kind) as raised:
        read(roots, source)
    assert type(raised.value) is kind
    start = f"source {str(source)!r}: "
    assert raised.value.message.startswith(start)
    return raised.value.message.removeprefix(start)


# What may be read.


@pytest.mark.parametrize(
    "source", ["film.mp4", "./film.mp4", "folder/deep/film.mp4", "folder//deep/./film.mp4", "folder/../film.mp4"]
)
def test_a_file_below_a_root_is_opened(media: Path, source: str) -> None:
    assert read([media], source) == FILM
    assert read([media], f"{media}/{source}") == FILM


@pytest.mark.parametrize("name", ["..film.mp4", "...", "-x", " ", "ein Film\n.mp4", "фильм.mp4", "a\\b", "x" * 255])
def test_names_may_be_strange(media: Path, name: str) -> None:
    (media / name).write_bytes(FILM)
    assert read([media], name) == FILM
    assert read([media], media / name) == FILM


def test_a_relative_path_is_looked_for_below_each_root_in_turn(media: Path, tmp_path: Path) -> None:
    (tmp_path / "media2" / "film.mp4").write_bytes(b"the other")
    roots = [tmp_path / "media2", media]
    assert read(roots, "film.mp4") == b"the other"
    assert read(roots, "folder/deep/film.mp4") == FILM
    assert read(roots, media / "film.mp4") == FILM
    assert "no such file" in refused(roots, "nowhere.mp4", SourceMissing)


def test_a_root_may_be_a_link_and_sources_may_use_either_name(media: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(media)
    for root in (tmp_path / "link", media):
        assert read([root], "film.mp4") == FILM
        assert read([root], media / "film.mp4") == FILM
    assert read([tmp_path / "link"], tmp_path / "link" / "film.mp4") == FILM


def test_a_root_may_be_relative(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(media)
    sources = Sources([Path()], MOST)
    monkeypatch.chdir("/")
    for source in ("film.mp4", str(media / "film.mp4")):
        os.close(sources.open(source))


def test_without_roots_the_user_reads_what_he_may(media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link.mp4").symlink_to(media / "film.mp4")
    monkeypatch.chdir(media)
    for source in ("film.mp4", "../media/film.mp4", tmp_path / "link.mp4", tmp_path / "secret.mp4"):
        assert read(None, source)


def test_a_child_inherits_nothing(media: Path) -> None:
    for roots in ([media], None):
        descriptor = Sources(roots, MOST).open(str(media / "film.mp4"))
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)


# What may not.


def test_no_roots_allow_nothing(media: Path) -> None:
    assert refused([], media / "film.mp4") == "no folder may be read: name some in the setting sources.roots"


@pytest.mark.parametrize(
    "source",
    ["../secret.mp4", "folder/../../secret.mp4", "..", "../media2/secret.mp4", "/etc/passwd", "/", "//etc/passwd"],
)
def test_outside_the_roots(media: Path, source: str) -> None:
    assert refused([media], source) == "it lies outside the folders of the setting sources.roots"


@pytest.mark.parametrize("source", ["secret.mp4", "media/../secret.mp4", "media2/secret.mp4"])
def test_beside_a_root(media: Path, tmp_path: Path, source: str) -> None:
    """Also where the name of another folder begins like the root's."""
    assert refused([media], f"{tmp_path}/{source}") == "it lies outside the folders of the setting sources.roots"


@pytest.mark.parametrize(
    "source", ["https://cdn.example/film.mp4", "s3://bucket/film.mp4", "file:///film.mp4", "video:7"]
)
@pytest.mark.parametrize("free", [False, True])
def test_what_is_no_path(media: Path, source: str, free: bool) -> None:
    assert "only paths of files" in refused(None if free else [media], source)


def test_links_are_not_followed(media: Path, tmp_path: Path) -> None:
    (media / "last.mp4").symlink_to(media / "film.mp4")
    (media / "out.mp4").symlink_to(tmp_path / "secret.mp4")
    (media / "middle").symlink_to(media / "folder")
    (media / "up").symlink_to("..")
    (media / "round").symlink_to("round")
    (media / "dangling").symlink_to("nowhere")
    for source in ("last.mp4", "out.mp4", "middle/deep/film.mp4", "up/secret.mp4", "round", "dangling"):
        assert refused([media], source) == "a part of its path is a link or no folder: give its real path"


def test_two_dots_do_not_lead_through_a_link(media: Path, tmp_path: Path) -> None:
    """`elsewhere/..` is the root itself, not the folder above what the link points to."""
    (media / "elsewhere").symlink_to(tmp_path / "media2")
    assert read([media], "elsewhere/../film.mp4") == FILM
    assert "no such file" in refused([media], "elsewhere/../secret.mp4", SourceMissing)


@pytest.mark.parametrize("swapped", ["folder", "folder/deep", "folder/deep/film.mp4"])
def test_nobody_swaps_a_part_for_a_link_on_the_way(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swapped: str
) -> None:
    """At the last moment before a part is opened it becomes a link to the outside."""
    outside = tmp_path / "outside" / "folder" / "deep"
    outside.mkdir(parents=True)
    (outside / "film.mp4").write_bytes(SECRET)
    real = os.open

    def swap(path: Any, *arguments: Any, **options: Any) -> int:
        if path == Path(swapped).name and not (media / swapped).is_symlink():
            (media / swapped).rename(tmp_path / "gone")
            (media / swapped).symlink_to(tmp_path / "outside" / swapped)
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", swap)
    assert "link" in refused([media], "folder/deep/film.mp4")


def test_what_was_opened_stays_what_it_was(media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is swapped after it was passed leads nowhere else."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "film.mp4").write_bytes(SECRET)
    real = os.open

    def swap(path: Any, *arguments: Any, **options: Any) -> int:
        if path == "film.mp4":
            (media / "folder" / "deep").rename(tmp_path / "gone")
            (media / "folder" / "deep").symlink_to(tmp_path / "outside")
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", swap)
    assert read([media], "folder/deep/film.mp4") == FILM


# What is there, and no film.


@pytest.mark.parametrize("free", [False, True])
def test_what_is_no_regular_file_never_blocks(media: Path, free: bool) -> None:
    os.mkfifo(media / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(media / "socket"))
        for name in ("pipe", "socket", "folder"):
            assert refused(None if free else [media], media / name).startswith("it is no regular file")


@pytest.mark.parametrize("source", ["/dev/null", "/dev/zero"])
def test_devices(source: str) -> None:
    for roots in ([Path("/dev")], None):
        assert refused(roots, source).startswith("it is no regular file")


@pytest.mark.parametrize("source", [".", "folder/..", "", "folder"])
def test_the_root_itself_is_no_film(media: Path, source: str) -> None:
    assert refused([media], source).startswith("it is no regular file")
    assert refused([media], media).startswith("it is no regular file")


def test_an_empty_file(media: Path) -> None:
    (media / "empty.mp4").touch()
    assert refused([media], "empty.mp4", SourceEmpty) == "the file is empty: is it still being written?"


def test_a_file_may_be_as_large_as_is_allowed_and_no_larger(media: Path) -> None:
    for size in (MOST, MOST + 1):
        (media / f"{size}.mp4").write_bytes(bytes(size))
    assert len(read([media], f"{MOST}.mp4")) == MOST
    said = refused([media], f"{MOST + 1}.mp4")
    assert said == f"it has {MOST + 1} bytes, {MOST} are allowed (setting sources.max_bytes)"


@pytest.mark.parametrize("source", ["none.mp4", "folder/none.mp4", "none/film.mp4"])
def test_nothing_there(media: Path, source: str) -> None:
    assert refused([media], source, SourceMissing) == "there is no such file: check its path"


def test_a_file_is_no_folder(media: Path) -> None:
    assert "no folder" in refused([media], "film.mp4/film.mp4")


@pytest.mark.parametrize("name", ["a\0b", "film.mp4\0", "\0", "\ud800", "x" * 256, "x/" * 3000])
@pytest.mark.parametrize("free", [False, True])
def test_names_that_cannot_be(media: Path, name: str, free: bool) -> None:
    with pytest.raises((SourceRefused, SourceMissing)) as raised:
        read(None if free else [media], name)
    assert raised.value.message.startswith(f"source {name!r}: ")


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (errno.EACCES, SourceRefused, "it may not be read: give the daemon's user the right to"),
        (errno.EPERM, SourceRefused, "it may not be read: give the daemon's user the right to"),
        (errno.EIO, SourceUnreadable, "opening it failed (Input/output error)"),
        (errno.ESTALE, SourceUnreadable, "opening it failed (Stale file handle)"),
        (errno.EMFILE, SourceUnreadable, "opening it failed (Too many open files)"),
    ],
)
def test_what_the_system_says(
    media: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Failure], said: str
) -> None:
    """What may pass is tried again."""

    def fail(*arguments: Any, **options: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", fail)
    assert refused([media], "film.mp4", kind) == said
    assert kind.retry == (kind is SourceUnreadable)
