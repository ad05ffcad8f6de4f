"""The lane deliver: attempts in parallel, their results written together."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from functools import partial

from receiver import logs, metrics
from receiver.deliveries import Outcome
from receiver.dialling import OutboundError
from receiver.errors import Busy
from receiver.faultpoints import reached
from receiver.outbound import OutboundResult, post
from receiver.runtime import Runtime
from receiver.store.deliveries import Claim
from receiver.worker.lane import Lane, persist

MOST_AT_ONCE = 100
RESERVED = 4
"""One seat in so many is kept for subscribers that have nothing in flight: many that hang cannot take them all."""
TROUBLED = 2
"""One seat in so many at most is for subscribers whose last attempt failed, all of them together."""

log = logs.get("worker")


class DeliverLane(Lane):
    """Sends due deliveries to their subscribers."""

    def __init__(self, runtime: Runtime) -> None:
        """Seats from ``RECEIVER_DELIVERY_CONCURRENCY``."""
        super().__init__("deliver", runtime.settings.delivery_concurrency, runtime.clock)
        self._service = runtime.deliveries
        self._policy = runtime.policy
        self._troubled = 0  # seats that failing subscribers have
        self._outcomes: queue.SimpleQueue[tuple[Outcome, threading.Event]] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="deliver-writer", daemon=True)
        self._writer.start()

    def look(self, room: int) -> list[Callable[[], None]]:
        """Due deliveries, fairly chosen, so that those who hang or fail leave seats for the others."""
        with self._lock:
            troubled = max(self.seats // TROUBLED, 1) - self._troubled
        claims = self._service.claim(room, reserved=self.seats // RESERVED, troubled=troubled)
        with self._lock:
            self._troubled += sum(claim.subscriber.failures > 0 for claim in claims)
        return [partial(self._serve, claim) for claim in claims]

    def next_look(self) -> int | None:
        """When the next delivery can be attempted."""
        return self._service.next_look()

    def _serve(self, claim: Claim) -> None:
        try:
            self._attempt(claim)
        finally:
            if claim.subscriber.failures > 0:
                with self._lock:
                    self._troubled -= 1

    def _attempt(self, claim: Claim) -> None:
        reached("deliver.claimed")
        started = self.clock()
        try:
            result = post(self._service.request_of(claim), self._policy)
        except Busy:
            raise  # nothing was sent: the lease hands the delivery over, and no attempt is used up
        except Exception:
            log.exception("an attempt could not be made", delivery=claim.delivery.id)
            message = "The attempt could not be made; the service's log says why."
            result = OutboundResult(None, {}, "", OutboundError.INVALID_REQUEST, message, 0)
        reached("deliver.answered")
        metrics.observe_attempt(result.status, result.error, result.duration_ms / 1000)
        log.info(
            "delivery attempted",
            delivery=claim.delivery.id,
            webhook_id=claim.delivery.event_id,
            subscriber=claim.subscriber.id,
            number=claim.delivery.attempts + 1,
            status=result.status,
            error=result.error,
            duration_ms=result.duration_ms,
        )
        written = threading.Event()
        self._outcomes.put((Outcome(claim, started, result), written))
        written.wait()  # the seat stays taken until the result is stored, so that a stop waits for it

    def _write(self) -> None:
        while True:
            batch = [self._outcomes.get()]
            while len(batch) < MOST_AT_ONCE:
                try:
                    batch.append(self._outcomes.get_nowait())
                except queue.Empty:
                    break
            self._store([outcome for outcome, _ in batch])
            for _, written in batch:
                written.set()

    def _store(self, outcomes: Sequence[Outcome]) -> None:
        try:
            persist(partial(self._service.finish, outcomes), self._stopping)
        except Exception:
            if len(outcomes) == 1:
                log.exception("the result of an attempt could not be stored; its lease hands the delivery over")
                return
            for outcome in outcomes:  # what is wrong with one must not make the others be sent again
                self._store([outcome])
        else:
            reached("deliver.stored")
