"""What happened lately, for one account, at a bounded cost: the newest rows of an index, never all of a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, Subquery, bindparam, func, literal_column, select, union_all

from receiver.models import FINAL, DeliveryStatus, EventType, Step, TaskStatus, first_id
from receiver.store.prepared import Prepared
from receiver.store.schema import attempts, deliveries, notices, steps, subscribers, tasks

MOST = 10_000
"""Rows that one number is made from at most: the newest ones."""
SOME = 1000
"""Rows that are looked at one by one at most."""
SAMPLE = 100
"""Deliveries of a subscriber that one hour is judged by at most."""

Rows = Sequence[Any]
"""What a query found; its docstring names the columns."""

_FINAL_EVENTS = [str(EventType(f"task.{status}")) for status in FINAL]


def _recent_tasks(account_id: str, since: int) -> Subquery:
    columns = (tasks.c.id, tasks.c.provider, tasks.c.operation, tasks.c.status, tasks.c.completed_via)
    times = (tasks.c.created_at, tasks.c.submitted_at, tasks.c.finished_at, tasks.c.error_json)
    query = select(*columns, *times).where(tasks.c.account_id == account_id, tasks.c.id >= first_id("task", since))
    return query.order_by(tasks.c.id.desc()).limit(MOST).subquery()


def task_counts(connection: Connection, account_id: str, since: int, step: int) -> Rows:
    """(provider, operation, status, completed_via, place, number, oldest) of the newest MOST tasks since a time (ms).

    ``place``: how many times ``step`` ms after ``since`` they were created. ``oldest``: when the first of them was.
    """
    recent = _recent_tasks(account_id, since)
    place = ((recent.c.created_at - since) // step).label("place")
    group = (recent.c.provider, recent.c.operation, recent.c.status, recent.c.completed_via, place)
    oldest = func.min(recent.c.created_at).label("oldest")
    return connection.execute(select(*group, func.count().label("number"), oldest).group_by(*group)).all()


def task_times(connection: Connection, account_id: str, since: int) -> Rows:
    """(provider, waited, ran) in ms of the newest tasks that a provider has ended: in our queue, and with it."""
    recent = _recent_tasks(account_id, since)
    query = select(
        recent.c.provider,
        (recent.c.submitted_at - recent.c.created_at).label("waited"),
        (recent.c.finished_at - recent.c.submitted_at).label("ran"),
    ).where(recent.c.finished_at.is_not(None), recent.c.submitted_at.is_not(None))
    return connection.execute(query.order_by(recent.c.id.desc()).limit(SOME)).all()


def task_errors(connection: Connection, account_id: str, since: int) -> Rows:
    """(provider, error_json, finished_at) of the newest tasks that failed or expired."""
    recent = _recent_tasks(account_id, since)
    ended_badly = recent.c.status.in_([TaskStatus.FAILED.value, TaskStatus.EXPIRED.value])
    columns = (recent.c.provider, recent.c.error_json, recent.c.finished_at)
    return connection.execute(select(*columns).where(ended_badly).order_by(recent.c.id.desc()).limit(SOME)).all()


def _recent_deliveries(account_id: str, since: int) -> Subquery:
    columns = (deliveries.c.id, deliveries.c.task_id, deliveries.c.event_type, deliveries.c.status)
    query = select(*columns, deliveries.c.created_at, deliveries.c.finished_at).where(
        deliveries.c.account_id == account_id, deliveries.c.id >= first_id("dlv", since)
    )
    return query.order_by(deliveries.c.id.desc()).limit(MOST).subquery()


def delivery_counts(connection: Connection, account_id: str, since: int, step: int) -> Rows:
    """(status, place, number, oldest) of deliveries made since a time (ms); as ``task_counts``."""
    recent = _recent_deliveries(account_id, since)
    place = ((recent.c.created_at - since) // step).label("place")
    oldest = func.min(recent.c.created_at).label("oldest")
    query = select(recent.c.status, place, func.count().label("number"), oldest)
    return connection.execute(query.group_by(recent.c.status, place)).all()


def delivery_times(connection: Connection, account_id: str, since: int) -> Rows:
    """(told, written, delivered) in ms of the newest results that arrived.

    ``told``: when the provider's first notice of the task came, None without one. ``written``: when the result was
    stored. ``delivered``: when the subscriber had taken it for the first time, however often it was sent again.
    """
    recent = _recent_deliveries(account_id, since)
    arrived = (recent.c.status == DeliveryStatus.DELIVERED.value) & recent.c.event_type.in_(_FINAL_EVENTS)
    results = select(recent).where(arrived).order_by(recent.c.id.desc()).limit(SOME).subquery()
    told = select(func.min(notices.c.received_at)).where(notices.c.task_id == results.c.task_id).scalar_subquery()
    taken = func.min(attempts.c.started_at + attempts.c.duration_ms)
    taken_by = (attempts.c.delivery_id == results.c.id, attempts.c.error.is_(None))
    delivered = select(taken).where(*taken_by).scalar_subquery()
    query = select(told.label("told"), results.c.created_at.label("written"), delivered.label("delivered"))
    return connection.execute(query).all()


def troubles(connection: Connection, account_id: str, since: int) -> Sequence[tuple[str, Step]]:
    """(provider, step) of the account's calls to providers among the newest MOST steps since a time, newest first."""
    newest = select(steps).order_by(steps.c.seq.desc()).limit(MOST).subquery()
    refused = (newest.c.kind == "poll") & newest.c.detail.like('%"failed": %')
    refused |= (newest.c.kind == "submit") & newest.c.detail.like('%"outcome": "un%')  # unavailable or unknown
    query = (
        select(tasks.c.provider, newest.c.at, newest.c.kind, newest.c.detail)
        .join(tasks, tasks.c.id == newest.c.task_id)
        .where(
            tasks.c.account_id.concat("") == account_id,  # of no index: SQLite would go through all of the account's
            newest.c.at >= since,
            refused,
        )
        .order_by(newest.c.seq.desc())
        .limit(SOME)
    )
    return [(row.provider, Step(row.at, row.kind, json.loads(row.detail))) for row in connection.execute(query)]


def failing(connection: Connection, account_id: str, limit: int) -> Sequence[str]:
    """Ids of the account's registered subscribers that fail or were disabled for it, those longest at it first."""
    query = (
        select(subscribers.c.id)
        .where(
            subscribers.c.account_id == account_id,
            subscribers.c.task_only.is_(False),
            subscribers.c.deleted_at.is_(None),
            subscribers.c.failing_since.is_not(None),
        )
        .order_by(subscribers.c.failing_since)
        .limit(limit)
    )
    return connection.execute(query).scalars().all()


def last_attempts(connection: Connection, delivery_ids: Sequence[str]) -> Rows:
    """(delivery_id, started_at, response_status, error, message) of the newest attempt of each delivery."""
    newest = (
        select(attempts.c.delivery_id, func.max(attempts.c.number).label("number"))
        .where(attempts.c.delivery_id.in_(list(delivery_ids)))
        .group_by(attempts.c.delivery_id)
        .subquery()
    )
    columns = (attempts.c.started_at, attempts.c.response_status, attempts.c.error, attempts.c.message)
    same = (attempts.c.delivery_id == newest.c.delivery_id) & (attempts.c.number == newest.c.number)
    return connection.execute(select(attempts.c.delivery_id, *columns).join(newest, same)).all()


def last_failure(connection: Connection, subscriber_id: str) -> Any:
    """(delivery_id, started_at, response_status, error, message) of the newest attempt that failed, or None.

    Among the attempts of the subscriber's newest SOME deliveries.
    """
    own = select(deliveries.c.id).where(deliveries.c.subscriber_id == subscriber_id, deliveries.c.attempts > 0)
    newest = own.order_by(deliveries.c.id.desc()).limit(SOME).subquery()
    columns = (attempts.c.started_at, attempts.c.response_status, attempts.c.error, attempts.c.message)
    query = select(attempts.c.delivery_id, *columns).join(newest, newest.c.id == attempts.c.delivery_id)
    return connection.execute(
        query.where(attempts.c.error.is_not(None)).order_by(attempts.c.started_at.desc()).limit(1)
    ).first()


def hours(connection: Connection, subscriber_id: str, starts: Sequence[int], length: int) -> Rows:
    """(place, status, attempts, number) of a subscriber's deliveries in spans of ``length`` ms from ``starts`` (ms).

    ``place``: which span. Each is judged by its newest SAMPLE.
    """
    spans = [first_id("dlv", edge) for start in starts for edge in (start, start + length)]
    return [Hour(*row) for row in _hours(len(starts)).fetch(connection, (subscriber_id, *spans))]


class Hour(NamedTuple):
    """A row of ``hours``."""

    place: int
    status: str
    attempts: int
    number: int


@cache
def _hours(number: int) -> Prepared:
    """Of so many spans; made once: to put it together costs twenty times what the database needs for it."""
    names = [f"{edge}_{place}" for place in range(number) for edge in ("from", "until")]
    return Prepared(union_all(*map(_hour, range(number))), "of_subscriber", *names)


def _hour(place: int) -> Select[Any]:
    sample = (
        select(deliveries.c.status, deliveries.c.attempts)
        .where(
            deliveries.c.subscriber_id == bindparam("of_subscriber"),
            deliveries.c.id >= bindparam(f"from_{place}"),
            deliveries.c.id < bindparam(f"until_{place}"),
        )
        .order_by(deliveries.c.id.desc())
        .limit(SAMPLE)
        .subquery()
    )
    group = (sample.c.status, sample.c.attempts)
    return select(literal_column(str(place)).label("place"), *group, func.count().label("number")).group_by(*group)
