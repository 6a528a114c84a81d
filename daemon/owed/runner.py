"""Pays what is owed: claims errands, has each done, and says how it ended. Those that fail for reasons that may pass
come again, later each time."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count
from time import monotonic
from typing import Literal, TypeVar

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from daemon.database import Database
from daemon.errors import Failure, LeaseLost
from daemon.jobs import errands
from daemon.jobs.errands import Errand, Kind
from daemon.metrics import Metrics

log = structlog.get_logger()
T = TypeVar("T")

_AGAIN = 1.0  # seconds between tries to reach the job table
_LONGEST = 300  # characters of a message


class Later(Exception):
    """Not now, and it is nobody's fault: again after so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


@dataclass(frozen=True)
class Backoff:
    """How often and when an errand is tried. Delays in seconds: each four times the one before, and a fifth more or
    less, so that not all come back at once."""

    attempts: int = 8
    first_delay: float = 5.0
    longest_delay: float = 3600.0

    def delay(self, failed: int, chance: float) -> float:
        """After so many failed attempts; `chance` lies between 0 and 1."""
        return min(self.longest_delay, self.first_delay * 4.0 ** min(failed - 1, 32)) * (0.8 + 0.4 * chance)


@dataclass(frozen=True)
class Trade:
    """How errands of a kind are done. `pay` returns what is to be remembered of a success; it raises a Failure, whose
    `retry` says whether it comes again, or Later."""

    pay: Callable[[Errand], Awaitable[str | None]]
    at_once: int
    backoff: Backoff


class Runner:
    """Keeps the trades busy with claimed errands. Call `wake` when there may be new ones."""

    def __init__(
        self,
        database: Database,
        metrics: Metrics,
        owner: str,
        trades: Mapping[Kind, Trade],
        lease: float = 30.0,
        poll: float = 1.0,
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._owner = owner
        self._trades = trades
        self._lease = lease
        self._poll = poll
        self._busy: Counter[Kind] = Counter()
        self._held: set[str] = set()  # the keys of those that were claimed and are not settled
        self._attempts: dict[tuple[str, int], asyncio.Future[str | None]] = {}  # that go on
        self._news = asyncio.Event()
        self._draining = False

    def wake(self) -> None:
        """There may be something to claim."""
        self._news.set()

    def drain(self) -> None:
        """Claims nothing more; `run` ends when what runs is over."""
        self._draining = True
        self._news.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            heart = group.create_task(self._heart())
            async with asyncio.TaskGroup() as payments:
                while not self._draining:
                    self._news.clear()
                    for errand in await self._claim():
                        self._busy[errand.kind] += 1
                        payments.create_task(self._pay(errand))
                    with contextlib.suppress(TimeoutError):
                        # Not wait_for: until Python 3.12 it may swallow a cancellation that comes with the event.
                        async with asyncio.timeout(self._poll):
                            await self._news.wait()
            heart.cancel()

    async def _claim(self) -> list[Errand]:
        room = {kind: trade.at_once - self._busy[kind] for kind, trade in self._trades.items()}
        known, tries = list(self._held), count()

        def claim(connection: Connection) -> list[Errand]:
            if next(tries) > 0:
                errands.give_back_unknown(connection, self._owner, known)
            return errands.claim(connection, self._owner, room, self._lease)

        claimed = await self._insist(claim)
        self._held.update(errand.key for errand in claimed)
        return claimed

    async def _pay(self, errand: Errand) -> None:
        """One errand as one story. Raises nothing but cancellation: then it is still held."""
        begun = monotonic()
        try:
            outcome, reason = await self._settle(errand, await self._attempt(errand))
            self._tell(errand, outcome, monotonic() - begun, reason)
        finally:
            self._busy[errand.kind] -= 1
            self._held.discard(errand.key)
            self._news.set()  # there is room again, and there may be what waited for it

    async def _attempt(self, errand: Errand) -> "str | Failure | Later | None":
        """What became of it: what is to be remembered of a success, or why it failed."""
        attempt = asyncio.ensure_future(self._trades[errand.kind].pay(errand))
        held = (errand.key, errand.token)
        self._attempts[held] = attempt
        try:
            return await attempt
        except (Failure, Later) as said:
            return said
        except asyncio.CancelledError:
            if held in self._attempts:
                raise
            return LeaseLost("another owner has it")
        except Exception as error:  # a fault of our own must not end the daemon, nor leave errands held for ever
            log.exception("internal error", errand=errand.key)
            return Failure(f"internal error: {type(error).__name__}")
        finally:
            self._attempts.pop(held, None)

    async def _settle(self, errand: Errand, came: "str | Failure | Later | None") -> tuple[str, str | None]:
        """Writes it down: the outcome (done, failed, again, lost) and its reason."""
        if isinstance(came, Later):
            back = partial(errands.put_back, errand=errand, delay=came.seconds, message=None, charged=False)
            return ("later" if await self._insist(back) else "lost"), None
        if isinstance(came, LeaseLost):
            return "lost", came.message
        message = came.message[:_LONGEST] if isinstance(came, Failure) else came
        if isinstance(came, Failure) and came.retry:
            backoff = self._trades[errand.kind].backoff
            failed = errand.attempts + came.charged
            if failed < backoff.attempts:
                delay = backoff.delay(max(1, failed), random.random())  # noqa: S311  no secret
                back = partial(errands.put_back, errand=errand, delay=delay, message=message, charged=came.charged)
                return ("again" if await self._insist(back) else "lost"), message
        outcome: Literal["done", "failed"] = "failed" if isinstance(came, Failure) else "done"
        held = await self._insist(partial(errands.finish, errand=errand, outcome=outcome, message=message))
        return (outcome if held else "lost"), message

    def _tell(self, errand: Errand, outcome: str, seconds: float, reason: str | None) -> None:
        if outcome == "later":
            return
        self._metrics.owed_duration.labels(errand.kind).observe(seconds)
        if outcome in ("done", "failed"):
            self._metrics.owed_finished.labels(errand.kind, outcome).inc()
        say = log.info if outcome == "done" else log.warning
        who = {"errand": errand.key, "job_id": errand.job_id, "org": errand.org, "attempt": errand.attempts + 1}
        say(f"{errand.kind} {outcome}", **who, seconds=round(seconds, 3), **({"reason": reason} if reason else {}))

    async def _heart(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self._lease / 3))
            if before := list(self._attempts):
                held = await self._insist(lambda c: errands.heartbeat(c, self._owner, self._lease))
                for lost in set(before) - held:
                    if attempt := self._attempts.pop(lost, None):
                        attempt.cancel()

    async def _insist(self, change: Callable[[Connection], T]) -> T:
        while True:
            try:
                return await self._database.run(change)
            except DBAPIError as error:
                log.error("the job table cannot be reached", reason=str(error.orig))
                await asyncio.sleep(_AGAIN)
