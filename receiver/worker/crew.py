"""Threads for calls: one as long as calls are quick, one more whenever work would have to wait for a slow call."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from receiver import logs

PATIENCE = 0.005
"""Seconds that work waits for a thread that is about to be free, as long as calls are done sooner than this."""
LATELY = 8
"""How many of the last calls tell whether calls are quick: the quickest counts, since others may have waited for us."""
LONGEST = 1.0
"""Seconds until a start at most, whatever a clock says: slots are reserved a fraction of a second ahead."""

Piece = Callable[[], None]

log = logs.get("worker")


class Crew:
    """Does pieces of work, each at its time, with as few threads as it takes to keep none of them waiting.

    Only one of Python's threads runs at a time: where several make quick calls, they mostly wait for each other.
    """

    def __init__(self, name: str, most: int) -> None:
        """``most``: threads, each started when it is first needed."""
        self._name = name
        self._most = most
        self._work: deque[tuple[float, Piece]] = deque()  # with its time, by time.monotonic()
        self._lock = threading.Lock()
        self._guarding = threading.Lock()  # one idle thread watches for work; the others sleep until it has some
        self._given = threading.Event()
        self._threads = self._busy = 0
        self._began = 0.0  # the last piece
        self._lately: deque[float] = deque(maxlen=LATELY)  # seconds that pieces took
        self._closed = False

    def give(self, work: Sequence[tuple[float, Piece]]) -> None:
        """Have pieces done, each so many seconds from now; none before those given earlier.

        Raises RuntimeError when no thread can be started and none is there: then none of them will be done.
        """
        now = time.monotonic()
        with self._lock:
            self._work.extend((now + min(max(ahead, 0.0), LONGEST), piece) for ahead, piece in work)
            try:
                self._post_guard()
            except RuntimeError:
                self._work.clear()
                raise
        self._given.set()

    def close(self) -> None:
        """End the threads, each when it has nothing to do."""
        self._closed = True
        self._given.set()

    def _post_guard(self) -> None:
        """See that somebody watches for work that is left."""
        if self._work and self._threads == self._busy < self._most:
            try:
                threading.Thread(target=self._serve, name=self._name, daemon=True).start()
            except RuntimeError:
                if not self._threads:
                    raise
                log.warning("too few threads", lane=self._name)  # who is busy takes it next
            else:
                self._threads += 1

    def _serve(self) -> None:
        piece = self._await_work()
        while piece is not None:
            began = time.monotonic()
            try:
                piece()
            except Exception:
                log.exception("a call failed", lane=self._name)
            piece = self._go_on(time.monotonic() - began) or self._await_work()

    def _go_on(self, took: float) -> Piece | None:
        """After a piece that took so many seconds: the next one, if it is time for it."""
        with self._lock:
            self._busy -= 1
            self._lately.append(took)
            return self._take() if self._work and self._work[0][0] <= time.monotonic() else None

    def _await_work(self) -> Piece | None:
        """The next piece that no busy thread takes; None at the end."""
        with self._guarding:
            while True:
                self._given.clear()  # before the look at what ``close`` and ``give`` say
                if self._closed:
                    return None
                with self._lock:
                    pause = self._pause()
                    if pause is not None and pause <= 0:
                        return self._take()
                self._given.wait(pause)

    def _pause(self) -> float | None:
        """Seconds until whoever watches takes the next piece; None while there is none."""
        if not self._work:
            return None
        at = self._work[0][0]
        if self._busy and min(self._lately, default=PATIENCE) < PATIENCE:
            at = max(at, self._began) + PATIENCE
        return at - time.monotonic()

    def _take(self) -> Piece:
        self._busy += 1
        self._began = time.monotonic()
        _, piece = self._work.popleft()
        self._post_guard()
        return piece
