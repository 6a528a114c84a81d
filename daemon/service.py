"""What every door of the daemon does, once: who asks, what may be asked, and what became of it.

A door (a route, a service's dialect) translates its words to these calls and back, and holds no state.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic, time
from typing import TypeVar
from urllib.parse import quote

from sqlalchemy import Connection

from daemon.catalogue import organisations, quotas, videos
from daemon.catalogue.organisations import Organisation
from daemon.catalogue.signing import Signer
from daemon.catalogue.videos import Video
from daemon.database import Database
from daemon.errors import FailedPrecondition, NotFound, Overloaded, QuotaExceeded, Unauthenticated
from daemon.intake.inbox import new_job
from daemon.job import Job
from daemon.jobs import table
from daemon.jobs.row import Known
from daemon.metrics import Metrics
from daemon.owed.promise import Promise
from daemon.probe import Probe
from daemon.register import look, register
from daemon.sources import Sources
from daemon.store.bucket import Bucket
from daemon.store.folder import Folder
from daemon.tables import FAILED
from daemon.ulid import new_ulid

T = TypeVar("T")

_RETRY_AFTER = 10  # seconds, where the daemon takes nothing in
_PAGE_LETTERS = 4 << 20  # of the reports of a page of jobs, where it has more than one
_BELIEVED = 1.0  # seconds after which a key is looked up again: one that was taken away is good no longer than that
_LOOK_AGAIN = 1.0  # seconds: another daemon of the table may have ended the job


@dataclass(frozen=True)
class Terms:
    """`public_url` begins every URL that is given out, `url_life` is how long a signed one is good, in seconds.
    `quotas`: name -> how many an hour an organisation may use."""

    public_url: str
    url_life: int
    quotas: Mapping[str, int]


class _Waiting:
    """Somebody who waits for the end of the job with this key; None while it is being looked up."""

    def __init__(self) -> None:
        self.key: str | None = None
        self.ended: Known | None = None
        self.news = asyncio.Event()

    def hear(self, known: Known) -> None:
        if self.key == known.key:
            self.ended = known
        if self.key in (known.key, None):
            self.news.set()


class Service:
    """One for all doors. `accepted` hears of new jobs, and whether they owe something at once; `closed` says why
    none are taken in, or None."""

    def __init__(
        self,
        database: Database,
        store: Folder | Bucket,
        sources: Sources,
        probe: Probe,
        signer: Signer,
        metrics: Metrics,
        terms: Terms,
        promise: Promise,
        accepted: Callable[[bool], None],
        closed: Callable[[], str | None],
    ) -> None:
        self.store = store
        self.terms = terms
        self.signer = signer
        self.metrics = metrics
        self._database = database
        self._sources = sources
        self._probe = probe
        self._promise = promise
        self._accepted = accepted
        self._closed = closed
        self._waiting: set[_Waiting] = set()
        self._callers: dict[str, tuple[float, Organisation]] = {}  # until when a key is believed, and whose it is
        self._draining = False

    async def ask(self, question: Callable[[Connection], T]) -> T:
        """A question to the tables."""
        return await self._database.run(question)

    # Who asks.

    async def authenticate(self, key: str | None) -> Organisation:
        """Whose API key this is. Raises Unauthenticated."""
        if key:
            digest = organisations.digest(key)
            until, known = self._callers.get(digest, (0.0, None))
            if known is not None and monotonic() < until:
                return known
            found = await self.ask(lambda c: organisations.of_key(c, key))
            if found is not None:
                self._callers[digest] = monotonic() + _BELIEVED, found
                return found
            self._callers.pop(digest, None)
        raise Unauthenticated("no API key was given" if not key else "this API key is not known, or has expired")

    async def spend(self, org: str, name: str, question: Callable[[Connection], T]) -> T:
        """Counts one use of an hour's allowance and asks what it is for. Raises QuotaExceeded."""

        def counted(connection: Connection) -> T:
            quotas.spend(connection, org, name, self.terms.quotas[name])
            return question(connection)

        return await self._counting(name, counted)

    async def _counting(self, allowance: str | None, spend: Callable[[Connection], T]) -> T:
        try:
            return await self.ask(spend)
        except QuotaExceeded:
            self.metrics.org_throttled.labels(allowance).inc()
            raise

    def refusal(self) -> Overloaded | None:
        """What to say to whoever brings something, while nothing is taken in."""
        why = self._closed()
        return Overloaded(f"nothing is taken in now: {why}", retry_after=_RETRY_AFTER) if why is not None else None

    # Jobs.

    async def submit(
        self,
        org: str,
        job: Job,
        *,
        via: str,
        spending: str | None = None,
        again: bool = False,
        dialect: str = "",
        also: Callable[[Connection, str], None] = lambda connection, id: None,
    ) -> Known:
        """Accepts a job of an organisation: it is in the table when this returns. One whose id is known already is the
        job that was; where that has failed and `again` is said, it is queued anew. `spending`: the allowance that a new
        one costs. `dialect`: who words its callbacks. `also` is done with a new one, by its id, or neither is. Raises
        BadJob, Overloaded, QuotaExceeded."""
        new = new_job(job.model_copy(update={"org": org}), new_ulid(), self._promise, dialect=dialect)
        closed = self.refusal()

        def accept(connection: Connection) -> tuple[Known | None, bool]:
            known = table.add(connection, new) if closed is None else None
            if known is not None:
                also(connection, new.id)
            else:
                known = table.get(connection, org, new.id)
                # None where it was forgotten just after `add` had met it.
                anew = again and known is not None and known.status == "failed"
                if closed is not None and (known is None or anew):
                    raise closed
                if not anew:
                    return known, False
                table.retry(connection, org, new.id)
                known = table.get(connection, org, new.id)
            if spending is not None:  # last: a refusal undoes all of it
                quotas.spend(connection, org, spending, self.terms.quotas[spending])
            return known, True

        known, is_new = await self._counting(spending, accept)
        if is_new:
            self.metrics.jobs_submitted.labels(via).inc()
            self._accepted(new.owes_at_once)
        if known is None:
            raise Overloaded("the job was removed while it was taken in", retry_after=1)
        return known

    async def job(self, org: str, id: str, wait: float = 0.0) -> Known | None:
        """What became of a job: at once where it is over, else within `wait` seconds. None where there is none."""
        until = monotonic() + wait
        waiting = _Waiting()
        self._waiting.add(waiting)
        try:
            while True:
                known = await self.ask(lambda c: table.get(c, org, id))
                left = until - monotonic()
                if known is None or known.is_over or left <= 0 or self._draining:
                    return known
                waiting.key = known.key
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left, _LOOK_AGAIN)):
                        await waiting.news.wait()
                if waiting.ended is not None:
                    return waiting.ended
                waiting.news.clear()
        finally:
            self._waiting.remove(waiting)

    def settled(self, known: Known) -> None:
        """A job ended: whoever waits for it hears of it."""
        for waiting in self._waiting:
            waiting.hear(known)

    def drain(self) -> None:
        """From now on nobody waits: the daemon is stopping, and they hear what is known."""
        self._draining = True
        for waiting in self._waiting:
            waiting.news.set()

    async def jobs(self, org: str, states: Sequence[str], before: str | None, most: int) -> tuple[list[Known], bool]:
        """A page of an organisation's jobs, the newest first: those that are older than the one with the key `before`;
        and whether there are more."""
        return await self.ask(lambda c: table.page(c, most, _PAGE_LETTERS, states, org, before))

    async def cancel(self, org: str, id: str) -> Known | None:
        """Ends a job that waits, and asks one that runs to end; None where there is none."""
        if await self.ask(lambda c: table.cancel(c, org, id)) is None:
            return None
        known = await self.job(org, id)
        if known is not None and known.is_over:
            self.settled(known)
        return known

    async def retry(self, org: str, id: str) -> Known | None:
        """Queues a failed job anew; None where there is none. Raises FailedPrecondition where it has not failed, and
        Overloaded."""
        closed = self.refusal()

        def again(connection: Connection) -> Known | None:
            state = table.retry(connection, org, id)
            known = table.get(connection, org, id)
            if known is not None and state != FAILED:
                raise FailedPrecondition(f"job {id!r} is {known.status}: only failed jobs can be run again")
            if known is not None and closed is not None:
                raise closed  # it undoes what was changed
            return known

        known = await self.ask(again)
        if known is not None:
            self._accepted(False)  # what it owes sleeps until it is over
        return known

    # Videos.

    async def register(self, org: Organisation, id: str, source: str, channel: str | None) -> Video:
        """Probes a source and makes it a video. Raises SourceFailure, and Conflict where the id or the channel is
        another organisation's."""
        seen = await look(self._sources, self._probe, source, org.roots)
        return await self.ask(lambda c: register(c, org.name, id, seen, channel))

    async def video(self, id: str) -> Video | None:
        """Of whatever organisation."""
        return await self.ask(lambda c: videos.get(c, id))

    async def videos(self, org: str, after: str, most: int) -> Sequence[Video]:
        return await self.ask(lambda c: videos.list_of(c, org, after, most))

    async def remove_video(self, org: str, id: str) -> None:
        """Raises NotFound."""
        if not await self.ask(lambda c: videos.remove(c, org, id)):
            raise NotFound(f"there is no video {id!r}")

    # What was published.

    def file_url(self, path: str, life: int | None = None) -> str:
        """A signed URL of a published file, good for `life` seconds: the bucket's own where the store is one."""
        life = life or self.terms.url_life
        # Whole minutes, so that what is asked for twice is one picture to a browser's cache.
        url = self.store.url(path, int(time()) // 60 * 60, life // 60 * 60 + 60)
        return url or self.signed_url("GET", f"/files/{quote(path)}", life)

    def signed_url(self, method: str, place: str, life: int | None = None) -> str:
        """A URL at which this method may be used without a key, for `life` seconds."""
        expires = (int(time()) + (life or self.terms.url_life)) // 60 * 60 + 60
        return f"{self.terms.public_url}{place}?{self.signer.sign(method, place, expires)}"
