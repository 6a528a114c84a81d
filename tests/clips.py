"""Test clips, made at test time, in which every frame carries its own number.

`make` writes the clip that a `Recipe` describes, with PyAV alone, and says what the file really holds: which
frame is shown when. Each picture shows its number as black and white blocks that survive coding and scaling,
so a test reads off a thumbnail which frame it was made from, and needs no faith in anybody's timestamps.

Every case is one line of `RECIPES`. All times are exact fractions of a second.
"""

from __future__ import annotations

import functools
import os
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pytest
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream
from numpy.typing import NDArray

Picture = NDArray[np.uint8]  # (height, width, 3), RGB
Size = tuple[int, int]  # width, height
Pairs = tuple[tuple[str, str], ...]

# --- the number in the picture ------------------------------------------------------------------------------

BITS = 8
# The blocks fill this part of the picture: each is 16 x 18 pixels where the whole is 160 x 90.
LEFT, RIGHT, TOP, BOTTOM = 0.1, 0.9, 0.2, 0.6
BLACK_BELOW, WHITE_ABOVE = 80, 175  # luma; what lies between is a blend of frames or a damaged block
LUMA = np.array([0.299, 0.587, 0.114])
# How far the red, green and blue waves move to the right, downwards and from frame to frame, in periods.
WAVES = ((1, 0, 0.02), (0, 1, -0.03), (1, 1, 0.05))


@functools.cache
def draw(number: int, size: Size) -> Picture:
    """The picture of frame `number`: waves of colour that move, and the blocks upon them."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    phases = [2 * np.pi * (x / width * right + y / height * down + number * on) for right, down, on in WAVES]
    picture: Picture = (128 + 90 * np.sin(np.stack(phases, axis=-1))).astype(np.uint8)
    for row, bits in enumerate(_blocks(number)):
        for column, bit in enumerate(bits):
            picture[_place(row, column, size)] = 255 * bit
    return picture


def read_number(rgb: Picture) -> int:
    """The number that a picture of any size shows. ValueError where there is any doubt."""
    size = rgb.shape[1], rgb.shape[0]
    # Only the middle of a block: scaling and coding blur its borders.
    places = [[_place(row, column, size, part=0.5) for column in range(BITS)] for row in range(2)]
    luma = np.array([[rgb[place].mean(axis=(0, 1)) @ LUMA for place in row] for row in places])
    if ((luma >= BLACK_BELOW) & (luma <= WHITE_ABOVE)).any():
        raise ValueError(f"blocks neither black nor white: {luma.round().astype(int).tolist()}")
    blocks = (luma > WHITE_ABOVE).astype(int).tolist()
    number = int("".join(map(str, blocks[0])), 2)
    if blocks != _blocks(number):
        raise ValueError(f"the two rows of blocks disagree: {blocks}")
    return number


def _blocks(number: int) -> list[list[int]]:
    """The bits of a number, and as a second row their complement in reverse order.

    In reverse, so that a picture pieced together from two frames, side by side (as intra refresh does) or one
    above the other, is found out.
    """
    if not 0 <= number < 1 << BITS:
        raise ValueError(f"{number} does not fit {BITS} blocks")
    bits = [number >> shift & 1 for shift in reversed(range(BITS))]
    return [bits, [1 - bit for bit in reversed(bits)]]


def _place(row: int, column: int, size: Size, part: float = 1.0) -> tuple[slice, slice]:
    """Where a block lies in a picture of `size`, or the middle `part` of it in both directions."""
    width, height = size

    def span(start: float, step: float, index: int, length: int) -> slice:
        edges = [(start + step * (index + offset)) * length for offset in ((1 - part) / 2, (1 + part) / 2)]
        low, high = map(round, edges)
        return slice(low, max(high, low + 1))

    return span(TOP, (BOTTOM - TOP) / 2, row, height), span(LEFT, (RIGHT - LEFT) / BITS, column, width)


# --- recipes ------------------------------------------------------------------------------------------------

# From the usual frame interval in seconds and the number of frames to how long each frame is shown.
Timing = Callable[[Fraction, int], list[Fraction]]


def constant(interval: Fraction, frames: int) -> list[Fraction]:
    """All frames alike."""
    return [interval] * frames


def uneven(interval: Fraction, frames: int) -> list[Fraction]:
    """A variable frame rate, as of phones and screen recorders."""
    shares = map(Fraction, ("1", "2", "1/3", "5/4", "1", "7", "3/4", "1/2"))
    return [interval * share for share in islice(cycle(shares), frames)]


def gap(interval: Fraction, frames: int) -> list[Fraction]:
    """The frame in the middle stands for five seconds."""
    return [Fraction(5) if frame == frames // 2 else interval for frame in range(frames)]


def long_last(interval: Fraction, frames: int) -> list[Fraction]:
    """The last frame stands for four seconds."""
    return [interval] * (frames - 1) + [Fraction(4)]


@dataclass(frozen=True)
class Recipe:
    """What a clip is to be. Codecs and containers carry libav's names of encoders and muxers."""

    name: str
    container: str
    suffix: str
    codec: str
    frames: int = 75
    size: Size = (320, 180)
    rate: Fraction = Fraction(25)  # frames a second
    gop: int = 15  # frames from one key frame to the next
    bframes: int = 0  # B frames in a row, at most
    pix_fmt: str = "yuv420p"
    options: Pairs = ()  # of the encoder, beyond what ENCODERS says
    muxer: Pairs = ()  # options of the muxer
    times: Timing = constant
    start: Fraction = Fraction(0)  # presentation time of frame 0; MP4: an edit list hides what comes before 0
    tick: Fraction | None = None  # the time base given to the muxer; None: one frame interval
    trim: Fraction | None = None  # MP4: an edit list ends the presentation so long after 0
    audio: str = ""  # encoder of a sound track from 0 to AUDIO_SECONDS
    cover: bool = False  # an attached picture that shows the number COVER
    packed: bool = False  # MPEG-4: a B frame shares the packet of the frame that follows it, as Xvid writes AVI


AUDIO_SECONDS = 6
COVER = 255

X264, X265, SVT, VP8, VP9 = "libx264", "libx265", "libsvtav1", "libvpx", "libvpx-vp9"
CIF = (352, 288)  # H.263 knows but a few sizes
SMALL = (160, 96)
DNXHR = (("profile", "dnxhr_sq"),)
# These hold no presentation times: frames follow one another by the times of the packets, or by the usual interval.
SLOTS = ("avi", "asf", "mxf")
NO_KEYS = ("h261-avi", "h263-raw")  # libavformat takes all packets for keys
COUNTED = ("h264", "hevc", "mpeg1video", "mpeg2video", "m4v", "h263", "mjpeg")
MPEG_TICK = Fraction(1, 90_000)
TS_WRAP = 2**33 * MPEG_TICK  # MPEG timestamps have 33 bits
NEGATIVE_CTS = (("movflags", "negative_cts_offsets"),)
FRAGMENTS = (("movflags", "frag_keyframe+empty_moov+default_base_moof"),)
FRAGMENTS_AND_EDIT = (("movflags", "frag_keyframe+delay_moov+default_base_moof"),)
OPEN_X264 = (("x264-params", "open-gop=1"),)
OPEN_X265 = (("x265-params", "open-gop=1"),)
INTERLACED = (("x264-params", "interlaced=1"),)
REFRESH = (("intra-refresh", "1"),)
# With these libvpx makes hidden frames, shown by none of the times, and packs them into superframes.
ALT_REF = (("cpu-used", "6"), ("lag-in-frames", "25"), ("auto-alt-ref", "1"), ("crf", "-1"), ("b", "400k"))

# Fast settings of good quality. Scene cuts and clever placing of B frames are off: the GOPs are as asked for.
QUALITY = (("flags", "+qscale"), ("global_quality", str(3 * 118)), ("sc_threshold", "1000000000"))
ENCODERS: dict[str, Pairs] = {
    # A fixed quantizer: x264's rate control with B frames now and then makes another file of the same frames.
    X264: (("preset", "veryfast"), ("qp", "22"), ("sc_threshold", "0"), ("b_strategy", "0")),
    X265: (
        ("preset", "ultrafast"),
        ("crf", "22"),
        ("x265-params", "log-level=none:pools=none:frame-threads=1:wpp=0:scenecut=0:b-adapt=0:open-gop=0"),
    ),
    SVT: (("preset", "8"), ("crf", "22"), ("svtav1-params", "lp=1")),
    VP8: (("deadline", "realtime"), ("cpu-used", "8"), ("crf", "10"), ("b", "2M")),
    VP9: (("deadline", "realtime"), ("cpu-used", "8"), ("crf", "30")),
    "mpeg1video": QUALITY,
    "mpeg2video": QUALITY,
    "mpeg4": QUALITY,
    "mjpeg": QUALITY,
    "wmv1": QUALITY,
    "wmv2": QUALITY,
    "flv": QUALITY,
    "h263": QUALITY,
    "h261": QUALITY,
    "h263p": QUALITY,
    "msmpeg4": QUALITY,
    "msmpeg4v2": QUALITY,
    "rv20": QUALITY,
    "asv1": QUALITY,
    "svq1": QUALITY,
}

RECIPES: tuple[Recipe, ...] = (
    # H.264, by its structure
    Recipe("h264", "mp4", ".mp4", X264, bframes=3),
    Recipe("h264-no-b", "mp4", ".mp4", X264),
    Recipe("h264-nonref-b", "mp4", ".mp4", X264, bframes=2, options=(("b-pyramid", "none"),)),
    Recipe("h264-intra", "mp4", ".mp4", X264, gop=1),
    Recipe("h264-one-gop", "mp4", ".mp4", X264, gop=250, bframes=3),
    Recipe("h264-one-frame", "mp4", ".mp4", X264, frames=1),
    Recipe("h264-one-frame-mkv", "matroska", ".mkv", X264, frames=1),
    Recipe("h264-one-frame-ts", "mpegts", ".ts", X264, frames=1),
    Recipe("h264-two-frames", "mp4", ".mp4", X264, frames=2),
    Recipe("h264-open-gop", "mp4", ".mp4", X264, bframes=3, options=OPEN_X264),
    Recipe("h264-open-gop-mkv", "matroska", ".mkv", X264, bframes=3, options=OPEN_X264),
    Recipe("h264-open-gop-ts", "mpegts", ".ts", X264, bframes=3, options=OPEN_X264),
    Recipe("h264-refresh", "mp4", ".mp4", X264, options=REFRESH),
    Recipe("h264-refresh-mkv", "matroska", ".mkv", X264, options=REFRESH),
    Recipe("h264-refresh-ts", "mpegts", ".ts", X264, options=REFRESH),
    Recipe("h264-interlaced-ts", "mpegts", ".ts", X264, bframes=2, options=INTERLACED),
    # H.264, by its container
    Recipe("h264-mov", "mov", ".mov", X264, bframes=3),
    Recipe("h264-frag", "mp4", ".mp4", X264, bframes=3, muxer=FRAGMENTS),
    Recipe("h264-negative-cts", "mp4", ".mp4", X264, bframes=3, muxer=NEGATIVE_CTS),
    Recipe("h264-mkv", "matroska", ".mkv", X264, bframes=3),
    Recipe("h264-ts", "mpegts", ".ts", X264, bframes=3),
    Recipe("h264-flv", "flv", ".flv", X264, bframes=3),
    Recipe("h264-3gp", "3gp", ".3gp", X264, bframes=2),
    Recipe("h264-avi", "avi", ".avi", X264),
    Recipe("h264-avi-b", "avi", ".avi", X264, bframes=3),
    Recipe("h264-ps", "mpeg", ".mpg", X264, bframes=3),  # many packets have no PTS: they share a PES packet
    # Timing
    Recipe("h264-ntsc", "mp4", ".mp4", X264, bframes=3, rate=Fraction(30_000, 1001)),
    Recipe("h264-vfr", "mp4", ".mp4", X264, bframes=3, times=uneven, tick=MPEG_TICK),
    Recipe("h264-vfr-frag", "mp4", ".mp4", X264, bframes=3, times=uneven, tick=MPEG_TICK, muxer=FRAGMENTS),
    Recipe("h264-vfr-mkv", "matroska", ".mkv", X264, bframes=3, times=uneven, tick=MPEG_TICK),
    Recipe("h264-vfr-ts", "mpegts", ".ts", X264, bframes=3, times=uneven, tick=MPEG_TICK),
    Recipe("h264-vfr-flv", "flv", ".flv", X264, bframes=3, times=uneven, tick=MPEG_TICK),
    Recipe("h264-gap", "mp4", ".mp4", X264, bframes=3, times=gap),
    Recipe("h264-gap-mkv", "matroska", ".mkv", X264, bframes=3, times=gap),
    Recipe("h264-gap-ts", "mpegts", ".ts", X264, bframes=3, times=gap),
    Recipe("h264-long-last", "mp4", ".mp4", X264, times=long_last),
    Recipe("h264-long-last-mkv", "matroska", ".mkv", X264, bframes=3, times=long_last),
    Recipe("h264-late", "mp4", ".mp4", X264, bframes=3, start=Fraction(1_000_000)),
    Recipe("h264-late-mkv", "matroska", ".mkv", X264, bframes=3, start=Fraction(1_000_000)),
    Recipe("h264-late-flv", "flv", ".flv", X264, bframes=3, start=Fraction(1_000_000)),
    Recipe("h264-late-ts", "mpegts", ".ts", X264, bframes=3, start=Fraction(26 * 3600)),
    # libav reports the part before the wrap as negative times.
    Recipe("h264-wrap-ts", "mpegts", ".ts", X264, bframes=3, start=TS_WRAP - Fraction(3, 2)),
    # To libav an edit list before fragments is but a shift: it hides no frame, the first ones are negative.
    Recipe("h264-negative", "mp4", ".mp4", X264, bframes=3, start=Fraction(-4, 5), muxer=FRAGMENTS_AND_EDIT),
    Recipe("h264-edit", "mp4", ".mp4", X264, bframes=3, start=Fraction(-7, 25)),
    Recipe("h264-edit-mov", "mov", ".mov", X264, bframes=3, start=Fraction(-20, 25)),  # past the first GOP
    Recipe("h264-edit-both", "mp4", ".mp4", X264, bframes=3, start=Fraction(-7, 25), trim=Fraction(2)),
    # Other streams beside the video
    Recipe("h264-aac", "mp4", ".mp4", X264, bframes=3, start=Fraction(1), audio="aac"),
    Recipe("h264-aac-flv", "flv", ".flv", X264, bframes=3, start=Fraction(1), audio="aac"),
    Recipe("h264-pcm-mkv", "matroska", ".mkv", X264, bframes=3, start=Fraction(1), audio="pcm_s16le"),
    Recipe("h264-mp2-ts", "mpegts", ".ts", X264, bframes=3, start=Fraction(1), audio="mp2"),
    Recipe("vp9-opus", "webm", ".webm", VP9, start=Fraction(1), audio="libopus"),
    Recipe("mpeg4-pcm-avi", "avi", ".avi", "mpeg4", audio="pcm_s16le"),
    Recipe("mpeg2-mp2-ps", "mpeg", ".mpg", "mpeg2video", bframes=2, start=Fraction(1), audio="mp2"),
    Recipe("h264-cover", "mp4", ".mp4", X264, bframes=3, cover=True),
    Recipe("h264-cover-mkv", "matroska", ".mkv", X264, bframes=3, cover=True),
    # Other codecs
    Recipe("hevc", "mp4", ".mp4", X265, bframes=3),
    Recipe("hevc-vfr", "mp4", ".mp4", X265, bframes=3, times=uneven, tick=MPEG_TICK),
    Recipe("hevc-open-gop", "mp4", ".mp4", X265, bframes=3, options=OPEN_X265),
    Recipe("hevc-open-gop-mkv", "matroska", ".mkv", X265, bframes=3, options=OPEN_X265),
    Recipe("hevc-open-gop-ts", "mpegts", ".ts", X265, bframes=3, options=OPEN_X265),
    Recipe("hevc-10-bit", "matroska", ".mkv", X265, bframes=3, pix_fmt="yuv420p10le"),
    Recipe("av1", "mp4", ".mp4", SVT),
    Recipe("av1-mkv", "matroska", ".mkv", SVT),
    Recipe("av1-webm", "webm", ".webm", SVT, times=uneven, tick=MPEG_TICK),
    Recipe("vp8", "webm", ".webm", VP8),
    Recipe("vp8-ogg", "ogg", ".ogv", VP8),
    Recipe("vp9", "webm", ".webm", VP9),
    Recipe("vp9-mp4", "mp4", ".mp4", VP9),
    Recipe("vp9-alt-ref", "webm", ".webm", VP9, gop=30, options=ALT_REF),
    Recipe("mpeg1-ps", "mpeg", ".mpg", "mpeg1video", bframes=2),
    Recipe("mpeg2-ps", "mpeg", ".mpg", "mpeg2video", bframes=2),
    Recipe("mpeg2-gap-ps", "mpeg", ".mpg", "mpeg2video", bframes=2, times=gap),
    Recipe("mpeg2-vob", "vob", ".vob", "mpeg2video", bframes=2),
    Recipe("mpeg2-ts", "mpegts", ".ts", "mpeg2video", bframes=2),
    Recipe("mpeg2-wrap-ts", "mpegts", ".ts", "mpeg2video", bframes=2, start=TS_WRAP - Fraction(3, 2)),
    Recipe("mpeg2-mkv", "matroska", ".mkv", "mpeg2video", bframes=2),
    Recipe("mpeg4-avi", "avi", ".avi", "mpeg4"),
    Recipe("mpeg4-avi-b", "avi", ".avi", "mpeg4", bframes=2),
    Recipe("mpeg4-avi-packed", "avi", ".avi", "mpeg4", frames=40, size=SMALL, gop=10, bframes=1, packed=True),
    Recipe("mpeg4-gap-avi", "avi", ".avi", "mpeg4", times=gap),
    Recipe("mpeg4-b", "mp4", ".mp4", "mpeg4", bframes=2),
    Recipe("mpeg4-3gp", "3gp", ".3gp", "mpeg4"),
    Recipe("mjpeg-avi", "avi", ".avi", "mjpeg", pix_fmt="yuvj420p"),
    Recipe("mjpeg-mov", "mov", ".mov", "mjpeg", pix_fmt="yuvj420p"),
    Recipe("prores-mov", "mov", ".mov", "prores_ks", pix_fmt="yuv422p10le"),
    Recipe("theora-ogg", "ogg", ".ogv", "libtheora"),
    Recipe("wmv1-asf", "asf", ".wmv", "wmv1"),
    Recipe("wmv2-asf", "asf", ".wmv", "wmv2"),
    Recipe("flv1", "flv", ".flv", "flv"),
    Recipe("h263-3gp", "3gp", ".3gp", "h263", size=CIF, rate=Fraction(30_000, 1001)),
    Recipe("huffyuv-avi", "avi", ".avi", "huffyuv", pix_fmt="yuv422p"),
    Recipe("ffv1-mkv", "matroska", ".mkv", "ffv1"),
    Recipe("ffv1-avi", "avi", ".avi", "ffv1"),
    # Codecs of old, of studios and of screen recordings
    Recipe("cinepak-avi", "avi", ".avi", "cinepak", frames=12, size=SMALL, gop=5, pix_fmt="rgb24"),
    Recipe("msvideo1-avi", "avi", ".avi", "msvideo1", frames=24, size=SMALL, pix_fmt="rgb555le"),
    Recipe("msmpeg4v2-avi", "avi", ".avi", "msmpeg4v2", frames=24, size=SMALL, gop=10),
    Recipe("msmpeg4v3-avi", "avi", ".avi", "msmpeg4", frames=24, size=SMALL, gop=10),
    Recipe("svq1-mov", "mov", ".mov", "svq1", frames=24, size=SMALL, gop=10, pix_fmt="yuv410p"),
    Recipe("qtrle-mov", "mov", ".mov", "qtrle", frames=24, size=SMALL, gop=10, pix_fmt="rgb24"),
    Recipe("qtrle-gray-mov", "mov", ".mov", "qtrle", frames=24, size=SMALL, gop=10, pix_fmt="gray"),  # with a palette
    Recipe("h261-avi", "avi", ".avi", "h261", frames=24, size=CIF),  # all packets are flagged as key
    Recipe("h263p-avi", "avi", ".avi", "h263p", frames=24, size=SMALL, gop=10),
    Recipe("rv20-rm", "rm", ".rm", "rv20", frames=24, size=SMALL, gop=10),
    Recipe("roq", "roq", ".roq", "roqvideo", frames=12, size=(256, 128), rate=Fraction(30), pix_fmt="yuvj444p"),
    Recipe("flv1-swf", "swf", ".swf", "flv", frames=24, size=SMALL, gop=10),
    Recipe("asv1-avi", "avi", ".avi", "asv1", frames=24, size=SMALL),
    Recipe("zmbv-avi", "avi", ".avi", "zmbv", frames=24, size=SMALL, gop=10, pix_fmt="bgr0"),
    Recipe("flashsv-flv", "flv", ".flv", "flashsv", frames=24, size=SMALL, gop=10, pix_fmt="bgr24"),
    Recipe("vp8-avi", "avi", ".avi", VP8, frames=24, size=SMALL, gop=10),
    Recipe("vp9-avi", "avi", ".avi", VP9, frames=24, size=SMALL, gop=10),
    Recipe("vp9-ivf", "ivf", ".ivf", VP9, frames=24, size=SMALL, gop=10),
    Recipe("h264-444", "mp4", ".mp4", X264, frames=24, size=SMALL, gop=10, bframes=2, pix_fmt="yuv444p"),
    Recipe("h264-422-10-bit", "matroska", ".mkv", X264, frames=24, size=SMALL, gop=10, pix_fmt="yuv422p10le"),
    Recipe("h264-asf-b", "asf", ".asf", X264, frames=24, size=SMALL, gop=10, bframes=2),
    Recipe("h264-mxf-b", "mxf", ".mxf", X264, frames=24, size=SMALL, gop=10, bframes=2),
    Recipe("mpeg2-mxf-b", "mxf", ".mxf", "mpeg2video", frames=24, size=SMALL, gop=10, bframes=2),
    Recipe("mpeg4-nut-b", "nut", ".nut", "mpeg4", frames=24, size=SMALL, gop=10, bframes=2),
    Recipe("ffv1-nut", "nut", ".nut", "ffv1", frames=24, size=SMALL),
    Recipe("ffvhuff-avi", "avi", ".avi", "ffvhuff", frames=12, size=SMALL),
    Recipe("utvideo-avi", "avi", ".avi", "utvideo", frames=12, size=SMALL, pix_fmt="gbrp"),
    Recipe("raw-avi", "avi", ".avi", "rawvideo", frames=12, size=SMALL, pix_fmt="bgr24"),
    Recipe("dv-avi", "avi", ".avi", "dvvideo", frames=8, size=(720, 576)),
    Recipe("dnxhd-mov", "mov", ".mov", "dnxhd", frames=8, pix_fmt="yuv422p", size=(320, 192), options=DNXHR),
    Recipe("prores-4444-mov", "mov", ".mov", "prores_ks", frames=8, size=SMALL, pix_fmt="yuva444p10le"),
    Recipe("jpeg2000-mov", "mov", ".mov", "jpeg2000", frames=8, size=SMALL, pix_fmt="rgb24"),
    Recipe("png-mov", "mov", ".mov", "png", frames=12, size=SMALL, pix_fmt="rgba"),
    # Elementary streams: no times at all, or such as libavformat makes up
    Recipe("h264-raw", "h264", ".h264", X264, frames=40, size=SMALL, bframes=3),
    Recipe("hevc-raw", "hevc", ".hevc", X265, frames=40, size=SMALL, bframes=3),
    Recipe("mpeg1-raw", "mpeg1video", ".m1v", "mpeg1video", frames=40, size=SMALL, bframes=2),
    Recipe("mpeg2-raw", "mpeg2video", ".m2v", "mpeg2video", frames=40, size=SMALL, bframes=2),
    Recipe("mpeg4-raw", "m4v", ".m4v", "mpeg4", frames=40, size=SMALL, bframes=2),
    Recipe("h263-raw", "h263", ".h263", "h263", frames=24, size=CIF, rate=Fraction(30_000, 1001)),
    Recipe("av1-raw", "obu", ".obu", SVT, frames=24, size=SMALL),
    Recipe("mjpeg-raw", "mjpeg", ".mjpeg", "mjpeg", frames=24, size=SMALL, pix_fmt="yuvj420p"),
    Recipe("y4m", "yuv4mpegpipe", ".y4m", "wrapped_avframe", frames=8, size=SMALL),
    Recipe("gif", "gif", ".gif", "gif", pix_fmt="rgb8"),
    Recipe("gif-gap", "gif", ".gif", "gif", pix_fmt="rgb8", times=gap),
    Recipe("gif-long-last", "gif", ".gif", "gif", pix_fmt="rgb8", times=long_last),
    Recipe("apng", "apng", ".apng", "apng", pix_fmt="rgb24", options=(("pred", "none"),)),
)


def missing(recipe: Recipe) -> str | None:
    """Why this PyAV can't make a clip, if it can't."""
    try:
        for codec in filter(None, (recipe.codec, recipe.audio)):
            av.codec.Codec(codec, "w")
        av.format.ContainerFormat(recipe.container, "w")
    except ValueError as error:
        return f"PyAV {av.__version__} can't write {recipe.name}: {error!r}"
    return None


# --- a clip, and the truth about it -------------------------------------------------------------------------


@dataclass(frozen=True)
class Clip:
    """A written file and what it shows: at `times[i]` the frame with the number `numbers[i]`.

    Times are relative to the first displayed frame, as stored in the container. `keyframes` are the numbers
    of those displayed frames whose packets are flagged as key, `end` is when the last frame ends.
    """

    path: Path
    recipe: Recipe
    times: tuple[Fraction, ...]
    numbers: tuple[int, ...]
    keyframes: tuple[int, ...]
    end: Fraction

    def number_at(self, time: Fraction) -> int:
        """The number on the screen at `time`: of the last frame that is not later, or else of the first."""
        return self.numbers[max(bisect_right(self.times, time) - 1, 0)]


def make(recipe: Recipe, folder: Path) -> Clip:
    """The clip of a recipe, written into `folder` unless it is there. Skips the test where PyAV can't."""
    if reason := missing(recipe):
        pytest.skip(reason)
    path = _once(folder / (recipe.name + recipe.suffix), lambda new: _write(recipe, new))
    shown = _shown(path, recipe)
    first, last = shown[0], shown[-1]
    return Clip(
        path,
        recipe,
        times=tuple(frame.time - first.time for frame in shown),
        numbers=tuple(frame.number for frame in shown),
        keyframes=tuple(frame.number for frame in shown if frame.key and recipe.name not in NO_KEYS),
        end=last.time + (last.duration or 1 / recipe.rate) - first.time,
    )


def video_stream(container: InputContainer) -> VideoStream:
    """The video of a file: the first that is not a cover."""
    return next(s for s in container.streams.video if Disposition.attached_pic not in s.disposition)


class _Shown(NamedTuple):
    number: int
    time: Fraction
    duration: Fraction  # 0: unknown
    key: bool


def _shown(path: Path, recipe: Recipe) -> list[_Shown]:
    """The displayed frames in the order of display."""
    with av.open(path, "r") as container:
        stream = video_stream(container)
        assert stream.time_base is not None
        packets = [packet for packet in container.demux(stream) if packet.size]
        if recipe.container in SLOTS:
            return _by_slots(_decoded(path), packets, stream.time_base)
        counted = recipe.container in COUNTED or any(packet.pts is None for packet in packets)
        if counted or len(packets) != recipe.frames:
            return _by_frames(_decoded(path), stream.time_base, 1 / recipe.rate, counted)
        return _by_packets(packets, stream.time_base)


def _by_packets(packets: list[Packet[VideoStream]], time_base: Fraction) -> list[_Shown]:
    """All packets are there, with PTS: their order is that of the numbers."""
    ordered = sorted(packets, key=lambda packet: packet.pts or 0)
    return [
        _Shown(number, (packet.pts or 0) * time_base, (packet.duration or 0) * time_base, packet.is_keyframe)
        for number, packet in enumerate(ordered)
        if not packet.is_discard
    ]


class _Decoded(NamedTuple):
    number: int
    pts: int | None  # in the stream's time base, as duration
    duration: int
    key: bool


def _by_frames(frames: list[_Decoded], time_base: Fraction, interval: Fraction, counted: bool) -> list[_Shown]:
    """Packets are left out, or lack PTS: then their frames follow one another by the usual interval."""
    return [
        _Shown(number, index * interval if counted else (pts or 0) * time_base, duration * time_base, key)
        for index, (number, pts, duration, key) in enumerate(frames)
    ]


def _by_slots(frames: list[_Decoded], packets: list[Packet[VideoStream]], time_base: Fraction) -> list[_Shown]:
    """AVI (and ASF, and MXF without an index) holds slots, one after another, in the order of decoding: its frames are
    shown slot by slot.

    Its PTS are made up by libavformat: with B frames of H.264 they are just wrong (DTS + 1).
    """
    slots = sorted(packet.dts for packet in packets if packet.dts is not None)
    return [
        _Shown(number, slot * time_base, duration * time_base, key)
        for (number, _, duration, key), slot in zip(frames, slots, strict=True)
    ]


def _decoded(path: Path) -> list[_Decoded]:
    """All frames that libav gives out when it decodes a file from start to end, their numbers read off."""
    with av.open(path, "r") as container:
        stream = video_stream(container)
        stream.codec_context.thread_count = 1
        stream.codec_context.copy_opaque = True
        return [
            _Decoded(
                read_number(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)),
                frame.pts,
                frame.duration,
                frame.opaque == [True],
            )
            for packet in _marked(container, stream)
            for frame in packet.decode()
        ]


def _marked(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """The packets of a stream, each with its key flag as mark, which the decoder hands on to the frame."""
    for packet in container.demux(stream):
        # A new list each: PyAV keeps marks by their id(), and forgets what several packets share, like True.
        packet.opaque = [packet.is_keyframe]
        yield packet


# --- writing ------------------------------------------------------------------------------------------------


def _once(path: Path, write: Callable[[Path], None]) -> Path:
    """The file at `path`, written now unless it is there; never seen half written, also by parallel tests."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".")
        os.close(handle)
        try:
            write(Path(name))
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
    return path


def _write(recipe: Recipe, path: Path) -> None:
    # Bit-exact: no dates, no random identifiers, so that one recipe is one file.
    muxer = {"fflags": "+bitexact", **dict(recipe.muxer)}
    with av.open(path, "w", format=recipe.container, container_options=muxer) as output:
        packets = _video(output, recipe)
        if recipe.audio:
            packets += _audio(output, recipe.audio)
        if recipe.cover:
            packets += _cover(output)
        output.mux(sorted(packets, key=lambda packet: (packet.dts or 0) * packet.time_base))
    if recipe.trim is not None:
        _trim(path, recipe.trim)


def _video(output: OutputContainer, recipe: Recipe) -> list[Packet[Any]]:
    """The packets of the video.

    The encoder only counts frames. The wanted times are laid over its packets, so that every encoder takes
    every timing.
    """
    interval = 1 / recipe.rate
    stream = output.add_stream(
        recipe.codec,
        rate=recipe.rate,
        options=_options(recipe),
        width=recipe.size[0],
        height=recipe.size[1],
        pix_fmt=recipe.pix_fmt,
        time_base=interval,
    )
    assert isinstance(stream, VideoStream)
    stream.codec_context.gop_size = recipe.gop
    stream.codec_context.max_b_frames = recipe.bframes
    stream.codec_context.thread_count = 1  # the same file on every machine
    tick = stream.time_base = recipe.tick or interval
    instants = list(accumulate(recipe.times(interval, recipe.frames), initial=recipe.start))

    def ticks(frame: int) -> int:
        # DTS begin before 0 where there are B frames.
        return round((instants[frame] if frame >= 0 else instants[0] + frame * interval) / tick)

    packets = [packet for frame in _frames(recipe) for packet in stream.encode(frame)]
    if recipe.packed:
        packets = _packed(packets)
    for packet in packets:
        assert packet.pts is not None and packet.dts is not None
        packet.duration = ticks(packet.pts + 1) - ticks(packet.pts)
        packet.pts, packet.dts, packet.time_base = ticks(packet.pts), ticks(packet.dts), tick
    return packets


def _packed(packets: list[Packet[Any]]) -> list[Packet[Any]]:
    """Each B frame is taken into the packet before it; in its own place stands a frame that is not coded."""
    vop, user_data = b"\x00\x00\x01\xb6", b"\x00\x00\x01\xb2"
    not_coded = vop + b"\x50\x4f"  # P, no whole second, time 0 in 5 bits, nothing coded, stuffing
    data = [bytes(packet) for packet in packets]
    for n, (packet, one) in enumerate(zip(packets, list(data), strict=True)):
        if packet.is_keyframe:
            data[n] = one.replace(user_data, user_data + b"DivX503b1393p" + user_data, 1)
        elif packet.pts is not None and packet.pts < (packets[n - 1].pts or 0):
            data[n - 1], data[n] = data[n - 1] + one, not_coded
    return [_like(packet, one) for packet, one in zip(packets, data, strict=True)]


def _like(packet: Packet[Any], data: bytes) -> Packet[Any]:
    new: Packet[Any] = Packet(data)
    new.stream, new.time_base, new.is_keyframe = packet.stream, packet.time_base, packet.is_keyframe
    new.pts, new.dts = packet.pts, packet.dts
    return new


def _frames(recipe: Recipe) -> Iterator[av.VideoFrame | None]:
    """The frames of a clip, counted in their PTS, and None to flush the encoder."""
    for number in range(recipe.frames):
        frame = av.VideoFrame.from_ndarray(draw(number, recipe.size), "rgb24")
        frame.pts, frame.time_base = number, 1 / recipe.rate
        yield frame
    yield None


def _options(recipe: Recipe) -> dict[str, str]:
    """The encoder's options; lists of parameters add to those in ENCODERS, all else replaces them."""
    options = dict(ENCODERS.get(recipe.codec, ()))
    for key, value in recipe.options:
        options[key] = f"{options[key]}:{value}" if key.endswith("-params") and key in options else value
    return options


def _audio(output: OutputContainer, codec: str) -> list[Packet[Any]]:
    """The packets of a tone from 0 to AUDIO_SECONDS."""
    rate, step = 48_000, 1024
    stream = output.add_stream(codec, rate=rate, layout="mono")
    assert isinstance(stream, AudioStream)
    tone = (8000 * np.sin(np.arange(AUDIO_SECONDS * rate) * (2 * np.pi * 440 / rate))).astype(np.int16)
    packets = []
    for start in range(0, tone.size, step):
        frame = av.AudioFrame.from_ndarray(tone[None, start : start + step], "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def _cover(output: OutputContainer) -> list[Packet[Any]]:
    """A cover, as an attachment in Matroska, else as the one packet of a stream so marked."""
    size = (160, 90)
    encoder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height = size
    encoder.pix_fmt, encoder.time_base = "yuvj420p", Fraction(1)
    frame = av.VideoFrame.from_ndarray(draw(COVER, size), "rgb24")
    packets = encoder.encode(frame) + encoder.encode(None)
    if output.format.name == "matroska":
        output.add_attachment("cover.jpg", "image/jpeg", bytes(packets[0]))
        return []
    stream = output.add_stream("mjpeg", width=size[0], height=size[1], pix_fmt="yuvj420p")
    stream.disposition = Disposition.attached_pic
    for packet in packets:
        packet.stream = stream
    return packets


def _trim(path: Path, seconds: Fraction) -> None:
    """Let the edit list of an MP4 end after so many seconds: the muxer has no option for that."""
    data = bytearray(path.read_bytes())
    # elst: type, version and flags, number of entries, duration of the first in the movie's scale (1000).
    duration = data.index(b"elst") + 12
    data[duration : duration + 4] = round(seconds * 1000).to_bytes(4, "big")
    path.write_bytes(data)


# --- files that can't be decoded, or not whole --------------------------------------------------------------


def truncated(clip: Clip, folder: Path, keep: float = 0.6) -> Path:
    """A copy that ends after this share of its bytes, as after a broken upload."""
    data = clip.path.read_bytes()
    path = folder / f"truncated-{keep:g}-{clip.path.name}"
    return _once(path, lambda new: _fill(new, data[: int(len(data) * keep)]))


def empty(folder: Path) -> Path:
    """A file of no bytes."""
    return _once(folder / "empty.mp4", lambda new: _fill(new, b""))


def not_a_video(folder: Path) -> tuple[Path, Path]:
    """Random bytes that call themselves a video, and a text (which libav takes for a film of a terminal)."""
    noise = np.random.default_rng(1).bytes(50_000)
    return (
        _once(folder / "noise.mp4", lambda new: _fill(new, noise)),
        _once(folder / "text.txt", lambda new: _fill(new, b"This is no video.\n" * 100)),
    )


def no_video_stream(folder: Path) -> Path:
    """Sound alone."""

    def write(path: Path) -> None:
        with av.open(path, "w", format="mp4") as output:
            output.mux(_audio(output, "aac"))

    return _once(folder / "sound.mp4", write)


def _fill(path: Path, data: bytes) -> None:
    path.write_bytes(data)
