"""Settings: the documented file is true, the environment wins, and whatever is wrong is named."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from daemon.config import BadSettings, Settings, load

CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("THUMBD_")]:
        monkeypatch.delenv(name)


def test_the_documented_file_shows_every_key_with_its_default() -> None:
    shown = tomllib.loads((CONFIGS / "thumbd.toml").read_text())
    assert shown == Settings().model_dump(mode="json")


def test_every_key_of_the_documented_file_is_explained() -> None:
    for line in (CONFIGS / "thumbd.toml").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            assert len(line.split("# ", 1)[1]) > 10, line


@pytest.mark.parametrize("name", ["thumbd.toml", "dev.toml"])
def test_the_files_are_taken(name: str) -> None:
    load(CONFIGS / name)


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.toml"
    file.write_text('workers = 3\n[job]\ntimeout = 5\nstall = 6\n[sources]\nroots = ["/a"]\n')
    monkeypatch.setenv("THUMBD_JOB__TIMEOUT", "7")
    monkeypatch.setenv("THUMBD_SOURCES__ROOTS", '["/media", "/more"]')
    settings = load(file)
    assert (settings.workers, settings.job.timeout, settings.job.stall) == (3, 7.0, 6.0)
    assert settings.sources.roots == (Path("/media"), Path("/more"))


def test_the_file_may_be_named_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.toml"
    file.write_text("workers = 3\n")
    monkeypatch.setenv("THUMBD_CONFIG", str(file))
    assert load(None).workers == 3
    file.write_text("workers = 4\n")
    other = tmp_path / "b.toml"
    other.write_text("workers = 5\n")
    assert load(other).workers == 5


WRONG: list[tuple[str, str]] = [
    ("wokers = 1", "wokers: unknown key"),
    ("[job]\ntimout = 1", "job.timout: unknown key"),
    ("workers = 'many'", "workers: "),
    ("[job]\ntimeout = 0", "job.timeout: "),
    ("device = 'gpu'", "device: "),
    ("[metrics]\nlisten = '9464'", "metrics.listen: write host:port"),
    ("[store]\nbackground = 'black'", "store.background: "),
    ("workers = ", "is no TOML"),
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_what_is_wrong_in_the_file_is_named(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(text)
    with pytest.raises(BadSettings) as refusal:
        load(file)
    assert said in refusal.value.message


@pytest.mark.parametrize(("name", "value"), [("THUMBD_JOB__TIMEOUT", "-1"), ("THUMBD_SOURCES__ROOTS", "/media")])
def test_what_is_wrong_in_the_environment_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings) as refusal:
        load(None)
    assert name.removeprefix("THUMBD_").lower().split("__")[0] in refusal.value.message.lower()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"nowhere\.toml"):
        load(tmp_path / "nowhere.toml")


def test_nothing_is_read_where_there_is_nothing() -> None:
    said: dict[str, Any] = Settings().model_dump()
    assert load(None).model_dump() == said
