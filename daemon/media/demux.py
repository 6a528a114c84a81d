"""Containers: which stream is the video, its packets, and seeking. Every opening has a `Demuxer` of its own."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import islice

import av
from av.packet import Packet, PacketSideData
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from daemon.errors import DecodeFailed, NotAVideo, SourceUnreadable
from daemon.media.device import Decoder, Device, Frame, Hardware, Look
from daemon.media.facts import Facts
from daemon.media.formats import ONE_TIME, RAW, STILLS, boxes, is_boxed, open_input, plain, why_unreadable
from daemon.media.measure import measure
from daemon.media.packed import is_packed, unpack
from daemon.media.source import Opening, Source

_INDEX_OF_PICTURES = 1 << 18  # bytes from the start of a JPEG in which its index of pictures would stand
_PALETTE_BITS = 8  # per pixel, at most


class Demuxer:
    """One opening of a source. Raises NotAVideo where there is no video in it, SourceUnreadable on I/O errors."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._boxed = is_boxed(source)
        # Fragments (moof) have indexes of their own: that of the file is not whole then.
        self._whole_index = self._boxed and all(kind != b"moof" for kind, _ in boxes(source))
        self._palette: PacketSideData | None = None
        self._open()
        # Without a packet in the index of an elementary stream libavformat seeks to the second key packet at the
        # earliest, and only what is read after a seek has times without a gap behind the first frame.
        if self.format in RAW or self._paletted:
            next(self.packets(), None)
            self.rewind()

    def _open(self) -> None:
        self._opening = Opening(self._source)
        try:
            self._container = open_input(self._opening, self._boxed)
        except (av.FFmpegError, ValueError, OSError) as error:
            self._raise_if_unreadable()
            raise NotAVideo(why_unreadable(self._source, error)) from None
        self.stream = self._choose()
        for stream in self._container.streams:
            stream.discard = Discard.none if stream is self.stream else Discard.all
        if self.stream.time_base is None:
            raise NotAVideo("its video stream has no time base")
        self.time_base: Fraction = self.stream.time_base
        self.cover = bool(self.stream.disposition & Disposition.attached_pic)
        self._still = self.format if self.format in STILLS else None
        self._paletted = 0 < self.stream.codec_context.bits_per_coded_sample <= _PALETTE_BITS
        self._one_time = self.format in ONE_TIME
        self._packed = self.format == "avi" and is_packed(self.stream)
        # Nothing tells libavformat the key pictures of H.261 and of a bare stream of H.263: it takes all for them.
        self._false_keys = self.format == "h263" or self.stream.codec_context.codec.canonical_name == "h261"

    def _choose(self) -> VideoStream:
        videos = [stream for stream in self._container.streams.video if stream.codec_context is not None]
        if not videos:
            raise NotAVideo("there is no video stream that we can decode in it: give a video")
        # A tile of a picture is not the picture.
        whole = [stream for stream in videos if not stream.disposition & Disposition.dependent]
        if not whole:
            raise NotAVideo("its picture is made of tiles, which we cannot join: give it as JPEG, PNG or WebP")
        return most_wanted(whole)

    @property
    def indexed(self) -> bool:
        """The container's index holds every packet from the start (MP4 without fragments)."""
        return self._whole_index and len(self.stream.index_entries) > 0

    @property
    def missing_bytes(self) -> int:
        """How far the last packet of a whole index lies beyond the end of the file."""
        if not self.indexed:
            return 0
        last = self.stream.index_entries[-1]
        return max(0, last.pos + last.size - self._source.size)

    @property
    def cut(self) -> int | None:
        """DTS of the first packet that a whole index speaks of and the file does not hold whole."""
        if not self.missing_bytes:
            return None
        entries = self.stream.index_entries
        return next(int(e.timestamp) for e in entries if e.pos + e.size > self._source.size)

    @property
    def format(self) -> str:
        """libavformat's name of the container."""
        return self._container.format.name

    @property
    def claimed_duration(self) -> Fraction | None:
        """What the container says of itself in seconds: often another stream's, or an estimate."""
        said = self._container.duration
        return None if said is None else Fraction(said, av.time_base)

    def group(self, ticks: int) -> int | None:
        """A number for the group of pictures that holds `ticks`, None where no index tells. For planning only:
        indexes speak of DTS or leave out keyframes."""
        if not self.indexed and self.format != "matroska,webm":
            return None
        found = self.stream.index_entries.search_timestamp(ticks, backward=True)
        return int(found)

    def next_keyframe(self, ticks: int) -> int | None:
        """DTS of the first key packet after `ticks` by a whole index, None where there is no such index or packet."""
        if not self.indexed:
            return None
        entries = self.stream.index_entries
        found = entries.search_timestamp(ticks + 1, backward=False)
        return None if found < 0 else int(entries[found].timestamp)

    @property
    def is_still(self) -> bool:
        """A picture file that holds but one."""
        if self._still is None:
            return False
        pictures = sum(1 for _ in islice(self.packets(), 2))
        self.rewind()
        return pictures == 1

    def measure(self) -> Facts:
        return measure(self)

    def fit(self, hardware: Hardware, *, timed: bool) -> Device:
        return hardware.fit(self.stream, self._from_the_first, timed=timed)

    def _from_the_first(self) -> Iterator["Packet[VideoStream]"]:
        self.rewind()
        yield from self.packets()

    def decoder(self, device: Device) -> Decoder:
        return device.decoder(self.stream)

    def look(self, device: Device, frame: Frame) -> Look:
        return device.look(frame, self.stream)

    def packets(self) -> Iterator["Packet[VideoStream]"]:
        """The video's packets from here on, in decode order. Damaged data ends them, as the end of the file does."""
        return unpack(self._packets(), self.stream) if self._packed else self._packets()

    def _packets(self) -> Iterator["Packet[VideoStream]"]:
        expected: int | None = None
        try:
            for packet in self._container.demux(self.stream):
                if self._one_time:
                    # After a seek libavformat may lose the time of the second packet.
                    packet.dts = expected if packet.dts is None else packet.dts
                    expected = None if packet.dts is None or not packet.duration else packet.dts + packet.duration
                if packet.size and not (packet.is_corrupt and (self.indexed or self._cut_off)):
                    if self._false_keys:
                        packet.is_keyframe = False
                    if self._paletted:
                        self._lend_palette(packet)
                    yield packet
                    if self.cover or (self._still and not _is_stream_of_stills(self._still, packet)):
                        return
        except (av.error.EOFError, av.error.InvalidDataError, av.error.PatchWelcomeError):
            pass
        except av.FFmpegError as error:
            self._raise_if_unreadable()
            raise DecodeFailed(f"its packets cannot be read ({plain(error)})") from None
        self._raise_if_unreadable()

    def seek(self, ticks: int) -> None:
        """To a packet at or before `ticks` where the container can, else to the start: reading tells where we are."""
        if self.cover:
            self.rewind()
            return
        try:
            self._container.seek(ticks, stream=self.stream, backward=True)
        except (av.FFmpegError, OverflowError):
            self._raise_if_unreadable()
            self.rewind()

    def rewind(self) -> None:
        """To the very first packet."""
        # Some demuxers (GIF) cannot seek at all; that of Ogg aborts where it is told to seek by a cover.
        try:
            if not self.cover:
                self._container.seek(-(1 << 62), stream=self.stream, backward=False)
                return
        except av.FFmpegError:
            pass
        self.close()
        self._open()

    def close(self) -> None:
        self._container.close()

    @property
    def _cut_off(self) -> bool:
        """The packet just read is where the file ends. (In MPEG-TS packets are called corrupt for other reasons.)"""
        return self.format != "mpegts" and self._opening.tell() >= self._source.size

    def _lend_palette(self, packet: "Packet[VideoStream]") -> None:
        """Demuxers give the palette of a file along with its first packet, once: a decoder that begins elsewhere, or
        anew, needs it too."""
        if packet.has_sidedata("palette"):
            self._palette = packet.get_sidedata("palette")
        elif self._palette is not None:
            packet.set_sidedata(self._palette)

    def _raise_if_unreadable(self) -> None:
        if self._opening.error:
            raise SourceUnreadable(f"reading it failed ({self._opening.error.strerror})") from None


def most_wanted(streams: Iterable[VideoStream]) -> VideoStream:
    """As players choose, the first of those that are alike. Cover art is not the video; where there is nothing else it
    is the picture of an audio file. A still beside a video stands for it elsewhere (AVIF)."""

    def rank(stream: VideoStream) -> tuple[bool, bool, bool, bool, int]:
        context = stream.codec_context
        return (
            not stream.disposition & Disposition.attached_pic,
            stream.frames != 1,
            stream.start_time is not None,  # packets of it were seen (of several bit rates in ASF one may be there)
            bool(stream.disposition & Disposition.default),
            context.width * context.height,
        )

    return max(streams, key=rank)


def _is_stream_of_stills(format: str, first: "Packet[VideoStream]") -> bool:
    """Whether what follows a JPEG is more of the same. In a file with an index of its pictures (CIPA DC-007) it is gain
    maps, previews, the view of the other eye."""
    return format == "jpeg_pipe" and b"MPF\0" not in bytes(first)[:_INDEX_OF_PICTURES]
