"""Only regular files below the allowed roots are opened, whatever a path says and whoever moves things meanwhile."""

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import Failure, SourceEmpty, SourceMissing, SourceRefused, SourceUnreadable
from daemon.sources import Sources
from daemon.sources.files import Files

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


def read(
    roots: list[Path] | None,
    source: str | Path,
    within: tuple[Path, ...] | None = None,
    aliases: dict[str, Path] | None = None,
) -> bytes:
    async def opened() -> bytes:
        async with Sources(Files(roots, MOST, aliases or {})).open(str(source), within) as opened:
            data = os.read(opened.descriptor, 2 * MOST)
            assert opened.size == len(data) and opened.answers is None
            return data

    return asyncio.run(opened())


def refused(
    roots: list[Path] | None,
    source: str | Path,
    kind: type[Failure] = SourceRefused,
    within: tuple[Path, ...] | None = None,
    aliases: dict[str, Path] | None = None,
) -> str:
    """The message, less the source that it begins with."""
    with pytest.raises(kind) as raised:
        read(roots, source, within, aliases)
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
    files = Files([Path()], MOST, {})
    monkeypatch.chdir("/")
    for source in ("film.mp4", str(media / "film.mp4")):
        os.close(files.open(source))


def test_without_roots_the_user_reads_what_he_may(media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link.mp4").symlink_to(media / "film.mp4")
    monkeypatch.chdir(media)
    for source in ("film.mp4", "../media/film.mp4", tmp_path / "link.mp4", tmp_path / "secret.mp4"):
        assert read(None, source)


def test_a_child_inherits_nothing(media: Path) -> None:
    for roots in ([media], None):
        descriptor = Files(roots, MOST, {}).open(str(media / "film.mp4"))
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
    ("source", "said"),
    [
        ("https://cdn.example/film.mp4", "https:// may not be read (setting sources.schemes)"),
        ("HTTP://cdn.example/film.mp4", "HTTP:// may not be read (setting sources.schemes)"),
        ("s3://bucket/film.mp4", "s3:// may not be read (setting sources.schemes)"),
        ("file:///film.mp4", "only paths of files, https://, http:// and s3:// can be read"),
        ("fd://0", "only paths of files, https://, http:// and s3:// can be read"),
        ("video:7", "only a job of a daemon may name a registered video or an upload"),
        ("tus:0a1b2c3d-0000-4000-8000-000000000000", "only a job of a daemon may name a registered video or an upload"),
    ],
)
@pytest.mark.parametrize("free", [False, True])
def test_what_is_no_path(media: Path, source: str, said: str, free: bool) -> None:
    assert refused(None if free else [media], source) == said


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


# What an organisation may read.


def test_folders_narrow_what_may_be_read(media: Path, tmp_path: Path) -> None:
    deep = media / "folder" / "deep"
    for source in (deep / "film.mp4", "film.mp4", "./film.mp4"):
        assert read([media], source, (deep,)) == FILM
    (media / "folder" / "other.mp4").write_bytes(FILM)
    outside = "it lies outside the folders that its organisation may read"
    for source in (media / "film.mp4", media / "folder" / "other.mp4", "../other.mp4", tmp_path / "secret.mp4"):
        assert refused([media], source, within=(deep,)) == outside


def test_folders_outside_the_roots_widen_nothing(media: Path, tmp_path: Path) -> None:
    outside = "it lies outside the folders that its organisation may read"
    for folder in (tmp_path, tmp_path / "media2", Path("/")):
        assert refused([media], tmp_path / "media2" / "secret.mp4", within=(folder,)) == outside
    assert refused([media], media / "film.mp4", within=()) == outside
    assert refused([], media / "film.mp4", within=(media,)).startswith("no folder may be read")


def test_no_link_leads_out_of_the_narrowed_folders(media: Path, tmp_path: Path) -> None:
    """Nor is a link followed between the root and such a folder, should one be put there later."""
    deep = media / "folder" / "deep"
    (deep / "out.mp4").symlink_to(media / "film.mp4")
    (media / "name").symlink_to(deep)
    assert "link" in refused([media], "out.mp4", within=(deep,))
    assert read([media], "film.mp4", (media / "name",)) == FILM  # what a link of the settings means, is meant
    assert read([media], media / "name" / "film.mp4", (media / "name",)) == FILM


def test_with_the_users_own_rights_folders_narrow_too(media: Path, tmp_path: Path) -> None:
    assert read(None, "film.mp4", (media,)) == FILM
    assert "outside" in refused(None, tmp_path / "secret.mp4", within=(media,))


# Files at hand, by what their URLs begin with.

CDN = "https://cdn.example/"


def test_a_url_of_a_file_at_hand(media: Path) -> None:
    aliases = {CDN: media}
    for roots in ([], None, [media]):
        assert read(roots, f"{CDN}film.mp4", aliases=aliases) == FILM
        assert read(roots, f"{CDN}folder/d%65ep/film.mp4", aliases=aliases) == FILM
    (media / "a b?#\u00fc.mp4").write_bytes(b"strange")
    assert read([], f"{CDN}a%20b%3F%23%C3%BC.mp4", aliases=aliases) == b"strange"
    assert refused([], f"{CDN}none.mp4", SourceMissing, aliases=aliases) == "there is no such file: check its path"


def test_the_longest_alias_wins(media: Path, tmp_path: Path) -> None:
    aliases = {CDN: tmp_path / "media2", f"{CDN}films/": media, "s3://films/": media}
    assert read([], f"{CDN}films/film.mp4", aliases=aliases) == FILM
    assert read([], f"{CDN}secret.mp4", aliases=aliases) == SECRET
    assert read([], "s3://films/film.mp4", aliases=aliases) == FILM
    for source in (
        "https://cdn.example.evil/film.mp4",
        "https://cdn.example:8443/film.mp4",
        "http://cdn.example/film.mp4",
    ):
        assert "setting sources.schemes" in refused([], source, aliases=aliases)


@pytest.mark.parametrize(
    "rest",
    [
        *("../secret.mp4", "%2e%2e/secret.mp4", "..%2fsecret.mp4", "folder/../film.mp4", "%2E%2E%2Fsecret.mp4"),
        *("./film.mp4", "/film.mp4", "folder//deep/film.mp4", "%2Ffilm.mp4", "", "folder/"),
        *("film.mp4?", "film.mp4?a=1", "film.mp4#a", "?film.mp4"),
    ],
)
def test_what_follows_an_alias_is_a_plain_path(media: Path, rest: str) -> None:
    said = refused_alias(media, rest)
    assert said == f"it is no plain path below {CDN} (setting sources.aliases)"


def refused_alias(media: Path, rest: str) -> str:
    with pytest.raises(SourceRefused) as raised:
        read([], CDN + rest, aliases={CDN: media})
    return raised.value.message.partition("': ")[2]


def test_links_below_an_alias_are_not_followed(media: Path, tmp_path: Path) -> None:
    (media / "out.mp4").symlink_to(tmp_path / "secret.mp4")
    (media / "out").symlink_to(tmp_path)
    for rest in ("out.mp4", "out/secret.mp4"):
        assert "link" in refused_alias(media, rest)
    with pytest.raises((SourceRefused, SourceMissing)):
        read([], f"{CDN}a%00b", aliases={CDN: media})


def test_folders_narrow_aliases_too(media: Path, tmp_path: Path) -> None:
    aliases = {CDN: media}
    deep = media / "folder" / "deep"
    assert read([tmp_path], f"{CDN}folder/deep/film.mp4", (deep,), aliases) == FILM
    said = refused([tmp_path], f"{CDN}film.mp4", within=(deep,), aliases=aliases)
    assert said == "it lies outside the folders that its organisation may read"


def test_the_identity_changes_with_the_file(media: Path) -> None:
    async def identity() -> str | None:
        async with Sources(Files([media], MOST, {})).open("film.mp4") as opened:
            return opened.identity

    first = asyncio.run(identity())
    assert first is not None and asyncio.run(identity()) == first
    os.utime(media / "film.mp4", ns=(1, 1))
    assert asyncio.run(identity()) != first
    (media / "film.mp4").write_bytes(b"longer than it was")
    assert asyncio.run(identity()) != first
