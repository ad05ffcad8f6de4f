"""How much waits, for gauges: asked of the database when somebody looks, so that all processes agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from receiver.store import Store, pacing, stats, tasks


@dataclass(frozen=True, slots=True)
class Stats:
    """The service at one moment. Ages in seconds: how late the most overdue one is, 0 when none is.

    ``tasks``: (provider, status, number) of live tasks. ``worker_age``: since a worker was last seen, or
    None when none ever was.
    """

    tasks: Sequence[tuple[str, str, int]]
    task_age: float
    deliveries_pending: int
    deliveries_dead: int
    delivery_age: float
    subscribers_disabled: int
    worker_age: float | None


class StatsService:
    """Reads the numbers, of all accounts together."""

    def __init__(self, store: Store, clock: Callable[[], int]) -> None:
        """``clock``: ms since the epoch."""
        self._store = store
        self._clock = clock

    def read(self) -> Stats:
        """The numbers now. Raises Busy."""
        now = self._clock()
        with self._store.read() as connection:
            seen = pacing.last_beat(connection)
            return Stats(
                tasks=tasks.count_by_state(connection),
                task_age=_age(stats.oldest_due_task(connection), now),
                deliveries_pending=stats.pending_deliveries(connection),
                deliveries_dead=stats.dead_deliveries(connection),
                delivery_age=_age(stats.oldest_due_delivery(connection), now),
                subscribers_disabled=stats.disabled_subscribers(connection),
                worker_age=None if seen is None else _age(seen, now),
            )


def _age(due: int | None, now: int) -> float:
    return 0.0 if due is None else max(0, now - due) / 1000
