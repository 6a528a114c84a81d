"""`"cache": true` through a real daemon: what was made before is used again, and nothing else ever is.

Every job here has a folder of its own unless it says otherwise, and every picture a number that says what it shows.
"""

import os
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from clips import RECIPES, Clip, make
from harness import Running, Site, number_in, numbers_at, thumbnail, until

from daemon.catalogue import videos
from daemon.report import OutputReport, Report, SourceFacts

pytestmark = pytest.mark.daemons

# Every pass over a source leaves a mark before it begins.
FAULTS = """
from daemon.production import Production
before(Production, "__init__", lambda: print(1, file=open(faults.FUSES / "passes", "a"), flush=True), calls=ALWAYS)
from daemon.store.staging import Staging
before(Staging, "adopt", hold("before-link"), fuse="hold-before-link")
after(Staging, "adopt", hold("after-link"), fuse="hold-after-link")
"""
FRAMES = 'thumbd_frames_decoded_total{codec="h264",device="cpu"}'
HITS, MISSES = (f'thumbd_cache_requests_total{{result="{result}"}}' for result in ("hit", "miss"))


class Bench:
    """A daemon, and jobs for it."""

    def __init__(self, site: Site, daemon: Running, clip: Clip, media: Path) -> None:
        self.site = site
        self.daemon = daemon
        self.clip = clip
        self._media = media
        self._numbers = count(1)

    def film(self) -> Path:
        """A copy of the clip of which nothing was made yet."""
        copy = self._media / f"film-{next(self._numbers)}.mp4"
        shutil.copy(self.clip.path, copy)
        return copy

    def drop(self, source: Path | str, *outputs: dict[str, Any], **keys: Any) -> str:
        name = f"job-{next(self._numbers)}"
        job = {"source": str(source), "outputs": list(outputs), "cache": True, **keys}
        self.site.drop({"id": name, **job}, f"{name}.json")
        return name

    def run(self, source: Path | str, *outputs: dict[str, Any], **keys: Any) -> Report:
        return self.site.report(self.drop(source, *outputs, **keys))

    def cached(self, source: Path | str, *outputs: dict[str, Any], **keys: Any) -> list[bool]:
        """Which outputs of a job were made before; what it published is whole and shows what it should."""
        report = self.run(source, *outputs, **keys)
        self.site.check_published(report, with_nothing_else="destination" not in keys)
        for output in report.outputs:
            if output.output == "thumbnail":
                assert number_in(self.site.store / output.path) in numbers_at(output.at or 0, self.clip)
        return [output.cached for output in report.outputs]

    def passes(self) -> int:
        """How often a worker was asked for pictures."""
        return self.site.fuses.joinpath("passes").read_text().count("1")

    def bytes_of(self, output: OutputReport) -> dict[str, bytes]:
        """The files of an output, by their names in its folder."""
        return {Path(file).name: (self.site.store / file).read_bytes() for file in output.files}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path) -> Iterator[Bench]:
    root = tmp_path_factory.mktemp("cache")
    media = root / "media"
    media.mkdir()
    site = Site(root, media)
    with site.daemon(FAULTS, workers=2) as daemon:
        yield Bench(site, daemon.ready(), make(RECIPES[0], clip_folder), media)


def test_a_hit_is_the_same_file_and_decodes_nothing(bench: Bench) -> None:
    film = bench.film()
    first = bench.run(film, thumbnail(1))
    until(lambda: bench.daemon.metrics().get(FRAMES), "the frames of the first job are counted")
    passes, metrics = bench.passes(), bench.daemon.metrics()
    second = bench.run(film, thumbnail(1))
    bench.site.check_published(first, second)
    [made], [again] = first.outputs, second.outputs
    assert (made.cached, again.cached) == (False, True)
    assert bench.bytes_of(made) == bench.bytes_of(again) and made.path != again.path
    assert again == made.model_copy(update={"cached": True, "path": again.path, "files": again.files})
    assert second.source == first.source and second.warnings == first.warnings
    counted = bench.daemon.metrics()
    assert bench.passes() == passes and counted[FRAMES] == metrics[FRAMES]
    assert counted[HITS] == metrics.get(HITS, 0) + 1 and counted[MISSES] == metrics[MISSES]


def test_what_changes_no_pixel_hits_under_its_own_name(bench: Bench) -> None:
    film = bench.film()
    bench.run(film, thumbnail(1, name="poster", tag="a"))
    [again] = bench.run(film, thumbnail("1s", name="cover", tag="b", optional=True)).outputs
    assert (again.cached, again.name, again.tag, Path(again.path).name) == (True, "cover", "b", "cover.png")
    assert again.files == [again.path]


@pytest.mark.parametrize(
    "changed", [{"width": 158}, {"format": "webp"}, {"at": 1.5}, {"accuracy": "keyframe"}, {"height": 40}], ids=str
)
def test_another_picture_misses(bench: Bench, changed: dict[str, Any]) -> None:
    film = bench.film()
    bench.run(film, thumbnail(1))
    [other] = bench.run(film, {**thumbnail(1), **changed}).outputs
    assert not other.cached


def test_a_job_that_wants_no_cache_gets_none_and_still_feeds_it(bench: Bench) -> None:
    film = bench.film()
    assert bench.cached(film, thumbnail(1), cache=False) == [False]
    assert bench.cached(film, thumbnail(1), cache=False) == [False]
    assert bench.cached(film, thumbnail(1)) == [True]


def test_a_file_that_was_touched_or_replaced_misses(bench: Bench) -> None:
    film = bench.film()
    assert bench.cached(film, thumbnail(1)) == [False]
    status = film.stat()
    os.utime(film, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert bench.cached(film, thumbnail(1)) == [False]
    replacement = bench.film()
    os.utime(replacement, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    replacement.rename(film)  # as long, as old, another inode
    assert bench.cached(film, thumbnail(1)) == [False]
    assert bench.cached(film, thumbnail(1)) == [True]


def test_another_name_of_the_same_file_hits(bench: Bench) -> None:
    film = bench.film()
    bench.run(film, thumbnail(1))
    moved = film.with_name(f"moved-{film.name}")
    film.rename(moved)
    assert bench.cached(moved, thumbnail(1)) == [True]


def test_another_organisation_misses_and_has_a_cache_of_its_own(bench: Bench) -> None:
    film = bench.film()
    assert bench.cached(film, thumbnail(1)) == [False]
    assert bench.cached(film, thumbnail(1), org="two") == [False]
    assert bench.cached(film, thumbnail(1), org="two") == [True]
    assert bench.cached(film, thumbnail(1), org="three") == [False]


def test_a_video_of_another_revision_misses(bench: Bench) -> None:
    film = bench.film()
    facts = SourceFacts(duration=1, width=160, height=90, codec="h264", fps=25)

    def register(identity: str) -> None:
        bench.site.ask(lambda c: videos.register(c, "default", film.stem, str(film), None, identity, facts))

    source = f"video:{film.stem}"
    register("a")
    assert bench.cached(source, thumbnail(1)) == [False]
    register("a")
    assert bench.cached(source, thumbnail(1)) == [True]
    register("b")
    assert bench.cached(source, thumbnail(1)) == [False]


def test_some_are_made_and_some_were_there(bench: Bench) -> None:
    film = bench.film()
    assert bench.cached(film, thumbnail(1), thumbnail(2)) == [False, False]
    mixed = [thumbnail(0), thumbnail(2, name="b"), thumbnail(0.5), thumbnail(1, name="d")]
    report = bench.run(film, *mixed)
    bench.site.check_published(report)
    bench.site.check_pictures(report, bench.clip)
    assert [output.cached for output in report.outputs] == [False, True, False, True]
    assert [output.name for output in report.outputs] == ["thumbnail-1", "b", "thumbnail-3", "d"]
    assert report.source is not None


def test_all_outputs_may_have_been_there(bench: Bench) -> None:
    film = bench.film()
    outputs = [thumbnail(at / 10, name=f"p{at}") for at in range(12)]
    first = bench.run(film, *outputs)
    passes = bench.passes()
    assert bench.cached(film, *reversed(outputs)) == [True] * 12
    assert bench.passes() == passes
    assert [output.cached for output in first.outputs] == [False] * 12


@pytest.mark.parametrize(
    "output",
    [
        {"output": "thumbnails", "count": 5, "width": 160, "format": "png"},
        {"output": "thumbnails", "count": 3, "width": 160, "format": "png", "files": "x_{n:04}"},
        {"output": "sprite", "count": 7, "columns": 2, "rows": 2, "width": 160, "indexes": ["vtt", "json", "bif"]},
        {"output": "clip", "start": 0, "duration": 0.4},
        {"output": "animation", "start": 0, "duration": 0.4, "width": 160},
    ],
    ids=lambda output: "-".join(str(value) for value in output.values())[:30],
)
def test_outputs_of_many_files_and_moving_ones_hit_whole(bench: Bench, output: dict[str, Any]) -> None:
    film = bench.film()
    first = bench.run(film, output)
    passes = bench.passes()
    second = bench.run(film, output)
    [made], [again] = first.outputs, second.outputs
    assert again.cached and not made.cached
    assert bench.bytes_of(made) == bench.bytes_of(again)
    named = {f"{second.id}/manifest.json", *again.files}
    assert named == {str(path.relative_to(bench.site.store)) for path in bench.site.files(second.id)}
    assert [picture.at for picture in again.pictures or ()] == [picture.at for picture in made.pictures or ()]
    assert all(picture.path in again.files for picture in again.pictures or () if picture.path)
    assert bench.passes() == passes


def test_the_name_of_a_series_is_in_its_files_and_so_misses(bench: Bench) -> None:
    film = bench.film()
    few = {"output": "thumbnails", "count": 2, "width": 160, "format": "png"}
    assert bench.cached(film, few) == [False]
    assert bench.cached(film, {**few, "name": "other"}) == [False]


def test_published_files_that_are_gone_or_altered_miss(bench: Bench) -> None:
    film = bench.film()
    few = {"output": "thumbnails", "count": 3, "width": 160, "format": "png"}
    for harm in (Path.unlink, lambda path: path.write_bytes(b"x"), lambda path: (path.unlink(), path.mkdir())):
        [made] = bench.run(film, few).outputs
        assert not made.cached
        harm(bench.site.store / made.files[1])
    [made] = bench.run(film, few).outputs
    shutil.rmtree((bench.site.store / made.path).parent)
    assert bench.cached(film, few) == [False]
    assert bench.cached(film, few) == [True]


def test_a_copy_outlives_what_it_was_copied_from(bench: Bench) -> None:
    film = bench.film()
    first = bench.run(film, thumbnail(1))
    assert bench.cached(film, thumbnail(1)) == [True]
    shutil.rmtree(bench.site.store / first.id)
    assert bench.cached(film, thumbnail(1)) == [True]


def test_a_job_may_hit_its_own_folder(bench: Bench) -> None:
    film = bench.film()
    for expected in (False, True, True):
        assert bench.cached(film, thumbnail(1, name="p"), destination=film.stem) == [expected]
    bench.site.check_clean()


def test_what_another_job_published_over_is_forgotten(bench: Bench) -> None:
    film = bench.film()
    there = {"destination": film.stem}
    assert bench.cached(film, thumbnail(1, name="p"), **there) == [False]
    assert bench.cached(film, thumbnail(2, name="p"), **there) == [False]
    assert bench.cached(film, thumbnail(1)) == [False]
    assert bench.cached(film, thumbnail(2)) == [True]


def test_a_series_of_which_one_picture_was_published_over_is_forgotten(bench: Bench) -> None:
    film = bench.film()
    few = {"output": "thumbnails", "count": 3, "width": 160, "format": "png", "name": "s"}
    there = {"destination": film.stem}
    [made] = bench.run(film, few, **there).outputs
    hidden = bench.site.store / made.files[1]
    size = hidden.stat().st_size
    assert bench.cached(film, thumbnail(0.1, name=hidden.stem), **there) == [False]
    pad(hidden, size)
    assert bench.cached(film, few) == [False]


def pad(path: Path, size: int) -> None:
    """Makes a published picture as long as another one, so that its size tells nothing."""
    data = path.read_bytes()
    longer = path.with_name(f".{path.name}")
    longer.write_bytes(data[:size] + bytes(max(0, size - len(data))))
    longer.rename(path)


@pytest.mark.parametrize("moment", ["before-link", "after-link"])
def test_a_file_that_is_published_over_meanwhile_is_never_served_under_its_old_recipe(
    bench: Bench, moment: str
) -> None:
    """The one that looks is held between its look-ups, while another one publishes to the place that it saw."""
    film, site = bench.film(), bench.site
    there = {"destination": film.stem}
    sizes = {at: bench.run(film, thumbnail(at), cache=False).outputs[0].bytes for at in (0, 0.2, 0.4, 0.6)}
    small, *_, large = sorted(sizes, key=lambda at: sizes[at])
    # A recipe that nothing else was made by, and a file that is as long whatever it shows.
    old = thumbnail(large, name="p", tag=moment, upscale=True)
    [seen] = bench.run(film, old, **there).outputs
    site.light(f"hold-{moment}")
    waiting = bench.drop(film, old)
    held = site.fuses / f"{moment}.held"
    until(held.exists, "the look-up is held")
    other = bench.film()  # another source, so that it does not ride along
    assert bench.cached(other, thumbnail(small, name="p"), **there) == [False]
    pad(site.store / seen.path, seen.bytes)
    held.unlink()
    report = site.report(waiting)
    [late] = report.outputs
    assert not late.cached
    assert number_in(site.store / late.path) in numbers_at(large, bench.clip)
    site.check_published(report)
