"""The failure table, event by event: a real daemon is killed, stopped or given errors at one certain point, and its
successor, or it itself later on, makes it good.

Every daemon here carries all faults; a test lights the fuse of one. So one start a death is enough: whoever takes over
after one event is the victim of the next.
"""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clips import RECIPES, Clip, make
from harness import Running, Site, thumbnail, until

from daemon.report import Report

pytestmark = pytest.mark.daemons

FAULTS = """
import daemon.app
from daemon.intake.spool import Spool
from daemon.jobs import lease, table
from daemon.store.folder import Folder

daemon.app._LOOK_SECONDS = 0.25  # how long it waits before it looks whether the disk is well again

before(Path, "rename", die, only=to("/claimed/"), fuse="before-claim")
after(Path, "rename", die, only=to("/claimed/"), fuse="after-claim")
before(Spool, "taken_in", die, fuse="after-accept-commit")
before(os, "write", die, calls=3, only=file_in("/.staging/"), fuse="decoding")
after(lease, "publishing", die, fuse="before-publishing-commit")
before(Folder, "publish", die, fuse="after-publishing-commit")
after(Path, "rename", die, only=to("/replaced-"), calls=3, fuse="between-renames")
before(Path, "rename", die, only=to("manifest.json"), fuse="before-manifest")
after(Folder, "publish", die, fuse="after-renames")
after(lease, "complete", die, fuse="before-complete-commit")
before(Spool, "write_reports", die, fuse="before-report")
before(Path, "rename", die, only=to("/done/"), fuse="in-report")
before(table, "reported", die, fuse="after-report")

before(os, "write", hold("decoding"), calls=2, only=file_in("/.staging/"), fuse="hold-decoding")
before(Folder, "publish", hold("publish"), fuse="hold-publish")
before(Path, "rename", hold("old-manifest"), only=to("/.manifest-"), fuse="hold-old-manifest")
after(Path, "rename", hold("renames"), only=to("/replaced-"), calls=2, fuse="hold-renames")

before(os, "write", fail(errno.ENOSPC), calls=3, only=file_in("/.staging/"), fuse="full-picture")
before(os, "fsync", fail(errno.EIO), calls=2, only=file_in("/.staging/"), fuse="sync-picture")
before(os, "fsync", fail(errno.EIO), only=file_in("/manifest.json"), fuse="sync-manifest")
before(Path, "mkdir", fail(errno.ENOSPC), only=to("/.staging/"), fuse="no-staging")
before(Path, "rename", fail(errno.ENOSPC), only=to("/store/"), fuse="no-rename")
before(os, "fsync", fail(errno.EIO), only=file_in("/done/"), fuse="sync-report")
before(os, "open", fail(errno.ENOSPC), only=to("/done/"), fuse="no-report")
before(os, "open", fail(errno.EMFILE), only=to("/in/"), fuse="no-descriptor")
before(Path, "rename", fail(errno.EIO), only=to("/claimed/"), fuse="no-claim")
before(Path, "unlink", fail(errno.EIO), only=to("__no-unlink"), fuse="no-unlink")
for call in ("write", "fsync"):
    before(os, call, fail(errno.ENOSPC), calls=ALWAYS, only=file_in("/store/"), fuse="full-for-long")
"""


class Relay:
    """A site on which there is always one armed daemon."""

    def __init__(self, root: Path, clip: Clip) -> None:
        self.site = Site(root, clip.path.parent)
        self.clip = clip
        self.daemon = self.start()

    def start(self) -> Running:
        return self.site.daemon(FAULTS, job__lease=1)

    def dies(self) -> None:
        """Waits until the daemon died of its fault, and lets the next one take over."""
        assert self.daemon.exit_code() == -signal.SIGKILL
        self.daemon = self.start()

    def settled(self, report: Report) -> None:
        """Waits until nothing is owed, and nothing left of what was begun; the job is one row."""
        until(lambda: not any(row["report_due"] for row in self.site.rows("report_due")), "no report is due")
        self.site.check_clean()
        assert [row["state"] for row in self.site.rows() if row["id"] == report.id] == ["completed"]

    def job(self, destination: str, count: int = 4) -> dict[str, Any]:
        """A series, and the picture at 1 s with the number 25."""
        series = {"output": "thumbnails", "count": count, "name": "series", "width": 160, "format": "png"}
        outputs = [series, thumbnail(1, name="poster")]
        return {"source": str(self.clip.path), "destination": destination, "outputs": outputs}


@pytest.fixture(scope="module")
def the_relay(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path) -> Iterator[Relay]:
    relay = Relay(tmp_path_factory.mktemp("relay"), make(RECIPES[0], clip_folder))
    yield relay
    relay.daemon.kill()


@pytest.fixture
def relay(the_relay: Relay, request: pytest.FixtureRequest) -> Iterator[Relay]:
    """The relay, its daemon at work; its log is shown where the test fails."""
    if the_relay.daemon.process.poll() is not None:
        the_relay.daemon = the_relay.start()
    yield the_relay
    if unburnt := list(the_relay.site.fuses.iterdir()):  # the test failed
        the_relay.daemon.kill()
        for fuse in unburnt:
            fuse.unlink()
    print(the_relay.daemon.log_file.read_text()[-8000:])


# The event, and the attempt that publishes then.
KILLED: list[tuple[str, int]] = [
    ("before-claim", 1),
    ("after-claim", 1),
    ("after-accept-commit", 1),
    ("decoding", 2),
    ("before-publishing-commit", 2),
    ("after-publishing-commit", 1),
    ("after-renames", 1),
    ("before-complete-commit", 1),
    ("before-report", 1),
    ("in-report", 1),
    ("after-report", 1),
]


@pytest.mark.parametrize(("event", "attempt"), KILLED, ids=[event for event, _ in KILLED])
def test_a_daemon_is_killed(relay: Relay, event: str, attempt: int) -> None:
    relay.site.light(event)
    relay.site.drop(relay.job(event), f"{event}.json")
    relay.dies()
    report = relay.site.report(event)
    assert report.attempt == attempt
    relay.site.check_pictures(report, relay.clip)
    relay.site.check_published(report)
    relay.settled(report)


# The same, where the destination holds an older publication.
KILLED_BETWEEN = ["between-renames", "before-manifest"]


@pytest.mark.parametrize("event", KILLED_BETWEEN)
def test_a_daemon_is_killed_while_it_replaces_files(relay: Relay, event: str) -> None:
    older, newer = relay.job(f"replaced-{event}"), relay.job(f"replaced-{event}", count=3)
    relay.site.drop(older, f"{event}-older.json")
    relay.site.report(f"{event}-older")
    newer["outputs"][0]["end"] = "50%"  # the same names, other pictures
    relay.site.light(event)
    relay.site.drop(newer, f"{event}-newer.json")
    assert relay.daemon.exit_code() == -signal.SIGKILL
    # Half of it is replaced: nobody may take this for complete.
    assert not (relay.site.store / older["destination"] / "manifest.json").exists()
    relay.daemon = relay.start()
    report = relay.site.report(f"{event}-newer")
    assert report.attempt == 1
    relay.site.check_pictures(report, relay.clip)
    relay.site.check_published(report, with_nothing_else=False)
    relay.settled(report)


PAUSED = [("decoding", 2), ("publish", 1), ("old-manifest", 1), ("renames", 1)]


@pytest.mark.parametrize(("where", "attempt"), PAUSED, ids=[where for where, _ in PAUSED])
def test_a_paused_daemon_publishes_nothing_when_it_wakes_up(relay: Relay, where: str, attempt: int) -> None:
    destination = f"replaced-paused-{where}"
    older, newer, newest = (relay.job(destination, count) for count in (4, 3, 2))
    relay.site.drop(older, f"{where}-older.json")
    relay.site.report(f"{where}-older")
    relay.site.light(f"hold-{where}")
    relay.site.drop(newer, f"{where}-newer.json")
    until((relay.site.fuses / f"{where}.held").exists, "it is held")
    relay.site.freeze(relay.daemon)
    with relay.start() as other:
        # Another one takes the job over when its lease ends, and does what comes after.
        report = relay.site.report(f"{where}-newer")
        assert report.attempt == attempt
        relay.site.check_pictures(report, relay.clip)
        relay.site.drop(newest, f"{where}-newest.json")
        last = relay.site.report(f"{where}-newest")
        before = {path: path.stat().st_mtime_ns for path in relay.site.files(destination)}
        # The old one goes on where it was; it has had its say when it did another job.
        relay.site.put_out(f"{where}.held")
        relay.daemon.signal(signal.SIGCONT)
        other.kill()
        relay.site.drop(relay.job(f"after-{where}"), f"after-{where}.json")
        relay.site.check_published(relay.site.report(f"after-{where}"))
    assert before == {path: path.stat().st_mtime_ns for path in relay.site.files(destination)}
    relay.site.check_published(last, with_nothing_else=False)
    assert relay.site.report(f"{where}-newer") == report
    relay.settled(last)


def test_a_daemon_that_was_paused_alone_goes_on_with_its_job(relay: Relay) -> None:
    relay.site.light("hold-decoding")
    relay.site.drop(relay.job("alone"), "alone.json")
    until((relay.site.fuses / "decoding.held").exists, "it is held")
    relay.site.freeze(relay.daemon)
    until(lambda: all((row["lease_until"] or 0) < time.time() for row in relay.site.rows()), "its lease is over")
    relay.site.put_out("decoding.held")
    relay.daemon.signal(signal.SIGCONT)
    report = relay.site.report("alone")
    assert report.attempt == 1
    relay.site.check_published(report)
    relay.settled(report)


BROKEN = [
    "full-picture",
    "sync-picture",
    "sync-manifest",
    "no-staging",
    "no-rename",
    "sync-report",
    "no-report",
    "no-descriptor",
    "no-claim",
    "no-unlink",
]


@pytest.mark.parametrize("fault", BROKEN)
def test_the_disk_says_no_once(relay: Relay, fault: str) -> None:
    relay.site.light(fault)
    relay.site.drop(relay.job(fault), f"{fault}.json")
    report = relay.site.report(fault)
    relay.site.check_pictures(report, relay.clip)
    relay.site.check_published(report)
    relay.settled(report)
    [row] = [row for row in relay.site.rows() if row["id"] == report.id]
    assert (row["failures"], row["deaths"], row["lost_starts"]) == (0, 0, 0)


def test_the_disk_is_full_for_long(relay: Relay) -> None:
    relay.site.light("full-for-long")
    relay.site.drop(relay.job("full"), "full.json")
    until(lambda: relay.daemon.answer("/readyz")[0] == 503, "it says that it is not ready")
    assert "No space left" in relay.daemon.answer("/readyz")[1]
    assert relay.daemon.answer("/livez")[0] == 200
    until(lambda: relay.daemon.metrics()['thumbd_intake_paused{reason="trouble"}'], "intake pauses")
    relay.site.drop(relay.job("waiting"), "waiting.json")
    assert not (relay.site.store / "full").exists()
    relay.site.put_out("full-for-long")
    for name in ("full", "waiting"):
        report = relay.site.report(name)
        relay.site.check_published(report)
        relay.settled(report)
    relay.daemon.ready()
