"""Index files that players accept, as text: WebVTT, HLS image playlist, DASH tiles, and the JSON of Vidstack.

Each is what the players' own parsers read. The cues of WebVTT suit those of video.js, Plyr, Vidstack, media-chrome and
Shaka alike: LF only, no cue ids, always `HH:MM:SS.mmm`, four integers in `#xywh=`, URL-safe file names, contiguous from
0 to the end of the video. HLS and DASH give no place or time of any one tile: their sheets are of one size, and their
tiles evenly spaced from 0.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from html import escape
from itertools import pairwise
from math import ceil, floor
from urllib.parse import quote

from daemon.media.sheet import Grid

_NANO = 10**9
_MOST = 2**32 - 1  # of DASH's whole numbers


@dataclass(frozen=True)
class Tiles:
    """Tile n stands for the video from n * `step` seconds to the next one, the last until `end`. `largest`: the bytes
    of the largest sheet."""

    grid: Grid
    step: Fraction
    end: Fraction
    largest: int

    @property
    def sheet_length(self) -> Fraction:
        """Seconds that a full sheet stands for."""
        return self.step * self.grid.per_sheet

    @property
    def bandwidth(self) -> int:
        """Bits a second."""
        return max(1, ceil(self.largest * 8 / min(self.sheet_length, self.end)))


def url_of(file: str, base_url: str | None) -> str:
    """What stands for a file in an index: its name, or its whole URL."""
    base = base_url or ""
    return base + "/" * (bool(base) and not base.endswith("/")) + quote(file)


def tile_url(url: str, x: int, y: int, width: int, height: int) -> str:
    """A part of a sheet, in pixels, as a media fragment."""
    return f"{url}#xywh={x},{y},{width},{height}"


def webvtt(starts: Sequence[Fraction], end: Fraction, targets: Iterable[str]) -> bytes:
    """One cue a picture. `starts`: seconds at which each picture begins to stand for the video; the first cue begins
    at 0 all the same, and the last ends at or after `end`. `targets`: what each cue shows."""
    blocks = ["WEBVTT\n"]
    for (begin, until), target in zip(_cues(starts, end), targets, strict=True):
        blocks.append(f"{_clock(begin)} --> {_clock(until)}\n{target}\n")
    return "\n".join(blocks).encode()


def vidstack(starts: Sequence[Fraction], end: Fraction, grid: Grid, sheets: Sequence[str]) -> bytes:
    """The cues of WebVTT as a JSON array. `sheets`: the URL of each. `text` is all that Vidstack reads of a file which
    it fetches itself: where only `url` is there it shows nothing (1.15). The others are for an array handed to it."""
    width, height = grid.tile
    entries = []
    for n, (begin, until) in enumerate(_cues(starts, end)):
        sheet, x, y = grid.place(n)
        entries.append(
            {
                "startTime": begin / 1000,
                "endTime": until / 1000,
                "url": sheets[sheet],
                "width": width,
                "height": height,
                "coords": {"x": x, "y": y},
                "text": tile_url(sheets[sheet], x, y, width, height),
            }
        )
    return ("[\n" + ",\n".join(map(json.dumps, entries)) + "\n]\n").encode()


def hls(tiles: Tiles, sheets: Sequence[str], codec: str, name: str) -> bytes:
    """An image media playlist. `sheets`: the URL of each; `codec`: "jpeg" or "png"; `name`: its own file name, for the
    comment that says how a multivariant playlist refers to it."""
    grid = tiles.grid
    resolution = f"RESOLUTION={grid.tile[0]}x{grid.tile[1]}"
    borders = [min(n * tiles.sheet_length, tiles.end) for n in range(grid.sheets)] + [tiles.end]
    # Up: else a player finds room for one tile more at a sheet's end.
    layout = f"LAYOUT={grid.columns}x{grid.rows},DURATION={_decimal(ceil(tiles.step * _NANO))}"
    lines = [
        "#EXTM3U",
        f"#EXT-X-TARGETDURATION:{ceil(min(tiles.sheet_length, tiles.end))}",
        "#EXT-X-VERSION:7",
        "#EXT-X-MEDIA-SEQUENCE:1",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXT-X-IMAGES-ONLY",
        f"# For the multivariant playlist: EXT-X-IMAGE-STREAM-INF:BANDWIDTH={tiles.bandwidth},{resolution},"
        f'CODECS="{codec}",URI="{quote(name)}"',
    ]
    for n, sheet in enumerate(sheets):
        # Rounded at the borders, not between them: errors do not add up.
        length = _decimal(round(borders[n + 1] * _NANO) - round(borders[n] * _NANO))
        lines += [f"#EXT-X-TILES:{resolution},{layout}", f"#EXTINF:{length},", sheet]
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""]).encode()


def dash(tiles: Tiles, before: str, after: str, digits: int, format: str) -> bytes:
    """A whole MPD, of tiles alone: no player plays that, its AdaptationSet belongs beside those of a video. The URLs of
    its sheets are `before`, the number from 0 with at least `digits` digits, `after`."""
    grid = tiles.grid
    width, height = grid.size(0)
    # Exact where 32 bits are enough, else the length is rounded up; that of the whole is rounded down. No player is to
    # look for one sheet more because of a billionth.
    timescale = min(tiles.sheet_length.denominator, max(1, _MOST // ceil(tiles.sheet_length)))
    length = ceil(tiles.sheet_length * timescale)
    duration = _decimal(floor(tiles.end * _NANO))
    media = f"{before.replace('$', '$$')}$Number%0{digits}d${after}"
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="static"
     minBufferTime="PT1S" mediaPresentationDuration="PT{duration}S">
  <Period id="0" start="PT0S">
    <AdaptationSet mimeType="image/{format}" contentType="image">
      <SegmentTemplate media="{escape(media)}" timescale="{timescale}" duration="{length}"
                       startNumber="0"/>
      <Representation id="thumbnails" bandwidth="{tiles.bandwidth}" width="{width}" height="{height}">
        <EssentialProperty schemeIdUri="http://dashif.org/guidelines/thumbnail_tile"
                           value="{grid.columns}x{grid.rows}"/>
      </Representation>
    </AdaptationSet>
  </Period>
</MPD>
""".encode()


def _cues(starts: Sequence[Fraction], end: Fraction) -> list[tuple[int, int]]:
    """Begin and end of each cue in milliseconds, contiguous, none of them empty."""
    borders = [0]
    for start in starts[1:]:
        borders.append(max(round(start * 1000), borders[-1] + 1))
    borders.append(max(ceil(end * 1000), borders[-1] + 1))
    return list(pairwise(borders))


def _clock(milliseconds: int) -> str:
    seconds, fraction = divmod(milliseconds, 1000)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours:02}:{minute:02}:{second:02}.{fraction:03}"


def _decimal(nanoseconds: int) -> str:
    """Seconds without needless digits."""
    whole, part = divmod(nanoseconds, _NANO)
    return f"{whole}.{part:09}".rstrip("0").rstrip(".")
