"""Where frames become pictures: shaping and encoding, each timed."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from time import perf_counter

import numpy as np

from daemon.job import Format
from daemon.media.demux import Facts
from daemon.media.device import RGB, Device, Frame
from daemon.media.encode import encode
from daemon.media.geometry import Layout, Size, display_size


class Clock:
    """Seconds spent in each stage, summed over threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spent: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def timing(self, stage: str) -> Iterator[None]:
        begun = perf_counter()
        try:
            yield
        finally:
            self.add(stage, perf_counter() - begun)

    def add(self, stage: str, seconds: float) -> None:
        with self._lock:
            self._spent[stage] += seconds

    def spent(self, stage: str) -> float:
        return self._spent[stage]


@dataclass(frozen=True)
class View:
    """A frame as it is to be seen: `display` is its size in square pixels, upright; `time` its presentation time in
    seconds from the first frame. What was shaped from it is kept for outputs of the same layout."""

    frame: Frame
    display: Size
    sample_aspect: Fraction | None
    time: Fraction
    exact: bool
    shaped: dict[Layout, RGB] = field(default_factory=dict)


class Studio:
    """Shapes and encodes for one source; shared by its threads."""

    def __init__(self, device: Device, facts: Facts, background: tuple[int, int, int], clock: Clock) -> None:
        self.device = device
        self.facts = facts
        self.background = background
        self.clock = clock

    def view(self, frame: Frame, pts: int, sample_aspect: Fraction | None, exact: bool) -> View:
        display = display_size((frame.width, frame.height), sample_aspect, frame.rotation)
        return View(frame, display, sample_aspect, self.facts.seconds(pts), exact)

    def nominal_display(self, view: View) -> Size:
        """The display size of the video as a whole: its own coded size, shown as this frame is."""
        coded = (self.facts.width, self.facts.height)
        return display_size(coded, view.sample_aspect, view.frame.rotation) if all(coded) else view.display

    def shape(self, view: View, layout: Layout) -> RGB:
        """The picture, uint8, shape (height, width, 3) of `layout.size`."""
        if layout not in view.shaped:
            with self.clock.timing("resize"):
                view.shaped[layout] = self._shape(view.frame, layout)
        return view.shaped[layout]

    def encode(self, picture: RGB, format: Format, quality: int | None) -> bytes:
        with self.clock.timing("encode"):
            return encode(picture, format, quality)

    def _shape(self, frame: Frame, layout: Layout) -> RGB:
        width, height = layout.scaled
        turns = round(frame.rotation / 90) % 4
        small = self.device.resize(frame, (height, width) if turns % 2 else (width, height))
        upright = np.rot90(small, turns) if turns else small
        return np.ascontiguousarray(self._centre(upright, layout.size))

    def _centre(self, picture: RGB, size: Size) -> RGB:
        height, width = picture.shape[:2]
        if (width, height) == size:
            return picture
        left, top = max(0, width - size[0]) // 2, max(0, height - size[1]) // 2
        cut = picture[top : top + size[1], left : left + size[0]]
        if cut.shape[:2] == (size[1], size[0]):
            return cut
        canvas = np.broadcast_to(np.array(self.background, np.uint8), (size[1], size[0], 3)).copy()
        y, x = (size[1] - cut.shape[0]) // 2, (size[0] - cut.shape[1]) // 2
        canvas[y : y + cut.shape[0], x : x + cut.shape[1]] = cut
        return canvas
