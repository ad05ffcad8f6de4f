"""A mistake, or a limit of the machine, costs what it hits and nothing else: no seat, no lane, no task."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from handlers import Receipt, RemoteTask, Submission, TaskUpdate, Unavailable
from receiver import bell, metrics, watching
from receiver.errors import Busy
from receiver.models import DeliveryStatus, TaskStatus
from receiver.polling import PAUSE_GRACE
from receiver.runtime import wall_clock
from receiver.worker import Worker
from receiver.worker import worker as worker_module
from tests.core.stage import Clock, Stage, done
from tests.subscriber import Subscriber
from tests.worker.conftest import until
from tests.worker.test_worker import Toy, status

Work = Callable[[Stage], Worker]


@contextmanager
def no_thread(name: str) -> Iterator[list[str]]:
    """Threads whose name begins so cannot be started meanwhile, as at a limit of processes; which were refused."""
    start = threading.Thread.start
    refused: list[str] = []

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith(name):
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        yield refused


def test_attempts_that_cannot_be_told_of_give_their_seats_back(
    build: Any, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake in what only watches would otherwise take seat after seat, and what was claimed with each result."""
    monkeypatch.setattr(watching, "attempt_made", lambda *_, **__: 1 / 0)
    stage: Stage = build(at=wall_clock, RECEIVER_DELIVERY_CONCURRENCY=2)
    with Subscriber() as subscriber:
        registered = stage.subscribe(subscriber.url, "subscriber.ping")
        pings = [stage.ping(registered) for _ in range(5)]
        worker = work(stage)
        until(lambda: all(stage.delivery(one).status is DeliveryStatus.DELIVERED for one in pings))
        assert len(subscriber.requests) == 5
    until(lambda: worker.lanes[0].in_flight == 0)


def test_a_submission_without_a_thread_is_made_by_another(
    build: Any, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was claimed is handed over by a thread that is there: else it ends as ``submission_unknown``."""
    stage: Stage = build(at=wall_clock)
    remote = Toy(stage, monkeypatch)
    worker = work(stage)
    with no_thread("submit-toy_"):
        tasks = [stage.create() for _ in range(12)]
        until(lambda: all(stage.task(one).status is TaskStatus.RUNNING for one in tasks))
    assert len(remote.submitted) == 12
    until(lambda: not any(lane.in_flight for lane in worker.lanes))


def test_a_submission_is_made_though_it_cannot_be_counted(
    stage: Stage, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claimed and not sent, a task would end as ``submission_unknown``, though nothing was bought."""
    Toy(stage, monkeypatch)
    monkeypatch.setattr(metrics, "observe_first_submit", lambda *_: 1 / 0)
    work(stage)
    task = stage.create()
    until(lambda: stage.task(task).status is TaskStatus.RUNNING)


def test_the_bell_is_heard_after_a_mistake(stage: Stage, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who listens goes on; else every lane would look only twice a minute from then on, until a restart."""
    Toy(stage, monkeypatch)
    wait = bell.Listener.wait
    troubles = [OSError("too many open files"), ValueError("a mistake")]

    def stumble(listener: bell.Listener, seconds: float) -> bool:
        if troubles and threading.current_thread().name == "bell":  # the worker's; applications listen, too
            raise troubles.pop()
        return wait(listener, seconds)

    monkeypatch.setattr(bell.Listener, "wait", stumble)
    monkeypatch.setattr(worker_module, "BACKSTOP", 0.1)
    work(stage)
    until(lambda: not troubles)
    task = stage.create()
    until(lambda: stage.task(task).status is TaskStatus.RUNNING)


def test_a_query_without_a_thread_is_made_later(build: Any, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """It failed as any other may, and its seat is free again."""
    stage: Stage = build(at=wall_clock, TOY_POLL_SCHEDULE="0.05")
    Toy(stage, monkeypatch)
    worker = work(stage)
    until(lambda: all(lane._thread.is_alive() for lane in worker.lanes))
    with no_thread("query-toy"):
        task = stage.create()
        until(lambda: stage.steps(task, "poll"))
    until(lambda: stage.task(task).status is TaskStatus.SUCCEEDED)
    until(lambda: not any(lane.in_flight for lane in worker.lanes))


def test_good_results_wait_for_a_busy_database_beside_a_bad_one(
    stage: Stage, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored one by one for the sake of a bad one, the others are kept in hand while the database is busy."""
    turn = stage.runtime.deliveries.turn
    with Subscriber() as good, Subscriber() as bad:
        poisoned = stage.ping(stage.subscribe(bad.url, "subscriber.ping"))
        others = [stage.ping(stage.subscribe(good.url, "subscriber.ping")) for _ in range(3)]
        held = threading.Event()
        refusals = [Busy("locked")] * 2

        def store(outcomes: Any, room: int, **more: Any) -> Any:
            if outcomes and not held.is_set():
                if len(outcomes) < 4:
                    raise Busy("locked")
                held.set()
            if any(outcome.claim.delivery.id == poisoned.id for outcome in outcomes):
                raise ValueError("cannot be stored")
            if outcomes and refusals:
                raise refusals.pop()
            return turn(outcomes, room, **more)

        monkeypatch.setattr(stage.runtime.deliveries, "turn", store)
        worker = work(stage)
        until(lambda: all(stage.delivery(one).status is DeliveryStatus.DELIVERED for one in others))
        assert len(good.requests) == 3
        until(lambda: worker.lanes[0].in_flight == 0)


def test_a_worker_that_was_suspended_asks_again_before_a_task_ends(
    build: Any, clock: Clock, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that broke off in its sleep is no last query: what the provider has made meanwhile is paid for."""
    monkeypatch.setattr(worker_module, "BEAT", 0.05)
    stage: Stage = build()
    remote = Toy(stage, monkeypatch)
    asleep, awake, network = threading.Event(), threading.Event(), threading.Event()

    def query(task: RemoteTask) -> TaskUpdate:
        asleep.set()
        awake.wait(10)
        if not network.is_set():
            raise Unavailable("the connection broke off")
        return done(task.provider_task_id or "")

    remote.on_query = query
    task = stage.running(deadline=60)
    stage.wait_until_due(task)
    work(stage)
    assert asleep.wait(10)
    until(lambda: stage.runtime.polling._seen is not None)
    clock.now = task.deadline_at + PAUSE_GRACE
    awake.set()
    until(lambda: stage.steps(task, "poll"))
    assert stage.task(task).status is TaskStatus.RUNNING
    network.set()
    clock.pass_by(60)
    stage.runtime.bell.ring()
    until(lambda: stage.task(task).status is TaskStatus.SUCCEEDED)


def test_the_log_has_each_failed_call_with_its_reason(
    build: Any, work: Work, monkeypatch: pytest.MonkeyPatch, logged: list[Any]
) -> None:
    """What the alarm about failing providers promises: outcome and reason of every submission and query."""
    stage: Stage = build(at=wall_clock, TOY_POLL_SCHEDULE="0.1")
    remote = Toy(stage, monkeypatch)
    troubles = {"submit": [Unavailable("the door is shut", 0.1)], "query": [Unavailable("nobody is home")]}

    def submit(submission: Submission) -> Receipt:
        if troubles["submit"]:
            raise troubles["submit"].pop()
        return Receipt("job-1", "{}")

    def query(task: RemoteTask) -> TaskUpdate:
        if troubles["query"]:
            raise troubles["query"].pop()
        return done(task.provider_task_id or "")

    remote.on_submit, remote.on_query = submit, query
    work(stage)
    until(status(stage, stage.create())(TaskStatus.SUCCEEDED))
    calls = [line for line in logged if line["event"] in ("submit", "query") and line["log_level"] == "warning"]
    assert [(line["event"], line["outcome"], line["why"]) for line in calls] == [
        ("submit", "unavailable", "the door is shut"),
        ("query", "unavailable", "nobody is home"),
    ]
