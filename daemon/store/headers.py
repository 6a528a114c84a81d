"""What a picture's own bytes say of its format and size, read without decoding anything.

The supervisor looks at every picture that a worker hands over, and never gives hostile bytes to an image library.
"""

import struct

from daemon.media.geometry import Size


def picture_header(data: bytes) -> tuple[str, Size] | None:
    """(format, (width, height)) of WebP, JPEG, PNG or AVIF, None for anything else or a header cut short."""
    try:
        if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR":
            return "png", struct.unpack(">II", data[16:24])
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
        if data[:2] == b"\xff\xd8":
            return _jpeg(data)
        if data[4:12] in (b"ftypavif", b"ftypavis"):
            return _avif(data)
    except (struct.error, IndexError):
        return None
    return None


def _webp(data: bytes) -> tuple[str, Size] | None:
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


def _jpeg(data: bytes) -> tuple[str, Size] | None:
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


def _avif(data: bytes) -> tuple[str, Size] | None:
    # ISO/IEC 23008-12, 6.5.3: the image spatial extents property.
    place = data.find(b"ispe", 0, 4096)
    if place < 0:
        return None
    width, height = struct.unpack(">II", data[place + 8 : place + 16])
    return "avif", (width, height)
