"""Uploads: files that clients bring themselves, in as many pieces as it takes. `daemon.uploads` has the bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from daemon.errors import QuotaExceeded
from daemon.tables import ENDED, jobs, now, orgs, uploads

SCHEME = "tus:"


@dataclass(frozen=True)
class Upload:
    """`length`: bytes that it has in the end; `received`: how many of them are on the disk for good; `about`: what its
    client said of it; `expires_at` in seconds since 1970."""

    id: str
    org: str
    task: str
    length: int
    received: int
    about: str
    expires_at: float

    @property
    def complete(self) -> bool:
        return self.received == self.length


def create(connection: Connection, org: str, task: str, length: int, about: str, life: float, allowed: int) -> Upload:
    """A new one, nothing of it received. Raises QuotaExceeded where all of the organisation's would have more than
    `allowed` bytes."""
    # One at a time of an organisation, or two of them could be counted as none.
    connection.execute(select(orgs.c.name).where(orgs.c.name == org).with_for_update())
    # With those that have expired and are not swept yet: jobs may want them.
    mine = select(func.sum(uploads.c.length)).where(uploads.c.org == org)
    if int(connection.execute(mine).scalar() or 0) + length > allowed:
        raise QuotaExceeded(f"{allowed} bytes of uploads are allowed at a time, this one would be more", 3600)
    values = {"id": str(uuid4()), "org": org, "task": task, "length": length, "received": 0, "about": about}
    made = insert(uploads).values(**values, expires_at=now() + life).returning(uploads)
    return _upload(connection.execute(made).one())


def still_coming(connection: Connection) -> int:
    """Bytes that were announced and have not been received, of all organisations."""
    left = select(func.sum(uploads.c.length - uploads.c.received)).where(uploads.c.expires_at > now())
    return int(connection.execute(left).scalar() or 0)


def get(connection: Connection, id: str) -> Upload | None:
    row = connection.execute(select(uploads).where(uploads.c.id == id, uploads.c.expires_at > now())).first()
    return None if row is None else _upload(row)


def receive(connection: Connection, id: str, before: int, after: int, life: float) -> Upload | None:
    """More of it is on the disk; None where it is gone, or somebody else has received some."""
    mine = update(uploads).where(uploads.c.id == id, uploads.c.received == before)
    row = connection.execute(mine.values(received=after, expires_at=now() + life).returning(uploads)).first()
    return None if row is None else _upload(row)


def remove(connection: Connection, id: str) -> bool:
    return bool(connection.execute(delete(uploads).where(uploads.c.id == id)).rowcount)


def remove_expired(connection: Connection) -> int:
    """All but those that a job still waits for; how many."""
    wanted = select(jobs.c.key).where(
        jobs.c.state.not_in(ENDED), jobs.c.org == uploads.c.org, jobs.c.source == SCHEME + uploads.c.id
    )
    old = delete(uploads).where(uploads.c.expires_at <= now(), ~wanted.exists())
    return connection.execute(old).rowcount


def unknown(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Those of these ids that there is no upload of."""
    known = connection.execute(select(uploads.c.id).where(uploads.c.id.in_(ids))).scalars()
    return set(ids) - set(known)


def complete_one(connection: Connection, org: str, id: str) -> Upload | None:
    """An organisation's own, where all of it is here. It may have expired: who asks has waited for it."""
    row = connection.execute(select(uploads).where(uploads.c.id == id, uploads.c.org == org)).first()
    upload = None if row is None else _upload(row)
    return upload if upload is not None and upload.complete else None


def _upload(row: Row[Any]) -> Upload:
    return Upload(row.id, row.org, row.task, row.length, row.received, row.about, row.expires_at)
