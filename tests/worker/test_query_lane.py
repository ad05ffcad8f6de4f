"""The query lane: as many calls at once as a rate needs, answers written together, none lost to trouble."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from unittest.mock import Mock

import pytest

from handlers import RemoteStatus, RemoteTask, TaskUpdate, Unavailable
from handlers._deadline import begin_call
from handlers._http import CONNECTIONS
from receiver import polling
from receiver.errors import Busy
from receiver.models import Task, TaskStatus
from receiver.polling import Answer, PollingService, Turn
from receiver.runtime import wall_clock
from receiver.store import pacing
from receiver.worker import query_lane
from receiver.worker.query_lane import LEAST_SEATS, MOST_SEATS, QueryLane
from tests.core.stage import HOOK, Stage, done, still
from tests.worker.conftest import until

Query = Callable[[RemoteTask], TaskUpdate]
Start = Callable[..., QueryLane]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts the toy's query lane alone, with what the provider answers; stops it at the end."""
    lanes: list[QueryLane] = []

    def start(stage: Stage, query: Query) -> QueryLane:
        def answer(tasks: Sequence[RemoteTask]) -> Mapping[str, TaskUpdate]:
            return {task.task_id: query(task) for task in tasks}

        monkeypatch.setattr(stage.handler, "query", answer, raising=False)
        monkeypatch.setattr(stage.handler, "query_batch", 1)
        lanes.append(QueryLane(stage.runtime, "toy"))
        lanes[-1].start()
        return lanes[-1]

    yield start
    for lane in lanes:
        lane.stop()
        lane.join(5)


def running(stage: Stage, count: int) -> list[Task]:
    """So many tasks that are due now."""
    tasks = [stage.running(f"job-{number}") for number in range(count)]
    with stage.runtime.store.write() as connection:
        connection.exec_driver_sql(f"UPDATE tasks SET due_at = {stage.clock() - 1}")
    return tasks


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many answers each turn wrote, those without left out."""
    sizes: list[int] = []
    real = PollingService.turn

    def turn(service: PollingService, provider: str, answers: Sequence[Answer], room: int) -> Turn:
        if answers:
            sizes.append(len(answers))
        return real(service, provider, answers, room)

    monkeypatch.setattr(PollingService, "turn", turn)
    return sizes


@pytest.mark.parametrize(("rate", "seats"), [(1, LEAST_SEATS), (5, 12), (60, 135), (100_000, MOST_SEATS)])
def test_seats_do_not_bound_a_documented_rate(build: Any, rate: int, seats: int) -> None:
    """Answers that take two seconds are waited for by as many calls as the rate makes meanwhile."""
    stage: Stage = build(at=wall_clock, TOY_QUERY_RATE=rate)
    assert QueryLane(stage.runtime, "toy").seats == seats


def test_every_seat_has_a_connection() -> None:
    """As many calls at once as a lane makes find their connections kept; none opens one for itself each time."""
    assert MOST_SEATS == CONNECTIONS


def test_slow_answers_do_not_hold_the_rate_up(build: Any, start: Start) -> None:
    """Thirty calls a second, of which none is answered before thirty are under way at once: all are answered."""
    stage: Stage = build(at=wall_clock, TOY_QUERY_RATE=30)
    tasks = running(stage, 30)
    together = threading.Barrier(30)

    def query(task: RemoteTask) -> TaskUpdate:
        together.wait(30)
        return done(task.provider_task_id or "")

    start(stage, query)
    until(lambda: all(stage.task(task).status is TaskStatus.SUCCEEDED for task in tasks), 30)


def test_answers_that_come_together_are_written_together(build: Any, start: Start, turns: list[int]) -> None:
    """Twenty calls that end at the same moment take a few transactions, not twenty."""
    stage: Stage = build(at=wall_clock, TOY_QUERY_RATE=1000)
    tasks = running(stage, 20)
    together = threading.Barrier(20)

    def query(task: RemoteTask) -> TaskUpdate:
        together.wait(10)
        return done(task.provider_task_id or "")

    start(stage, query)
    until(lambda: all(stage.task(task).status is TaskStatus.SUCCEEDED for task in tasks))
    assert sum(turns) == 20
    assert len(turns) <= 10


def test_much_news_is_written_in_several_turns(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where many subscribers hear of each end, others write in between; no news goes together, as do few hearers."""
    monkeypatch.setattr(polling, "FEW", 3)
    monkeypatch.setattr(polling, "MOST_TOLD", 8)
    stage: Stage = build(at=wall_clock, TOY_QUERY_RATE=1000)
    lane = QueryLane(stage.runtime, "toy")
    tasks = running(stage, 12)

    def written(said: Callable[[], TaskUpdate], turns: int, pieces: int = 1) -> list[int]:
        batches = [tasks[place : place + pieces] for place in range(0, len(tasks), pieces)]
        lane._ended.extend(Answer(batch, {task.id: said() for task in batch}) for batch in batches)
        return [len(lane._some_ended()) for _ in range(turns)]

    assert written(done, 1) == [12]
    for number in range(4):
        stage.subscribe(f"{HOOK}/{number}")
    assert written(done, 7) == [2, 2, 2, 2, 2, 2, 0]
    assert written(done, 4, pieces=4) == [1, 1, 1, 0]
    assert written(still, 2) == [12, 0]
    lane._ended.extend(Answer([task], {task.id: done()}) for task in tasks[:3])
    assert len(lane._some_ended()) == 3
    ended = [Answer([task], {task.id: done()}) for task in tasks]
    lane._ended.extend(ended)
    monkeypatch.setattr(stage.runtime.store, "ask", Mock(side_effect=Busy("no")))
    with pytest.raises(Busy):
        lane._some_ended()
    assert list(lane._ended) == ended


def test_news_is_not_kept_waiting(build: Any, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that ends a task is written at once, though other calls are under way whose answers could join it."""
    monkeypatch.setattr(query_lane, "LEISURE", 300.0)
    stage: Stage = build(at=wall_clock, TOY_QUERY_RATE=1000)
    quick, slow, idle = running(stage, 3)
    over = threading.Event()

    def query(task: RemoteTask) -> TaskUpdate:
        if task.task_id == slow.id:
            over.wait(60)
        return still() if task.task_id == idle.id else done(task.provider_task_id or "")

    start(stage, query)
    until(lambda: stage.task(quick).status is TaskStatus.SUCCEEDED, 20)  # the slow one is still under way
    over.set()


def test_an_answer_that_cannot_be_stored_fails_alone(
    build: Any, start: Start, turns: list[int], logged: list[Any]
) -> None:
    """What one answer breaks must not keep the others' from being stored; its seat is free, its lease hands it over."""
    stage: Stage = build(at=wall_clock, TOY_QUERY_RATE=1000)
    bad, good = running(stage, 2)
    together = threading.Barrier(2)

    def query(task: RemoteTask) -> TaskUpdate:
        together.wait(10)
        if task.task_id == bad.id:
            return TaskUpdate(RemoteStatus.RUNNING, raw=object())  # type: ignore[arg-type]  # that is the point
        return still()

    lane = start(stage, query)
    until(lambda: stage.task(good).polls == 1 and lane.in_flight == 0)
    assert stage.task(bad).polls == 0
    assert "a result could not be stored; its lease hands the work over" in {entry["event"] for entry in logged}


def test_a_busy_database_loses_no_answer(build: Any, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is kept in hand until it can be written, and the provider is not asked again for it."""
    stage: Stage = build(at=wall_clock)
    (task,) = running(stage, 1)
    asked: list[str] = []
    refusals = [Busy("locked")] * 2
    real = PollingService.turn

    def turn(service: PollingService, provider: str, answers: Sequence[Answer], room: int) -> Turn:
        if answers and refusals:
            raise refusals.pop()
        return real(service, provider, answers, room)

    def query(remote: RemoteTask) -> TaskUpdate:
        asked.append(remote.task_id)
        return done(remote.provider_task_id or "")

    monkeypatch.setattr(PollingService, "turn", turn)
    monkeypatch.setattr("receiver.worker.lane.TROUBLE", 0.05)
    start(stage, query)
    until(lambda: stage.task(task).status is TaskStatus.SUCCEEDED)
    assert asked == [task.id]


def test_what_fails_in_watching_takes_no_seat_away(
    build: Any, start: Start, monkeypatch: pytest.MonkeyPatch, logged: list[Any]
) -> None:
    """A metric or a log line that cannot be written costs neither the answer nor the seat."""
    stage: Stage = build(at=wall_clock)
    (task,) = running(stage, 1)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no space left for the log")

    monkeypatch.setattr("receiver.watching.provider_called", fail)
    lane = start(stage, lambda remote: done(remote.provider_task_id or ""))
    until(lambda: stage.task(task).status is TaskStatus.SUCCEEDED and lane.in_flight == 0)
    assert "a call failed" in {entry["event"] for entry in logged}


@pytest.mark.parametrize("answer", [None, {"task_1": None}])
def test_a_handler_that_answers_nonsense_takes_no_seat_away(
    build: Any, start: Start, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    """Its call counts as failed, the task is asked after again, and the lane can be stopped."""
    stage: Stage = build(at=wall_clock)
    lane = start(stage, lambda _: still())
    monkeypatch.setattr(stage.handler, "query", lambda _: answer, raising=False)
    (task,) = running(stage, 1)  # only now: it is asked about at once
    lane.wake()
    until(lambda: {"failed": "internal error"} in stage.steps(task, "poll") and lane.in_flight == 0)


def test_every_call_of_a_query_counts(build: Any, start: Start) -> None:
    """Also those of a query that fails in the end: a provider that is asked twice is left alone for twice as long."""
    stage: Stage = build(at=wall_clock, TOY_QUERY_RATE="0.01")

    def query(_: RemoteTask) -> TaskUpdate:
        for _ in range(2):
            begin_call(time.monotonic())
        raise Unavailable("the archive is shut")

    running(stage, 1)
    start(stage, query)
    until(lambda: bool(stage.rows("SELECT 1 FROM tasks WHERE polls = 1")))
    with stage.runtime.store.read() as connection:
        free = pacing.next_free(connection, "toy:query", stage.clock(), 0.01)
    assert free - stage.clock() > 150_000


def test_a_stop_waits_for_what_was_asked(build: Any, start: Start) -> None:
    """No new claim, but the answer of a call that is under way is stored before the lane ends."""
    stage: Stage = build(at=wall_clock)
    (task,) = running(stage, 1)
    asked, over = threading.Event(), threading.Event()

    def query(remote: RemoteTask) -> TaskUpdate:
        asked.set()
        over.wait(10)
        return done(remote.provider_task_id or "")

    lane = start(stage, query)
    assert asked.wait(5)
    lane.stop()
    lane.join(0.2)
    assert lane.in_flight == 1
    over.set()
    lane.join(5)
    assert (lane.in_flight, stage.task(task).status) == (0, TaskStatus.SUCCEEDED)
