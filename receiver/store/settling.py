"""The one door: moves a task by compare-and-set and writes event and deliveries in the same transaction.

Callback, poll, cancel and deadline all end here; hence one final state and one final event per
task, however they race.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from handlers import TaskUpdate
from receiver import events as event_rules
from receiver.faultpoints import reached
from receiver.lifecycle import Change
from receiver.models import Delivery, DeliveryStatus, Event, EventType, Subscriber, Task, TaskStatus, new_id
from receiver.store import deliveries, events, subscribers, tasks


def settle(
    connection: Connection,
    task: Task,
    change: Change,
    now: int,
    *,
    update: TaskUpdate | None = None,
    fence: int | None = None,
    values: Mapping[str, Any] | None = None,
) -> Task | None:
    """Apply a change decided for ``task`` as read in this transaction; None when somebody was first.

    ``update``: the provider's word that led to it. ``fence``: a worker's claim that must still
    hold. ``values``: further columns to set (``due_at`` of a live task among them).
    """
    columns: dict[str, Any] = {"status": change.status, "progress": change.progress, **(values or {})}
    if update is not None:
        columns["provider_response"] = update.raw
        if update.provider_task_id and not task.provider_task_id:
            columns.setdefault("provider_task_id", update.provider_task_id)
        if update.outputs:
            columns["outputs_json"] = event_rules.outputs_json(update.outputs)
    if change.status.final:
        columns.update(
            due_at=None,
            finished_at=now,
            error_json=event_rules.error_json(change.error),
            completed_via=change.completed_via,
        )
    if not tasks.move(connection, task.id, columns, fence=fence):
        return None
    if change.status is not task.status:
        detail: dict[str, Any] = {"from": task.status, "to": change.status}
        if change.error is not None:
            detail["error"] = change.error.code
        if change.completed_via is not None:
            detail["via"] = change.completed_via
        tasks.add_step(connection, task.id, now, "state", detail)
    settled = tasks.get(connection, task.id)
    assert settled is not None  # it was moved in this very transaction
    if change.event is not None:
        publish_task(connection, settled, change.event, now)
    return settled


def adopt(connection: Connection, task: Task, provider_task_id: str, now: int) -> Task | None:
    """A submission whose answer was lost was heard of after all: it runs under this id, and is asked after now."""
    change = Change(TaskStatus.RUNNING, task.progress, None, None, EventType.TASK_RUNNING)
    values = {"provider_task_id": provider_task_id, "submitted_at": now, "outcome_unknown": False, "due_at": now}
    return settle(connection, task, change, now, values=values)


def publish_task(connection: Connection, task: Task, event_type: EventType, now: int) -> None:
    """Write an event that states a task, and its deliveries: to matching subscribers and the callback URL."""
    wanting = [
        subscriber
        for subscriber in subscribers.of_account(connection, task.account_id)
        if event_rules.wants(subscriber, event_type, task.provider)
    ]
    if task.callback_url is not None:
        wanting.append(subscribers.behind_callback_url(connection, task.account_id, task.callback_url, now))
    body = event_rules.event_body(event_type, now, event_rules.task_json(task))
    publish(connection, task.account_id, event_type, body, wanting, now, task_id=task.id)


def publish(
    connection: Connection,
    account_id: str,
    event_type: EventType,
    body: str,
    to: list[Subscriber],
    now: int,
    *,
    task_id: str | None = None,
) -> tuple[Event, list[Delivery]]:
    """Write an event and one delivery, due now, for each of these subscribers."""
    event = Event(new_id("evt", now), account_id, event_type, now, body, task_id)
    events.add(connection, event)
    reached("event.added")
    new = [
        Delivery(
            id=new_id("dlv", now),
            account_id=account_id,
            event_id=event.id,
            event_type=event_type,
            subscriber_id=subscriber.id,
            task_id=task_id,
            url=subscriber.url,
            status=DeliveryStatus.PENDING,
            created_at=now,
            due_at=now,
        )
        for subscriber in to
    ]
    deliveries.add(connection, new)
    return event, new
