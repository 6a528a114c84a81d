"""One database thread: the event loop never waits for a disk, and what comes in together is committed together."""

import asyncio
import queue
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

from sqlalchemy import URL, ColumnDefault, Connection, Engine, create_engine, event, func, inspect, literal, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from daemon.errors import Failure
from daemon.tables import jobs, metadata

T = TypeVar("T")
_AS_LITERAL: Any = {"compile_kwargs": {"literal_binds": True}}
_TOGETHER = 64  # changes a commit, at most
_TABLES_LOCK = 0x7468756C  # of PostgreSQL's advisory locks: daemons that start together make the tables once
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph", "glusterfs", "lustre"})


class BadDatabase(Failure):
    """The database cannot be used as it is set."""

    code = "bad_database"


def open_engine(url: str, *, new: bool = True) -> Engine:
    """The engine of a `sqlite:///` or `postgresql://` URL, its tables made; without `new` only where there are some
    already. Raises BadDatabase."""
    try:
        parsed = make_url(url)
    except Exception as error:
        raise BadDatabase(f"database {url.split('@')[-1]!r} is no URL: write sqlite:///thumbd.db") from error
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise BadDatabase(f"database {parsed.get_backend_name()!r} is not supported: use sqlite or postgresql")
    try:
        if parsed.get_backend_name() == "sqlite":
            if not parsed.database or parsed.database == ":memory:":
                raise BadDatabase("database: a file is needed, as in sqlite:///thumbd.db")
            return _open_sqlite(Path(parsed.database), new)
        return _open_postgresql(parsed, new)
    except ImportError as error:
        raise BadDatabase("database: PostgreSQL needs its driver: pip install 'thumbd[postgres]'") from error
    except (DBAPIError, OSError) as error:
        why = "; ".join(str(getattr(error, "orig", error)).split("\n"))
        raise BadDatabase(f"database {parsed.render_as_string()} cannot be opened: {why}") from error


def _no_database(place: str) -> BadDatabase:
    return BadDatabase(
        f"there is no database at {place} (setting database): start `thumbd serve`, which makes it, or name the "
        "daemon's settings with --config"
    )


def _open_postgresql(url: URL, new: bool) -> Engine:
    engine = create_engine(url.set(drivername="postgresql+psycopg"))
    _prepare(engine, url.render_as_string(), new)
    return engine


def _open_sqlite(path: Path, new: bool) -> Engine:
    if not new and not path.exists():
        raise _no_database(str(path.absolute()))
    path.parent.mkdir(parents=True, exist_ok=True)
    if (kind := _file_system(path.parent)) in _NETWORK:
        raise BadDatabase(f"database {path} lies on a network file system ({kind}), where SQLite's locks do not hold")
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 30, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        # Two connections can corrupt a WAL database of versions 3.7.0 to 3.51.2.
        mode = "WAL" if sqlite3.sqlite_version_info >= (3, 51, 3) else "TRUNCATE"
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=ON")  # what was sealed is gone for good

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    _prepare(engine, str(path.absolute()), new)
    return engine


def _prepare(engine: Engine, place: str, new: bool) -> None:
    try:
        with engine.begin() as connection:
            if not new and not inspect(connection).has_table(jobs.name):
                raise _no_database(place)
            if engine.dialect.name == "postgresql":
                connection.execute(select(func.pg_advisory_xact_lock(_TABLES_LOCK)))
            _make_tables(connection)
    except BaseException:
        engine.dispose()
        raise


def _make_tables(connection: Connection) -> None:
    """Makes the tables, columns and indexes that a database of an older version lacks. Nothing else ever changes in
    them, so daemons of both versions can work beside each other."""
    metadata.create_all(connection)
    there = inspect(connection)
    for table in metadata.sorted_tables:
        known = {column["name"] for column in there.get_columns(table.name)}
        for column in table.columns:
            if column.name not in known:
                kind = column.type.compile(connection.dialect)
                default = column.default.arg if isinstance(column.default, ColumnDefault) else None
                value = "" if default is None else f" DEFAULT {literal(default).compile(**_AS_LITERAL)}"
                null = "" if column.nullable else " NOT NULL"
                statement = f"ALTER TABLE {table.name} ADD COLUMN {column.name} {kind}{null}{value}"
                connection.exec_driver_sql(statement)
        indexes = {index["name"] for index in there.get_indexes(table.name)}
        for index in table.indexes:
            if index.name not in indexes:
                index.create(connection)


def _file_system(folder: Path) -> str:
    """The type of the file system that holds a folder, by the longest mount point above it."""
    best, kind = "", ""
    resolved = str(folder.resolve())
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, escaped, name, *_ = line.split(" ")
        mount = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), escaped)
        if (resolved == mount or resolved.startswith(mount.rstrip("/") + "/")) and len(mount) >= len(best):
            best, kind = mount, name
    return kind


class Database:
    """Runs functions of a connection on a thread of its own. Those that wait together share one transaction, each in a
    savepoint: one that fails is undone alone."""

    def __init__(self, engine: Engine, timed: Callable[[str, float], None] = lambda name, seconds: None) -> None:
        self._engine = engine
        self._open: Connection | None = None  # kept: taking one out of the pool and giving it back is dear
        self._timed = timed
        self._waiting: queue.SimpleQueue[tuple[Callable[[Connection], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="database", daemon=True)
        self._thread.start()

    async def run(self, change: Callable[[Connection], T]) -> T:
        """The result of `change(connection)` once it is committed. Raises what it raises, and DBAPIError."""
        done: Future[T] = Future()
        self._waiting.put((change, done))
        return await asyncio.wrap_future(done)

    def close(self) -> None:
        """After all that was asked for is done."""
        self._waiting.put(None)
        self._thread.join()
        self._hang_up()
        self._engine.dispose()

    def _serve(self) -> None:
        ended = False
        while not ended:
            batch = [self._waiting.get()]
            while len(batch) < _TOGETHER and batch[-1] is not None:
                try:
                    batch.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
            ended = batch[-1] is None
            # From here on nobody can give up: what is committed is told.
            if changes := [entry for entry in batch if entry is not None and entry[1].set_running_or_notify_cancel()]:
                self._commit(changes)

    def _commit(self, changes: list[tuple[Callable[[Connection], Any], Future[Any]]]) -> None:
        begun = perf_counter()
        alone = len(changes) == 1
        outcomes: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            self._open = connection = self._open or self._engine.connect()
            with connection.begin():
                for change, done in changes:
                    try:
                        # Alone it needs no savepoint: what undoes it undoes all there is.
                        with nullcontext() if alone else _savepoint(connection):
                            outcomes.append((done, change(connection), None))
                    except Exception as error:  # it belongs to the one who asked
                        if alone or _is_undone(connection):
                            raise
                        outcomes.append((done, None, error))
        except Exception as error:  # noqa: BLE001  nothing was committed: everyone hears of it
            outcomes = [(done, None, error) for _, done in changes]
            self._hang_up()  # whatever is left of it is undone by the pool
        self._timed("commit", perf_counter() - begun)
        for done, result, failure in outcomes:
            if failure is None:
                done.set_result(result)
            else:
                done.set_exception(failure)

    def _hang_up(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


@contextmanager
def _savepoint(connection: Connection) -> Iterator[None]:
    """As `Connection.begin_nested`, at a quarter of its cost."""
    connection.exec_driver_sql("SAVEPOINT change")
    try:
        yield
    except BaseException:
        if not _is_undone(connection):
            connection.exec_driver_sql("ROLLBACK TO SAVEPOINT change")
        raise
    connection.exec_driver_sql("RELEASE SAVEPOINT change")


def _is_undone(connection: Connection) -> bool:
    """Whether what came before the failure is gone too: SQLite itself undoes a whole transaction where the disk is full
    or broken, and a server forgets it with the connection."""
    if connection.invalidated:
        return True
    driver = connection.connection.dbapi_connection
    return isinstance(driver, sqlite3.Connection) and not driver.in_transaction
