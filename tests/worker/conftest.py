"""The stage that these tests play on, with the real clock and real threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from receiver.runtime import wall_clock
from receiver.worker import Worker, lane
from receiver.worker import worker as worker_module
from tests.core.stage import Stage, build, clock, migrated, toy

__all__ = ["build", "clock", "migrated", "toy"]


@pytest.fixture
def stage(build: Any) -> Stage:
    """One process in real time; what waits for seconds elsewhere waits for fractions here."""
    made: Stage = build(at=wall_clock)
    return made


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[Any]]:
    """What the worker logs, instead of printing it."""
    with structlog.testing.capture_logs() as entries:
        yield entries


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Stage], Worker]]:
    """Starts workers, and stops them at the end. Without the bell they would sleep for half a minute."""
    monkeypatch.setattr(lane, "TROUBLE", 0.05)
    monkeypatch.setattr(worker_module, "BACKSTOP", 30.0)
    started: list[Worker] = []

    def start(stage: Stage) -> Worker:
        worker = Worker(stage.runtime)
        worker.start()
        started.append(worker)
        return worker

    yield start
    for worker in started:
        if not worker._stopping.is_set():
            worker.stop(5.0)


def until(happened: Callable[[], Any], seconds: float = 10.0) -> Any:
    """What the function gives as soon as it gives something true. AssertionError when it never does."""
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)
    return found
