"""Tasks past their deadline that no lane ends: the sweep does."""

from __future__ import annotations

from typing import Any

import pytest

from receiver.models import EventType, TaskStatus
from receiver.polling import LAST_QUERY_GRACE, PAUSE_GRACE, Answer
from receiver.store import pacing
from tests import asking
from tests.core.stage import Clock, Stage, done, still


def pause(stage: Stage) -> None:
    """The provider wants no calls for an hour."""
    with stage.runtime.store.write() as connection:
        for call in ("query", "submit"):
            pacing.postpone(connection, f"toy:{call}", stage.clock() + 3_600_000)


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


def test_a_submission_that_broke_off_before_its_provider_was_switched_off_is_unknown(build: Any, clock: Clock) -> None:
    """Nobody was there to note that its answer was lost: it may have been bought all the same, and its end says so."""
    stage: Stage = build()
    task = stage.create(deadline=60)
    stage.claim_one()
    off: Stage = build(providers={})
    clock.now = task.deadline_at + LAST_QUERY_GRACE + 1
    assert off.runtime.polling.end_overdue() == 1
    ended = stage.task(task)
    assert ended.status is TaskStatus.FAILED
    assert "submission_unknown" in (ended.error_json or "")


@pytest.mark.parametrize("lost", [False, True])
def test_a_task_that_cannot_be_asked_after_expires_at_last(stage: Stage, lost: bool) -> None:
    """Its provider wants no calls for hours: two hours behind its deadline its caller waits no longer."""
    task = stage.create(deadline=60) if lost else stage.running(deadline=60)
    if lost:
        stage.runtime.submissions.lost(stage.claim_one().task, "no answer")
    stage.clock.now = task.deadline_at + PAUSE_GRACE
    pause(stage)
    assert stage.runtime.polling.end_overdue() == 0
    stage.clock.pass_by(1)
    assert stage.runtime.polling.end_overdue() == 1
    assert stage.task(task).status is (TaskStatus.FAILED if lost else TaskStatus.EXPIRED)


def test_the_end_of_one_overdue_task_is_not_the_end_of_others(stage: Stage) -> None:
    """What a provider that wants no calls just now has made is paid for: it is not ended with a task in the queue."""
    running, queued = stage.running(deadline=7200), stage.create(deadline=7200)
    stage.clock.now = queued.deadline_at
    pause(stage)
    stage.clock.pass_by(PAUSE_GRACE / 1000 / 2)
    pause(stage)
    assert stage.runtime.polling.end_overdue() == 1
    assert stage.task(queued).status is TaskStatus.EXPIRED
    assert stage.task(running).status is TaskStatus.RUNNING


def test_a_low_rate_is_no_pause(build: Any, clock: Clock) -> None:
    """A task whose turn comes once in a while is asked about, however late that is: its result is paid for."""
    stage: Stage = build(TOY_QUERY_RATE="0.01")
    running = [stage.running(f"job-{number}", deadline=60) for number in range(3)]
    clock.now = running[-1].deadline_at + PAUSE_GRACE + 1
    while waiting := [task for task in running if not stage.task(task).status.final]:
        asked = stage.asked_for()
        assert len(asked) == min(2, len(waiting)), "a batch of the toy"
        assert stage.runtime.polling.end_overdue() == 0, "nor those whose turn comes with the next call"
        jobs = {task.id: task.provider_task_id or "" for task in running}
        asking.answered(stage.runtime.polling, asked, {task.id: done(jobs[task.id]) for task in asked})
        clock.pass_by(100)
    assert {stage.task(task).status for task in running} == {TaskStatus.SUCCEEDED}


def test_a_query_of_several_calls_is_no_pause(build: Any, clock: Clock) -> None:
    """Where each result takes a call of its own, a low rate is used up for long: those who wait keep their turn."""
    stage: Stage = build(TOY_QUERY_RATE="0.01")
    tasks = [stage.running(f"job-{number}", deadline=60) for number in range(1 + stage.handler.query_batch)]
    clock.now = tasks[-1].deadline_at + PAUSE_GRACE + 1
    ((_, batch),) = asking.claim(stage.runtime.polling, "toy", 1)
    answer = Answer(batch, {task.id: done() for task in batch}, calls=1 + len(batch))
    stage.runtime.polling.turn("toy", [answer], 0)
    assert stage.runtime.polling.end_overdue() == 0
    assert [stage.task(task).status for task in tasks].count(TaskStatus.RUNNING) == 1


def test_a_pause_ends_no_task_that_is_being_asked_after(stage: Stage, clock: Clock) -> None:
    """Of two calls one is told to wait: what the other one brings still counts, and what is paid for is not lost."""
    task = stage.running(deadline=60)
    clock.now = task.deadline_at + PAUSE_GRACE + 1
    asked = stage.asked_for()
    pause(stage)
    assert stage.runtime.polling.end_overdue() == 0
    asking.answered(stage.runtime.polling, asked, {task.id: done()})
    assert stage.task(task).status is TaskStatus.SUCCEEDED


def test_after_an_outage_a_task_is_asked_after_before_it_expires(stage: Stage) -> None:
    """A result that is paid for is not thrown away: however late the last query is, it comes before the end."""
    task = stage.running(deadline=60)
    stage.clock.now = task.deadline_at + 10 * PAUSE_GRACE
    assert stage.runtime.polling.end_overdue() == 0
    stage.poll(done())
    assert stage.task(task).status is TaskStatus.SUCCEEDED


def test_a_pause_just_after_an_outage_ends_no_task(build: Any, clock: Clock) -> None:
    """The provider wants fewer calls from a service that comes back: its old tasks are asked after a pause later."""
    before: Stage = build()
    task = before.running(deadline=60)
    clock.now = task.deadline_at + 10 * PAUSE_GRACE
    after: Stage = build()
    pause(after)
    assert after.runtime.polling.end_overdue() == 0
    clock.pass_by(3600)
    after.poll(done())
    assert after.task(task).status is TaskStatus.SUCCEEDED


def test_one_failed_query_after_an_outage_ends_no_task(build: Any, clock: Clock) -> None:
    """A provider that answers the first call with HTTP 503 is asked again for ten minutes, counted from our start."""
    before: Stage = build()
    task = before.running(deadline=60)
    clock.now = task.deadline_at + PAUSE_GRACE
    after: Stage = build()
    asking.failed(after.runtime.polling, after.asked_for(), "HTTP 503", None)
    assert after.task(task).status is TaskStatus.RUNNING
    after.wait_until_due(task)
    after.poll(done())
    assert after.task(task).status is TaskStatus.SUCCEEDED

    other = after.running(deadline=60)
    clock.now = other.deadline_at + LAST_QUERY_GRACE
    asking.failed(after.runtime.polling, after.asked_for(), "HTTP 503", None)
    assert after.task(other).status is TaskStatus.EXPIRED, "who was there to ask does not wait for longer"


def test_an_answer_that_says_nothing_of_a_task_is_not_its_last(stage: Stage) -> None:
    """Its result could not be looked up for now, though others of its batch could: it is not thrown away for that."""
    task, other = stage.running("job-1", deadline=60), stage.running("job-2", deadline=60)
    stage.clock.now = task.deadline_at
    asking.answered(stage.runtime.polling, stage.asked_for(), {other.id: done("job-2")})
    assert stage.task(other).status is TaskStatus.SUCCEEDED
    stage.wait_until_due(task)
    stage.poll(done())
    assert stage.task(task).status is TaskStatus.SUCCEEDED


def test_a_task_of_which_nothing_is_known_expires(stage: Stage) -> None:
    """Ten minutes past its deadline its caller waits no longer."""
    task = stage.running(deadline=60)
    while not stage.task(task).status.final:
        stage.wait_until_due(task)
        stage.poll(None)
    assert stage.task(task).status is TaskStatus.EXPIRED
    assert LAST_QUERY_GRACE <= stage.clock() - task.deadline_at <= LAST_QUERY_GRACE + 30_000


@pytest.mark.parametrize("asked_again", [False, True])
def test_a_notice_during_the_last_query_is_followed_up(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, asked_again: bool
) -> None:
    """What was asked before it came ends nothing, nor does a provider whose query lags a little behind its notice."""
    monkeypatch.setattr(stage.handler, "signature_covers_body", False)
    task = stage.running(deadline=60)
    stage.clock.now = task.deadline_at
    asked = stage.asked_for()
    stage.notice(task)
    if asked_again:
        asked = stage.asked_for()
    asking.answered(stage.runtime.polling, asked, {task.id: still()})
    assert stage.task(task).status is TaskStatus.RUNNING
    stage.wait_until_due(task)
    stage.poll(done())
    assert stage.task(task).status is TaskStatus.SUCCEEDED
    assert stage.event_types(task) == [EventType.TASK_RUNNING, EventType.TASK_SUCCEEDED]


def test_a_believed_notice_during_the_last_query_ends_the_task(stage: Stage) -> None:
    """The answer to a query that was under way contradicts it in vain."""
    task = stage.running(deadline=60)
    stage.clock.now = task.deadline_at
    asked = stage.asked_for()
    stage.notice(task)
    asking.answered(stage.runtime.polling, asked, {task.id: still()})
    assert stage.task(task).status is TaskStatus.SUCCEEDED
    assert stage.event_types(task) == [EventType.TASK_RUNNING, EventType.TASK_SUCCEEDED]


def test_notices_without_end_keep_no_task_for_ever(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them is asked about; ten minutes past its deadline the caller waits no longer."""
    monkeypatch.setattr(stage.handler, "signature_covers_body", False)
    task = stage.running(deadline=60)
    stage.clock.now = task.deadline_at
    while not stage.task(task).status.final:
        stage.notice(task, state=f"drawn until {stage.clock()}")
        stage.poll(still())
        stage.clock.pass_by(30)
    assert stage.task(task).status is TaskStatus.EXPIRED
    assert LAST_QUERY_GRACE <= stage.clock() - task.deadline_at <= LAST_QUERY_GRACE + 60_000


def test_a_notice_at_the_deadline_is_followed_up_at_growing_distances(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A query that lags behind its notice costs no more of the provider's rate than before the deadline."""
    monkeypatch.setattr(stage.handler, "signature_covers_body", False)
    task = stage.running(deadline=60)
    stage.clock.now = task.deadline_at
    stage.notice(task)
    asked = 0
    while not stage.task(task).status.final:
        stage.wait_until_due(task)
        asked += len(stage.poll(still()))
    assert stage.clock() <= task.deadline_at + 70_000
    assert asked <= 25


def test_a_final_word_goes_before_another_answer_of_the_same_moment(stage: Stage) -> None:
    """The slow answer to an earlier query says that it is done, the quick one to the last query does not know yet."""
    task = stage.running(deadline=60)
    stage.clock.now = task.deadline_at
    early = stage.asked_for()
    stage.clock.pass_by(stage.settings.lease)
    late = stage.asked_for()
    answers = [Answer(late, {task.id: still()}), Answer(early, {task.id: done()})]
    stage.runtime.polling.turn("toy", answers, 0)
    assert stage.task(task).status is TaskStatus.SUCCEEDED


def test_a_queued_task_expires_at_its_deadline(stage: Stage) -> None:
    """A provider's cap or pause may hold a task back; its deadline does not wait for its turn."""
    task = stage.create(deadline=60)
    stage.clock.now = task.deadline_at - 1
    assert stage.runtime.polling.end_overdue() == 0
    stage.clock.now = task.deadline_at
    assert stage.runtime.polling.end_overdue() == 1
    assert stage.task(task).status is TaskStatus.EXPIRED
    assert stage.event_types(task) == [EventType.TASK_EXPIRED]
