"""Queries on subscribers. A deleted one stays as a row while its deliveries are listed, and gets nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from receiver.models import Page, Subscriber, new_id
from receiver.store import dialect
from receiver.store.paging import page
from receiver.store.schema import deliveries, subscribers

_COLUMNS = [column for column in subscribers.c if column.name not in ("served_at", "deleted_at")]


def record(row: Row[Any]) -> Subscriber:
    """A row as a Subscriber."""
    values = {column.name: row._mapping[column] for column in _COLUMNS}
    values["event_types"] = tuple(json.loads(values["event_types"]))
    if values["providers"] is not None:
        values["providers"] = tuple(json.loads(values["providers"]))
    return Subscriber(**values)


def add(connection: Connection, subscriber: Subscriber) -> bool:
    """Store a subscriber; False when it is a task-only one whose URL is there already."""
    query = dialect.insert_or_nothing(connection, subscribers).values(
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
    )
    return connection.execute(query).rowcount == 1


def get(connection: Connection, subscriber_id: str) -> Subscriber | None:
    """The subscriber, or None; deleted ones are not found."""
    query = select(subscribers).where(subscribers.c.id == subscriber_id, subscribers.c.deleted_at.is_(None))
    row = connection.execute(query).first()
    return None if row is None else record(row)


def of_callback_url(connection: Connection, account_id: str, url: str) -> Subscriber | None:
    """The hidden subscriber behind a task's callback URL, or None."""
    query = select(subscribers).where(
        subscribers.c.account_id == account_id, subscribers.c.url == url, subscribers.c.task_only.is_(True)
    )
    row = connection.execute(query).first()
    return None if row is None else record(row)


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
    values = {"disabled": False, "disabled_reason": None, "ready_at": 0, "failures": 0, "failing_since": None}
    change(connection, subscriber_id, values)


def of_account(connection: Connection, account_id: str) -> Sequence[Subscriber]:
    """All registered subscribers of an account, disabled ones included."""
    query = select(subscribers).where(
        subscribers.c.account_id == account_id,
        subscribers.c.task_only.is_(False),
        subscribers.c.deleted_at.is_(None),
    )
    return [record(row) for row in connection.execute(query.order_by(subscribers.c.id))]


def list_page(connection: Connection, account_id: str, limit: int, cursor: str | None) -> Page[Subscriber]:
    """An account's registered subscribers, newest first."""
    query = select(subscribers).where(
        subscribers.c.account_id == account_id,
        subscribers.c.task_only.is_(False),
        subscribers.c.deleted_at.is_(None),
    )
    return page(connection, query, subscribers.c.id, record, limit=limit, cursor=cursor)


def change(connection: Connection, subscriber_id: str, values: Mapping[str, Any]) -> bool:
    """Set columns of a subscriber that is not deleted; whether it was there."""
    query = update(subscribers).where(subscribers.c.id == subscriber_id, subscribers.c.deleted_at.is_(None))
    return connection.execute(query.values(**values)).rowcount == 1


def note_success(connection: Connection, subscriber_id: str) -> None:
    """A 2xx came: the record of failures is wiped clean."""
    connection.execute(
        update(subscribers)
        .where(subscribers.c.id == subscriber_id, subscribers.c.failing_since.is_not(None))
        .values(failures=0, failing_since=None)
    )


def note_failure(
    connection: Connection, subscriber_id: str, now: int, hold_until: int | None, *, counts: bool = True
) -> None:
    """An attempt failed. ``hold_until``: no attempt to this subscriber before (never brought forward).

    ``counts``: whether it is one more of the failures that open the circuit further.
    """
    values: dict[str, Any] = {
        "failures": subscribers.c.failures + (1 if counts else 0),
        "failing_since": func.coalesce(subscribers.c.failing_since, now),
    }
    connection.execute(update(subscribers).where(subscribers.c.id == subscriber_id).values(**values))
    if hold_until is not None:
        hold(connection, subscriber_id, hold_until)


def hold(connection: Connection, subscriber_id: str, until: int) -> None:
    """Let no attempt to a subscriber start before a time; a later hold stays."""
    connection.execute(
        update(subscribers)
        .where(subscribers.c.id == subscriber_id, subscribers.c.ready_at < until)
        .values(ready_at=until)
    )


def release(connection: Connection, subscriber_id: str) -> None:
    """Let an attempt to a subscriber start now: somebody asked for it by hand, and knows why."""
    connection.execute(update(subscribers).where(subscribers.c.id == subscriber_id).values(ready_at=0))


def purge_unused(connection: Connection, created_before: int, limit: int) -> int:
    """Delete old deleted or task-only subscribers that no delivery names any more; how many."""
    unused = (
        select(subscribers.c.id)
        .where(
            subscribers.c.task_only.is_(True) | subscribers.c.deleted_at.is_not(None),
            subscribers.c.created_at < created_before,
            ~select(deliveries.c.id).where(deliveries.c.subscriber_id == subscribers.c.id).exists(),
        )
        .limit(limit)
    )
    return connection.execute(subscribers.delete().where(subscribers.c.id.in_(unused))).rowcount
