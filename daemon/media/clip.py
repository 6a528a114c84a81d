"""Clips: frames to H.264 in an MP4 that begins with its index (faststart).

x264's preset, chosen on 5 s of an animated film in 720p shrunk to 640x360 with one rate factor: "veryfast" makes 283 kB
in 1.7 s, SSIM 0.985; "superfast" is as slow, for it has more to write (479 kB); "faster" takes 2.2 s for a little more
quality at a little more size (310 kB, 0.987), "medium" 3.5 s (303 kB, 0.988). Decoding and shrinking are 0.8 s of each.

Two threads of x264: the run's own thread goes on with decoding meanwhile. The number is fixed, for what x264 makes
depends on it.
"""

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from math import ceil, lcm
from typing import cast

import av
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from daemon.media.device import RGB
from daemon.media.geometry import Layout, Size, lay_out
from daemon.media.moving import MovingMaker, Stretch
from daemon.media.outputs import Emit
from daemon.media.sink import Sink
from daemon.media.sound import NoSound, Sound, open_sound
from daemon.media.source import Source
from daemon.media.studio import Studio
from daemon.outputs import Clip
from daemon.times import Time

DEFAULT_QUALITY = 75
_PRESET = "veryfast"
_THREADS = 2
_BT709 = 1  # ITU-T H.273: matrix, primaries and transfer all have this number
_FILTER = Interpolation.AREA | Interpolation.FULL_CHR_H_INP | Interpolation.ACCURATE_RND
_COARSEST, _FINEST = 10_000, 1_000_000  # ticks a second

# Bytes of the index (ISO/IEC 14496-12, 8.6 and 8.7). At worst each frame has entries of its own for its size (stsz 4),
# duration (stts 8), delay (ctts 8), as a keyframe (stss 4), and is a chunk by itself (stsc 12, co64 8); packets of
# sound have neither delay nor keyframes. The rest of the boxes takes less than 2 KiB.
_INDEX, _INDEX_OF_FRAME, _INDEX_OF_SOUND = 4096, 44, 32


def crf(quality: int | None) -> float:
    """x264's constant rate factor for a quality of 1 to 100: 51 - 0.375 x quality; 75, the default, is 22.9, 100 is
    13.5, beyond which nobody sees a difference."""
    return 51 - 0.375 * (DEFAULT_QUALITY if quality is None else quality)


def even(layout: Layout) -> Layout:
    """With both sides even, as 4:2:0 needs them: an odd side becomes a pixel shorter (but a single pixel two). A whole
    picture is scaled to that; of one that is cropped or padded a row or column less is cropped or padded to."""
    size = max(2, layout.size[0] // 2 * 2), max(2, layout.size[1] // 2 * 2)
    return Layout(size if layout.scaled == layout.size else layout.scaled, size)


class ClipMaker(MovingMaker):
    asked: Clip

    def __init__(
        self,
        asked: Clip,
        wanted: Stretch,
        place: tuple[int, int],
        studio: Studio,
        emit: Emit,
        sink: Sink,
        source: Source,
    ) -> None:
        super().__init__(asked, wanted, place, studio, emit, sink)
        self._source = source

    def _lay_out(self, display: Size) -> Layout:
        return even(lay_out(self.asked, display))

    def _duration(self) -> Fraction:
        return self._wanted.end - self._wanted.start

    def _write(self, pictures: Iterator[RGB]) -> Size:
        first = next(pictures)
        size = first.shape[1], first.shape[0]
        sound = self._sound()
        try:
            self._mux(chain([first], pictures), size, sound)
        finally:
            if sound is not None:
                self.warnings += [f"{self.asked.name}: {each}" for each in sound.warnings]
                sound.close()
        return size

    def _sound(self) -> Sound | None:
        if not self.asked.audio:
            return None
        facts = self._studio.facts
        zero = facts.start * facts.time_base
        try:
            return open_sound(self._source, zero + self._wanted.start, zero + self._wanted.end)
        except NoSound as none:
            if str(none):
                self.warnings.append(f"{self.asked.name}: the sound cannot be read ({none}): the clip is silent")
            return None

    def _mux(self, pictures: Iterator[RGB], size: Size, sound: Sound | None) -> None:
        film = _Film(self._sink, size, self._ticks(), self._rate(), crf(self.asked.quality), len(self.ats), sound)
        try:
            keys = self._keyframes()
            for n, picture in enumerate(pictures):
                until = self._wanted.end if n + 1 == len(self.ats) else self.ats[n + 1]
                film.add(picture, until - self._wanted.start, key=next(keys))
            film.finish()
        except BaseException:
            self._sink.close()
            with suppress(Exception):
                film.close()
            raise
        film.close()

    def _ticks(self) -> int:
        """Ticks a second: so many that all times are whole, unless those would be beyond measure."""
        facts, rate = self._studio.facts, self.asked.fps
        whole = lcm(facts.time_base.denominator, self._wanted.start.denominator) if rate is None else rate.numerator
        return 90_000 if whole > _FINEST else whole * ceil(_COARSEST / whole)

    def _rate(self) -> Fraction:
        length = self._wanted.end - self._wanted.start
        return self.asked.fps or (len(self.ats) / length).limit_denominator(1001)

    def _keyframes(self) -> Iterator[bool]:
        """For each frame whether it has to be a keyframe."""
        asked = self.asked.keyframe
        if isinstance(asked, int):
            yield from (n % asked == 0 for n in range(len(self.ats)))
        elif isinstance(asked, Time):
            step = asked.seconds(self._studio.facts.duration)
            due = self._wanted.start
            for at in self.ats:
                yield at >= due
                due += step * max(0, (at - due) // step + 1)
        else:
            yield from (False for _ in self.ats)


class _Film:
    """An MP4 in the making."""

    def __init__(
        self, sink: Sink, size: Size, ticks: int, rate: Fraction, crf: float, frames: int, sound: Sound | None
    ) -> None:
        index = _INDEX + frames * _INDEX_OF_FRAME + (sound.most * _INDEX_OF_SOUND if sound else 0)
        options = {"moov_size": str(index), "movie_timescale": str(ticks), "fflags": "+bitexact"}
        self._container: OutputContainer = av.open(sink, "w", format="mp4", container_options=options)
        self._ticks = ticks
        self._at = 0
        self._durations: dict[int, int] = {}  # of the frames that are in the encoder, by their times
        self._reformatter = VideoReformatter()
        x264 = {"preset": _PRESET, "crf": str(crf), "forced-idr": "1", **_steady()}
        self._stream = self._container.add_stream("libx264", rate=rate, options=x264)
        self._stream.time_base = Fraction(1, ticks)
        context = self._stream.codec_context
        context.width, context.height = size
        context.pix_fmt = "yuv420p"
        context.time_base = Fraction(1, ticks)
        context.thread_count = _THREADS
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = ColorRange.MPEG
        self._sound: Iterator[Packet[av.AudioStream]] = iter(())
        if sound is not None:
            sound.begin(self._container)
            self._sound = sound.packets()
        self._next = next(self._sound, None)

    def add(self, picture: RGB, until: Fraction, *, key: bool) -> None:
        """A picture that is shown until so many seconds from the first."""
        frame = self._reformatter.reformat(
            VideoFrame.from_ndarray(picture, "rgb24"),
            format="yuv420p",
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            dst_colorspace=Colorspace.ITU709,
            interpolation=_FILTER,
            threads=1,
        )
        frame.pts, frame.time_base = self._at, Fraction(1, self._ticks)
        frame.pict_type = PictureType.I if key else PictureType.NONE
        end = max(self._at + 1, round(until * self._ticks))
        self._durations[self._at] = end - self._at
        self._at = end
        self._mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Writes what is still held back, and the index."""
        self._mux(self._stream.encode(None))
        while self._next is not None:
            self._mux_sound(self._next)

    def close(self) -> None:
        self._container.close()

    def _mux(self, packets: list["Packet[av.VideoStream]"]) -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts or 0)
            # In the order of time: the muxer holds back what comes too early.
            while self._next is not None and _starts(self._next) <= _starts(packet):
                self._mux_sound(self._next)
            self._container.mux(packet)

    def _mux_sound(self, packet: "Packet[av.AudioStream]") -> None:
        self._container.mux(packet)
        self._next = next(self._sound, None)


def _steady() -> dict[str, str]:
    """What makes one file of the same frames: with AVX-512 the macroblock tree of x264 does not always (tried: 60
    times the same with AVX2, other bytes in a third of the clips with AVX-512; without the tree files are larger by a
    third or more)."""
    found = cast(dict[str, dict[str, list[str]]], np.show_config(mode="dicts"))["SIMD Extensions"]
    return {"x264-params": "asm=avx2"} if {"AVX2", "X86_V3"} & {*found["baseline"], *found["found"]} else {}


def _starts(packet: "Packet[av.VideoStream] | Packet[av.AudioStream]") -> Fraction:
    return (packet.dts or 0) * (packet.time_base or Fraction(1))
