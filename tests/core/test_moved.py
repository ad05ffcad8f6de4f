"""A webhook that moves to another address."""

from __future__ import annotations

from dataclasses import replace

import pytest

from receiver.lifecycle import DISABLE_FAILURES
from receiver.models import DeliveryStatus
from tests.core.stage import HOOK, Stage

NEW = "http://127.0.0.1:9/new"


@pytest.mark.parametrize("status", [410, 429, 500])
def test_an_answer_of_the_old_address_says_nothing_of_the_new_one(stage: Stage, status: int) -> None:
    """A 410 there neither disables the subscriber nor ends the delivery, which goes to the new address in time."""
    subscriber = stage.subscribe()
    delivery = stage.ping(subscriber)
    (claim,) = stage.runtime.deliveries.turn((), 1).claims
    stage.runtime.subscribers.change(stage.account, subscriber.id, {"url": NEW})
    stage.finish([claim], status, retry_after="3600")
    after = stage.subscriber(subscriber)
    assert (after.disabled, after.failures, after.failing_since, after.ready_at) == (False, 0, None, 0)
    waiting = stage.delivery(delivery)
    assert (waiting.status, waiting.attempts) == (DeliveryStatus.PENDING, 1)
    stage.clock.pass_by(6)
    (again,) = stage.attempt(200)
    assert again.subscriber.url == NEW


@pytest.mark.parametrize("rate_limit", [None, 2.0])
def test_what_the_old_address_did_is_forgotten_with_it(stage: Stage, rate_limit: float | None) -> None:
    """Neither a pause that it asked for, nor its circuit, nor its days of failure; a rate limit holds anywhere."""
    subscriber = stage.subscribe(rate_limit=rate_limit)
    for _ in range(5):
        stage.ping(subscriber)
        stage.clock.pass_by(1)
        stage.attempt(500, room=1)
    stage.ping(subscriber)
    stage.clock.pass_by(11)
    stage.attempt(503, room=1, retry_after="86400")
    before = stage.subscriber(subscriber)
    assert (before.failures, before.ready_at) == (6, stage.clock() + 86_400_000)
    stage.runtime.subscribers.change(stage.account, subscriber.id, {"url": HOOK, "description": "the same address"})
    assert replace(stage.subscriber(subscriber), description="") == before
    stage.runtime.subscribers.change(stage.account, subscriber.id, {"url": NEW})
    after = stage.subscriber(subscriber)
    assert (after.failures, after.failing_since) == (0, None)
    stage.ping(subscriber)
    stage.clock.pass_by(0.5)
    assert {claim.subscriber.url for claim in stage.attempt(200)} == {NEW}


def test_a_success_at_the_old_address_is_one(stage: Stage) -> None:
    """Who took it there has it: it does not come again."""
    subscriber = stage.subscribe()
    delivery = stage.ping(subscriber)
    (claim,) = stage.runtime.deliveries.turn((), 1).claims
    stage.runtime.subscribers.change(stage.account, subscriber.id, {"url": NEW})
    stage.finish([claim], 200)
    assert stage.delivery(delivery).status is DeliveryStatus.DELIVERED


def test_a_pause_that_the_old_address_asked_for_ends_with_it(stage: Stage) -> None:
    """Who moves away from a server that said "tomorrow" gets what waits at the new address now, not tomorrow."""
    subscriber = stage.subscribe()
    stage.tell(subscriber)
    stage.attempt(503, retry_after="86400")
    waits = stage.tell(subscriber)
    stage.runtime.subscribers.change(stage.account, subscriber.id, {"url": subscriber.url, "description": "same"})
    assert stage.attempt(200) == [], "the same address is the same server"
    stage.runtime.subscribers.change(stage.account, subscriber.id, {"url": NEW})
    assert [(claim.delivery.id, claim.subscriber.url) for claim in stage.attempt(200)] == [(waits.id, NEW)]


def test_failures_of_the_old_address_do_not_disable_the_new_one(stage: Stage) -> None:
    """Five days of failure at a wrong address, one at the right one: the subscriber stays."""
    subscriber = stage.subscribe()
    for _ in range(DISABLE_FAILURES - 1):
        stage.ping(subscriber)
        stage.attempt(500, room=1)
    stage.clock.pass_by(stage.settings.disable_after)
    stage.runtime.subscribers.change(stage.account, subscriber.id, {"url": NEW})
    stage.ping(subscriber)
    stage.attempt(500, room=1)
    after = stage.subscriber(subscriber)
    assert (after.disabled, after.failures, after.failing_since) == (False, 1, stage.clock())
