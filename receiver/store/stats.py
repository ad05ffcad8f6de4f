"""Numbers about what waits, at a cost that grows neither with what is finished nor with what waits.

Counts end at ``MOST``: a queue of a hundred thousand is an alarm, whatever its exact length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, case, func, select

import handlers
from receiver import schedule
from receiver.models import LIVE, DeliveryStatus
from receiver.store.deliveries import waiting
from receiver.store.dialect import inline
from receiver.store.schema import deliveries, subscribers, tasks, workers

MOST = 100_000
"""What counts end at."""


def live_tasks(connection: Connection) -> Sequence[tuple[str, str, int]]:
    """(provider, status, number) of tasks that have not ended, where there are any."""
    counts = [
        (provider, status, _count(connection, select(tasks.c.due_at).where(*of_state)))
        for provider, status, of_state in _states()
    ]
    return [found for found in counts if found[2]]


def oldest_due_tasks(connection: Connection) -> Sequence[tuple[str, str, int]]:
    """(provider, status, when (ms) the one that waits longest for a worker falls or fell due), where any waits."""
    found = []
    for provider, status, of_state in _states():
        due = connection.execute(select(func.min(tasks.c.due_at)).where(*of_state)).scalar()
        if due is not None:
            found.append((provider, status, int(due)))
    return found


def _states() -> Iterator[tuple[str, str, Sequence[ColumnElement[bool]]]]:
    """Every provider with every state of a task that has not ended: each is one stretch of the index on due tasks."""
    for provider in handlers.available():
        for status in sorted(LIVE):
            yield provider, status, (
                tasks.c.provider == provider, tasks.c.status == status.value, tasks.c.due_at.is_not(None)
            )  # fmt: skip


def pending_deliveries(connection: Connection) -> int:
    """How many deliveries are to be attempted, now or later."""
    return _count(connection, select(deliveries.c.due_at).where(deliveries.c.due_at.is_not(None)))


def dead_deliveries(connection: Connection) -> int:
    """How many deliveries were given up, and are still listed."""
    return _count(connection, select(deliveries.c.account_id).where(deliveries.c.status == inline(DeliveryStatus.DEAD)))


def _count(connection: Connection, rows: Select[Any]) -> int:
    """How many rows, up to ``MOST``; they should ask for a column of the index alone, so that no row is read."""
    return int(connection.execute(select(func.count()).select_from(rows.limit(MOST).subquery())).scalar_one())


def waiting_subscribers(connection: Connection, now: int) -> tuple[int | None, int]:
    """When the delivery that has waited longest fell due (ms), and how many circuits are open.

    The delivery: of those that nothing holds back but us, so not to subscribers that are disabled, or that get nothing
    before a later time (an open circuit, a pause they asked for). Circuits: of subscribers that fail so steadily that
    only a probe now and then goes to them, and for which something waits. Asked at once: all who wait are gone through.
    """
    first = (
        select(func.min(deliveries.c.due_at))
        .where(deliveries.c.subscriber_id == subscribers.c.id, deliveries.c.due_at.is_not(None))
        .correlate(subscribers)
        .scalar_subquery()
    )
    is_held = subscribers.c.ready_at > now
    is_open = is_held & (subscribers.c.failures >= schedule.CIRCUIT_AFTER)
    query = select(func.min(case((~is_held, first))), func.count(case((is_open, 1)))).where(
        subscribers.c.id.in_(select(waiting().c.subscriber_id)),
        subscribers.c.disabled.is_(False),
        subscribers.c.deleted_at.is_(None),
    )
    due, circuits = connection.execute(query).one()
    return due, circuits


def disabled_subscribers(connection: Connection) -> int:
    """How many registered subscribers are disabled."""
    query = (
        select(func.count())
        .select_from(subscribers)
        .where(subscribers.c.disabled.is_(True), subscribers.c.task_only.is_(False), subscribers.c.deleted_at.is_(None))
    )
    return int(connection.execute(query).scalar_one())


def workers_seen(connection: Connection, since: int) -> int:
    """How many workers gave a sign of life since a time (ms)."""
    return int(connection.execute(select(func.count()).where(workers.c.seen_at >= since)).scalar_one())
