"""The worker's side: `python -m daemon.worker.process DESCRIPTOR PARENT DEVICE`: its end of the wire, the process id
of its parent, and what to decode and shape with (`daemon.media.choice`).

It gets open descriptors, never paths or keys. It imports all it needs before it says that it is ready, and opens no
file and no connection of its own from there on. It ends at end of file on its wire, and when its parent dies.
"""

import concurrent.futures.thread  # noqa: F401  imported late by its package
import ctypes
import encodings.ascii
import encodings.idna
import encodings.latin_1  # noqa: F401
import os
import queue
import resource
import signal
import socket
import sys
import threading
import traceback

import av
import av.subtitles.stream  # imported late by av.open
from PIL import Image
from pydantic import BaseModel

from daemon.errors import Failure, SourceUnreadable
from daemon.media.choose_device import open_device
from daemon.media.device import CardLost, Hardware
from daemon.media.render import Rendering
from daemon.media.sink import Sink
from daemon.media.source import open_source
from daemon.task import CARD_LOST, Progress, Ready, Stop, Task, TaskOver, Unable
from daemon.worker.wire import pack, receive_order

_PR_SET_PDEATHSIG = 1
_TICK = 0.25  # seconds between looks at the progress
_MOST_BYTES = 4 << 30  # of a file that it writes: hours of 1080p, and no job fills the disk by mistake


class Process:
    """One task at a time on the main thread and its run threads; orders are heard on a thread of their own."""

    def __init__(self, connection: socket.socket, device: str) -> None:
        self._connection = connection
        self._device_name = device
        self._sending = threading.Lock()
        self._tasks: queue.SimpleQueue[tuple[Task, list[int]]] = queue.SimpleQueue()
        self._rendering: Rendering | None = None

    def serve(self) -> None:
        """Runs tasks until the wire ends, which ends the process."""
        try:
            hardware = open_device(self._device_name)
        except Failure as failure:
            self.send(Unable(code=failure.code, message=failure.message))
            return
        threading.Thread(target=self._hear, name="orders", daemon=True).start()
        self.send(Ready(ffmpeg=av.ffmpeg_version_info, device=hardware.name, note=hardware.note))
        while True:
            task, descriptors = self._tasks.get()
            source, *files = descriptors
            sinks = dict(zip(task.files, map(Sink, files), strict=True))
            try:
                self._run(task, source, sinks, hardware)
            finally:
                for sink in sinks.values():
                    sink.close()
                for descriptor in descriptors:
                    os.close(descriptor)

    def send(self, message: BaseModel, body: bytes = b"") -> None:
        head = pack(message, body)
        with self._sending:
            self._connection.sendall(head)
            if body:
                self._connection.sendall(body)

    def _run(self, task: Task, source: int, sinks: dict[tuple[int, int], Sink], hardware: Hardware) -> None:
        try:
            opened = open_source(source)
        except OSError as error:
            self.send(_unreadable(error))
            return
        try:
            self._render(Rendering(task, opened, sinks, hardware, self.send))
        finally:
            opened.close()

    def _render(self, rendering: Rendering) -> None:
        self._rendering = rendering
        over = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(rendering, over), name="progress", daemon=True)
        ticker.start()
        final = TaskOver(code="failed", message="the worker's task ended without a word")
        try:
            final = rendering.run()
        except CardLost:
            os._exit(CARD_LOST)  # no word of this process on anything: another one begins with the card anew
        except OSError as error:  # nothing but the source is read here
            final = _unreadable(error)
        except Exception as error:  # noqa: BLE001  whatever it is, the supervisor must hear of it
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = f"internal error: {type(error).__name__}: {error} ({where.name}, line {where.lineno})"
            final = TaskOver(code="failed", message=text[:1000])
        finally:
            self._rendering = None
            over.set()
            ticker.join()
            # The last word, after all others: the next task may come at once.
            self.send(final)

    def _tick(self, rendering: Rendering, over: threading.Event) -> None:
        last: Progress | None = None
        while not over.wait(_TICK):
            # Silence means that nothing moved: the supervisor's watchdog waits for these.
            if (progress := rendering.progress()) != last:
                self.send(progress)
                last = progress

    def _hear(self) -> None:
        try:
            while (heard := receive_order(self._connection)) is not None:
                order, descriptors = heard
                if isinstance(order, Stop):
                    if rendering := self._rendering:
                        rendering.stop(order.jobs)
                else:
                    self._tasks.put((order, descriptors))
        finally:
            os._exit(0)


def _unreadable(error: OSError) -> TaskOver:
    return TaskOver(code=SourceUnreadable.code, message=f"reading it failed ({error.strerror})")


def prepare(parent: int) -> None:
    """Ties the process to its parent and imports what would otherwise be imported late."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)  # it died before the kernel was told
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    most = _MOST_BYTES if allowed == resource.RLIM_INFINITY else min(_MOST_BYTES, allowed)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    Image.preinit()
    av.logging.set_level(None)


def main() -> None:
    descriptor, parent, device = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    prepare(parent)
    Process(socket.socket(fileno=descriptor), device).serve()


if __name__ == "__main__":
    main()
