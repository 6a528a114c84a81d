"""The index is what the parsers of players read: every byte of it is as they want it."""

import re
from fractions import Fraction
from itertools import pairwise, product
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.media.index import tile_url, url_of, webvtt


def fractions(*said: str) -> list[Fraction]:
    return [Fraction(one) for one in said]


CUE = re.compile(r"(\d\d+):(\d\d):(\d\d)\.(\d\d\d) --> (\d\d+):(\d\d):(\d\d)\.(\d\d\d)\n([^\n]+)")


def cues(text: bytes) -> list[tuple[int, int, str]]:
    """Begin and end in milliseconds and the target, read as strictly as the strictest player does."""
    head, *blocks = text.decode("ascii").split("\n\n")
    assert head == "WEBVTT"
    assert blocks[-1].endswith("\n")
    blocks[-1] = blocks[-1].removesuffix("\n")
    found = []
    for block in blocks:
        match = CUE.fullmatch(block)
        assert match, block
        times = [int(part) for part in match.groups()[:8]]
        assert all(minute < 60 and second < 60 for minute, second in (times[1:3], times[5:7]))
        begin, end = (((h * 60 + m) * 60 + s) * 1000 + ms for h, m, s, ms in (times[:4], times[4:]))
        found.append((begin, end, match[9]))
    return found


GOLDEN: list[tuple[list[Fraction], Fraction, list[str], str]] = [
    (
        fractions("0", "5"),
        Fraction(10),
        ["sprite-000.jpg#xywh=0,0,320,180", "sprite-000.jpg#xywh=320,0,320,180"],
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:05.000\nsprite-000.jpg#xywh=0,0,320,180\n\n"
        "00:00:05.000 --> 00:00:10.000\nsprite-000.jpg#xywh=320,0,320,180\n",
    ),
    # The first cue begins at 0 whenever its picture does, the last one ends where the video does.
    (
        fractions("60", "61.5"),
        Fraction("3723.004"),
        ["a", "b"],
        "WEBVTT\n\n00:00:00.000 --> 00:01:01.500\na\n\n00:01:01.500 --> 01:02:03.004\nb\n",
    ),
    # Rounded to the millisecond; the last one up, so that the video's last frame has a cue.
    (
        fractions("0", "1001/300", "2002/300"),
        Fraction(1001, 100) + Fraction(1, 90000),
        ["a", "b", "c"],
        "WEBVTT\n\n00:00:00.000 --> 00:00:03.337\na\n\n"
        "00:00:03.337 --> 00:00:06.673\nb\n\n00:00:06.673 --> 00:00:10.011\nc\n",
    ),
    (fractions("0"), Fraction(1, 25), ["a"], "WEBVTT\n\n00:00:00.000 --> 00:00:00.040\na\n"),
    (
        fractions("0", "359999.999", "360000", "3600000"),
        Fraction(3_600_001),
        ["a", "b", "c", "d"],
        "WEBVTT\n\n00:00:00.000 --> 99:59:59.999\na\n\n99:59:59.999 --> 100:00:00.000\nb\n\n"
        "100:00:00.000 --> 1000:00:00.000\nc\n\n1000:00:00.000 --> 1000:00:01.000\nd\n",
    ),
]


@pytest.mark.parametrize(("starts", "end", "targets", "text"), GOLDEN, ids=range(len(GOLDEN)))
def test_webvtt(starts: list[Fraction], end: Fraction, targets: list[str], text: str) -> None:
    assert webvtt(starts, end, targets) == text.encode()
    assert [target for _, _, target in cues(text.encode())] == targets


@st.composite
def series(draw: st.DrawFn) -> tuple[list[Fraction], Fraction]:
    start = draw(st.fractions(0, 400_000, max_denominator=90_000))
    step = draw(st.fractions(Fraction(1, 500), 1000, max_denominator=90_000))
    count = draw(st.integers(1, 40))
    last = draw(st.fractions(Fraction(1, 10), 1, max_denominator=90_000))
    return [start + n * step for n in range(count)], start + (count - 1 + last) * step


def contiguous(starts: list[Fraction], end: Fraction) -> list[int]:
    """When each cue begins, in milliseconds; all of them together cover the video, no two overlap."""
    found = cues(webvtt(starts, end, map(str, range(len(starts)))))
    assert [target for _, _, target in found] == [str(n) for n in range(len(starts))]
    assert found[0][0] == 0
    assert all(begin < until for begin, until, _ in found)
    assert all(one[1] == other[0] for one, other in pairwise(found))
    assert found[-1][1] >= end * 1000
    return [begin for begin, _, _ in found]


@given(series())
def test_cues_follow_one_another_from_the_begin_to_the_end(case: tuple[list[Fraction], Fraction]) -> None:
    starts, end = case
    for start, begin in list(zip(starts, contiguous(starts, end), strict=True))[1:]:
        assert abs(begin - start * 1000) <= Fraction(1, 2)


def test_cues_follow_one_another_also_where_several_fall_into_one_millisecond() -> None:
    for first, step in product(fractions("0", "1/10000", "1/2000"), fractions("1/1000", "1/1500", "1/5000")):
        starts = [first + n * step for n in range(20)]
        contiguous(starts, starts[-1] + step)


@given(st.integers(1, 60), st.integers(1, 240))
def test_a_frame_shown_in_the_video_has_a_cue(rate: int, frames: int) -> None:
    end = Fraction(frames, rate)
    *_, (_, until, _) = cues(webvtt([Fraction(0)], end, ["a"]))
    assert Fraction(until, 1000) >= end


# --- what a cue shows -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "target"),
    [
        ("sprite-000.jpg", "sprite-000.jpg"),
        ("a b.jpg", "a%20b.jpg"),
        ("a#b.jpg", "a%23b.jpg"),
        ("a?b.jpg", "a%3Fb.jpg"),
        ("100%.jpg", "100%25.jpg"),
        ("a%20b.jpg", "a%2520b.jpg"),
        ("a+b&c=d.jpg", "a%2Bb%26c%3Dd.jpg"),
        ("Ö.jpg", "%C3%96.jpg"),
        ("日本.webp", "%E6%97%A5%E6%9C%AC.webp"),
        ("a:b.jpg", "a%3Ab.jpg"),  # else "a:" were a scheme
        ("a-->b.jpg", "a--%3Eb.jpg"),
        ("a,b'c\"d.jpg", "a%2Cb%27c%22d.jpg"),
        ("a_b.c~d-e.jpg", "a_b.c~d-e.jpg"),
    ],
)
def test_a_file_name_is_a_url_of_its_own(file: str, target: str) -> None:
    assert url_of(file, None) == target
    assert tile_url(url_of(file, None), 320, 180, 160, 90) == target + "#xywh=320,180,160,90"


@given(st.text(st.characters(blacklist_categories=["C"], blacklist_characters="/\\"), min_size=1, max_size=20))
def test_a_player_finds_the_file_beside_the_index(name: str) -> None:
    file = "a" + name
    parts = urlsplit(urljoin("https://cdn.example/film/sprite.vtt", tile_url(url_of(file, None), 0, 0, 1, 1)))
    assert parts.path.startswith("/film/")
    assert unquote(parts.path.removeprefix("/film/")) == file
    assert (parts.netloc, parts.query, parts.fragment) == ("cdn.example", "", "xywh=0,0,1,1")
