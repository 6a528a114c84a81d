"""Outputs that are asked to be turned: the same pixels as without, turned clockwise, and sized as what is seen then."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from clips import RECIPES, make
from rendering import render

from daemon.errors import BadJob
from daemon.job import Job
from daemon.media.orientation import clockwise
from kernels.orientation import Orientation

EIGHT = [Orientation(*flags) for flags in product((False, True), repeat=3)]


@pytest.mark.parametrize("first", EIGHT)
@pytest.mark.parametrize("second", EIGHT)
def test_one_after_the_other(first: Orientation, second: Orientation) -> None:
    picture = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    assert np.array_equal(first.then(second).turn(picture), second.turn(first.turn(picture)))


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_clockwise(degrees: int) -> None:
    picture = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    assert np.array_equal(clockwise(degrees).turn(picture), np.rot90(picture, -degrees // 90))


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_stills(degrees: int, clip_folder: Path) -> None:
    film = make(RECIPES[0], clip_folder).path
    still = {"output": "thumbnail", "at": 0.5, "format": "png"}
    series = {"output": "thumbnails", "count": 2, "format": "png", "name": "s"}
    sheet = {"output": "sprite", "count": 1, "columns": 1, "rows": 1, "format": "png", "width": None, "name": "t"}
    all_of_them = [still, series, sheet]
    plain, turned = render(film, all_of_them), render(film, [{**each, "rotate": degrees} for each in all_of_them])
    for file in ("o0.png", "s-0001.png", "s-0002.png", "t-000.png"):
        assert np.array_equal(turned.picture(file), np.rot90(plain.picture(file), -degrees // 90)), file
    report = turned.reports["o0"]
    assert turned.picture("o0.png").shape[:2] == (report.height, report.width)


def test_the_size_is_that_of_what_is_seen(clip_folder: Path) -> None:
    film = make(RECIPES[0], clip_folder).path
    made = render(film, [{"output": "thumbnail", "at": 0, "format": "png", "rotate": 90, "width": 90}])
    plain = render(film, [{"output": "thumbnail", "at": 0, "format": "png"}]).reports["o0"]
    report = made.reports["o0"]
    assert (report.width, report.height) == (90, round(90 * plain.width / plain.height))


@pytest.mark.parametrize("degrees", [1, 45, -90, 360, "90", 90.5, True])
def test_nothing_else(degrees: object) -> None:
    with pytest.raises(BadJob, match=r"outputs\[0\].rotate"):
        Job.check({"source": "a", "outputs": [{"output": "thumbnail", "at": 0, "rotate": degrees}]})
