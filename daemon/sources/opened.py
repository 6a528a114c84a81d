"""A source that was opened, wherever it is."""

from dataclasses import dataclass

from daemon.worker.answers import Answers


@dataclass(frozen=True)
class Opened:
    """What a worker is given for one task. `descriptor`: of a file, or of a socket over which `answers` answers its
    reads; it stays the opener's. `size` in bytes. `identity`: the same text for the same bytes, None where nothing
    tells."""

    descriptor: int
    size: int
    identity: str | None
    answers: Answers | None = None
