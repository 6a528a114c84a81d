"""Clips and animations: every frame at its time, begun and ended exactly, sound in step with the picture.

What was made is read back with PyAV and Pillow, the number off each picture; the truth comes from the source's recipe.
"""

import functools
import gc
import os
import weakref
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import clips
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from clips import RECIPES, Clip, read_number
from numpy.typing import NDArray
from PIL import Image

from daemon.job import Job
from daemon.media.clip import crf, even
from daemon.media.cpu import CpuDevice
from daemon.media.demux import Demuxer
from daemon.media.geometry import Layout
from daemon.media.measure import measure
from daemon.media.moving import MovingMaker
from daemon.media.plan import Instant, Run
from daemon.media.render import Rendering
from daemon.media.sink import Sink
from daemon.media.source import FileSource
from daemon.media.stamps import frames_between
from daemon.media.studio import View
from daemon.media.video import Track
from daemon.report import OutputReport
from daemon.store.headers import picture_header
from daemon.task import FileMade, Limits, OutputFailed, OutputMade, Task, TaskOver

BY_NAME = {recipe.name: recipe for recipe in RECIPES}
LIMITS = Limits()
make = functools.cache(clips.make)


@dataclass
class Outcome:
    """What came of a task of one job."""

    folder: Path
    reports: dict[str, OutputReport] = field(default_factory=dict)
    made: dict[str, FileMade] = field(default_factory=dict)
    failed: list[OutputFailed] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    over: TaskOver | None = None

    def path(self, name: str) -> Path:
        return self.folder / self.reports[name].path


def render(source: Path, folder: Path, *outputs: dict[str, Any], limits: Limits = LIMITS, threads: int = 1) -> Outcome:
    job = Job.check({"source": "film", "outputs": list(outputs)})
    task = Task(jobs=(job.outputs,), threads=threads, limits=limits)
    outcome = Outcome(folder)

    def emit(event: Any, body: bytes) -> None:
        if isinstance(event, FileMade):
            outcome.made[event.name] = event
            if body:
                (folder / event.name).write_bytes(body)
        elif isinstance(event, OutputMade):
            outcome.reports[event.report.name] = event.report
            outcome.warnings += event.warnings
        elif isinstance(event, OutputFailed):
            outcome.failed.append(event)

    opened = [os.open(source, os.O_RDONLY)]
    try:
        sinks = {}
        for place in task.files:
            asked: Any = job.outputs[place[1]]
            opened.append(os.open(folder / asked.file, os.O_RDWR | os.O_CREAT | os.O_TRUNC))
            sinks[place] = Sink(opened[-1])
        outcome.over = Rendering(task, FileSource(opened[0]), sinks, CpuDevice(), emit).run()
    finally:
        for descriptor in opened:
            os.close(descriptor)
    assert outcome.over.code is None, outcome.over
    for name, made in outcome.made.items():
        if made.size:
            assert made.size == (folder / name).stat().st_size
            with (folder / name).open("rb") as file:
                assert picture_header(file.read(1 << 16)) == (made.format, (made.width, made.height))
    return outcome


def made_one(source: Path, folder: Path, **keys: Any) -> tuple[Path, OutputReport, list[str]]:
    """One clip, unless it says otherwise."""
    outcome = render(source, folder, {"output": "clip", "name": "out", **keys})
    assert not outcome.failed, outcome.failed
    return outcome.path("out"), outcome.reports["out"], outcome.warnings


@dataclass(frozen=True)
class Frames:
    """What an MP4 shows: numbers and times, the end in seconds, positions of the key frames."""

    numbers: list[int]
    times: list[Fraction]
    end: Fraction
    keys: list[int]
    tick: Fraction


def frames_of(path: Path) -> Frames:
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        stream.codec_context.thread_count = 1
        frames = list(container.decode(stream))
        tick = stream.time_base
    times = [frame.pts * tick for frame in frames if frame.pts is not None]
    numbers = [read_number(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)) for frame in frames]
    keys = [n for n, frame in enumerate(frames) if frame.key_frame]
    return Frames(numbers, times, played(path), keys, tick)


def played(path: Path) -> Fraction:
    """Seconds, as the file's own head says (mvhd, ISO/IEC 14496-12, 8.2.2): libav makes up the last frame's."""
    data = path.read_bytes()
    at = data.index(b"mvhd") + 4
    assert data[at] == 0
    return Fraction(int.from_bytes(data[at + 16 : at + 20]), int.from_bytes(data[at + 12 : at + 16]))


def boxes(path: Path) -> list[str]:
    data, at, kinds = path.read_bytes(), 0, []
    while at < len(data):
        kinds.append(data[at + 4 : at + 8].decode())
        at += int.from_bytes(data[at : at + 4])
    assert at == len(data)
    return kinds


# --- the frames of a clip -----------------------------------------------------------------------------------------

KINDS = ["h264", "h264-open-gop", "h264-ntsc", "h264-vfr", "h264-vfr-mkv", "h264-vfr-ts", "h264-gap", "h264-one-gop"]
KINDS += ["h264-refresh", "h264-interlaced-ts", "h264-avi-b", "h264-ps", "h264-edit-both", "h264-late-ts"]
KINDS += ["h264-long-last", "h264-wrap-ts", "h264-negative", "hevc-open-gop-ts", "vp9-alt-ref", "mpeg4-gap-avi", "gif"]


def check_frames(path: Path, report: OutputReport, clip: Clip, start: Fraction, end: Fraction) -> None:
    """The clip shows at each time what the source shows then, from `start` on and until `end`, no more and no less."""
    found = frames_of(path)
    times = [start, *(time for time in clip.times if start < time < end)]
    assert found.numbers == [clip.number_at(time) for time in times]
    slack = found.tick + Fraction(1, 1000)  # the source may be read with another time base than the recipe's
    assert found.times[0] == 0
    assert all(abs(is_at - (time - start)) < slack for is_at, time in zip(found.times, times, strict=True))
    assert abs(found.end - (end - start)) < slack
    assert (report.frames, report.at) == (len(times), pytest.approx(float(start), abs=1e-6))
    assert report.duration == pytest.approx(float(end - start), abs=0.05)


@pytest.mark.parametrize("name", KINDS)
def test_a_clip_shows_what_its_source_shows(name: str, clip_folder: Path, tmp_path: Path) -> None:
    clip = make(BY_NAME[name], clip_folder)
    middle = len(clip.times) // 2
    start = round((clip.times[middle - 9] + clip.times[middle - 8]) / 2, 3)  # in the midst of a frame
    end = round(clip.times[middle + 8], 3) + Fraction(1, 200)
    path, report, warnings = made_one(
        clip.path, tmp_path, start=f"{float(start)}s", duration=f"{float(end - start)}s", audio=False
    )
    assert not warnings
    check_frames(path, report, clip, start, end)


@pytest.mark.parametrize("name", ["h264", "h264-vfr-mkv", "h264-avi-b", "h264-edit", "mpeg2-ts"])
def test_a_clip_of_all_of_it(name: str, clip_folder: Path, tmp_path: Path) -> None:
    clip = make(BY_NAME[name], clip_folder)
    path, report, warnings = made_one(clip.path, tmp_path)
    assert not warnings
    with open(clip.path, "rb") as file:
        demuxer = Demuxer(FileSource(file.fileno()))
        end = measure(demuxer).duration
        demuxer.close()
    check_frames(path, report, clip, Fraction(0), end)
    kinds = boxes(path)
    assert kinds[:2] == ["ftyp", "moov"] and kinds[-1] == "mdat" and set(kinds[2:-1]) == {"free"}


@pytest.mark.parametrize("name", ["h264", "h264-vfr-ts", "mpeg4-avi-b"])
@pytest.mark.parametrize("fps", ["10", "30000/1001", "60"])
def test_with_fps_frames_are_evenly_spaced(name: str, fps: str, clip_folder: Path, tmp_path: Path) -> None:
    clip = make(BY_NAME[name], clip_folder)
    start, length = Fraction("0.31"), Fraction("1.03")
    path, report, _ = made_one(clip.path, tmp_path, start="0.31s", duration="1.03s", fps=fps)
    found = frames_of(path)
    assert report.frames == len(found.times) == -(-length * Fraction(fps) // 1)
    assert [abs(time - n / Fraction(fps)) < found.tick for n, time in enumerate(found.times)] == [True] * report.frames
    assert found.numbers == [clip.number_at(start + n / Fraction(fps)) for n in range(report.frames)]
    assert abs(found.end - length) <= found.tick


@pytest.mark.parametrize(
    ("keyframe", "keys"), [(7, [0, 7, 14, 21]), ("0.5s", [0, 13, 25]), ("400ms", [0, 10, 20]), (1, list(range(26)))]
)
def test_keyframes_are_where_they_are_asked_for(
    keyframe: object, keys: list[int], clip_folder: Path, tmp_path: Path
) -> None:
    clip = make(BY_NAME["h264"], clip_folder)
    path, _, _ = made_one(clip.path, tmp_path, start=1, duration="1.04s", keyframe=keyframe)
    assert frames_of(path).keys == keys


# --- how it looks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "size"),
    [
        ({}, (320, 180)),
        ({"width": 161}, (160, 90)),
        ({"width": 100}, (100, 56)),
        ({"height": 91}, (162, 90)),
        ({"width": 101, "height": 101, "fit": "cover"}, (100, 100)),
        ({"width": 101, "height": 101, "fit": "pad"}, (100, 100)),
        ({"width": 99, "height": 55, "fit": "stretch"}, (98, 54)),
    ],
)
def test_sides_are_even(keys: dict[str, Any], size: tuple[int, int], clip_folder: Path, tmp_path: Path) -> None:
    path, report, _ = made_one(make(BY_NAME["h264"], clip_folder).path, tmp_path, duration=0.1, **keys)
    with av.open(path) as container:
        context = container.streams.video[0].codec_context
        assert (context.width, context.height, context.pix_fmt) == (*size, "yuv420p")
        assert (int(context.colorspace), int(context.color_range), int(context.color_trc)) == (1, 1, 1)
    assert (report.width, report.height) == size


@pytest.mark.parametrize(
    ("layout", "evened"),
    [
        (Layout((321, 181), (321, 181)), Layout((320, 180), (320, 180))),
        (Layout((1, 1), (1, 1)), Layout((2, 2), (2, 2))),
        (Layout((200, 113), (101, 113)), Layout((200, 113), (100, 112))),
        (Layout((101, 57), (101, 101)), Layout((101, 57), (100, 100))),
    ],
)
def test_how_sides_become_even(layout: Layout, evened: Layout) -> None:
    assert even(layout) == evened


def test_a_clip_has_the_colours_of_a_thumbnail(clip_folder: Path, tmp_path: Path) -> None:
    source = make(BY_NAME["h264"], clip_folder).path
    still = {"output": "thumbnail", "name": "still", "at": 1, "format": "png"}
    outcome = render(source, tmp_path, still, {"output": "clip", "start": 1, "duration": 0.1, "quality": 100})
    with Image.open(outcome.path("still")) as image:
        wanted = np.asarray(image.convert("RGB"), np.int16)
    with av.open(outcome.path("clip-2")) as container:
        frame = next(container.decode(container.streams.video[0]))
        got = np.asarray(frame.to_ndarray(format="rgb24"), np.int16)
    assert abs(got - wanted).mean() < 3
    assert abs((got - wanted).mean(axis=(0, 1))).max() < 1.5  # no colour has more of it


def test_a_clip_may_be_turned(clip_folder: Path, tmp_path: Path) -> None:
    source = make(BY_NAME["h264"], clip_folder).path
    clip = {"output": "clip", "duration": 0.1, "quality": 100}
    outcome = render(source, tmp_path, clip, {**clip, "rotate": 90})
    pictures = []
    for name in ("clip-1", "clip-2"):
        with av.open(outcome.path(name)) as container:
            frame = next(container.decode(container.streams.video[0]))
            pictures.append(np.asarray(frame.to_ndarray(format="rgb24"), np.int16))
    plain, turned = pictures
    assert abs(turned - np.rot90(plain, -1)).mean() < 3


def test_quality_is_a_rate_factor(clip_folder: Path, tmp_path: Path) -> None:
    assert [crf(quality) for quality in (1, 75, None, 100)] == [50.625, 22.875, 22.875, 13.5]
    source = make(BY_NAME["h264"], clip_folder).path
    sizes = [made_one(source, tmp_path, quality=quality)[1].bytes for quality in (20, 60, 95)]
    assert sizes[0] < sizes[1] / 1.5 < sizes[2] / 3


def test_the_same_job_gives_the_same_files(clip_folder: Path, tmp_path: Path) -> None:
    source = make(BY_NAME["h264-aac"], clip_folder).path
    outputs: list[dict[str, Any]] = [{"output": "clip", "duration": 1}]
    outputs += [{"output": "animation", "format": format, "duration": 0.5} for format in ("webp", "gif", "avif")]
    for run in ("one", "two"):
        (tmp_path / run).mkdir()
        render(source, tmp_path / run, *outputs, threads=2)
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / run).iterdir()} for run in ("one", "two"))
    assert one == two and len(one) == 4


# --- what is said -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["clip", "animation"])
def test_borders_beyond_the_end(output: str, clip_folder: Path, tmp_path: Path) -> None:
    source = make(BY_NAME["h264"], clip_folder).path
    outputs = [{"output": output, "start": at, **more} for at, more in ((3, {}), (2.5, {"duration": 1}), (2.8, {}))]
    outcome = render(source, tmp_path, *({**each, "optional": True} for each in outputs))
    assert [(failed.output, failed.code) for failed in outcome.failed] == [(0, "at_past_end")]
    assert {name: report.duration for name, report in outcome.reports.items()} == {
        f"{output}-2": 0.5,
        f"{output}-3": 0.2,
    }
    assert len(outcome.warnings) == 1 and "it would end at 3.5 s, the video ends after 3.000 s" in outcome.warnings[0]


def test_an_animation_has_only_so_many_frames(clip_folder: Path, tmp_path: Path) -> None:
    source = make(BY_NAME["h264"], clip_folder).path
    outcome = render(source, tmp_path, {"output": "animation", "fps": 20}, limits=Limits(pictures=59))
    assert [(failed.code, "60 frames" in failed.message) for failed in outcome.failed] == [("bad_job", True)]


def test_damaged_frames_are_stood_for_and_told_of(clip_folder: Path, tmp_path: Path) -> None:
    clip = make(BY_NAME["mpeg2-ts"], clip_folder)
    data = bytearray(clip.path.read_bytes())
    rng = np.random.default_rng(3)
    for at in range(len(data) * 4 // 10, len(data) * 5 // 10):
        if at % 188 > 40:
            data[at] = int(rng.integers(256))
    damaged = tmp_path / "damaged.ts"
    damaged.write_bytes(data)
    path, report, _ = made_one(damaged, tmp_path)
    with av.open(path) as container:
        assert sum(1 for _ in container.decode(video=0)) == report.frames
    assert report.frames is not None and report.frames > 60


# --- how much is done for it --------------------------------------------------------------------------------------


def packets_for(clip: Clip, start: Fraction, count: int) -> tuple[int, int]:
    """(packets decoded, instants) for so many frames in turn."""
    with open(clip.path, "rb") as file:
        source = FileSource(file.fileno())
        demuxer = Demuxer(source)
        facts = measure(demuxer)
        times = [facts.ticks(start), *frames_between(demuxer, facts, start, facts.duration)][:count]
        with closing(Track(demuxer, facts, CpuDevice())) as track:
            run = Run([Instant(Fraction(time)) for time in times], in_turn=True)
            assert [shown.instant for shown in track.frames(run)] == run.instants
            return track.packets_sent, len(times)


@pytest.mark.parametrize("name", ["h264", "h264-open-gop", "h264-one-gop"])
def test_each_packet_is_decoded_once(name: str, clip_folder: Path) -> None:
    recipe = replace(BY_NAME[name], name=f"{name}-long", frames=255)
    packets, frames = packets_for(make(recipe, clip_folder), Fraction(1), 1000)
    assert frames == 230
    assert packets <= frames + 30  # and those from the key frame on


def test_the_first_frame_comes_before_the_last_is_read(clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = make(BY_NAME["h264-one-gop"], clip_folder)
    with open(clip.path, "rb") as file:
        source = FileSource(file.fileno())
        demuxer = Demuxer(source)
        facts = measure(demuxer)
        times = frames_between(demuxer, facts, Fraction(0), facts.duration)
        monkeypatch.setattr("daemon.media.reading._MANY", 10)
        with closing(Track(demuxer, facts, CpuDevice())) as track:
            frames = track.frames(Run([Instant(Fraction(time)) for time in times], in_turn=True))
            next(frames)
            assert track.packets_sent < 20
            assert sum(1 for _ in frames) == len(times) - 1


@pytest.mark.parametrize("name", ["h264", "h264-interlaced-ts", "mpeg4-avi-b"])
def test_decoded_frames_are_let_go(
    name: str, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, without the garbage collector, which comes hundreds of large frames later."""
    real, alive = MovingMaker._pictures, []

    def counted(self: MovingMaker, views: Iterator[View]) -> Iterator[Any]:
        for n, picture in enumerate(real(self, views)):
            if n % 10 == 0:  # looking at all objects takes its time
                alive.append(sum(isinstance(each, av.VideoFrame) for each in gc.get_objects()))
            yield picture

    monkeypatch.setattr(MovingMaker, "_pictures", counted)
    source = make(BY_NAME[name], clip_folder).path
    gc.collect()
    gc.disable()
    try:
        made_one(source, tmp_path)
    finally:
        gc.enable()
    assert len(alive) > 7 and max(alive) - alive[0] < 12, alive


# --- sound --------------------------------------------------------------------------------------------------------

RATE = 48_000
BEEP = RATE // 50  # samples


def beeping(folder: Path, container: str, codec: str, rate: int = RATE, layout: str = "stereo") -> Path:
    """100 frames, 25 a second, and a beep that begins with every tenth of them."""
    path = folder / f"beeps-{container}-{codec}-{rate}-{layout}"
    if path.exists():
        return path
    recipe = replace(BY_NAME["h264"], frames=100, size=(160, 90))
    channels = {"mono": 1, "stereo": 2, "5.1": 6}[layout]
    with av.open(str(path), "w", format=container, options={"fflags": "+bitexact"}) as output:
        packets = clips._video(output, recipe)
        stream = output.add_stream(codec, rate=rate, layout=layout)
        assert isinstance(stream, AudioStream)
        samples = np.zeros((channels, rate * 4), np.float32)
        beep = np.sin(np.arange(rate // 50) * (2 * np.pi * 1000 / rate)) * 0.8
        for n in range(0, 100, 10):
            samples[:, n * rate // 25 : n * rate // 25 + beep.size] = beep
        for at in range(0, samples.shape[1], 1024):
            piece = np.ascontiguousarray(samples[:, at : at + 1024])
            frame = AudioFrame.from_ndarray(piece, "fltp", layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        output.mux(sorted(packets, key=lambda packet: (packet.dts or 0) * packet.time_base))
    return path


def sound_of(path: Path) -> tuple[NDArray[np.float32], int, int]:
    """What is heard from time 0 on, one channel; the rate, and how many channels there are."""
    with av.open(path) as container:
        stream = container.streams.audio[0]
        pieces: dict[int, NDArray[np.float32]] = {}
        for frame in container.decode(stream):
            assert frame.pts is not None and frame.time_base is not None
            pieces[round(frame.pts * frame.time_base * frame.sample_rate)] = np.asarray(frame.to_ndarray(), np.float32)
        channels = stream.codec_context.layout.nb_channels
        rate = stream.sample_rate
    heard = np.zeros(max(at + piece.shape[1] for at, piece in pieces.items()), np.float32)
    for at, piece in pieces.items():
        assert at >= 0
        heard[at : at + piece.shape[1]] = piece[0]
    return heard, rate, channels


def beeps_in(path: Path) -> list[float]:
    """When beeps begin, in seconds."""
    heard, rate, _ = sound_of(path)
    loud = np.flatnonzero(abs(heard) > 0.4)
    starts = [int(loud[0]), *(int(b) for a, b in pairwise(loud) if b - a > rate // 10)]
    return [at / rate for at in starts]


SOUNDS = [
    ("mp4", "aac", RATE, "stereo"),
    ("mpegts", "aac", RATE, "stereo"),
    ("matroska", "aac", 44_100, "mono"),
    ("flv", "aac", 44_100, "stereo"),
    ("mp4", "libmp3lame", 44_100, "stereo"),
    ("mpegts", "mp2", RATE, "stereo"),
    ("mpegts", "ac3", RATE, "5.1"),
    ("matroska", "libopus", RATE, "stereo"),
    ("matroska", "libvorbis", RATE, "mono"),
    ("avi", "pcm_s16le", 22_050, "mono"),
    ("matroska", "flac", 96_000, "stereo"),
]


@pytest.mark.parametrize(("container", "codec", "rate", "layout"), SOUNDS)
def test_sound_is_in_step(
    container: str, codec: str, rate: int, layout: str, clip_folder: Path, tmp_path: Path
) -> None:
    try:
        source = beeping(clip_folder, container, codec, rate, layout)
    except (ValueError, av.FFmpegError) as error:
        pytest.skip(f"this PyAV cannot write {codec} in {container}: {error!r}")
    start, length = 0.567, 1.5
    path, _, warnings = made_one(source, tmp_path, start=start, duration=length)
    assert not warnings
    found = frames_of(path)
    wanted = [float(time) for number, time in zip(found.numbers[1:], found.times[1:], strict=True) if number % 10 == 0]
    assert len(wanted) >= 3
    beeps = beeps_in(path)
    assert beeps == pytest.approx(wanted, abs=0.009)
    heard, made_rate, channels = sound_of(path)
    assert channels == min(2, {"mono": 1, "stereo": 2, "5.1": 6}[layout])
    assert -1024 < heard.size - length * made_rate < 1024
    with av.open(path) as made, av.open(source) as original:
        copied = made.streams.audio[0].codec_context.extradata == original.streams.audio[0].codec_context.extradata
        assert made.streams.audio[0].codec_context.name == "aac"
        packets = {bytes(packet) for packet in original.demux(original.streams.audio[0])}
        same = sum(bytes(packet) in packets for packet in made.demux(made.streams.audio[0]) if packet.size)
    if codec == "aac":
        assert same > 60 or not copied  # MPEG-TS wraps each packet
    assert "moov" in boxes(path)[:2]


def test_sound_may_be_left_out(clip_folder: Path, tmp_path: Path) -> None:
    path, _, _ = made_one(make(BY_NAME["h264-aac"], clip_folder).path, tmp_path, duration=0.5, audio=False)
    with av.open(path) as container:
        assert [stream.type for stream in container.streams] == ["video"]


@pytest.mark.parametrize("name", ["h264", "h264-cover-mkv", "gif"])
def test_a_source_without_sound_makes_a_silent_clip(name: str, clip_folder: Path, tmp_path: Path) -> None:
    path, _, warnings = made_one(make(BY_NAME[name], clip_folder).path, tmp_path, duration=0.5)
    with av.open(path) as container:
        assert ([stream.type for stream in container.streams], warnings) == (["video"], [])


def test_sound_that_begins_early_is_cut(clip_folder: Path, tmp_path: Path) -> None:
    """In this source it has begun a second before the picture does."""
    clip = make(BY_NAME["h264-aac"], clip_folder)
    path, _, warnings = made_one(clip.path, tmp_path)
    heard, rate, _ = sound_of(path)
    assert not warnings
    assert abs(heard.size / rate - float(clip.end)) < 1024 / rate
    loud = np.flatnonzero(abs(heard) > 0.1)
    assert loud[0] < 1024 and heard.size - loud[-1] < 1024


def test_broken_sound_costs_no_clip(clip_folder: Path, tmp_path: Path) -> None:
    source = beeping(clip_folder, "matroska", "libopus").read_bytes()
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(source.replace(b"A_OPUS", b"A_NONE"))
    path, report, warnings = made_one(broken, tmp_path, start=1, duration=1)
    assert len(warnings) == 1 and "the clip is silent" in warnings[0]
    with av.open(path) as container:
        assert [stream.type for stream in container.streams] == ["video"]
    assert frames_of(path).numbers == list(range(25, 50)) and report.frames == 25


def test_damaged_sound_is_told_of(clip_folder: Path, tmp_path: Path) -> None:
    source = bytearray(beeping(clip_folder, "mpegts", "ac3", RATE, "5.1").read_bytes())
    position = 0
    hits = 0
    while (position := source.find(b"\x0b\x77", position + 1)) > 0:
        hits += 1
        if hits % 7 == 3:
            source[position + 2 : position + 40] = bytes(38)
    damaged = tmp_path / "damaged.ts"
    damaged.write_bytes(source)
    path, report, warnings = made_one(damaged, tmp_path, start=1, duration=2)
    assert len(warnings) == 1 and "sound: damaged in places" in warnings[0]
    assert report.frames == 50
    heard, rate, _ = sound_of(path)
    assert abs(heard.size - 2 * rate) < 2048  # the last packet may be among the damaged ones


# --- animations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["webp", "gif", "avif"])
@pytest.mark.parametrize(("name", "fps", "count"), [("h264", 10, 8), ("h264-vfr-mkv", "7", 6), ("h264-gap", 4, 3)])
def test_an_animation_shows_what_was_shown(
    format: str, name: str, fps: object, count: int, clip_folder: Path, tmp_path: Path
) -> None:
    clip = make(BY_NAME[name], clip_folder)
    rate, start = Fraction(str(fps)), Fraction("0.7")
    length = (count - Fraction(1, 2)) / rate  # the last one is shown as long as the others
    keys = {"output": "animation", "format": format, "fps": fps, "width": 161, "start": 0.7}
    path, report, warnings = made_one(clip.path, tmp_path, duration=f"{float(length):.6f}s", **keys)
    assert not warnings
    numbers, shown = [], []
    with Image.open(path) as image:
        assert image.size == (161, 91) == (report.width, report.height)
        assert image.format == format.upper()
        assert format == "avif" or image.info["loop"] == 0
        for n in range(image.n_frames):
            image.seek(n)
            numbers.append(read_number(np.asarray(image.convert("RGB"), np.uint8)))
            shown.append(image.info["duration"])
    expected = [clip.number_at(start + n / rate) for n in range(count)]
    # Frames that are alike may be one, which is shown longer.
    merged = [expected[0], *(b for a, b in pairwise(expected) if a != b)]
    assert numbers in (expected, merged)
    unit = 10 if format == "gif" else 1
    assert abs(sum(shown) - float(count * 1000 / rate)) <= unit
    if numbers == expected:
        assert all(abs(each - 1000 / rate) <= unit for each in shown)
    assert (report.frames, report.duration, report.at) == (count, round(float(count / rate), 6), 0.7)
    assert report.time == pytest.approx(float(max(time for time in clip.times if time <= start)), abs=0.001)


def test_an_animation_is_3_seconds_long_and_10_frames_each(clip_folder: Path, tmp_path: Path) -> None:
    source = make(replace(BY_NAME["h264"], name="h264-4s", frames=100), clip_folder).path
    path, report, _ = made_one(source, tmp_path, output="animation", width=80)
    with Image.open(path) as image:
        assert (image.format, image.n_frames) == ("WEBP", 30)
    assert (report.frames, report.duration, report.format) == (30, 3.0, "webp")


@pytest.mark.parametrize("format", ["webp", "gif", "avif"])
def test_an_animation_of_one_frame(format: str, clip_folder: Path, tmp_path: Path) -> None:
    clip = make(BY_NAME["h264-one-frame"], clip_folder)
    path, report, _ = made_one(clip.path, tmp_path, output="animation", format=format)
    with Image.open(path) as image:
        assert read_number(np.asarray(image.convert("RGB"), np.uint8)) == 0
    assert report.frames == 1


@pytest.mark.parametrize("format", ["webp", "avif"])
def test_frames_are_not_held_until_the_end(
    format: str, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture is asked for only when the one before was encoded and let go."""
    alive: list[weakref.ref[Any]] = []
    real = Image.fromarray

    def remembered(*args: Any, **keys: Any) -> Any:
        assert sum(ref() is not None for ref in alive) <= 2
        picture = real(*args, **keys)
        alive.append(weakref.ref(picture))
        return picture

    monkeypatch.setattr(Image, "fromarray", remembered)
    made_one(make(BY_NAME["h264"], clip_folder).path, tmp_path, output="animation", format=format, fps=20)
    assert len(alive) == 60
