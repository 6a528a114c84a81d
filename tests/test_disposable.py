"""Packets that are not sent: whatever is left out, all other pictures stay as they are, to the last sample.

libav decodes each clip whole, and once more without what is called disposable. Its own NONREF is the other measure, but
for HEVC with temporal layers, where it leaves out pictures that others refer to, and for AV1, where it also leaves out
frames that share a packet with others.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path

import av
import clips
import pytest
from clips import ENCODERS, RECIPES, SVT, X265, Recipe

from daemon.media import av1, disposable, nal
from daemon.media.bitstream import Bitstream

BY_NAME = {recipe.name: recipe for recipe in RECIPES}
make = functools.cache(clips.make)
_PARAMETERS = dict(ENCODERS[X265])["x265-params"]
LAYERS = tuple(
    Recipe(f"hevc-layers-{count}", "mp4", ".mp4", X265, bframes=3, options=(("x265-params", f"{_PARAMETERS}:{said}"),))
    for count, said in ((2, "temporal-layers=2:b-adapt=0:bframes=3"), (3, "temporal-layers=3:b-adapt=0:bframes=3"))
)


def packets_of(path: Path, keep: Callable[[Bitstream, bytes], bool]) -> tuple[dict[int | None, str], set[int | None]]:
    """A digest of each picture by its time, of the packets that are kept; and the times of those that are not."""
    digests: dict[int | None, str] = {}
    left_out: set[int | None] = set()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        bitstream = Bitstream(stream)
        for packet in container.demux(stream):
            if packet.size and not keep(bitstream, bytes(packet)):
                left_out.add(packet.pts)
                continue
            for frame in stream.decode(packet):
                digests[frame.pts] = hashlib.sha1(frame.to_ndarray().tobytes()).hexdigest()
    return digests, left_out


def nonref_of(path: Path) -> set[int | None]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.skip_frame = "NONREF"
        return {frame.pts for frame in container.decode(stream)}


ORDINARY = {
    "h264": True,
    "h264-nonref-b": True,
    "h264-no-b": False,
    "h264-ts": True,
    "h264-open-gop-mkv": True,
    "hevc": True,
    "hevc-open-gop-ts": True,
    "mpeg2-mkv": True,
    "mpeg1-ps": True,
    "vp9": False,
    "vp9-alt-ref": False,
    "vp8": False,
    "av1": True,
}


@pytest.mark.parametrize("name", ORDINARY)
def test_others_are_not_changed(name: str, clip_folder: Path) -> None:
    path = make(BY_NAME[name], clip_folder).path
    whole, _ = packets_of(path, lambda *_: True)
    rest, left_out = packets_of(path, lambda bitstream, packet: not bitstream.is_disposable(packet))
    assert rest == {pts: digest for pts, digest in whole.items() if pts not in left_out}
    assert bool(left_out) == ORDINARY[name]


@pytest.mark.parametrize("name", [name for name, some in ORDINARY.items() if some and name != "av1"])
def test_it_is_what_libav_calls_nonref(name: str, clip_folder: Path) -> None:
    path = make(BY_NAME[name], clip_folder).path
    whole, _ = packets_of(path, lambda *_: True)
    _, left_out = packets_of(path, lambda bitstream, packet: not bitstream.is_disposable(packet))
    assert left_out & whole.keys() == whole.keys() - nonref_of(path)


@pytest.mark.parametrize("recipe", LAYERS, ids=lambda recipe: recipe.name)
def test_temporal_layers(recipe: Recipe, clip_folder: Path) -> None:
    path = make(recipe, clip_folder).path
    whole, _ = packets_of(path, lambda *_: True)
    with av.open(str(path)) as container:
        bitstream = Bitstream(container.streams.video[0])
        sets = bytes(container.streams.video[0].codec_context.extradata or b"")
        length = nal.framing_of("hevc", sets).length
        layers = {
            (unit[1] & 7) - 1
            for packet in container.demux(video=0)
            for unit in nal.units(bytes(packet), length)
            if unit[0] >> 1 & 63 < 32
        }
    assert len(layers) >= 2
    assert bitstream._highest >= max(layers)
    rest, left_out = packets_of(path, lambda bitstream, packet: not bitstream.is_disposable(packet))
    assert rest == {pts: digest for pts, digest in whole.items() if pts not in left_out}


# Each frame in a packet of its own, in layers; and pyramids, whose hidden frames share packets with those shown.
AV1 = {
    "av1-layers": ("pred-struct=1:hierarchical-levels=3", True),
    "av1-few-layers": ("pred-struct=1:hierarchical-levels=2", True),
    "av1-pyramid": ("hierarchical-levels=4", False),
}


@pytest.mark.parametrize("container", ["mp4", "matroska", "ivf"])
@pytest.mark.parametrize("name", AV1)
def test_frames_of_av1(name: str, container: str, clip_folder: Path) -> None:
    """libdav1d leaves the frames out to which nothing refers, where it is told so when it is opened."""
    said, all_alone = AV1[name]
    options = (("svtav1-params", f"lp=1:{said}"),)
    suffix = {"matroska": ".mkv"}.get(container, f".{container}")
    path = make(Recipe(f"{name}-{container}", container, suffix, SVT, options=options), clip_folder).path
    whole, _ = packets_of(path, lambda *_: True)
    rest, left_out = packets_of(path, lambda bitstream, packet: not bitstream.is_disposable(packet))
    assert rest == {pts: digest for pts, digest in whole.items() if pts not in left_out}
    unreferred = whole.keys() - nonref_of(path)
    assert left_out and left_out <= unreferred
    assert (left_out == unreferred) is all_alone


class Written:
    """Bits, the highest first."""

    def __init__(self) -> None:
        self.bits = ""

    def put(self, value: int, count: int = 1) -> Written:
        self.bits += f"{value:0{count}b}"
        return self

    def obu(self, kind: int, layers: int | None = None) -> bytes:
        bits = self.bits + "1"
        payload = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8))
        head = bytes([kind << 3 | 2]) if layers is None else bytes([kind << 3 | 6, layers << 3])
        return head + bytes([len(payload)]) + payload


def timed_sequence(equal: bool, numbered: bool = False) -> bytes:
    """With times, a decoder model and two operating points: that of all layers, and the lowest temporal one."""
    bits = Written().put(0, 5).put(1).put(1, 32).put(25, 32).put(equal)
    if equal:
        bits.put(0b00101, 5)  # uvlc of 4
    bits.put(1).put(9, 5).put(1, 32).put(6, 5).put(4, 5).put(1).put(1, 5)
    for layers in (0x103, 0x101):
        bits.put(layers, 12).put(9, 5).put(0).put(1).put(0, 2 * 10 + 1).put(1).put(3, 4)
    bits.put(8, 4).put(7, 4).put(319, 9).put(179, 8).put(numbered)
    if numbered:
        bits.put(0, 7)
    bits.put(0, 3).put(0, 4).put(1).put(0, 2).put(1).put(1).put(6, 3)
    return bits.obu(1)


def timed_frame(equal: bool, temporal: int, refresh: int, kind: int = 1) -> bytes:
    """A shown frame that says when it leaves the buffer of each operating point that it belongs to."""
    bits = Written().put(0).put(kind, 2).put(1)
    if not equal:
        bits.put(0, 5)
    bits.put(0).put(0).put(1).put(0).put(0).put(33, 7)  # with screen content tools, and their own vectors
    if kind == 1:
        bits.put(0, 3)
    bits.put(1).put(1, 7)
    if temporal == 0:
        bits.put(1, 7)
    return bits.put(refresh, 8).put(0xFF, 8).obu(6, temporal << 2)


@pytest.mark.parametrize("temporal", [0, 1])
@pytest.mark.parametrize("equal", [False, True])
def test_headers_with_all_that_they_may_have(equal: bool, temporal: int) -> None:
    sequence = av1.sequence_of(timed_sequence(equal))
    assert sequence is not None and av1.sequence_of(timed_frame(equal, 0, 0)) is None
    assert sequence.order_hint_bits == 7
    for kind in (1, 2):
        none, some = (timed_frame(equal, temporal, refresh, kind) for refresh in (0, 16))
        assert av1.is_disposable(none, sequence)
        assert not av1.is_disposable(some, sequence)
        assert not av1.is_disposable(none + some, sequence), "one of two frames"
        assert not av1.is_disposable(timed_sequence(equal) + none, sequence), "it begins a sequence"
    assert not av1.is_disposable(timed_frame(equal, temporal, 0, 3), sequence), "a switch frame refreshes all"
    assert not av1.is_disposable(Written().put(1).put(3, 3).obu(3), sequence), "it shows an earlier frame"
    assert not av1.is_disposable(Written().obu(2), sequence), "no frame at all"
    numbered = av1.sequence_of(timed_sequence(equal, numbered=True))
    assert numbered is not None and not av1.is_disposable(none, numbered), "none of the numbers may be missing"


@pytest.mark.parametrize(
    "data", [b"\x32\x09abc", b"\x32", b"\x36", b"\x32\xff\xff", b"\x32" + b"\xff" * 9, b"\x32\x01\x30"]
)
def test_damaged_units_of_av1(data: bytes) -> None:
    sequence = av1.sequence_of(timed_sequence(True))
    assert sequence is not None
    with pytest.raises(ValueError, match=r"shorter than its units|cut off|longer than may be"):
        av1.is_disposable(data, sequence)


def test_types_of_units() -> None:
    slice_, reference, sei = b"\x01x", b"\x61x", b"\x06x"
    assert disposable.h264(iter([sei, slice_, slice_]))
    assert not disposable.h264(iter([slice_, reference]))
    assert not disposable.h264(iter([sei]))
    trail_n, trail_r = (bytes([kind << 1, 2, 0]) for kind in (0, 1))  # TemporalId 1
    assert disposable.hevc(iter([trail_n]), 1)
    assert not disposable.hevc(iter([trail_n]), 2), "one of a higher sub-layer may refer to it"
    assert not disposable.hevc(iter([trail_n, trail_r]), 1)
    assert not disposable.hevc(iter([bytes([35 << 1, 2, 0])]), 1), "no picture at all"


# --- NAL units ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["h264", "h264-flv", "h264-open-gop-mkv", "hevc", "hevc-open-gop-mkv"])
def test_start_codes_are_as_libav_puts_them(name: str, clip_folder: Path) -> None:
    """The same units; but that libav repeats the parameter sets before pictures of its own choice."""
    path = make(BY_NAME[name], clip_folder).path
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        codec = stream.codec_context.codec.canonical_name
        bitstream = Bitstream(stream)
        rewrite = av.bitstream.BitStreamFilterContext(f"{codec}_mp4toannexb", stream)
        for packet in container.demux(stream):
            if packet.size:
                ours = bitstream.data(bytes(packet), first=packet.is_keyframe)
                (theirs,) = rewrite.filter(packet)
                one, other = (
                    [unit.rstrip(b"\0") for unit in nal.units(data, None) if not _is_set(codec, unit)]
                    for data in (ours, bytes(theirs))
                )
                assert one == other
                if packet.is_keyframe:
                    assert sum(_is_set(codec, unit) for unit in nal.units(ours, None)) >= 2


def _is_set(codec: str, unit: bytes) -> bool:
    return unit[0] & 31 in (7, 8) if codec == "h264" else unit[0] >> 1 & 63 in (32, 33, 34)


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("h264", "all"),
        ("h264-open-gop", "all"),
        ("h264-refresh", "some"),
        ("hevc-open-gop", "all"),
        ("mpeg2-ts", "all"),
    ],
)
def test_where_decoding_may_begin(name: str, entries: str, clip_folder: Path) -> None:
    path = make(BY_NAME[name], clip_folder).path
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        bitstream = Bitstream(stream)
        keys = [bitstream.is_entry(bytes(packet)) for packet in container.demux(stream) if packet.is_keyframe]
    assert len(keys) >= 2
    assert all(keys) if entries == "all" else not all(keys)


@pytest.mark.parametrize(
    ("codec", "extradata"),
    [
        ("h264", b"\x01\x64\x00\x1e\xff\xe1\x00\x09abc"),
        ("h264", b"\x01\x64"),
        ("hevc", b"\x01" + bytes(21) + b"\x01\x20"),
    ],
)
def test_damaged_parameter_sets(codec: str, extradata: bytes) -> None:
    with pytest.raises(ValueError, match="cut off"):
        nal.framing_of(codec, extradata)


def test_damaged_lengths() -> None:
    with pytest.raises(ValueError, match="shorter than its units"):
        list(nal.units(b"\0\0\0\x09abc", 4))
    assert nal.with_start_codes(b"\0\0\0\x02ab\0\0\0\0\0\0\0\x01c", 4) == b"\0\0\1ab\0\0\1c"
