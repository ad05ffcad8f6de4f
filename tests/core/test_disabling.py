"""What failed attempts make of their subscriber: pauses, and its end."""

from __future__ import annotations

from typing import Any

import pytest

from receiver.deliveries import Outcome, Unmade
from receiver.lifecycle import DISABLE_FAILURES
from receiver.models import DeliveryStatus, EventType, Trigger
from receiver.schedule import CIRCUIT_AFTER, JITTER, LIMIT_PAUSE
from receiver.tasks import NewTask
from tests.core.stage import HOOK, Stage, answered


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_pauses_the_longer_one_holds(stage: Stage, order: tuple[int, int]) -> None:
    """Two attempts that end together, one asking for more patience than the other: nobody is called too early."""
    subscriber = stage.subscribe()
    for _ in range(2):
        stage.ping(subscriber)
    claims = stage.runtime.deliveries.turn((), 2).claims
    results = [answered(429, retry_after="600"), answered(429, retry_after="20")]
    now = stage.clock()
    outcomes = [Outcome(claim, now, results[at]) for claim, at in zip(claims, order, strict=True)]
    stage.runtime.deliveries.turn(outcomes, 0)
    assert stage.subscriber(subscriber).ready_at == now + 600_000


@pytest.mark.parametrize("rate_limit", [None, 2.0, 0.05])
def test_a_rate_limit_spares_nobody_the_circuit(stage: Stage, rate_limit: float | None) -> None:
    """Probes that fail sooner than the next attempt may start: the pauses grow, and days of failure disable."""
    subscriber = stage.subscribe(rate_limit=rate_limit)
    for _ in range(12):
        stage.ping(subscriber)
    pauses = []
    for _ in range(8):
        assert stage.attempt(500, room=1)
        pauses.append((stage.subscriber(subscriber).ready_at - stage.clock()) / 1000)
        stage.clock.pass_by(400)
    assert all(low <= pause <= low * 1.1 for pause, low in zip(pauses[5:], (30, 60, 300), strict=True))
    stage.clock.pass_by(6 * 86_400)
    for _ in range(2):
        stage.attempt(500, room=1)
        stage.clock.pass_by(400)
    assert stage.subscriber(subscriber).disabled_reason == "failing"


def test_who_disabled_a_subscriber_first_is_named(stage: Stage) -> None:
    """A 410 to an attempt that was under way when its owner disabled it changes no reason, and is not announced."""
    subscriber = stage.subscribe()
    stage.subscribe(f"{HOOK}/watch", "subscriber.disabled")
    stage.ping(subscriber)
    claims = list(stage.runtime.deliveries.turn((), 1).claims)
    stage.runtime.subscribers.change(stage.account, subscriber.id, {"disabled": True})
    stage.finish(claims, 410)
    assert stage.subscriber(subscriber).disabled_reason == "by request"
    assert EventType.SUBSCRIBER_DISABLED not in [event.type for event in stage.events()]


@pytest.mark.parametrize("status", [410, 429, 500])
@pytest.mark.parametrize("moved", [False, True])
def test_what_was_begun_before_its_owner_enabled_it_tells_nothing(stage: Stage, status: int, moved: bool) -> None:
    """A late answer of a server that was repaired since, or left and come back to, disables nobody and holds nobody."""
    subscriber = stage.subscribe()
    late = stage.tell(subscriber)
    (claim,) = stage.runtime.deliveries.turn((), 1).claims
    stage.tell(subscriber)
    stage.attempt(410)
    assert stage.subscriber(subscriber).disabled_reason == "gone"
    for change in [{"url": f"{HOOK}/other"}, {"url": HOOK, "disabled": False}] if moved else [{"disabled": False}]:
        stage.runtime.subscribers.change(stage.account, subscriber.id, change)
    stage.finish([claim], status, retry_after="3600")
    after = stage.subscriber(subscriber)
    assert (after.disabled, after.failures, after.failing_since, after.ready_at) == (False, 0, None, 0)
    assert stage.delivery(late).status is DeliveryStatus.PENDING
    stage.clock.pass_by(6)
    assert [claim.delivery.id for claim in stage.attempt(410)] == [late.id]
    assert stage.subscriber(subscriber).disabled_reason == "gone"


def test_a_late_410_does_not_shut_a_callback_url_that_was_opened_by_hand(stage: Stage) -> None:
    """Who asked for a retry gets it: what was begun before says nothing of the server as it is now."""
    task = stage.running(callback_url=HOOK)
    (claim,) = stage.runtime.deliveries.turn((), 1).claims
    stage.notice(task)
    stage.attempt(410)
    (ended,) = [one for one in stage.deliveries_of(task) if one.reason == "gone"]
    stage.runtime.deliveries.retry(stage.account, ended.id)
    stage.finish([claim], 410)
    assert ended.id in [claim.delivery.id for claim in stage.attempt(200)]
    assert stage.delivery(ended).status is DeliveryStatus.DELIVERED


@pytest.mark.parametrize("between", [False, True])
def test_a_late_410_does_not_shut_a_callback_url_that_another_task_names_since(stage: Stage, between: bool) -> None:
    """Nothing else would open it for that task; one that names it again only afterwards does so by itself."""
    stage.running(callback_url=HOOK)
    (claim,) = stage.runtime.deliveries.turn((), 1).claims
    outcome = Outcome(claim, stage.clock(), answered(410))
    stage.clock.pass_by(1)
    task = stage.running("job-2", callback_url=HOOK if between else f"{HOOK}/other")
    stage.clock.pass_by(1)
    stage.runtime.deliveries.turn([outcome], 0)
    assert stage.rows("SELECT disabled FROM subscribers ORDER BY id")[0].disabled == (not between)
    stage.attempt(200)
    assert [one.status for one in stage.deliveries_of(task)] == [DeliveryStatus.DELIVERED]
    assert stage.delivery(claim.delivery).reason == "gone"


def test_the_end_of_a_callback_url_is_not_announced(stage: Stage) -> None:
    """Nobody registered it, so nobody could make anything of the event; its deliveries show what happened."""
    watcher = stage.subscribe(f"{HOOK}/watch", "subscriber.disabled")
    task = stage.running(callback_url=HOOK)
    assert stage.attempt(410) != []
    (delivery,) = stage.deliveries_of(task)
    assert delivery.reason == "gone"
    assert delivery.subscriber_id != watcher.id
    assert EventType.SUBSCRIBER_DISABLED not in [event.type for event in stage.events()]


def test_a_success_leaves_the_pause_that_was_asked_for(stage: Stage) -> None:
    """Of two attempts at once one is taken and one turned away: the subscriber still gets its minute of rest."""
    subscriber = stage.subscribe()
    stage.tell(subscriber)
    stage.tell(subscriber)
    refused, taken = stage.runtime.deliveries.turn((), 9).claims
    stage.finish([refused], 429, retry_after="60")
    stage.finish([taken], 200)
    after = stage.subscriber(subscriber)
    assert (after.failures, after.ready_at) == (0, stage.clock() + 60_000)


def test_a_retry_during_the_last_attempt_is_made(stage: Stage) -> None:
    """Who was told that an attempt is coming gets it, though the one under way has used up the schedule."""
    delivery = stage.ping(stage.subscribe())
    for _ in range(3):
        stage.attempt(500)
        stage.clock.now = stage.delivery(delivery).due_at or 0
    last = list(stage.runtime.deliveries.turn((), 10).claims)
    stage.runtime.deliveries.retry(stage.account, delivery.id)
    stage.finish(last, 500)
    again = stage.delivery(delivery)
    assert (again.status, again.reason, again.finished_at) == (DeliveryStatus.PENDING, None, None)
    assert len(stage.attempt(500)) == 1
    ended, attempts = stage.runtime.deliveries.get(stage.account, delivery.id)
    assert (ended.status, ended.reason, len(attempts)) == (DeliveryStatus.DEAD, "exhausted", 5)


def test_a_410_ends_a_delivery_whatever_was_asked_for(stage: Stage) -> None:
    """The subscriber is gone: no further attempt is made there, by hand neither."""
    delivery = stage.ping(stage.subscribe())
    claims = list(stage.runtime.deliveries.turn((), 10).claims)
    stage.runtime.deliveries.retry(stage.account, delivery.id)
    stage.finish(claims, 410)
    ended = stage.delivery(delivery)
    assert (ended.status, ended.reason, ended.due_at) == (DeliveryStatus.DEAD, "gone", None)


def test_a_delivery_that_ended_is_tried_again_by_hand(stage: Stage) -> None:
    """Its attempts say who asked for each of them, and it has no end until it has ended again."""
    subscriber = stage.subscribe()
    delivery = stage.tell(subscriber)
    for _ in range(4):
        stage.clock.pass_by(3600)
        stage.attempt(400)
    assert stage.delivery(delivery).finished_at == stage.clock()
    stage.runtime.deliveries.retry(stage.account, delivery.id)
    assert stage.delivery(delivery).finished_at is None
    stage.attempt(400)
    again, attempts = stage.runtime.deliveries.get(stage.account, delivery.id)
    assert (again.status, again.finished_at) == (DeliveryStatus.PENDING, None)
    assert [attempt.trigger for attempt in attempts] == [Trigger.SCHEDULE] * 4 + [Trigger.MANUAL]


def test_a_delivery_that_ended_and_is_sent_again_goes_before_the_backlog(stage: Stage) -> None:
    """Who sends it again by hand wants to see the answer now, and not when all that waits has been attempted."""
    subscriber = stage.subscribe()
    ended = stage.tell(subscriber)
    stage.attempt(200)
    stage.tell(subscriber)
    stage.clock.pass_by(1)
    stage.runtime.deliveries.retry(stage.account, ended.id)
    assert [claim.delivery.id for claim in stage.attempt(200, room=1)] == [ended.id]


def test_what_was_under_way_when_the_circuit_opened_tells_nothing_new(stage: Stage) -> None:
    """Also after earlier failures: the subscriber is tried again after the first pause, not after a longer one."""
    subscriber = stage.subscribe()
    stage.tell(subscriber)
    stage.attempt(500)
    assert stage.subscriber(subscriber).failures == 1
    for _ in range(7):
        stage.tell(subscriber)
    claims = list(stage.runtime.deliveries.turn((), 9).claims)
    assert len(claims) > 5
    for claim in claims:
        stage.finish([claim], 500)
    after = stage.subscriber(subscriber)
    assert after.failures == CIRCUIT_AFTER
    assert after.ready_at <= stage.clock() + 11_000


@pytest.mark.parametrize(
    ("status", "days", "known"), [(410, 0, True), (500, 6, True), (500, 0, False), (200, 6, False)]
)
def test_what_disables_a_subscriber_is_known_before(stage: Stage, status: int, days: int, known: bool) -> None:
    """All others of its account are told then, so the lane is to store few such results in one transaction."""
    subscriber = stage.subscribe()
    for _ in range(DISABLE_FAILURES + 2):
        stage.ping(subscriber)
    for _ in range(DISABLE_FAILURES - 1):
        assert stage.attempt(500, room=1)
        stage.clock.pass_by(400)
    stage.clock.pass_by(days * 86_400)
    (claim,) = stage.runtime.deliveries.turn((), 1).claims
    outcome = Outcome(claim, stage.clock(), answered(status))
    assert stage.runtime.deliveries.disables(outcome) is known
    stage.runtime.deliveries.turn([outcome], 0)
    assert stage.subscriber(subscriber).disabled is known


def test_an_attempt_that_could_not_be_made_waits(stage: Stage) -> None:
    """At a limit of our machine a delivery is not claimed again at once, over and over."""
    delivery = stage.ping(stage.subscribe(HOOK, "subscriber.ping"))
    (claim,) = stage.runtime.deliveries.turn((), 1, holder="worker").claims
    again = stage.runtime.deliveries.turn([Unmade(claim)], 1)
    assert again.claims == ()
    assert stage.rows("SELECT leased, holder FROM deliveries") == [(False, None)], "it takes no seat meanwhile"
    assert LIMIT_PAUSE <= (again.next_look - stage.clock()) / 1000 <= LIMIT_PAUSE * (1 + JITTER)
    stage.clock.pass_by(LIMIT_PAUSE * (1 + JITTER))
    stage.attempt()
    assert stage.delivery(delivery).attempts == 1


def test_an_attempt_that_could_not_be_made_in_time_is_another_workers(stage: Stage) -> None:
    """Its lease has passed: whoever has the delivery now keeps it, and what comes of that is written."""
    delivery = stage.ping(stage.subscribe())
    (late,) = stage.runtime.deliveries.turn((), 1).claims
    stage.clock.pass_by(stage.settings.lease)
    claims = list(stage.runtime.deliveries.turn((), 1).claims)
    assert stage.runtime.deliveries.turn([Unmade(late)], 1).claims == ()
    stage.finish(claims, 200)
    assert stage.delivery(delivery).status is DeliveryStatus.DELIVERED


def test_a_callback_url_that_two_accounts_name_is_two(stage: Stage) -> None:
    """What fails for one account, or is disabled for it, says nothing of the other's, and is not its to see."""
    other = stage.runtime.accounts.create_key("other", "", ["manage"])[0].account_id
    stage.create(callback_url=HOOK)
    stage.runtime.tasks.create(other, NewTask("toy", "draw", {"prompt": "a cat"}, callback_url=HOOK))
    owners = [owner for (owner,) in stage.rows("SELECT account_id FROM subscribers")]
    assert sorted(owners) == sorted([stage.account, other])


def test_a_subscriber_is_proven_by_the_first_delivery_that_it_takes(stage: Stage) -> None:
    """Until then, after each move, and once it was enabled again, nobody knows whether it answers."""
    subscriber = stage.subscribe()

    def attempt(status: int) -> bool:
        stage.ping(stage.subscriber(subscriber))
        stage.attempt(status)
        return stage.subscriber(subscriber).doubtful

    assert stage.subscriber(subscriber).doubtful
    assert not attempt(200)
    assert attempt(500), "its last attempt failed"
    assert not attempt(200)
    stage.runtime.subscribers.change(stage.account, subscriber.id, {"url": f"{HOOK}/elsewhere"})
    assert stage.subscriber(subscriber).doubtful
    assert not attempt(200)
    for disabled in (True, False):
        stage.runtime.subscribers.change(stage.account, subscriber.id, {"disabled": disabled})
    assert stage.subscriber(subscriber).doubtful
    assert not attempt(200)


def test_a_callback_url_that_comes_back_has_to_prove_itself_anew(stage: Stage) -> None:
    """Like any other that was disabled: whoever enabled it cannot know whether it answers."""
    task = stage.running(callback_url=HOOK)
    stage.attempt(200)
    stage.notice(task)
    (claim,) = stage.attempt(410)
    assert not claim.subscriber.doubtful
    stage.runtime.deliveries.retry(stage.account, claim.delivery.id)
    (again,) = stage.attempt(200)
    assert again.subscriber.doubtful


def test_seats_for_whoever_is_known_to_answer_are_nobody_elses(stage: Stage) -> None:
    """Newcomers and those that fail have what is left for them together; the rest is for the proven."""
    known, failing = stage.subscribe(HOOK), stage.subscribe(HOOK)
    stage.ping(known)
    stage.attempt(200)
    stage.ping(failing)
    stage.attempt(500)
    stage.clock.pass_by(10)
    newcomers = [stage.subscribe(f"{HOOK}/{number}") for number in range(8)]
    for one in [failing, *newcomers]:
        stage.ping(one)
    first = stage.runtime.deliveries.turn((), 8, troubled=1, doubtful=3).claims
    assert len(first) == 3
    stage.ping(known)
    second = stage.runtime.deliveries.turn((), 5, troubled=0, doubtful=0).claims
    assert [claim.subscriber.id for claim in second] == [known.id]


def test_a_retry_of_what_a_dead_worker_held_goes_first(stage: Stage) -> None:
    """Its lease has passed: it is under way no longer, and does not wait behind what was due meanwhile."""
    subscriber = stage.subscribe()
    held = stage.tell(subscriber)
    assert len(stage.runtime.deliveries.turn((), 1).claims) == 1
    stage.tell(subscriber)
    stage.clock.pass_by(stage.settings.lease)
    stage.runtime.deliveries.retry(stage.account, held.id)
    assert [claim.delivery.id for claim in stage.attempt(200, room=1)] == [held.id]


def test_results_are_flushed_and_claims_need_not_be(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a subscriber has taken is not sent again after a power cut; a claim that is lost costs nothing."""
    stage.ping(stage.subscribe())
    transactions: list[bool] = []
    write = stage.runtime.store.write

    def noted(*, flushed: bool = True) -> Any:
        transactions.append(flushed)
        return write(flushed=flushed)

    monkeypatch.setattr(stage.runtime.store, "write", noted)
    stage.attempt(200)
    assert transactions == [False, True]
