"""Queries that write what came of attempts, many at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from receiver.models import Attempt, Delivery, Trigger
from receiver.store import dialect
from receiver.store.prepared import Prepared, PreparedAmong
from receiver.store.schema import attempts, deliveries

_HELD = PreparedAmong(
    lambda ids: dialect.locked(
        select(deliveries.c.id, deliveries.c.fence, deliveries.c.trigger)
        .where(deliveries.c.id.in_(ids), deliveries.c.leased.is_(True))
        .order_by(deliveries.c.id)
    )
)
_CHANGED = ("status", "due_at", "attempts", "trigger", "finished_at", "reason")
_FINISH = Prepared(
    update(deliveries)
    .where(deliveries.c.id == bindparam("delivery"))
    .values({name: bindparam(name) for name in _CHANGED})
    .values(leased=False, holder=None),
    *_CHANGED,
    "delivery",
)
_GIVE_BACK = Prepared(
    update(deliveries)
    .where(deliveries.c.id == bindparam("delivery"))
    .values(due_at=bindparam("due_at"), leased=False, holder=None),
    "due_at",
    "delivery",
)
_ADD = Prepared(
    insert(attempts),
    "id",
    "delivery_id",
    "number",
    "trigger",
    "started_at",
    "duration_ms",
    "response_status",
    "response_headers",
    "response_body",
    "error",
    "message",
)


def still_held(connection: Connection, claimed: Sequence[Delivery]) -> dict[tuple[str, int], Trigger]:
    """Id and fence of those whose claim still holds; they stay as they are until this transaction ends.

    Beside them, what triggers the next attempt: another than the claim's when a retry was asked for meanwhile.
    The others were taken over by another worker after their lease, or their subscriber was deleted.
    """
    held = {(row[0], row[1]): Trigger(row[2]) for row in _HELD.fetch(connection, [each.id for each in claimed])}
    return {key: held[key] for each in claimed if (key := (each.id, each.fence)) in held}


def give_back(connection: Connection, delivery_id: str, due_at: int) -> None:
    """End a claim that still holds, without an attempt."""
    _GIVE_BACK.send(connection, [(due_at, delivery_id)])


def finish(connection: Connection, results: Sequence[tuple[Attempt, Mapping[str, Any]]]) -> None:
    """Write attempts and what they make of their deliveries, whose claims still hold.

    With each attempt the delivery's columns: status, due_at, attempts, trigger, finished_at and reason.
    """
    _FINISH.send(
        connection, [(*(columns[name] for name in _CHANGED), attempt.delivery_id) for attempt, columns in results]
    )
    _ADD.send(
        connection,
        [
            (
                attempt.id,
                attempt.delivery_id,
                attempt.number,
                attempt.trigger,
                attempt.started_at,
                attempt.duration_ms,
                attempt.response_status,
                json.dumps(dict(attempt.response_headers)),
                attempt.response_body,
                attempt.error,
                attempt.message,
            )
            for attempt, _ in results
        ],
    )
