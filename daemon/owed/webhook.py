"""Callbacks: a job's report, posted to the URL that the job named, signed so that it is known whose it is."""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from typing import Any

from sqlalchemy import Connection

from daemon.database import Database
from daemon.errors import TargetFailure, TargetRefused
from daemon.jobs import errands, table
from daemon.jobs.errands import Errand
from daemon.jobs.row import Known
from daemon.net import FAILED, AddressRefused, Client, Reach, reason_of
from daemon.threads import in_thread

_PASSING = (408, 425, 429)


@dataclass(frozen=True)
class Occasion:
    """What a callback tells of, as it is when it is sent. `target`: as the errand has it; `owed`: all that the job
    owes."""

    event: str
    target: Mapping[str, Any]
    job: Known
    owed: tuple[errands.Known, ...]


@dataclass(frozen=True)
class Wording:
    """The body of a callback, and its type."""

    content_type: str
    body: bytes


Renderer = Callable[[Occasion], Awaitable[Wording]]
SecretOf = Callable[[str], Awaitable[bytes | None]]


async def report_as_json(occasion: Occasion) -> Wording:
    """thumbd's own wording: the report, with a warning for each delivery that failed."""
    return await in_thread(_report_as_json, occasion)  # one of a long series takes a while


def _report_as_json(occasion: Occasion) -> Wording:
    report = occasion.job.report
    failed = [owed for owed in occasion.owed if owed.kind == "delivery" and owed.state == "failed"]
    warnings = [f"delivery to {owed.target['target']['url']} failed: {owed.message}" for owed in failed]
    told = report.model_copy(update={"warnings": [*report.warnings, *warnings]})
    return Wording("application/json", told.model_dump_json().encode())


class Webhooks:
    """Pays callbacks. `secret_of` gives the secret of an organisation that its callbacks are signed with, or None;
    `renderers`: by dialect. `allowed_hosts` may have private addresses."""

    def __init__(
        self,
        database: Database,
        allowed_hosts: tuple[str, ...],
        timeout: float,
        secret_of: SecretOf,
        renderers: Mapping[str, Renderer],
    ) -> None:
        self._database = database
        self._timeout = timeout
        self._secret_of = secret_of
        self._renderers = {"": report_as_json, **renderers}
        self._client = Client(Reach(allowed_hosts), reused=False)

    async def pay(self, errand: Errand) -> str:
        """Posts it. Raises TargetFailure, or TargetRefused where there is no use in saying it again."""

        def look(connection: Connection) -> tuple[Known | None, tuple[errands.Known, ...]]:
            return table.get_by_key(connection, errand.job), tuple(errands.of(connection, errand.job))

        job, owed = await self._database.run(look)
        if job is None or errand.dialect not in self._renderers:
            raise TargetRefused("nobody knows any more what was to be said")
        wording = await self._renderers[errand.dialect](Occasion(errand.event, errand.target, job, owed))
        headers = {
            "Content-Type": wording.content_type,
            "User-Agent": f"thumbd/{version('thumbd')}",
            "Thumbd-Event": errand.event,
            "Thumbd-Delivery": errand.key,
            **signed(wording.body, int(time.time()), await self._secret_of(errand.org)),
        }
        status = await self._post(errand.target["url"], headers, wording.body)
        if 200 <= status < 300:
            return f"answered {status}"
        if 400 <= status < 500 and status not in _PASSING:
            raise TargetRefused(f"answered {status}")
        raise TargetFailure(f"answered {status}" + (": redirects are not followed" if 300 <= status < 400 else ""))

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._client.ask("POST", url, headers, body, silence=self._timeout) as answer,
            ):
                return answer.status  # and whatever else it says is not listened to
        except AddressRefused as refused:
            raise TargetRefused(f"{refused.message} (setting webhooks.allowed_hosts)") from None
        except FAILED as error:
            raise TargetFailure(reason_of(error)) from error

    async def close(self) -> None:
        await self._client.close()


def signed(body: bytes, timestamp: int, secret: bytes | None) -> dict[str, str]:
    """The headers that say when it was said and, where there is a secret, prove by whom: HMAC-SHA256 over
    `<timestamp>.<body>`."""
    headers = {"Thumbd-Timestamp": str(timestamp)}
    if secret:
        headers["Thumbd-Signature"] = "v1=" + hmac.new(secret, f"{timestamp}.".encode() + body, sha256).hexdigest()
    return headers
