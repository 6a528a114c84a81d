"""What was changed, for those who ask later, or ask for the same change twice. All of it is done when it is told."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, delete, insert, select, update

from daemon.catalogue.thumbnails import Thumbnail
from daemon.errors import BadRequest, Complaint
from daemon.tables import now, operations
from daemon.ulid import new_ulid

Kind = Literal["create", "delete"]

REMEMBERED = 24 * 3600.0  # seconds in which a request that comes again under its key is the one that was


@dataclass(frozen=True)
class Operation:
    """`thumbnail` as it was then. `created_at` in seconds since 1970."""

    id: str
    org: str
    kind: Kind
    thumbnail: Thumbnail
    created_at: float


@dataclass(frozen=True)
class Repeat:
    """A request that its sender may send again, under the same `key`."""

    key: str
    request: bytes

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.request).hexdigest()


def change(
    connection: Connection, org: str, kind: Kind, repeat: Repeat | None, make: Callable[[], Thumbnail]
) -> Operation:
    """Makes a change and remembers it; or the operation that was, where its request came before. Raises BadRequest
    where the key was another request's."""
    if repeat is not None and (before := _of_key(connection, org, repeat.key)) is not None:
        if before.request != repeat.hash:
            message = "it was given with another request before: take a new one for each request"
            raise BadRequest(f"idempotency key: {message}", [Complaint(message, "idempotency-key", repeat.key)])
        return _operation(before)
    values = {
        "id": new_ulid(),
        "org": org,
        "kind": kind,
        "thumbnail": json.dumps(asdict(make())),
        "created_at": now(),
        "request_key": repeat.key if repeat else None,
        "request": repeat.hash if repeat else None,
    }
    return _operation(connection.execute(insert(operations).values(values).returning(operations)).one())


def get(connection: Connection, org: str, id: str) -> Operation | None:
    row = connection.execute(select(operations).where(operations.c.id == id, operations.c.org == org)).first()
    return None if row is None else _operation(row)


def forget(connection: Connection, older_than: float, most: int = 1000) -> int:
    """Removes operations of more than `older_than` seconds ago; how many."""
    old = select(operations.c.id).where(operations.c.created_at < now() - older_than).limit(most)
    return connection.execute(delete(operations).where(operations.c.id.in_(old))).rowcount


def _of_key(connection: Connection, org: str, key: str) -> Row[Any] | None:
    mine = operations.c.org == org, operations.c.request_key == key
    old = update(operations).where(*mine, operations.c.created_at < now() - REMEMBERED)
    connection.execute(old.values(request_key=None, request=None))
    return connection.execute(select(operations).where(*mine)).first()


def _operation(row: Row[Any]) -> Operation:
    return Operation(row.id, row.org, row.kind, Thumbnail(**json.loads(row.thumbnail)), row.created_at)
