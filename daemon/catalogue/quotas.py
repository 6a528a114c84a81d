"""How much of an hour's allowance an organisation has used. One row for each; exact, whoever asks at the same time."""

from functools import cache
from math import ceil
from typing import Any

from sqlalchemy import Connection, Float, Integer, bindparam, case, select
from sqlalchemy.dialects import postgresql, sqlite

from daemon.errors import QuotaExceeded
from daemon.tables import now, quotas

HOUR = 3600.0


def spend(connection: Connection, org: str, name: str, allowed: int, window: float = HOUR) -> None:
    """Counts one use. A window of `window` seconds begins with the first use after the last one's end. Raises
    QuotaExceeded, having counted nothing, where all `allowed` ones are used."""
    asked = {"org": org, "name": name, "allowed": allowed, "window": window}
    if allowed > 0 and connection.execute(_count(connection.dialect.name), asked).first():
        return
    mine = select(quotas.c.begun_at + window - now()).where(quotas.c.org == org, quotas.c.name == name)
    left = connection.execute(mine).scalar() if allowed > 0 else window
    raise QuotaExceeded(
        f"{allowed} {name} in {window / 60:g} minutes are allowed, and they are used",
        retry_after=max(1, ceil(left or 1)),
    )


@cache  # building it takes several times as long as asking it
def _count(dialect: str) -> Any:
    insert = postgresql.insert(quotas) if dialect == "postgresql" else sqlite.insert(quotas)
    fresh = quotas.c.begun_at <= now() - bindparam("window", type_=Float)
    return (
        insert.values(org=bindparam("org"), name=bindparam("name"), begun_at=now(), used=1)
        .on_conflict_do_update(
            index_elements=[quotas.c.org, quotas.c.name],
            set_={
                "begun_at": case((fresh, now()), else_=quotas.c.begun_at),
                "used": case((fresh, 1), else_=quotas.c.used + 1),
            },
            where=fresh | (quotas.c.used < bindparam("allowed", type_=Integer)),
        )
        .returning(quotas.c.used)
    )
