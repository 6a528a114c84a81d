"""One frame, and everything that can be laid upon it: washes, landscapes, sprites, lights, haze, and reflections."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from daemon.demo.film.design import Bytes, Floats, Size
from daemon.demo.film.sprite import Sprite

COARSE = 8  # pixels between the samples of what is soft all over
STEEPEST = 4.0  # a steeper edge needs no wider blend
STEPS = (1, 2, 2)  # pixels of the picture to one sample of Y, U, V, each way


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
