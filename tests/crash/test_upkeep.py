"""Kills in the midst of a migration and of a sweep: all of a step is done, or nothing of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from receiver.config import read_settings
from receiver.runtime import Runtime, wall_clock
from receiver.store import Store
from receiver.tasks import NewTask
from tests.crash.plant import Group, Plant, environment, until
from tests.databases import empty
from tests.model.ledger import Ledger
from tests.story.samples import TOPVIEW
from tests.story.system import KEY

pytestmark = pytest.mark.process

OLD = 40 * 86_400_000
TASKS = 30


@pytest.fixture
def url(database: str, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    with empty(database, tmp_path) as found:
        yield found


def test_a_migration_that_was_killed_is_simply_begun_again(url: str, tmp_path: Path) -> None:
    """It leaves no half of a schema behind that would stand in the way of the next one."""
    variables = environment(tmp_path, RECEIVER_DATABASE_URL=url)
    variables.pop("SANDBOX_URL")
    killed = Group(tmp_path, "killed", "migrate", variables={**variables, "RECEIVER_FAULT_POINT": "migrate.step"})
    assert killed.popen.wait(30) == -signal.SIGKILL, killed.tail()
    store = Store(variables["RECEIVER_DATABASE_URL"])
    try:
        assert not store.schema_is_current()
        again = Group(tmp_path, "again", "migrate", variables=variables)
        assert again.popen.wait(30) == 0, again.tail()
        assert store.schema_is_current()
    finally:
        store.close()


def fill(plant: Plant) -> None:
    """Tasks that ended long before retention."""
    with mock.patch.dict(os.environ, plant.variables, clear=True):
        settings = read_settings()
    runtime = Runtime.build(settings, lambda: wall_clock() - OLD)
    runtime.prepare()
    key = runtime.accounts.authenticate(KEY)
    assert key is not None
    for number in range(TASKS):
        wanted = NewTask(TOPVIEW.provider, TOPVIEW.operation, TOPVIEW.given(), metadata={"n": str(number)})
        task, _ = runtime.tasks.create(key.account_id, wanted, f"key-{number}")
        runtime.tasks.cancel(key.account_id, task.id)
    runtime.close()


def test_a_sweep_that_was_killed_is_simply_begun_again(url: str, tmp_path: Path) -> None:
    """The tasks that it had purged are there again, and the next sweep purges them with all that hangs on them."""
    plant = Plant(tmp_path, RECEIVER_DATABASE_URL=url)
    try:
        fill(plant)
        ledger = Ledger(plant.database)
        tables = ("tasks", "idempotency_keys", "task_metadata", "steps", "events")

        def left() -> dict[str, int]:
            return {table: ledger.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"] for table in tables}

        before = left()
        assert before["tasks"] == before["idempotency_keys"] == before["events"] == TASKS
        worker = plant.start("worker", fault="sweep.purged")
        assert worker.popen.wait(30) == -signal.SIGKILL, worker.tail()
        assert left() == {**before, "idempotency_keys": 0}, "their keys alone went, in a transaction before"
        plant.start("worker")
        until(lambda: not any(left().values()), 20, "the next sweep left something")
        ledger.close()
    finally:
        plant.close()
