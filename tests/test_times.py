"""A time is read exactly, in every way that it may be said, and whatever else is said is refused."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from daemon.times import Time

SECONDS: list[tuple[object, str]] = [
    (0, "0"),
    (12, "12"),
    (0.1, "1/10"),  # the decimal that was written, not the nearest binary float
    (1.1, "11/10"),
    (29.97, "2997/100"),
    (1e-7, "1/10000000"),
    (1e9, "1000000000"),
    ("0", "0"),
    ("12", "12"),
    ("0.1", "1/10"),
    ("12s", "12"),
    ("0.04s", "1/25"),
    ("12000ms", "12"),
    ("0.5ms", "1/2000"),
    ("1m", "60"),
    ("1.5m", "90"),
    ("1m2.5s", "125/2"),
    ("1m 2.5s", "125/2"),
    ("1h", "3600"),
    ("1h1m1s1ms", "3661001/1000"),
    ("1m2ms", "30001/500"),
    ("90s", "90"),
    ("61m", "3660"),
    ("1:02", "62"),
    ("01:02.5", "125/2"),
    ("00:01:02.500", "125/2"),
    ("00:00:00.1", "1/10"),
    ("100:00:00", "360000"),
    (" 12s ", "12"),
]
SHARES: list[tuple[str, str]] = [
    ("0%", "0"),
    ("15%", "3/20"),
    ("33.3%", "333/1000"),
    ("0.1%", "1/1000"),
    ("12 %", "3/25"),
    ("100%", "1"),
]
REFUSED: list[object] = [
    -1,
    -0.001,
    1e9 + 1,
    10**400,
    float("nan"),
    float("inf"),
    True,
    False,
    None,
    [],
    {"frame": 1},
    Decimal(1),
    b"12s",
    "",
    " ",
    "abc",
    "s",
    "-1",
    "-1s",
    "+1s",
    "1,5s",
    ".5s",
    "5.",
    "1e3",
    "0x10",
    "nan",
    "inf",
    "12 seconds",
    "12S",
    "1s2m",
    "1s1s",
    "1:99",
    "99:00",
    "1:60:00",
    "1:2:3:4",
    ":30",
    "1:",
    "-1:00",
    "101%",
    "100.1%",
    "-1%",
    "%",
    "12s%",
    "1/3",
    "12s\n13s",
    "1" * 13,
    "1" * 100_000,
    # No way to say a time goes further than the others.
    "1000000001",
    "1000000001s",
    "1000000000001ms",
    "300000h",
    "999999:00:00",
]


@pytest.mark.parametrize(("said", "seconds"), SECONDS)
def test_seconds_are_exact(said: object, seconds: str) -> None:
    assert Time.read(said) == Time(Fraction(seconds))


@pytest.mark.parametrize(("said", "share"), SHARES)
def test_a_percentage_is_a_share_of_the_duration(said: str, share: str) -> None:
    time = Time.read(said)
    assert time == Time(Fraction(share), relative=True)
    assert time.seconds(Fraction(1001, 30)) == Fraction(share) * Fraction(1001, 30)


@pytest.mark.parametrize("said", REFUSED, ids=lambda said: f"{said!r:.20}")
def test_anything_else_is_refused(said: object) -> None:
    with pytest.raises(ValueError):
        Time.read(said)


def test_a_refusal_does_not_repeat_long_text() -> None:
    with pytest.raises(ValueError) as refusal:
        Time.read("1" * 100_000)
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize("said", [None, "abc", [], True])
def test_a_refusal_says_how_to_say_it(said: object) -> None:
    with pytest.raises(ValueError, match=r'"12s".*"1m2\.5s".*"15%"'):
        Time.read(said)


def test_a_time_reads_as_itself() -> None:
    time = Time(Fraction(1, 3))
    assert Time.read(time) is time


def test_seconds_do_not_depend_on_the_duration() -> None:
    assert {Time.read("12s").seconds(Fraction(duration)) for duration in (0, 1, 1000)} == {12}


decimals = st.decimals(0, 10**6, allow_nan=False, places=6).map(lambda number: f"{number:f}")
sixties = st.integers(0, 59)
ways = st.one_of(
    st.integers(0, 10**9),
    st.floats(0, 1e9),
    st.from_regex(r"\A[0-9]{1,12}(\.[0-9]{1,12})?(h|m|s|ms|%)?\Z"),
    st.builds("{}h{}m{}s{}ms".format, decimals, decimals, decimals, decimals),
    st.builds("{}:{:02}:{:02}.{}".format, st.integers(0, 999_999), sixties, sixties, st.integers(0, 10**12 - 1)),
)


@given(ways)
@example("999999:59:59.999999999999")
@example("999999999999h")
def test_what_a_time_says_of_itself_reads_back(said: object) -> None:
    try:
        time = Time.read(said)
    except ValueError:
        return
    again = Time.read(time.said())
    assert again.relative == time.relative
    assert abs(again.value - time.value) <= Fraction(1, 10**9)


@given(st.decimals(0, 10**6, allow_nan=False, places=3))
def test_all_ways_agree(seconds: Decimal) -> None:
    exact = Time(Fraction(seconds))
    hours, rest = divmod(seconds, 3600)
    minutes, left = divmod(rest, 60)
    for said in (
        float(seconds),
        f"{seconds}",
        f"{seconds}s",
        f"{seconds * 1000:f}ms",
        f"{minutes + hours * 60}m{left}s",
        f"{hours}h{minutes}m{left}s",
        f"{hours:02}:{minutes:02}:{left:06.3f}",
    ):
        assert Time.read(said) == exact, said
