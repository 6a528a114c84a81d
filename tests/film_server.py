"""A server of films that behaves as it is told, well or badly, and counts what it sends."""

import re
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

TAG = '"version-1"'


@dataclass(frozen=True)
class Asked:
    """One request: its path with the query, and the bytes wanted, None where it is for all."""

    path: str
    range: tuple[int, int] | None
    headers: dict[str, str]


class Answer(BaseHTTPRequestHandler):
    """The answer to one request. A behaviour calls these, or writes what it likes."""

    protocol_version = "HTTP/1.1"
    server: "FilmServer"

    def do_GET(self) -> None:
        said = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        self.range = (int(said[1]), int(said[2]) + 1) if said else None
        with self.server.lock:
            self.server.asked.append(Asked(self.path, self.range, dict(self.headers)))
        self.number = len(self.server.asked)
        self.server.behaviour(self)

    @property
    def film(self) -> bytes:
        return self.server.film

    def part(self, cut: int | None = None, total: int | None = None, **headers: str) -> None:
        """What a good server answers. `cut`: it hangs up after so many bytes; `total`: what it says is the size."""
        begin, end = self.range or (0, len(self.film))
        end = min(end, len(self.film))
        if begin >= len(self.film):
            self.say(416, {"Content-Range": f"bytes */{len(self.film)}"})
            return
        body = self.film[begin:end]
        named = {"Content-Range": f"bytes {begin}-{end - 1}/{total or len(self.film)}", "ETag": TAG, **headers}
        self.say(206, {key.replace("_", "-"): value for key, value in named.items()}, body, cut)

    def whole(self, **headers: str) -> None:
        self.say(200, {"ETag": TAG, **headers}, self.film)

    def say(
        self, status: int, headers: dict[str, str] | None = None, body: bytes = b"", cut: int | None = None
    ) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            if value:
                self.send_header(key, value)
        self.end_headers()
        self.send(body if cut is None else body[:cut])
        if cut is not None:
            self.close_connection = True

    def send(self, body: bytes) -> None:
        with self.server.lock:
            self.server.sent += len(body)
        self.wfile.write(body)

    def redirect(self, to: str, status: int = 302) -> None:
        self.say(status, {"Location": to})

    def log_message(self, format: str, *arguments: Any) -> None:
        """Silent."""


class FilmServer(ThreadingHTTPServer):
    """As a context it runs on 127.0.0.1. Behaviours may wait for `go`, which is set at the end."""

    daemon_threads = True
    request_queue_size = 100

    def __init__(
        self,
        film: bytes | Path = b"",
        behaviour: Callable[[Answer], None] = Answer.part,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.film = film.read_bytes() if isinstance(film, Path) else film
        self.behaviour = behaviour
        self.lock = threading.Lock()
        self.go = threading.Event()
        self.asked: list[Asked] = []
        self.sent = 0
        self._tls = tls is not None
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, path: str = "film.mp4", host: str = "127.0.0.1") -> str:
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}/{path}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are no fault."""

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.go.set()
        self.shutdown()
        self._thread.join()
        self.server_close()
