"""What a job will owe, taken out of it before it is stored: callbacks, deliveries with their credentials sealed, and
the times at which files expire."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from daemon.errors import BadJob
from daemon.job import Job
from daemon.jobs.errands import Event, NewErrand
from daemon.outputs import Output
from daemon.owed.secrets import BadKey
from daemon.target import Target
from daemon.ulid import new_ulid

M = TypeVar("M", bound=BaseModel)

_ENDS: tuple[Event, ...] = ("completed", "failed")
_ALL: tuple[Event, ...] = ("queued", *_ENDS)


@dataclass(frozen=True)
class Promise:
    """Takes what is owed out of jobs. `refusal_of` says why a delivery to a target can never be, or None;
    `told_of_all`: dialects whose callbacks tell that a job is queued, too."""

    seal: Callable[[str, str], str]
    callbacks: bool
    refusal_of: Callable[[Target], str | None]
    told_of_all: frozenset[str] = frozenset()

    def of(self, job: Job, dialect: str = "") -> tuple[Job, tuple[NewErrand, ...]]:
        """The job without it, and the errands. Raises BadJob where this daemon does not do such a thing."""
        errands = (*self._callbacks(job, dialect), *self._deliveries(job), *self._expiries(job))
        owing: dict[str, Any] = {"deliver": (), "ttl": None}
        bare = _less(job, {**owing, "callback_url": None})
        return bare.model_copy(update={"outputs": tuple(_less(output, owing) for output in job.outputs)}), errands

    def _callbacks(self, job: Job, dialect: str) -> Iterator[NewErrand]:
        if job.callback_url is None:
            return
        if not self.callbacks:
            raise BadJob("callback_url: this daemon calls nobody back (setting webhooks.enabled)")
        for event in _ALL if dialect in self.told_of_all else _ENDS:
            yield NewErrand(new_ulid(), "callback", event, {"url": job.callback_url}, dialect)

    def _deliveries(self, job: Job) -> Iterator[NewErrand]:
        for number, target in enumerate(job.deliver):
            yield self._delivery(target, None, f"deliver[{number}]")
        for place, output in enumerate(job.outputs):
            for number, target in enumerate(output.deliver):
                yield self._delivery(target, output, f"outputs[{place}].deliver[{number}]")

    def _delivery(self, target: Target, output: Output | None, place: str) -> NewErrand:
        if why := self.refusal_of(target):
            raise BadJob(f"{place}: {why}")
        key = new_ulid()
        where = {"target": target.open_part(), "output": output and output.name}
        try:
            sealed = self.seal(json.dumps(target.sealed_part()), key)
        except BadKey as bad:
            raise BadJob(f"{place}: its credentials cannot be sealed: {bad.message}") from None
        return NewErrand(key, "delivery", "completed", where, secret=sealed)

    def _expiries(self, job: Job) -> Iterator[NewErrand]:
        """One for all the outputs that expire together."""
        together: defaultdict[float, list[str]] = defaultdict(list)
        for output in job.outputs:
            if (ttl := output.ttl or job.ttl) is not None:
                together[float(ttl.value)].append(output.name)
        for seconds, names in together.items():
            yield NewErrand(new_ulid(), "expiry", "completed", {"outputs": names}, delay=seconds)


def _less(model: M, owing: Mapping[str, Any]) -> M:
    """As if these were never said."""
    bare = model.model_copy(update=owing)
    bare.model_fields_set.difference_update(owing)
    return bare


def refuse_owing(job: Job) -> None:
    """Raises BadJob where a job asks for what comes after it, which only a daemon does."""
    said = {
        "callback_url": job.callback_url,
        "deliver": job.deliver or any(output.deliver for output in job.outputs),
        "ttl": job.ttl or any(output.ttl for output in job.outputs),
    }
    for name, asked in said.items():
        if asked:
            raise BadJob(f"{name}: only a daemon does what comes after a job: leave it out, or use `thumbd submit`")
