"""What a frame's samples mean: the tags that it carries, and the rules where it carries none.

- Matrix: as tagged; without a tag BT.601 below 720 lines, else BT.709, and BT.2020 where the transfer is HDR.
- Range: as tagged; without a tag limited, but full for RGB, for `yuvj` formats, and for grey of codecs whose standard
  names no default (cameras and scanners write raw grey with all its values; H.26x, VP9 and their like say "limited").
- Primaries: as tagged; without a tag those of the picture (BT.709), and BT.2020 where the transfer is HDR.
- Transfer: PQ and HLG are HDR. All others are SDR, and SDR signals are shown as they are.

The numbers are those of ITU-T H.273.
"""

import struct
from dataclasses import dataclass
from typing import Any

from av.sidedata.sidedata import SideData, SideDataContainer, Type
from av.video.frame import VideoFrame

from kernels.colour import Matrix, untagged_matrix
from kernels.hdr import NOMINAL_PEAK, Primaries, Transfer
from kernels.reference import Siting

_MATRICES: dict[int, Matrix] = {
    1: "bt709",
    4: "fcc",
    5: "bt601",
    6: "bt601",
    7: "smpte240m",
    8: "ycgco",
    9: "bt2020",
    10: "bt2020",  # constant luminance: told in a warning
}
_PRIMARIES: dict[int, Primaries] = {
    1: "bt709",
    4: "bt470m",
    5: "bt601-625",
    6: "bt601-525",
    7: "bt601-525",
    8: "film",
    9: "bt2020",
    11: "dci-p3",
    12: "display-p3",
    22: "ebu3213",
}
_TRANSFERS: dict[int, Transfer] = {16: "pq", 18: "hlg"}
# Of the primaries' own weights (12, 13): that is what the tag says.
_DERIVED: dict[Primaries, Matrix] = {"bt709": "bt709", "bt2020": "bt2020", "bt601-525": "bt601", "bt601-625": "bt601"}
_INEXACT = {10: "BT.2020 constant luminance", 13: "constant luminance", 11: "SMPTE 2085", 14: "ICtCp", 15: "IPT-PQ-C2"}
_FULL = 2
_LIMITED = 1
# Codecs whose standard says that video without a word on its range is limited.
_SAYS_LIMITED = frozenset({"h264", "hevc", "vvc", "av1", "vp8", "vp9", "mpeg1video", "mpeg2video", "mpeg4", "prores"})
_DOLBY_VISION_TAGS = frozenset({"dvh1", "dvhe", "dva1", "dvav", "dav1"})
_LEAST_PEAK, _MOST_PEAK = 203.0, 10_000.0


@dataclass(frozen=True, slots=True)
class Colour:
    """How the samples of a frame code colour. `matrix` is None where they are R'G'B' or grey already. `peak`: the
    brightest of a PQ source in cd/m2. `siting`: where chroma stands, for devices that cannot tell by the frame.
    `warning`: where the picture cannot be right."""

    matrix: Matrix | None
    full_range: bool
    primaries: Primaries = "bt709"
    transfer: Transfer = "sdr"
    peak: float = NOMINAL_PEAK
    siting: Siting = "left"
    warning: str | None = None

    @property
    def is_srgb(self) -> bool:
        """The R'G'B' signal can be shown as it is."""
        return self.transfer == "sdr" and self.primaries == "bt709"


def colour_of(frame: VideoFrame, codec: str, codec_tag: str = "") -> Colour:
    """The colour of a decoded frame. `codec`: libav's name; `codec_tag`: the four characters in the container."""
    transfer = _TRANSFERS.get(int(frame.color_trc), "sdr")
    tagged = _PRIMARIES.get(int(frame.color_primaries))
    primaries = tagged or ("bt709" if transfer == "sdr" else "bt2020")
    format = frame.format
    if is_grey(frame) or format.is_rgb or format.has_palette or format.name.startswith("xyz"):
        matrix = None
    else:
        code = int(frame.colorspace)
        derived = _DERIVED.get(primaries) if code in (12, 13) else None
        matrix = _MATRICES.get(code) or derived or _untagged(frame, transfer)
    return Colour(
        matrix=matrix,
        full_range=_is_full(frame, codec),
        primaries=primaries,
        transfer=transfer,
        peak=_peak(frame) if transfer == "pq" else NOMINAL_PEAK,
        warning=_warning(frame, codec_tag),
    )


def is_grey(frame: VideoFrame) -> bool:
    return frame.format.name.startswith(("gray", "ya", "mono"))


def _untagged(frame: VideoFrame, transfer: Transfer) -> Matrix:
    return "bt2020" if transfer != "sdr" else untagged_matrix(frame.height)


def _is_full(frame: VideoFrame, codec: str) -> bool:
    name = frame.format.name
    if name.startswith(("yuvj", "mono")) or frame.format.has_palette or int(frame.color_range) == _FULL:
        return True
    if int(frame.color_range) == _LIMITED:
        return False
    if is_grey(frame):
        return codec not in _SAYS_LIMITED
    return frame.format.is_rgb


def _peak(frame: VideoFrame) -> float:
    """Of the content (CTA-861.3 MaxCLL), else of the display that it was mastered on (SMPTE ST 2086), else nominal."""
    found = 0.0
    for data in side_data(frame):
        if data.type is Type.CONTENT_LIGHT_LEVEL and data.buffer_size >= 8:
            # AVContentLightMetadata: MaxCLL and MaxFALL, unsigned, cd/m2.
            found = float(struct.unpack_from("=I", bytes(data))[0])
        elif data.type is Type.MASTERING_DISPLAY_METADATA and data.buffer_size >= 88 and not found:
            # AVMasteringDisplayMetadata: eight rationals of chromaticity, then least and most luminance, two flags.
            *_, most, over, _, has_luminance = struct.unpack_from("=22i", bytes(data))
            found = most / over if has_luminance and over else 0.0
    return min(max(found, _LEAST_PEAK), _MOST_PEAK) if found else NOMINAL_PEAK


def _warning(frame: VideoFrame, codec_tag: str) -> str | None:
    code = int(frame.colorspace)
    kinds = {data.type for data in side_data(frame)}
    dolby = codec_tag in _DOLBY_VISION_TAGS or Type.DOVI_METADATA in kinds or Type.DOVI_RPU_BUFFER in kinds
    if dolby and (code == 15 or int(frame.color_trc) == 2):
        return "Dolby Vision without a base layer (profile 5): its colours cannot be shown right"
    if code in _INEXACT:
        return f"its colours are coded as {_INEXACT[code]}, which is shown by the nearest matrix that we have"
    return None


def side_data(frame: VideoFrame) -> tuple[SideData, ...]:
    """What goes along with a frame, empty where PyAV does not know one of the kinds (such as EXIF)."""
    try:
        # Of PyAV 18 iteration gives the data themselves, of PyAV 19 their names.
        # A frame and its own list of them hold each other until the garbage is collected, hundreds of frames later.
        held: Any = SideDataContainer(frame)  # type: ignore[call-arg]  # not in its stubs
        return tuple(each if isinstance(each, SideData) else held[each] for each in held)
    except ValueError:
        return ()
