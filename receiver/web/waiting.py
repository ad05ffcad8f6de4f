"""Requests that wait for something to happen: woken by the bell, and never so many that callbacks find no thread."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TypeVar

from receiver.bell import Bell

T = TypeVar("T")

TICK = 1.0
"""Seconds after which a sleeper looks by itself: a ring of the bell can be lost."""
BREATH = 0.05
"""Seconds between two looks at least, however often the bell rings."""


class Alarm:
    """Wakes the waiting requests of one process. One thread, started at the first wait, listens for all."""

    def __init__(self, bell: Bell, seats: int) -> None:
        """``seats``: how many requests may wait at once; a quarter of them is out of reach of any one account."""
        self._bell = bell
        self._free = seats
        self._share = seats - seats // 4
        self._taken: Counter[str] = Counter()  # by account
        self._seating = threading.Lock()
        self._changed = threading.Condition()
        self._rings = 0
        self._listening = False
        self._stopping = False

    @property
    def stopping(self) -> bool:
        """Whether the process is about to end, so that nobody should wait any more."""
        return self._stopping

    def stop(self) -> None:
        """Send the waiting away, within a second. Takes no lock: a signal handler may call it."""
        self._stopping = True

    @contextlib.contextmanager
    def seat(self, account_id: str) -> Iterator[bool]:
        """Whether there is a seat for the account to wait on; it is given back at the end of the block."""
        with self._seating:
            taken = self._free > 0 and self._taken[account_id] < self._share
            if taken:
                self._free -= 1
                self._taken[account_id] += 1
        try:
            yield taken
        finally:
            if taken:
                with self._seating:
                    self._free += 1
                    self._taken[account_id] -= 1

    @property
    def rings(self) -> int:
        """A number that grows with every ring: read it before looking, and sleep until it has changed."""
        self._listen()
        with self._changed:
            return self._rings

    def sleep(self, heard: int, seconds: float) -> None:
        """Sleep until the number of rings is another than ``heard``, for a tick or these seconds at most."""
        with self._changed:
            self._changed.wait_for(lambda: self._rings != heard or self._stopping, min(TICK, max(seconds, 0.0)))

    def until(self, look: Callable[[], T], good: Callable[[T], bool], seconds: float) -> T:
        """Look again and again until what is seen is good or the time is over; gives what was seen last."""
        end = time.monotonic() + seconds
        while True:
            heard = self.rings
            began = time.monotonic()
            found = look()
            if good(found) or self._stopping or began >= end:
                return found
            self.sleep(heard, end - time.monotonic())
            pause = min(began + BREATH, end) - time.monotonic()
            if pause > 0:
                time.sleep(pause)

    def _listen(self) -> None:
        with self._changed:
            if self._listening or self._stopping:
                return
            threading.Thread(target=self._hear, name="bell-listener", daemon=True).start()
            self._listening = True  # only now: a thread that could not be started is started by who waits next

    def _hear(self) -> None:
        try:
            with contextlib.closing(self._bell.listen()) as listener:
                while not (self._stopping or self._bell.closed):
                    if listener.wait(TICK / 2):
                        with self._changed:
                            self._rings += 1
                            self._changed.notify_all()
        finally:
            with self._changed:
                self._listening = False
                self._changed.notify_all()
