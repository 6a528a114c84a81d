"""The supervisor's side of a worker: start it, give it a task, watch it, and kill it rather than wait."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

import structlog

from daemon.errors import (
    DeviceLost,
    DeviceMissing,
    Failure,
    WorkerDied,
    WorkerLied,
    WorkerStalled,
    WorkerTimeout,
    from_dict,
)
from daemon.task import CARD_LOST, Event, Ready, Stop, Task, TaskOver, Unable
from daemon.worker.answers import Answers
from daemon.worker.wire import WireError, pack, receive_event, send_task

log = structlog.get_logger()

COMMAND = (sys.executable, "-P", "-m", "daemon.worker.process")
# What a worker may know of the environment: how to find its libraries, and nothing that opens a door.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LANG", "LC_ALL", "TZ")
# And of NVIDIA's: which cards there are, where CUDA and the kernels compiled before are.
_CUDA = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_PATH", "CUPY_CACHE_DIR")
_START_SECONDS = 60.0
_MOST_LOST = 3  # times in a row that a card may be lost
_BUFFER = 4 << 20  # bytes of events that may wait to be read


@dataclass(frozen=True)
class Watch:
    """Seconds after which a worker is killed: `stall` without any progress, `wall` for a whole task."""

    stall: float = 60.0
    wall: float = 3600.0


class Worker:
    """One worker process. `device`: what it is to work with, a `daemon.media.choice.Choice` in a word. `exited` is told
    how it ended: `ok`, `signal`, `timeout`, `lied`, or `device` where its card was lost. After three such ends in a
    row, by deaths or by starts that do not find the card again, it has no card any more and goes on with the CPU."""

    def __init__(
        self, device: str, watch: Watch, exited: Callable[[str], None], command: Sequence[str] = COMMAND
    ) -> None:
        self._device = device
        self._watch = watch
        self._exited = exited
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._lost = 0  # cards in a row
        self.device = ""
        self.note = ""
        self.ffmpeg = ""

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Starts the process and waits until it is ready. Raises a Failure where it cannot work on this machine."""
        await self.kill("signal")  # what is left of one that died between tasks
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            environment = {name: os.environ[name] for name in (*_ENVIRONMENT, *_CUDA) if name in os.environ}
            try:
                # A process group of its own: Ctrl-C in a terminal is for the daemon, and kill reaches all of it.
                # One arena for two threads: decoded frames freed by one are used again by the other.
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    str(theirs.fileno()),
                    str(os.getpid()),
                    self._device,
                    pass_fds=(theirs.fileno(),),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.DEVNULL,
                    env={**environment, "MALLOC_ARENA_MAX": "2"},
                    process_group=0,
                )
            except OSError as error:
                ours.close()
                raise WorkerDied(f"a worker process cannot be started: {error.strerror}") from None
        self._socket = ours
        self._reader, self._writer = await asyncio.open_connection(sock=ours.dup(), limit=_BUFFER)
        try:
            async with asyncio.timeout(_START_SECONDS):
                event, _ = await receive_event(self._reader)
        except (TimeoutError, asyncio.IncompleteReadError, WireError, OSError):
            await self.kill("signal")
            raise WorkerDied("a worker process ended before it was ready: run `thumbd check`") from None
        if isinstance(event, Unable):
            failure = from_dict(event.model_dump())
            # One that never had its card has not lost it.
            gone = isinstance(failure, DeviceMissing) and self._lost > 0
            await self.kill("device" if gone else "ok")
            if gone:
                self._note_lost()
            raise failure
        if not isinstance(event, Ready):
            await self.kill("lied")
            raise WorkerLied("a worker process began with the wrong word")
        if self.device and event.device != self.device:
            log.warning("a worker has another device now", device=event.device, before=self.device, note=event.note)
        self.device, self.note, self.ffmpeg = event.device, event.note, event.ffmpeg

    async def run(
        self, task: Task, source: int, files: Sequence[int] = (), answers: Answers | None = None
    ) -> AsyncGenerator[tuple[Event, bytes], None]:
        """Gives the worker a task, the open source and the files to write (`Task.files`), and yields its events, the
        last one being `TaskOver`. `answers`: who answers at the other end of a source that is no file.

        Raises WorkerDied, WorkerStalled, WorkerTimeout or WorkerLied; the process is gone then.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._watch.wall
        clean, reason = False, "ok"
        try:
            async with asyncio.timeout(self._watch.stall):
                await self._give(task, source, files)
            while not clean:
                event, body = await self._next(deadline, answers)
                clean = isinstance(event, TaskOver) and (answers is None or answers.fault is None)
                if clean:
                    self._lost = 0
                yield event, body
        except TimeoutError:
            if answers is not None and answers.fault is not None:
                reason = "lied"
                raise WorkerLied(f"the worker was stopped: {answers.fault}") from None
            reason = "timeout"
            if loop.time() >= deadline:
                raise WorkerTimeout(f"it took longer than {self._watch.wall:g} s (setting job.timeout)") from None
            raise WorkerStalled(f"nothing moved for {self._watch.stall:g} s (setting job.stall)") from None
        except WireError as error:
            reason = "lied"
            raise WorkerLied(f"the worker was stopped: {error}") from None
        except (asyncio.IncompleteReadError, OSError):
            died = await self._died()
            reason = "device" if isinstance(died, DeviceLost) else "signal"
            raise died from None
        finally:
            # Not at the end of its task: what it still sends would be taken for the next one's.
            if not clean:
                await self.kill(reason)

    def stop_jobs(self, jobs: Sequence[int]) -> None:
        """Tells the worker that these jobs of its task are not wanted any more."""
        self._writer.write(pack(Stop(jobs=tuple(jobs))))

    async def kill(self, reason: str = "ok") -> None:
        """Ends the process group at once and reaps it."""
        if self._process is None:
            return
        self._signal()
        await self._process.wait()
        self._close()
        self._exited(reason)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def _give(self, task: Task, source: int, files: Sequence[int]) -> None:
        # The first bytes carry the descriptors and go past the stream, whose buffer is empty between tasks.
        await self._writer.drain()
        self._writer.write(send_task(self._socket, task, source, files))
        await self._writer.drain()

    async def _next(self, deadline: float, answers: Answers | None) -> tuple[Event, bytes]:
        """The next event. Raises TimeoutError where it does not come in time, or never should; WireError;
        IncompleteReadError and OSError where the process is gone."""
        loop = asyncio.get_running_loop()

        def latest() -> float:
            """One that waits for bytes of its source may be silent for as long as they take."""
            if answers is not None and answers.fault is not None:
                return loop.time()
            if answers is not None and answers.pending:
                return deadline
            return min(loop.time() + self._watch.stall, deadline)

        def changed() -> None:
            if not limit.expired():
                limit.reschedule(latest())

        async with asyncio.timeout_at(latest()) as limit:
            with answers.telling(changed) if answers is not None else contextlib.nullcontext():
                await asyncio.sleep(0)  # one that never falls silent must not keep the loop from the others
                return await receive_event(self._reader)

    async def _died(self) -> Failure:
        if self._process is None:
            return WorkerDied("the process that decoded it is gone")
        self._signal()
        code = await self._process.wait()
        if code == CARD_LOST:
            self._note_lost()
            return DeviceLost(f"the process that decoded it lost its card ({self.device})")
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        return WorkerDied(f"the process that decoded it died ({how})")

    def _note_lost(self) -> None:
        self._lost += 1
        log.error("a card is lost", device=self._device, times=self._lost)
        if self._lost >= _MOST_LOST:
            log.error("going on with the CPU until the daemon is started again", device=self._device)
            self._device = "cpu"

    def _signal(self) -> None:
        if self._process is not None and self._process.returncode is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                return

    def _close(self) -> None:
        self._process = None
        if writer := getattr(self, "_writer", None):
            writer.close()
        self._socket.close()
