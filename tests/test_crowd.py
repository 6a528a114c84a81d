"""Many jobs at once: each is done exactly once, by however many daemons, however often they are killed."""

import random
import signal
from collections import Counter
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from clips import RECIPES, Clip, make
from harness import Running, Site, check_whole, thumbnail, until

pytestmark = pytest.mark.daemons

BY_NAME = {recipe.name: recipe for recipe in RECIPES}
# Sources of all sorts of codecs and containers.
MIXED = (
    *("h264", "h264-mkv", "h264-ts", "h264-flv", "h264-frag", "h264-vfr", "h264-gap", "h264-open-gop", "h264-intra"),
    *(
        "h264-late-ts",
        "hevc",
        "vp8",
        "vp9",
        "av1",
        "mpeg2-ps",
        "mpeg4-avi",
        "mjpeg-mov",
        "wmv2-asf",
        "gif",
        "prores-mov",
    ),
)


def taken(daemon: Running) -> int:
    return len(daemon.said("claimed"))


@pytest.mark.parametrize("jobs", [400, pytest.param(2000, marks=pytest.mark.slow)])
def test_two_daemons_share_many_jobs(jobs: int, database_url: str, tmp_path: Path, clip_folder: Path) -> None:
    clips = [make(BY_NAME[name], clip_folder) for name in ("h264-two-frames", "h264-one-frame", "h264-no-b", "vp8")]
    site = Site(tmp_path, clip_folder, database_url=database_url)
    for n in range(jobs):
        job = {"id": f"n{n}", "source": str(clips[n % 4].path), "outputs": [thumbnail(0, width=80, format="jpeg")]}
        site.drop(job, f"j{n}.json")
    with site.daemon() as one, site.daemon() as other:
        reports = site.wait_for(jobs, seconds=150)
        assert taken(one) > jobs // 20
        assert taken(other) > jobs // 20
    assert Counter(report.attempt for report in reports.values()) == {1: jobs}
    assert {report.id for report in reports.values()} == {f"n{n}" for n in range(jobs)}
    assert Counter(row["token"] for row in site.rows()) == {1: jobs}
    site.check_published(*list(reports.values())[::50])
    assert sum(path.name == "manifest.json" for path in site.files()) == jobs
    site.check_clean()


@pytest.mark.parametrize(
    ("jobs", "kills"), [pytest.param(60, 3, id="some"), pytest.param(500, 10, id="many", marks=pytest.mark.slow)]
)
def test_a_daemon_killed_again_and_again_does_every_job_once(
    jobs: int, kills: int, database_url: str, tmp_path: Path, clip_folder: Path
) -> None:
    chance = random.Random(jobs)
    clips = [make(BY_NAME[name], clip_folder) for name in MIXED]
    site = Site(tmp_path, clip_folder, database_url=database_url)
    for n in range(jobs):
        site.drop(mixed_job(n, clips[n % len(clips)], chance), f"j{n:03}.json")
    for kill in range(kills):
        with site.daemon(workers=2) as daemon:
            # Each kill comes when some more is done, and then at any moment.
            site.wait_for((kill + 1) * jobs // (kills + 2), seconds=120)
            sleep(chance.uniform(0, 0.3))
            daemon.kill()
        until(lambda: not site.orphans(), "its workers die with it")
    with site.daemon(workers=2) as last:
        reports = site.wait_for(jobs, seconds=150)
        site.check_clean()
        last.signal(signal.SIGTERM)
        assert last.exit_code() == 0
    site.check_clean()
    assert site.reports("failed") == {}
    assert len({report.id for report in reports.values()}) == jobs
    assert max(report.attempt for report in reports.values()) > 1  # or no kill hit anything
    assert Counter(row["state"] for row in site.rows()) == {"completed": jobs}
    for name, report in reports.items():
        if report.outputs[0].path.startswith("d/"):
            site.check_published(report)
            site.check_pictures(report, clips[int(name[1:4]) % len(clips)])
    for path in site.files():
        check_whole(path)
    # Of those that published to one place the last is there, and whole.
    for n in range(3):
        site.check_published(last_there := site.manifest(f"shared/{n}"), with_nothing_else=False)
        assert last_there in reports.values()


def mixed_job(n: int, clip: Clip, chance: random.Random) -> dict[str, Any]:
    outputs = [thumbnail(f"{chance.randrange(100)}%", width=160, format=chance.choice(["webp", "jpeg", "png"]))]
    if n % 3 == 0:
        outputs.append({"output": "thumbnails", "count": 4, "width": 100, "name": "series"})
    if n % 5 == 0:
        sheet = {"count": 9, "width": 80, "columns": 3, "rows": 2, "accuracy": "keyframe"}
        outputs.append({"output": "sprite", "name": "sprite", **sheet})
    destination = f"shared/{n % 3}" if n % 10 == 0 else f"d/{n}"
    return {"source": str(clip.path), "destination": destination, "outputs": outputs}
