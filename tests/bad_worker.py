"""A worker that speaks the wire, badly: what it does wrong is the name of the first output that is asked of it. Asked
for anything else it answers well. As an argument before the usual ones it takes what it does wrong at its start.

Made of the standard library alone, so that it starts at once, and shares no code with what it is to test.
"""

import json
import os
import random
import signal
import socket
import struct
import sys
import time
import zlib
from typing import Any, NoReturn

LENGTHS = struct.Struct("!II")
TIMES = {"open": 0, "decode": 0, "resize": 0, "encode": 0}


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + kind + content


def mp4(width: int, height: int) -> bytes:
    track = box(b"trak", box(b"tkhd", bytes(76) + struct.pack(">II", width << 16, height << 16)))
    return box(b"ftyp", b"isom" + bytes(4)) + box(b"moov", box(b"mvhd", bytes(100)) + track) + box(b"mdat", b"frames")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(width)) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


PNG = png(4, 2)
MP4 = mp4(4, 2)


class BadWorker:
    def __init__(self, connection: socket.socket) -> None:
        self.wire = connection
        self.descriptors: list[int] = []

    # Speaking well.

    def send(self, kind: str, body: bytes = b"", **keys: Any) -> None:
        header = json.dumps({"kind": kind, **keys}).encode()
        self.wire.sendall(LENGTHS.pack(len(header), len(body)) + header + body)

    def hear(self) -> dict[str, Any]:
        prefix, descriptors, _, _ = socket.recv_fds(self.wire, LENGTHS.size, 65, socket.MSG_WAITALL)
        while 0 < len(prefix) < LENGTHS.size:
            prefix += self.wire.recv(LENGTHS.size - len(prefix))
        if not prefix:
            os._exit(0)
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = descriptors
        length, _ = LENGTHS.unpack(prefix)
        text = b""
        while len(text) < length:
            text += self.wire.recv(length - len(text))
        return dict(json.loads(text))

    def file(self, body: bytes = PNG, **keys: Any) -> None:
        place = {"job": 0, "output": 0, "name": f"{self.name}.png", "format": "png", "width": 4, "height": 2}
        self.send("file", body, **{**place, **keys})

    def made(self, **keys: Any) -> None:
        file = f"{self.name}.png"
        report = {"name": self.name, "output": "thumbnail", "path": file, "width": 4, "height": 2, "format": "png"}
        report |= {"bytes": len(PNG), "at": 1.0, "time": 1.0, "device": "cpu", "files": [file]}
        self.send("output", job=0, output=0, report={**report, **keys})

    def job_over(self, job: int = 0) -> None:
        self.send("job_over", job=job, times=TIMES)

    def task_over(self, **keys: Any) -> None:
        self.send("task_over", times=TIMES, **keys)

    def answer_well(self) -> None:
        self.send("source", duration=3.0, width=4, height=2, codec="h264", fps=25.0)
        self.send("planned", pictures=[1])
        self.file()
        self.made()
        self.job_over()
        self.task_over()

    def serve(self, wrong_at_start: str) -> None:
        getattr(self, f"start_{wrong_at_start}")()
        self.send("ready", ffmpeg="7", device="cpu")
        getattr(self, f"after_{wrong_at_start}", lambda: None)()
        while True:
            task = self.hear()
            if task["kind"] == "task":
                self.name = task["jobs"][0][0]["name"]
                getattr(self, self.name.replace("-", "_"), self.answer_well)()

    # What it says of its device, the CPU.

    def other_device(self) -> None:
        self.file()
        self.made(device="cuda:0")

    def back_from_the_cpu(self) -> None:
        self.send("fell_back", reason="error")

    def back_for_no_reason(self) -> None:
        self.send("fell_back", reason="because")

    # A file that it writes itself: the second output.

    def clip(self, written: bytes = MP4, **keys: Any) -> None:
        os.pwrite(self.descriptors[1], written, 0)
        said = {"output": 1, "name": "moving.mp4", "format": "mp4", "size": len(written), **keys}
        self.file(**{"body": b"", **said})

    def clip_made(self, **keys: Any) -> None:
        report = {"name": "moving", "output": "clip", "path": "moving.mp4", "width": 4, "height": 2, "format": "mp4"}
        report |= {"bytes": len(MP4), "at": 0, "time": 0, "duration": 1, "frames": 9, "device": "cpu"}
        self.send("output", job=0, output=1, report={**report, "files": ["moving.mp4"], **keys})

    def good_without_clip(self) -> None:
        os.pwrite(self.descriptors[1], MP4[:20], 0)
        self.file()
        self.made()
        self.send("output_failed", job=0, output=1, code="decode_failed", message="it does not come out")
        self.job_over()
        self.task_over()

    def answer_clip(self) -> None:
        self.file()
        self.made()
        self.clip()
        self.clip_made()
        self.job_over()
        self.task_over()

    def clip_of_other_size(self) -> None:
        self.clip(size=len(MP4) + 1)

    def clip_not_written(self) -> None:
        self.clip(b"")

    def clip_not_written_but_sized(self) -> None:
        self.clip(b"", size=len(MP4))

    def clip_of_no_kind(self) -> None:
        self.clip(b"MZ this is a program")

    def clip_of_other_sides(self) -> None:
        self.clip(mp4(4096, 2))

    def clip_with_index_last(self) -> None:
        ftyp = MP4[: MP4.index(b"moov") - 4]
        moov = MP4[len(ftyp) : MP4.index(b"mdat") - 4]
        self.clip(ftyp + box(b"mdat", b"frames") + moov)

    def clip_of_other_format(self) -> None:
        self.clip(b"GIF89a" + struct.pack("<HH", 4, 2), format="gif")

    def clip_with_body(self) -> None:
        self.clip(body=MP4)

    def clip_only_sent(self) -> None:
        self.clip(b"", size=0, body=MP4)

    def clip_of_other_name(self) -> None:
        self.clip(name="other.mp4")

    def clip_twice(self) -> None:
        self.clip()
        self.clip()

    def clip_of_other_bytes(self) -> None:
        self.clip()
        self.clip_made(bytes=1)

    def picture_with_size(self) -> None:
        self.file(size=len(PNG))

    def more_descriptors(self) -> None:
        """Nobody takes them, and they are no lie by themselves."""
        header = json.dumps({"kind": "job_over", "job": 9, "times": TIMES}).encode()
        socket.send_fds(self.wire, [LENGTHS.pack(len(header), 0) + header], [0, 1, 2, *self.descriptors])

    # Wrong at the start.

    def start_well(self) -> None: ...

    def start_ended(self) -> NoReturn:
        os._exit(1)

    def start_silent(self) -> None:
        hang()

    def start_unable(self) -> None:
        self.send("unable", code="device_missing", message="there is no such device")

    def start_wrong(self) -> None:
        self.job_over()

    def start_noise(self) -> None:
        self.wire.sendall(random.Random(1).randbytes(1000))

    def start_deaf(self) -> None: ...

    def after_deaf(self) -> None:
        hang()

    # Crashing.

    def segfault(self) -> None:
        self.file()
        os.kill(os.getpid(), signal.SIGSEGV)

    def end(self) -> None:
        self.file()
        os._exit(3)

    def end_in_a_message(self) -> None:
        self.wire.sendall(LENGTHS.pack(100, 1000) + b"{")
        os._exit(0)

    def hang_up(self) -> None:
        self.wire.close()
        hang()

    # Not getting on.

    def silence(self) -> None:
        hang()

    # What it reads of a source that is a socket.

    def ask(self, offset: int, size: int, id: int = 1) -> None:
        with socket.socket(fileno=os.dup(self.descriptors[0])) as source:
            source.sendall(struct.pack("!IQI", id, offset, size))

    def reads_beyond(self) -> None:
        self.ask(1 << 60, 5)
        hang()

    def reads_beyond_and_ends(self) -> None:
        self.ask(1 << 60, 5)
        self.answer_well()

    def reads_and_hangs(self) -> None:
        self.ask(1_000_000, 5)
        hang()

    def reads_all_at_once(self) -> None:
        for id in range(1 << 20):
            self.ask(0, 1 << 20, id)

    def reads_and_takes_nothing(self) -> None:
        for id in range(1 << 20):
            self.ask(0, 1 << 20, id)
            time.sleep(0.02)

    def half_a_message(self) -> None:
        self.wire.sendall(LENGTHS.pack(100, 1000) + b'{"kind":')
        hang()

    def trickle(self) -> None:
        self.wire.sendall(LENGTHS.pack(100_000, 0))
        while True:
            self.wire.sendall(b" ")
            time.sleep(0.05)

    def for_ever(self) -> None:
        while True:
            self.send("progress", packets=int(time.monotonic() * 1000), pictures=[0])
            time.sleep(0.05)

    def flood(self) -> None:
        header = json.dumps({"kind": "progress", "packets": 1, "pictures": [0]}).encode()
        much = (LENGTHS.pack(len(header), 0) + header) * 10_000
        while True:
            self.wire.sendall(much)

    # Not speaking the wire.

    def noise(self) -> None:
        self.wire.sendall(random.Random(2).randbytes(100_000))
        hang()

    def huge_header(self) -> None:
        self.wire.sendall(LENGTHS.pack(0xFFFFFFFF, 0))
        hang()

    def huge_body(self) -> None:
        self.wire.sendall(LENGTHS.pack(2, 0xFFFFFFFF) + b"{}")
        hang()

    def no_json(self) -> None:
        self.raw(b"{'kind': 'progress'}")

    def no_object(self) -> None:
        self.raw(b"[1, 2]")

    def not_a_number(self) -> None:
        self.raw(b'{"kind": "job_over", "job": 0, "times": {"open": NaN}}')

    def too_deep(self) -> None:
        self.raw(b'{"kind":' + b"[" * 1_000_000)

    def wrong_a_million_times(self) -> None:
        self.raw(b'{"kind": "planned", "pictures": [' + b"-1," * 5_000_000 + b"-1]}")

    def unknown_word(self) -> None:
        self.send("open_the_door")

    def unknown_key(self) -> None:
        self.send("progress", packets=1, pictures=[0], path="/etc/passwd")

    def raw(self, header: bytes) -> None:
        self.wire.sendall(LENGTHS.pack(len(header), 0) + header)
        hang()

    # Saying what was not asked.

    def ready_again(self) -> None:
        self.send("ready", ffmpeg="7", device="cpu")

    def other_job(self) -> None:
        self.file(job=7)

    def other_output(self) -> None:
        self.file(output=7)

    def other_name(self) -> None:
        self.file(name="manifest.json")

    def path_up(self) -> None:
        self.file(name="../../evil.png")

    def path_down(self) -> None:
        self.file(name=f"evil/{self.name}.png")

    def absolute_path(self) -> None:
        self.file(name="/tmp/evil.png")

    def with_nul(self) -> None:
        self.file(name=f"{self.name}.png\0.png")

    def other_picture(self) -> None:
        self.file(name="series-0001.png", body=b"\xff\xd8\xff\xd9")

    def no_picture(self) -> None:
        self.file(body=b"MZ this is a program")

    def other_size(self) -> None:
        self.file(body=png(5000, 2))

    def as_text(self) -> None:
        self.file(format="vtt", body=b"MZ this is a program")

    def cut_short(self) -> None:
        self.file(body=PNG[:20])

    def twice(self) -> None:
        self.file()
        self.file()

    def other_index(self) -> None:
        self.file(output=1, name="series.vtt", format="json", body=b"{}")

    def too_many(self) -> None:
        for number in range(1, 100_000):
            self.file(output=1, name=f"series-{number:04}.png")

    def long_number(self) -> None:
        self.file(output=1, name=f"series-{'1' * 270}.png")

    def wide_number(self) -> None:
        self.file(output=1, name=f"series-{'٣' * 150}.png")

    def other_files(self) -> None:
        self.file()
        self.made(files=[f"{self.name}.png", "more.png"])

    def other_bytes(self) -> None:
        self.file()
        self.made(bytes=1)

    def other_path(self) -> None:
        self.file()
        self.made(path="../other.png")

    def other_picture_path(self) -> None:
        self.file()
        self.made(pictures=[{"at": 0, "time": 0, "path": "/etc/passwd"}])

    def other_tag(self) -> None:
        self.file()
        self.made(tag="x" * 1_000_000)

    def other_cache(self) -> None:
        self.file()
        self.made(cached=True)

    def nothing_made(self) -> None:
        self.made()

    def early(self) -> None:
        self.job_over()

    def late_file(self) -> None:
        self.file()
        self.made()
        self.file()

    def over_twice(self) -> None:
        self.answer_job()
        self.job_over()

    def after_job_over(self) -> None:
        self.file()
        self.made()
        text = b"WEBVTT\n"
        self.file(text, output=1, name="series.vtt", format="vtt")
        report = {"name": "series", "output": "thumbnails", "path": "series.vtt", "width": 0, "height": 0}
        report |= {"format": "png", "bytes": len(text), "device": "cpu", "files": ["series.vtt"], "pictures": []}
        self.send("output", job=0, output=1, report=report)
        self.job_over()
        self.file(output=1, name="series-0001.png")

    def other_over(self) -> None:
        self.job_over(job=9)

    def task_over_early(self) -> None:
        self.task_over()

    def counts_more(self) -> None:
        self.send("planned", pictures=[1] * 50)

    def fails_as_the_store(self) -> None:
        self.send("output_failed", job=0, output=0, code="store_failed", message="the disk is full")
        self.job_over()
        self.task_over()

    def fails_as_lost(self) -> None:
        self.send("output_failed", job=0, output=0, code="lease_lost", message="somebody else has it")
        self.job_over()
        self.task_over()

    def ends_as_cancelled(self) -> None:
        self.task_over(code="cancelled", message="nobody wants it")

    def ends_as_interrupted(self) -> None:
        self.task_over(code="interrupted", message="the daemon stops")

    def answer_job(self) -> None:
        self.file()
        self.made()
        # The second output fails, which the job allows.
        self.send("output_failed", job=0, output=1, code="decode_failed", message="it does not come out")
        self.job_over()


def hang() -> NoReturn:
    while os.getppid() == int(sys.argv[-2]):
        time.sleep(1)
    os._exit(0)


if __name__ == "__main__":
    BadWorker(socket.socket(fileno=int(sys.argv[-3]))).serve(sys.argv[1])
