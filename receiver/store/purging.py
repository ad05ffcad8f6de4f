"""Queries of retention: each deletes a few rows, found by an index at a cost that does not grow with what is young.

Ids sort by time, so "older than" is a range of ids and needs no index of its own. On PostgreSQL rows that
somebody holds are passed over: workers that purge side by side share the work and keep nobody waiting. Deliveries
that go with their events are taken in the order of their ids, as everybody takes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    ScalarSelect,
    Select,
    Table,
    exists,
    func,
    literal_column,
    select,
)

from receiver.models import first_id
from receiver.store import dialect
from receiver.store.events import place_before
from receiver.store.schema import deliveries, events, idempotency_keys, notices, subscribers, tasks

MOST_HANGING = 5000
"""Deliveries and attempts that go with their tasks, or events, in one transaction; of one all go together."""

_UNNAMED = ~exists().where(deliveries.c.subscriber_id == subscribers.c.id)


def purge_keys(connection: Connection, created_before: int, limit: int) -> int:
    """Forget idempotency keys bound before a time (ms), each as old as its task; how many."""
    task_id = idempotency_keys.c.task_id
    old = select(task_id).where(task_id < first_id("task", created_before)).order_by(task_id)
    return _delete(connection, idempotency_keys, task_id, old.limit(limit))


def old_tasks(connection: Connection, finished_before: int, limit: int) -> Sequence[str]:
    """Tasks that ended before a time (ms) and may be purged, the oldest first; fewer where much hangs on them.

    Not those whose idempotency key still holds, nor those of which a subscriber that is not disabled is
    still to be told. All of these that are old are gone through for that.
    """
    held = exists().where(idempotency_keys.c.task_id == tasks.c.id)
    old = select(tasks.c.id, _hanging(deliveries.c.task_id == tasks.c.id)).where(
        tasks.c.finished_at.is_not(None),
        tasks.c.finished_at < finished_before,
        ~held,
        ~_owed(deliveries.c.task_id == tasks.c.id),
    )
    return _not_too_many(connection, old.order_by(tasks.c.finished_at).limit(limit))


def purge_tasks(connection: Connection, ids: Sequence[str]) -> int:
    """Delete these old tasks, with all that hangs on them (the database cascades); how many.

    But for those of which a subscriber is to be told once more, by a replay since they were looked for.
    """
    return _delete(connection, tasks, tasks.c.id, select(tasks.c.id).where(tasks.c.id.in_(ids)), deliveries.c.task_id)


def count_tasks(connection: Connection, finished_before: int) -> int:
    """How many tasks ended before a time (ms); the index alone is read."""
    old = select(func.count()).where(tasks.c.finished_at.is_not(None), tasks.c.finished_at < finished_before)
    return int(connection.execute(old.select_from(tasks)).scalar_one())


def purge_notices(connection: Connection, received_before: int, limit: int) -> int:
    """Delete notices that came before a time (ms), whose tasks live on; how many."""
    old = select(notices.c.id).where(notices.c.id < first_id("ntc", received_before)).order_by(notices.c.id)
    return _delete(connection, notices, notices.c.id, old.limit(limit))


def purge_events(connection: Connection, created_before: int, limit: int) -> int:
    """Delete events of no task that are older than a time (ms) and wait for no delivery; how many.

    Fewer where much hangs on them. Those of them that are young are not gone through: by their places they come later.
    """
    before = first_id("evt", created_before)
    old = select(events.c.id, _hanging(deliveries.c.event_id == events.c.id)).where(
        events.c.task_id.is_(None),
        events.c.id < before,
        events.c.seq <= place_before(before),
        ~_owed(deliveries.c.event_id == events.c.id),
    )
    some = select(events.c.id).where(events.c.id.in_(_not_too_many(connection, old.limit(limit))))
    return _delete(connection, events, events.c.id, some, deliveries.c.event_id)


def unused_subscribers(connection: Connection, before: int, limit: int) -> Sequence[str]:
    """Subscribers deleted, or task-only ones made, before a time (ms) that no delivery names any more.

    Not those deleted since: somebody may just be writing a delivery to one that was there when it was looked up. All
    old ones behind callback URLs that are in use are gone through for that.
    """
    gone = subscribers.c.task_only.is_(True) | (subscribers.c.deleted_at < before)
    query = select(subscribers.c.id).where(subscribers.c.id < first_id("sub", before), gone, _UNNAMED)
    return connection.execute(query.order_by(subscribers.c.id).limit(limit)).scalars().all()


def purge_subscribers(connection: Connection, ids: Sequence[str]) -> int:
    """Delete those of these subscribers that are still unused; how many."""
    still = select(subscribers.c.id).where(subscribers.c.id.in_(ids), _UNNAMED).order_by(subscribers.c.id)
    return _delete(connection, subscribers, subscribers.c.id, still)


def _hanging(of_row: ColumnElement[bool]) -> ScalarSelect[int]:
    """How many deliveries and attempts go with a row, of which these deliveries are."""
    every = func.coalesce(func.sum(1 + deliveries.c.attempts), 0)
    return select(every).where(of_row).scalar_subquery()


def _not_too_many(connection: Connection, query: Select[Any]) -> list[str]:
    """The first ids of a query that also says what hangs on each; at least one."""
    some: list[str] = []
    together = 0
    for found, hung in connection.execute(query):
        together += hung
        if some and together > MOST_HANGING:
            break
        some.append(found)
    return some


def _owed(of_row: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether a subscriber that is not disabled is still to get one of these deliveries.

    Found by what they are deliveries of. PostgreSQL counts what waits rarely, and where it knows of nothing it would
    rather go through all that does, for each row, and a backlog is large: so it must not see that an index has it. No
    EXISTS: for many rows it would rather go through all deliveries, at each step of a long purge.
    """
    waits = (deliveries.c.due_at + literal_column("0")).is_not(None)
    to_get = subscribers.c.id == deliveries.c.subscriber_id, subscribers.c.disabled.is_(False)
    return select(func.count()).where(of_row, waits, *to_get).scalar_subquery() > 0


def _delete(
    connection: Connection, table: Table, key: Column[str], old: Select[Any], cascade: Column[str] | None = None
) -> int:
    """Delete the rows of a query; how many. ``cascade``: the column of those deliveries that go with them."""
    ids = connection.execute(dialect.deletable(old)).scalars().all()
    if not ids:
        return 0
    gone = table.delete().where(key.in_(ids))
    if cascade is not None:
        theirs = select(deliveries.c.id).where(cascade.in_(ids)).order_by(deliveries.c.id)
        connection.execute(dialect.locked(theirs))
        gone = gone.where(~_owed(cascade == key))  # what was sent again between the look and the lock stays
    return connection.execute(gone).rowcount
