"""How much waits, for gauges: asked of the database when somebody looks, so that all processes agree."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from receiver.store import Store, pacing, stats

FRESH = 3000
"""For how long (ms) the numbers are given again to people who look: however many look, it costs as much as one."""
WORKER_SEEN = 15_000
"""Milliseconds within which a worker must have been seen to count as there."""


@dataclass(frozen=True, slots=True)
class Stats:
    """The service at one moment. Ages in seconds: how late the most overdue one is, 0 when none is.

    ``tasks``: (provider, status, number) of live tasks. ``task_ages``: (provider, status, age) of those that
    wait for a worker. Numbers of tasks and deliveries end at ``store.stats.MOST``. ``worker_age``: since a
    worker was last seen, or None when none ever was; ``workers``: how many were seen lately.
    """

    tasks: Sequence[tuple[str, str, int]]
    task_ages: Sequence[tuple[str, str, float]]
    deliveries_pending: int
    deliveries_dead: int
    delivery_age: float
    subscribers_disabled: int
    circuits_open: int
    worker_age: float | None
    workers: int


class StatsService:
    """Reads the numbers, of all accounts together."""

    def __init__(self, store: Store, clock: Callable[[], int]) -> None:
        """``clock``: ms since the epoch."""
        self._store = store
        self._clock = clock
        self._kept: tuple[int, Stats] | None = None
        self._lock = threading.Lock()

    def lately(self) -> Stats:
        """The numbers, FRESH old at most. Raises Busy."""
        with self._lock:
            now = self._clock()
            if self._kept is None or not 0 <= now - self._kept[0] < FRESH:
                self._kept = now, self.read()
            return self._kept[1]

    def read(self) -> Stats:
        """The numbers now. Raises Busy."""
        now = self._clock()
        with self._store.read() as connection:
            seen = pacing.last_beat(connection)
            due, circuits = stats.waiting_subscribers(connection, now)
            return Stats(
                tasks=stats.live_tasks(connection),
                task_ages=[
                    (provider, status, _age(due, now)) for provider, status, due in stats.oldest_due_tasks(connection)
                ],
                deliveries_pending=stats.pending_deliveries(connection),
                deliveries_dead=stats.dead_deliveries(connection),
                delivery_age=_age(due, now),
                subscribers_disabled=stats.disabled_subscribers(connection),
                circuits_open=circuits,
                worker_age=None if seen is None else _age(seen, now),
                workers=stats.workers_seen(connection, now - WORKER_SEEN),
            )


def _age(due: int | None, now: int) -> float:
    return 0.0 if due is None else max(0, now - due) / 1000
