"""What all workers share beside the work itself: providers' free slots, and signs of life."""

from __future__ import annotations

from sqlalchemy import BigInteger, Connection, bindparam, case, func, select, update

from receiver import schedule
from receiver.store import dialect
from receiver.store.prepared import Prepared
from receiver.store.schema import paces, workers

MOST_AHEAD = 70 * 60_000
"""How far ahead of its interval (ms) a free slot can be: a provider's pause is an hour at most, and clocks differ. What
lies beyond was written by a clock that was wrong; it would hold back all tasks of a provider until it were right."""

_FREE = select(paces.c.next_free).where(paces.c.name == bindparam("called"))
_NEXT_FREE = Prepared(_FREE, "called")
_TURN = Prepared(dialect.locked(_FREE), "called")
_SET_FREE = Prepared(
    update(paces).where(paces.c.name == bindparam("called")).values(next_free=bindparam("free", type_=BigInteger)),
    "called",
    "free",
)

_SEEN = Prepared(
    update(workers).where(workers.c.id == bindparam("worker")).values(seen_at=bindparam("now", type_=BigInteger)),
    "now",
    "worker",
)


def reserve(
    connection: Connection, name: str, free: int, rate: float, now: int, horizon: int, wanted: int
) -> tuple[list[int], int]:
    """Reserve starting times (ms) for up to ``wanted`` calls at ``rate`` per second, within ``horizon`` ms.

    ``free``: what ``take_turn`` gave in this transaction; the one row per name makes the rate hold over all workers
    of all machines. Returns the times, and when the next call may start.
    """
    earliest = min(free, _latest(now, rate))
    times, following = schedule.slots(earliest, now, rate, horizon, wanted)
    if following != free:
        _SET_FREE.run(connection, [(name, following)])
    return times, following


def take_turn(connection: Connection, name: str) -> int:
    """Keep all others from reserving calls of this name until the transaction ends; when the next may start."""
    found = _TURN.fetch(connection, (name,))
    if not found:  # the first call of this name
        connection.execute(dialect.insert_or_nothing(paces).values(name=name, next_free=0))
        found = _TURN.fetch(connection, (name,))
    return int(found[0][0])


def postpone(connection: Connection, name: str, until: int) -> None:
    """Let no call of this name start before a time (the provider asked for a pause)."""
    connection.execute(dialect.insert_or_nothing(paces).values(name=name, next_free=0))
    connection.execute(update(paces).where(paces.c.name == name, paces.c.next_free < until).values(next_free=until))


def charge(connection: Connection, name: str, now: int, time: int) -> None:
    """Let calls of this name begin so much later (ms): some were made without a slot of their own."""
    free = case((paces.c.next_free > now, paces.c.next_free), else_=now)
    connection.execute(update(paces).where(paces.c.name == name).values(next_free=free + time))


def next_free(connection: Connection, name: str, now: int, rate: float) -> int:
    """When the next call of this name may start.

    ``now`` in place of what a wrong clock has written: whoever takes a turn then sets it right (``reserve``).
    """
    found = _NEXT_FREE.fetch(connection, (name,))
    free = int(found[0][0]) if found else 0
    return free if free <= _latest(now, rate) else now


def _latest(now: int, rate: float) -> int:
    return now + MOST_AHEAD + round(1000 / rate)


def held_back(connection: Connection, until: int) -> dict[str, int]:
    """The names whose next call may not start before a time, and when (ms) it may."""
    found = connection.execute(select(paces.c.name, paces.c.next_free).where(paces.c.next_free >= until))
    return {row.name: row.next_free for row in found}


def beat(connection: Connection, worker_id: str, now: int) -> None:
    """Note that a worker lives."""
    if not _SEEN.run(connection, [(now, worker_id)]):
        connection.execute(dialect.insert_or_nothing(workers).values(id=worker_id, started_at=now, seen_at=now))


def last_beat(connection: Connection) -> int | None:
    """When any worker was last seen alive (ms), or None when none ever was."""
    seen: int | None = connection.execute(select(func.max(workers.c.seen_at))).scalar_one()
    return seen


def forget(connection: Connection, worker_id: str, older_than: int) -> None:
    """Remove a worker that stops, and those not seen since a time."""
    connection.execute(workers.delete().where((workers.c.id == worker_id) | (workers.c.seen_at < older_than)))
