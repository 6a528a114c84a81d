"""Processes that make pictures side by side, for as long as they are told: how many a second.

`python -m bench.crew DEVICE THREADS FILM` takes orders on its standard input, such as `keyframe jpeg 1.5` (accuracy,
format, seconds), and answers each with a line of JSON. It is a worker's whole task, again and again: open the film,
plan, read, decode, resize, encode; only the wire and the store are left out.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from daemon.errors import from_dict
from daemon.job import Job
from daemon.media.choose_device import open_device
from daemon.media.device import Device
from daemon.media.render import Rendering, Sent
from daemon.media.source import FileSource
from daemon.task import FileMade, Limits, OutputFailed, Task

SIZE = (320, 180)
# Pictures of one task, for each thread: some tenths of a second of work, so that few threads wait at its end.
PICTURES = {"keyframe": 32, "exact": 6}
_PATIENCE = 60.0  # seconds beyond a turn's own, after which it counts as hung
_STAGES = ("open", "decode", "resize", "encode")


class CannotMeasure(Exception):
    """Why a figure is missing."""


@dataclass(frozen=True)
class Turn:
    """One turn of a whole crew: pictures a second, and seconds of each stage for a picture, summed over threads."""

    rate: float
    stages: Mapping[str, float]


def summed(answers: Sequence[Mapping[str, Any]]) -> Turn:
    """Of what the processes of a crew answered, which worked side by side."""
    pictures = sum(answer["pictures"] for answer in answers)
    rate = sum(answer["pictures"] / answer["seconds"] for answer in answers)
    stages = {stage: sum(answer["stages"][stage] for answer in answers) / pictures for stage in _STAGES}
    return Turn(rate, stages)


class Crew:
    """`processes` with `threads` each. Raises CannotMeasure where one of them breaks."""

    def __init__(self, device: str, processes: int, threads: int, film: Path) -> None:
        words = [sys.executable, "-m", "bench.crew", device, str(threads), str(film)]
        pipe = subprocess.PIPE
        # Errors go to a file: drivers chatter, and a pipe that nobody reads fills up.
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  closed in __exit__
        self._members = [
            subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=self._errors, text=True) for _ in range(processes)
        ]

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *exception: object) -> None:
        self._kill()
        for member in self._members:
            member.communicate()
        self._errors.close()

    def _kill(self) -> None:
        for member in self._members:
            member.kill()

    def turn(self, how: str, format: str, seconds: float) -> Turn:
        hung = threading.Timer(_PATIENCE + seconds, self._kill)
        hung.start()
        try:
            for member in self._members:
                assert member.stdin is not None
                member.stdin.write(f"{how} {format} {seconds}\n")
                member.stdin.flush()
            return summed([self._answer(member) for member in self._members])
        except BrokenPipeError:
            raise CannotMeasure(self._last_words()) from None
        finally:
            hung.cancel()

    def _answer(self, member: "subprocess.Popen[str]") -> dict[str, Any]:
        assert member.stdout is not None
        for line in member.stdout:
            if line.startswith("{"):  # libraries chatter
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise CannotMeasure(self._last_words())

    def _last_words(self) -> str:
        self._kill()
        self._errors.seek(0)
        return next(reversed(self._errors.read().strip().splitlines()), "a process ended without a word, or hung")


def middle(turns: Sequence[Turn]) -> Turn:
    """The turn of the median rate."""
    return sorted(turns, key=lambda turn: turn.rate)[len(turns) // 2]


def rates(turns: Sequence[Turn]) -> dict[str, Any]:
    return {"per second": round(median(t.rate for t in turns), 1), "all": [round(t.rate, 1) for t in turns]}


# The process itself.


def work(device: Device, threads: int, film: Path, how: str, format: str, seconds: float) -> dict[str, Any]:
    """Makes pictures for at least so long."""
    made, stages = 0, dict.fromkeys(_STAGES, 0.0)
    begun, turn = perf_counter(), 0
    while (took := perf_counter() - begun) < seconds:
        turn += 1
        # Each time other instants, between keyframes.
        look = {"width": SIZE[0], "height": SIZE[1], "fit": "stretch", "format": format, "accuracy": how}
        wanted = {"output": "thumbnails", "count": PICTURES[how] * threads, "start": 0.7 + turn * 0.37 % 2}
        spent = _render(device, threads, film, {**wanted, **look})
        made += PICTURES[how] * threads
        for stage in _STAGES:
            stages[stage] += spent[stage]
    return {"pictures": made, "seconds": took, "stages": stages}


def _render(device: Device, threads: int, film: Path, output: Mapping[str, Any]) -> dict[str, float]:
    job = Job.check({"source": str(film), "outputs": [dict(output)]})
    task = Task(jobs=(job.outputs,), threads=threads, limits=Limits(decoded_bytes=1 << 40))
    made = 0

    def emit(event: Sent, body: bytes) -> None:
        nonlocal made
        if event.kind == "fell_back":
            raise RuntimeError(f"{device.name} left the film to the CPU: {event}")
        if isinstance(event, FileMade) and event.format == output["format"]:
            made += 1
        if isinstance(event, OutputFailed):
            raise from_dict(event.model_dump())

    descriptor = os.open(film, os.O_RDONLY)
    try:
        over = Rendering(task, FileSource(descriptor), {}, device, emit).run()
    finally:
        os.close(descriptor)
    if over.code is not None:
        raise from_dict(over.model_dump())
    assert made == output["count"], f"{made} pictures instead of {output['count']}"
    return over.times.model_dump()


def main() -> None:
    device, threads, film = open_device(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    for order in sys.stdin:
        how, format, seconds = order.split()
        print(json.dumps(work(device, threads, film, how, format, float(seconds))), flush=True)
    os._exit(0)  # drivers have been seen to crash while they are unloaded


if __name__ == "__main__":
    main()
