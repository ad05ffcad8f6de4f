"""Numbers about what waits, at a cost that does not grow with what is finished."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from receiver.models import DeliveryStatus
from receiver.store.dialect import inline
from receiver.store.schema import deliveries, subscribers, tasks


def oldest_due_task(connection: Connection) -> int | None:
    """When the task that has waited longest for a worker fell due (ms), or None when no task waits."""
    due: int | None = connection.execute(select(func.min(tasks.c.due_at)).where(tasks.c.due_at.is_not(None))).scalar()
    return due


def pending_deliveries(connection: Connection) -> int:
    """How many deliveries are to be attempted, now or later."""
    query = select(func.count()).select_from(deliveries).where(deliveries.c.due_at.is_not(None))
    return int(connection.execute(query).scalar_one())


def dead_deliveries(connection: Connection) -> int:
    """How many deliveries were given up, and are still listed."""
    query = select(func.count()).select_from(deliveries).where(deliveries.c.status == inline(DeliveryStatus.DEAD))
    return int(connection.execute(query).scalar_one())


def oldest_due_delivery(connection: Connection) -> int | None:
    """When the delivery that has waited longest fell due (ms); those to disabled subscribers do not count."""
    query = (
        select(func.min(deliveries.c.due_at))
        .join(subscribers, subscribers.c.id == deliveries.c.subscriber_id)
        .where(deliveries.c.due_at.is_not(None), subscribers.c.disabled.is_(False), subscribers.c.deleted_at.is_(None))
    )
    due: int | None = connection.execute(query).scalar()
    return due


def disabled_subscribers(connection: Connection) -> int:
    """How many registered subscribers are disabled."""
    query = (
        select(func.count())
        .select_from(subscribers)
        .where(subscribers.c.disabled.is_(True), subscribers.c.task_only.is_(False), subscribers.c.deleted_at.is_(None))
    )
    return int(connection.execute(query).scalar_one())
