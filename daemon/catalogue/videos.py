"""Videos under the ids that the services use. An id is one in the whole daemon, whoever registered it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from daemon.catalogue import organisations, uploads
from daemon.catalogue.organisations import DEFAULT
from daemon.errors import SourceMissing
from daemon.report import SourceFacts
from daemon.tables import now, orgs, videos
from daemon.ulid import new_ulid

SCHEME = "video:"
CHANNEL = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,49}$"


@dataclass(frozen=True)
class Video:
    """`revision` changes whenever its pictures may: another source, or other bytes. `identity` is the source's, as
    `daemon.sources` tells it. `created_at` in seconds since 1970."""

    id: str
    revision: str
    org: str
    channel: str
    source: str
    identity: str | None
    facts: SourceFacts
    created_at: float


def register(
    connection: Connection,
    org: str,
    id: str,
    source: str,
    channel: str | None,
    identity: str | None,
    facts: SourceFacts,
) -> Video | None:
    """Makes or changes it; None where the id, or the channel, is another organisation's. Without `channel` it stays in
    its own, and a new one is in that of its organisation's name."""
    before = get(connection, id)
    channel = channel or (before.channel if before else org)
    if (before is not None and before.org != org) or not _may_use(connection, org, channel):
        return None
    same = before is not None and (before.source, before.identity) == (source, identity) and identity is not None
    values = {
        "revision": before.revision if before and same else new_ulid(),
        "org": org,
        "channel": channel,
        "source": source,
        "identity": identity,
        **facts.model_dump(),
    }
    if before is None:
        connection.execute(insert(videos).values(id=id, created_at=now(), **values))
    else:
        connection.execute(update(videos).where(videos.c.id == id).values(values))
    return get(connection, id)


def _may_use(connection: Connection, org: str, channel: str) -> bool:
    return channel_owner(connection, channel) in (None, org)


def get(connection: Connection, id: str) -> Video | None:
    row = connection.execute(_BY_ID, {"its_id": id}).first()
    return None if row is None else _video(row)


def by_revision(connection: Connection, revision: str) -> Video | None:
    """The video whose revision is still this one."""
    row = connection.execute(select(videos).where(videos.c.revision == revision)).first()
    return None if row is None else _video(row)


def list_of(connection: Connection, org: str | None, after: str = "", most: int = 100) -> Sequence[Video]:
    """By their ids, from the one after `after` on; of all organisations where `org` is None."""
    chosen = select(videos).where(videos.c.id > after).order_by(videos.c.id).limit(most)
    return [_video(row) for row in connection.execute(chosen if org is None else chosen.where(videos.c.org == org))]


def remove(connection: Connection, org: str | None, id: str) -> bool:
    """Forgets it; its pictures stay in the store."""
    mine = delete(videos).where(videos.c.id == id)
    return bool(connection.execute(mine if org is None else mine.where(videos.c.org == org)).rowcount)


def channel_owner(connection: Connection, channel: str) -> str | None:
    """The organisation that a channel is named like, else that of its videos; None where it is nobody's."""
    if channel == DEFAULT or connection.execute(select(orgs.c.name).where(orgs.c.name == channel)).first():
        return channel
    return connection.execute(select(videos.c.org).where(videos.c.channel == channel).limit(1)).scalar()


@dataclass(frozen=True)
class Place:
    """Where a job's source is. `roots`: folders that its organisation may read, None for all that the daemon may.
    `revision` of the video that the job named; `upload`: the id of the upload that it is."""

    source: str
    roots: tuple[Path, ...] | None = None
    revision: str | None = None
    upload: str | None = None


def place_of(connection: Connection, org: str, source: str) -> Place:
    """Where the source of an organisation's job is. Raises SourceMissing where it names no video or upload of its
    own."""
    organisation = organisations.get(connection, org)
    roots = organisation.roots if organisation else None
    if source.startswith(uploads.SCHEME):
        upload = uploads.complete_one(connection, org, source.removeprefix(uploads.SCHEME))
        if upload is None:
            raise SourceMissing(f"source {source!r}: there is no such upload, or not all of it")
        return Place(source, upload=upload.id)
    if not source.startswith(SCHEME):
        return Place(source, roots)
    video = get(connection, source.removeprefix(SCHEME))
    if video is None or video.org != org:
        raise SourceMissing(f"source {source!r}: there is no such video: `thumbd video add` registers one")
    return Place(video.source, roots, video.revision)


def _video(row: Row[Any]) -> Video:
    facts = SourceFacts(duration=row.duration, width=row.width, height=row.height, codec=row.codec, fps=row.fps)
    return Video(row.id, row.revision, row.org, row.channel, row.source, row.identity, facts, row.created_at)


_BY_ID = select(videos).where(videos.c.id == bindparam("its_id"))
