"""The sound of a stretch, from an opening of its own: AAC is copied packet by packet, all else is decoded, cut to the
sample, and encoded as AAC, which every player of MP4 knows.

Times are exact to the sample where sound is encoded anew. Where it is copied its packets keep their place, and two more
than are heard come before the start (a decoder needs the one before to begin right): the edit list of the MP4 hides
them. The last one may reach past the end by less than a packet (1024 samples); its duration is cut there.
"""

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from math import ceil
from typing import Any, Protocol

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Discard
from numpy.typing import NDArray

from daemon.errors import SourceUnreadable
from daemon.media.formats import is_boxed, open_input, plain
from daemon.media.source import Opening, Source

Samples = NDArray[np.float32]  # (channels, samples)

FRAME = 1024  # samples of an AAC packet
_RATES = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000})  # that AAC has
_BITS_PER_CHANNEL = 64_000  # a second
_EARLIER = Fraction(1, 4)  # seconds that a decoder is given before what is heard: Opus asks for 80 ms
_JITTER = Fraction(1, 100)  # seconds by which rounded times may be wrong before they are believed


class Sound(Protocol):
    """Sound that is there. `most`: packets that it has, at most."""

    most: int
    warnings: list[str]

    def begin(self, output: OutputContainer) -> None:
        """Adds its stream, before anything is written."""

    def packets(self) -> Iterator["Packet[AudioStream]"]:
        """All of it, in order, for the stream added; times count from the start of the stretch. Raises
        SourceUnreadable; what is damaged is left out, and told of in `warnings`."""

    def close(self) -> None: ...


class NoSound(Exception):
    """There is none in the stretch. The text says what is wrong, empty where nothing is."""


def open_sound(source: Source, start: Fraction, end: Fraction) -> Sound:
    """The sound from `start` to `end`, seconds on the container's own time line. Raises NoSound; SourceUnreadable."""
    opening = Opening(source)
    try:
        container = open_input(opening, is_boxed(source))
    except (av.FFmpegError, ValueError, OSError) as error:
        _raise_if_unreadable(opening)
        raise NoSound(plain(error)) from None
    try:
        stream = container.streams.best("audio")
        if not isinstance(stream, AudioStream):
            raise NoSound("")
        if stream.codec_context is None or stream.time_base is None or not stream.sample_rate:
            raise NoSound("its codec is not known")
        for each in container.streams:
            each.discard = Discard.none if each is stream else Discard.all
        track = _Track(opening, container, stream, start, end)
        return Copied(track) if stream.codec_context.name == "aac" else Encoded(track)
    except BaseException:
        container.close()
        raise


class _Track:
    """The packets of a stretch as they lie in the source."""

    def __init__(
        self, opening: Opening, container: InputContainer, stream: AudioStream, start: Fraction, end: Fraction
    ) -> None:
        self.opening = opening
        self.container = container
        self.stream = stream
        self.start, self.end = start, end
        self.trouble = ""

    def packets(self, earlier: Fraction) -> Iterator["Packet[AudioStream]"]:
        """Those from about `earlier` seconds before the start on, until the end."""
        base = self.stream.time_base or Fraction(1)
        try:
            self.container.seek(int((self.start - earlier) / base), stream=self.stream, backward=True)
        except (av.FFmpegError, OverflowError):
            _raise_if_unreadable(self.opening)
        try:
            for packet in self.container.demux(self.stream):
                if not packet.size:
                    continue
                if packet.pts is not None and packet.pts * base >= self.end:
                    break
                yield packet
        except av.error.EOFError:
            pass
        except av.FFmpegError as error:
            self.trouble = plain(error)
        _raise_if_unreadable(self.opening)

    def close(self) -> None:
        self.container.close()


class Copied:
    """AAC as it is."""

    def __init__(self, track: _Track) -> None:
        self.warnings: list[str] = []
        self._track = track
        context = track.stream.codec_context
        self._rate = track.stream.sample_rate
        self._samples = context.frame_size or FRAME
        self.most = ceil((track.end - track.start) * self._rate / self._samples) + 4
        self._packets = self._placed()
        first = next(self._packets, None)
        if first is None:
            raise NoSound(track.trouble)
        self._first = first

    def begin(self, output: OutputContainer) -> None:
        self._stream = output.add_stream_from_template(self._track.stream)
        self._stream.time_base = Fraction(1, self._rate)

    def packets(self) -> Iterator["Packet[AudioStream]"]:
        for sent, packet in enumerate(chain([self._first], self._packets)):
            if sent == self.most:
                self.warnings.append("sound: its times are wrong: it ends early")
                return
            packet.stream = self._stream
            yield packet
        if self._track.trouble:
            self.warnings.append(f"sound: damaged, it ends early ({self._track.trouble})")

    def close(self) -> None:
        self._track.close()

    def _placed(self) -> Iterator["Packet[AudioStream]"]:
        """The packets that are heard and one before them, each at its sample, counted from the start."""
        base = self._track.stream.time_base or Fraction(1)
        length = round((self._track.end - self._track.start) * self._rate)
        before: Packet[AudioStream] | None = None
        expected: int | None = None
        for packet in self._track.packets(Fraction(2 * self._samples, self._rate)):
            at = expected
            if packet.pts is not None:
                at = round((packet.pts * base - self._track.start) * self._rate)
                # Times that are rounded to milliseconds would make every packet another length.
                if expected is not None and abs(at - expected) <= _JITTER * self._rate:
                    at = expected
            if at is None or (expected is not None and at < expected):
                continue
            expected = at + self._samples
            packet.time_base = Fraction(1, self._rate)
            packet.pts = packet.dts = at
            packet.duration = max(1, min(self._samples, length - at))
            if expected <= 0:
                before = packet
                continue
            if at >= length:
                break
            if before is not None:
                yield before
                before = None
            yield packet


class Encoded:
    """Sound of any kind as AAC: mono stays mono, more than two channels become two."""

    def __init__(self, track: _Track) -> None:
        self.warnings: list[str] = []
        self._track = track
        context = track.stream.codec_context
        context.thread_count = 1
        self._rate = context.sample_rate if context.sample_rate in _RATES else 48_000
        self._layout = "mono" if context.layout.nb_channels == 1 else "stereo"
        self._length = round((track.end - track.start) * self._rate)
        self.most = ceil(self._length / FRAME) + 4
        self._damaged = 0
        self._pieces = self._cut()
        first = next(self._pieces, None)
        if first is None:
            raise NoSound(track.trouble or ("it cannot be decoded" if self._damaged else ""))
        self._first = first

    def begin(self, output: OutputContainer) -> None:
        self._stream = output.add_stream("aac", rate=self._rate, layout=self._layout)
        channels = 1 if self._layout == "mono" else 2
        self._stream.codec_context.bit_rate = _BITS_PER_CHANNEL * channels
        self._stream.codec_context.thread_count = 1

    def packets(self) -> Iterator["Packet[AudioStream]"]:
        at = 0
        for piece in chain([self._first], self._pieces):
            frame = AudioFrame.from_ndarray(np.ascontiguousarray(piece), "fltp", self._layout)
            frame.sample_rate, frame.pts, frame.time_base = self._rate, at, Fraction(1, self._rate)
            at += piece.shape[1]
            yield from self._stream.encode(frame)
        yield from self._stream.encode(None)
        if self._track.trouble or self._damaged:
            self.warnings.append(f"sound: damaged in places ({self._track.trouble or 'silence stands for them'})")

    def close(self) -> None:
        self._track.close()

    def _cut(self) -> Iterator[Samples]:
        """Pieces that follow one another without a gap from sample 0 on, silence where there is nothing."""
        done = 0
        for at, piece in self._decoded():
            if done >= self._length:
                return
            if piece.shape[1] + at <= done:
                continue
            if at > done:
                yield np.zeros((piece.shape[0], min(at, self._length) - done), np.float32)
                done = min(at, self._length)
            piece = piece[:, done - at : self._length - at]
            if piece.shape[1]:
                yield piece
                done += piece.shape[1]

    def _decoded(self) -> Iterator[tuple[int, Samples]]:
        """Samples, and where they lie, counted from the start."""
        resampler = AudioResampler(format="fltp", layout=self._layout, rate=self._rate)
        expected: int | None = None
        for frame in chain(self._frames(), [None]):
            for small in resampler.resample(frame):
                at = expected
                if small.pts is not None and small.time_base is not None:
                    at = round((small.pts * small.time_base - self._track.start) * self._rate)
                    if expected is not None and abs(at - expected) <= _JITTER * self._rate:
                        at = expected
                if at is None:
                    continue
                samples: Any = small.to_ndarray()
                expected = at + samples.shape[1]
                yield at, samples

    def _frames(self) -> Iterator[AudioFrame]:
        context = self._track.stream.codec_context
        for packet in chain(self._track.packets(_EARLIER), [None]):
            try:
                frames = context.decode(packet)
            except av.FFmpegError:
                self._damaged += packet is not None
                continue
            yield from frames


def _raise_if_unreadable(opening: Opening) -> None:
    if opening.error:
        raise SourceUnreadable(f"reading it failed ({opening.error.strerror})") from None
