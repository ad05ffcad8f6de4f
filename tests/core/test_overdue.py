"""Tasks past their deadline that no lane ends: the sweep does."""

from __future__ import annotations

from typing import Any

from receiver.models import EventType, TaskStatus
from receiver.polling import LAST_QUERY_GRACE, NO_ANSWER
from tests.core.stage import Clock, Stage


def test_tasks_of_a_provider_that_was_switched_off_expire(build: Any, clock: Clock) -> None:
    """Nobody asks after them any more, and their callers must not wait for ever."""
    stage: Stage = build()
    task = stage.running(deadline=60)
    off: Stage = build(providers={})
    clock.now = task.deadline_at + LAST_QUERY_GRACE
    assert off.runtime.polling.end_overdue() == 0
    clock.pass_by(1)
    assert stage.runtime.polling.end_overdue() == 0, "a provider that is on looks after its own"
    assert off.runtime.polling.end_overdue() == 1
    assert stage.task(task).status is TaskStatus.EXPIRED
    assert stage.event_types(task) == [EventType.TASK_RUNNING, EventType.TASK_EXPIRED]
    assert off.runtime.polling.end_overdue() == 0


def test_a_task_that_cannot_be_asked_after_expires_at_last(stage: Stage) -> None:
    """Its provider wants no calls for hours: two hours behind its deadline its caller waits no longer."""
    task = stage.running(deadline=60)
    stage.clock.now = task.deadline_at + NO_ANSWER
    assert stage.runtime.polling.end_overdue() == 0
    stage.clock.pass_by(1)
    assert stage.runtime.polling.end_overdue() == 1
    assert stage.task(task).status is TaskStatus.EXPIRED


def test_a_queued_task_expires_at_its_deadline(stage: Stage) -> None:
    """A provider's cap or pause may hold a task back; its deadline does not wait for its turn."""
    task = stage.create(deadline=60)
    stage.clock.now = task.deadline_at - 1
    assert stage.runtime.polling.end_overdue() == 0
    stage.clock.now = task.deadline_at
    assert stage.runtime.polling.end_overdue() == 1
    assert stage.task(task).status is TaskStatus.EXPIRED
    assert stage.event_types(task) == [EventType.TASK_EXPIRED]
