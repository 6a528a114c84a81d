"""A city by the water, at dusk."""

from collections.abc import Sequence

import numpy as np

from daemon.demo.film.canvas import Canvas
from daemon.demo.film.design import Floats, Size, ease, gradient, mix, yuv
from daemon.demo.film.lines import Range, skyline
from daemon.demo.film.scenes.scene import Scene
from daemon.demo.film.sky import orb


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
