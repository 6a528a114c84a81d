"""The job that a command's words describe: a job file, or a video with options."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from daemon.catalogue.videos import SCHEME
from daemon.errors import BadJob
from daemon.intake.spool import parse
from daemon.job import Job
from daemon.outputs import Animation, Clip, Moving
from daemon.ulid import new_ulid

_MOVING: dict[str, type[Moving]] = {"clip": Clip, "animation": Animation}
_LOOK = ("width", "height", "short_side", "fit", "upscale", "format", "quality", "accuracy", "name")


@dataclass(frozen=True)
class Asked:
    """A job to be submitted, under an `id` in any case. `what`: how its user calls it."""

    what: str
    id: str
    job: Job

    @property
    def stem(self) -> str:
        return stem_of(self.what)

    @property
    def destination(self) -> str:
        return self.job.destination or self.id

    @property
    def folder(self) -> str:
        """Where its files are saved: a video's right here."""
        return self.destination if is_job_file(self.what) else ""


def asked(what: str, source: str, options: dict[str, Any], more: dict[str, Any]) -> Asked:
    """Of a job file, or of a video that the daemon knows as `source`. `more`: keys of the job that were said besides.
    Raises BadJob."""
    job = job_file(what, options) if is_job_file(what) else job_of(source, options)
    id = job.id or new_ulid()
    return Asked(what, id, Job.check(job.model_dump(mode="json", exclude_unset=True) | {"id": id} | more))


def is_job_file(what: str) -> bool:
    return what.endswith(".json")


def job_file(path: str, options: dict[str, Any]) -> Job:
    if options:
        raise BadJob(f"{_option(next(iter(options)))} goes with a video: a job file says it itself")
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise BadJob(f"{path}: {error.strerror}") from None
    try:
        return parse(text)
    except BadJob as bad:
        raise BadJob(f"{path}: {bad.message}") from None


def job_of(video: str, options: dict[str, Any]) -> Job:
    """The job that the options of a command describe: thumbnails at `--at`, or a series, or a sprite; or a clip or an
    animation."""
    look = {key: value for key, value in options.items() if key in _LOOK}
    moving = next((kind for kind in _MOVING if kind in options), None)
    if moving is not None:
        said = {key: value for key, value in options.items() if key != moving}
        if stray := next((key for key in said if key not in _MOVING[moving].model_fields), None):
            raise BadJob(
                f"{_option(stray)} and --{moving} do not go together: leave one of them out "
                f"(--start and --duration say which stretch --{moving} takes)"
            )
        # Not the video's own name: a clip beside it would take its place.
        return Job.check(
            {"source": video, "outputs": [{"output": moving, "name": f"{stem_of(video)}-{moving}", **said}]}
        )
    if stray := next((key for key in ("duration", "fps") if key in options), None):
        raise BadJob(f"--{stray} goes with --clip or --animation")
    series: dict[str, Any] = {key: options[key] for key in ("every", "count", "start", "end", "pick") if key in options}
    if series and not series.keys() & {"every", "count"}:
        stray = next(iter(series))
        raise BadJob(f"--{stray} needs --every or --count" + (", --clip or --animation" if stray == "start" else ""))
    outputs: list[dict[str, Any]] = []
    ats = options.get("at") or ([] if series else ["middle"])
    for n, at in enumerate(ats, 1):
        stem = look.get("name", stem_of(video))
        outputs.append({"output": "thumbnail", **look, "at": at, "name": stem if len(ats) == 1 else f"{stem}-{n}"})
    if series:
        kind = "sprite" if options.get("sprite") else "thumbnails"
        name = f"{stem_of(video)}-{kind}" if ats else stem_of(video)
        outputs.append({"output": kind, "name": name, **look, **series})
    elif options.get("sprite"):
        raise BadJob("--sprite needs --every or --count")
    return Job.check({"source": video, "outputs": outputs})


def source_of(what: str) -> str:
    """A VIDEO as a daemon beside this command finds it: a path whole, all else as it was written."""
    return what if "://" in what or what.startswith(SCHEME) else os.path.abspath(what)


def stem_of(source: str) -> str:
    """A file's name without its suffix, as far as that can begin the names of other files."""
    path = urlsplit(source).path if "://" in source else source.removeprefix(SCHEME)
    readable = "".join(sign for sign in Path(path).stem if sign.isprintable() and sign != "\\")
    begun = re.sub(r"^[\W_]+", "", readable)
    return begun.encode()[:120].decode(errors="ignore") or "video"


def _option(key: str) -> str:
    return f"--{key.replace('_', '-')}"
