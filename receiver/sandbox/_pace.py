"""Calls per second: counted always, limited where asked."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque


class Pace:
    """Counts calls per second, and tells when there are too many."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._seen: dict[str, deque[float]] = defaultdict(deque)
        self._most: dict[str, int] = defaultdict(int)
        self._admitted: deque[float] = deque()

    def admit(self, operation: str) -> bool:
        """Count a call; False if it is one too many for the limit."""
        now = time.monotonic()
        with self._lock:
            for name in ("*", operation):
                seen = self._seen[name]
                seen.append(now)
                while seen[0] <= now - 1:
                    seen.popleft()
                self._most[name] = max(self._most[name], len(seen))
            if self.limit <= 0:
                return True
            window = max(1.0, 1 / self.limit)
            while self._admitted and self._admitted[0] <= now - window:
                self._admitted.popleft()
            if len(self._admitted) >= max(1, int(self.limit)):
                return False
            self._admitted.append(now)
            return True

    def most(self) -> dict[str, int]:
        """The most calls within any one second: over all operations (``*``) and for each."""
        with self._lock:
            return dict(self._most)

    def clear(self) -> None:
        """Count from zero again."""
        with self._lock:
            for kept in (self._seen, self._most, self._admitted):
                kept.clear()
