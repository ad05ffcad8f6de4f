"""Queries on deliveries and their attempts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import CTE, Connection, Row, Select, exists, func, insert, select, update

from receiver import events as event_rules
from receiver.models import Attempt, Delivery, DeliveryStatus, EventType, Page, Trigger
from receiver.store import dialect
from receiver.store.paging import are_few, columns_of, page
from receiver.store.prepared import Prepared
from receiver.store.schema import attempts, deliveries, subscribers

MOST_ENDED = 2000
"""Deliveries that are given up in one transaction: of a big backlog all at once would keep others from writing."""

MOST_NAMED = 10_000
"""Ids in one query: SQLite takes 32,766, PostgreSQL 65,535."""

# In the order of Delivery's fields; some are its subscriber's.
_COLUMNS = [
    (subscribers if field.name in ("url", "task_only") else deliveries).c[field.name] for field in fields(Delivery)
]


def of_subscribers() -> Select[Any]:
    """Deliveries with what ``from_row`` needs of their subscribers."""
    return select(*_COLUMNS).join(subscribers, subscribers.c.id == deliveries.c.subscriber_id)


_ADD = Prepared(
    insert(deliveries),
    "id",
    "account_id",
    "event_id",
    "event_type",
    "subscriber_id",
    "task_id",
    "status",
    "created_at",
    "due_at",
)


def from_row(row: Sequence[Any]) -> Delivery:
    """A row of ``of_subscribers`` as a Delivery; what columns follow is left alone."""
    (
        delivery_id, account_id, event_id, event_type, subscriber_id, task_id, url, status, created_at, due_at,
        made, base, fence, trigger, finished_at, reason, task_only, *_,
    ) = row  # fmt: skip
    return Delivery(
        delivery_id, account_id, event_id, EventType(event_type), subscriber_id, task_id, url, DeliveryStatus(status),
        created_at, due_at, made, base, fence, Trigger(trigger), finished_at, reason, bool(task_only),
    )  # fmt: skip


def add(connection: Connection, new: Sequence[Delivery]) -> None:
    """Store deliveries, of any events."""
    rows = [
        (
            delivery.id,
            delivery.account_id,
            delivery.event_id,
            delivery.event_type,
            delivery.subscriber_id,
            delivery.task_id,
            delivery.status,
            delivery.created_at,
            delivery.due_at,
        )
        for delivery in new
    ]
    _ADD.send(connection, rows)


def get(connection: Connection, delivery_id: str) -> Delivery | None:
    """The delivery, or None."""
    row = connection.execute(of_subscribers().where(deliveries.c.id == delivery_id)).first()
    return None if row is None else from_row(row)


def hold(connection: Connection, delivery_id: str) -> Delivery | None:
    """The delivery, or None; nobody else changes it until this transaction ends."""
    connection.execute(dialect.locked(select(deliveries.c.id).where(deliveries.c.id == delivery_id)))
    return get(connection, delivery_id)


def of_task(connection: Connection, task_id: str, most: int | None = None) -> Sequence[Delivery]:
    """The deliveries of a task's events, the newest ``most``, oldest first."""
    query = of_subscribers().where(deliveries.c.task_id == task_id).order_by(deliveries.c.id.desc()).limit(most)
    return [from_row(row) for row in reversed(connection.execute(query).all())]


def count_of_task(connection: Connection, task_id: str) -> int:
    """How many deliveries a task's events have."""
    query = select(func.count()).select_from(deliveries).where(deliveries.c.task_id == task_id)
    return int(connection.execute(query).scalar_one())


def of_event(connection: Connection, event_id: str, limit: int) -> Sequence[Delivery]:
    """Some deliveries of an event, oldest first."""
    rows = connection.execute(
        of_subscribers().where(deliveries.c.event_id == event_id).order_by(deliveries.c.id).limit(limit)
    )
    return [from_row(row) for row in rows]


@dataclass(frozen=True, slots=True)
class Filter:
    """What ``list_page`` narrows down to; None means any. ``event_type``: a type, or a pattern of types."""

    status: str | None = None
    subscriber: str | None = None
    task: str | None = None
    event_type: str | None = None


def list_page(
    connection: Connection, account_id: str, wanted: Filter, limit: int, cursor: str | None
) -> Page[Delivery]:
    """An account's deliveries, newest first."""
    if wanted.subscriber is not None:
        owner = select(subscribers.c.account_id).where(subscribers.c.id == wanted.subscriber)
        if connection.execute(owner).scalar() != account_id:
            return Page((), None)  # all that another account's got would be gone through for nothing
    query = of_subscribers().where(deliveries.c.account_id == account_id)
    if wanted.status is not None:
        query = query.where(deliveries.c.status == dialect.inline(DeliveryStatus(wanted.status)))
    if wanted.subscriber is not None:
        query = query.where(deliveries.c.subscriber_id == wanted.subscriber)
    if wanted.task is not None:  # so asked, SQLite too looks up the few of a task, and not all of the account's
        of_task = deliveries.alias()
        query = query.where(deliveries.c.id.in_(select(of_task.c.id).where(of_task.c.task_id == wanted.task)))
    if wanted.status == DeliveryStatus.PENDING.value:
        waiting_ones = _waiting_of(account_id, wanted.subscriber)
        if are_few(connection, waiting_ones):
            query = query.where(deliveries.c.id.in_(waiting_ones))
            if cursor is not None:  # in a form that no index has: SQLite would go through all that is older
                query, cursor = query.where(deliveries.c.id.concat("") < cursor), None
    if wanted.event_type is not None:
        query = query.where(deliveries.c.event_type.in_(event_rules.types_of(wanted.event_type)))
    return page(connection, query, deliveries.c.id, from_row, limit=limit, cursor=cursor)


def _waiting_of(account_id: str, subscriber_id: str | None) -> Select[Any]:
    """What waits for an account's subscriber, or for any of them: that of other accounts may be very many."""
    of_all = deliveries.alias()
    query = select(of_all.c.id).where(of_all.c.due_at.is_not(None))
    if subscriber_id is not None:
        return query.where(of_all.c.subscriber_id == subscriber_id)
    own = select(subscribers.c.id).where(
        subscribers.c.id.in_(select(waiting().c.subscriber_id)), subscribers.c.account_id == account_id
    )
    return query.where(of_all.c.subscriber_id.in_(own))


def waiting() -> CTE:
    """Subscribers with something to deliver, now or later, found by jumps along the index of what waits.

    So the cost does not grow with subscribers that have nothing to get, and there is one for every callback URL.
    """
    of_index = deliveries.c.due_at.is_not(None)
    jump = select(func.min(deliveries.c.subscriber_id).label("subscriber_id")).where(of_index).cte(recursive=True)
    beyond = select(func.min(deliveries.c.subscriber_id)).where(of_index, deliveries.c.subscriber_id > jump.c[0])
    return jump.union_all(select(beyond.correlate(jump).scalar_subquery()).where(jump.c[0].is_not(None)))


def end_pending(connection: Connection, subscriber_id: str, now: int, reason: str) -> int:
    """Give up pending deliveries of a subscriber, so many that nobody else waits for long; how many.

    Taken in the order of their ids, as whoever writes what came of attempts takes them: neither waits for the other.
    """
    some = select(deliveries.c.id).where(deliveries.c.subscriber_id == subscriber_id, deliveries.c.due_at.is_not(None))
    pending = select(deliveries.c.id).where(
        deliveries.c.id.in_(some.order_by(deliveries.c.due_at).limit(MOST_ENDED)),
        deliveries.c.status == DeliveryStatus.PENDING.value,
    )
    query = update(deliveries).where(deliveries.c.id.in_(dialect.locked(pending.order_by(deliveries.c.id))))
    values = {"status": DeliveryStatus.DEAD, "due_at": None, "leased": False, "finished_at": now, "reason": reason}
    return connection.execute(query.values(fence=deliveries.c.fence + 1, **values)).rowcount


def end_orphans(connection: Connection, now: int) -> int:
    """Give up what waits for a subscriber that was deleted, as far as one step goes; how many.

    It was written while another transaction deleted the subscriber, or the deletion was cut short.
    """
    # Only registered ones are deleted: those behind callback URLs, which may be any number, are not looked at.
    waits = exists().where(deliveries.c.subscriber_id == subscribers.c.id, deliveries.c.due_at.is_not(None))
    orphaned = select(subscribers.c.id).where(
        subscribers.c.task_only.is_(False), subscribers.c.deleted_at.is_not(None), waits
    )
    ordered = orphaned.order_by(subscribers.c.account_id, subscribers.c.id)  # as the index on registered ones has them
    subscriber_id = connection.execute(ordered.limit(1)).scalar()
    return 0 if subscriber_id is None else end_pending(connection, subscriber_id, now, "subscriber_deleted")


def attempts_of(
    connection: Connection, delivery_ids: Sequence[str], most: int | None = None, *, bodies: bool = True
) -> Sequence[Attempt]:
    """The attempts of some deliveries, the newest ``most``, oldest first; ``bodies``: and what came back.

    Of so many deliveries at a time as a query may name.
    """
    columns = columns_of(attempts) if bodies else columns_of(attempts, response_headers="{}", response_body="")
    newest_first = (attempts.c.started_at.desc(), attempts.c.number.desc())
    rows: list[Row[Any]] = []
    for place in range(0, len(delivery_ids), MOST_NAMED):
        named = attempts.c.delivery_id.in_(list(delivery_ids[place : place + MOST_NAMED]))
        rows += connection.execute(select(*columns).where(named).order_by(*newest_first).limit(most))
    rows.sort(key=lambda row: (row.started_at, row.number))
    return [
        Attempt(
            id=row.id,
            delivery_id=row.delivery_id,
            number=row.number,
            trigger=Trigger(row.trigger),
            started_at=row.started_at,
            duration_ms=row.duration_ms,
            response_status=row.response_status,
            response_headers=json.loads(row.response_headers),
            response_body=row.response_body,
            error=row.error,
            message=row.message,
        )
        for row in (rows if most is None else rows[-most:])
    ]
