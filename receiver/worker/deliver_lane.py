"""The lane deliver: attempts by the hundred in one thread, their results and the next claims written together."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from functools import partial

from receiver import logs, watching
from receiver.bell import DELIVER
from receiver.courier import Courier
from receiver.deliveries import Outcome
from receiver.dialling import OutboundError
from receiver.errors import Busy
from receiver.faultpoints import reached
from receiver.outbound import OutboundResult
from receiver.runtime import Runtime
from receiver.store.claiming import Claim
from receiver.worker.lane import Rounds

MOST_AT_ONCE = 100
"""Results that are written, and deliveries that are claimed, in one transaction: others write, too."""
GATHERING = 0.001
"""Seconds that results wait for those of other attempts in flight, to be written together."""
RESERVED = 4
"""One seat in so many is kept for subscribers that have nothing in flight: many that hang cannot take them all."""
TROUBLED = 2
"""One seat in so many at most is for subscribers whose last attempt failed, all of them together."""

log = logs.get("worker")


class DeliverLane(Rounds):
    """Sends due deliveries to their subscribers. A seat is an attempt in flight, until its result is stored."""

    def __init__(self, runtime: Runtime, worker_id: str) -> None:
        """Seats from ``RECEIVER_DELIVERY_CONCURRENCY``. ``worker_id``: who claims."""
        super().__init__(DELIVER, runtime.settings.delivery_concurrency, runtime.clock)
        self._service = runtime.deliveries
        self._worker_id = worker_id
        self._courier = Courier("courier", runtime.policy)
        self._troubled = 0  # seats that failing subscribers have
        self._ended: deque[Outcome] = deque()  # the courier adds, this lane's thread takes
        self._due: int | None = None
        self._known = False  # whether that is from now
        self._rung = False

    def wake(self) -> None:
        """The bell has rung: something has become due."""
        self._rung = True
        super().wake()

    def make_round(self) -> bool:
        """Store what has ended and send what is due."""
        if self._taken > len(self._ended) > 0:
            time.sleep(GATHERING)
        outcomes = [self._ended.popleft() for _ in range(min(len(self._ended), MOST_AT_ONCE))]
        free = 0 if self._stopping.is_set() else self.seats - self._taken + len(outcomes)
        if self._rung:
            self._rung, self._due, self._known = False, self.clock(), True
        if not outcomes and not (free and self._something_is_due()):
            return False
        claims = self._take_turn(outcomes, free)
        for outcome in outcomes:
            self._give_up_seat(outcome.claim)
        for claim in claims:
            self._send(claim)
        return bool(outcomes or claims)

    def next_look(self) -> int | None:
        """When the next delivery can be attempted, as far as the last look could tell."""
        return self._due

    def _over(self) -> bool:
        return self._stopping.is_set() and self._taken == 0

    def _run(self) -> None:
        try:
            super()._run()
        finally:
            self._courier.close()

    def _something_is_due(self) -> bool:
        """By the bell, or by the turn just taken; else the database is asked."""
        if not self._known:
            self._due = self._service.next_look()
        self._known = False
        return self._due is not None and self._due <= self.clock()

    def _take_turn(self, outcomes: Sequence[Outcome], free: int) -> Sequence[Claim]:
        """One transaction. ``free``: seats. Raises Busy; then the outcomes are there for the next round."""
        room = min(free, MOST_AT_ONCE)
        reserved = max(self.seats // RESERVED - (free - room), 0)  # what is left free now is kept as well
        freed = sum(outcome.claim.subscriber.failures > 0 for outcome in outcomes)
        troubled = max(self.seats // TROUBLED, 1) - self._troubled + freed
        try:
            turn = self._service.turn(outcomes, room, reserved=reserved, troubled=troubled, holder=self._worker_id)
        except Busy:
            self._ended.extendleft(reversed(outcomes))
            raise
        except Exception:
            if not outcomes:
                raise
            self._store_one_by_one(outcomes)
            return ()
        if outcomes:
            reached("deliver.stored")
            for outcome in outcomes:
                _tell(outcome)
        self._due, self._known = turn.next_due, True
        return turn.claims

    def _store_one_by_one(self, outcomes: Sequence[Outcome]) -> None:
        """What is wrong with one must not make the others be sent again."""
        for outcome in outcomes:
            try:
                self._service.turn([outcome], 0)
            except Exception:
                log.exception("the result of an attempt could not be stored; its lease hands the delivery over")
            else:
                _tell(outcome)

    def _send(self, claim: Claim) -> None:
        self._taken += 1
        self._troubled += claim.subscriber.failures > 0
        reached("deliver.claimed")
        started = self.clock()
        try:
            request = self._service.request_of(claim)
        except Exception as problem:  # noqa: BLE001  it is an attempt that failed, as any other
            self._end(claim, started, None, problem)
        else:
            self._courier.send(request, partial(self._end, claim, started))

    def _end(self, claim: Claim, started: int, result: OutboundResult | None, problem: BaseException | None) -> None:
        """An attempt is over; called in the courier's thread."""
        if result is None:
            log.error("an attempt could not be made", delivery=claim.delivery.id, exc_info=problem)
            message = "The attempt could not be made; the service's log says why."
            result = OutboundResult(None, {}, "", OutboundError.INVALID_REQUEST, message, 0)
        reached("deliver.answered")
        self._ended.append(Outcome(claim, started, result))
        self._wake.set()

    def _give_up_seat(self, claim: Claim) -> None:
        self._taken -= 1
        self._troubled -= claim.subscriber.failures > 0


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
