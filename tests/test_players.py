"""Real players in a real browser: what they show for a time is the tile that the report says stands there.

The mouse is moved over a player's seek bar, and the number is read off a screenshot of the preview that it shows.
"""

import asyncio
import json
import mimetypes
import os
import shutil
import subprocess
import tarfile
import threading
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NoReturn

import av
import pytest
import uvicorn
from browser import Browser
from clips import X264, Clip, Recipe, make, read_number, video_stream
from harness import free_port, until
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from daemon.config import Settings, StoreSettings
from daemon.job import Job
from daemon.once import run_once
from daemon.report import PictureReport

PAGES = Path(__file__).parent / "players"
TYPES = {
    ".vtt": "text/vtt",
    ".json": "application/json",
    ".m3u8": "application/vnd.apple.mpegurl",
    ".mpd": "application/dash+xml",
    ".m4s": "video/iso.segment",
}
CLIP = Recipe("players", "mp4", ".mp4", X264, frames=240, rate=Fraction(10), gop=20)
SPRITE = {
    "output": "sprite",
    "every": 2,
    "width": 160,
    "columns": 3,
    "rows": 3,
    "indexes": ["vtt", "hls", "dash", "json"],
}
TIMES = (0.5, 5, 11, 17, 19, 23)  # seconds: in the first tile, at a row's end, at a sheet's end, on the second sheet


@dataclass(frozen=True)
class Player:
    """The page with its parameters, and where its seek bar and its preview are."""

    page: str
    bar: str
    preview: str


VIDEO_JS = (".vjs-progress-holder", ".vjs-vtt-thumbnail-display")
VIDSTACK = ("media-time-slider", "media-slider-thumbnail")
MEDIA_CHROME = ("media-time-range", "media-preview-thumbnail")
SHAKA = (".shaka-seek-bar", ".shaka-player-ui-thumbnail-image-container")
DASH_JS = ("#seekbar", "#thumbnail-elem")
PLAYERS = {
    "video.js": Player("videojs.html?index=film.vtt", *VIDEO_JS),
    "video.js-whole": Player("videojs.html?index=whole.vtt", *VIDEO_JS),
    "plyr": Player("plyr.html", ".plyr__progress input", ".plyr__preview-thumb__image-container"),
    "vidstack-vtt": Player("vidstack.html?index=film.vtt", *VIDSTACK),
    "vidstack-json": Player("vidstack.html?index=film.json", *VIDSTACK),
    "vidstack-array": Player("vidstack.html?index=whole.json&array", *VIDSTACK),
    "media-chrome": Player("media-chrome.html?film=film.mp4", *MEDIA_CHROME),
    "hls.js": Player("media-chrome.html?film=all-film.m3u8", *MEDIA_CHROME),
    "shaka-vtt": Player("shaka.html?film=film.mp4&index=film.vtt", *SHAKA),
    "shaka-hls": Player("shaka.html?film=all-film.m3u8", *SHAKA),
    "shaka-dash": Player("shaka.html?film=all-film.mpd", *SHAKA),
    "dash.js": Player("dash.html?film=all-film.mpd", *DASH_JS),
    "shaka-hls-whole": Player("shaka.html?film=all-whole.m3u8", *SHAKA),
    "shaka-dash-whole": Player("shaka.html?film=all-whole.mpd", *SHAKA),
}


@dataclass(frozen=True)
class Site:
    """Where the pages are, and what of the clip the tiles show."""

    url: str
    clip: Clip
    pictures: list[PictureReport]

    def number_at(self, seconds: float) -> int:
        """On the tile that stands there, by the report."""
        picture = self.pictures[bisect_right([picture.at for picture in self.pictures], seconds) - 1]
        return self.clip.number_at(Fraction(str(picture.time)))


def lacking(what: str) -> NoReturn:
    """Skips, unless a browser was promised."""
    if os.environ.get("REQUIRE_CHROMIUM") == "1":
        pytest.fail(f"REQUIRE_CHROMIUM is set, but {what}")
    pytest.skip(what)


@pytest.fixture(scope="module")
def chromium() -> str:
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None) or lacking("there is no Chromium")


@pytest.fixture(scope="module")
def packages(chromium: str, pytestconfig: pytest.Config) -> Path:
    """A folder with the players, fetched once for all sessions. Their builds hold what they depend on."""
    npm = shutil.which("npm") or lacking("there is no npm")
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir("players")
    wanted, there = (PAGES / "package.json").read_text(), folder / "package.json"
    if not there.exists() or there.read_text() != wanted:
        there.unlink(missing_ok=True)
        versions = json.loads(wanted)["dependencies"]
        command = [npm, "pack", "--ignore-scripts", *(f"{name}@{version}" for name, version in versions.items())]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            lacking(f"npm cannot fetch the players: {done.stderr[-1000:]}")
        for name, version in versions.items():
            unpack(folder / f"{name}-{version}.tgz", folder / name)
        there.write_text(wanted)
    return folder


def unpack(archive: Path, folder: Path) -> None:
    """What a page may load, without the folder in which npm packs everything."""
    with tarfile.open(archive) as tar:
        loaded = [member for member in tar if member.name.endswith((".js", ".css", ".svg", ".ttf"))]
        named = [member.replace(name=member.name.partition("/")[2], deep=False) for member in loaded]
        tar.extractall(folder, members=named, filter="data")
    archive.unlink()


def add_streams(clip: Clip, folder: Path) -> None:
    """The clip as HLS and DASH in one."""
    options = {"seg_duration": "4", "hls_playlist": "1", "use_timeline": "0"}
    with (
        av.open(clip.path) as source,
        av.open(folder / "video.mpd", "w", format="dash", options=options) as target,
    ):
        stream = video_stream(source)
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)


def add_tiles(name: str, folder: Path) -> None:
    """Manifests in which the tiles of a sprite stand beside the clip: the line that its playlist names, and all that is
    in its MPD's period."""
    hint = next(line for line in (folder / f"{name}.m3u8").read_text().splitlines() if "IMAGE-STREAM-INF" in line)
    streams = (folder / "master.m3u8").read_text().rstrip("\n")
    (folder / f"all-{name}.m3u8").write_text(f"{streams}\n#{hint.partition(': ')[2]}\n")
    tiles = (folder / f"{name}.mpd").read_text()
    tiles = tiles[tiles.index("<AdaptationSet") : tiles.index("</Period>")]
    streams = (folder / "video.mpd").read_text()
    (folder / f"all-{name}.mpd").write_text(streams.replace("</Period>", tiles + "</Period>"))


@pytest.fixture(scope="module")
def site(packages: Path, clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("players")
    clip = make(CLIP, clip_folder)
    shutil.copy(clip.path, folder / "film.mp4")
    url = f"http://127.0.0.1:{(port := free_port())}"
    sprites = [{**SPRITE, "name": "film"}, {**SPRITE, "name": "whole", "base_url": f"{url}/film"}]
    job = Job.check({"source": str(clip.path), "outputs": sprites})
    settings = Settings(store=StoreSettings(root=folder))
    report = asyncio.run(run_once(job, settings, "", lambda done, in_all: None, 1))
    assert report.status == "completed" and report.outputs[0].pictures
    add_streams(clip, folder)
    for name in ("film", "whole"):
        add_tiles(name, folder)
    for suffix, type in TYPES.items():
        mimetypes.add_type(type, suffix)
    mounts = {"/npm": packages, "/film": folder, "/": PAGES}
    app = Starlette(routes=[Mount(path, StaticFiles(directory=folder)) for path, folder in mounts.items()])
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started, "the pages are served")
    yield Site(url, clip, report.outputs[0].pictures)
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser(site: Site, chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(chromium, tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.mark.parametrize("name", PLAYERS)
def test_a_player_shows_the_tile_of_the_time_pointed_at(name: str, browser: Browser, site: Site) -> None:
    player = PLAYERS[name]
    browser.open(f"{site.url}/{player.page}")
    playing = "[...document.querySelectorAll('video')].some(video => video.readyState >= 2 && video.duration > 23)"
    until(lambda: browser.evaluate(playing), f"{name} plays; {browser.complaints}")
    seen: object = None

    def shown(seconds: float) -> bool:
        nonlocal seen
        bars = browser.boxes(player.bar)
        if not bars:
            seen = "no bar"
            return False
        [bar] = bars
        middle = bar.y + bar.height / 2
        browser.point(bar.x + bar.width * seconds / 24 - 1, middle)
        browser.point(bar.x + bar.width * seconds / 24, middle)
        previews = browser.boxes(player.preview)
        try:
            seen = read_number(browser.look(previews[-1])) if previews else "no preview"
        except ValueError as error:
            seen = error  # it moves, or is not there yet
        return seen == site.number_at(seconds)

    for seconds in TIMES:
        try:
            until(lambda at=seconds: shown(at), "", 5)  # type: ignore[misc]
        except AssertionError:
            pytest.fail(
                f"{name} at {seconds} s: {site.number_at(seconds)} is wanted, seen: {seen}; {browser.complaints}"
            )
    assert browser.complaints == []
