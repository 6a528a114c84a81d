"""JPEG by nvImageCodec. On a card it is done by kernels, which pays for large pictures and whole sheets; where that
begins is to be measured (`python -m bench gpu`). The pictures come from the host: turned, padded, put together to
sheets, which is where all devices do it."""

import threading
from typing import Any

import numpy as np

from daemon.errors import DeviceMissing
from daemon.media.device import Pixels
from daemon.media.nvidia import first_line, image_codec

_THREADS = 4  # of the host, for what it does besides
_TRIED = (64, 64)


class NvJpeg:
    """Of one card. One for a process: it takes some 40 MB of the card, and 0.3 s to make. Threads wait for each other,
    for nothing says that its encoder is for several. Raises DeviceMissing where it makes no JPEG."""

    def __init__(self, card: int) -> None:
        codec = self._codec = image_codec()
        kinds = codec.BackendKind
        # Not those of the CPU alone: it would take them without a word where the card's is not to be had.
        backends = [codec.Backend(kind) for kind in (kinds.GPU_ONLY, kinds.HYBRID_CPU_GPU)]
        self._lock = threading.Lock()
        try:
            self._encoder = codec.Encoder(device_id=card, max_num_cpu_threads=_THREADS, backends=backends)
            self.encode(np.zeros((*_TRIED, 3), np.uint8), 85)  # what is loaded late is loaded now
        except Exception as error:  # noqa: BLE001  the package raises what it likes
            raise DeviceMissing(
                f"nvImageCodec makes no JPEG on card {card} ({first_line(error)}): pip install 'thumbd[gpu]', "
                "or leave gpu.jpeg_pixels out"
            ) from None

    def encode(self, picture: Pixels, quality: int) -> bytes:
        """uint8 (height, width, 3) on the host, as Pillow would have it: 4:2:0, the same tables for a quality of 1 to
        100. Raises RuntimeError where nothing comes out."""
        codec = self._codec
        asked = codec.EncodeParams(
            quality_type=codec.QualityType.QUALITY,
            quality_value=quality,
            chroma_subsampling=codec.ChromaSubsampling.CSS_420,
        )
        with self._lock:
            made: Any = self._encoder.encode(codec.as_image(np.ascontiguousarray(picture)), "jpeg", params=asked)
        data = b"" if made is None else bytes(memoryview(made))  # None is all that it says of a failure
        if not data:
            raise RuntimeError(f"nvImageCodec made nothing of a picture of {picture.shape[1]}x{picture.shape[0]}")
        return data
