"""The edges of landscapes: waves and hills, mountains, forests, and tables of heights that go round and round."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from daemon.demo.film.design import Floats, Size

Line = Callable[[float], Floats]
"""The edge of a landscape: a height for every column, read from a shift onwards; both in pixels of the design."""


class Range(NamedTuple):
    """A range of hills or houses, and its colours at the beginning and at the end of its scene."""

    line: Line
    early: Floats
    late: Floats


def swell(size: Size, *waves: tuple[float, float, float]) -> Line:
    """A line of waves given as (length, height, phase); called with a shift, the heights of every column."""
    xs = np.arange(size.width, dtype=np.float32) / size.unit

    def heights(shift: float) -> Floats:
        total = np.zeros(size.width, np.float32)
        for length, height, phase in waves:
            total += height * np.sin((xs + shift) * np.float32(2 * math.pi / length) + phase)
        return total

    return heights


def hills(size: Size, seed: int, length: float, height: float) -> Line:
    """Soft hills: waves of falling length, no two of them in step."""
    rng = np.random.default_rng(seed)
    waves = [(length / 1.9**i * rng.uniform(0.85, 1.15), height / 2.1**i, rng.uniform(0, 6.3)) for i in range(5)]
    return swell(size, *waves)


def skyline(size: Size, table: Floats) -> Line:
    """A line given by its height at every pixel of the design, read from a shift onwards, round and round."""
    length = round(len(table) * size.unit)
    places = np.arange(length + size.width + 2) / size.unit
    line = np.interp(places, np.arange(len(table)), table, period=len(table)).astype(np.float32)

    def heights(shift: float) -> Floats:
        whole, part = divmod(shift * size.unit, 1)
        start = int(whole) % length
        here, next_ = line[start : start + size.width], line[start + 1 : start + size.width + 1]
        return here + (next_ - here) * np.float32(part)

    return heights


def crags(seed: int, length: int, height: float) -> Floats:
    """A table of steep mountains: noise of ever finer grain, joined by straight lines."""
    rng = np.random.default_rng(seed)
    total = np.zeros(length, np.float32)
    for octave in range(7):
        knots = 6 * 2**octave
        values = rng.uniform(-1, 1, knots)
        places = np.linspace(0, length, knots, endpoint=False)
        total += np.interp(np.arange(length), places, values, period=length) * height / 2.05**octave
    return total


def firs(seed: int, length: int, height: float) -> Floats:
    """A table of a forest's edge: firs side by side, their branches as small steps."""
    rng = np.random.default_rng(seed)
    table = np.zeros(length, np.float32)
    xs = np.arange(length, dtype=np.float32)
    place = 0.0
    while place < length:
        tall = height * rng.uniform(0.45, 1)
        away = np.abs((xs - place + length / 2) % length - length / 2)
        saw = (away / tall * 24) % 1 * tall * 0.055
        table = np.minimum(table, -np.clip(tall - away * 4.2 + saw, 0, None))
        place += tall * rng.uniform(0.16, 0.42)
    return table


def crowns(seed: int, length: int, size: float) -> Floats:
    """A table of round tree tops."""
    rng = np.random.default_rng(seed)
    table = np.zeros(length, np.float32)
    xs = np.arange(length, dtype=np.float32)
    place = 0.0
    while place < length:
        radius = size * rng.uniform(0.55, 1.1)
        lift = radius * rng.uniform(0.1, 0.9)
        for _ in range(7):  # a crown is a bunch of leaves, not a ball
            bunch, angle = radius * rng.uniform(0.3, 0.5), rng.uniform(0.2, math.pi - 0.2)
            middle, up = place + math.cos(angle) * radius * 0.7, lift + math.sin(angle) * radius * 0.7
            away = np.abs((xs - middle + length / 2) % length - length / 2)
            table = np.minimum(table, -(up + np.sqrt(np.clip(bunch**2 - away**2, 0, None))) * (away < bunch))
        place += radius * rng.uniform(0.7, 1.1)
    return np.minimum(table, -0.45 * size)  # no gap reaches down to the trunks
