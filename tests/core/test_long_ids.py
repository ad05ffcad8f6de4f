"""Ids that are longer than any provider's, which the indexes of PostgreSQL cannot hold."""

from __future__ import annotations

import json
import random
import string

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from receiver.models import LONGEST_ID, TaskStatus
from tests.core.stage import Stage
from tests.databases import on_postgresql

LONG = "".join(random.Random(1).choices(string.ascii_letters, k=4000))


def test_an_id_that_cannot_be_one_is_a_lost_answer(stage: Stage) -> None:
    """The task is not bought again; its callback may still save it, and no seat tries for minutes to store it."""
    task = stage.create()
    stage.accept(stage.claim_one(), LONG)
    after = stage.task(task)
    assert (after.status, after.outcome_unknown, after.provider_task_id) == (TaskStatus.SUBMITTING, True, None)
    assert stage.claim() == []
    assert stage.steps(task, "submit")[-1]["outcome"] == "unknown"
    stage.notice(task)
    assert stage.task(task).status is TaskStatus.SUCCEEDED


def test_the_longest_id_is_kept(stage: Stage) -> None:
    """What a callback may name can be the answer to a submission."""
    job = LONG[:LONGEST_ID]
    task = stage.running(job)
    assert task.provider_task_id == job
    stage.notice(task, job)
    assert json.loads(stage.task(task).outputs_json)


@on_postgresql
def test_what_is_too_large_for_the_database_is_no_passing_trouble(stage: Stage) -> None:
    """It would be as large the next time: whoever waits for a busy database does not wait for that."""
    task = stage.create()
    with pytest.raises(OperationalError), stage.runtime.store.write() as connection:
        connection.execute(
            text("UPDATE tasks SET provider_task_id = :long WHERE id = :id"), {"long": LONG, "id": task.id}
        )
