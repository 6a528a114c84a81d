"""What `nvidia-smi` says of a GPU while something runs on it: how busy its engines are, how full its memory."""

import subprocess
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from shutil import which
from statistics import mean
from time import perf_counter


@dataclass(frozen=True)
class Sample:
    """`decoder` and `compute`: per cent of the second before; `used`: MB of the card's memory. None: it is not said."""

    time: float
    decoder: float | None
    compute: float | None
    used: float | None


def samples(lines: Iterable[str]) -> Iterator[Sample]:
    """Of the output of `nvidia-smi dmon`, whose columns differ from driver to driver: their header names them."""
    columns: list[str] = []
    for line in lines:
        words = line.split()
        if words[:2] == ["#", "gpu"]:
            columns = words[1:]
        elif words and words[0] != "#" and len(words) == len(columns):
            row = dict(zip(columns, words, strict=True))
            yield Sample(perf_counter(), *(_number(row.get(name, "-")) for name in ("dec", "sm", "fb")))


def _number(word: str) -> float | None:
    return float(word) if word.replace(".", "", 1).isdecimal() else None


class Watch:
    """Samples a GPU once a second while it is entered. Where there is no nvidia-smi there are no samples."""

    def __init__(self, index: int) -> None:
        self._words = ["nvidia-smi", "dmon", "-s", "um", "-d", "1", "-i", str(index)]
        self.samples: list[Sample] = []
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Watch":
        if which(self._words[0]):
            self._process = subprocess.Popen(self._words, stdout=subprocess.PIPE, text=True, bufsize=1)
            self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
            self._reader.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._reader.join()

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            self.samples.extend(samples(lines))

    def between(self, begun: float, ended: float) -> dict[str, float | None]:
        """Means, and the most memory, of the whole seconds between two times of `perf_counter`."""
        # A sample speaks of the second before it.
        found = [sample for sample in self.samples if begun + 1 <= sample.time <= ended + 0.2]
        return {
            "NVDEC %": _mean(sample.decoder for sample in found),
            "SM %": _mean(sample.compute for sample in found),
            "memory of the card, MB": max((s.used for s in found if s.used is not None), default=None),
        }


def _mean(numbers: Iterable[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return round(mean(known), 1) if known else None
