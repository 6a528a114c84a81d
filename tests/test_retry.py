"""What becomes of a job that failed: a table of verdicts, and that every job comes to its end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.errors import (
    BY_CODE,
    BadJob,
    Cancelled,
    DecodeFailed,
    DeviceMissing,
    Failure,
    Interrupted,
    LeaseLost,
    SourceMissing,
    SourceUnreadable,
    StoreFailure,
    WorkerDied,
    WorkerFailure,
    WorkerLied,
    WorkerStalled,
    WorkerTimeout,
)
from daemon.jobs.retry import Again, History, Over, Policy, judge, judge_lost

POLICY = Policy(attempts=3, deaths=3, lost_starts=5, first_delay=2.0, longest_delay=300.0)
NEVER_CHARGED = [StoreFailure, Interrupted]
DEATHS = [WorkerDied, WorkerStalled, WorkerLied]

histories = st.builds(History, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
policies = st.builds(
    Policy,
    attempts=st.integers(1, 9),
    deaths=st.integers(1, 9),
    lost_starts=st.integers(1, 9),
    first_delay=st.floats(0.001, 100),
    longest_delay=st.floats(0.001, 1000),
)
kinds = st.sampled_from(sorted(BY_CODE.values(), key=lambda kind: kind.code))


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("kind", [Failure, BadJob, SourceMissing, DecodeFailed, DeviceMissing, Cancelled, LeaseLost])
def test_what_no_second_try_can_mend_is_over(kind: type[Failure], alone: bool) -> None:
    failure = kind("no")
    assert judge(History(), failure, alone=alone, policy=POLICY) == Over(failure)


@pytest.mark.parametrize(
    ("failures", "verdict"), [(0, Again(2.0, History(1))), (1, Again(8.0, History(2))), (2, None), (7, None)]
)
def test_what_may_pass_is_tried_three_times(failures: int, verdict: Again | None) -> None:
    failure = SourceUnreadable("the disk said no")
    assert judge(History(failures), failure, alone=True, policy=POLICY) == (verdict or Over(failure))


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("kind", NEVER_CHARGED)
@pytest.mark.parametrize("history", [History(), History(99, 99, 99)])
def test_what_is_not_the_jobs_fault_is_never_charged(kind: type[Failure], history: History, alone: bool) -> None:
    assert judge(history, kind("full"), alone=alone, policy=POLICY) == Again(2.0, history)


@pytest.mark.parametrize("kind", [*DEATHS, WorkerTimeout, WorkerFailure])
def test_of_many_in_a_worker_none_is_charged_and_each_runs_alone(kind: type[Failure]) -> None:
    history = History(2, 2, 4)
    assert judge(history, kind("died"), alone=False, policy=POLICY) == Again(0.0, history, alone=True)


@pytest.mark.parametrize("kind", DEATHS)
@pytest.mark.parametrize(
    ("deaths", "verdict"),
    [(0, Again(2.0, History(0, 1), alone=True)), (1, Again(8.0, History(0, 2), alone=True)), (2, None)],
)
def test_three_deaths_alone_are_the_end(kind: type[Failure], deaths: int, verdict: Again | None) -> None:
    failure = kind("died")
    assert judge(History(0, deaths), failure, alone=True, policy=POLICY) == (verdict or Over(failure))


def test_a_job_that_takes_too_long_alone_is_over() -> None:
    failure = WorkerTimeout("too long")
    assert judge(History(), failure, alone=True, policy=POLICY) == Over(failure)


def test_a_lost_start_among_others_makes_a_suspect_and_charges_nothing() -> None:
    history = History(1, 1, 4)
    assert judge_lost(history, alone=False, policy=POLICY) == Again(0.0, history, alone=True)


@pytest.mark.parametrize("lost", range(4))
def test_four_lost_starts_alone_are_borne(lost: int) -> None:
    verdict = judge_lost(History(1, 2, lost), alone=True, policy=POLICY)
    assert verdict == Again(0.0, History(1, 2, lost + 1), alone=True)


def test_the_fifth_lost_start_alone_is_the_end() -> None:
    verdict = judge_lost(History(0, 0, 4), alone=True, policy=POLICY)
    assert isinstance(verdict, Over)
    assert isinstance(verdict.failure, WorkerDied) and "5 times" in verdict.failure.message


def test_delays_grow_to_the_longest_and_no_further() -> None:
    patient = Policy(attempts=10_000, first_delay=2.0, longest_delay=300.0)
    delays = []
    for failures in range(9_000):
        verdict = judge(History(failures), SourceUnreadable("no"), alone=True, policy=patient)
        assert isinstance(verdict, Again)
        delays.append(verdict.delay)
    assert delays[:6] == [2, 8, 32, 128, 300, 300] and set(delays[6:]) == {300}


@given(histories, kinds, st.booleans(), policies)
def test_history_only_grows_and_by_one_at_most(
    history: History, kind: type[Failure], alone: bool, policy: Policy
) -> None:
    verdict = judge(history, kind("no"), alone=alone, policy=policy)
    if isinstance(verdict, Over):
        assert type(verdict.failure) is kind
        return
    after, grown = verdict.history, verdict.history.failures + verdict.history.deaths
    assert 0 <= verdict.delay <= max(policy.longest_delay, policy.first_delay)
    assert (after.failures, after.deaths) >= (history.failures, history.deaths)
    assert grown - history.failures - history.deaths == (
        kind.charged and (alone or not issubclass(kind, WorkerFailure))
    )
    assert after.lost_starts == history.lost_starts
    assert kind.retry or not alone


@given(st.lists(st.tuples(kinds, st.booleans()), min_size=60, max_size=60), policies)
def test_every_job_comes_to_its_end(course: list[tuple[type[Failure], bool]], policy: Policy) -> None:
    """However its attempts end: once it runs alone each of them is charged, or the fault is not its own."""
    history, alone, charged = History(), False, 0
    for kind, lost in course:
        verdict = (
            judge_lost(history, alone=alone, policy=policy)
            if lost
            else judge(history, kind("no"), alone=alone, policy=policy)
        )
        if isinstance(verdict, Over):
            return
        charged += verdict.history != history
        history, alone = verdict.history, verdict.alone
        assert charged <= policy.attempts - 1 + policy.deaths - 1 + policy.lost_starts - 1
        assert charged == history.failures + history.deaths + history.lost_starts
