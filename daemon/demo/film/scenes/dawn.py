"""Dawn: hills, mist and birds."""

import math

from daemon.demo.film.canvas import Canvas
from daemon.demo.film.design import Size, ease, gradient, mix
from daemon.demo.film.lines import Range, hills
from daemon.demo.film.scenes.scene import Scene
from daemon.demo.film.sky import flock, orb


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
