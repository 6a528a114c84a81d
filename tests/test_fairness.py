"""Whose job is next: nobody waits for another's queue, nobody runs more than allowed, nothing lies idle."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.jobs.fairness import Candidate, in_turn, room_for

ORGS = "abc"

candidates = st.lists(st.tuples(st.sampled_from(ORGS), st.integers(0, 2), st.floats(0, 9)), max_size=30).map(
    lambda said: [
        Candidate(f"{n:02}", org, (priority, time, f"{n:02}")) for n, (org, priority, time) in enumerate(said)
    ]
)
counts = st.dictionaries(st.sampled_from(ORGS), st.integers(0, 6))


def queue(**lengths: int) -> list[Candidate]:
    """So many jobs of each organisation, all of the first before all of the second."""
    jobs = [org for org, length in lengths.items() for _ in range(length)]
    return [Candidate(f"{org}{n:02}", org, (1, float(n), f"{org}{n:02}")) for n, org in enumerate(jobs)]


def turns(*arguments: object, most: int = 9, running: dict[str, int] | None = None, **caps: int) -> str:
    (jobs,) = arguments
    assert isinstance(jobs, list)
    return "".join(job.org for job in in_turn(jobs, running or {}, caps, most))


@pytest.mark.parametrize(
    ("jobs", "running", "caps", "expected"),
    [
        (queue(a=4), {}, {}, "aaaa"),
        (queue(a=4, b=1), {}, {}, "abaaa"),
        (queue(a=20, b=2, c=1), {}, {}, "abcabaaaa"),
        (queue(a=4, b=4), {"a": 2}, {}, "bbababaa"),
        (queue(a=9, b=1), {"a": 5}, {}, "baaaaaaaa"),
        (queue(a=4, b=4), {}, {"a": 1}, "abbbb"),
        (queue(a=4, b=4), {"a": 3}, {"a": 3}, "bbbb"),
        (queue(a=4, b=4), {"a": 7}, {"a": 3}, "bbbb"),
        (queue(a=4), {}, {"a": 0}, ""),
        ([], {"a": 1}, {"a": 3}, ""),
    ],
)
def test_turns(jobs: list[Candidate], running: dict[str, int], caps: dict[str, int], expected: str) -> None:
    assert turns(jobs, running=running, **caps) == expected


def test_priority_then_time_then_key_within_an_organisation() -> None:
    order = [(0, 9.0, "z"), (1, 1.0, "y"), (1, 2.0, "a"), (1, 2.0, "b"), (2, 0.0, "c")]
    jobs = [Candidate(key, "a", (priority, time, key)) for priority, time, key in reversed(order)]
    assert [job.order for job in in_turn(jobs, {}, {}, 9)] == order


@given(candidates, counts, counts, st.integers(0, 12))
def test_no_cap_is_exceeded_and_nothing_is_invented(
    jobs: list[Candidate], running: dict[str, int], caps: dict[str, int], most: int
) -> None:
    chosen = in_turn(jobs, running, caps, most)
    assert len(chosen) == len(set(chosen)) <= most and set(chosen) <= set(jobs)
    for org, count in Counter(job.org for job in chosen).items():
        assert count + running.get(org, 0) <= caps.get(org, 1000)


@given(candidates, counts, counts, st.integers(0, 12))
def test_nothing_lies_idle(jobs: list[Candidate], running: dict[str, int], caps: dict[str, int], most: int) -> None:
    waiting = Counter(job.org for job in jobs)
    may = sum(min(count, max(0, caps.get(org, 1000) - running.get(org, 0))) for org, count in waiting.items())
    assert len(in_turn(jobs, running, caps, most)) == min(most, may)


@given(candidates, counts, counts, st.integers(0, 12))
def test_each_organisation_has_its_first_jobs_run(
    jobs: list[Candidate], running: dict[str, int], caps: dict[str, int], most: int
) -> None:
    chosen = in_turn(jobs, running, caps, most)
    for org in ORGS:
        mine = sorted((job for job in jobs if job.org == org), key=lambda job: job.order)
        taken = [job for job in chosen if job.org == org]
        assert taken == mine[: len(taken)]


@given(candidates, counts, counts, st.integers(0, 12))
def test_nobody_is_more_than_one_ahead_of_somebody_who_waits(
    jobs: list[Candidate], running: dict[str, int], caps: dict[str, int], most: int
) -> None:
    chosen = Counter(job.org for job in in_turn(jobs, running, caps, most))
    waiting = Counter(job.org for job in jobs) - chosen
    for org in waiting:
        mine = running.get(org, 0) + chosen[org]
        if mine >= caps.get(org, 1000):
            continue
        for other, count in chosen.items():
            assert running.get(other, 0) + count <= max(mine + 1, running.get(other, 0))


@given(candidates, counts, counts, st.integers(0, 12))
def test_the_order_in_which_they_are_looked_at_does_not_matter(
    jobs: list[Candidate], running: dict[str, int], caps: dict[str, int], most: int
) -> None:
    assert in_turn(jobs[::-1], running, caps, most) == in_turn(jobs, running, caps, most)


@pytest.mark.parametrize(
    ("running", "caps", "room"),
    [(0, {}, 64), (7, {}, 64), (2, {"a": 5}, 3), (5, {"a": 5}, 0), (9, {"a": 5}, 0), (0, {"b": 1}, 64)],
)
def test_room(running: int, caps: dict[str, int], room: int) -> None:
    assert room_for("a", Counter(a=running), caps, 64) == room
