"""``/v1/deliveries``: events on their way to subscribers, attempt by attempt."""

from __future__ import annotations

from typing import Any

from flask import Response

from receiver.events import rfc3339
from receiver.models import Attempt, Delivery, DeliveryStatus, Scope
from receiver.store.deliveries import Filter
from receiver.web import answers
from receiver.web.api import Answer, Section
from receiver.web.auth import account, list_turn
from receiver.web.face import runtime
from receiver.web.samples import PENDING
from receiver.web.schemas import DeliveryQuery

section = Section("Deliveries", "Events on their way to subscribers.")

_ONE = "/deliveries/<id(dlv):delivery_id>"


@section.operation(
    "GET", "/deliveries", Answer(200, "DeliveryPage", "Deliveries, newest first."),
    scopes=[Scope.READ], query=DeliveryQuery,
)  # fmt: skip
def list_deliveries(query: dict[str, Any]) -> Response:
    """List deliveries, newest first.

    Every parameter narrows the list; together they must all hold.
    """
    limit, cursor = query.pop("limit"), query.pop("cursor", None)
    with list_turn():
        page = runtime().deliveries.list_page(account(), Filter(**query), limit, cursor)
    return answers.value({"data": [delivery_value(found) for found in page.items], "next_cursor": page.next_cursor})


@section.operation(
    "GET", _ONE, Answer(200, "DeliveryWithAttempts", "The delivery, with its attempts."), scopes=[Scope.READ]
)
def get_delivery(delivery_id: str) -> Response:
    """Read a delivery with the attempts made.

    Of more than 100 attempts the newest; `attempt_count` tells how many there are. Each attempt has its answer,
    or in a word (`error`) and a sentence (`message`) why there was none.
    """
    delivery, attempts = runtime().deliveries.get(account(), delivery_id)
    return answers.value({**delivery_value(delivery), "attempts": [_attempt(attempt) for attempt in attempts]})


@section.operation(
    "POST", f"{_ONE}/retry", Answer(202, "Delivery", "The delivery; an attempt is due now.", example=PENDING),
    scopes=[Scope.MANAGE], problems=[409],
)  # fmt: skip
def retry_delivery(delivery_id: str) -> Response:
    """Make an attempt now.

    A pending delivery is brought forward and its schedule goes on; an ended one starts anew. Where the schedule's
    attempt is under way, the next one comes as soon as it has failed. 409 when its subscriber is disabled or deleted.
    """
    return answers.value(delivery_value(runtime().deliveries.retry(account(), delivery_id)), 202)


def delivery_value(delivery: Delivery) -> dict[str, Any]:
    """A delivery as callers see it."""
    pending = delivery.status is DeliveryStatus.PENDING
    return {
        "id": delivery.id,
        "event_id": delivery.event_id,
        "event_type": delivery.event_type,
        "task_id": delivery.task_id,
        "subscriber": None if delivery.task_only else delivery.subscriber_id,
        "url": delivery.url,
        "status": delivery.status,
        "attempt_count": delivery.attempts,
        "next_attempt_at": rfc3339(delivery.due_at) if pending else None,
        "created_at": rfc3339(delivery.created_at),
        "finished_at": rfc3339(delivery.finished_at),
        "reason": delivery.reason,
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "id": attempt.id,
        "number": attempt.number,
        "trigger": attempt.trigger,
        "started_at": rfc3339(attempt.started_at),
        "duration_ms": attempt.duration_ms,
        "response_status": attempt.response_status,
        "response_headers": dict(attempt.response_headers),
        "response_body": attempt.response_body,
        "error": attempt.error,
        "message": attempt.message,
    }
