"""The sample film of the demo: one day, from dawn to the northern lights, drawn without any file from outside.

Every frame is painted right into the encoder's own planes (BT.709, 4:2:0): there is no colour conversion per
frame, a blend touches 1.5 bytes a pixel instead of 3, and a minute of 720p is ready in seconds. The landscapes are
height lines filled downwards, so they move by fractions of a pixel and are smooth at every size; whatever has a shape
of its own is drawn once with Pillow and kept as a `Sprite`. The clock and the frame number are large enough to be
read in a tile 160 pixels wide, so that anyone scrubbing sees whether a tile belongs to its time.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFilter, ImageFont, ImageOps

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Scene = Callable[["Canvas", float, float], None]
"""Paints itself on a canvas, given how far it has come (0 to 1, a little outside while fading) and the seconds."""
Line = Callable[[float], Floats]
"""The edge of a landscape: a height for every column, read from a shift onwards; both in pixels of the design."""

KEYFRAME_SECONDS = 2
FADE_SECONDS = 0.5
AHEAD = 16  # frames painted before the encoder asks for them
FINE = 4  # shapes are drawn this many times larger and reduced: Pillow's own drawing has hard edges
PLATE = (8, 10, 24, 150)
COARSE = 8  # pixels between the samples of what is soft all over
STEEPEST = 4.0  # a steeper edge needs no wider blend
STEPS = (1, 2, 2)  # pixels of the picture to one sample of Y, U, V, each way
TO_YUV = np.array([[0.1826, 0.6142, 0.0620], [-0.1006, -0.3386, 0.4392], [0.4392, -0.3989, -0.0403]], dtype=np.float32)
ZERO_YUV = np.array([16, 128, 128], dtype=np.float32)


class Size(NamedTuple):
    """The picture's size, and its scale: everything was designed on 720 lines."""

    width: int
    height: int

    def px(self, length: float) -> int:
        """A length on 720 lines in pixels of this picture, never nothing."""
        return max(1, round(length * self.height / 720))

    def even(self, length: float) -> int:
        """The same as an even number, as sprites need it that are to stand side by side."""
        return max(2, self.px(length) // 2 * 2)

    @property
    def unit(self) -> float:
        """Pixels of this picture to one of the design."""
        return self.height / 720


class Range(NamedTuple):
    """A range of hills or houses, and its colours at the beginning and at the end of its scene."""

    line: Line
    early: Floats
    late: Floats


def yuv(colour: str) -> Floats:
    """A CSS colour as the film stores it."""
    return (TO_YUV @ np.array(ImageColor.getrgb(colour)[:3], np.float32) + ZERO_YUV).astype(np.float32)


def gradient(size: Size, *stops: tuple[float, str]) -> Floats:
    """One colour for every line of the picture, through stops given as (fraction of the height, colour)."""
    return between(size, *((place, yuv(colour)) for place, colour in stops))


def between(size: Size, *stops: tuple[float, Floats]) -> Floats:
    """The same through colours as the film stores them."""
    lines = (np.arange(size.height) + 0.5) / size.height
    places, colours = [place for place, _ in stops], np.stack([colour for _, colour in stops])
    return np.stack([np.interp(lines, places, colours[:, i]) for i in range(3)], axis=1).astype(np.float32)


def ease(value: float, start: float = 0.0, end: float = 1.0) -> float:
    """0 before start, 1 after end, without a jolt between."""
    part = min(1.0, max(0.0, (value - start) / (end - start)))
    return part * part * (3 - 2 * part)


def mix(first: Floats, second: Floats, part: float) -> Floats:
    """The colours on the way from the first to the second."""
    return first + (second - first) * np.float32(part)


def halved(samples: Floats) -> Floats:
    """Half as wide and high, each sample the mean of four."""
    lines: Floats = samples[::2] + samples[1::2]
    quarters: Floats = (lines[:, ::2] + lines[:, 1::2]) * np.float32(0.25)
    return quarters


class Sprite:
    """A drawn picture (RGBA) with soft edges, kept as planes that only need to be multiplied and added."""

    def __init__(self, picture: Image.Image) -> None:
        self.width, self.height = (side + side % 2 for side in picture.size)
        rgba = np.zeros((self.height, self.width, 4), np.float32)
        rgba[: picture.height, : picture.width] = np.asarray(picture)
        cover = np.rint(rgba[..., 3:] * (256 / 255))
        planes = (rgba[..., :3] @ TO_YUV.T + ZERO_YUV) * cover
        fine, coarse = planes[..., 0], halved(planes[..., 1:])
        rest, rest_coarse = 256 - cover[..., 0], 256 - halved(cover[..., 0])
        # 255 * 256 and the half for rounding still fit into 16 bits, whatever the cover.
        self.colours = [(plane + 128).astype(np.uint16) for plane in (fine, coarse[..., 0], coarse[..., 1])]
        self.rests = [plane.astype(np.uint16) for plane in (rest, rest_coarse, rest_coarse)]

    @classmethod
    def row(cls, sprites: Sequence[Sprite]) -> Sprite:
        """Sprites of one height side by side as one."""
        row = cls.__new__(cls)
        row.width, row.height = sum(sprite.width for sprite in sprites), sprites[0].height
        row.colours = [np.hstack(planes) for planes in zip(*(sprite.colours for sprite in sprites), strict=True)]
        rests = [np.hstack(planes) for planes in zip(*(sprite.rests[:2] for sprite in sprites), strict=True)]
        row.rests = [*rests, rests[1]]
        return row


class Canvas:
    """One frame: three planes in a row in one buffer, as the encoder takes them."""

    def __init__(self, size: Size) -> None:
        width, height = self.size = size
        self.buffer: Bytes = np.zeros((height * 3 // 2, width), np.uint8)
        flat, whole = self.buffer.reshape(-1), width * height
        half = (height // 2, width // 2)
        self.planes = (
            flat[:whole].reshape(height, width),
            flat[whole : whole * 5 // 4].reshape(half),
            flat[whole * 5 // 4 :].reshape(half),
        )

    def repeat(self, other: Canvas) -> None:
        """Shows what another canvas shows."""
        self.buffer[:] = other.buffer

    def wash(self, lines: Floats) -> None:
        """Covers everything with one colour a line."""
        colours = lines.astype(np.uint8)
        for i, (plane, step) in enumerate(zip(self.planes, STEPS, strict=True)):
            plane[:] = colours[::step, i, None]

    def ridge(self, heights: Floats, lines: Floats) -> None:
        """Fills everything below a line (one height a column) with one colour a line, with a smooth edge."""
        edge = np.maximum(np.minimum(heights, self.size.height + 9), -9)
        slope = np.ones_like(edge)
        slope[1:] = np.minimum(1 + np.abs(edge[1:] - edge[:-1]), STEEPEST)
        full = np.ceil(edge + slope / 2 - 0.5).astype(np.int16)
        # What is covered whole is chosen by masks of bytes, many pixels to one instruction of the processor...
        colours = lines.astype(np.uint8)
        self._fill(self.planes[:1], full, colours[:, :1])
        self._fill(self.planes[1:], full[::2] >> 1, colours[::2, 1:])
        # ...so that only the few pixels along the edge have to be blended, and of those only the brightness.
        plane, tall = self.planes[0], self.size.height
        rows = full - 1 - np.arange(math.ceil(float(slope.max())) + 1, dtype=np.int16)[:, None]
        cover = np.maximum((rows + (0.5 - edge)) / slope + 0.5, 0) * ((rows >= 0) & (rows < tall))
        rows, columns = np.maximum(np.minimum(rows, tall - 1), 0), np.arange(len(edge))
        below = plane[rows, columns]
        plane[rows, columns] = below + (lines[:, 0][rows] - below) * np.minimum(cover, 1)

    @staticmethod
    def _fill(planes: Sequence[Bytes], first: NDArray[np.int16], colours: Bytes) -> None:
        """Fills every column from its first line downwards."""
        tall = len(planes[0])
        top, bottom = (min(tall, max(0, int(line))) for line in (first.min(), first.max()))
        mask = np.negative((np.arange(top, bottom, dtype=np.int16)[:, None] >= first).view(np.uint8))
        for i, plane in enumerate(planes):
            band = plane[top:bottom]
            band ^= (band ^ colours[top:bottom, i, None]) & mask
            plane[bottom:] = colours[bottom:, i, None]

    def box(self, x: int, y: int, width: int, height: int, colour: Floats) -> None:
        """A filled rectangle; what lies outside the picture is left out."""
        for plane, step, value in zip(self.planes, STEPS, colour, strict=True):
            left, top, right, bottom = (max(0, edge) // step for edge in (x, y, x + width, y + height))
            plane[top:bottom, left:right] = value

    def blit(self, sprite: Sprite, x: float, y: float) -> None:
        """Lays a sprite over the picture, its upper left corner at (x, y); it may hang over every edge."""
        for plane, step, colour, rest in zip(self.planes, STEPS, sprite.colours, sprite.rests, strict=True):
            x0, y0 = round(x / step), round(y / step)
            top, bottom = max(0, -y0), min(colour.shape[0], plane.shape[0] - y0)
            start, end = max(0, -x0), min(colour.shape[1], plane.shape[1] - x0)
            if top < bottom and start < end:
                blended = np.multiply(plane[y0 + top : y0 + bottom, x0 + start : x0 + end], rest[top:bottom, start:end])
                blended += colour[top:bottom, start:end]
                blended >>= 8
                plane[y0 + top : y0 + bottom, x0 + start : x0 + end] = blended

    def boxes(self, lefts: Floats, tops: Floats, width: int, height: int, colours: Floats) -> None:
        """Many rectangles of one size, each in its own colour; those that cross the picture's edge are left out."""
        inside = (lefts >= 0) & (tops >= 0)
        inside &= (lefts <= self.size.width - width - 2) & (tops <= self.size.height - height - 2)
        for i, (plane, step) in enumerate(zip(self.planes, STEPS, strict=True)):
            left, top = (np.rint(edge[inside] / step).astype(int)[:, None, None] for edge in (lefts, tops))
            rows, columns = np.arange(-(-height // step))[:, None], np.arange(-(-width // step))
            plane[top + rows, left + columns] = colours[inside, i, None, None]

    def sparkle(self, xs: Floats, ys: Floats, lights: Floats) -> None:
        """Small round lights (stars, glitter) that move by fractions of a pixel; no colour of their own."""
        plane, reach = self.planes[0], max(0.6, 1.15 * self.size.unit)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                px, py = np.rint(xs).astype(int) + dx, np.rint(ys).astype(int) + dy
                seen = (px >= 0) & (py >= 0) & (px < self.size.width) & (py < self.size.height)
                far = ((px - xs) ** 2 + (py - ys) ** 2)[seen] / (2 * reach**2)
                px, py = px[seen], py[seen]
                light = 16 + 219 * lights[seen] * np.exp(-far)
                plane[py, px] = np.maximum(plane[py, px], light.astype(np.uint8))

    def haze(self, bottom: int, colours: Floats) -> None:
        """Covers everything down to bottom with colours that are given for every COARSE-th line and column only.

        What is soft all over is mixed coarsely and enlarged here, along the lines first: then the many pixels
        are made of whole lines, in arithmetic of 16 bits.
        """
        for i, (plane, step) in enumerate(zip(self.planes, STEPS, strict=True)):
            pitch, shades = COARSE // step, colours[..., i] * 16
            left, part = np.divmod(np.arange(plane.shape[1], dtype=np.float32) / pitch, 1)
            index = left.astype(int)
            wide = shades[:, index] + (shades[:, index + 1] - shades[:, index]) * part
            exact = wide.astype(np.uint16)
            for line in range(pitch):
                target = plane[line : bottom // step : pitch]
                target[:] = (exact[: len(target)] * (pitch - line) + exact[1 : len(target) + 1] * line) // (16 * pitch)

    def mirror(self, shore: int, seconds: float, water: Floats, depth: float) -> None:
        """Everything above the shore once more below it, in rippling water that hides it by depth (0 to 1)."""
        for i, (plane, step) in enumerate(zip(self.planes, STEPS, strict=True)):
            start = shore // step
            away = np.arange(len(plane) - start, dtype=np.float32)
            near, lines = away / max(1, len(away)), away * step / self.size.unit
            ripple = np.sin(lines / (2 + 8 * near) - 2.4 * seconds)
            ripple += 0.6 * np.sin(lines / (1.3 + 4 * near) - 3.9 * seconds + 1)
            source = start - 1 - away * 1.15 + ripple * (1 + 9 * near) * self.size.unit / step
            image = plane[np.clip(source, 0, start - 1).astype(int)]
            # The waves show by their own shade, too: straight up and down, a house's wall hides that it is bent.
            part = np.clip(depth + (1 - depth) * 0.45 * near + 0.07 * ripple, 0, 1)
            part = np.rint(256 * part).astype(np.uint16)
            tint = (water[::step, i][start:] * part).astype(np.uint16)
            image = image * (256 - part)[:, None] + tint[:, None]
            plane[start:] = image >> 8


def drawn(width: int, height: int, paint: Callable[[ImageDraw.ImageDraw, int], None]) -> Image.Image:
    """A transparent picture with whatever paint draws, at FINE times the size, reduced to smooth edges."""
    large = Image.new("RGBA", (width * FINE, height * FINE))
    paint(ImageDraw.Draw(large), FINE)
    return large.reduce(FINE)


def shape(alpha: Floats, *colours: tuple[float, str]) -> Image.Image:
    """A picture from its cover (0 to 1), coloured from top to bottom."""
    height, width = alpha.shape
    lines = np.linspace(0, 1, height)
    table = np.array([ImageColor.getrgb(colour)[:3] for _, colour in colours], np.float32)
    rgba = np.empty((height, width, 4), np.float32)
    for i in range(3):
        rgba[..., i] = np.interp(lines, [place for place, _ in colours], table[:, i])[:, None]
    rgba[..., 3] = np.clip(alpha, 0, 1) * 255
    return Image.fromarray(np.rint(rgba).astype(np.uint8))


def orb(radius: int, reach: int, core: str, halo: str, strength: float) -> Sprite:
    """Sun or moon: a disc in a halo that fades to nothing at its reach."""
    line = np.arange(-reach, reach, dtype=np.float32) + np.float32(0.5)
    away = np.hypot(line, line[:, None])
    glow = strength * np.clip(1 - away / reach, 0, 1) ** 2.6
    disc = np.clip(radius - away + 0.5, 0, 1)
    alpha = disc + (1 - disc) * glow
    rgba = np.empty((2 * reach, 2 * reach, 4), np.float32)
    inner, outer = (np.array(ImageColor.getrgb(colour)[:3], np.float32) for colour in (core, halo))
    warmth = np.clip((away - radius) / (0.5 * reach), 0, 1)[..., None]
    rgba[..., :3] = inner + (outer - inner) * warmth
    rgba[..., 3] = 255 * alpha
    return Sprite(Image.fromarray(np.rint(rgba).astype(np.uint8)))


def backdrop(size: Size, sky: Floats, light: Sprite, x: float, y: float) -> Canvas:
    """A sky that stands still with a sun in it, painted once for all frames."""
    canvas = Canvas(size)
    canvas.wash(sky)
    canvas.blit(light, size.width * x - light.width / 2, size.height * y - light.height / 2)
    return canvas


def swell(size: Size, *waves: tuple[float, float, float]) -> Line:
    """A line of waves given as (length, height, phase); called with a shift, the heights of every column."""
    xs = np.arange(size.width, dtype=np.float32) / size.unit

    def heights(shift: float) -> Floats:
        total = np.zeros(size.width, np.float32)
        for length, height, phase in waves:
            total += height * np.sin((xs + shift) * np.float32(2 * math.pi / length) + phase)
        return total

    return heights


def hills(size: Size, seed: int, length: float, height: float) -> Line:
    """Soft hills: waves of falling length, no two of them in step."""
    rng = np.random.default_rng(seed)
    waves = [(length / 1.9**i * rng.uniform(0.85, 1.15), height / 2.1**i, rng.uniform(0, 6.3)) for i in range(5)]
    return swell(size, *waves)


def skyline(size: Size, table: Floats) -> Line:
    """A line given by its height at every pixel of the design, read from a shift onwards, round and round."""
    length = round(len(table) * size.unit)
    places = np.arange(length + size.width + 2) / size.unit
    line = np.interp(places, np.arange(len(table)), table, period=len(table)).astype(np.float32)

    def heights(shift: float) -> Floats:
        whole, part = divmod(shift * size.unit, 1)
        start = int(whole) % length
        here, next_ = line[start : start + size.width], line[start + 1 : start + size.width + 1]
        return here + (next_ - here) * np.float32(part)

    return heights


def crags(seed: int, length: int, height: float) -> Floats:
    """A table of steep mountains: noise of ever finer grain, joined by straight lines."""
    rng = np.random.default_rng(seed)
    total = np.zeros(length, np.float32)
    for octave in range(7):
        knots = 6 * 2**octave
        values = rng.uniform(-1, 1, knots)
        places = np.linspace(0, length, knots, endpoint=False)
        total += np.interp(np.arange(length), places, values, period=length) * height / 2.05**octave
    return total


def firs(seed: int, length: int, height: float) -> Floats:
    """A table of a forest's edge: firs side by side, their branches as small steps."""
    rng = np.random.default_rng(seed)
    table = np.zeros(length, np.float32)
    xs = np.arange(length, dtype=np.float32)
    place = 0.0
    while place < length:
        tall = height * rng.uniform(0.45, 1)
        away = np.abs((xs - place + length / 2) % length - length / 2)
        saw = (away / tall * 24) % 1 * tall * 0.055
        table = np.minimum(table, -np.clip(tall - away * 4.2 + saw, 0, None))
        place += tall * rng.uniform(0.16, 0.42)
    return table


def crowns(seed: int, length: int, size: float) -> Floats:
    """A table of round tree tops."""
    rng = np.random.default_rng(seed)
    table = np.zeros(length, np.float32)
    xs = np.arange(length, dtype=np.float32)
    place = 0.0
    while place < length:
        radius = size * rng.uniform(0.55, 1.1)
        lift = radius * rng.uniform(0.1, 0.9)
        for _ in range(7):  # a crown is a bunch of leaves, not a ball
            bunch, angle = radius * rng.uniform(0.3, 0.5), rng.uniform(0.2, math.pi - 0.2)
            middle, up = place + math.cos(angle) * radius * 0.7, lift + math.sin(angle) * radius * 0.7
            away = np.abs((xs - middle + length / 2) % length - length / 2)
            table = np.minimum(table, -(up + np.sqrt(np.clip(bunch**2 - away**2, 0, None))) * (away < bunch))
        place += radius * rng.uniform(0.7, 1.1)
    return np.minimum(table, -0.45 * size)  # no gap reaches down to the trunks


def flock(size: Size, colour: str) -> list[Sprite]:
    """One bird at every moment of the beat of its wings."""
    width, height = size.px(34), size.px(26)

    def bird(beat: float) -> Image.Image:
        def paint(draw: ImageDraw.ImageDraw, fine: int) -> None:
            tip, mid = (0.5 - 0.42 * beat) * height * fine, (0.5 - 0.2 * beat) * height * fine
            w, h = width * fine, height * fine
            for side in (-1, 1):
                points = [(w * 0.5, h * 0.55), (w * (0.5 + side * 0.2), mid), (w * (0.5 + side * 0.48), tip)]
                draw.line(points, ImageColor.getrgb(colour), max(1, size.px(3.2) * fine), joint="curve")

        return drawn(width, height, paint)

    return [Sprite(bird(math.sin(2 * math.pi * i / 12))) for i in range(12)]


def cloud(size: Size, seed: int, width: float, colour: str, shade: str, strength: float) -> Sprite:
    """A heap of round puffs on a flat base, its lower side in shade."""
    rng = np.random.default_rng(seed)
    w, h = size.px(width), size.px(width * 0.36)

    def paint(draw: ImageDraw.ImageDraw, fine: int) -> None:
        for _ in range(16):
            at = rng.uniform(-1, 1)
            radius = h * (0.16 + 0.2 * (1 - at * at)) * rng.uniform(0.75, 1.1)
            x, y = w * (0.5 + 0.4 * at), h * (0.88 - 0.22 * (1 - at * at)) - radius * 0.5
            draw.ellipse([(x - radius) * fine, (y - radius) * fine, (x + radius) * fine, (y + radius) * fine], "#fff")

    base = np.clip((0.92 - np.linspace(0, 1, h)) * 7, 0, 1)[:, None] * strength
    alpha = np.asarray(drawn(w, h, paint))[..., 3] / 255 * base
    puffs = shape(alpha.astype(np.float32), (0, colour), (0.35, colour), (0.9, shade))
    return Sprite(puffs.filter(ImageFilter.GaussianBlur(size.px(2))))


def dawn(size: Size) -> Scene:
    """The sun comes up behind five ranges of hills, and the mist between them turns to gold."""
    night = gradient(size, (0, "#10143c"), (0.35, "#3d2a6b"), (0.6, "#b2476f"), (0.75, "#f08a5d"), (1, "#ffc27a"))
    day = gradient(size, (0, "#2f6fb5"), (0.35, "#7fb4dc"), (0.6, "#ffd9a0"), (0.75, "#ffe9bd"), (1, "#fff3d6"))
    sun = orb(size.px(52), size.px(350), "#fff6d8", "#ffb45e", 0.85)
    early = ("#8a4a7c", "#6a3d73", "#4b2f63", "#2f214d", "#171433")
    late = ("#c9b59a", "#94a585", "#5f8a6b", "#35694f", "#153f36")
    mists = (
        ("#e58a78", "#ffe6b8"),
        ("#b8617a", "#f3dcae"),
        ("#80467a", "#bccf9d"),
        ("#4d2f66", "#7da97f"),
        ("#171433", "#0d2f2a"),
    )
    bases = [0.56 + 0.075 * i for i in range(5)]
    ranges = [
        Range(
            hills(size, 11 + i, 900 - 90 * i, 30 + 9 * i),
            gradient(size, (base - 0.05, early[i]), (base + 0.16, mists[i][0])),
            gradient(size, (base - 0.05, late[i]), (base + 0.16, mists[i][1])),
        )
        for i, base in enumerate(bases)
    ]
    birds = flock(size, "#2a1c3f")

    def paint(canvas: Canvas, part: float, seconds: float) -> None:
        light = ease(part, 0.05, 0.95)
        canvas.wash(mix(night, day, light))
        canvas.blit(sun, size.width * 0.62 - sun.width / 2, size.height * (0.66 - 0.42 * part) - sun.height / 2)
        for i, (base, hill) in enumerate(zip(bases, ranges, strict=True)):
            heights = size.height * base + hill.line(40 * i + (6 + 14 * i) * part * 5) * size.unit
            canvas.ridge(heights, mix(hill.early, hill.late, light))
            if i == 1:
                for n in range(7):
                    wing = birds[int(seconds * 22 + n * 5) % len(birds)]
                    x = size.width * (-0.1 + 0.75 * part) + (n - 3) * 44 * size.unit
                    y = size.height * (0.36 - 0.12 * part) + abs(n - 3) * 22 * size.unit
                    canvas.blit(wing, x, y + 5 * size.unit * math.sin(seconds * 1.3 + n))

    return paint


def balloon(size: Size, width: float, colours: Sequence[str]) -> Sprite:
    """A striped hot air balloon, lit from the left, with its basket."""
    wide, high = size.px(width), size.px(width * 1.5)
    w, h = 2 * wide, 2 * high  # reduced at the end, for the stripes' edges
    ys, xs = np.mgrid[0:h, 0:w].astype(np.float32)
    across, down = (xs + 0.5) / w * 2 - 1, (ys + 0.5) / (w * 1.2)
    round_part = np.sqrt(np.clip(1 - ((down - 0.42) / 0.42) ** 2, 0, 1))
    neck = 0.16 + 0.84 * np.cos(np.clip((down - 0.42) / 0.58, 0, 1) * 1.57) ** 0.8
    reach = np.where(down < 0.42, round_part, neck) * 0.98
    turn = np.arcsin(np.clip(across / np.maximum(reach, 1e-3), -1, 1))
    stripes = np.floor((turn / math.pi + 0.5) * 9.999).astype(int) % len(colours)
    table = np.array([ImageColor.getrgb(colour)[:3] for colour in colours], np.float32)
    light = 0.62 + 0.42 * np.cos(turn + 0.55) - 0.18 * np.clip(down - 0.45, 0, 1)
    light += 0.35 * np.clip(np.cos(turn + 0.7), 0, 1) ** 8 * np.clip(1 - np.abs(down - 0.3) * 3, 0, 1)
    rgba = np.zeros((h, w, 4), np.float32)
    rgba[..., :3] = np.clip(table[stripes] * light[..., None], 0, 255)
    rgba[..., 3] = 255 * np.clip((reach - np.abs(across)) * w / 2 + 0.5, 0, 1) * (down < 1)
    envelope = Image.fromarray(rgba.astype(np.uint8)).reduce(2)

    def basket(draw: ImageDraw.ImageDraw, fine: int) -> None:
        x, y, f = wide / 2 * fine, wide * 1.2 * fine, wide * fine / 100
        for side in (-1, 1):
            draw.line([(x + side * 7 * f, y - f), (x + side * 6 * f, y + 14 * f)], "#4a3524", max(1, round(f)))
        draw.rounded_rectangle([x - 8 * f, y + 12 * f, x + 8 * f, y + 25 * f], 2 * f, "#7a4f2a")
        draw.rectangle([x - 8.5 * f, y + 12 * f, x + 8.5 * f, y + 14.5 * f], "#b9814a")

    envelope.alpha_composite(drawn(wide, high, basket))
    return Sprite(envelope)


def balloons(size: Size) -> Scene:
    """Balloons rise over a valley in the haze of the morning."""
    sky = gradient(size, (0, "#3f8fd0"), (0.4, "#9fd3ec"), (0.68, "#fbe6d0"), (1, "#ffd9c2"))
    clouds = [cloud(size, 40 + i, 300 + 70 * i, "#ffffff", "#f3cfc2", 0.85) for i in range(4)]
    tones = (("#a9c6cf", "#e9ded2"), ("#7fb0ab", "#d6dcbf"), ("#4f9279", "#a9c994"), ("#2c6e52", "#5fa069"))
    ranges = [
        (
            0.66 + 0.085 * i,
            hills(size, 60 + i, 1100 - 160 * i, 24 + 8 * i),
            gradient(size, (0.63 + 0.085 * i, top), (0.82 + 0.085 * i, low)),
        )
        for i, (top, low) in enumerate(tones)
    ]
    dyes = (
        ("#e4572e", "#f9c74f", "#f3efe6"),
        ("#3a86c8", "#f3efe6"),
        ("#8e3b8a", "#f2786d", "#ffd166"),
        ("#2a9d8f", "#e9c46a", "#f3efe6"),
        ("#d62246", "#f3efe6"),
        ("#4056a1", "#f9a826"),
    )
    widths, xs = (62, 84, 250, 120, 178, 52), (0.3, 0.61, 0.44, 0.9, 0.73, 0.14)
    fleet = sorted(zip(widths, xs, dyes, range(6), strict=True))  # the far ones first
    crew = [(width, x, n, balloon(size, width, colours)) for width, x, colours, n in fleet]

    def paint(canvas: Canvas, part: float, seconds: float) -> None:
        canvas.wash(sky)
        for i, puff in enumerate(clouds):
            x = (0.05 + 0.27 * i + (0.05 + 0.02 * i) * part) * size.width
            canvas.blit(puff, x - puff.width * 0.3, size.height * (0.12 + 0.09 * ((i * 2) % 3)))
        for i, (base, heights, lines) in enumerate(ranges):
            canvas.ridge(size.height * base + heights(90 * i + 22 * (i + 1) * part) * size.unit, lines)
        for width, x, n, sprite in crew:
            rise = (0.06 + width / 1000) * part
            sway = 5 * size.unit * math.sin(seconds * 0.9 + 2 * n)
            left = size.width * (x + (0.02 + width / 4000) * part) - sprite.width / 2 + sway
            top = size.height * (0.45 - 0.05 * (n % 3) + width / 1300 - rise) - sprite.height / 2
            canvas.blit(sprite, left, top + 4 * size.unit * math.sin(seconds * 1.1 + n))

    return paint


def sailing_boat(size: Size) -> list[Sprite]:
    """A small boat, leaning from one side to the other."""
    side = size.px(250)

    def paint(draw: ImageDraw.ImageDraw, fine: int) -> None:
        def at(*points: tuple[float, float]) -> list[tuple[float, float]]:
            return [(x * side * fine / 100, y * side * fine / 100) for x, y in points]

        def sail(x: float, top: float, reach: float, belly: float, colour: str) -> None:
            down = np.linspace(0, 1, 24)
            edge = [(x + reach * d + belly * math.sin(math.pi * d), top + (74 - top) * d) for d in down]
            draw.polygon(at((x, top), *edge, (x, 74)), colour)

        sail(51, 8, 34, 5, "#fdfaf2")
        sail(51, 8, 8, 3, "#e4e0d4")
        sail(48, 14, -31, 3, "#e8503a")
        sail(48, 14, -8, 1, "#c93f2d")
        draw.line(at((49.5, 5), (49.5, 80)), "#5b3a22", round(side * fine / 75))
        draw.polygon(at((51, 4), (60, 7), (51, 10)), "#f4c430")
        draw.polygon(at((12, 78), (92, 78), (80, 92), (24, 92)), "#22405f")
        draw.polygon(at((12, 78), (92, 78), (90, 81), (14, 81)), "#f5efe0")

    boat = drawn(side, side, paint)
    return [Sprite(boat.rotate(angle * 0.6, Image.Resampling.BICUBIC)) for angle in range(-8, 9)]


def ocean(size: Size) -> Scene:
    """A boat on a bright sea: every wave is drawn with a line of light along its crest."""
    sky = gradient(size, (0, "#1877c9"), (0.3, "#5fb4ea"), (0.5, "#cdeefb"), (1, "#ffffff"))
    sun = orb(size.px(40), size.px(290), "#fffdf0", "#fff3c4", 0.8)
    clouds = [cloud(size, 80 + i, 420 - 60 * i, "#ffffff", "#cfe6f5", 0.95) for i in range(4)]
    sea = gradient(size, (0.5, "#7fd0e4"), (0.56, "#2ba3cf"), (0.75, "#0c6fae"), (1, "#08457f"))
    still = backdrop(size, sky, sun, 0.57, 0.22)
    boat, gulls = sailing_boat(size), flock(size, "#f6fbff")
    waves = []
    for i in range(7):
        near = (i / 6) ** 1.5
        high = 2.5 + 16 * near
        line = swell(size, (150 + 420 * near, high, i * 1.7), (83 + 190 * near, high * 0.45, i * 2.9))
        tone = gradient(size, (0.5, "#8ad6e6"), (0.62, "#35abd4"), (0.8, "#1483bd"), (1, "#0a5a99"))
        crest, foot = (mix(yuv(a), yuv(b), near) for a, b in (("#31a9d3", "#1178b4"), ("#0f6fb0", "#063a70")))
        body = between(size, (0.505 + 0.4 * near, crest), (0.68 + 0.4 * near, foot))
        waves.append((0.505 + 0.43 * near, near, line, tone, body))
    glints = np.random.default_rng(5).uniform(0, 1, (3, 220)).astype(np.float32)
    shine, wide, thin = np.tile(yuv("#fffbe0"), (220, 1)), size.px(14), size.px(2.4)
    depths = (0.51 + 0.4 * glints[1] ** 1.6) * size.height
    far = depths < size.height * 0.68

    def glitter(canvas: Canvas, seconds: float, where: NDArray[np.bool_]) -> None:
        lit = where & (np.sin(seconds * (1.5 + 4 * glints[2]) + 40 * glints[0]) > 0.55)
        xs = size.width * (0.57 + (glints[0] - 0.5) * (0.08 + 0.34 * glints[1]))
        canvas.boxes(xs[lit], depths[lit], wide, thin, shine[lit])

    def paint(canvas: Canvas, part: float, seconds: float) -> None:
        canvas.repeat(still)
        for i, puff in enumerate(clouds):
            x = size.width * ((0.02 + 0.3 * i) + 0.07 * part) - puff.width * 0.3
            canvas.blit(puff, x, size.height * (0.3 - 0.08 * (i % 3)) - puff.height / 3)
        for n in range(3):
            x, y = 0.9 - 0.55 * part + 0.06 * n, 0.24 + 0.03 * n + 0.02 * math.sin(seconds + n)
            canvas.blit(gulls[int(seconds * 15 + n * 4) % len(gulls)], x * size.width, y * size.height)
        canvas.ridge(np.full(size.width, size.height * 0.5, np.float32), sea)
        for i, (base, near, line, tone, body) in enumerate(waves):
            drift = seconds * (18 + 60 * near) * (1 if i % 2 else -0.6)
            bob = math.sin(seconds * 1.1 + i) * 5 * near
            heights = size.height * base + (line(drift) + bob) * size.unit
            if i == 4:
                glitter(canvas, seconds, far)  # what lies behind the boat, before the boat
                at = 0.16 + 0.36 * part
                place = min(size.width - 1, max(0, int(at * size.width)))
                lean = boat[round(8 + 7 * math.sin(seconds * 1.4))]
                canvas.blit(lean, at * size.width - lean.width / 2, heights[place] - lean.height * 0.86)
            canvas.ridge(heights, tone)
            canvas.ridge(heights + (1.5 + 6 * near) * size.unit, body)
        glitter(canvas, seconds, ~far)

    return paint


def leaves(size: Size) -> list[list[Sprite]]:
    """Leaves of several kinds, each at every angle of its fall."""
    kinds = []
    for colour, length in (("#c8371b", 62), ("#ee7f1d", 52), ("#f5ad22", 42), ("#9c2417", 74), ("#f8d04e", 34)):
        side = size.px(length)

        def paint(draw: ImageDraw.ImageDraw, fine: int, side: int = side, colour: str = colour) -> None:
            turns = np.linspace(0, 2 * math.pi, 60)
            xs = 0.5 + 0.42 * np.cos(turns)
            ys = 0.5 + 0.26 * np.sin(turns) * (1 + 0.25 * np.cos(turns)) + 0.02 * np.sin(9 * turns)
            outline = [(x * side * fine, y * side * fine) for x, y in zip(xs, ys, strict=True)]
            draw.polygon(outline, colour)
            draw.line([(0, side * fine / 2), (side * fine * 0.85, side * fine / 2)], "#5b1f10", max(1, fine // 2))

        leaf = drawn(side, side, paint)
        frames = []
        for i in range(16):
            flat = leaf.resize((side, max(2, round(side * (0.35 + 0.65 * abs(math.cos(i * math.pi / 8)))))))
            frames.append(Sprite(flat.rotate(i * 22.5, Image.Resampling.BICUBIC, expand=True)))
        kinds.append(frames)
    return kinds


def birch(size: Size, seed: int, width: float) -> Sprite:
    """The trunk of a birch, from the bottom of the picture to its top."""
    rng = np.random.default_rng(seed)
    w, h = size.px(width), size.height

    def paint(draw: ImageDraw.ImageDraw, fine: int) -> None:
        for _ in range(26):
            x, y, length = rng.uniform(-0.2, 0.9) * w, rng.uniform(0, 1) * h, rng.uniform(0.15, 0.6) * w
            thick = rng.uniform(0.02, 0.09) * w
            draw.ellipse([x * fine, y * fine, (x + length) * fine, (y + thick) * fine], "#2b2320")

    across = (np.arange(w) + 0.5) / w
    light = np.clip(0.55 + 0.6 * np.sin(math.pi * (across * 0.85 + 0.02)) - 0.25 * across, 0, 1)
    bark = np.empty((h, w, 4), np.uint8)
    bark[..., :3] = np.clip(light[None, :, None] * np.array([250, 240, 226]), 0, 255)
    bark[..., 3] = 255 * np.clip(np.minimum(across, 1 - across) * w, 0, 1)
    trunk = Image.fromarray(bark)
    marks = drawn(w, h, paint)
    trunk.paste(marks, (0, 0), Image.fromarray(np.minimum(np.asarray(marks)[..., 3], bark[..., 3])))
    return Sprite(trunk)


def autumn(size: Size) -> Scene:
    """Falling leaves before wooded slopes in low light, with birches gliding past."""
    sky = gradient(size, (0, "#eda65a"), (0.2, "#f6c987"), (0.45, "#fdeac4"), (1, "#fff3d8"))
    sun = orb(size.px(60), size.px(380), "#fffdf2", "#ffdf9a", 0.9)
    still = backdrop(size, sky, sun, 0.62, 0.34)
    tones = (
        ("#e7bd83", "#f8e3b9"),
        ("#df9a4f", "#f0c98d"),
        ("#d0702c", "#e5a255"),
        ("#b5451f", "#cf7632"),
        ("#7f2a1c", "#98431f"),
    )
    woods = []
    for i, (top, low) in enumerate(tones):
        base, tree = 0.42 + 0.125 * i, 26 + 17 * i
        tops, slope = skyline(size, crowns(30 + i, 2600, tree)), hills(size, 90 + i, 1000, 26)
        woods.append((base, tops, slope, gradient(size, (base - 0.1, top), (base + 0.16, low))))
    trunks = [(birch(size, 7 + i, width), x) for i, (width, x) in enumerate(((40, 0.16), (56, 0.86), (92, 0.4)))]
    kinds = leaves(size)
    fall = np.random.default_rng(3).uniform(0, 1, (34, 5))

    def paint(canvas: Canvas, part: float, seconds: float) -> None:
        canvas.repeat(still)
        for i, (base, tops, slope, lines) in enumerate(woods):
            shift = (14 + 34 * i) * part * 2
            heights = size.height * base + (tops(shift) + slope(shift)) * size.unit
            canvas.ridge(heights, lines)
        for i, (trunk, x) in enumerate(trunks):
            canvas.blit(trunk, size.width * (x - (0.14 + 0.1 * i) * (part - 0.4)), 0)
        for n, (x, y, turn, pace, sway) in enumerate(fall):
            frames = kinds[n % len(kinds)]
            down = (y + seconds * (0.07 + 0.1 * pace)) % 1.2 - 0.1
            aside = (x + 0.02 * seconds + 0.03 * math.sin(seconds * (1 + sway) + 6 * y)) % 1.1 - 0.05
            leaf = frames[int(seconds * (5 + 6 * turn) + 16 * x) % len(frames)]
            canvas.blit(leaf, size.width * aside, size.height * down)

    return paint


def houses(seed: int, length: int, low: float, high: float) -> tuple[Floats, list[tuple[int, int, float]]]:
    """A table of a row of houses, and each house as (left, width, height)."""
    rng = np.random.default_rng(seed)
    table, blocks, place = np.full(length, -0.7 * low, np.float32), [], 0
    while place < length:
        width = int(rng.integers(46, 104))
        height = low + (high - low) * float(rng.beta(1.6, 2.2))
        table[place : place + width] = -height
        if rng.uniform() < 0.3:
            table[place + width // 4 : place + width - width // 4] = -height - 16
        if rng.uniform() < 0.3:
            table[place + width // 2 - 1 : place + width // 2 + 1] = -height - 48
        blocks.append((place, width, height))
        place += width + int(rng.integers(0, 9))
    return table, blocks


def windows(seed: int, base: float, blocks: Sequence[tuple[int, int, float]]) -> tuple[Floats, Floats, Floats]:
    """The windows of a row of houses in the order in which they are lit: left and upper edges, colours."""
    rng = np.random.default_rng(seed)
    places = [
        (left + x, base - height + y)
        for left, width, height in blocks
        for y in range(14, int(height) - 8, 17)
        for x in range(8, width - 12, 13)
    ]
    chosen = rng.permutation(np.array(places, np.float32))[: len(places) // 2]
    lights = np.stack([yuv(colour) for colour in ("#ffd98a", "#ffc25a", "#fff0c9", "#ffb347", "#bfe3ff")])
    colours = lights[rng.choice(5, len(chosen), p=[0.35, 0.25, 0.2, 0.12, 0.08])]
    return chosen[:, 0], chosen[:, 1], colours


def city(size: Size) -> Scene:
    """Dusk over a city by the water: window after window lights up while the moon rises."""
    dusk = gradient(size, (0, "#2b2d6e"), (0.3, "#7b3f8c"), (0.52, "#e8647c"), (0.7, "#ffb36b"), (1, "#ffb36b"))
    night = gradient(size, (0, "#060a24"), (0.3, "#111a4a"), (0.52, "#2d2a66"), (0.7, "#5b3f7d"), (1, "#5b3f7d"))
    moon = orb(size.px(44), size.px(260), "#fdf6e3", "#c9c4ff", 0.5)
    shore, base = round(size.height * 0.7 / 2) * 2, 504.0
    rows: list[Range] = []
    lit: list[tuple[Floats, Floats, Floats]] = []
    for i, (low, high) in enumerate(((120, 330), (60, 250), (26, 130))):
        table, blocks = houses(21 + i, 1600, low, high)
        tone = ("#7a4a7f", "#3f2c5c", "#191634")[i], ("#2c2858", "#1a1a40", "#0b0c24")[i]
        rows.append(Range(skyline(size, table), *(gradient(size, (0, colour)) for colour in tone)))
        if i:
            lit.append(windows(51 + i, base, blocks))
    rng = np.random.default_rng(8)
    water = gradient(size, (0.7, "#3a2a5e"), (1, "#0a0d2a"))
    stars = rng.uniform(0, 1, (3, 160)).astype(np.float32)
    wide, tall = size.px(5), size.px(8)

    def paint(canvas: Canvas, part: float, seconds: float) -> None:
        dark = ease(part, 0.0, 0.85)
        canvas.wash(mix(dusk, night, dark))
        canvas.sparkle(stars[0] * size.width, stars[1] * size.height * 0.5, stars[2] * dark * 0.75)
        canvas.blit(moon, size.width * 0.6 - moon.width / 2, size.height * (0.5 - 0.32 * part) - moon.height / 2)
        for i, row in enumerate(rows):
            shift = 8 + (4 + 9 * i) * 3 * part
            canvas.ridge((row.line(shift) + base) * size.unit, mix(row.early, row.late, dark))
            if i:
                lefts, tops, colours = lit[i - 1]
                count = int(len(tops) * (0.06 + 0.94 * ease(part, -0.05, 0.9)))
                places = np.rint((lefts[:count] - shift) * size.unit), np.rint(tops[:count] * size.unit)
                canvas.boxes(*places, wide, tall, colours[:count])
        canvas.mirror(shore, seconds, water, 0.25)

    return paint


def aurora(size: Size) -> Scene:
    """The northern lights over a mountain lake, below stars that turn around the pole."""
    sky = gradient(size, (0, "#040a20"), (0.35, "#081d3a"), (0.62, "#124a5a"), (1, "#124a5a"))
    glow = gradient(size, (0, "#8a45e0"), (0.14, "#5a6ff0"), (0.3, "#22d8a6"), (0.6, "#8dffb4"), (1, "#8dffb4"))
    shore = round(size.height * 0.72 / 2) * 2
    far, near = skyline(size, crags(16, 2048, 96)), skyline(size, crags(9, 2048, 84))
    snow = gradient(size, (0.36, "#c3d8ec"), (0.5, "#5f83a6"), (0.72, "#16304a"))
    stone = gradient(size, (0.5, "#3c6079"), (0.62, "#12283d"), (0.72, "#0a1a2b"))
    wood, forest = skyline(size, firs(2, 2048, 92)), gradient(size, (0.55, "#0a1c26"), (0.73, "#03090e"))
    water = gradient(size, (0.72, "#0c2c3d"), (1, "#020812"))
    trail = np.linspace(0, 1, 160, dtype=np.float32)
    turn, away, light = np.random.default_rng(6).uniform(0, 1, (3, 420)).astype(np.float32)
    columns = np.arange(0, size.width + 2 * COARSE, COARSE, dtype=np.float32) / size.width
    rows = np.arange(0, shore + 2 * COARSE, COARSE)
    lines = (rows / shore).astype(np.float32)[:, None]
    rows = np.minimum(rows, shore)
    behind, shine = sky[rows, None], glow[rows, None] - sky[rows, None]

    def curtain(seconds: float, phase: float, low: float) -> Floats:
        fold = columns * 7 + phase + 0.6 * np.sin(columns * 5 + seconds * 0.35 + phase)
        foot = low + 0.13 * np.sin(fold + seconds * 0.25) + 0.035 * np.sin(fold * 3.1 - seconds * 0.6)
        rays = 0.55 + 0.3 * np.sin(fold * 9 + seconds * 0.9) + 0.15 * np.sin(fold * 23 - seconds * 1.7)
        above = foot - lines
        veil = np.clip(above * 14 + 1, 0, 1) * np.exp(-np.clip(above, 0, None) * (3.2 + 2.5 * rays)) * rays
        veil *= 0.65 + 0.35 * np.sin(columns * 4 + phase * 2 + seconds * 0.4)
        return np.asarray(veil, np.float32)

    def paint(canvas: Canvas, part: float, seconds: float) -> None:
        veil = curtain(seconds, 0.4, 0.66) + 0.8 * curtain(seconds * 1.2, 3.1, 0.5) + 0.5 * curtain(seconds, 5.2, 0.34)
        canvas.haze(shore, behind + shine * np.clip(veil * 1.3, 0, 0.96)[..., None])
        angle, radius = 2 * math.pi * turn + 0.035 * seconds, np.sqrt(away) * size.width * 0.75
        twinkle = light**1.6 * (0.8 + 0.2 * np.sin(seconds * (2 + 5 * turn) + 50 * away))
        xs, ys = size.width * 0.56 + radius * np.cos(angle), size.height * 0.2 + radius * np.sin(angle)
        canvas.sparkle(xs, ys, twinkle)
        flight = (part - 0.42) / 0.09
        if 0 < flight < 1:
            along = size.width * (0.3 + 0.34 * flight - trail * 0.1 * ease(flight, 0, 0.4))
            fading = (1 - trail) * math.sin(math.pi * flight)
            canvas.sparkle(along, size.height * 0.1 + (along - size.width * 0.3) * 0.42, fading)
        shift = 60 * part
        canvas.ridge(size.height * 0.54 + far(shift * 0.4) * size.unit, snow)
        canvas.ridge(size.height * 0.63 + near(shift * 0.8 + 300) * size.unit, stone)
        canvas.ridge(size.height * 0.715 + wood(shift * 1.4) * size.unit, forest)
        canvas.mirror(shore, seconds, water, 0.18)

    return paint


SCENES: tuple[tuple[str, Callable[[Size], Scene]], ...] = (
    ("Dawn", dawn),
    ("Balloons", balloons),
    ("Ocean", ocean),
    ("Autumn", autumn),
    ("City", city),
    ("Aurora", aurora),
)


def lettering(text: str, height: int, weight: int) -> Image.Image:
    """White letters on nothing, as wide as they need and all of one height."""
    font = ImageFont.load_default(height)
    right = round(font.getbbox(text, stroke_width=weight)[2])
    bottom = round(font.getbbox("y", stroke_width=weight)[3])  # of every text, so that all stand on one line
    picture = Image.new("RGBA", (max(1, right), max(1, bottom + weight)), (255, 255, 255, 0))
    ImageDraw.Draw(picture).text((0, 0), text, "white", font, stroke_width=weight, stroke_fill="white")
    return picture


def title(text: str, size: Size) -> Sprite:
    """The name of a scene, with a soft shadow that keeps it legible before every sky."""
    letters, margin = lettering(text, size.px(76), size.px(1)), size.px(24)
    place = (margin, margin)
    shadow = Image.new("RGBA", (letters.width + 2 * margin, letters.height + 2 * margin))
    shadow.paste((8, 10, 30, 170), place, letters.getchannel("A"))
    shadow = shadow.filter(ImageFilter.GaussianBlur(size.px(7)))
    shadow.alpha_composite(letters, place)
    return Sprite(shadow)


class Counter:
    """The clock and the frame number on dark plates, and a line of progress at the foot.

    The plates are at the top, where no player lays its controls over them.
    """

    def __init__(self, size: Size, seconds: float) -> None:
        self.size, self.seconds = size, seconds
        self.tall, self.edge, self.line = size.even(112), size.px(26), size.px(8)
        self.signs = {sign: Sprite(self._key(sign)) for sign in "0123456789:.#"}
        self.ends = self._end(), self._end(mirrored=True)
        self.track, self.done = yuv("#20242c"), yuv("#ff5d73")

    def _key(self, sign: str) -> Image.Image:
        """A sign on its piece of the plate; digits are all of one width, so that nothing trembles in counting."""
        letters = lettering(sign, self.size.px(94), self.size.px(2))
        key = Image.new("RGBA", (self.size.even(28 if sign in ":." else 54), self.tall), PLATE)
        key.alpha_composite(letters, (max(0, (key.width - letters.width) // 2), 0))
        return key

    def _end(self, mirrored: bool = False) -> Sprite:
        """The rounded end of a plate."""
        wide = self.size.even(20)

        def paint(draw: ImageDraw.ImageDraw, fine: int) -> None:
            draw.rounded_rectangle((0, 0, 2 * wide * fine, self.tall * fine - 1), wide * fine, PLATE)

        end = drawn(wide, self.tall, paint)
        return Sprite(ImageOps.mirror(end) if mirrored else end)

    def draw(self, canvas: Canvas, time: Fraction, number: int) -> None:
        """Writes the time as minutes, seconds and milliseconds at the left, the frame's number at the right."""
        minutes, milliseconds = divmod(round(time * 1000), 60_000)
        clock, count = (
            Sprite.row([self.ends[0], *(self.signs[sign] for sign in text), self.ends[1]])
            for text in (f"{minutes:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}", f"#{number:04}")
        )
        canvas.blit(clock, self.edge, self.edge)
        canvas.blit(count, self.size.width - self.edge - count.width, self.edge)
        foot = self.size.height - self.line
        canvas.box(0, foot, self.size.width, self.line, self.track)
        canvas.box(0, foot, round(self.size.width * min(1.0, float(time) / self.seconds)), self.line, self.done)


def frames(size: Size, seconds: float, rate: int) -> Iterator[Bytes]:
    """Every frame of the film in turn; the buffer is painted anew for the next one."""
    canvas, coming = Canvas(size), Canvas(size)
    scenes = [(title(name, size), build(size)) for name, build in SCENES]
    counter, length = Counter(size, seconds), seconds / len(SCENES)

    def paint(target: Canvas, index: int, time: float) -> None:
        name, scene = scenes[index]
        scene(target, time / length - index, time)
        target.blit(name, size.px(10), size.height - name.height - size.px(12))

    for number in range(max(1, round(seconds * rate))):
        time = Fraction(number, rate)
        index = min(len(scenes) - 1, int(time / Fraction(length)))
        paint(canvas, index, float(time))
        fade = 1 - ((index + 1) * length - float(time)) / min(FADE_SECONDS, length / 4)
        if fade > 0 and index + 1 < len(scenes):
            paint(coming, index + 1, float(time))
            part = round(256 * fade)
            blended = canvas.buffer * np.uint16(256 - part) + coming.buffer * np.uint16(part)
            canvas.buffer[:] = blended >> 8
        counter.draw(canvas, time, number)
        yield canvas.buffer


def make_film(
    path: Path,
    *,
    seconds: float = 60,
    width: int = 1280,
    height: int = 720,
    rate: int = 30,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Writes the sample film as an MP4 (H.264); progress is told the part done, 0 to 1, now and then.

    The same call draws the same film: nothing in it is left to chance. Width and height must be even, as 4:2:0 wants.
    """
    if width < 16 or height < 16 or width % 2 or height % 2:
        raise ValueError(f"the film's sides must be even and at least 16, not {width} x {height}")
    if seconds <= 0 or rate <= 0:
        raise ValueError(f"the film needs a length and a frame rate above 0, not {seconds} s at {rate}")
    size, total = Size(width, height), max(1, round(seconds * rate))
    with av.open(path, "w", format="mp4", container_options={"movflags": "+faststart"}) as container:
        stream = add_stream(container, size, rate)
        for number, frame in enumerate(ahead(numbered(frames(size, seconds, rate), rate))):
            container.mux(stream.encode(frame))
            if progress and number % rate == 0:
                progress(number / total)
        container.mux(stream.encode(None))
    if progress:
        progress(1.0)


def numbered(pictures: Iterator[Bytes], rate: int) -> Iterator[av.VideoFrame]:
    """The pictures as the encoder takes them, each a copy with its time."""
    for number, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, rate)
        yield frame


def ahead(items: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """The same items, a few of them made in a thread of their own before they are asked for.

    One core paints while the other encodes: both are native code for the most part, which lets go of the lock.
    """
    with ThreadPoolExecutor(1, "painter") as painter:
        coming = deque(painter.submit(next, items, None) for _ in range(AHEAD))
        while (item := coming.popleft().result()) is not None:
            coming.append(painter.submit(next, items, None))
            yield item


def add_stream(container: OutputContainer, size: Size, rate: int) -> VideoStream:
    """A video stream that is quick to make and good to seek in: a keyframe every two seconds, B-frames between."""
    # Ultrafast alone makes no B-frames, and a thumbnailer must be seen to cope with them.
    options = {"preset": "ultrafast", "crf": "22", "bf": "2", "sc_threshold": "0"}
    stream = container.add_stream("libx264", rate=rate, options=options)
    stream.width, stream.height, stream.pix_fmt = size.width, size.height, "yuv420p"
    stream.gop_size = KEYFRAME_SECONDS * rate
    # The painter keeps the other core busy; and what comes out does not depend on the machine's number of cores.
    stream.thread_count = 1
    bt709, limited = 1, 1
    context = stream.codec_context
    context.color_primaries = context.color_trc = context.colorspace = bt709
    context.color_range = limited
    return stream
