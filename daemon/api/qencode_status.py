"""A task's status, as Qencode's clients read it, from what the table knows of its job and of what follows it; and the
callbacks that tell of it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import time
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from daemon.catalogue import qencode
from daemon.errors import TargetRefused
from daemon.job import Job
from daemon.jobs import errands
from daemon.jobs.row import Known
from daemon.outputs import Clip, Output, Thumbnails
from daemon.owed.delivery import files_of
from daemon.owed.webhook import Occasion, Wording
from daemon.report import OutputReport
from daemon.service import Service
from daemon.tables import DONE, FAILED, PUBLISHING, QUEUED
from daemon.target import Target

DIALECT = "qencode"
SIGNED = "qencode"  # what the signature of a URL is for
TASK_FAILED = 1
_HOUR = 3600
_EVENTS = {QUEUED: "queued"}  # of callbacks; all others are the end


@dataclass(frozen=True)
class Lives:
    """Seconds that an access token is good, and that files stay in the store."""

    token: int
    files: int


@dataclass(frozen=True)
class Teller:
    """Tells of tasks. `origin_of`: where a target's host is, as in `https://s3.example`."""

    service: Service
    lives: Lives
    origin_of: Callable[[Target], str]

    def status(self, known: Known, owed: Sequence[errands.Known]) -> dict[str, Any]:
        """`downloading` is never said: a source is not copied before it is decoded."""
        job = Job.read(known.job)
        error = _error(known, job, owed)
        state = "error" if error else _state(known, owed)
        return {
            "status": state,
            "percent": 100 if state == "completed" else _percent(known),
            "error": TASK_FAILED if error else 0,
            "error_description": error,
            **self._files(known, job, owed),
            "warnings": _warnings(known, job, owed),
        }

    async def callback(self, occasion: Occasion) -> Wording:
        """The form that is posted to a `callback_url`."""
        known = occasion.job
        status = self.status(known, occasion.owed)
        event = _EVENTS.get(occasion.event) or ("error" if status["error"] else "saved")
        token = await self.service.ask(lambda c: qencode.task_of_job(c, known.org, known.id))
        fields = {"task_token": token or "", "event": event, "callback_type": "task", "status": json.dumps(status)}
        if (payload := Job.read(known.job).payload) is not None:
            fields["payload"] = payload
        if event == "error":
            fields |= {"error_code": status["error"], "error_message": status["error_description"]}
        return Wording("application/x-www-form-urlencoded", urlencode(fields).encode())

    def temporary_url(self, path: str) -> str:
        """A URL of a published file, good for as long as files stay, and for all files beside it."""
        # Whole hours, so that what is asked for twice is one file to a browser's cache.
        expires = (int(time()) + self.lives.files) // _HOUR * _HOUR + _HOUR
        signer = self.service.signer
        signature = signer.mac(SIGNED, path.rpartition("/")[0], str(expires), signer.newest)
        place = f"{expires}/{signer.newest}/{signature}/{quote(path)}"
        return f"{self.service.terms.public_url}/v1/temporary/{place}"

    def _files(self, known: Known, job: Job, owed: Sequence[errands.Known]) -> dict[str, list[dict[str, Any]]]:
        """What came out, in the order of the formats. A tag says which of the query's pictures or clips it is, and
        which picture of a series."""
        files: dict[str, list[dict[str, Any]]] = {"images": [], "videos": [], "audios": [], "texts": []}
        made = {report.name: report for report in known.report.outputs}
        images = videos = 0
        for output in job.outputs:
            report = made.get(output.name)
            if report is not None:
                places = self._places(known, report, owed)
                if isinstance(output, Clip):
                    files["videos"].append(_video(report, f"video-{videos}-0", places[report.path]))
                else:
                    for number, path in enumerate(_pictures(output, report)):
                        files["images"].append(_file(report, f"image-{images}-{number}", places[path]))
                    indexes = [path for path in report.files if path.endswith(".vtt")]
                    files["texts"] += [_file(report, f"text-{images}-0", places[path]) for path in indexes]
            videos += isinstance(output, Clip)
            images += not isinstance(output, Clip)
        return files

    def _places(self, known: Known, report: OutputReport, owed: Sequence[errands.Known]) -> dict[str, dict[str, Any]]:
        """Where each file of an output is: where it was delivered to first, else in the store, for a while."""
        delivered = next((each for each in owed if _is_of(each, report.name) and each.state == DONE), None)
        files = files_of(known.report, known.destination, report.name)
        if delivered is None:
            return {file: {"storage": {"format": _suffix(file)}, "url": self.temporary_url(file)} for file, _ in files}
        target = Target.model_construct(**delivered.target["target"])
        alone = len(files) == 1
        return {file: self._place(target, target.object_name(name, alone=alone)) for file, name in files}

    def _place(self, target: Target, name: str) -> dict[str, Any]:
        storage = {"bucket": target.bucket, "key": name, "format": _suffix(name)}
        if target.is_azure:  # its host has the account's name, which is sealed
            return {"storage": {"type": "azure_blob", **storage}, "url": f"azblob://{target.bucket}/{name}"}
        try:
            origin = self.origin_of(target)
        except TargetRefused:  # the settings were changed since
            origin = f"https://{target.endpoint or 's3.amazonaws.com'}"
        parts = urlsplit(origin)
        kind = "amazon_s3" if (parts.hostname or "").endswith(".amazonaws.com") else "custom_s3"
        host = {"host": parts.hostname, "scheme": parts.scheme, "port": parts.port}
        return {"storage": {"type": kind, **host, **storage}, "url": f"{origin}/{target.bucket}/{quote(name)}"}


def _error(known: Known, job: Job, owed: Sequence[errands.Known]) -> str | None:
    """Why the task failed, be it that nothing was made or that it could not be delivered."""
    if known.state == FAILED:
        return known.report.error.message if known.report.error else "the task failed"
    return next((_undelivered(each) for each in _failed(owed) if not _is_soft(each, job)), None)


def _warnings(known: Known, job: Job, owed: Sequence[errands.Known]) -> list[dict[str, str]]:
    warnings = [{"message": warning} for warning in known.report.warnings]
    warnings += [{"message": _undelivered(each)} for each in _failed(owed) if _is_soft(each, job)]
    calls = [each for each in owed if each.kind == "callback"]
    unheard = [each for each in calls if each.state == FAILED or (each.attempts and each.state != DONE)]
    return warnings + [{"message": "Callback delivery error", "details": each.message or ""} for each in unheard]


def _failed(owed: Sequence[errands.Known]) -> list[errands.Known]:
    return [each for each in owed if each.kind == "delivery" and each.state == FAILED]


def _undelivered(delivery: errands.Known) -> str:
    return f"delivery to {delivery.target['target']['url']} failed: {delivery.message}"


def _is_soft(delivery: errands.Known, job: Job) -> bool:
    return any(output.optional for output in job.outputs if output.name == delivery.target["output"])


def _is_of(errand: errands.Known, output: str) -> bool:
    return errand.kind == "delivery" and errand.target["output"] == output


def _state(known: Known, owed: Sequence[errands.Known]) -> str:
    """Never one that comes before another that was told: a job that is tried again stays `encoding`."""
    if known.status == "completed":
        over = all(each.state in (DONE, FAILED) for each in owed if each.kind == "delivery")
        return "completed" if over else "saving"
    if known.state == PUBLISHING:
        return "saving"
    return "queued" if known.state == QUEUED and not known.attempt else "encoding"


def _percent(known: Known) -> float:
    """Of a task that is not over."""
    if known.status == "completed":
        return 99
    return round(99 * known.pictures_made / known.pictures_in_all, 2) if known.pictures_in_all else 0


def _pictures(output: Output, report: OutputReport) -> list[str]:
    if isinstance(output, Thumbnails):
        return [picture.path for picture in report.pictures or () if picture.path]
    return [path for path in report.files if not path.endswith(".vtt")]


def _suffix(name: str) -> str:
    return name.rpartition(".")[2]


def _file(report: OutputReport, tag: str, place: dict[str, Any]) -> dict[str, Any]:
    return {"tag": tag, "profile": None, "user_tag": report.tag, **place}


def _video(report: OutputReport, tag: str, place: dict[str, Any]) -> dict[str, Any]:
    """`bitrate` in kbit/s; `meta` and `duration`, in seconds, are text."""
    seconds = report.duration or 0.0
    meta = {"width": report.width, "height": report.height, "resolution": min(report.width, report.height)}
    return _file(report, tag, place) | {
        "bitrate": round(report.bytes * 8 / 1000 / seconds) if seconds else 0,
        "meta": json.dumps(meta),
        "duration": str(seconds),
    }
