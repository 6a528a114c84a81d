"""The bound: the same packets decoded, shrunk and encoded by the same libraries, in a bare loop on as many threads.

`python -m bench.bound FILM keyframe|exact jpeg|webp COUNT START THREADS` prints seconds. Nothing is searched for and
nothing is written: where each picture's packets lie was found out before the clock starts.
"""

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import av
from av.packet import Packet
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from av.video.stream import VideoStream

from daemon.media.encode import encode

Packets = list["Packet[VideoStream]"]


def times(film: str | Path, count: int, start: float) -> list[float]:
    """`count` instants in seconds, evenly spread from `start` to the end of the film."""
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        assert stream.duration is not None and stream.time_base is not None
        end = float(stream.duration * stream.time_base)
    return [start + n * (end - start) / count for n in range(count)]


def find(film: str, instants: Sequence[float], exact: bool) -> list[Packets]:
    """For each picture its packets, from the key packet to the wanted one in decode order."""
    with av.open(film) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.pts is not None]
        shown = [packet.pts or 0 for packet in packets]
        found = []
        for instant in instants:
            assert stream.time_base is not None
            limit = min(shown) + instant / float(stream.time_base)
            keys = [n for n, packet in enumerate(packets) if packet.is_keyframe and shown[n] <= limit]
            key = max(keys, key=lambda n: shown[n])
            last = max((n for n in range(len(packets)) if shown[n] <= limit), key=lambda n: shown[n]) if exact else key
            found.append(packets[key : last + 1])
        return found


def work(film: str, pictures: Sequence[Packets], format: str) -> int:
    """Decodes, shrinks and encodes; how many pictures came out."""
    made = 0
    with av.open(film, options={"codec_whitelist": "none"}) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        context.thread_count = 1
        scaler = VideoReformatter()
        flags = Interpolation.LANCZOS | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
        flags |= Interpolation.ACCURATE_RND
        for packets in pictures:
            context.flush_buffers()
            # The bytes are read again, as anybody must.
            container.seek(packets[0].pts or 0, stream=stream)
            for packet, _ in zip(container.demux(stream), packets, strict=False):
                wanted = packet.pts == packets[-1].pts
                context.skip_frame = "DEFAULT" if wanted else "NONREF"
                frames = context.decode(packet)
                if wanted:
                    frames += context.decode(None)
                for frame in frames:
                    if frame.pts == packets[-1].pts:
                        small = scaler.reformat(
                            frame,
                            width=320,
                            height=180,
                            format="gbrp",
                            dst_color_range=ColorRange.JPEG,
                            interpolation=flags,
                            threads=1,
                        )
                        encode(small.to_ndarray(), format, None)  # type: ignore[arg-type]
                        made += 1
    return made


def main() -> None:
    film, how, format = sys.argv[1:4]
    count, start, threads = int(sys.argv[4]), float(sys.argv[5]), int(sys.argv[6])
    pictures = find(film, times(film, count, start), how == "exact")
    order = [pictures[n::threads] for n in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda _: None, range(threads)))
        begun = perf_counter()
        made = sum(pool.map(lambda part: work(film, part, format), order))
        took = perf_counter() - begun
    assert made == count, f"{made} pictures instead of {count}"
    print(took)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
