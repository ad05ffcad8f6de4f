"""Deliveries: who gets what, when again, when no more; and what a subscriber's failures do to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from receiver.deliveries import Outcome
from receiver.dialling import OutboundError
from receiver.errors import Conflict, NotFound
from receiver.lifecycle import DISABLE_FAILURES
from receiver.models import DeliveryStatus, EventType, Subscriber, Trigger
from receiver.outbound import OutboundResult
from receiver.schedule import CIRCUIT_AFTER
from receiver.sealing import SealBroken, new_secret_key
from receiver.signing import verify
from receiver.subscribers import NewSubscriber
from tests.core.stage import HOOK, Clock, Stage, answered, still

OTHER = "http://127.0.0.1:9/other"
DAY = 86_400


def told(stage: Stage, subscriber: Subscriber) -> list[str]:
    """The types of the events on their way to a subscriber, oldest first."""
    found = stage.rows("SELECT event_type FROM deliveries WHERE subscriber_id = :id ORDER BY id", id=subscriber.id)
    return sorted(row.event_type for row in found)


def backlog(stage: Stage, subscriber: Subscriber, count: int) -> list[str]:
    """Pings waiting for a subscriber."""
    return [stage.tell(subscriber).id for _ in range(count)]


# Who gets what -----------------------------------------------------------------------------------------


def test_events_reach_those_who_want_them(stage: Stage) -> None:
    """By type, by pattern, by provider; a disabled one keeps its backlog; each event once for each."""
    everything = stage.subscribe(HOOK, "*")
    ends = stage.subscribe(HOOK, "task.succeeded", "task.failed")
    tasks = stage.subscribe(HOOK, "task.*", providers=["toy"])
    elsewhere = stage.subscribe(HOOK, "*", providers=["topview"])
    pings = stage.subscribe(HOOK, "subscriber.ping")
    asleep = stage.subscribe(HOOK, "*")
    stage.runtime.subscribers.change(stage.account, asleep.id, {"disabled": True})
    task = stage.running()
    stage.wait_until_due(task)
    stage.poll(still(0.5))
    stage.notice(task)
    story = ["task.progress", "task.running", "task.succeeded"]
    assert told(stage, everything) == told(stage, tasks) == told(stage, asleep) == story
    assert told(stage, ends) == ["task.succeeded"]
    assert told(stage, elsewhere) == told(stage, pings) == []
    assert all(claim.subscriber.id != asleep.id for claim in stage.attempt(200))
    assert set(told(stage, asleep)) == set(story)


def test_the_callback_url_of_a_task_gets_all_of_its_events_alone(stage: Stage) -> None:
    """Beside the subscribers; another task's events do not go there; the hidden subscriber is in no list."""
    task = stage.running(callback_url=HOOK)
    stage.running("job-2")
    stage.notice(task)
    claims = stage.attempt(200)
    assert {claim.delivery.event_type for claim in claims} == {EventType.TASK_RUNNING, EventType.TASK_SUCCEEDED}
    assert {claim.delivery.url for claim in claims} == {HOOK}
    assert {claim.delivery.task_id for claim in claims} == {task.id}
    assert stage.runtime.subscribers.list_page(stage.account, 100, None).items == ()
    with pytest.raises(NotFound):
        stage.runtime.subscribers.get(stage.account, claims[0].subscriber.id)


def test_tasks_with_the_same_callback_url_share_a_hidden_subscriber(stage: Stage) -> None:
    """One address has one record of failures, however many tasks name it."""
    for number in range(3):
        stage.running(f"job-{number}", callback_url=HOOK)
    stage.running("job-9", callback_url=OTHER)
    assert len(stage.rows("SELECT id FROM subscribers")) == 2


def test_a_callback_url_gets_its_event_even_when_its_hidden_subscriber_was_purged(build: Any, clock: Clock) -> None:
    """A task may wait longer than retention keeps an unused address; its result is not dropped."""
    stage: Stage = build(RECEIVER_RETENTION_DAYS=1)
    task = stage.create(callback_url=HOOK, deadline=30 * DAY)
    clock.pass_by(2 * DAY)
    stage.runtime.sweeping.step()
    assert stage.rows("SELECT id FROM subscribers") == []
    stage.accept(stage.claim_one())
    stage.notice(task)
    assert [claim.delivery.url for claim in stage.attempt(200)] == [HOOK, HOOK]


# Bytes and headers -------------------------------------------------------------------------------------


def test_every_attempt_sends_the_same_bytes_signed_anew(stage: Stage) -> None:
    """The id stays, the timestamp is the attempt's, the signature fits both; the event's bytes never change."""
    subscriber, secret = stage.runtime.subscribers.create(
        stage.account, NewSubscriber(HOOK, ("*",), headers={"X-Shop": "7", "Authorization": "Bearer theirs"})
    )
    stage.ping(subscriber)
    seen = []
    for _ in range(2):
        (claim,) = stage.runtime.deliveries.turn((), 10).claims
        request = stage.runtime.deliveries.request_of(claim)
        verify([secret], request.headers, claim.body, stage.clock() / 1000, 1)
        seen.append((claim.body, request.headers["webhook-id"], request.headers["webhook-timestamp"]))
        assert (request.headers["X-Shop"], request.headers["Authorization"]) == ("7", "Bearer theirs")
        assert request.headers["content-type"] == "application/json"
        assert request.headers["user-agent"].startswith("receiver/")
        stage.finish([claim], 500)
        stage.clock.pass_by(6)
    assert seen[0][:2] == seen[1][:2]
    assert int(seen[1][2]) - int(seen[0][2]) == 6


def test_a_callback_url_is_signed_by_the_account(stage: Stage) -> None:
    """With the account's signing secret, and both of them while a rotation lasts."""
    (old,) = stage.runtime.accounts.signing_secrets(stage.account)
    stage.running(callback_url=HOOK)
    stage.runtime.accounts.rotate_signing_secret(stage.account, 3600)
    new = stage.runtime.accounts.signing_secrets(stage.account)[0]
    (claim,) = stage.runtime.deliveries.turn((), 10).claims
    headers = stage.runtime.deliveries.request_of(claim).headers
    assert headers["webhook-signature"].count("v1,") == 2
    for secret in (old.key, new.key):
        verify([secret], headers, claim.body, stage.clock() / 1000, 1)
    stage.clock.pass_by(3601)
    headers = stage.runtime.deliveries.request_of(claim).headers
    assert headers["webhook-signature"].count("v1,") == 1
    verify([new.key], headers, claim.body, stage.clock() / 1000, 1)


# The schedule ------------------------------------------------------------------------------------------


def test_failures_are_tried_again_on_schedule_until_it_is_used_up(stage: Stage) -> None:
    """5 s, 5 min, 30 min; jitter only adds; then dead, listed with its attempts, and never dropped."""
    delivery = stage.ping(stage.subscribe())
    waits = []
    for _ in range(3):
        stage.attempt(500)
        due = stage.delivery(delivery).due_at or 0
        waits.append(due - stage.clock())
        stage.clock.now = due
    assert all(planned <= wait <= planned * 1.1 for wait, planned in zip(waits, (5e3, 300e3, 1800e3), strict=True))
    stage.attempt(None)
    ended, attempts = stage.runtime.deliveries.get(stage.account, delivery.id)
    assert (ended.status, ended.reason, ended.due_at) == (DeliveryStatus.DEAD, "exhausted", None)
    assert [attempt.number for attempt in attempts] == [1, 2, 3, 4]
    assert [attempt.error for attempt in attempts] == ["http_status"] * 3 + ["connection_refused"]
    stage.clock.pass_by(40 * DAY)
    assert stage.attempt() == []


def test_success_ends_a_delivery_and_wipes_the_record(stage: Stage) -> None:
    """A 2xx after a failure: delivered, and the subscriber is healthy again."""
    subscriber = stage.subscribe()
    delivery = stage.ping(subscriber)
    stage.attempt(503)
    assert stage.subscriber(subscriber).failures == 1
    stage.clock.pass_by(6)
    stage.attempt(204)
    ended = stage.delivery(delivery)
    assert (ended.status, ended.attempts, ended.due_at) == (DeliveryStatus.DELIVERED, 2, None)
    after = stage.subscriber(subscriber)
    assert (after.failures, after.failing_since) == (0, None)


def test_retry_after_slows_the_whole_subscriber(stage: Stage) -> None:
    """A 429 with Retry-After postpones this delivery and all others to the same address, and nobody else."""
    slow, quick = stage.subscribe(), stage.subscribe(OTHER)
    stage.ping(slow)
    (claim,) = stage.runtime.deliveries.turn((), 1).claims
    stage.ping(slow)
    stage.ping(quick)
    stage.finish([claim], 429, retry_after="60")
    assert [found.subscriber.id for found in stage.attempt(200)] == [quick.id]
    stage.clock.pass_by(59)
    assert stage.attempt(200) == []
    stage.clock.pass_by(1)
    assert len(stage.attempt(200)) == 2


def test_retry_after_never_makes_an_attempt_earlier(stage: Stage) -> None:
    """A subscriber that asks for less than the schedule gets the schedule; more than a day is a day."""
    delivery = stage.ping(stage.subscribe())
    stage.attempt(503, retry_after="0")
    assert (stage.delivery(delivery).due_at or 0) >= stage.clock() + 5000
    stage.clock.now = stage.delivery(delivery).due_at or 0
    stage.attempt(503, retry_after="99999999")
    assert (stage.delivery(delivery).due_at or 0) == stage.clock() + DAY * 1000


def test_progress_is_not_repeated(stage: Stage) -> None:
    """Late progress would only follow newer news."""
    stage.subscribe(HOOK, "task.progress")
    task = stage.running()
    stage.wait_until_due(task)
    stage.poll(still(0.5))
    stage.attempt(500)
    (delivery,) = stage.deliveries_of(task)
    assert (delivery.status, delivery.reason) == (DeliveryStatus.DEAD, "not_retried")


# Leases ------------------------------------------------------------------------------------------------


def test_the_attempt_of_a_worker_that_died_is_made_again(stage: Stage) -> None:
    """After its lease another worker takes the delivery; no attempt is used up by the dead one."""
    delivery = stage.ping(stage.subscribe())
    assert len(stage.runtime.deliveries.turn((), 10).claims) == 1
    stage.clock.pass_by(29)
    assert stage.attempt() == []
    stage.clock.pass_by(2)
    stage.attempt(200)
    assert stage.delivery(delivery).attempts == 1


def test_a_result_after_the_lease_is_not_written(stage: Stage) -> None:
    """The newer claim's result counts; the stale one leaves no attempt and blames nobody."""
    subscriber = stage.subscribe()
    delivery = stage.ping(subscriber)
    stale = list(stage.runtime.deliveries.turn((), 10).claims)
    stage.clock.pass_by(31)
    fresh = list(stage.runtime.deliveries.turn((), 10).claims)
    stage.finish(stale, 410)
    assert stage.subscriber(subscriber).disabled is False
    stage.finish(fresh, 200)
    stage.finish(fresh, 500)
    ended, attempts = stage.runtime.deliveries.get(stage.account, delivery.id)
    assert (ended.status, len(attempts)) == (DeliveryStatus.DELIVERED, 1)


# The circuit -------------------------------------------------------------------------------------------


def fail(stage: Stage, subscriber: Subscriber, times: int) -> None:
    """So many failures, one after the other, however long that takes."""
    for _ in range(times):
        stage.tell(subscriber)
        stage.clock.now = max(stage.clock(), stage.subscriber(subscriber).ready_at)
        stage.attempt(500, room=1)


def test_a_circuit_opens_after_repeated_failure_and_probes_one_by_one(stage: Stage) -> None:
    """While it is open nothing is attempted and no attempt used up; then one at a time until one succeeds."""
    subscriber = stage.subscribe()
    fail(stage, subscriber, CIRCUIT_AFTER)
    backlog(stage, subscriber, 6)
    assert stage.attempt(200) == []
    pause = stage.subscriber(subscriber).ready_at - stage.clock()
    assert 10_000 <= pause <= 11_000
    stage.clock.pass_by(pause / 1000)
    assert len(stage.attempt(500)) == 1, "one probe"
    pause = stage.subscriber(subscriber).ready_at - stage.clock()
    assert 30_000 <= pause <= 33_000
    stage.clock.pass_by(pause / 1000)
    assert len(stage.attempt(200)) == 1, "another probe"
    assert len(stage.attempt(200)) > 1, "and the circuit is closed"


@pytest.mark.parametrize("by", ["retry", "ping"])
def test_what_is_sent_by_hand_does_not_wait_for_the_circuit(stage: Stage, by: str) -> None:
    """Who has mended his webhook tries it out and sees the answer now, whatever else has waited longer: a probe."""
    subscriber = stage.subscribe()
    fail(stage, subscriber, CIRCUIT_AFTER)
    *_, wanted = backlog(stage, subscriber, 3)
    assert stage.attempt(200) == []
    if by == "retry":
        stage.runtime.deliveries.retry(stage.account, wanted)
    else:
        wanted = stage.ping(subscriber).id
    assert [claim.delivery.id for claim in stage.attempt(500)] == [wanted]
    assert stage.attempt(200) == [], "and its failure opens the circuit again"


def test_attempts_that_fail_together_open_the_circuit_once(stage: Stage) -> None:
    """A short outage that hits eight attempts at once is no reason to pause for minutes."""
    subscriber = stage.subscribe()
    backlog(stage, subscriber, 8)
    claims = list(stage.runtime.deliveries.turn((), 100).claims)
    assert len(claims) == 8
    stage.finish(claims, None)
    after = stage.subscriber(subscriber)
    assert after.ready_at - stage.clock() <= 11_000
    assert after.failures == CIRCUIT_AFTER


def test_nothing_but_failure_disables_a_subscriber_and_tells_the_others(build: Any) -> None:
    """After RECEIVER_DISABLE_AFTER seconds; once; the backlog stays; a witness that wants to know is told."""
    stage: Stage = build(RECEIVER_DISABLE_AFTER=2000, RECEIVER_RETRY_SCHEDULE=",".join(["60"] * 20))
    subscriber, witness = stage.subscribe(), stage.subscribe(OTHER, "subscriber.*")
    began = stage.clock()
    fail(stage, subscriber, DISABLE_FAILURES)
    assert stage.clock() - began < 2_000_000
    assert not stage.subscriber(subscriber).disabled, "often enough, but not for long enough"
    stage.clock.now = max(began + 2_000_000, stage.subscriber(subscriber).ready_at)
    stage.attempt(500, room=1)
    after = stage.subscriber(subscriber)
    assert (after.disabled, after.disabled_reason) == (True, "failing")
    assert told(stage, witness) == ["subscriber.disabled"]
    assert told(stage, subscriber).count("subscriber.disabled") == 0
    assert (
        len(stage.rows("SELECT id FROM deliveries WHERE status = 'pending' AND subscriber_id = :i", i=after.id))
        == DISABLE_FAILURES
    )


def test_gone_ends_the_delivery_and_disables_at_once(stage: Stage) -> None:
    """410 says that nobody is there any more; what else waits is kept for whoever enables it again."""
    subscriber = stage.subscribe()
    first = stage.ping(subscriber)
    stage.attempt(410)
    second = stage.tell(subscriber)
    ended = stage.delivery(first)
    assert (ended.status, ended.reason) == (DeliveryStatus.DEAD, "gone")
    assert stage.subscriber(subscriber).disabled_reason == "gone"
    assert stage.attempt() == []
    assert stage.delivery(second).status is DeliveryStatus.PENDING


def test_a_callback_url_that_was_gone_is_tried_again_for_a_new_task(stage: Stage) -> None:
    """A caller that names the address again means it; old failures do not disable it at the first new one."""
    stage.running(callback_url=HOOK)
    stage.attempt(410)
    lost = stage.running("job-2")
    assert stage.deliveries_of(lost) == []
    stage.clock.pass_by(10 * DAY)
    stage.running("job-3", callback_url=HOOK)
    (claim,) = stage.attempt(500)
    assert (claim.subscriber.disabled, claim.subscriber.failures, claim.subscriber.failing_since) == (False, 0, None)
    stage.clock.pass_by(6)
    assert len(stage.attempt(200)) == 1


# By hand -----------------------------------------------------------------------------------------------


def test_a_pending_delivery_can_be_brought_forward(stage: Stage) -> None:
    """It is attempted now, its schedule goes on from there, and the attempt says that it was by hand."""
    delivery = stage.ping(stage.subscribe())
    stage.attempt(500)
    stage.clock.pass_by(1)
    stage.runtime.deliveries.retry(stage.account, delivery.id)
    stage.attempt(500)
    after, attempts = stage.runtime.deliveries.get(stage.account, delivery.id)
    assert [attempt.trigger for attempt in attempts] == [Trigger.SCHEDULE, Trigger.MANUAL]
    assert 300_000 <= (after.due_at or 0) - stage.clock() <= 330_000
    assert after.trigger is Trigger.SCHEDULE


@pytest.mark.parametrize("ended", [200, 410])
def test_an_ended_delivery_can_be_sent_again(stage: Stage, ended: int) -> None:
    """Delivered or dead, it starts its schedule anew; numbers go on, nothing is forgotten."""
    subscriber = stage.subscribe()
    delivery = stage.ping(subscriber)
    stage.attempt(ended)
    stage.runtime.subscribers.change(stage.account, subscriber.id, {"disabled": False})
    again = stage.runtime.deliveries.retry(stage.account, delivery.id)
    assert (again.status, again.base, again.finished_at, again.reason) == (DeliveryStatus.PENDING, 1, None, None)
    stage.attempt(500)
    after, attempts = stage.runtime.deliveries.get(stage.account, delivery.id)
    assert [attempt.number for attempt in attempts] == [1, 2]
    assert 5000 <= (after.due_at or 0) - stage.clock() <= 5500


def test_retrying_a_delivery_under_way_makes_no_second_attempt(stage: Stage) -> None:
    """What a worker is sending right now is not sent twice."""
    delivery = stage.ping(stage.subscribe())
    claims = list(stage.runtime.deliveries.turn((), 10).claims)
    stage.runtime.deliveries.retry(stage.account, delivery.id)
    assert stage.attempt() == []
    stage.finish(claims, 200)
    ended = stage.delivery(delivery)
    assert (ended.status, ended.attempts, stage.attempt()) == (DeliveryStatus.DELIVERED, 1, [])


def test_retrying_what_cannot_be_sent_says_why(stage: Stage) -> None:
    """To a disabled or deleted subscriber nothing is sent; another account's deliveries do not exist."""
    subscriber = stage.subscribe()
    delivery = stage.ping(subscriber)
    stage.runtime.subscribers.change(stage.account, subscriber.id, {"disabled": True})
    with pytest.raises(Conflict, match="disabled"):
        stage.runtime.deliveries.retry(stage.account, delivery.id)
    stage.runtime.subscribers.delete(stage.account, subscriber.id)
    with pytest.raises(Conflict, match="deleted"):
        stage.runtime.deliveries.retry(stage.account, delivery.id)
    with pytest.raises(NotFound):
        stage.runtime.deliveries.retry("acct_other", delivery.id)


def test_retrying_a_callback_url_that_was_disabled_enables_it(stage: Stage) -> None:
    """Nobody else could: hidden subscribers cannot be changed."""
    task = stage.running(callback_url=HOOK)
    stage.attempt(410)
    (delivery,) = stage.deliveries_of(task)
    stage.runtime.deliveries.retry(stage.account, delivery.id)
    assert [claim.delivery.id for claim in stage.attempt(200)] == [delivery.id]


def test_headers_that_no_key_opens_fail_an_attempt_and_no_turn(build: Any) -> None:
    """After a change of keys: the attempt is written down as any other that failed, and the next one comes later."""
    old: Stage = build()
    sent = old.ping(old.subscribe(headers={"x-token": "s3cret-s3cret"}))
    stage: Stage = build(RECEIVER_SECRET_KEYS=new_secret_key())
    claims = stage.runtime.deliveries.turn((), 10).claims
    with pytest.raises(SealBroken):
        stage.runtime.deliveries.request_of(claims[0])
    failed = OutboundResult(None, {}, "", OutboundError.INVALID_REQUEST, "no key", 0)
    stage.runtime.deliveries.turn([Outcome(claims[0], stage.clock(), failed)], 0)
    after = stage.delivery(sent)
    assert (after.status, after.attempts) == (DeliveryStatus.PENDING, 1)
    assert (after.due_at or 0) > stage.clock()


def test_an_attempt_is_kept_with_what_came_back(stage: Stage) -> None:
    """Status, headers of note, the start of the body, and a hint for the frequent mistake."""
    delivery = stage.ping(stage.subscribe())
    (claim,) = stage.runtime.deliveries.turn((), 10).claims
    result = replace(answered(301, location="https://elsewhere.example.test/"), body="moved", duration_ms=34)
    stage.runtime.deliveries.turn([Outcome(claim, stage.clock(), result)], 0)
    _, (attempt,) = stage.runtime.deliveries.get(stage.account, delivery.id)
    assert (attempt.response_status, attempt.response_body, attempt.duration_ms) == (301, "moved", 34)
    assert attempt.response_headers == {"location": "https://elsewhere.example.test/"}
    assert "Redirects are not followed" in attempt.message
