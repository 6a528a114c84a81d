"""A card as CuPy gives it: streams, memory, and the resize of `kernels`. Imported only where CUDA is asked for.

All pictures of one frame are made in one launch and cross to the host in one copy. Those of several frames are not:
each lies on the stream of its session, and streams would have to wait for each other; frames, 3 MB each at 1080p and
24 MB of 4K in 10 bit, would be held until the last one of a batch is decoded, which in `exact` takes the longest; and
keyframe pictures come from runs of a single packet, which threads take one by one so that all are busy to the end. What
it could save is a launch and a wait for each picture, tens of microseconds beside the millisecond that an engine of
NVDEC takes for a 1080p keyframe (estimates: nothing was measured on a GPU yet).
"""

import importlib
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from daemon.errors import DeviceMissing
from daemon.media.choice import Resize
from daemon.media.colour import Colour
from daemon.media.device import Pixels
from daemon.media.geometry import Size
from daemon.media.nvidia import cupy
from daemon.media.surface import Block, Kind, Lane, Surface
from kernels import dali
from kernels import resize as kernel
from kernels.job import Format, Job, stacked
from kernels.job import Surface as Planes

_FORMATS: dict[tuple[int, bool], Format] = {
    (420, False): "nv12",
    (420, True): "p016",
    (422, False): "nv16",
    (422, True): "p216",
    (444, False): "yuv444",
    (444, True): "yuv444_16",
}


# The same call twice: on a CuPy stream, from decoded surfaces to pictures.
_RESIZES: dict[Resize, Callable[[Sequence[Job], Any], None]] = {"kernel": kernel.resize, "dali": dali.resize}


class CupyBlock:
    def __init__(self, memory: Any) -> None:
        self._memory = memory
        self.address = int(memory.ptr)


class CupyLane:
    def __init__(self, card: int) -> None:
        self._cupy = cupy()
        self.device = self._cupy.cuda.Device(card)
        with self.device:
            self.stream = self._cupy.cuda.Stream(non_blocking=True)
        self.handle = int(self.stream.ptr)

    def copy(self, address: int, size: int) -> Block:
        runtime = self._cupy.cuda.runtime
        with self.device, self.stream:  # the memory is this stream's, and free again in its order
            memory = self._cupy.cuda.alloc(size)
            runtime.memcpyAsync(memory.ptr, address, size, runtime.memcpyDeviceToDevice, self.stream.ptr)
        return CupyBlock(memory)


class CupyCard:
    """Raises DeviceMissing where there is no card of that number that works."""

    def __init__(self, number: int, resize: Resize = "kernel") -> None:
        self._cupy = cupy()
        self._resize = _RESIZES[resize]
        self._cupyx = importlib.import_module("cupyx")
        self.number = number
        runtime = self._cupy.cuda.runtime
        try:
            cards = runtime.getDeviceCount()
        except runtime.CUDARuntimeError as error:
            raise DeviceMissing(f"CUDA finds no usable card ({error})") from None
        if number >= cards:
            raise DeviceMissing(f"there is no card {number}: this machine has {cards}, counted from 0")
        self._try_out()

    def lane(self) -> Lane:
        return CupyLane(self.number)

    def works(self) -> bool:
        try:
            with self._cupy.cuda.Device(self.number) as device:
                device.synchronize()
        except self._cupy.cuda.runtime.CUDARuntimeError:
            return False
        return True

    def resize(self, surface: Surface, sizes: Sequence[Size], colour: Colour) -> list[Pixels]:
        """All in one launch, and by one copy to pinned memory of the host."""
        lane = surface.lane
        if not isinstance(lane, CupyLane):
            raise TypeError("the card shapes what it decoded")
        # On the lane of the session: behind the copy of the surface, and behind nothing else.
        with lane.device, lane.stream:
            ends = list(accumulate(3 * width * height for width, height in sizes))
            there = self._cupy.empty(ends[-1], np.uint8)
            begins = [0, *ends[:-1]]
            jobs = [
                _job(surface, size, colour, int(there.data.ptr) + begin)
                for size, begin in zip(sizes, begins, strict=True)
            ]
            self._resize(jobs, lane.stream)
            here = self._cupyx.empty_pinned(there.shape, np.uint8)
            there.get(stream=lane.stream, out=here, blocking=False)
            lane.stream.synchronize()
        return [
            here[begin:end].reshape(height, width, 3)
            for (width, height), begin, end in zip(sizes, begins, ends, strict=True)
        ]

    def _try_out(self) -> None:
        """A first picture: what the kernel and its tables load and compile is loaded before the worker is ready, and a
        card that cannot do it is not begun with."""
        kind = Kind("h264", 420, 8, (64, 64), (64, 64))
        try:
            lane = CupyLane(self.number)
            with lane.device, lane.stream:
                grey = self._cupy.asarray(np.full(kind.bytes, 128, np.uint8))
                surface = Surface(0, kind, lane, lane.copy(int(grey.data.ptr), kind.bytes))
                (picture,) = self.resize(surface, [(16, 16)], Colour(matrix="bt709", full_range=False))
        except Exception as error:  # noqa: BLE001  compilers, drivers and allocators raise what they like
            raise DeviceMissing(f"card {self.number} does not make pictures ({error})") from None
        if abs(int(picture.mean()) - 130) > 4:  # (128 - 16) * 255 / 219
            raise DeviceMissing(f"card {self.number} makes wrong pictures of what is grey")


def _job(surface: Surface, size: Size, colour: Colour, out: int) -> Job:
    kind = surface.kind
    format = _FORMATS[kind.chroma, kind.depth > 8]
    odd = kind.chroma == 420 and kind.display[1] % 2 == 1
    return Job(
        surface=Planes(
            planes=stacked(surface.block.address, kind.pitch, kind.display[1], format),
            pitch=kind.pitch,
            width=surface.width,
            height=surface.height,
            format=format,
            depth=kind.depth,
            chroma_rows=kind.display[1] // 2 if odd else None,
        ),
        size=size,
        out=out,
        out_pitch=3 * size[0],
        matrix=colour.matrix,
        full_range=colour.full_range,
        primaries=colour.primaries,
        transfer=colour.transfer,
        peak=colour.peak,
        siting=colour.siting,
    )
