"""Whatever has a shape of its own: drawn once with Pillow, kept as planes, and laid over many frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from daemon.demo.film.design import TO_YUV, ZERO_YUV, Floats

FINE = 4  # shapes are drawn this many times larger and reduced: Pillow's own drawing has hard edges


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


def halved(samples: Floats) -> Floats:
    """Half as wide and high, each sample the mean of four."""
    lines: Floats = samples[::2] + samples[1::2]
    quarters: Floats = (lines[:, ::2] + lines[:, 1::2]) * np.float32(0.25)
    return quarters


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
