"""A picture is as large as was asked for: in its box, in its shape, not larger than the source unless told so."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from daemon.errors import BadJob
from daemon.fields import Fit
from daemon.media.geometry import MAX_PIXELS, Layout, Size, display_size, fit_into, lay_out
from daemon.outputs import Picture

# --- the size of a video ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("coded", "aspect", "swapped", "display"),
    [
        ((1920, 1080), None, False, (1920, 1080)),
        ((1920, 1080), "1", False, (1920, 1080)),
        ((1920, 1080), "0", False, (1920, 1080)),  # unknown
        ((1920, 1080), None, True, (1080, 1920)),
        ((1920, 1080), None, True, (1080, 1920)),
        ((1920, 1080), None, False, (1920, 1080)),
        ((1920, 1080), None, True, (1080, 1920)),
        ((720, 576), "64/45", False, (1024, 576)),  # PAL, 16:9
        ((720, 576), "16/15", False, (768, 576)),  # PAL, 4:3
        ((720, 480), "8/9", False, (640, 480)),  # NTSC, 4:3
        ((1440, 1080), "4/3", False, (1920, 1080)),  # HDV
        ((1440, 1080), "4/3", True, (1080, 1920)),  # pixels are made square first, then it is turned
        ((321, 181), None, False, (321, 181)),
        ((321, 181), "4/3", False, (428, 181)),
        ((1, 1), None, False, (1, 1)),
        ((1, 1), "1/100", False, (1, 1)),
        ((320, 180), "1/1000", False, (320, 180)),  # nonsense
        ((320, 180), "1000", False, (320, 180)),
        ((320, 180), "-1", False, (320, 180)),
    ],
)
def test_display_size(coded: Size, aspect: str | None, swapped: bool, display: Size) -> None:
    assert display_size(coded, None if aspect is None else Fraction(aspect), swapped) == display


# --- the size of a picture --------------------------------------------------------------------------------------

HD, TALL, SMALL, ODD, DOT = (1920, 1080), (1080, 1920), (160, 90), (321, 181), (1, 1)
Asked = dict[str, Any]


def box(width: int | None, height: int | None, fit: Fit = "inside", **keys: Any) -> Asked:
    return {"width": width, "height": height, "fit": fit, **keys}


def up(width: int | None, height: int | None, fit: Fit = "inside") -> Asked:
    return box(width, height, fit, upscale=True)


# What is asked, the display size, the picture's size, and what the whole frame is scaled to where that is another.
LAYOUTS: list[tuple[Asked, Size, Size, Size | None]] = [
    ({}, HD, HD, None),
    ({}, ODD, ODD, None),
    ({}, DOT, DOT, None),
    ({"upscale": True}, SMALL, SMALL, None),
    # One side alone keeps the aspect.
    (box(320, None), HD, (320, 180), None),
    (box(None, 180), HD, (320, 180), None),
    (box(320, None), TALL, (320, 569), None),
    (box(None, 180), TALL, (101, 180), None),
    (box(320, None), ODD, (320, 180), None),
    (box(320, None), SMALL, SMALL, None),
    (up(320, None), SMALL, (320, 180), None),
    (up(None, 180), SMALL, (320, 180), None),
    (box(1, None), HD, (1, 1), None),
    (box(10, None), (10_000, 1), (10, 1), None),
    # The short side.
    ({"short_side": 180}, HD, (320, 180), None),
    ({"short_side": 180}, TALL, (180, 320), None),
    ({"short_side": 180}, (500, 500), (180, 180), None),
    ({"short_side": 180}, SMALL, SMALL, None),
    ({"short_side": 180, "upscale": True}, SMALL, (320, 180), None),
    ({"short_side": 5, "upscale": True}, DOT, (5, 5), None),
    # inside: the largest that fits.
    (box(320, 180), HD, (320, 180), None),
    (box(320, 320), HD, (320, 180), None),
    (box(320, 100), HD, (178, 100), None),
    (box(320, 180), TALL, (101, 180), None),
    (box(320, 180), (720, 577), (225, 180), None),
    (box(4000, 4000), HD, HD, None),
    (up(4000, 4000), HD, (4000, 2250), None),
    (box(4000, 100), SMALL, SMALL, None),
    (up(4000, 100), SMALL, (178, 100), None),
    (box(1, 1), HD, DOT, None),
    (up(4096, 10), DOT, (10, 10), None),
    (box(320, 180), ODD, (319, 180), None),
    # cover: fills the box, what hangs over is cut; the box shrinks, in its shape, rather than the picture grow.
    (box(320, 180, "cover"), HD, (320, 180), None),
    (box(180, 180, "cover"), HD, (180, 180), (320, 180)),
    (box(320, 180, "cover"), TALL, (320, 180), (320, 569)),
    (box(320, 320, "cover"), SMALL, (90, 90), (160, 90)),
    (box(320, 100, "cover"), SMALL, (160, 50), (160, 90)),
    (box(320, 180, "cover"), SMALL, SMALL, None),
    (up(320, 320, "cover"), SMALL, (320, 320), (569, 320)),
    (up(320, 180, "cover"), DOT, (320, 180), (320, 320)),
    (box(320, 180, "cover"), DOT, DOT, None),
    (box(100, 100, "cover"), ODD, (100, 100), (178, 100)),
    # pad: all of the frame in exactly the box.
    (box(320, 180, "pad"), HD, (320, 180), None),
    (box(320, 320, "pad"), HD, (320, 320), (320, 180)),
    (box(320, 180, "pad"), TALL, (320, 180), (101, 180)),
    (box(320, 320, "pad"), SMALL, (320, 320), SMALL),
    (up(320, 320, "pad"), SMALL, (320, 320), (320, 180)),
    (box(320, 180, "pad"), DOT, (320, 180), DOT),
    # stretch: each side by itself.
    (box(320, 320, "stretch"), HD, (320, 320), None),
    (box(320, 320, "stretch"), SMALL, SMALL, None),
    (box(100, 320, "stretch"), SMALL, (100, 90), None),
    (up(320, 320, "stretch"), SMALL, (320, 320), None),
    (up(4096, 1, "stretch"), DOT, (4096, 1), None),
]


@pytest.mark.parametrize(
    ("asked", "display", "size", "scaled"),
    LAYOUTS,
    ids=lambda value: "-".join(f"{part}" for part in (value.values() if isinstance(value, dict) else value or [])),
)
def test_layout(asked: Asked, display: Size, size: Size, scaled: Size | None) -> None:
    assert lay_out(Picture(**asked), display) == Layout(scaled or size, size)


@pytest.mark.parametrize(
    ("cell", "display", "scaled"),
    [
        ((320, 180), HD, (320, 180)),
        ((320, 180), TALL, (101, 180)),
        ((320, 180), SMALL, (320, 180)),
        ((320, 180), (640, 480), (240, 180)),
        ((320, 180), DOT, (180, 180)),
        ((1, 1), HD, DOT),
    ],
)
def test_a_frame_of_another_size_fits_the_cell(cell: Size, display: Size, scaled: Size) -> None:
    assert fit_into(cell, display) == Layout(scaled, cell)


# --- what always holds ------------------------------------------------------------------------------------------

sides = st.one_of(st.integers(1, 4096), st.integers(1, 8))
displays = st.tuples(sides, sides)


def keeps_aspect(scaled: Size, display: Size) -> bool:
    """One side is as the other asks for, to within a pixel."""
    width, height = scaled
    across, down = Fraction(width, display[0]), Fraction(height, display[1])
    return abs(display[0] * down - width) <= 1 or abs(display[1] * across - height) <= 1


def laid(asked: Picture, display: Size) -> Layout:
    """As `lay_out`, for sizes that are not beyond measure."""
    try:
        return lay_out(asked, display)
    except BadJob:
        reject()


@given(displays, sides, sides, st.booleans())
def test_inside_never_leaves_the_box_and_touches_it(display: Size, width: int, height: int, upscale: bool) -> None:
    layout = laid(Picture(width=width, height=height, upscale=upscale), display)
    assert layout.scaled == layout.size
    assert layout.size[0] <= width
    assert layout.size[1] <= height
    assert keeps_aspect(layout.size, display)
    if upscale or width < display[0] or height < display[1]:
        assert layout.size[0] == width or layout.size[1] == height
    else:
        assert layout.size == display


@given(displays, sides, st.sampled_from(["width", "height", "short_side"]), st.booleans())
def test_one_side_alone_is_as_asked(display: Size, side: int, key: str, upscale: bool) -> None:
    layout = laid(Picture.model_validate({key: side, "upscale": upscale}), display)
    is_width = key == "width" or (key == "short_side" and display[0] <= display[1])
    which = 0 if is_width else 1
    assert layout.scaled == layout.size
    assert layout.size[which] == (side if upscale else min(side, display[which]))
    assert keeps_aspect(layout.size, display)


@given(displays, sides, sides, st.booleans())
def test_cover_fills_its_box_without_a_bare_pixel(display: Size, width: int, height: int, upscale: bool) -> None:
    layout = laid(Picture(width=width, height=height, fit="cover", upscale=upscale), display)
    assert layout.scaled[0] >= layout.size[0]
    assert layout.scaled[1] >= layout.size[1]
    assert layout.scaled[0] == layout.size[0] or layout.scaled[1] == layout.size[1]
    assert keeps_aspect(layout.scaled, display)
    assert keeps_aspect(layout.size, (width, height))
    if upscale or (width <= display[0] and height <= display[1]):
        assert layout.size == (width, height)


@given(displays, sides, sides, st.booleans())
def test_pad_is_the_box_and_holds_the_whole_frame(display: Size, width: int, height: int, upscale: bool) -> None:
    layout = laid(Picture(width=width, height=height, fit="pad", upscale=upscale), display)
    assert layout.size == (width, height)
    inside = laid(Picture(width=width, height=height, upscale=upscale), display)
    assert layout.scaled == inside.size


@given(displays, sides, sides, st.booleans())
def test_stretch_takes_each_side_by_itself(display: Size, width: int, height: int, upscale: bool) -> None:
    layout = laid(Picture(width=width, height=height, fit="stretch", upscale=upscale), display)
    limits = (4096, 4096) if upscale else display
    assert layout == Layout(layout.size, (min(width, limits[0]), min(height, limits[1])))


@given(displays, sides, sides, st.sampled_from(["inside", "cover", "pad", "stretch"]))
def test_no_frame_grows_unless_asked(display: Size, width: int, height: int, fit: Fit) -> None:
    layout = laid(Picture(width=width, height=height, fit=fit), display)
    assert layout.scaled[0] <= display[0]
    assert layout.scaled[1] <= display[1]


@given(displays, sides, sides, st.sampled_from(["inside", "cover", "pad", "stretch"]), st.booleans())
def test_no_side_is_empty(display: Size, width: int, height: int, fit: Fit, upscale: bool) -> None:
    layout = laid(Picture(width=width, height=height, fit=fit, upscale=upscale), display)
    assert min(*layout.size, *layout.scaled) >= 1


@given(displays, displays)
def test_what_fits_a_cell_touches_it_and_keeps_its_aspect(cell: Size, display: Size) -> None:
    layout = fit_into(cell, display)
    assert layout.size == cell
    assert layout.scaled[0] <= cell[0]
    assert layout.scaled[1] <= cell[1]
    assert layout.scaled[0] == cell[0] or layout.scaled[1] == cell[1]
    assert keeps_aspect(layout.scaled, display)


@given(displays, sides, sides, st.sampled_from(["inside", "cover", "pad", "stretch"]), st.booleans())
def test_a_turned_frame_in_a_turned_box_is_laid_out_turned(
    display: Size, width: int, height: int, fit: Fit, upscale: bool
) -> None:
    one = laid(Picture(width=width, height=height, fit=fit, upscale=upscale), display)
    other = laid(Picture(width=height, height=width, fit=fit, upscale=upscale), display[::-1])
    assert other == Layout(one.scaled[::-1], one.size[::-1])


def test_no_thin_source_makes_a_picture_that_fills_the_memory() -> None:
    ways: list[Asked] = [{"width": 4096}, {"short_side": 4096}, box(4096, 1, "cover")]
    for asked in ways:
        try:
            layout = lay_out(Picture(**asked, upscale=True), (2, 2000))
        except BadJob:
            continue
        assert layout.scaled[0] * layout.scaled[1] <= MAX_PIXELS, asked


@pytest.mark.parametrize(
    "look", [{"width": 4096}, {"short_side": 100}, {"width": 4096, "height": 4096, "fit": "cover"}]
)
def test_a_picture_beyond_measure_is_refused(look: dict[str, Any]) -> None:
    with pytest.raises(BadJob, match="give a smaller size"):
        lay_out(Picture(upscale=True, **look), (2, 2_000_000))
