"""The command as its users type it, in a process of its own or, in a tenth of the time, in this one."""

import io
import os
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from daemon.cli import main

THUMBD = [sys.executable, "-P", "-m", "daemon"]


def environment(**said: str) -> dict[str, str]:
    """This one with no settings but those that are said."""
    return {name: value for name, value in os.environ.items() if not name.startswith("THUMBD_")} | said


def thumbd(folder: Path, *words: object, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [*THUMBD, *map(str, words)]
    return subprocess.run(command, cwd=folder, env=environment(**settings), capture_output=True, text=True, timeout=120)


def called(folder: Path, *words: object, **settings: str) -> subprocess.CompletedProcess[str]:
    """The same in this process."""
    command = ["thumbd", *map(str, words)]
    with (
        chdir(folder),
        patch.dict(os.environ, environment(**settings), clear=True),
        patch.object(sys, "argv", command),
        redirect_stdout(io.StringIO()) as out,
        redirect_stderr(io.StringIO()) as errors,
    ):
        try:
            main()
            code = 0
        except SystemExit as exit:
            assert exit.code is None or isinstance(exit.code, int)
            code = exit.code or 0
    return subprocess.CompletedProcess(command, code, out.getvalue(), errors.getvalue())


def one_line(said: str) -> bool:
    return said.startswith("thumbd: ") and said.count("\n") == 1
