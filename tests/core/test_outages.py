"""Deadlines that pass while nobody was there to ask, though the process has lived on."""

from __future__ import annotations

import pytest

from receiver.models import Task, TaskStatus
from receiver.polling import LAST_QUERY_GRACE, PAUSE_GRACE
from receiver.store import pacing
from tests import asking
from tests.core.stage import Stage, done


@pytest.mark.parametrize("seen", [False, True])
def test_one_failed_query_after_a_suspension_ends_no_task(stage: Stage, seen: bool) -> None:
    """A machine that slept is back before its network is: it asks for ten more minutes, as after a start."""
    stage.runtime.polling.here()
    task = stage.running(deadline=60)
    stage.clock.now = task.deadline_at + PAUSE_GRACE
    if seen:
        stage.runtime.polling.here()
    asking.failed(stage.runtime.polling, stage.asked_for(), "no network", None)
    assert stage.task(task).status is TaskStatus.RUNNING
    stage.wait_until_due(task)
    stage.poll(done())
    assert stage.task(task).status is TaskStatus.SUCCEEDED


def test_a_pause_of_the_provider_after_a_suspension_ends_no_task(stage: Stage) -> None:
    """Nobody was there to ask before: the sweep gives the task as long as after a start."""
    stage.runtime.polling.here()
    task = stage.running(deadline=60)
    stage.clock.now = task.deadline_at + 2 * PAUSE_GRACE
    with stage.runtime.store.write() as connection:
        pacing.postpone(connection, "toy:query", stage.clock() + 3_600_000)
    stage.runtime.polling.here()
    assert stage.runtime.polling.end_overdue() == 0
    assert stage.task(task).status is TaskStatus.RUNNING


def expires_after_its_grace(stage: Stage, task: Task) -> bool:
    """Whether a task ends with the first failed query once a worker was there all through its ten minutes more."""
    while stage.clock.now < task.deadline_at + LAST_QUERY_GRACE:
        stage.runtime.polling.here()
        stage.clock.pass_by(20)
    asking.failed(stage.runtime.polling, stage.asked_for(), "HTTP 503", None)
    return stage.task(task).status is TaskStatus.EXPIRED


def test_who_is_there_waits_no_longer(stage: Stage) -> None:
    """Signs that come every few seconds give a provider that does not answer its ten minutes, and no more."""
    task = stage.running(deadline=60)
    assert expires_after_its_grace(stage, task)


def test_a_clock_that_was_set_back_gives_no_hours_more(stage: Stage) -> None:
    """Its time of grace begins at what the clock says now, not at what it said before."""
    stage.clock.pass_by(4 * 3600)
    stage.runtime.polling.here()
    stage.clock.pass_by(4 * 3600)
    stage.runtime.polling.here()
    stage.clock.pass_by(-6 * 3600)
    stage.runtime.polling.here()
    task = stage.running(deadline=60)
    assert expires_after_its_grace(stage, task)
