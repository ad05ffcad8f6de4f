"""What failed attempts make of their subscriber: pauses, and its end."""

from __future__ import annotations

import pytest

from receiver.deliveries import Outcome
from receiver.models import EventType
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


def test_the_end_of_a_callback_url_is_not_announced(stage: Stage) -> None:
    """Nobody registered it, so nobody could make anything of the event; its deliveries show what happened."""
    watcher = stage.subscribe(f"{HOOK}/watch", "subscriber.disabled")
    task = stage.running(callback_url=HOOK)
    assert stage.attempt(410) != []
    (delivery,) = stage.deliveries_of(task)
    assert delivery.reason == "gone"
    assert delivery.subscriber_id != watcher.id
    assert EventType.SUBSCRIBER_DISABLED not in [event.type for event in stage.events()]
