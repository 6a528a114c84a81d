"""A daemon with its HTTP door open, and organisations that know the way in."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from harness import Running, Site, free_port, thumbnail, until

from daemon.catalogue import organisations, signing


class Door:
    """`url`: where the door is. Organisations come to be when they are first named."""

    def __init__(self, site: Site, daemon: Running, port: int) -> None:
        self.site = site
        self.daemon = daemon
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._keys: dict[str, str] = {}

    def key(self, org: str, max_running: int | None = None) -> str:
        if org not in self._keys:
            key = self.site.ask(lambda c: organisations.add(c, org, [], max_running))
            assert key is not None
            self._keys[org] = key
        return self._keys[org]

    def client(self, org: str | None = "one") -> httpx.Client:
        """Without an organisation: without a key."""
        headers = {"Authorization": f"Bearer {self.key(org)}"} if org else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)

    def signed(self, path: str, life: int = 60) -> str:
        """A URL of this path, signed with the daemon's own key."""
        signer = self.site.ask(signing.signer)
        return f"{self.url}{path}?{signer.sign('GET', path, int(time.time()) + life)}"

    def ended(self, client: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
        """The report of a job, once it is over."""
        answer = client.post("/jobs", json=job)
        assert answer.status_code == 202, answer.text

        def over() -> dict[str, Any] | None:
            report = client.get(f"/jobs/{answer.json()['id']}", params={"wait": 30}).json()
            return report if report["status"] in ("completed", "failed") else None

        report = until(over, "the job is over")
        assert report is not None
        return report

    def say(self, *pieces: bytes) -> bytes:
        """All that is answered to these bytes on a connection of its own; the next piece is said once there was an
        answer to the one before, or at once where it is no whole request."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            for piece in pieces:
                connection.sendall(piece)
            return heard(connection)


def heard(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    answer = b""
    try:
        while piece := connection.recv(1 << 16):
            answer += piece
    except ConnectionResetError:
        pass
    return answer


def job_of(source: Path | str, *outputs: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {"source": str(source), "outputs": list(outputs) or [thumbnail(1)], **keys}


@contextmanager
def door_of(site: Site, fault: str = "", **settings: object) -> Iterator[Door]:
    """A daemon of this site that is ready."""
    port = free_port()
    with site.daemon(fault, http__listen=f"127.0.0.1:{port}", **settings) as daemon:
        yield Door(site, daemon.ready(), port)


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """What an answer says that is a problem of this status, as RFC 9457 has it."""
    assert answer.status_code == status, (answer.status_code, answer.text[:500])
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    told = json.loads(answer.text)
    assert told["status"] == status and set(told) == {"title", "status", "detail", "code", "errors"}
    return dict(told)
