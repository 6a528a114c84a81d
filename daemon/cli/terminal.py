"""What is said on the terminal: results on standard output, all else as one line each on standard error."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from daemon.report import Report

errors = Console(stderr=True, highlight=False, soft_wrap=True)
INTERRUPTED = 130  # as a shell says it of SIGINT
JsonOption = Annotated[bool, typer.Option("--json", help="Print what is known as JSON.")]


def fail(message: str, code: int) -> NoReturn:
    errors.print(f"thumbd: {' '.join(message.splitlines())}", style="red" if errors.is_terminal else None, markup=False)
    sys.exit(code)


def plain(text: str) -> str:
    """What another machine said, without what a terminal would obey."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def progress_bars() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    )


def show_report(report: Report, root: Path, as_json: bool, leave: bool = True) -> None:
    for warning in report.warnings:
        errors.print(f"thumbd: warning: {warning}", markup=False)
    if as_json:
        print(json.dumps(report.as_dict(), indent=1))
    else:
        for output in report.outputs:
            for file in output.files:
                print(root / file)
    if report.error is not None:
        message = f"{report.error.output}: {report.error.message}" if report.error.output else report.error.message
        if leave:
            fail(message, 1)
        errors.print(f"thumbd: {report.id}: {message}", markup=False)


def show_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns for eyes and for grep."""
    lines = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())
