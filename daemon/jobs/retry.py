"""What becomes of a job that failed. Pure: history and failure in, verdict out."""

from dataclasses import dataclass

from daemon.errors import DeviceLost, Failure, WorkerDied, WorkerFailure


@dataclass(frozen=True)
class Policy:
    """`attempts`: how often a job may fail for reasons that may pass. `deaths`: of workers that ran it alone.
    `lost_starts`: starts alone after which nobody was left to tell. Delays in seconds."""

    attempts: int = 3
    deaths: int = 3
    lost_starts: int = 5
    first_delay: float = 2.0
    longest_delay: float = 300.0


@dataclass(frozen=True)
class History:
    """Of one job: its charged failures, the deaths of workers that ran it alone, its starts alone without outcome."""

    failures: int = 0
    deaths: int = 0
    lost_starts: int = 0


@dataclass(frozen=True)
class Again:
    """Queued again after `delay` seconds, with this history; `alone` if it may have killed its worker."""

    delay: float
    history: History
    alone: bool = False


@dataclass(frozen=True)
class Over:
    """Failed for good, with this reason."""

    failure: Failure


def judge(history: History, failure: Failure, *, alone: bool, policy: Policy) -> Again | Over:
    """The verdict on one failed attempt; `alone`: no other job was in the worker."""
    if isinstance(failure, WorkerFailure):
        return _judge_worker(history, failure, alone, policy)
    if not failure.retry:
        return Over(failure)
    if not failure.charged:
        return Again(policy.first_delay, history)
    failed = History(history.failures + 1, history.deaths, history.lost_starts)
    if failed.failures >= policy.attempts:
        return Over(failure)
    return Again(_delay(failed.failures, policy), failed)


def judge_lost(history: History, *, alone: bool, policy: Policy) -> Again | Over:
    """The verdict on a start without an outcome: the whole daemon may have died of it."""
    if not alone:
        return Again(0.0, history, alone=True)
    lost = History(history.failures, history.deaths, history.lost_starts + 1)
    if lost.lost_starts >= policy.lost_starts:
        return Over(WorkerDied(f"the daemon died {lost.lost_starts} times while it ran this job alone"))
    return Again(0.0, lost, alone=True)


def _judge_worker(history: History, failure: WorkerFailure, alone: bool, policy: Policy) -> Again | Over:
    if not alone:
        # Any of the jobs in the worker may be the cause: each is tried by itself, and none is charged yet.
        return Again(0.0, history, alone=True)
    died = History(history.failures, history.deaths + 1, history.lost_starts)
    # After so many of them workers go on with the CPU: that may be what the job needs.
    most = policy.deaths + isinstance(failure, DeviceLost)
    if not failure.retry or died.deaths >= most:
        return Over(failure)
    return Again(_delay(died.deaths, policy), died, alone=True)


def _delay(times: int, policy: Policy) -> float:
    return min(policy.longest_delay, policy.first_delay * 4.0 ** min(times - 1, 32))
