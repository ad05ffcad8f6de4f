"""Lists, newest first: a cursor is the last id of the page before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from typing import Any, TypeVar

from sqlalchemy import Column, ColumnElement, Connection, LargeBinary, Row, Select, Table, cast, func, literal, select

from receiver.models import Page
from receiver.store.dialect import kind_of

T = TypeVar("T")

FEW = 5000
"""So many records are put into order at less cost than a long history is gone through for them."""


MOST_TEXT = 8 * 1024 * 1024
"""Bytes of large texts in a page, beside the first record's: a hundred of the largest would be a gigabyte, and what is
made of them several."""


def columns_of(table: Table, **instead: object) -> list[ColumnElement[Any]]:
    """A table's columns; ``instead``: what stands in the place of large ones, so that they are not read."""
    return [
        literal(instead[column.name], column.type).label(column.name) if column.name in instead else column
        for column in table.c
    ]


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


def _length(column: Column[str]) -> ColumnElement[int]:
    return func.length(cast(column, LargeBinary))


def fitting(
    connection: Connection, query: Select[Any], key: Column[T], large: Sequence[Column[str]], limit: int
) -> tuple[list[T], bool]:
    """The keys of the first records of a query in order, as many as a page holds; whether there are more.

    ``large``: columns that may be. Only their sizes are read here: the records themselves are for who knows the keys.
    """
    # PostgreSQL knows the bytes of a text without reading it; of a text SQLite counts the letters.
    bytes_in = func.octet_length if kind_of(connection) == "postgresql" else _length
    size = reduce(add, [func.coalesce(bytes_in(column), 0) for column in large])
    rows = connection.execute(query.with_only_columns(key, size).limit(limit + 1)).all()
    kept: list[T] = []
    room = MOST_TEXT
    for found, bytes_of in rows[:limit]:
        room -= bytes_of
        if kept and room < 0:
            break
        kept.append(found)
    return kept, len(kept) < len(rows)
