"""Lists that take long: each API key reads few of them at once, so that it does not take the others' threads."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator

from receiver.web.errors import Refused

PATIENCE = 2.0
"""Seconds that a list waits for its turn."""
SLOW = 0.5
"""Seconds after which a list that is being read counts as slow."""
PART = 8
"""Of the threads of a process, one in so many reads the lists of a key, and as many more wait once they are slow."""


class ListTurns:
    """The turns of each API key in one process. Thread-safe.

    A list costs little where an index has what it asks for. One that looks for something rare walks the history of
    its account, and some dozens of these would leave no thread to anybody else. Quick ones that are too many at once
    only wait for each other.
    """

    def __init__(self, threads: int) -> None:
        """``threads``: those of the process."""
        self._at_once = max(1, threads // PART)
        self._began: dict[str, list[float]] = defaultdict(list)  # by key, oldest first
        self._waiting: Counter[str] = Counter()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def turn(self, key_id: str) -> Iterator[None]:
        """Read a list within the block. Raises Refused (429) when the key reads too many that take long."""
        with self._changed:
            self._await(key_id)
            began = time.monotonic()
            self._began[key_id].append(began)
        try:
            yield
        finally:
            with self._changed:
                self._began[key_id].remove(began)
                if not self._began[key_id]:
                    del self._began[key_id]
                self._changed.notify_all()

    def _await(self, key_id: str) -> None:
        if self._is_free(key_id):
            return
        slow = self._began[key_id][0] <= time.monotonic() - SLOW
        if slow and self._waiting[key_id] >= self._at_once:
            raise _too_many()
        self._waiting[key_id] += 1
        try:
            if not self._changed.wait_for(lambda: self._is_free(key_id), PATIENCE):
                raise _too_many()
        finally:
            self._waiting[key_id] -= 1
            if not self._waiting[key_id]:
                del self._waiting[key_id]

    def _is_free(self, key_id: str) -> bool:
        return len(self._began.get(key_id, ())) < self._at_once


def _too_many() -> Refused:
    detail = (
        "This API key reads too many lists at once that take long. Read one after the other, or narrow them down by "
        "time. Try again in 1 second."
    )
    return Refused(429, "too-many-requests", detail, {"Retry-After": "1"})
