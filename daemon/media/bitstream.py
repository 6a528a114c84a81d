"""The packets of a stream as NVDEC wants them: what to send, what to leave out, where decoding may begin."""

from av.video.stream import VideoStream

from daemon.media import av1, disposable
from daemon.media.nal import Framing, framing_of, highest_sub_layer, is_entry, units, with_start_codes

_NAL = ("h264", "hevc")
_MPEG = ("mpeg1video", "mpeg2video")
_AV1_CONFIGURATION = 4  # bytes of av1C before its OBUs (AV1 in ISOBMFF, 2.3.3)
_MOST_SUB_LAYERS = 6  # TemporalId is at most that: of a stream that does not say, nothing of a lower one is left out


class Bitstream:
    """Of one opening of a stream. Raises ValueError where its extradata are damaged."""

    def __init__(self, stream: VideoStream) -> None:
        context = stream.codec_context
        self.codec = context.codec.canonical_name
        extradata = bytes(context.extradata or b"")
        self._framing = framing_of(self.codec, extradata) if self.codec in _NAL else Framing()
        self._highest = _MOST_SUB_LAYERS
        self._head = b""
        self._sequence: av1.Sequence | None = None
        if self.codec in _NAL:
            self._head = self._framing.parameter_sets
            self._note_sub_layers(self._head, None)
        elif self.codec == "av1" and extradata[:1] == b"\x81":
            self._head = extradata[_AV1_CONFIGURATION:]
            self._sequence = av1.sequence_of(self._head)
        elif self.codec in _MPEG:
            self._head = extradata

    def is_entry(self, packet: bytes) -> bool:
        """Whether pictures are right from this key packet on."""
        return self.codec not in _NAL or is_entry(self.codec, units(packet, self._framing.length))

    def is_disposable(self, packet: bytes) -> bool:
        """Whether no other packet needs this one."""
        match self.codec:
            case "h264":
                return disposable.h264(units(packet, self._framing.length))
            case "hevc":
                self._note_sub_layers(packet, self._framing.length)
                return disposable.hevc(units(packet, self._framing.length), self._highest)
            case "mpeg1video" | "mpeg2video":
                return disposable.mpeg(packet)
            case "av1":
                self._sequence = av1.sequence_of(packet) or self._sequence
                return self._sequence is not None and av1.is_disposable(packet, self._sequence)
        return False

    def data(self, packet: bytes, *, first: bool) -> bytes:
        """What is sent of a packet; `first`: decoding begins with it."""
        whole = with_start_codes(packet, self._framing.length) if self.codec in _NAL else packet
        return self._head + whole if first else whole

    def _note_sub_layers(self, data: bytes, length: int | None) -> None:
        if self.codec == "hevc" and (highest := highest_sub_layer(units(data, length))) is not None:
            self._highest = highest
