"""How good a picture stands for a video: pure, on a small picture, the same on every machine.

    score = exposure * content * (contrast + sharpness + colour, weighted)          0 to 1, rounded to four digits

exposure    1 where the mean luma lies between 0.3 and 0.65, down to 0 at black and at white
content     1 unless one grey fills more than half of the picture (title cards, letters on a plain ground), down to 0
contrast    standard deviation of luma, full at 0.22
sharpness   mean absolute Laplacian of luma (Pech-Pacheco et al., ICPR 2000, take its variance), half at 0.03
colour      colourfulness of D. Hasler and S. Suesstrunk, "Measuring Colourfulness in Natural Images" (2003), full at 60

A picture is blank where its luma spans less than an eighth of the range, or is nearly all black or white: it is taken
only where there is no other. Fades are found by their contrast: they are what is left of a picture's.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daemon.media.device import RGB

_LUMA = np.array([0.2126, 0.7152, 0.0722])
_GREYS = 32  # bins in which one grey is looked for
_CELLS = 8  # across and down, of a signature
_ALIKE = 0.03  # mean difference of signatures, of 1, below which two pictures are near-duplicates
_WEIGHTS = {"contrast": 0.4, "sharpness": 0.35, "colour": 0.25}

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """`value`: 0 to 1, more is better. `blank`: nothing can be seen. `signature`: (8, 8, 3), 0 to 1, its colours."""

    value: float
    blank: bool
    signature: _Floats

    def resembles(self, other: "Score") -> bool:
        """They are near-duplicates."""
        return float(np.abs(self.signature - other.signature).mean()) < _ALIKE


def score(picture: RGB) -> Score:
    """Of uint8 (height, width, 3), about 160 pixels wide."""
    rgb = picture.astype(np.float64) / 255
    luma = rgb @ _LUMA
    low, high = _ends(luma)
    mean = float(luma.mean())
    content = 1 - _ramp(_fullest_grey(luma), 0.5, 0.95)
    parts = {
        "contrast": min(1.0, float(luma.std()) / 0.22),
        "sharpness": _sharpness(luma),
        "colour": min(1.0, _colourfulness(rgb * 255) / 60),
    }
    exposure = _ramp(mean, 0.02, 0.3) * (1 - _ramp(mean, 0.65, 0.98))
    value = exposure * content * sum(weight * parts[part] for part, weight in _WEIGHTS.items())
    return Score(
        value=round(value, 4),
        blank=bool(high - low < 1 / 8 or mean < 0.03 or mean > 0.97),
        signature=_signature(rgb),
    )


def _ends(luma: _Floats) -> tuple[float, float]:
    """What all but a fiftieth of the picture is brighter, and darker, than."""
    places = luma.size // 50, luma.size - 1 - luma.size // 50
    ordered = np.partition(luma, places, axis=None)
    return float(ordered[places[0]]), float(ordered[places[1]])


def _ramp(value: float, begin: float, end: float) -> float:
    """0 up to `begin`, 1 from `end` on."""
    return min(1.0, max(0.0, (value - begin) / (end - begin)))


def _fullest_grey(luma: _Floats) -> float:
    """The share of the picture that the most frequent grey fills, with both its neighbours."""
    counts = np.histogram(luma, bins=_GREYS, range=(0, 1))[0]
    return float(np.convolve(counts, (1, 1, 1), "same").max() / luma.size)


def _sharpness(luma: _Floats) -> float:
    if min(luma.shape) < 3:
        return 0.0
    middle = luma[1:-1, 1:-1]
    around = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    edges = float(np.abs(4 * middle - around).mean())
    return edges / (edges + 0.03)


def _colourfulness(rgb: _Floats) -> float:
    """Of R'G'B' 0..255: 0 is grey, 33 moderate, 82 high."""
    red_green = rgb[..., 0] - rgb[..., 1]
    yellow_blue = (rgb[..., 0] + rgb[..., 1]) / 2 - rgb[..., 2]
    spread = np.hypot(red_green.std(), yellow_blue.std())
    return float(spread + 0.3 * np.hypot(red_green.mean(), yellow_blue.mean()))


def _signature(rgb: _Floats) -> _Floats:
    rows, columns = (_cells(length) for length in rgb.shape[:2])
    return np.array([[rgb[row, column].mean(axis=(0, 1)) for column in columns] for row in rows])


def _cells(length: int) -> list[slice]:
    borders = [(n * length // _CELLS, (n + 1) * length // _CELLS) for n in range(_CELLS)]
    return [slice(begin, max(end, begin + 1)) for begin, end in borders]
