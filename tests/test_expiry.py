"""Files whose time is over leave, and nothing else does."""

import os
from pathlib import Path
from typing import Any

import pytest
from clips import RECIPES, Clip, make
from harness import Site, thumbnail, until

from daemon.files import MANIFEST
from daemon.jobs import errands, table

pytestmark = pytest.mark.daemons


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> Clip:
    return make(RECIPES[0], clip_folder)


@pytest.fixture
def site(tmp_path: Path, clip: Clip) -> Site:
    return Site(tmp_path, clip.path.parent)


def job_of(clip: Clip, *outputs: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {"source": str(clip.path), "outputs": list(outputs), "destination": "film", **keys}


def expiries(site: Site, id: str) -> list[errands.Known]:
    known = site.ask(lambda c: table.get(c, None, id))
    return (
        []
        if known is None
        else [each for each in site.ask(lambda c: errands.of(c, known.key)) if each.kind == "expiry"]
    )


def gone(site: Site, id: str) -> errands.Known:
    until(lambda: [each.state for each in expiries(site, id)] == ["done"], f"files of {id} are gone")
    [done] = expiries(site, id)
    return done


def names(site: Site) -> set[str]:
    return {str(path.relative_to(site.store / "film")) for path in site.files("film")}


def test_a_whole_job_expires(site: Site, clip: Clip) -> None:
    sprite = {"output": "sprite", "name": "scrub", "count": 2, "width": 64, "layout": "jellyfin"}
    with site.daemon() as daemon:
        site.drop(job_of(clip, thumbnail(1), sprite, id="one", ttl="10ms", destination="films/film"))
        assert gone(site, "one").message == "2 files"
        assert os.listdir(site.store / "films") == []
        assert len(site.report().outputs) == 2  # which stays
        assert daemon.metrics()['thumbd_owed_finished_total{kind="expiry",outcome="done"}'] == 1
        site.check_clean()


def test_one_output_expires_and_the_manifest_says_so(site: Site, clip: Clip) -> None:
    short = thumbnail(1, name="short", ttl=0.01)
    with site.daemon():
        site.drop(job_of(clip, short, thumbnail(1, name="long", ttl="24h"), thumbnail(1, name="ever"), id="one"))
        until(lambda: sorted(each.state for each in expiries(site, "one")) == ["done", "due"], "one is gone")
        assert names(site) == {"long.png", "ever.png", MANIFEST}
        assert [output.name for output in site.manifest("film").outputs] == ["long", "ever"]
        assert [output.name for output in site.report().outputs] == ["short", "long", "ever"]
        [later] = [each for each in expiries(site, "one") if each.state == "due"]
        assert "expiry  due  long" in site.thumbd("status", "one")
    [row] = site.rows("ended_at")
    assert later.due_at == pytest.approx(row["ended_at"] + 86400, abs=0.01)


def test_what_another_job_published_since_stays(site: Site, clip: Clip) -> None:
    with site.daemon():
        site.drop(job_of(clip, thumbnail(1, name="a"), thumbnail(1, name="b"), id="one", ttl="1h"))
        site.report()
        site.drop(job_of(clip, thumbnail(2, name="a"), id="two"), "two.json")
        second = site.report("two")
    site.ask(lambda c: c.exec_driver_sql("update errands set due_at = 0 where kind = 'expiry' and state = 'due'"))
    with site.daemon():
        assert gone(site, "one").message == "1 files"
        assert names(site) == {"a.png", MANIFEST}
        assert site.manifest("film") == second
        site.check_pictures(second, clip)


@pytest.mark.slow
def test_kill_9_while_files_are_removed(site: Site, clip: Clip) -> None:
    places = [
        'before(Folder, "expire", die)',
        'after(Folder, "expire", die)',
        'after(Path, "unlink", die, only=to("/film/"))',
        'after(Path, "unlink", die, calls=2, only=to("/film/"))',
        'before(Path, "rename", die, only=to("/film/manifest.json"), fuse="now")',
        'before(Path, "rmdir", die, only=to("/film"))',
        'before(errands, "finish", die)',
    ]
    prelude = "from daemon.jobs import errands\nfrom daemon.store.folder import Folder\n"
    for number, place in enumerate(places):
        outputs = [thumbnail(1, name=name, ttl="10ms") for name in ("a", "b")]
        outputs += [thumbnail(1, name="ever")] if "rename" in place else []
        site.drop(job_of(clip, *outputs, id=str(number), destination=f"{number}/film"), f"{number}.json")
        if "rename" in place:  # the manifest's own publication renames it too
            with site.daemon(
                "import asyncio, daemon.owed.expiry as over\nover.Expiry.pay = lambda *given: asyncio.Event().wait()\n"
            ) as daemon:
                site.report(str(number))
            site.light("now")
        with site.daemon(prelude + place + "\n") as daemon:
            daemon.killed()
    with site.daemon():
        for number, place in enumerate(places):
            gone(site, str(number))
            left = {path.name for path in site.files(f"{number}")}
            assert left == ({"ever.png", MANIFEST} if "rename" in place else set()), place
            if left:
                assert [output.name for output in site.manifest(f"{number}/film").outputs] == ["ever"]
        site.check_clean()
