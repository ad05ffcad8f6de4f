"""A task's way to the provider: bought once at most, whatever is lost, late or crashed on the way."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from handlers import ErrorCode, OutcomeUnknown, TaskError, Unavailable
from receiver.models import CompletedVia, EventType, Task, TaskStatus, Verdict
from receiver.submissions import LATE_ANSWER
from tests.core.stage import Clock, Stage, done, still

LEASE = 30
REFUSED = TaskError(ErrorCode.INVALID_INPUT, "no", provider_code="bad_prompt")


def lose(stage: Stage, **more: Any) -> Task:
    """A task whose submission's answer was lost."""
    task = stage.create(**more)
    stage.runtime.submissions.lost(stage.claim_one().task, "the connection broke")
    return stage.task(task)


def without_callbacks(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the toy a provider that is only asked."""
    draw = replace(stage.handler.operations["draw"], callbacks=False)
    monkeypatch.setattr(stage.handler, "operations", {"draw": draw}, raising=False)


def test_the_way_of_an_ordinary_task(stage: Stage) -> None:
    """Created, claimed, handed over with a signed callback URL, taken: one running event, due for its first query."""
    task = stage.create(metadata={"shop": "7"})
    start = stage.claim_one()
    assert stage.task(task).status is TaskStatus.SUBMITTING
    assert not start.repeated
    submission = stage.runtime.submissions.submission_of(start)
    assert submission.task_id == task.id
    assert submission.input == {"prompt": "a cat"}
    assert (submission.callback_url or "").startswith("https://receiver.example.test/callbacks/toy/")
    stage.accept(start)
    after = stage.task(task)
    assert after.status is TaskStatus.RUNNING
    assert (after.provider_task_id, after.submits, after.metadata) == ("job-1", 1, {"shop": "7"})
    assert json.loads(after.state_json) == {"from": "receipt"}
    assert after.submitted_at == stage.clock()
    assert after.due_at is not None
    assert 5000 <= after.due_at - stage.clock() <= 5500
    assert stage.event_types(task) == [EventType.TASK_RUNNING]
    assert stage.claim() == []


def test_an_answer_that_is_final_already_ends_the_task(stage: Stage) -> None:
    """A provider that does the work at once is not asked again."""
    task = stage.create()
    stage.accept(stage.claim_one(), update=done())
    after = stage.task(task)
    assert after.status is TaskStatus.SUCCEEDED
    assert (after.due_at, after.completed_via) == (None, CompletedVia.POLL)
    assert stage.event_types(task) == [EventType.TASK_SUCCEEDED]


def test_a_refusal_ends_the_task_with_its_reason(stage: Stage) -> None:
    """The caller learns the code, and the provider's own words are kept."""
    task = stage.create()
    stage.runtime.submissions.rejected(stage.claim_one().task, REFUSED, '{"code":"bad_prompt"}')
    after = stage.task(task)
    assert after.status is TaskStatus.FAILED
    assert json.loads(after.error_json or "")["provider_code"] == "bad_prompt"
    assert after.provider_response == '{"code":"bad_prompt"}'
    assert stage.event_types(task) == [EventType.TASK_FAILED]


def test_unavailable_goes_back_to_the_queue_and_the_pause_holds_for_all(stage: Stage) -> None:
    """A provider that asks for a pause gets it from every task, and nothing counts as started."""
    first, second = stage.create(), stage.create()
    claimed = stage.claim(1)
    stage.runtime.submissions.unavailable(claimed[0].task, Unavailable("busy", 7.0))
    again = stage.task(claimed[0].task)
    assert again.status is TaskStatus.QUEUED
    assert again.due_at is not None
    assert again.due_at >= stage.clock() + 7000
    stage.clock.pass_by(6.7)
    assert stage.claim() == [], "a task that did not fail itself must wait too"
    stage.clock.pass_by(0.4)
    assert len(stage.claim()) == 2
    assert {first.id, second.id} == {row.id for row in stage.rows("SELECT id FROM tasks WHERE status = 'submitting'")}


def test_unavailable_waits_longer_each_time_and_never_past_the_deadline(stage: Stage) -> None:
    """A provider that stays away is asked less and less; at the deadline the task expires."""
    task = stage.create(deadline=60)
    waits = []
    while not stage.task(task).status.final:
        stage.wait_until_due(task)
        (start,) = stage.claim()
        stage.runtime.submissions.unavailable(start.task, Unavailable("away"))
        waits.append((stage.task(task).due_at or 0) - stage.clock())
    assert waits[:5] == sorted(waits[:5])
    assert stage.clock() == task.deadline_at
    assert stage.task(task).status is TaskStatus.EXPIRED
    assert stage.event_types(task) == [EventType.TASK_EXPIRED]


def test_a_deadline_that_passes_in_the_queue_expires_the_task_unsent(stage: Stage) -> None:
    """Work nobody waits for any more is not bought."""
    task = stage.create(deadline=10)
    stage.clock.pass_by(11)
    stage.runtime.submissions.expired(stage.claim_one().task)
    assert stage.task(task).status is TaskStatus.EXPIRED


# What is lost ------------------------------------------------------------------------------------------


def test_a_lost_answer_is_never_sent_again_and_its_callback_saves_it(stage: Stage) -> None:
    """The money is spent once: the task waits, and the callback brings it home."""
    task = lose(stage)
    assert task.status is TaskStatus.SUBMITTING
    assert task.outcome_unknown
    assert task.due_at == task.deadline_at
    stage.clock.pass_by(LEASE * 3)
    assert stage.claim() == []
    stage.notice(task)
    after = stage.task(task)
    assert after.status is TaskStatus.SUCCEEDED
    assert (after.provider_task_id, after.completed_via) == ("job-1", CompletedVia.CALLBACK)
    assert stage.event_types(task) == [EventType.TASK_SUCCEEDED]
    assert after.submits == 1


def test_a_lost_answer_is_adopted_by_a_hint(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unsigned callback that names the provider's id makes the task run, and it is asked after at once."""
    monkeypatch.setattr(stage.handler, "signature_covers_body", False, raising=False)
    task = lose(stage)
    assert stage.notice(task).verdict is Verdict.HINT
    after = stage.task(task)
    assert (after.status, after.provider_task_id, after.due_at) == (TaskStatus.RUNNING, "job-1", stage.clock())
    assert stage.poll(done())[0].status is TaskStatus.SUCCEEDED
    assert stage.event_types(task) == [EventType.TASK_RUNNING, EventType.TASK_SUCCEEDED]


def test_a_lost_answer_without_any_news_fails_at_the_deadline(stage: Stage) -> None:
    """The caller is told that nobody knows, and decides."""
    task = lose(stage)
    stage.wait_until_due(task)
    assert stage.claim() == []
    after = stage.task(task)
    assert after.status is TaskStatus.FAILED
    assert json.loads(after.error_json or "")["code"] == "submission_unknown"
    assert stage.event_types(task) == [EventType.TASK_FAILED]
    assert stage.notice(task).verdict is Verdict.CONTRADICTION
    assert stage.task(task) == after


def test_a_lost_answer_that_nothing_can_save_fails_at_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the provider never calls, waiting would only keep the caller in the dark."""
    without_callbacks(stage, monkeypatch)
    assert lose(stage).status is TaskStatus.FAILED


def test_a_worker_that_dies_after_its_claim_does_not_buy_twice(stage: Stage) -> None:
    """Nobody knows whether the call was made, so it is not made again; a callback may still come."""
    task = stage.create()
    stage.claim_one()
    stage.clock.pass_by(LEASE - 1)
    assert stage.claim() == []
    stage.clock.pass_by(2)
    assert stage.claim() == []
    after = stage.task(task)
    assert after.outcome_unknown
    assert after.due_at == after.deadline_at
    assert {"outcome": "unknown", "why": "worker lost"} in stage.steps(task, "submit")
    stage.notice(task)
    assert stage.task(task).status is TaskStatus.SUCCEEDED


def test_a_dead_workers_task_is_repeated_where_that_is_safe(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that knows our id again gets the same submission, marked as a repetition."""
    monkeypatch.setattr(stage.handler, "submit_is_safe_to_repeat", True, raising=False)
    task = stage.create()
    stage.claim_one()
    stage.clock.pass_by(LEASE + 1)
    start = stage.claim_one()
    assert start.repeated
    assert stage.runtime.submissions.submission_of(start).repeated
    assert start.task.submits == 2
    stage.accept(start)
    assert stage.task(task).status is TaskStatus.RUNNING


def test_a_call_is_repeated_only_once_the_provider_knows_of_it(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up that comes too early finds nothing, and the task would be started twice."""
    monkeypatch.setattr(stage.handler, "submit_is_safe_to_repeat", True, raising=False)
    monkeypatch.setattr(stage.handler, "repeat_after", 30.0, raising=False)
    lost, orphan = stage.create(), stage.create()
    first, _dead = stage.claim()
    stage.runtime.submissions.lost(first.task, "reset")
    stage.clock.pass_by(29)
    assert stage.claim() == []
    stage.clock.pass_by(1)
    again = stage.claim_one()
    assert (again.task.id, again.repeated) == (lost.id, True)
    stage.accept(again)
    stage.clock.pass_by(LEASE - 1)
    assert stage.claim() == [], "its worker may have called until its lease was over"
    stage.clock.pass_by(2)
    assert stage.claim_one().task.id == orphan.id


def test_a_repetition_that_is_unavailable_stays_a_repetition(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a call may have arrived, no later call may pretend to be the first."""
    monkeypatch.setattr(stage.handler, "submit_is_safe_to_repeat", True, raising=False)
    task = stage.create()
    stage.runtime.submissions.lost(stage.claim_one().task, "reset")
    for _ in range(3):
        stage.wait_until_due(task)
        start = stage.claim_one()
        assert start.repeated
        stage.runtime.submissions.unavailable(start.task, Unavailable("busy"))
        assert stage.task(task).status is TaskStatus.SUBMITTING
    stage.clock.now = task.deadline_at
    assert stage.claim() == []
    assert json.loads(stage.task(task).error_json or "")["code"] == "submission_unknown"


# What comes late ---------------------------------------------------------------------------------------


def test_a_receipt_that_comes_after_its_lease_still_saves_the_task(stage: Stage) -> None:
    """The database was away, or the call was slow: an answer in hand is worth more than a rule about leases."""
    task = stage.create()
    slow = stage.claim_one()
    stage.clock.pass_by(LEASE + 1)
    stage.claim()
    stage.accept(slow)
    after = stage.task(task)
    assert after.status is TaskStatus.RUNNING
    assert (after.provider_task_id, after.outcome_unknown) == ("job-1", False)
    assert json.loads(after.state_json) == {"from": "receipt"}


def test_a_worker_that_only_seemed_dead_has_time_to_answer(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no callback can save it, a task is not given up the moment its lease passes."""
    without_callbacks(stage, monkeypatch)
    task, other = stage.create(), stage.create()
    slow, _dead = stage.claim()
    stage.clock.pass_by(LEASE + 1)
    stage.claim()
    stage.clock.pass_by(LATE_ANSWER / 1000 - 1)
    stage.claim()
    stage.accept(slow)
    assert stage.task(task).status is TaskStatus.RUNNING
    assert stage.task(other).status is TaskStatus.SUBMITTING
    stage.clock.pass_by(2)
    stage.claim()
    assert stage.task(other).status is TaskStatus.FAILED


@pytest.mark.parametrize("word", ["rejected", "unavailable", "lost", "expired"])
def test_a_worker_that_lost_its_lease_changes_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    """What a stale worker believes of a task is not written over what a newer one does."""
    monkeypatch.setattr(stage.handler, "submit_is_safe_to_repeat", True, raising=False)
    task = stage.create()
    stale = stage.claim_one()
    stage.clock.pass_by(LEASE + 1)
    fresh = stage.claim_one()
    before, steps = stage.task(task), stage.steps(task)
    tell(stage, word, stale.task)
    assert stage.task(task) == before
    assert stage.steps(task) == steps
    stage.accept(fresh)
    tell(stage, word, fresh.task)
    assert stage.task(task).status is TaskStatus.RUNNING


def tell(stage: Stage, word: str, task: Task) -> None:
    """A worker's report on its call."""
    submissions = stage.runtime.submissions
    match word:
        case "rejected":
            submissions.rejected(task, REFUSED, None)
        case "unavailable":
            submissions.unavailable(task, Unavailable("busy"))
        case "lost":
            submissions.lost(task, str(OutcomeUnknown("reset")))
        case "expired":
            submissions.expired(task)


def test_a_late_receipt_and_a_repetition_make_one_task(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers with an answer each: the first stored counts, the other adds nothing and takes nothing back."""
    monkeypatch.setattr(stage.handler, "submit_is_safe_to_repeat", True, raising=False)
    task = stage.create()
    slow = stage.claim_one()
    stage.clock.pass_by(LEASE + 1)
    repeating = stage.claim_one()
    stage.accept(slow, "job-1")
    stage.runtime.submissions.rejected(repeating.task, REFUSED, None)
    stage.accept(repeating, "job-1")
    assert stage.task(task).status is TaskStatus.RUNNING
    assert stage.event_types(task) == [EventType.TASK_RUNNING]


# Early callbacks ---------------------------------------------------------------------------------------


def test_a_final_callback_before_the_answer_ends_the_task(stage: Stage) -> None:
    """A provider quicker than its own answer: the receipt only adds the id, and there is one event."""
    task = stage.create()
    start = stage.claim_one()
    stage.notice(task)
    assert stage.task(task).status is TaskStatus.SUCCEEDED
    stage.accept(start, "job-1")
    after = stage.task(task)
    assert (after.status, after.provider_task_id) == (TaskStatus.SUCCEEDED, "job-1")
    assert stage.event_types(task) == [EventType.TASK_SUCCEEDED]


def test_an_early_hint_makes_the_first_query_come_at_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint finds the task still on its way; nothing is asked before the answer, and then at once."""
    monkeypatch.setattr(stage.handler, "signature_covers_body", False, raising=False)
    task = stage.create()
    start = stage.claim_one()
    assert stage.notice(task).verdict is Verdict.HINT
    assert stage.task(task).status is TaskStatus.SUBMITTING
    stage.accept(start)
    assert stage.task(task).due_at == stage.clock()
    (after,) = stage.poll(done())
    assert (after.status, after.completed_via) == (TaskStatus.SUCCEEDED, CompletedVia.CALLBACK)


@pytest.mark.parametrize("word", ["rejected", "unavailable", "lost", "expired"])
def test_an_early_hint_goes_before_what_a_worker_says(stage: Stage, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    """The provider has called back for it, so an earlier call started it: it is asked about, whatever came after."""
    monkeypatch.setattr(stage.handler, "signature_covers_body", False, raising=False)
    task = stage.create()
    start = stage.claim_one()
    stage.notice(task)
    tell(stage, word, start.task)
    after = stage.task(task)
    assert (after.status, after.provider_task_id, after.due_at) == (TaskStatus.RUNNING, "job-1", stage.clock())
    stage.clock.pass_by(3600)
    assert stage.claim() == [], "it is not bought once more"


def test_an_early_hint_saves_the_task_of_a_worker_that_died(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """So too when the worker died, even when that shows only after the deadline: it is asked about for a minute."""
    monkeypatch.setattr(stage.handler, "signature_covers_body", False, raising=False)
    task = stage.create(deadline=20)
    stage.claim_one()
    stage.notice(task)
    stage.clock.pass_by(LEASE + 1)
    assert stage.claim() == []
    assert stage.task(task).status is TaskStatus.RUNNING
    assert stage.poll(still())[0].status is TaskStatus.RUNNING, "a query may lag behind its notice"
    stage.clock.pass_by(60)
    assert stage.poll(still())[0].status is TaskStatus.EXPIRED


def test_a_callback_contradicts_an_unavailable(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that says "nothing happened" and calls back for it: it is believed that something did."""
    monkeypatch.setattr(stage.handler, "signature_covers_body", False, raising=False)
    task = stage.create()
    start = stage.claim_one()
    stage.runtime.submissions.unavailable(start.task, Unavailable("busy"))
    stage.notice(task, state="drawing")
    assert stage.task(task).status is TaskStatus.RUNNING
    stage.clock.pass_by(3600)
    assert stage.claim() == []


# How many, how fast ------------------------------------------------------------------------------------


def test_no_more_tasks_at_the_provider_than_allowed(build: Any) -> None:
    """The cap counts tasks that are handed over or running; the rest wait, and move up when one ends."""
    stage: Stage = build(TOY_MAX_IN_FLIGHT=2)
    tasks = [stage.create() for _ in range(5)]
    first = stage.claim()
    assert [start.task.id for start in first] == [task.id for task in tasks[:2]]
    assert stage.claim() == []
    stage.accept(first[0], "job-1")
    assert stage.claim() == []
    stage.runtime.submissions.rejected(first[1].task, REFUSED, None)
    assert [start.task.id for start in stage.claim()] == [tasks[2].id]
    stage.notice(tasks[0])
    assert len(stage.claim()) == 1


def test_a_full_provider_is_not_looked_at_again_and_again(build: Any, clock: Clock) -> None:
    """With every place at the provider taken, the next look is when one may be free, not at once."""
    stage: Stage = build(TOY_MAX_IN_FLIGHT=1)
    stage.create()
    stage.create()
    stage.accept(stage.claim_one())
    assert stage.runtime.submissions.next_look("toy") is None
    assert stage.claim() == []


def test_the_rate_holds_over_all_processes(build: Any, clock: Clock) -> None:
    """Two workers on one database together start no more than the provider's rate, evenly spaced."""
    stages: list[Stage] = [build(TOY_SUBMIT_RATE=10), build(TOY_SUBMIT_RATE=10)]
    for _ in range(40):
        stages[0].create()
    starts: list[int] = []
    for turn in range(40):
        starts += [start.at for start in stages[turn % 2].claim()]
        clock.pass_by(0.1)
    assert len(starts) == 40
    assert sorted(starts) == starts
    gaps = [after - before for before, after in pairwise(starts)]
    assert min(gaps) >= 100


def test_the_next_look_says_when_the_rate_allows_it(build: Any, clock: Clock) -> None:
    """A lane sleeps until a slot is near, not until the task was due."""
    stage: Stage = build(TOY_SUBMIT_RATE=0.1)
    stage.create()
    stage.create()
    assert len(stage.claim()) == 1
    look = stage.runtime.submissions.next_look("toy")
    assert look is not None
    assert 9000 <= look - clock() <= 10_000
    clock.now = look
    assert len(stage.claim()) == 1
    assert stage.runtime.submissions.next_look("toy") is not None, "those being handed over are looked after too"
