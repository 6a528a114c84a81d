"""`best` finds a picture that shows the film, on films whose other pictures do not.

Each film says which of its seconds are good, and paints its frames, so that a picture can be held against its time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import clips
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from rendering import render

from daemon.media.score import score

SIZE = (320, 180)
RATE = 5


def scene(number: int) -> Image.Image:
    """A picture with sky, ground, things of all sizes: another one every four seconds."""
    rng = np.random.default_rng(number // 20)
    image = Image.new("RGB", SIZE, tuple(int(v) for v in rng.integers(90, 200, 3)))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 110, 320, 180), fill=tuple(int(v) for v in rng.integers(40, 140, 3)))
    for _ in range(60):
        x, y, size = int(rng.integers(320)), int(rng.integers(40, 180)), int(rng.integers(4, 40))
        colour = tuple(int(v) for v in rng.integers(0, 255, 3))
        (pen.rectangle if size % 2 else pen.ellipse)((x, y, x + size, y + size * 2 // 3), fill=colour)
    return image


def plain(*colour: int) -> Image.Image:
    return Image.new("RGB", SIZE, colour)


def letters(ground: tuple[int, int, int], ink: tuple[int, int, int], lines: int) -> Image.Image:
    image = plain(*ground)
    pen = ImageDraw.Draw(image)
    for n in range(lines):
        y = 90 + (n - lines / 2) * 14
        for x in range(80 + 7 * (n % 5), 240 - 9 * (n % 4), 8):
            pen.rectangle((x, y, x + 4 + x % 3, y + 8), outline=ink)
    return image


def shade(image: Image.Image, light: float, towards: int = 0) -> Image.Image:
    return Image.blend(plain(*(towards,) * 3), image, light)


@dataclass(frozen=True)
class Film:
    """`paint(n)`: frame n of `seconds` * 5; `good`: which seconds show something, from and before."""

    name: str
    paint: Paint
    good: tuple[float, float]
    seconds: int = 40
    gop: int = 10


Paint = Callable[[int], Image.Image]


def until(second: float, before: Paint, after: Paint = scene) -> Paint:
    return lambda n: before(n) if n < second * RATE else after(n)


def fading_in(seconds: float) -> Paint:
    return lambda n: shade(scene(n), min(1.0, n / (seconds * RATE)))


FILMS = (
    Film("black-start", until(30, lambda n: plain(0, 0, 0)), (30, 40)),
    Film("white-start", until(28, lambda n: plain(255, 255, 255)), (28, 40)),
    Film("grey-start", until(30, lambda n: plain(90, 90, 90)), (30, 40)),
    Film("slow-fade-in", fading_in(36), (28, 40)),
    Film("titles-on-black", until(30, lambda n: letters((0, 0, 0), (255, 255, 255), 5)), (30, 40)),
    Film("titles-on-white", until(30, lambda n: letters((255, 255, 255), (0, 0, 0), 4)), (30, 40)),
    Film("credits", until(8, scene, lambda n: letters((0, 0, 0), (220, 220, 220), 11)), (0, 8)),
    Film("logo-on-colour", until(32, lambda n: letters((0, 60, 160), (255, 200, 0), 3)), (32, 40)),
    Film("out-of-focus", until(30, lambda n: scene(n).filter(ImageFilter.GaussianBlur(9))), (30, 40)),
    Film("night", until(32, lambda n: shade(scene(n), 0.12)), (32, 40)),
    Film("washed-out", until(32, lambda n: shade(scene(n), 0.2, 255)), (32, 40)),
    # One keyframe, and it is black.
    Film("one-group", until(2, lambda n: shade(scene(n), n / 10 if n < 9 else 0.9)), (1, 6), seconds=6, gop=1000),
    # All keyframes are black: flashes between the scenes.
    Film("black-keyframes", lambda n: plain(0, 0, 0) if n % 10 < 2 else scene(n), (0.4, 40)),
    Film("in-and-out", lambda n: shade(scene(n), max(0.0, 1 - abs(n / RATE - 20) / 20)), (12, 28)),
)


def write(film: Film, folder: Path) -> Path:
    path = folder / f"best-{film.name}.mp4"
    if path.exists():
        return path
    with av.open(path, "w") as output:
        options = {"preset": "ultrafast", "qp": "20", "sc_threshold": "0"}
        stream = output.add_stream("libx264", rate=RATE, options=options, width=320, height=180, pix_fmt="yuv420p")
        stream.codec_context.gop_size = film.gop
        stream.codec_context.thread_count = 1
        for n in range(film.seconds * RATE):
            frame = av.VideoFrame.from_image(film.paint(n))
            frame.pts, frame.time_base = n, Fraction(1, RATE)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


BEST = {"output": "thumbnail", "at": "best", "format": "png", "name": "b"}


@pytest.mark.parametrize("film", [pytest.param(film, id=film.name) for film in FILMS])
def test_best_is_good(film: Film, clip_folder: Path) -> None:
    rendered = render(write(film, clip_folder), (BEST,), threads=2)
    report = rendered.reports["b"]
    assert report.time is not None
    assert film.good[0] <= report.time < film.good[1], report.time
    truth = np.asarray(film.paint(round(report.time * RATE)))
    assert np.abs(rendered.picture("b.png").astype(int) - truth).mean() < 8, "that is not the picture at its time"
    assert report.score is not None
    assert 0.2 < report.score <= 1


def test_the_search_is_bounded(clip_folder: Path) -> None:
    """200 groups of pictures, and no more than 23 keyframes are decoded, the chosen one once more."""
    film = Film("many", scene, (0, 200), seconds=200, gop=5)
    rendered = render(write(film, clip_folder), (BEST, BEST | {"name": "again", "width": 100}))
    assert rendered.over.frames <= 24
    # Fewer groups than candidates: each keyframe is decoded once.
    few = Film("few", scene, (0, 40), gop=25)
    assert render(write(few, clip_folder), (BEST,)).over.frames <= 8 + 1


def test_the_search_finds_the_same_in_any_order(clip_folder: Path) -> None:
    path = write(FILMS[0], clip_folder)
    found = {render(path, (BEST,), threads=threads).files["b.png"] for threads in (1, 2, 4, 4)}
    assert len(found) == 1


def test_a_film_that_is_black_all_through_has_a_picture(clip_folder: Path) -> None:
    film = Film("black", lambda n: plain(0, 0, 0), (0, 5), seconds=5)
    rendered = render(write(film, clip_folder), (BEST,))
    assert rendered.reports["b"].score == 0
    assert not rendered.picture("b.png").any()


def test_a_still_is_its_own_best(tmp_path: Path) -> None:
    scene(0).save(tmp_path / "still.png")
    rendered = render(tmp_path / "still.png", (BEST,))
    assert rendered.reports["b"].time == 0
    assert rendered.over.frames == 2


@pytest.mark.parametrize("kind", ["thumbnails", "sprite"])
def test_the_best_of_each_interval(kind: str, clip_folder: Path) -> None:
    """The first second of each scene is black: its first picture says nothing, its best one does."""
    film = Film("scenes", lambda n: plain(0, 0, 0) if n % 20 < 5 else scene(n), (0, 40), gop=5)
    path = write(film, clip_folder)
    output = {"output": kind, "every": 4, "format": "png", "name": "s", "width": 320}
    first = render(path, (output,)).reports["s"].pictures
    assert first is not None
    assert [picture.time for picture in first] == [4.0 * n for n in range(10)]
    assert all(picture.score is None for picture in first)
    best = render(path, (output | {"pick": "best"},), threads=2)
    assert best.reports["s"].pictures is not None
    for n, picture in enumerate(best.reports["s"].pictures):
        assert picture.at == 4.0 * n
        assert 4 * n + 1 <= picture.time < 4 * n + 4
        assert picture.score is not None
        assert picture.score > 0.2
    # The index still says for which stretch each picture stands.
    assert b"00:00:04.000 --> 00:00:08.000" in best.files["s.vtt"]


def test_an_interval_without_a_keyframe_has_its_first_picture(clip_folder: Path) -> None:
    film = Film("long-group", scene, (0, 40), gop=1000)
    output = {"output": "thumbnails", "every": 10, "format": "png", "name": "s", "pick": "best"}
    pictures = render(write(film, clip_folder), (output,)).reports["s"].pictures
    assert pictures is not None
    assert [picture.time for picture in pictures] == [0, 10, 20, 30]


def test_a_picture_like_the_one_before_gives_way(clip_folder: Path) -> None:
    """A title stands in the best light, in every interval: it is shown once."""

    def paint(n: int) -> Image.Image:
        return scene(0) if n % 20 < 10 else shade(scene(n), 0.85)

    path = write(Film("repeated", paint, (0, 40), gop=5), clip_folder)
    output = {"output": "thumbnails", "every": 4, "format": "png", "name": "s", "pick": "best", "width": 80}
    rendered = render(path, (output,))
    pictures = [rendered.picture(f"s-{n + 1:04}.png").astype(int) for n in range(10)]
    assert all(np.abs(one - other).mean() > 5 for one, other in itertools.pairwise(pictures))


def test_scores() -> None:
    picture = scene(3)
    arrays = {
        "scene": picture,
        "dim": shade(picture, 0.3),
        "blurred": picture.filter(ImageFilter.GaussianBlur(8)),
        "grey": picture.convert("L").convert("RGB"),
        "titles": letters((0, 0, 0), (255, 255, 255), 5),
    }
    scores = {name: score(np.asarray(image)) for name, image in arrays.items()}
    assert all(scores["scene"].value > other.value for name, other in scores.items() if name != "scene")
    assert not any(other.blank for other in scores.values())
    assert all(score(np.asarray(plain(v, v, v))).blank for v in (0, 5, 128, 250, 255))
    assert scores["scene"].resembles(scores["scene"])
    assert not scores["scene"].resembles(score(np.asarray(scene(60))))
    assert score(np.zeros((1, 1, 3), np.uint8)).blank


@pytest.mark.parametrize("suffix", [".ts", ".mkv", ".flv"])
def test_best_where_no_index_tells_the_keyframes(suffix: str, clip_folder: Path) -> None:
    film = FILMS[0]
    path = clip_folder / f"best-rewrapped{suffix}"
    with av.open(write(film, clip_folder)) as source, av.open(path, "w") as output:
        copy = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = copy
                output.mux(packet)
    rendered = render(path, (BEST,), threads=2)
    time = rendered.reports["b"].time
    assert time is not None
    assert film.good[0] <= time < film.good[1]


def test_frames_that_must_be_counted_are_decoded_once(clip_folder: Path) -> None:
    """H.264 in an MPEG program stream, whose packets lack times: all pictures share one pass from the start."""
    clip = clips.make(next(recipe for recipe in clips.RECIPES if recipe.name == "h264-ps"), clip_folder)
    series = {"output": "thumbnails", "count": 10, "format": "png", "name": "s", "accuracy": "keyframe"}
    for outputs in ((series,), (BEST,)):
        assert render(clip.path, outputs).over.frames <= 2 * len(clip.times)
