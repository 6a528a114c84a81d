"""A task's status, as Qencode's clients read it, from what the table knows of its job."""

import json
from collections.abc import Callable
from typing import Any

from daemon.job import Clip, Job, Output, Thumbnails
from daemon.jobs.table import Known
from daemon.report import OutputReport
from daemon.tables import FAILED, PUBLISHING, QUEUED

Url = Callable[[str], str]  # of a published file, by its path below the store's root


def status_of(known: Known, url: Url) -> dict[str, Any]:
    """`downloading` is never said: a source is not copied before it is decoded."""
    report = known.report
    failed = known.state == FAILED
    return {
        "status": _state(known),
        "percent": _percent(known),
        "error": int(failed),
        "error_description": report.error.message if failed and report.error else None,
        **_files(known, url),
        "warnings": [{"message": warning} for warning in report.warnings],
    }


def _state(known: Known) -> str:
    """Never one that comes before another that was told: a job that is tried again stays `encoding`."""
    match known.report.status:
        case "completed":
            return "completed"
        case "failed":
            return "error"
    if known.state == PUBLISHING:
        return "saving"
    return "queued" if known.state == QUEUED and not known.attempt else "encoding"


def _percent(known: Known) -> float:
    if known.report.status == "completed":
        return 100
    return round(99 * known.pictures_made / known.pictures_in_all, 2) if known.pictures_in_all else 0


def _files(known: Known, url: Url) -> dict[str, list[dict[str, Any]]]:
    """What came out, in the order of the formats. A tag says which of the query's pictures or clips it is, and which
    picture of a series."""
    files: dict[str, list[dict[str, Any]]] = {"images": [], "videos": [], "audios": [], "texts": []}
    made = {report.name: report for report in known.report.outputs}
    images = videos = 0
    for output in Job.read(known.job).outputs:
        report = made.get(output.name)
        if isinstance(output, Clip):
            if report is not None:
                files["videos"].append(_video(report, f"video-{videos}-0", url))
            videos += 1
            continue
        if report is not None:
            paths = _pictures(output, report)
            for number, path in enumerate(paths):
                files["images"].append(_file(report, path, f"image-{images}-{number}", url))
            indexes = [path for path in report.files if path.endswith(".vtt")]
            files["texts"] += [_file(report, path, f"text-{images}-0", url) for path in indexes]
        images += 1
    return files


def _pictures(output: Output, report: OutputReport) -> list[str]:
    if isinstance(output, Thumbnails):
        return [picture.path for picture in report.pictures or () if picture.path]
    return [path for path in report.files if not path.endswith(".vtt")]


def _file(report: OutputReport, path: str, tag: str, url: Url) -> dict[str, Any]:
    return {
        "tag": tag,
        "profile": None,
        "user_tag": report.tag,
        "storage": {"format": path.rpartition(".")[2]},
        "url": url(path),
    }


def _video(report: OutputReport, tag: str, url: Url) -> dict[str, Any]:
    """`bitrate` in kbit/s; `meta` and `duration`, in seconds, are text."""
    seconds = report.duration or 0.0
    meta = {"width": report.width, "height": report.height, "resolution": min(report.width, report.height)}
    return _file(report, report.path, tag, url) | {
        "bitrate": round(report.bytes * 8 / 1000 / seconds) if seconds else 0,
        "meta": json.dumps(meta),
        "duration": str(seconds),
    }
