"""``/v1/subscribers``: registered webhooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flask import Response

from receiver import blanking
from receiver.events import rfc3339
from receiver.models import Scope, Subscriber
from receiver.signing import Secret
from receiver.subscribers import NewSubscriber
from receiver.web import answers
from receiver.web.api import Answer, Section
from receiver.web.auth import account
from receiver.web.deliveries import delivery_value
from receiver.web.face import runtime
from receiver.web.samples import EXAMPLES, PENDING
from receiver.web.schemas import NewSubscriberSchema, Replay, Rotation, SubscriberPatch, SubscriberQuery

section = Section("Subscribers", "Webhooks that get the account's events.")

_MANAGE = [Scope.MANAGE]
_ONE = "/subscribers/<id(sub):subscriber_id>"


@section.operation(
    "POST",
    "/subscribers",
    Answer(
        201,
        "SubscriberWithSecret",
        "The subscriber, with its secret.",
        {"Location": ("Where to read it.", f"/v1/subscribers/{EXAMPLES['Subscriber']['id']}")},
    ),
    scopes=_MANAGE,
    body=NewSubscriberSchema,
)
def create_subscriber(body: Mapping[str, Any]) -> Response:
    """Register a webhook.

    The answer holds the secret that signs what is sent; it can be read again with `GET …/secret`. An account has 1000
    subscribers at most: 422 for one more.
    """
    subscriber, secret = runtime().subscribers.create(account(), NewSubscriber(**body))
    shown = {**_shown(subscriber), "secret": secret}
    return answers.value(shown, 201, {"Location": f"/v1/subscribers/{subscriber.id}"})


@section.operation(
    "GET", "/subscribers", Answer(200, "SubscriberPage", "Subscribers, newest first."),
    scopes=[Scope.READ], query=SubscriberQuery,
)  # fmt: skip
def list_subscribers(query: Mapping[str, Any]) -> Response:
    """List subscribers, newest first.

    Their secrets are not shown; `GET /v1/subscribers/{subscriber_id}/secret` reads them.
    """
    page = runtime().subscribers.list_page(account(), query["limit"], query.get("cursor"))
    return answers.value({"data": [_shown(found) for found in page.items], "next_cursor": page.next_cursor})


@section.operation("GET", _ONE, Answer(200, "Subscriber", "The subscriber."), scopes=[Scope.READ])
def get_subscriber(subscriber_id: str) -> Response:
    """Read a subscriber.

    `disabled`, `disabled_reason` and `failing_since` say how it is.
    """
    return answers.value(_shown(runtime().subscribers.get(account(), subscriber_id)))


@section.operation(
    "PATCH", _ONE, Answer(200, "Subscriber", "The subscriber, changed."), scopes=_MANAGE, body=SubscriberPatch
)
def change_subscriber(body: Mapping[str, Any], subscriber_id: str) -> Response:
    """Change a subscriber.

    What is left out stays; null clears. `headers` are merged by name. `disabled: true` keeps a backlog, which drains at
    a bounded rate when it is enabled again.
    """
    return answers.value(_shown(runtime().subscribers.change(account(), subscriber_id, body)))


@section.operation("DELETE", _ONE, Answer(204, None, "It is gone."), scopes=_MANAGE)
def delete_subscriber(subscriber_id: str) -> Response:
    """Remove a subscriber.

    What was still to be delivered to it ends as dead (`subscriber_deleted`), and stays listed.
    """
    runtime().subscribers.delete(account(), subscriber_id)
    return answers.nothing()


@section.operation(
    "GET", f"{_ONE}/secret", Answer(200, "Secrets", "The secrets that sign now."), scopes=_MANAGE, problems=[409]
)
def get_subscriber_secret(subscriber_id: str) -> Response:
    """Read the secrets that sign what this subscriber gets.

    During a rotation there are several: each request carries a signature by each of them. 409 when no secret key of
    the service opens them any more.
    """
    return secrets_answer(runtime().subscribers.secrets(account(), subscriber_id))


@section.operation(
    "POST", f"{_ONE}/rotate-secret", Answer(200, "Secrets", "The secrets that sign from now on."),
    scopes=_MANAGE, body=Rotation,
)  # fmt: skip
def rotate_subscriber_secret(body: Mapping[str, Any], subscriber_id: str) -> Response:
    """Replace the secret; the old ones sign beside the new one for a while.

    `overlap` says for how many seconds; 0 ends the old ones at once.
    """
    done = runtime().subscribers.rotate_secret(account(), subscriber_id, body["overlap"], body["secret"])
    return secrets_answer(done)


@section.operation(
    "POST",
    f"{_ONE}/ping",
    Answer(
        202,
        "Delivery",
        "The delivery of the ping.",
        {"Location": ("Where to follow it.", f"/v1/deliveries/{PENDING['id']}")},
        example={**PENDING, "event_type": "subscriber.ping", "task_id": None},
    ),
    scopes=_MANAGE,
    problems=[409],
)  # fmt: skip
def ping_subscriber(subscriber_id: str) -> Response:
    """Send a ping event to this subscriber alone.

    Its type is `subscriber.ping`. The delivery's attempts show how it was answered. 409 when it is disabled.
    """
    delivery = runtime().subscribers.ping(account(), subscriber_id)
    return answers.value(delivery_value(delivery), 202, {"Location": f"/v1/deliveries/{delivery.id}"})


@section.operation("GET", f"{_ONE}/replay", Answer(200, "Backlog", "How many there are."), scopes=_MANAGE, query=Replay)
def count_replay(query: Mapping[str, Any], subscriber_id: str) -> Response:
    """Count what a replay would send again, and what waits already.

    Ask before a replay, and again while it runs: it is over when `replaying` is 0.
    """
    service = runtime().subscribers
    replayable = service.count_replay(account(), subscriber_id, query["since"], query["until"], query["status"])
    waiting, replaying = service.waiting(account(), subscriber_id)
    retrying = service.retrying(account(), subscriber_id)
    found = {"replayable": replayable, "waiting": waiting, "replaying": replaying, "retrying": retrying}
    return answers.value(found)


@section.operation(
    "POST", f"{_ONE}/replay", Answer(200, "Replayed", "How many are sent again."), scopes=_MANAGE, body=Replay
)
def replay_to_subscriber(body: Mapping[str, Any], subscriber_id: str) -> Response:
    """Send the ended deliveries of a span of time again.

    They go out at a bounded rate, with the same `webhook-id` and body. Safe to repeat: what is pending already is left
    alone.
    """
    replayed = runtime().subscribers.replay(account(), subscriber_id, body["since"], body["until"], body["status"])
    return answers.value({"replayed": replayed})


def secrets_answer(secrets: Sequence[Secret]) -> Response:
    """The secrets of a subscriber or account, newest first."""
    shown = [{"secret": secret.key, "expires_at": rfc3339(secret.expires_at)} for secret in secrets]
    return answers.value({"secret": secrets[0].key, "secrets": shown})


def _shown(subscriber: Subscriber) -> dict[str, Any]:
    return {
        "id": subscriber.id,
        "url": subscriber.url,
        "event_types": list(subscriber.event_types),
        "providers": None if subscriber.providers is None else list(subscriber.providers),
        "description": subscriber.description,
        "headers": blanking.shown(runtime().subscribers.headers(subscriber)),
        "rate_limit": subscriber.rate_limit,
        "disabled": subscriber.disabled,
        "disabled_reason": subscriber.disabled_reason,
        "failing_since": rfc3339(subscriber.failing_since),
        "created_at": rfc3339(subscriber.created_at),
    }
