"""`thumbd video`: videos under the ids that the services use."""

import json
from pathlib import Path
from typing import Any

import pytest
from clips import RECIPES, make, not_a_video
from command import called, one_line, thumbd

pytestmark = pytest.mark.daemons

H264 = next(recipe for recipe in RECIPES if recipe.name == "h264")


@pytest.fixture
def site(tmp_path: Path, clip_folder: Path) -> Path:
    """A folder with settings in `thumbd.toml`, by which `film.mp4` in it may be read, and two organisations."""
    (tmp_path / "film.mp4").write_bytes(make(H264, clip_folder).path.read_bytes())
    (tmp_path / "thumbd.toml").write_text(f'sources.roots = ["{tmp_path}"]\n')
    for name in ("acme", "other"):
        assert called(tmp_path, "org", "add", name).returncode == 0
    return tmp_path


def video(site: Path, *words: object) -> Any:
    return called(site, "video", *words, THUMBD_CONFIG="thumbd.toml")


def listed(site: Path, *words: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(video(site, "list", *words, "--json").stdout)
    return found


def test_it_is_looked_at_and_kept_by_its_whole_path(site: Path) -> None:
    ran = thumbd(site, "video", "add", "acme", "one", "film.mp4", THUMBD_CONFIG="thumbd.toml")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == "one: 320x180, 3 s, h264\n"
    [kept] = listed(site)
    assert (kept["id"], kept["org"], kept["channel"]) == ("one", "acme", "acme")
    assert kept["source"] == str(site / "film.mp4")
    assert kept["facts"]["duration"] == 3.0


def test_lists_are_of_all_or_of_one(site: Path) -> None:
    film = site / "film.mp4"
    assert video(site, "add", "acme", "b", film, "--channel", "sport").returncode == 0
    assert video(site, "add", "other", "a", film).returncode == 0
    assert video(site, "add", "default", "c", film).returncode == 0
    assert [each["id"] for each in listed(site)] == ["a", "b", "c"]
    assert [each["id"] for each in listed(site, "acme")] == ["b"]
    assert listed(site, "nobody") == []
    head, *rows = video(site, "list").stdout.splitlines()
    assert head.split() == ["ID", "ORG", "CHANNEL", "SIZE", "DURATION", "CODEC", "SOURCE"]
    assert rows[1].split() == ["b", "acme", "sport", "320x180", "3", "s", "h264", str(film)]


def test_long_lists_are_whole(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.cli.video._PAGE", 2)
    for id in "abcde":
        assert video(site, "add", "acme", id, "film.mp4").returncode == 0
    assert [each["id"] for each in listed(site, "acme")] == list("abcde")


def test_what_is_added_again_is_changed(site: Path, clip_folder: Path) -> None:
    before = json.loads(video(site, "add", "acme", "one", "film.mp4", "--json").stdout)
    assert json.loads(video(site, "add", "acme", "one", "film.mp4", "--json").stdout) == before
    after = json.loads(video(site, "add", "acme", "one", "film.mp4", "--channel", "sport", "--json").stdout)
    assert (after["channel"], after["revision"]) == ("sport", before["revision"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["acme", "a/b", "film.mp4"], "video 'a/b'"),
        (["acme", "..", "film.mp4"], "video '..'"),
        (["acme", "a\n", "film.mp4"], "video 'a\\n'"),
        (["acme", "x" * 65, "film.mp4"], "a letter or digit first"),
        (["acme", "a", "film.mp4", "--channel", "x" * 51], "write 1 to 50"),
        (["acme", "a"], "Missing argument"),
    ],
)
def test_wrong_ids_are_wrong_use(site: Path, words: list[str], said: str) -> None:
    ran = video(site, "add", *words)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert one_line(ran.stderr) and said in ran.stderr
    assert listed(site) == []


def test_what_cannot_be_a_video_is_named(site: Path) -> None:
    noise, _ = not_a_video(site)
    (site / "empty.mp4").touch()
    for source, said in (
        ("none.mp4", "there is no such file"),
        (noise, "no container"),
        ("empty.mp4", "empty"),
        ("/etc/hostname", "outside the folders"),
        ("video:other", "a video is made of a file"),
    ):
        ran = video(site, "add", "acme", "one", source)
        assert (ran.returncode, ran.stdout) == (1, "")
        assert one_line(ran.stderr) and str(source) in ran.stderr and said in ran.stderr
    assert listed(site) == []


def test_ids_and_channels_have_one_owner(site: Path) -> None:
    assert video(site, "add", "acme", "one", "film.mp4", "--channel", "sport").returncode == 0
    for words in (["other", "one", "film.mp4"], ["other", "two", "film.mp4", "--channel", "sport"]):
        ran = video(site, "add", *words)
        assert (ran.returncode, ran.stdout) == (1, "")
        assert one_line(ran.stderr) and "another organisation's" in ran.stderr
    assert [each["org"] for each in listed(site)] == ["acme"]


def test_an_organisation_that_is_not_there_has_no_videos(site: Path) -> None:
    ran = video(site, "add", "nobody", "one", "film.mp4")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert one_line(ran.stderr) and "thumbd org add nobody" in ran.stderr


def test_what_is_removed_is_gone(site: Path) -> None:
    video(site, "add", "acme", "one", "film.mp4")
    ran = video(site, "remove", "one")
    assert (ran.returncode, ran.stdout) == (0, "one: removed\n")
    ran = video(site, "remove", "one")
    assert ran.returncode == 1
    assert one_line(ran.stderr) and "there is no video 'one'" in ran.stderr
    assert listed(site) == []
