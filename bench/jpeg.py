"""JPEG: by Pillow, by nvImageCodec as thumbd calls it, and by nvImageCodec alone; where the second begins to pay."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import av
import numpy as np

from bench.asked import Asked, Row, imported, row
from bench.crew import CannotMeasure
from daemon.errors import DeviceMissing
from daemon.media.encode import encode
from daemon.media.nvimgcodec import NvJpeg

SHEETS = ((320, 180), (640, 360), (1280, 720), (1920, 1080), (4096, 2304))
PILLOW, OURS = "Pillow", "thumbd by nvImageCodec"


def pillow(asked: Asked) -> list[Row]:
    """JPEG by our own call, on one thread and on all cores."""
    return _encoded(asked, PILLOW, lambda shown: encode(shown, "jpeg", 85))


def ours(asked: Asked) -> list[Row]:
    """The same pictures from the same memory by the call that `gpu.jpeg_pixels` chooses."""
    try:
        encoder = NvJpeg(asked.gpu)
    except DeviceMissing as missing:
        raise CannotMeasure(missing.message) from None
    return _encoded(asked, OURS, lambda shown: encoder.encode(shown, 85))


def _encoded(asked: Asked, who: str, encode_one: Callable[[Any], object]) -> list[Row]:
    rows = []
    for size in SHEETS:
        shown = picture(asked, size)
        for threads in sorted({1, len(os.sched_getaffinity(0))}):
            count = threads * max(2, 2_000_000 // (size[0] * size[1]))

            def take(shown: Any = shown, threads: int = threads, count: int = count) -> None:
                with ThreadPoolExecutor(threads) as pool:
                    list(pool.map(lambda _: encode_one(shown), range(count)))

            rows.append(row(what(size), who_of(who, threads), count, asked.turns, take))
    return rows


def who_of(who: str, threads: int) -> str:
    return f"{who}, {threads} thread{'s' if threads > 1 else ''}"


def crossing(rows: Sequence[Row], threads: int) -> int | None:
    """From how many pixels on, of the sizes measured, nvImageCodec makes more JPEG than Pillow with so many threads
    each. None: of none, or it was not measured."""
    rates = {(row["what"], row["who"]): row["per second"] for row in rows}
    found = None
    for size in sorted(SHEETS, reverse=True):
        ours, pillows = (rates.get((what(size), who_of(who, threads)), 0.0) for who in (OURS, PILLOW))
        if not ours > pillows > 0:
            break
        found = size[0] * size[1]
    return found


def from_the_card(asked: Asked) -> list[Row]:
    """JPEG by nvImageCodec, one at a time and many, of pictures that lie on the GPU: without the way there."""
    codec, cupy = imported("nvidia.nvimgcodec"), imported("cupy")
    encoder = codec.Encoder(device_id=asked.gpu)
    params = codec.EncodeParams(
        quality_type=codec.QualityType.QUALITY,
        quality_value=85,
        jpeg_encode_params=codec.JpegEncodeParams(),
        chroma_subsampling=codec.ChromaSubsampling.CSS_420,
    )
    rows = []
    for size in SHEETS:
        on_device = cupy.asarray(picture(asked, size))
        for together in (1, 32) if size[0] < 4000 else (1, 4):
            images = [codec.as_image(on_device)] * together

            def take(images: Any = images) -> None:
                made = encoder.encode(images, "jpeg", params=params)
                if any(each is None or len(bytes(memoryview(each))) == 0 for each in made):
                    raise CannotMeasure("it encoded nothing")  # it says so by None, without an exception

            rows.append(
                row(what(size), f"nvImageCodec from the card, {together} together", together, 3 * asked.turns, take)
            )
    return rows


def what(size: tuple[int, int]) -> str:
    return f"JPEG of {size[0]}x{size[1]}"


def picture(asked: Asked, size: tuple[int, int]) -> "np.ndarray[Any, Any]":
    """A frame of the film, as large as that."""
    with av.open(str(asked.film)) as container:
        container.seek(int(asked.times[0] * av.time_base))
        frame = next(container.decode(video=0))
        return frame.to_ndarray(format="rgb24", width=size[0], height=size[1])
