"""The lane deliver: attempts by the hundred in one thread, their results and the next claims written together."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice

from receiver import logs, watching
from receiver.bell import DELIVER
from receiver.courier import Courier
from receiver.deliveries import Outcome, Unmade
from receiver.dialling import OutboundError, at_limit
from receiver.faultpoints import reached
from receiver.outbound import OutboundResult
from receiver.runtime import Runtime
from receiver.store.claiming import Claim
from receiver.store.settling import FEW
from receiver.worker.turn_lane import MOST_AT_ONCE, TurnLane

RESERVED = 4
"""One seat in so many is kept for subscribers that have nothing in flight: many that hang cannot take them all."""
TROUBLED = 2
"""One seat in so many at most is for subscribers whose last attempt failed, all of them together."""
PROVEN = 8
"""One seat in so many is for subscribers that have taken a delivery, and do not fail: however many that hang appear at
once, whoever is known to answer is served."""

TOLD_EVERY = 60.0
"""Seconds between two lines on attempts that cannot be made, at a limit of the machine."""

log = logs.get("worker")


class DeliverLane(TurnLane[Claim, Outcome | Unmade]):
    """Sends due deliveries to their subscribers. A seat is an attempt in flight, until its result is stored."""

    def __init__(self, runtime: Runtime, worker_id: str) -> None:
        """Seats from ``RECEIVER_DELIVERY_CONCURRENCY``. ``worker_id``: who claims."""
        super().__init__(DELIVER, runtime.settings.delivery_concurrency, runtime.clock)
        self._service = runtime.deliveries
        self._worker_id = worker_id
        self._courier = Courier("courier", runtime.policy)
        self._troubled = 0  # seats that failing subscribers have
        self._doubtful = 0  # and those together with them that have not taken a delivery yet
        self._told = float("-inf")
        self._bodies: dict[str, tuple[bytes, int]] = {}  # by event: its bytes, and how many attempts have them

    def turn(self, ended: Sequence[Outcome | Unmade], free: int) -> tuple[Sequence[Claim], int | None]:
        """The results of attempts, and the next ones. Raises Busy."""
        room = min(free, MOST_AT_ONCE)
        reserved = max(self.seats // RESERVED - (free - room), 0)  # what is left free now is kept as well
        troubled = max(self.seats // TROUBLED, 1) - self._troubled + _failing(outcome.claim for outcome in ended)
        doubtful = self.seats - self.seats // PROVEN - self._doubtful + _doubtful(one.claim for one in ended)
        turn = self._service.turn(
            ended, room, reserved=reserved, troubled=troubled, doubtful=doubtful, holder=self._worker_id
        )
        return turn.claims, turn.next_look

    def together(self, ended: Sequence[Outcome | Unmade]) -> int:
        """Few of those that disable their subscribers, of which all others of an account are told."""
        disabling = (
            place for place, one in enumerate(ended) if isinstance(one, Outcome) and self._service.disables(one)
        )
        return next(islice(disabling, FEW, None), len(ended))

    def first_due(self) -> int | None:
        """When the next delivery can be attempted."""
        return self._service.next_look()

    def begin(self, claimed: Sequence[Claim]) -> None:
        """Send them; the courier carries them all at once."""
        for claim in claimed:
            reached("deliver.claimed")
            started = self.clock()
            try:
                self._courier.send(self._service.request_of(claim), partial(self._end, claim, started))
            except Exception as problem:  # noqa: BLE001  it is an attempt that failed, as any other
                self._end(claim, started, None, problem)

    def close(self) -> None:
        """Hang up on all subscribers."""
        self._courier.close()

    def stored(self, ended: Sequence[Outcome | Unmade]) -> None:
        """Log and count attempts."""
        reached("deliver.stored")
        for outcome in ended:
            if isinstance(outcome, Outcome):
                _tell(outcome)

    def _heard(self) -> None:
        self._due, self._known = self.clock(), True  # no need to ask: the bell rings when something is due

    def _take_turn(self, ended: Sequence[Outcome | Unmade], free: int) -> Sequence[Claim]:
        claimed = [self._sharing(claim) for claim in super()._take_turn(ended, free)]
        for outcome in ended:
            body, others = self._bodies.pop(outcome.claim.delivery.event_id)
            if others > 1:
                self._bodies[outcome.claim.delivery.event_id] = body, others - 1
        self._troubled += _failing(claimed) - _failing(outcome.claim for outcome in ended)
        self._doubtful += _doubtful(claimed) - _doubtful(outcome.claim for outcome in ended)
        return claimed

    def _sharing(self, claim: Claim) -> Claim:
        """The claim with the bytes that other attempts have of the same event: a large one is in the memory once."""
        body, others = self._bodies.get(claim.delivery.event_id, (claim.body, 0))
        self._bodies[claim.delivery.event_id] = body, others + 1
        return claim if body is claim.body else replace(claim, body=body)

    def _end(self, claim: Claim, started: int, result: OutboundResult | None, problem: BaseException | None) -> None:
        """An attempt is over; called in the courier's thread."""
        if result is None and at_limit(problem):
            self._leave_unmade(claim, problem)
            return
        if result is None:
            log.error("an attempt could not be made", delivery=claim.delivery.id, exc_info=problem)
            message = "The attempt could not be made; the service's log says why."
            result = OutboundResult(None, {}, "", OutboundError.INVALID_REQUEST, message, 0)
        reached("deliver.answered")
        self._ended.append(Outcome(claim, started, result))
        self._wake.set()

    def _leave_unmade(self, claim: Claim, problem: BaseException | None) -> None:
        """Have a delivery wait: the limit is ours, and no failure of its subscriber."""
        if time.monotonic() >= self._told + TOLD_EVERY:
            self._told = time.monotonic()
            log.error("too few files, ports or threads for attempts: deliveries wait", why=str(problem))
        self._ended.append(Unmade(claim))
        self._wake.set()


def _failing(claims: Iterable[Claim]) -> int:
    """How many are for subscribers whose last attempt failed."""
    return sum(claim.subscriber.failures > 0 for claim in claims)


def _doubtful(claims: Iterable[Claim]) -> int:
    """How many are for subscribers of which nobody knows that they answer."""
    return sum(claim.subscriber.doubtful for claim in claims)


def _tell(outcome: Outcome) -> None:
    delivery, result = outcome.claim.delivery, outcome.result
    watching.attempt_made(
        delivery.id,
        delivery.event_id,
        delivery.task_id,
        delivery.subscriber_id,
        delivery.attempts + 1,
        created=delivery.created_at,
        began=outcome.started_at,
        duration_ms=result.duration_ms,
        status=result.status,
        error=result.error,
    )
