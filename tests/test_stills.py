"""A picture is a video of one frame; so is the cover of a piece of music. And which of several streams is the video."""

import base64
import io
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import clips
import pytest
from av.stream import Disposition
from clips import RECIPES, draw, make, read_number
from PIL import Image
from rendering import Rendered, render

from daemon.media.demux import Demuxer, most_wanted
from daemon.media.measure import measure
from daemon.media.source import FileSource

BY_NAME = {recipe.name: recipe for recipe in RECIPES}
SIZE = (160, 96)
NUMBER = 0b1010_0110
STILLS: dict[str, dict[str, Any]] = {
    "jpeg": {"format": "JPEG", "quality": 90},
    "jpeg-progressive": {"format": "JPEG", "quality": 90, "progressive": True},
    "jpeg-gray": {"format": "JPEG", "mode": "L"},
    "png": {"format": "PNG"},
    "png-alpha": {"format": "PNG", "mode": "RGBA"},
    "png-palette": {"format": "PNG", "mode": "P"},
    "png-gray": {"format": "PNG", "mode": "L"},
    "webp": {"format": "WEBP", "quality": 90},
    "webp-lossless": {"format": "WEBP", "lossless": True},
    "bmp": {"format": "BMP"},
    "tiff": {"format": "TIFF"},
    "tiff-deflate": {"format": "TIFF", "compression": "tiff_adobe_deflate"},
    "gif": {"format": "GIF"},
    "ppm": {"format": "PPM"},
    "pcx": {"format": "PCX"},
}


def picture(number: int = NUMBER, size: tuple[int, int] = SIZE, mode: str = "RGB") -> Image.Image:
    return Image.fromarray(draw(number, size)).convert(mode)


def saved(path: Path, format: str, mode: str = "RGB", **options: Any) -> Path:
    picture(mode=mode).save(path, format, **options)
    return path


def numbers(rendered: Rendered) -> list[int]:
    """What the pictures show, in the order of their names."""
    names = sorted(name for name in rendered.files if name.endswith(".png"))
    return [read_number(rendered.picture(name)[..., :3]) for name in names]


def thumbnail(at: Any) -> dict[str, Any]:
    return {"output": "thumbnail", "at": at, "format": "png"}


@pytest.mark.parametrize("name", STILLS)
def test_a_still_is_a_video_of_one_frame(name: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "still", **STILLS[name])
    asked = [thumbnail(at) for at in (0, "middle", "50%", "100%", {"frame": 0})]
    rendered = render(path, [*asked, {"output": "thumbnails", "every": 1, "format": "png"}])
    assert numbers(rendered) == [NUMBER] * (len(asked) + 1)
    measured = rendered.source
    assert measured is not None
    assert (measured.width, measured.height) == SIZE
    assert 0 < measured.duration <= 0.1
    assert not measured.warnings


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "bmp", "tiff", "gif"])
@pytest.mark.parametrize("at", [1, {"frame": 1}])
def test_a_still_ends(name: str, at: Any, tmp_path: Path) -> None:
    rendered = render(saved(tmp_path / "still", **STILLS[name]), [{**thumbnail(at), "optional": True}])
    assert rendered.failed == {"o0": "at_past_end"}
    assert not rendered.files


@pytest.mark.parametrize("at", [0, "middle", "100%"])
def test_further_pictures_in_a_jpeg_are_not_shown(at: Any, tmp_path: Path) -> None:
    """Gain maps of HDR photos, and the other eye's view."""
    path = tmp_path / "photo.jpg"
    picture().save(path, "MPO", save_all=True, append_images=[picture(1), picture(2)], quality=90)
    assert numbers(render(path, [thumbnail(at)])) == [NUMBER]


def test_a_film_behind_a_jpeg_is_not_shown(tmp_path: Path, clip_folder: Path) -> None:
    """Photos that move, as phones take them."""
    path = saved(tmp_path / "photo.jpg", **STILLS["jpeg"])
    path.write_bytes(path.read_bytes() + make(BY_NAME["h264"], clip_folder).path.read_bytes())
    rendered = render(path, [thumbnail("100%"), {**thumbnail(1), "optional": True}])
    assert numbers(rendered) == [NUMBER]
    assert rendered.failed == {"o1": "at_past_end"}


# --- covers -----------------------------------------------------------------------------------------------------


def in_ogg(path: Path) -> None:
    """As a comment (FLAC, METADATA_BLOCK_PICTURE)."""
    data = io.BytesIO()
    picture().save(data, "JPEG", quality=90)
    mime, jpeg = b"image/jpeg", data.getvalue()
    block = struct.pack(">II", 3, len(mime)) + mime + struct.pack(">IIIIII", 0, *SIZE, 24, 0, len(jpeg)) + jpeg
    with av.open(path, "w") as output:
        packets = clips._audio(output, "libopus")
        output.streams[0].metadata["METADATA_BLOCK_PICTURE"] = base64.b64encode(block).decode()
        output.mux(packets)


def as_stream(codec: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with av.open(path, "w") as output:
            packets = clips._audio(output, codec)
            stream = output.add_stream("mjpeg", width=SIZE[0], height=SIZE[1], pix_fmt="yuvj420p")
            stream.disposition = Disposition.attached_pic
            frame = av.VideoFrame.from_ndarray(draw(NUMBER, SIZE), "rgb24")
            cover = [packet for frame in (frame, None) for packet in stream.encode(frame)]
            output.mux([*cover, *packets])

    return write


@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        (".mp3", as_stream("libmp3lame")),
        (".flac", as_stream("flac")),
        (".mp4", as_stream("aac")),
        (".ogg", in_ogg),
    ],
)
@pytest.mark.parametrize("at", [0, {"frame": 0}])
def test_the_cover_is_the_picture_of_music(suffix: str, write: Callable[[Path], None], at: Any, tmp_path: Path) -> None:
    path = tmp_path / f"music{suffix}"
    write(path)
    rendered = render(path, [thumbnail(at), {**thumbnail(1), "optional": True}])
    assert numbers(rendered) == [NUMBER]
    assert rendered.failed == {"o1": "at_past_end"}
    assert rendered.source_warnings == ()


# --- which stream is the video ----------------------------------------------------------------------------------


def stream(name: str, size: tuple[int, int] = SIZE, frames: int = 0, start: int | None = 0, said: int = 0) -> Any:
    context = SimpleNamespace(width=size[0], height=size[1])
    return SimpleNamespace(
        name=name, codec_context=context, frames=frames, start_time=start, disposition=Disposition(said)
    )


COVER, MAIN = Disposition.attached_pic.value, Disposition.default.value
LARGE = (320, 180)


@pytest.mark.parametrize(
    "streams",
    [
        [stream("this")],
        [stream("cover", LARGE, said=COVER), stream("this")],
        [stream("this"), stream("other")],
        [stream("this"), stream("small", (80, 48))],
        [stream("small"), stream("this", LARGE)],  # programmes of a broadcast
        [stream("large", LARGE), stream("this", said=MAIN)],
        [
            stream("empty", start=None),
            stream("empty", start=None),
            stream("this"),
        ],  # bit rates that are not in the file
        [stream("still", frames=1, said=MAIN), stream("this", frames=11)],  # a sequence of pictures in AVIF
        [stream("cover", said=COVER | MAIN), stream("this", start=None)],
    ],
)
def test_the_video_is_the_stream_that_players_show(streams: list[Any]) -> None:
    assert most_wanted(streams).name == "this"


def test_what_follows_a_still_track_is_the_video(tmp_path: Path, clip_folder: Path) -> None:
    path = tmp_path / "two.mp4"
    with av.open(path, "w") as output, av.open(make(BY_NAME["h264"], clip_folder).path) as film:
        still = output.add_stream("mjpeg", width=SIZE[0], height=SIZE[1], pix_fmt="yuvj420p")
        copy = output.add_stream_from_template(film.streams.video[0])
        frame = av.VideoFrame.from_ndarray(draw(NUMBER, SIZE), "rgb24")
        packets = [packet for frame in (frame, None) for packet in still.encode(frame)]
        for packet in film.demux(video=0):
            if packet.size:
                packet.stream = copy
                packets.append(packet)
        output.mux(packets)
    assert numbers(render(path, [thumbnail(0), thumbnail({"frame": 9})])) == [0, 9]


# --- where a video begins ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [False, True])
def test_frames_before_the_first_key_frame_are_shown_if_they_need_none_before(
    closed: bool, tmp_path: Path, clip_folder: Path
) -> None:
    """MPEG-2 that begins with I B B: the bit for closed groups (13818-2, 6.2.2.6) tells."""
    path = tmp_path / "cut.mkv"
    with av.open(make(BY_NAME["mpeg2-mkv"], clip_folder).path) as film, av.open(path, "w") as output:
        copy = output.add_stream_from_template(film.streams.video[0])
        packets = [packet for packet in film.demux(video=0) if packet.size]
        second = next(n for n, packet in enumerate(packets) if n and packet.is_keyframe)
        key, first_b = packets[second], packets[second + 1]
        assert (first_b.pts or 0) < (key.pts or 0)
        data = bytearray(bytes(key))
        data[data.index(b"\x00\x00\x01\xb8") + 7] = 0x40 * closed
        new: av.Packet[Any] = av.Packet(bytes(data))
        new.pts, new.dts, new.time_base, new.is_keyframe = key.pts, key.dts, key.time_base, True
        for packet in [new, *packets[second + 1 :]]:
            packet.stream = copy
            output.mux(packet)
    with open(path, "rb") as file:
        facts = measure(Demuxer(FileSource(file.fileno())))
    assert facts.start == (first_b.pts if closed else key.pts)
    assert facts.seconds(facts.end) == facts.duration > Fraction(1)
