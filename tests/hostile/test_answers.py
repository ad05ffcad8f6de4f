"""What a subscriber answers, over the wire: every status, and every Retry-After."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from receiver.models import DeliveryStatus
from tests.databases import Template
from tests.hostile.plant import working
from tests.subscriber import Subscriber, Talk, answer, say

DAY = 86_400_000


def test_every_status(tmp_path: Path, migrated: Template, toy: None) -> None:
    """From 200 to 599 only 2xx delivers; no redirect is followed; only 410 disables."""

    def as_asked(talk: Talk) -> None:
        received = talk.read()
        if received is not None:
            status = int(received.target[1:])
            # 204, 304 and the like have no body, whatever their length says.
            talk.send(f"HTTP/1.1 {status} Said\r\nLocation: {trap.origin}\r\nContent-Length: 0\r\n\r\n".encode())

    # The deadline is the product's own: nothing is judged by time here, and a machine may stand still for a second.
    limits = {
        "RECEIVER_RETRY_SCHEDULE": "none",
        "RECEIVER_DELIVERY_CONCURRENCY": "50",
    }
    with (
        Subscriber(answer(200)) as trap,
        Subscriber(as_asked) as asked,
        working(tmp_path, migrated, **limits) as plant,
    ):
        subscribers = {
            status: plant.subscribe(f"{asked.origin}/{status}", "task.canceled") for status in range(200, 600)
        }
        task = plant.create()
        plant.runtime.tasks.cancel(plant.account, task.id)
        sent = {delivery.subscriber_id: delivery for delivery in plant.deliveries_of(task)}
        for status, subscriber in subscribers.items():
            ended, attempt = plant.outcome(sent[subscriber.id])
            expected = (
                (DeliveryStatus.DELIVERED, None)
                if status < 300
                else (DeliveryStatus.DEAD, "gone" if status == 410 else "exhausted")
            )
            assert (ended.status, ended.reason) == expected, status
            assert attempt.response_status == status
            assert attempt.error == (None if status < 300 else "http_status")
            assert ("Redirects are not followed" in attempt.message) == (300 <= status < 400)
        assert len(asked.requests) == 400, "each was asked once"
        assert trap.requests == []
        disabled = [status for status, subscriber in subscribers.items() if plant.subscriber(subscriber).disabled]
        assert disabled == [410]


@pytest.mark.parametrize("status", [429, 503])
def test_every_retry_after(tmp_path: Path, migrated: Template, toy: None, status: int) -> None:
    """Whatever the header says: the next attempt is never earlier than planned and never later than a day and a bit."""
    forms: dict[str, tuple[int, int]] = {
        "Retry-After: 120": (120_000, 121_000),
        "Retry-After: 0": (60_000, 66_000),
        "Retry-After: -5": (60_000, 66_000),
        "Retry-After: 61.5": (62_000, 67_000),
        "Retry-After: 99999999999999999999": (DAY, DAY + 1000),
        "Retry-After: 1e400": (60_000, 66_000),
        "Retry-After: nan": (60_000, 66_000),
        "Retry-After: soon": (60_000, 66_000),
        "Retry-After: ": (60_000, 66_000),
        "Retry-After: Fri, 31 Dec 9999 23:59:59 GMT": (DAY, DAY + 1000),
        "Retry-After: Friday, 31-Dec-99 23:59:59 GMT": (60_000, DAY + 1000),
        "Retry-After: Fri Dec 31 23:59:59 1999": (60_000, 66_000),
        "Retry-After: Thu, 99 Foo 2026 99:99:99 GMT": (60_000, 66_000),
        "Retry-After: 120\r\nRetry-After: 5": (60_000, 121_000),
        "Retry-After: \xb2\xb3": (60_000, 66_000),
        "retry-after:\t120\t": (120_000, 121_000),
        "Retry-After: " + "9" * 5000: (60_000, DAY + 1000),
    }
    with working(tmp_path, migrated, RECEIVER_RETRY_SCHEDULE="60") as plant, contextlib.ExitStack() as stack:
        sent = {}
        for form in forms:
            head = f"HTTP/1.1 {status} Busy\r\n{form}\r\nContent-Length: 0\r\n\r\n".encode("latin-1")
            url = stack.enter_context(Subscriber(say(head))).url
            subscriber = plant.subscribe(url)
            sent[form] = subscriber, plant.ping(subscriber)
        for form, (low, high) in forms.items():
            subscriber, delivery = sent[form]
            after, (attempt,) = plant.attempted(delivery)
            assert after.status is DeliveryStatus.PENDING
            ended_at = attempt.started_at + attempt.duration_ms
            assert low <= (after.due_at or 0) - attempt.started_at, form
            assert (after.due_at or 0) - ended_at <= high + 2000, form
            held = plant.subscriber(subscriber).ready_at - ended_at
            assert held <= DAY + 2000, "the whole subscriber waits, but not for ever"
            if low > 66_000:
                assert held >= low - 1, "and the whole subscriber waits as long"
