"""Asking after running tasks: in batches, within the rate, until the end or the deadline."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from receiver.bell import DELIVER
from receiver.models import CompletedVia, EventType, TaskStatus, Verdict
from receiver.polling import HINT_FRESH, LAST_QUERY_GRACE, Answer, Turn
from receiver.store import pacing, tasks
from tests import asking
from tests.core.stage import PICTURE, Clock, Stage, broken, done, still


def unsigned(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the toy a provider whose notices are hints."""
    monkeypatch.setattr(stage.handler, "signature_covers_body", False, raising=False)


def test_a_poll_ends_a_task(stage: Stage) -> None:
    """The answer's outputs are the task's; one event; nothing is due any more."""
    task = stage.running()
    stage.wait_until_due(task)
    (after,) = stage.poll(done())
    assert (after.status, after.completed_via, after.due_at) == (TaskStatus.SUCCEEDED, CompletedVia.POLL, None)
    assert (after.progress, after.finished_at) == (1.0, stage.clock())
    assert json.loads(after.outputs_json)[0]["url"] == PICTURE
    assert after.provider_response == '{"state":"done"}'
    assert stage.event_types(task) == [EventType.TASK_RUNNING, EventType.TASK_SUCCEEDED]
    assert stage.steps(task, "poll") == [{"said": "succeeded"}]


def test_a_poll_brings_a_failure(stage: Stage) -> None:
    """The provider's failure is the task's, with its reason."""
    task = stage.running()
    stage.wait_until_due(task)
    (after,) = stage.poll(broken())
    assert after.status is TaskStatus.FAILED
    assert json.loads(after.error_json or "")["message"] == "out of paint"


def test_polls_follow_the_plan_and_its_last_wait_repeats(stage: Stage) -> None:
    """The waits are 5, 10, 20, 20, ... seconds, each a little longer at most."""
    task = stage.running()
    waits = []
    before = stage.clock()
    for _ in range(5):
        stage.wait_until_due(task)
        waits.append(stage.clock() - before)
        before = stage.clock()
        stage.poll(None)
    for wait, planned in zip(waits, (5, 10, 20, 20, 20), strict=True):
        assert planned * 1000 <= wait <= planned * 1100
    assert stage.task(task).polls == 5
    assert stage.steps(task, "poll") == [{"said": "no news"}] * 5


def test_progress_is_told_when_it_grows_and_only_then(stage: Stage) -> None:
    """Progress never goes back, and the same progress twice is no news."""
    task = stage.running()
    for said in (0.2, 0.2, 0.1, 0.6):
        stage.wait_until_due(task)
        stage.poll(still(said))
    assert stage.task(task).progress == 0.6
    assert stage.event_types(task) == [EventType.TASK_RUNNING, EventType.TASK_PROGRESS, EventType.TASK_PROGRESS]


def test_the_bell_rings_for_news_alone(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that a task still runs wakes nobody; progress and an end wake who delivers them."""
    task = stage.running()
    heard: list[list[str]] = []
    monkeypatch.setattr(stage.runtime.bell, "ring", lambda *lanes: heard[-1].extend(lanes))
    for said in (still(), None, still(0.2), still(0.2), done()):
        stage.wait_until_due(task)
        heard.append([])
        stage.poll(said)
    assert heard == [[], [], [DELIVER], [], [DELIVER]]


def test_batches_are_as_large_as_the_provider_takes(stage: Stage) -> None:
    """Five tasks of a provider that is asked for two at once make three calls."""
    tasks = [stage.running(f"job-{number}") for number in range(5)]
    stage.clock.pass_by(6)
    batches = asking.claim(stage.runtime.polling, "toy", 50)
    assert [len(batch) for _, batch in batches] == [2, 2, 1]
    assert {task.id for _, batch in batches for task in batch} == {task.id for task in tasks}


def test_a_turn_says_when_the_next_can_find_something(stage: Stage) -> None:
    """At once while more is due than it had room for, then when a task falls due; never when nothing runs."""
    service = stage.runtime.polling
    assert service.turn("toy", (), 1).next_look is None
    running = [stage.running(f"job-{number}") for number in range(3)]
    due = min(task.due_at or 0 for task in running)
    assert service.turn("toy", (), 1) == Turn([], due)
    stage.clock.pass_by(6)
    first = service.turn("toy", (), 1)
    assert ([len(batch) for _, batch in first.batches], first.next_look) == ([2], stage.clock())
    stage.clock.pass_by(0.5)
    last = service.turn("toy", (), 9)
    assert [len(batch) for _, batch in last.batches] == [1]
    assert last.next_look == stage.clock() + 30_000 - 500, "when the first lease ends"


def test_what_falls_due_at_nearly_the_same_time_is_asked_for_together(stage: Stage) -> None:
    """A schedule is not kept to the millisecond, one call for each: what follows soon shares the next call."""
    first, second = stage.running("job-0"), stage.running("job-1")
    stage.wait_until_due(first)
    with stage.runtime.store.write() as connection:
        connection.exec_driver_sql(f"UPDATE tasks SET due_at = {stage.clock() + 30} WHERE id = '{second.id}'")
    turn = stage.runtime.polling.turn("toy", (), 5)
    assert [len(batch) for _, batch in turn.batches] == [1]
    assert turn.next_look is not None
    assert turn.next_look - stage.clock() >= 50
    stage.clock.pass_by(0.03)
    assert stage.runtime.polling.next_look("toy") == stage.clock(), "whoever hears a ring does not wait for that"


def test_slots_are_reserved_several_at_a_time(build: Any, clock: Clock) -> None:
    """While the rate is used up, a look comes only when several of the next slots can be reserved together."""
    stage: Stage = build(TOY_QUERY_RATE=40)
    for number in range(100):
        stage.running(f"job-{number}")
        clock.pass_by(0.001)
    clock.pass_by(6)
    looks, calls, end = 0, 0, clock() + 1000
    while clock() < end:
        turn = stage.runtime.polling.turn("toy", (), 50)
        looks, calls = looks + 1, calls + len(turn.batches)
        assert turn.next_look is not None
        clock.now = max(turn.next_look, clock() + 1)
    assert looks <= 10
    assert calls >= 40


def test_the_rate_of_calls_holds_over_all_processes(build: Any, clock: Clock) -> None:
    """However many workers ask, their calls are spaced by the provider's rate."""
    stages: list[Stage] = [build(TOY_QUERY_RATE=5), build(TOY_QUERY_RATE=5)]
    for number in range(30):
        stages[0].running(f"job-{number}")
    clock.pass_by(6)
    starts: list[int] = []
    for turn in range(60):
        starts += [at for at, _ in asking.claim(stages[turn % 2].runtime.polling, "toy", 50)]
        clock.pass_by(0.1)
    assert len(starts) == 15
    assert min(after - before for before, after in pairwise(starts)) >= 200


def test_two_workers_never_hold_the_same_task(build: Any, clock: Clock) -> None:
    """A claim is exclusive while its lease lasts."""
    one, two = build(), build()
    one.running()
    clock.pass_by(6)
    assert len(one.asked_for()) == 1
    assert two.asked_for() == []
    clock.pass_by(31)
    assert len(two.asked_for()) == 1


def test_an_answer_after_the_lease_says_nothing_but_the_end(stage: Stage) -> None:
    """A newer claim has the word. But where answers take longer than leases, a final one is believed all the same."""
    task = stage.running()
    stage.wait_until_due(task)
    stale = stage.asked_for()
    stage.clock.pass_by(31)
    fresh = stage.asked_for()
    before = stage.task(task)
    asking.answered(stage.runtime.polling, stale, {task.id: still()})
    asking.failed(stage.runtime.polling, stale, "reset", 3.0)
    assert stage.task(task) == before
    assert stage.steps(task, "poll") == []
    asking.answered(stage.runtime.polling, stale, {task.id: done()})
    ended = stage.task(task)
    assert ended.status is TaskStatus.SUCCEEDED
    asking.answered(stage.runtime.polling, fresh, {task.id: broken()})
    assert stage.task(task) == ended


def test_a_callback_beats_the_answer_on_its_way(stage: Stage) -> None:
    """Whoever is first ends the task; the other changes nothing and makes no event."""
    task = stage.running()
    stage.wait_until_due(task)
    batch = stage.asked_for()
    stage.notice(task)
    asking.answered(stage.runtime.polling, batch, {task.id: broken()})
    after = stage.task(task)
    assert (after.status, after.completed_via) == (TaskStatus.SUCCEEDED, CompletedVia.CALLBACK)
    assert stage.event_types(task) == [EventType.TASK_RUNNING, EventType.TASK_SUCCEEDED]


# Failed calls ------------------------------------------------------------------------------------------


def test_a_failed_call_says_nothing_of_any_task(stage: Stage) -> None:
    """All tasks of the batch are asked after again, by the plan, and the pause holds for the provider."""
    tasks = [stage.running("job-1"), stage.running("job-2")]
    stage.clock.pass_by(6)
    asking.failed(stage.runtime.polling, stage.asked_for(), "HTTP 429", 60.0)
    pause_ends = stage.clock() + 60_000
    for task in tasks:
        after = stage.task(task)
        assert after.status is TaskStatus.RUNNING
        assert (after.due_at or 0) >= pause_ends
    late = stage.running("job-3")
    stage.wait_until_due(late)
    assert stage.asked_for() == []
    look = stage.runtime.polling.next_look("toy")
    assert look is not None
    stage.clock.now = look
    assert 0 <= pause_ends - look <= 250
    assert [task.id for task in stage.asked_for()] == [late.id]


def test_a_long_pause_does_not_outlast_a_deadline(stage: Stage) -> None:
    """The task is due at its deadline, and then once more at the end of the time for a last answer."""
    task = stage.running(deadline=60)
    stage.wait_until_due(task)
    asking.failed(stage.runtime.polling, stage.asked_for(), "HTTP 429", 3600.0)
    assert stage.task(task).due_at == task.deadline_at
    stage.clock.pass_by(3601)
    with stage.runtime.store.write() as connection:
        tasks.move(connection, task.id, {"deadline_at": stage.clock()})
    asking.failed(stage.runtime.polling, stage.asked_for(), "HTTP 429", 3600.0)
    assert stage.task(task).due_at == stage.clock() + LAST_QUERY_GRACE


def test_calls_beyond_the_first_of_a_query_count(stage: Stage) -> None:
    """A query that took three calls leaves its provider alone for as long as three do."""
    stage.running()
    stage.clock.pass_by(6)
    batch = stage.asked_for()
    rate = stage.handler.pace.query_rate
    stage.runtime.polling.turn("toy", [Answer(batch, {}, calls=1 + 20 * round(rate))], 0)
    with stage.runtime.store.read() as connection:
        free = pacing.next_free(connection, "toy:query", stage.clock(), rate)
    assert free == pytest.approx(stage.clock() + 20_000, abs=300)


def test_a_hint_during_a_call_that_fails_is_not_forgotten(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider has just said that there is news: the next query comes soon, not by the plan."""
    unsigned(stage, monkeypatch)
    task = stage.running()
    for _ in range(3):
        stage.wait_until_due(task)
        stage.poll(None)
    stage.wait_until_due(task)
    batch = stage.asked_for()
    stage.notice(task)
    asking.failed(stage.runtime.polling, batch, "reset", None)
    assert (stage.task(task).due_at or 0) <= stage.clock() + 1100


# Hints -------------------------------------------------------------------------------------------------


def test_a_hint_brings_the_query_forward_and_gets_the_credit(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The query happens now, its answer is believed, and the task was completed by a callback."""
    unsigned(stage, monkeypatch)
    task = stage.running()
    stage.notice(task)
    assert stage.task(task).status is TaskStatus.RUNNING
    (after,) = stage.poll(done())
    assert (after.status, after.completed_via) == (TaskStatus.SUCCEEDED, CompletedVia.CALLBACK)


def test_a_hint_taken_by_a_clock_that_is_ahead_does_no_harm(
    build: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Web and worker on machines whose clocks are minutes apart: nothing is put off, and every answer is stored."""
    worker: Stage = build()
    web: Stage = build(at=lambda: clock() + 290_000)
    for stage in (worker, web):
        unsigned(stage, monkeypatch)
    task = worker.running()
    planned = worker.task(task).due_at
    web.notice(task)
    assert worker.task(task).due_at == planned, "by the worker's clock the notice comes from the future"
    worker.wait_until_due(task)
    worker.poll(None)
    assert clock() < (worker.task(task).due_at or 0) <= clock() + 2000


def test_a_forged_hint_costs_a_query_and_nothing_else(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A false "done" is answered by the provider's "drawing": no event, no end, and soon the plan is back."""
    unsigned(stage, monkeypatch)
    task = stage.running()
    stage.notice(task, picture="https://attacker.example.test/x.png")
    waits = []
    until = stage.clock() + HINT_FRESH
    while stage.clock() <= until:
        stage.poll(still())
        waits.append((stage.task(task).due_at or 0) - stage.clock())
        stage.wait_until_due(task)
    assert waits[0] <= 1100
    assert max(waits[:-1]) <= 4400
    stage.poll(still())
    assert (stage.task(task).due_at or 0) - stage.clock() >= 20_000
    assert stage.event_types(task) == [EventType.TASK_RUNNING]
    assert stage.task(task).outputs_json == "[]"


# The deadline ------------------------------------------------------------------------------------------


def test_the_last_query_comes_at_the_deadline(stage: Stage) -> None:
    """The wait before it is cut short; without an end the task expires, once."""
    task = stage.running(deadline=12)
    stage.wait_until_due(task)
    stage.poll(still())
    assert stage.task(task).due_at == task.deadline_at
    stage.wait_until_due(task)
    (after,) = stage.poll(still())
    assert (after.status, after.due_at) == (TaskStatus.EXPIRED, None)
    assert stage.event_types(task) == [EventType.TASK_RUNNING, EventType.TASK_EXPIRED]


def test_a_result_at_the_last_query_counts(stage: Stage) -> None:
    """Done at the deadline is done."""
    task = stage.running(deadline=5)
    stage.clock.pass_by(20)
    assert stage.poll(done())[0].status is TaskStatus.SUCCEEDED
    assert stage.event_types(task)[-1] is EventType.TASK_SUCCEEDED


@pytest.mark.parametrize("called_back", [False, True])
def test_the_last_query_is_one_after_the_deadline(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, called_back: bool
) -> None:
    """What was asked before it, and answered behind it, ends nothing: a result, or a notice, may have come between."""
    unsigned(stage, monkeypatch)
    task = stage.running(deadline=20)
    stage.clock.now = task.deadline_at - 1000
    asked = stage.asked_for()
    assert not called_back or stage.notice(task).verdict is Verdict.HINT
    stage.clock.pass_by(2)
    asking.answered(stage.runtime.polling, asked, {task.id: still()})
    assert stage.task(task).status is TaskStatus.RUNNING
    stage.clock.pass_by(1)
    assert stage.poll(done())[0].status is TaskStatus.SUCCEEDED


def test_a_provider_that_is_down_at_the_deadline_gets_some_grace(stage: Stage) -> None:
    """A task is not thrown away for the want of one answer; but not for ever either."""
    task = stage.running(deadline=5)
    stage.clock.now = task.deadline_at
    asking.failed(stage.runtime.polling, stage.asked_for(), "HTTP 503", None)
    assert stage.task(task).status is TaskStatus.RUNNING
    stage.wait_until_due(task)
    assert stage.poll(done())[0].status is TaskStatus.SUCCEEDED

    other = stage.running(deadline=5)
    while not stage.task(other).status.final:
        stage.wait_until_due(other)
        asking.failed(stage.runtime.polling, stage.asked_for(), "HTTP 503", None)
    assert stage.task(other).status is TaskStatus.EXPIRED
    assert LAST_QUERY_GRACE <= stage.clock() - other.deadline_at <= LAST_QUERY_GRACE + 30_000


# What is no longer there --------------------------------------------------------------------------------


def test_tasks_of_an_operation_that_is_gone_go_on_by_the_providers_plan(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting that removes an operation breaks no lane, and its tasks still come to an end."""
    task, lost = stage.running(), stage.create()
    stage.runtime.submissions.claim("toy", 1)
    monkeypatch.setattr(stage.handler, "operations", {}, raising=False)
    stage.wait_until_due(task)
    stage.poll(still())
    assert (stage.task(task).due_at or 0) > stage.clock()
    stage.clock.pass_by(31)
    asking.failed(stage.runtime.polling, stage.asked_for(), "no such operation", None)
    for _ in range(2):
        assert stage.claim() == []
        stage.clock.pass_by(61)
    assert stage.task(lost).status is TaskStatus.FAILED


def test_polls_of_an_operation_use_its_own_plan(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quick operations are asked after quickly."""
    draw = replace(stage.handler.operations["draw"], poll_schedule=(1.0, 2.0))
    monkeypatch.setattr(stage.handler, "operations", {"draw": draw}, raising=False)
    task = stage.running()
    assert 1000 <= (task.due_at or 0) - stage.clock() <= 1100


def test_answers_and_the_next_claims_share_a_transaction(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What several calls brought is stored as one, each counts, and the tasks that are due next are claimed with it."""
    answered = [stage.running(f"job-{number}") for number in range(4)]
    for task in answered:
        stage.wait_until_due(task)
    batches = asking.claim(stage.runtime.polling, "toy", 50)
    waiting = stage.running("job-4")
    stage.wait_until_due(waiting)
    transactions: list[bool] = []
    real = stage.runtime.store.write

    def noted(*, flushed: bool = True) -> Any:
        transactions.append(flushed)
        return real(flushed=flushed)

    monkeypatch.setattr(stage.runtime.store, "write", noted)
    answers = [Answer(batch, {task.id: done(task.id) for task in batch}) for _, batch in batches]
    turn = stage.runtime.polling.turn("toy", answers, 5)
    assert transactions == [True], "and it survives a power cut"
    assert {stage.task(task).status for task in answered} == {TaskStatus.SUCCEEDED}
    assert [task.id for _, batch in turn.batches for task in batch] == [waiting.id]
    stage.runtime.polling.turn("toy", (), 5)
    assert transactions == [True, False], "claims alone need not"


def test_a_pause_asked_for_holds_from_the_turn_that_stores_it(stage: Stage) -> None:
    """The claims of the same transaction respect what one of its answers asked for."""
    stage.wait_until_due(stage.running("job-0"))
    batch = stage.asked_for()
    stage.wait_until_due(stage.running("job-1"))
    turn = stage.runtime.polling.turn("toy", [Answer(batch, {}, "HTTP 429", 60.0)], 5)
    assert turn.batches == []
    assert turn.next_look is not None
    assert turn.next_look >= stage.clock() + 59_000
