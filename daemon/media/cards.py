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
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from daemon.errors import Failure, from_dict
from daemon.job import Job
from daemon.media.choose_device import open_device
from daemon.media.render import Rendering, Sent
from daemon.media.source import FileSource
from daemon.task import FileMade, OutputFailed, SourceMeasured, Task, TaskOver

CLIP = Path(__file__).with_name("check.mp4")
RATE = 25  # frames of the clip; it lasts a second
BITS = 5  # bars of a frame, white for 1, the highest bit on the left
_WANTED = 17  # a frame that others must be decoded for
_OUTPUT = {"output": "thumbnail", "accuracy": "exact", "format": "png", "width": 80}

# Name, PyNvVideoCodec's codec, bits of a sample; all of them 4:2:0.
_FORMATS = (
    ("H.264", "H264", 8),
    ("HEVC", "HEVC", 8),
    ("HEVC 10 bit", "HEVC", 10),
    ("VP8", "VP8", 8),
    ("VP9", "VP9", 8),
    ("VP9 10 bit", "VP9", 10),
    ("AV1", "AV1", 8),
    ("AV1 10 bit", "AV1", 10),
    ("MPEG-2", "MPEG2", 8),
)
# What must be there, in this order, and what it means where it is not.
_LIBRARIES = (
    ("libcuda.so.1", "no NVIDIA driver here"),
    ("libnvcuvid.so.1", "the driver lacks its video part: a container needs NVIDIA_DRIVER_CAPABILITIES with `video`"),
    ("libnvidia-encode.so.1", "the driver lacks its video part: PyNvVideoCodec needs it, also to decode"),
)
_PACKAGES = ("PyNvVideoCodec", "cupy")


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
    for library, meaning in _LIBRARIES:
        try:
            ctypes.CDLL(library)
        except OSError:
            return f"{meaning} ({library} cannot be loaded)"
    code = ctypes.CDLL("libcuda.so.1").cuInit(0)
    if code != 0:
        return f"the NVIDIA driver does not start, or finds no GPU (cuInit says {code})"
    for package in _PACKAGES:
        try:
            import_module(package)
        except (ImportError, RuntimeError, OSError) as error:
            return f"the package {package} cannot be imported ({_line(error)}): pip install 'thumbd[gpu]'"
    if not import_module("cupy").cuda.is_available():
        return "CuPy finds no GPU"
    return None


def cards() -> list[Card]:
    """All GPUs. To be called where `why_none` says nothing."""
    cupy, nvc = import_module("cupy"), import_module("PyNvVideoCodec")
    return [_card(index, cupy, nvc) for index in range(cupy.cuda.runtime.getDeviceCount())]


def _card(index: int, cupy: Any, nvc: Any) -> Card:
    free, total = cupy.cuda.Device(index).mem_info
    said = {name: _caps(nvc, index, codec, depth) for name, codec, depth in _FORMATS}
    return Card(
        index=index,
        name=cupy.cuda.runtime.getDeviceProperties(index)["name"].decode(),
        driver=_driver(),
        engines=max(caps.get("num_decoder_engines", 0) for caps in said.values()),
        free_bytes=free,
        total_bytes=total,
        formats={name: (caps["width_max"], caps["height_max"]) for name, caps in said.items() if caps.get("supported")},
        trouble=trouble_of(f"cuda:{index}"),
    )


def _caps(nvc: Any, index: int, codec: str, depth: int) -> dict[str, int]:
    """Nothing where the driver refuses even to say."""
    try:
        caps: dict[str, int] = nvc.GetDecoderCaps(index, getattr(nvc.cudaVideoCodec, codec), _chroma(nvc), depth)
    except Exception:  # noqa: BLE001  the wrapper raises classes of its own, and a check goes on
        return {}
    return caps


def _chroma(nvc: Any) -> Any:
    return nvc.cudaVideoChromaFormat(1)  # 4:2:0; its name is no identifier


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
        return f"{type(error).__name__}: {_line(error)}"
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


def _line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "no reason given")


def as_json(why: str | None, found: Sequence[Card]) -> str:
    return json.dumps({"why_none": why, "cards": [asdict(card) for card in found]})


def main() -> None:
    why = why_none()
    # The wrapper prints what it thinks: the answer is the last line.
    print("\n" + as_json(why, [] if why else cards()), flush=True)
    os._exit(0)  # drivers have been seen to crash while they are unloaded


if __name__ == "__main__":
    main()
