"""Northern lights over a lake."""

import math

import numpy as np

from daemon.demo.film.canvas import COARSE, Canvas
from daemon.demo.film.design import Floats, Size, ease, gradient
from daemon.demo.film.lines import crags, firs, skyline
from daemon.demo.film.scenes.scene import Scene


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
