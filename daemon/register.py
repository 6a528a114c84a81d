"""Making a source a video, whichever door asks: a look at it in a worker, then a row."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from daemon.catalogue import uploads, videos
from daemon.catalogue.videos import SCHEME, Video
from daemon.errors import Conflict, SourceFailure
from daemon.probe import Probe
from daemon.report import SourceFacts
from daemon.sources import Sources


@dataclass(frozen=True)
class Seen:
    """A source that can be decoded. `identity` as `daemon.sources` tells it."""

    source: str
    identity: str | None
    facts: SourceFacts


async def look(sources: Sources, probe: Probe, source: str, roots: tuple[Path, ...] | None) -> Seen:
    """Probes a source. `roots`: folders that its organisation may read, None for all that the daemon may. Raises
    SourceFailure, WorkerFailure, and Conflict where it is a video already."""
    if source.startswith((SCHEME, uploads.SCHEME)):
        raise Conflict(f"source {source!r}: a video is made of a file, not of another video or an upload")
    try:
        async with sources.open(source, roots) as opened:
            return Seen(source, opened.identity, await probe.facts(opened))
    except SourceFailure as failure:
        raise failure.named(source) from None


def register(connection: Connection, org: str, id: str, seen: Seen, channel: str | None) -> Video:
    """Makes it a video of an organisation, or changes the one that it was. Raises Conflict."""
    made = videos.register(connection, org, id, seen.source, channel, seen.identity, seen.facts)
    if made is None:
        raise Conflict("the video's id, or its channel, is another organisation's: choose another one")
    return made
