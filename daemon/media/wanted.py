"""Which instants an output wants: times as they were asked for, and the duration, to seconds. Pure, but for frames
asked for by their number, whose times stand in the packets.
"""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from math import ceil

from daemon.errors import AtPastEnd, BadJob, DecodeFailed
from daemon.fields import FrameNumber
from daemon.media.best import OF_A_VIDEO, OF_AN_INTERVAL, Choice, Interval
from daemon.media.container import Container
from daemon.media.facts import Facts
from daemon.media.stamps import time_of_frame
from daemon.outputs import Sprite, Thumbnail, Thumbnails

Stills = Thumbnail | Thumbnails | Sprite


def is_searched(asked: Stills) -> bool:
    """Frames are chosen by how good they are."""
    return asked.at == "best" if isinstance(asked, Thumbnail) else asked.pick == "best"


def intervals(asked: Stills, duration: Fraction, most: int) -> tuple[tuple[Interval, ...], int]:
    """Where the best is searched for, and how many keyframes of each interval are looked at."""
    if isinstance(asked, Thumbnail):
        return ((Fraction(0), duration),), OF_A_VIDEO
    ats, _ = series(asked, duration, most)
    _, end, _ = span(asked, duration)
    return tuple(pairwise((*ats, end))), OF_AN_INTERVAL


def instants(
    asked: Stills, container: Container, facts: Facts, most: int, choices: Sequence[Choice | None]
) -> tuple[list[Fraction], list[str]]:
    """In seconds from the first frame, ascending, and warnings; no more than `most`. `choices`: what was found where
    it is searched. Raises AtPastEnd, BadJob and DecodeFailed."""
    duration = facts.duration
    if not isinstance(asked, Thumbnail):
        return series(asked, duration, most)
    if isinstance(asked.at, FrameNumber):
        return [time_of_frame(container, facts, asked.at.frame)], []
    if asked.at == "best":
        if choices[0] is None:
            raise DecodeFailed("no picture of it can be decoded: the video is damaged, give another")
        return [choices[0].time], []
    at = asked.at.seconds(duration)
    if at > duration:
        raise AtPastEnd(f"at is {float(at):g} s, but the video ends after {float(duration):.3f} s")
    return [at], []


def span(asked: Thumbnails | Sprite, duration: Fraction) -> tuple[Fraction, Fraction, Fraction]:
    """Start and end of a series and the time between its pictures, in seconds. Raises AtPastEnd and BadJob."""
    start = asked.start.seconds(duration) if asked.start else Fraction(0)
    end = min(duration, asked.end.seconds(duration)) if asked.end else duration
    if start >= duration:
        raise AtPastEnd(f"start is {float(start):g} s, but the video ends after {float(duration):.3f} s")
    if end <= start:
        raise BadJob(f"end ({float(end):g} s) must be after start ({float(start):g} s)")
    return start, end, asked.every.seconds(duration) if asked.every else (end - start) / (asked.count or 1)


def series(asked: Thumbnails | Sprite, duration: Fraction, most: int) -> tuple[list[Fraction], list[str]]:
    """The instants of a series in seconds, and warnings. With `every` ceil(length / every) pictures; with `count` n
    the instants start + i * (end - start) / n. Raises AtPastEnd and BadJob."""
    warnings: list[str] = []
    start, end, step = span(asked, duration)
    if asked.end and (said := asked.end.seconds(duration)) > duration:
        warnings.append(
            f"{asked.name}: end is {float(said):g} s, the video ends after {float(duration):.3f} s: cut there"
        )
    count = asked.count or ceil((end - start) / step)
    if count > most:
        raise BadJob(f"{count} pictures are asked for, {most} are allowed (setting job.pictures)")
    has_vtt = isinstance(asked, Thumbnails) or "vtt" in asked.indexes
    if step < 1 and count > 1 and has_vtt:
        warnings.append(f"{asked.name}: less than 1 s between pictures: the video.js plugin only knows whole seconds")
    return [start + n * step for n in range(count)], warnings
