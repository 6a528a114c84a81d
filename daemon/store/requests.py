"""Requests to a bucket from any thread: they go out on a thread of their own, several at once, and again where they
failed for a reason that may pass."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from daemon.errors import StoreFailure, TargetFailure
from daemon.net import Client, Reach
from daemon.s3 import S3Bucket

T = TypeVar("T")

_AT_ONCE = 16  # requests
_TRIES = 3  # of a request that failed for a reason that may pass
_AGAIN = 0.3  # seconds before the second; twice as long before the third
_SILENCE = 20.0  # seconds without any progress


@dataclass(frozen=True)
class Place:
    """Where the bucket is. `origin`: such as `https://s3.eu-west-2.amazonaws.com`; `prefix`: "", or it ends with a
    slash."""

    origin: str
    bucket: str
    prefix: str
    region: str
    key: str = field(repr=False)
    secret: str = field(repr=False)

    def objects(self) -> S3Bucket:
        """With connections of its own, for one event loop."""
        client = Client(Reach([urlsplit(self.origin).netloc]))  # the settings name it: its address may be any
        return S3Bucket(client, self.origin, self.bucket, self.region, self.key, self.secret, timeout=_SILENCE)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix} at {self.origin}"


class Requests:
    """Whoever calls waits for the answer, and must not be the thread of an event loop."""

    def __init__(self, place: Place) -> None:
        self._objects = place.objects()
        self._beginning = threading.Lock()
        self._at_work: tuple[asyncio.AbstractEventLoop, threading.Thread] | None = None
        self.failures = 0  # of requests, since it began

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        with self._beginning:
            if self._at_work is None:
                loop = asyncio.new_event_loop()
                self._at_work = loop, threading.Thread(target=loop.run_forever, name="bucket", daemon=True)
                self._at_work[1].start()
        return asyncio.run_coroutine_threadsafe(work, self._at_work[0]).result()

    async def _tried(self, work: Callable[[S3Bucket], Awaitable[T]]) -> T:
        for failed in range(1, _TRIES + 1):
            try:
                return await work(self._objects)
            except TargetFailure as failure:
                self.failures += 1
                if not failure.retry or failed == _TRIES:
                    raise
                await asyncio.sleep(_AGAIN * 2 ** (failed - 1))
        raise AssertionError("it is tried once at least")

    def do(self, work: Callable[[S3Bucket], Awaitable[T]]) -> T:
        """The result of what may be done twice. Raises what it raises."""
        return self._run(self._tried(work))

    def each(self, work: Callable[[S3Bucket, str], Awaitable[None]], names: Iterable[str]) -> None:
        """The same for each name, several at once. Raises the first failure, when nothing of it goes on any more."""
        self._run(self._each(work, names))

    async def _each(self, work: Callable[[S3Bucket, str], Awaitable[None]], names: Iterable[str]) -> None:
        left = iter(names)

        async def line() -> None:
            for name in left:
                await self._tried(lambda objects, name=name: work(objects, name))  # type: ignore[misc]

        try:
            async with asyncio.TaskGroup() as lines:
                for _ in range(_AT_ONCE):
                    lines.create_task(line())
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None

    def close(self) -> None:
        """Ends its thread and its connections; nothing is asked of it afterwards."""
        if self._at_work is not None:
            loop, thread = self._at_work
            self._run(self._objects.client.close())
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


@contextmanager
def store_failures(doing: str) -> Iterator[None]:
    """Whatever the bucket says no to is a StoreFailure."""
    try:
        yield
    except TargetFailure as failure:
        how = "see the settings store.url and store.s3" if not failure.retry else "it will be tried again"
        raise StoreFailure(f"{doing} failed: the bucket: {failure.message} ({how})") from failure
