"""Group commit: what several threads want done at the same time is done in one go, by one of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class _Wish(Generic[T, R]):
    """One thing that is to be done; ``result`` is None until it was."""

    __slots__ = ("result", "what")

    def __init__(self, what: T) -> None:
        self.what = what
        self.result: R | None = None


class Together(Generic[T, R]):
    """Runs ``work`` with all that is asked for at once. Whoever comes while it runs waits, and is part of the next run.

    On a disk that takes milliseconds to flush, as many callers share a flush as come within its time; a caller
    who is alone waits for nobody. No thread of its own: the first of those who wait does the work of all.
    """

    def __init__(self, work: Callable[[Sequence[T]], Sequence[R]], most: int = 256) -> None:
        """``work``: gives a result (never None) for each, in order, and does not raise. ``most``: at a time."""
        self._work = work
        self._most = most
        self._waiting: list[_Wish[T, R]] = []
        self._lock = threading.Lock()
        self._turn = threading.Lock()

    def do(self, what: T) -> R:
        """Have one thing done, together with others; its result."""
        wish: _Wish[T, R] = _Wish(what)
        with self._lock:
            self._waiting.append(wish)
        while wish.result is None:
            with self._turn:
                if wish.result is None:
                    self._run()
        return wish.result

    def _run(self) -> None:
        with self._lock:
            now, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        for wish, result in zip(now, self._work([wish.what for wish in now]), strict=True):
            wish.result = result
