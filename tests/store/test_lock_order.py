"""Rows are taken in one order by everybody, whatever plan PostgreSQL makes: nobody has to give up for another one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from sqlalchemy import Connection, text

from receiver.models import DeliveryStatus, Subscriber, TaskStatus
from receiver.store import backlog, deliveries, purging, subscribers
from receiver.submissions import LATE_ANSWER
from tests.core.stage import Clock, Stage
from tests.databases import on_postgresql
from tests.store.overtaking import overtaken

pytestmark = on_postgresql


EARLIER, LATER = "http://127.0.0.1:9/a", "http://127.0.0.1:9/b"


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
    lower, *_, higher = sorted(stage.ping(subscriber).id for _ in range(backlog.DRAIN_RATE))
    while stage.attempt(200):
        pass
    put_last(stage, lower)
    replayed = overtaken(
        stage,
        lambda connection: take(connection, lower),
        lambda: stage.runtime.subscribers.replay(stage.account, subscriber.id, 0, None, "all"),
        lambda connection: take(connection, higher),
    )
    assert replayed == backlog.DRAIN_RATE


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


def forget_callback_urls(stage: Stage) -> None:
    """Retention has purged the hidden subscribers, which were old and of which no delivery was left."""
    with stage.runtime.store.write() as connection:
        connection.execute(text("DELETE FROM subscribers"))


def listen_at(stage: Stage, connection: Connection, url: str) -> None:
    """Make the subscriber behind a callback URL, as whoever writes an event for it does."""
    subscribers.behind_callback_url(connection, stage.account, url, stage.clock())


def test_tasks_that_end_overdue_make_callback_urls_in_order(stage: Stage, clock: Clock) -> None:
    """Who ends many makes what is missing behind their callback URLs in the order of others that write events."""
    made = [stage.create(callback_url=url, deadline=seconds) for url, seconds in ((LATER, 10), (EARLIER, 11))]
    forget_callback_urls(stage)
    clock.pass_by(12)
    ended = overtaken(
        stage,
        lambda connection: listen_at(stage, connection, EARLIER),
        stage.runtime.polling.end_overdue,
        lambda connection: listen_at(stage, connection, LATER),
    )
    assert ended == 2
    assert [[delivery.url for delivery in stage.deliveries_of(task)] for task in made] == [[LATER], [EARLIER]]


def test_lost_submissions_make_callback_urls_in_order(stage: Stage, clock: Clock) -> None:
    """So does who finds tasks of which a worker that died never told."""
    made = []
    for url in (LATER, EARLIER):
        made.append(stage.create(callback_url=url, deadline=60))
        assert stage.claim_one()
        clock.pass_by(1)
    clock.pass_by(60)
    assert stage.runtime.submissions.claim_lost("toy", 10) == []
    clock.pass_by(LATE_ANSWER / 1000)
    forget_callback_urls(stage)
    overtaken(
        stage,
        lambda connection: listen_at(stage, connection, EARLIER),
        lambda: stage.runtime.submissions.claim_lost("toy", 10),
        lambda connection: listen_at(stage, connection, LATER),
    )
    assert {stage.task(task).status for task in made} == {TaskStatus.FAILED}
    assert [[delivery.url for delivery in stage.deliveries_of(task)] for task in made] == [[LATER], [EARLIER]]


def test_a_sweep_that_waits_for_deliveries_holds_no_notice(stage: Stage, clock: Clock) -> None:
    """Whoever purges tasks beside it needs their notices, and may hold the very deliveries that it waits for."""
    assert stage.notice(stage.running(), state="drawing").verdict is not None
    ping = stage.ping(stage.subscribe())
    stage.attempt(200)
    before = clock() + 1000
    clock.pass_by(40 * 86_400)

    def purge(connection: Connection) -> None:
        assert purging.purge_notices(connection, before, 10) == 1

    overtaken(stage, lambda connection: take(connection, ping.id), stage.runtime.sweeping.step, purge)
    assert stage.rows("SELECT id FROM deliveries WHERE task_id IS NULL") == []


def test_a_subscriber_that_is_deleted_in_the_midst_of_an_event_is_not_purged(
    stage: Stage, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has just read that it wants an event can write the delivery; a caller who cancels gets no error."""
    subscriber = stage.subscribe()
    clock.pass_by(40 * 86_400)
    task = stage.create()
    of_account = subscribers.of_account

    def overtaken_by_a_delete(connection: Connection, account_id: str) -> Sequence[Subscriber]:
        found = of_account(connection, account_id)
        stage.runtime.subscribers.delete(stage.account, subscriber.id)
        stage.runtime.sweeping.step()
        return found

    monkeypatch.setattr(subscribers, "of_account", overtaken_by_a_delete)
    stage.runtime.tasks.cancel(stage.account, task.id)
    stage.runtime.sweeping.step()
    assert [each.status for each in stage.deliveries_of(task)] == [DeliveryStatus.DEAD]
