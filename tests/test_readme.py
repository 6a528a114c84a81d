"""The README's session over HTTP works as it is printed; ports and paths are this machine's own."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from clips import RECIPES, Clip, make
from command import environment
from harness import PATIENCE, Running, free_port, number_in, numbers_at
from PIL import Image

README = (Path(__file__).parent.parent / "README.md").read_text()


def blocks(heading: str) -> list[str]:
    """The shell blocks below a heading."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [block.partition("```")[0] for block in section.split("```sh\n")[1:]]


@pytest.fixture
def clip(clip_folder: Path, tmp_path: Path) -> Clip:
    """As `media/film.mp4`."""
    made = make(next(recipe for recipe in RECIPES if recipe.name == "h264"), clip_folder)
    (tmp_path / "media").mkdir()
    shutil.copyfile(made.path, tmp_path / "media" / "film.mp4")
    return made


@pytest.fixture
def ports() -> dict[str, int]:
    return {"8080": free_port(), "9464": free_port()}


@pytest.fixture
def settings(tmp_path: Path, ports: dict[str, int]) -> dict[str, str]:
    """The environment of all commands, in a folder where `.venv/bin/thumbd` is."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    command = tmp_path / ".venv" / "bin" / "thumbd"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m daemon "$@"\n')
    command.chmod(0o755)
    return environment(
        THUMBD_HTTP__LISTEN=f"127.0.0.1:{ports['8080']}",
        THUMBD_METRICS__LISTEN=f"127.0.0.1:{ports['9464']}",
        THUMBD_SPOOL__MIN_FREE_BYTES="0",
    )


@pytest.fixture
def daemon(tmp_path: Path, settings: dict[str, str], ports: dict[str, int], clip: Clip) -> Iterator[Running]:
    [serve] = blocks("The daemon")
    assert serve.count('"/media"') == 1 and serve.strip().endswith("/thumbd serve")
    words = serve.replace("/media", str(tmp_path / "media")).replace(".venv", "exec .venv")
    command = ["bash", "-c", f"cd {tmp_path} && {words}"]
    with Running(command, settings, tmp_path / "log", ports["9464"]) as daemon:
        yield daemon.ready()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.usefixtures("daemon")
def test_the_session_over_http(tmp_path: Path, settings: dict[str, str], ports: dict[str, int], clip: Clip) -> None:
    said, session, anywhere = blocks("Over HTTP")[:3]
    assert "curl" not in said and "thumbd " not in said  # what is mine to change holds no command
    mine = said.replace("/media", str(tmp_path / "media")).replace("8080", str(ports["8080"]))
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", mine + session + anywhere],
        cwd=tmp_path,
        env=settings,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["id"], report["org"], report["status"]) == ("first", "acme", "completed")
    with Image.open(tmp_path / "poster.webp") as poster:
        assert poster.format == "WEBP"
    assert number_in(tmp_path / "poster.webp") in numbers_at(0.45, clip)
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["my-film-000.jpg", "my-film.vtt"]
    assert "pictures/my-film.vtt\npictures/my-film-000.jpg\n" in ran.stdout
    assert ran.stdout.splitlines()[-1].split()[:3] == ["first", "acme", "completed"]
