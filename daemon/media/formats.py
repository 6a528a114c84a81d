"""Which files libavformat is let open, and what is said of those that it cannot."""

from collections.abc import Iterator
from typing import Any

import av
from av.container import InputContainer

from daemon.media.source import Opening, Source

# Demuxers for files that hold their own data. Never hls, dash, concat, sdp, image2, mlv: those follow names elsewhere.
_CONTAINERS = (
    *("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpegts", "mpeg", "flv", "live_flv", "ogg", "asf", "mxf"),
    *("gif", "apng", "wtv", "rm", "ivf", "nut", "dv", "swf", "nsv", "gxf", "yuv4mpegpipe"),
    *("roq", "film_cpk", "smjpeg", "flic", "smk", "bink"),
)
# Elementary streams: their times are made up by libavformat.
RAW = (
    *("h264", "hevc", "vvc", "m4v", "mpegvideo", "mjpeg", "h261", "h263", "vc1", "dnxhd", "cavsvideo", "obu", "av1"),
    *("dirac",),
)
STILLS = (
    *("jpeg_pipe", "png_pipe", "bmp_pipe", "tiff_pipe", "j2k_pipe", "jpegls_pipe", "qoi_pipe", "psd_pipe"),
    *("ppm_pipe", "pgm_pipe", "pbm_pipe", "pam_pipe", "pcx_pipe", "sgi_pipe", "dpx_pipe", "exr_pipe", "hdr_pipe"),
)
# For their covers.
_SOUND = ("mp3", "flac", "wav", "w64", "aiff", "aac", "ape", "tta", "wv", "mpc", "mpc8", "tak", "dsf")
# These hold one time for each packet. For codecs that reorder libavformat makes presentation times of them, and where
# it does not know how far they reorder it leaves them in decode order.
ONE_TIME = ("avi", "asf", "mxf")
_FORMATS = (*_CONTAINERS, *RAW, *STILLS, *_SOUND)
_OPTIONS = {"format_whitelist": ",".join(_FORMATS), "protocol_whitelist": "none"}
# Titles may be of any encoding. PyAV 19 takes them as they are.
_TEXTS: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")
_MANY_BOXES = 4096


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


def boxes(source: Source) -> Iterator[tuple[bytes, int]]:
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


def why_unreadable(source: Source, error: Exception) -> str:
    """What is wrong with a file that no demuxer opens, and what to do."""
    if is_boxed(source):
        found = list(boxes(source))
        missing = max((end for _, end in found), default=0) - source.size
        if missing > 0:
            return f"the file is cut off, {missing} bytes are missing at its end: copy it again, whole"
        if all(kind != b"moov" for kind, _ in found):
            return "the file is cut off, its index (moov) is missing: copy it again, whole"
    return f"no container that we can read ({plain(error)}): give a whole video file"


def plain(error: Exception) -> str:
    """What libav says, without the names of our own objects."""
    return str(getattr(error, "strerror", None) or type(error).__name__)
