"""Subscribers: registered webhooks, their secrets, ping and replay."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import handlers
from receiver import events as event_rules
from receiver.addresses import AddressPolicy, BadUrl, check_url
from receiver.bell import Bell
from receiver.blanking import HIDDEN
from receiver.errors import Busy, Conflict, Invalid, NotFound
from receiver.models import Delivery, EventType, Page, Subscriber, Trigger, new_id
from receiver.outbound import OURS
from receiver.sealing import Sealer
from receiver.signing import Secret, SecretInUse, check_secret, dump_secrets, live, load_secrets, new_secret, rotate
from receiver.store import Connection, Store, accounts, backlog, deliveries, subscribers
from receiver.store.backlog import Span
from receiver.store.settling import publish

MOST_HEADERS = 20
"""Of one subscriber."""
MOST_SUBSCRIBERS = 1000
"""Of one account. An event and its deliveries are written in one transaction, for which all others may have to wait."""

REPLAYED_LATELY = 600_000
"""How long (ms) a replay leaves alone what another one has delivered: a repeated request makes no third copy."""

MOST_COUNTED = 100_000
"""Deliveries that are counted for display; it stands for this many or more."""

_LOST = "No secret key at hand opens those that are set: put its key back, or take all away first."
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]{0,1000}")
_NOT_CHOSEN = OURS | {
    "proxy-authenticate",
    "proxy-authorization",
    "trailers",
    # Sent with every attempt, or with a trace: a second one would contradict it.
    "traceparent",
    "user-agent",
}


@dataclass(frozen=True, slots=True)
class NewSubscriber:
    """What a caller asks for. ``secret``: the caller's own ``whsec_…``, or None to have one made."""

    url: str
    event_types: Sequence[str]
    providers: Sequence[str] | None = None
    description: str | None = None
    headers: Mapping[str, str] | None = None
    rate_limit: float | None = None
    secret: str | None = None


class SubscriberService:
    """What callers do with subscribers and their secrets. Its transactions begin here."""

    def __init__(
        self, store: Store, sealer: Sealer, policy: AddressPolicy, bell: Bell, clock: Callable[[], int]
    ) -> None:
        """``policy``: which URLs are allowed. ``clock``: ms since the epoch."""
        self._store = store
        self._sealer = sealer
        self._policy = policy
        self._bell = bell
        self._clock = clock

    def create(self, account_id: str, wanted: NewSubscriber) -> tuple[Subscriber, str]:
        """Register a webhook; returns it with its secret. Raises Invalid."""
        secret = wanted.secret if wanted.secret is not None else new_secret()
        errors = self._problems(
            {
                "url": wanted.url,
                "event_types": wanted.event_types,
                "providers": wanted.providers,
                "headers": wanted.headers,
                "secret": secret,
            }
        )
        if errors:
            raise Invalid(errors)
        now = self._clock()
        subscriber_id = new_id("sub", now)
        subscriber = Subscriber(
            id=subscriber_id,
            account_id=account_id,
            url=wanted.url,
            event_types=tuple(wanted.event_types),
            providers=None if wanted.providers is None else tuple(wanted.providers),
            description=wanted.description or "",
            headers_sealed=self._seal_headers(wanted.headers, subscriber_id),
            secrets_sealed=self._sealer.seal(dump_secrets([Secret(secret, now, None)]), subscriber_id),
            rate_limit=wanted.rate_limit,
            created_at=now,
        )
        with self._store.write() as connection:
            accounts.lock(connection, account_id)  # else two at once could both be the last
            if len(subscribers.of_account(connection, account_id)) >= MOST_SUBSCRIBERS:
                raise Invalid({"url": [f"The account has {MOST_SUBSCRIBERS} subscribers already: delete one first."]})
            subscribers.add(connection, subscriber)
        return subscriber, secret

    def get(self, account_id: str, subscriber_id: str) -> Subscriber:
        """The subscriber. Raises NotFound."""
        with self._store.read() as connection:
            subscriber = subscribers.get(connection, subscriber_id)
        if subscriber is None or subscriber.account_id != account_id or subscriber.task_only:
            raise NotFound("There is no such subscriber.")
        return subscriber

    def list_page(self, account_id: str, limit: int, cursor: str | None) -> Page[Subscriber]:
        """An account's subscribers, newest first."""
        with self._store.read() as connection:
            return subscribers.list_page(connection, account_id, limit, cursor)

    def change(self, account_id: str, subscriber_id: str, values: Mapping[str, Any]) -> Subscriber:
        """Change the named fields, all or none. Enabling lets the backlog drain at a bounded rate.

        ``values``: url, event_types, providers, description, headers, rate_limit, disabled. Headers are merged by name,
        with what is set at this moment; none at all take all away. Raises NotFound, Invalid.
        """
        self.get(account_id, subscriber_id)
        self._store.in_steps(lambda connection: self._change(connection, subscriber_id, values))
        self._bell.ring()
        return self.get(account_id, subscriber_id)

    def _change(self, connection: Connection, subscriber_id: str, values: Mapping[str, Any]) -> bool:
        """Change the named fields, or make a step towards it: a big backlog is spread before its subscriber is enabled.

        Whether they are changed.
        """
        before = subscribers.some(connection, [subscriber_id], held=True).get(subscriber_id)
        if before is None:
            raise NotFound("There is no such subscriber.")
        if values.get("headers"):
            present = self._opened_headers(before)
            if present is None:
                raise Invalid({"headers": [_LOST]})
            values = {**values, "headers": _merged(present, values["headers"])}
        errors = self._problems(values)
        if errors:
            raise Invalid(errors)
        enabled = before.disabled and values.get("disabled") is False
        if enabled and not backlog.spread(connection, subscriber_id, self._clock()):
            return False
        columns = self._columns(values, before)
        if columns:
            subscribers.change(connection, subscriber_id, columns)
        return True

    def delete(self, account_id: str, subscriber_id: str) -> None:
        """Remove a webhook; what was still to be delivered ends as dead, and stays listed."""
        self.get(account_id, subscriber_id)
        now = self._clock()
        with self._store.write() as connection:
            subscribers.change(connection, subscriber_id, {"deleted_at": now})

        def end_some(connection: Connection) -> bool:
            return not deliveries.end_pending(connection, subscriber_id, now, "subscriber_deleted")

        with suppress(Busy):  # it is deleted; what is left now, or when we are stopped, the sweep ends
            self._store.in_steps(end_some)

    def headers(self, subscriber: Subscriber) -> dict[str, str]:
        """The extra headers as set by the caller; none where no secret key opens them any more."""
        return self._opened_headers(subscriber) or {}

    def _opened_headers(self, subscriber: Subscriber) -> dict[str, str] | None:
        """The extra headers; None where no secret key opens them."""
        if subscriber.headers_sealed is None:
            return {}
        opened = self._sealer.opened(subscriber.headers_sealed, subscriber.id)
        return None if opened is None else json.loads(opened)

    def secrets(self, account_id: str, subscriber_id: str) -> tuple[Secret, ...]:
        """The live secrets, newest first. Raises SealBroken when no secret key opens them any more."""
        subscriber = self.get(account_id, subscriber_id)
        assert subscriber.secrets_sealed is not None  # only task-only subscribers have none
        return live(load_secrets(self._sealer.open(subscriber.secrets_sealed, subscriber.id)), self._clock())

    def rotate_secret(
        self, account_id: str, subscriber_id: str, overlap: int, secret: str | None
    ) -> tuple[Secret, ...]:
        """A new secret; the old ones sign for ``overlap`` seconds more. Raises Invalid for one of them, or too many.

        Old ones that no secret key opens any more cannot sign on: they end with an overlap of 0, else Invalid.
        """
        new = secret if secret is not None else new_secret()
        errors = self._problems({"secret": new})
        if errors:
            raise Invalid(errors)
        now = self._clock()
        self.get(account_id, subscriber_id)
        with self._store.write() as connection:
            subscriber = subscribers.some(connection, [subscriber_id], held=True).get(subscriber_id)
            if subscriber is None:
                raise NotFound("There is no such subscriber.")
            assert subscriber.secrets_sealed is not None  # only task-only subscribers have none
            opened = self._sealer.opened(subscriber.secrets_sealed, subscriber_id)
            try:
                rotated = rotate(None if opened is None else load_secrets(opened), new, now, overlap)
            except ValueError as error:
                field = "secret" if isinstance(error, SecretInUse) else "overlap"
                raise Invalid({field: [str(error)]}) from None
            sealed = self._sealer.seal(dump_secrets(rotated), subscriber_id)
            subscribers.change(connection, subscriber_id, {"secrets_sealed": sealed})
        return rotated

    def ping(self, account_id: str, subscriber_id: str) -> Delivery:
        """Send a ``subscriber.ping`` to this subscriber alone, whatever its event types.

        It goes before what waits, and no pause holds it back; a rate limit does: somebody wants to see the answer now.
        Raises NotFound, or Conflict when the subscriber is disabled: nobody would see an answer.
        """
        self.get(account_id, subscriber_id)
        now = self._clock()
        with self._store.write() as connection:
            subscriber = subscribers.some(connection, [subscriber_id], held=True).get(subscriber_id)
            if subscriber is None:
                raise NotFound("There is no such subscriber.")
            if subscriber.disabled:
                raise Conflict("The subscriber is disabled; enable it first, or the ping would only wait.")
            body = event_rules.ping_body(subscriber, now)
            due = backlog.head_of_line(connection, subscriber_id, now)
            (delivery,) = publish(connection, account_id, EventType.SUBSCRIBER_PING, body, [subscriber], now, due=due)
            subscribers.release(connection, subscriber, now)
        self._bell.ring()
        return delivery

    def replay(self, account_id: str, subscriber_id: str, since: int, until: int | None, status: str) -> int:
        """Make ended deliveries of a span of time (ms) pending again; ``status``: ``dead`` or ``all``. How many.

        Safe to repeat, should it or the draining be cut short, or its answer be lost: what is pending already is left
        alone, and so is what was sent again and delivered within the last REPLAYED_LATELY.
        """
        self.get(account_id, subscriber_id)
        now = self._clock()
        before = now + 1  # events that are written while this runs are not meant
        span = _span(since, before if until is None else min(until, before), status, now)
        revived, behind = 0, ""
        more = True
        while more:
            with self._store.read() as connection:
                ids = backlog.replayable(connection, subscriber_id, span, behind)
            with self._store.write() as connection:
                present = subscribers.some(connection, [subscriber_id], held=True)  # nobody claims its deliveries now
                if not present:
                    raise NotFound("The subscriber was deleted meanwhile.")
                revived += backlog.replay(connection, ids, span, now, place=revived)
            more = len(ids) == backlog.STEP
            behind = ids[-1] if ids else behind
        self._bell.ring()
        return revived

    def count_replay(self, account_id: str, subscriber_id: str, since: int, until: int | None, status: str) -> int:
        """How many deliveries ``replay`` would send again now; MOST_COUNTED stands for more. Raises NotFound."""
        self.get(account_id, subscriber_id)
        span = _span(since, until, status, self._clock())
        with self._store.read() as connection:
            return backlog.count_replayable(connection, subscriber_id, span, MOST_COUNTED)

    def waiting(self, account_id: str, subscriber_id: str) -> tuple[int, int]:
        """How many deliveries wait, and how many of these were sent again by hand and not yet attempted.

        MOST_COUNTED stands for more. Raises NotFound.
        """
        self.get(account_id, subscriber_id)
        with self._store.read() as connection:
            every = backlog.count_waiting(connection, subscriber_id, MOST_COUNTED)
            by_hand = backlog.count_waiting(connection, subscriber_id, MOST_COUNTED, Trigger.MANUAL) if every else 0
        return every, by_hand

    def retrying(self, account_id: str, subscriber_id: str) -> int:
        """How many of the deliveries that wait failed and are to be tried again; as ``waiting`` counts them."""
        self.get(account_id, subscriber_id)
        with self._store.read() as connection:
            return backlog.count_waiting(connection, subscriber_id, MOST_COUNTED, failed=True)

    def _columns(self, values: Mapping[str, Any], before: Subscriber) -> dict[str, Any]:
        """What is stored of the named fields. Who is enabled, or moves elsewhere, begins with a clean record."""
        columns: dict[str, Any] = {name: values[name] for name in ("url", "rate_limit") if name in values}
        if "description" in values:
            columns["description"] = values["description"] or ""
        if "event_types" in values:
            columns["event_types"] = json.dumps(list(values["event_types"]))
        if "providers" in values:
            columns["providers"] = None if values["providers"] is None else json.dumps(list(values["providers"]))
        if "headers" in values:
            columns["headers_sealed"] = self._seal_headers(values["headers"], before.id)
        if "disabled" in values:
            columns["disabled"] = values["disabled"]
            columns["disabled_reason"] = "by request" if values["disabled"] else None
        if values.get("disabled") is False or values.get("url", before.url) != before.url:
            columns.update(ready_at=0, failures=0, failing_since=None, resets=before.resets + 1, proven=False)
        return columns

    def _seal_headers(self, headers: Mapping[str, str] | None, subscriber_id: str) -> str | None:
        return self._sealer.seal(json.dumps(dict(headers)), subscriber_id) if headers else None

    def _problems(self, values: Mapping[str, Any]) -> dict[str, list[str]]:
        """What is wrong with the named fields, by field."""
        errors: dict[str, list[str]] = {}
        if "url" in values:
            try:
                check_url(values["url"], self._policy)
            except BadUrl as error:
                errors["url"] = [str(error)]
        if "secret" in values:
            try:
                check_secret(values["secret"])
            except ValueError as error:
                errors["secret"] = [str(error)]
        if "event_types" in values:
            wrong = [pattern for pattern in values["event_types"] if not event_rules.valid_pattern(pattern)]
            if wrong or not values["event_types"]:
                known = ", ".join(kind.value for kind in EventType)
                named = f"{', '.join(map(repr, wrong))} " if wrong else "An empty list "
                errors["event_types"] = [f"{named}matches no event type; known are {known}, and * or prefix.*."]
        if values.get("providers") is not None:
            unknown = [name for name in values["providers"] if name not in handlers.available()]
            if unknown:
                known = ", ".join(handlers.available())
                errors["providers"] = [f"{', '.join(map(repr, unknown))} is not a provider; known are {known}."]
        if values.get("headers"):
            found = _header_problems(values["headers"])
            if found:
                errors["headers"] = found
        return errors


def _span(since: int, until: int | None, status: str, now: int) -> Span:
    statuses = ["dead"] if status == "dead" else ["dead", "delivered"]
    return Span(since, until, statuses, now - REPLAYED_LATELY)


def _merged(present: Mapping[str, str], wanted: Mapping[str, str | None]) -> dict[str, str]:
    """Headers after a change: names are compared without case, None takes one away, ``***`` keeps its value."""
    found = {name.lower(): (name, text) for name, text in present.items()}
    if len({name.lower() for name in wanted}) < len(wanted):
        raise Invalid({"headers": ["Two names differ only in case."]})
    for name, text in wanted.items():
        _, before = found.pop(name.lower(), (name, HIDDEN))
        if text is not None:
            found[name.lower()] = (name, before if text == HIDDEN else text)
    return dict(found.values())


def _header_problems(headers: Mapping[str, str]) -> list[str]:
    problems: list[str] = []
    if len(headers) > MOST_HEADERS:
        problems.append(f"At most {MOST_HEADERS} headers.")
    lowered = [name.lower() for name in headers]
    if len(set(lowered)) < len(lowered):
        problems.append("Two names differ only in case.")
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            problems.append(f"{name!r} is not a header name.")
        elif name.lower() in _NOT_CHOSEN or name.lower().startswith(("content-", "webhook-")):
            problems.append(f"{name!r} is set by the service and cannot be chosen.")
        elif value == HIDDEN:
            problems.append(f"The value of {name!r} is {HIDDEN}, which only stands for a hidden one: send it itself.")
        elif not _HEADER_VALUE.fullmatch(value):
            problems.append(f"The value of {name!r} must be one line of at most 1000 printable characters.")
    return problems
