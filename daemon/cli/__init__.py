"""The command `thumbd`. Messages go to standard error, one line, with what to do about it; results to standard output.

Exit codes: 0 done, 1 the job failed, 2 wrong use.

local.py      what is done right here: serve, run, schema, check, demo
jobs.py       submit, status, retry, cancel
asked.py      the job that a command's words describe
options.py    the options among those words
spool.py      jobs through a daemon's spool
remote.py     jobs over HTTP
client.py     a client of the HTTP API
org.py        organisations and their keys
video.py      videos by their ids
beside.py     questions to the database beside the daemon
terminal.py   what is said, and how
"""

import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Annotated, Any

import typer

from daemon.cli import jobs, local, org, video
from daemon.cli.terminal import INTERRUPTED, fail
from daemon.errors import Failure

UsageError: Any = typer.BadParameter.__base__  # of whichever click there is: Typer may bring its own

cli = typer.Typer(
    help="Turns video into stills: posters, series, scrub sprites.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_COMMANDS: Sequence[Callable[..., None]] = (
    *(local.serve, local.run, local.schema, local.check, local.demo),
    *(jobs.submit, jobs.status, jobs.retry, jobs.cancel),
)
for command in _COMMANDS:
    cli.command()(command)
cli.add_typer(org.commands, name="org")
cli.add_typer(video.commands, name="video")


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"thumbd {version('thumbd')}")
        raise typer.Exit


@cli.callback()
def _thumbd(
    _: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """What may be said before any command."""


def main() -> None:
    """The entry point: failures become one line and an exit code."""
    try:
        try:
            code = cli(sys.argv[1:] or ["--help"], standalone_mode=False)
        finally:
            sys.stdout.flush()
    except Failure as failure:
        fail(failure.message, 2)
    except UsageError as wrong:
        fail(f"{wrong.format_message().rstrip('.')}: `thumbd --help` and `thumbd COMMAND --help` say what there is", 2)
    except BrokenPipeError:
        os._exit(0)
    if code == INTERRUPTED:
        fail("interrupted", INTERRUPTED)
