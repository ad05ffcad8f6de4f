"""A webhook that moves to another address while an attempt is under way."""

from __future__ import annotations

import pytest

from receiver.models import DeliveryStatus
from tests.core.stage import Stage

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


def test_a_success_at_the_old_address_is_one(stage: Stage) -> None:
    """Who took it there has it: it does not come again."""
    subscriber = stage.subscribe()
    delivery = stage.ping(subscriber)
    (claim,) = stage.runtime.deliveries.turn((), 1).claims
    stage.runtime.subscribers.change(stage.account, subscriber.id, {"url": NEW})
    stage.finish([claim], 200)
    assert stage.delivery(delivery).status is DeliveryStatus.DELIVERED
