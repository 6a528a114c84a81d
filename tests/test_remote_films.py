"""Pictures of films that are elsewhere: the same as of those at hand, for a few of their bytes."""

import asyncio
import hashlib
import mmap
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import av
import numpy as np
import pytest
from clips import RECIPES, Recipe, make
from film_server import Answer, FilmServer
from test_worker import BAD_WORKER, stills

from daemon.build import build_sources
from daemon.config import SourcesSettings
from daemon.errors import Failure, SourceUnreadable, WorkerLied, WorkerStalled, WorkerTimeout
from daemon.job import Job
from daemon.production import Production
from daemon.sources import Sources
from daemon.store.folder import Folder
from daemon.task import Task
from daemon.worker import handle
from daemon.worker.handle import Watch, Worker

pytestmark = pytest.mark.daemons

WATCH = Watch(stall=20, wall=60)
# Those that are read in ways of their own.
COMMON_NAMES = (
    "h264-frag",
    "h264-refresh-ts",
    "h264-cover",
    "h264-pcm-mkv",
    "mpeg2-mp2-ps",
    "vp9-opus",
    "h264-edit-both",
)
COMMON = [recipe for recipe in RECIPES if recipe.name in COMMON_NAMES]
OTHERS = [recipe for recipe in RECIPES if recipe not in COMMON]
OUTPUTS = (
    {"output": "thumbnails", "count": 5, "format": "png", "name": "exact"},
    {"output": "thumbnail", "at": "best", "format": "png", "name": "best"},
    {"output": "thumbnails", "count": 4, "accuracy": "keyframe", "format": "png", "name": "keyframe"},
    {"output": "clip", "start": "10%", "duration": "50%", "optional": True},
)


class Workshop:
    """A worker and a store; what is made of a source is given by its files' names."""

    def __init__(self, root: Path, *command: str, watch: Watch = WATCH) -> None:
        self.exits: list[str] = []
        self.worker = Worker("cpu", watch, self.exits.append, command or handle.COMMAND)
        self._store = Folder(root / "store")
        self._tasks = 0

    async def make(self, sources: Sources, source: str, *outputs: dict[str, Any], threads: int = 2) -> dict[str, str]:
        """Digests of all files; raises what a batch would."""
        if not self.worker.alive:
            await self.worker.start()
        self._tasks += 1
        task = Task(jobs=(Job.check({"source": "film", "outputs": list(outputs)}).outputs,), threads=threads)
        staging = self._store.stage(f"attempt-{self._tasks}")
        production = Production(task, [staging], lambda *_: None)
        async with (
            sources.open(source) as opened,
            aclosing(production.run(self.worker, opened.descriptor, opened.answers)) as jobs,
        ):
            made = [each async for each in jobs]
        assert all(each.failure is None for each in made), made
        folder = self._store.root / ".staging" / staging.name
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@asynccontextmanager
async def workshop(root: Path, *command: str, watch: Watch = WATCH) -> AsyncIterator[Workshop]:
    shop = Workshop(root, *command, watch=watch)
    try:
        yield shop
    finally:
        await shop.worker.kill()


def sources_of(server: FilmServer, root: Path | None = None, **settings: Any) -> Sources:
    said = {"schemes": ("http",), "allowed_hosts": (server.host,), "private_hosts": (server.host,), **settings}
    return build_sources(SourcesSettings(**said), [root] if root else [])


def tell(story: Coroutine[None, None, None]) -> None:
    asyncio.run(story)


async def alike(paths: list[Path], root: Path, *outputs: dict[str, Any]) -> None:
    """Checks that each film gives the same here and there."""
    with FilmServer() as server:
        async with workshop(root) as shop:
            for path in paths:
                server.film = path.read_bytes()
                sources = sources_of(server, path.parent)
                here = await shop.make(sources, str(path), *outputs)
                there = await shop.make(sources, server.url(path.name), *outputs)
                assert here and here == there, path.name
                assert server.asked, path.name


def test_pictures_of_films_of_several_kinds(tmp_path: Path, clip_folder: Path) -> None:
    tell(alike([make(recipe, clip_folder).path for recipe in COMMON], tmp_path, *OUTPUTS))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", OTHERS, ids=lambda recipe: recipe.name)
def test_pictures_of_all_other_clips(tmp_path: Path, clip_folder: Path, recipe: Recipe) -> None:
    tell(alike([make(recipe, clip_folder).path], tmp_path, *OUTPUTS))


def test_pictures_of_still_pictures(tmp_path: Path) -> None:
    tell(alike(list(stills(tmp_path)), tmp_path, {"output": "thumbnail", "at": 0, "format": "png"}))


def test_a_server_that_breaks_off_all_the_time_gives_the_same(tmp_path: Path, clip_folder: Path) -> None:
    film = make(RECIPES[0], clip_folder).path

    async def story() -> None:
        random = Random(5)
        with FilmServer(film, lambda answer: answer.part(cut=random.randrange(1, 30_000))) as server:
            async with workshop(tmp_path) as shop:
                sources = sources_of(server, film.parent)
                assert await shop.make(sources, server.url(), *OUTPUTS) == await shop.make(sources, str(film), *OUTPUTS)

    tell(story())


# What it costs.


def write_film(path: Path, size: int) -> float:
    """An MP4 of about `size` bytes whose index is at its end, and its seconds: 1080p, a picture that does not compress
    well, a keyframe every two seconds. The same two seconds again and again: encoding so much would take minutes."""
    noise = np.random.default_rng(1).integers(0, 256, (1080, 1920), np.uint8)
    packets: list[tuple[bytes, int, int, bool]] = []
    with av.open(str(path.with_suffix(".part.mp4")), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 1920, 1080, "yuv420p", 50
        stream.time_base = Fraction(1, 25)
        stream.options = {"preset": "ultrafast", "crf": "36", "x264-params": "bframes=0:scenecut=0"}
        for number in range(50):
            grey = np.full((1620, 1920), 128, np.uint8)
            grey[:1080] = np.roll(noise, number * 7, 1) // 3 + (number * 3)
            frame = av.VideoFrame.from_ndarray(grey, "yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(path.with_suffix(".part.mp4"))) as source, av.open(str(path), "w") as film:
        template = source.streams.video[0]
        packets = [(bytes(p), p.pts or 0, p.dts or 0, p.is_keyframe) for p in source.demux(template) if p.size]
        written = film.add_stream_from_template(template)
        base, second, at, sent = template.time_base, int(1 / (template.time_base or 1)), 0, 0
        while sent < size:
            for data, pts, dts, key in packets:
                packet = av.Packet(data)
                packet.stream, packet.time_base, packet.is_keyframe = written, base, key
                packet.pts, packet.dts = pts + at, dts + at
                film.mux(packet)
                sent += len(data)
            at += 2 * second
    path.with_suffix(".part.mp4").unlink()
    return at / second


def cost(tmp_path: Path, size: int, pictures: int) -> tuple[int, int, int]:
    """Bytes of the film, bytes sent of it, and requests, for so many keyframe pictures."""
    film = tmp_path / "film.mp4"
    write_film(film, size)
    with film.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        assert data.find(b"moov", len(data) * 9 // 10) > 0 and data.find(b"moov", 0, 1000) < 0

        async def story() -> tuple[int, int, int]:
            with FilmServer() as server:
                server.film = data  # type: ignore[assignment]  # slices of it are bytes
                async with workshop(tmp_path) as shop:
                    asked = {"output": "thumbnails", "count": pictures, "accuracy": "keyframe", "format": "png"}
                    made = await shop.make(sources_of(server), server.url(), asked)
                    assert len(made) == pictures + 1
                return len(data), server.sent, len(server.asked)

        return asyncio.run(story())


def test_a_picture_of_a_large_film_costs_few_of_its_bytes(tmp_path: Path) -> None:
    """As many bytes for each picture as with ten of a gigabyte."""
    size, sent, requests = cost(tmp_path, 100 << 20, 1)
    assert sent < 0.03 * size, (size, sent, requests)
    assert requests < 20


@pytest.mark.slow
def test_ten_pictures_of_a_gigabyte(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    size, sent, requests = cost(tmp_path, 1 << 30, 10)
    record_property("bytes", (size, sent, requests))
    print(f"{size} bytes, {sent} sent ({sent / size:.2%}), {requests} requests")
    assert sent < 0.03 * size


# A network that is slow, and workers that are worse.


def held_back(server: FilmServer, seconds: float) -> FilmServer:
    """The second request is answered only after so long."""

    def hold(answer: Answer) -> None:
        if answer.number == 2:
            server.go.wait(seconds)
        answer.part()

    server.behaviour = hold
    return server


def test_a_worker_that_waits_for_the_network_is_not_stalled(tmp_path: Path, clip_folder: Path) -> None:
    film = make(RECIPES[0], clip_folder).path
    watch = Watch(stall=1, wall=30)

    async def story() -> None:
        with FilmServer(film.read_bytes() + bytes(1 << 20)) as server:  # so that not all of it comes at once
            async with workshop(tmp_path, watch=watch) as shop:
                await shop.make(sources_of(held_back(server, 3), film.parent), server.url(), OUTPUTS[0])
                assert len(server.asked) >= 2 and shop.exits == []

    tell(story())


def test_a_network_that_is_slower_than_is_allowed_is_no_fault_of_the_worker(tmp_path: Path, clip_folder: Path) -> None:
    film = make(RECIPES[0], clip_folder).path

    async def story() -> None:
        with FilmServer(film.read_bytes() + bytes(1 << 20)) as server:
            async with workshop(tmp_path, watch=Watch(stall=1, wall=30)) as shop:
                sources = sources_of(held_back(server, 20), silence_seconds=2, tries=1)
                with pytest.raises(SourceUnreadable, match="does not answer in time"):
                    await shop.make(sources, server.url(), OUTPUTS[0])
                assert shop.exits == []
                assert await shop.make(sources, server.url(), OUTPUTS[0])

    tell(story())


BAD: dict[str, tuple[type[Failure], str]] = {
    "reads-beyond": (WorkerLied, "beyond the end of its source"),
    "reads-beyond-and-ends": (WorkerLied, "beyond the end of its source"),
    "reads-and-hangs": (WorkerStalled, "nothing moved for 0.4 s"),
    "reads-all-at-once": (WorkerLied, "more than 32 pieces"),
    "reads-and-takes-nothing": (WorkerStalled, "nothing moved for 0.4 s"),
    "silence": (WorkerStalled, "nothing moved for 0.4 s"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_worker_is_stopped(tmp_path: Path, name: str) -> None:
    kind, said = BAD[name]

    async def story() -> None:
        with FilmServer(bytes(3 << 20)) as server:
            async with workshop(tmp_path, *BAD_WORKER, "well", watch=Watch(stall=0.4, wall=20)) as shop:
                with pytest.raises(Failure) as failed:
                    await shop.make(
                        sources_of(server),
                        server.url(),
                        {"output": "thumbnail", "name": name, "at": 1, "format": "png"},
                    )
                assert (type(failed.value), said in failed.value.message) == (kind, True), failed.value
                assert shop.exits == ["lied" if kind is WorkerLied else "timeout"]
                again = {"output": "thumbnail", "name": "good", "at": 1, "format": "png"}
                assert list(await shop.make(sources_of(server), server.url(), again)) == ["good.png"]

    tell(story())


def test_even_one_that_waits_has_its_time(tmp_path: Path, clip_folder: Path) -> None:
    film = make(RECIPES[0], clip_folder).path

    async def story() -> None:
        with FilmServer(film.read_bytes() + bytes(1 << 20)) as server:
            async with workshop(tmp_path, watch=Watch(stall=1, wall=3)) as shop:
                with pytest.raises(WorkerTimeout):
                    await shop.make(sources_of(held_back(server, 20)), server.url(), OUTPUTS[0])
                assert shop.exits == ["timeout"]

    tell(story())
