"""What a long purge costs, and how far it goes."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event, text

from receiver import sweeping
from receiver.store import purging
from tests.core.stage import Clock, Stage
from tests.databases import on_postgresql

MANY = 10_000


@on_postgresql
def test_a_step_of_a_long_purge_looks_at_few_deliveries(stage: Stage, clock: Clock) -> None:
    """Where much is old, as after a shorter retention: it does not go through the deliveries of all other tasks."""
    for _ in range(4):
        stage.subscribe()
    task = stage.running()
    stage.runtime.tasks.cancel(stage.account, task.id)
    stage.attempt(200)
    with stage.runtime.store.write() as connection:
        for table, named in (("tasks", "id"), ("deliveries", "task_id")):
            changed = f"row || jsonb_build_object('id', (row ->> 'id') || n, '{named}', (row ->> '{named}') || n)"
            connection.execute(
                text(
                    f"INSERT INTO {table} SELECT made.* FROM (SELECT to_jsonb(one) AS row FROM {table} one) known,"
                    f" generate_series(1, :many) n, jsonb_populate_record(NULL::{table}, {changed}) made"
                ),
                {"many": MANY},
            )
        connection.execute(text("ANALYZE"))
    clock.pass_by(1)
    asked: list[tuple[str, Any]] = []
    event.listen(stage.runtime.store.engine, "before_cursor_execute", lambda _, __, *given: asked.append(given[:2]))
    with stage.runtime.store.read() as connection:
        assert len(purging.old_tasks(connection, clock(), 50)) == 50
        query, values = asked[-1]
        plan = "\n".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {query}", values))
    assert "ix_deliveries_task" in plan
    assert "Seq Scan on deliveries" not in plan, plan


def test_much_that_hangs_on_events_goes_in_more_steps(
    stage: Stage, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand subscribers hear of each of them that is disabled: of fifty such events a step would take long."""
    monkeypatch.setattr(purging, "MOST_HANGING", 5)
    subscriber = stage.subscribe()
    for _ in range(4):
        stage.ping(subscriber)
    assert len(stage.attempt(200)) == 4
    clock.pass_by(31 * 86_400)
    assert [stage.runtime.sweeping.step() for _ in range(3)] == [2, 2, 0]


def test_who_finds_that_another_was_faster_goes_on(stage: Stage, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A purge beside a worker that sweeps ends when nothing old is left, not at the first tasks that were gone."""
    monkeypatch.setattr(sweeping, "STEP", 1)
    for _ in range(3):
        stage.runtime.tasks.cancel(stage.account, stage.create().id)
    clock.pass_by(31 * 86_400)
    look, others = purging.old_tasks, iter([True])

    def taken_meanwhile(*asked: Any) -> Any:
        found = look(*asked)
        if next(others, False):
            stage.runtime.sweeping.step()
        return found

    monkeypatch.setattr(purging, "old_tasks", taken_meanwhile)
    while stage.runtime.sweeping.step():
        pass
    assert stage.runtime.sweeping.count_old_tasks() == 0
