"""A lane: one thread that looks for due work, and those who do it.

Looking and doing are apart, so that one slow call keeps nobody waiting who has a seat of their own.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from receiver import logs, watching
from receiver.errors import Busy

IDLE = 30.0
"""Seconds after which a lane looks by itself, though no bell has rung and nobody has written anything."""
SHORTEST = 0.005
"""Seconds until the next look when work is due that could not be claimed (a cap is full); doubled each time."""
TROUBLE = 1.0
"""Seconds of rest after a look that failed."""
PATIENCE = 86_400.0
"""Seconds for which a result that cannot be written is kept: a database may be away overnight, and what was bought is
known to nobody else. Not for ever: it holds a seat."""

log = logs.get("worker")


class Rounds(ABC):
    """One thread that makes rounds while there is something to do, and sleeps until work is due or the bell rings."""

    def __init__(self, name: str, seats: int, clock: Callable[[], int]) -> None:
        """``seats``: calls in flight at most. ``clock``: ms since the epoch."""
        self.name = name
        self.clock = clock
        self.seats = seats
        self._taken = 0
        self._in_vain = 0
        self._away_since: float | None = None
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @abstractmethod
    def make_round(self) -> bool:
        """Do what can be done now; whether there was anything."""

    @abstractmethod
    def next_look(self) -> int | None:
        """When (ms since the epoch) the next look can find something; None when nothing waits."""

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    def look_again(self) -> None:
        """Look now, should a ring of the bell have been lost."""
        self._wake.set()

    def stop(self) -> None:
        """Claim nothing more; what has a seat goes on."""
        self._stopping.set()
        self._wake.set()

    @property
    def in_flight(self) -> int:
        """Seats taken now."""
        return self._taken

    def join(self, timeout: float | None = None) -> None:
        """Wait for the looking thread to end, so many seconds at most."""
        self._thread.join(timeout)

    def _over(self) -> bool:
        """Whether the thread has nothing to do any more."""
        return self._stopping.is_set()

    def _run(self) -> None:
        while not self._over():
            self._wake.clear()  # before the look: a ring during it makes another look
            try:
                self._in_vain = 0 if self.make_round() else self._in_vain + 1
                if self._away_since is not None:
                    watching.database_back(self.name, time.monotonic() - self._away_since)
                    self._away_since = None
                if self._in_vain and self._wake.wait(self._pause()):
                    self._in_vain = 0
            except Busy as trouble:
                self._away_since = self._away_since or time.monotonic()
                watching.database_busy(self.name, trouble.detail)
                self._rest()
            except Exception:
                log.exception("a look failed", lane=self.name)
                self._rest()

    def _rest(self) -> None:
        if self._stopping.is_set():
            time.sleep(TROUBLE / 5)  # results wait to be written, and little time is left
        else:
            self._stopping.wait(TROUBLE)

    def _pause(self) -> float:
        if self._taken >= self.seats:
            return IDLE
        due = self.next_look()
        shortest = SHORTEST * 2 ** min(self._in_vain, 8)
        return IDLE if due is None else min(max((due - self.clock()) / 1000, shortest), IDLE)


class Lane(Rounds):
    """Claims work while there are free seats; every seat is a thread."""

    def __init__(self, name: str, seats: int, clock: Callable[[], int]) -> None:
        """As for Rounds."""
        super().__init__(name, seats, clock)
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(seats, thread_name_prefix=name)

    def start(self) -> None:
        """Begin to look, with one thread at least that does what is claimed."""
        self._pool.submit(lambda: None)
        super().start()

    @abstractmethod
    def look(self, room: int) -> list[Callable[[], None]]:
        """Claim up to ``room`` pieces of work and return what is to be done for each."""

    def make_round(self) -> bool:
        """Give every free seat a piece of work."""
        room = self.seats - self._taken
        if room <= 0:
            return False
        work = self.look(room)
        with self._lock:
            self._taken += len(work)
        for piece in work:
            try:
                self._pool.submit(self._do, piece)
            except RuntimeError:  # no further thread can be started: those that run will take it
                log.warning("too few threads", lane=self.name)
        return bool(work)

    def _do(self, piece: Callable[[], None]) -> None:
        try:
            piece()
        except Exception:
            log.exception("a call failed; its lease hands it over", lane=self.name)
        finally:
            with self._lock:
                self._taken -= 1
            self._wake.set()


def persist(write: Callable[[], object], stopping: threading.Event) -> None:
    """Write a result, however long the database is away: a provider's answer is never dropped lightly.

    A fence makes a write that comes too late harmless.
    """
    began = time.monotonic()
    while True:
        try:
            write()
        except Busy:
            waited = time.monotonic() - began
            if waited >= PATIENCE or (stopping.is_set() and waited >= TROUBLE * 5):
                raise
            time.sleep(0.2)
        else:
            return
