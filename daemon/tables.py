"""All tables. SQLAlchemy Core; SQLite and PostgreSQL take the same statements. Times are seconds since 1970."""

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
    Index("jobs_newest", "org", "key"),
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

orgs = Table(
    "orgs",
    metadata,
    Column("name", Text, primary_key=True),
    Column("created_at", Float, nullable=False),
    Column("max_running", Integer),  # jobs at once; null: as many as there are workers for
    Column("roots", Text),  # JSON list: folders that it may read; null: all that the daemon may
    Column("webhook_secret", Text, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("hash", Text, primary_key=True),  # SHA-256 of the key, which is nowhere
    Column("org", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Index("api_keys_by_org", "org"),
)

videos = Table(
    "videos",
    metadata,
    Column("id", Text, primary_key=True),  # what the services call it, in the whole daemon
    Column("revision", Text, nullable=False, unique=True),  # a ULID: another one where its pictures may differ
    Column("org", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("identity", Text),  # of the source when it was probed
    Column("duration", Float, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("codec", Text, nullable=False),
    Column("fps", Float),
    Column("created_at", Float, nullable=False),
    Index("videos_by_org", "org", "id"),
    Index("videos_by_channel", "channel"),
    Index("videos_by_identity", "org", "identity"),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("id", Text, primary_key=True),  # a ULID
    Column("org", Text, nullable=False),
    Column("job", Text, nullable=False),  # the key of the job that made it
    Column("job_id", Text, nullable=False),
    Column("output", Text, nullable=False),  # thumbnail, sprite …
    Column("destination", Text, nullable=False),  # the folder of the job, below the store's root
    Column("path", Text, nullable=False),  # below the store's root
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("report", Text, nullable=False),  # the output's part of the report, as JSON
    Column("source", Text),  # the facts of the source in that report, as JSON
    Column("revision", Text),  # of the video that it was made from, where the job named one
    Column("identity", Text),  # of the source
    Column("recipe", Text),  # what it is made of and how, as a hash: equal ones have equal pictures
    Column("created_at", Float, nullable=False),
    Column("published", Boolean, nullable=False, default=False),
    Column("removed", Boolean, nullable=False, default=False),  # no thumbnail of its video any more; the file stays
    Index("artifacts_by_job", "job"),
    Index("artifacts_by_job_id", "org", "job_id"),
    Index("artifacts_by_destination", "destination"),
    Index("artifacts_by_recipe", "org", "recipe"),
    Index("artifacts_by_revision", "revision"),
    Index("artifacts_by_identity", "org", "identity"),
)

created_thumbnails = Table(
    "created_thumbnails",
    metadata,
    Column("id", Text, primary_key=True),  # a ULID
    Column("org", Text, nullable=False),
    Column("video", Text),  # whose thumbnail it is; null: its channel's
    Column("channel", Text),  # where it has no video
    Column("created_at", Float, nullable=False),
    Column("path", Text),  # below the store's root; null: nothing was uploaded yet
    Column("sha256", Text),  # of the file, hexadecimal
    Index("created_thumbnails_by_video", "org", "video", "id"),
    Index("created_thumbnails_by_channel", "org", "channel", "id"),
)

operations = Table(
    "operations",
    metadata,
    Column("id", Text, primary_key=True),  # a ULID
    Column("org", Text, nullable=False),
    Column("kind", Text, nullable=False),  # create, delete
    Column("thumbnail", Text, nullable=False),  # as it was then, as JSON
    Column("created_at", Float, nullable=False),
    Column("request_key", Text),  # under which the same request may come again
    Column("request", Text),  # the hash of that request
    Index("operations_by_request", "org", "request_key", unique=True),
    Index("operations_by_age", "created_at"),
)

quotas = Table(
    "quotas",
    metadata,
    Column("org", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("begun_at", Float, nullable=False),  # of the window that is counted
    Column("used", Integer, nullable=False),
)

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("secret", Text, nullable=False),  # hexadecimal
    Column("created_at", Float, nullable=False),
)

qencode_tokens = Table(
    "qencode_tokens",
    metadata,
    Column("hash", Text, primary_key=True),  # SHA-256 of the token, which is nowhere
    Column("org", Text, nullable=False),
    Column("expires_at", Float, nullable=False),
    Index("qencode_tokens_expired", "expires_at"),
)

qencode_tasks = Table(
    "qencode_tasks",
    metadata,
    Column("token", Text, primary_key=True),
    Column("org", Text, nullable=False),
    Column("job", Text),  # what the outside calls it; null until the task is started
    Column("created_at", Float, nullable=False),
    Index("qencode_tasks_by_job", "org", "job"),
    Index("qencode_tasks_oldest", "created_at"),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", Text, primary_key=True),  # a UUID; also the name of its file
    Column("org", Text, nullable=False),
    Column("task", Text, nullable=False),  # the token of the task under which it came
    Column("length", BigInteger, nullable=False),  # bytes that it has in the end
    Column("received", BigInteger, nullable=False),  # bytes that are on the disk for good
    Column("about", Text, nullable=False),  # its Upload-Metadata, as the client said it
    Column("expires_at", Float, nullable=False),
    Index("uploads_by_org", "org"),
    Index("uploads_expired", "expires_at"),
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
