"""Where frames become pictures: shaping and encoding, each timed."""

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from time import perf_counter

import numpy as np

from daemon.fields import Format
from daemon.media.device import RGB, Device, Frame, Look, Pixels
from daemon.media.encode import DEFAULT_QUALITY, check_side, encode
from daemon.media.facts import Facts
from daemon.media.geometry import Layout, Size, display_size
from daemon.media.orientation import clockwise


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
    look: Look
    display: Size
    time: Fraction
    exact: bool
    shaped: dict[Layout, Pixels] = field(default_factory=dict)
    turns: "dict[int, View]" = field(default_factory=dict)

    def turned(self, degrees: int) -> "View":
        """The same, turned clockwise by a multiple of 90 degrees."""
        if not degrees:
            return self
        turn = clockwise(degrees)
        display = self.display[::-1] if turn.swapped else self.display
        look = replace(self.look, orientation=self.look.orientation.then(turn))
        turned = replace(self, look=look, display=display, shaped={}, turns={})
        return self.turns.setdefault(degrees, turned)


class Studio:
    """Shapes and encodes for one source; shared by its threads."""

    def __init__(self, device: Device, facts: Facts, background: tuple[int, int, int], clock: Clock) -> None:
        self.device = device
        self.facts = facts
        self.background = background
        self._background = np.array(background, np.uint8)
        self.clock = clock

    def view(self, frame: Frame, pts: int, look: Look, exact: bool) -> View:
        display = display_size((frame.width, frame.height), look.sample_aspect, look.orientation.swapped)
        return View(frame, look, display, self.facts.seconds(pts), exact)

    def nominal_display(self, view: View) -> Size:
        """The display size of the video as a whole: its own coded size, shown as this frame is."""
        coded = (self.facts.width, self.facts.height)
        look = view.look
        return display_size(coded, look.sample_aspect, look.orientation.swapped) if all(coded) else view.display

    def shape(self, view: View, layout: Layout) -> RGB:
        """The picture, uint8, shape (height, width, 3) of `layout.size`, what is transparent laid over the
        background."""
        return self._over_background(self.shape_with_alpha(view, layout))

    def shape_with_alpha(self, view: View, layout: Layout) -> Pixels:
        """As `shape`, but (height, width, 4) with straight alpha where some of it is transparent. What is padded is
        laid over the background as a whole."""
        self.shape_all(view, (layout,))
        return view.shaped[layout]

    def shape_all(self, view: View, layouts: Iterable[Layout]) -> None:
        """Shapes what is not shaped yet, in one go of the device: what several outputs ask for of one frame."""
        missing = [layout for layout in dict.fromkeys(layouts) if layout not in view.shaped]
        if not missing:
            return
        look = view.look
        with self.clock.timing("resize"):
            lying = [layout.scaled[::-1] if look.orientation.swapped else layout.scaled for layout in missing]
            for layout, picture in zip(missing, self.device.resize(view.frame, lying, look.colour), strict=True):
                upright = look.orientation.turn(picture)
                view.shaped[layout] = np.ascontiguousarray(self._centre(upright, layout.size))

    def encode(self, picture: Pixels, format: Format, quality: int | None) -> bytes:
        with self.clock.timing("encode"):
            by_device = self._jpeg(picture, quality) if format == "jpeg" else None
            return encode(picture, format, quality) if by_device is None else by_device

    def _jpeg(self, picture: RGB, quality: int | None) -> bytes | None:
        check_side((picture.shape[1], picture.shape[0]), "jpeg")
        return self.device.jpeg(picture, DEFAULT_QUALITY["jpeg"] if quality is None else quality)

    def _centre(self, picture: Pixels, size: Size) -> Pixels:
        height, width = picture.shape[:2]
        if (width, height) == size:
            return picture
        left, top = max(0, width - size[0]) // 2, max(0, height - size[1]) // 2
        cut = picture[top : top + size[1], left : left + size[0]]
        if cut.shape[:2] == (size[1], size[0]):
            return cut
        canvas = np.broadcast_to(self._background, (size[1], size[0], 3)).copy()
        y, x = (size[1] - cut.shape[0]) // 2, (size[0] - cut.shape[1]) // 2
        canvas[y : y + cut.shape[0], x : x + cut.shape[1]] = self._over_background(cut)
        return canvas

    def _over_background(self, picture: Pixels) -> RGB:
        if picture.shape[2] == 3:
            return picture
        cover = picture[..., 3:].astype(np.uint16)
        mixed: RGB = ((picture[..., :3] * cover + self._background * (255 - cover) + 127) // 255).astype(np.uint8)
        return mixed
