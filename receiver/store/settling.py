"""The one door: moves tasks by compare-and-set and writes events and deliveries in the same transaction.

Callback, poll, cancel and deadline all end here; hence one final state and one final event per
task, however they race. What comes together is written together: statements cost less by the dozen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import partial
from itertools import accumulate
from typing import Any

from sqlalchemy import Connection

from handlers import TaskUpdate, record
from receiver import events as event_rules
from receiver import watching
from receiver.faultpoints import reached
from receiver.lifecycle import Change
from receiver.models import Delivery, DeliveryStatus, Event, EventType, Step, Subscriber, Task, TaskStatus, new_id
from receiver.store import deliveries, events, subscribers, tasks
from receiver.store.database import after_commit

MOST_TOLD = 5000
"""Deliveries that one transaction makes, about: of very many all at once would keep others from writing."""
FEW = 5
"""News that have not many more together, however many subscribers their accounts have."""


@record
class Move:
    """What becomes of a task as it was read.

    ``change``: decided for it; None: it stays in its state. ``update``: the provider's word that led to
    it. ``values``: further columns to set (``due_at`` of a live task among them).
    """

    task: Task
    change: Change | None
    update: TaskUpdate | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


def settle(connection: Connection, moves: Sequence[Move], now: int) -> list[Task]:
    """Apply moves of tasks that this transaction holds (``tasks.hold``), each named once; what they are now."""
    settled = tasks.move_held(connection, [(move.task, _columns(move, now)) for move in moves])
    _tell(connection, list(zip(moves, settled, strict=True)), now)
    return settled


def at_once(connection: Connection, news: Sequence[Task]) -> Sequence[int]:
    """The places of those of some news, each of one of these tasks, that one transaction should tell subscribers.

    The first; then those of which fewest hear, as many as are together no more than MOST_TOLD.
    """
    if len(news) <= FEW:
        return range(len(news))
    each = how_many_hear(connection, news)
    in_turn = [0, *sorted(range(1, len(news)), key=each.__getitem__)]
    sums = accumulate(each[place] for place in in_turn)
    return [place for place, told in zip(in_turn, sums, strict=True) if place == 0 or told <= MOST_TOLD]


def how_many_hear(connection: Connection, news: Sequence[Task]) -> list[int]:
    """How many subscribers are told, at most, of an event of each of these tasks."""
    registered = subscribers.count(connection, {task.account_id for task in news})
    return [registered.get(task.account_id, 0) + (task.callback_url is not None) for task in news]


def adoption(task: Task, provider_task_id: str, now: int) -> Move:
    """The move of a task whose submission's answer was lost, once it is heard of: it runs, and is queried now."""
    change = Change(TaskStatus.RUNNING, task.progress, None, None, EventType.TASK_RUNNING)
    values = {"provider_task_id": provider_task_id, "submitted_at": now, "outcome_unknown": False, "due_at": now}
    return Move(task, change, values=values)


def _columns(move: Move, now: int) -> dict[str, Any]:
    columns = dict(move.values)
    change, update = move.change, move.update
    if change is not None:
        columns.update(status=change.status, progress=change.progress)
    if update is not None:
        columns["provider_response"] = update.raw
        if update.provider_task_id and not move.task.provider_task_id:
            columns.setdefault("provider_task_id", update.provider_task_id)
        if update.outputs:
            columns["outputs_json"] = event_rules.outputs_json(update.outputs)
    if change is not None and change.status.final:
        columns.update(
            due_at=None,
            finished_at=now,
            error_json=event_rules.error_json(change.error),
            completed_via=change.completed_via,
        )
    return columns


def _tell(connection: Connection, moved: Sequence[tuple[Move, Task]], now: int) -> None:
    """Write what changed into the timelines, and the events of which subscribers are to hear."""
    changed = [(move.task, move.change, settled) for move, settled in moved if move.change is not None]
    elsewhere = [(task, change, settled) for task, change, settled in changed if change.status is not task.status]
    tasks.add_steps(connection, [(task.id, _step(task, change, now)) for task, change, _ in elsewhere])
    for task, change, settled in elsewhere:
        code = None if change.error is None else change.error.code
        after_commit(connection, partial(watching.task_changed, task, settled, now, code))
    news = [(settled, change.event) for _, change, settled in changed if change.event is not None]
    if news:
        _publish_tasks(connection, news, now)


def _step(task: Task, change: Change, now: int) -> Step:
    detail: dict[str, Any] = {"from": task.status, "to": change.status}
    if change.error is not None:
        detail["error"] = change.error.code
    if change.completed_via is not None:
        detail["via"] = change.completed_via
    return Step(now, "state", detail)


def _publish_tasks(connection: Connection, news: Sequence[tuple[Task, EventType]], now: int) -> None:
    """Write events that state tasks, and their deliveries: to matching subscribers and the callback URLs."""
    accounts = {task.account_id for task, _ in news}
    registered = {account: subscribers.of_account(connection, account) for account in accounts}
    # In order, so that two transactions that both make missing ones never wait for each other.
    addresses = sorted({(task.account_id, task.callback_url) for task, _ in news if task.callback_url is not None})
    hidden = {place: subscribers.behind_callback_url(connection, *place, now) for place in addresses}
    new: list[tuple[Event, Sequence[Subscriber]]] = []
    for task, event_type in news:
        wanting = [
            subscriber
            for subscriber in registered[task.account_id]
            if event_rules.wants(subscriber, event_type, task.provider)
        ]
        if task.callback_url is not None:
            wanting.append(hidden[task.account_id, task.callback_url])
        body = event_rules.event_body(event_type, now, event_rules.task_json(task))
        new.append((Event(new_id("evt", now), task.account_id, event_type, now, body, task.id), wanting))
    _write(connection, new)


def publish(
    connection: Connection,
    account_id: str,
    event_type: EventType,
    body: str,
    to: Sequence[Subscriber],
    now: int,
    *,
    due: int | None = None,
) -> list[Delivery]:
    """Write an event that is about no task; its deliveries, due now (or ``due``), one for each of these subscribers."""
    return _write(connection, [(Event(new_id("evt", now), account_id, event_type, now, body), to)], due)


def _write(
    connection: Connection, new: Sequence[tuple[Event, Sequence[Subscriber]]], due: int | None = None
) -> list[Delivery]:
    """Write events, and a delivery of each, due at once (or ``due``), for each of its subscribers."""
    events.add(connection, [event for event, _ in new])
    reached("event.added")
    owed = [
        Delivery(
            id=new_id("dlv", event.created_at),
            account_id=event.account_id,
            event_id=event.id,
            event_type=event.type,
            subscriber_id=subscriber.id,
            task_id=event.task_id,
            url=subscriber.url,
            status=DeliveryStatus.PENDING,
            created_at=event.created_at,
            due_at=event.created_at if due is None else due,
        )
        for event, to in new
        for subscriber in to
    ]
    deliveries.add(connection, owed)
    return owed
