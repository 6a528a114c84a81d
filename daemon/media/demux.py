"""Containers: which stream is the video, its packets, seeking, and when it begins and ends.

Every opening has a `Demuxer` of its own; what is true of the file as a whole is measured once, as `Facts`.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise
from typing import Any, Literal

import av
from av.container import InputContainer
from av.packet import Packet, PacketSideData
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from daemon.errors import DecodeFailed, NotAVideo, SourceUnreadable
from daemon.media.device import Decoder, Device, Frame, Hardware, Look
from daemon.media.packed import is_packed, unpack
from daemon.media.plan import How
from daemon.media.select import Stamp
from daemon.media.source import Opening, Source

# Demuxers for files that hold their own data. Never hls, dash, concat, sdp, image2, mlv: those follow names elsewhere.
_CONTAINERS = (
    *("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpegts", "mpeg", "flv", "live_flv", "ogg", "asf", "mxf"),
    *("gif", "apng", "wtv", "rm", "ivf", "nut", "dv", "swf", "nsv", "gxf", "yuv4mpegpipe"),
    *("roq", "film_cpk", "smjpeg", "flic", "smk", "bink"),
)
# Elementary streams: their times are made up by libavformat.
_RAW = (
    *("h264", "hevc", "vvc", "m4v", "mpegvideo", "mjpeg", "h261", "h263", "vc1", "dnxhd", "cavsvideo", "obu", "av1"),
    *("dirac",),
)
_STILLS = (
    *("jpeg_pipe", "png_pipe", "bmp_pipe", "tiff_pipe", "j2k_pipe", "jpegls_pipe", "qoi_pipe", "psd_pipe"),
    *("ppm_pipe", "pgm_pipe", "pbm_pipe", "pam_pipe", "pcx_pipe", "sgi_pipe", "dpx_pipe", "exr_pipe", "hdr_pipe"),
)
# For their covers.
_SOUND = ("mp3", "flac", "wav", "w64", "aiff", "aac", "ape", "tta", "wv", "mpc", "mpc8", "tak", "dsf")
_FORMATS = (*_CONTAINERS, *_RAW, *_STILLS, *_SOUND)
_OPTIONS = {"format_whitelist": ",".join(_FORMATS), "protocol_whitelist": "none"}
# Titles may be of any encoding. PyAV 19 takes them as they are.
_TEXTS: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")
_MANY_BOXES = 4096
_INDEX_OF_PICTURES = 1 << 18  # bytes from the start of a JPEG in which its index of pictures would stand
_PALETTE_BITS = 8  # per pixel, at most
_A_STILL = Fraction(1, 25)  # seconds that a picture alone stands for, as libavformat has it
_HEAD = 64  # packets read to find the first displayed frame; no codec reorders further
_STAMPS = 8  # and at least so many before their order is trusted
# These hold one time for each packet. For codecs that reorder libavformat makes presentation times of them, and where
# it does not know how far they reorder it leaves them in decode order.
_ONE_TIME = ("avi", "asf", "mxf")
# ISO/IEC 11172-2, 2.4.2.4, and 13818-2, 6.2.2.6: 25 bits of time code, then closed_gop.
_GOP = re.compile(rb"\x00\x00\x01\xb8...(.)", re.DOTALL)
_CLOSED = 0x40


# What the times of packets are worth. `shown`: true presentation times. `ordered`: DTS only (AVI): the n-th frame out
# of the decoder stands at the n-th of them. `counted`: some have none (H.264 in MPEG-PS): only the count of frames
# from the start tells the time.
Timing = Literal["shown", "ordered", "counted"]


@dataclass(frozen=True)
class Facts:
    """What is true of the video stream. Times in ticks of `time_base`, on the stream's own time line.

    `start`: PTS of the first displayed frame; `end`: end of the last one. `width` x `height`: as coded, before sample
    aspect and rotation. `step`: the usual interval between frames. `missing`: bytes that the index speaks of beyond
    the file's end.
    """

    time_base: Fraction
    start: int
    end: int
    codec: str
    width: int
    height: int
    fps: float | None
    timing: Timing
    step: int
    missing: int
    cut: int | None
    warnings: tuple[str, ...]

    @property
    def duration(self) -> Fraction:
        """Seconds."""
        return (self.end - self.start) * self.time_base

    def ticks(self, seconds: Fraction) -> Fraction:
        """A time counted from the first displayed frame, on the stream's own time line, unrounded."""
        return self.start + seconds / self.time_base

    def how(self, asked: How) -> How:
        """Which frames are to be had in the way that is asked for. Where frames have to be counted from the start those
        shown cost no more than keyframes do, and all share one pass."""
        return "exact" if self.timing == "counted" else asked

    def seconds(self, pts: int) -> Fraction:
        """The inverse of `ticks`."""
        return (pts - self.start) * self.time_base


def is_boxed(source: Source) -> bool:
    """Whether it is MP4 or MOV (ISO/IEC 14496-12)."""
    return source.read_at(4, 4) in _BOXES


def open_input(opening: Opening, boxed: bool) -> InputContainer:
    """Raises av.FFmpegError, ValueError or OSError; whether the source could be read is in `opening`."""
    # Probing decodes the first frames (27 ms for 1080p); MP4 says all that is needed without it. Other containers
    # need it: without the reordering depth libavformat gives wrong DTS for B-frames in Matroska.
    options = {**_OPTIONS, "codec_whitelist": "none"} if boxed else _OPTIONS
    opened: InputContainer = av.open(opening, mode="r", options=options, **_TEXTS)
    return opened


class Demuxer:
    """One opening of a source. Raises NotAVideo where there is no video in it, SourceUnreadable on I/O errors."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._boxed = is_boxed(source)
        # Fragments (moof) have indexes of their own: that of the file is not whole then.
        self._whole_index = self._boxed and all(kind != b"moof" for kind, _ in _boxes(source))
        self._palette: PacketSideData | None = None
        self._open()
        # Without a packet in the index of an elementary stream libavformat seeks to the second key packet at the
        # earliest, and only what is read after a seek has times without a gap behind the first frame.
        if self.format in _RAW or self._paletted:
            next(self.packets(), None)
            self.rewind()

    def _open(self) -> None:
        self._opening = Opening(self._source)
        try:
            self._container = open_input(self._opening, self._boxed)
        except (av.FFmpegError, ValueError, OSError) as error:
            self._raise_if_unreadable()
            raise NotAVideo(_why_unreadable(self._source, error)) from None
        self.stream = self._choose()
        for stream in self._container.streams:
            stream.discard = Discard.none if stream is self.stream else Discard.all
        if self.stream.time_base is None:
            raise NotAVideo("its video stream has no time base")
        self.time_base: Fraction = self.stream.time_base
        self.cover = bool(self.stream.disposition & Disposition.attached_pic)
        self._still = self.format if self.format in _STILLS else None
        self._paletted = 0 < self.stream.codec_context.bits_per_coded_sample <= _PALETTE_BITS
        self._one_time = self.format in _ONE_TIME
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

    def measure(self) -> "Facts":
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


def measure(demuxer: Demuxer) -> Facts:
    """Reads what is needed to know when the video begins and ends. `demuxer` is fresh, and left anywhere."""
    stream, context = demuxer.stream, demuxer.stream.codec_context
    rate = stream.average_rate or stream.guessed_rate
    step = max(1, round(1 / (rate * demuxer.time_base))) if rate else 1
    start, timing = _begin(demuxer)
    known = stream.duration if demuxer.indexed else None
    if demuxer.cover:
        known = max(step, round(_A_STILL / demuxer.time_base))
    end = start + known if known else _end(demuxer, start, step, timing)
    warnings = []
    claimed = None if demuxer.cover or demuxer.indexed else demuxer.claimed_duration
    if claimed and claimed > 2 + Fraction(5, 4) * (end - start) * demuxer.time_base:
        warnings.append(
            f"the container speaks of {float(claimed):.1f} s, but its video ends after "
            f"{float((end - start) * demuxer.time_base):.1f} s: is the file cut off?"
        )
    return Facts(
        time_base=demuxer.time_base,
        start=start,
        end=end,
        codec=context.codec.canonical_name,
        width=context.width,
        height=context.height,
        fps=round(float(rate), 4) if rate else None,
        timing=timing,
        step=step,
        missing=demuxer.missing_bytes,
        cut=demuxer.cut,
        warnings=tuple(warnings),
    )


def _begin(demuxer: Demuxer) -> tuple[int, Timing]:
    """PTS of the first displayed frame, and what the times of packets are worth."""
    if demuxer.format == "dirac":
        return 0, "counted"  # its times are numbers of pictures
    codec = demuxer.stream.codec_context.codec
    head: list[Stamp] = []
    first_dts: int | None = None
    closed = False
    for packet in islice(demuxer.packets(), _HEAD):
        if packet.is_keyframe and not any(stamp.key for stamp in head):
            closed = codec.canonical_name in ("mpeg1video", "mpeg2video") and _is_closed(packet)
        first_dts = packet.dts if first_dts is None else first_dts
        if packet.pts is None:
            return head[0].pts if head else first_dts or 0, "counted"
        head.append(Stamp(packet.pts, packet.is_keyframe, shown=not packet.is_discard))
        shown = [stamp.pts for stamp in head if stamp.shown]
        if len(shown) >= _STAMPS and packet.dts is not None and packet.dts > min(shown):
            break
    if not head:
        raise NotAVideo("its video stream holds no packet")
    rising = all(a.pts < b.pts for a, b in pairwise(head))
    if demuxer.format in _ONE_TIME and codec.reorder and rising and first_dts is not None:
        return first_dts, "ordered"
    # Frames before the first key packet, in decode or in display order, cannot be decoded: unless that packet begins
    # a closed group.
    first = next((n for n, stamp in enumerate(head) if stamp.key), 0)
    shown = [stamp.pts for stamp in head[first:] if stamp.shown and (closed or stamp.pts >= head[first].pts)]
    return min(shown, default=head[first].pts), "shown"


def _is_stream_of_stills(format: str, first: "Packet[VideoStream]") -> bool:
    """Whether what follows a JPEG is more of the same. In a file with an index of its pictures (CIPA DC-007) it is gain
    maps, previews, the view of the other eye."""
    return format == "jpeg_pipe" and b"MPF\0" not in bytes(first)[:_INDEX_OF_PICTURES]


def _is_closed(key: "Packet[VideoStream]") -> bool:
    group = _GOP.search(bytes(key))
    return group is not None and bool(group[1][0] & _CLOSED)


def _end(demuxer: Demuxer, start: int, step: int, timing: Timing) -> int:
    """End of the last displayed frame: by the packets near the end, or by all where seeking leads nowhere."""
    if timing == "counted":
        demuxer.rewind()
        # A packet may be a field.
        return start + sum(packet.duration or step for packet in demuxer.packets())
    # From well before the end, for the packet shown last is not the last one in the file; and again from there where
    # the end that the container claims is another stream's.
    early = max(int(2 / demuxer.time_base), _HEAD * step)
    seek = start + max(0, int((demuxer.claimed_duration or 0) / demuxer.time_base) - early)
    while seek > start:
        demuxer.seek(seek)
        first, end = _latest(demuxer, step, timing)
        if first is not None and end is not None and first <= end - early:
            return end
        seek = (seek if end is None else min(end, seek)) - early
        early *= 2
    demuxer.rewind()
    return max(start + 1, _latest(demuxer, step, timing)[1] or 0)


def _latest(demuxer: Demuxer, step: int, timing: Timing) -> tuple[int | None, int | None]:
    """The first time read from here on, and the end of the frame shown last."""
    first, end = None, None
    for packet in demuxer.packets():
        stamp = packet.pts if timing == "shown" else packet.dts
        if stamp is not None and not packet.is_discard:
            first = stamp if first is None else first
            end = max(end or stamp, stamp + (packet.duration or step))
    return first, end


def _boxes(source: Source) -> Iterator[tuple[bytes, int]]:
    """The outermost boxes of an ISO file (ISO/IEC 14496-12, 4.2): kind, and where each ends in bytes."""
    offset = 0
    for _ in range(_MANY_BOXES):
        head = source.read_at(offset, 16)
        if len(head) < 16:
            return
        size, kind = int.from_bytes(head[:4]), head[4:8]
        if size == 1:
            size = int.from_bytes(head[8:16])
        if size == 0:
            size = source.size - offset  # to the end of the file
        if size < 8:
            return
        offset += size
        yield kind, offset


def _why_unreadable(source: Source, error: Exception) -> str:
    """What is wrong with a file that no demuxer opens, and what to do."""
    if is_boxed(source):
        boxes = list(_boxes(source))
        missing = max((end for _, end in boxes), default=0) - source.size
        if missing > 0:
            return f"the file is cut off, {missing} bytes are missing at its end: copy it again, whole"
        if all(kind != b"moov" for kind, _ in boxes):
            return "the file is cut off, its index (moov) is missing: copy it again, whole"
    return f"no container that we can read ({plain(error)}): give a whole video file"


def plain(error: Exception) -> str:
    """What libav says, without the names of our own objects."""
    return str(getattr(error, "strerror", None) or type(error).__name__)
