"""The thumbnails of a video: what jobs have published of it, and what was uploaded for it or for its channel.

Those of jobs are rows of `artifacts`, as `artifacts.made_from` has it; uploads are rows of their own, made before the
picture comes. The ids of both are ULIDs: one list, in the order in which they were made.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Select,
    Table,
    and_,
    delete,
    insert,
    literal,
    or_,
    select,
    union_all,
    update,
)

from daemon.catalogue.artifacts import THUMBNAIL
from daemon.tables import artifacts, created_thumbnails, now, videos
from daemon.ulid import new_ulid


@dataclass(frozen=True)
class Thumbnail:
    """`video` is None for one that belongs to a channel only; `path`, below the store's root, None before the upload;
    `created_at` in seconds since 1970."""

    id: str
    org: str
    channel: str
    video: str | None
    created_at: float
    path: str | None
    uploaded: bool  # or to be uploaded; else a job made it


@dataclass(frozen=True)
class Place:
    """Of a thumbnail in a list: what is made from a file that is registered twice is there for each of its videos."""

    id: str
    video: str


@dataclass(frozen=True)
class Columns:
    """What may be asked of a thumbnail."""

    id: ColumnElement[str]
    org: ColumnElement[str]
    video: ColumnElement[str]
    channel: ColumnElement[str]


def get(connection: Connection, id: str) -> Thumbnail | None:
    """Of whatever organisation."""
    # What is made from a file that is registered twice belongs to both videos: here, to the first.
    return next(iter(_found(connection, lambda of: of.id == id)), None)


def of_ids(connection: Connection, org: str, channel: str, ids: Sequence[str]) -> dict[str, Thumbnail]:
    """Those of these ids that are in a channel."""
    mine = _found(connection, lambda of: and_(of.org == org, of.id.in_(ids), of.channel == channel))
    return {thumbnail.id: thumbnail for thumbnail in reversed(mine)}


def latest(
    connection: Connection, org: str, *, video: str | None, channel: str | None, after: Place | None, most: int
) -> list[Thumbnail]:
    """The newest first, of a video and of a channel where these are named: those that come after `after`."""

    def chosen(of: Columns) -> ColumnElement[bool]:
        conditions = [of.org == org]
        conditions += [
            column == name for column, name in ((of.video, video), (of.channel, channel)) if name is not None
        ]
        if after is not None:
            conditions.append(of.id <= after.id)
            conditions.append(or_(of.id < after.id, of.video > after.video))
        return and_(*conditions)

    return _found(connection, chosen, most)


def create(connection: Connection, org: str, video: str | None, channel: str) -> Thumbnail:
    """A thumbnail whose picture is still to be uploaded: of a video in this channel, or of the channel only."""
    id = new_ulid()
    values = {"id": id, "org": org, "video": video, "channel": None if video else channel, "created_at": now()}
    created_at = connection.execute(
        insert(created_thumbnails).values(values).returning(created_thumbnails.c.created_at)
    ).scalar_one()
    return Thumbnail(id, org, channel, video, created_at, None, uploaded=True)


def uploaded(connection: Connection, id: str, path: str, sha256: str) -> bool:
    """Its picture is there; whether this is the upload that counts, and not a second one, or one after its end."""
    waiting = update(created_thumbnails).where(created_thumbnails.c.id == id, created_thumbnails.c.path.is_(None))
    return bool(connection.execute(waiting.values(path=path, sha256=sha256)).rowcount)


def sha256_of(connection: Connection, id: str) -> str | None:
    """Of the file that was uploaded."""
    return connection.execute(select(created_thumbnails.c.sha256).where(created_thumbnails.c.id == id)).scalar()


def remove(connection: Connection, thumbnail: Thumbnail) -> None:
    """An upload is gone; a picture that a job made is no thumbnail any more."""
    if thumbnail.uploaded:
        connection.execute(delete(created_thumbnails).where(created_thumbnails.c.id == thumbnail.id))
    else:
        connection.execute(update(artifacts).where(artifacts.c.id == thumbnail.id).values(removed=True))


def unknown(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Those of these ids that no thumbnail has, nor will have again."""
    made = select(artifacts.c.id).where(artifacts.c.id.in_(ids), artifacts.c.removed.is_(False))
    created = select(created_thumbnails.c.id).where(created_thumbnails.c.id.in_(ids))
    return set(ids) - set(connection.execute(union_all(made, created)).scalars())


def _found(
    connection: Connection, chosen: Callable[[Columns], ColumnElement[bool]], most: int | None = None
) -> list[Thumbnail]:
    """The newest first; those of several videos once for each, by the ids of the videos."""
    every = _every(chosen)
    rows = connection.execute(
        every.order_by(every.selected_columns.id.desc(), every.selected_columns.video).limit(most)
    )
    return [
        Thumbnail(row.id, row.org, row.channel, row.video, row.created_at, row.path, bool(row.uploaded)) for row in rows
    ]


def _every(chosen: Callable[[Columns], ColumnElement[bool]]) -> "CompoundSelect[Any]":
    """A select for each way to be a thumbnail, so that each has its index."""
    by_revision = artifacts.c.revision == videos.c.revision
    by_identity = and_(artifacts.c.revision.is_(None), artifacts.c.identity == videos.c.identity)
    shown = and_(artifacts.c.published, artifacts.c.removed.is_(False), artifacts.c.output == THUMBNAIL)
    # Concatenated, so that no planner reads all that an organisation has, instead of what its one video has.
    of_video = (videos.c.org.concat(""), videos.c.id, videos.c.channel)
    made = [
        _select(artifacts, Columns(artifacts.c.id, *of_video), chosen, uploaded=False)
        .select_from(artifacts.join(videos, and_(artifacts.c.org == videos.c.org, same)))
        .where(shown)
        for same in (by_revision, by_identity)
    ]
    same_video = and_(created_thumbnails.c.org == videos.c.org, created_thumbnails.c.video == videos.c.id)
    for_video = _select(created_thumbnails, Columns(created_thumbnails.c.id, *of_video), chosen, uploaded=True)
    of_channel = Columns(
        created_thumbnails.c.id, created_thumbnails.c.org, created_thumbnails.c.video, created_thumbnails.c.channel
    )
    for_channel = _select(created_thumbnails, of_channel, chosen, uploaded=True)
    return union_all(
        *made,
        for_video.select_from(created_thumbnails.join(videos, same_video)),
        for_channel.where(created_thumbnails.c.video.is_(None)),
    )


def _select(
    table: Table, of: Columns, chosen: Callable[[Columns], ColumnElement[bool]], *, uploaded: bool
) -> "Select[Any]":
    own = (of.id, table.c.org, table.c.created_at, table.c.path)
    named = (of.video.label("video"), of.channel.label("channel"), literal(uploaded).label("uploaded"))
    return select(*own, *named).where(chosen(of))
