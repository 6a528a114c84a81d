"""An index is what the parsers of players read: every byte of it is as they want it."""

import json
import struct
from fractions import Fraction
from itertools import pairwise, product
from math import ceil
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from indexes import Tile, bif_pictures, cues, dash_tiles, hls_tiles, json_tiles

from daemon.errors import BadJob
from daemon.media.bif import bif
from daemon.media.index import Tiles, dash, hls, tile_url, url_of, vidstack, webvtt
from daemon.media.sheet import Grid


def fractions(*said: str) -> list[Fraction]:
    return [Fraction(one) for one in said]


GOLDEN: list[tuple[list[Fraction], Fraction, list[str], str]] = [
    (
        fractions("0", "5"),
        Fraction(10),
        ["sprite-000.jpg#xywh=0,0,320,180", "sprite-000.jpg#xywh=320,0,320,180"],
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:05.000\nsprite-000.jpg#xywh=0,0,320,180\n\n"
        "00:00:05.000 --> 00:00:10.000\nsprite-000.jpg#xywh=320,0,320,180\n",
    ),
    # The first cue begins at 0 whenever its picture does, the last one ends where the video does.
    (
        fractions("60", "61.5"),
        Fraction("3723.004"),
        ["a", "b"],
        "WEBVTT\n\n00:00:00.000 --> 00:01:01.500\na\n\n00:01:01.500 --> 01:02:03.004\nb\n",
    ),
    # Rounded to the millisecond; the last one up, so that the video's last frame has a cue.
    (
        fractions("0", "1001/300", "2002/300"),
        Fraction(1001, 100) + Fraction(1, 90000),
        ["a", "b", "c"],
        "WEBVTT\n\n00:00:00.000 --> 00:00:03.337\na\n\n"
        "00:00:03.337 --> 00:00:06.673\nb\n\n00:00:06.673 --> 00:00:10.011\nc\n",
    ),
    (fractions("0"), Fraction(1, 25), ["a"], "WEBVTT\n\n00:00:00.000 --> 00:00:00.040\na\n"),
    (
        fractions("0", "359999.999", "360000", "3600000"),
        Fraction(3_600_001),
        ["a", "b", "c", "d"],
        "WEBVTT\n\n00:00:00.000 --> 99:59:59.999\na\n\n99:59:59.999 --> 100:00:00.000\nb\n\n"
        "100:00:00.000 --> 1000:00:00.000\nc\n\n1000:00:00.000 --> 1000:00:01.000\nd\n",
    ),
]


@pytest.mark.parametrize(("starts", "end", "targets", "text"), GOLDEN, ids=range(len(GOLDEN)))
def test_webvtt(starts: list[Fraction], end: Fraction, targets: list[str], text: str) -> None:
    assert webvtt(starts, end, targets) == text.encode()
    assert [target for _, _, target in cues(text.encode())] == targets


@st.composite
def series(draw: st.DrawFn) -> tuple[list[Fraction], Fraction]:
    start = draw(st.fractions(0, 400_000, max_denominator=90_000))
    step = draw(st.fractions(Fraction(1, 500), 1000, max_denominator=90_000))
    count = draw(st.integers(1, 40))
    last = draw(st.fractions(Fraction(1, 10), 1, max_denominator=90_000))
    return [start + n * step for n in range(count)], start + (count - 1 + last) * step


def contiguous(starts: list[Fraction], end: Fraction) -> list[int]:
    """When each cue begins, in milliseconds; all of them together cover the video, no two overlap."""
    found = cues(webvtt(starts, end, map(str, range(len(starts)))))
    assert [target for _, _, target in found] == [str(n) for n in range(len(starts))]
    assert found[0][0] == 0
    assert all(begin < until for begin, until, _ in found)
    assert all(one[1] == other[0] for one, other in pairwise(found))
    assert found[-1][1] >= end * 1000
    return [begin for begin, _, _ in found]


@given(series())
def test_cues_follow_one_another_from_the_begin_to_the_end(case: tuple[list[Fraction], Fraction]) -> None:
    starts, end = case
    for start, begin in list(zip(starts, contiguous(starts, end), strict=True))[1:]:
        assert abs(begin - start * 1000) <= Fraction(1, 2)


def test_cues_follow_one_another_also_where_several_fall_into_one_millisecond() -> None:
    for first, step in product(fractions("0", "1/10000", "1/2000"), fractions("1/1000", "1/1500", "1/5000")):
        starts = [first + n * step for n in range(20)]
        contiguous(starts, starts[-1] + step)


@given(st.integers(1, 60), st.integers(1, 240))
def test_a_frame_shown_in_the_video_has_a_cue(rate: int, frames: int) -> None:
    end = Fraction(frames, rate)
    *_, (_, until, _) = cues(webvtt([Fraction(0)], end, ["a"]))
    assert Fraction(until, 1000) >= end


# --- tiles ------------------------------------------------------------------------------------------------------


def tiles(count: int, step: Fraction, end: Fraction, largest: int = 100_000) -> Tiles:
    return Tiles(Grid.fitting((320, 180), 10, 10, count, padded=True), step, end, largest)


def sheet_urls(tiles: Tiles) -> list[str]:
    return [f"sprite-{n:03}.jpg" for n in range(tiles.grid.sheets)]


def test_hls() -> None:
    said = tiles(150, Fraction(10), Fraction("1495.5"))
    assert hls(said, sheet_urls(said), "jpeg", "a b.m3u8").decode() == (
        "#EXTM3U\n#EXT-X-TARGETDURATION:1000\n#EXT-X-VERSION:7\n#EXT-X-MEDIA-SEQUENCE:1\n#EXT-X-PLAYLIST-TYPE:VOD\n"
        "#EXT-X-IMAGES-ONLY\n"
        "# For the multivariant playlist: EXT-X-IMAGE-STREAM-INF:"
        'BANDWIDTH=800,RESOLUTION=320x180,CODECS="jpeg",URI="a%20b.m3u8"\n'
        "#EXT-X-TILES:RESOLUTION=320x180,LAYOUT=10x10,DURATION=10\n#EXTINF:1000,\nsprite-000.jpg\n"
        "#EXT-X-TILES:RESOLUTION=320x180,LAYOUT=10x10,DURATION=10\n#EXTINF:495.5,\nsprite-001.jpg\n"
        "#EXT-X-ENDLIST\n"
    )


def test_dash() -> None:
    said = tiles(150, Fraction(1001, 300), Fraction("500.5"))
    assert dash(said, "sprite-", ".jpg", 3, "jpeg").decode() == (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="static"\n'
        '     minBufferTime="PT1S" mediaPresentationDuration="PT500.5S">\n'
        '  <Period id="0" start="PT0S">\n'
        '    <AdaptationSet mimeType="image/jpeg" contentType="image">\n'
        '      <SegmentTemplate media="sprite-$Number%03d$.jpg" timescale="3" duration="1001"\n'
        '                       startNumber="0"/>\n'
        '      <Representation id="thumbnails" bandwidth="2398" width="3200" height="1800">\n'
        '        <EssentialProperty schemeIdUri="http://dashif.org/guidelines/thumbnail_tile"\n'
        '                           value="10x10"/>\n'
        "      </Representation>\n    </AdaptationSet>\n  </Period>\n</MPD>\n"
    )


def test_vidstack() -> None:
    grid = Grid.fitting((320, 180), 2, 1, 3)
    said = vidstack(fractions("0", "5", "10"), Fraction("12.3456"), grid, ["a.jpg", "b.jpg"])
    tile = {"width": 320, "height": 180}
    assert json.loads(said) == [
        {
            "startTime": begin,
            "endTime": end,
            "url": url,
            **tile,
            "coords": {"x": x, "y": 0},
            "text": f"{url}#xywh={x},0,320,180",
        }
        for url, begin, end, x in [("a.jpg", 0, 5, 0), ("a.jpg", 5, 10, 320), ("b.jpg", 10, 12.346, 0)]
    ]


def test_bif() -> None:
    head = b"\x89BIF\r\n\x1a\n" + struct.pack("<III", 0, 3, 10_000) + bytes(44)
    index = struct.pack("<8I", 0, 96, 1, 99, 2, 100, 0xFFFFFFFF, 106)
    assert bif([b"one", b"2", b"three "], Fraction(10)) == head + index + b"one2three "
    # An interval that is no whole number of milliseconds: stamps in milliseconds.
    head = head[:16] + struct.pack("<I", 1) + head[20:]
    index = struct.pack("<8I", 0, 96, 3337, 99, 6673, 100, 0xFFFFFFFF, 106)
    assert bif([b"one", b"2", b"three "], Fraction(1001, 300)) == head + index + b"one2three "


def test_a_bif_of_too_many_milliseconds_is_refused() -> None:
    assert bif_pictures(bif([b"a", b"b"], Fraction(10**6)))[1] == (10**6, b"b")
    assert bif_pictures(bif([b"a"], Fraction(10**9))) == [(0, b"a")]
    with pytest.raises(BadJob, match="49 days"):
        bif([b"a", b"b"], Fraction(10**9))
    with pytest.raises(BadJob, match="49 days"):
        bif([b"a"] * 3, Fraction(10**10, 3001))


@pytest.mark.parametrize(
    ("base", "begin"),
    [
        (None, ""),
        ("/", "/"),
        ("/film", "/film/"),
        ("https://cdn.example", "https://cdn.example/"),
        ("https://cdn.example/a&b'$c$/", "https://cdn.example/a&b'$c$/"),
    ],
)
def test_a_base_url_stands_before_the_name_in_every_index(base: str | None, begin: str) -> None:
    said = tiles(101, Fraction(1), Fraction(101))
    name = "a$Number$ b&c"
    urls = [url_of(f"{name}-{n:03}.jpg", base) for n in range(2)]
    assert urls[1] == begin + "a%24Number%24%20b%26c-001.jpg"
    shown = [urls[0]] * 100 + urls[1:]
    assert [tile.url for tile in hls_tiles(hls(said, urls, "jpeg", name))] == shown
    assert [tile.url for tile in dash_tiles(dash(said, url_of(name + "-", base), ".jpg", 3, "jpeg"))] == shown
    assert [
        tile.url for tile in json_tiles(vidstack(list(map(Fraction, range(101))), said.end, said.grid, urls))
    ] == shown


def test_files_in_a_folder_keep_its_slash() -> None:
    assert url_of("a.trickplay/320 - 10x10/0.jpg", None) == "a.trickplay/320%20-%2010x10/0.jpg"


@st.composite
def even_tiles(draw: st.DrawFn) -> Tiles:
    """With `every` the last tile stands for a part of the interval, with `count` for all of it."""
    step = draw(st.fractions(Fraction(1, 100), 10_000, max_denominator=90_000))
    count = draw(st.integers(1, 350))
    part = draw(st.sampled_from(fractions("1", "1/2", "1/100")))
    return tiles(count, step, step * (count - 1 + part), draw(st.integers(1, 10**8)))


@given(even_tiles())
def test_every_tile_has_its_place_and_time_in_hls_and_dash(said: Tiles) -> None:
    grid = said.grid
    places = [grid.place(n) for n in range(grid.count)]
    urls = sheet_urls(said)
    exact = [Tile(n * said.step, urls[sheet], x, y, 320, 180) for n, (sheet, x, y) in enumerate(places)]
    in_dash = dash_tiles(dash(said, "sprite-", ".jpg", 3, "jpeg"))
    in_hls = hls_tiles(hls(said, urls, "jpeg", "sprite.m3u8"))
    fits = said.sheet_length.numerator < 2**32  # as nearly all do
    for found, slack in ((in_dash, 0 if fits else Fraction(1, 1000)), (in_hls, Fraction(1, 10**6))):
        assert len(found) == len(exact)
        for one, other in zip(found, exact, strict=True):
            assert (one.url, one.x, one.y) == (other.url, other.x, other.y)
            assert abs(one.start - other.start) <= slack


@given(even_tiles())
def test_the_bandwidth_is_enough_for_the_largest_sheet(said: Tiles) -> None:
    seconds = min(said.step * said.grid.per_sheet, said.end)
    assert said.bandwidth == max(1, ceil(said.largest * 8 / seconds))


@given(st.fractions(Fraction(1, 1000), 10_000, max_denominator=90_000), st.integers(1, 200))
def test_a_bif_tells_when(step: Fraction, count: int) -> None:
    pictures = [b"\xff\xd8" + bytes(n % 7) for n in range(count)]
    found = bif_pictures(bif(pictures, step))
    assert [picture for _, picture in found] == pictures
    whole = (step * 1000).denominator == 1
    assert all(abs(at - n * step) <= (0 if whole else Fraction(1, 2000)) for n, (at, _) in enumerate(found))


def test_times_of_any_clock_are_written() -> None:
    """A tick of a nanosecond, and lengths of years: what has no room for exact times has good ones."""
    for step, count in ((Fraction(10**9 + 7, 10**9), 250), (Fraction(10**9), 1), (Fraction(10**7) / 3, 120)):
        said = tiles(count, step, count * step)
        found = dash_tiles(dash(said, "sprite-", ".jpg", 3, "jpeg"))
        assert len(found) == count
        for n, tile in enumerate(found):
            assert 0 <= tile.start - n * step < Fraction(1, 1000)


# --- what a cue shows -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "target"),
    [
        ("sprite-000.jpg", "sprite-000.jpg"),
        ("a b.jpg", "a%20b.jpg"),
        ("a#b.jpg", "a%23b.jpg"),
        ("a?b.jpg", "a%3Fb.jpg"),
        ("100%.jpg", "100%25.jpg"),
        ("a%20b.jpg", "a%2520b.jpg"),
        ("a+b&c=d.jpg", "a%2Bb%26c%3Dd.jpg"),
        ("Ö.jpg", "%C3%96.jpg"),
        ("日本.webp", "%E6%97%A5%E6%9C%AC.webp"),
        ("a:b.jpg", "a%3Ab.jpg"),  # else "a:" were a scheme
        ("a-->b.jpg", "a--%3Eb.jpg"),
        ("a,b'c\"d.jpg", "a%2Cb%27c%22d.jpg"),
        ("a_b.c~d-e.jpg", "a_b.c~d-e.jpg"),
    ],
)
def test_a_file_name_is_a_url_of_its_own(file: str, target: str) -> None:
    assert url_of(file, None) == target
    assert tile_url(url_of(file, None), 320, 180, 160, 90) == target + "#xywh=320,180,160,90"


@given(st.text(st.characters(blacklist_categories=["C"], blacklist_characters="/\\"), min_size=1, max_size=20))
def test_a_player_finds_the_file_beside_the_index(name: str) -> None:
    file = "a" + name
    parts = urlsplit(urljoin("https://cdn.example/film/sprite.vtt", tile_url(url_of(file, None), 0, 0, 1, 1)))
    assert parts.path.startswith("/film/")
    assert unquote(parts.path.removeprefix("/film/")) == file
    assert (parts.netloc, parts.query, parts.fragment) == ("cdn.example", "", "xywh=0,0,1,1")
