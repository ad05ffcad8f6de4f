"""Queries on tasks. Moves are compare-and-set: a task that has ended, or is in another state, stays as it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    ColumnElement,
    Connection,
    Integer,
    Update,
    bindparam,
    func,
    insert,
    select,
    update,
)

from receiver.models import LIVE, CompletedVia, Page, Step, Task, TaskStatus, first_id
from receiver.schedule import DAY
from receiver.signing import without_tokens
from receiver.store import dialect
from receiver.store.paging import are_few, fitting
from receiver.store.prepared import Prepared, PreparedAmong
from receiver.store.schema import idempotency_keys, steps, task_metadata, tasks

LONGEST_LIFE = 32 * DAY
"""For how long (ms) a task can live: 31 days at most, and clocks differ."""

_WHOLE = [tasks.c[part.name] for part in fields(Task)]
_READ: Mapping[str, Callable[[Any], Any]] = {
    "status": TaskStatus,
    "metadata": lambda text: {} if text == "{}" else json.loads(text),
    "completed_via": lambda word: None if word is None else CompletedVia(word),
    "outcome_unknown": bool,  # a number on SQLite
}
_READERS = [(place, _READ[column.name]) for place, column in enumerate(_WHOLE) if column.name in _READ]

_LARGE = (tasks.c.input_json, tasks.c.outputs_json, tasks.c.provider_response)

_SOME = PreparedAmong(lambda ids: select(*_WHOLE).where(tasks.c.id.in_(ids)))
_SOME_HELD = PreparedAmong(lambda ids: dialect.locked(select(*_WHOLE).where(tasks.c.id.in_(ids)).order_by(tasks.c.id)))
_ADD_STEP = Prepared(insert(steps), "task_id", "at", "kind", "detail")

_QUEUE = (tasks.c.provider == bindparam("of_provider")) & (tasks.c.status == bindparam("in_status"))
_DUE = (
    select(tasks.c.id)
    .where(_QUEUE, tasks.c.due_at <= bindparam("now", type_=BigInteger))
    .limit(bindparam("most", type_=Integer))
)
_ASKED = ("of_provider", "in_status", "now", "most")
_TAKE = Prepared(dialect.skip_locked(_DUE.order_by(tasks.c.due_at)), *_ASKED)
_COUNT_DUE = Prepared(select(func.count()).select_from(_DUE.subquery()), *_ASKED)
_NEXT_DUE = Prepared(
    select(func.min(tasks.c.due_at)).where(_QUEUE, tasks.c.due_at.is_not(None)), "of_provider", "in_status"
)


def _lease(ids: list[BindParameter[Any]]) -> Update:
    leased = {
        "fence": tasks.c.fence + 1,
        "due_at": bindparam("until"),
        "status": bindparam("new_status"),
        "submits": tasks.c.submits + bindparam("more_submits", type_=Integer),
    }
    still = tasks.c.id.in_(ids) & (tasks.c.status == bindparam("in_status"))
    return update(tasks).where(still).values(leased).returning(*_WHOLE)


_LEASE = PreparedAmong(_lease, "until", "new_status", "more_submits", "in_status")


def _from_row(row: Sequence[Any]) -> Task:
    """A row of ``_WHOLE`` as a Task."""
    values = list(row)
    for place, read in _READERS:
        values[place] = read(values[place])
    return Task(*values)


def add(connection: Connection, task: Task) -> None:
    """Store a new task with its metadata."""
    connection.execute(
        insert(tasks).values(
            id=task.id,
            account_id=task.account_id,
            provider=task.provider,
            operation=task.operation,
            status=task.status,
            input_json=task.input_json,
            metadata=json.dumps(dict(task.metadata)),
            callback_url=task.callback_url,
            created_at=task.created_at,
            deadline_at=task.deadline_at,
            due_at=task.due_at,
        )
    )
    rows = [
        {"task_id": task.id, "account_id": task.account_id, "key": key, "value": value}
        for key, value in task.metadata.items()
    ]
    if rows:
        connection.execute(insert(task_metadata), rows)


def get(connection: Connection, task_id: str) -> Task | None:
    """The task, or None."""
    row = connection.execute(select(*_WHOLE).where(tasks.c.id == task_id)).first()
    return None if row is None else _from_row(row)


def get_all(connection: Connection, ids: Collection[str]) -> Mapping[str, Task]:
    """Those of these tasks that exist, by id."""
    return {row[0]: _from_row(row) for row in _SOME.fetch(connection, ids)}


def hold(connection: Connection, ids: Collection[str]) -> dict[str, Task]:
    """Those of these tasks that exist, by id, as they are and stay until the transaction ends, but for its own moves.

    Taken in the order of their ids, so that two transactions that want the same ones never wait for each other.
    """
    return {row[0]: _from_row(row) for row in _SOME_HELD.fetch(connection, ids)}


def find_by_provider_id(connection: Connection, provider: str, provider_task_id: str) -> Task | None:
    """The newest task that a provider knows by this id, or None."""
    query = select(*_WHOLE).where(tasks.c.provider == provider, tasks.c.provider_task_id == provider_task_id)
    row = connection.execute(query.order_by(tasks.c.id.desc()).limit(1)).first()
    return None if row is None else _from_row(row)


def named_since(connection: Connection, account_id: str, callback_url: str, at: int) -> bool:
    """Whether one of an account's tasks that were made after a time (ms) has this callback URL."""
    query = select(tasks.c.id).where(tasks.c.account_id == account_id, tasks.c.id >= first_id("task", at + 1))
    return connection.execute(query.where(tasks.c.callback_url == callback_url).limit(1)).first() is not None


@dataclass(frozen=True, slots=True)
class Filter:
    """What ``list_page`` narrows down to; times in ms; None means any."""

    status: str | None = None
    provider: str | None = None
    operation: str | None = None
    created_after: int | None = None
    created_before: int | None = None
    metadata: Mapping[str, str] | None = None


def list_page(connection: Connection, account_id: str, wanted: Filter, limit: int, cursor: str | None) -> Page[Task]:
    """An account's tasks, newest first; fewer than ``limit`` where they are very large."""
    query = select(*_WHOLE).where(tasks.c.account_id == account_id)
    for column, value in (
        (tasks.c.status, wanted.status),
        (tasks.c.provider, wanted.provider),
        (tasks.c.operation, wanted.operation),
    ):
        if value is not None:
            query = query.where(column == value)
    looked_up = False
    for key, text in (wanted.metadata or {}).items():
        pair = (task_metadata.c.account_id == account_id, task_metadata.c.key == key, task_metadata.c.value == text)
        having = select(task_metadata.c.task_id).where(*pair)
        of_time = having.where(*_between(task_metadata.c.task_id, wanted, cursor))
        if are_few(connection, of_time):
            query, looked_up = query.where(tasks.c.id.in_(of_time)), True
        else:  # one by one, newest first, until the page is full: SQLite would gather all of them before, and
            # PostgreSQL, where it knows nothing of the table (yet), go through all of them for each task but for OFFSET
            of_task = having.where(task_metadata.c.task_id == tasks.c.id).offset(0)
            query = query.where(of_task.correlate(tasks).exists())
    if not looked_up:  # else SQLite would go through all tasks of that time, instead of those few
        query = query.where(*_between(tasks.c.id, wanted, cursor))
    ids, more = fitting(connection, query.order_by(tasks.c.id.desc()), tasks.c.id, _LARGE, limit)
    found = get_all(connection, ids)
    return Page(tuple(found[task_id] for task_id in ids if task_id in found), ids[-1] if more else None)


def _between(ids: Column[str], wanted: Filter, cursor: str | None) -> list[ColumnElement[bool]]:
    """Ids of the time that is wanted, below the cursor. SQLite begins at one upper end only, so it is given the lower.

    Else each page would go through all the pages before it.
    """
    before = None if wanted.created_before is None else first_id("task", wanted.created_before)
    below = min((end for end in (before, cursor) if end is not None), default=None)
    since = None if wanted.created_after is None else first_id("task", wanted.created_after + 1)
    return [*([] if since is None else [ids >= since]), *([] if below is None else [ids < below])]


def claim(
    connection: Connection,
    provider: str,
    status: TaskStatus,
    moved_to: TaskStatus,
    now: int,
    until: int,
    limit: int,
    *,
    submits: int = 0,
) -> Sequence[Task]:
    """Take up to ``limit`` due tasks of a provider in a state, oldest due first, until a lease's end.

    Each gets the next fence number; ``moved_to`` is their new state (the same, or SUBMITTING).
    ``submits`` is added to their count of submissions.
    """
    ids = due(connection, provider, status, now, limit)
    return lease(connection, ids, status, moved_to, until, submits=submits)


def due(connection: Connection, provider: str, status: TaskStatus, now: int, limit: int) -> Sequence[str]:
    """The ids of up to ``limit`` due tasks of a provider in a state, oldest due first: for a ``lease``."""
    return [task_id for (task_id,) in _TAKE.fetch(connection, (provider, status.value, now, limit))]


def lease(
    connection: Connection,
    ids: Sequence[str],
    status: TaskStatus,
    moved_to: TaskStatus,
    until: int,
    *,
    submits: int = 0,
) -> Sequence[Task]:
    """Take tasks that ``due`` gave in this transaction, in their order; see ``claim``."""
    rows = _LEASE.fetch(connection, ids, (until, moved_to.value, submits, status.value))
    order = {task_id: place for place, task_id in enumerate(ids)}
    return sorted((_from_row(row) for row in rows), key=lambda task: order[task.id])


def move(connection: Connection, task_id: str, values: Mapping[str, Any]) -> bool:
    """Change a task if it is still live. Whether it was.

    Callback tokens, which a provider's answer may repeat, are left out of what is stored.
    """
    query = update(tasks).where(tasks.c.id == task_id, tasks.c.status.in_([status.value for status in LIVE]))
    return connection.execute(query.values(**_without_tokens(values))).rowcount == 1


def move_held(connection: Connection, moves: Sequence[tuple[Task, Mapping[str, Any]]]) -> list[Task]:
    """Change tasks that ``hold`` gave, each named once; what they are now.

    Callback tokens are left out here, too. Raises RuntimeError when a task is not as it was held.
    """
    moved: list[Task] = []
    by_columns: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
    for task, values in moves:
        kept = _without_tokens(values)
        by_columns.setdefault(tuple(kept), []).append((*kept.values(), task.id, task.status))
        moved.append(replace(task, **kept))
    for names, rows in by_columns.items():
        if _move(names).run(connection, rows) != len(rows):
            raise RuntimeError("a task that this transaction holds was changed by another")
    return moved


@cache
def _move(names: tuple[str, ...]) -> Prepared:
    """Sets these columns of a task that is held, and is in the state that it was held in."""
    held = (tasks.c.id == bindparam("held_id")) & (tasks.c.status == bindparam("held_status"))
    query = update(tasks).where(held).values({name: bindparam(f"new_{name}") for name in names})
    return Prepared(query, *(f"new_{name}" for name in names), "held_id", "held_status")


def _without_tokens(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: without_tokens(value) if type(value) is str else value for name, value in values.items()}


def count_due(connection: Connection, provider: str, status: TaskStatus, now: int, limit: int) -> int:
    """How many tasks of a provider are due in this state, counted up to a limit."""
    ((found,),) = _COUNT_DUE.fetch(connection, (provider, status.value, now, limit))
    return int(found)


def overdue(
    connection: Connection,
    providers: Collection[str],
    now: int,
    abandoned_before: int,
    unasked: Mapping[TaskStatus, Collection[str]],
    unasked_before: int,
    limit: int,
    *,
    held: bool = False,
) -> Sequence[Task]:
    """Live tasks past their deadline that no lane ends: those still queued, and those of other providers than these.

    The latter only when their deadline passed before ``abandoned_before``; and those whose deadline passed before
    ``unasked_before``, of providers that want no calls about tasks in their state (``unasked``). ``held``: without
    those that somebody is changing now; the others stay as they are until this transaction ends.
    """
    abandoned = tasks.c.provider.not_in(list(providers)) & (tasks.c.deadline_at < abandoned_before)
    for status, silent in unasked.items():
        waits = (tasks.c.status == status.value) & tasks.c.provider.in_(list(silent))
        abandoned |= waits & (tasks.c.deadline_at < unasked_before)
    query = select(*_WHOLE).where(
        tasks.c.due_at.is_not(None),
        tasks.c.due_at <= now,  # not those in a worker's hands: what it is being told of them counts
        tasks.c.deadline_at <= now,
        abandoned | (tasks.c.status == TaskStatus.QUEUED.value),
    )
    query = query.order_by(tasks.c.deadline_at).limit(limit)
    return [_from_row(row) for row in connection.execute(dialect.skip_locked(query) if held else query)]


def endless(connection: Connection, now: int, limit: int) -> Sequence[str]:
    """Live tasks that wait longer than any can: a clock that was wrong has written it, and nobody would look at them.

    Those made by that clock, but for what is being handed over: should it be ours that is wrong, years behind, somebody
    has these in hand right now. Of all others those that have passed their deadline, as a worker that died left them.
    """
    end = now + LONGEST_LIFE
    waits = select(tasks.c.id).where(tasks.c.due_at > end).limit(limit)
    made = waits.where(tasks.c.deadline_at > end, tasks.c.status != TaskStatus.SUBMITTING.value)
    left = waits.where(tasks.c.deadline_at <= now)
    found = [connection.execute(query).scalars().all() for query in (made, left)]
    return [*found[0], *found[1]]


def end_waits(connection: Connection, ids: Sequence[str], now: int, due: int) -> int:
    """Let those of these tasks that still wait longer than any can come due at a time; how many."""
    connection.execute(dialect.locked(select(tasks.c.id).where(tasks.c.id.in_(ids)).order_by(tasks.c.id)))
    query = update(tasks).where(tasks.c.id.in_(ids), tasks.c.due_at > now + LONGEST_LIFE)
    return connection.execute(query.values(due_at=due)).rowcount


def count_at_provider(connection: Connection, provider: str) -> int:
    """How many tasks a provider has now (being handed over, or running)."""
    at_provider = [TaskStatus.SUBMITTING.value, TaskStatus.RUNNING.value]
    query = select(func.count()).where(
        tasks.c.provider == provider, tasks.c.status.in_(at_provider), tasks.c.due_at.is_not(None)
    )
    return int(connection.execute(query).scalar_one())


def next_due(connection: Connection, provider: str, status: TaskStatus) -> int | None:
    """When the next task of a provider in this state falls due, or None when there is none."""
    ((due,),) = _NEXT_DUE.fetch(connection, (provider, status.value))
    return None if due is None else int(due)


def remember_key(connection: Connection, account_id: str, key: str, fingerprint: str, task_id: str, now: int) -> bool:
    """Bind an idempotency key to a task. False when the key is bound already."""
    query = dialect.insert_or_nothing(idempotency_keys).values(
        account_id=account_id, key=key, fingerprint=fingerprint, task_id=task_id, created_at=now
    )
    return connection.execute(query).rowcount == 1


def find_key(connection: Connection, account_id: str, key: str) -> tuple[str, str] | None:
    """(fingerprint, task id) of an idempotency key, or None."""
    query = select(idempotency_keys.c.fingerprint, idempotency_keys.c.task_id).where(
        idempotency_keys.c.account_id == account_id, idempotency_keys.c.key == key
    )
    row = connection.execute(query).first()
    return None if row is None else (row[0], row[1])


def add_step(connection: Connection, task_id: str, at: int, kind: str, detail: Mapping[str, Any]) -> None:
    """Add a line to a task's timeline."""
    add_steps(connection, [(task_id, Step(at, kind, detail))])


def add_steps(connection: Connection, new: Sequence[tuple[str, Step]]) -> None:
    """Add lines to timelines: the task's id, and the line."""
    _ADD_STEP.send(
        connection,
        [(task_id, step.at, step.kind, without_tokens(json.dumps(dict(step.detail)))) for task_id, step in new],
    )


def list_steps(connection: Connection, task_id: str, most: int | None = None) -> Sequence[Step]:
    """The lines of a task's timeline, the newest ``most``, in order."""
    query = select(steps).where(steps.c.task_id == task_id).order_by(steps.c.seq.desc()).limit(most)
    return [Step(row.at, row.kind, json.loads(row.detail)) for row in reversed(connection.execute(query).all())]


def fill_provider_task_id(connection: Connection, task_id: str, provider_task_id: str) -> None:
    """Note the provider's id of a task that has none yet, whatever its state."""
    query = update(tasks).where(tasks.c.id == task_id, tasks.c.provider_task_id.is_(None))
    connection.execute(query.values(provider_task_id=provider_task_id))
