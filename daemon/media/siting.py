"""Where the chroma of a frame stands. libswscale reads that of each frame, and treats what says nothing as `center`; of
PyAV the frame does not tell. So libswscale is asked: where it puts a single sample of chroma of a small frame that has
the same tags. Devices that do not shrink with libswscale so put it to the same place.
"""

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from kernels.reference import SITING, Siting

_SIDE = 32  # pixels of the small frame, with half as many samples of chroma
_SAMPLE = 8  # the one, across and down
_GREY, _BRIGHT = 128, 255
_BY_OFFSET = {offset: siting for siting, offset in SITING.items()}


def siting_of(frame: VideoFrame) -> Siting:
    """Of a frame of any YUV format; where its chroma is as fine as its luma it means nothing."""
    small = frame.reformat(width=_SIDE, height=_SIDE, format="yuv420p", interpolation=Interpolation.POINT, threads=1)
    small.make_writable()
    chroma = small.planes[1]
    samples = np.full((chroma.height, chroma.line_size), _GREY, np.uint8)
    samples[_SAMPLE, _SAMPLE] = _BRIGHT
    chroma.update(samples.tobytes())
    flags = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INP | Interpolation.ACCURATE_RND
    fine = small.reformat(format="yuv444p", interpolation=flags, threads=1).to_ndarray(channel_last=True)
    there = fine[..., 1].astype(np.float64) - _GREY
    return _BY_OFFSET[max(0, _offset(there.sum(axis=0))), _offset(there.sum(axis=1))]


def _offset(brightness: NDArray[np.float64]) -> float:
    """As `SITING` has it, -1/4, 0 or 1/4, by where the centre of what is bright lies."""
    centre = float(brightness @ (np.arange(_SIDE) + 0.5)) / float(brightness.sum())
    return min(1, max(-1, round(4 * (_SAMPLE + 0.5 - centre / 2)))) / 4
