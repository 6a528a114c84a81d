"""What is true of a video stream as a whole, measured once."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from daemon.media.plan import How

# What the times of packets are worth. `shown`: true presentation times. `ordered`: DTS only (AVI): the n-th frame out
# of the decoder stands at the n-th of them. `counted`: some have none (H.264 in MPEG-PS): only the count of frames
# from the start tells the time.
Timing = Literal["shown", "ordered", "counted"]


@dataclass(frozen=True)
class Facts:
    """What is true of the video stream. Times in ticks of `time_base`, on the stream's own time line.

    `start`: PTS of the first displayed frame; `end`: end of the last one. `width` x `height`: as coded, before sample
    aspect and rotation. `step`: the usual interval between frames. `missing`: bytes that the index speaks of beyond
    the file's end.
    """

    time_base: Fraction
    start: int
    end: int
    codec: str
    width: int
    height: int
    fps: float | None
    timing: Timing
    step: int
    missing: int
    cut: int | None
    warnings: tuple[str, ...]

    @property
    def duration(self) -> Fraction:
        """Seconds."""
        return (self.end - self.start) * self.time_base

    def ticks(self, seconds: Fraction) -> Fraction:
        """A time counted from the first displayed frame, on the stream's own time line, unrounded."""
        return self.start + seconds / self.time_base

    def how(self, asked: How) -> How:
        """Which frames are to be had in the way that is asked for. Where frames have to be counted from the start those
        shown cost no more than keyframes do, and all share one pass."""
        return "exact" if self.timing == "counted" else asked

    def seconds(self, pts: int) -> Fraction:
        """The inverse of `ticks`."""
        return (pts - self.start) * self.time_base
