"""The one door in detail: what a move writes, and what it leaves as it is."""

from __future__ import annotations

from dataclasses import replace

from receiver.models import TaskStatus
from tests.core.stage import Stage, done, still


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
