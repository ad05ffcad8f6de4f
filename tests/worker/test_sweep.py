"""What a worker does beside its lanes: old rows go, and tasks end that no lane ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from receiver import polling, sweeping
from receiver.models import TaskStatus
from receiver.store import pacing
from receiver.worker import Worker
from tests.core.stage import Clock, Stage
from tests.worker.conftest import until

Work = Callable[[Stage], Worker]


def test_what_is_old_is_purged_at_one_go(build: Any, work: Work, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step after step, with rests that are short: history does not grow faster than it is purged."""
    monkeypatch.setattr(sweeping, "STEP", 1)
    stage: Stage = build()
    for number in range(5):
        stage.notice(stage.running(f"job-{number}"), f"job-{number}")
    clock.pass_by(40 * 86_400)
    work(stage)
    until(lambda: stage.rows("SELECT id FROM tasks") == [])


def test_tasks_past_their_deadline_end_at_one_go(
    build: Any, work: Work, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many a provider that wants no calls has kept queued: no caller waits for the others' ends."""
    monkeypatch.setattr(polling, "STEP", 1)
    stage: Stage = build()
    tasks = [stage.create(deadline=60) for _ in range(5)]
    clock.pass_by(60)
    with stage.runtime.store.write() as connection:
        pacing.postpone(connection, "toy:submit", clock() + 3_600_000)
    work(stage)
    until(lambda: all(stage.task(task).status is TaskStatus.EXPIRED for task in tasks))
