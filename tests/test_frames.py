"""The picture at t is the frame shown at t: every codec and container, at, before and after every border.

Each clip's frames carry their own number; the truth comes from the recipe's own reading of the file, not from ours.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import pytest
from clips import RECIPES, Clip, Recipe, make, read_number

from daemon.media.cpu import CpuDevice
from daemon.media.demux import Demuxer, Facts, measure
from daemon.media.device import Frame
from daemon.media.plan import How, Instant, plan
from daemon.media.source import FileSource
from daemon.media.video import HELD_BYTES, Track

EVERY = [pytest.param(recipe, id=recipe.name) for recipe in RECIPES]
DEVICE = CpuDevice()


@contextmanager
def opened(clip: Clip, held_bytes: int = HELD_BYTES) -> Iterator[tuple[Facts, Demuxer, Track]]:
    descriptor = os.open(clip.path, os.O_RDONLY)
    source = FileSource(descriptor)
    try:
        demuxer = Demuxer(source)
        facts = measure(demuxer)
        track = Track(Demuxer(source), facts, DEVICE, held_bytes)
        yield facts, demuxer, track
        track.close()
        demuxer.close()
    finally:
        os.close(descriptor)


def number_in(frame: Frame) -> int:
    return read_number(DEVICE.resize(frame, (160, 120)))


def shown(clip: Clip, seconds: list[Fraction], how: How, held_bytes: int = HELD_BYTES) -> dict[Fraction, int]:
    """The numbers of the frames that stand for these instants, by our own planning and decoding."""
    with opened(clip, held_bytes) as (facts, demuxer, track):
        instants = {Instant(facts.ticks(at), how): at for at in seconds}
        found = {}
        group_of = demuxer.group if facts.timing != "counted" else lambda ticks: 0
        for run in plan(instants, group_of, 2 / facts.time_base):
            for picture in track.frames(run):
                assert picture.exact
                found[instants[picture.instant]] = number_in(picture.frame)
        return found


def borders(clip: Clip, around: list[int]) -> list[Fraction]:
    """Instants at, just before and just after the begin of these frames (positions in display order)."""
    tiny = Fraction(1, 100_000)
    times = [clip.times[n] for n in around]
    return sorted({max(Fraction(0), time + shift) for time in times for shift in (-tiny, 0, tiny)})


def some(clip: Clip) -> list[int]:
    """Positions of frames worth looking at: the ends, around each keyframe, and every seventh."""
    last = len(clip.times) - 1
    near = {clip.numbers.index(k) + d for k in clip.keyframes if k in clip.numbers for d in (-1, 0, 1)}
    return sorted(n for n in {0, 1, 2, last - 1, last, *near, *range(0, last, 7)} if 0 <= n <= last)


@pytest.mark.parametrize("recipe", EVERY)
def test_exact_picture_is_the_one_shown(recipe: Recipe, clip_folder: Path) -> None:
    clip = make(recipe, clip_folder)
    asked = [*borders(clip, some(clip)), clip.end]
    assert shown(clip, asked, "exact") == {at: clip.number_at(at) for at in asked}


@pytest.mark.parametrize("recipe", EVERY)
def test_exact_pictures_do_not_depend_on_their_company(recipe: Recipe, clip_folder: Path) -> None:
    clip = make(recipe, clip_folder)
    for at in (clip.times[len(clip.times) // 2], clip.times[-1], Fraction(0)):
        assert shown(clip, [at], "exact") == {at: clip.number_at(at)}


@pytest.mark.parametrize("recipe", EVERY)
def test_duration_is_that_of_the_video(recipe: Recipe, clip_folder: Path) -> None:
    clip = make(recipe, clip_folder)
    with opened(clip) as (facts, _, _):
        assert abs(facts.duration - clip.end) <= Fraction(1, 20), (float(facts.duration), float(clip.end))
        assert facts.duration > clip.times[-1]
