"""Animations: silent loops as WebP, GIF or AVIF.

Chosen on 30 frames of 480x270 of an animated film: libwebp through Pillow gives files of the same size as through libav
that are a little better (42.1 dB, not 41.4: libav halves the chroma less well). AVIF through Pillow is a quarter larger
than SVT-AV1's of the same quality, but takes any size and keeps to one thread.

A GIF has a palette for each frame, made and used by libav, with a weak ordered pattern: without one surfaces fall into
patches; spreading the errors flickers, and is worse (33.4 dB, not 34.7) and larger. One palette for the whole loop
saves 20 %, but costs 3 to 5 dB, and all frames would have to be held until it is known.

All three are encoded frame by frame: what is held is what was encoded, not the pictures.
"""

import io
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain, pairwise
from typing import Any

import av
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from PIL import GifImagePlugin, Image

from daemon.media.device import RGB
from daemon.media.encode import DEFAULT_QUALITY, check_side
from daemon.media.geometry import Layout, Size, lay_out
from daemon.media.moving import MovingMaker
from daemon.media.sink import Sink
from daemon.outputs import Animation

_QUALITY = {"webp": DEFAULT_QUALITY["webp"], "avif": DEFAULT_QUALITY["avif"]}  # a GIF has none
PLUGINS = (GifImagePlugin,)  # imported now: a worker opens no file after its start


class AnimationMaker(MovingMaker):
    asked: Animation

    def _lay_out(self, display: Size) -> Layout:
        return lay_out(self.asked, display)

    def _duration(self) -> Fraction:
        return len(self.ats) / self.asked.fps

    def _write(self, pictures: Iterator[RGB]) -> Size:
        first = next(pictures)
        size = first.shape[1], first.shape[0]
        check_side(size, self.asked.format)
        pictures = chain([first], pictures)
        if self.asked.format == "gif":
            _write_gif(pictures, size, self.asked.fps, self._sink)
        else:
            self._write_with_pillow(pictures)
        return size

    def _write_with_pillow(self, pictures: Iterator[RGB]) -> None:
        asked, count = self.asked, len(self.ats)
        quality = _QUALITY[asked.format] if asked.quality is None else asked.quality
        # Whole milliseconds, whose sum is right all the same.
        borders = [round(n * 1000 / asked.fps) for n in range(count + 1)]
        times: dict[str, Any] = {"duration": [after - before for before, after in pairwise(borders)], "loop": 0}
        film, data = _Film(pictures, count), io.BytesIO()
        if asked.format == "webp":
            film.save(data, "WEBP", save_all=True, quality=quality, method=2, **times)
        else:
            film.save(data, "AVIF", save_all=True, quality=quality, speed=8, max_threads=1, **times)
        self._sink.write(undated(data.getvalue()) if asked.format == "avif" else data.getvalue())


def undated(data: bytes) -> bytes:
    """An AVIF without the time at which libavif made it: the same pictures are the same file. The dates are the first
    fields of mvhd, tkhd and mdhd (ISO/IEC 14496-12, 8.2 to 8.4); a still has none of them."""
    changed = bytearray(data)

    def look_into(at: int, end: int) -> None:
        while at + 8 <= end:
            size, kind = int.from_bytes(changed[at : at + 4]), bytes(changed[at + 4 : at + 8])
            if kind in (b"moov", b"trak", b"mdia"):
                look_into(at + 8, at + size)
            elif kind in (b"mvhd", b"tkhd", b"mdhd"):
                width = 8 if changed[at + 8] else 4
                changed[at + 12 : at + 12 + 2 * width] = bytes(2 * width)
            at += max(8, size)

    look_into(0, len(changed))
    return bytes(changed)


class _Film(Image.Image):
    """Many pictures as one image, for Pillow to look through once: each is made when it is sought."""

    def __init__(self, pictures: Iterator[RGB], count: int) -> None:
        super().__init__()
        self.n_frames = count
        self.is_animated = count > 1
        self._pictures = pictures
        self._at = -1
        self.seek(0)

    def seek(self, frame: int) -> None:
        if frame >= self.n_frames:
            raise EOFError("no more pictures")
        # What is past is not asked for again, but for the first at the end, when nobody looks.
        while self._at < frame:
            picture = Image.fromarray(next(self._pictures))
            self.im, self._mode, self._size = picture.im, picture.mode, picture.size
            self._at += 1

    def tell(self) -> int:
        return self._at


def _write_gif(pictures: Iterator[RGB], size: Size, fps: Fraction, sink: Sink) -> None:
    with av.open(sink, "w", format="gif", container_options={"loop": "0"}) as container:
        stream = container.add_stream("gif", rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = "pal8"
        stream.time_base = stream.codec_context.time_base = 1 / fps
        graph = _palettes(size, 1 / fps)
        for n, picture in enumerate(pictures):
            frame = VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = n, 1 / fps
            graph.vpush(frame)
            container.mux(stream.encode(graph.vpull()))
        container.mux(stream.encode(None))


def _palettes(size: Size, time_base: Fraction) -> Graph:
    """A filter that gives each picture a palette of its own."""
    graph = Graph()
    pictures = graph.add_buffer(width=size[0], height=size[1], format=VideoFormat("rgb24"), time_base=time_base)
    two, palette = graph.add("split"), graph.add("palettegen", "stats_mode=single")
    laid, out = graph.add("paletteuse", "new=1:dither=bayer:bayer_scale=4"), graph.add("buffersink")
    pictures.link_to(two)
    two.link_to(laid, 0, 0)
    two.link_to(palette, 1, 0)
    palette.link_to(laid, 0, 1)
    laid.link_to(out)
    graph.configure()
    return graph
