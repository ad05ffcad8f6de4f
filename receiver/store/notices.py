"""Queries on notices: each kept once, however often it came."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection, func, select, update

from handlers import json_text
from receiver.models import StoredNotice, Verdict
from receiver.signing import without_tokens
from receiver.store import dialect
from receiver.store.paging import columns_of
from receiver.store.prepared import Prepared, PreparedAmong
from receiver.store.schema import notices

_PRESENT = PreparedAmong(lambda ids: select(notices.c.id).where(notices.c.id.in_(ids)))
_LAST_HINTS = PreparedAmong(
    lambda ids: (
        select(notices.c.task_id, func.max(notices.c.received_at))
        .where(notices.c.task_id.in_(ids), notices.c.verdict == Verdict.HINT.value)
        .group_by(notices.c.task_id)
    )
)
_ADD = Prepared(
    dialect.insert_or_nothing(notices),
    "id",
    "provider",
    "task_id",
    "notice_key",
    "received_at",
    "headers",
    "body",
    "verdict",
    "copies",
)


def add(connection: Connection, new: Sequence[tuple[StoredNotice, str]]) -> set[str]:
    """Keep notices, each under its key, but for those whose key is kept already; the ids of those kept now.

    Callback tokens, which a provider may repeat, are left out of what is stored.
    """
    rows = [
        (
            notice.id,
            notice.provider,
            notice.task_id,
            key,
            notice.received_at,
            json_text(dict(notice.headers)),
            without_tokens(notice.body.decode("latin-1")).encode("latin-1"),
            notice.verdict,
            1,
        )
        for notice, key in new
    ]
    ids = {notice.id for notice, _ in new}
    if _ADD.run(connection, rows) == len(rows):
        return ids
    return {notice_id for (notice_id,) in _PRESENT.fetch(connection, ids)}


def count_copy(connection: Connection, provider: str, key: str) -> None:
    """A notice that is kept came once more."""
    query = update(notices).where(notices.c.provider == provider, notices.c.notice_key == key)
    connection.execute(query.values(copies=notices.c.copies + 1))


def of_task(
    connection: Connection, task_id: str, most: int | None = None, *, bodies: bool = True
) -> Sequence[StoredNotice]:
    """The notices about a task, the newest ``most``, in the order they came; ``bodies``: and headers, else neither."""
    columns = columns_of(notices) if bodies else columns_of(notices, headers="{}", body=b"")
    query = select(*columns).where(notices.c.task_id == task_id).order_by(notices.c.id.desc()).limit(most)
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
        for row in reversed(connection.execute(query).all())
    ]


def last_hints(connection: Connection, task_ids: Collection[str]) -> Mapping[str, int]:
    """When the newest notice came that brought a query of a task forward (ms), by task; those without are left out."""
    return dict(_LAST_HINTS.fetch(connection, task_ids))
