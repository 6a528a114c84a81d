"""Index files that players accept: WebVTT.

The cues are what the parsers of video.js, Plyr, Vidstack, media-chrome and Shaka all read: LF only, no cue ids, always
`HH:MM:SS.mmm`, four integers in `#xywh=`, bare URL-safe file names, contiguous from 0 to the end of the video.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import ceil
from urllib.parse import quote


def webvtt(starts: Sequence[Fraction], end: Fraction, targets: Iterable[str]) -> bytes:
    """One cue a picture. `starts`: seconds at which each picture begins to stand for the video; the first cue begins
    at 0 all the same, and the last ends at or after `end`. `targets`: what each cue shows."""
    borders = [0]
    for start in starts[1:]:
        borders.append(max(round(start * 1000), borders[-1] + 1))
    borders.append(max(ceil(end * 1000), borders[-1] + 1))
    blocks = ["WEBVTT\n"]
    for n, target in enumerate(targets):
        begin, until = borders[n], borders[n + 1]
        blocks.append(f"{_clock(begin)} --> {_clock(until)}\n{target}\n")
    return "\n".join(blocks).encode()


def tile_target(file: str, x: int, y: int, width: int, height: int) -> str:
    return f"{picture_target(file)}#xywh={x},{y},{width},{height}"


def picture_target(file: str) -> str:
    return quote(file)


def _clock(milliseconds: int) -> str:
    seconds, fraction = divmod(milliseconds, 1000)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours:02}:{minute:02}:{second:02}.{fraction:03}"
