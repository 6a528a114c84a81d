"""A sprite from end to end: whatever index says which tile stands at a time, that tile shows the frame of that time."""

import asyncio
import io
import os
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from clips import X264, Clip, Recipe, make, read_number
from harness import check_whole, numbers_at
from indexes import Tile, bif_pictures, dash_tiles, hls_tiles, json_tiles, vtt_tiles
from PIL import Image

from daemon.config import Settings, StoreSettings
from daemon.files import MANIFEST
from daemon.job import Job
from daemon.once import run_once
from daemon.report import OutputReport, Report
from daemon.worker.handle import Watch, Worker

# 24 s at 10 frames a second: enough tiles for several sheets, and every frame's number fits.
CLIP = Recipe("sprite", "mp4", ".mp4", X264, frames=240, rate=Fraction(10), gop=20, bframes=2)
ALL = ["vtt", "hls", "dash", "bif", "json"]
READERS = {".vtt": vtt_tiles, ".m3u8": hls_tiles, ".mpd": dash_tiles, ".json": json_tiles}


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> Clip:
    return make(CLIP, clip_folder)


def run(clip: Clip, folder: Path, *sprites: dict[str, Any]) -> Report:
    """A job into a folder."""
    job = Job.check({"source": str(clip.path), "outputs": [{"output": "sprite", **keys} for keys in sprites]})
    settings = Settings(store=StoreSettings(root=folder))
    return asyncio.run(run_once(job, settings, "", lambda done, in_all: None, 1))


def made(clip: Clip, folder: Path, **keys: Any) -> OutputReport:
    report = run(clip, folder, {"name": "film", "width": 160, **keys})
    assert report.status == "completed", report.error
    [output] = report.outputs
    assert {*output.files, MANIFEST} == {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    for path in output.files:
        check_whole(folder / path)
    return output


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def number_on(picture: Image.Image) -> int:
    return read_number(np.asarray(picture.convert("RGB"), np.uint8))


def check_tiles(tiles: list[Tile], output: OutputReport, folder: Path, clip: Clip) -> None:
    """There are as many tiles as pictures, at their times, and each shows what was on the screen then."""
    assert output.pictures is not None and len(tiles) == len(output.pictures)
    for tile, picture in zip(tiles, output.pictures, strict=True):
        assert abs(tile.start - Fraction(str(picture.at))) <= Fraction(1, 1000)
        with Image.open(folder / unquote(tile.url)) as sheet:
            assert sheet.width % tile.width == sheet.height % tile.height == 0
            assert tile.x + tile.width <= sheet.width and tile.y + tile.height <= sheet.height
            shown = number_on(sheet.crop((tile.x, tile.y, tile.x + tile.width, tile.y + tile.height)))
        assert shown in numbers_at(picture.at, clip)


def check_bif(path: Path, output: OutputReport, clip: Clip) -> None:
    pictures = bif_pictures(path.read_bytes())
    assert output.pictures is not None and len(pictures) == len(output.pictures)
    for (at, data), picture in zip(pictures, output.pictures, strict=True):
        assert abs(at - Fraction(str(picture.at))) <= Fraction(1, 1000)
        with Image.open(io.BytesIO(data)) as image:
            assert image.format == "JPEG" and image.size == (output.width, output.height)
            assert number_on(image) in numbers_at(picture.at, clip)


@pytest.mark.parametrize(
    ("keys", "count"),
    [
        ({"every": 1}, 24),  # two sheets of 4 x 3
        ({"every": 2.5}, 10),  # one sheet, its last row not full
        ({"count": 21}, 21),  # an interval that no decimal writes
        ({"every": "1.5s", "end": 20}, 14),
        ({"every": 100}, 1),
        ({"every": 1, "format": "png", "indexes": ["vtt", "hls", "dash", "json"]}, 24),
    ],
)
def test_every_index_of_a_sprite_finds_its_tiles(clip: Clip, tmp_path: Path, keys: dict[str, Any], count: int) -> None:
    output = made(clip, tmp_path, **{"columns": 4, "rows": 3, "indexes": ALL, **keys})
    assert output.pictures is not None and len(output.pictures) == count
    read = 0
    for file in output.files:
        if reader := READERS.get(Path(file).suffix):
            check_tiles(reader((tmp_path / file).read_bytes()), output, tmp_path, clip)
            read += 1
        elif file.endswith(".bif"):
            check_bif(tmp_path / file, output, clip)
            read += 1
    assert read == len(keys.get("indexes", ALL))
    sizes = {size_of(tmp_path / file) for file in output.files if file.endswith((".jpg", ".png"))}
    assert len(sizes) == 1, "sheets of HLS and DASH are of one size"


def test_sheets_for_webvtt_alone_end_with_their_tiles(clip: Clip, tmp_path: Path) -> None:
    made(clip, tmp_path, every=1, columns=4, rows=5)
    assert size_of(tmp_path / "film-000.jpg") == (640, 450)
    assert size_of(tmp_path / "film-001.jpg") == (640, 90)


def test_no_index_at_all(clip: Clip, tmp_path: Path) -> None:
    output = made(clip, tmp_path, every=1, indexes=[])
    assert (output.path, output.files) == ("film-000.jpg", ["film-000.jpg"])


def test_a_bif_comes_with_its_sheets(clip: Clip, tmp_path: Path) -> None:
    output = made(clip, tmp_path, every=1, indexes=["bif"])
    assert (output.path, output.files) == ("film.bif", ["film-000.jpg", "film.bif"])
    check_bif(tmp_path / "film.bif", output, clip)


def test_a_bif_that_is_too_large_is_refused(clip: Clip, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = "from daemon.media import outputs; outputs.MAX_BIF = 60_000\nfrom daemon.worker.process import main; main()"
    worker = Worker("cpu", Watch(), lambda reason: None, (sys.executable, "-P", "-c", code))
    monkeypatch.setattr("daemon.once.build_worker", lambda settings: worker)
    small, large = ({"every": 12 / count, "end": 12, "width": 160, "layout": "plex"} for count in (2, 48))
    assert run(clip, tmp_path / "small", small).status == "completed"
    report = run(clip, tmp_path / "large", large)
    assert report.error is not None and report.error.code == "bad_job"
    assert "give fewer pictures, a smaller width or quality" in report.error.message
    assert not (tmp_path / "large" / "index-sd.bif").exists()


def test_base_url_is_in_all_indexes(clip: Clip, tmp_path: Path) -> None:
    output = made(clip, tmp_path, every=5, indexes=ALL, base_url="https://cdn.example/a&b")
    for file in output.files:
        if reader := READERS.get(Path(file).suffix):
            tiles = reader((tmp_path / file).read_bytes())
            assert {tile.url for tile in tiles} == {"https://cdn.example/a&b/film-000.jpg"}


# --- media servers ----------------------------------------------------------------------------------------------


def test_jellyfin(clip: Clip, tmp_path: Path) -> None:
    """Sheets are full grids, also where there is one tile; the width is the one asked for, also of a small video."""
    output = made(clip, tmp_path, every=1, columns=4, rows=5, width=400, layout="jellyfin", indexes=["vtt"])
    folder = tmp_path / "film.trickplay" / "400 - 4x5"
    assert sorted(os.listdir(folder)) == ["0.jpg", "1.jpg"]
    assert {size_of(path) for path in folder.iterdir()} == {(1600, 1125)}
    assert (output.path, output.width, output.height) == ("film.vtt", 400, 225)
    check_tiles(vtt_tiles((tmp_path / "film.vtt").read_bytes()), output, tmp_path, clip)


def test_jellyfin_alone(clip: Clip, tmp_path: Path) -> None:
    output = made(clip, tmp_path, every=10, layout="jellyfin")
    assert output.files == ["film.trickplay/160 - 10x10/0.jpg"] == [output.path]
    assert size_of(tmp_path / output.path) == (1600, 900)


def test_jellyfin_beyond_4096_pixels(clip: Clip, tmp_path: Path) -> None:
    output = made(clip, tmp_path, every=1, columns=2, rows=50, layout="jellyfin")
    assert size_of(tmp_path / output.path) == (320, 4500)
    too_large = run(clip, tmp_path / "no", {"every": 1, "columns": 100, "rows": 100, "layout": "jellyfin"})
    assert too_large.error is not None and "give fewer columns or rows" in too_large.error.message


@pytest.mark.parametrize(
    ("keys", "file", "size"),
    [
        ({"layout": "emby", "every": 2, "width": 400}, "film-400-2.bif", (400, 225)),
        ({"layout": "plex", "every": 2, "width": 400}, "index-sd.bif", (320, 180)),
        ({"layout": "plex", "count": 7}, "index-sd.bif", (160, 90)),
    ],
)
def test_one_bif_for_emby_and_plex(
    clip: Clip, tmp_path: Path, keys: dict[str, Any], file: str, size: tuple[int, int]
) -> None:
    output = made(clip, tmp_path, **keys)
    assert (output.path, output.files, (output.width, output.height)) == (file, [file], size)
    check_bif(tmp_path / file, output, clip)


def test_all_of_them_side_by_side_and_once_more(clip: Clip, tmp_path: Path) -> None:
    """Into folders that are there, whose files are replaced."""
    sprites = [{"name": "film", "every": 3, "layout": layout} for layout in ("jellyfin", "emby", "plex")]
    first = run(clip, tmp_path, *sprites)
    (tmp_path / "film.trickplay" / "320 - 10x10" / "0.jpg").write_bytes(b"older")
    again = run(clip, tmp_path, *sprites)
    for report in (first, again):
        assert [output.files for output in report.outputs] == [
            ["film.trickplay/320 - 10x10/0.jpg"],
            ["film-320-3.bif"],
            ["index-sd.bif"],
        ]
    for output in again.outputs:
        check_whole(tmp_path / output.path)
    assert not (tmp_path / ".staging").exists()
