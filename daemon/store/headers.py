"""What a picture's own bytes say of its format and size, read without decoding anything.

The supervisor looks at every picture that a worker hands over, and never gives hostile bytes to an image library.
"""

import struct
from mmap import mmap

from daemon.media.geometry import Size

Data = bytes | mmap


def picture_header(data: Data) -> tuple[str, Size] | None:
    """(format, (width, height)) of WebP, JPEG, PNG, AVIF, GIF, or MP4 whose index comes first; None for anything else
    or a header cut short."""
    try:
        if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR":
            return "png", struct.unpack(">II", data[16:24])
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
        if data[:6] in (b"GIF87a", b"GIF89a"):
            width, height = struct.unpack("<HH", data[6:10])
            return ("gif", (width, height)) if width and height else None
        if data[:2] == b"\xff\xd8":
            return _jpeg(data)
        if data[4:12] in (b"ftypavif", b"ftypavis"):
            return _avif(data)
        if data[4:8] == b"ftyp":
            return _mp4(data)
    except (struct.error, IndexError):
        return None
    return None


def gif_is_whole(data: Data) -> bool:
    """Whether a GIF ends where a block ends. Decoders say nothing of one that was cut short."""
    # GIF89a, appendices A and B: a screen with its colours, then blocks of one byte and sub-blocks of a byte's length.
    try:
        at = 13 + _gif_colours(data[10])
        while at < len(data) and data[at] != 0x3B:
            if data[at] == 0x2C:
                at += 11 + _gif_colours(data[at + 9])
            elif data[at] == 0x21:
                at += 2
            else:
                return False
            while data[at]:
                at += 1 + data[at]
            at += 1
    except IndexError:
        return False
    return at <= len(data)


def _gif_colours(flags: int) -> int:
    """Bytes of the table of colours that flags speak of."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _webp(data: Data) -> tuple[str, Size] | None:
    # RFC 9649: VP8 key frame header, VP8L header, or the canvas of VP8X.
    if len(data) < 30:
        return None
    match data[12:16]:
        case b"VP8 ":
            width, height = struct.unpack("<HH", data[26:30])
            return "webp", (width & 0x3FFF, height & 0x3FFF)
        case b"VP8L":
            bits = struct.unpack("<I", data[21:25])[0]
            return "webp", ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
        case b"VP8X":
            return "webp", (int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1)
    return None


def _jpeg(data: Data) -> tuple[str, Size] | None:
    # ITU-T T.81, B.2.2: walk the segments to the frame header (SOF0 to SOF15 without DHT, JPG and DAC).
    position = 2
    while data[position] == 0xFF:
        marker, length = data[position + 1], struct.unpack(">H", data[position + 2 : position + 4])[0]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
            return "jpeg", (width, height)
        if length < 2:
            return None
        position += 2 + length
    return None


def _avif(data: Data) -> tuple[str, Size] | None:
    # ISO/IEC 23008-12, 6.5.3: the image spatial extents property.
    place = data.find(b"ispe", 0, 4096)
    if place < 0:
        return None
    width, height = struct.unpack(">II", data[place + 8 : place + 16])
    return "avif", (width, height)


def _mp4(data: Data) -> tuple[str, Size] | None:
    # ISO/IEC 14496-12, 8.3.2: ftyp, right after it moov, in which mvhd comes first and then the track of the pictures;
    # its tkhd ends with width and height as 16.16 fixed point numbers.
    movie = _box(data, _box(data, 0, b"ftyp")[1], b"moov")
    track = _box(data, _box(data, movie[0], b"mvhd")[1], b"trak")
    start, end = _box(data, track[0], b"tkhd")
    if end > track[1] or track[1] > movie[1] or end - start not in (84, 96):
        return None
    width, height = struct.unpack(">II", data[end - 8 : end])
    return "mp4", (width >> 16, height >> 16)


def _box(data: Data, at: int, kind: bytes) -> tuple[int, int]:
    """Where the content of the box that lies there begins and ends. Raises IndexError where it is of another kind."""
    size = struct.unpack(">I", data[at : at + 4])[0]
    if data[at + 4 : at + 8] != kind or size < 8:
        raise IndexError(kind)
    return at + 8, at + size
