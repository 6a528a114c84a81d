"""Index files read as strictly as their strictest readers do, by nothing that thumbd is made of.

Each reader gives the tiles of an index in their order, with the time from which each stands for the video.
"""

import json
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil
from xml.etree import ElementTree


@dataclass(frozen=True)
class Tile:
    """A part of a sheet, in pixels, that stands for the video from `start` seconds on."""

    start: Fraction
    url: str
    x: int
    y: int
    width: int
    height: int


_CUE = re.compile(r"(\d\d+):(\d\d):(\d\d)\.(\d\d\d) --> (\d\d+):(\d\d):(\d\d)\.(\d\d\d)\n([^\n]+)")


def cues(text: bytes) -> list[tuple[int, int, str]]:
    """Of a WebVTT: begin and end of each cue in milliseconds, and what it shows."""
    head, *blocks = text.decode("ascii").split("\n\n")
    assert head == "WEBVTT"
    assert blocks[-1].endswith("\n")
    blocks[-1] = blocks[-1].removesuffix("\n")
    found = []
    for block in blocks:
        match = _CUE.fullmatch(block)
        assert match, block
        times = [int(part) for part in match.groups()[:8]]
        assert all(minute < 60 and second < 60 for minute, second in (times[1:3], times[5:7]))
        begin, end = (((h * 60 + m) * 60 + s) * 1000 + ms for h, m, s, ms in (times[:4], times[4:]))
        found.append((begin, end, match[9]))
    return found


def vtt_tiles(text: bytes) -> list[Tile]:
    found = []
    for begin, _, target in cues(text):
        url, place = target.split("#xywh=")
        x, y, width, height = map(int, place.split(","))
        found.append(Tile(Fraction(begin, 1000), url, x, y, width, height))
    return found


def json_tiles(text: bytes) -> list[Tile]:
    """Of Vidstack's JSON."""
    entries = json.loads(text, parse_float=Fraction)
    assert isinstance(entries, list) and entries
    found = []
    for entry in entries:
        assert set(entry) == {"startTime", "endTime", "url", "width", "height", "coords", "text"}
        assert entry["startTime"] < entry["endTime"]
        place = (entry["coords"]["x"], entry["coords"]["y"], entry["width"], entry["height"])
        assert all(type(number) is int for number in place)
        assert entry["text"] == f"{entry['url']}#xywh={','.join(map(str, place))}"
        found.append(Tile(Fraction(entry["startTime"]), entry["url"], *place))
    assert all(one["endTime"] == other["startTime"] for one, other in pairwise(entries))
    return found


_TILES = re.compile(r"#EXT-X-TILES:RESOLUTION=(\d+)x(\d+),LAYOUT=(\d+)x(\d+),DURATION=(\d+(?:\.\d+)?)")
_INF = re.compile(r"#EXTINF:(\d+(?:\.\d+)?),")


def hls_tiles(text: bytes) -> list[Tile]:
    """Of an image media playlist."""
    first, *lines, last, nothing = text.decode("ascii").split("\n")
    assert (first, last, nothing) == ("#EXTM3U", "#EXT-X-ENDLIST", "")
    target = next(int(line.partition(":")[2]) for line in lines if line.startswith("#EXT-X-TARGETDURATION:"))
    assert {"#EXT-X-IMAGES-ONLY", "#EXT-X-PLAYLIST-TYPE:VOD"} <= set(lines)
    begin = Fraction(0)
    found = []
    for number, line in enumerate(lines):
        if line.startswith("#"):
            continue
        tiles, inf = _TILES.fullmatch(lines[number - 2]), _INF.fullmatch(lines[number - 1])
        assert tiles and inf, lines[number - 2 : number + 1]
        width, height, columns, rows = map(int, tiles.groups()[:4])
        step, length = Fraction(tiles[5]), Fraction(inf[1])
        assert 0 < length <= target and round(length) <= target
        for n in range(columns * rows):
            if n * step < length:
                x, y = n % columns * width, n // columns * height
                found.append(Tile(begin + n * step, line, x, y, width, height))
        begin += length
    return found


_MPD = "{urn:mpeg:dash:schema:mpd:2011}"


def dash_tiles(text: bytes) -> list[Tile]:
    """Of an MPD whose only period has nothing but tiles."""
    mpd = ElementTree.fromstring(text)
    assert mpd.tag == _MPD + "MPD" and mpd.get("type") == "static"
    [period] = mpd.findall(_MPD + "Period")
    [images] = period.findall(_MPD + "AdaptationSet")
    [template] = images.findall(_MPD + "SegmentTemplate")
    [sheet] = images.findall(_MPD + "Representation")
    [layout] = sheet.findall(_MPD + "EssentialProperty")
    assert images.get("contentType") == "image" and images.get("mimeType") in ("image/jpeg", "image/png")
    assert layout.get("schemeIdUri") == "http://dashif.org/guidelines/thumbnail_tile"
    columns, rows = map(int, layout.get("value", "").split("x"))
    width, height, bandwidth = (int(sheet.get(key, "")) for key in ("width", "height", "bandwidth"))
    assert bandwidth > 0 and width % columns == height % rows == 0
    end = Fraction(mpd.get("mediaPresentationDuration", "").removeprefix("PT").removesuffix("S"))
    length = Fraction(int(template.get("duration", "")), int(template.get("timescale", "")))
    assert int(template.get("duration", "")) < 2**32 and int(template.get("timescale", "")) < 2**32
    first = int(template.get("startNumber", ""))
    step = length / (columns * rows)
    found = []
    for number in range(ceil(end / length)):
        url = _fill(template.get("media", ""), first + number)
        for n in range(columns * rows):
            start = number * length + n * step
            if start < end:
                x, y = n % columns * width // columns, n // columns * height // rows
                found.append(Tile(start, url, x, y, width // columns, height // rows))
    return found


def _fill(template: str, number: int) -> str:
    """`$$` is a dollar."""
    return re.sub(r"\$(?:Number%0(\d)d)?\$", lambda match: f"{number:0{match[1]}}" if match[1] else "$", template)


def bif_pictures(data: bytes) -> list[tuple[Fraction, bytes]]:
    """Of a BIF: from when on each picture stands for the video, and the picture."""
    assert data[:8] == bytes((0x89, 0x42, 0x49, 0x46, 0x0D, 0x0A, 0x1A, 0x0A))
    version, count, multiplier = struct.unpack("<III", data[8:20])
    assert version == 0 and data[20:64] == bytes(44)
    entries = [struct.unpack_from("<II", data, 64 + 8 * n) for n in range(count + 1)]
    assert entries[0][1] == 64 + 8 * (count + 1)
    assert entries[-1] == (0xFFFFFFFF, len(data))
    assert all(one[0] < other[0] and one[1] < other[1] for one, other in pairwise(entries))
    return [
        (Fraction(stamp * (multiplier or 1000), 1000), data[begin:end])
        for (stamp, begin), (_, end) in pairwise(entries)
    ]


READERS: dict[str, Callable[[bytes], Sequence[object]]] = {
    ".vtt": cues,
    ".m3u8": hls_tiles,
    ".mpd": dash_tiles,
    ".json": json_tiles,
    ".bif": bif_pictures,
}
