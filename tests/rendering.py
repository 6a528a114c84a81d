"""A whole task of a worker in this process: a file and outputs in, the encoded files and the report's events out."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from daemon.errors import from_dict
from daemon.job import Job
from daemon.media.cpu import CpuDevice
from daemon.media.device import Hardware
from daemon.media.render import Rendering
from daemon.media.source import FileSource
from daemon.report import OutputReport
from daemon.task import FellBack, FileMade, OutputFailed, OutputMade, SourceMeasured, Task, TaskOver


@dataclass
class Rendered:
    """`failed`: optional outputs, with the codes of their failures."""

    files: dict[str, bytes]
    reports: dict[str, OutputReport]
    warnings: list[str]
    source: SourceMeasured | None
    over: TaskOver
    failed: dict[str, str]
    fallbacks: list[str] = field(default_factory=list)

    @property
    def source_warnings(self) -> tuple[str, ...]:
        return self.source.warnings if self.source else ()

    def picture(self, name: str) -> np.ndarray[Any, Any]:
        """uint8 (height, width, 3 or 4)."""
        image = Image.open(io.BytesIO(self.files[name]))
        return np.asarray(image if image.mode in ("RGB", "RGBA") else image.convert("RGB"))


def render(
    path: Path,
    outputs: Sequence[Mapping[str, Any]],
    *,
    threads: int = 1,
    background: tuple[int, int, int] = (0, 0, 0),
    hardware: Hardware | None = None,
) -> Rendered:
    """Raises what the task, or an output that is not optional, failed with. Outputs without a name are o0, o1 …"""
    named = [{"name": f"o{n}", **output} for n, output in enumerate(outputs)]
    job = Job.check({"source": str(path), "outputs": named})
    rendered = Rendered({}, {}, [], None, TaskOver(), {})
    failed: list[OutputFailed] = []

    def emit(event: object, body: bytes) -> None:
        match event:
            case FellBack():
                rendered.fallbacks.append(event.reason)
                rendered.files.clear()
                rendered.reports.clear()
            case FileMade():
                rendered.files[event.name] = body
            case OutputMade():
                rendered.reports[event.report.name] = event.report
                rendered.warnings += event.warnings
            case OutputFailed() if job.outputs[event.output].optional:
                rendered.failed[job.outputs[event.output].name] = event.code
            case OutputFailed():
                failed.append(event)
            case SourceMeasured():
                rendered.source = event

    descriptor = os.open(path, os.O_RDONLY)
    try:
        task = Task(jobs=(job.outputs,), threads=threads, background=background)
        rendered.over = Rendering(task, FileSource(descriptor), {}, hardware or CpuDevice(), emit).run()
    finally:
        os.close(descriptor)
    for each in (rendered.over, *failed):
        if each.code is not None:
            raise from_dict(each.model_dump())
    return rendered
