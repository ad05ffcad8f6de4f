"""Subscribers: how they are, and everything that can be done with one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import flask
from flask import Response, request
from marshmallow import ValidationError

import handlers
from receiver import blanking
from receiver.errors import Conflict, Invalid, NotFound, field_errors
from receiver.models import EventType, Subscriber
from receiver.overview import Cell
from receiver.schedule import DAY
from receiver.sealing import SealBroken
from receiver.signing import Secret
from receiver.store.deliveries import Filter
from receiver.subscribers import MOST_COUNTED, NewSubscriber
from receiver.web.auth import account
from receiver.web.dashboard import formatting
from receiver.web.dashboard.frame import cursor_of, link, page, redirect, render
from receiver.web.dashboard.troubles import explained, next_attempt, why
from receiver.web.face import runtime
from receiver.web.schemas import USUAL_OVERLAP, NewSubscriberSchema

PAGE_SIZE = 25
MOST_CHOICES = 100
NEW = 300_000
"""For how long (ms) a secret that was just made is shown without asking."""
OVERLAPS = {0: "at once: it has leaked", 3600: "in an hour", 86_400: "in a day", 604_800: "in a week"}
_ONE = "/subscribers/<id(sub):subscriber_id>"


@page("GET", "/subscribers", nav="Subscribers")
def subscribers() -> Response:
    """All subscribers with their last 24 hours."""
    cursor = cursor_of("sub")
    found = runtime().subscribers.list_page(account(), PAGE_SIZE, cursor)
    return render(
        "subscribers.html",
        page=found,
        health=runtime().overview.health([each.id for each in found.items]),
        state_of=state_of,
        said_of=said_of,
        first=cursor is None,
        older=link("subscribers", cursor=found.next_cursor) if found.next_cursor else None,
    )


def to_choose_from(chosen: str | None) -> list[Subscriber]:
    """Subscribers for a field that names one: the newest, and the one that is chosen already, if it is there."""
    found = list(runtime().subscribers.list_page(account(), MOST_CHOICES, None).items)
    if chosen and all(each.id != chosen for each in found):
        with suppress(NotFound):
            found.append(runtime().subscribers.get(account(), chosen))
    return found


def those_that_open(read: Callable[[], tuple[Secret, ...]]) -> tuple[Secret, ...]:
    """Secrets to be shown; none where no secret key opens them any more, so that they can be rotated."""
    try:
        return read()
    except SealBroken:
        return ()


def state_of(subscriber: Subscriber) -> str:
    """``paused`` (by somebody), ``disabled`` (by its failures), ``failing`` or ``healthy``."""
    if subscriber.disabled:
        return "paused" if subscriber.disabled_reason == "by request" else "disabled"
    return "failing" if subscriber.failing_since is not None else "healthy"


def said_of(cell: Cell) -> str:
    """One hour of a subscriber in words."""
    hour = formatting.local(cell.start).strftime("%H:%M")
    if cell.state == "none":
        return f"{hour}: nothing to deliver"
    numbers = {"delivered": cell.delivered, "waiting": cell.waiting, "given up": cell.dead}
    told = ", ".join(f"{number} {word}" for word, number in numbers.items() if number)
    return f"{hour}: {told}{', some after a retry' if cell.state == 'retried' else ''}"


# --- making and changing -----------------------------------------------------------------------------


@page("GET", "/subscribers/new", section="subscribers")
def new_subscriber() -> Response:
    """An empty form."""
    return _form(None, {**dict.fromkeys(_TEXTS, ""), "kinds": ["*"], "providers": []}, {})


@page("POST", "/subscribers/new", section="subscribers")
def create_subscriber() -> Response:
    """Register a webhook; its secret is shown on the page that follows."""
    typed = _typed()
    try:
        wanted = NewSubscriberSchema().load(_wanted(typed))
        made, _ = runtime().subscribers.create(account(), NewSubscriber(**wanted))
    except ValidationError as error:
        return _form(None, typed, field_errors(error.messages))
    except Invalid as error:
        return _form(None, typed, error.errors)
    flask.flash("The subscriber is registered. Set its secret at your side, then send it a test ping.")
    return redirect("subscriber", subscriber_id=made.id)


@page("GET", f"{_ONE}/edit", section="subscribers")
def edit_subscriber(subscriber_id: str) -> Response:
    """The form with what is set."""
    found = runtime().subscribers.get(account(), subscriber_id)
    headers = blanking.shown(runtime().subscribers.headers(found))
    typed = {
        "url": found.url,
        "description": found.description,
        "kinds": [pattern for pattern in found.event_types if pattern in _KINDS],
        "patterns": " ".join(pattern for pattern in found.event_types if pattern not in _KINDS),
        "providers": list(found.providers or ()),
        "headers": "\n".join(f"{name}: {value}" for name, value in headers.items()),
        "rate_limit": "" if found.rate_limit is None else str(found.rate_limit).removesuffix(".0"),
    }
    return _form(found, typed, {})


@page("POST", f"{_ONE}/edit", section="subscribers")
def change_subscriber(subscriber_id: str) -> Response:
    """Set all that the form has."""
    service = runtime().subscribers
    found, typed = service.get(account(), subscriber_id), _typed()
    try:
        wanted = NewSubscriberSchema(exclude=["secret"]).load(_wanted(typed))
        if wanted["headers"]:
            stay = {name.lower() for name in wanted["headers"]}
            taken_away = [name for name in service.headers(found) if name.lower() not in stay]
            wanted["headers"].update(dict.fromkeys(taken_away))
        service.change(account(), subscriber_id, wanted)
    except ValidationError as error:
        return _form(found, typed, field_errors(error.messages))
    except Invalid as error:
        return _form(found, typed, error.errors)
    flask.flash("Saved. What is delivered from now on goes by it.")
    return redirect("subscriber", subscriber_id=subscriber_id)


_TEXTS = ("url", "description", "patterns", "headers", "rate_limit", "secret")
_KINDS = ("*", *(kind.value for kind in EventType))


def _typed() -> dict[str, Any]:
    """The form as it was filled in."""
    form = request.form
    return {
        **{name: form.get(name, "").strip() for name in _TEXTS},
        "kinds": form.getlist("kinds"),
        "providers": form.getlist("providers"),
    }


def _wanted(typed: dict[str, Any]) -> dict[str, Any]:
    """The form as the API would be asked."""
    lines = [line.partition(":") for line in typed["headers"].splitlines() if line.strip()]
    headers = {name.strip(): value.strip() for name, _, value in lines}
    if len(headers) < len(lines):
        raise ValidationError({"headers": ["One name stands on two lines: each header is sent once."]})
    wanted: dict[str, Any] = {
        "url": typed["url"],
        "description": typed["description"],
        "event_types": [*typed["kinds"], *typed["patterns"].split()],
        "providers": typed["providers"] or None,
        "headers": headers or None,
        "rate_limit": None,
    }
    if typed["secret"]:
        wanted["secret"] = typed["secret"]
    if typed["rate_limit"]:
        try:
            wanted["rate_limit"] = float(typed["rate_limit"])
        except ValueError:
            wanted["rate_limit"] = typed["rate_limit"]  # the schema says what is wrong with it
    return wanted


def _form(subscriber: Subscriber | None, typed: dict[str, Any], wrong: Any) -> Response:
    by_field: dict[str, list[str]] = {name: [] for name in (*_TEXTS, "event_types", "providers")}
    for place, messages in wrong.items():
        by_field.setdefault(place.partition(".")[0], []).extend(messages)
    if wrong and not typed["url"]:
        by_field["url"] = ["A URL is needed: where events are sent."]
    return render(
        "subscriber_form.html",
        422 if wrong else 200,
        subscriber=subscriber,
        typed=typed,
        wrong=by_field,
        refused=bool(wrong),
        kinds=_KINDS,
        known=handlers.available(),
    )


# --- one of them -------------------------------------------------------------------------------------


@page("GET", _ONE, section="subscribers")
def subscriber(subscriber_id: str) -> Response:
    """How it is, what waits, what came last."""
    return _page_of(subscriber_id)


def _page_of(subscriber_id: str, *, secrets_too: bool = False) -> Response:
    service, now = runtime().subscribers, runtime().clock()
    found = service.get(account(), subscriber_id)
    secrets = those_that_open(lambda: service.secrets(account(), subscriber_id))
    last = runtime().deliveries.list_page(account(), Filter(subscriber=subscriber_id), 10, None)
    tried = runtime().overview.last_attempts([delivery.id for delivery in last.items])
    waiting, by_hand = service.waiting(account(), subscriber_id)
    replayed = request.args.get("replayed", "")
    return render(
        "subscriber.html",
        subscriber=found,
        state=state_of(found),
        cells=runtime().overview.health([subscriber_id])[subscriber_id],
        said_of=said_of,
        headers=blanking.shown(service.headers(found)),
        secrets=secrets,
        shown=secrets if secrets_too else [secret for secret in secrets[:1] if now - secret.created_at < NEW],
        last=last.items,
        why={delivery.id: why(delivery, tried.get(delivery.id)) for delivery in last.items},
        due={delivery.id: next_attempt(delivery, found) for delivery in last.items},
        waiting=waiting,
        by_hand=by_hand,
        replayed=int(replayed) if replayed.isdecimal() and len(replayed) < 9 else 0,
        most=MOST_COUNTED,
        held=max(found.ready_at - now, 0),
        failure=runtime().overview.last_failure(subscriber_id) if found.failing_since is not None else None,
        explained=explained,
        overlaps=OVERLAPS,
        since=formatting.field_time(now - DAY),
    )


@page("POST", f"{_ONE}/secret", section="subscribers")
def show_secret(subscriber_id: str) -> Response:
    """The page with every live secret on it."""
    return _page_of(subscriber_id, secrets_too=True)


@page("POST", f"{_ONE}/rotate", section="subscribers")
def rotate_secret(subscriber_id: str) -> Response:
    """A new secret; the old ones sign for a while."""
    overlap = request.form.get("overlap", "")
    seconds = int(overlap) if overlap in map(str, OVERLAPS) else USUAL_OVERLAP
    try:
        runtime().subscribers.rotate_secret(account(), subscriber_id, seconds, None)
    except Invalid as error:
        flask.flash(" ".join(said for messages in error.errors.values() for said in messages))
    else:
        flask.flash(f"There is a new secret. The old one ends {OVERLAPS[seconds]}.")
    return redirect("subscriber", subscriber_id=subscriber_id)


@page("POST", f"{_ONE}/ping", section="subscribers")
def ping_subscriber(subscriber_id: str) -> Response:
    """Send a test, and on to the page where its answer appears."""
    try:
        delivery = runtime().subscribers.ping(account(), subscriber_id)
    except Conflict as error:
        flask.flash(error.detail)
        return redirect("subscriber", subscriber_id=subscriber_id)
    return redirect("delivery", delivery_id=delivery.id)


@page("POST", f"{_ONE}/pause", section="subscribers")
def pause_subscriber(subscriber_id: str) -> Response:
    """Deliver nothing until somebody resumes; what comes meanwhile waits."""
    runtime().subscribers.change(account(), subscriber_id, {"disabled": True})
    flask.flash("Paused. What comes meanwhile waits, and is delivered when you resume.")
    return redirect("subscriber", subscriber_id=subscriber_id)


@page("POST", f"{_ONE}/resume", section="subscribers")
def resume_subscriber(subscriber_id: str) -> Response:
    """Deliver again, beginning with what waited."""
    runtime().subscribers.change(account(), subscriber_id, {"disabled": False})
    flask.flash("Resumed, with a clean record. What waited is delivered now, 50 a second at most.")
    return redirect("subscriber", subscriber_id=subscriber_id)


@page("POST", f"{_ONE}/delete", section="subscribers")
def delete_subscriber(subscriber_id: str) -> Response:
    """Remove it for good."""
    runtime().subscribers.delete(account(), subscriber_id)
    flask.flash("The subscriber is deleted. What still waited for it is listed as dead.")
    return redirect("subscribers")


# --- sending again -----------------------------------------------------------------------------------


@page("GET", f"{_ONE}/replay", section="subscribers")
def count_replay(subscriber_id: str) -> Response:
    """How many deliveries it would be, before anything is sent."""
    found = runtime().subscribers.get(account(), subscriber_id)
    typed, since, until, wrong = _span(request.args)
    number = None
    if since is not None and not wrong:
        number = runtime().subscribers.count_replay(account(), subscriber_id, since, until, typed["status"])
    return render(
        "replay.html",
        422 if wrong else 200,
        subscriber=found,
        typed=typed,
        wrong={"since": [], "until": [], **wrong},
        number=number,
        most=MOST_COUNTED,
        state=state_of(found),
    )


@page("POST", f"{_ONE}/replay", section="subscribers")
def replay(subscriber_id: str) -> Response:
    """Send them again, and on to the page that shows how far it is."""
    typed, since, until, wrong = _span(request.form)
    if since is None or wrong:
        return redirect("count_replay", subscriber_id=subscriber_id, **typed)
    number = runtime().subscribers.replay(account(), subscriber_id, since, until, typed["status"])
    if not number:
        flask.flash("There was nothing to send again in that time.")
    return redirect("subscriber", subscriber_id=subscriber_id, replayed=number or None)


def _span(given: Any) -> tuple[dict[str, str], int | None, int | None, dict[str, list[str]]]:
    """What was typed; from when until when (ms); and what is wrong with it."""
    typed = {name: given.get(name, "").strip() for name in ("since", "until")}
    typed["status"] = "all" if given.get("status") == "all" else "dead"
    times = {name: formatting.typed_time(typed[name]) for name in ("since", "until")}
    wrong = {name: ["Choose a date and a time."] for name, at in times.items() if at is None and typed[name]}
    if not typed["since"]:
        wrong["since"] = ["From when on? Choose a date and a time."]
    since = times["since"]
    return typed, None if since is None else max(since, 0), times["until"], wrong
