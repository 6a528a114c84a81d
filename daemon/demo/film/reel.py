"""The frames of the film one after the other: the scenes, faded into each other, and what is written on them."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from daemon.demo.film.canvas import Canvas
from daemon.demo.film.design import Bytes, Size
from daemon.demo.film.lettering import Counter, title
from daemon.demo.film.scenes import SCENES

FADE_SECONDS = 0.5


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
