"""Addresses that only tasks name, which were given up, with much that waits for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from receiver.errors import Busy
from receiver.store import backlog
from receiver.store.backlog import DRAIN_RATE
from tests.core.stage import HOOK, Clock, Stage

STEPS = 3


def given_up(stage: Stage) -> str:
    """A delivery that has ended, to a callback URL that is disabled, and for which several steps wait."""
    task = stage.running(callback_url=HOOK)
    stage.attempt(410)
    (ended,) = stage.deliveries_of(task)
    with stage.runtime.store.write() as connection:
        for number in range(STEPS * DRAIN_RATE):
            connection.execute(
                text(
                    "INSERT INTO deliveries (id, account_id, event_id, event_type, subscriber_id, status, created_at,"
                    " due_at) SELECT :id, account_id, event_id, event_type, subscriber_id, 'pending', created_at, :due"
                    " FROM deliveries WHERE id = :one"
                ),
                {"id": f"{ended.id}{number:03}", "due": stage.clock() - 1000 + number, "one": ended.id},
            )
    return ended.id


def create(stage: Stage, _: str) -> None:
    """The next task that names it."""
    stage.create(callback_url=HOOK)


def retry(stage: Stage, ended: str) -> None:
    """A retry of what it was not given."""
    stage.runtime.deliveries.retry(stage.account, ended)


@pytest.fixture(params=[create, retry])
def reopen(request: pytest.FixtureRequest) -> Any:
    """What enables it again."""
    return request.param


def put_off(stage: Stage) -> int:
    """How many deliveries wait for later, as others see it."""
    return int(stage.rows("SELECT count(*) FROM deliveries WHERE due_at > :now", now=stage.clock())[0][0])


def test_a_callback_url_that_comes_back_keeps_nobody_from_writing(
    stage: Stage, clock: Clock, monkeypatch: pytest.MonkeyPatch, reopen: Callable[[Stage, str], None]
) -> None:
    """However much waits for it: each step is stored before the next one. However long that takes, it drains slowly."""
    monkeypatch.setattr(backlog, "STEP", DRAIN_RATE)
    ended = given_up(stage)
    spread, seen = backlog.spread, []

    def noted(*asked: Any) -> bool:
        seen.append(put_off(stage))
        done = spread(*asked)
        clock.pass_by(0.4)
        return done

    monkeypatch.setattr(backlog, "spread", noted)
    reopen(stage, ended)
    assert seen == [0, DRAIN_RATE, 2 * DRAIN_RATE]
    assert stage.rows("SELECT disabled, ready_at FROM subscribers") == [(False, 0)]
    due = stage.rows("SELECT id FROM deliveries WHERE due_at <= :now AND id <> :id", now=clock(), id=ended)
    assert len(due) == DRAIN_RATE


def test_a_callback_url_whose_return_is_cut_short(
    stage: Stage, clock: Clock, monkeypatch: pytest.MonkeyPatch, reopen: Callable[[Stage, str], None]
) -> None:
    """It is disabled still, nothing is half done, and the next time does the rest, the oldest first."""
    monkeypatch.setattr(backlog, "STEP", DRAIN_RATE)
    ended = given_up(stage)
    spread, steps = backlog.spread, []

    def breaking(*asked: Any) -> bool:
        if len(steps) == 1:
            raise Busy("for the test")
        steps.append(spread(*asked))
        return steps[-1]

    monkeypatch.setattr(backlog, "spread", breaking)
    with pytest.raises(Busy):
        reopen(stage, ended)
    assert stage.rows("SELECT disabled FROM subscribers") == [(True,)]
    assert len(stage.rows("SELECT id FROM tasks")) == 1, "what named it anew is not stored"
    monkeypatch.setattr(backlog, "spread", spread)
    reopen(stage, ended)
    rows = stage.rows("SELECT due_at FROM deliveries WHERE due_at IS NOT NULL AND id <> :id ORDER BY id", id=ended)
    assert [max(0, row.due_at - clock()) // 1000 for row in rows] == [
        place // DRAIN_RATE for place in range(STEPS * DRAIN_RATE)
    ]
