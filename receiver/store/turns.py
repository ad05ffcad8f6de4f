"""Writers of one SQLite file take turns: a lock beside the file, which is noticed as soon as it is free.

SQLite has one writer at a time. Whoever finds it busy asks again after 1, 2, 5, 10, 15, 20, 25 … 100 ms, so that
two processes that write all the time keep each other waiting for ten times as long as their transactions take.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

PATIENCE = 1.0
"""Seconds after which SQLite's own lock and time-out decide, so that a process that stands still stops nobody else."""
AGAIN = 0.0005
"""Seconds between two tries for a lock that another process holds."""


class Turns:
    """The turns of all threads and processes that write one file."""

    def __init__(self, database: Path | None) -> None:
        """``database``: the SQLite file; None for a database that lets many write at once."""
        self._path = None if database is None else f"{database}-turn"
        self._here = threading.Lock()

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for this process's turn, and give it back at the end. Where no file can be locked, nobody waits."""
        if self._path is None:
            yield
            return
        until = time.monotonic() + PATIENCE
        with contextlib.ExitStack() as held:
            if self._here.acquire(timeout=PATIENCE):
                held.callback(self._here.release)
                with contextlib.suppress(OSError):
                    number = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                    held.callback(os.close, number)  # and with it the lock, as at the end of a process
                    _lock(number, until)
            yield


def _lock(number: int, until: float) -> None:
    while True:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return
            time.sleep(AGAIN)
        else:
            return
