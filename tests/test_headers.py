"""What picture headers say is what Pillow says, and nothing that anybody sends makes reading them fail."""

import io
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from daemon.store.headers import gif_is_whole, picture_header

SIZES = [(1, 1), (2, 3), (16, 9), (255, 257), (640, 360), (4096, 2), (1, 4096)]
FORMATS: dict[str, dict[str, Any]] = {
    "webp": {"format": "WEBP"},
    "webp, lossless": {"format": "WEBP", "lossless": True},
    "webp, alpha": {"format": "WEBP", "mode": "RGBA"},
    "webp, lossless alpha": {"format": "WEBP", "mode": "RGBA", "lossless": True},
    "webp, exif": {"format": "WEBP", "exif": True},
    "jpeg": {"format": "JPEG"},
    "jpeg, grey": {"format": "JPEG", "mode": "L"},
    "jpeg, progressive": {"format": "JPEG", "progressive": True},
    "jpeg, progressive with exif": {"format": "JPEG", "progressive": True, "exif": True},
    "jpeg, with a profile": {"format": "JPEG", "icc_profile": bytes(100_000)},
    "jpeg, restart markers": {"format": "JPEG", "restart_marker_rows": 1},
    "jpeg, comment": {"format": "JPEG", "comment": b"\xff\xc0\x00\x11\x08" * 20},
    "png": {"format": "PNG"},
    "png, alpha": {"format": "PNG", "mode": "RGBA"},
    "png, palette": {"format": "PNG", "mode": "P"},
    "png, one bit": {"format": "PNG", "mode": "1"},
    "gif": {"format": "GIF", "mode": "P"},
    "avif": {"format": "AVIF"},
    "avif, alpha": {"format": "AVIF", "mode": "RGBA"},
    "avif, exif": {"format": "AVIF", "exif": True},
}


def picture(kind: str, size: tuple[int, int]) -> bytes:
    options = dict(FORMATS[kind])
    mode = options.pop("mode", "RGB")
    if options.pop("exif", False):
        exif = Image.Exif()
        exif[0x010E] = "a description, " * 50
        exif[0x0112] = 6  # turned by a quarter: the header speaks of the pixels as they are stored
        options["exif"] = exif.tobytes()
    image = Image.linear_gradient("L").resize(size).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(size))
    out = io.BytesIO()
    image.save(out, **options)
    return out.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
def test_it_says_what_pillow_says(kind: str) -> None:
    for size in SIZES:
        data = picture(kind, size)
        with Image.open(io.BytesIO(data)) as opened:
            assert opened.format is not None
            expected = opened.format.lower(), opened.size
        assert picture_header(data) == expected
        assert expected == (kind.partition(",")[0], size)


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"",
            b"\xff",
            b"\xff\xd8",
            b"\xff\xd8\xff",
            b"RIFF",
            b"RIFF\0\0\0\0WEBP",
            b"RIFF\0\0\0\0WEBPVP9 " + bytes(30),
        ),
        *(b"\x89PNG\r\n\x1a\n", b"\0\0\0\x20ftypavif", b"\0\0\0\x20ftypheic" + bytes(40), b"GIF89a" + bytes(40)),
        *(
            b"<svg/>",
            b"\xff\xd8\xff\xe0\0\0" + bytes(40),
            b"\xff\xd8\xff\xe0\0\x02\0\0",
            b"\xff\xd8" + b"\xff\xc4\0\x02" * 9,
        ),
    ],
)
def test_what_is_no_picture_has_no_header(data: bytes) -> None:
    assert picture_header(data) is None


@pytest.mark.parametrize("kind", FORMATS)
def test_no_cut_makes_another_size(kind: str) -> None:
    """A header that is cut short says nothing; where it is whole it says the same as ever."""
    data = picture(kind, (160, 90))
    for length in range(min(len(data), 3000)):
        assert picture_header(data[:length]) in (None, (kind.partition(",")[0], (160, 90)))


STARTS = [b"", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBPVP8", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\0\0\0\x20ftypavif"]


@given(st.sampled_from(STARTS), st.binary(max_size=200))
def test_nothing_makes_it_fail(start: bytes, rest: bytes) -> None:
    found = picture_header(start + rest)
    assert found is None or (found[0] in ("webp", "jpeg", "png", "avif", "gif", "mp4") and min(found[1]) >= 0)


@given(st.sampled_from(sorted(FORMATS)), st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=8))
def test_no_damage_makes_it_fail(kind: str, damage: list[tuple[int, int]]) -> None:
    data = bytearray(picture(kind, (16, 9)))
    for place, value in damage:
        data[place % len(data)] = value
    picture_header(bytes(data))


def test_a_long_header_takes_no_long_time() -> None:
    """Segments of the least length, as many as there can be in a large file."""
    assert picture_header(b"\xff\xd8" + b"\xff\xe0\0\x02" * 500_000) is None


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + kind + content


FTYP, MDAT = box(b"ftyp", b"isomisom"), box(b"mdat", bytes(9))
TKHD = box(b"tkhd", bytes(76) + struct.pack(">II", 320 << 16, 180 << 16))
LONG_TKHD = box(b"tkhd", b"\1" + bytes(87) + struct.pack(">II", 320 << 16, 180 << 16))
MVHD = box(b"mvhd", bytes(100))


@pytest.mark.parametrize(
    ("data", "there"),
    [
        (FTYP + box(b"moov", MVHD + box(b"trak", TKHD)) + MDAT, True),
        (FTYP + box(b"moov", MVHD + box(b"trak", LONG_TKHD)) + MDAT, True),
        (FTYP + MDAT + box(b"moov", MVHD + box(b"trak", TKHD)), False),
        (FTYP + box(b"free", b"") + box(b"moov", MVHD + box(b"trak", TKHD)), False),
        (FTYP + box(b"moov", MVHD) + box(b"trak", TKHD), False),
        (FTYP + box(b"moov", MVHD + box(b"trak", TKHD[:-4])) + MDAT, False),
        (FTYP + box(b"moov", box(b"trak", TKHD)) + MDAT, False),
        (FTYP, False),
        (box(b"moov", MVHD + box(b"trak", TKHD)), False),
    ],
)
def test_an_mp4_begins_with_its_index(data: bytes, there: bool) -> None:
    assert picture_header(data) == (("mp4", (320, 180)) if there else None)
    for length in range(min(len(data), len(FTYP + MVHD + TKHD))):
        assert picture_header(data[:length]) is None


def moving_gif() -> bytes:
    """Three pictures, a comment, and colours of their own."""
    pictures = [Image.linear_gradient("L").resize((60, 40 + n)).convert("P") for n in range(3)]
    out = io.BytesIO()
    pictures[0].save(out, "GIF", save_all=True, append_images=pictures[1:], comment=b"a comment" * 60, duration=50)
    return out.getvalue()


@pytest.mark.parametrize("data", [picture("gif", (60, 40)), picture("gif", (1, 1)), moving_gif()])
def test_a_gif_is_whole_only_where_all_of_it_is_there(data: bytes) -> None:
    assert gif_is_whole(data) and gif_is_whole(data + b"what comes after is not looked at")
    whole = [size for size in range(13, len(data)) if gif_is_whole(data[:size])]
    with Image.open(io.BytesIO(data)) as opened:
        frames = getattr(opened, "n_frames", 1)
    # Between two blocks, where some writers end: after the colours, extensions, and pictures.
    assert len(whole) <= 3 + 2 * frames and len(data) - 1 in whole


@given(st.binary(max_size=300))
def test_no_bytes_make_looking_at_a_gif_fail(data: bytes) -> None:
    assert gif_is_whole(b"GIF89a" + data) in (True, False)
