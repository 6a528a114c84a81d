"""A daemon with two organisations and their videos, and Yandex's own client in front of it."""

import base64
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from clips import RECIPES, Clip, make
from harness import Running, Site, free_port
from PIL import Image

from daemon.catalogue import organisations

CLIENT = Path(__file__).with_name("yandex_client.py")
KINDS = {"png": "image/png", "jpeg": "image/jpeg", "gif": "image/gif"}


@dataclass(frozen=True)
class Answer:
    """`raw`: the message as it came over the wire."""

    code: str
    message: dict[str, Any]
    details: str
    request_id: str
    raw: bytes


class Client:
    """Yandex's stubs, in a process of their own. One call at a time."""

    def __init__(self, address: str) -> None:
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [sys.executable, "-P", str(CLIENT), address]
        self._process = subprocess.Popen(
            command, env=clean, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def call(
        self,
        name: str,
        request: dict[str, Any],
        key: str | None,
        metadata: Sequence[tuple[str, str]] = (),
        timeout: float = 60,
        cancel: float = 0,
    ) -> Answer:
        said = self.ask(name, request, key, metadata, timeout, cancel)
        return Answer(**{**said, "raw": base64.b64decode(said["raw"])})

    def ask(
        self,
        name: str,
        request: dict[str, Any],
        key: str | None,
        metadata: Sequence[tuple[str, str]] = (),
        timeout: float = 60,
        cancel: float = 0,
    ) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        sent = [*metadata, *([("authorization", f"Bearer {key}")] if key is not None else [])]
        asked = {"call": name, "request": request, "metadata": sent, "timeout": timeout, "cancel": cancel}
        self._process.stdin.write(json.dumps(asked) + "\n")
        line = self._process.stdout.readline()
        assert line, "the client ended"
        return dict(json.loads(line))


@dataclass
class Door:
    """`mine` and `theirs` are the API keys of the organisations acme and rival. acme has the videos `film` in the
    channel acme and `cartoon` in the channel kids, rival has `secret` in the channel rival."""

    site: Site
    daemon: Running
    url: str
    address: str
    client: Client
    clip: Clip
    mine: str = ""
    theirs: str = ""

    def ok(self, name: str, key: str | None = None, **request: Any) -> dict[str, Any]:
        """What a call answers that is done."""
        answer = self.client.call(name, request, key or self.mine)
        assert answer.code == "OK", answer
        return answer.message

    def refused(self, name: str, key: str | None = None, **request: Any) -> tuple[str, str]:
        """Code and text of a call that is refused."""
        answer = self.client.call(name, request, key or self.mine)
        assert answer.code != "OK" and answer.request_id, answer
        return answer.code, answer.details

    def rest(self, method: str, path: str, key: str | None = None, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key or self.mine}", **more.pop("headers", {})}
        return httpx.request(method, self.url + path, headers=headers, timeout=60, **more)

    def register(self, id: str, source: Path, key: str | None = None, channel: str | None = None) -> None:
        answer = self.rest("PUT", f"/videos/{id}", key, json={"source": str(source), "channel": channel})
        assert answer.status_code == 200, answer.text

    def job(self, source: str, *outputs: dict[str, Any], key: str | None = None) -> dict[str, Any]:
        """A job's report, when it is over."""
        job = self.rest("POST", "/jobs", key, json={"source": source, "outputs": outputs}).json()
        report: dict[str, Any] = self.rest("GET", f"/jobs/{job['id']}?wait=40", key).json()
        assert report["status"] == "completed", report
        return report

    def create(self, key: str | None = None, **parent: str) -> str:
        """The id of a new thumbnail."""
        operation = self.ok("Create", key, **(parent or {"video_id": "film"}))
        return str(operation["metadata"]["thumbnail_id"])

    def put(self, url: str, picture: bytes, kind: str = "image/png") -> httpx.Response:
        return httpx.put(url, content=picture, headers={"Content-Type": kind}, timeout=60)

    def upload(self, picture: bytes, kind: str = "image/png", **parent: str) -> str:
        """The id of a new thumbnail with this picture."""
        id = self.create(**parent)
        answer = self.put(self.ok("GenerateUploadURL", thumbnail_id=id)["upload_url"], picture, kind)
        assert answer.status_code == 200, answer.text
        return id

    def downloads(self, *ids: str, channel: str = "acme", key: str | None = None) -> list[dict[str, Any]]:
        answer = self.ok("BatchGenerateDownloadURLs", key, channel_id=channel, thumbnail_ids=list(ids))
        return list(answer["download_urls"])

    def listed(self, key: str | None = None, **parent: str) -> list[str]:
        """The ids of all thumbnails, in one page."""
        return [thumbnail["id"] for thumbnail in self.ok("List", key, **parent).get("thumbnails", [])]


@contextmanager
def opened(root: Path, clip_folder: Path, fault: str = "", **settings: object) -> Iterator[Door]:
    clip = make(RECIPES[0], clip_folder)
    site = Site(root, clip_folder)
    http, rpc = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    said = {"http__listen": http, "grpc__listen": rpc, **settings}
    with site.daemon(fault, **said) as daemon, Client(rpc) as client:
        daemon.ready()
        door = Door(site, daemon, f"http://{http}", rpc, client, clip)
        door.mine, door.theirs = (
            str(site.ask(lambda c, name=name: organisations.add(c, name, [], None))) for name in ("acme", "rival")
        )
        door.register("film", clip.path)
        door.register("cartoon", copied(clip, "cartoon"), channel="kids")
        door.register("secret", copied(clip, "secret"), door.theirs)
        yield door


def copied(clip: Clip, name: str) -> Path:
    """Another file with the same frames."""
    copy = clip.path.with_name(f"{name}-{clip.path.name}")
    if not copy.exists():
        copy.write_bytes(clip.path.read_bytes())
    return copy


def picture(width: int, height: int, format: str = "png", **options: Any) -> bytes:
    """A picture file: a gradient, so that no two sizes look alike."""
    file = io.BytesIO()
    image = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    image.save(file, format, **options)
    return file.getvalue()


def size_of(data: bytes) -> tuple[str, tuple[int, int]]:
    """Format and size, decoded."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return str(image.format), image.size
