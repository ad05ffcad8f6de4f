"""Retention: what ended long ago goes with all that hangs on it; what somebody still waits for stays."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from receiver import sweeping
from receiver.models import DeliveryStatus, TaskStatus
from receiver.store import purging
from tests.core.stage import HOOK, Clock, Stage
from tests.databases import on_postgresql, on_sqlite
from tests.store.test_claims import plans

DAY = 86_400
TABLES = ("tasks", "task_metadata", "steps", "notices", "events", "deliveries", "attempts", "idempotency_keys")


def counts(stage: Stage) -> dict[str, int]:
    """Rows by table."""
    return {table: stage.rows(f"SELECT count(*) AS n FROM {table}")[0].n for table in TABLES}


def finished(stage: Stage, job: str, **more: Any) -> Any:
    """A task that has succeeded."""
    task = stage.running(job, **more)
    stage.notice(task, job)
    return task


def test_a_finished_task_goes_with_everything(build: Any, clock: Clock) -> None:
    """After retention nothing of it is left, nor the hidden subscriber behind its callback URL."""
    stage: Stage = build(RECEIVER_RETENTION_DAYS=3)
    finished(stage, "job-1", callback_url=HOOK, metadata={"a": "b"}, key="key")
    stage.attempt(200)
    clock.pass_by(3 * DAY)
    assert stage.runtime.sweeping.step() == 1  # the idempotency key
    assert stage.runtime.sweeping.step() == 0
    clock.pass_by(1)
    assert stage.runtime.sweeping.step() == 2
    assert set(counts(stage).values()) == {0}
    assert stage.rows("SELECT id FROM subscribers") == []


def test_old_tasks_are_counted_alone(stage: Stage) -> None:
    """What is young, or lives, is not waiting to be purged."""
    stage.notice(stage.running())
    stage.running("job-2")
    assert stage.runtime.sweeping.count_old_tasks() == 0
    stage.clock.pass_by(31 * 86_400)
    assert stage.runtime.sweeping.count_old_tasks() == 1


def test_live_tasks_stay_however_old(build: Any, clock: Clock) -> None:
    """Only what has ended is old."""
    stage: Stage = build(RECEIVER_RETENTION_DAYS=1)
    task = stage.running(deadline=30 * DAY)
    clock.pass_by(20 * DAY)
    stage.runtime.sweeping.step()
    assert not stage.task(task).status.final


@pytest.mark.parametrize("of", ["task", "ping"])
def test_what_is_still_to_be_delivered_stays(build: Any, clock: Clock, of: str) -> None:
    """A retention shorter than the retry schedule drops nothing silently: first delivered or dead, then purged."""
    stage: Stage = build(RECEIVER_RETENTION_DAYS=1, RECEIVER_RETRY_SCHEDULE="5,86400,86400")
    subscriber = stage.subscribe(HOOK, "task.succeeded")
    (delivery,) = stage.deliveries_of(finished(stage, "job-1")) if of == "task" else [stage.tell(subscriber)]
    for _ in range(3):
        assert stage.attempt(500) != []
        clock.now = stage.delivery(delivery).due_at or 0
        stage.runtime.sweeping.step()
    stage.attempt(500)
    assert stage.delivery(delivery).status is DeliveryStatus.DEAD
    stage.runtime.sweeping.step()
    assert counts(stage)["deliveries"] == 0


@pytest.mark.parametrize("of", ["task", "ping"])
def test_what_is_still_to_be_delivered_does_not_stand_in_the_way(
    build: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    """Retention goes on behind old tasks or events that a subscriber is still to be told of, however many."""
    monkeypatch.setattr(sweeping, "STEP", 1)
    stage: Stage = build(RECEIVER_RETENTION_DAYS=1)
    slow = stage.subscribe(HOOK, "task.succeeded")
    for job in ("job-1", "job-2"):
        if of == "task":
            finished(stage, job)
        else:
            stage.tell(slow)
        stage.attempt(500 if job == "job-1" else 200, room=1)
        clock.pass_by(1)
    clock.pass_by(2 * DAY)
    stage.runtime.sweeping.step()
    assert counts(stage)["deliveries"] == 1
    assert stage.attempt(200) != [], "the one that is still to be delivered"


def test_the_backlog_of_a_disabled_subscriber_ends_with_retention(build: Any, clock: Clock) -> None:
    """It is kept as long as everything else, not for ever."""
    stage: Stage = build(RECEIVER_RETENTION_DAYS=5)
    subscriber = stage.subscribe()
    stage.runtime.subscribers.change(stage.account, subscriber.id, {"disabled": True})
    finished(stage, "job-1")
    stage.tell(subscriber)
    clock.pass_by(4 * DAY)
    stage.runtime.sweeping.step()
    assert counts(stage)["deliveries"] == 3
    clock.pass_by(2 * DAY)
    stage.runtime.sweeping.step()
    assert counts(stage)["deliveries"] == 0
    assert stage.subscriber(subscriber).disabled


def test_idempotency_keys_hold_for_a_day_at_least(build: Any, clock: Clock) -> None:
    """Also when retention is shorter: within it the same key is the same task, and starts nothing."""
    stage: Stage = build(RECEIVER_RETENTION_DAYS=0.01)
    task = finished(stage, "job-1", key="key")
    clock.pass_by(DAY)
    stage.runtime.sweeping.step()
    assert stage.create(key="key").id == task.id
    clock.pass_by(2 * DAY)
    stage.runtime.sweeping.step()
    assert counts(stage)["tasks"] == 0


def test_what_must_stay_is_gone_through_while_others_write(build: Any, clock: Clock) -> None:
    """With a short retention the tasks of two days may stay for their keys: no writer waits until all are looked at."""
    stage: Stage = build(RECEIVER_RETENTION_DAYS=0.01)
    finished(stage, "job-1", key="key")
    clock.pass_by(DAY)
    looks: list[bool] = []

    def note(connection: Connection, _: Any, statement: str, *__: Any) -> None:
        if statement.startswith("SELECT") and "tasks.finished_at < " in statement:
            looks.append(connection.get_execution_options().get("writes", False))

    event.listen(stage.runtime.store.engine, "before_cursor_execute", note)
    stage.runtime.sweeping.step()
    assert looks == [False]


def test_a_task_that_is_to_be_told_once_more_is_not_purged(
    build: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever replays while old tasks are looked for gets what was promised; then it goes."""
    stage: Stage = build(RECEIVER_RETENTION_DAYS=1)
    subscriber = stage.subscribe(HOOK, "task.succeeded")
    finished(stage, "job-1")
    stage.attempt(200)
    clock.pass_by(2 * DAY)
    look = purging.old_tasks

    def replayed_meanwhile(*asked: Any) -> Any:
        found = look(*asked)
        stage.runtime.subscribers.replay(stage.account, subscriber.id, 0, None, "all")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(purging, "old_tasks", replayed_meanwhile)
        stage.runtime.sweeping.step()
    assert counts(stage)["tasks"] == 1
    assert stage.attempt(200) != []
    stage.runtime.sweeping.step()
    assert counts(stage)["tasks"] == 0


def test_much_that_hangs_on_tasks_goes_in_more_steps(build: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a thousand subscribers fifty tasks have so many deliveries that a step would keep others from writing."""
    monkeypatch.setattr(purging, "MOST_HANGING", 5)
    stage: Stage = build(RECEIVER_RETENTION_DAYS=1)
    stage.subscribe(HOOK, "task.succeeded")
    tasks = [finished(stage, f"job-{number}") for number in range(4)]
    assert len(stage.attempt(200)) == len(tasks)
    clock.pass_by(2 * DAY)
    assert [counts(stage)["tasks"] for _ in range(2) if stage.runtime.sweeping.step()] == [2, 0]


def test_a_deleted_subscriber_goes_when_nothing_names_it(build: Any, clock: Clock) -> None:
    """Its deliveries stay listed until retention ends them; registered ones that live stay."""
    stage: Stage = build(RECEIVER_RETENTION_DAYS=1)
    gone, stays = stage.subscribe(), stage.subscribe()
    stage.tell(gone)
    stage.runtime.subscribers.delete(stage.account, gone.id)
    clock.pass_by(0.9 * DAY)
    assert (stage.runtime.sweeping.step(), counts(stage)["deliveries"]) == (0, 1)
    clock.pass_by(0.6 * DAY)
    stage.runtime.sweeping.step()
    assert [row.id for row in stage.rows("SELECT id FROM subscribers")] == [stays.id]


def test_an_old_callback_url_that_is_in_use_stays(build: Any, clock: Clock) -> None:
    """What young tasks are to tell it is not lost, nor what was told; also when it is used again during a sweep."""
    stage: Stage = build(RECEIVER_RETENTION_DAYS=1)
    finished(stage, "job-1", callback_url=HOOK)
    stage.attempt(200)
    clock.pass_by(2 * DAY)
    with stage.runtime.store.write() as connection:
        assert purging.purge_tasks(connection, purging.old_tasks(connection, clock() - DAY * 1000, 1)) == 1
    with stage.runtime.store.read() as connection:
        unused = purging.unused_subscribers(connection, clock() - DAY * 1000, 1)
    assert len(unused) == 1
    finished(stage, "job-2", callback_url=HOOK)
    with stage.runtime.store.write() as connection:
        assert purging.purge_subscribers(connection, unused) == 0
    stage.runtime.sweeping.step()
    assert len(stage.attempt(200)) == 2


def test_while_much_is_purged_no_subscriber_is_looked_for(build: Any, clock: Clock) -> None:
    """That goes through all old ones behind callback URLs that are still in use, with the writer's turn held."""
    stage: Stage = build(RECEIVER_RETENTION_DAYS=1)
    stage.runtime.subscribers.delete(stage.account, stage.subscribe().id)
    stays = stage.subscribe()
    for _ in range(sweeping.STEP):
        stage.tell(stays)
    with stage.runtime.store.write() as connection:
        connection.execute(text("UPDATE deliveries SET status = 'delivered', due_at = NULL"))
    clock.pass_by(1.5 * DAY)
    assert stage.runtime.sweeping.step() == sweeping.STEP
    assert len(stage.rows("SELECT id FROM subscribers")) == 2
    assert stage.runtime.sweeping.step() == 1
    assert [row.id for row in stage.rows("SELECT id FROM subscribers")] == [stays.id]


@on_postgresql
def test_sweeps_side_by_side_share_the_work(build: Any, clock: Clock) -> None:
    """What one of them holds, the next one passes over and does not wait for; all that is old goes, once."""
    stage: Stage = build(RECEIVER_RETENTION_DAYS=1)
    old = [finished(stage, f"job-{number}").id for number in range(4)]
    clock.pass_by(2 * DAY)
    with stage.runtime.store.write() as connection:
        connection.execute(text("SELECT id FROM tasks WHERE id = ANY(:ids) FOR UPDATE"), {"ids": old[:3]})
        stage.runtime.sweeping.step()
        assert counts(stage)["tasks"] == 3
    stage.runtime.sweeping.step()
    assert counts(stage)["tasks"] == 0


def test_a_backlog_goes_in_steps_of_a_bounded_size(build: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """No transaction takes more than a few rows, oldest first, however much has become old at once."""
    monkeypatch.setattr(sweeping, "STEP", 2)
    stage: Stage = build(RECEIVER_RETENTION_DAYS=1)
    old = []
    for number in range(5):
        old.append(finished(stage, f"job-{number}").id)
        clock.pass_by(1)
    clock.pass_by(2 * DAY)
    left = []
    while stage.runtime.sweeping.step():
        left.append([row.id for row in stage.rows("SELECT id FROM tasks ORDER BY id")])
    assert left == [old[2:], old[4:], []]


def test_retention_looks_up_what_is_old_by_an_index(stage: Stage) -> None:
    """The cost of looking does not grow with what is young: no query of a sweep reads a whole table that grows.

    But for two of each sweep, which only read, and keep nobody waiting: who is held, or has deliveries put off, without
    end.
    """
    store = stage.runtime.store
    asked: list[tuple[str, Any]] = []
    event.listen(store.engine, "before_cursor_execute", lambda *said: asked.append((said[2], said[3])))
    stage.runtime.sweeping.step()
    lookups = [(query, values) for query, values in asked if query.startswith("SELECT") and "LIMIT" in query]
    through_all = [lookups.pop(-4), lookups.pop(-3)]
    assert "ready_at" in through_all[0][0]
    assert "max(deliveries.due_at)" in through_all[1][0]
    assert len(lookups) == 8
    with store.write() as connection:
        postgresql = connection.dialect.name == "postgresql"
        if postgresql:
            connection.execute(text("SET LOCAL enable_seqscan = off"))  # an empty table would be read whole
        explain = "EXPLAIN" if postgresql else "EXPLAIN QUERY PLAN"
        plans = ["\n".join(str(row[-1]) for row in connection.exec_driver_sql(f"{explain} {query}", values).all())
                 for query, values in lookups]  # fmt: skip
    registered = "subscribers USING INDEX ix_subscribers_registered"  # grows with no task: hidden ones are not in it
    for plan in plans:
        assert not re.search(rf"Seq Scan|SCAN (?!CONSTANT|{registered})", plan), plan


@on_sqlite
def test_young_events_of_no_task_are_not_gone_through(stage: Stage) -> None:
    """A sweep, which keeps all writers waiting meanwhile, costs the same after a million pings of this month."""
    stage.ping(stage.subscribe())
    before = stage.clock() - 30 * DAY
    plan = plans(stage, lambda connection: purging.purge_events(connection, before, 50))
    assert any("ix_events_task (task_id=? AND rowid<?)" in line for line in plan), plan


@on_postgresql
def test_a_backlog_that_came_of_late_does_not_slow_retention(build: Any, clock: Clock) -> None:
    """All that waits is not gone through for what is old, though PostgreSQL's last count of it says that nothing does.

    It counts anew once a tenth of a table has changed, of a long history after hundreds of thousands of deliveries.
    """
    stage: Stage = build(RECEIVER_RETENTION_DAYS=1)
    stage.subscribe()
    task = finished(stage, "job-1")
    stage.attempt(200)
    with stage.runtime.store.write() as connection:
        connection.execute(text("ANALYZE"))
    asked = plans(stage, lambda connection: purging.old_tasks(connection, clock() + 1, 50))
    asked += plans(stage, lambda connection: purging.purge_tasks(connection, [task.id]))
    asked += plans(stage, lambda connection: purging.purge_events(connection, clock() + 1, 50))
    assert any("deliveries" in line for line in asked), asked
    assert not any("ix_deliveries_due" in line for line in asked), asked


def test_signs_of_life(stage: Stage, clock: Clock) -> None:
    """A worker is seen while it beats, and forgotten when it stops or was not seen for a day."""
    sweeps = stage.runtime.sweeping
    assert sweeps.last_beat() is None
    sweeps.beat("one")
    clock.pass_by(5)
    sweeps.beat("two")
    assert sweeps.last_beat() == clock()
    sweeps.bury("two")
    assert sweeps.last_beat() == clock() - 5000
    clock.pass_by(2 * DAY)
    sweeps.bury("two")
    assert sweeps.last_beat() is None


# Workers that died -------------------------------------------------------------------------------------


def test_what_a_dead_worker_had_under_way_is_due_at_once(stage: Stage) -> None:
    """Its deliveries, and nobody else's; a full subscriber has its seats back, and no attempt is used up."""
    subscriber = stage.subscribe(HOOK, "subscriber.ping")
    stage.runtime.sweeping.beat("dead")
    pings = [stage.tell(subscriber) for _ in range(32)]  # as many as may be under way
    service = stage.runtime.deliveries
    theirs = service.turn((), 2, holder="alive").claims
    taken = service.turn((), 100, holder="dead").claims
    assert len(taken) == 30
    assert service.turn((), 100, holder="alive").claims == ()
    assert stage.runtime.sweeping.bury("dead") == 30
    assert stage.runtime.sweeping.bury("dead") == 0, "once is enough"
    assert stage.rows("SELECT DISTINCT holder FROM deliveries WHERE holder IS NOT NULL") == [("alive",)]
    assert stage.runtime.sweeping.last_beat() is None
    again = service.turn((), 100, holder="alive").claims
    assert len(again) == 30
    assert not {one.delivery.id for one in again} & {one.delivery.id for one in theirs}
    stage.finish(list(taken), 500)
    assert stage.subscriber(subscriber).failures == 0, "the dead have no say any more"
    stage.finish([*theirs, *again], 200)
    assert sum(stage.delivery(ping).attempts for ping in pings) == 32


def test_what_was_held_earlier_is_not_taken_from_who_holds_it_now(stage: Stage) -> None:
    """A delivery that a dead worker once failed to make belongs to the next one that claims it, whoever that is."""
    stage.tell(stage.subscribe())
    first = stage.runtime.deliveries.turn((), 1, holder="dead").claims
    stage.finish(list(first), 500)
    assert stage.rows("SELECT holder FROM deliveries") == [(None,)]
    assert stage.runtime.sweeping.bury("dead") == 0
    stage.clock.pass_by(60)
    assert len(stage.runtime.deliveries.turn((), 1).claims) == 1  # by a version that names no holder
    assert stage.runtime.sweeping.bury("dead") == 0


def test_a_lease_that_has_passed_is_not_given_back(stage: Stage) -> None:
    """What is due already keeps its place before what came due later."""
    stage.tell(stage.subscribe())
    (claim,) = stage.runtime.deliveries.turn((), 1, holder="dead").claims
    stage.clock.pass_by(stage.settings.lease)
    due = stage.clock()
    assert stage.runtime.sweeping.bury("dead") == 0
    stage.clock.pass_by(1)
    assert stage.runtime.sweeping.bury("dead") == 0
    assert stage.delivery(claim.delivery).due_at == due


def test_a_submission_of_a_dead_worker_keeps_its_lease(stage: Stage) -> None:
    """Nobody knows whether it was bought; it must not be sent again a moment later."""
    task = stage.create()
    stage.claim_one()
    due = stage.rows("SELECT due_at FROM tasks")
    assert stage.runtime.sweeping.bury("dead") == 0
    assert stage.rows("SELECT due_at FROM tasks") == due
    assert stage.task(task).status is TaskStatus.SUBMITTING
