"""A series has as many pictures as its length asks for, counted exactly, each at its exact instant."""

from fractions import Fraction
from itertools import pairwise
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.errors import AtPastEnd, BadJob
from daemon.media.wanted import series
from daemon.outputs import Sprite, Thumbnails

MOST = 20_000


def asked(**keys: Any) -> Thumbnails:
    return Thumbnails.model_validate({"output": "thumbnails", "name": "film", **keys})


def instants(duration: str | int | Fraction, **keys: Any) -> list[Fraction]:
    return series(asked(**keys), Fraction(duration), MOST)[0]


def warnings(duration: str | int, **keys: Any) -> list[str]:
    return series(asked(**keys), Fraction(duration), MOST)[1]


# Duration, what is asked, and how many pictures there are.
COUNTS: list[tuple[str, dict[str, Any], int]] = [
    ("10", {"every": 5}, 2),
    ("10", {"every": 3}, 4),
    ("10", {"every": 10}, 1),
    ("10", {"every": 11}, 1),
    ("10", {"every": 10**9}, 1),
    ("10.001", {"every": 5}, 3),
    ("9.999", {"every": 5}, 2),
    ("379.6", {"every": 10}, 38),
    ("0.04", {"every": 10}, 1),
    # In binary floats each of these is off by one.
    ("0.3", {"every": 0.1}, 3),
    ("1.1", {"every": 0.1}, 11),
    ("1", {"every": 0.1}, 10),
    ("2.9", {"every": 0.1}, 29),
    ("1000", {"every": 0.1}, 10_000),
    ("4.35", {"every": "0.05s"}, 87),
    ("1/3", {"every": 0.1}, 4),
    ("100/3", {"every": "33.333333333333s"}, 2),
    ("1001/30", {"every": "10%"}, 10),
    ("1/3", {"every": "33%"}, 4),
    ("7/3", {"every": "100%"}, 1),
    ("10", {"every": 5, "start": 0}, 2),
    ("10", {"every": 5, "start": 1}, 2),
    ("10", {"every": 5, "start": 5}, 1),
    ("10", {"every": 0.1, "start": 9.9}, 1),
    ("10", {"every": 0.1, "start": 0.7, "end": 1}, 3),
    ("10", {"every": 1, "start": "50%"}, 5),
    ("10", {"every": 1, "end": "25%"}, 3),
    ("10", {"every": 1, "start": "10%", "end": "20%"}, 1),
    ("10", {"every": 1, "end": 11}, 10),
    ("10", {"count": 1}, 1),
    ("10", {"count": 7}, 7),
    ("1/25", {"count": 100}, 100),
    ("10", {"count": 3, "start": 9}, 3),
    ("2000", {"every": 0.1}, MOST),
    ("1", {"count": MOST}, MOST),
]


@pytest.mark.parametrize(("duration", "keys", "count"), COUNTS, ids=str)
def test_there_are_so_many_pictures(duration: str, keys: dict[str, Any], count: int) -> None:
    assert len(instants(duration, **keys)) == count


INSTANTS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("1", {"every": 0.3}, ["0", "0.3", "0.6", "0.9"]),
    ("10", {"every": 4, "start": 1}, ["1", "5", "9"]),
    ("10", {"every": 4, "start": 1, "end": 9}, ["1", "5"]),
    ("10", {"every": "25%"}, ["0", "2.5", "5", "7.5"]),
    ("1001/30", {"every": "50%", "start": "25%"}, ["1001/120", "1001/40"]),
    ("10", {"count": 3}, ["0", "10/3", "20/3"]),
    ("10", {"count": 4, "start": 2, "end": 4}, ["2", "2.5", "3", "3.5"]),
    ("10", {"count": 2, "start": 8, "end": 20}, ["8", "9"]),
    ("1/3", {"count": 2}, ["0", "1/6"]),
]


@pytest.mark.parametrize(("duration", "keys", "expected"), INSTANTS, ids=str)
def test_instants_are_exact(duration: str, keys: dict[str, Any], expected: list[str]) -> None:
    assert instants(duration, **keys) == list(map(Fraction, expected))


durations = st.fractions(Fraction(1, 100), 20_000, max_denominator=90_000)
shares = st.integers(0, 99)


@given(durations, st.decimals(2, 1000, places=2), shares, shares)
def test_every_covers_the_length_and_no_more(duration: Fraction, every: Any, start: int, length: int) -> None:
    end = min(100, start + length + 1)
    found = instants(duration, every=f"{every}s", start=f"{start}%", end=f"{end}%")
    begin, over, step = duration * start / 100, duration * end / 100, Fraction(every)
    assert len(found) == ceil((over - begin) / step)
    assert found[0] == begin
    assert all(other - one == step for one, other in pairwise(found))
    assert found[-1] < over <= found[-1] + step


@given(durations, st.integers(1, 500), shares)
def test_count_divides_the_length_evenly(duration: Fraction, count: int, start: int) -> None:
    begin = duration * start / 100
    assert instants(duration, count=count, start=f"{start}%") == [
        begin + n * (duration - begin) / count for n in range(count)
    ]


def test_a_sprite_has_the_instants_of_a_series() -> None:
    sprite = Sprite.model_validate({"output": "sprite", "name": "film", "every": 3})
    assert series(sprite, Fraction(10), MOST)[0] == instants(10, every=3)


# --- what is said about it --------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [{"every": 1}, {"every": 1, "end": 10}, {"count": 10}, {"every": 1, "end": "100%"}])
def test_an_ordinary_series_gives_no_warning(keys: dict[str, Any]) -> None:
    assert warnings(10, **keys) == []


@pytest.mark.parametrize("end", [10.001, 11, "1h"])
def test_an_end_too_late_is_cut_with_a_warning(end: object) -> None:
    (warning,) = warnings(10, every=5, end=end)
    assert "film" in warning
    assert "10.000 s" in warning
    assert instants(10, every=5, end=end) == instants(10, every=5)


def test_less_than_a_second_between_pictures_gives_a_warning() -> None:
    (warning,) = warnings(10, every=0.5)
    assert "less than 1 s" in warning


@pytest.mark.parametrize(("indexes", "count"), [(["vtt"], 1), (["json", "vtt"], 1), (["hls", "bif"], 0), ([], 0)])
def test_less_than_a_second_matters_to_webvtt_alone(indexes: list[str], count: int) -> None:
    sprite = Sprite.model_validate({"output": "sprite", "name": "film", "every": 0.5, "indexes": indexes})
    assert len(series(sprite, Fraction(10), MOST)[1]) == count


def test_a_lone_picture_of_a_short_video_gives_no_warning() -> None:
    assert warnings("1/2", count=1) == []


@pytest.mark.parametrize("start", [10, 10.001, "1h", "100%"])
def test_a_start_past_the_end_is_an_error(start: object) -> None:
    with pytest.raises(AtPastEnd, match=r"start .* ends after 10\.000 s"):
        instants(10, every=1, start=start)


@pytest.mark.parametrize(("start", "end"), [(5, 5), (5, 4), ("50%", "50%"), ("50%", 5), (None, 0), (None, "0%")])
def test_an_end_not_after_the_start_is_an_error(start: object, end: object) -> None:
    with pytest.raises(BadJob, match="must be after start") as refusal:
        instants(10, every=1, start=start, end=end)
    assert not isinstance(refusal.value, AtPastEnd)


@pytest.mark.parametrize(
    ("duration", "keys"),
    [("2000.001", {"every": 0.1}), ("21", {"every": 0.001}), ("10", {"count": MOST + 1})],
    ids=str,
)
def test_too_many_pictures_are_an_error(duration: str, keys: dict[str, Any]) -> None:
    with pytest.raises(BadJob, match="20000 are allowed") as refusal:
        instants(duration, **keys)
    assert len(refusal.value.message) < 200


def test_what_to_do_about_too_many_fits_what_was_asked() -> None:
    with pytest.raises(BadJob) as refusal:
        instants(10, count=MOST + 1)
    assert "every" not in refusal.value.message
