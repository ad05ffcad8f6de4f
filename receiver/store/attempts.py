"""Queries that write what came of attempts, many at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from receiver.models import Attempt, Delivery
from receiver.store import dialect
from receiver.store.schema import attempts, deliveries

# Made once: making a statement costs as much as executing it.
_HELD = dialect.locked(
    select(deliveries.c.id, deliveries.c.fence)
    .where(deliveries.c.id.in_(bindparam("ids", expanding=True)), deliveries.c.leased.is_(True))
    .order_by(deliveries.c.id)
)
_FINISH = (
    update(deliveries)
    .where(deliveries.c.id == bindparam("delivery"))
    .values({name: bindparam(name) for name in ("status", "due_at", "attempts", "trigger", "finished_at", "reason")})
    .values(leased=False)
)
_ADD = insert(attempts)


def still_held(connection: Connection, claimed: Sequence[Delivery]) -> set[tuple[str, int]]:
    """Id and fence of those whose claim still holds; they stay as they are until this transaction ends.

    The others were taken over by another worker after their lease, or their subscriber was deleted.
    """
    held = {(row.id, row.fence) for row in connection.execute(_HELD, {"ids": [delivery.id for delivery in claimed]})}
    return held & {(delivery.id, delivery.fence) for delivery in claimed}


def finish(connection: Connection, results: Sequence[tuple[Attempt, Mapping[str, Any]]]) -> None:
    """Write attempts and what they make of their deliveries, whose claims still hold.

    With each attempt the delivery's columns: status, due_at, attempts, trigger, finished_at and reason.
    """
    if not results:
        return
    connection.execute(_FINISH, [{"delivery": attempt.delivery_id, **columns} for attempt, columns in results])
    connection.execute(
        _ADD,
        [
            {
                "id": attempt.id,
                "delivery_id": attempt.delivery_id,
                "number": attempt.number,
                "trigger": attempt.trigger,
                "started_at": attempt.started_at,
                "duration_ms": attempt.duration_ms,
                "response_status": attempt.response_status,
                "response_headers": json.dumps(dict(attempt.response_headers)),
                "response_body": attempt.response_body,
                "error": attempt.error,
                "message": attempt.message,
            }
            for attempt, _ in results
        ],
    )
