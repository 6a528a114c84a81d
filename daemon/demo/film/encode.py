"""The film as an MP4: painted in one thread, encoded in another."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer
from av.video.stream import VideoStream

from daemon.demo.film.design import Bytes, Size
from daemon.demo.film.reel import frames

KEYFRAME_SECONDS = 2
AHEAD = 16  # frames painted before the encoder asks for them


def make_film(
    path: Path,
    *,
    seconds: float = 60,
    width: int = 1280,
    height: int = 720,
    rate: int = 30,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Writes the sample film as an MP4 (H.264); progress is told the part done, 0 to 1, now and then.

    The same call draws the same film: nothing in it is left to chance. Width and height must be even, as 4:2:0 wants.
    """
    if width < 16 or height < 16 or width % 2 or height % 2:
        raise ValueError(f"the film's sides must be even and at least 16, not {width} x {height}")
    if seconds <= 0 or rate <= 0:
        raise ValueError(f"the film needs a length and a frame rate above 0, not {seconds} s at {rate}")
    size, total = Size(width, height), max(1, round(seconds * rate))
    with av.open(path, "w", format="mp4", container_options={"movflags": "+faststart"}) as container:
        stream = add_stream(container, size, rate)
        for number, frame in enumerate(ahead(numbered(frames(size, seconds, rate), rate))):
            container.mux(stream.encode(frame))
            if progress and number % rate == 0:
                progress(number / total)
        container.mux(stream.encode(None))
    if progress:
        progress(1.0)


def numbered(pictures: Iterator[Bytes], rate: int) -> Iterator[av.VideoFrame]:
    """The pictures as the encoder takes them, each a copy with its time."""
    for number, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, rate)
        yield frame


def ahead(items: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """The same items, a few of them made in a thread of their own before they are asked for.

    One core paints while the other encodes: both are native code for the most part, which lets go of the lock.
    """
    with ThreadPoolExecutor(1, "painter") as painter:
        coming = deque(painter.submit(next, items, None) for _ in range(AHEAD))
        while (item := coming.popleft().result()) is not None:
            coming.append(painter.submit(next, items, None))
            yield item


def add_stream(container: OutputContainer, size: Size, rate: int) -> VideoStream:
    """A video stream that is quick to make and good to seek in: a keyframe every two seconds, B-frames between."""
    # Ultrafast alone makes no B-frames, and a thumbnailer must be seen to cope with them.
    options = {"preset": "ultrafast", "crf": "22", "bf": "2", "sc_threshold": "0"}
    stream = container.add_stream("libx264", rate=rate, options=options)
    stream.width, stream.height, stream.pix_fmt = size.width, size.height, "yuv420p"
    stream.gop_size = KEYFRAME_SECONDS * rate
    # The painter keeps the other core busy; and what comes out does not depend on the machine's number of cores.
    stream.thread_count = 1
    bt709, limited = 1, 1
    context = stream.codec_context
    context.color_primaries = context.color_trc = context.colorspace = bt709
    context.color_range = limited
    return stream
