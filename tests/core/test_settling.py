"""The one door in detail: what a move writes, and what it leaves as it is."""

from __future__ import annotations

from dataclasses import replace

from receiver.models import TaskStatus
from tests.core.stage import HOOK, Stage, done, still


def test_progress_is_no_change_of_state(stage: Stage) -> None:
    """The timeline has a line for each state, not one for each percent."""
    task = stage.running()
    before = stage.steps(task, "state")
    stage.wait_until_due(task)
    assert stage.poll(still(0.5))[0].progress == 0.5
    assert stage.steps(task, "state") == before


def test_outputs_once_told_stay(stage: Stage) -> None:
    """An answer that names none, after one that named them, takes no result away."""
    task = stage.running()
    stage.wait_until_due(task)
    (early,) = stage.poll(replace(still(0.9), outputs=done().outputs))
    stage.wait_until_due(task)
    (ended,) = stage.poll(replace(done(), outputs=()))
    assert ended.status is TaskStatus.SUCCEEDED
    assert early.outputs_json == ended.outputs_json
    assert "cat.png" in ended.outputs_json


def test_an_event_is_in_the_memory_once_for_all_its_subscribers(stage: Stage) -> None:
    """A large one that a hundred get at a time would else be there a hundred times."""
    for number in range(3):
        stage.subscribe(f"{HOOK}/{number}")
    stage.running()
    first, *others = stage.runtime.deliveries.turn((), 10).claims
    assert len(others) == 2
    assert all(stage.runtime.deliveries.request_of(other).body is first.body for other in others)
