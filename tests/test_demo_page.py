"""The demo's page is written from reports whose names may be anything, and must work from a folder alone."""

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest

from daemon.demo.page import write_page

HOSTILE = """x"><script>alert('1')</script>&amp;$title"""
BARE = HOSTILE.replace("/", "")  # a file's name cannot hold a slash

CUES = (
    "WEBVTT\n\n00:00:00.000 --> 00:00:05.000\nsheet-000.jpg#xywh=0,0,320,180\n\n"
    f"00:00:05.000 --> 00:00:10.000\n{quote(BARE)}.jpg#xywh=320,0,320,180\n"
)


def output(kind: str, name: str, **more: Any) -> dict[str, Any]:
    shared = {"width": 320, "height": 180, "format": "jpeg", "bytes": 5321, "device": "cpu", "tag": None}
    return {"name": name, "output": kind, "path": f"job/{name}.jpg", **shared, **more}


def report(name: str) -> dict[str, Any]:
    series = [{"at": n * 5.0, "time": n * 5.0, "path": f"job/{name}-{n:04}.jpg"} for n in range(8)]
    sheets = [f"job/{name}-s0.jpg", f"job/{name}-s1.jpg", f"job/{name}.vtt"]
    tiles = [{"at": n * 5.0, "time": n * 5.0, "path": None} for n in range(2)]
    return {
        "id": name,
        "org": name,
        "status": name,
        "source": {"duration": 10.0, "width": 1280, "height": 720, "codec": name, "fps": 30.0},
        "outputs": [
            output("thumbnail", f"{name}poster", at=12.0, time=11.967, tag=name),
            output("thumbnails", f"{name}series", path=series[0]["path"], pictures=series),
            output("sprite", name, path=f"job/{name}-s0.jpg", files=sheets, pictures=tiles),
            output("clip", f"{name}clip"),
            output("animation", f"{name}animation"),
        ],
        "warnings": [name],
        "error": {"code": name, "message": name, "output": name},
        "timings": {"queue": 0.01, "decode": 0.12},
    }


class Reader(HTMLParser):
    """What a browser would find: elements, references, and the texts of those elements that have an id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: set[str] = set()
        self.handlers: list[str] = []
        self.texts: dict[str, str] = {}
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links |= {value for name, value in attrs if name in {"src", "href"} and value}
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.inside = dict(attrs).get("id") or ""

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[self.inside] = self.texts.get(self.inside, "") + data


@pytest.fixture
def hostile(tmp_path: Path) -> str:
    (tmp_path / f"{BARE}.vtt").write_text(CUES + HOSTILE, encoding="utf-8")
    page = write_page(report(BARE), tmp_path, video=f"film.mp4?{HOSTILE}", title=HOSTILE)
    assert page == tmp_path / "index.html"
    return page.read_text(encoding="utf-8")


def test_no_name_becomes_markup(hostile: str) -> None:
    page = Reader(hostile)
    assert "<script>alert" not in hostile
    assert page.tags.count("script") == 1
    assert page.handlers == []


def test_the_title_stands_as_it_was_given(hostile: str) -> None:
    assert unescape(re.findall(r"<h1>(.*?)</h1>", hostile)[0]) == HOSTILE


def test_every_file_is_named_and_none_lies_elsewhere(hostile: str) -> None:
    ends = ["poster", "clip", "animation", "-s0", "-s1", *(f"-{n:04}" for n in range(8))]
    files = {f"{BARE}{end}.jpg" for end in ends} | {f"{BARE}.vtt"}
    assert {unquote(link) for link in Reader(hostile).links} == files | {f"film.mp4?{HOSTILE}"}


def test_the_cues_are_embedded_as_they_are(hostile: str) -> None:
    assert Reader(hostile).texts["cues"] == CUES + HOSTILE


def test_references_need_no_network(hostile: str) -> None:
    assert "http" not in hostile


def test_a_failed_job_has_a_page_too(tmp_path: Path) -> None:
    failed: dict[str, Any] = {
        "id": "1",
        "status": "failed",
        "source": None,
        "outputs": [],
        "error": {"code": "io", "message": "gone"},
    }
    page = write_page(failed, tmp_path, title="Nothing").read_text(encoding="utf-8")
    assert "io: gone" in page
    assert Reader(page).texts.get("cues", "") == ""


def test_a_series_alone_can_be_scrubbed(tmp_path: Path) -> None:
    (tmp_path / "s.vtt").write_text("WEBVTT\n\n00:00:00.000 --> 00:00:05.000\ns-0000.jpg\n", encoding="utf-8")
    alone = report("s") | {"outputs": [output("thumbnails", "s", path="s-0000.jpg", pictures=[])]}
    assert "s-0000.jpg\n" in Reader(write_page(alone, tmp_path, title="Series").read_text()).texts["cues"]
