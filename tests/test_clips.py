"""The test clips are what they claim to be."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Literal

import av
import clips
import numpy as np
import pytest
from av.packet import Packet
from av.video.stream import VideoStream
from clips import RECIPES, Clip, Picture, draw, make, read_number, video_stream
from PIL import Image

BY_NAME = {recipe.name: recipe for recipe in RECIPES}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


def picture(frame: av.VideoFrame) -> Picture:
    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def frames(path: Path, skip: Literal["DEFAULT", "NONREF"] = "DEFAULT") -> Iterator[av.VideoFrame]:
    """What libav gives out when it decodes a file from start to end."""
    with av.open(path, "r") as container:
        stream = video_stream(container)
        stream.codec_context.skip_frame = skip
        yield from container.decode(stream)


def packets(clip: Clip) -> list[Packet[VideoStream]]:
    with av.open(clip.path, "r") as container:
        return [packet for packet in container.demux(video_stream(container)) if packet.size]


# --- the number in the picture ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(160, 90), (160, 120), (90, 160), (64, 36)])
@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_number_survives_scaling_and_coding(size: tuple[int, int], format: str) -> None:
    for number in range(0, 256, 3):
        file = io.BytesIO()
        Image.fromarray(draw(number, (320, 180))).resize(size).save(file, format, quality=80)
        assert read_number(np.asarray(Image.open(file).convert("RGB"))) == number


@pytest.mark.parametrize("axis", [0, 1])
def test_picture_of_two_frames_is_refused(axis: int) -> None:
    one, other = (draw(number, (320, 180)) for number in (7, 8))
    halves = np.array_split(one, 2, axis)[0], np.array_split(other, 2, axis)[1]
    for mixture in (np.concatenate(halves, axis), one // 2 + other // 2, np.zeros_like(one)):
        with pytest.raises(ValueError, match="blocks"):
            read_number(mixture)


# --- every clip ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BY_NAME)
def test_clip(name: str, folder: Path) -> None:
    clip = make(BY_NAME[name], folder)
    recipe = clip.recipe
    assert clip.times[0] == 0
    assert all(earlier < later for earlier, later in pairwise((*clip.times, clip.end)))
    assert set(clip.keyframes) <= set(clip.numbers)

    hidden = recipe.trim is not None or recipe.name.startswith("h264-edit")
    assert hidden or clip.numbers == tuple(range(recipe.frames))

    # The container holds the times that were asked for, as exactly as its time base can.
    asked = list(accumulate(recipe.times(1 / recipe.rate, recipe.frames), initial=Fraction(0)))
    for number, time in zip(clip.numbers, clip.times, strict=True):
        assert abs(time - (asked[number] - asked[clip.numbers[0]])) <= Fraction(1, 1000)

    # The decoder gives out those frames, with those times where the container has any.
    decoded = [(read_number(picture(frame)), frame.pts, frame.time_base) for frame in frames(clip.path)]
    assert tuple(number for number, _, _ in decoded) == clip.numbers
    if recipe.container not in (*clips.SLOTS, *clips.COUNTED):
        origin = decoded[0][1] or 0
        for (_, pts, time_base), time in zip(decoded, clip.times, strict=True):
            assert pts is None or (time_base is not None and (pts - origin) * time_base == time)


def test_all_but_theora_can_be_made() -> None:
    assert [recipe.name for recipe in RECIPES if clips.missing(recipe)] == ["theora-ogg"]


@pytest.mark.parametrize("name", ["h264", "hevc", "av1-mkv", "h264-aac"])
def test_same_recipe_same_file(name: str, tmp_path: Path) -> None:
    """But for libvpx, which in realtime works less thoroughly on a busy machine."""
    one, other = (make(BY_NAME[name], tmp_path / copy) for copy in "ab")
    assert one.path.read_bytes() == other.path.read_bytes()
    assert [path.name for path in one.path.parent.iterdir()] == [one.path.name]


def test_number_at(folder: Path) -> None:
    clip = make(BY_NAME["h264-edit"], folder)
    at = map(Fraction, ("-1", "0", "39/1000", "40/1000", "99"))
    assert list(map(clip.number_at, at)) == [7, 7, 7, 8, 74]


# --- what single clips are there for ------------------------------------------------------------------------


@pytest.mark.parametrize("name", [r.name for r in RECIPES if "open-gop" in r.name or r.name == "mpeg2-ts"])
def test_open_gop(name: str, folder: Path) -> None:
    """Packets shown before a key packet are stored behind it."""
    stored = packets(make(BY_NAME[name], folder))
    key = next(index for index, packet in enumerate(stored) if index and packet.is_keyframe)
    assert (stored[key + 1].pts or 0) < (stored[key].pts or 0)


def test_non_reference_frames(folder: Path) -> None:
    clip = make(BY_NAME["h264-nonref-b"], folder)
    assert len(list(frames(clip.path, "NONREF"))) < len(clip.times) * 0.5


@pytest.mark.parametrize("name", ["h264-refresh", "h264-refresh-mkv", "h264-refresh-ts"])
def test_intra_refresh(name: str, folder: Path) -> None:
    """Packets are flagged as key, but only the first one is decodable by itself."""
    clip = make(BY_NAME[name], folder)
    assert len(clip.keyframes) > 2
    assert sum(frame.key_frame for frame in frames(clip.path)) == 1


def test_alt_ref(folder: Path) -> None:
    """Superframes end in a marker of three bits."""
    stored = packets(make(BY_NAME["vp9-alt-ref"], folder))
    assert any(bytes(packet)[-1] >> 5 == 0b110 for packet in stored)


def test_packets_without_pts(folder: Path) -> None:
    """Half of the PTS are missing. (libav mislabels a few at some quantizers: then take another.)"""
    missing = [packet.pts is None for packet in packets(make(BY_NAME["h264-ps"], folder))]
    assert 0.3 < np.mean(missing) < 0.7


@pytest.mark.parametrize("name", ["h264-wrap-ts", "mpeg2-wrap-ts", "h264-negative"])
def test_first_time_is_negative(name: str, folder: Path) -> None:
    assert (next(frames(make(BY_NAME[name], folder).path)).pts or 0) < 0


@pytest.mark.parametrize("name", [recipe.name for recipe in RECIPES if recipe.audio])
def test_sound_is_longer_than_video(name: str, folder: Path) -> None:
    clip = make(BY_NAME[name], folder)
    start = next(frames(clip.path)).time
    with av.open(clip.path, "r") as container:
        sound = [(frame.time or 0) - start for frame in container.decode(audio=0)]
    assert sound[0] < 0.1 - clip.recipe.start
    assert sound[-1] > clip.end + 1


@pytest.mark.parametrize("name", ["h264-cover", "h264-cover-mkv"])
def test_cover(name: str, folder: Path) -> None:
    with av.open(make(BY_NAME[name], folder).path, "r") as container:
        (cover,) = (stream for stream in container.streams.video if stream != video_stream(container))
        assert read_number(picture(next(container.decode(cover)))) == clips.COVER


# --- damaged files ------------------------------------------------------------------------------------------


def test_truncated(folder: Path) -> None:
    clip = make(BY_NAME["h264-ts"], folder)
    assert 0 < len(list(frames(clips.truncated(clip, folder)))) < len(clip.times)
    with pytest.raises(av.FFmpegError):
        next(frames(clips.truncated(make(BY_NAME["h264"], folder), folder)))


def test_not_a_video(folder: Path) -> None:
    noise, text = clips.not_a_video(folder)
    for path in (clips.empty(folder), noise):
        with pytest.raises(av.FFmpegError):
            next(frames(path))
    assert text.read_text()
    with av.open(clips.no_video_stream(folder), "r") as container:
        assert [stream.type for stream in container.streams] == ["audio"]
