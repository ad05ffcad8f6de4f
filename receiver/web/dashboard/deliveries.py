"""Deliveries: what goes to subscribers, why some of it does not arrive, and sending it again."""

from __future__ import annotations

import re
from typing import Any

import flask
from flask import Response, request

from receiver import __version__, blanking
from receiver.errors import Conflict, NotFound
from receiver.models import Attempt, Delivery, DeliveryStatus, EventType, id_pattern
from receiver.store.deliveries import Filter
from receiver.web.auth import account, list_turn
from receiver.web.dashboard.formatting import pretty
from receiver.web.dashboard.frame import cursor_of, link, page, redirect, render
from receiver.web.dashboard.subscribers import to_choose_from
from receiver.web.dashboard.troubles import REASONS, explained, next_attempt, why
from receiver.web.face import runtime

PAGE_SIZE = 25
MOST_RETRIED = 500
"""Deliveries that one press of a button sends again; for more there is the replay of a subscriber."""
_FILTERS = {
    "status": re.compile("|".join(DeliveryStatus)),
    "subscriber": re.compile(id_pattern("sub")),
    "event_type": re.compile("|".join(map(re.escape, EventType))),
    "task": re.compile(id_pattern("task")),
}
_DELIVERY = re.compile(id_pattern("dlv"))


@page("GET", "/deliveries", nav="Deliveries")
def deliveries() -> Response:
    """Deliveries, newest first, narrowed down."""
    chosen = _chosen(request.args)
    cursor = cursor_of("dlv")
    with list_turn():
        found = runtime().deliveries.list_page(account(), Filter(**chosen), PAGE_SIZE, cursor)
    tried = runtime().overview.last_attempts([delivery.id for delivery in found.items])
    receivers = runtime().overview.receivers(found.items)
    return render(
        "deliveries.html",
        page=found,
        why={delivery.id: why(delivery, tried.get(delivery.id)) for delivery in found.items},
        due={delivery.id: next_attempt(delivery, receivers.get(delivery.subscriber_id)) for delivery in found.items},
        chosen=chosen,
        given={name: chosen.get(name) for name in _FILTERS},
        states=[status.value for status in DeliveryStatus],
        kinds=[kind.value for kind in EventType],
        subscribers=to_choose_from(chosen.get("subscriber")),
        first=cursor is None,
        older=link("deliveries", **chosen, cursor=found.next_cursor) if found.next_cursor else None,
        most=MOST_RETRIED,
    )


def _chosen(given: Any) -> dict[str, str]:
    """The filters that can be used; others are left out."""
    texts = {name: given.get(name, "").strip() for name in _FILTERS}
    return {name: text for name, text in texts.items() if _FILTERS[name].fullmatch(text)}


@page("POST", "/deliveries/retry", section="deliveries")
def retry_deliveries() -> Response:
    """Send again those that are ticked, or every dead one of the filter."""
    chosen = _chosen(request.form)
    if "every" in request.form:
        ids = _dead(chosen)
    else:
        ids = [given for given in request.form.getlist("delivery") if _DELIVERY.fullmatch(given)][:MOST_RETRIED]
    refused: dict[str, int] = {}
    for delivery_id in ids:
        try:
            runtime().deliveries.retry(account(), delivery_id)
        except (Conflict, NotFound) as error:
            refused[error.detail] = refused.get(error.detail, 0) + 1
    done = len(ids) - sum(refused.values())
    if not ids:
        flask.flash("Nothing was chosen: tick deliveries first.")
    elif done:
        flask.flash(f"{done} {'delivery is' if done == 1 else 'deliveries are'} sent again now.")
    for detail, times in refused.items():
        flask.flash(f"{times} not sent: {detail}")
    if "every" in request.form and len(ids) == MOST_RETRIED:
        flask.flash(f"Those were the newest {MOST_RETRIED}; press again for more, or replay a subscriber.")
    return redirect("deliveries", **chosen)


def _dead(chosen: dict[str, str]) -> list[str]:
    """Dead deliveries of a filter, the newest MOST_RETRIED of them."""
    ids: list[str] = []
    cursor: str | None = None
    while len(ids) < MOST_RETRIED:
        wanted = Filter(**{**chosen, "status": DeliveryStatus.DEAD.value})
        with list_turn():
            found = runtime().deliveries.list_page(account(), wanted, 100, cursor)
        ids += [delivery.id for delivery in found.items]
        cursor = found.next_cursor
        if cursor is None:
            break
    return ids[:MOST_RETRIED]


@page("GET", "/deliveries/<id(dlv):delivery_id>", section="deliveries")
def delivery(delivery_id: str) -> Response:
    """One delivery: what was sent, what came back, attempt by attempt."""
    found, attempts = runtime().deliveries.get(account(), delivery_id)
    event = runtime().feed.get(account(), found.event_id)
    try:
        subscriber = None if found.task_only else runtime().subscribers.get(account(), found.subscriber_id)
    except NotFound:
        subscriber = None  # deleted meanwhile
    extra = {} if subscriber is None else runtime().subscribers.headers(subscriber)
    due = next_attempt(found, runtime().overview.receivers([found]).get(found.subscriber_id))
    now = runtime().clock()
    newest = attempts[-1] if attempts else None
    return render(
        "delivery.html",
        delivery=found,
        attempts=list(reversed(attempts)),
        event=event,
        subscriber=subscriber,
        reason=REASONS.get(found.reason or "", found.reason),
        meaning=("", "") if newest is None else explained(newest.response_status, newest.error),
        explained=explained,
        answered={attempt.id: _answer(attempt) for attempt in attempts},
        headers_of=lambda attempt: _headers(found, attempt, extra),
        waiting=found.status is DeliveryStatus.PENDING,
        due=due,
        held=due is not None and due > now,
        soon=due is not None and due - now < 60_000,
    )


def _headers(delivery: Delivery, attempt: Attempt, extra: dict[str, str]) -> str:
    """What an attempt was sent with, line by line; secrets are not shown."""
    shown = blanking.shown(extra) | {
        "content-type": "application/json",
        "user-agent": f"receiver/{__version__}",
        "webhook-id": delivery.event_id,
        "webhook-timestamp": str(attempt.started_at // 1000),
        "webhook-signature": "v1,… (made anew for each attempt)",
    }
    return "\n".join(f"{name}: {value}" for name, value in shown.items())


def _answer(attempt: Attempt) -> str:
    """What came back, as text."""
    if attempt.response_status is None:
        return ""
    head = "\n".join(f"{name}: {value}" for name, value in attempt.response_headers.items())
    return f"{attempt.response_status}\n{head}\n\n{pretty(attempt.response_body)}".rstrip()


@page("POST", "/deliveries/<id(dlv):delivery_id>/retry", section="deliveries")
def retry_delivery(delivery_id: str) -> Response:
    """Make an attempt now."""
    try:
        runtime().deliveries.retry(account(), delivery_id)
    except Conflict as error:
        flask.flash(error.detail)
    else:
        flask.flash("It is sent again now.")
    return redirect("delivery", delivery_id=delivery_id)
