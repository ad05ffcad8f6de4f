"""Two transactions in each other's way on PostgreSQL, one begun in the midst of the other: both come out right."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, select, text, update

from receiver.lifecycle import Change
from receiver.models import Account, DeliveryStatus, EventType, StoredNotice, TaskStatus, Trigger, Verdict, new_id
from receiver.store import (
    accounts,
    attempts,
    backlog,
    claiming,
    deliveries,
    dialect,
    notices,
    purging,
    subscribers,
    tasks,
)
from receiver.store.claiming import Claim
from receiver.store.schema import deliveries as delivery_rows
from receiver.store.schema import tasks as task_rows
from receiver.store.settling import Move, settle
from tests.core.stage import Clock, Stage
from tests.databases import on_postgresql
from tests.store.overtaking import overtaken, waiting

pytestmark = on_postgresql

URL = "http://127.0.0.1:9/own"


def claims_of_three(stage: Stage) -> list[Claim]:
    """A subscriber that has taken one, and three of its deliveries in a worker's hands."""
    subscriber = stage.subscribe()
    stage.ping(subscriber)
    stage.attempt(200)
    for _ in range(3):
        stage.ping(subscriber)
    return sorted(stage.runtime.deliveries.turn((), 10).claims, key=lambda claim: claim.delivery.id)


def test_an_account_that_two_make_at_once_is_one(stage: Stage) -> None:
    """Web and worker start together on a new database: both find the account that one of them has made."""

    def made(connection: Connection) -> None:
        accounts.add(connection, Account(new_id("acct", 1), "team", 1), "sealed")

    key, _ = overtaken(stage, made, lambda: stage.runtime.accounts.create_key("team", "ci", ["read"]))
    assert [found.id for found in stage.runtime.accounts.list_keys("team")] == [key.id]


def test_a_cancel_sees_what_came_before_it(stage: Stage) -> None:
    """The event tells of the progress that was stored while the cancel waited, not of what it had read before."""
    task = stage.running()

    def progress(connection: Connection) -> None:
        tasks.move(connection, task.id, {"progress": 0.5})

    canceled = overtaken(stage, progress, lambda: stage.runtime.tasks.cancel(stage.account, task.id))
    assert (canceled.status, canceled.progress) == (TaskStatus.CANCELED, 0.5)


def test_a_key_repeated_while_its_task_is_written_anew_gives_that_task(stage: Stage) -> None:
    """An operator changes the table: whoever began to read before finds it empty, and is answered all the same."""
    task = stage.create(key="once")

    def rewrite(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE tasks ALTER COLUMN operation TYPE varchar(200)"))

    assert overtaken(stage, rewrite, lambda: stage.create(key="once")).id == task.id


def test_a_hint_is_not_lost_to_the_answer_of_the_submission(stage: Stage) -> None:
    """A notice that is being stored when the receipt comes still brings the first query forward."""
    task = stage.create()
    start = stage.claim_one()

    def hint(connection: Connection) -> None:
        tasks.hold(connection, [task.id])
        stored = StoredNotice(new_id("ntc", stage.clock()), "toy", task.id, stage.clock(), {}, b"", Verdict.HINT)
        notices.add(connection, [(stored, "once")])

    overtaken(stage, hint, lambda: stage.accept(start))
    assert stage.task(task).due_at == stage.clock()


def test_the_id_of_a_task_that_ends_during_its_submission_is_kept(stage: Stage) -> None:
    """A cancel that is being stored when the receipt comes: the task stays canceled, and names the provider's task."""
    task = stage.create()
    start = stage.claim_one()

    def cancel(connection: Connection) -> None:
        change = Change(TaskStatus.CANCELED, None, None, None, EventType.TASK_CANCELED)
        assert settle(connection, [Move(tasks.hold(connection, [task.id])[task.id], change)], stage.clock())

    overtaken(stage, cancel, lambda: stage.accept(start))
    after = stage.task(task)
    assert (after.status, after.provider_task_id) == (TaskStatus.CANCELED, "job-1")


def test_a_task_that_is_being_claimed_does_not_expire(stage: Stage, clock: Clock) -> None:
    """A worker whose clock is behind has it in hand: the sweep of another one passes it over."""
    task = stage.create(deadline=10)
    clock.pass_by(11)
    with stage.runtime.store.write() as connection:
        assert tasks.claim(connection, "toy", TaskStatus.QUEUED, TaskStatus.SUBMITTING, clock(), clock() + 1000, 1)
        assert stage.runtime.polling.end_overdue() == 0
    assert stage.task(task).status is TaskStatus.SUBMITTING


def test_who_writes_events_keeps_nobody_from_claiming(stage: Stage) -> None:
    """A subscriber to which somebody is just writing a delivery is served all the same."""
    subscriber = stage.subscribe()
    waits = stage.ping(subscriber)
    task = stage.running()
    with stage.runtime.store.write() as connection:
        change = Change(TaskStatus.CANCELED, None, None, None, EventType.TASK_CANCELED)
        assert settle(connection, [Move(task, change)], stage.clock())
        assert waits.id in [claim.delivery.id for claim in stage.runtime.deliveries.turn((), 10).claims]


def test_a_delete_in_the_midst_of_finished_attempts(stage: Stage) -> None:
    """It waits for their deliveries in the order of ids: no deadlock, and none is left for a deleted subscriber."""
    claims = claims_of_three(stage)
    first, *others = [claim.delivery for claim in claims]
    subscriber = claims[0].subscriber
    overtaken(
        stage,
        lambda connection: attempts.still_held(connection, [first]),
        lambda: stage.runtime.subscribers.delete(stage.account, subscriber.id),
        lambda connection: attempts.still_held(connection, others),
    )
    assert {stage.delivery(one).status for one in (first, *others)} == {DeliveryStatus.DEAD}


def test_failed_attempts_in_the_midst_of_a_delete(stage: Stage) -> None:
    """Who writes them waits for the subscriber before it takes a delivery: no deadlock, and nothing is revived."""
    claims = claims_of_three(stage)
    subscriber = claims[0].subscriber

    def rest(connection: Connection) -> None:
        subscribers.change(connection, subscriber.id, {"deleted_at": stage.clock()})
        assert deliveries.end_pending(connection, subscriber.id, stage.clock(), "subscriber_deleted") == 3

    overtaken(
        stage,
        lambda connection: subscribers.some(connection, [subscriber.id], held=True),
        lambda: stage.finish(claims, 500),
        rest,
    )
    assert {stage.delivery(claim.delivery).status for claim in claims} == {DeliveryStatus.DEAD}


def test_what_was_delivered_in_the_midst_of_a_delete_stays_delivered(stage: Stage) -> None:
    """The webhook has taken it: that its subscriber is deleted while that is written does not call it dead."""
    claims = claims_of_three(stage)
    made = claims[0].delivery.id
    delivered = {"status": DeliveryStatus.DELIVERED.value, "due_at": None, "leased": False}
    overtaken(
        stage,
        lambda connection: connection.execute(
            update(delivery_rows).where(delivery_rows.c.id == made).values(finished_at=stage.clock(), **delivered)
        ),
        lambda: stage.runtime.subscribers.delete(stage.account, claims[0].subscriber.id),
    )
    statuses = [stage.delivery(claim.delivery).status for claim in claims]
    assert statuses == [DeliveryStatus.DELIVERED, DeliveryStatus.DEAD, DeliveryStatus.DEAD]


def test_a_retry_by_hand_in_the_midst_of_a_failed_attempt(stage: Stage) -> None:
    """It waits for the subscriber first, and then sees what the attempt made of the delivery: a dead one is revived."""
    claims = claims_of_three(stage)
    claim = claims[0]

    def die(connection: Connection) -> None:
        deliveries.end_pending(connection, claim.subscriber.id, stage.clock(), "exhausted")

    retried = overtaken(
        stage,
        lambda connection: subscribers.some(connection, [claim.subscriber.id], held=True),
        lambda: stage.runtime.deliveries.retry(stage.account, claim.delivery.id),
        die,
    )
    assert (retried.status, retried.due_at) == (DeliveryStatus.PENDING, stage.clock())


def test_a_retry_by_hand_in_the_midst_of_a_success(stage: Stage) -> None:
    """It waits for the delivery, and then sees that it has ended: it starts anew, as whoever asked was told."""
    claim = claims_of_three(stage)[0]
    delivered = {"status": DeliveryStatus.DELIVERED.value, "due_at": None, "leased": False, "attempts": 1}
    retried = overtaken(
        stage,
        lambda connection: connection.execute(
            update(delivery_rows)
            .where(delivery_rows.c.id == claim.delivery.id)
            .values(finished_at=stage.clock(), **delivered)
        ),
        lambda: stage.runtime.deliveries.retry(stage.account, claim.delivery.id),
    )
    assert (retried.status, retried.base, retried.finished_at) == (DeliveryStatus.PENDING, 1, None)


def test_a_retry_during_an_attempt_that_fails_is_not_forgotten(stage: Stage) -> None:
    """Who asked for an attempt gets one as soon as the one under way has failed, not with the schedule's next."""
    delivery = stage.ping(stage.subscribe())
    claims = list(stage.runtime.deliveries.turn((), 10).claims)
    for _ in range(3):
        stage.runtime.deliveries.retry(stage.account, delivery.id)
    stage.finish(claims, 500)
    by_hand = list(stage.runtime.deliveries.turn((), 10).claims)
    stage.runtime.deliveries.retry(stage.account, delivery.id)  # it is the one that was asked for
    stage.finish(by_hand, 500)
    assert stage.attempt() == []
    after, attempts = stage.runtime.deliveries.get(stage.account, delivery.id)
    assert [attempt.trigger for attempt in attempts] == [Trigger.SCHEDULE, Trigger.MANUAL]
    assert 300_000 <= (after.due_at or 0) - stage.clock() <= 330_000
    assert after.trigger is Trigger.SCHEDULE


def test_a_replay_leaves_claimed_deliveries_to_their_lease(stage: Stage) -> None:
    """What a worker is just claiming is not made due a second time: nothing is sent twice for it."""
    subscriber = stage.subscribe()
    for _ in range(60):
        stage.ping(subscriber)
    claimed: list[str] = []

    def claim(connection: Connection) -> None:
        found = claiming.claim(connection, stage.clock(), stage.clock() + 30_000, 60, 60)
        claimed.extend(one.delivery.id for one in found)

    overtaken(stage, claim, lambda: stage.runtime.subscribers.replay(stage.account, subscriber.id, 0, None, "all"))
    assert len(claimed) == 60
    assert {stage.delivery(one).due_at for one in claimed} == {stage.clock() + 30_000}


def test_a_pace_that_is_set_between_the_look_and_the_lock_holds(stage: Stage) -> None:
    """Whoever found a subscriber ready, and gets its row when another worker has set its pace, claims nothing."""
    subscriber = stage.subscribe(rate_limit=1.0)
    stage.ping(subscriber)

    def wait_within_the_look(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE deliveries RENAME TO kept"))
        free = "pg_advisory_xact_lock_shared(1)::text IS NOT NULL"
        connection.execute(text(f"CREATE VIEW deliveries AS SELECT * FROM kept WHERE {free}"))

    def claim() -> int:
        with stage.runtime.store.write() as connection:
            wait_within_the_look(connection)
            return len(claiming.claim(connection, stage.clock(), stage.clock() + 30_000, 10, 10))

    claimed = overtaken(
        stage,
        lambda connection: connection.execute(text("SELECT pg_advisory_xact_lock(1)")),
        claim,
        lambda connection: subscribers.hold(connection, subscriber.id, stage.clock() + 1000),
    )
    assert claimed == 0


def test_a_callback_url_that_is_just_purged_is_made_again(stage: Stage, clock: Clock) -> None:
    """A task that is settled in the midst of the purge of its hidden subscriber finds it, or makes it anew."""
    task = stage.create(callback_url=URL)
    start = stage.claim_one()

    def purge(connection: Connection) -> None:
        unused = purging.unused_subscribers(connection, clock() + 1, 10)
        assert purging.purge_subscribers(connection, unused) == 1

    overtaken(stage, purge, lambda: stage.accept(start))
    assert [delivery.url for delivery in stage.deliveries_of(task)] == [URL]


def test_a_purge_in_the_midst_of_finished_attempts(stage: Stage, clock: Clock) -> None:
    """It waits for the deliveries of an old task in the order of their ids, and then takes all of them away."""
    subscriber = stage.subscribe()
    task = stage.running()
    stage.runtime.tasks.cancel(stage.account, task.id)
    claims = sorted(stage.runtime.deliveries.turn((), 10).claims, key=lambda claim: claim.delivery.id)
    stage.runtime.subscribers.change(stage.account, subscriber.id, {"disabled": True})
    first, *others = [claim.delivery for claim in claims]
    assert others
    clock.pass_by(40 * 86_400)
    overtaken(
        stage,
        lambda connection: attempts.still_held(connection, [first]),
        stage.runtime.sweeping.step,
        lambda connection: attempts.still_held(connection, others),
    )
    assert stage.rows("SELECT id FROM deliveries") == stage.rows("SELECT id FROM tasks") == []


def test_what_is_sent_again_in_the_midst_of_a_purge_stays(stage: Stage, clock: Clock) -> None:
    """A retry by hand that was answered with "pending" is not deleted with the old task it belongs to."""
    stage.subscribe()
    task = stage.running()
    stage.runtime.tasks.cancel(stage.account, task.id)
    stage.attempt(200)
    again, *_ = stage.deliveries_of(task)
    clock.pass_by(40 * 86_400)
    overtaken(
        stage,
        lambda connection: backlog.revive(connection, [again.id], clock(), Trigger.MANUAL),
        stage.runtime.sweeping.step,
    )
    assert stage.delivery(again).status is DeliveryStatus.PENDING
    assert stage.rows("SELECT id FROM tasks") == [(task.id,)]


def test_a_purge_in_the_midst_of_a_backlog_that_is_let_go(stage: Stage, clock: Clock) -> None:
    """Whoever enables a subscriber takes its backlog in the order of a purge: neither has to give up for the other."""
    subscriber = stage.subscribe()
    stage.runtime.subscribers.change(stage.account, subscriber.id, {"disabled": True})
    *_, lower, higher = sorted(stage.tell(subscriber).id for _ in range(2 + backlog.DRAIN_RATE))
    clock.pass_by(1)

    def take(connection: Connection, delivery_id: str) -> None:
        assert deliveries.hold(connection, delivery_id)

    overtaken(
        stage,
        lambda connection: take(connection, lower),
        lambda: stage.runtime.subscribers.change(stage.account, subscriber.id, {"disabled": False}),
        lambda connection: take(connection, higher),
    )
    assert not stage.subscriber(subscriber).disabled


def test_a_purge_in_the_midst_of_a_retry_to_a_callback_url(stage: Stage, clock: Clock) -> None:
    """A retry to an address that was given up takes its backlog before the delivery, and nobody gives up for it."""
    made = [stage.create(callback_url=URL) for _ in range(3)]
    for task in made:
        stage.runtime.tasks.cancel(stage.account, task.id)
    lower, *_, higher = sorted(each.id for task in made for each in stage.deliveries_of(task))
    with stage.runtime.store.write() as connection:
        connection.execute(text("UPDATE subscribers SET disabled = true"))
    clock.pass_by(1)
    overtaken(
        stage,
        lambda connection: deliveries.hold(connection, lower),
        lambda: stage.runtime.deliveries.retry(stage.account, higher),
        lambda connection: deliveries.hold(connection, higher),
    )
    assert stage.delivery(higher).trigger is Trigger.MANUAL


def test_a_replay_in_the_midst_of_a_sweep(stage: Stage, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is old and of tasks goes before what is old and of none: who sends both again waits, and nobody gives up."""
    subscriber = stage.subscribe()
    ping = stage.ping(subscriber)
    clock.pass_by(1)
    stage.runtime.tasks.cancel(stage.account, stage.create().id)
    stage.attempt(200)
    clock.pass_by(40 * 86_400)
    replayed: list[Future[int]] = []
    purge_events = purging.purge_events

    def purge(connection: Connection, before: int, limit: int) -> int:
        account = stage.account
        replayed.append(pool.submit(stage.runtime.subscribers.replay, account, subscriber.id, 0, None, "all"))
        while not replayed[0].done() and not waiting(stage):
            time.sleep(0.005)
        return purge_events(connection, before, limit)

    monkeypatch.setattr(purging, "purge_events", purge)
    with ThreadPoolExecutor(1) as pool:
        stage.runtime.sweeping.step()
        assert replayed[0].result(20) == 1
    assert stage.delivery(ping).status is DeliveryStatus.PENDING


def test_what_is_referred_to_is_not_purged(stage: Stage) -> None:
    """A row to which somebody is adding another one is passed over until that is done."""
    task = stage.running()
    with stage.runtime.store.write() as connection:
        connection.execute(
            text("INSERT INTO steps (task_id, at, kind, detail) VALUES (:id, 1, 'x', '{}')"), {"id": task.id}
        )
        with stage.runtime.store.write() as other:
            query = select(task_rows.c.id)
            assert other.execute(dialect.deletable(query)).all() == []
            assert other.execute(dialect.skip_locked(query)).all() == [(task.id,)]


def test_attempts_are_judged_by_what_others_stored_before(stage: Stage) -> None:
    """Two workers store failures of one subscriber at once: both are counted."""
    claims = claims_of_three(stage)
    subscriber = claims[0].subscriber

    def failed(connection: Connection) -> None:
        (held,) = subscribers.some(connection, [subscriber.id], held=True).values()
        subscribers.note_health(connection, [held])
        connection.execute(text("UPDATE subscribers SET failures = 3, failing_since = 1"))

    overtaken(stage, failed, lambda: stage.finish(claims[:1], 500))
    assert stage.subscriber(subscriber).failures == 4


def test_a_success_undoes_no_pause_that_was_just_asked_for(stage: Stage) -> None:
    """Who stores the success of one that failed before waits for what others store of it, and leaves their pause."""
    claims = claims_of_three(stage)
    subscriber = claims[0].subscriber
    stage.finish(claims[:1], 500)
    until = stage.clock() + 60_000
    overtaken(
        stage,
        lambda connection: subscribers.hold(connection, subscriber.id, until),
        lambda: stage.finish(claims[1:2], 200),
    )
    after = stage.subscriber(subscriber)
    assert (after.failures, after.failing_since, after.ready_at) == (0, None, until)


def test_a_success_of_one_that_was_well_leaves_its_record_alone(stage: Stage) -> None:
    """Who stores it waits for nobody who stores a failure, and undoes none."""
    claims = claims_of_three(stage)
    subscriber = claims[0].subscriber
    until = stage.clock() + 60_000
    with stage.runtime.store.write() as connection:
        subscribers.hold(connection, subscriber.id, until)
        stage.finish(claims[:1], 200)
    assert stage.subscriber(subscriber).ready_at == until
