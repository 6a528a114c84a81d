"""Workers that crash, hang and lie: each ends as the right failure, nothing is left of it, and the next task works."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import charts
import pytest
import test_pictures
from clips import RECIPES, Clip, make
from harness import CRASHING, TESTS, number_in, until
from PIL import Image, ImageCms

from daemon.errors import (
    DeviceMissing,
    Failure,
    SourceUnreadable,
    WorkerDied,
    WorkerLied,
    WorkerStalled,
    WorkerTimeout,
)
from daemon.job import Job
from daemon.production import Made, Production
from daemon.store.folder import Folder
from daemon.task import Limits, Task
from daemon.worker import handle
from daemon.worker.handle import Watch, Worker
from daemon.worker.wire import WireError, pack, receive_order, send_task

BY_NAME = {recipe.name: recipe for recipe in RECIPES}
BAD_WORKER = (sys.executable, "-S", str(TESTS / "bad_worker.py"))
WATCH = Watch(stall=0.4, wall=1.0)
PICTURES = 50  # allowed for an output


class Bench:
    """A worker, and a store for what it makes."""

    def __init__(self, root: Path, *command: str, watch: Watch = WATCH) -> None:
        self.exits: list[str] = []
        self.worker = Worker("cpu", watch, self.exits.append, command)
        self.store = Folder(root / "store")
        self.source = root / "source"
        self.source.touch()
        self.pids: set[int] = set()
        self._tasks = 0

    async def run(self, *outputs: dict[str, Any], source: Path | None = None, payload: int = 0) -> list[Made]:
        """Runs a task of one job, as the dispatcher does. Raises its failure."""
        if not self.worker.alive:
            await self.worker.start()
        assert self.worker.pid is not None
        self.pids.add(self.worker.pid)
        job = Job.check({"source": "film", "outputs": list(outputs)})
        asked = [output.model_copy(update={"tag": "x" * payload}) for output in job.outputs] if payload else job.outputs
        task = Task(jobs=(tuple(asked),), threads=2, limits=Limits(pictures=PICTURES))
        self._tasks += 1
        staging = self.store.stage(f"attempt-{self._tasks}")
        descriptor = os.open(source or self.source, os.O_RDONLY)
        try:
            async with aclosing(Production(task, [staging], lambda *_: None).run(self.worker, descriptor)) as jobs:
                made = [each async for each in jobs]
            self.names = {path.name: path for path in (self.store.root / ".staging" / staging.name).iterdir()}
            return made
        except Failure:
            staging.discard()
            raise
        finally:
            os.close(descriptor)

    def check_clean(self) -> None:
        """No process that was ever started is left, and no file anywhere but in the store's staging."""
        for pid in self.pids:
            until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), f"process {pid} is gone")  # type: ignore[misc]
        assert not [path for path in self.store.root.rglob("*") if ".staging" not in path.parts]


def tell(bench: Bench, story: Callable[[], Awaitable[None]]) -> None:
    """Tells a story of the bench; its worker is killed at the end."""

    async def whole() -> None:
        try:
            await story()
        finally:
            await bench.worker.kill()

    asyncio.run(whole())
    bench.check_clean()


def asked(name: str) -> list[dict[str, Any]]:
    """A picture, and a series, or a clip, that may fail."""
    if "clip" in name:
        moving = {"output": "clip", "name": "moving", "optional": True}
        return [{"output": "thumbnail", "name": name, "at": 1, "format": "png"}, moving]
    series = {"output": "thumbnails", "name": "series", "count": 3, "format": "png", "optional": True}
    return [{"output": "thumbnail", "name": name, "at": 1, "format": "png"}, series]


CASES: dict[type[Failure], dict[str, str]] = {
    WorkerDied: {
        "segfault": "SIGSEGV",
        "end": "exit status 3",
        "end-in-a-message": "exit status 0",
        "hang-up": "died",
    },
    WorkerStalled: {"silence": "job.stall", "half-a-message": "job.stall", "trickle": "job.stall"},
    WorkerTimeout: {"for-ever": "job.timeout"},
    WorkerLied: {
        "noise": "lengths",
        "huge-header": "lengths",
        "huge-body": "lengths",
        "no-json": "not an event",
        "no-object": "not an event",
        "not-a-number": "not an event",
        "too-deep": "not an event",
        "wrong-a-million-times": "not an event",
        "unknown-word": "not an event",
        "unknown-key": "not an event",
        "ready-again": "no word within a task",
        "other-job": "not asked",
        "other-output": "not asked",
        "other-name": "is not a file of output",
        "path-up": "is not a file of output",
        "path-down": "is not a file of output",
        "absolute-path": "is not a file of output",
        "with-nul": "is not a file of output",
        "other-picture": "is not a file of output",
        "no-picture": "is not the picture",
        "other-size": "is not the picture",
        "as-text": "is not the picture",
        "cut-short": "is not the picture",
        "other-index": "is not the vtt",
        "twice": "is not a file of output",
        "too-many": "more than",
        "long-number": "is not a file of output",
        "wide-number": "is not a file of output",
        "other-files": "is not what it sent",
        "other-bytes": "is not what it sent",
        "other-path": "did not send",
        "other-picture-path": "did not send",
        "other-tag": "is not what it sent",
        "other-cache": "is not what it sent",
        "nothing-made": "is not what it sent",
        "other-device": "is not what it sent",
        "back-from-the-cpu": "no device that it could fall back from",
        "back-for-no-reason": "not an event",
        "early": "whose outputs are not",
        "late-file": "output that is over",
        "over-twice": "ends it twice",
        "after-job-over": "output that is over",
        "other-over": "not asked",
        "task-over-early": "jobs that are not over",
        "counts-more": "counts more jobs",
        "clip-of-other-size": "not what it says",
        "clip-not-written": "is not the picture",
        "clip-not-written-but-sized": "not what it says",
        "clip-of-no-kind": "is not the picture",
        "clip-of-other-sides": "is not the picture",
        "clip-with-index-last": "is not the picture",
        "clip-of-other-format": "is not the picture",
        "clip-with-body": "not what it says",
        "clip-only-sent": "not what it says",
        "clip-of-other-name": "is not a file of output",
        "clip-twice": "is not a file of output",
        "clip-of-other-bytes": "is not what it sent",
        "picture-with-size": "not what it says",
        "more-descriptors": "not asked",
        "fails-as-the-store": "may not say",
        "fails-as-lost": "may not say",
        "ends-as-cancelled": "may not say",
        "ends-as-interrupted": "may not say",
    },
}
REASONS: dict[type[Failure], str] = {
    WorkerDied: "signal",
    WorkerStalled: "timeout",
    WorkerTimeout: "timeout",
    WorkerLied: "lied",
}


@pytest.mark.parametrize(
    ("kind", "name", "told"),
    [
        pytest.param(kind, name, told, id=f"{kind.__name__}-{name}")
        for kind, cases in CASES.items()
        for name, told in cases.items()
    ],
)
def test_a_bad_worker_is_found_out_and_replaced(tmp_path: Path, kind: type[Failure], name: str, told: str) -> None:
    bench = Bench(tmp_path, *BAD_WORKER, "well")

    async def story() -> None:
        with pytest.raises(Failure) as failed:
            await bench.run(*asked(name))
        assert (type(failed.value), told in failed.value.message) == (kind, True), failed.value
        assert bench.exits in ([REASONS[kind]], []), bench.exits
        [made] = await bench.run(asked("good")[0])
        assert [output.path for output in made.outputs.values()] == ["good.png"] and made.failure is None

    tell(bench, story)
    assert bench.exits[0] == REASONS[kind]
    assert len(bench.pids) == 2


def test_a_file_that_the_worker_writes(tmp_path: Path) -> None:
    bench = Bench(tmp_path, *BAD_WORKER, "well")

    async def story() -> None:
        before = 0
        for _ in range(3):
            [made] = await bench.run(*asked("answer-clip"))
            assert made.failure is None and [output.path for output in made.outputs.values()] == [
                "answer-clip.png",
                "moving.mp4",
            ]
            assert bench.names["moving.mp4"].read_bytes().endswith(b"frames")
            # One that fails leaves no file, and no output that was not asked for is there.
            [made] = await bench.run(*asked("good-without-clip"))
            assert "moving.mp4" not in bench.names
            before = before or descriptors()
            await closed(before)

    tell(bench, story)


STARTS: dict[str, tuple[type[Failure], str]] = {
    "ended": (WorkerDied, "thumbd check"),
    "silent": (WorkerDied, "thumbd check"),
    "unable": (DeviceMissing, "no such device"),
    "wrong": (WorkerLied, "wrong word"),
    "noise": (WorkerDied, "thumbd check"),
}


@pytest.mark.parametrize("wrong", STARTS)
def test_a_worker_may_fail_at_its_start(tmp_path: Path, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handle, "_START_SECONDS", 0.5)
    kind, told = STARTS[wrong]
    bench = Bench(tmp_path, *BAD_WORKER, wrong)

    async def story() -> None:
        before = descriptors()
        for _ in range(2):
            with pytest.raises(kind, match=told):
                await bench.worker.start()
            assert not bench.worker.alive
        await closed(before)

    tell(bench, story)


def test_a_worker_that_cannot_be_started_is_a_failure(tmp_path: Path) -> None:
    bench = Bench(tmp_path, str(tmp_path / "nothing"))

    async def story() -> None:
        before = descriptors()
        with pytest.raises(WorkerDied, match="No such file"):
            await bench.worker.start()
        await closed(before)

    tell(bench, story)


def test_a_worker_that_does_not_listen_is_stalled(tmp_path: Path) -> None:
    bench = Bench(tmp_path, *BAD_WORKER, "deaf")

    async def story() -> None:
        with pytest.raises(WorkerStalled):
            await bench.run(*asked("any"), payload=2_000_000)

    tell(bench, story)


def test_a_flood_of_words_does_not_drown_the_supervisor(tmp_path: Path) -> None:
    bench = Bench(tmp_path, *BAD_WORKER, "well")
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            begun = monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, monotonic() - begun)

    async def story() -> None:
        watching = asyncio.create_task(watch())
        with pytest.raises(WorkerTimeout):
            await bench.run(*asked("flood"))
        watching.cancel()

    tell(bench, story)
    assert longest < 1


def test_a_worker_that_dies_between_tasks_is_replaced(tmp_path: Path) -> None:
    bench = Bench(tmp_path, *BAD_WORKER, "well")

    async def story() -> None:
        open_before = 0
        for n in range(4):
            await bench.run(asked("good")[0])
            open_before = open_before or descriptors()
            await closed(open_before)
            assert bench.worker.pid is not None
            os.kill(bench.worker.pid, signal.SIGKILL)
            async with asyncio.timeout(10):
                while bench.worker.alive:
                    await asyncio.sleep(0.01)
            assert bench.exits == ["signal"] * n

    tell(bench, story)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def closed(but: int) -> None:
    """Waits until no more descriptors are open than there were."""
    async with asyncio.timeout(10):
        while descriptors() > but:
            await asyncio.sleep(0.01)


# The real worker.


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> Clip:
    return make(RECIPES[0], clip_folder)


# Everything that a worker can make, in every format.
KINDS: dict[str, dict[str, Any]] = {
    "thumbnail": {"at": "best"},
    "thumbnails": {"count": 4},
    "sprite": {"count": 6, "columns": 2, "rows": 2},
    "clip": {"start": 1, "duration": 0.5},
    "animation": {"start": 1, "duration": 0.5},
}
FORMATS = {"clip": ("mp4",), "animation": ("webp", "gif", "avif")}
EVERYTHING: list[dict[str, Any]] = [
    {"output": kind, "name": f"{kind}-{format}", "format": format, "width": 160, **keys}
    for kind, keys in KINDS.items()
    for format in FORMATS.get(kind, ("jpeg", "webp", "png", "avif"))
]

# Sources whose pictures are made in ways of their own.
SPECIAL = (
    *(
        chart
        for chart in test_pictures.CASES
        if chart.name in ("ycgco", "grey-hevc", "rgb555", "alpha-ffv1", "turned-90")
    ),
    charts.Chart("pq", ".mp4", "libx265", "yuv420p10le", "2020", tags=test_pictures.tags(1, 9, 9, 16)),
    charts.Chart("flagged", ".mov", "prores_ks", "yuv422p10le", options=(("flags", "+ildct"),)),
)


def stills(folder: Path) -> Iterator[Path]:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for suffix in (".png", ".jpg", ".tiff", ".bmp", ".webp"):
        image = Image.new("RGBA" if suffix in (".png", ".webp") else "RGB", (64, 48), "#336699")
        image.save(folder / f"still{suffix}", icc_profile=profile)
        yield folder / f"still{suffix}"


# What it writes to is full, or becomes larger than is allowed.
FULL = """
import errno, os, sys
def full(*arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
os.pwrite = full
from daemon.worker.process import main
main()
"""
LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
from daemon.worker.process import main
main()
"""


@pytest.mark.parametrize("kind", ["clip", "animation"])
@pytest.mark.parametrize(
    ("program", "code", "said"), [(FULL, "store_failed", "No space left"), (LIMITED, "bad_job", "becomes too large")]
)
def test_a_file_that_cannot_be_written(
    kind: str, program: str, code: str, said: str, tmp_path: Path, clip: Clip
) -> None:
    """A full disk is no fault of the output, and so no mere warning: the job has to wait."""
    bench = Bench(tmp_path, sys.executable, "-P", "-c", program, watch=Watch())

    async def story() -> None:
        [made] = await bench.run({"output": kind, "optional": code == "store_failed"}, source=clip.path)
        assert made.failure is not None
        assert (made.failure.code, said in made.failure.message) == (code, True)
        assert not bench.names
        [made] = await bench.run({"output": "thumbnail", "at": 1}, source=clip.path)
        assert made.failure is None

    tell(bench, story)


CLIPS = Task(jobs=(Job.check({"source": "film", "outputs": [{"output": "clip"}, {"output": "animation"}]}).outputs,))


@pytest.mark.parametrize("files", [0, 1, 3, 64, 65])
def test_both_ends_count_the_descriptors(files: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, (TESTS / "bad_worker.py").open() as file:
        before = descriptors()
        with pytest.raises(WireError, match="descriptors for 2 files"):
            send_task(ours, CLIPS, file.fileno(), [file.fileno()] * files)
        message = pack(CLIPS)
        socket.send_fds(ours, [message], [file.fileno()] * (1 + files))
        with pytest.raises(WireError, match="3 are needed"):
            receive_order(theirs)
        assert descriptors() == before


def test_descriptors_come_in_the_order_of_the_files(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    paths = [tmp_path / name for name in ("source", "one", "two")]
    opened = [os.open(path, os.O_RDWR | os.O_CREAT) for path in paths]
    with ours, theirs:
        ours.sendall(send_task(ours, CLIPS, opened[0], opened[1:]))
        heard = receive_order(theirs)
    assert heard is not None and heard[0] == CLIPS
    assert [Path(f"/proc/self/fd/{each}").readlink() for each in heard[1]] == paths
    for descriptor in (*opened, *heard[1]):
        os.close(descriptor)


WATCHED = f"""
import os, sys
sys.path.insert(0, {str(TESTS)!r})
log = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
from daemon.worker import process
DENIED = ("open", "import", "socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen", "os.exec",
          "os.posix_spawn", "os.fork", "os.forkpty", "os.system", "os.listdir", "os.scandir", "os.remove", "os.rename",
          "os.mkdir", "ctypes.dlopen", "pickle.find_class", "shutil.rmtree", "tempfile.mkstemp")
def watch(event, arguments):
    if event in DENIED:
        os.write(log, f"{{event}} {{arguments[0]}}\\n".encode())
        raise PermissionError(f"{{event}} is denied")
class Watched(process.Process):
    def send(self, message, body=b""):
        super().send(message, body)
        if message.kind == "ready":
            sys.addaudithook(watch)
process.Process = Watched
process.main()
"""


def test_a_worker_opens_and_imports_nothing_once_it_is_ready(tmp_path: Path, clip: Clip, clip_folder: Path) -> None:
    log = tmp_path / "denied.log"
    command = (sys.executable, "-P", "-c", WATCHED, str(log))
    bench = Bench(tmp_path, *command, watch=Watch())
    noise = tmp_path / "noise"
    noise.write_bytes(os.urandom(100_000))
    sources = [*(charts.write(chart, clip_folder) for chart in SPECIAL), *stills(tmp_path)]

    async def story() -> None:
        for output in EVERYTHING:
            [made] = await bench.run(output, source=clip.path)
            assert made.failure is None
            assert {file for report in made.outputs.values() for file in report.files} == set(bench.names)
        [made] = await bench.run(*EVERYTHING, source=clip.path)
        assert made.failure is None and len(made.outputs) == len(EVERYTHING)
        for source in sources:
            [made] = await bench.run(*EVERYTHING[:12:3], source=source)
            assert made.failure is None, source
        for name in ("h264-aac", "h264-pcm-mkv"):  # sound that is copied, and that is encoded
            [made] = await bench.run(EVERYTHING[12], source=make(BY_NAME[name], clip_folder).path)
            assert made.failure is None and "sound" not in str(made.warnings)
        # What fails does not look around either.
        with pytest.raises(Failure, match="video"):
            await bench.run(EVERYTHING[0], source=noise)
        [made] = await bench.run({"output": "thumbnail", "at": 1000}, source=clip.path)
        assert made.failure is not None and made.failure.code == "at_past_end"

    try:
        tell(bench, story)
    finally:
        assert log.read_text().splitlines() == []


def test_a_worker_knows_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("THUMBD_DATABASE", "THUMBD_API_KEY", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "HOME", "SSH_AUTH_SOCK"):
        monkeypatch.setenv(name, "secret")
    bench = Bench(tmp_path, *handle.COMMAND, watch=Watch())

    async def story() -> None:
        await bench.worker.start()
        process = Path(f"/proc/{bench.worker.pid}")
        assert b"secret" not in (process / "environ").read_bytes()
        assert b"secret" not in (process / "cmdline").read_bytes()
        # Its wire, and where nothing comes from and goes to.
        links = sorted(str(each.readlink()) for each in (process / "fd").iterdir())
        assert [link for link in links if not link.startswith(("/dev/null", "socket:", "anon_inode:"))] == []
        assert sum(link.startswith("socket:") for link in links) == 1

    tell(bench, story)


PARENT = """
import asyncio, sys
from daemon.worker.handle import COMMAND, Watch, Worker
async def main():
    worker = Worker("cpu", Watch(), lambda reason: None, [arg for arg in sys.argv[1:]] or COMMAND)
    await worker.start()
    print(worker.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def test_a_worker_dies_with_its_parent(tmp_path: Path) -> None:
    with parent() as (process, worker):
        os.kill(worker, signal.SIGSTOP)  # so that it cannot see the end of its wire: the kernel has to kill it
        process.kill()
        until(lambda: not Path(f"/proc/{worker}").exists(), "the worker is gone")


@contextmanager
def parent() -> Iterator[tuple["subprocess.Popen[str]", int]]:
    command = [sys.executable, "-P", "-c", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def test_a_real_worker_crashes_while_it_decodes(tmp_path: Path, clip: Clip) -> None:
    bench = Bench(tmp_path, sys.executable, "-P", "-c", CRASHING, watch=Watch())

    async def story() -> None:
        with pytest.raises(WorkerDied, match="SIGSEGV"):
            await bench.run({"output": "thumbnails", "name": "crash", "count": 20}, source=clip.path)
        [made] = await bench.run({"output": "thumbnail", "name": "well", "at": 1}, source=clip.path)
        assert made.failure is None
        assert number_in(bench.names["well.webp"]) == 25

    tell(bench, story)


def test_a_source_that_cannot_be_read_is_no_fault_of_the_job(tmp_path: Path, clip: Clip) -> None:
    bench = Bench(tmp_path, *handle.COMMAND, watch=Watch())

    async def story() -> None:
        with pytest.raises(SourceUnreadable):
            await bench.run({"output": "thumbnail", "at": 1}, source=Path("/proc/self/mem"))

    tell(bench, story)
