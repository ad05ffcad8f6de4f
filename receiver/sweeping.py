"""Retention, in small steps that keep nobody waiting; and the signs of life by which workers know of each other."""

from __future__ import annotations

from collections.abc import Callable

from receiver.faultpoints import reached
from receiver.schedule import DAY
from receiver.store import Store, backlog, claiming, deliveries, pacing, purging, tasks

STEP = 50
"""Rows of each kind in one transaction; with all that hangs on 50 tasks it holds SQLite's only writer for some 6 ms."""
KEYS_KEPT = 2 * DAY
"""Idempotency keys outlive the promised 24 hours by a day; their tasks stay at least as long."""
WORKER_FORGOTTEN = DAY
"""So long (ms) without a sign of life, and the row of a worker goes with the next one that is buried."""
SOON = 60_000
"""When (ms) what a wrong clock has put off for years comes due: whoever has it in hand now is given time to end."""


class SweepService:
    """Purges finished tasks with all that hangs on them, and what belongs to no task. Notes which workers live."""

    def __init__(self, store: Store, clock: Callable[[], int], *, retention_days: float) -> None:
        """``clock``: ms since the epoch."""
        self._store = store
        self._clock = clock
        self._kept = round(retention_days * DAY)

    def step(self) -> int:
        """Purge one small batch of each kind, and end what waits for nobody, in a few transactions.

        Each takes deliveries away of one kind of row only: these are taken in the order of their ids, as everybody
        takes them, so that nobody who sends old ones again waits for what waits for them. Notices come behind events,
        so that nobody who purges a task with its notices waits for who waits for deliveries. Subscribers go last,
        when little else is left: all old ones are gone through for that, and nobody waits meanwhile. Then comes what
        a wrong clock has put off for years: subscribers that are held, deliveries, and tasks.

        Returns how many deliveries were ended, subscribers, deliveries and tasks let go, and rows of keys, tasks,
        notices, events and subscribers went (tasks that others took meanwhile count as well): 0 when nothing is left
        to do.
        """
        now = self._clock()
        before = now - self._kept
        with self._store.write() as connection:
            gone = purging.purge_keys(connection, now - KEYS_KEPT, STEP)
            gone += deliveries.end_orphans(connection, now)
        gone += self._purge_tasks(before)
        with self._store.write() as connection:
            for purge in (purging.purge_events, purging.purge_notices):
                gone += purge(connection, before, STEP)
        if gone < STEP:
            gone += self._purge_subscribers(before)
        return gone or self._end_endless_holds(now) or self._end_endless_waits(now)

    def _purge_tasks(self, before: int) -> int:
        with self._store.read() as connection:  # perhaps hundreds of thousands must stay: nobody waits for that
            old = purging.old_tasks(connection, before, STEP)
        if not old:
            return 0
        with self._store.write() as connection:
            gone = purging.purge_tasks(connection, old)
            reached("sweep.purged")
        return gone or len(old)  # others were faster with all of these: there may be more

    def _purge_subscribers(self, before: int) -> int:
        with self._store.read() as connection:
            unused = purging.unused_subscribers(connection, before, STEP)
        if not unused:
            return 0
        with self._store.write() as connection:
            return purging.purge_subscribers(connection, unused)

    def _end_endless_holds(self, now: int) -> int:
        with self._store.read() as connection:  # all subscribers are gone through: nobody waits for that
            held = backlog.endless_holds(connection, now)
        if held:
            with self._store.write() as connection:
                backlog.end_holds(connection, held, now)
        return len(held)

    def _end_endless_waits(self, now: int) -> int:
        with self._store.read() as connection:  # as for holds
            waiting = backlog.endless_waits(connection, now)
        ended = 0
        for subscriber_id in waiting:
            with self._store.write() as connection:
                ended += backlog.end_waits(connection, subscriber_id, now, now + SOON)
        with self._store.read() as connection:
            endless = tasks.endless(connection, now, STEP)
        if endless:
            with self._store.write() as connection:
                ended += tasks.end_waits(connection, endless, now, now + SOON)
        return ended

    def count_old_tasks(self) -> int:
        """How many tasks ended before the time of retention; those that are kept for a subscriber count too."""
        with self._store.read() as connection:
            return purging.count_tasks(connection, self._clock() - self._kept)

    def beat(self, worker_id: str) -> None:
        """Note that a worker lives."""
        with self._store.write(flushed=False) as connection:
            pacing.beat(connection, worker_id, self._clock())

    def bury(self, worker_id: str) -> int:
        """Let the deliveries of a worker that has ended be attempted now, before its leases end; how many.

        Deliveries alone: they are made at least once. A task that was being submitted keeps its lease, since
        nobody knows whether it was bought; its end says so. ``worker_id``: of one that certainly makes no attempt
        any more, or whose process ends next.
        """
        now = self._clock()
        with self._store.write() as connection:
            given = claiming.give_back(connection, worker_id, now)
            pacing.forget(connection, worker_id, now - WORKER_FORGOTTEN)
            return given

    def last_beat(self) -> int | None:
        """When any worker was last seen alive (ms)."""
        with self._store.read() as connection:
            return pacing.last_beat(connection)
