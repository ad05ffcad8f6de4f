"""Submissions whose answer is late or lost: how long they are waited for, and what is noted of them."""

from __future__ import annotations

import json

import pytest

from handlers import Receipt, Unavailable
from receiver.models import EventType, TaskStatus
from receiver.submissions import KEPT_ANSWER
from tests.core.stage import Stage, done
from tests.core.test_submissions import LEASE, REFUSED, tell, without_callbacks


def test_a_lost_answer_whose_notice_came_is_not_repeated(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where repeating is safe: the provider has called back for it, so it runs."""
    monkeypatch.setattr(stage.handler, "submit_is_safe_to_repeat", True, raising=False)
    monkeypatch.setattr(stage.handler, "signature_covers_body", False, raising=False)
    task = stage.create()
    start = stage.claim_one()
    stage.notice(task, state="drawing")
    stage.runtime.submissions.lost(start.task, "reset")
    assert stage.task(task).status is TaskStatus.RUNNING
    stage.clock.pass_by(3600)
    assert stage.claim() == []


def test_the_receipt_of_a_canceled_task_leaves_its_id(stage: Stage) -> None:
    """Canceled while it was handed over: what the provider calls it is kept, as it may be charged there."""
    task = stage.create()
    start = stage.claim_one()
    stage.runtime.tasks.cancel(stage.account, task.id)
    stage.accept(start, "job-9")
    after = stage.task(task)
    assert (after.status, after.provider_task_id) == (TaskStatus.CANCELED, "job-9")


def test_a_refusal_of_what_the_provider_calls_back_for_is_asked_about(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that seemed to start nothing took the last credit: what it bought is not thrown away for want of more."""
    monkeypatch.setattr(stage.handler, "signature_covers_body", False, raising=False)
    task = stage.create()
    stage.runtime.submissions.unavailable(stage.claim_one().task, Unavailable("busy"))
    stage.wait_until_due(task)
    second = stage.claim_one()
    stage.notice(task)
    stage.runtime.submissions.rejected(second.task, REFUSED, None)
    assert stage.task(task).status is TaskStatus.RUNNING
    assert stage.poll(done())[0].status is TaskStatus.SUCCEEDED
    assert stage.event_types(task) == [EventType.TASK_RUNNING, EventType.TASK_SUCCEEDED]


def test_a_short_deadline_is_kept_by_the_first_query_and_by_a_repetition(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that is over before the provider's plan would have it asked about is asked about at its deadline."""
    taken = stage.running(deadline=1)
    assert taken.due_at == taken.deadline_at
    monkeypatch.setattr(stage.handler, "submit_is_safe_to_repeat", True, raising=False)
    lost = stage.create(deadline=5)
    stage.runtime.submissions.lost(stage.claim_one().task, "reset", pause=60)
    assert stage.task(lost).due_at == lost.deadline_at


@pytest.mark.parametrize("callbacks", [True, False])
@pytest.mark.parametrize("word", ["rejected", "unavailable", "lost", "expired"])
def test_what_came_of_the_only_call_is_believed_after_its_lease(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, word: str, callbacks: bool
) -> None:
    """The database was away for longer than a lease: nobody is told that a task may be charged which was refused."""
    if not callbacks:
        without_callbacks(stage, monkeypatch)
    task = stage.create(deadline=3600)
    late = stage.claim_one()
    stage.clock.pass_by(LEASE + 1)
    assert stage.claim() == []
    assert stage.task(task).outcome_unknown
    tell(stage, word, late.task)
    after = stage.task(task)
    code = None if after.error_json is None else json.loads(after.error_json)["code"]
    match word:
        case "rejected":
            assert (after.status, code) == (TaskStatus.FAILED, REFUSED.code)
        case "unavailable":
            assert (after.status, after.outcome_unknown) == (TaskStatus.QUEUED, False)
            stage.wait_until_due(task)
            assert not stage.claim_one().repeated
        case "lost":
            waits = TaskStatus.SUBMITTING if callbacks else TaskStatus.FAILED
            assert (after.status, code) == (waits, None if callbacks else "submission_unknown")
        case "expired":
            assert after.status is TaskStatus.EXPIRED


def test_a_late_answer_is_not_waited_for_beyond_the_deadline(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The patience with a worker that seemed lost ends with the task's own time."""
    without_callbacks(stage, monkeypatch)
    task = stage.create(deadline=LEASE + 10)
    stage.claim_one()
    stage.clock.pass_by(LEASE + 1)
    stage.claim()
    waits = stage.task(task)
    assert (waits.status, waits.due_at) == (TaskStatus.SUBMITTING, waits.deadline_at)


def test_a_lost_worker_is_noted_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the task is looked at until it ends, its timeline says so one time."""
    without_callbacks(stage, monkeypatch)
    task = stage.create()
    stage.claim_one()
    stage.clock.pass_by(LEASE + 1)
    stage.claim()
    while not stage.task(task).status.final:
        stage.wait_until_due(task)
        stage.claim()
    assert [step.get("why") for step in stage.steps(task, "submit")] == ["worker lost"]


def test_a_long_answer_is_cut_in_the_timeline_only(stage: Stage) -> None:
    """The step keeps its beginning; the task has all of it."""
    task = stage.create()
    raw = "x" * (KEPT_ANSWER + 1)
    stage.runtime.submissions.accepted(stage.claim_one().task, Receipt("job-1", raw))
    (step,) = stage.steps(task, "submit")
    assert step["answer"] == raw[:KEPT_ANSWER]
    assert stage.task(task).provider_response == raw
