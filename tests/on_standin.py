"""What NVDEC is given and what is made of its frames, with the real PyNvVideoCodec on the stand-in driver.

Run by `test_nvdec.py` in a process that finds the stand-in. Not covered: pixels, CuPy, the kernel, speed, and what
NVDEC itself makes of a stream; `pytest -m gpu` is for these.
"""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import clips
import numpy as np
import pytest
from clips import RECIPES, Clip
from harness import Site, until
from PIL import Image
from rendering import render
from standin import HostCard, number_in

from daemon.errors import DeviceLost, DeviceMissing
from daemon.job import Job
from daemon.media import cuda, nvidia
from daemon.media.cpu import CpuDevice
from daemon.media.cuda import Cuda, LargeJpeg
from daemon.media.demux import Demuxer
from daemon.media.device import CardLost, Device
from daemon.media.encode import encode
from daemon.media.facts import Facts
from daemon.media.measure import measure
from daemon.media.nvdec import Capability, Pool, Session, capabilities
from daemon.media.plan import How, Instant, Run, plan
from daemon.media.reading import Shown
from daemon.media.source import FileSource
from daemon.media.surface import Kind, Surface
from daemon.media.video import Track
from daemon.production import Made, Production
from daemon.store.folder import Folder
from daemon.task import Task
from daemon.worker.handle import Watch, Worker

BY_NAME = {recipe.name: recipe for recipe in RECIPES}
make = functools.cache(clips.make)
SENT: list[int] = []  # PTS of all packets sent in this process, in order: the stand-in numbers them alike
THUMBNAIL = {"output": "thumbnail", "name": "one", "at": 0.52, "width": 64, "height": 36, "format": "png"}
SERIES = {"output": "thumbnails", "name": "some", "count": 12, "width": 64, "height": 36, "format": "png"}

_decode = Session.decode


def _noted(session: Session, data: bytes, pts: int) -> list[Any]:
    SENT.append(pts)
    return _decode(session, data, pts)


Session.decode = _noted  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], list[list[int]]]]:
    """What the stand-in was asked: the numbers behind each line that begins with a word."""
    path = tmp_path / "standin.log"
    monkeypatch.setenv("STANDIN_LOG", str(path))

    def lines(word: str) -> list[list[int]]:
        said = path.read_text().splitlines() if path.exists() else []
        return [[int(n) for n in line.split()[1:]] for line in said if line.split()[0] == word]

    capabilities.cache_clear()
    yield lines


@contextmanager
def opened(clip: Clip, hardware: Cuda) -> Iterator[tuple[Facts, Demuxer, Device]]:
    descriptor = os.open(clip.path, os.O_RDONLY)
    demuxer = Demuxer(FileSource(descriptor))
    try:
        facts = measure(demuxer)
        yield facts, demuxer, demuxer.fit(hardware, timed=facts.timing == "shown")
    finally:
        demuxer.close()
        os.close(descriptor)


def shown(clip: Clip, seconds: Sequence[Fraction], how: How, hardware: Cuda, in_turn: bool = False) -> list[Shown]:
    with opened(clip, hardware) as (facts, demuxer, device):
        track = Track(Demuxer(demuxer._source), facts, device)
        instants = [Instant(facts.ticks(at), how) for at in seconds]
        runs = [Run(tuple(instants), in_turn=True)] if in_turn else plan(instants, demuxer.group, 2 / facts.time_base)
        found = [picture for run in runs for picture in track.frames(run)]
        track.close()
        assert all(picture.exact for picture in found)
        for picture in found:
            # The number in the frame is that of the packet that was sent with this time.
            assert isinstance(picture.frame, Surface)
            number = number_in(picture.frame)
            (of,) = (n for n in range(max(0, len(SENT) - 256), len(SENT)) if n % 256 == number)
            assert SENT[of] == picture.frame.pts == picture.pts
        at = {picture.instant: facts.seconds(picture.pts) for picture in found}
        assert len(at) == len(set(instants))
        if how == "exact":
            for instant, time in zip(instants, seconds, strict=True):
                assert at[instant] == clip.times[max(0, bisect_right(clip.times, time) - 1)]
        return found


def sent_by_the_cpu(clip: Clip, seconds: Sequence[Fraction]) -> int:
    with opened(clip, Cuda(HostCard())) as (facts, demuxer, _):
        track = Track(Demuxer(demuxer._source), facts, CpuDevice())
        list(track.frames(Run(tuple(Instant(facts.ticks(at), "exact") for at in seconds), in_turn=True)))
        track.close()
        return track.packets_sent


DECODED = [
    *("h264", "h264-nonref-b", "h264-open-gop", "h264-open-gop-ts", "h264-negative-cts", "h264-edit", "h264-vfr-mkv"),
    *("h264-ts", "h264-flv", "hevc", "hevc-open-gop", "hevc-open-gop-ts", "vp9-alt-ref", "mpeg2-ts", "vp8", "av1"),
]


@pytest.mark.parametrize("name", DECODED)
def test_frames_are_those_of_the_packets_that_were_sent(name: str, clip_folder: Path) -> None:
    clip = make(BY_NAME[name], clip_folder)
    hardware = Cuda(HostCard())
    times = clip.times
    around = [max(Fraction(0), times[n] + d) for n in range(0, len(times), 9) for d in (0, Fraction(1, 10**5))]
    shown(clip, [*around, times[-1]], "exact", hardware)
    for one in (times[len(times) // 2], times[-1]):
        shown(clip, [one], "exact", hardware)
    before = len(SENT)
    keys = shown(clip, [times[0], times[20], times[40]], "keyframe", hardware)
    assert len(SENT) - before == len(keys)  # one packet for each


@pytest.mark.parametrize("name", ["h264", "h264-negative-cts", "hevc-open-gop", "mpeg2-ts", "vp9-alt-ref"])
def test_frames_come_in_display_order(name: str, clip_folder: Path) -> None:
    clip = make(BY_NAME[name], clip_folder)
    before = len(SENT)
    found = shown(clip, clip.times[:40], "exact", Cuda(HostCard()), in_turn=True)
    with av.open(str(clip.path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
    assert all(packet.dts <= packet.pts for packet in packets), "what the order is told from"
    assert [picture.pts for picture in found] == sorted(picture.pts for picture in found)
    # Where they were not in turn, those before them would be sent for again.
    assert len(SENT) - before <= sent_by_the_cpu(clip, clip.times[:40])


def test_only_what_a_picture_needs_is_sent(clip_folder: Path) -> None:
    """As libav's own judgement of what nothing refers to has it."""
    clip = make(BY_NAME["h264-nonref-b"], clip_folder)
    with av.open(str(clip.path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.skip_frame = "NONREF"
        referred = {frame.pts for frame in container.decode(stream)}
    with av.open(str(clip.path)) as container:
        order = [packet.pts for packet in container.demux(video=0) if packet.size]
    before = len(SENT)
    (wanted,) = {picture.pts for picture in shown(clip, [clip.times[11]], "exact", Cuda(HostCard()))}
    assert wanted not in referred
    assert SENT[before:] == [pts for pts in order[: order.index(wanted)] if pts in referred] + [wanted]


def test_sessions_are_used_again(log: Callable[[str], list[list[int]]], clip_folder: Path) -> None:
    hardware = Cuda(HostCard())
    for name in ("h264", "h264-no-b", "h264-ts", "h264"):
        shown(make(BY_NAME[name], clip_folder), [Fraction(1), Fraction(2)], "exact", hardware)
    assert len(log("session")) == 1, "sources of one kind share a session"
    shown(make(BY_NAME["hevc"], clip_folder), [Fraction(1)], "exact", hardware)
    assert [line[1:] for line in log("session")] == [[4, 0], [8, 0]], "in decode order: without a display callback"
    shown(make(BY_NAME["vp8"], clip_folder), [Fraction(1)], "exact", hardware)
    assert log("session")[2][1:] == [9, 1]
    assert not log("ended")
    del hardware
    assert len(log("ended")) == 3, "no session outlives its device"


def test_no_more_sessions_wait_than_are_allowed(log: Callable[[str], list[list[int]]]) -> None:
    card = HostCard()
    pool = Pool(lambda kind: Session(card, kind), most=2)
    kinds = [Kind("h264", 420, 8, (320, 192), (320, height)) for height in (180, 182, 184)]
    lent = [pool.lend(kind) for kind in kinds]
    assert len({session.lane for session in lent}) == 3, "a stream each"
    while lent:
        pool.give_back(lent.pop(0))
    assert pool.idle == 2
    assert [line[0] for line in log("ended")] == [line[0] for line in log("session")][:1], "the one longest unused"
    again = pool.lend(kinds[2])
    assert again.kind == kinds[2]
    assert len(log("session")) == 3
    pool.lend(kinds[2])
    assert len(log("session")) == 4, "the same one is not lent twice"


def test_what_failed_is_not_used_again(
    log: Callable[[str], list[list[int]]], clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hardware = Cuda(HostCard())
    path = make(BY_NAME["h264"], clip_folder).path
    assert render(path, [THUMBNAIL], hardware=hardware).fallbacks == []
    monkeypatch.setenv("STANDIN_SILENT", str(len(SENT) + 2))
    assert render(path, [THUMBNAIL], hardware=hardware).fallbacks == ["error"]
    assert render(path, [THUMBNAIL], hardware=hardware).fallbacks == []
    assert len(log("session")) == 2
    assert len(log("ended")) == 1


def test_capabilities_are_asked_once(log: Callable[[str], list[list[int]]]) -> None:
    known = capabilities(0)
    assert known["h264", 420, 8] == Capability(True, (48, 16), (8192, 8192), 262144, 7)
    assert not known["h264", 422, 8].supported
    assert capabilities(0) is known
    assert known["h264", 420, 8].takes((1920, 1088))
    assert not known["h264", 420, 8].takes((32, 1088))
    assert not known["h264", 420, 8].takes((8192, 8208))
    assert log("caps") == [[4, 1, 8], [4, 2, 8]]
    assert ("theora", 420, 8) not in known
    assert len(list(known)) == len(known)


# --- sources that are left to the CPU -----------------------------------------------------------------------------

REFUSED = {
    "mjpeg-mov": "codec",
    "ffv1-mkv": "codec",
    "h264-422-10-bit": "chroma",
    "h264-interlaced-ts": "interlaced",
    "h264-avi-b": "times",
    "h264-ps": "times",
    "h264-refresh": "entry",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_nvdec_is_not_right_for_goes_to_the_cpu(name: str, clip_folder: Path) -> None:
    path = make(BY_NAME[name], clip_folder).path
    # The refresh begins with a picture that is whole; what comes later is entered where it is not.
    at = 2 if name == "h264-refresh" else THUMBNAIL["at"]
    check_fallback(path, REFUSED[name], Cuda(HostCard()), [{**THUMBNAIL, "at": at}])


def check_fallback(path: Path, reason: str, hardware: Cuda, outputs: Sequence[dict[str, Any]] = (THUMBNAIL,)) -> None:
    """All is as the CPU alone makes it, but that the report says why."""
    by_card, by_cpu = render(path, outputs, hardware=hardware), render(path, outputs)
    assert by_card.fallbacks == [reason]
    assert {report.device for report in by_card.reports.values()} == {"cpu"}
    assert by_card.source_warnings[0].startswith("decoded by the CPU: ")
    assert by_card.source_warnings[1:] == by_cpu.source_warnings
    assert by_card.files == by_cpu.files
    assert by_cpu.files


def test_stills_go_to_the_cpu(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "still.png")
    check_fallback(tmp_path / "still.png", "still", Cuda(HostCard()), [{**THUMBNAIL, "at": 0}])


def test_what_the_card_lacks(clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Capability(True, (48, 16), (160, 160), 100, 1)
    known: dict[tuple[str, int, int], Capability] = {("hevc", 420, 8): small}
    monkeypatch.setattr(cuda, "capabilities", lambda number: known)
    for name, reason in {"hevc-10-bit": "depth", "hevc": "size", "h264": "codec"}.items():
        check_fallback(make(BY_NAME[name], clip_folder).path, reason, Cuda(HostCard()))


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [("STANDIN_SIZE", "320x176", "size"), ("STANDIN_DEPTH", "10", "size"), ("STANDIN_CHROMA", "3", "size")],
)
def test_frames_that_are_not_as_expected(
    setting: str, value: str, reason: str, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(setting, value)
    check_fallback(make(BY_NAME["h264"], clip_folder).path, reason, Cuda(HostCard()))


@pytest.mark.parametrize("setting", ["STANDIN_FAIL", "STANDIN_SILENT"])
@pytest.mark.parametrize("packet", [0, 2, 12])
def test_errors_in_the_midst(setting: str, packet: int, clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever packet it is, and whether or not its own frame is wanted, the CPU does all of it from the start."""
    monkeypatch.setenv(setting, str(len(SENT) + packet))
    check_fallback(make(BY_NAME["h264"], clip_folder).path, "error", Cuda(HostCard()), [SERIES, THUMBNAIL])


def test_a_resize_that_fails(clip_folder: Path) -> None:
    check_fallback(make(BY_NAME["h264"], clip_folder).path, "error", Cuda(HostCard("resize")))


def test_a_lost_card_is_no_reason_to_go_on(clip_folder: Path) -> None:
    with pytest.raises(CardLost):
        render(make(BY_NAME["h264"], clip_folder).path, [THUMBNAIL], hardware=Cuda(HostCard("card")))


class _Jpeg:
    """Pillow in the place of nvImageCodec, and how large the pictures were; `broken`: after so many of them."""

    def __init__(self, broken: int = 1000) -> None:
        self.broken = broken
        self.sizes: list[tuple[int, int]] = []

    def encode(self, picture: Any, quality: int) -> bytes:
        self.sizes.append((picture.shape[1], picture.shape[0]))
        if len(self.sizes) > self.broken:
            raise RuntimeError("no more")
        return encode(picture, "jpeg", quality)


JPEGS = (
    {"output": "sprite", "name": "sheets", "count": 20, "columns": 5, "rows": 2, "width": 64},
    {**THUMBNAIL, "format": "jpeg"},
)


def test_large_jpeg_is_made_by_the_card(clip_folder: Path) -> None:
    jpeg = _Jpeg()
    path = make(BY_NAME["h264"], clip_folder).path
    rendered = render(path, JPEGS, hardware=Cuda(HostCard(), LargeJpeg(jpeg, 65 * 36)))
    assert rendered.fallbacks == []
    assert jpeg.sizes == [(320, 72)] * 2, "the sheets, not the small picture"
    assert sorted(rendered.files) == ["one.jpg", "sheets-000.jpg", "sheets-001.jpg", "sheets.vtt"]


@pytest.mark.parametrize("broken", [0, 1])
def test_jpeg_that_fails(broken: int, clip_folder: Path) -> None:
    """With a sheet sent already, or none: the CPU makes all of them."""
    path = make(BY_NAME["h264"], clip_folder).path
    check_fallback(path, "error", Cuda(HostCard(), LargeJpeg(_Jpeg(broken), 65 * 36)), JPEGS[:1])


def test_all_outputs_of_a_frame_are_shaped_at_once(clip_folder: Path) -> None:
    card = HostCard()
    at = {**THUMBNAIL, "format": "jpeg"}
    others = ({**at, "name": "two", "width": 32, "height": 18}, {**at, "name": "three", "fit": "cover"}, at)
    rendered = render(make(BY_NAME["h264"], clip_folder).path, (*others, SERIES), hardware=Cuda(card))
    assert [sizes for sizes in card.shaped if len(sizes) > 1] == [[(32, 18), (64, 36)]], "those at one instant"
    assert len(card.shaped) == 1 + 12
    assert len(rendered.files) == 3 + 12 + 1


def test_reports_name_the_card(clip_folder: Path) -> None:
    rendered = render(
        make(BY_NAME["h264"], clip_folder).path, [THUMBNAIL, SERIES], threads=2, hardware=Cuda(HostCard())
    )
    assert {report.device for report in rendered.reports.values()} == {"cuda:0"}
    assert rendered.source_warnings == ()
    assert np.ptp(rendered.picture("one.png")) == 0, "all of it the number of a packet"


# --- in a worker ----------------------------------------------------------------------------------------------------


async def produced(
    worker: Worker, path: Path, store: Folder, *outputs: dict[str, Any]
) -> tuple[list[Made], Production]:
    if not worker.alive:
        await worker.start()
    job = Job.check({"source": "film", "outputs": list(outputs)})
    descriptor = os.open(path, os.O_RDONLY)
    try:
        production = Production(Task(jobs=(job.outputs,)), [store.stage(os.urandom(4).hex())], lambda *_: None)
        async with aclosing(production.run(worker, descriptor)) as jobs:
            return [each async for each in jobs], production
    finally:
        os.close(descriptor)


def worker_of(exits: list[str], *settings: str) -> Worker:
    command = (sys.executable, str(Path(__file__).with_name("standin_worker.py")), *settings)
    return Worker("cuda/dali/9", Watch(20, 60), exits.append, command)


@pytest.mark.parametrize(("packet", "clip_by"), [(20, "cpu"), (60, "cuda:0")])
def test_a_worker_falls_back(packet: int, clip_by: str, clip_folder: Path, tmp_path: Path) -> None:
    """In the midst of a clip, and of a series some of whose pictures were sent already: then the clip stays."""
    path = make(BY_NAME["h264"], clip_folder).path
    moving = {"output": "clip", "name": "moving", "start": 0, "duration": 2, "width": 64}

    async def story() -> None:
        worker = worker_of([], f"STANDIN_SILENT={packet}")
        try:
            (made,), production = await produced(worker, path, Folder(tmp_path), SERIES, moving, THUMBNAIL)
        finally:
            await worker.kill()
        assert worker.device == "cuda:0"
        assert made.failure is None
        assert (production.tally.fallback, production.tally.device) == ("error", "cpu")
        assert {output.name: output.device for output in made.outputs.values()} == {
            "moving": clip_by,
            "one": "cpu",
            "some": "cpu",
        }
        assert made.warnings[0].startswith("decoded by the CPU: NVDEC gave no picture")
        staged = {file.name: file for file in tmp_path.rglob("*") if file.is_file()}
        assert sorted(staged) == sorted(file for output in made.outputs.values() for file in output.files)
        alone = render(path, [SERIES, THUMBNAIL])
        assert {name: staged[name].read_bytes() for name in alone.files} == alone.files
        with av.open(str(staged["moving.mp4"])) as container:
            assert sum(1 for _ in container.decode(video=0)) >= 48

    asyncio.run(story())


def test_a_worker_that_loses_its_card_three_times_has_the_cpu(clip_folder: Path, tmp_path: Path) -> None:
    path = make(BY_NAME["h264"], clip_folder).path
    exits: list[str] = []

    async def story() -> None:
        worker = worker_of(exits, "BROKEN=card")
        try:
            for _ in range(3):
                with pytest.raises(DeviceLost, match="lost its card"):
                    await produced(worker, path, Folder(tmp_path), THUMBNAIL)
            assert exits == ["device"] * 3
            (made,), production = await produced(worker, path, Folder(tmp_path), THUMBNAIL)
        finally:
            await worker.kill()
        assert worker.device == made.outputs[0].device == production.tally.device == "cpu"
        assert production.tally.fallback is None

    asyncio.run(story())
    assert exits == [*["device"] * 3, "ok"]


def test_a_card_that_is_not_found_again_is_lost_as_well(clip_folder: Path, tmp_path: Path) -> None:
    path = make(BY_NAME["h264"], clip_folder).path
    exits: list[str] = []

    async def story() -> None:
        never = worker_of(exits, "GONE=1")
        for _ in range(4):
            with pytest.raises(DeviceMissing):
                await never.start()
        assert exits == ["ok"] * 4, "what was never there cannot be lost"
        exits.clear()
        worker = worker_of(exits, "BROKEN=card")
        try:
            with pytest.raises(DeviceLost):
                await produced(worker, path, Folder(tmp_path), THUMBNAIL)
            worker._command = (*worker._command, "GONE=1")
            for _ in range(2):
                with pytest.raises(DeviceMissing, match="gone"):
                    await worker.start()
            await worker.start()
        finally:
            await worker.kill()
        assert worker.device == "cpu"

    asyncio.run(story())
    assert exits == [*["device"] * 3, "ok"]


def test_a_daemon_counts_what_falls_back(clip_folder: Path, tmp_path: Path) -> None:
    site = Site(tmp_path, clip_folder)
    script = str(Path(__file__).with_name("standin_worker.py"))
    fault = f"from daemon.worker import handle; handle.Worker.__init__.__defaults__ = ((sys.executable, {script!r}),)"
    by_card, by_cpu = (make(BY_NAME[name], clip_folder).path for name in ("h264", "ffv1-mkv"))
    with site.daemon(fault, device="cuda").ready() as daemon:
        for name, path in (("card", by_card), ("cpu", by_cpu)):
            site.drop({"source": str(path), "outputs": [THUMBNAIL]}, f"{name}.json")
        reports = site.wait_for(2)
        metrics = until(lambda: _counted(daemon.metrics()), "both are counted")
        assert daemon.said("serving", device="cuda:0")
    assert {report.outputs[0].device: report.warnings for report in reports.values()} == {
        "cuda:0": [],
        "cpu": ["decoded by the CPU: NVDEC does not decode ffv1"],
    }
    assert metrics['thumbd_decode_fallbacks_total{reason="codec"}'] == 1
    site.check_clean()


def _counted(metrics: dict[str, float]) -> dict[str, float]:
    names = (f'thumbd_frames_decoded_total{{codec="{codec}",device="{device}"}}' for codec, device in DEVICES.items())
    return metrics if all(metrics.get(name) for name in names) else {}


DEVICES = {"h264": "cuda:0", "ffv1": "cpu"}

assert nvidia.video_codec(), "this is for a process that finds the stand-in"
