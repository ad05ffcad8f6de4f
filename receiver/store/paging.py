"""Lists, newest first: a cursor is the last id of the page before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Column, Connection, Row, Select, func, select

from receiver.models import Page

T = TypeVar("T")

FEW = 5000
"""So many records are put into order at less cost than a long history is gone through for them."""


def are_few(connection: Connection, ids: Select[Any]) -> bool:
    """Whether a query that an index answers finds few. SQLite cannot tell by itself how many have a value."""
    some = ids.limit(FEW + 1).subquery()
    return int(connection.execute(select(func.count()).select_from(some)).scalar_one()) <= FEW


def page(
    connection: Connection,
    query: Select[Any],
    id_column: Column[str],
    from_row: Callable[[Row[Any]], T],
    *,
    limit: int,
    cursor: str | None,
) -> Page[T]:
    """One page of a query ordered by ``id_column`` (time-sortable ids), at most ``limit`` records."""
    if cursor is not None:
        query = query.where(id_column < cursor)
    rows = connection.execute(query.order_by(id_column.desc()).limit(limit + 1)).all()
    more = len(rows) > limit
    kept = rows[:limit]
    return Page(tuple(from_row(row) for row in kept), kept[-1]._mapping[id_column] if more else None)
