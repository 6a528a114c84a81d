"""The command as its users type it: what it makes, prints and returns."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest
from clips import RECIPES, make, not_a_video, read_number
from PIL import Image

H264 = next(recipe for recipe in RECIPES if recipe.name == "h264")


@pytest.fixture
def film(clip_folder: Path) -> Path:
    return make(H264, clip_folder).path


def thumbd(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("THUMBD_")}
    command = [sys.executable, "-P", "-m", "daemon", *map(str, words)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def number(picture: Path) -> int:
    import numpy as np

    with Image.open(picture) as image:
        return read_number(np.asarray(image.convert("RGB")))


def one_line(said: str) -> bool:
    return said.startswith("thumbd: ") and said.count("\n") == 1


def test_a_picture_goes_right_into_the_folder(tmp_path: Path, film: Path) -> None:
    ran = thumbd(tmp_path, "run", film, "--at", "1.0s", "--width", 160)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines() == ["h264.webp"]
    assert sorted(os.listdir(tmp_path)) == ["h264.webp", "manifest.json"]
    assert number(tmp_path / "h264.webp") == 25


def test_several_times_and_a_sprite_at_once(tmp_path: Path, film: Path) -> None:
    ran = thumbd(tmp_path, "run", film, "--at", "0", "--at", "50%", "--count", 4, "--sprite", "--out", "o", "--json")
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert [output["output"] for output in report["outputs"]] == ["thumbnail", "thumbnail", "sprite"]
    for output in report["outputs"]:
        assert all((tmp_path / "o" / file).is_file() for file in output["files"])
    assert number(tmp_path / "o" / report["outputs"][1]["path"]) == 37


def test_a_job_file_goes_to_its_destination(tmp_path: Path, film: Path) -> None:
    job = {"source": str(film), "destination": "a/b", "outputs": [{"output": "thumbnail", "name": "p", "at": 0}]}
    (tmp_path / "job.json").write_text(json.dumps(job))
    ran = thumbd(tmp_path, "run", "job.json")
    assert (ran.returncode, ran.stdout) == (0, "a/b/p.webp\n")
    assert json.loads((tmp_path / "a/b/manifest.json").read_text())["outputs"][0]["path"] == "a/b/p.webp"


def test_a_job_that_fails_says_why_and_leaves_nothing(tmp_path: Path, film: Path) -> None:
    noise, _ = not_a_video(tmp_path)
    before = sorted(os.listdir(tmp_path))
    for source, at, said in (
        (noise, "1", "no container"),
        (film, "99s", "ends after"),
        ("no.mp4", "1", "no such file"),
    ):
        ran = thumbd(tmp_path, "run", source, "--at", at)
        assert ran.returncode == 1
        assert one_line(ran.stderr), ran.stderr
        assert said in ran.stderr
        assert ran.stdout == ""
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "FILM", "--width", "5000"], "width"),
        (["run", "FILM", "--at", "later"], "no time"),
        (["run", "FILM", "--at", "best"], '"best" is not supported'),
        (["run", "FILM", "--sprite"], "--every or --count"),
        (["run", "FILM", "--nonsense"], "No such option"),
        (["run", "wrong.json"], "outpts"),
        (["run", "missing.json"], "No such file"),
        (["run", "wrong.json", "--at", "1"], "--at"),
        (["submit", "FILM"], "no spool"),
        (["serve", "--config", "nowhere.toml"], "nowhere.toml"),
        (["dance"], "No such command"),
    ],
)
def test_wrong_use_is_2(words: list[str], said: str, tmp_path: Path, film: Path) -> None:
    (tmp_path / "wrong.json").write_text('{"source": "a", "outpts": 1, "outputs": [{"output": "thumbnail", "at": 1}]}')
    ran = thumbd(tmp_path, *(str(film) if word == "FILM" else word for word in words))
    assert (ran.returncode, ran.stdout) == (2, "")
    assert said in ran.stderr


def test_the_schema_is_one(tmp_path: Path) -> None:
    schema = json.loads(thumbd(tmp_path, "schema").stdout)
    assert schema["type"] == "object"
    assert {"source", "outputs", "destination", "priority"} <= schema["properties"].keys()


def test_check_says_what_works_and_what_does_not(tmp_path: Path) -> None:
    fine = thumbd(tmp_path, "check")
    assert fine.returncode == 0, fine.stdout
    assert "FAIL" not in fine.stdout
    (tmp_path / "bad.toml").write_text('device = "cuda:0"\n[store]\nroot = "/proc/nowhere"\n')
    bad = thumbd(tmp_path, "check", "--config", "bad.toml")
    assert bad.returncode == 1
    assert sum(line.startswith("FAIL") for line in bad.stdout.splitlines()) == 2


def test_the_table_of_nobody_is_empty(tmp_path: Path) -> None:
    assert thumbd(tmp_path, "status").stdout == "no jobs yet\n"
    for words in (["status", "x"], ["cancel", "x"], ["retry", "x"]):
        ran = thumbd(tmp_path, *words)
        assert ran.returncode == 1
        assert "there is no job 'x'" in ran.stderr


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, film: Path) -> None:
    command = [
        sys.executable,
        "-P",
        "-m",
        "daemon",
        "run",
        str(film),
        "--every",
        "0.04",
        "--width",
        "4000",
        "--upscale",
    ]
    running = subprocess.Popen([*command, "--format", "png"], cwd=tmp_path, stderr=subprocess.PIPE)
    deadline = monotonic() + 60
    while not list(tmp_path.glob(".staging/*/*")) and monotonic() < deadline:
        assert running.poll() is None, running.communicate()
        sleep(0.01)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert os.listdir(tmp_path) == []
