"""NVDEC behind the same `Decoder` as libav: packets that we chose in, surfaces out.

One packet gives one frame at once: sessions of H.264, HEVC and MPEG-2 give frames in decode order and lose the time
stamps (`latency=ZERO`), so the packet that was sent says which frame came. VP8, VP9 and AV1 have packets with hidden
frames, which that mode would give as well; they are not reordered, so that `LOW` is as quick and keeps the time stamps.
"""

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import Any

import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream

from daemon.errors import DeviceMissing
from daemon.media.bitstream import Bitstream
from daemon.media.device import CardLost, Frame, Unfit
from daemon.media.geometry import Size
from daemon.media.nvidia import first_line, video_codec
from daemon.media.surface import Card, Kind, Surface

# libav's names and PyNvVideoCodec's. Not MPEG-4 and VC-1: their packets need more rewriting than they are worth.
CODECS = {
    "h264": "H264",
    "hevc": "HEVC",
    "vp8": "VP8",
    "vp9": "VP9",
    "av1": "AV1",
    "mpeg1video": "MPEG1",
    "mpeg2video": "MPEG2",
}
_WITH_HIDDEN_FRAMES = ("vp8", "vp9", "av1")
_CHROMA = (420, 422, 444)
_DEPTHS = (8, 10, 12)
_END_OF_PICTURE = 8  # CUVID_PKT_ENDOFPICTURE: the packet is whole, nothing is to be waited for
_MOST_IDLE = 16  # sessions that wait for the next source of their kind, of a process
_MOST_REORDERED = 16  # frames: no codec has more (ITU-T H.264, A.3.1; ITU-T H.265, A.4.2)


# --- what the card can do ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Capability:
    """What NVDEC says of one kind of video. Sizes in coded pixels; `engines`: how many decode at the same time."""

    supported: bool
    smallest: Size
    largest: Size
    macroblocks: int
    engines: int

    def takes(self, coded: Size) -> bool:
        width, height = coded
        return (
            self.smallest[0] <= width <= self.largest[0]
            and self.smallest[1] <= height <= self.largest[1]
            and -(-width // 16) * -(-height // 16) <= self.macroblocks
        )


class Capabilities(Mapping[tuple[str, int, int], Capability]):
    """By libav's name of the codec, chroma (420, 422, 444) and depth in bits. Asked once each: every question makes a
    CUDA context. Raises DeviceMissing where the card cannot be asked."""

    def __init__(self, gpu: int) -> None:
        self._gpu = gpu
        self._lock = threading.Lock()
        self._known: dict[tuple[str, int, int], Capability] = {}

    def __getitem__(self, of: tuple[str, int, int]) -> Capability:
        codec, chroma, depth = of
        if codec not in CODECS or chroma not in _CHROMA or depth not in _DEPTHS:
            raise KeyError(of)
        with self._lock:
            if of not in self._known:
                self._known[of] = _ask(self._gpu, codec, chroma, depth)
            return self._known[of]

    def __iter__(self) -> Iterator[tuple[str, int, int]]:
        return ((codec, chroma, depth) for codec in CODECS for chroma in _CHROMA for depth in _DEPTHS)

    def __len__(self) -> int:
        return len(CODECS) * len(_CHROMA) * len(_DEPTHS)


@functools.cache
def capabilities(gpu: int = 0) -> Capabilities:
    """Of one card, kept for the life of the process."""
    return Capabilities(gpu)


def _ask(gpu: int, codec: str, chroma: int, depth: int) -> Capability:
    nvc = video_codec()
    format = nvc.cudaVideoChromaFormat.__members__[str(chroma)]
    try:
        said = nvc.GetDecoderCaps(gpuid=gpu, codec=_codec(codec), chromaformat=format, bitdepth=depth)
    except Exception as error:  # noqa: BLE001  the wrapper has exceptions of several families
        raise DeviceMissing(f"NVDEC of card {gpu} does not answer ({first_line(error)})") from None
    return Capability(
        supported=bool(said["supported"]),
        smallest=(said["width_min"], said["height_min"]),
        largest=(said["width_max"], said["height_max"]),
        macroblocks=said["mb_num_max"],
        engines=said["num_decoder_engines"],
    )


def _codec(name: str) -> Any:
    return video_codec().cudaVideoCodec.__members__[CODECS[name]]


# --- sessions ---------------------------------------------------------------------------------------------------


class Session:
    """One decoder of NVDEC with a stream of its own, for one thread at a time."""

    def __init__(self, card: Card, kind: Kind) -> None:
        nvc = self._library = video_codec()
        self.kind = kind
        self.lane = card.lane()
        latency = nvc.DisplayDecodeLatencyType
        self._decoder = nvc.CreateDecoder(
            gpuid=card.number,
            codec=_codec(kind.codec),
            cudacontext=0,
            cudastream=self.lane.handle,
            usedevicememory=True,
            maxwidth=kind.coded[0],
            maxheight=kind.coded[1],
            outputColorType=nvc.OutputColorType.NATIVE,
            latency=latency.LOW if kind.codec in _WITH_HIDDEN_FRAMES else latency.ZERO,
        )

    def decode(self, data: bytes, pts: int) -> list[Any]:
        """The wrapper's frames, which it overwrites at the next call."""
        bytes_there = np.frombuffer(data, np.uint8)
        packet = self._library.PacketData()
        packet.bsl_data = bytes_there.ctypes.data
        packet.bsl = bytes_there.size
        packet.pts = pts
        packet.decode_flag = _END_OF_PICTURE
        return list(self._decoder.Decode(packet))

    def end(self) -> list[Any]:
        """Frames still held back; what is sent next begins a new stream."""
        return list(self._decoder.Decode(self._library.PacketData()))


class Pool:
    """Sessions by their kind: to make one costs as much as some twenty pictures. Those longest unused are dropped."""

    def __init__(self, make: Callable[[Kind], Session], most: int = _MOST_IDLE) -> None:
        self._make = make
        self._most = most
        self._lock = threading.Lock()
        self._making = threading.Lock()
        self._idle: OrderedDict[int, Session] = OrderedDict()
        self._numbers = count()

    def lend(self, kind: Kind) -> Session:
        """One that is as new. Who does not give it back drops it: so what has raised is never used again."""
        with self._lock:
            for number in reversed(self._idle):
                if self._idle[number].kind == kind:
                    return self._idle.pop(number)
        with self._making:
            return self._make(kind)

    def give_back(self, session: Session) -> None:
        with self._lock:
            self._idle[next(self._numbers)] = session
            dropped = self._idle.popitem(last=False) if len(self._idle) > self._most else None
        del dropped  # outside the lock: to end a session takes milliseconds

    @property
    def idle(self) -> int:
        return len(self._idle)


# --- the decoder ------------------------------------------------------------------------------------------------


class NvdecDecoder:
    """Of one opening of a source. It has a session from the first packet until `drain` or `reset`.

    Frames that are not needed stay where they are; those that are needed are copied, for the wrapper gives the same
    memory to the next one. Whatever is in doubt is Unfit, so that libav does the source: an error (the wrapper prints
    most of them, and gives no frame), pictures of another size, an entry after which pictures are not whole at once.
    """

    def __init__(self, stream: VideoStream, card: Card, kind: Kind, pool: Pool) -> None:
        try:
            self._bitstream = Bitstream(stream)
        except ValueError as error:
            raise Unfit("error", str(error)) from None
        self._card = card
        self._kind = kind
        self._pool = pool
        self._hidden = kind.codec in _WITH_HIDDEN_FRAMES
        self._session: Session | None = None
        self._owed: set[int] = set()  # needed packets whose frames did not come yet
        self._held: list[tuple[int, int, Surface]] = []  # a heap by time: frames that may not be next in display order
        self._order = count()
        self._begun = 0  # PTS of the packet that it began with

    def decode(self, packet: "Packet[VideoStream]", *, needed: bool) -> Iterable[Frame]:
        data = bytes(packet)
        pts = packet.pts
        try:
            first = self._session is None
            if first and not self._bitstream.is_entry(data):
                raise Unfit("entry", "decoding begins at a picture from which NVDEC cannot be trusted to recover")
            # Before it is judged whether anything needs it: it may tell of the layers that those after it have.
            disposable = self._bitstream.is_disposable(data)
            if disposable and not needed and not first:
                return ()
            data = self._bitstream.data(data, first=first)
        except ValueError as error:
            raise Unfit("error", str(error)) from None
        if needed and pts is None:
            raise Unfit("times", "a packet does not tell when its frame is shown")
        if needed and pts is not None:
            self._owed.add(pts)
        if first:
            self._begun = pts or 0
        came = self._take(lambda session: session.decode(data, 0 if pts is None else pts), pts)
        # Of packets that are shown before the first one HEVC has some that cannot be decoded (ITU-T H.265, 8.1.3).
        if came == 0 and not self._hidden and (pts is None or pts >= self._begun):
            self._session = None
            raise Unfit("error", f"NVDEC gave no picture for the packet at {pts} ticks")
        return self._next(packet.dts)

    def drain(self) -> Iterable[Frame]:
        if self._session is not None:
            self._take(Session.end, None)
            session, self._session = self._session, None
            if self._owed:
                raise Unfit("error", f"NVDEC gave no picture for the packet at {min(self._owed)} ticks")
            self._pool.give_back(session)
        while self._held:
            yield heappop(self._held)[2]

    def reset(self) -> None:
        self._held.clear()
        self._owed.clear()
        if (session := self._session) is not None:
            self._session = None
            try:
                session.end()
            except Exception:  # noqa: BLE001  whatever it is, nobody wants its frames: it is not used again
                return
            self._pool.give_back(session)

    def _take(self, do: Callable[[Session], list[Any]], pts: int | None) -> int:
        """Lets the session do something, keeps of the frames that come those that are owed, and counts them all. `pts`:
        of the packet."""
        session, self._session = self._session, None  # it is given back only where nothing is raised
        try:
            session = session or self._pool.lend(self._kind)
            frames = do(session)
            for frame in frames:
                self._keep(session, frame, pts, len(frames))
        except Unfit:
            raise
        except Exception as error:
            if not self._card.works():
                raise CardLost(str(error)) from error
            raise Unfit("error", f"NVDEC failed ({first_line(error)})") from error
        self._session = session
        return len(frames)

    def _keep(self, session: Session, frame: Any, pts: int | None, came: int) -> None:
        if self._hidden:
            pts = int(frame.getPTS())
        elif came > 1 or pts is None:
            raise Unfit("error", "a packet gave more pictures than one: it is not told which is which")
        if frame.framesize() != self._kind.bytes or frame.GetPtrToPlane(1) - frame.GetPtrToPlane(0) != (
            self._kind.pitch * self._kind.display[1]
        ):
            raise Unfit("size", "its pictures change their size or format")
        if pts not in self._owed:
            return
        self._owed.remove(pts)
        block = session.lane.copy(frame.GetPtrToPlane(0), self._kind.bytes)
        heappush(self._held, (pts, next(self._order), Surface(pts, self._kind, session.lane, block)))

    def _next(self, until: int | None) -> Iterable[Frame]:
        """The frames that no later packet can come before: with times up to `until`, the DTS of the last one, or more
        than can be reordered. (libav lets no packet be shown before it is decoded.)"""
        while self._held and (len(self._held) > _MOST_REORDERED or (until is not None and self._held[0][0] <= until)):
            yield heappop(self._held)[2]
