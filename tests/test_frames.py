"""The picture at t is the frame shown at t: every codec and container, at, before and after every border.

Each clip's frames carry their own number; the truth comes from the recipe's own reading of the file, not from ours.
"""

import functools
import os
import random
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import clips
import pytest
from clips import RECIPES, Clip, Recipe, read_number

from daemon.errors import AtPastEnd, DecodeFailed, NotAVideo
from daemon.media.colour import colour_of
from daemon.media.cpu import CpuDevice
from daemon.media.demux import Demuxer
from daemon.media.device import Frame
from daemon.media.facts import Facts
from daemon.media.measure import measure
from daemon.media.plan import How, Instant, Run, plan
from daemon.media.source import FileSource
from daemon.media.stamps import time_of_frame
from daemon.media.video import HELD_BYTES, Track

EVERY = [pytest.param(recipe, id=recipe.name) for recipe in RECIPES]
BY_NAME = {recipe.name: recipe for recipe in RECIPES}
DEVICE = CpuDevice()
TINY = Fraction(1, 100_000)
make = functools.cache(clips.make)


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
    assert isinstance(frame, av.VideoFrame)
    return read_number(DEVICE.resize(frame, [(160, 120)], colour_of(frame, ""))[0][..., :3])


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
    times = [clip.times[n] for n in around]
    return sorted({max(Fraction(0), time + shift) for time in times for shift in (-TINY, 0, TINY)})


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


# --- keyframes --------------------------------------------------------------------------------------------------


def key_times(clip: Clip) -> list[Fraction]:
    return [clip.times[clip.numbers.index(number)] for number in clip.keyframes]


def keyframe_for(clip: Clip, at: Fraction, how: How) -> int:
    """The number of the keyframe at or before `at`, or of that nearest to it; the earlier of two as near."""
    times = key_times(clip)
    if how == "nearest":
        return clip.keyframes[min(range(len(times)), key=lambda n: (abs(times[n] - at), n))]
    return clip.keyframes[max(bisect_right(times, at) - 1, 0)]


def around_keyframes(clip: Clip) -> list[Fraction]:
    """The ends, the borders of some keyframes, and the middles between them, where the nearest changes."""
    times = key_times(clip) or list(clip.times[::8])
    some = times[:: max(1, len(times) // 3)]
    middles = [(one + other) / 2 for one, other in pairwise(times)][:: max(1, len(times) // 2)]
    near = {max(Fraction(0), time + shift) for time in (*some, *middles) for shift in (-TINY, 0, TINY)}
    return sorted({*near, Fraction(0), clip.times[len(clip.times) // 7], clip.end})


@pytest.mark.parametrize("how", ["keyframe", "nearest"])
@pytest.mark.parametrize("recipe", EVERY)
def test_keyframe_picture_is_the_keyframe_asked_for(recipe: Recipe, how: How, clip_folder: Path) -> None:
    clip = make(recipe, clip_folder)
    asked = around_keyframes(clip)
    with opened(clip) as (facts, _, _):
        # Where packets have no times of their own frames are decoded in order, and the one shown is had as cheaply.
        known = facts.timing == "shown" and bool(clip.keyframes)
    truth = {at: keyframe_for(clip, at, how) if known else clip.number_at(at) for at in asked}
    assert shown(clip, asked, how) == truth


# --- frames by number -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", EVERY)
def test_frame_number_n_is_at_the_nth_time(recipe: Recipe, clip_folder: Path) -> None:
    clip = make(recipe, clip_folder)
    last = len(clip.times) - 1
    with opened(clip) as (facts, demuxer, _):
        for number in {0, min(1, last), last // 2, last}:
            assert time_of_frame(demuxer, facts, number) == clip.times[number], number
        for number in (last + 1, 10**9):
            with pytest.raises(AtPastEnd, match=str(number)):
                time_of_frame(demuxer, facts, number)


# --- whatever the way there -------------------------------------------------------------------------------------

REPRESENTATIVE = [
    pytest.param(BY_NAME[name], id=name)
    for name in (
        "h264",
        "h264-nonref-b",
        "h264-one-gop",
        "h264-open-gop",
        "h264-open-gop-ts",
        "h264-refresh",
        "h264-refresh-ts",
        "h264-edit",
        "h264-edit-mov",
        "h264-gap-mkv",
        "h264-vfr-flv",
        "h264-avi-b",
        "hevc-open-gop-mkv",
        "av1-mkv",
        "vp9-alt-ref",
        "mpeg2-ps",
        "mpeg2-ts",
        "mpeg4-avi-b",
        "mpeg4-avi-packed",
        "h264-asf-b",
        "qtrle-gray-mov",
        "h264-raw",
        "mpeg1-raw",
        "mpeg4-raw",
        "gif",
    )
]


@pytest.mark.parametrize("recipe", REPRESENTATIVE)
def test_pictures_do_not_depend_on_how_much_is_held(recipe: Recipe, clip_folder: Path) -> None:
    clip = make(recipe, clip_folder)
    asked = [*borders(clip, some(clip)[::4]), clip.end]
    for held in (0, 2000, 20_000):
        assert shown(clip, asked, "exact", held) == {at: clip.number_at(at) for at in asked}, held


@pytest.mark.parametrize("recipe", REPRESENTATIVE)
def test_runs_may_be_taken_in_any_order(recipe: Recipe, clip_folder: Path) -> None:
    clip = make(recipe, clip_folder)
    ways: list[How] = ["exact", "keyframe", "nearest"]
    with opened(clip) as (facts, _, track):
        cases = [(clip.times[n] + TINY, how) for n in some(clip)[::3] for how in ways]
        for order in (cases[::-1], random.Random(1).sample(cases, len(cases))):
            for at, how in order:
                (picture,) = track.frames(Run((Instant(facts.ticks(at), how),)))
                by_key = how != "exact" and facts.timing == "shown"
                truth = keyframe_for(clip, at, how) if by_key else clip.number_at(at)
                assert (number_in(picture.frame), picture.exact) == (truth, True), (float(at), how)


@pytest.mark.parametrize("recipe", REPRESENTATIVE)
def test_instants_may_be_asked_for_in_any_order(recipe: Recipe, clip_folder: Path) -> None:
    clip = make(recipe, clip_folder)
    asked = [clip.times[n] for n in some(clip)[::2]]
    random.Random(2).shuffle(asked)
    assert shown(clip, asked, "exact") == {at: clip.number_at(at) for at in asked}


# --- files that are no video, or not whole ----------------------------------------------------------------------


def error_of(path: Path) -> NotAVideo:
    with pytest.raises(NotAVideo) as refusal, open(path, "rb") as file:
        measure(Demuxer(FileSource(file.fileno())))
    return refusal.value


def test_what_is_no_video_is_refused_with_the_reason(clip_folder: Path) -> None:
    noise, text = clips.not_a_video(clip_folder)
    for path in (clips.empty(clip_folder), noise, text):
        assert "no container that we can read" in error_of(path).message
    assert "no video stream" in error_of(clips.no_video_stream(clip_folder)).message


def test_a_file_without_its_index_is_refused(clip_folder: Path) -> None:
    cut_off = clips.truncated(make(BY_NAME["h264"], clip_folder), clip_folder)
    assert "the file is cut off" in error_of(cut_off).message


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_cover_is_the_picture_of_an_audio_file(suffix: str, clip_folder: Path) -> None:
    path = clip_folder / f"album{suffix}"
    with av.open(path, "w") as output:
        cover = clips._cover(output)
        output.mux([*cover, *clips._audio(output, "aac")])
    album = Clip(path, BY_NAME["h264-cover"], (Fraction(0),), (clips.COVER,), (clips.COVER,), Fraction(1))
    for how in ("exact", "keyframe", "nearest"):
        assert shown(album, [Fraction(0)], how) == {Fraction(0): clips.COVER}


FIRST_THE_INDEX = (("movflags", "faststart"),)
CUT_OFF = [
    Recipe("cut-h264", "mp4", ".mp4", clips.X264, bframes=3, muxer=FIRST_THE_INDEX),
    Recipe("cut-h264-no-b", "mp4", ".mp4", clips.X264, muxer=FIRST_THE_INDEX),
    Recipe("cut-h264-one-gop", "mp4", ".mp4", clips.X264, gop=250, bframes=3, muxer=FIRST_THE_INDEX),
    Recipe("cut-hevc", "mp4", ".mp4", clips.X265, bframes=3, muxer=FIRST_THE_INDEX),
    Recipe("cut-vp9", "mp4", ".mp4", clips.VP9, muxer=FIRST_THE_INDEX),
    Recipe("cut-mpeg4", "mp4", ".mp4", "mpeg4", bframes=2, muxer=FIRST_THE_INDEX),
    Recipe("cut-mjpeg", "mov", ".mov", "mjpeg", pix_fmt="yuvj420p", muxer=FIRST_THE_INDEX),
]


def cut_at(clip: Clip, size: int) -> Fraction:
    """Up to when a file cut off at this size is surely whole: no missing packet is shown, or decoded, before."""
    with av.open(clip.path) as container:
        packets = [packet for packet in container.demux(clips.video_stream(container)) if packet.size]
    first = min(packet.pts or 0 for packet in packets)
    missing = [packet for packet in packets if (packet.pos or 0) + packet.size > size]
    return min(((packet.dts or 0) - first) * packet.time_base for packet in missing)


@pytest.mark.parametrize("keep", [0.37, 0.6, 0.9])
@pytest.mark.parametrize("recipe", CUT_OFF, ids=lambda recipe: recipe.name)
def test_a_file_cut_off_gives_the_right_pictures_or_none(recipe: Recipe, keep: float, clip_folder: Path) -> None:
    whole = make(recipe, clip_folder)
    path = clips.truncated(whole, clip_folder, keep)
    sure = cut_at(whole, path.stat().st_size)
    assert whole.end / 5 < sure < whole.end
    last_key = max(time for time in key_times(whole) if time < sure)
    ways: list[How] = ["exact", "keyframe", "nearest"]
    with opened(replace(whole, path=path)) as (facts, _, track):
        for at in whole.times[::2]:
            for how in ways:
                truth = whole.number_at(at) if how == "exact" else keyframe_for(whole, at, how)
                try:
                    (picture,) = track.frames(Run((Instant(facts.ticks(at), how),)))
                except DecodeFailed as error:
                    assert at >= (last_key if how == "nearest" else sure), (float(at), how)
                    assert "the file is cut off" in error.message
                    assert f"{float(at):.3f} s" in error.message
                else:
                    assert (number_in(picture.frame), picture.exact) == (truth, True), (float(at), how)


# These have no index that speaks of what is missing: the video ends early.
ENDS_EARLY = ["h264-mkv", "h264-ts", "h264-flv", "h264-frag", "vp9", "vp8-ogg", "mpeg2-ps", "mpeg2-ts", "mpeg2-vob"]
ENDS_EARLY += ["hevc-open-gop-ts", "mpeg4-avi", "mjpeg-avi", "wmv2-asf", "gif", "apng"]
ENDS_EARLY += ["msmpeg4v3-avi", "rv20-rm", "vp9-ivf"]


@pytest.mark.parametrize("keep", [0.37, 0.55, 0.6])
@pytest.mark.parametrize("name", ENDS_EARLY)
def test_a_video_that_ends_early_has_no_broken_picture(name: str, keep: float, clip_folder: Path) -> None:
    whole = make(BY_NAME[name], clip_folder)
    path = clips.truncated(whole, clip_folder, keep)
    with opened(replace(whole, path=path)) as (facts, _, track):
        assert 0 < facts.duration < whole.end
        present = [n for n, time in enumerate(whole.times) if time < facts.duration]
        assert len(present) > len(whole.times) * keep / 2
        for n in (*present[:-8:5], *present[-8:]):
            (picture,) = track.frames(Run((Instant(facts.ticks(whole.times[n])),)))
            # Of the last frames some may be missing: then the one before them is shown on, as it would be in a player.
            assert n - (4 if n in present[-8:] else 0) <= number_in(picture.frame) <= n
