"""Threads that take pieces of work from one queue, each with a track of its own."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from daemon.media.video import Track

Piece = Callable[[Track], None]


class Pool:
    """Tracks are opened with `open_track` as they are needed, and kept for what comes after. Where a piece fails the
    pool is `broken`: no more of them are begun, and those that run should end."""

    def __init__(self, open_track: Callable[[], Track]) -> None:
        self.broken = False
        self._open_track = open_track
        self._lock = threading.Lock()
        self._tracks: list[Track] = []
        self._idle: list[Track] = []  # that no thread has at the moment

    def add(self, track: Track) -> None:
        """One that is open already."""
        with self._lock:
            self._tracks.append(track)
        self._idle.append(track)

    def work(self, pieces: Sequence[Piece], threads: int) -> None:
        """Returns when all are done. Raises what one of them raised."""
        todo = deque(pieces)
        with ThreadPoolExecutor(threads, thread_name_prefix="run") as pool:
            for done in [pool.submit(self._take_pieces, todo) for _ in range(threads)]:
                done.result()

    @property
    def packets_sent(self) -> int:
        """To decoders; any thread may ask."""
        return sum(track.packets_sent for track in self._tracks)

    @property
    def frames_decoded(self) -> int:
        return sum(track.frames_decoded for track in self._tracks)

    def close(self) -> None:
        for track in self._tracks:
            track.close()

    def _take_pieces(self, todo: deque[Piece]) -> None:
        track: Track | None = None
        try:
            while todo and not self.broken:
                try:
                    piece = todo.popleft()
                except IndexError:
                    break
                track = track or self._idle_track()
                piece(track)
        except BaseException:
            self.broken = True
            raise
        finally:
            if track is not None:
                self._idle.append(track)

    def _idle_track(self) -> Track:
        try:
            return self._idle.pop()
        except IndexError:
            track = self._open_track()
            with self._lock:
                self._tracks.append(track)
            return track
