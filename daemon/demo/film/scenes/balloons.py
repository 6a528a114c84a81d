"""Balloons over a valley."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from daemon.demo.film.canvas import Canvas
from daemon.demo.film.design import Size, gradient
from daemon.demo.film.lines import hills
from daemon.demo.film.scenes.scene import Scene
from daemon.demo.film.sky import cloud
from daemon.demo.film.sprite import Sprite, drawn


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
