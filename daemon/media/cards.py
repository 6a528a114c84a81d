"""The NVIDIA GPUs of this machine, and whether they decode: `python -m daemon.media.cards` prints it as JSON.

A process of its own asks: CUDA stays out of the supervisor, and a driver that crashes or hangs takes nothing with it.
Each GPU decodes `check.mp4`, a second of H.264 whose frames show their own number. The clip comes with the package,
for PyAV need not have an encoder.
"""

import ctypes
import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from daemon.errors import DeviceMissing, Failure, from_dict
from daemon.job import Job
from daemon.media.choose_device import open_device
from daemon.media.nvdec import Capability, capabilities
from daemon.media.nvidia import check_driver, cupy, first_line, video_codec
from daemon.media.render import Rendering, Sent
from daemon.media.source import FileSource
from daemon.task import FileMade, OutputFailed, SourceMeasured, Task, TaskOver

CLIP = Path(__file__).with_name("check.mp4")
RATE = 25  # frames of the clip; it lasts a second
BITS = 5  # bars of a frame, white for 1, the highest bit on the left
_WANTED = 17  # a frame that others must be decoded for
_OUTPUT = {"output": "thumbnail", "accuracy": "exact", "format": "png", "width": 80}

# Name, libav's codec, bits of a sample; all of them 4:2:0.
_FORMATS = (
    ("H.264", "h264", 8),
    ("HEVC", "hevc", 8),
    ("HEVC 10 bit", "hevc", 10),
    ("VP8", "vp8", 8),
    ("VP9", "vp9", 8),
    ("VP9 10 bit", "vp9", 10),
    ("AV1", "av1", 8),
    ("AV1 10 bit", "av1", 10),
    ("MPEG-2", "mpeg2video", 8),
)


@dataclass(frozen=True)
class Card:
    """One GPU. `formats`: what it decodes, and up to which width and height. `trouble`: why the clip's frame did not
    come out, None where it did."""

    index: int
    name: str
    driver: str
    engines: int
    free_bytes: int
    total_bytes: int
    formats: dict[str, tuple[int, int]]
    trouble: str | None


def why_none() -> str | None:
    """Why no GPU can be used, None where one may be."""
    try:
        check_driver()
        video_codec()
        if not cupy().cuda.is_available():
            return "CuPy finds no GPU"
    except DeviceMissing as missing:
        return missing.message
    return None


def cards() -> list[Card]:
    """All GPUs. To be called where `why_none` says nothing."""
    return [_card(index) for index in range(cupy().cuda.runtime.getDeviceCount())]


def _card(index: int) -> Card:
    free, total = cupy().cuda.Device(index).mem_info
    said = {name: _capability(index, codec, depth) for name, codec, depth in _FORMATS}
    can = {name: one for name, one in said.items() if one is not None and one.supported}
    return Card(
        index=index,
        name=cupy().cuda.runtime.getDeviceProperties(index)["name"].decode(),
        driver=_driver(),
        engines=max((one.engines for one in said.values() if one is not None), default=0),
        free_bytes=free,
        total_bytes=total,
        formats={name: one.largest for name, one in can.items()},
        trouble=trouble_of(f"cuda:{index}"),
    )


def _capability(index: int, codec: str, depth: int) -> Capability | None:
    """None where the driver refuses even to say."""
    try:
        return capabilities(index)[codec, 420, depth]
    except DeviceMissing:
        return None


def _driver() -> str:
    """The driver's version, as nvidia-smi has it."""
    said = ctypes.create_string_buffer(80)
    try:
        management = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return "unknown"
    started = management.nvmlInit_v2() == 0
    known = started and management.nvmlSystemGetDriverVersion(said, len(said)) == 0
    return said.value.decode() if known else "unknown"


def trouble_of(device: str) -> str | None:
    """Why a device does not decode the clip, None where it does."""
    try:
        shown, by_itself = _decoded(device)
    except Failure as failure:
        return failure.message
    except Exception as error:  # noqa: BLE001  whatever a driver does, it is said and not raised
        return f"{type(error).__name__}: {first_line(error)}"
    if shown != _WANTED:
        return f"it decoded frame {shown} where {_WANTED} was asked for"
    return None if by_itself or device == "cpu" else "it left the clip to the CPU"


def _decoded(device: str) -> tuple[int, bool]:
    """The number in the frame that was asked for, by a worker's whole task, and whether the device decoded it."""
    hardware = open_device(device)
    sent: list[Sent] = []
    pictures: list[bytes] = []

    def emit(event: Sent, body: bytes) -> None:
        sent.append(event)
        pictures.extend([body] if isinstance(event, FileMade) else [])

    job = Job.check({"source": CLIP.name, "outputs": [{**_OUTPUT, "at": {"frame": _WANTED}}]})
    descriptor = os.open(CLIP, os.O_RDONLY)
    try:
        over = Rendering(Task(jobs=(job.outputs,)), FileSource(descriptor), {}, hardware, emit).run()
    finally:
        os.close(descriptor)
    for event in (over, *sent):
        if isinstance(event, TaskOver | OutputFailed) and event.code is not None:
            raise from_dict(event.model_dump())
    warnings = [warning for event in sent if isinstance(event, SourceMeasured) for warning in event.warnings]
    by_itself = hardware.name != "cpu" and not any("by the CPU" in warning for warning in warnings)
    return read(np.asarray(Image.open(io.BytesIO(pictures[0])))), by_itself


def read(picture: Any) -> int:
    """The number that the bars of a picture show; an array (height, width, 3) of any size."""
    width = picture.shape[1] // BITS
    bars = [picture[:, n * width + width // 4 : (n + 1) * width - width // 4].mean() > 127 for n in range(BITS)]
    return int("".join(str(int(bar)) for bar in bars), 2)


def as_json(why: str | None, found: Sequence[Card]) -> str:
    return json.dumps({"why_none": why, "cards": [asdict(card) for card in found]})


def main() -> None:
    why = why_none()
    # The wrapper prints what it thinks: the answer is the last line.
    print("\n" + as_json(why, [] if why else cards()), flush=True)
    os._exit(0)  # drivers have been seen to crash while they are unloaded


if __name__ == "__main__":
    main()
