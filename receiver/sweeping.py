"""Retention: what ended long ago is purged, in small steps that keep nobody waiting."""

from __future__ import annotations

from collections.abc import Callable

from receiver.faultpoints import reached
from receiver.store import Store, deliveries, events, notices, pacing, subscribers, tasks

STEP = 200
DAY = 86_400_000
KEYS_KEPT = 2 * DAY
"""Idempotency keys outlive the promised 24 hours by a day; their tasks stay at least as long."""
WORKER_FORGOTTEN = DAY


class SweepService:
    """Purges finished tasks with all that hangs on them, and what belongs to no task."""

    def __init__(self, store: Store, clock: Callable[[], int], *, retention_days: float) -> None:
        """``clock``: ms since the epoch."""
        self._store = store
        self._clock = clock
        self._kept = round(retention_days * DAY)

    def step(self) -> int:
        """Purge one small batch of each kind, and end what waits for nobody.

        Returns how many rows of tasks, notices, events and subscribers went.
        """
        now = self._clock()
        before = now - self._kept
        with self._store.write() as connection:
            tasks.purge_keys(connection, now - KEYS_KEPT)
            old = tasks.purgeable(connection, before, STEP)
            if old:
                tasks.purge(connection, old)
                reached("sweep.purged")
            deliveries.end_orphans(connection, now)
            gone = len(old)
            gone += notices.purge(connection, before, STEP)
            gone += events.purge(connection, before, STEP)
            gone += subscribers.purge_unused(connection, before, STEP)
        return gone

    def beat(self, worker_id: str) -> None:
        """Note that a worker lives."""
        with self._store.write() as connection:
            pacing.beat(connection, worker_id, self._clock())

    def forget(self, worker_id: str) -> None:
        """Note that a worker stops."""
        with self._store.write() as connection:
            pacing.forget(connection, worker_id, self._clock() - WORKER_FORGOTTEN)

    def last_beat(self) -> int | None:
        """When any worker was last seen alive (ms)."""
        with self._store.read() as connection:
            return pacing.last_beat(connection)
