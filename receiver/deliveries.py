"""Deliveries: claimed fairly, signed, judged; listed, retried by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import random

from receiver import __version__, lifecycle, schedule
from receiver import events as event_rules
from receiver.bell import Bell
from receiver.blanking import blanked, secrets_in
from receiver.errors import Conflict, NotFound
from receiver.lifecycle import Judgement, Result
from receiver.models import (
    Attempt,
    Delivery,
    DeliveryStatus,
    Event,
    EventType,
    Page,
    Subscriber,
    Trigger,
    new_id,
)
from receiver.outbound import OutboundRequest, OutboundResult
from receiver.sealing import Sealer
from receiver.signing import live, load_secrets, signature_header
from receiver.store import Connection, Store, accounts, backlog, deliveries, events, subscribers
from receiver.store.backlog import DRAIN_STEP
from receiver.store.deliveries import Claim, Filter
from receiver.store.settling import publish


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one attempt. ``started_at``: ms since the epoch."""

    claim: Claim
    started_at: int
    result: OutboundResult


class DeliveryService:
    """The delivery service; its transactions begin here."""

    def __init__(
        self,
        store: Store,
        sealer: Sealer,
        bell: Bell,
        clock: Callable[[], int],
        *,
        retry_schedule: Sequence[float],
        timeout: float,
        lease: float,
        per_subscriber: int,
        disable_after: float,
    ) -> None:
        """Times in seconds; ``clock``: ms since the epoch. ``per_subscriber``: attempts in flight for each."""
        self._store = store
        self._sealer = sealer
        self._bell = bell
        self._clock = clock
        self._plan = retry_schedule
        self._timeout = timeout
        self._lease = round(lease * 1000)
        self._per_subscriber = per_subscriber
        self._disable_after = disable_after

    # What the deliver lane does ------------------------------------------------------------------

    def claim(self, room: int, *, reserved: int = 0, troubled: int | None = None) -> Sequence[Claim]:
        """Take up to ``room`` due deliveries, fairly between subscribers.

        ``reserved``: of these, what is kept for subscribers with nothing in flight. ``troubled``: how many may
        be for subscribers whose last attempt failed (None: all).
        """
        now = self._clock()
        with self._store.read() as connection:  # a look that finds nothing must not take the writer's turn
            due = deliveries.next_due(connection, now, self._per_subscriber)
        if due is None or due > now:
            return ()
        with self._store.write() as connection:
            now = self._clock()  # once it is our turn: the lease is for the attempt, not for the wait before it
            return deliveries.claim(
                connection, now, now + self._lease, room, self._per_subscriber, reserved=reserved, troubled=troubled
            )

    def next_look(self) -> int | None:
        """When (ms) the next delivery can be attempted; None when none is waiting."""
        with self._store.read() as connection:
            return deliveries.next_due(connection, self._clock(), self._per_subscriber)

    def request_of(self, claim: Claim) -> OutboundRequest:
        """The stored bytes of the event, signed for this attempt with every live secret."""
        now = self._clock()
        body = claim.body.encode()
        subscriber = claim.subscriber
        headers = {
            **self._extra_headers(subscriber),
            "content-type": "application/json",
            "user-agent": f"receiver/{__version__}",
            "webhook-id": claim.delivery.event_id,
            "webhook-timestamp": str(now // 1000),
            "webhook-signature": signature_header(
                self._keys(subscriber, now), claim.delivery.event_id, now // 1000, body
            ),
        }
        return OutboundRequest("POST", subscriber.url, headers, body, self._timeout)

    def _keys(self, subscriber: Subscriber, now: int) -> list[str]:
        sealed, owner = subscriber.secrets_sealed, subscriber.id
        if sealed is None:  # behind a task's callback URL: the account signs
            owner = subscriber.account_id
            with self._store.read() as connection:
                sealed = accounts.secrets_sealed(connection, owner)
            assert sealed is not None  # an account is never deleted
        return [secret.key for secret in live(load_secrets(self._sealer.open(sealed, owner)), now)]

    def _extra_headers(self, subscriber: Subscriber) -> dict[str, str]:
        if subscriber.headers_sealed is None:
            return {}
        opened: dict[str, str] = json.loads(self._sealer.open(subscriber.headers_sealed, subscriber.id))
        return opened

    def finish(self, outcomes: Sequence[Outcome]) -> None:
        """Write what came of some attempts, all in one transaction."""
        now = self._clock()
        discreet = [replace(outcome, result=self._discreet(outcome)) for outcome in outcomes]
        with self._store.write() as connection:
            for outcome in discreet:
                self._finish(connection, outcome, now)

    def _discreet(self, outcome: Outcome) -> OutboundResult:
        """The result without the subscriber's secret headers, should it answer with what it was sent."""
        result = outcome.result
        if not result.body and not result.headers:
            return result
        secrets = secrets_in(self._extra_headers(outcome.claim.subscriber))
        headers = {name: blanked(value, secrets, cut=True) for name, value in result.headers.items()}
        return replace(result, headers=headers, body=blanked(result.body, secrets, cut=True))

    def _finish(self, connection: Connection, outcome: Outcome, now: int) -> None:
        claimed = outcome.claim.delivery
        delivery = deliveries.get(connection, claimed.id)
        if delivery is None or delivery.fence != claimed.fence:
            return  # another worker has the lease now, or the subscriber was deleted meanwhile
        subscriber = subscribers.get(connection, delivery.subscriber_id)
        failures, since = (subscriber.failures, subscriber.failing_since) if subscriber else (0, None)
        # Those that were under way when the circuit opened tell nothing new: they must not open it further.
        counts = failures < schedule.CIRCUIT_AFTER or subscriber is None or subscriber.ready_at <= now
        result = outcome.result
        number = delivery.attempts + 1
        judgement = lifecycle.judge_attempt(
            replace(delivery, attempts=number),
            Result(result.status, result.error, schedule.retry_after(result.headers.get("retry-after"), now)),
            self._plan,
            failures=failures if counts else failures - 1,
            failing_since=since,
            disable_after=self._disable_after,
            now=now,
            chance=random(),
        )
        attempt = Attempt(
            id=new_id("att", outcome.started_at),
            delivery_id=delivery.id,
            number=number,
            trigger=delivery.trigger,
            started_at=outcome.started_at,
            duration_ms=result.duration_ms,
            response_status=result.status,
            response_headers=result.headers,
            response_body=result.body,
            error=result.error if result.error is not None else None if judgement.healthy else "http_status",
            message=_explain(result),
        )
        values = {
            "status": judgement.status,
            "due_at": judgement.due_at,
            "attempts": number,
            "trigger": Trigger.SCHEDULE,
            "finished_at": None if judgement.status is DeliveryStatus.PENDING else now,
            "reason": judgement.reason,
        }
        if deliveries.finish(connection, delivery.id, delivery.fence, values, attempt) and subscriber is not None:
            self._note_health(connection, subscriber, judgement, now, counts=counts)

    def _note_health(
        self, connection: Connection, subscriber: Subscriber, judgement: Judgement, now: int, *, counts: bool
    ) -> None:
        if judgement.healthy:
            subscribers.note_success(connection, subscriber.id)
            return
        subscribers.note_failure(connection, subscriber.id, now, judgement.hold_until, counts=counts)
        if judgement.disable is None or subscriber.disabled:
            return
        subscribers.change(connection, subscriber.id, {"disabled": True, "disabled_reason": judgement.disable})
        if subscriber.task_only:
            return
        others = [
            other
            for other in subscribers.of_account(connection, subscriber.account_id)
            if other.id != subscriber.id and event_rules.wants(other, EventType.SUBSCRIBER_DISABLED, None)
        ]
        body = event_rules.disabled_body(subscriber, judgement.disable, now)
        publish(connection, subscriber.account_id, EventType.SUBSCRIBER_DISABLED, body, others, now)

    # What callers do -----------------------------------------------------------------------------

    def get(self, account_id: str, delivery_id: str) -> tuple[Delivery, Sequence[Attempt]]:
        """A delivery with its attempts. Raises NotFound."""
        with self._store.read() as connection:
            delivery = deliveries.get(connection, delivery_id)
            if delivery is None or delivery.account_id != account_id:
                raise NotFound("There is no such delivery.")
            return delivery, deliveries.attempts_of(connection, [delivery_id])

    def list_page(self, account_id: str, wanted: Filter, limit: int, cursor: str | None) -> Page[Delivery]:
        """An account's deliveries, newest first."""
        with self._store.read() as connection:
            return deliveries.list_page(connection, account_id, wanted, limit, cursor)

    def retry(self, account_id: str, delivery_id: str) -> Delivery:
        """Make an attempt now. A pending one is brought forward and its schedule goes on; an ended one starts anew.

        An open circuit or a pause that the subscriber asked for does not hold it back.
        Raises NotFound, or Conflict when the subscriber is disabled or deleted.
        """
        now = self._clock()
        self.get(account_id, delivery_id)
        with self._store.write() as connection:
            delivery = deliveries.get(connection, delivery_id)
            if delivery is None:
                raise NotFound("There is no such delivery.")
            subscriber = subscribers.get(connection, delivery.subscriber_id)
            if subscriber is None:
                raise Conflict("The subscriber of this delivery was deleted.")
            if subscriber.disabled and subscriber.task_only:  # nobody else could enable it
                subscribers.enable(connection, subscriber.id)
                backlog.spread(connection, subscriber.id, now, DRAIN_STEP)
            elif subscriber.disabled:
                raise Conflict("The subscriber is disabled; enable it first, and its backlog will drain.")
            if delivery.status is DeliveryStatus.PENDING:
                backlog.bring_forward(connection, delivery_id, now)
            else:
                backlog.revive(connection, [delivery_id], now, Trigger.MANUAL)
            subscribers.release(connection, subscriber.id)
        self._bell.ring()
        return self.get(account_id, delivery_id)[0]

    def get_event(self, account_id: str, event_id: str) -> Event:
        """An event. Raises NotFound."""
        with self._store.read() as connection:
            event = events.get(connection, event_id)
        if event is None or event.account_id != account_id:
            raise NotFound("There is no such event.")
        return event

    def list_events(self, account_id: str, types: Sequence[str], limit: int, cursor: str | None) -> Page[Event]:
        """An account's events, newest first."""
        with self._store.read() as connection:
            return events.list_page(connection, account_id, types, limit, cursor)

    def place_of(self, account_id: str, event_id: str | None) -> int:
        """The place of an event in the order; 0 for None.

        An event that is not there (any more: retention) counts by the time in its id, so that a reader
        who comes back after a long silence goes on where it stopped.
        """
        if event_id is None:
            return 0
        with self._store.read() as connection:
            event = events.get(connection, event_id)
            if event is not None and event.account_id == account_id:
                return event.seq
            return events.seq_before(connection, account_id, event_id)

    def last_event(self, account_id: str) -> Event | None:
        """An account's newest event in the order, or None."""
        with self._store.read() as connection:
            newest = events.after(connection, account_id, events.last_seq(connection, account_id) - 1, 1)
        return newest[0] if newest else None

    def events_behind(self, account_id: str, seq: int, types: Sequence[str], limit: int) -> Sequence[Event]:
        """An account's events behind a place in the order, oldest first."""
        with self._store.read() as connection:
            return events.after(connection, account_id, seq, limit, types)


def _explain(result: OutboundResult) -> str:
    """The attempt in one sentence, with a hint where a frequent mistake has one."""
    if result.error is None and result.status is not None and 300 <= result.status < 400:
        return f"{result.message} Redirects are not followed: register the final address."
    return result.message
