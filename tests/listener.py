"""A server that is called back, and answers as it is told to."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from harness import until


@dataclass(frozen=True)
class Call:
    """A request, its headers' names in small letters."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Listener:
    """`answer` gives the status of each call, or the whole handler's work where it returns None."""

    answer: Callable[[Call, Any], int | None]
    calls: list[Call] = field(default_factory=list)
    port: int = 0

    def url(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def wait_for(self, number: int) -> list[Call]:
        until(lambda: len(self.calls) >= number, f"{number} calls, there were {len(self.calls)}")
        return self.calls[:number]


def always(status: int) -> Callable[[Call, Any], int]:
    return lambda call, handler: status


def in_turn(*statuses: int) -> Callable[[Call, Any], int]:
    """These statuses, one after the other; the last for ever."""
    left = list(statuses)
    return lambda call, handler: left.pop(0) if len(left) > 1 else left[0]


@contextmanager
def listening(answer: Callable[[Call, Any], int | None]) -> Iterator[Listener]:
    """On a free port of this machine."""
    listener = Listener(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _take(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            call = Call(self.command, self.path, headers, body)
            listener.calls.append(call)
            status = listener.answer(call, self)
            if status is not None:
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", listener.url("/elsewhere"))
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _take

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a daemon that is killed breaks its connections

    server = Server(("127.0.0.1", 0), Handler)
    listener.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield listener
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
