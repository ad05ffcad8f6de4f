"""Deliveries: claimed fairly, signed, judged; listed, retried by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from random import random
from typing import Any

from handlers import record
from receiver import __version__, lifecycle, metrics, schedule, tracing, watching
from receiver import events as event_rules
from receiver.bell import DELIVER, Bell
from receiver.blanking import blanked, secrets_in
from receiver.errors import Conflict, NotFound
from receiver.lifecycle import Judgement, Result
from receiver.models import Attempt, Delivery, DeliveryStatus, EventType, Page, Subscriber, Trigger, new_id
from receiver.outbound import OutboundRequest, OutboundResult
from receiver.sealing import Sealer
from receiver.signing import live, load_secrets, signature_header
from receiver.store import Connection, Store, attempts, backlog, claiming, deliveries, subscribers, tasks
from receiver.store.claiming import Claim
from receiver.store.database import after_commit
from receiver.store.deliveries import Filter
from receiver.store.settling import publish


@record
class Outcome:
    """What came of one attempt. ``started_at``: ms since the epoch."""

    claim: Claim
    started_at: int
    result: OutboundResult


@record
class Unmade:
    """An attempt that was not made, at a limit of this machine: it is no attempt, and its delivery waits for one."""

    claim: Claim


@record
class Turn:
    """What a turn gave. ``next_look``: when (ms) the next delivery can be attempted (None: none is waiting)."""

    claims: Sequence[Claim]
    next_look: int | None


MOST_ATTEMPTS = 100
"""Of one delivery, when it is shown: retries by hand may have made thousands, each with an answer of 16 KiB."""

_OPENED = 1024
"""How many sealed texts are kept opened: about as many as there are subscribers that get something."""


class DeliveryService:
    """What the deliver lane and callers do with deliveries. Its transactions begin here."""

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
        self._bell = bell
        self._clock = clock
        self._plan = retry_schedule
        self._timeout = timeout
        self._lease = round(lease * 1000)
        self._per_subscriber = per_subscriber
        self._disable_after = disable_after
        # By the sealed text itself, which is read anew with every claim: a change takes effect at once.
        self._secrets = lru_cache(_OPENED)(lambda sealed, owner: load_secrets(sealer.open(sealed, owner)))
        self._headers = lru_cache(_OPENED)(partial(_open_headers, sealer))

    # What the deliver lane does ------------------------------------------------------------------

    def next_look(self) -> int | None:
        """When (ms) the next delivery can be attempted; None when none is waiting."""
        with self._store.read() as connection:
            return claiming.next_due(connection, self._clock(), self._per_subscriber)

    def turn(
        self,
        ended: Sequence[Outcome | Unmade],
        room: int,
        *,
        reserved: int = 0,
        troubled: int | None = None,
        doubtful: int | None = None,
        holder: str | None = None,
    ) -> Turn:
        """Write what came of some attempts and claim up to ``room`` due ones, all in one transaction.

        ``reserved``, ``troubled``, ``doubtful``: as for ``claiming.claim``, which is fair between subscribers.
        ``holder``: the worker that claims; when it is found dead, ``SweepService.bury`` gives back what it held.

        ``next_look`` is asked for when there was room for more than was claimed; else more may be due now.
        """
        discreet = [self._discreet(one) for one in ended if isinstance(one, Outcome)]
        unmade = [one.claim.delivery for one in ended if isinstance(one, Unmade)]
        with self._store.write(flushed=bool(discreet)) as connection:
            now = self._clock()  # once it is our turn: the lease is for the attempt, not for the wait before it
            if ended:
                self._finish(connection, discreet, unmade, now)
            if room <= 0:
                return Turn((), now)
            claimed = claiming.claim(
                connection,
                now,
                now + self._lease,
                room,
                self._per_subscriber,
                reserved=reserved,
                troubled=troubled,
                doubtful=doubtful,
                holder=holder,
            )
            if len(claimed) == room:
                return Turn(claimed, now)
            return Turn(claimed, claiming.next_due(connection, now, self._per_subscriber))

    def disables(self, outcome: Outcome) -> bool:
        """Whether an outcome disables a registered subscriber, as far as its claim tells."""
        subscriber = outcome.claim.subscriber
        judgement = self._judge(outcome, subscriber, self._clock(), counts=True)
        return judgement.disable is not None and not subscriber.task_only

    def request_of(self, claim: Claim) -> OutboundRequest:
        """The stored bytes of the event, signed for this attempt with every live secret."""
        now = self._clock()
        body, subscriber, event_id = claim.body, claim.subscriber, claim.delivery.event_id
        keys = [secret.key for secret in live(self._secrets(claim.secrets_sealed, claim.secrets_owner), now)]
        headers = {
            **self._headers(subscriber.headers_sealed, subscriber.id)[0],
            "content-type": "application/json",
            "user-agent": f"receiver/{__version__}",
            "webhook-id": event_id,
            "webhook-timestamp": str(now // 1000),
            "webhook-signature": signature_header(keys, event_id, now // 1000, body),
        }
        part = watching.attempt_part(claim.delivery.id, claim.delivery.attempts + 1)
        trace = tracing.traceparent(claim.delivery.task_id or event_id, part)
        if trace is not None:
            headers["traceparent"] = trace
        return OutboundRequest("POST", subscriber.url, headers, body, self._timeout, owner=subscriber.id)

    def _discreet(self, outcome: Outcome) -> Outcome:
        """The outcome with the subscriber's secret headers blanked out, in case it answers with what it was sent."""
        result, subscriber = outcome.result, outcome.claim.subscriber
        if result.status is None:
            return outcome  # nothing came back; perhaps no request could be made, since no key opens the headers
        secrets = self._headers(subscriber.headers_sealed, subscriber.id)[1]
        if not secrets:
            return outcome
        headers = {name: blanked(value, secrets, cut=True) for name, value in result.headers.items()}
        shown = replace(result, headers=headers, body=blanked(result.body, secrets, cut=True))
        return replace(outcome, result=shown)

    def _finish(
        self, connection: Connection, outcomes: Sequence[Outcome], unmade: Sequence[Delivery], now: int
    ) -> None:
        # Subscribers before their deliveries, as everybody takes them: so no two transactions wait for each other.
        records = self._records_for(connection, outcomes)
        held = attempts.still_held(connection, [*(outcome.claim.delivery for outcome in outcomes), *unmade])
        for delivery in unmade:
            if (delivery.id, delivery.fence) in held:
                attempts.give_back(connection, delivery.id, now + schedule.limit_pause(random()))
        ours = [one for one in outcomes if (one.claim.delivery.id, one.claim.delivery.fence) in held]
        before = dict(records)
        results = []
        for outcome in ours:
            record = records.get(outcome.claim.delivery.subscriber_id)
            if record is not None and record.resets != outcome.claim.subscriber.resets:
                record = None  # enabled or moved meanwhile: what it tells is about the time, or the address, before
            # Those that were under way when the circuit opened tell nothing new: only a probe opens it further.
            probe = outcome.claim.subscriber.failures >= schedule.CIRCUIT_AFTER
            counts = record is None or record.failures < schedule.CIRCUIT_AFTER or probe
            judgement = self._judge(outcome, record, now, counts=counts)
            trigger = held[outcome.claim.delivery.id, outcome.claim.delivery.fence]
            results.append(_written(outcome, judgement, now, trigger))
            if record is not None:
                began = outcome.started_at
                records[record.id] = self._after(connection, record, judgement, now, began=began, counts=counts)
        attempts.finish(connection, results)
        for _, values in results:
            if values["status"] is not DeliveryStatus.PENDING:
                tell = partial(metrics.observe_delivery_ended, values["status"], values["reason"])
                after_commit(connection, tell)
        subscribers.note_health(connection, [each for key, each in records.items() if each != before[key]])

    def _records_for(self, connection: Connection, outcomes: Sequence[Outcome]) -> dict[str, Subscriber]:
        """The subscribers' records of failures; those that may change now are held, so that no change is lost."""
        records = subscribers.some(connection, {outcome.claim.delivery.subscriber_id for outcome in outcomes})
        failed = {one.claim.delivery.subscriber_id for one in outcomes if not lifecycle.is_success(_result(one, 0))}
        shaky = failed | {one.id for one in records.values() if one.failing_since is not None or not one.proven}
        return {**records, **subscribers.some(connection, shaky, held=True)} if shaky else records

    def _judge(self, outcome: Outcome, record: Subscriber | None, now: int, *, counts: bool) -> Judgement:
        failures, since = (0, None) if record is None else (record.failures, record.failing_since)
        delivery, result = outcome.claim.delivery, _result(outcome, now)
        if lifecycle.is_success(result):
            return lifecycle.DELIVERED
        if record is None:  # whoever answered, no 410 and no Retry-After of theirs is the subscriber's
            result = replace(result, status=None)
        return lifecycle.judge_attempt(
            replace(delivery, attempts=delivery.attempts + 1),
            result,
            self._plan,
            failures=failures if counts else failures - 1,
            failing_since=since,
            disable_after=self._disable_after,
            now=now,
            chance=random(),
        )

    def _after(
        self, connection: Connection, record: Subscriber, judgement: Judgement, now: int, *, began: int, counts: bool
    ) -> Subscriber:
        """The subscriber's record after an attempt, which began at a time (ms)."""
        if judgement.healthy:
            known = record.failing_since is None and record.proven
            return record if known else replace(record, failures=0, failing_since=None, proven=True)
        after = replace(
            record,
            failures=record.failures + (1 if counts else 0),
            failing_since=now if record.failing_since is None else record.failing_since,
            ready_at=max(record.ready_at, judgement.hold_until or 0),
        )
        if judgement.disable is None or record.disabled:
            return after
        if record.task_only and tasks.named_since(connection, record.account_id, record.url, began):
            return after  # else that task, too, would have to wait for the next one that names it
        self._disable(connection, record, judgement.disable, now)
        return replace(after, disabled=True, disabled_reason=judgement.disable)

    def _disable(self, connection: Connection, subscriber: Subscriber, reason: str, now: int) -> None:
        subscribers.change(connection, subscriber.id, {"disabled": True, "disabled_reason": reason})
        if subscriber.task_only:
            return
        others = [
            other
            for other in subscribers.of_account(connection, subscriber.account_id)
            if other.id != subscriber.id and event_rules.wants(other, EventType.SUBSCRIBER_DISABLED, None)
        ]
        body = event_rules.disabled_body(subscriber, reason, now)
        publish(connection, subscriber.account_id, EventType.SUBSCRIBER_DISABLED, body, others, now)

    # What callers do -----------------------------------------------------------------------------

    def get(self, account_id: str, delivery_id: str) -> tuple[Delivery, Sequence[Attempt]]:
        """A delivery with its newest MOST_ATTEMPTS attempts. Raises NotFound."""
        with self._store.read() as connection:
            delivery = _own(connection, account_id, delivery_id)
            return delivery, deliveries.attempts_of(connection, [delivery_id], MOST_ATTEMPTS)

    def list_page(self, account_id: str, wanted: Filter, limit: int, cursor: str | None) -> Page[Delivery]:
        """An account's deliveries, newest first."""
        with self._store.read() as connection:
            return deliveries.list_page(connection, account_id, wanted, limit, cursor)

    def retry(self, account_id: str, delivery_id: str) -> Delivery:
        """Make an attempt now. A pending one is brought forward and its schedule goes on; an ended one starts anew.

        If the schedule's attempt is under way, the next one follows as soon as it has failed, also when it was the
        last; one by hand is the one.
        An open circuit, a pause that the subscriber asked for, or a backlog does not hold it back; a rate limit does.
        Raises NotFound, or Conflict when the subscriber is disabled or deleted.
        """
        with self._store.read() as connection:
            named = _own(connection, account_id, delivery_id)
        if named.task_only:
            # Apart from the retry: the backlog is taken in the order of ids, and no delivery may be held before.
            self._store.in_steps(lambda connection: backlog.reopen(connection, named.subscriber_id, self._clock()))
        now = self._clock()
        with self._store.write() as connection:
            subscriber = subscribers.some(connection, [named.subscriber_id], held=True).get(named.subscriber_id)
            delivery = deliveries.hold(connection, delivery_id)
            if delivery is None:
                raise NotFound("There is no such delivery.")
            if subscriber is None:
                raise Conflict("The subscriber of this delivery was deleted.")
            if subscriber.disabled:
                raise Conflict("The subscriber is disabled; enable it first, and its backlog will drain.")
            due = backlog.head_of_line(connection, subscriber.id, now)
            if delivery.status is DeliveryStatus.PENDING:
                backlog.bring_forward(connection, delivery_id, now, due)
            else:
                backlog.revive(connection, [delivery_id], due, Trigger.MANUAL)
            subscribers.release(connection, subscriber, now)
        self._bell.ring(DELIVER)
        with self._store.read() as connection:
            return _own(connection, account_id, delivery_id)


def _own(connection: Connection, account_id: str, delivery_id: str) -> Delivery:
    """An account's delivery. Raises NotFound."""
    delivery = deliveries.get(connection, delivery_id)
    if delivery is None or delivery.account_id != account_id:
        raise NotFound("There is no such delivery.")
    return delivery


def _open_headers(sealer: Sealer, sealed: str | None, owner: str) -> tuple[Mapping[str, str], Sequence[str]]:
    """A subscriber's own headers, and what of them must not be shown."""
    opened: dict[str, str] = {} if sealed is None else json.loads(sealer.open(sealed, owner))
    return opened, secrets_in(opened)


def _result(outcome: Outcome, now: int) -> Result:
    result = outcome.result
    return Result(result.status, result.error, schedule.retry_after(result.headers.get("retry-after"), now))


def _written(outcome: Outcome, judgement: Judgement, now: int, trigger: Trigger) -> tuple[Attempt, Mapping[str, Any]]:
    """The attempt, and what it makes of its delivery.

    ``trigger``: the delivery's now; another than the claim's when a retry was asked for meanwhile, which comes next,
    also when the schedule is used up by then: whoever asked was told so.
    """
    delivery, result = outcome.claim.delivery, outcome.result
    wanted = trigger is not delivery.trigger and not judgement.healthy and judgement.reason != "gone"
    status = DeliveryStatus.PENDING if wanted else judgement.status
    attempt = Attempt(
        id=new_id("att", outcome.started_at),
        delivery_id=delivery.id,
        number=delivery.attempts + 1,
        trigger=delivery.trigger,
        started_at=outcome.started_at,
        duration_ms=result.duration_ms,
        response_status=result.status,
        response_headers=result.headers,
        response_body=result.body,
        error=result.error if result.error is not None else None if judgement.healthy else "http_status",
        message=_explain(result),
    )
    return attempt, {
        "status": status,
        "due_at": now if wanted else judgement.due_at,
        "attempts": attempt.number,
        "trigger": Trigger.MANUAL if wanted else Trigger.SCHEDULE,
        "finished_at": None if status is DeliveryStatus.PENDING else now,
        "reason": None if wanted else judgement.reason,
    }


def _explain(result: OutboundResult) -> str:
    """The attempt in one sentence, with a hint where a frequent mistake has one."""
    if result.error is None and result.status is not None and 300 <= result.status < 400:
        return f"{result.message} Redirects are not followed: register the final address."
    return result.message
