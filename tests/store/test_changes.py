"""Changes: whoever waits for work is told that somebody wrote, on either database, and is never told too little."""

from __future__ import annotations

from typing import Any
from unittest import mock

from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from receiver.store import dialect, pacing
from receiver.store.changes import Changes
from tests.core.stage import Stage
from tests.databases import on_postgresql, on_sqlite


def test_whatever_is_written_is_noticed(build: Any) -> None:
    """By another process, or by another connection of the same."""
    stage, other = build(), build()
    changes = Changes(stage.runtime.store)
    assert changes.any(), "nobody knows what was before the first question"
    for _ in range(3):
        other.create()
        assert changes.any()
        stage.create()
        assert changes.any()
    changes.close()


@on_sqlite
def test_it_is_noticed_once(build: Any) -> None:
    """What is only read, or not committed, wakes nobody; a server has other databases and tells of them, too."""
    stage, other = build(), build()
    changes = Changes(stage.runtime.store)
    other.create()
    assert [changes.any() for _ in range(3)] == [True, False, False]
    with other.runtime.store.engine.connect() as connection:
        connection.execute(text("UPDATE accounts SET name = 'another'"))
        connection.rollback()
    assert other.events() == []
    assert not changes.any()
    other.create()
    assert [changes.any() for _ in range(3)] == [True, False, False]
    changes.close()


@on_postgresql
def test_a_commit_behind_a_longer_transaction_is_noticed(build: Any) -> None:
    """The one that began first may end last; each end counts."""
    stage, other = build(), build()
    changes = Changes(stage.runtime.store)
    with other.runtime.store.write() as connection:
        connection.execute(text("UPDATE accounts SET name = 'another'"))
        changes.any()
        sign_of_life(stage)
        assert changes.any()
    assert changes.any()


def sign_of_life(stage: Stage) -> None:
    """Write something that has nothing to do with accounts."""
    with stage.runtime.store.write() as connection:
        pacing.beat(connection, "worker", 1)


def test_while_the_database_is_away_everybody_looks(stage: Stage) -> None:
    """Nobody can tell what was written then; afterwards it is asked on a new connection."""
    changes = Changes(stage.runtime.store)
    changes.any()
    broken = mock.Mock(side_effect=OperationalError("", {}, Exception("it is away")))
    with mock.patch.object(dialect, "state", broken):
        assert changes.any()
        assert changes.any()
    stage.create()
    assert changes.any()
    changes.close()
