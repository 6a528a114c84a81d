"""Tokens and tasks of Qencode's API. A token is shown once and kept as its SHA-256; a task's own token is its name."""

import hashlib
import secrets
from dataclasses import dataclass

from sqlalchemy import Connection, and_, delete, insert, select, update

from daemon.tables import now, qencode_tasks, qencode_tokens


@dataclass(frozen=True)
class QencodeTask:
    """`job` is the id of its job, None until it is started."""

    token: str
    org: str
    job: str | None


def give_token(connection: Connection, org: str, life: float) -> tuple[str, float]:
    """A new token of an organisation, and when it expires, in seconds since 1970."""
    token = secrets.token_hex(16)
    expires = insert(qencode_tokens).values(hash=_hash(token), org=org, expires_at=now() + life)
    return token, connection.execute(expires.returning(qencode_tokens.c.expires_at)).scalar_one()


def org_of_token(connection: Connection, token: str) -> str | None:
    """Whose token this is; None for a wrong or expired one."""
    mine = and_(qencode_tokens.c.hash == _hash(token), qencode_tokens.c.expires_at > now())
    return connection.execute(select(qencode_tokens.c.org).where(mine)).scalar()


def create_task(connection: Connection, org: str) -> QencodeTask:
    token = secrets.token_hex(16)
    connection.execute(insert(qencode_tasks).values(token=token, org=org, created_at=now()))
    return QencodeTask(token, org, None)


def task(connection: Connection, token: str) -> QencodeTask | None:
    row = connection.execute(select(qencode_tasks).where(qencode_tasks.c.token == token)).first()
    return None if row is None else QencodeTask(row.token, row.org, row.job)


def task_of_job(connection: Connection, org: str, job: str) -> str | None:
    """The token of the task that a job is of."""
    mine = and_(qencode_tasks.c.org == org, qencode_tasks.c.job == job)
    return connection.execute(select(qencode_tasks.c.token).where(mine)).scalar()


def start(connection: Connection, token: str, job: str) -> bool:
    """Gives a task its job; False where it has one already."""
    waiting = and_(qencode_tasks.c.token == token, qencode_tasks.c.job.is_(None))
    return bool(connection.execute(update(qencode_tasks).where(waiting).values(job=job)).rowcount)


def forget(connection: Connection, unstarted: float, started: float) -> None:
    """Removes tokens that expired, and tasks that are older than so many seconds."""
    connection.execute(delete(qencode_tokens).where(qencode_tokens.c.expires_at < now()))
    age = now() - qencode_tasks.c.created_at
    never = and_(qencode_tasks.c.job.is_(None), age > unstarted)
    connection.execute(delete(qencode_tasks).where(never | (age > started)))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
