"""What thumbd is held beside on a GPU, and the stages on their own, each in a process of its own.

`python -m bench.others NAME '{"film": …}'` prints its rows as JSON: a library that is missing, crashes or hangs costs
its own figures only. A row: what was done, by whom, how many a second in each turn, and what has to be known about it.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import which
from typing import Any

import av
import numpy as np

from bench import jpeg
from bench.asked import Asked, Row, imported, row
from bench.crew import SIZE, CannotMeasure
from daemon.media.container import open_container
from daemon.media.source import FileSource

ALONE = "decoding alone: no picture is made small, none encoded"


# Others that decode on the GPU.


def ffmpeg(asked: Asked) -> list[Row]:
    """One process a picture, and all keyframes by one process."""
    if not which("ffmpeg"):
        raise CannotMeasure("there is no ffmpeg")
    if "cuda" not in _called(["ffmpeg", "-hide_banner", "-hwaccels"]).split():
        raise CannotMeasure("its ffmpeg is built without CUDA")
    start = ["ffmpeg", "-v", "error", "-y", "-hwaccel", "cuda", "-hwaccel_device", str(asked.gpu)]
    scale = f"scale={SIZE[0]}:{SIZE[1]}"
    with tempfile.TemporaryDirectory() as folder:

        def one(time: float) -> None:
            out = f"{folder}/{time}.webp"
            _called([*start, "-ss", f"{time:.3f}", "-i", str(asked.film), "-frames:v", "1", "-vf", scale, out])

        def many(threads: int) -> None:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(one, asked.times[:24]))

        def keys() -> None:
            words = [*start, "-skip_frame", "nokey", "-i", str(asked.film), "-vf", scale, "-fps_mode", "passthrough"]
            _called([*words, f"{folder}/%04d.jpg"])

        keyframes = len(_keyframes(asked.film))
        count = len(asked.times[:24])
        return [
            row("exact as WebP", "ffmpeg -hwaccel cuda -ss, a loop", count, 1, lambda: many(1)),
            row("exact as WebP", "ffmpeg -hwaccel cuda -ss, 8 at a time", count, 1, lambda: many(8)),
            row("keyframe as JPEG", "ffmpeg -hwaccel cuda -skip_frame nokey", keyframes, asked.turns, keys),
        ]


def _called(words: Sequence[str]) -> str:
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise CannotMeasure(next(reversed(done.stderr.strip().splitlines()), f"{words[0]}: {done.returncode}"))
    return done.stdout


def simple_decoder(asked: Asked) -> list[Row]:
    """PyNvVideoCodec's decoder with random access, one thread."""
    nvc = imported("PyNvVideoCodec")
    decoder = nvc.SimpleDecoder(str(asked.film), gpu_id=asked.gpu, use_device_memory=True)
    exact, keys = _frame_numbers(asked)
    name = "PyNvVideoCodec SimpleDecoder, 1 thread"

    def take(numbers: Sequence[int]) -> None:
        for number in numbers:
            decoder[number]

    return [
        row("keyframe as JPEG", name, len(keys), asked.turns, lambda: take(keys), ALONE),
        row("exact as WebP", name, len(exact), asked.turns, lambda: take(exact), ALONE),
    ]


def threaded_decoder(asked: Asked) -> list[Row]:
    """PyNvVideoCodec's decoder with a thread ahead: it is made for frames in order, and is told anew where to begin."""
    nvc = imported("PyNvVideoCodec")
    decoder = nvc.ThreadedDecoder(str(asked.film), buffer_size=4, gpu_id=asked.gpu, use_device_memory=True)
    exact, keys = _frame_numbers(asked)
    name = "PyNvVideoCodec ThreadedDecoder, 1 thread ahead"

    def take(numbers: Sequence[int]) -> None:
        for number in numbers:
            decoder.reconfigure_decoder(str(asked.film), number)
            decoder.get_batch_frames(1)

    try:
        return [
            row("keyframe as JPEG", name, len(keys), asked.turns, lambda: take(keys), ALONE),
            row("exact as WebP", name, len(exact), asked.turns, lambda: take(exact), ALONE),
        ]
    finally:
        decoder.end()


def torchcodec(asked: Asked) -> list[Row]:
    """PyTorch's decoder, on the same instants and at those of their keyframes."""
    decoders = imported("torchcodec.decoders")
    decoder = decoders.VideoDecoder(str(asked.film), device=f"cuda:{asked.gpu}", seek_mode="approximate")
    keys = sorted({_before(_keyframes(asked.film), time) for time in asked.times})

    def take(times: Sequence[float]) -> None:
        decoder.get_frames_played_at(seconds=list(times)).data.cpu()

    name, note = "torchcodec, 1 thread", ALONE + "; frames copied to the host"
    return [
        row("keyframe as JPEG", name, len(keys), asked.turns, lambda: take(keys), note),
        row("exact as WebP", name, len(asked.times), asked.turns, lambda: take(asked.times), note),
    ]


def _frame_numbers(asked: Asked) -> tuple[list[int], list[int]]:
    """Of the wanted frames, and of their keyframes; the films measured with have a constant rate."""
    with av.open(str(asked.film)) as container:
        rate = float(container.streams.video[0].average_rate or 30)
    keyframes = _keyframes(asked.film)
    keys = sorted({round(_before(keyframes, time) * rate) for time in asked.times})
    return [int(time * rate + 1e-6) for time in asked.times], keys


def _keyframes(film: Path) -> list[float]:
    """Seconds from the first frame."""
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.pts is not None]
        first = min(packet.pts or 0 for packet in packets)
        assert stream.time_base is not None
        return [float(((p.pts or 0) - first) * stream.time_base) for p in packets if p.is_keyframe]


def _before(keyframes: Sequence[float], time: float) -> float:
    return max((key for key in keyframes if key <= time), default=keyframes[0])


# The stages on their own.


def demux(asked: Asked) -> list[Row]:
    """Seeking to an instant and reading its packets: what comes before any decoding, on one core."""
    descriptor = os.open(asked.film, os.O_RDONLY)
    container = open_container(FileSource(descriptor))
    facts = container.measure()

    def take() -> None:
        for time in asked.times:
            limit = facts.start + time / float(facts.time_base)
            container.seek(int(limit))
            for packet in container.packets():
                if packet.dts is not None and packet.dts > limit:
                    break

    return [row("demux: seek and read to the instant", "PyAV, 1 thread", len(asked.times), asked.turns, take)]


def kernel(asked: Asked) -> list[Row]:
    """Our kernel, on surfaces as NVDEC writes them, launched for one and for many; and the copy of what it made."""
    return _resized(asked, "thumbd's kernel", imported("kernels.resize").resize, copies=True)


def dali(asked: Asked) -> list[Row]:
    """The same call, its planes brought to size by DALI."""
    imported("nvidia.dali.experimental.dynamic")
    return _resized(asked, "DALI", imported("kernels.dali").resize, copies=False)


def job(surface: int, out: int) -> Any:
    """A picture of a 1080p surface, both by their addresses."""
    asking = imported("kernels.job")
    planes = asking.stacked(surface, 1920, 1080, "nv12")
    shown = asking.Surface(planes=planes, pitch=1920, width=1920, height=1080, format="nv12")
    return asking.Job(surface=shown, size=SIZE, out=out, out_pitch=3 * SIZE[0], matrix="bt709")


def _resized(asked: Asked, who: str, resize: Callable[..., None], *, copies: bool) -> list[Row]:
    cupy = imported("cupy")
    rows, what = [], f"resize of 1920x1080 NV12 to {SIZE[0]}x{SIZE[1]}"
    with cupy.cuda.Device(asked.gpu), cupy.cuda.Stream(non_blocking=True) as stream:
        for together in (1, 8, 32):
            noise = np.random.default_rng(1).integers(16, 235, (1620, 1920), np.uint8)
            surfaces = [cupy.asarray(noise) for _ in range(together)]
            out = cupy.empty((together, SIZE[1], SIZE[0], 3), np.uint8)
            jobs = [job(surface.data.ptr, out[n].data.ptr) for n, surface in enumerate(surfaces)]
            host = cupy.cuda.alloc_pinned_memory(out.nbytes)

            def take(jobs: Any = jobs) -> None:
                resize(jobs, stream)
                stream.synchronize()

            def copy(out: Any = out, host: Any = host) -> None:
                cupy.cuda.runtime.memcpyAsync(host.ptr, out.data.ptr, out.nbytes, 2, stream.ptr)  # device to host
                stream.synchronize()

            rows.append(row(what, f"{who}, {together} together", together, 10 * asked.turns, take))
            if copies:
                small = f"copy of {SIZE[0]}x{SIZE[1]} to the host"
                rows.append(row(small, f"CUDA, {together} together", together, 10 * asked.turns, copy))
    return rows


ALL: dict[str, Callable[[Asked], list[Row]]] = {
    "demux": demux,
    "kernel": kernel,
    "pillow": jpeg.pillow,
    "our jpeg": jpeg.ours,
    "nvimgcodec": jpeg.from_the_card,
    "simple decoder": simple_decoder,
    "threaded decoder": threaded_decoder,
    "ffmpeg": ffmpeg,
    "torchcodec": torchcodec,
    "dali": dali,
}


def apart(name: str, asked: Asked, seconds: float) -> list[Row]:
    """The rows of one of these, from a process of its own. Raises CannotMeasure."""
    said = json.dumps({"film": str(asked.film), "times": list(asked.times), "turns": asked.turns, "gpu": asked.gpu})
    words = [sys.executable, "-m", "bench.others", name, said]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise CannotMeasure(f"it took more than {seconds:.0f} s") from None
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        said = next(reversed(done.stderr.strip().splitlines()), "")
        raise CannotMeasure(f"it ended with status {done.returncode} {said}".strip()) from None
    if "reason" in answer:
        raise CannotMeasure(answer["reason"])
    rows: list[Row] = answer["rows"]
    return rows


def main() -> None:
    name, said = sys.argv[1], json.loads(sys.argv[2])
    asked = Asked(Path(said["film"]), said["times"], said["turns"], said["gpu"])
    try:
        answer: dict[str, Any] = {"rows": ALL[name](asked)}
    except CannotMeasure as reason:
        answer = {"reason": str(reason)}
    except Exception as error:  # noqa: BLE001  others' libraries: said, not raised
        answer = {"reason": f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"}
    print("\n" + json.dumps(answer), flush=True)
    os._exit(0)  # drivers have been seen to crash while they are unloaded


if __name__ == "__main__":
    main()
