"""Films to measure with: the demo's film, repeated packet by packet, so that minutes are made in seconds."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from daemon.demo.film import make_film


def h264(folder: Path, width: int, height: int, seconds: int) -> Path:
    """H.264, 30 frames a second, a keyframe every 2 s, B-frames: as a streaming service would have it."""
    path = folder / f"h264-{width}x{height}-{seconds}s.mp4"
    if not path.exists():
        scene = folder / f"scene-{width}x{height}.mp4"
        make_film(scene, seconds=38, width=width, height=height)
        _repeat(scene, path, seconds)
    return path


def hevc_10_bit(folder: Path, width: int, height: int, seconds: int) -> Path:
    """HEVC Main 10 with B-frames and a keyframe a second: a phone's HDR clip, by its cost."""
    path = folder / f"hevc10-{width}x{height}-{seconds}s.mp4"
    if not path.exists():
        scene = folder / f"scene10-{width}x{height}.mp4"
        options = {"preset": "ultrafast", "crf": "24", "x265-params": "keyint=30:bframes=3:log-level=none"}
        _write(scene, "libx265", "yuv420p10le", options, width, height, frames=60)
        _repeat(scene, path, seconds)
    return path


def vp9(folder: Path, width: int, height: int, seconds: int) -> Path:
    """VP9 with a keyframe a second, as browsers record it."""
    path = folder / f"vp9-{width}x{height}-{seconds}s.mp4"
    if not path.exists():
        scene = folder / f"scene-vp9-{width}x{height}.mp4"
        options = {"deadline": "realtime", "cpu-used": "8", "crf": "30", "b": "8M", "row-mt": "1", "g": "30"}
        _write(scene, "libvpx-vp9", "yuv420p", options, width, height, frames=60)
        _repeat(scene, path, seconds)
    return path


def _repeat(scene: Path, path: Path, seconds: int) -> None:
    new = path.with_suffix(".part.mp4")
    with av.open(str(new), "w", format="mp4") as output, av.open(str(scene)) as first:
        source = first.streams.video[0]
        target = output.add_stream_from_template(source)
        assert source.duration is not None and source.time_base is not None
        times = -(-seconds // max(1, round(source.duration * source.time_base)))
        for n in range(times):
            with av.open(str(scene)) as again:
                for packet in again.demux(again.streams.video[0]):
                    if packet.pts is None or packet.dts is None:
                        continue
                    packet.pts += n * source.duration
                    packet.dts += n * source.duration
                    packet.stream = target
                    output.mux(packet)
    new.rename(path)


def _write(path: Path, codec: str, pix_fmt: str, options: dict[str, str], width: int, height: int, frames: int) -> None:
    """Blocks of noise that move to the left."""
    dtype, shift = (np.dtype("<u2"), 2) if pix_fmt.endswith("10le") else (np.dtype(np.uint8), 0)
    random = np.random.default_rng(7)
    noise = random.integers(64 << shift, 200 << shift, (height // 16 + 8, width // 16 + 64), dtype=np.uint16)
    ground = np.kron(noise, np.ones((16, 16), np.uint16)).astype(dtype)
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.time_base = Fraction(1, 30)
        stream.options = options
        for n in range(frames):
            frame = av.VideoFrame(width, height, pix_fmt)
            for plane, part in zip(frame.planes, (1, 2, 2), strict=True):
                lines = ground[:height:part, n * 8 : n * 8 + width : part][: plane.height, : plane.width]
                target = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
                target[:, : dtype.itemsize * plane.width] = lines.copy().view(np.uint8)
            frame.pts = n
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
