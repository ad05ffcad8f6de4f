"""Lists that take long: an API key reads few of them at once, an account some, so that others find threads."""

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
        self._share = max(self._at_once, threads // 2)  # of an account: it may have any number of keys
        self._began: dict[str, list[float]] = defaultdict(list)  # by key, oldest first
        self._waiting: Counter[str] = Counter()
        self._here: dict[str, list[str]] = defaultdict(list)  # by account: keys of the lists that are read or wait
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def turn(self, key_id: str, account_id: str) -> Iterator[None]:
        """Read a list within the block. Raises Refused (429) when its key or account reads too many that take long."""
        with self._changed:
            here = self._here[account_id]
            if len(here) >= self._share and any(map(self._is_slow, here)):
                raise _too_many()
            here.append(key_id)
        try:
            with self._turn_of_key(key_id):
                yield
        finally:
            with self._changed:
                here.remove(key_id)
                if not here:
                    self._here.pop(account_id, None)

    @contextlib.contextmanager
    def _turn_of_key(self, key_id: str) -> Iterator[None]:
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
        if self._is_slow(key_id) and self._waiting[key_id] >= self._at_once:
            raise _too_many()
        self._waiting[key_id] += 1
        try:
            if not self._changed.wait_for(lambda: self._is_free(key_id), PATIENCE):
                raise _too_many()
        finally:
            self._waiting[key_id] -= 1
            if not self._waiting[key_id]:
                del self._waiting[key_id]

    def _is_slow(self, key_id: str) -> bool:
        began = self._began.get(key_id)
        return began is not None and began[0] <= time.monotonic() - SLOW

    def _is_free(self, key_id: str) -> bool:
        return len(self._began.get(key_id, ())) < self._at_once


def _too_many() -> Refused:
    detail = (
        "This API key, or its account, reads too many lists at once that take long. Read one after the other, or "
        "narrow them down by time. Try again in 1 second."
    )
    return Refused(429, "too-many-requests", detail, {"Retry-After": "1"})
