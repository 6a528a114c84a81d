"""The columns of the job table and of what jobs owe. SQLAlchemy Core; SQLite and PostgreSQL take the same ones."""

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, Table, Text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

metadata = MetaData()

QUEUED, RUNNING, PUBLISHING, COMPLETED, FAILED = "queued", "running", "publishing", "completed", "failed"
STATES = (QUEUED, RUNNING, PUBLISHING, COMPLETED, FAILED)
ENDED = (COMPLETED, FAILED)
DORMANT, DUE, DONE = "dormant", "due", "done"  # of errands, which may also be running and failed

jobs = Table(
    "jobs",
    metadata,
    Column("key", Text, primary_key=True),  # a ULID: also the order in which jobs came
    Column("org", Text, nullable=False),
    Column("id", Text, nullable=False),  # what the outside calls it
    Column("source", Text, nullable=False),
    Column("destination", Text, nullable=False),  # below the store's root
    Column("priority", Integer, nullable=False),  # 0 high, 1 normal, 2 low
    Column("job", Text, nullable=False),  # its JSON
    Column("state", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("run_at", Float, nullable=False),  # not before
    Column("ended_at", Float),
    Column("token", BigInteger, nullable=False, default=0),  # fencing token: the number of claims
    Column("owner", Text),
    Column("lease_until", Float),
    Column("started", Boolean, nullable=False, default=False),  # given to a worker under this token
    Column("starts", Integer, nullable=False, default=0),
    Column("failures", Integer, nullable=False, default=0),  # charged ones
    Column("deaths", Integer, nullable=False, default=0),  # of workers that ran it alone
    Column("lost_starts", Integer, nullable=False, default=0),  # alone, with no outcome: the daemon died too
    Column("suspect", Boolean, nullable=False, default=False),  # runs alone
    Column("cancelled", Boolean, nullable=False, default=False),  # asked to stop
    Column("pictures_made", Integer, nullable=False, default=0),
    Column("pictures_in_all", Integer, nullable=False, default=0),
    Column("staging", Text),  # what is being published
    Column("report", Text),  # as given to the outside
    Column("reports_to", Text, nullable=False, default="[]"),  # JSON list of spool names
    Column("report_due", Boolean, nullable=False, default=False),
    Index("jobs_by_id", "org", "id", unique=True),
    Index("jobs_in_turn", "state", "org", "priority", "run_at", "key"),
    Index("jobs_by_source", "state", "org", "source", "priority", "key"),
    Index("jobs_by_destination", "destination"),
    Index("jobs_leased", "state", "lease_until"),
    Index("jobs_owing", "report_due", "ended_at"),
    Index("jobs_ended", "state", "ended_at"),
)

errands = Table(
    "errands",
    metadata,
    Column("key", Text, primary_key=True),  # a ULID
    Column("job", Text, nullable=False),  # its key
    Column("org", Text, nullable=False),
    Column("kind", Text, nullable=False),  # callback, delivery, expiry
    Column("event", Text, nullable=False),  # the job's state that makes it due: queued, completed, failed
    Column("dialect", Text, nullable=False, default=""),  # who words it; "" is thumbd itself
    Column("target", Text, nullable=False),  # JSON: where to, without credentials
    Column("secret", Text),  # credentials, sealed; gone when it ends
    Column("delay", Float, nullable=False, default=0.0),  # seconds from the event until it is due
    Column("state", Text, nullable=False),  # dormant, due, running, done, failed
    Column("due_at", Float),  # not before
    Column("attempts", Integer, nullable=False, default=0),  # that failed
    Column("token", BigInteger, nullable=False, default=0),  # fencing token: the number of claims
    Column("owner", Text),
    Column("lease_until", Float),
    Column("message", Text),  # what its last attempt said
    Column("created_at", Float, nullable=False),
    Column("ended_at", Float),
    Index("errands_of_job", "job", "kind"),
    Index("errands_in_turn", "state", "kind", "org", "due_at", "key"),
    Index("errands_leased", "state", "lease_until"),
)


class now(FunctionElement[float]):
    """Seconds since 1970 by the database's clock; the same throughout a statement."""

    type = Float()
    inherit_cache = True


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: Any, **options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: Any, **options: Any) -> str:
    return "extract(epoch from statement_timestamp())::double precision"
