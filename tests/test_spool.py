"""The spool by itself, and with a table behind it: whatever lies in the drop folders, each file is handled once."""

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from harness import PROMISE
from sqlalchemy.exc import OperationalError

from daemon.database import Database, open_engine
from daemon.intake import inbox as inbox_module
from daemon.intake import spool as spool_module
from daemon.intake.inbox import Inbox
from daemon.intake.spool import Dropped, Scan, Spool, Unfit, parse
from daemon.job import MAX_JOB_BYTES
from daemon.jobs import table
from daemon.jobs.retry import Policy
from daemon.jobs.row import Known
from daemon.jobs.table import Owed
from daemon.metrics import Metrics
from daemon.report import Report

JOB = b'{"source": "film.mp4", "outputs": [{"output": "thumbnail", "at": 1}]}'
NOBODY = 65534


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(root: Path) -> Iterator[Spool]:
    with opened(root) as spool:
        yield spool


@contextmanager
def opened(root: Path, owner: str = "me", settle_seconds: float = 30) -> Iterator[Spool]:
    spool = Spool(root, owner, settle_seconds)
    spool.open()
    try:
        yield spool
    finally:
        spool.close()


def drop(spool: Spool, name: str | bytes = "job.json", text: bytes = JOB, folder: str = "in") -> Path:
    path = spool.root / folder / os.fsdecode(name)
    path.write_bytes(text)
    return path


def held(scan: Scan) -> list[bytes]:
    """What the claimed files held, all of them being fit."""
    texts = [dropped.held for dropped in scan.claimed]
    assert not any(isinstance(text, Unfit) for text in texts), texts
    return [text for text in texts if isinstance(text, bytes)]


def why_unfit(scan: Scan) -> Unfit:
    """Why the only claimed file is no job."""
    [dropped] = scan.claimed
    assert isinstance(dropped.held, Unfit)
    return dropped.held


def reason(root: Path) -> str:
    """Of the only report in `failed/`."""
    [report] = (root / "failed").glob("*.json")
    error = Report.model_validate_json(report.read_bytes()).error
    assert error is not None and error.code == "bad_job"
    return error.message


# Settling.


def test_a_file_is_taken_when_it_is_complete(spool: Spool) -> None:
    path = drop(spool, text=JOB[:-1])
    assert spool.scan(10) == Scan((), (), {"in/high": 0, "in": 1, "in/low": 0}, more=False)
    path.write_bytes(JOB)
    [dropped] = spool.scan(10).claimed
    assert (dropped.name, dropped.folder, dropped.held) == ("job.json", "in", JOB)
    assert not path.exists() and dropped.path.read_bytes() == JOB
    assert spool.scan(10).claimed == ()


def test_a_careless_copy_is_read_when_its_last_byte_is_there(spool: Spool) -> None:
    job = json.loads(JOB) | {"payload": "x" * 900_000}
    text = json.dumps(job, indent=1).encode() + b"\n" * 50_000
    end = text.rindex(b"}")
    with (spool.root / "in" / "large.json").open("wb", buffering=0) as file:
        for start in range(0, end, 64 << 10):
            file.write(text[start : min(start + (64 << 10), end)])
            assert spool.scan(10).claimed == ()
        file.write(text[end:])
    assert held(spool.scan(10)) == [text]


@pytest.mark.parametrize("text", [b"", b"{", JOB[:-1], b"[1]", b"no json", b"\xff\xfe", JOB + JOB, b"null"])
def test_a_file_that_stays_broken_is_refused(root: Path, text: bytes) -> None:
    with opened(root, settle_seconds=0) as spool:
        path = drop(spool, text=text)
        os.utime(path, (0, 4e9))  # by its own clock it was written in the future
        scan = spool.scan(10)
        assert why_unfit(scan) == Unfit("not_json", "'job.json': it is not one JSON object")
        spool.refuse(scan.claimed[0], "no job")
        assert reason(root) == "no job"
        [rejected] = (root / "failed").glob("job.*.rejected")
        assert rejected.read_bytes() == text and not path.exists()


def test_a_broken_file_may_look_old(spool: Spool) -> None:
    os.utime(drop(spool, text=b"{"), (0, 0))
    assert spool.scan(10).claimed == ()


def test_a_file_that_is_too_large_is_refused(spool: Spool) -> None:
    drop(spool, text=JOB + b" " * MAX_JOB_BYTES)
    assert why_unfit(spool.scan(10)) == Unfit("too_large", "'job.json': a job has at most 1 MiB")


def test_some_names_are_left_alone(spool: Spool) -> None:
    names = [".hidden", ".job.json.tmp", "job.json.tmp", "job.json.part", "job.json~"]
    for name in names:
        drop(spool, name)
    assert spool.scan(10) == Scan((), (), {"in/high": 0, "in": 0, "in/low": 0}, more=False)
    assert sorted(path.name for path in (spool.root / "in").iterdir() if path.is_file()) == sorted(names)


# What is no plain file.


def test_what_is_no_file_is_left_and_told_of_once(spool: Spool) -> None:
    folder = spool.root / "in"
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(folder / "socket"))
    if os.geteuid() == 0:
        os.mknod(folder / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero
    names = {path.name for path in folder.iterdir()} - {"high", "low"}
    drop(spool, "job.json")
    scan = spool.scan(10)
    assert held(scan) == [JOB]
    assert {(left.name, left.why.reason) for left in scan.left} == {(name, "not_a_file") for name in names}
    assert spool.scan(10).left == ()
    assert {path.name for path in folder.iterdir()} == names | {"high", "low"}
    # A file of the same name is another matter.
    (folder / "fifo").unlink()
    drop(spool, "fifo")
    assert held(spool.scan(10)) == [JOB]


def test_however_many_are_no_files_the_jobs_behind_them_have_their_turn(spool: Spool) -> None:
    for number in range(30):
        (spool.root / "in" / f"a{number}").mkdir()
    drop(spool, "z.json")
    scans = [spool.scan(10) for _ in range(3)]
    assert [text for scan in scans for text in held(scan)] == [JOB]
    assert sum(len(scan.left) for scan in scans) == 30


@pytest.mark.parametrize("target", ["there.json", "/dev/zero", "nowhere", "job.json"])
def test_a_link_is_never_followed(spool: Spool, target: str) -> None:
    (spool.root / "there.json").write_bytes(JOB)
    path = spool.root / "in" / "job.json"
    path.symlink_to(target if target.startswith("/") else spool.root / target)
    scan = spool.scan(10)
    assert why_unfit(scan) == Unfit("not_a_file", "'job.json': it is a link: jobs are plain files")
    spool.refuse(scan.claimed[0], "a link")
    assert reason(spool.root) == "a link" and not path.is_symlink()
    assert (spool.root / "there.json").read_bytes() == JOB


@contextmanager
def as_nobody() -> Iterator[Path]:
    """A folder of a user whom permissions concern, who this is meanwhile."""
    with TemporaryDirectory(dir="/tmp") as folder:
        if os.geteuid() != 0:
            yield Path(folder)
            return
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)


def test_an_unreadable_file_is_refused() -> None:
    with as_nobody() as folder, opened(folder) as spool:
        drop(spool).chmod(0)
        drop(spool, "other.json")
        scan = spool.scan(10)
        unreadable, other = scan.claimed
        assert unreadable.held == Unfit("not_a_file", "'job.json': it is unreadable: jobs are plain files")
        assert other.held == JOB
        spool.refuse(unreadable, "unreadable")
        assert reason(folder) == "unreadable"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs files of another user")
def test_a_file_that_cannot_be_moved_stays_and_stops_nobody() -> None:
    with as_nobody() as folder, opened(folder) as spool:
        drop(spool, "0-other-user.json")
        drop(spool, "job.json")
        os.seteuid(0)
        # As a shared drop folder is: a file may only be renamed by whom it belongs to.
        os.chown(folder / "in", 0, 0)
        (folder / "in").chmod(0o1777)
        os.chown(folder / "in" / "0-other-user.json", 0, 0)
        os.seteuid(NOBODY)
        scan = spool.scan(10)
        assert held(scan) == [JOB]
        assert [(left.name, left.why.reason) for left in scan.left] == [("0-other-user.json", "left")]
        assert spool.scan(10).left == ()


# Claiming.


def swapped(monkeypatch: pytest.MonkeyPatch, swap: Callable[[], object]) -> None:
    """Lets `swap` happen once, after a file was read and before it is claimed."""
    swaps = [swap]
    real = spool_module._is_object

    def is_object(text: bytes) -> bool:
        if swaps:
            swaps.pop()()
        return real(text)

    monkeypatch.setattr(spool_module, "_is_object", is_object)


def test_a_file_may_be_replaced_while_it_is_claimed(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    other = JOB.replace(b"film", b"other")
    drop(spool)
    swapped(monkeypatch, lambda: drop(spool, ".new", other).rename(spool.root / "in" / "job.json"))
    assert held(spool.scan(10)) == [other]


def test_a_file_may_be_written_anew_while_it_is_claimed(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    path = drop(spool)
    swapped(monkeypatch, lambda: path.write_bytes(b'{"half'))
    assert held(spool.scan(10)) == [JOB]


def test_a_link_put_there_while_a_file_is_claimed_is_not_followed(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = drop(spool)

    def swap() -> None:
        path.unlink()
        path.symlink_to("/dev/zero")

    swapped(monkeypatch, swap)
    assert why_unfit(spool.scan(10)).reason == "not_a_file"


def test_a_pipe_put_there_while_a_file_is_claimed_blocks_nobody(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    path = drop(spool)

    def swap() -> None:
        path.unlink()
        os.mkfifo(path)

    swapped(monkeypatch, swap)
    assert why_unfit(spool.scan(10)).reason == "not_a_file"


def test_a_file_that_is_gone_when_it_is_claimed_was_somebody_elses(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = drop(spool)
    swapped(monkeypatch, path.unlink)
    scan = spool.scan(10)
    assert (scan.claimed, scan.left) == ((), ())


def test_the_same_name_twice_is_two_jobs(spool: Spool) -> None:
    dropped: list[Dropped] = []
    for folder in ("in", "in", "in/low"):
        drop(spool, folder=folder)
        dropped += spool.scan(10).claimed
    assert [each.name for each in dropped] == ["job.json"] * 3
    assert len({each.key for each in dropped}) == 3
    for each in dropped:
        report = Report(id=each.key, org="default", status="completed").model_dump_json()
        spool.write_reports([Owed(each.key, each.key, report, False, (each.name,))])
    assert len(list((spool.root / "done").glob("job.*.json"))) == 3


@pytest.mark.parametrize(
    ("name", "id", "report"),
    [
        ("film.json", "x", "film.x.json"),
        ("film.x.json", "x", "film.x.json"),
        ("film.x.json", "y", "film.x.y.json"),
        ("film.x", "x", "film.x.json"),
        ("x.json", "x", "x.x.json"),
        ("film-x.json", "x", "film-x.x.json"),
    ],
)
def test_a_report_has_the_name_and_the_id_once(spool: Spool, name: str, id: str, report: str) -> None:
    said = Report(id=id, org="default", status="completed").model_dump_json()
    spool.write_reports([Owed(id, id, said, False, (name,))])
    assert os.listdir(spool.root / "done") == [report]


def test_order_is_by_priority_and_name(spool: Spool) -> None:
    for folder in ("in/low", "in", "in/high"):
        for name in ("b", "a", "c"):
            drop(spool, f"{name}.json", folder=folder)
    first, second = spool.scan(4), spool.scan(10)
    assert first.more and not second.more
    places = [(dropped.folder, dropped.name) for dropped in (*first.claimed, *second.claimed)]
    assert places == [(folder, f"{name}.json") for folder in ("in/high", "in", "in/low") for name in "abc"]


def claim_all(spool: Spool, both_claimed: threading.Barrier, most: int = 500) -> list[str]:
    """All that there is. Neither goes on before both have claimed some."""
    names: list[str] = []
    while True:
        scan = spool.scan(most)
        if scan.claimed and not names:
            both_claimed.wait(60)
        names += [dropped.name for dropped in scan.claimed]
        for dropped in scan.claimed:
            spool.taken_in(dropped)
        if not scan.claimed and not any((spool.root / "in").glob("*.json")):
            return names


@pytest.mark.parametrize("count", [3_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_however_many_there_are_two_daemons_claim_each_once(root: Path, count: int) -> None:
    with opened(root, "one") as one, opened(root, "two") as two:
        for number in range(count):
            drop(one, f"{number:06}.json")
        names: list[list[str]] = [[], []]
        both_claimed = threading.Barrier(2)
        threads = [
            threading.Thread(target=lambda spool=spool, mine=mine: mine.extend(claim_all(spool, both_claimed)))
            for spool, mine in zip((one, two), names, strict=True)
        ]
        tracemalloc.start()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert sorted(names[0] + names[1]) == [f"{number:06}.json" for number in range(count)]
        assert all(names)
        assert peak < (8 << 20) + count * 300  # what the test itself keeps is the names


# Names.

NAMES = [
    b"plain",
    b".json",
    b"-rf.json",
    b"high.json",
    b"a_b__c.json",
    b"__.json",
    b"_high_.json",
    b"two\nlines.json",
    b"tab\tand\x1b[31mcolour.json",
    b"%s{0}$(id)`id`;'\".json",
    "Ünï/cödé 映画.json".replace("/", "∕").encode(),
    "\u202ereversed.json".encode(),
    b"not utf-8 \xff\xfe.json",
    b"n" * 255,
    ("映" * 85).encode(),
    b"n" * 250 + b".json",
    b"n" * 249 + b"\xff.json",
]


@pytest.mark.parametrize("name", [name for name in NAMES if name != b".json"], ids=repr)
@pytest.mark.parametrize("text", [JOB, b'{"source": 1}'], ids=["fit", "unfit"])
def test_any_name_is_taken_and_reported_under(root: Path, name: bytes, text: bytes) -> None:
    async def story(at_work: "AtWork") -> None:
        (at_work.root / "in" / os.fsdecode(name)).write_bytes(text)
        if text == JOB:
            [job] = await at_work.jobs(1)
            await at_work.run(lambda c: table.cancel(c, None, job.id))
            at_work.inbox.settled()
        else:
            await at_work.until(lambda: bool(list((root / "failed").glob("*.rejected"))))
        await at_work.until(lambda: bool(list((root / "failed").glob("*.json"))))

    work(root, story)
    [report] = os.listdir(os.fsencode(root / "failed")) if text == JOB else list((root / "failed").glob("*.json"))
    stem = name.removesuffix(b".json")[:200]
    assert os.fsencode(report).rpartition(b"/")[2].startswith(stem)
    assert not list((root / "claimed").glob("*/[!.]*"))


# With a table behind it.


class AtWork:
    """An inbox that runs."""

    def __init__(self, root: Path, owner: str) -> None:
        self.root = root
        self.spool = Spool(root, owner, settle_seconds=0.2)
        self.database = Database(open_engine(f"sqlite:///{root}/jobs.db"))
        self.metrics = Metrics()
        self.inbox = Inbox(self.spool, self.database, self.metrics, 0.05, lambda owing: None, PROMISE)

    async def run(self, change: Callable[..., Any]) -> Any:
        return await self.database.run(change)

    async def jobs(self, count: int) -> list[Known]:
        """Waits for so many jobs in the table, the first ones first."""
        known: list[Known] = []

        async def there() -> bool:
            known[:] = await self.run(lambda c: table.latest(c, 10_000))
            return len(known) >= count

        await self.until(there)
        return known[::-1]

    async def until(self, condition: Callable[[], bool | Awaitable[bool]]) -> None:
        async with asyncio.timeout(20):
            while True:
                answer = condition()
                if answer if isinstance(answer, bool) else await answer:
                    return
                await asyncio.sleep(0.01)


def work(root: Path, story: Callable[[AtWork], Awaitable[None]], owner: str = "me") -> None:
    """Tells a story beside an inbox at work."""

    async def tell() -> None:
        root.mkdir(exist_ok=True)
        at_work = AtWork(root, owner)
        at_work.spool.open()
        chores = [asyncio.create_task(at_work.inbox.run()), asyncio.create_task(at_work.inbox.pay())]
        try:
            await story(at_work)
        finally:
            for chore in chores:
                chore.cancel()
            outcomes = await asyncio.gather(*chores, return_exceptions=True)
            at_work.database.close()
            at_work.spool.close()
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes), outcomes

    asyncio.run(tell())


def refusal(root: Path, text: bytes) -> str:
    """The reason that is given for a file with this text."""

    async def story(at_work: AtWork) -> None:
        drop(at_work.spool, "bad.json", text)
        await at_work.until(lambda: bool(list((root / "failed").glob("bad.*.rejected"))))
        assert await at_work.jobs(0) == []

    work(root, story)
    [rejected] = (root / "failed").glob("bad.*.rejected")
    assert rejected.read_bytes() == text
    return reason(root)


WRONG = [
    (b'{"source": "a", "outputs": [{"output": "thumbnail", "at": 1, "widht": 3}]}', "outputs[0].widht: unknown key"),
    (b'{"source": "a", "outputs": [{"output": "thumbnail", "at": 1, "width": 9000}]}', "outputs[0].width: "),
    (b'{"source": "a", "outputs": []}', "outputs: must hold 1 to 64 outputs"),
    (b'{"outputs": [{"output": "thumbnail", "at": 1}]}', "source: Field required"),
    (b'{"source": "a", "destination": "../b", "outputs": [{"output": "thumbnail", "at": 1}]}', "destination: '..'"),
    (b'{"query": {"source": "a", "format": [{"output": "gif"}]}}', "query.format[0].output: 'gif' is not supported"),
    (b'{"query": {"source": "a", "format": [{"output": "thumbnail", "image_format": [1]}]}}', "image_format"),
    (b'{"source": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", ""),
    (b'{"query": {"source": "a", "format": [{"output": "' + b"x" * 100_000 + b'"}]}}', "format[0].output: 'xxx"),
    (b"truncated", "'bad.json': it is not one JSON object"),
]


@pytest.mark.parametrize(("text", "why"), WRONG, ids=[why or "deep" for _, why in WRONG])
def test_a_file_that_is_no_job_is_told_what_is_wrong_and_where(root: Path, text: bytes, why: str) -> None:
    told = refusal(root, text)
    assert why in told and "\n" not in told and len(told) < 2000


def test_a_query_of_qencode_is_a_job(root: Path) -> None:
    query = {"query": {"source": "film.mp4", "format": [{"output": "thumbnail", "time": "0.25", "width": "320"}]}}

    async def story(at_work: AtWork) -> None:
        drop(at_work.spool, text=json.dumps(query).encode())
        [job] = await at_work.jobs(1)
        assert (job.source, job.state) == ("film.mp4", "queued")

    work(root, story)


def test_the_folder_says_the_priority_unless_the_job_does(root: Path) -> None:
    async def story(at_work: AtWork) -> None:
        for folder in ("in/low", "in", "in/high"):
            drop(at_work.spool, "said.json", JOB[:-1] + b', "priority": "normal"}', folder)
            drop(at_work.spool, "unsaid.json", folder=folder)
        await at_work.jobs(6)
        rows = await at_work.run(lambda c: list(c.exec_driver_sql("select reports_to, priority from jobs")))
        assert sorted(tuple(row) for row in rows) == [('["said.json"]', 1)] * 3 + [
            ('["unsaid.json"]', n) for n in range(3)
        ]

    work(root, story)


def test_a_job_that_the_table_did_not_take_is_tried_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [OperationalError("insert", {}, Exception("database or disk is full")) for _ in range(3)]
    real = table.add

    def add(*arguments: Any) -> Known | None:
        if failures:
            raise failures.pop()
        return real(*arguments)

    monkeypatch.setattr(table, "add", add)

    async def story(at_work: AtWork) -> None:
        for name in "abc":
            drop(at_work.spool, f"{name}.json", folder="in/low")
        jobs = await at_work.jobs(3)
        assert len({job.id for job in jobs}) == 3
        await at_work.until(lambda: not list((root / "claimed").glob("*/[!.]*")))
        rows = await at_work.run(lambda c: list(c.exec_driver_sql("select priority from jobs")))
        assert [row[0] for row in rows] == [2, 2, 2]

    work(root, story)


def test_a_fault_of_our_own_does_not_stop_the_intake(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(text: bytes) -> Any:
        if text != JOB:
            raise KeyError(text)
        return parse(text)

    monkeypatch.setattr(inbox_module, "parse", faulty)

    async def story(at_work: AtWork) -> None:
        drop(at_work.spool, "a.json", b"{}")
        drop(at_work.spool, "b.json")
        await at_work.jobs(1)
        await at_work.until(lambda: bool(list((root / "failed").glob("a.*.rejected"))))

    work(root, story)
    assert reason(root) == "internal error: KeyError"


# Owners.

CLAIM_AND_DIE = """
import os, signal, sys
from pathlib import Path
from daemon.intake.spool import Spool
spool = Spool(Path(sys.argv[1]), "gone")
spool.open()
spool.scan(10)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_dead_owner_had_claimed_is_taken_in_even_if_not_at_the_first_try(root: Path) -> None:
    with opened(root) as spool:
        drop(spool, "high.json", folder="in/high")
        drop(spool, "bad.json", b'{"source": 1}')
    subprocess.run([sys.executable, "-P", "-c", CLAIM_AND_DIE, str(root)], check=False)
    assert len(list((root / "claimed" / "gone").glob("[!.]*"))) == 2

    async def story(at_work: AtWork) -> None:
        recover = at_work.inbox.recover
        with pytest.MonkeyPatch.context() as patch, suppress(OperationalError):
            patch.setattr(table, "add", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await recover("me", 30, Policy())
        assert await recover("me", 30, Policy()) == []
        [job] = await at_work.jobs(1)
        rows = await at_work.run(lambda c: list(c.exec_driver_sql("select priority, reports_to from jobs")))
        assert [tuple(row) for row in rows] == [(0, '["high.json"]')]
        assert (root / "failed" / f"bad.{job.id}.json").exists() is False

    work(root, story)
    assert "outputs: Field required" in reason(root)
    assert os.listdir(root / "claimed") == []


def test_an_owner_that_lives_is_left_alone(root: Path) -> None:
    with opened(root, "one") as one, opened(root, "two") as two:
        drop(one)
        one.scan(10)
        # A process that it started, and that inherits what can be inherited, does not keep its lock.
        with subprocess.Popen(["sleep", "60"], close_fds=False) as child:
            assert list(two.lost_owners()) == []
            one.close()
            [(name, lock)] = two.lost_owners()
            assert name == "one" and len(two.unfinished("one")) == 1
            two.leave(name, lock)
            child.kill()


# Going out.


def test_old_reports_are_forgotten(spool: Spool) -> None:
    for folder, name, age in (("done", "old", 100), ("failed", "old", 100), ("done", "new", 0)):
        path = spool.root / folder / f"{name}.json"
        path.write_text("{}")
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age))
    assert spool.forget_reports(50) == 2
    assert [path.name for path in (spool.root / "done").iterdir()] == ["new.json"]
