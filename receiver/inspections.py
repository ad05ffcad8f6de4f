"""Why does this webhook not verify? What somebody received, against what was sent to them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from receiver.errors import NotFound
from receiver.models import Event, id_pattern
from receiver.sealing import Sealer
from receiver.signing import live, load_secrets
from receiver.store import Connection, Store, accounts, deliveries, events, subscribers
from receiver.verifying import Report, Sent, Signer, examine, explain_computed, explain_secret

MOST_OTHERS = 200
"""Other subscribers whose secrets are tried."""
MOST_EVENTS = 5
"""Events of ours that what was received is compared with."""
MOST_STAMPS = 20
"""Deliveries of such an event that are looked at, and times of their attempts that are compared."""
_EVENT_ID = re.compile(id_pattern("evt"))
_TASK_ID = re.compile(id_pattern("task").encode())


@dataclass(frozen=True, slots=True)
class Received:
    """What somebody received, and what their code made of it. ``headers``: names in lower case.

    ``secret``, ``computed``: the secret their code uses and the signature it computed; empty when not told.
    """

    headers: Mapping[str, str]
    body: bytes
    secret: str = ""
    computed: str = ""


@dataclass(frozen=True, slots=True)
class Inspection:
    """The report, what is to say of the secret and the signature of their code (None: not told), and the event."""

    report: Report
    about_secret: str | None
    about_computed: str | None
    event: Event | None


class InspectionService:
    """Gathers what is known here, and compares. Nothing that is given is kept."""

    def __init__(self, store: Store, sealer: Sealer, clock: Callable[[], int]) -> None:
        """``clock``: ms since the epoch."""
        self._store = store
        self._sealer = sealer
        self._clock = clock

    def inspect(self, account_id: str, subscriber_id: str | None, received: Received) -> Inspection:
        """Examine a webhook that a subscriber got, or (None) the callback URL of a task. Raises NotFound."""
        now = self._clock()
        with self._store.read() as connection:
            signers = self._signers(connection, account_id, subscriber_id, now)
            known = _known(connection, account_id, received)
        report = examine(received.headers, received.body, signers, [sent for _, sent in known], now / 1000)
        keys = [signer.key for signer in signers if signer.chosen and signer.ended_at is None]
        webhook_id, stamp = (received.headers.get(f"webhook-{name}", "").strip() for name in ("id", "timestamp"))
        return Inspection(
            report=report,
            about_secret=explain_secret(received.secret, signers) if received.secret.strip() else None,
            about_computed=explain_computed(received.computed, keys, webhook_id, stamp, received.body)
            if received.computed.strip()
            else None,
            event=known[0][0] if known else None,
        )

    def _signers(self, connection: Connection, account_id: str, chosen: str | None, now: int) -> list[Signer]:
        """Every secret that may have signed, those of the chosen one first."""
        found = []
        sealed = accounts.secrets_sealed(connection, account_id)
        if sealed is not None:
            found += self._opened(
                sealed, account_id, "the account (for tasks' callback_url)", now, chosen=chosen is None
            )
        own = subscribers.of_account(connection, account_id)
        if chosen is not None and chosen not in [subscriber.id for subscriber in own]:
            raise NotFound("There is no such subscriber.")
        others = [subscriber for subscriber in own if subscriber.id != chosen][-MOST_OTHERS:]
        for subscriber in [*others, *(each for each in own if each.id == chosen)]:
            assert subscriber.secrets_sealed is not None  # only task-only subscribers have none
            is_chosen = subscriber.id == chosen
            found += self._opened(subscriber.secrets_sealed, subscriber.id, subscriber.url, now, chosen=is_chosen)
        return sorted(found, key=lambda signer: not signer.chosen)

    def _opened(self, sealed: str, owner_id: str, owner: str, now: int, *, chosen: bool) -> list[Signer]:
        opened = self._sealer.opened(sealed, owner_id)
        secrets = () if opened is None else load_secrets(opened)
        signing = live(secrets, now)
        return [
            Signer(secret.key, owner, chosen, None if secret in signing else secret.expires_at) for secret in secrets
        ]


def _known(connection: Connection, account_id: str, received: Received) -> Sequence[tuple[Event, Sent]]:
    """The events that may be meant: the one of this id, then those of the task that the body is about."""
    given = received.headers.get("webhook-id", "").strip()
    named = events.get(connection, given) if _EVENT_ID.fullmatch(given) else None
    task = _TASK_ID.search(received.body)
    about = [] if task is None else list(events.of_task(connection, task[0].decode(), MOST_EVENTS))
    kind = _type_of(received.body)
    about.sort(key=lambda event: event.type != kind)
    found = {event.id: event for event in [*([named] if named else []), *about] if event.account_id == account_id}
    return [(event, _sent(connection, event)) for event in list(found.values())[:MOST_EVENTS]]


def _sent(connection: Connection, event: Event) -> Sent:
    of_event = deliveries.of_event(connection, event.id, MOST_STAMPS)
    made = deliveries.attempts_of(connection, [delivery.id for delivery in of_event], 10 * MOST_STAMPS, bodies=False)
    stamps = sorted({attempt.started_at // 1000 for attempt in made}, reverse=True)[:MOST_STAMPS]
    return Sent(event.id, event.type, event.body.encode(), stamps)


def _type_of(body: bytes) -> str | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    kind = value.get("type") if isinstance(value, dict) else None
    return kind if isinstance(kind, str) else None
