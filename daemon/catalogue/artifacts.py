"""What jobs have published, a row for each output: the cache, and the thumbnails of a video.

A row is made unpublished at the job's point of no return, and shown when its files are where they belong. Files that
another job replaces lose their row before that.
"""

import hashlib
import json
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, delete, insert, or_, select, update

from daemon.catalogue.videos import Video
from daemon.outputs import Output
from daemon.report import OutputReport, SourceFacts
from daemon.tables import artifacts, now
from daemon.ulid import new_ulid

RENDERER = 1  # raised whenever the same output of the same source may come out with other pixels
THUMBNAIL = "thumbnail"

# What changes no file, or is the file's name alone.
_NOT_IN_THE_PICTURE = {"tag", "optional", "ttl", "deliver"}
_ONE_FILE = ("thumbnail", "clip", "animation")  # all others hold their files' names


@dataclass(frozen=True)
class Artifact:
    """`report`: the output's part of the report of the job `job_id`, whose folder is `destination`; `source`: the facts
    of what it was made from, `revision` that of the video that the job named; `created_at` in seconds since 1970."""

    id: str
    org: str
    job_id: str
    destination: str
    report: OutputReport
    source: SourceFacts | None
    revision: str | None
    created_at: float


@dataclass(frozen=True)
class Origin:
    """What pictures were made from. `identity` is the source's, `revision` that of the video that the job named."""

    identity: str | None = None
    revision: str | None = None


def recipe(origin: Origin, output: Output, device: str, background: tuple[int, int, int]) -> str | None:
    """A hash of all that decides what an output's files hold; None where the source has no identity. `device`: the
    class of device, for two of them do not round alike."""
    if origin.identity is None:
        return None
    asked = output.model_dump(mode="json")
    for key in _NOT_IN_THE_PICTURE | ({"name"} if output.output in _ONE_FILE else set()):
        asked.pop(key, None)
    what = [RENDERER, origin.identity, origin.revision, asked, device.partition(":")[0], background]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def announce(
    connection: Connection,
    key: str,
    org: str,
    job_id: str,
    destination: str,
    source: SourceFacts | None,
    origin: Origin,
    outputs: Sequence[tuple[OutputReport, str | None]],
) -> None:
    """The files of these outputs, each with its recipe, are about to be published by the job with this key."""
    replaced = _replaced(connection, {file for output, _ in outputs for file in output.files})
    connection.execute(_REPLACE, {"its_job": key, "ids": replaced})
    common = {
        "org": org,
        "job": key,
        "job_id": job_id,
        "destination": destination,
        "source": source.model_dump_json() if source else None,
        "revision": origin.revision,
        "identity": origin.identity,
    }
    rows = [
        {
            **common,
            "id": new_ulid(),
            "output": output.output,
            "path": output.path,
            "width": output.width,
            "height": output.height,
            "report": output.model_dump_json(),
            "recipe": made_by,
        }
        for output, made_by in outputs
    ]
    if rows:
        connection.execute(_INSERT, rows)


def _replaced(connection: Connection, files: AbstractSet[str]) -> list[str]:
    """The ids of the rows that have one of these files, be it one of many: a folder above it is their destination."""
    folders = {str(folder) for file in files for folder in PurePosixPath(file).parents}
    found = []
    for row in connection.execute(_WITHIN, {"folders": sorted(folders)}):
        own = {row.path} if row.output in _ONE_FILE else json.loads(row.report)["files"]
        if not files.isdisjoint(own):
            found.append(row.id)
    return found


def show(connection: Connection, key: str) -> None:
    """The files of this job are where they belong."""
    connection.execute(_SHOW, {"its_job": key})


def withdraw(connection: Connection, key: str) -> None:
    """They never will be; or are not there any more."""
    connection.execute(delete(artifacts).where(artifacts.c.job == key))


def forget(connection: Connection, key: str, outputs: Sequence[str]) -> None:
    """The files of these outputs, by their paths, of the job with this key are about to be removed."""
    connection.execute(delete(artifacts).where(artifacts.c.job == key, artifacts.c.path.in_(outputs)))


def equals(connection: Connection, org: str, recipes: Sequence[str]) -> dict[str, Artifact]:
    """Recipe -> what was published by it, the newest."""
    mine = and_(_published(org), artifacts.c.recipe.in_(recipes))
    rows = connection.execute(select(artifacts).where(mine).order_by(artifacts.c.id)) if recipes else ()
    return {row.recipe: _artifact(row) for row in rows}


def of_job(connection: Connection, org: str, job_id: str) -> list[Artifact]:
    """What a job has published, also where the job itself is long forgotten."""
    return [_artifact(row) for row in connection.execute(_OF_JOB, {"its_org": org, "its_job": job_id})]


def largest_thumbnail(connection: Connection, video: Video) -> Artifact | None:
    """The picture with the most pixels that was made from a video, the newest of them."""
    most = (artifacts.c.width * artifacts.c.height).desc(), artifacts.c.id.desc()
    row = connection.execute(select(artifacts).where(made_from(video)).order_by(*most).limit(1)).first()
    return None if row is None else _artifact(row)


def made_from(video: Video) -> ColumnElement[bool]:
    """The published thumbnails of jobs on a video, named by its id or by a path that opens the same file; none that
    was removed."""
    same = artifacts.c.revision == video.revision
    if video.identity is not None:
        same = or_(same, and_(artifacts.c.revision.is_(None), artifacts.c.identity == video.identity))
    return and_(_published(video.org), artifacts.c.output == THUMBNAIL, artifacts.c.removed.is_(False), same)


def _published(org: str) -> ColumnElement[bool]:
    return and_(artifacts.c.org == org, artifacts.c.published)


def _artifact(row: Row[Any]) -> Artifact:
    source = None if row.source is None else SourceFacts.model_validate_json(row.source)
    report = OutputReport.model_validate_json(row.report)
    return Artifact(row.id, row.org, row.job_id, row.destination, report, source, row.revision, row.created_at)


# What every job or request asks, built once.

_REPLACE = delete(artifacts).where(
    or_(artifacts.c.job == bindparam("its_job"), artifacts.c.id.in_(bindparam("ids", expanding=True)))
)
_INSERT = insert(artifacts).values(created_at=now())
_WITHIN = select(artifacts.c.id, artifacts.c.output, artifacts.c.path, artifacts.c.report).where(
    artifacts.c.destination.in_(bindparam("folders", expanding=True))
)
_SHOW = update(artifacts).where(artifacts.c.job == bindparam("its_job")).values(published=True)
_OF_JOB = (
    select(artifacts)
    .where(artifacts.c.org == bindparam("its_org"), artifacts.c.published, artifacts.c.job_id == bindparam("its_job"))
    .order_by(artifacts.c.id)
)
