"""What is made of the frames: for each kind of output which instants it wants, and what becomes of their frames.

An output is fed by several threads. It counts its pictures and tells exactly once that it was made.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from fractions import Fraction

from daemon.errors import BadJob
from daemon.fields import Format, Index
from daemon.media.best import Choice
from daemon.media.bif import MAX_BIF, bif
from daemon.media.device import RGB
from daemon.media.encode import WITH_ALPHA
from daemon.media.geometry import Layout, Size, fit_into, lay_out
from daemon.media.index import Tiles, dash, hls, tile_url, url_of, vidstack, webvtt
from daemon.media.sheet import Grid, Sheets
from daemon.media.studio import Studio, View
from daemon.media.wanted import Stills, span
from daemon.outputs import Output, Sprite, Thumbnail, Thumbnails
from daemon.report import OutputReport, PictureReport
from daemon.task import FileMade, OutputMade

Emit = Callable[[FileMade | OutputMade, bytes], None]
DECIMALS = 6  # of the seconds in a report


class Making:
    """One output in the making. `ats`: the instants wanted, in seconds from the first frame, ascending."""

    def __init__(
        self, asked: Output, ats: Sequence[Fraction], place: tuple[int, int], studio: Studio, emit: Emit
    ) -> None:
        self.asked = asked
        self.ats = ats
        self.job, self.output = place
        self.over = False
        self.taken = 0
        self.warnings: list[str] = []
        self._studio = studio
        self._emit = emit


class Maker(Making, ABC):
    """An output of stills, made in any order."""

    asked: Stills

    def __init__(
        self, asked: Output, ats: Sequence[Fraction], place: tuple[int, int], studio: Studio, emit: Emit
    ) -> None:
        super().__init__(asked, ats, place, studio, emit)
        self.choices: dict[int, Choice] = {}  # by index: frames that were searched for
        self._lock = threading.Lock()
        self._times: list[Fraction | None] = [None] * len(ats)
        self._files: dict[str, int] = {}
        self._size: Size = (0, 0)

    def take(self, index: int, view: View) -> None:
        """Makes picture `index` of a frame; with the last one the output is over."""
        if not view.exact:
            self.warnings.append(
                f"{self.asked.name}: the frame at {float(self.ats[index]):.3f} s cannot be decoded, the one at "
                f"{float(view.time):.3f} s stands for it"
            )
        self._make(index, view.turned(self.asked.rotate))
        with self._lock:
            self._times[index] = view.time
            self.taken += 1
            if self.taken < len(self.ats):
                return
        self._finish()
        self.over = True

    def layout(self, view: View) -> Layout:
        """How a picture of it is laid out. Raises BadJob."""
        return lay_out(self.asked, view.display)

    @abstractmethod
    def _make(self, index: int, view: View) -> None:
        """Shapes and encodes; called by several threads at once."""

    @abstractmethod
    def _finish(self) -> None:
        """Called once, after the last picture."""

    def _encode(self, view: View, layout: Layout) -> bytes:
        """The picture as a file; transparent where it is and the format can hold it."""
        shape = self._studio.shape_with_alpha if self.asked.format in WITH_ALPHA else self._studio.shape
        return self._studio.encode(shape(view, layout), self.asked.format, self.asked.quality)

    def _send(self, name: str, data: bytes, format: Format | Index, size: Size = (0, 0)) -> None:
        """Hands a file over; a picture with its size."""
        with self._lock:
            if name in self._files:
                raise BadJob(f"two pictures would be written to {name!r}: give outputs different names")
            self._files[name] = len(data)
        made = FileMade(job=self.job, output=self.output, name=name, format=format, width=size[0], height=size[1])
        self._emit(made, data)

    def _tell(self, path: str, pictures: list[PictureReport] | None) -> None:
        first = self._times[0]
        times = [time for time in self._times if time is not None]
        if self.asked.accuracy != "exact" and len(set(times)) < len(times):
            self.warnings.append(
                f"{self.asked.name}: {len(set(times))} keyframes serve {len(times)} pictures; "
                'accuracy "exact" gives each its own frame'
            )
        report = OutputReport(
            name=self.asked.name,
            output=self.asked.output,
            path=path,
            width=self._size[0],
            height=self._size[1],
            format=self.asked.format,
            bytes=sum(self._files.values()),
            at=seconds(self.ats[0]) if pictures is None else None,
            time=seconds(first) if pictures is None and first is not None else None,
            score=self._score(0) if pictures is None else None,
            device=self._studio.device.name,
            tag=self.asked.tag,
            files=sorted(self._files),
            pictures=pictures,
        )
        made = OutputMade(job=self.job, output=self.output, report=report, warnings=tuple(self.warnings))
        self._emit(made, b"")

    def _pictures(self, paths: Sequence[str | None]) -> list[PictureReport]:
        return [
            PictureReport(at=seconds(at), time=seconds(time or Fraction(0)), path=path, score=self._score(n))
            for n, (at, time, path) in enumerate(zip(self.ats, self._times, paths, strict=True))
        ]

    def _score(self, index: int) -> float | None:
        return self.choices[index].score if index in self.choices else None


class ThumbnailMaker(Maker):
    asked: Thumbnail

    def _make(self, index: int, view: View) -> None:
        layout = self.layout(view)
        data = self._encode(view, layout)
        self._size = layout.size
        self._send(self.asked.file, data, self.asked.format, layout.size)

    def _finish(self) -> None:
        self._tell(self.asked.file, None)


class ThumbnailsMaker(Maker):
    asked: Thumbnails

    def _make(self, index: int, view: View) -> None:
        layout = self.layout(view)
        data = self._encode(view, layout)
        if index == 0:
            self._size = layout.size
        self._send(self.asked.file(index + 1), data, self.asked.format, layout.size)

    def _finish(self) -> None:
        files = [self.asked.file(n + 1) for n in range(len(self.ats))]
        vtt = self.asked.name + ".vtt"
        urls = [url_of(file, self.asked.base_url) for file in files]
        self._send(vtt, webvtt(self.ats, self._studio.facts.duration, urls), "vtt")
        self._tell(vtt, self._pictures(files))


class SpriteMaker(Maker):
    asked: Sprite
    _sheets: Sheets | None = None
    _kept_bytes = 0

    def layout(self, view: View) -> Layout:
        self._open_sheets(view)
        layout = super().layout(view)
        return layout if layout.size == self._size else fit_into(self._size, view.display)

    def _make(self, index: int, view: View) -> None:
        sheets = self._open_sheets(view)
        tile = self._studio.shape(view, self.layout(view))
        if "bif" in self.asked.indexes:
            self._keep(index, tile)
        if not self.asked.has_sheets:
            return
        with self._lock:
            full = sheets.put(index, tile)
        if full is not None:
            number, sheet = full
            data = self._studio.encode(sheet, self.asked.format, self.asked.quality)
            self._send(self.asked.file(number), data, self.asked.format, (sheet.shape[1], sheet.shape[0]))

    def _open_sheets(self, view: View) -> Sheets:
        with self._lock:
            if self._sheets is None:
                self._size = lay_out(self.asked, self._studio.nominal_display(view)).size
                self._grid = self._lay_grid()
                self._sheets = Sheets(self._grid, self._studio.background)
                self._kept: dict[int, bytes] = {}
            return self._sheets

    def _lay_grid(self) -> Grid:
        what = (self._size, self.asked.columns, self.asked.rows, len(self.ats))
        if self.asked.layout == "jellyfin":
            return Grid.whole(*what)
        return Grid.fitting(*what, padded=not {"hls", "dash"}.isdisjoint(self.asked.indexes))

    def _keep(self, index: int, tile: RGB) -> None:
        """A BIF holds each tile as a picture of its own."""
        data = self._studio.encode(tile, "jpeg", self.asked.quality)
        with self._lock:
            self._kept[index] = data
            self._kept_bytes += len(data)
        if self._kept_bytes > MAX_BIF:
            raise BadJob(
                f"the BIF would be larger than {MAX_BIF >> 20} MiB: give fewer pictures, a smaller width or quality"
            )

    def _finish(self) -> None:
        for index in self.asked.indexes:
            self._send(self.asked.index_file(index), self._write_index(index), index)
        path = self.asked.index_file(self.asked.indexes[0]) if self.asked.indexes else self.asked.file(0)
        self._tell(path, self._pictures([None] * len(self.ats)))

    def _write_index(self, index: Index) -> bytes:
        duration = self._studio.facts.duration
        _, end, step = span(self.asked, duration)
        names = [self.asked.file(sheet) for sheet in range(self._grid.sheets)]
        tiles = Tiles(self._grid, step, end, max(self._files.get(name, 0) for name in names))
        urls = [url_of(name, self.asked.base_url) for name in names]
        match index:
            case "vtt":
                places = map(self._grid.place, range(len(self.ats)))
                targets = [tile_url(urls[sheet], x, y, *self._size) for sheet, x, y in places]
                return webvtt(self.ats, duration, targets)
            case "json":
                return vidstack(self.ats, duration, self._grid, urls)
            case "hls":
                return hls(tiles, urls, self.asked.format, self.asked.index_file("hls"))
            case "dash":
                before, after, digits = self.asked.sheet_names
                return dash(tiles, url_of(before, self.asked.base_url), after, digits, self.asked.format)
            case "bif":
                return bif([self._kept[n] for n in range(len(self.ats))], step)


MAKERS: dict[type[Output], type[Maker]] = {
    Thumbnail: ThumbnailMaker,
    Thumbnails: ThumbnailsMaker,
    Sprite: SpriteMaker,
}


def seconds(value: Fraction) -> float:
    return round(float(value), DECIMALS)
