"""Questions to the daemon's database, beside the daemon."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Protocol, TypeVar

import typer
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from daemon.cli.terminal import fail
from daemon.config import Settings
from daemon.database import open_engine

T = TypeVar("T")
ConfigOption = Annotated[Path | None, typer.Option("--config", help="A TOML file with settings.", dir_okay=False)]


class Ask(Protocol):
    """Puts a question to the database."""

    def __call__(self, question: Callable[[Connection], T]) -> T: ...


def ask_once(settings: Settings, question: Callable[[Connection], T], *, new: bool = False) -> T:
    """One question, in a transaction of its own. `new`: the database may be made for it."""
    with asking(settings, new=new) as ask:
        return ask(question)


@contextmanager
def asking(settings: Settings, *, new: bool) -> Iterator[Ask]:
    engine = open_engine(settings.database, new=new)

    def ask(question: Callable[[Connection], T]) -> T:
        try:
            with engine.begin() as connection:
                return question(connection)
        except DBAPIError as error:
            fail(f"the job table {engine.url.render_as_string()} cannot be reached: {error.orig}", 1)

    try:
        yield ask
    finally:
        engine.dispose()
