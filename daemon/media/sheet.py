"""Tiles to sheets. A sheet is in memory only between its first tile and its last."""

from dataclasses import dataclass
from math import ceil

import numpy as np

from daemon.errors import BadJob
from daemon.media.device import RGB
from daemon.media.encode import MAX_SIDE as MAX_PICTURE_SIDE
from daemon.media.geometry import MAX_PIXELS, Size

MAX_SIDE = 4096  # MediaConvert refuses taller ones; WebP ends at 16383


@dataclass(frozen=True)
class Grid:
    """How `count` tiles of `tile` size lie on sheets: left to right, top to bottom. The last sheet is cut to its rows,
    unless they are `padded`: then all sheets are of one size."""

    tile: Size
    columns: int
    rows: int
    count: int
    padded: bool = False

    @classmethod
    def fitting(cls, tile: Size, columns: int, rows: int, count: int, padded: bool = False) -> "Grid":
        """At most `columns` x `rows` tiles a sheet: fewer where a side would be longer than 4096 pixels, or where
        there are fewer tiles."""
        across = max(1, min(columns, MAX_SIDE // tile[0], count))
        down = max(1, min(rows, MAX_SIDE // tile[1], ceil(count / across)))
        return cls(tile, across, down, count, padded)

    @classmethod
    def whole(cls, tile: Size, columns: int, rows: int, count: int) -> "Grid":
        """Just `columns` x `rows` tiles a sheet, for readers that are not told how many there are. Raises BadJob where
        a JPEG could not hold them."""
        width, height = columns * tile[0], rows * tile[1]
        if max(width, height) > MAX_PICTURE_SIDE["jpeg"] or width * height > MAX_PIXELS:
            raise BadJob(
                f"sheets of {columns}x{rows} tiles of {tile[0]}x{tile[1]} would be {width}x{height}, more than a JPEG "
                "may have (65500 pixels a side, 64 megapixels): give fewer columns or rows, or a smaller width"
            )
        return cls(tile, columns, rows, count, padded=True)

    @property
    def per_sheet(self) -> int:
        return self.columns * self.rows

    @property
    def sheets(self) -> int:
        return ceil(self.count / self.per_sheet)

    def tiles_on(self, sheet: int) -> int:
        return min(self.per_sheet, self.count - sheet * self.per_sheet)

    def size(self, sheet: int) -> Size:
        """(width, height) of a sheet in pixels."""
        rows = self.rows if self.padded else ceil(self.tiles_on(sheet) / self.columns)
        return self.columns * self.tile[0], rows * self.tile[1]

    def place(self, index: int) -> tuple[int, int, int]:
        """Sheet number, x and y of the tile's upper left corner in pixels."""
        sheet, within = divmod(index, self.per_sheet)
        row, column = divmod(within, self.columns)
        return sheet, column * self.tile[0], row * self.tile[1]


class Sheets:
    """The sheets that are being filled. Not thread-safe: the caller holds its lock."""

    def __init__(self, grid: Grid, background: tuple[int, int, int]) -> None:
        self._grid = grid
        self._background = np.array(background, np.uint8)
        self._open: dict[int, RGB] = {}
        self._missing: dict[int, int] = {}

    def put(self, index: int, tile: RGB) -> tuple[int, RGB] | None:
        """Lays a tile on its sheet; the sheet's number and the sheet when this was its last one."""
        sheet, x, y = self._grid.place(index)
        if sheet not in self._open:
            width, height = self._grid.size(sheet)
            self._open[sheet] = np.broadcast_to(self._background, (height, width, 3)).copy()
            self._missing[sheet] = self._grid.tiles_on(sheet)
        self._open[sheet][y : y + tile.shape[0], x : x + tile.shape[1]] = tile
        self._missing[sheet] -= 1
        if self._missing[sheet]:
            return None
        del self._missing[sheet]
        return sheet, self._open.pop(sheet)
