"""`thumbd org`: who may ask, and with which key."""

import json
from pathlib import Path

import pytest
from command import called, one_line, thumbd
from sqlalchemy import Engine

from daemon.catalogue import organisations
from daemon.database import open_engine


@pytest.fixture
def tables(tmp_path: Path) -> Engine:
    return open_engine(f"sqlite:///{tmp_path / 'thumbd-data' / 'thumbd.db'}")


def owner(tables: Engine, key: str) -> str | None:
    with tables.begin() as connection:
        found = organisations.of_key(connection, key)
    return found.name if found else None


def listed(folder: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(called(folder, "org", "list", "--json").stdout)
    return found


def test_the_key_is_alone_on_standard_output_and_kept_nowhere(tmp_path: Path, tables: Engine) -> None:
    ran = thumbd(tmp_path, "org", "add", "acme")
    assert (ran.returncode, ran.stderr) == (0, "")
    [key] = ran.stdout.splitlines()
    assert owner(tables, key) == "acme"
    assert owner(tables, key[:-1]) is None
    assert key.encode() not in (tmp_path / "thumbd-data" / "thumbd.db").read_bytes()


def test_those_that_are_added_have_a_limit_and_default_has_none(tmp_path: Path) -> None:
    for words in (["acme"], ["default"], ["big", "--max-running", 99], ["free", "--max-running", 0]):
        assert called(tmp_path, "org", "add", *words).returncode == 0
    assert {each["name"]: each["max_running"] for each in listed(tmp_path)} == {
        "acme": 5,
        "big": 99,
        "default": None,
        "free": None,
    }


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "_a", "ä", "a b", "a\n", "a" * 65, "-a"])
def test_wrong_names_are_wrong_use(tmp_path: Path, name: str) -> None:
    ran = called(tmp_path, "org", "add", "--", name)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert one_line(ran.stderr) and "a letter or digit first" in ran.stderr
    assert listed(tmp_path) == []


def test_a_name_is_taken_once(tmp_path: Path, tables: Engine) -> None:
    key = called(tmp_path, "org", "add", "acme").stdout.strip()
    ran = called(tmp_path, "org", "add", "acme")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert one_line(ran.stderr) and "thumbd org rotate acme" in ran.stderr
    assert owner(tables, key) == "acme"


# Roots.


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
    (folder / "film.mp4").touch()
    (tmp_path / "elsewhere").mkdir()
    (folder / "out").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "linked").symlink_to(folder)
    (tmp_path / "a.toml").write_text(f'sources.roots = ["{tmp_path / "linked"}"]\n')
    return folder


def test_roots_are_kept_as_they_were_written(tmp_path: Path, media: Path) -> None:
    named = [tmp_path / "linked" / "a", media / "b"]
    words = [word for root in named for word in ("--root", f"{root}/")]
    ran = called(tmp_path, "org", "add", "acme", *words, "--config", "a.toml")
    assert ran.returncode == 0, ran.stderr
    assert listed(tmp_path)[0]["roots"] == [str(root) for root in named]


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize(
    ("root", "said"),
    [
        ("media/a", "write the whole path"),
        ("MEDIA/none", "there is no such folder"),
        ("MEDIA/film.mp4", "there is no such folder"),
        ("MEDIA/out", "outside the folders of the setting sources.roots"),
        ("MEDIA/..", "outside the folders of the setting sources.roots"),
        ("/", "outside the folders of the setting sources.roots"),
    ],
)
def test_wrong_roots_are_named(tmp_path: Path, media: Path, root: str, said: str) -> None:
    root = root.replace("MEDIA", str(media))
    ran = called(tmp_path, "org", "add", "acme", "--root", media / "a", "--root", root, "--config", "a.toml")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert one_line(ran.stderr) and f"--root {root}: " in ran.stderr and said in ran.stderr
    assert listed(tmp_path) == []


def test_where_nothing_may_be_read_no_root_is_within(tmp_path: Path, media: Path) -> None:
    ran = called(tmp_path, "org", "add", "acme", "--root", media)
    assert ran.returncode == 2
    assert "sources.roots" in ran.stderr


# Keys and lists.


def test_the_old_key_stays_good_for_the_overlap(tmp_path: Path, tables: Engine) -> None:
    first = called(tmp_path, "org", "add", "acme").stdout.strip()
    ran = called(tmp_path, "org", "rotate", "acme")
    assert (ran.returncode, ran.stderr) == (0, "")
    second = ran.stdout.strip()
    assert [owner(tables, key) for key in (first, second)] == ["acme", "acme"]
    assert listed(tmp_path)[0]["keys"] == 2
    third = called(tmp_path, "org", "rotate", "acme", "--overlap", "0").stdout.strip()
    assert [owner(tables, key) for key in (first, second, third)] == [None, None, "acme"]


@pytest.mark.parametrize("overlap", ["soon", "-1", "10%", "nan", ""])
def test_the_overlap_is_a_time(tmp_path: Path, overlap: str) -> None:
    called(tmp_path, "org", "add", "acme")
    ran = called(tmp_path, "org", "rotate", "acme", f"--overlap={overlap}")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert one_line(ran.stderr) and "--overlap: " in ran.stderr
    assert listed(tmp_path)[0]["keys"] == 1


def test_what_is_removed_has_no_keys(tmp_path: Path, tables: Engine) -> None:
    first = called(tmp_path, "org", "add", "acme").stdout.strip()
    ran = called(tmp_path, "org", "remove", "acme")
    assert (ran.returncode, ran.stdout) == (0, "acme: removed\n")
    assert owner(tables, first) is None
    called(tmp_path, "org", "add", "acme")
    assert owner(tables, first) is None


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("command", ["rotate", "remove", "webhook-secret"])
def test_who_is_not_there_is_named(tmp_path: Path, command: str) -> None:
    ran = called(tmp_path, "org", command, "nobody")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert one_line(ran.stderr) and "there is no organisation 'nobody'" in ran.stderr


def test_the_table_is_for_eyes(tmp_path: Path, media: Path) -> None:
    called(tmp_path, "org", "add", "acme", "--root", media / "a", "--config", "a.toml")
    called(tmp_path, "org", "add", "default")
    assert [line.split() for line in called(tmp_path, "org", "list").stdout.splitlines()] == [
        ["NAME", "KEYS", "AT", "ONCE", "ROOTS"],
        ["acme", "1", "5", str(media / "a")],
        ["default", "1", "any", "all"],
    ]


def test_no_secret_is_listed(tmp_path: Path, tables: Engine) -> None:
    called(tmp_path, "org", "add", "acme")
    with tables.begin() as connection:
        found = organisations.get(connection, "acme")
    assert found is not None
    said = called(tmp_path, "org", "list").stdout + called(tmp_path, "org", "list", "--json").stdout
    assert found.webhook_secret not in said
    assert called(tmp_path, "org", "webhook-secret", "acme").stdout == f"{found.webhook_secret}\n"


def test_a_group_without_a_command_is_wrong_use(tmp_path: Path) -> None:
    for words in (["org"], ["video"], ["org", "dance"]):
        ran = called(tmp_path, *words)
        assert (ran.returncode, ran.stdout) == (2, "")
        assert one_line(ran.stderr)
