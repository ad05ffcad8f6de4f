"""Queries on subscribers. A deleted one stays as a row while its deliveries are listed, and gets nothing."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from math import ceil
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Row,
    Select,
    bindparam,
    func,
    literal_column,
    select,
    update,
)

from receiver.models import Page, Subscriber, new_id
from receiver.store import dialect
from receiver.store.paging import page
from receiver.store.prepared import Prepared, PreparedAmong
from receiver.store.schema import subscribers

COLUMNS = [column for column in subscribers.c if column.name not in ("served_at", "deleted_at")]

# As the partial index on it has it: for "task_only IS true" neither database takes that one.
_IS_HIDDEN: ColumnElement[bool] = literal_column("subscribers.task_only")
_NAMES = [column.name for column in COLUMNS]


def _present(ids: list[BindParameter[Any]]) -> Select[Any]:
    return select(*COLUMNS).where(subscribers.c.id.in_(ids), subscribers.c.deleted_at.is_(None))


# Of the busiest paths, so made once.
_SOME = PreparedAmong(_present)
_SOME_HELD = PreparedAmong(lambda ids: dialect.locked(_present(ids).order_by(subscribers.c.id)))
_OF_ACCOUNT = Prepared(
    select(*COLUMNS)
    .where(
        subscribers.c.account_id == bindparam("of_account"),
        subscribers.c.task_only.is_(False),
        subscribers.c.deleted_at.is_(None),
    )
    .order_by(subscribers.c.id),
    "of_account",
)
_HOW_MANY = PreparedAmong(
    lambda ids: (
        select(subscribers.c.account_id, func.count())
        .where(
            subscribers.c.account_id.in_(ids), subscribers.c.task_only.is_(False), subscribers.c.deleted_at.is_(None)
        )
        .group_by(subscribers.c.account_id)
    )
)
_SERVED = Prepared(
    update(subscribers).where(subscribers.c.id == bindparam("served")).values(served_at=bindparam("now")),
    "served",
    "now",
)
_HEALTH = Prepared(
    update(subscribers)
    .where(subscribers.c.id == bindparam("of"), subscribers.c.deleted_at.is_(None))
    .values({name: bindparam(name) for name in ("failures", "failing_since", "ready_at", "proven")}),
    "of",
    "failures",
    "failing_since",
    "ready_at",
    "proven",
)


def from_row(row: Row[Any]) -> Subscriber:
    """A row as a Subscriber."""
    return _made({column.name: row._mapping[column] for column in COLUMNS})


def _made(values: dict[str, Any]) -> Subscriber:
    values["event_types"] = tuple(json.loads(values["event_types"]))
    if values["providers"] is not None:
        values["providers"] = tuple(json.loads(values["providers"]))
    for name in ("task_only", "disabled", "proven"):  # numbers on SQLite, from the driver itself
        values[name] = bool(values[name])
    return Subscriber(**values)


def add(connection: Connection, subscriber: Subscriber) -> bool:
    """Store a subscriber; False when it is a task-only one whose URL is there already."""
    query = dialect.insert_or_nothing(subscribers).values(
        id=subscriber.id,
        account_id=subscriber.account_id,
        url=subscriber.url,
        event_types=json.dumps(subscriber.event_types),
        providers=None if subscriber.providers is None else json.dumps(subscriber.providers),
        description=subscriber.description,
        headers_sealed=subscriber.headers_sealed,
        secrets_sealed=subscriber.secrets_sealed,
        rate_limit=subscriber.rate_limit,
        created_at=subscriber.created_at,
        task_only=subscriber.task_only,
        proven=subscriber.proven,
    )
    return connection.execute(query).rowcount == 1


def get(connection: Connection, subscriber_id: str) -> Subscriber | None:
    """The subscriber, or None; deleted ones are not found."""
    query = select(subscribers).where(subscribers.c.id == subscriber_id, subscribers.c.deleted_at.is_(None))
    row = connection.execute(query).first()
    return None if row is None else from_row(row)


def some(connection: Connection, subscriber_ids: Collection[str], *, held: bool = False) -> dict[str, Subscriber]:
    """Those of these subscribers that are not deleted, by id. ``held``: nobody else changes them meanwhile."""
    found = (_SOME_HELD if held else _SOME).fetch(connection, subscriber_ids)
    return {row[0]: known(row) for row in found}


def of_callback_url(connection: Connection, account_id: str, url: str) -> Subscriber | None:
    """The hidden subscriber behind a task's callback URL, or None; it is not purged before this transaction ends."""
    query = select(subscribers).where(subscribers.c.account_id == account_id, subscribers.c.url == url, _IS_HIDDEN)
    row = connection.execute(dialect.kept(query)).first()
    return None if row is None else from_row(row)


def behind_callback_url(connection: Connection, account_id: str, url: str, now: int) -> Subscriber:
    """The hidden subscriber behind a task's callback URL, made where it is missing (retention purges unused ones)."""
    present = of_callback_url(connection, account_id, url)
    if present is not None:
        return present
    hidden = Subscriber(
        id=new_id("sub", now),
        account_id=account_id,
        url=url,
        event_types=("*",),
        providers=None,
        description="",
        headers_sealed=None,
        secrets_sealed=None,
        rate_limit=None,
        created_at=now,
        task_only=True,
    )
    if add(connection, hidden):
        return hidden
    present = of_callback_url(connection, account_id, url)
    assert present is not None  # another transaction has just made it
    return present


def enable(connection: Connection, subscriber_id: str) -> None:
    """Let a subscriber get deliveries again, with a clean record."""
    new = {"ready_at": 0, "failures": 0, "failing_since": None, "resets": subscribers.c.resets + 1, "proven": False}
    change(connection, subscriber_id, {"disabled": False, "disabled_reason": None, **new})


def of_account(connection: Connection, account_id: str) -> Sequence[Subscriber]:
    """All registered subscribers of an account, disabled ones included."""
    return [known(row) for row in _OF_ACCOUNT.fetch(connection, (account_id,))]


def count(connection: Connection, accounts: Collection[str]) -> dict[str, int]:
    """How many registered subscribers each of these accounts has; without those that have none."""
    found: dict[str, int] = dict(_HOW_MANY.fetch(connection, accounts))
    return found


@lru_cache(maxsize=1024)
def known(row: tuple[Any, ...]) -> Subscriber:
    """A row of ``COLUMNS`` as a Subscriber; the same row gives the same record, which costs nothing to read again."""
    return _made(dict(zip(_NAMES, row, strict=True)))


def list_page(connection: Connection, account_id: str, limit: int, cursor: str | None) -> Page[Subscriber]:
    """An account's registered subscribers, newest first."""
    query = select(subscribers).where(
        subscribers.c.account_id == account_id,
        subscribers.c.task_only.is_(False),
        subscribers.c.deleted_at.is_(None),
    )
    return page(connection, query, subscribers.c.id, from_row, limit=limit, cursor=cursor)


def change(connection: Connection, subscriber_id: str, values: Mapping[str, Any]) -> None:
    """Set columns of a subscriber, unless it is deleted."""
    query = update(subscribers).where(subscribers.c.id == subscriber_id, subscribers.c.deleted_at.is_(None))
    connection.execute(query.values(**values))


def note_health(connection: Connection, noted: Sequence[Subscriber]) -> None:
    """Write the records of failures of subscribers that this transaction holds, and until when each is to be spared."""
    _HEALTH.run(
        connection, [(each.id, each.failures, each.failing_since, each.ready_at, each.proven) for each in noted]
    )


def note_served(connection: Connection, subscriber_ids: Sequence[str], now: int) -> None:
    """It was the turn of these subscribers; all others come before them the next time."""
    _SERVED.run(connection, [(subscriber_id, now) for subscriber_id in subscriber_ids])


def hold(connection: Connection, subscriber_id: str, until: int) -> None:
    """Let no attempt to a subscriber start before a time; a later hold stays."""
    connection.execute(
        update(subscribers)
        .where(subscribers.c.id == subscriber_id, subscribers.c.ready_at < until)
        .values(ready_at=until)
    )


def release(connection: Connection, held: Subscriber, now: int) -> None:
    """Let an attempt to a subscriber start as soon as its rate limit allows: somebody asked for it, and knows why."""
    until = min(held.ready_at, now + ceil(1000 / held.rate_limit)) if held.rate_limit else 0
    change(connection, held.id, {"ready_at": until})
