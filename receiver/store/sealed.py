"""Queries on what is sealed, whatever table it is in. Rows of deleted subscribers are among it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Column, Connection, func, select, update

from receiver.store.schema import accounts, subscribers

_COLUMNS: Mapping[str, Column[str]] = {
    "signing secrets of accounts": accounts.c.secrets_sealed,
    "signing secrets of subscribers": subscribers.c.secrets_sealed,
    "headers of subscribers": subscribers.c.headers_sealed,
}
KINDS: Sequence[str] = tuple(_COLUMNS)
"""Everything that is sealed, in words for people."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """One sealed text. ``owner``: the id of its row, to which it is bound."""

    kind: str
    owner: str
    text: str = field(repr=False)


def count(connection: Connection, kind: str, beginning: str) -> int:
    """How many sealed texts of a kind there are, with this beginning."""
    column = _COLUMNS[kind]
    query = select(func.count()).where(column.is_not(None), column.startswith(beginning, autoescape=True))
    return int(connection.execute(query).scalar_one())


def older(connection: Connection, kind: str, beginning: str, after: str, limit: int) -> Sequence[Sealed]:
    """Sealed texts of a kind with another beginning, of rows behind the id ``after``, in the order of ids."""
    column = _COLUMNS[kind]
    owner: Column[str] = column.table.c.id
    query = select(owner, column).where(
        column.is_not(None), ~column.startswith(beginning, autoescape=True), owner > after
    )
    rows = connection.execute(query.order_by(owner).limit(limit))
    return [Sealed(kind, owner, text) for owner, text in rows]


def replace(connection: Connection, sealed: Sealed, text: str) -> bool:
    """Put another text in the place of a sealed one; False when that is not there any more, and nothing is changed."""
    column = _COLUMNS[sealed.kind]
    query = update(column.table).where(column.table.c.id == sealed.owner, column == sealed.text)
    return connection.execute(query.values({column: text})).rowcount == 1
