"""Queries that send again: by hand, by replay, and when a subscriber that was disabled comes back."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, and_, select, update

from receiver.models import DeliveryStatus, Trigger
from receiver.store.schema import deliveries

DRAIN_STEP = 50
"""A backlog or a replay comes due at this many deliveries a second, so that it does not fall on the subscriber."""


def bring_forward(connection: Connection, delivery_id: str, now: int) -> None:
    """Let a pending delivery that is not being attempted right now be attempted now, by hand."""
    connection.execute(
        update(deliveries)
        .where(
            deliveries.c.id == delivery_id,
            deliveries.c.status == DeliveryStatus.PENDING.value,
            deliveries.c.leased.is_(False) | (deliveries.c.due_at <= now),
        )
        .values(due_at=now, trigger=Trigger.MANUAL)
    )


def replayable(
    connection: Connection,
    subscriber_id: str,
    since: int,
    until: int | None,
    statuses: Sequence[str],
    fresh_since: int,
) -> Sequence[str]:
    """Ids of a subscriber's ended deliveries created in a span of time (ms), oldest first.

    Without those that were sent again already, and delivered since ``fresh_since`` (ms).
    """
    sent_again = and_(
        deliveries.c.status == DeliveryStatus.DELIVERED.value,
        deliveries.c.base > 0,
        deliveries.c.finished_at >= fresh_since,
    )
    query = select(deliveries.c.id).where(
        deliveries.c.subscriber_id == subscriber_id,
        deliveries.c.created_at >= since,
        deliveries.c.status.in_(list(statuses)),
        ~sent_again,
    )
    if until is not None:
        query = query.where(deliveries.c.created_at < until)
    return connection.execute(query.order_by(deliveries.c.id)).scalars().all()


def revive(connection: Connection, ids: Sequence[str], now: int, trigger: Trigger) -> int:
    """Make ended deliveries pending again, due now, with a fresh run of the schedule; how many."""
    revived = 0
    for start in range(0, len(ids), 500):
        revived += connection.execute(
            update(deliveries)
            .where(
                and_(deliveries.c.id.in_(ids[start : start + 500]), deliveries.c.status != DeliveryStatus.PENDING.value)
            )
            .values(
                status=DeliveryStatus.PENDING,
                due_at=now,
                base=deliveries.c.attempts,
                trigger=trigger,
                finished_at=None,
                reason=None,
            )
        ).rowcount
    return revived


def spread(connection: Connection, subscriber_id: str, now: int, per_second: int) -> None:
    """Let a subscriber's overdue deliveries come due one after the other, oldest first, at a bounded rate."""
    overdue = (
        select(deliveries.c.id)
        .where(deliveries.c.subscriber_id == subscriber_id, deliveries.c.due_at <= now, deliveries.c.leased.is_(False))
        .order_by(deliveries.c.id)
    )
    ids = connection.execute(overdue).scalars().all()
    for place in range(per_second, len(ids), per_second):
        due = now + 1000 * (place // per_second)
        batch = list(ids[place : place + per_second])
        connection.execute(update(deliveries).where(deliveries.c.id.in_(batch)).values(due_at=due))
