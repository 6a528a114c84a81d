"""Every tile lies at its place on its sheet, no sheet is too large, and none stays in memory once it is full."""

import random
import weakref
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.errors import BadJob
from daemon.media.device import RGB
from daemon.media.geometry import Size
from daemon.media.sheet import MAX_SIDE, Grid, Sheets

BACKGROUND = (9, 8, 7)


def tile(index: int, size: Size) -> RGB:
    """A tile that says its number."""
    return np.full((size[1], size[0], 3), (index % 256, index // 256, 200), np.uint8)


def said(pixel: RGB) -> int:
    return int(pixel[0]) + 256 * int(pixel[1])


# --- the grid ---------------------------------------------------------------------------------------------------

# Tile, columns, rows and count asked for; columns and rows there are, and the size of each sheet.
GRIDS: list[tuple[Size, int, int, int, Size, list[Size]]] = [
    ((320, 180), 10, 10, 100, (10, 10), [(3200, 1800)]),
    ((320, 180), 10, 10, 101, (10, 10), [(3200, 1800), (3200, 180)]),
    ((320, 180), 10, 10, 250, (10, 10), [(3200, 1800), (3200, 1800), (3200, 900)]),
    ((320, 180), 10, 10, 91, (10, 10), [(3200, 1800)]),
    ((320, 180), 10, 10, 90, (10, 9), [(3200, 1620)]),
    ((320, 180), 10, 10, 3, (3, 1), [(960, 180)]),
    ((320, 180), 10, 10, 1, (1, 1), [(320, 180)]),
    ((320, 180), 5, 1, 12, (5, 1), [(1600, 180)] * 3),
    ((320, 180), 100, 100, 1000, (12, 22), [(3840, 3960)] * 3 + [(3840, 180 * 18)]),
    ((320, 569), 10, 10, 100, (10, 7), [(3200, 3983), (3200, 569 * 3)]),
    ((1024, 1024), 10, 10, 17, (4, 4), [(4096, 4096), (4096, 1024)]),
    ((1025, 1025), 10, 10, 10, (3, 3), [(3075, 3075), (3075, 1025)]),
    ((4096, 4096), 10, 10, 2, (1, 1), [(4096, 4096)] * 2),
    ((7680, 4320), 10, 10, 2, (1, 1), [(7680, 4320)] * 2),  # a lone tile is as large as it is
]


@pytest.mark.parametrize(("tile", "columns", "rows", "count", "fitting", "sizes"), GRIDS)
def test_grid(tile: Size, columns: int, rows: int, count: int, fitting: Size, sizes: list[Size]) -> None:
    grid = Grid.fitting(tile, columns, rows, count)
    assert (grid.columns, grid.rows) == fitting
    assert [grid.size(sheet) for sheet in range(grid.sheets)] == sizes


@pytest.mark.parametrize(
    ("index", "place"),
    [
        (0, (0, 0, 0)),
        (1, (0, 320, 0)),
        (9, (0, 2880, 0)),
        (10, (0, 0, 180)),
        (99, (0, 2880, 1620)),
        (100, (1, 0, 0)),
        (111, (1, 320, 180)),
    ],
)
def test_tiles_go_from_left_to_right_and_from_top_to_bottom(index: int, place: tuple[int, int, int]) -> None:
    assert Grid.fitting((320, 180), 10, 10, 200).place(index) == place


sides = st.integers(1, 5000)
grids = st.builds(Grid.fitting, st.tuples(sides, sides), st.integers(1, 100), st.integers(1, 100), st.integers(1, 500))


@given(grids)
def test_no_sheet_is_longer_than_its_limit(grid: Grid) -> None:
    for sheet in range(grid.sheets):
        width, height = grid.size(sheet)
        assert width <= max(MAX_SIDE, grid.tile[0])
        assert height <= max(MAX_SIDE, grid.tile[1])


@given(grids)
def test_every_tile_has_a_place_of_its_own_inside_its_sheet(grid: Grid) -> None:
    places = [grid.place(index) for index in range(grid.count)]
    assert len(set(places)) == grid.count
    assert all((one[0], one[2], one[1]) < (other[0], other[2], other[1]) for one, other in pairwise(places))
    for sheet, x, y in places:
        width, height = grid.size(sheet)
        assert x % grid.tile[0] == y % grid.tile[1] == 0
        assert x + grid.tile[0] <= width
        assert y + grid.tile[1] <= height


@given(grids)
def test_sheets_hold_all_tiles_and_are_full_but_for_the_last(grid: Grid) -> None:
    held = [grid.tiles_on(sheet) for sheet in range(grid.sheets)]
    assert sum(held) == grid.count
    assert all(count == grid.per_sheet for count in held[:-1])
    assert 0 < held[-1] <= grid.per_sheet


@given(grids)
def test_padded_sheets_are_all_of_one_size(grid: Grid) -> None:
    padded = Grid(grid.tile, grid.columns, grid.rows, grid.count, padded=True)
    sizes = {padded.size(sheet) for sheet in range(padded.sheets)}
    assert sizes == {(grid.columns * grid.tile[0], grid.rows * grid.tile[1])}
    assert grid.size(0) == padded.size(0)  # no row is there for nothing
    assert [padded.place(index) for index in range(grid.count)] == [grid.place(index) for index in range(grid.count)]


def test_a_whole_grid_is_as_it_was_asked_for() -> None:
    for count in (1, 99, 101):
        grid = Grid.whole((320, 180), 10, 30, count)
        assert (grid.columns, grid.rows, grid.size(0)) == (10, 30, (3200, 5400))
        assert grid.size(grid.sheets - 1) == (3200, 5400)


@pytest.mark.parametrize(
    ("tile", "columns", "rows", "size"),
    [((4096, 16), 16, 1, "65536x16"), ((16, 3000), 1, 22, "16x66000"), ((1000, 1000), 10, 7, "10000x7000")],
)
def test_a_whole_grid_that_no_jpeg_holds_is_refused(tile: Size, columns: int, rows: int, size: str) -> None:
    with pytest.raises(BadJob, match=f"{size}, more than a JPEG may have"):
        Grid.whole(tile, columns, rows, 1)


# --- the sheets -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
@pytest.mark.parametrize(("columns", "rows", "count"), [(3, 2, 6), (3, 2, 7), (3, 2, 17), (1, 1, 3), (4, 4, 2)])
def test_every_tile_is_where_its_place_says(columns: int, rows: int, count: int, order: str) -> None:
    grid = Grid.fitting((6, 4), columns, rows, count)
    sheets = Sheets(grid, BACKGROUND)
    indexes = list(range(count))
    if order == "descending":
        indexes.reverse()
    if order == "shuffled":
        random.Random(1).shuffle(indexes)
    full: dict[int, RGB] = {}
    for index in indexes:
        if made := sheets.put(index, tile(index, grid.tile)):
            assert made[0] not in full
            full[made[0]] = made[1]
    assert sorted(full) == list(range(grid.sheets))
    assert [(sheet.shape[1], sheet.shape[0]) for _, sheet in sorted(full.items())] == [*map(grid.size, sorted(full))]
    for index in range(count):
        sheet, x, y = grid.place(index)
        laid = full[sheet][y : y + 4, x : x + 6]
        assert np.array_equal(laid, tile(index, grid.tile)), index


def test_a_sheet_is_made_with_its_last_tile_whichever_that_is() -> None:
    sheets = Sheets(Grid.fitting((2, 2), 2, 2, 6), BACKGROUND)
    made = [sheets.put(index, tile(index, (2, 2))) for index in (3, 5, 0, 1, 4, 2)]
    assert [None if one is None else one[0] for one in made] == [None, None, None, None, 1, 0]


def test_what_no_tile_covers_is_background() -> None:
    grid = Grid.fitting((6, 4), 3, 2, 8)
    sheets = Sheets(grid, BACKGROUND)
    last = [made for index in range(8) if (made := sheets.put(index, tile(index, grid.tile)))][-1][1]
    assert last.shape == (4, 18, 3)
    assert np.array_equal(last[:, 12:], np.broadcast_to(np.array(BACKGROUND, np.uint8), (4, 6, 3)))


def test_a_padded_sheet_is_background_below_its_tiles() -> None:
    grid = Grid.fitting((6, 4), 2, 2, 5, padded=True)
    sheets = Sheets(grid, BACKGROUND)
    last = [made for index in range(5) if (made := sheets.put(index, tile(index, grid.tile)))][-1][1]
    assert last.shape == (8, 12, 3)
    assert said(last[0, 0]) == 4
    assert (last[4:] == np.array(BACKGROUND)).all() and (last[:, 6:] == np.array(BACKGROUND)).all()


def test_a_tile_is_copied() -> None:
    sheets = Sheets(Grid.fitting((2, 2), 2, 1, 2), BACKGROUND)
    one = tile(1, (2, 2))
    sheets.put(0, one)
    one[:] = 0
    made = sheets.put(1, tile(2, (2, 2)))
    assert made is not None
    assert said(made[1][0, 0]) == 1


def test_a_full_sheet_is_dropped() -> None:
    grid = Grid.fitting((2, 2), 2, 1, 100)
    sheets = Sheets(grid, BACKGROUND)
    seen: list[weakref.ref[RGB]] = []
    for index in range(100):
        if made := sheets.put(index, tile(index, (2, 2))):
            seen.append(weakref.ref(made[1]))
        del made
        assert all(sheet() is None for sheet in seen)
    assert len(seen) == 50
