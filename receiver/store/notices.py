"""Queries on notices: each kept once, however often it came."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import Connection, select, update

from receiver.models import StoredNotice, Verdict
from receiver.store import dialect
from receiver.store.schema import notices


def add(connection: Connection, notice: StoredNotice, notice_key: str) -> bool:
    """Keep a notice. False when one with this key is kept already; then its copies are counted."""
    stored = connection.execute(
        dialect.insert_or_nothing(connection, notices).values(
            id=notice.id,
            provider=notice.provider,
            task_id=notice.task_id,
            notice_key=notice_key,
            received_at=notice.received_at,
            headers=json.dumps(dict(notice.headers)),
            body=notice.body,
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


def set_verdict(connection: Connection, notice_id: str, verdict: Verdict) -> None:
    """File a notice anew, once it is known what became of it."""
    connection.execute(update(notices).where(notices.c.id == notice_id).values(verdict=verdict))


def purge(connection: Connection, received_before: int, limit: int) -> int:
    """Delete some notices older than a time; how many."""
    old = select(notices.c.id).where(notices.c.received_at < received_before).limit(limit)
    return connection.execute(notices.delete().where(notices.c.id.in_(old))).rowcount
