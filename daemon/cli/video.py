"""`thumbd video`: videos under the ids that the services use, beside a running daemon."""

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Annotated

import typer
from pydantic_core import to_jsonable_python
from sqlalchemy import Connection

from daemon.build import build_probe, build_sources
from daemon.catalogue import organisations, videos
from daemon.catalogue.organisations import DEFAULT, Organisation
from daemon.catalogue.videos import CHANNEL, Video
from daemon.cli.asked import source_of
from daemon.cli.beside import ConfigOption, ask_once
from daemon.cli.terminal import JsonOption, fail, show_table
from daemon.config import Settings, load
from daemon.errors import Failure
from daemon.fields import NAME
from daemon.register import Seen, look, register

commands = typer.Typer(help="Videos under the ids that the services use.")

_PAGE = 1000  # rows of a question


@commands.command()
def add(
    org: Annotated[str, typer.Argument(help="Whose it is.")],
    video_id: Annotated[str, typer.Argument(help="What the services call it; one in the whole daemon.")],
    source: Annotated[str, typer.Argument(help="A path that the daemon may read.")],
    channel: Annotated[str | None, typer.Option(help="Its channel; default: one named like the organisation.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Looks at a video and registers it, or changes it."""
    for what, said, pattern, most in (("video", video_id, NAME, 64), ("channel", channel, CHANNEL, 50)):
        if said is not None and not re.fullmatch(pattern, said):
            fail(f"{what} {said!r}: write 1 to {most} of A-Z a-z 0-9 . _ -, a letter or digit first", 2)
    settings = load(config)
    organisation = ask_once(settings, lambda c: organisations.get(c, org), new=org == DEFAULT)
    if organisation is None and org != DEFAULT:
        fail(f"there is no organisation {org!r}: `thumbd org add {org}` adds it", 1)
    try:
        seen = asyncio.run(_look(settings, organisation, source_of(source)))
        video = ask_once(settings, lambda c: register(c, org, video_id, seen, channel))
    except Failure as failure:
        fail(failure.message, 1)
    if as_json:
        _print_json(video)
    else:
        print(f"{video.id}: {_size(video)}, {video.facts.duration:g} s, {video.facts.codec}")


async def _look(settings: Settings, org: Organisation | None, source: str) -> Seen:
    sources = build_sources(settings.sources, settings.sources.roots)
    probe = build_probe(settings)
    try:
        return await look(sources, probe, source, org.roots if org else None)
    finally:
        await probe.close()


@commands.command("list")
def list_all(
    org: Annotated[str | None, typer.Argument(help="Of this organisation only.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """All videos, by their ids."""
    found = ask_once(load(config), lambda c: list(_all(c, org)))
    if as_json:
        _print_json(found)
        return
    rows = [(v.id, v.org, v.channel, _size(v), f"{v.facts.duration:g} s", v.facts.codec, v.source) for v in found]
    show_table(("ID", "ORG", "CHANNEL", "SIZE", "DURATION", "CODEC", "SOURCE"), rows)


def _all(connection: Connection, org: str | None) -> Iterator[Video]:
    page = videos.list_of(connection, org, most=_PAGE)
    while page:
        yield from page
        page = videos.list_of(connection, org, page[-1].id, _PAGE)


@commands.command()
def remove(video_id: str, config: ConfigOption = None) -> None:
    """Forgets a video. Its pictures stay in the store."""
    if not ask_once(load(config), lambda c: videos.remove(c, None, video_id)):
        fail(f"there is no video {video_id!r}: `thumbd video list` shows them", 1)
    print(f"{video_id}: removed")


def _size(video: Video) -> str:
    return f"{video.facts.width}x{video.facts.height}"


def _print_json(what: Video | list[Video]) -> None:
    print(json.dumps(to_jsonable_python(what), indent=1))
