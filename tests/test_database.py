"""The database thread commits together what comes together, undoes alone what fails alone; bad settings are told."""

import asyncio
import sqlite3
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, inspect, select, text
from sqlalchemy.exc import DBAPIError, OperationalError

from daemon import database
from daemon.database import BadDatabase, Database, open_engine
from daemon.jobs import table
from daemon.jobs.table import NewJob
from daemon.tables import jobs


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_engine(database_url)
    yield engine
    engine.dispose()


class Held(Database):
    """Waits before each commit until it is let go: what comes meanwhile comes together."""

    def __init__(self, engine: Engine) -> None:
        self.go = threading.Event()
        self.waiting = False
        self.batches: list[int] = []
        super().__init__(engine)

    def _commit(self, changes: Any) -> None:
        self.waiting = True
        self.go.wait()
        self.batches.append(len(changes))
        super()._commit(changes)


def add(key: str) -> Any:
    job = NewJob(key=key, org="one", id=key, source="/film", destination=key, priority=1, job="{}")
    return lambda connection: table.add(connection, job) is not None


def fail(connection: Connection) -> None:
    add("half")(connection)
    raise ValueError("not this one")


def break_off(connection: Connection) -> None:
    add("half")(connection)
    connection.execute(text("SELECT * FROM nowhere"))


def keys(engine: Engine) -> list[str]:
    with engine.begin() as connection:
        return sorted(known.key for known in table.latest(connection, 1000))


def test_one_change(engine: Engine) -> None:
    base = Database(engine)
    assert asyncio.run(base.run(add("k"))) is True
    assert asyncio.run(base.run(add("k"))) is False
    base.close()
    assert keys(engine) == ["k"]


def test_one_change_that_fails_is_undone(engine: Engine) -> None:
    base = Database(engine)
    with pytest.raises(ValueError, match="not this one"):
        asyncio.run(base.run(fail))
    with pytest.raises(DBAPIError):
        asyncio.run(base.run(break_off))
    assert asyncio.run(base.run(add("k"))) is True
    base.close()
    assert keys(engine) == ["k"]


@pytest.mark.parametrize("bad", [fail, break_off])
def test_of_many_at_once_only_the_one_that_fails_is_undone(engine: Engine, bad: Any) -> None:
    base = Held(engine)

    async def many() -> list[Any]:
        changes = [*(add(f"k{n:02}") for n in range(20)), bad, *(add(f"k{n:02}") for n in range(20, 40))]
        running = [asyncio.create_task(base.run(change)) for change in changes]
        await asyncio.sleep(0)
        base.go.set()
        return await asyncio.gather(*running, return_exceptions=True)

    results = asyncio.run(many())
    base.close()
    assert isinstance(results.pop(20), ValueError | DBAPIError)
    assert results == [True] * 40
    assert keys(engine) == [f"k{n:02}" for n in range(40)]
    assert sum(base.batches) == 41 and len(base.batches) <= 2


def test_a_connection_that_is_lost_is_told_to_all_as_such(engine: Engine) -> None:
    """Each of them may try again; the next change has a new connection."""
    base = Held(engine)

    def lose(connection: Connection) -> None:
        connection.invalidate()
        raise OperationalError("select", {}, Exception("the server closed the connection"))

    async def some() -> list[Any]:
        running = [asyncio.create_task(base.run(change)) for change in (add("before"), lose, add("after"))]
        await asyncio.sleep(0)
        base.go.set()
        return await asyncio.gather(*running, return_exceptions=True)

    assert all(isinstance(result, DBAPIError) for result in asyncio.run(some()))
    assert asyncio.run(base.run(add("again"))) is True
    base.close()
    assert keys(engine) == ["again"]


def test_no_commit_has_too_many(engine: Engine) -> None:
    base = Held(engine)

    async def many() -> None:
        running = [asyncio.create_task(base.run(add(f"k{n:03}"))) for n in range(200)]
        await asyncio.sleep(0)
        base.go.set()
        await asyncio.gather(*running)

    asyncio.run(many())
    base.close()
    assert sum(base.batches) == 200 and max(base.batches) == database._TOGETHER


def test_nobody_is_told_before_it_is_committed(engine: Engine) -> None:
    """Where the commit fails, everyone hears of it and nothing is there."""
    base = Held(engine)

    @event.listens_for(engine, "commit")
    def refuse(connection: Connection) -> None:
        raise OSError("the disk said no")

    async def many() -> list[Any]:
        running = [asyncio.create_task(base.run(add(f"k{n}"))) for n in range(5)]
        await asyncio.sleep(0)
        base.go.set()
        return await asyncio.gather(*running, return_exceptions=True)

    results = asyncio.run(many())
    event.remove(engine, "commit", refuse)
    assert [str(result) for result in results] == ["the disk said no"] * 5
    assert asyncio.run(base.run(add("after"))) is True
    base.close()
    assert keys(engine) == ["after"]


def test_what_is_not_waited_for_any_more_is_not_done(engine: Engine) -> None:
    base = Held(engine)

    async def give_up() -> None:
        first = asyncio.create_task(base.run(add("first")))
        while not base.waiting:
            await asyncio.sleep(0.001)
        given_up = asyncio.create_task(base.run(add("given up")))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.sleep(0)
        base.go.set()
        await first

    asyncio.run(give_up())
    base.close()
    assert keys(engine) == ["first"]


def test_giving_up_at_the_last_moment_does_not_end_the_thread(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the commit and the word about it."""

    class GivenUp(Future[Any]):
        def set_result(self, result: Any) -> None:
            self.cancel()
            super().set_result(result)

    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)
    base = Database(engine)
    with monkeypatch.context() as patched:
        patched.setattr(database, "Future", GivenUp)
        hurried: list[Any] = []

        async def hurry() -> None:
            hurried.append(await asyncio.wait_for(base.run(add("k")), 5))

        asyncio.run(hurry())
    assert hurried == [True]
    assert asyncio.run(asyncio.wait_for(base.run(add("after")), 5)) is True
    base.close()


def test_closing_does_first_what_was_asked_for(engine: Engine) -> None:
    base = Held(engine)

    async def ask() -> None:
        running = [asyncio.create_task(base.run(add(f"k{n}"))) for n in range(3)]
        await asyncio.sleep(0)
        base.go.set()
        await asyncio.to_thread(base.close)
        await asyncio.gather(*running)

    asyncio.run(ask())
    assert keys(engine) == ["k0", "k1", "k2"]


def test_the_time_of_a_commit_is_told(engine: Engine) -> None:
    told: list[tuple[str, float]] = []
    base = Database(engine, lambda name, seconds: told.append((name, seconds)))
    asyncio.run(base.run(add("k")))
    base.close()
    assert [name for name, _ in told] == ["commit"] and told[0][1] > 0


# SQLite.


def test_sqlite_is_set_to_lose_nothing(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'new' / 'folder' / 'thumbd.db'}")
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2  # FULL
        mode = "wal" if sqlite3.sqlite_version_info >= (3, 51, 3) else "truncate"
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == mode
        assert connection.execute(text("PRAGMA busy_timeout")).scalar() == 30_000
    engine.dispose()


def test_what_sqlite_undoes_when_the_disk_is_full_is_told_to_all(tmp_path: Path) -> None:
    """It then rolls back the whole transaction, the changes before the one that failed too."""
    engine = open_engine(f"sqlite:///{tmp_path / 'thumbd.db'}")
    base = Held(engine)

    def fill(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count=60")
        connection.execute(text("CREATE TABLE much (what TEXT)"))
        connection.execute(text("INSERT INTO much VALUES (:much)"), {"much": "x" * 1_000_000})

    async def many() -> list[Any]:
        running = [asyncio.create_task(base.run(change)) for change in (add("before"), fill, add("after"))]
        await asyncio.sleep(0)
        base.go.set()
        return await asyncio.gather(*running, return_exceptions=True)

    before, full, after = asyncio.run(many())
    base.close()
    assert isinstance(full, DBAPIError)
    assert [key for key, told in (("after", after), ("before", before)) if told is True] == keys(engine)
    engine.dispose()


def test_a_second_writer_waits_from_its_first_statement_on(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'thumbd.db'}")
    with engine.begin() as connection:
        table.counts(connection)
        other = sqlite3.connect(tmp_path / "thumbd.db", timeout=0.05, isolation_level=None)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()
    engine.dispose()


def test_a_name_with_spaces_and_signs(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'my thumbd' / '100% ä#1.db'}")
    engine.dispose()
    assert (tmp_path / "my thumbd" / "100% ä#1.db").is_file()


MOUNTS = r"""
/dev/vda / ext4 rw 0 0
tmpfs /tmp tmpfs rw 0 0
nas:/media /mnt/nas nfs4 rw 0 0
//nas/my\040films /mnt/my\040films cifs rw 0 0
/dev/vdb /mnt/nas/local ext4 rw 0 0
me@host: /mnt/ssh fuse.sshfs rw 0 0
""".strip()


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with network file systems; every folder is where its path says."""
    read = Path.read_text

    def answer(path: Path, *arguments: Any, **options: Any) -> str:
        return MOUNTS if str(path) == "/proc/self/mounts" else read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", answer)
    monkeypatch.setattr(Path, "resolve", lambda path, strict=False: path)
    monkeypatch.setattr(Path, "mkdir", lambda path, **options: None)


@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        *(
            ("/mnt/nas", "nfs4"),
            ("/mnt/nas/deep/down", "nfs4"),
            ("/mnt/my films/x", "cifs"),
            ("/mnt/ssh/x", "fuse.sshfs"),
        ),
        *(("/", "ext4"), ("/mnt/nassau", "ext4"), ("/mnt/nas/local/x", "ext4"), ("/tmp/x", "tmpfs"), ("/tmpx", "ext4")),
    ],
)
def test_file_systems_are_told_apart(folder: str, kind: str) -> None:
    assert database._file_system(Path(folder)) == kind


@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize(("folder", "kind"), [("/mnt/nas/thumbd", "nfs4"), ("/mnt/my films", "cifs")])
def test_network_file_systems_are_refused(folder: str, kind: str) -> None:
    said = refused(f"sqlite:///{folder}/thumbd.db")
    assert f"database {folder}/thumbd.db lies on a network file system ({kind})" in said


# Wrong settings.


def refused(url: str, *, new: bool = True) -> str:
    """The message, which is one line."""
    with pytest.raises(BadDatabase) as raised:
        open_engine(url, new=new)
    assert "\n" not in raised.value.message
    assert raised.value.code == "bad_database"
    return raised.value.message


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "is no URL: write sqlite:///thumbd.db"),
        ("thumbd.db", "'thumbd.db' is no URL: write sqlite:///thumbd.db"),
        ("mysql://user@host/thumbd", "'mysql' is not supported: use sqlite or postgresql"),
        ("sqlite://", "a file is needed, as in sqlite:///thumbd.db"),
        ("sqlite:///:memory:", "a file is needed, as in sqlite:///thumbd.db"),
        ("sqlite:////proc/none/thumbd.db", "database sqlite:////proc/none/thumbd.db cannot be opened: "),
    ],
)
def test_wrong_urls(url: str, said: str) -> None:
    assert said in refused(url)


def test_what_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert "cannot be opened: unable to open database file" in refused(f"sqlite:///{tmp_path / 'folder'}")
    (tmp_path / "text").write_text("this is no database, though it is long enough to be taken for one" * 20)
    assert "cannot be opened: file is not a database" in refused(f"sqlite:///{tmp_path / 'text'}")
    assert "cannot be opened: " in refused(f"sqlite:///{tmp_path / 'text' / 'below.db'}")


def test_no_password_is_told() -> None:
    for url in ("postgresql://me:hunter2@127.0.0.1:1/thumbd?connect_timeout=1", "nonsense:hunter2@127.0.0.1"):
        assert "hunter2" not in refused(url)


def test_without_its_driver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert "pip install" in refused("postgresql://me@127.0.0.1:1/thumbd")


def test_who_asks_for_none_that_is_new_makes_nothing(database_url: str, tmp_path: Path) -> None:
    for _ in range(2):
        assert "there is no database at " in refused(database_url, new=False)
        assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty.db").touch()
    with pytest.raises(BadDatabase, match="there is no database at"):
        open_engine(f"sqlite:///{tmp_path / 'empty.db'}", new=False)
    assert (tmp_path / "empty.db").stat().st_size == 0
    open_engine(database_url).dispose()
    engine = open_engine(database_url, new=False)
    with engine.begin() as connection:
        assert table.counts(connection) == {}
    engine.dispose()


def test_a_database_of_an_older_version_gets_what_it_lacks(database_url: str) -> None:
    engine = open_engine(database_url)
    with engine.begin() as connection:
        add("old")(connection)
        # As it was before these columns were there.
        for column in ("suspect", "reports_to", "ended_at"):
            for index in [index for index in jobs.indexes if column in index.columns]:
                connection.exec_driver_sql(f"DROP INDEX IF EXISTS {index.name}")
            connection.exec_driver_sql(f"ALTER TABLE jobs DROP COLUMN {column}")
    engine.dispose()
    for _ in range(2):
        engine = open_engine(database_url)
        with engine.begin() as connection:
            row = connection.execute(select(jobs)).one()
            there = inspect(connection)
            assert {index["name"] for index in there.get_indexes("jobs")} >= {index.name for index in jobs.indexes}
        assert (row.key, row.suspect, row.reports_to, row.ended_at) == ("old", False, "[]", None)
        engine.dispose()
