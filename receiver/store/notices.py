"""Queries on notices: each kept once, however often it came."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import Connection, func, select, update

from receiver.models import StoredNotice, Verdict
from receiver.signing import without_tokens
from receiver.store import dialect
from receiver.store.schema import notices


def add(connection: Connection, notice: StoredNotice, notice_key: str) -> bool:
    """Keep a notice. False when one with this key is kept already; then its copies are counted.

    Callback tokens, which a provider may repeat, are left out of what is stored.
    """
    stored = connection.execute(
        dialect.insert_or_nothing(connection, notices).values(
            id=notice.id,
            provider=notice.provider,
            task_id=notice.task_id,
            notice_key=notice_key,
            received_at=notice.received_at,
            headers=json.dumps(dict(notice.headers)),
            body=without_tokens(notice.body.decode("latin-1")).encode("latin-1"),
            verdict=notice.verdict,
            copies=1,
        )
    ).rowcount
    if stored:
        return True
    connection.execute(
        update(notices)
        .where(notices.c.provider == notice.provider, notices.c.notice_key == notice_key)
        .values(copies=notices.c.copies + 1)
    )
    return False


def of_task(connection: Connection, task_id: str) -> Sequence[StoredNotice]:
    """All notices about a task, in the order they came."""
    rows = connection.execute(select(notices).where(notices.c.task_id == task_id).order_by(notices.c.id))
    return [
        StoredNotice(
            id=row.id,
            provider=row.provider,
            task_id=row.task_id,
            received_at=row.received_at,
            headers=json.loads(row.headers),
            body=bytes(row.body),
            verdict=Verdict(row.verdict),
            copies=row.copies,
        )
        for row in rows
    ]


def last_hint(connection: Connection, task_id: str) -> int | None:
    """When the newest notice came that brought a query of this task forward (ms), or None."""
    query = select(func.max(notices.c.received_at)).where(
        notices.c.task_id == task_id, notices.c.verdict == Verdict.HINT.value
    )
    came: int | None = connection.execute(query).scalar_one()
    return came


def purge(connection: Connection, received_before: int, limit: int) -> int:
    """Delete some notices older than a time; how many."""
    old = select(notices.c.id).where(notices.c.received_at < received_before).limit(limit)
    return connection.execute(notices.delete().where(notices.c.id.in_(old))).rowcount
