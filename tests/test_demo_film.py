"""The sample film of the demo: as long as asked, good to seek in, rightly tagged, and no two scenes alike."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from daemon.demo.film import make_film
from daemon.demo.film.scenes import SCENES

SECONDS, RATE, WIDTH, HEIGHT = 3, 30, 160, 90
BT709, LIMITED = 1, 1


@pytest.fixture(scope="module")
def told() -> list[float]:
    return []


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory, told: list[float]) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    make_film(path, seconds=SECONDS, width=WIDTH, height=HEIGHT, rate=RATE, progress=told.append)
    return path


@pytest.fixture(scope="module")
def frames(film: Path) -> list[av.VideoFrame]:
    with av.open(film) as container:
        return list(container.decode(video=0))


def middle_of_scene(frames: list[av.VideoFrame], scene: int) -> NDArray[np.uint8]:
    """The middle of the picture, without clock, title and progress, where a scene is at its own."""
    picture = frames[int((scene + 0.5) * len(frames) / len(SCENES))].to_ndarray(format="rgb24")
    return picture[HEIGHT // 4 : HEIGHT * 3 // 4].astype(np.uint8)


def test_every_frame_is_there_at_its_time(frames: list[av.VideoFrame]) -> None:
    assert len(frames) == SECONDS * RATE
    assert [frame.pts * frame.time_base for frame in frames if frame.pts is not None and frame.time_base] == [
        Fraction(number, RATE) for number in range(SECONDS * RATE)
    ]


def test_the_container_says_what_was_asked(film: Path) -> None:
    with av.open(film) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.codec_context.name) == (WIDTH, HEIGHT, "h264")
        assert stream.average_rate == RATE
        assert container.duration == SECONDS * av.time_base
        assert stream.duration is not None and stream.time_base is not None
        assert stream.duration * stream.time_base == SECONDS


def test_it_can_be_played_while_it_loads(film: Path) -> None:
    head = film.read_bytes()
    assert head.index(b"moov") < head.index(b"mdat")


def test_a_keyframe_every_two_seconds(film: Path) -> None:
    with av.open(film) as container:
        stream = container.streams.video[0]
        times = [(packet.pts or 0) * packet.time_base for packet in container.demux(stream) if packet.is_keyframe]
    assert times == [0, 2]


def test_there_are_frames_that_wait_for_later_ones(film: Path) -> None:
    with av.open(film) as container:
        times = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
    assert times != sorted(times)


def test_colours_are_tagged_as_they_are(film: Path) -> None:
    with av.open(film) as container:
        context: VideoCodecContext = container.streams.video[0].codec_context
        tags = [context.color_primaries, context.color_trc, context.colorspace, context.color_range]
        assert tags == [BT709, BT709, BT709, LIMITED]
        assert container.streams.video[0].pix_fmt == "yuv420p"


def test_no_two_scenes_look_alike(frames: list[av.VideoFrame]) -> None:
    scenes = [middle_of_scene(frames, scene).astype(int) for scene in range(len(SCENES))]
    for a, one in enumerate(scenes):
        for other in scenes[:a]:
            assert np.abs(one - other).mean() > 10


def test_every_frame_moves(frames: list[av.VideoFrame]) -> None:
    pictures = [frame.to_ndarray(format="gray").astype(int) for frame in frames]
    assert all((abs(a - b) > 16).any() for a, b in pairwise(pictures))


def test_the_line_at_the_foot_says_how_far_it_is(frames: list[av.VideoFrame]) -> None:
    red = [int((frame.to_ndarray(format="rgb24")[-1, :, 0] > 150).sum()) for frame in frames]
    assert red[0] == 0 and red == sorted(red) and red[-1] == pytest.approx(WIDTH, abs=3)


def test_progress_rises_to_the_whole(film: Path, told: list[float]) -> None:
    assert told == sorted(told) and told[0] == 0 and told[-1] == 1 and len(told) == SECONDS + 1


def test_the_same_call_draws_the_same_film(tmp_path: Path) -> None:
    films = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    for path in films:
        make_film(path, seconds=0.5, width=64, height=36)
    assert films[0].read_bytes() == films[1].read_bytes()


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [({"width": 161}, "even"), ({"height": 14}, "at least 16"), ({"seconds": 0}, "length"), ({"rate": 0}, "rate")],
)
def test_what_cannot_be_made_is_refused(tmp_path: Path, wrong: dict[str, int], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make_film(tmp_path / "film.mp4", **wrong)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
