"""`thumbd org`: organisations and their API keys, beside a running daemon."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from daemon.catalogue import organisations
from daemon.catalogue.organisations import DEFAULT, DEFAULT_MAX_RUNNING
from daemon.cli.beside import ConfigOption, ask_once
from daemon.cli.terminal import JsonOption, fail, show_table
from daemon.config import load
from daemon.fields import NAME
from daemon.times import Time

commands = typer.Typer(help="Organisations and their API keys.")

NameArgument = Annotated[str, typer.Argument(help="An organisation.")]


@commands.command()
def add(
    name: NameArgument,
    root: Annotated[
        list[Path] | None, typer.Option(help="A folder that it may read; default: all that the daemon may. Repeatable.")
    ] = None,
    max_running: Annotated[
        int | None, typer.Option(help=f"Its jobs at once, 0 without limit; default {DEFAULT_MAX_RUNNING}.", min=0)
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Adds an organisation and prints its API key, which is shown this once."""
    if not re.fullmatch(NAME, name):
        fail(f"organisation {name!r}: write 1 to 64 of A-Z a-z 0-9 . _ -, a letter or digit first", 2)
    settings = load(config)
    roots = [_root(each, settings.sources.roots) for each in root or ()]
    if max_running is None and name != DEFAULT:
        max_running = DEFAULT_MAX_RUNNING
    key = ask_once(settings, lambda c: organisations.add(c, name, roots, max_running or None), new=True)
    if key is None:
        fail(f"there is an organisation {name!r} already: `thumbd org rotate {name}` gives it a new key", 1)
    print(key)


def _root(root: Path, allowed: Sequence[Path]) -> Path:
    """As it was written: jobs may name their sources so."""
    if not root.is_absolute():
        fail(f"--root {root}: write the whole path, from / on", 2)
    folder = Path(os.path.normpath(root))
    if not folder.is_dir():
        fail(f"--root {root}: there is no such folder", 2)
    if not any(folder.resolve().is_relative_to(each.resolve()) for each in allowed):
        fail(f"--root {root}: it lies outside the folders of the setting sources.roots", 2)
    return folder


@commands.command("list")
def list_all(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """All organisations."""
    found = ask_once(load(config), organisations.all_of_them)
    if as_json:
        shown = [
            {
                "name": each.name,
                "max_running": each.max_running,
                "roots": None if each.roots is None else [str(root) for root in each.roots],
                "keys": each.keys,
            }
            for each in found
        ]
        print(json.dumps(shown, indent=1))
        return
    rows = [
        (
            each.name,
            each.keys,
            "any" if each.max_running is None else each.max_running,
            "all" if each.roots is None else " ".join(map(str, each.roots)),
        )
        for each in found
    ]
    show_table(("NAME", "KEYS", "AT ONCE", "ROOTS"), rows)


@commands.command()
def rotate(
    name: NameArgument,
    overlap: Annotated[str, typer.Option(help="How long the keys before it stay good: 24h, 30m, 0.")] = "24h",
    config: ConfigOption = None,
) -> None:
    """Gives an organisation a new API key and prints it, this once."""
    try:
        time = Time.read(overlap)
    except ValueError as error:
        fail(f"--overlap: {error}", 2)
    if time.relative:
        fail(f"--overlap: {overlap!r} is of no duration: write a time such as 24h, 30m or 0", 2)
    key = ask_once(load(config), lambda c: organisations.rotate(c, name, float(time.value)))
    if key is None:
        _fail_missing(name)
    print(key)


@commands.command("webhook-secret")
def webhook_secret(name: NameArgument, config: ConfigOption = None) -> None:
    """Prints what an organisation's callbacks are signed with (`Thumbd-Signature`)."""
    found = ask_once(load(config), lambda c: organisations.get(c, name))
    if found is None:
        _fail_missing(name)
    print(found.webhook_secret)


@commands.command()
def remove(name: NameArgument, config: ConfigOption = None) -> None:
    """Removes an organisation and its keys. Its jobs, videos and pictures stay."""
    if not ask_once(load(config), lambda c: organisations.remove(c, name)):
        _fail_missing(name)
    print(f"{name}: removed")


def _fail_missing(name: str) -> NoReturn:
    fail(f"there is no organisation {name!r}: `thumbd org list` shows them", 1)
