"""A machine whose clock was years ahead, or years behind: what that leaves behind holds up and ends nothing."""

from __future__ import annotations

from typing import Any

import pytest

from receiver.models import TaskStatus
from receiver.schedule import CIRCUIT_AFTER
from tests.core.stage import HOOK, Stage, done

DAY = 86_400


@pytest.mark.parametrize("of", ["rate limit", "circuit"])
def test_a_clock_that_was_years_ahead_for_a_moment_holds_no_subscriber_for_years(stage: Stage, of: str) -> None:
    """What is delivered to it later comes once the sweep has found such a hold; an honest pause of a day stays."""
    years = 10 * 365 * DAY
    subscriber = stage.subscribe(rate_limit=2.0 if of == "rate limit" else None)
    polite = stage.subscribe(HOOK + "/polite")
    stage.clock.pass_by(years)
    for _ in range(1 if of == "rate limit" else CIRCUIT_AFTER):
        stage.tell(subscriber)
    stage.attempt(200 if of == "rate limit" else 500)
    stage.clock.pass_by(-years)
    pause = stage.tell(polite)
    stage.attempt(503, retry_after="86400")
    stage.tell(polite)
    wanted = stage.tell(subscriber)
    assert stage.attempt(200) == []
    assert stage.runtime.sweeping.step() == 1
    assert [claim.delivery.id for claim in stage.attempt(200)] == [wanted.id]
    assert stage.delivery(pause).attempts == 1


def test_what_was_written_while_the_clock_was_years_ahead_does_not_wait_for_years(stage: Stage) -> None:
    """What was accepted then is submitted, or attempted again, once whoever has it in hand had time to end."""
    years = 10 * 365 * DAY
    honest = stage.create("a dog", deadline=31 * DAY)
    subscriber = stage.subscribe()
    stage.clock.pass_by(years)
    task = stage.create(deadline=100)
    failed, untried = stage.tell(subscriber), stage.tell(subscriber)
    stage.attempt(500, room=1)
    stage.clock.pass_by(-years)
    assert [start.task.id for start in stage.claim()] == [honest.id]
    while stage.runtime.sweeping.step():
        pass
    assert (stage.claim(), stage.attempt(200)) == ([], [])
    stage.clock.pass_by(60)
    assert [start.task.id for start in stage.claim()] == [task.id]
    assert {claim.delivery.id for claim in stage.attempt(200)} == {failed.id, untried.id}


def test_a_sweep_counts_all_that_a_wrong_clock_has_put_off(stage: Stage) -> None:
    """Deliveries of every subscriber, and tasks: while anything was put off it goes on, and does not rest."""
    years = 10 * 365 * DAY
    stage.clock.pass_by(years)
    stage.create()
    for name in ("/one", "/other"):
        subscriber = stage.subscribe(HOOK + name)
        for _ in range(2):
            stage.tell(subscriber)
    stage.clock.pass_by(-years)
    assert stage.runtime.sweeping.step() == 5
    assert stage.runtime.sweeping.step() == 0


def test_the_longest_wait_of_a_schedule_is_not_cut_short(build: Any) -> None:
    """A month between two attempts is what the operator wants, and no wrong clock's doing."""
    stage: Stage = build(RECEIVER_RETRY_SCHEDULE=str(31 * DAY))
    failed = stage.tell(stage.subscribe())
    stage.attempt(500)
    due = stage.delivery(failed).due_at
    assert stage.runtime.sweeping.step() == 0
    assert stage.delivery(failed).due_at == due


def test_a_clock_that_is_years_behind_ends_no_task_and_takes_none_from_who_submits_it(stage: Stage) -> None:
    """A machine that starts without a clock of its own must not expire what others are about, nor buy it again."""
    years = 50 * 365 * DAY
    running, queued = stage.running(), stage.create()
    stage.claim()
    stage.clock.pass_by(-years)
    while stage.runtime.sweeping.step():
        pass
    stage.clock.pass_by(years)
    assert stage.claim() == []
    assert stage.task(queued).status is TaskStatus.SUBMITTING
    assert stage.task(running).deadline_at == running.deadline_at


def test_a_lease_of_a_clock_that_was_years_ahead_ends_with_the_deadline(stage: Stage) -> None:
    """Of a worker that died then nobody else would take the task over; its caller would wait for years."""
    years = 10 * 365 * DAY
    task = stage.running(deadline=100)
    stage.clock.pass_by(years)
    assert [taken.id for taken in stage.asked_for()] == [task.id]
    stage.clock.pass_by(-years + 101)
    stage.runtime.sweeping.step()
    assert stage.asked_for() == []
    stage.clock.pass_by(71 * 60)  # for so long a wrong clock holds back a provider's calls
    stage.poll(done())
    assert stage.task(task).status is TaskStatus.SUCCEEDED
