"""Queries on deliveries and attempts: the claim that is fair between subscribers, and the results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    Connection,
    Integer,
    Row,
    Select,
    Text,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    select,
    update,
)

from receiver import schedule
from receiver.models import Attempt, Delivery, DeliveryStatus, EventType, Page, Subscriber, Trigger
from receiver.store import dialect
from receiver.store import subscribers as subscriber_queries
from receiver.store.paging import page
from receiver.store.schema import accounts, attempts, deliveries, events, subscribers


def _select() -> Select[Any]:
    columns = (subscribers.c.url, subscribers.c.task_only)
    return select(deliveries, *columns).join(subscribers, subscribers.c.id == deliveries.c.subscriber_id)


def _record(row: Row[Any]) -> Delivery:
    return Delivery(
        id=row.id,
        account_id=row.account_id,
        event_id=row.event_id,
        event_type=EventType(row.event_type),
        subscriber_id=row.subscriber_id,
        task_id=row.task_id,
        url=row.url,
        status=DeliveryStatus(row.status),
        created_at=row.created_at,
        due_at=row.due_at,
        attempts=row.attempts,
        base=row.base,
        fence=row.fence,
        trigger=Trigger(row.trigger),
        finished_at=row.finished_at,
        reason=row.reason,
        task_only=row.task_only,
    )


def add(connection: Connection, new: Sequence[Delivery]) -> None:
    """Store deliveries of one event."""
    rows = [
        {
            "id": delivery.id,
            "account_id": delivery.account_id,
            "event_id": delivery.event_id,
            "event_type": delivery.event_type,
            "subscriber_id": delivery.subscriber_id,
            "task_id": delivery.task_id,
            "status": delivery.status,
            "created_at": delivery.created_at,
            "due_at": delivery.due_at,
        }
        for delivery in new
    ]
    if rows:
        connection.execute(insert(deliveries), rows)


def get(connection: Connection, delivery_id: str) -> Delivery | None:
    """The delivery, or None."""
    row = connection.execute(_select().where(deliveries.c.id == delivery_id)).first()
    return None if row is None else _record(row)


def hold(connection: Connection, delivery_id: str) -> Delivery | None:
    """The delivery, or None; nobody else changes it until this transaction ends."""
    connection.execute(dialect.locked(select(deliveries.c.id).where(deliveries.c.id == delivery_id)))
    return get(connection, delivery_id)


def of_task(connection: Connection, task_id: str) -> Sequence[Delivery]:
    """All deliveries of a task's events, oldest first."""
    rows = connection.execute(_select().where(deliveries.c.task_id == task_id).order_by(deliveries.c.id))
    return [_record(row) for row in rows]


def of_event(connection: Connection, event_id: str, limit: int) -> Sequence[Delivery]:
    """Some deliveries of an event, oldest first."""
    rows = connection.execute(_select().where(deliveries.c.event_id == event_id).order_by(deliveries.c.id).limit(limit))
    return [_record(row) for row in rows]


@dataclass(frozen=True, slots=True)
class Filter:
    """What ``list_page`` narrows down to; None means any."""

    status: str | None = None
    subscriber: str | None = None
    task: str | None = None
    event_type: str | None = None


def list_page(
    connection: Connection, account_id: str, wanted: Filter, limit: int, cursor: str | None
) -> Page[Delivery]:
    """An account's deliveries, newest first."""
    query = _select().where(deliveries.c.account_id == account_id)
    for column, value in (
        (deliveries.c.status, None if wanted.status is None else dialect.inline(DeliveryStatus(wanted.status))),
        (deliveries.c.subscriber_id, wanted.subscriber),
        (deliveries.c.task_id, wanted.task),
        (deliveries.c.event_type, wanted.event_type),
    ):
        if value is not None:
            query = query.where(column == value)
    return page(connection, query, deliveries.c.id, _record, limit=limit, cursor=cursor)


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery to be attempted now, with what the attempt needs.

    ``secrets_sealed``: the subscriber's, or for a task's callback URL the account's; sealed for ``secrets_owner``.
    """

    delivery: Delivery
    subscriber: Subscriber
    body: str
    secrets_sealed: str
    secrets_owner: str


def _waiting() -> CTE:
    """Subscribers with something to deliver, now or later, found by jumps along the index of what waits.

    So the cost does not grow with subscribers that have nothing to get, and there is one for every callback URL.
    """
    of_index = deliveries.c.due_at.is_not(None)
    jump = select(func.min(deliveries.c.subscriber_id).label("subscriber_id")).where(of_index).cte(recursive=True)
    beyond = select(func.min(deliveries.c.subscriber_id)).where(of_index, deliveries.c.subscriber_id > jump.c[0])
    return jump.union_all(select(beyond.correlate(jump).scalar_subquery()).where(jump.c[0].is_not(None)))


# The statements of a claim are made once: making one costs as much as executing it.
_NOW = bindparam("now", type_=BigInteger)
_PER_SUBSCRIBER = bindparam("per_subscriber", type_=Integer)
_ROOM = bindparam("room", type_=Integer)
_IDS = bindparam("ids", type_=Text, expanding=True)

# How many attempts a subscriber may have under way: a circuit that was open is probed one at a time.
_ALLOWED = case((subscribers.c.failures >= schedule.CIRCUIT_AFTER, 1), else_=_PER_SUBSCRIBER)
# How many are; a lease that has passed holds none.
_UNDER_WAY = (
    select(func.count()).select_from(deliveries).where(deliveries.c.leased.is_(True), deliveries.c.due_at > _NOW)
)
_OF_SUBSCRIBER = deliveries.c.subscriber_id == subscribers.c.id
_OPEN = and_(  # subscribers that have something waiting, and a free seat
    subscribers.c.id.in_(select(_waiting().c.subscriber_id)),
    subscribers.c.disabled.is_(False),
    subscribers.c.deleted_at.is_(None),
    _UNDER_WAY.where(_OF_SUBSCRIBER).scalar_subquery() < _ALLOWED,
)
# Those for which another worker claims now are passed over.
_READY = dialect.skip_locked(
    select(subscribers, _ALLOWED.label("allowed"))
    .where(_OPEN, subscribers.c.ready_at <= _NOW, exists().where(_OF_SUBSCRIBER, deliveries.c.due_at <= _NOW))
    .order_by(subscribers.c.served_at)
    .limit(_ROOM)
)
_READY_STEADY = _READY.where(subscribers.c.failures == 0)
_READY_FAILING = _READY.where(subscribers.c.failures > 0)
_UNDER_WAY_OF = _UNDER_WAY.add_columns(deliveries.c.subscriber_id).group_by(deliveries.c.subscriber_id)
_UNDER_WAY_OF = _UNDER_WAY_OF.where(deliveries.c.subscriber_id.in_(_IDS))
_DUE = dialect.skip_locked(
    select(deliveries.c.id)
    .where(deliveries.c.subscriber_id == bindparam("subscriber_id"), deliveries.c.due_at <= _NOW)
    .order_by(deliveries.c.due_at)  # and nothing else: a replay lets a million come due in one moment, unsorted
    .limit(_ROOM)
)
_LEASE = (
    update(deliveries)
    .where(deliveries.c.id.in_(_IDS))
    .values(fence=deliveries.c.fence + 1, due_at=bindparam("until"), leased=True)
)
_CLAIMED = (
    _select()
    .add_columns(events.c.body, accounts.c.secrets_sealed)
    .join(events, events.c.id == deliveries.c.event_id)
    .join(accounts, accounts.c.id == deliveries.c.account_id)
    .where(deliveries.c.id.in_(_IDS))
)
_FIRST_DUE = (
    select(func.min(deliveries.c.due_at)).where(_OF_SUBSCRIBER, deliveries.c.due_at.is_not(None)).scalar_subquery()
)
_NEXT_DUE = select(_FIRST_DUE, subscribers.c.ready_at).where(_OPEN, _FIRST_DUE.is_not(None))


def claim(
    connection: Connection,
    now: int,
    until: int,
    room: int,
    per_subscriber: int,
    *,
    reserved: int = 0,
    troubled: int | None = None,
) -> Sequence[Claim]:
    """Take up to ``room`` due deliveries until a lease's end, at most ``per_subscriber`` in flight for each.

    Subscribers are served in turn, the one served longest ago first, so that a backlog of one
    keeps nobody else waiting. Disabled and held ones are passed over, and use up no attempts.
    ``reserved``: of ``room``, what is kept for subscribers that have nothing in flight. ``troubled``: how
    many may be for subscribers whose last attempt failed (None: all).
    """
    rows = _ready(connection, now, room, per_subscriber, troubled)
    under_way = _under_way(connection, [row.id for row in rows], now)  # counted once their turn is ours
    # First a seat for everybody with nothing in flight; what is beyond those and the reserve is shared.
    shared = max(room - reserved - sum(row.id not in under_way for row in rows), 0)
    failing = sum(row.failures > 0 for row in rows)
    for_failing = room if troubled is None else troubled
    chosen: dict[str, Subscriber] = {}
    ids: list[str] = []
    for place, row in enumerate(rows):
        subscriber = subscriber_queries.record(row)
        first = 0 if subscriber.id in under_way else 1
        free = row.allowed - under_way.get(subscriber.id, 0)
        cap = min(first - (-shared // (len(rows) - place)), free, room - len(ids))
        if subscriber.rate_limit:
            cap = min(cap, 1)
        if subscriber.failures:
            cap = min(cap, -(-for_failing // failing))
            failing -= 1
        if cap <= 0:
            continue
        due = {"subscriber_id": subscriber.id, "now": now, "room": cap}
        taken = connection.execute(_DUE, due).scalars().all()
        ids += taken
        shared -= max(len(taken) - first, 0)
        if subscriber.failures:
            for_failing -= len(taken)
        chosen[subscriber.id] = subscriber
        if subscriber.rate_limit and taken:
            subscriber_queries.hold(connection, subscriber.id, now + round(1000 * len(taken) / subscriber.rate_limit))
    subscriber_queries.note_served(connection, list(chosen), now)
    if not ids:
        return ()
    connection.execute(_LEASE, {"ids": ids, "until": until})
    taken_rows = connection.execute(_CLAIMED, {"ids": ids})
    claims = {row.id: _claim(row, chosen[row.subscriber_id]) for row in taken_rows}
    return [claims[delivery_id] for delivery_id in ids]


def _claim(row: Row[Any], subscriber: Subscriber) -> Claim:
    if subscriber.secrets_sealed is None:  # behind a task's callback URL: the account signs
        return Claim(_record(row), subscriber, row.body, row.secrets_sealed, row.account_id)
    return Claim(_record(row), subscriber, row.body, subscriber.secrets_sealed, subscriber.id)


def _ready(
    connection: Connection, now: int, room: int, per_subscriber: int, troubled: int | None
) -> Sequence[Row[Any]]:
    """Subscribers that may be served now, each with what is ``allowed`` in flight, in the order of their turns."""
    given = {"now": now, "per_subscriber": per_subscriber}

    def some(query: Select[Any], limit: int) -> Sequence[Row[Any]]:
        return connection.execute(query, {**given, "room": limit}).all() if limit > 0 else ()

    rows = some(_READY, room)
    if troubled is None or sum(row.failures > 0 for row in rows) <= troubled:
        return rows
    steady = some(_READY_STEADY, room)
    failing = some(_READY_FAILING, min(troubled, room))
    return sorted([*steady, *failing], key=lambda row: (row.served_at, row.id))[:room]


def _under_way(connection: Connection, subscriber_ids: Sequence[str], now: int) -> Mapping[str, int]:
    """How many attempts of each of these subscribers are under way; without those that have none."""
    if not subscriber_ids:
        return {}
    found = connection.execute(_UNDER_WAY_OF, {"ids": subscriber_ids, "now": now})
    return {subscriber_id: count for count, subscriber_id in found}


def next_due(connection: Connection, now: int, per_subscriber: int) -> int | None:
    """When the next delivery can be attempted, as far as can be told now; None when none is waiting.

    What waits for an attempt of its own subscriber to end does not count: it would be looked for in vain.
    """
    found = connection.execute(_NEXT_DUE, {"now": now, "per_subscriber": per_subscriber})
    return min((max(due, ready) for due, ready in found), default=None)


def end_pending(connection: Connection, subscriber_id: str, now: int, reason: str) -> int:
    """Give up all pending deliveries of a subscriber; how many.

    Taken in the order of their ids, as whoever writes what came of attempts takes them: neither waits for the other.
    """
    pending = select(deliveries.c.id).where(
        deliveries.c.subscriber_id == subscriber_id, deliveries.c.status == DeliveryStatus.PENDING.value
    )
    query = update(deliveries).where(deliveries.c.id.in_(dialect.locked(pending.order_by(deliveries.c.id))))
    values = {"status": DeliveryStatus.DEAD, "due_at": None, "leased": False, "finished_at": now, "reason": reason}
    return connection.execute(query.values(fence=deliveries.c.fence + 1, **values)).rowcount


def end_orphans(connection: Connection, now: int) -> int:
    """Give up what was written for a subscriber while another transaction deleted it; how many."""
    orphaned = select(subscribers.c.id).where(
        subscribers.c.id.in_(select(_waiting().c.subscriber_id)), subscribers.c.deleted_at.is_not(None)
    )
    ids = connection.execute(orphaned.order_by(subscribers.c.id)).scalars().all()
    return sum(end_pending(connection, subscriber_id, now, "subscriber_deleted") for subscriber_id in ids)


def attempts_of(connection: Connection, delivery_ids: Sequence[str]) -> Sequence[Attempt]:
    """The attempts of some deliveries, oldest first."""
    query = select(attempts).where(attempts.c.delivery_id.in_(list(delivery_ids)))
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
        for row in connection.execute(query.order_by(attempts.c.started_at, attempts.c.number))
    ]
