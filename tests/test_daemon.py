"""A whole daemon: whatever is asked of it, it answers in one line, stays alive, and leaves nothing behind."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from clips import RECIPES, Clip, empty, make, not_a_video, truncated
from harness import CRASHING, Running, Site, thumbnail, until

from daemon.files import MANIFEST
from daemon.jobs import table
from daemon.jobs.table import NewJob

# Says when each publication begins and ends, and lets it last a while. Few files may be open.
WATCHED = """
import resource, time, daemon.app
from daemon.store.folder import Folder
daemon.app._LOOK_SECONDS = 0.25
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
before(os, "fsync", lambda: time.sleep(0.02), calls=range(1, 30), only=file_in("/.staging/"), fuse="slow-disk")
real = Folder.publish
log = open(faults.FUSES / "publications", "a")
def publish(self, name, destination):
    begun = time.monotonic()
    time.sleep(0.02)
    real(self, name, destination)
    print(begun, time.monotonic(), destination, file=log, flush=True)
Folder.publish = publish
"""


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> Clip:
    return make(RECIPES[0], clip_folder)


@pytest.fixture
def site(tmp_path: Path, clip: Clip) -> Site:
    return Site(tmp_path, clip.path.parent, tmp_path / "media")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, clip: Clip) -> Iterator[tuple[Site, Running]]:
    """A site with a daemon of two workers, for all that leaves it alive."""
    root = tmp_path_factory.mktemp("shared")
    site = Site(root, clip.path.parent, root / "media")
    (root / "media").mkdir()
    with site.daemon(WATCHED, workers=2) as daemon:
        yield site, daemon.ready()


def job_of(source: Path | str, *outputs: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {"source": str(source), "outputs": list(outputs) or [thumbnail(1)], **keys}


def long_job(clip: Clip, count: int = 3000, **keys: Any) -> dict[str, Any]:
    """One that takes seconds."""
    return job_of(clip.path, {"output": "thumbnails", "count": count, "width": 160, "name": "long"}, **keys)


def is_running(site: Site, id: str) -> bool:
    return any(row["id"] == id and row["state"] == "running" and row["started"] for row in site.rows())


def test_a_stored_job_that_cannot_be_read_fails_alone(tmp_path: Path, clip: Clip) -> None:
    """As one of a later version, put back by its daemon. It shares its pass with one that is well."""
    site = Site(tmp_path, clip.path.parent)
    text = {"well": job_of(clip.path, thumbnail(1)), "newer": job_of(clip.path, {"output": "hologram"})}
    for id, job in text.items():
        new = NewJob(id, "default", id, str(clip.path), id, 1, json.dumps(job))
        assert site.ask(lambda c, new=new: table.add(c, new))
    with site.daemon() as daemon:
        until(lambda: [row["state"] for row in site.rows()] == ["failed", "completed"], "both are over")
        assert daemon.is_ready()
    newer, well = (site.ask(lambda c, key=key: table.get_by_key(c, key)) for key in ("newer", "well"))
    assert "hologram" in newer.report.error.message
    assert well.report.attempt == 1
    site.check_published(well.report)


# What is wrong with sources.


def broken_sources(root: Path, clip: Clip) -> dict[str, tuple[Path | str, str]]:
    """Sources that cannot be used, and what is said of them."""
    media = root / "media"
    (media / "folder").mkdir()
    (media / "link.mp4").symlink_to(clip.path)
    (media / "linked").symlink_to(clip.path.parent)
    os.mkfifo(media / "fifo.mp4")
    noise, text = not_a_video(media)
    sources: dict[str, tuple[Path | str, str]] = {
        "truncated": (truncated(clip, media, 0.3), "not_a_video"),
        "empty": (empty(media), "source_empty"),
        "noise": (noise, "not_a_video"),
        "text": (text, "not_a_video"),
        "missing": (media / "missing.mp4", "source_missing"),
        "outside": ("/etc/passwd", "source_refused"),
        "upwards": (f"{media}/../../../etc/passwd", "source_refused"),
        "link": (media / "link.mp4", "source_refused"),
        "below-link": (media / "linked" / clip.path.name, "source_refused"),
        "folder": (media / "folder", "source_refused"),
        "fifo": (media / "fifo.mp4", "source_refused"),
        "url": ("https://example.com/film.mp4", "source_refused"),
        "long": ("x" * 300, "source_refused"),
    }
    if os.geteuid() != 0:
        unreadable = media / "unreadable.mp4"
        unreadable.touch(0)
        sources["unreadable"] = (unreadable, "source_refused")
    return sources


def test_a_broken_source_is_told_of_in_one_line(shared: tuple[Site, Running], clip: Clip) -> None:
    site, daemon = shared
    before = set(site.files())
    sources = broken_sources(site.root, clip)
    for name, (source, _) in sources.items():
        site.drop(job_of(source, destination=f"broken-{name}"), f"{name}.json")
    for name, (source, code) in sources.items():
        report = site.report(name, "failed")
        assert report.error is not None
        assert (report.status, report.error.code, report.outputs) == ("failed", code, []), (name, report)
        message = report.error.message
        assert Path(source).name[:40] in message and "\n" not in message and len(message) < 500, (name, message)
        assert report.attempt == 1
    assert set(site.files()) == before
    site.check_clean()
    site.drop(job_of(clip.path), "after-broken.json")
    site.check_pictures(site.report("after-broken"), clip)
    assert daemon.is_ready()


def test_a_report_is_the_manifest_as_it_is(shared: tuple[Site, Running], clip: Clip) -> None:
    site, _ = shared
    site.drop(job_of(clip.path, destination="deep/down"), "deep.json")
    report = site.report("deep")
    spooled = site.spool / "done" / f"deep.{report.id}.json"
    assert (site.store / "deep" / "down" / MANIFEST).read_bytes() == spooled.read_bytes()
    assert site.ask(lambda c: table.get(c, None, report.id)).report == report  # type: ignore[union-attr]


def test_an_optional_output_may_fail(shared: tuple[Site, Running], clip: Clip) -> None:
    site, _ = shared
    outputs = [thumbnail(1, name="well"), thumbnail(1000, name="beyond", optional=True)]
    site.drop(job_of(clip.path, *outputs), "optional.json")
    report = site.report("optional")
    site.check_published(report)
    assert [output.name for output in report.outputs] == ["well"]
    [warning] = report.warnings
    assert warning.startswith("beyond: ") and "1000" in warning


def test_one_output_that_fails_fails_the_job(shared: tuple[Site, Running], clip: Clip) -> None:
    site, _ = shared
    site.drop(job_of(clip.path, thumbnail(1), thumbnail(1000, name="beyond"), destination="half"), "half.json")
    report = site.report("half", "failed")
    assert report.error is not None
    assert (report.error.code, report.error.output) == ("at_past_end", "beyond")
    assert not (site.store / "half").exists()
    site.check_clean()


# What clients may do.


def test_an_id_that_is_submitted_twice_is_one_job(shared: tuple[Site, Running], clip: Clip) -> None:
    site, _ = shared
    for name in ("first.json", "second.json"):
        site.drop(job_of(clip.path, id="twice"), name)
    first = site.report("first")
    assert site.report("second") == first
    # And once more, now that it is over.
    site.drop(job_of(clip.path, id="twice"), "third.json")
    assert site.report("third") == first
    assert [row["token"] for row in site.rows() if row["id"] == "twice"] == [1]


def test_a_running_and_a_waiting_job_are_cancelled(shared: tuple[Site, Running], clip: Clip) -> None:
    site, daemon = shared
    others = [clip.path.with_name(f"{name}-{clip.path.name}") for name in ("second", "waiting")]
    for other in others:
        if not other.exists():
            other.hardlink_to(clip.path)
    site.drop(long_job(clip, id="running", destination="running"), "running.json")
    site.drop({**long_job(clip, id="running-2", destination="running-2"), "source": str(others[0])}, "running-2.json")
    until(lambda: is_running(site, "running") and is_running(site, "running-2"), "both run")
    site.drop(job_of(others[1], id="waiting", destination="waiting"), "waiting.json")
    until(lambda: any(row["id"] == "waiting" for row in site.rows()), "it is accepted")
    for id in ("waiting", "running", "running-2"):
        site.ask(lambda c: table.cancel(c, None, id))  # noqa: B023
    for id in ("waiting", "running", "running-2"):
        report = site.report(id, "failed")
        assert report.error is not None and report.error.code == "cancelled"
        assert not (site.store / id).exists()
    site.check_clean()
    # Both workers go on.
    for n, source in enumerate((clip.path, others[0])):
        site.drop(job_of(source), f"after-cancel-{n}.json")
        site.check_published(site.report(f"after-cancel-{n}"))
    assert daemon.metrics()['thumbd_jobs_finished_total{outcome="cancelled"}'] == 2


def test_a_failed_job_is_run_again_by_hand(shared: tuple[Site, Running], clip: Clip) -> None:
    site, _ = shared
    source = site.root / "media" / "later.mp4"
    site.drop(job_of(source, id="later"), "later.json")
    assert site.report("later", "failed").attempt == 1
    shutil.copy(clip.path, source)
    site.ask(lambda c: table.retry(c, None, "later"))
    until(lambda: list((site.spool / "done").glob("later.*")), "it is done")
    report = site.reports()["later.later.json"]
    site.check_published(report)
    assert report.attempt == 2


def test_publications_to_one_place_come_one_after_the_other(shared: tuple[Site, Running], clip: Clip) -> None:
    site, _ = shared
    places = ["one", "one", "one/two", "one/two", "one/two/three", "other", "one-more"] * 4
    for number, place in enumerate(places):
        site.drop(job_of(clip.path, thumbnail(number / 20), destination=f"place/{place}"), f"place-{number}.json")
    reports = [site.report(f"place-{number}") for number in range(len(places))]
    for place in set(places):
        manifest = site.manifest(f"place/{place}")
        assert manifest in reports
        site.check_pictures(manifest, clip)
    lines = [line.split() for line in (site.fuses / "publications").read_text().splitlines()]
    spans = sorted((float(begun), float(ended), place) for begun, ended, place in lines if place.startswith("place/"))
    assert len(spans) == len(places)
    for number, (_, ended, place) in enumerate(spans):
        for begun, _, other in spans[number + 1 :]:
            if begun < ended:
                assert not (f"{place}/".startswith(f"{other}/") or f"{other}/".startswith(f"{place}/"))
    assert any(begun < ended for (_, ended, _), (begun, _, _) in pairwise(spans))  # those apart do overlap
    site.check_clean()


def test_a_destination_may_turn_out_to_be_a_file(shared: tuple[Site, Running], clip: Clip) -> None:
    site, daemon = shared
    site.drop(job_of(clip.path, thumbnail(1, name="name"), destination="file"), "file-1.json")
    site.drop(job_of(clip.path, destination="file/name.png"), "file-2.json")
    site.check_published(site.report("file-1"))
    report = site.report("file-2", "failed")
    assert report.error is not None and report.error.code == "bad_job"
    assert "file/name.png" in report.error.message
    site.check_clean()
    until(daemon.is_ready, "it is ready")


def test_a_long_series_does_not_run_out_of_descriptors(shared: tuple[Site, Running], clip: Clip) -> None:
    site, _ = shared
    site.light("slow-disk")
    site.drop(long_job(clip, 1500, destination="many"), "many.json")
    report = site.report("many")
    site.put_out("slow-disk")
    assert report.attempt == 1 and len(report.outputs[0].pictures or ()) == 1500
    assert len(os.listdir(site.store / "many")) == 1502


def test_the_metrics_are_there_and_move(shared: tuple[Site, Running], clip: Clip) -> None:
    site, daemon = shared
    before = daemon.metrics()
    site.drop(job_of(clip.path), "metrics.json")
    site.drop(b'{"source": 1}', "refused.json")
    site.drop(job_of("missing.mp4"), "missing-metrics.json")
    site.report("metrics")
    site.report("refused", "failed")
    site.report("missing-metrics", "failed")
    after = until(lambda: _moved(before, daemon.metrics()), "the metrics moved")
    assert after["thumbd_spool_free_bytes"] > 0
    names = {name.partition("{")[0] for name in after}
    assert names >= {
        "thumbd_build_info",
        "thumbd_oldest_queued_job_timestamp_seconds",
        "thumbd_job_queue_duration_seconds_count",
        "thumbd_worker_exits_total",
        "thumbd_lease_lost_total",
        "thumbd_spool_files",
    }


MOVING = [
    'thumbd_jobs_submitted_total{source="spool"}',
    'thumbd_jobs_rejected_total{reason="bad_job",source="spool"}',
    'thumbd_jobs_finished_total{outcome="completed"}',
    'thumbd_jobs_finished_total{outcome="failed"}',
    'thumbd_jobs{state="completed"}',
    'thumbd_jobs{state="failed"}',
    'thumbd_job_duration_seconds_count{outcome="completed"}',
    'thumbd_stage_duration_seconds_count{stage="decode"}',
    "thumbd_source_read_bytes_total",
    "thumbd_output_written_bytes_total",
    'thumbd_frames_decoded_total{codec="h264",device="cpu"}',
    'thumbd_pictures_encoded_total{format="png"}',
    "thumbd_batch_jobs_count",
    'thumbd_table_operation_duration_seconds_count{op="claim"}',
    "thumbd_spool_scan_duration_seconds_count",
]


AT_REST = {
    "thumbd_ready": 1,
    'thumbd_workers{state="up"}': 2,
    'thumbd_intake_paused{reason="trouble"}': 0,
    'thumbd_jobs{state="running"}': 0,
}


def _moved(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    moved = all(after.get(name, 0) > before.get(name, 0) for name in MOVING)
    return after if moved and AT_REST.items() <= after.items() else {}


def copies(site: Site, clip: Clip, count: int) -> list[Path]:
    """Sources that are not the same file to the daemon."""
    folder = site.root / "media"
    folder.mkdir()
    for number in range(count):
        (folder / f"film-{number}.mp4").hardlink_to(clip.path)
    return sorted(folder.iterdir())


# Many jobs at once are in test_crowd.py.


def test_a_full_queue_pauses_intake_until_there_is_room(site: Site, clip: Clip) -> None:
    for number in range(30):
        site.drop(job_of(clip.path), f"{number}.json")
    # At most four a look: or it would take them all at once.
    few = "import daemon.app, daemon.intake.inbox\ndaemon.app._LOOK_SECONDS = 0.1\ndaemon.intake.inbox._AT_ONCE = 4\n"
    with site.daemon(few, spool__max_queued=3, job__riders=0) as daemon:
        site.wait_for(30)
        assert daemon.is_ready()


# Workers.


def test_a_job_that_kills_its_workers_harms_no_other(site: Site, clip: Clip) -> None:
    command = [sys.executable, "-P", "-c", CRASHING]
    crashing = f"from daemon.worker.handle import Worker\nWorker.__init__.__defaults__ = ({command!r},)\n"
    [other] = copies(site, clip, 1)
    for number in range(6):
        site.drop(job_of(clip.path, thumbnail(number / 4)), f"{number}.json")
    site.drop(job_of(clip.path, thumbnail(1), thumbnail(1, name="crash"), destination="killer"), "killer.json")
    site.drop(job_of(other), "other.json")
    with site.daemon(crashing, workers=2) as daemon:
        report = site.report("killer", "failed")
        assert report.error is not None
        assert (report.error.code, "SIGSEGV" in report.error.message) == ("worker_died", True)
        assert report.attempt == 4  # once with the others, three times alone
        for name in (*map(str, range(6)), "other"):
            good = site.report(name)
            site.check_published(good)
            site.check_pictures(good, clip)
        assert not (site.store / "killer").exists()
        site.check_clean()
        metrics = daemon.metrics()
        assert metrics['thumbd_worker_exits_total{reason="signal"}'] == 4
        assert metrics['thumbd_job_retries_total{reason="worker_died"}'] >= 3
    [row] = [row for row in site.rows() if row["destination"] == "killer"]
    assert (row["deaths"], row["failures"]) == (2, 0) or (row["deaths"], row["failures"]) == (3, 0)


def test_a_job_that_gets_nowhere_is_stopped(site: Site, clip: Clip) -> None:
    with site.daemon(job__timeout=0.5) as daemon:
        site.drop(long_job(clip, destination="slow"), "slow.json")
        site.drop(job_of(clip.path), "quick.json")
        report = site.report("slow", "failed")
        assert report.error is not None and report.error.code == "worker_timeout"
        assert "job.timeout" in report.error.message
        site.check_published(site.report("quick"))
        assert daemon.metrics()['thumbd_worker_exits_total{reason="timeout"}'] >= 1


# Stopping.


def test_sigterm_lets_what_runs_end_and_leaves_the_rest(site: Site, clip: Clip) -> None:
    [other] = copies(site, clip, 1)
    site.light("hold")
    site.drop(job_of(clip.path, id="long"), "long.json")
    with site.daemon('before(os, "write", hold("long"), only=file_in("/.staging/"), fuse="hold")\n') as daemon:
        until((site.fuses / "long.held").exists, "it runs")
        site.drop(job_of(other, id="next"), "next.json")
        until(lambda: len(site.rows("id")) == 2, "it is accepted")
        daemon.signal(signal.SIGTERM)
        until(lambda: daemon.answer("/readyz")[0] == 503, "it says that it is not ready")
        site.drop(job_of(other), "late.json")
        site.put_out("long.held")
        assert daemon.exit_code() == 0
    site.check_published(site.report("long"))
    assert {row["id"]: (row["state"], row["token"]) for row in site.rows()} == {
        "long": ("completed", 1),
        "next": ("queued", 0),
    }
    assert (site.spool / "in" / "late.json").exists()
    site.check_clean()
    assert os.listdir(site.spool / "claimed") == []

    # No time to end it: it is given back, at once with a second signal, and nothing is charged.
    site.drop(long_job(clip, 600, id="back"), "back.json")
    for grace, signals in ((0.1, 1), (60, 2)):
        with site.daemon(grace=grace) as daemon:
            until(lambda: is_running(site, "back"), "it runs")
            for _ in range(signals):
                daemon.signal(signal.SIGTERM)
                until(lambda: daemon.said("draining"), "it drains")
            assert daemon.exit_code(10) == 0
        site.check_clean()
        [row] = [row for row in site.rows() if row["id"] == "back"]
        charged = [row[key] for key in ("failures", "deaths", "lost_starts", "suspect")]
        assert (row["state"], row["owner"], charged) == ("queued", None, [0, 0, 0, 0])
    with site.daemon() as daemon:
        assert site.report("back").attempt == 3
        site.report("next")
        site.report("late")


def test_a_second_signal_ends_a_daemon_whose_store_is_broken(site: Site, clip: Clip) -> None:
    broken = 'before(Path, "rename", fail(errno.EROFS), calls=ALWAYS, only=to("/store/stuck"))\n'
    site.drop(job_of(clip.path, destination="stuck"), "stuck.json")
    with site.daemon(broken) as daemon:
        until(lambda: daemon.said("publishing will be tried again"), "it tries")
        for _ in range(2):
            daemon.signal(signal.SIGTERM)
            until(lambda: daemon.said("draining"), "it drains")
        assert daemon.exit_code(10) == 0
    # Past the point of no return it is never decoded again; while it cannot be published, all else goes on.
    with site.daemon(broken) as daemon:
        until(lambda: daemon.said("publishing will be tried again"), "it tries")
        daemon.ready()
        daemon.signal(signal.SIGTERM)
        until(lambda: daemon.said("draining"), "it drains")
        daemon.signal(signal.SIGTERM)
        assert daemon.exit_code(10) == 0
    with site.daemon():
        report = site.report("stuck")
        assert report.attempt == 1
        site.check_published(report)
        site.check_clean()
