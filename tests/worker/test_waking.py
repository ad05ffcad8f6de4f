"""A ring wakes the lanes that have work, and lets the others sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from handlers import Receipt
from receiver.bell import Bell
from receiver.deliveries import Outcome
from receiver.models import TaskStatus
from receiver.runtime import wall_clock
from receiver.store.settling import FEW
from receiver.waking import lanes_after
from receiver.worker import Worker
from receiver.worker import worker as worker_module
from receiver.worker.deliver_lane import DeliverLane
from tests.core.stage import HOOK, Stage, answered
from tests.worker.conftest import until


@pytest.mark.parametrize(
    ("rung", "woken"),
    [
        ({"deliver"}, {"deliver"}),
        ({"deliver", "query-toy"}, {"deliver", "query-toy"}),
        ({"submit-toy"}, {"submit-toy"}),
        (set(), {"deliver", "submit-toy", "query-toy"}),
        ({"1"}, {"deliver", "submit-toy", "query-toy"}),
        ({"deliver", "of-a-later-version"}, {"deliver", "submit-toy", "query-toy"}),
    ],
)
def test_lanes_that_have_work_are_woken(stage: Stage, rung: set[str], woken: set[str]) -> None:
    """Those that are named; all of them by a name that nobody here has, which a newer or older version may send."""
    worker = Worker(stage.runtime)
    names: list[str] = []
    for lane in worker.lanes:
        lane.wake = lambda name=lane.name: names.append(name)  # type: ignore[method-assign, misc]  # instead of it
    worker._wake(rung)
    assert set(names) == woken


def test_a_lost_ring_costs_a_moment(
    stage: Stage, build: Any, work: Callable[[Stage], Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker asks whether anything was written by others, and has its lanes look then."""
    monkeypatch.setattr(worker_module, "BACKSTOP", 0.05)
    monkeypatch.setattr(stage.handler, "submit", lambda submission: Receipt("job-1", "{}"), raising=False)
    other: Stage = build(at=wall_clock)
    work(stage)
    until(lambda: stage.runtime.sweeping.last_beat() is not None)
    time.sleep(0.2)  # whatever the start has woken sleeps again
    monkeypatch.setattr(Bell, "ring", lambda *_: None)
    task = other.create()
    until(lambda: stage.task(task).status is TaskStatus.RUNNING)


@pytest.mark.parametrize("lost", [True, False])
def test_a_look_after_a_ring_finds_what_came_since(stage: Stage, monkeypatch: pytest.MonkeyPatch, lost: bool) -> None:
    """Also after one that may have been lost: what a turn in vain told of the next work is from before."""
    lane = DeliverLane(stage.runtime, "worker")
    begun: list[object] = []
    monkeypatch.setattr(lane, "begin", begun.extend)
    assert lane._take_turn((), lane.seats) == []  # another worker was faster
    stage.ping(stage.subscribe())
    (lane.look_again if lost else lane.wake)()
    assert lane.make_round()
    assert len(begun) == 1


def test_few_results_that_disable_a_subscriber_are_stored_at_once(stage: Stage) -> None:
    """A thousand others may have to be told of each: others write in between. What disables nobody goes together."""
    for number in range(2 * FEW + 3):
        stage.ping(stage.subscribe(f"{HOOK}/{number}"))
    claims = stage.runtime.deliveries.turn((), 100).claims
    lane = DeliverLane(stage.runtime, "worker")
    for status, turns in ((200, [len(claims)]), (410, [FEW, FEW, 3])):
        lane._ended.extend(Outcome(claim, stage.clock(), answered(status)) for claim in claims)
        assert [len(lane._some_ended()) for _ in turns] == turns
        assert not lane._ended


def test_a_change_of_a_task_names_the_lanes_that_it_concerns(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """News are delivered; who runs is asked after; an end makes room where the provider has a cap, and only there."""
    stage: Stage = build()
    running = replace(stage.create(), status=TaskStatus.RUNNING)
    ended = replace(running, status=TaskStatus.SUCCEEDED)
    providers = stage.runtime.providers
    assert lanes_after([running], providers) == {"deliver", "query-toy"}
    assert lanes_after([ended], providers) == {"deliver"}
    capped = replace(stage.handler.pace, max_in_flight=3)
    monkeypatch.setattr(stage.handler, "pace", capped)
    assert lanes_after([ended], providers) == {"deliver", "submit-toy"}
