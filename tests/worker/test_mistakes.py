"""A mistake, or a limit of the machine, costs what it hits and nothing else: no seat, no lane, no task."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from receiver.models import DeliveryStatus, TaskStatus
from receiver.runtime import wall_clock
from receiver.worker import Worker
from tests.core.stage import Stage
from tests.subscriber import Subscriber
from tests.worker.conftest import until
from tests.worker.test_worker import Toy

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


def test_a_courier_that_cannot_start_takes_no_seat(build: Any, work: Work) -> None:
    """Without a thread for it attempts fail; with one the next attempts are made."""
    stage: Stage = build(at=wall_clock, RECEIVER_DELIVERY_CONCURRENCY=2)
    with Subscriber() as subscriber:
        registered = stage.subscribe(subscriber.url, "subscriber.ping")
        first = [stage.ping(registered) for _ in range(3)]
        with no_thread("courier"):
            worker = work(stage)
            until(lambda: all(stage.delivery(one).attempts == 1 for one in first))
        until(lambda: worker.lanes[0].in_flight == 0)
        later = stage.ping(registered)
        until(lambda: stage.delivery(later).status is DeliveryStatus.DELIVERED)


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
