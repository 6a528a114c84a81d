"""The job table's verbs on a real database, for tests of them: who brings jobs, who runs them, what they owe."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, Row, insert, select, text, update
from sqlalchemy.exc import OperationalError

from daemon.database import Database
from daemon.errors import DecodeFailed
from daemon.jobs import lease, row, table
from daemon.jobs.retry import Policy
from daemon.jobs.row import Held, Publication
from daemon.jobs.table import NewJob
from daemon.report import OutputReport, Report
from daemon.tables import QUEUED, jobs, now

P = ParamSpec("P")
T = TypeVar("T")

LEASE = 30.0
OVER = -1.0  # a lease that is over as soon as it is given
NOT_YET = 3600.0
POLICY = Policy()


class Verbs:
    """Of one engine, each in a transaction of its own; and those by which any job comes to its end."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __call__(self, verb: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        with self.engine.begin() as connection:
            return verb(connection, *args, **kwargs)

    def hold_again(self, owner: str = "a", seconds: float = LEASE) -> Held:
        """Claims the only job that is due."""
        ((held,),) = self(lease.claim, owner, 1, 0, seconds, {})
        return held

    def publish(self, held: Held, *files: str) -> Publication:
        assert self(lease.publishing, held, report(held, *files)) == "go"
        return Publication(held.key, held.token, held.staging, held.destination)

    def clock(self) -> float:
        with self.engine.begin() as connection:
            return connection.execute(select(now())).scalar_one()


class Ledger(Verbs):
    """Of jobs that owe nothing."""

    def add(self, key: str, org: str = "default", **more: Any) -> bool:
        return self(table.add, new(key, org, **more)) is not None

    def add_many(self, count: int, org: str, source: str | None = None, run_at: float = 0.0) -> None:
        """Queued jobs, quickly; each on a source of its own unless one is given."""
        rows = [
            {
                "key": f"{org}{n:06}",
                "org": org,
                "id": str(n),
                "source": source or f"/media/{org}{n}",
                "destination": f"{org}{n}",
                "priority": 1,
                "job": "{}",
                "state": QUEUED,
                "created_at": n / 1e6,
                "run_at": run_at + n / 1e6,
            }
            for n in range(count)
        ]
        with self.engine.begin() as connection:
            connection.execute(insert(jobs), rows)

    def claim(
        self, owner: str = "a", slots: int = 1, riders: int = 0, caps: Mapping[str, int] | None = None
    ) -> list[list[str]]:
        batches = self(lease.claim, owner, slots, riders, LEASE, caps or {})
        return [[held.key for held in batch] for batch in batches]

    def hold(self, key: str, owner: str = "a", seconds: float = LEASE, **more: Any) -> Held:
        """Adds a job and claims it, there being no other."""
        self.add(key, **more)
        return self.hold_again(owner, seconds)

    def complete(self, held: Held) -> None:
        assert self(lease.complete, self.publish(held))

    def row(self, key: str) -> Row[Any]:
        with self.engine.begin() as connection:
            return connection.execute(select(jobs).where(jobs.c.key == key)).one()

    def state(self, key: str) -> str:
        return str(self.row(key).state)

    def change(self, key: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(update(jobs).where(jobs.c.key == key).values(**values))


class Unheard(Database):
    """Commits, but the answer to the first change whose answer is one that `is_lost` is lost on its way."""

    def __init__(self, engine: Engine, is_lost: Callable[[Any], bool]) -> None:
        super().__init__(engine)
        self.lost = 0
        self._is_lost = is_lost

    async def run(self, change: Callable[[Connection], T]) -> T:
        answer = await super().run(change)
        if not self.lost and self._is_lost(answer):
            self.lost += 1
            raise OperationalError("COMMIT", {}, Exception("the server closed the connection"))
        return answer


def new(key: str, org: str = "default", **more: Any) -> NewJob:
    job = NewJob(key=key, org=org, id=key, source=f"/media/{key}", destination=key, priority=1, job="{}")
    return replace(job, **more)


def report(held: Held, *files: str) -> str:
    """Of a job that completed; where there are files they are of one output."""
    about = {"width": 1, "height": 1, "format": "png", "bytes": 1, "device": "cpu"}
    output = OutputReport(name="o", output="thumbnail", path="", files=list(files), **about)  # type: ignore[arg-type]
    outputs = [output] if files else []
    return Report(id=held.id, org=held.org, status="completed", attempt=held.token, outputs=outputs).model_dump_json()


def failed(held: Held) -> str:
    return row.failed_report(held, DecodeFailed("no"))


def settle(engine: Engine) -> None:
    """What a PostgreSQL server does by itself before long."""
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE jobs"))


def cost(connection: Connection, verb: Callable[[Connection], Any]) -> int:
    """Steps of SQLite's machine; rows that PostgreSQL read."""
    if connection.dialect.name == "postgresql":
        read = text("SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'jobs'")
        before = connection.execute(read).scalar() or 0
        verb(connection)
        return int((connection.execute(read).scalar() or 0) - before)
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    machine = connection.connection.dbapi_connection
    assert machine is not None
    machine.set_progress_handler(count, 1)
    verb(connection)
    machine.set_progress_handler(None, 1)
    return steps
