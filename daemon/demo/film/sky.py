"""What is seen in the sky of more than one scene: sun and moon, birds, clouds."""

import math

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFilter

from daemon.demo.film.canvas import Canvas
from daemon.demo.film.design import Floats, Size
from daemon.demo.film.sprite import Sprite, drawn, shape


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
