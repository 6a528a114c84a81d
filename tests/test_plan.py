"""What is decoded is enough for every wanted picture, begins as late as it can, and is shared where it can be.

The streams are made up: groups of pictures with frames out of order, leading pictures that need the group before, and
packets that are never shown. What a decoder could give is known from the rules of such streams, not from our code.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.media.plan import How, Instant, Run, plan
from daemon.media.select import Span, Stamp, entry, first_shown, pick, spans

# --- made-up streams --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stream:
    """Packets in decode order; `keys[n]` is the position of the key packet of packet n's own group."""

    stamps: tuple[Stamp, ...]
    keys: tuple[int, ...]

    def latest_start(self, position: int) -> int | None:
        """The last key packet from which this packet gives its frame: a leading picture needs the group before too."""
        own = self.keys[position]
        if self.stamps[position].pts >= self.stamps[own].pts:
            return own
        return self.keys[own - 1] if own else None

    def decoded(self, span: Span) -> list[int]:
        """PTS of the frames that come out of a decoder that is given this span alone."""
        starts = ((n, self.latest_start(n)) for n in range(span.start, span.stop))
        return sorted(self.stamps[n].pts for n, start in starts if start is not None and start >= span.start)


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    stamps: list[Stamp] = []
    keys: list[int] = []
    time = draw(st.integers(-100, 100))
    for group in range(draw(st.integers(1, 5))):
        leading, trailing = draw(st.integers(0, 3)) if group else 0, draw(st.integers(0, 6))
        times = []
        for _ in range(leading + 1 + trailing):
            times.append(time)
            time += draw(st.integers(1, 9))
        key = times.pop(leading)
        before, after = times[:leading], times[leading:]
        order = [key, *draw(st.permutations(before)), *draw(st.permutations(after))]
        keys += [len(stamps)] * len(order)
        stamps += [Stamp(pts, key=pts == key, shown=draw(st.integers(0, 9)) > 0) for pts in order]
    return Stream(tuple(stamps), tuple(keys))


@st.composite
def streams_and_wanted(draw: st.DrawFn) -> tuple[Stream, list[int]]:
    stream = draw(streams())
    return stream, draw(st.lists(st.integers(0, len(stream.stamps) - 1), min_size=1, max_size=6))


def stamps(*said: tuple[int, str]) -> list[Stamp]:
    """(PTS, "k" for a key packet, "-" for one that is not shown)."""
    return [Stamp(pts, key="k" in flags, shown="-" not in flags) for pts, flags in said]


# An open group: the packets shown at 20 and 30 come after the key packet shown at 40 and need the group before it.
OPEN = stamps((0, "k"), (10, ""), (40, "k"), (20, ""), (30, ""), (60, ""), (50, ""))

# --- which packet is the picture at t ---------------------------------------------------------------------------


@given(streams(), st.lists(st.integers(-120, 400)))
def test_the_picture_is_the_shown_one_with_the_largest_pts_not_after_the_limit(
    stream: Stream, limits: list[int]
) -> None:
    found = pick(stream.stamps, limits)
    assert len(found) == len(limits)
    for limit, position in zip(limits, found, strict=True):
        early = [stamp.pts for stamp in stream.stamps if stamp.shown and stamp.pts <= limit]
        if position is None:
            assert not early
        else:
            assert stream.stamps[position].shown
            assert stream.stamps[position].pts == max(early)


@pytest.mark.parametrize(
    ("limit", "position"), [(-1, None), (0, 0), (9, 0), (10, 1), (29, 3), (30, 4), (40, 2), (55, 6), (10**18, 5)]
)
def test_pick_in_an_open_group(limit: int, position: int | None) -> None:
    assert pick(OPEN, [limit]) == [position]


def test_packets_that_are_not_shown_are_not_picked() -> None:
    hidden = stamps((0, "k-"), (10, "-"), (20, ""))
    assert pick(hidden, [0, 15, 20]) == [None, None, 2]
    assert first_shown(hidden) == 2
    assert first_shown(stamps((0, "k-"))) is None
    assert first_shown([]) is None
    assert pick([], [0]) == [None]


def test_of_two_packets_shown_at_once_the_first_decoded_is_picked() -> None:
    assert pick(stamps((0, "k"), (10, ""), (10, ""), (20, "")), [10, 15]) == [1, 1]


@given(streams())
def test_the_first_shown_is_shown_before_all_others(stream: Stream) -> None:
    shown = [stamp.pts for stamp in stream.stamps if stamp.shown]
    first = first_shown(stream.stamps)
    assert (None if first is None else stream.stamps[first].pts) == min(shown, default=None)


# --- from where it is decoded -----------------------------------------------------------------------------------


@given(streams())
def test_decoding_begins_at_the_last_key_packet_that_will_do(stream: Stream) -> None:
    for position in range(len(stream.stamps)):
        assert entry(stream.stamps, position) == stream.latest_start(position)


@given(streams_and_wanted(), st.integers(-120, 300))
def test_decoding_begins_not_after_what_is_said(case: tuple[Stream, list[int]], before: int) -> None:
    stream, wanted = case
    for position in wanted:
        found = entry(stream.stamps, position, before)
        allowed = [
            n
            for n, stamp in enumerate(stream.stamps[: position + 1])
            if stamp.key and stamp.pts <= min(before, stream.stamps[position].pts)
        ]
        assert found == max(allowed, default=None)


@pytest.mark.parametrize(
    ("wanted", "before", "start"),
    [(0, None, 0), (1, None, 0), (2, None, 2), (3, None, 0), (5, None, 2), (5, 40, 2), (5, 39, 0), (5, -1, None)],
)
def test_entry_in_an_open_group(wanted: int, before: int | None, start: int | None) -> None:
    assert entry(OPEN, wanted, before) == start


def test_a_packet_before_any_key_packet_has_no_entry() -> None:
    orphans = stamps((0, ""), (20, "k"), (10, ""))
    assert entry(orphans, 0) is None
    assert entry(orphans, 2) is None
    with pytest.raises(ValueError, match="no key packet"):
        spans(orphans, [1, 2])
    assert spans(orphans, [2], start=0) == [Span(0, 3, frozenset({10}))]


# --- what is decoded --------------------------------------------------------------------------------------------


@given(streams_and_wanted())
def test_every_wanted_frame_comes_out_of_its_span(case: tuple[Stream, list[int]]) -> None:
    stream, wanted = case
    found = spans(stream.stamps, wanted)
    assert sorted(pts for span in found for pts in span.wanted) == sorted({stream.stamps[n].pts for n in wanted})
    for span in found:
        assert span.wanted <= set(stream.decoded(span)), span


@given(streams_and_wanted())
def test_spans_are_apart_and_in_decode_order(case: tuple[Stream, list[int]]) -> None:
    stream, wanted = case
    found = spans(stream.stamps, wanted)
    assert all(span.start < span.stop for span in found)
    assert all(one.stop <= other.start for one, other in pairwise(found))


@given(streams_and_wanted())
def test_no_span_is_longer_than_it_must_be(case: tuple[Stream, list[int]]) -> None:
    stream, wanted = case
    for span in spans(stream.stamps, wanted):
        inside = [n for n in wanted if stream.stamps[n].pts in span.wanted]
        assert stream.stamps[span.start].key
        assert span.start == min(start for n in inside if (start := stream.latest_start(n)) is not None)
        assert span.stop == max(inside) + 1


@given(streams_and_wanted(), st.integers(-120, 300))
def test_spans_begin_not_after_what_is_said(case: tuple[Stream, list[int]], before: int) -> None:
    stream, wanted = case
    for span in spans(stream.stamps, wanted, start=0, before=before):
        assert span.start == 0 or stream.stamps[span.start].pts <= before


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([], []),
        ([1], [(0, 2, {10})]),
        ([2], [(2, 3, {40})]),
        ([3], [(0, 4, {20})]),
        ([0, 2], [(0, 1, {0}), (2, 3, {40})]),
        ([6, 5, 5], [(2, 7, {50, 60})]),
        ([1, 3], [(0, 4, {10, 20})]),
        ([2, 3], [(0, 4, {20, 40})]),  # the second needs the group before, so the first comes from there too
        ([0, 2, 3], [(0, 4, {0, 20, 40})]),
    ],
)
def test_spans_in_an_open_group(wanted: list[int], expected: list[tuple[int, int, set[int]]]) -> None:
    assert spans(OPEN, wanted) == [Span(start, stop, frozenset(pts)) for start, stop, pts in expected]


# --- instants to runs -------------------------------------------------------------------------------------------

ticks = st.one_of(st.integers(-50, 300).map(Fraction), st.fractions(-50, 300, max_denominator=7))
hows: st.SearchStrategy[How] = st.sampled_from(["exact", "exact", "exact", "keyframe", "nearest"])
instants = st.lists(st.builds(Instant, ticks, hows), max_size=20)
GROUPS: list[Callable[[int], int | None]] = [
    lambda tick: None,
    lambda tick: 0,
    lambda tick: tick // 40,
    lambda tick: -(tick // 40),  # a number is a name, not an order
]
groupings = st.sampled_from(GROUPS)
TOGETHER = Fraction(25)


@given(instants, groupings, st.data())
def test_every_instant_is_in_one_run(
    wanted: list[Instant], group_of: Callable[[int], int | None], data: st.DataObject
) -> None:
    first = data.draw(st.lists(st.sampled_from(wanted))) if wanted else []
    runs = plan(wanted, group_of, TOGETHER, first)
    assert sorted(instant for run in runs for instant in run.instants) == sorted(set(wanted))
    for run in runs:
        assert run.instants
        assert all(one.ticks < other.ticks for one, other in pairwise(run.instants))
        assert len(run.instants) == 1 or all(instant.how == "exact" for instant in run.instants)


@given(instants, groupings, st.data())
def test_what_comes_first_comes_first_and_the_rest_in_time_order(
    wanted: list[Instant], group_of: Callable[[int], int | None], data: st.DataObject
) -> None:
    first = data.draw(st.lists(st.sampled_from(wanted))) if wanted else []
    runs = plan(wanted, group_of, TOGETHER, first)
    early = [not set(first).isdisjoint(run.instants) for run in runs]
    assert early == sorted(early, reverse=True)
    for kind in (True, False):
        starts = [run.instants[0].ticks for run, is_early in zip(runs, early, strict=True) if is_early is kind]
        assert starts == sorted(starts)


@given(instants, groupings.filter(lambda group_of: group_of(0) is not None))
def test_exact_instants_of_one_group_share_a_run_and_others_do_not(
    wanted: list[Instant], group_of: Callable[[int], int | None]
) -> None:
    of_runs = [
        {group_of(instant.limit) for instant in run.instants}
        for run in plan(wanted, group_of, TOGETHER)
        if run.instants[0].how == "exact"
    ]
    assert all(len(groups) == 1 for groups in of_runs)
    assert len(of_runs) == len(set().union(*of_runs))


@given(instants)
def test_where_groups_are_unknown_near_instants_share_a_run(wanted: list[Instant]) -> None:
    runs = [run for run in plan(wanted, lambda tick: None, TOGETHER) if run.instants[0].how == "exact"]
    for run in runs:
        assert all(other.ticks - one.ticks <= TOGETHER for one, other in pairwise(run.instants))
    for one, other in pairwise(runs):
        assert other.instants[0].ticks - one.instants[-1].ticks > TOGETHER


def test_nothing_wanted_nothing_planned() -> None:
    assert plan([], lambda tick: 0, TOGETHER) == []


def test_an_instant_wanted_twice_is_planned_once() -> None:
    instant = Instant(Fraction(3))
    assert plan([instant, Instant(Fraction(3)), instant], lambda tick: None, TOGETHER) == [Run((instant,))]


def test_one_instant_wanted_in_three_ways_is_planned_in_three() -> None:
    hows: list[How] = ["nearest", "keyframe", "exact"]
    runs = plan([Instant(Fraction(3), how) for how in hows], lambda tick: 0, TOGETHER)
    assert sorted(run.instants[0].how for run in runs) == sorted(hows)


@pytest.mark.parametrize(("ticks", "limit"), [("0", 0), ("5/2", 2), ("3", 3), ("-1/2", -1), ("-3", -3)])
def test_the_limit_is_the_last_whole_tick_not_after_the_instant(ticks: str, limit: int) -> None:
    assert Instant(Fraction(ticks)).limit == limit
