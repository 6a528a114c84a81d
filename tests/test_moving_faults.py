"""Clips in a daemon: a death in the midst of writing leaves nothing behind, and nothing half written is published."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest
from clips import RECIPES, Clip, make
from harness import Running, Site, thumbnail, until

from daemon.report import Report

pytestmark = pytest.mark.daemons

FAULTS = """
from daemon.store.staging import Staging
before(Staging, "settle", die, fuse="before-settle")
before(os, "fsync", fail(errno.EIO), only=file_in("/long.mp4"), fuse="sync-clip")
before(os, "open", fail(errno.ENOSPC), only=to("/long.mp4"), fuse="no-clip")
"""


@pytest.fixture(scope="module")
def film(clip_folder: Path) -> Clip:
    return make(replace(RECIPES[0], name="h264-10s", frames=250), clip_folder)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, film: Clip) -> Site:
    return Site(tmp_path_factory.mktemp("moving"), film.path.parent)


@pytest.fixture
def daemon(site: Site) -> Iterator[Running]:
    with site.daemon(FAULTS, job__lease=1) as daemon:
        yield daemon.ready()


def clip_job(film: Clip, destination: str, **keys: Any) -> dict[str, Any]:
    """One that is written for a while."""
    clip = {"output": "clip", "name": "long", "width": 640, "upscale": True, **keys}
    return {"source": str(film.path), "destination": destination, "outputs": [clip, thumbnail(name="poster")]}


def being_written(site: Site) -> bool:
    return any(path.stat().st_size for path in (site.store / ".staging").glob("*/long.mp4"))


def check_published(site: Site, report: Report, frames: int) -> None:
    assert report.status == "completed"
    path = site.store / report.outputs[0].path
    assert path.stat().st_size == report.outputs[0].bytes
    with av.open(path) as container:
        assert sum(1 for packet in container.demux(video=0) if packet.size) == report.outputs[0].frames == frames
    destination = report.outputs[0].path.partition("/")[0]
    assert {path.name for path in site.files(destination)} == {"long.mp4", "poster.png", "manifest.json"}
    assert site.manifest(destination) == report
    site.check_clean()


def test_a_worker_dies_while_it_writes(site: Site, film: Clip, daemon: Running) -> None:
    site.drop(clip_job(film, "worker"), "worker.json")
    until(lambda: being_written(site), "the clip is begun")
    assert not list(site.files("worker"))
    [worker] = daemon.workers()
    os.kill(worker, signal.SIGKILL)
    report = site.report("worker")
    assert report.attempt == 2
    check_published(site, report, 250)


def test_a_daemon_dies_while_its_worker_writes(site: Site, film: Clip, daemon: Running) -> None:
    site.drop(clip_job(film, "daemon"), "daemon.json")
    until(lambda: being_written(site), "the clip is begun")
    daemon.kill()
    assert not list(site.files("daemon"))
    with site.daemon():
        report = site.report("daemon")
    assert report.attempt == 2
    check_published(site, report, 250)


def test_a_daemon_dies_before_the_clip_is_on_the_disk(site: Site, film: Clip, daemon: Running) -> None:
    site.light("before-settle")
    site.drop(clip_job(film, "settle", duration=1), "settle.json")
    daemon.killed()
    assert not list(site.files("settle"))
    with site.daemon():
        check_published(site, site.report("settle"), 25)


@pytest.mark.parametrize("fuse", ["sync-clip", "no-clip"])
def test_a_disk_that_fails_costs_no_attempt(fuse: str, site: Site, film: Clip, daemon: Running) -> None:
    site.light(fuse)
    site.drop(clip_job(film, fuse, duration=1, optional=True), f"{fuse}.json")
    report = site.report(fuse)
    assert (site.fuses / fuse).exists() is False
    check_published(site, report, 25)
    assert [row["failures"] for row in site.rows() if row["destination"] == fuse] == [0]


def test_metrics_count_what_was_written(site: Site, film: Clip, daemon: Running) -> None:
    job = clip_job(film, "metrics", duration=1)
    site.drop({**job, "outputs": job["outputs"][:1]}, "metrics.json")
    report = site.report("metrics")
    metrics = daemon.metrics()
    assert metrics["thumbd_output_written_bytes_total"] == report.outputs[0].bytes
    assert metrics['thumbd_pictures_encoded_total{format="mp4"}'] == 1


def test_jobs_with_many_files_do_not_share_a_pass(site: Site, film: Clip, tmp_path: Path) -> None:
    """A task takes 64 files; more jobs than can ride along wait for the next one, and lose nothing by it."""
    stills = [{"output": "animation", "name": f"a{n}", "duration": 0.1, "width": 32} for n in range(40)]
    with site.daemon():
        site.drop(clip_job(film, "first"), "first.json")
        until(lambda: being_written(site), "the worker is busy")
        for n in range(3):
            site.drop({"source": str(film.path), "destination": f"many-{n}", "outputs": stills}, f"many-{n}.json")
        reports = [site.report(f"many-{n}") for n in range(3)]
    assert [len(report.outputs) for report in reports] == [40, 40, 40]
    assert max(report.attempt for report in reports) > 1
    assert {row["failures"] for row in site.rows()} == {0}
    site.check_clean()
