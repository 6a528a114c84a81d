"""Woods and falling leaves."""

import math

import numpy as np
from PIL import Image, ImageDraw

from daemon.demo.film.canvas import Canvas
from daemon.demo.film.design import Size, gradient
from daemon.demo.film.lines import crowns, hills, skyline
from daemon.demo.film.scenes.scene import Scene
from daemon.demo.film.sky import backdrop, orb
from daemon.demo.film.sprite import Sprite, drawn


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
