"""Submissions whose answer is late or lost: how long they are waited for, and what is noted of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from handlers import Receipt, Unavailable
from receiver.models import EventType, TaskStatus
from receiver.store import pacing
from receiver.submissions import KEPT_ANSWER, LATE_ANSWER
from tests.core.stage import Clock, Stage, done
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


@pytest.mark.parametrize("safe", [False, True])
@pytest.mark.parametrize("word", ["accepted", "rejected", "nothing"])
def test_an_answer_in_hand_outlasts_an_outage_that_lasts_past_the_deadline(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, word: str, safe: bool
) -> None:
    """Whoever first looks when the database is back gives the worker that bought the task a minute to say so."""
    monkeypatch.setattr(stage.handler, "submit_is_safe_to_repeat", safe, raising=False)
    task = stage.create(deadline=LEASE + 10)
    start = stage.claim_one()
    stage.clock.pass_by(8 * 3600)
    assert stage.claim() == [], "past its deadline nothing is bought"
    stage.clock.pass_by(LATE_ANSWER / 1000 - 1)
    assert stage.claim() == []
    match word:
        case "accepted":
            stage.accept(start)
            assert stage.task(task).status is TaskStatus.RUNNING
            assert stage.poll(done())[0].status is TaskStatus.SUCCEEDED
        case "rejected":
            tell(stage, word, start.task)
            assert json.loads(stage.task(task).error_json or "")["code"] == REFUSED.code
        case _:
            stage.clock.pass_by(2)
            assert stage.claim() == []
            assert json.loads(stage.task(task).error_json or "")["code"] == "submission_unknown"
            assert stage.event_types(task) == [EventType.TASK_FAILED]


@pytest.mark.parametrize("word", ["accepted", "first accepted", "rejected", "lost", "nothing"])
def test_a_repetition_in_hand_outlasts_an_outage_that_lasts_past_the_deadline(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    """The worker that repeated a submission is given its minute too; one that had spoken is not waited for."""
    monkeypatch.setattr(stage.handler, "submit_is_safe_to_repeat", True, raising=False)
    task = stage.create(deadline=LEASE + 60)
    first = stage.claim_one()
    stage.clock.pass_by(LEASE + 1)
    again = stage.claim_one()
    assert again.repeated
    if word == "lost":
        stage.runtime.submissions.lost(again.task, "reset", pause=60)
    stage.clock.pass_by(8 * 3600)
    assert stage.claim() == [], "past its deadline nothing is bought"
    match word:
        case "accepted" | "first accepted":
            assert stage.task(task).submits == 2
            stage.accept(again if word == "accepted" else first)
            assert stage.poll(done())[0].status is TaskStatus.SUCCEEDED
            return
        case "rejected":
            tell(stage, word, again.task)
        case "nothing":
            stage.clock.pass_by(LATE_ANSWER / 1000)
            assert stage.claim() == []
    code = REFUSED.code if word == "rejected" else "submission_unknown"
    assert json.loads(stage.task(task).error_json or "")["code"] == code


def test_a_repetition_of_a_lost_call_is_given_its_minute(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """That the first call was lost says nothing of the second, whose worker may hold the answer in hand."""
    monkeypatch.setattr(stage.handler, "submit_is_safe_to_repeat", True, raising=False)
    task = stage.create(deadline=LEASE + 60)
    tell(stage, "lost", stage.claim_one().task)
    stage.wait_until_due(task)
    again = stage.claim_one()
    stage.clock.pass_by(8 * 3600)
    assert stage.claim() == []
    stage.accept(again)
    assert stage.task(task).status is TaskStatus.RUNNING


@pytest.mark.parametrize("word", ["unavailable", "expired"])
def test_a_repetition_that_ends_at_its_deadline_does_not_hide_the_first_call(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    """The caller is told that the task may be charged, not that it merely expired."""
    monkeypatch.setattr(stage.handler, "submit_is_safe_to_repeat", True, raising=False)
    task = stage.create()
    tell(stage, "lost", stage.claim_one().task)
    stage.wait_until_due(task)
    again = stage.claim_one()
    stage.clock.now = task.deadline_at
    tell(stage, word, again.task)
    after = stage.task(task)
    assert (after.status, json.loads(after.error_json or "{}").get("code")) == (TaskStatus.FAILED, "submission_unknown")


def test_the_timeline_says_what_each_call_came_to(stage: Stage) -> None:
    """Who looks for the money finds every call: which started nothing and why, and how long was waited; and the end."""
    task = stage.create()
    stage.runtime.submissions.unavailable(stage.claim_one().task, Unavailable("busy", 7.0))
    stage.wait_until_due(task)
    tell(stage, "rejected", stage.claim_one().task)
    busy, refused = stage.steps(task, "submit")
    assert busy == {"outcome": "unavailable", "why": "busy", "again_in_ms": 7000}
    assert refused == {"outcome": "rejected", "code": REFUSED.code, "provider_code": REFUSED.provider_code}
    assert stage.steps(task, "state")[-1] == {"from": "submitting", "to": "failed", "error": REFUSED.code}


@pytest.mark.parametrize("word", ["accepted", "lost"])
def test_the_first_call_counts_while_the_second_is_made(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    """An answer that comes late after all is taken at once; nothing else that it says disturbs the repetition."""
    monkeypatch.setattr(stage.handler, "submit_is_safe_to_repeat", True, raising=False)
    task = stage.create()
    first = stage.claim_one()
    stage.clock.pass_by(LEASE + 1)
    again = stage.claim_one()
    if word == "accepted":
        stage.accept(first, "job-1")
    else:
        stage.runtime.submissions.lost(first.task, "reset")
        assert stage.task(task).status is TaskStatus.SUBMITTING
        stage.accept(again, "job-1")
    after = stage.task(task)
    assert (after.status, after.provider_task_id) == (TaskStatus.RUNNING, "job-1")


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


def test_a_repetition_for_a_dead_worker_stays_a_repetition(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its call may have arrived: when the repetition is turned away, the task is not begun anew and bought twice."""
    monkeypatch.setattr(stage.handler, "submit_is_safe_to_repeat", True, raising=False)
    task = stage.create()
    stage.claim_one()
    stage.clock.pass_by(LEASE + 1)
    stage.runtime.submissions.unavailable(stage.claim_one().task, Unavailable("busy"))
    waits = stage.task(task)
    assert (waits.status, waits.outcome_unknown) == (TaskStatus.SUBMITTING, True)
    stage.wait_until_due(task)
    assert stage.claim_one().repeated


def test_a_repetition_whose_worker_dies_is_repeated_late_enough(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider must know of the second call, too, before it is asked whether there was one."""
    monkeypatch.setattr(stage.handler, "submit_is_safe_to_repeat", True, raising=False)
    monkeypatch.setattr(stage.handler, "repeat_after", 30.0, raising=False)
    task = stage.create()
    for _ in range(3):
        stage.claim_one()
        stage.clock.pass_by(LEASE + 30 - 1)
        assert stage.claim() == []
        stage.wait_until_due(task)


def test_a_notice_ends_the_wait_for_a_repetition(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost submission that the provider calls back for runs at once, also where it would be repeated later."""
    monkeypatch.setattr(stage.handler, "submit_is_safe_to_repeat", True, raising=False)
    monkeypatch.setattr(stage.handler, "signature_covers_body", False, raising=False)
    task = stage.create()
    stage.runtime.submissions.lost(stage.claim_one().task, "reset", pause=60)
    stage.notice(task, state="drawing")
    assert stage.task(task).status is TaskStatus.RUNNING


def test_a_task_that_was_heard_of_is_as_old_as_the_news(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as old as its wait in the queue: a provider that does not know it yet would be believed at once."""
    monkeypatch.setattr(stage.handler, "signature_covers_body", False, raising=False)
    task = stage.create()
    stage.clock.pass_by(60)
    stage.runtime.submissions.lost(stage.claim_one().task, "reset")
    stage.notice(task, state="drawing")
    after = stage.task(task)
    assert (after.status, after.submitted_at, after.due_at) == (TaskStatus.RUNNING, stage.clock(), stage.clock())
    assert not after.outcome_unknown


def test_a_lost_task_of_an_operation_that_is_gone_keeps_nobody_waiting(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes an operation out of the settings ends its lost tasks; those of other operations are seen to."""
    gone = stage.create()
    stage.claim_one()
    stage.clock.pass_by(LEASE + 1)
    monkeypatch.setattr(stage.handler, "operations", {}, raising=False)
    stage.claim()
    stage.wait_until_due(gone)
    stage.claim()
    after = stage.task(gone)
    assert (after.status, json.loads(after.error_json or "")["code"]) == (TaskStatus.FAILED, "submission_unknown")


@pytest.mark.parametrize("safe", [False, True])
def test_slots_are_those_of_the_time_after_the_wait_for_a_turn(
    build: Any, monkeypatch: pytest.MonkeyPatch, clock: Clock, safe: bool
) -> None:
    """A worker that waited long for the database starts its tasks at the provider's rate, not all at once."""
    stage: Stage = build(TOY_SUBMIT_RATE=10)
    monkeypatch.setattr(stage.handler, "submit_is_safe_to_repeat", True, raising=False)
    for _ in range(3):
        stage.create()
        if safe:
            stage.claim_one()
            clock.pass_by(1)
    clock.pass_by(LEASE + 1)
    take_turn = pacing.take_turn

    def wait_and_take(*args: Any) -> int:
        clock.pass_by(5)
        return take_turn(*args)

    monkeypatch.setattr(pacing, "take_turn", wait_and_take)
    submissions = stage.runtime.submissions
    starts = [start.at for start in (submissions.claim_lost if safe else submissions.claim)("toy", 3)]
    assert starts
    assert min(starts) >= clock.now
    leased = {stage.task(row.id).due_at for row in stage.rows("SELECT id FROM tasks WHERE fence > :n", n=int(safe))}
    assert leased == {clock.now + 1000 * LEASE}


def test_a_cap_that_was_lowered_is_kept(build: Any) -> None:
    """With more tasks at the provider than it now may have, none goes there until there is room again."""
    before: Stage = build(TOY_MAX_IN_FLIGHT=3)
    started = [before.create() for _ in range(5)][:3]
    for number, start in enumerate(before.claim()):
        before.accept(start, f"job-{number}")
    stage: Stage = build(TOY_MAX_IN_FLIGHT=1)
    for number, task in enumerate(started):
        assert stage.claim() == []
        stage.notice(task, f"job-{number}")
    assert len(stage.claim()) == 1


def test_a_late_answer_does_not_take_the_id_of_the_task_that_runs(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked about is the task whose answer was stored first, and its result is the one that counts."""
    monkeypatch.setattr(stage.handler, "submit_is_safe_to_repeat", True, raising=False)
    task = stage.create()
    slow = stage.claim_one()
    stage.clock.pass_by(LEASE + 1)
    stage.accept(stage.claim_one(), "job-2")
    stage.accept(slow, "job-1")
    assert stage.task(task).provider_task_id == "job-2"
