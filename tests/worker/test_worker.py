"""The worker: quick to wake, patient with databases, careful with money, graceful at its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from handlers import (
    ErrorCode,
    OutcomeUnknown,
    Receipt,
    Rejected,
    RemoteStatus,
    RemoteTask,
    Submission,
    TaskError,
    TaskUpdate,
    Unavailable,
)
from receiver.errors import Busy
from receiver.models import CompletedVia, DeliveryStatus, EventType, TaskStatus
from receiver.runtime import wall_clock
from receiver.store import deliveries
from receiver.subscribers import NewSubscriber
from receiver.worker import Worker, submit_lane
from receiver.worker import worker as worker_module
from receiver.worker.submit_lane import SubmitLane
from tests.core.stage import Clock, Stage, done
from tests.subscriber import Subscriber, answer, hang
from tests.worker.conftest import until

Work = Callable[[Stage], Worker]


class Toy:
    """The provider, as calls of the handler."""

    def __init__(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.submitted: list[tuple[Submission, float]] = []
        self.asked: list[Sequence[RemoteTask]] = []
        self.on_submit: Callable[[Submission], Receipt] = lambda s: Receipt(f"job-{s.task_id}", "{}")
        self.on_query: Callable[[RemoteTask], TaskUpdate] = lambda task: done(task.provider_task_id or "")
        monkeypatch.setattr(stage.handler, "submit", self.submit, raising=False)
        monkeypatch.setattr(stage.handler, "query", self.query, raising=False)

    def submit(self, submission: Submission) -> Receipt:
        self.submitted.append((submission, time.time()))
        return self.on_submit(submission)

    def query(self, tasks: Sequence[RemoteTask]) -> Mapping[str, TaskUpdate]:
        self.asked.append(tasks)
        return {task.task_id: self.on_query(task) for task in tasks}


@pytest.fixture
def remote(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """The provider that the stage's handler calls."""
    return Toy(stage, monkeypatch)


def status(stage: Stage, task: Any) -> Callable[[TaskStatus], Callable[[], bool]]:
    """``status(stage, task)(RUNNING)()``: whether it is so now."""
    return lambda wanted: lambda: stage.task(task).status is wanted


def test_a_new_task_is_handed_over_at_once(stage: Stage, build: Any, remote: Toy, work: Work) -> None:
    """Created in another process: the bell wakes the lane, which would have slept on for half a minute."""
    other: Stage = build(at=wall_clock)
    work(stage)
    time.sleep(0.3)  # the lanes have looked, and sleep
    for _ in range(4):
        task = other.create()
        until(status(stage, task)(TaskStatus.RUNNING))
        submission, _ = remote.submitted[-1]
        assert submission.task_id == task.id


def test_from_request_to_webhook(stage: Stage, build: Any, remote: Toy, work: Work) -> None:
    """Submitted, called back to another process, delivered and verified, all without waiting for a clock."""
    other: Stage = build(at=wall_clock)
    with Subscriber() as subscriber:
        _, secret = other.runtime.subscribers.create(stage.account, NewSubscriber(subscriber.url, ("*",)))
        work(stage)
        task = other.create()
        subscriber.wait_for(1)
        job = other.task(task).provider_task_id or ""
        other.notice(task, job)
        requests = subscriber.wait_for(2)  # by itself the lane would have looked half a minute later
        for request in requests:
            request.verify(secret)
        assert {request.header("content-type") for request in requests} == {"application/json"}
        until(lambda: all(one.status is DeliveryStatus.DELIVERED for one in other.deliveries_of(task)))
    assert stage.event_types(task) == [EventType.TASK_RUNNING, EventType.TASK_SUCCEEDED]


def test_a_hint_brings_the_query_at_once(build: Any, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unsigned callback in one process, a query in another a minute before it was to be made."""
    stage: Stage = build(at=wall_clock, TOY_POLL_SCHEDULE=60)
    remote = Toy(stage, monkeypatch)
    other: Stage = build(at=wall_clock)
    monkeypatch.setattr(other.handler, "signature_covers_body", False, raising=False)
    work(stage)
    task = other.create()
    until(status(stage, task)(TaskStatus.RUNNING))
    assert remote.asked == []
    other.notice(task, f"job-{task.id}")
    until(status(stage, task)(TaskStatus.SUCCEEDED))
    assert stage.task(task).completed_via is CompletedVia.CALLBACK


def test_every_error_of_a_submit_has_its_consequence(stage: Stage, remote: Toy, work: Work) -> None:
    """Refused: failed. Away: later. Unknown, or a mistake of ours: never again, and the worker goes on."""
    errors: dict[str, Exception] = {
        "refused": Rejected(TaskError(ErrorCode.INVALID_INPUT, "no")),
        "away": Unavailable("busy", None),
        "unknown": OutcomeUnknown("reset"),
        "mistake": ZeroDivisionError("ours"),
    }
    calls: list[str] = []

    def submit(submission: Submission) -> Receipt:
        word = submission.input["prompt"]
        calls.append(word)
        if word in errors:
            raise errors[word]
        return Receipt("job-1", "{}")

    remote.on_submit = submit
    work(stage)
    made = {word: stage.create(word) for word in (*errors, "fine")}
    until(lambda: calls.count("away") == 2, 10)
    until(status(stage, made["fine"])(TaskStatus.RUNNING))
    assert {word: calls.count(word) for word in made} == {
        "refused": 1, "away": 2, "unknown": 1, "mistake": 1, "fine": 1,
    }  # fmt: skip
    assert stage.task(made["refused"]).status is TaskStatus.FAILED
    for word in ("unknown", "mistake"):
        task = stage.task(made[word])
        assert (task.status, task.outcome_unknown, task.submits) == (TaskStatus.SUBMITTING, True, 1)


def test_an_answer_that_cannot_be_told_of_is_kept(
    stage: Stage, remote: Toy, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider has taken the task: no mistake in what only watches may cost its receipt."""
    monkeypatch.setattr("receiver.watching.provider_called", lambda *_, **__: 1 / 0)
    work(stage)
    until(status(stage, stage.create())(TaskStatus.RUNNING))


def test_an_operation_that_is_gone_is_refused_without_a_call(
    stage: Stage, remote: Toy, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting that removed it while tasks were waiting: they fail, and no lane stops."""
    task = stage.create()
    monkeypatch.setattr(stage.handler, "operations", {}, raising=False)
    work(stage)
    until(status(stage, task)(TaskStatus.FAILED))
    assert remote.submitted == []
    assert '"internal"' in (stage.task(task).error_json or "")


@pytest.mark.parametrize("meanwhile", ["nothing", "taken for lost", "given up"])
def test_a_worker_that_stood_still_hands_nothing_over(
    build: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    """Its lease is over: what others gave up is not bought after all, and what they have not is queued again."""
    stage: Stage = build()
    remote = Toy(stage, monkeypatch)
    task = stage.create()
    (piece,) = SubmitLane(stage.runtime, "toy").look(1)
    clock.pass_by(30)
    if meanwhile != "nothing":
        assert stage.claim() == []
    if meanwhile == "given up":
        stage.wait_until_due(task)
        assert stage.claim() == []
    piece()
    assert remote.submitted == []
    after = stage.task(task)
    if meanwhile == "given up":
        assert after.status is TaskStatus.FAILED
    else:
        assert (after.status, after.outcome_unknown) == (TaskStatus.QUEUED, False)


def test_a_query_that_breaks_is_asked_again_by_the_plan(
    build: Any, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No crash loop: a handful of calls, and then the result."""
    stage: Stage = build(at=wall_clock, TOY_POLL_SCHEDULE="0.1")
    remote = Toy(stage, monkeypatch)
    troubles: list[Exception] = [
        ZeroDivisionError("ours"),
        Unavailable("away"),
        Rejected(TaskError(ErrorCode.INTERNAL, "?")),
    ]

    def query(task: RemoteTask) -> TaskUpdate:
        if troubles:
            raise troubles.pop()
        return done(task.provider_task_id or "")

    remote.on_query = query
    work(stage)
    task = stage.create()
    until(status(stage, task)(TaskStatus.SUCCEEDED))
    assert len(remote.asked) == 4
    assert len([step for step in stage.steps(task, "poll") if "failed" in step]) == 3


def test_a_busy_database_loses_no_receipt(
    stage: Stage, remote: Toy, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider's answer is kept in hand until it can be written; nothing is bought again."""
    accepted = stage.runtime.submissions.accepted
    refusals = [Busy("locked")] * 3

    def write(*given: Any) -> None:
        if refusals:
            raise refusals.pop()
        accepted(*given)

    monkeypatch.setattr(stage.runtime.submissions, "accepted", write)
    work(stage)
    task = stage.create()
    until(status(stage, task)(TaskStatus.RUNNING))
    assert refusals == []
    assert len(remote.submitted) == 1


def test_an_unknown_status_word_is_logged_once(
    build: Any, work: Work, monkeypatch: pytest.MonkeyPatch, logged: list[Any]
) -> None:
    """Whoever runs the service learns that a handler is out of date, without a line for every query."""
    stage: Stage = build(at=wall_clock, TOY_POLL_SCHEDULE="0.05")
    remote = Toy(stage, monkeypatch)
    remote.on_query = lambda task: TaskUpdate(RemoteStatus.RUNNING, "{}", "job-1", unknown_status="archiving")
    work(stage)
    task = stage.create()
    until(lambda: stage.task(task).polls >= 3)
    assert [entry["word"] for entry in logged if entry["event"] == "unknown status word"] == ["archiving"]
    assert stage.steps(task, "poll")[0] == {"said": "archiving"}


def test_sweeping_goes_on_after_trouble(stage: Stage, remote: Toy, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy database or a mistake costs one round, not the signs of life."""
    monkeypatch.setattr(worker_module, "BEAT", 0.05)
    monkeypatch.setattr(worker_module, "SWEEP", 0.0)
    troubles: list[Exception] = [ValueError("a mistake"), Busy("locked")]
    rounds: list[int] = []

    def step() -> int:
        rounds.append(1)
        if troubles:
            raise troubles.pop()
        return 0

    monkeypatch.setattr(stage.runtime.sweeping, "step", step)
    work(stage)
    until(lambda: len(rounds) >= 4)
    assert troubles == []


# Stopping ----------------------------------------------------------------------------------------------


def test_a_stop_lets_calls_end_and_starts_none(stage: Stage, remote: Toy, work: Work) -> None:
    """The call in flight is finished and written; what waits stays in the queue for others."""
    go = threading.Event()
    remote.on_submit = lambda submission: (go.wait(10), Receipt("job-1", "{}"))[1]
    worker = work(stage)
    task = stage.create()
    until(lambda: remote.submitted)
    ends: list[bool] = []
    stopping = threading.Thread(target=lambda: ends.append(worker.stop(10.0)))
    stopping.start()
    until(lambda: all(not lane._thread.is_alive() for lane in worker.lanes))
    waiting = stage.create()
    time.sleep(0.1)
    assert ends == []
    go.set()
    stopping.join(10)
    assert ends == [True]
    assert stage.task(task).status is TaskStatus.RUNNING
    assert stage.task(waiting).status is TaskStatus.QUEUED
    assert len(remote.submitted) == 1


def test_a_stop_does_not_wait_for_ever(stage: Stage, remote: Toy, work: Work) -> None:
    """A call that hangs is left to its lease, and the stop says so."""
    go = threading.Event()
    remote.on_submit = lambda submission: (go.wait(60), Receipt("job-1", "{}"))[1]
    worker = work(stage)
    task = stage.create()
    until(lambda: remote.submitted)
    assert worker.stop(0.2) is False  # while it hangs
    assert stage.task(task).status is TaskStatus.SUBMITTING
    go.set()
    until(lambda: not any(lane.in_flight for lane in worker.lanes))


def test_a_stop_without_patience_gives_back_what_no_call_was_made_for(
    stage: Stage, remote: Toy, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is told that a task may be charged which only waited for its slot: the next worker hands it over."""
    at_slot, go = threading.Event(), threading.Event()
    monkeypatch.setattr(submit_lane, "wait_until", lambda *_: (at_slot.set(), go.wait(10)))
    worker = work(stage)
    task = stage.create()
    assert at_slot.wait(10)
    assert worker.stop(0) is False
    assert stage.task(task).status is TaskStatus.QUEUED
    go.set()
    until(lambda: not any(lane.in_flight for lane in worker.lanes))
    assert remote.submitted == []


def test_a_worker_is_seen_while_it_lives(stage: Stage, remote: Toy, work: Work) -> None:
    """Its first sign of life comes at once; at its stop it takes the last one back."""
    worker = work(stage)
    until(lambda: stage.runtime.sweeping.last_beat() is not None)
    worker.stop(1.0)
    assert stage.runtime.sweeping.last_beat() is None


# Delivering --------------------------------------------------------------------------------------------


def test_a_subscriber_that_hangs_costs_the_others_nothing(
    build: Any, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fills its own cap and no more; a quick one beside it gets everything at once."""
    stage: Stage = build(at=wall_clock, RECEIVER_DELIVERY_CONCURRENCY=6, RECEIVER_SUBSCRIBER_CONCURRENCY=2)
    Toy(stage, monkeypatch)
    with Subscriber(hang) as slow, Subscriber() as quick:
        stuck, served = stage.subscribe(slow.url, "subscriber.ping"), stage.subscribe(quick.url, "subscriber.ping")
        for _ in range(10):
            stage.ping(stuck)
        for _ in range(10):
            stage.ping(served)
        work(stage)
        quick.wait_for(10)  # before the first attempt that hangs has ended
        assert len(slow.requests) <= 2


def test_a_failed_attempt_is_made_again(build: Any, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """On schedule, with the same id and bytes, until one is taken."""
    stage: Stage = build(at=wall_clock, RECEIVER_RETRY_SCHEDULE="0.1,0.1,0.1")
    Toy(stage, monkeypatch)
    with Subscriber(answer(500), answer(503), answer(204)) as subscriber:
        delivery = stage.ping(stage.subscribe(subscriber.url))
        work(stage)
        until(lambda: stage.delivery(delivery).status is DeliveryStatus.DELIVERED)
        assert len({(request.header("webhook-id"), request.body) for request in subscriber.requests}) == 1
    _, attempts = stage.runtime.deliveries.get(stage.account, delivery.id)
    assert [attempt.response_status for attempt in attempts] == [500, 503, 204]


def test_one_result_that_cannot_be_stored_does_not_spoil_the_others(
    stage: Stage, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results are written together; a bad one is left to its lease alone."""
    turn = stage.runtime.deliveries.turn
    with Subscriber() as good, Subscriber() as bad:
        poisoned = stage.ping(stage.subscribe(bad.url, "subscriber.ping"))
        others = [stage.ping(stage.subscribe(good.url, "subscriber.ping")) for _ in range(5)]

        def store(outcomes: Any, room: int, **more: Any) -> Any:
            if any(outcome.claim.delivery.id == poisoned.id for outcome in outcomes):
                raise ValueError("cannot be stored")
            return turn(outcomes, room, **more)

        monkeypatch.setattr(stage.runtime.deliveries, "turn", store)
        work(stage)
        until(lambda: all(stage.delivery(one).status is DeliveryStatus.DELIVERED for one in others))
        bad.wait_for(1)
    assert stage.delivery(poisoned).attempts == 0


def test_a_request_that_cannot_be_made_is_an_attempt(stage: Stage, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake of ours, or a secret key that is gone: written down as such, and no seat is lost."""

    def request_of(claim: Any) -> Any:
        raise ValueError("the secret key is gone")

    monkeypatch.setattr(stage.runtime.deliveries, "request_of", request_of)
    broken = stage.ping(stage.subscribe())
    worker = work(stage)
    until(lambda: stage.delivery(broken).attempts == 1)
    assert stage.runtime.deliveries.get(stage.account, broken.id)[1][0].error == "invalid_request"
    until(lambda: worker.lanes[0].in_flight == 0)


def test_a_large_backlog_fills_many_seats(build: Any, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """More seats than are filled in one transaction: three quarters of them, and the rest stays for newcomers."""
    stage: Stage = build(at=wall_clock, RECEIVER_DELIVERY_CONCURRENCY=240, RECEIVER_SUBSCRIBER_CONCURRENCY=240)
    with Subscriber(hang) as slow, Subscriber() as quick:
        stuck = stage.subscribe(slow.url, "subscriber.ping")
        event = stage.ping(stuck)
        with stage.runtime.store.write() as connection:
            deliveries.add(connection, [replace(event, id=f"{event.id}{number:03}") for number in range(250)])
        worker = work(stage)
        until(lambda: worker.lanes[0].in_flight == 180, 20)
        stage.ping(stage.subscribe(quick.url, "subscriber.ping"))
        quick.wait_for(1)


def test_results_wait_for_a_database_that_is_busy(stage: Stage, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that was made is written once the database takes it, and not made again."""
    turn = stage.runtime.deliveries.turn
    refusals = [Busy("locked")] * 3

    def store(outcomes: Any, room: int, **more: Any) -> Any:
        if outcomes and refusals:
            raise refusals.pop()
        return turn(outcomes, room, **more)

    monkeypatch.setattr(stage.runtime.deliveries, "turn", store)
    with Subscriber() as subscriber:
        delivery = stage.ping(stage.subscribe(subscriber.url, "subscriber.ping"))
        work(stage)
        until(lambda: stage.delivery(delivery).status is DeliveryStatus.DELIVERED)
        assert len(subscriber.requests) == 1
    assert refusals == []
