"""A daemon of one's own, in a folder that goes away."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import sleep


@dataclass(frozen=True)
class Running:
    """A daemon that is ready: its folder, its process, and where its API listens."""

    folder: Path
    process: subprocess.Popen[bytes]
    api: str

    def children(self) -> list[int]:
        """The process ids of its workers."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def running(media: Path, cores: set[int] | None = None, **settings: object) -> Iterator[Running]:
    """Settings by the names of the environment, without the prefix. `cores`: where it may run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        listen, api = free_address(), free_address()
        said = {
            "SPOOL__ROOT": folder / "spool",
            "STORE__ROOT": folder / "store",
            "DATABASE": f"sqlite:///{folder / 'thumbd.db'}",
            "SOURCES__ROOTS": json.dumps([str(media)]),
            "METRICS__LISTEN": listen,
            "HTTP__LISTEN": api,
            "SPOOL__MIN_FREE_BYTES": 0,
            **settings,
        }
        environment = os.environ | {f"THUMBD_{key}": str(value) for key, value in said.items()}
        pinned = ["taskset", "-c", ",".join(map(str, sorted(cores)))] if cores else []
        process = subprocess.Popen(
            [*pinned, sys.executable, "-m", "daemon", "serve"], env=environment, stderr=subprocess.DEVNULL
        )
        try:
            while not _ready(listen):
                assert process.poll() is None, "the daemon did not start"
                sleep(0.05)
            yield Running(folder, process, f"http://{api}")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def _ready(listen: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{listen}/readyz", timeout=5):
            return True
    except OSError:
        return False
