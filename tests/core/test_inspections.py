"""Why a webhook does not verify, answered from what the service itself knows."""

from __future__ import annotations

import pytest

from receiver.errors import NotFound
from receiver.inspections import Inspection, Received
from receiver.models import Subscriber
from receiver.store.claiming import Claim
from receiver.verifying import State
from tests.core.stage import Stage


def sent(stage: Stage, subscriber: Subscriber) -> Claim:
    """A ping that was sent to a subscriber."""
    stage.ping(subscriber)
    (claim,) = stage.runtime.deliveries.turn((), 10).claims
    stage.finish([claim])
    return claim


def received(stage: Stage, claim: Claim, body: bytes | None = None, **more: str) -> Received:
    """What the subscriber got, with the body as it may have become."""
    request = stage.runtime.deliveries.request_of(claim)
    return Received(request.headers, claim.body if body is None else body, **more)


def look(stage: Stage, subscriber: Subscriber | None, what: Received) -> Inspection:
    """What the service says to it."""
    return stage.runtime.inspections.inspect(stage.account, subscriber.id if subscriber else None, what)


def blamed(found: Inspection) -> list[str]:
    """The parts that are wrong."""
    return [finding.part for finding in found.report.findings if finding.state is State.WRONG]


def test_what_was_sent_is_genuine(stage: Stage) -> None:
    """What the service sends passes its own examination, and its event is shown."""
    subscriber = stage.subscribe()
    claim = sent(stage, subscriber)
    found = look(stage, subscriber, received(stage, claim))
    assert found.report.genuine
    assert found.event is not None
    assert found.event.id == claim.delivery.event_id
    assert (found.about_secret, found.about_computed) == (None, None)


def test_a_changed_body_is_compared_with_the_stored_one(stage: Stage) -> None:
    """The first byte that differs is found with the event's real body."""
    subscriber = stage.subscribe()
    claim = sent(stage, subscriber)
    body = claim.body
    found = look(stage, subscriber, received(stage, claim, body.replace(b"test event", b"text event")))
    assert blamed(found) == ["body"]
    assert found.report.difference is not None
    assert body[found.report.difference.offset : found.report.difference.offset + 1] == b"s"


def test_the_other_subscribers_secret_is_recognised(stage: Stage) -> None:
    """Two subscribers, mixed up: the answer names the one whose secret signed."""
    mine, other = stage.subscribe("http://127.0.0.1:9/mine"), stage.subscribe("http://127.0.0.1:9/other")
    found = look(stage, mine, received(stage, sent(stage, other)))
    assert blamed(found) == ["secret"]
    assert other.url in found.report.headline


def test_a_rotated_secret_is_recognised(stage: Stage) -> None:
    """A signature by a secret that has ended meanwhile is told as that."""
    subscriber = stage.subscribe()
    claim = sent(stage, subscriber)
    before = received(stage, claim, computed="nonsense")
    old = stage.runtime.subscribers.secrets(stage.account, subscriber.id)[0].key
    stage.runtime.subscribers.rotate_secret(stage.account, subscriber.id, 60, None)
    stage.clock.pass_by(120)
    found = look(stage, subscriber, Received(before.headers, before.body, secret=old))
    assert blamed(found) == ["secret"]
    assert "rotated" in found.report.headline
    assert found.about_secret is not None
    assert "has ended" in found.about_secret


def test_a_callback_urls_webhook_is_checked_with_the_accounts_secret(stage: Stage) -> None:
    """What went to a task's callback_url is signed by the account."""
    task = stage.create(callback_url="http://127.0.0.1:9/task")
    stage.runtime.tasks.cancel(stage.account, task.id)
    (claim,) = stage.runtime.deliveries.turn((), 10).claims
    found = look(stage, None, received(stage, claim, computed="nonsense"))
    assert found.report.genuine
    assert found.about_computed is not None
    assert "No frequent mistake" in found.about_computed


def test_the_event_is_found_by_the_task_in_the_body(stage: Stage) -> None:
    """Without webhook-id the event that was meant is found all the same."""
    subscriber = stage.subscribe()
    task = stage.create()
    stage.runtime.tasks.cancel(stage.account, task.id)
    (claim,) = stage.runtime.deliveries.turn((), 10).claims
    got = received(stage, claim)
    headers = {name: value for name, value in got.headers.items() if name != "webhook-id"}
    assert blamed(look(stage, subscriber, Received(headers, got.body))) == ["id"]


def test_what_belongs_to_others_is_not_known(stage: Stage) -> None:
    """Another account can learn nothing of our secrets and events by asking."""
    subscriber = stage.subscribe()
    got = received(stage, sent(stage, subscriber))
    key, _ = stage.runtime.accounts.create_key("stranger", "", ["manage"])
    with pytest.raises(NotFound):
        stage.runtime.inspections.inspect(key.account_id, subscriber.id, got)
    found = stage.runtime.inspections.inspect(key.account_id, None, got)
    assert not found.report.genuine
    assert found.event is None
