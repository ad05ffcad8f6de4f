"""Queries that let what waits, or has ended, come due at another time.

By hand, by replay, when a subscriber that was disabled comes back, and when a clock that was wrong has put it off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Select, and_, case, func, literal, select, update

from receiver.models import DeliveryStatus, Trigger, first_id
from receiver.schedule import DAY
from receiver.store import dialect
from receiver.store import subscribers as subscriber_queries
from receiver.store.schema import deliveries, subscribers

LONGEST_HOLD = 2 * DAY
"""For how long (ms) a subscriber can be held: a pause that it asks for is a day at most, and clocks differ. What lies
beyond was written by a clock that was wrong, and would hold back all that it is to get until it were right."""
LONGEST_WAIT = 36 * DAY
"""For how long (ms) a delivery can wait for its next attempt: 31 days and their jitter at most, and clocks differ. What
lies beyond was written by a clock that was wrong, like a longer hold."""
DRAIN_RATE = 50
"""Deliveries a second at which a backlog or a replay comes due, so that it does not fall on the subscriber at once."""
STEP = 100 * DRAIN_RATE
"""Deliveries that are moved in one transaction: of a big backlog all at once would keep others from writing."""


def head_of_line(connection: Connection, subscriber_id: str, now: int) -> int:
    """A due time (ms) before that of everything that waits for a subscriber.

    Of a backlog behind an open circuit one delivery is tried at a time, the longest due first.
    """
    waiting = deliveries.c.subscriber_id == subscriber_id, deliveries.c.due_at.is_not(None)
    first: int | None = connection.execute(select(func.min(deliveries.c.due_at)).where(*waiting)).scalar_one()
    return now if first is None else min(first - 1, now)


def bring_forward(connection: Connection, delivery_id: str, now: int, due: int) -> None:
    """Let a pending delivery, which this transaction holds, come due at a time, to be attempted by hand.

    One that is being attempted right now keeps its lease; whoever writes what came of it sees that another is wanted.
    """
    under_way = and_(deliveries.c.leased, deliveries.c.due_at > now)
    connection.execute(
        update(deliveries)
        .where(deliveries.c.id == delivery_id)
        .values(due_at=case((under_way, deliveries.c.due_at), else_=due), trigger=Trigger.MANUAL)
    )


@dataclass(frozen=True, slots=True)
class Span:
    """Which ended deliveries of a subscriber are meant: created from ``since`` (ms) to before ``until`` (None: now).

    Without those that were sent again already, and delivered since ``fresh_since`` (ms).
    """

    since: int
    until: int | None
    statuses: Sequence[str]
    fresh_since: int


def _meant(span: Span) -> Sequence[ColumnElement[bool]]:
    """What a delivery is like that is sent again, whosever and however old it is."""
    sent_again = and_(
        deliveries.c.status == DeliveryStatus.DELIVERED.value,
        deliveries.c.base > 0,
        deliveries.c.finished_at >= span.fresh_since,
    )
    return deliveries.c.status.in_(list(span.statuses)), ~sent_again


def _replayable(subscriber_id: str, span: Span) -> Select[Any]:
    query = select(deliveries.c.id).where(
        deliveries.c.subscriber_id == subscriber_id,
        deliveries.c.id >= first_id("dlv", span.since),  # an id begins with the time of creation, and has an index
        *_meant(span),
    )
    return query if span.until is None else query.where(deliveries.c.id < first_id("dlv", span.until))


def count_replayable(connection: Connection, subscriber_id: str, span: Span, limit: int) -> int:
    """How many deliveries a replay of this span would send again, counted up to a limit."""
    some = _replayable(subscriber_id, span).limit(limit).subquery()
    return int(connection.execute(select(func.count()).select_from(some)).scalar_one())


def count_waiting(
    connection: Connection, subscriber_id: str, limit: int, trigger: Trigger | None = None, *, failed: bool = False
) -> int:
    """How many deliveries wait for a subscriber, counted up to a limit.

    ``trigger``: only those to be attempted so. ``failed``: only those whose last attempt failed.
    """
    waiting = select(deliveries.c.id).where(
        deliveries.c.subscriber_id == subscriber_id, deliveries.c.due_at.is_not(None)
    )
    if trigger is not None:
        waiting = waiting.where(deliveries.c.trigger == trigger.value)
    if failed:
        waiting = waiting.where(deliveries.c.attempts > deliveries.c.base)
    return int(connection.execute(select(func.count()).select_from(waiting.limit(limit).subquery())).scalar_one())


def revive(connection: Connection, ids: Sequence[str], due: int, trigger: Trigger) -> None:
    """Make ended deliveries pending again, due at a time (ms), with a fresh run of the schedule."""
    ended = deliveries.c.id.in_(ids), deliveries.c.status != DeliveryStatus.PENDING.value
    connection.execute(update(deliveries).where(*ended).values(_revived(due, trigger)))


def _revived(due: int | ColumnElement[int], trigger: Trigger) -> dict[str, Any]:
    return {
        "status": DeliveryStatus.PENDING,
        "due_at": due,
        "base": deliveries.c.attempts,
        "trigger": trigger,
        "finished_at": None,
        "reason": None,
    }


def replayable(connection: Connection, subscriber_id: str, span: Span, behind: str) -> Sequence[str]:
    """The deliveries of the next step of a replay, behind the last id of the step before: for ``replay``.

    Where few are meant, all that the subscriber has may be gone through for them: nobody should wait meanwhile.
    """
    query = _replayable(subscriber_id, span).where(deliveries.c.id > behind).order_by(deliveries.c.id).limit(STEP)
    return connection.execute(query).scalars().all()


def replay(connection: Connection, ids: Sequence[str], span: Span, now: int, *, place: int) -> int:
    """Make a step's deliveries, of a subscriber that is held, pending again, to be sent by hand; how many.

    Those that are no longer what ``span`` means stay. ``place``: how many the steps before have revived; the oldest
    come due first, at a bounded rate from ``now`` (ms) on.

    Taken in the order of their ids, as a purge of what is old takes them: neither waits for the other.
    """
    taken = select(deliveries.c.id).where(deliveries.c.id.in_(ids), *_meant(span)).order_by(deliveries.c.id)
    some = dialect.locked(taken).subquery()
    before = func.row_number().over(order_by=some.c.id) - 1 + place
    placed = select(some.c.id, (before // DRAIN_RATE).label("second")).subquery()
    due = literal(now, BigInteger) + 1000 * placed.c.second
    query = update(deliveries).where(deliveries.c.id == placed.c.id)
    return connection.execute(query.values(_revived(due, Trigger.MANUAL))).rowcount


def spread(connection: Connection, subscriber_id: str, now: int) -> bool:
    """Let the overdue deliveries of a subscriber that is held come due in turn, at a bounded rate from ``now`` (ms) on.

    Those that have been due for longest are first. Of more than a STEP only the last ones, which must wait for
    longest, so that whoever then lets the subscriber have the rest finds none that was passed over. Whether all are.
    """
    overdue = deliveries.c.subscriber_id == subscriber_id, deliveries.c.due_at <= now
    count = connection.execute(select(func.count()).select_from(deliveries).where(*overdue)).scalar_one()
    last = select(deliveries.c.id).where(*overdue, deliveries.c.leased.is_(False))
    last = last.order_by(deliveries.c.due_at.desc()).limit(STEP)
    # Taken in the order of their ids, as a purge of what is old takes them: neither waits for the other.
    taken = select(deliveries.c.id, deliveries.c.due_at).where(deliveries.c.id.in_(last)).order_by(deliveries.c.id)
    some = dialect.locked(taken).subquery()
    backwards = func.row_number().over(order_by=(some.c.due_at.desc(), some.c.id.desc()))
    placed = select(some.c.id, ((count - backwards) // DRAIN_RATE).label("second")).subquery()
    moved = connection.execute(
        update(deliveries)
        .where(deliveries.c.id == placed.c.id, placed.c.second > 0)
        .values(due_at=literal(now, BigInteger) + 1000 * placed.c.second)
    ).rowcount
    return count <= STEP or not moved


def reopen(connection: Connection, subscriber_id: str, now: int) -> bool:
    """Enable a subscriber that only tasks name, which nobody else could, and let its backlog drain; or make a step.

    Whether nothing is left to do: it is enabled, or not there any more.
    """
    present = subscriber_queries.some(connection, [subscriber_id], held=True).get(subscriber_id)
    if present is None or not present.disabled:
        return True
    if not spread(connection, subscriber_id, now):
        return False
    subscriber_queries.enable(connection, subscriber_id)
    return True


def endless_holds(connection: Connection, now: int) -> Sequence[str]:
    """Subscribers that are held for longer than anybody can be, as many as can be released in one step."""
    query = select(subscribers.c.id).where(subscribers.c.ready_at > now + LONGEST_HOLD)
    return connection.execute(query.limit(STEP)).scalars().all()


def endless_waits(connection: Connection, now: int) -> Sequence[str]:
    """Subscribers for which something waits longer than any schedule says, as many as can be helped in one step."""
    last = select(func.max(deliveries.c.due_at))
    last = last.where(deliveries.c.subscriber_id == subscribers.c.id, deliveries.c.due_at.is_not(None))
    query = select(subscribers.c.id).where(last.scalar_subquery() > now + LONGEST_WAIT)
    return connection.execute(query.limit(STEP)).scalars().all()


def end_waits(connection: Connection, subscriber_id: str, now: int, due: int) -> int:
    """Let deliveries that wait longer than any schedule says come due at a time, as far as one step goes; how many."""
    late = select(deliveries.c.id).where(
        deliveries.c.subscriber_id == subscriber_id, deliveries.c.due_at > now + LONGEST_WAIT
    )
    ids = connection.execute(dialect.locked(late.order_by(deliveries.c.id).limit(STEP))).scalars().all()
    connection.execute(update(deliveries).where(deliveries.c.id.in_(ids)).values(due_at=due))
    return len(ids)


def end_holds(connection: Connection, subscriber_ids: Sequence[str], now: int) -> None:
    """Let subscribers have what they are to get.

    Taken in the order of their ids, as whoever writes what came of attempts takes them: neither waits for the other.
    """
    named = select(subscribers.c.id).where(subscribers.c.id.in_(subscriber_ids)).order_by(subscribers.c.id)
    connection.execute(update(subscribers).where(subscribers.c.id.in_(dialect.locked(named))).values(ready_at=now))
