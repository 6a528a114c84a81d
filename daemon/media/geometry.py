"""How large a picture becomes, where it is cropped or padded, and how it is turned. Pure.

A video's size is its display size: the sample aspect ratio makes pixels square, then the rotation is applied. Only
then do boxes and fits speak.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from daemon.errors import BadJob
from daemon.outputs import Look

Size = tuple[int, int]

MAX_PIXELS = 64_000_000  # of a decoded frame, and of what it is scaled to


@dataclass(frozen=True, slots=True)
class Layout:
    """The whole frame is scaled to `scaled`, then laid centred on `size`: what hangs over is cut, what is bare is
    filled. Both are (width, height) in pixels after rotation."""

    scaled: Size
    size: Size


def display_size(coded: Size, sample_aspect: Fraction | None, swapped: bool) -> Size:
    """(width, height) in square pixels, upright. `swapped`: the frame lies on its side."""
    aspect = sample_aspect if sample_aspect and Fraction(1, 100) <= sample_aspect <= 100 else Fraction(1)
    width, height = max(1, round(coded[0] * aspect)), coded[1]
    return (height, width) if swapped else (width, height)


def lay_out(asked: Look, display: Size) -> Layout:
    """The layout of a frame of `display` size for what was asked. Raises BadJob where it would be beyond measure."""
    layout = _lay_out(asked, display)
    if layout.scaled[0] * layout.scaled[1] > MAX_PIXELS:
        raise BadJob(
            f"the picture would have to be scaled to {layout.scaled[0]}x{layout.scaled[1]} from "
            f"{display[0]}x{display[1]}: give a smaller size, or both width and height"
        )
    return layout


def _lay_out(asked: Look, display: Size) -> Layout:
    width, height = display
    if asked.short_side is not None:
        scale = Fraction(asked.short_side, min(display))
        return _whole(_scaled(display, scale if asked.upscale else min(scale, Fraction(1))))
    if asked.width is None and asked.height is None:
        return _whole(display)
    across = Fraction(asked.width, width) if asked.width else None
    down = Fraction(asked.height, height) if asked.height else None
    if across is None or down is None or asked.fit == "inside":
        scale = min(s for s in (across, down) if s is not None)
        return _whole(_scaled(display, scale if asked.upscale else min(scale, Fraction(1))))
    assert asked.width is not None and asked.height is not None  # noqa: S101  both sides are known from here on
    box = (asked.width, asked.height)
    if asked.fit == "stretch":
        return _whole(box if asked.upscale else (min(box[0], width), min(box[1], height)))
    if asked.fit == "pad":
        scale = min(across, down)
        return Layout(_scaled(display, scale if asked.upscale else min(scale, Fraction(1))), box)
    if not asked.upscale and (shrink := max(across, down)) > 1:
        box = _scaled(box, 1 / shrink)
    scale = max(Fraction(box[0], width), Fraction(box[1], height))
    return Layout((max(box[0], ceil(width * scale)), max(box[1], ceil(height * scale))), box)


def fit_into(cell: Size, display: Size) -> Layout:
    """The largest that fits a given cell: for frames of another size than the one that the cell was made for."""
    scale = min(Fraction(cell[0], display[0]), Fraction(cell[1], display[1]))
    return Layout(_scaled(display, scale), cell)


def _scaled(size: Size, scale: Fraction) -> Size:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _whole(size: Size) -> Layout:
    return Layout(size, size)
