"""A real daemon in folders of its own, for tests that kill it, break it, and look at what is left.

A `Site` is a spool, a store and a job table; any number of daemons may work on it, one after another or at once.
Nothing here sleeps for luck: `until` waits for a condition, up to a deadline.
"""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from clips import Clip, read_number
from indexes import READERS
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection, text

from daemon.database import open_engine
from daemon.files import MANIFEST
from daemon.owed.promise import Promise
from daemon.report import OutputReport, Report

T = TypeVar("T")

TESTS = Path(__file__).parent
PROMISE = Promise(lambda text, errand: f"sealed for {errand}", True, lambda target: None)  # of an inbox alone
DECIMALS = 6  # of times in reports
PATIENCE = 40.0  # seconds that nothing on a busy machine should take
_POLL = 0.02

# What the code of a fault may name.
_PRELUDE = """
import sys; sys.path.insert(0, {tests!r})
import errno, functools, os, signal
from pathlib import Path
import faults; faults.FUSES = Path({fuses!r})
from faults import ALWAYS, after, before, die, fail, file_in, hold, to
"""
_SERVE = "\nfrom daemon.cli import main\nmain()\n"


def until(condition: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
    """The first true result of `condition`, asked again and again."""
    deadline = time.monotonic() + seconds
    while True:
        if result := condition():
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain: {what}")
        time.sleep(_POLL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def thumbnail(at: object = 1, **keys: Any) -> dict[str, Any]:
    """An output: one small picture in which the number can be read."""
    return {"output": "thumbnail", "at": at, "width": 160, "format": "png", **keys}


class Running:
    """A daemon process. As a context it is killed at the end, whatever became of it."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], log: Path, port: int) -> None:
        self.log_file = log
        self._port = port
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=output
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()
        if error is not None:
            error.add_note(f"the log of daemon {self.process.pid}:\n{self.log_file.read_text()[-6000:]}")

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def exit_code(self, seconds: float = PATIENCE) -> int:
        """Waits for its end. A negative number is the signal that ended it."""
        return self.process.wait(seconds)

    def killed(self) -> None:
        """Waits until it dies of SIGKILL, by a fault of its own."""
        assert self.exit_code() == -signal.SIGKILL

    def log(self) -> list[dict[str, Any]]:
        """Its log so far."""
        lines = self.log_file.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def said(self, event: str, **keys: object) -> list[dict[str, Any]]:
        """Lines of the log of this event."""
        return [line for line in self.log() if line["event"] == event and keys.items() <= line.items()]

    def ready(self) -> Self:
        """Waits until /readyz says so."""
        until(lambda: self.is_ready() or self._ended(), "the daemon is ready")
        return self

    def _ended(self) -> bool:
        assert self.process.poll() is None, f"the daemon ended with {self.process.returncode}"
        return False

    def is_ready(self) -> bool:
        return self.answer("/readyz")[0] == 200

    def answer(self, path: str) -> tuple[int, str]:
        """Status and text of its answer; status 0 where nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=10) as response:
                return int(response.status), response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metrics(self) -> dict[str, float]:
        """`name{label="value"}` without the braces where there are no labels -> value."""
        found = {}
        for family in text_string_to_metric_families(self.answer("/metrics")[1]):
            for sample in family.samples:
                labels = ",".join(f'{key}="{value}"' for key, value in sorted(sample.labels.items()))
                found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return found

    def workers(self) -> list[int]:
        """The process ids of its workers."""
        return [pid for pid, parent in _worker_processes() if parent == self.pid]


class Site:
    """Folders and a table in which daemons work. `media`: below which sources may be read; `database`: the file of a
    table in SQLite, which it is where no other `database_url` is given."""

    def __init__(self, root: Path, *media: Path, database_url: str | None = None) -> None:
        self.root = root
        self.spool, self.store, self.database = root / "spool", root / "store", root / "thumbd.db"
        self.database_url = database_url or f"sqlite:///{self.database}"
        self.fuses = root / "fuses"
        self.media = media
        self._daemons: list[int] = []
        self._numbers = count(1)
        self.fuses.mkdir()
        for folder in ("in", "in/high", "in/low", "done", "failed"):
            (self.spool / folder).mkdir(parents=True, exist_ok=True)

    # Daemons.

    def daemon(self, fault: str = "", **settings: object) -> Running:
        """Starts a daemon, `fault` being executed in it before it begins. Settings by the names of the environment,
        without the prefix and in small letters."""
        port = free_port()
        said: dict[str, object] = {
            "spool__root": self.spool,
            "spool__min_free_bytes": 0,
            "spool__scan_seconds": 0.25,
            "store__root": self.store,
            "uploads__root": self.root / "uploads",
            "sources__roots": json.dumps([str(root) for root in self.media]),
            "database": self.database_url,
            "secrets__key_file": self.root / "secrets.key",
            "metrics__listen": f"127.0.0.1:{port}",
            "http__listen": "",
            "grpc__listen": "",
            "workers": 1,
            "threads": 1,
            "job__retry_delay": 0.05,
            **settings,
        }
        clean = {name: value for name, value in os.environ.items() if not name.startswith("THUMBD_")}
        environment = clean | {f"THUMBD_{name.upper()}": str(value) for name, value in said.items()}
        prelude = _PRELUDE.format(tests=str(TESTS), fuses=str(self.fuses))
        what = ["-c", prelude + fault + _SERVE] if fault else ["-m", "daemon"]
        log = self.root / f"daemon-{next(self._numbers)}.log"
        running = Running([sys.executable, "-P", *what, "serve"], environment, log, port)
        self._daemons.append(running.pid)
        return running

    def freeze(self, daemon: Running) -> None:
        """Stops a daemon, but not within a transaction: SQLite's lock would stop all the others."""

        def frozen() -> bool:
            daemon.signal(signal.SIGSTOP)
            until(lambda: _state(daemon.pid) == "T", "the daemon stops")
            with closing(sqlite3.connect(self.database, timeout=0, isolation_level=None)) as connection:
                try:
                    connection.execute("begin immediate").execute("rollback")
                    return True
                except sqlite3.OperationalError:
                    daemon.signal(signal.SIGCONT)
                    return False

        until(frozen, "the daemon is stopped outside of a transaction")

    def light(self, fuse: str) -> None:
        """Lets the fault with this fuse happen."""
        (self.fuses / fuse).touch()

    def put_out(self, fuse: str) -> None:
        """Ends it."""
        (self.fuses / fuse).unlink(missing_ok=True)

    # The spool.

    def drop(self, job: dict[str, Any] | bytes, name: str = "job.json", folder: str = "in") -> None:
        """As a careful client does: written elsewhere, renamed in."""
        text = job if isinstance(job, bytes) else json.dumps(job).encode()
        temporary = self.spool / folder / f".{name}.tmp"
        temporary.write_bytes(text)
        temporary.rename(self.spool / folder / name)

    def reports(self, folder: str = "done") -> dict[str, Report]:
        """The reports in `done` or `failed` by their file names."""
        found = {}
        for path in (self.spool / folder).glob("[!.]*.json"):
            found[path.name] = Report.model_validate_json(path.read_bytes())
        return found

    def report(self, name: str = "job", folder: str = "done", seconds: float = PATIENCE) -> Report:
        """Waits for the report of the job that was dropped as `<name>.json`, and gives it; there must be only one."""
        pattern = f"{name}.*.json"

        def there() -> list[Path]:
            found = [*(self.spool / "done").glob(pattern), *(self.spool / "failed").glob(pattern)]
            assert all(path.parent.name == folder for path in found), [path.read_text() for path in found]
            return found

        found = until(there, f"{folder}/{pattern}", seconds)
        assert len(found) == 1, found
        return Report.model_validate_json(found[0].read_bytes())

    def wait_for(self, number: int, folder: str = "done", seconds: float = PATIENCE) -> dict[str, Report]:
        """Waits for so many reports."""
        path = self.spool / folder

        def there() -> bool:
            return sum(not name.startswith(".") and name.endswith(".json") for name in os.listdir(path)) >= number

        until(there, f"{number} reports in {folder}", seconds)
        return self.reports(folder)

    # The store.

    def pictures(self, output: OutputReport) -> list[tuple[float, Path]]:
        """When asked, and the file."""
        if output.pictures is None:
            assert output.at is not None
            return [(output.at, self.store / output.path)]
        return [(picture.at, self.store / picture.path) for picture in output.pictures if picture.path]

    def check_pictures(self, report: Report, clip: Clip) -> None:
        """Each picture shows the frame that it is to show."""
        assert report.status == "completed", report
        seen = [
            (at, number_in(path), numbers_at(at, clip))
            for output in report.outputs
            for at, path in self.pictures(output)
        ]
        assert seen and all(number in wanted for _, number, wanted in seen), seen

    def manifest(self, destination: str) -> Report:
        return Report.model_validate_json((self.store / destination / MANIFEST).read_bytes())

    def files(self, destination: str = "") -> Iterator[Path]:
        """All published files."""
        for path in (self.store / destination).rglob("*"):
            if path.is_file() and ".staging" not in path.parts:
                yield path

    def check_published(self, *reports: Report, with_nothing_else: bool = True) -> None:
        """One attempt published each of these jobs: the one that its report speaks of. All of it is whole, and there is
        nothing else at its destination."""
        for report in reports:
            assert report.status == "completed", report
            destination = report.outputs[0].path.rpartition("/")[0]
            assert self.manifest(destination) == report
            named = {f"{destination}/{MANIFEST}", *(file for output in report.outputs for file in output.files)}
            there = {str(path.relative_to(self.store)) for path in self.files(destination)}
            assert named == there if with_nothing_else else named <= there
            for file in there:
                check_whole(self.store / file)

    def check_clean(self) -> None:
        """Waits until nothing of any attempt or dead daemon is left."""
        until(lambda: not (self.store / ".staging").exists(), "the staging folders are gone")
        until(lambda: not self.orphans(), "there are no orphans")
        until(lambda: not list((self.spool / "claimed").glob("*/[!.]*")), "no claimed file is left")

    def orphans(self) -> list[int]:
        """Workers of daemons that are gone."""
        return [pid for pid, parent in _worker_processes() if parent in self._daemons and _state(parent) in ("", "Z")]

    # The table.

    def rows(self, columns: str = "*") -> list[dict[str, Any]]:
        """What the job table holds, beside the daemon; nothing where there is none yet."""
        if not self.database_url.startswith("sqlite"):
            wanted = text(f"select {columns} from jobs order by key")
            return self.ask(lambda c: [dict(row) for row in c.execute(wanted).mappings()])
        if not self.database.exists():
            return []
        # Not read-only: such a reader may take the journal of a writer that just begins for one that was left behind.
        with closing(sqlite3.connect(f"file:{self.database}?mode=rw", uri=True, timeout=30)) as connection:
            connection.row_factory = sqlite3.Row
            if not connection.execute("select 1 from sqlite_master where name = 'jobs_ended'").fetchone():
                return []
            return [dict(row) for row in connection.execute(f"select {columns} from jobs order by key")]

    def row(self) -> dict[str, Any]:
        """The only job in it."""
        [row] = self.rows()
        return row

    def ask(self, question: Callable[[Connection], T]) -> T:
        """One question to the job table, or one change of it, as the command line does."""
        engine = open_engine(self.database_url)
        try:
            with engine.begin() as connection:
                return question(connection)
        finally:
            engine.dispose()

    def thumbd(self, *arguments: str) -> str:
        """Runs the command beside the daemon; what it printed."""
        environment = dict(os.environ) | {
            "THUMBD_DATABASE": self.database_url,
            "THUMBD_SPOOL__ROOT": str(self.spool),
        }
        command = [sys.executable, "-P", "-m", "daemon", *arguments]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


# The code of a worker that dies as soon as it makes a picture of an output named "crash".
CRASHING = """
import os, signal, time
from daemon.media import outputs
real = outputs.Maker.take
def take(self, index, view):
    if self.asked.name == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(60)  # the signal takes its time where the main thread waits
    real(self, index, view)
outputs.Maker.take = take
from daemon.worker.process import main
main()
"""


def number_in(picture: Path) -> int:
    """The number that a picture shows."""
    with Image.open(picture) as image:
        return read_number(np.asarray(image.convert("RGB"), np.uint8))


def numbers_at(at: float, clip: Clip) -> set[int]:
    """The number that is on the screen then; both, if a time that the report has rounded lies between two frames."""
    rounded = len(str(at).partition(".")[2]) >= DECIMALS
    slack = Fraction(1, 10**DECIMALS) if rounded else Fraction(0)
    return {clip.number_at(Fraction(str(at)) + by) for by in (-slack, slack)}


def check_whole(path: Path) -> None:
    """No file in the store is half written."""
    if path.name == MANIFEST:
        Report.model_validate_json(path.read_bytes())
    elif (reader := READERS.get(path.suffix)) is not None:
        assert reader(path.read_bytes())
    else:
        with Image.open(path) as image:
            image.load()


def _state(pid: int) -> str:
    """The letter of a process's state in /proc; "" where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _worker_processes() -> Iterator[tuple[int, int]]:
    """(process id, process id of the daemon that started it), as in the last but one argument of every worker."""
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            arguments = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")[:-1]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"worker" in b" ".join(arguments) and len(arguments) > 4 and arguments[-2].isdigit():
            yield int(entry), int(arguments[-2])
