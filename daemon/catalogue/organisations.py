"""Organisations and their API keys. A key is shown once and kept as its SHA-256 only."""

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, or_, select, update

from daemon.tables import api_keys, now, orgs

PREFIX = "thumbd_"
DEFAULT = "default"
DEFAULT_MAX_RUNNING = 5


@dataclass(frozen=True)
class Organisation:
    """`max_running`: its jobs at once, None without limit. `roots`: folders that it may read, None for all that the
    daemon may. `webhook_secret` signs its callbacks. `keys`: how many API keys are good."""

    name: str
    max_running: int | None
    roots: tuple[Path, ...] | None
    webhook_secret: str = field(repr=False)
    keys: int = 0


def add(connection: Connection, name: str, roots: Sequence[Path], max_running: int | None) -> str | None:
    """A new organisation's first API key; None where the name is taken."""
    if connection.execute(select(orgs.c.name).where(orgs.c.name == name)).first():
        return None
    values = {
        "name": name,
        "created_at": now(),
        "max_running": max_running,
        "roots": json.dumps([str(root) for root in roots]) if roots else None,
        "webhook_secret": secrets.token_hex(32),
    }
    connection.execute(insert(orgs).values(values))
    return _new_key(connection, name)


def rotate(connection: Connection, name: str, overlap: float) -> str | None:
    """A new API key; those before it end after `overlap` seconds. None where there is no such organisation."""
    if get(connection, name) is None:
        return None
    ending = now() + overlap
    older = or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > ending)
    connection.execute(update(api_keys).where(api_keys.c.org == name, older).values(expires_at=ending))
    return _new_key(connection, name)


def remove(connection: Connection, name: str) -> bool:
    """Takes its keys away. Its jobs, videos and pictures stay: a name that is added again has them again."""
    connection.execute(delete(api_keys).where(api_keys.c.org == name))
    return bool(connection.execute(delete(orgs).where(orgs.c.name == name)).rowcount)


def get(connection: Connection, name: str) -> Organisation | None:
    row = connection.execute(_BY_NAME, {"its_name": name}).first()
    return None if row is None else _organisation(row)


def all_of_them(connection: Connection) -> list[Organisation]:
    keys = select(func.count()).where(api_keys.c.org == orgs.c.name, _GOOD).scalar_subquery()
    rows = connection.execute(select(orgs, keys.label("keys")).order_by(orgs.c.name))
    return [_organisation(row, row.keys) for row in rows]


def of_key(connection: Connection, key: str) -> Organisation | None:
    """Whose key this is; None for a wrong or expired one. What is looked up is a hash: how long that takes tells
    nothing of any key."""
    row = connection.execute(_BY_KEY, {"its_hash": digest(key)}).first()
    return None if row is None else _organisation(row)


def caps(connection: Connection) -> dict[str, int]:
    """Organisation -> how many of its jobs may run at once, where that is limited."""
    return {row.name: row.max_running for row in connection.execute(_LIMITED)}


def _new_key(connection: Connection, name: str) -> str:
    key = PREFIX + secrets.token_urlsafe(32)
    connection.execute(insert(api_keys).values(hash=digest(key), org=name, created_at=now()))
    return key


def digest(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


def _organisation(row: Row[Any], keys: int = 0) -> Organisation:
    roots = None if row.roots is None else tuple(Path(root) for root in json.loads(row.roots))
    return Organisation(row.name, row.max_running, roots, row.webhook_secret, keys)


# What every request or job asks, built once.

_GOOD = or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > now())
_BY_KEY = (
    select(orgs).join(api_keys, api_keys.c.org == orgs.c.name).where(api_keys.c.hash == bindparam("its_hash"), _GOOD)
)
_BY_NAME = select(orgs).where(orgs.c.name == bindparam("its_name"))
_LIMITED = select(orgs.c.name, orgs.c.max_running).where(orgs.c.max_running.is_not(None))
