"""A boat at sea."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from daemon.demo.film.canvas import Canvas
from daemon.demo.film.design import Size, between, gradient, mix, yuv
from daemon.demo.film.lines import swell
from daemon.demo.film.scenes.scene import Scene
from daemon.demo.film.sky import backdrop, cloud, flock, orb
from daemon.demo.film.sprite import Sprite, drawn


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
