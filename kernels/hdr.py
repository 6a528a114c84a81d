"""Signals of other standards to sRGB pictures: HDR (PQ and HLG) tone-mapped, other primaries converted.

The way of a sample, all in float32 and on the small picture, so that its cost is that of the thumbnail:

    R'G'B' signal  ->  light (1 = SDR white, 203 cd/m2)  ->  tone curve  ->  BT.709 primaries  ->  sRGB code

**Light.** PQ: the EOTF of SMPTE ST 2084 (ITU-R BT.2100-2, table 4). HLG: the inverse OETF and the OOTF with system
gamma 1.2 for a display of 1000 cd/m2 (BT.2100-2, table 5). SDR signals are taken as sRGB: that is how a browser shows
a picture, and how SDR video that needs no conversion passes through.

**Tone curve.** The EETF of ITU-R BT.2390-8, 5.4.1: identity below a knee, from there a Hermite spline that rolls
the highlights off, so that `peak` of the source becomes SDR white. White is 203 cd/m2, the HDR reference white of ITU-R
BT.2408-5: mid tones keep their luminance (a grey card of 26 cd/m2 stays there, whatever the peak), and nothing below
the peak is clipped. It is applied to the largest of R, G and B, and the others are scaled alike: hue and
saturation stay.

**Primaries.** From the chromaticities of ITU-T H.273, table 2, by the usual way over CIE XYZ (SMPTE RP 177), each white
becoming white. Colours outside BT.709 are clipped.
"""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Primaries = Literal["bt709", "bt470m", "bt601-625", "bt601-525", "film", "bt2020", "dci-p3", "display-p3", "ebu3213"]
Transfer = Literal["sdr", "pq", "hlg"]

SDR_WHITE = 203.0  # cd/m2
NOMINAL_PEAK = 1000.0  # cd/m2, of HLG, and of PQ that names none

_D65, _C = (0.3127, 0.3290), (0.310, 0.316)
# ITU-T H.273, table 2: red, green, blue, white.
CHROMATICITIES: dict[Primaries, tuple[tuple[float, float], ...]] = {
    "bt709": ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65),
    "bt470m": ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), _C),
    "bt601-625": ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), _D65),
    "bt601-525": ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    "film": ((0.681, 0.319), (0.243, 0.692), (0.145, 0.049), _C),
    "bt2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    "dci-p3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    "display-p3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
    "ebu3213": ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), _D65),
}

# SMPTE ST 2084.
_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_PQ_PEAK = 10_000.0
# BT.2100-2, table 5.
_HLG_A, _HLG_GAMMA = 0.17883277, 1.2
_HLG_B, _HLG_C = 1 - 4 * _HLG_A, 0.5 - _HLG_A * np.log(4 * _HLG_A)

_CODES = 1 << 16  # of a signal of 16 bits
_KNOTS = 1 << 16  # of the tone curve: so many that it has no steps
_ROWS = 1 << 18  # samples that are converted at a time: the middle values of a whole 4K picture would take 400 MB

Floats = NDArray[np.float32]


def to_srgb(
    signal: NDArray[np.uint16], primaries: Primaries, transfer: Transfer, peak: float = NOMINAL_PEAK
) -> NDArray[np.uint8]:
    """R'G'B' uint16 (height, width, 3), full range, to sRGB uint8 of the same shape. `peak`: of the source in cd/m2,
    for PQ."""
    out = np.empty(signal.shape, np.uint8)
    rows = max(1, _ROWS // max(1, signal.shape[1]))
    for begin in range(0, len(signal), rows):
        light = _light(signal[begin : begin + rows], transfer)
        if transfer != "sdr":
            light *= _gain(light.max(axis=2), peak_of(transfer, peak))[..., None]
        if primaries != "bt709":
            light = light @ to_bt709(primaries).T.astype(np.float32)
        codes = (np.clip(light, 0, 1) * np.float32(_CODES - 1) + np.float32(0.5)).astype(np.uint16)
        out[begin : begin + rows] = srgb_codes()[codes]
    return out


def peak_of(transfer: Transfer, peak: float) -> float:
    """The brightest of a source in cd/m2, where PQ says `peak`: HLG is made for one display."""
    return NOMINAL_PEAK if transfer == "hlg" else peak


def tone_map(luminance: NDArray[np.float64], peak: float) -> NDArray[np.float64]:
    """Display luminance in cd/m2 of what the source shows at `luminance` cd/m2: BT.2390-8, 5.4.1."""
    source, target = _pq_inverse(np.float64(max(peak, SDR_WHITE * 1.001))), _pq_inverse(np.float64(SDR_WHITE))
    e1 = np.minimum(_pq_inverse(luminance) / source, 1)
    most = target / source
    knee = 1.5 * most - 0.5
    t = np.clip((e1 - knee) / (1 - knee), 0, 1)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    return _pq(np.where(e1 < knee, e1, spline) * source)


def to_bt709(primaries: Primaries) -> NDArray[np.float64]:
    """The matrix (3, 3) from linear light in these primaries to linear light in those of BT.709."""
    matrix: NDArray[np.float64] = np.linalg.inv(_to_xyz("bt709")) @ _to_xyz(primaries)
    # What is white in the source is white in the picture, also where the white points differ.
    matrix /= matrix.sum(axis=1, keepdims=True)
    return matrix


def _to_xyz(primaries: Primaries) -> NDArray[np.float64]:
    columns = np.array([(x / y, 1.0, (1 - x - y) / y) for x, y in CHROMATICITIES[primaries]]).T
    scale = np.linalg.solve(columns[:, :3], columns[:, 3])
    return columns[:, :3] * scale


def _light(signal: NDArray[np.uint16], transfer: Transfer) -> Floats:
    light: Floats = light_of_codes(transfer)[signal]
    if transfer == "hlg":
        # The OOTF: display light is scene light times a power of its luminance (BT.2020 weights).
        luminance = light @ np.array([0.2627, 0.6780, 0.0593], np.float32)
        light *= (NOMINAL_PEAK / SDR_WHITE * np.maximum(luminance, 1e-6) ** (_HLG_GAMMA - 1))[..., None]
    return light


@functools.cache
def light_of_codes(transfer: Transfer) -> Floats:
    """float32 (65536,): light by signals of 16 bits, SDR white being 1. Of HLG: scene light, its peak being 1."""
    signal = np.arange(_CODES) / (_CODES - 1)
    match transfer:
        case "pq":
            light = _pq(signal) / SDR_WHITE
        case "hlg":
            light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - _HLG_C) / _HLG_A) + _HLG_B) / 12)
        case "sdr":
            light = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float32)


@functools.cache
def srgb_codes() -> NDArray[np.uint8]:
    """uint8 (65536,): the code of IEC 61966-2-1, by light in 16 bits."""
    light = np.arange(_CODES) / (_CODES - 1)
    code = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.floor(255 * code + 0.5).astype(np.uint8)


def _gain(brightest: Floats, peak: float) -> Floats:
    """What light is to be multiplied with where its brightest component is `brightest`, in units of SDR white."""
    # A square root spaces the knots about as the eye does, and is cheap.
    most = np.float32(peak / SDR_WHITE)
    place = np.sqrt(np.clip(brightest / most, 0, 1)) * np.float32(_KNOTS - 1)
    gain = gain_at_knots(peak)[(place + np.float32(0.5)).astype(np.intp)]
    # Beyond the peak nothing is brighter than white.
    return np.where(brightest > most, 1 / np.maximum(brightest, 1e-6), gain).astype(np.float32)


@functools.lru_cache(maxsize=16)
def gain_at_knots(peak: float) -> Floats:
    """float32 (65536,): what light is multiplied with, by sqrt(brightest / peak) in 16 bits; `peak` in cd/m2."""
    luminance = np.linspace(0, 1, _KNOTS) ** 2 * peak
    luminance[0] = luminance[1]
    return (tone_map(luminance, peak) / luminance).astype(np.float32)


def _pq(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """The EOTF: signal 0..1 to cd/m2."""
    power = signal ** (1 / _M2)
    light: NDArray[np.float64] = _PQ_PEAK * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1)
    return light


def _pq_inverse(luminance: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    power = (np.asarray(luminance, np.float64) / _PQ_PEAK) ** _M1
    signal: NDArray[np.float64] = ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2
    return signal
