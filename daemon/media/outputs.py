"""What is made of the frames: for each kind of output which instants it wants, and what becomes of their frames.

An output is fed by several threads. It counts its pictures and tells exactly once that it was made.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from fractions import Fraction
from math import ceil
from typing import Literal

from daemon.errors import AtPastEnd, BadJob
from daemon.job import Output, Sprite, Thumbnail, Thumbnails
from daemon.media.geometry import Size, fit_into, lay_out
from daemon.media.index import picture_target, tile_target, webvtt
from daemon.media.sheet import Grid, Sheets
from daemon.media.studio import Studio, View
from daemon.report import OutputReport, PictureReport
from daemon.task import FileMade, OutputMade

Emit = Callable[[FileMade | OutputMade, bytes], None]
ImageFormat = Literal["webp", "jpeg", "png", "avif"]
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

    def __init__(
        self, asked: Output, ats: Sequence[Fraction], place: tuple[int, int], studio: Studio, emit: Emit
    ) -> None:
        super().__init__(asked, ats, place, studio, emit)
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
        self._make(index, view)
        with self._lock:
            self._times[index] = view.time
            self.taken += 1
            if self.taken < len(self.ats):
                return
        self._finish()
        self.over = True

    @abstractmethod
    def _make(self, index: int, view: View) -> None:
        """Shapes and encodes; called by several threads at once."""

    @abstractmethod
    def _finish(self) -> None:
        """Called once, after the last picture."""

    def _send(self, name: str, data: bytes, size: Size = (0, 0), format: ImageFormat | None = None) -> None:
        """Hands a file over; a picture unless it has no `format`."""
        with self._lock:
            if name in self._files:
                raise BadJob(f"two pictures would be written to {name!r}: give outputs different names")
            self._files[name] = len(data)
        made = FileMade(
            job=self.job, output=self.output, name=name, format=format or "vtt", width=size[0], height=size[1]
        )
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
            device=self._studio.device.name,
            tag=self.asked.tag,
            files=sorted(self._files),
            pictures=pictures,
        )
        made = OutputMade(job=self.job, output=self.output, report=report, warnings=tuple(self.warnings))
        self._emit(made, b"")

    def _pictures(self, paths: Sequence[str | None]) -> list[PictureReport]:
        return [
            PictureReport(at=seconds(at), time=seconds(time or Fraction(0)), path=path)
            for at, time, path in zip(self.ats, self._times, paths, strict=True)
        ]


class ThumbnailMaker(Maker):
    asked: Thumbnail

    def _make(self, index: int, view: View) -> None:
        layout = lay_out(self.asked, view.display)
        data = self._studio.encode(self._studio.shape(view, layout), self.asked.format, self.asked.quality)
        self._size = layout.size
        self._send(self.asked.file, data, layout.size, self.asked.format)

    def _finish(self) -> None:
        self._tell(self.asked.file, None)


class ThumbnailsMaker(Maker):
    asked: Thumbnails

    def _make(self, index: int, view: View) -> None:
        layout = lay_out(self.asked, view.display)
        data = self._studio.encode(self._studio.shape(view, layout), self.asked.format, self.asked.quality)
        if index == 0:
            self._size = layout.size
        self._send(self.asked.file(index + 1), data, layout.size, self.asked.format)

    def _finish(self) -> None:
        files = [self.asked.file(n + 1) for n in range(len(self.ats))]
        vtt = self.asked.name + ".vtt"
        self._send(vtt, webvtt(self.ats, self._studio.facts.duration, map(picture_target, files)))
        self._tell(vtt, self._pictures(files))


class SpriteMaker(Maker):
    asked: Sprite
    _sheets: Sheets | None = None

    def _make(self, index: int, view: View) -> None:
        sheets = self._open_sheets(view)
        layout = lay_out(self.asked, view.display)
        if layout.size != self._size:
            layout = fit_into(self._size, view.display)
        tile = self._studio.shape(view, layout)
        with self._lock:
            full = sheets.put(index, tile)
        if full is not None:
            number, sheet = full
            data = self._studio.encode(sheet, self.asked.format, self.asked.quality)
            self._send(self.asked.file(number), data, (sheet.shape[1], sheet.shape[0]), self.asked.format)

    def _open_sheets(self, view: View) -> Sheets:
        with self._lock:
            if self._sheets is None:
                self._size = lay_out(self.asked, self._studio.nominal_display(view)).size
                self._grid = Grid.fitting(self._size, self.asked.columns, self.asked.rows, len(self.ats))
                self._sheets = Sheets(self._grid, self._studio.background)
            return self._sheets

    def _finish(self) -> None:
        targets = []
        for n in range(len(self.ats)):
            sheet, x, y = self._grid.place(n)
            targets.append(tile_target(self.asked.file(sheet), x, y, *self._size))
        path = self.asked.file(0)
        if "vtt" in self.asked.indexes:
            path = self.asked.name + ".vtt"
            self._send(path, webvtt(self.ats, self._studio.facts.duration, targets))
        self._tell(path, self._pictures([None] * len(self.ats)))


MAKERS: dict[type[Output], type[Maker]] = {
    Thumbnail: ThumbnailMaker,
    Thumbnails: ThumbnailsMaker,
    Sprite: SpriteMaker,
}


def seconds(value: Fraction) -> float:
    return round(float(value), DECIMALS)


def series(asked: Thumbnails | Sprite, duration: Fraction, most: int) -> tuple[list[Fraction], list[str]]:
    """The instants of a series in seconds, and warnings. With `every` ceil(length / every) pictures; with `count` n
    the instants start + i * (end - start) / n. Raises AtPastEnd and BadJob."""
    warnings: list[str] = []
    start = asked.start.seconds(duration) if asked.start else Fraction(0)
    end = asked.end.seconds(duration) if asked.end else duration
    if start >= duration:
        raise AtPastEnd(f"start is {float(start):g} s, but the video ends after {float(duration):.3f} s")
    if end > duration:
        warnings.append(
            f"{asked.name}: end is {float(end):g} s, the video ends after {float(duration):.3f} s: cut there"
        )
        end = duration
    if end <= start:
        raise BadJob(f"end ({float(end):g} s) must be after start ({float(start):g} s)")
    if asked.every is not None:
        step = asked.every.seconds(duration)
        count = ceil((end - start) / step)
    else:
        count = asked.count or 1
        step = (end - start) / count
    if count > most:
        raise BadJob(f"{count} pictures are asked for, {most} are allowed (setting job.pictures)")
    if step < 1 and count > 1:
        warnings.append(f"{asked.name}: less than 1 s between pictures: the video.js plugin only knows whole seconds")
    return [start + n * step for n in range(count)], warnings
