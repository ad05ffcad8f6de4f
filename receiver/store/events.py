"""Queries on events. ``seq`` is their order for readers that consume them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, ScalarSelect, func, insert, select

from receiver.models import Event, EventType, Page
from receiver.store import dialect
from receiver.store.paging import columns_of, fitting
from receiver.store.prepared import Prepared
from receiver.store.schema import events

APART = 1000
"""How many events by their ids may lie between two that are neighbours by their places: clocks differ."""

_LARGE = (events.c.body,)
_ADD = Prepared(insert(events), "id", "account_id", "type", "task_id", "created_at", "body")


def _from_row(row: Row[Any]) -> Event:
    return Event(
        id=row.id,
        account_id=row.account_id,
        type=EventType(row.type),
        created_at=row.created_at,
        body=row.body,
        task_id=row.task_id,
        seq=row.seq,
    )


def add(connection: Connection, new: Sequence[Event]) -> None:
    """Store events; the database gives them their places in the order."""
    dialect.enter_order(connection)
    rows = [(event.id, event.account_id, event.type, event.task_id, event.created_at, event.body) for event in new]
    _ADD.send(connection, rows)


def get(connection: Connection, event_id: str) -> Event | None:
    """The event, or None."""
    row = connection.execute(select(events).where(events.c.id == event_id)).first()
    return None if row is None else _from_row(row)


def of_task(connection: Connection, task_id: str, most: int | None = None, *, bodies: bool = True) -> Sequence[Event]:
    """The events of a task, the newest ``most``, in order; ``bodies``: with their bodies, else without."""
    columns = columns_of(events) if bodies else columns_of(events, body="")
    query = select(*columns).where(events.c.task_id == task_id).order_by(events.c.seq.desc()).limit(most)
    return [_from_row(row) for row in reversed(connection.execute(query).all())]


def settled(connection: Connection) -> int | None:
    """The place in the order up to which no further event can appear; None: there is no such limit.

    Whoever goes through events by their places asks this in a transaction before the one that reads them, and
    reads no further. Beside an event beyond it others are still being written; it is seen next time.
    """
    return dialect.settled_order(connection)


def after(
    connection: Connection,
    account_id: str,
    seq: int,
    limit: int,
    types: Sequence[str] = (),
    *,
    up_to: int | None = None,
) -> tuple[Sequence[Event], bool]:
    """An account's events behind a place in the order, oldest first; whether there are more than these.

    Fewer than ``limit`` where they are very large. ``up_to``: the last place, as ``settled`` says.
    """
    query = select(events).where(events.c.account_id == account_id, events.c.seq > seq)
    if up_to is not None:
        query = query.where(events.c.seq <= up_to)
    if types:
        query = query.where(events.c.type.in_(list(types)))
    places, more = fitting(connection, query.order_by(events.c.seq), events.c.seq, _LARGE, limit)
    return _at(connection, places), more


def _at(connection: Connection, places: Sequence[int]) -> list[Event]:
    """The events at these places, in this order."""
    if not places:
        return []
    found = {row.seq: _from_row(row) for row in connection.execute(select(events).where(events.c.seq.in_(places)))}
    return [found[place] for place in places if place in found]


def seq_before(connection: Connection, account_id: str, event_id: str) -> int:
    """The place of an account's newest event that is older than an id's time, 0 when there is none.

    The index on ids, of all accounts together, leads there: what the account has since then is not gone through.
    """
    own = (events.c.account_id == account_id, events.c.seq <= place_before(event_id))
    return connection.execute(select(func.max(events.c.seq)).where(*own)).scalar() or 0


def place_before(event_id: str) -> ScalarSelect[int | None]:
    """The place behind which an id's time begins, whichever accounts have events then; NULL: none is older."""
    older = select(events.c.seq).where(events.c.id < event_id).order_by(events.c.id.desc()).limit(APART).subquery()
    return select(func.max(older.c.seq)).scalar_subquery()


@dataclass(frozen=True, slots=True)
class Place:
    """Where an event stands in the order, and its id."""

    seq: int
    id: str


def newest(connection: Connection, account_id: str, *, up_to: int | None = None) -> Place | None:
    """The place of an account's newest event, None when it has none. ``up_to``: the last place, as ``settled`` says."""
    query = select(events.c.seq, events.c.id).where(events.c.account_id == account_id)
    if up_to is not None:
        query = query.where(events.c.seq <= up_to)
    row = connection.execute(query.order_by(events.c.seq.desc()).limit(1)).first()
    return None if row is None else Place(row.seq, row.id)


def list_page(
    connection: Connection,
    account_id: str,
    types: Sequence[str],
    limit: int,
    cursor: str | None,
    *,
    up_to: int | None = None,
) -> Page[Event]:
    """An account's events, newest first: in their order, of which there is an index. ``up_to``: the last place.

    Fewer than ``limit`` where they are very large.
    """
    query = select(events).where(events.c.account_id == account_id)
    if up_to is not None:
        query = query.where(events.c.seq <= up_to)
    if cursor is not None:
        query = query.where(events.c.seq < _place_of(connection, account_id, cursor))
    if types:
        query = query.where(events.c.type.in_(list(types)))
    places, more = fitting(connection, query.order_by(events.c.seq.desc()), events.c.seq, _LARGE, limit)
    items = tuple(_at(connection, places))
    return Page(items, items[-1].id if more and items else None)


def _place_of(connection: Connection, account_id: str, event_id: str) -> int:
    """The place of an event; of one that is not there (any more), behind all that are older."""
    query = select(events.c.seq).where(events.c.account_id == account_id, events.c.id == event_id)
    place: int | None = connection.execute(query).scalar()
    return seq_before(connection, account_id, event_id) + 1 if place is None else place
