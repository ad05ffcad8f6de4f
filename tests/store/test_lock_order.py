"""Rows are taken in one order by everybody, whatever plan PostgreSQL makes: nobody has to give up for another one."""

from __future__ import annotations

from sqlalchemy import Connection, text

from receiver.store import backlog, deliveries
from tests.core.stage import Stage
from tests.databases import on_postgresql
from tests.store.overtaking import overtaken

pytestmark = on_postgresql


def take(connection: Connection, delivery_id: str) -> None:
    """Hold a delivery, as a purge does with one after the other."""
    assert deliveries.hold(connection, delivery_id)


def put_last(stage: Stage, delivery_id: str) -> None:
    """Have a row lie behind all others in its table: whoever goes through that, and not by ids, comes to it last."""
    with stage.runtime.store.write() as connection:
        connection.execute(text("UPDATE deliveries SET reason = 'moved' WHERE id = :id"), {"id": delivery_id})


def test_a_purge_in_the_midst_of_a_replay(stage: Stage) -> None:
    """Whoever sends much again takes it in the order of a purge, wherever the rows lie."""
    subscriber = stage.subscribe()
    lower, *_, higher = sorted(stage.ping(subscriber).id for _ in range(backlog.DRAIN_STEP))
    while stage.attempt(200):
        pass
    put_last(stage, lower)
    replayed = overtaken(
        stage,
        lambda connection: take(connection, lower),
        lambda: stage.runtime.subscribers.replay(stage.account, subscriber.id, 0, None, "all"),
        lambda connection: take(connection, higher),
    )
    assert replayed == backlog.DRAIN_STEP


def test_what_is_purged_in_the_midst_of_a_replay_is_not_counted(stage: Stage) -> None:
    """A replay says how many are sent again, not how many it had found."""
    subscriber = stage.subscribe()
    purged = stage.ping(subscriber)
    stage.ping(subscriber)
    stage.attempt(200)
    replayed = overtaken(
        stage,
        lambda connection: connection.execute(text("DELETE FROM deliveries WHERE id = :id"), {"id": purged.id}),
        lambda: stage.runtime.subscribers.replay(stage.account, subscriber.id, 0, None, "all"),
    )
    assert replayed == 1


def test_a_delete_in_the_midst_of_a_burial(stage: Stage) -> None:
    """What a dead worker had in its hands is taken in the order of ids, when few were leased at the last count, too."""
    subscriber = stage.subscribe()
    old = stage.ping(subscriber)
    stage.attempt(200)
    with stage.runtime.store.write() as connection:
        connection.execute(
            text(
                "INSERT INTO deliveries (id, account_id, event_id, event_type, subscriber_id, status, created_at) "
                "SELECT id || n, account_id, event_id, event_type, subscriber_id, status, created_at "
                "FROM deliveries, generate_series(1, 2000) n WHERE id = :id"
            ),
            {"id": old.id},
        )
        connection.execute(text("ANALYZE deliveries"))
    lower, *_, higher = sorted(stage.ping(subscriber).id for _ in range(5))
    assert len(stage.runtime.deliveries.turn((), 10, holder="dead").claims) == 5
    put_last(stage, lower)
    given = overtaken(
        stage,
        lambda connection: take(connection, lower),
        lambda: stage.runtime.sweeping.bury("dead"),
        lambda connection: take(connection, higher),
    )
    assert given == 5
