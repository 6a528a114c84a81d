"""Every way in which thumbd says no.

Each type states once: its `code` (seen by clients and in reports), whether a `retry` can help, and whether the
failure is `charged` to the job's attempts. The text given to the constructor is what a client may see: it names
what is wrong, with which thing, and what to do. The retry policy, exit codes, report entries and metric labels are
all derived from these types; so are the statuses of each protocol.

    Failure
    ├── BadJob              the job itself is wrong
    │   └── AtPastEnd       a time beyond the duration
    ├── BadRequest          what was asked over the network is wrong, each wrong field by its place
    │   └── TooLarge        more bytes than are allowed
    ├── Unauthenticated     no API key, or a wrong one
    ├── Forbidden           another organisation's
    ├── NotFound            there is no such thing, or not for this asker
    ├── Conflict            the name is taken
    ├── Later
    │   ├── QuotaExceeded   an hour's allowance is used
    │   └── Overloaded      too much waits, or the daemon is stopping
    ├── SourceFailure       the source is wrong
    │   ├── SourceMissing   nothing there
    │   ├── SourceRefused   outside the allowed roots, a link, a device, too large
    │   ├── SourceEmpty     zero bytes
    │   ├── NotAVideo       no container or no picture in it that we can read
    │   ├── DecodeFailed    a video, but this picture does not come out
    │   └── SourceUnreadable    the disk or network said no: may pass
    │       └── SourceChanged   it is another file than when it was opened
    ├── WorkerFailure       the process that decoded
    │   ├── WorkerDied, WorkerStalled, WorkerTimeout, WorkerLied
    │   └── DeviceLost      it died of its card
    ├── StoreFailure        the place for the pictures is full or broken: the job waits
    ├── TargetFailure       whom a callback or a delivery is for did not take it: may pass
    │   └── TargetRefused   nor will it: a wrong key, no such bucket, an address that nobody may call
    ├── DeviceMissing       a named device is not there
    ├── Cancelled           somebody said stop
    ├── LeaseLost           another attempt owns the job now
    └── Interrupted         the daemon is stopping: given back, not charged
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


class Failure(Exception):
    """Base of all expected failures. `output` is the name of the output that failed, None for the whole job."""

    code: ClassVar[str] = "failed"
    retry: ClassVar[bool] = False
    charged: ClassVar[bool] = True

    def __init__(self, message: str, *, output: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.output = output

    def as_dict(self) -> dict[str, Any]:
        """The `error` object of a report."""
        return {"code": self.code, "message": self.message, "output": self.output}


class BadJob(Failure):
    code = "bad_job"


@dataclass(frozen=True)
class Complaint:
    """One wrong value: what is wrong, at which `place` (as in `body.outputs[0].width`), and the value itself."""

    message: str
    place: str
    value: Any = None


class BadRequest(Failure):
    code = "bad_request"

    def __init__(self, message: str, complaints: Sequence[Complaint] = (), *, output: str | None = None) -> None:
        super().__init__(message, output=output)
        self.complaints = tuple(complaints)


class TooLarge(BadRequest):
    code = "too_large"


class Unauthenticated(Failure):
    code = "unauthenticated"


class Forbidden(Failure):
    code = "forbidden"


class NotFound(Failure):
    code = "not_found"


class Conflict(Failure):
    code = "conflict"


class Later(Failure):
    """The same may be asked again after `retry_after` seconds."""

    code = "later"
    retry = True

    def __init__(self, message: str, retry_after: int = 1, *, output: str | None = None) -> None:
        super().__init__(message, output=output)
        self.retry_after = retry_after


class QuotaExceeded(Later):
    code = "quota_exceeded"


class Overloaded(Later):
    code = "overloaded"


class AtPastEnd(BadJob):
    code = "at_past_end"


class SourceFailure(Failure):
    code = "source_failed"

    def named(self, source: str) -> "SourceFailure":
        """The same failure, its message naming the source; a worker does not know what its source is called."""
        place = f"source {shown(source)!r}: "
        if self.message.startswith(place):
            return self
        return type(self)(place + self.message, output=self.output)


def shown(source: str) -> str:
    """A source as anybody may see it: a URL without its user, query and fragment, which may be secrets."""
    scheme, is_url, rest = source.partition("://")
    if not is_url:
        return source
    authority, slash, path = rest.partition("?")[0].partition("#")[0].partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


class SourceMissing(SourceFailure):
    code = "source_missing"


class SourceRefused(SourceFailure):
    code = "source_refused"


class SourceEmpty(SourceFailure):
    code = "source_empty"


class NotAVideo(SourceFailure):
    code = "not_a_video"


class DecodeFailed(SourceFailure):
    code = "decode_failed"


class SourceUnreadable(SourceFailure):
    code = "source_unreadable"
    retry = True


class SourceChanged(SourceUnreadable):
    code = "source_changed"


class WorkerFailure(Failure):
    code = "worker_failed"
    retry = True


class WorkerDied(WorkerFailure):
    code = "worker_died"


class DeviceLost(WorkerFailure):
    """A worker whose card, or its own part of it, is in a state that only a new process can leave."""

    code = "device_lost"


class WorkerStalled(WorkerFailure):
    code = "worker_stalled"


class WorkerTimeout(WorkerFailure):
    code = "worker_timeout"
    retry = False


class WorkerLied(WorkerFailure):
    """A worker sent what its task did not ask for: its memory can no longer be trusted."""

    code = "worker_lied"


class StoreFailure(Failure):
    code = "store_failed"
    retry = True
    charged = False


class TargetFailure(Failure):
    code = "target_failed"
    retry = True


class TargetRefused(TargetFailure):
    code = "target_refused"
    retry = False


class DeviceMissing(Failure):
    code = "device_missing"


class Cancelled(Failure):
    code = "cancelled"


class LeaseLost(Failure):
    code = "lease_lost"


class Interrupted(Failure):
    code = "interrupted"
    retry = True
    charged = False


def _tree(base: type[Failure]) -> dict[str, type[Failure]]:
    found = {base.code: base}
    for child in base.__subclasses__():
        found |= _tree(child)
    return found


BY_CODE = _tree(Failure)


def from_dict(error: dict[str, Any]) -> Failure:
    """The inverse of `Failure.as_dict`; an unknown code becomes a plain `Failure`."""
    kind = BY_CODE.get(str(error.get("code")), Failure)
    output = error.get("output")
    return kind(str(error.get("message", ""))[:1000], output=None if output is None else str(output)[:200])
