"""The lane submit: one for each provider, so that a slow provider costs the others nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from handlers import ErrorCode, OutcomeUnknown, Rejected, TaskError, Unavailable, calls_made
from receiver import logs, metrics, watching
from receiver.bell import submit_lane
from receiver.faultpoints import reached
from receiver.models import Task
from receiver.runtime import Runtime
from receiver.submissions import Start
from receiver.worker.lane import Lane, persist

SUBMIT_SEATS = 8
GIVING_BACK = 1.0
"""Seconds for which a claim that is under way at a stop is waited for."""

NOT_MADE = TaskError(
    ErrorCode.INTERNAL, "The submission could not be made, perhaps because the provider no longer has the operation."
)

STOOD_STILL = Unavailable("this process stood still until its lease was over; the call was not made")
STOPPED = Unavailable("this process was stopped; the call was not made")

log = logs.get("worker")


class SubmitLane(Lane):
    """Hands queued tasks over to one provider."""

    def __init__(self, runtime: Runtime, provider: str) -> None:
        """``provider``: a configured one."""
        super().__init__(submit_lane(provider), SUBMIT_SEATS, runtime.clock)
        self._service = runtime.submissions
        self._handler = runtime.providers.get(provider)
        self._provider = provider
        self._due: int | None = None
        self._waiting: dict[str, Task] = {}  # claimed, and not called for yet

    def look(self, room: int) -> list[Callable[[], None]]:
        """Lost submissions first: they have waited longest."""
        self._due = self._service.next_look(self._provider)
        if self._due is None or self._due > self.clock():
            return []
        starts = self._service.claim_lost(self._provider, room)
        starts += self._service.claim(self._provider, room - len(starts))
        with self._lock:
            self._waiting.update((start.task.id, start.task) for start in starts)
        return [partial(self._hand_over, start) for start in starts]

    def next_look(self) -> int | None:
        """When the next queued or lost task can be submitted, by the last look."""
        return self._due

    def give_back(self) -> None:
        """At a stop, queue again what no call was made for: to others it would be lost, and perhaps charged."""
        self.join(GIVING_BACK)  # a claim that is under way is one of them
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for task in waiting.values():
            self._service.unavailable(task, STOPPED)

    def _hand_over(self, start: Start) -> None:
        reached("submit.claimed")
        task = start.task
        wait_until(start.at, self.clock)
        with self._lock:
            if self._waiting.pop(task.id, None) is None:
                return  # given back
        if self.clock() >= task.deadline_at and not start.repeated:
            persist(partial(self._service.expired, task), self._stopping)
            return
        if task.due_at is not None and self.clock() >= task.due_at:
            log.warning("lease over before the call", provider=self._provider, task=task.id)
            persist(partial(self._service.unavailable, task, STOOD_STILL), self._stopping)
            return  # to others the task is lost: if none of them has repeated it or given it up, it is queued again
        began, before = self.clock(), calls_made()
        outcome, why, write = self._submit(start)
        look_ups = calls_made() - before - 1
        try:
            if task.submits == 1:
                metrics.observe_first_submit(self._provider, (began - task.created_at) / 1000)
            watching.provider_called(self._provider, "submit", outcome, [task], began, self.clock(), why=why)
            reached("submit.answered")
        finally:  # whatever fails in counting and telling: what the provider said is kept
            persist(write, self._stopping)
            if look_ups > 0:
                persist(partial(self._service.charge, self._provider, look_ups), self._stopping)

    def _submit(self, start: Start) -> tuple[str, str | None, Callable[[], None]]:
        """Make the call; returns its outcome in a word, why it was not good, and what to write."""
        service, task = self._service, start.task
        try:
            submission = service.submission_of(start)
        except Exception:
            log.exception("a submission could not be made", provider=self._provider, task=task.id)
            return "rejected", NOT_MADE.message, partial(service.rejected, task, NOT_MADE, None)
        try:
            receipt = self._handler.submit(submission)
        except Rejected as error:
            return "rejected", error.error.message, partial(service.rejected, task, error.error, error.raw)
        except Unavailable as error:
            return "unavailable", str(error), partial(service.unavailable, task, error)
        except OutcomeUnknown as error:
            return "unknown", str(error), partial(service.lost, task, str(error), error.retry_after)
        except Exception:
            # A mistake of ours after the call may have begun: whether it was started is not known.
            log.exception("submitting failed", provider=self._provider, task=task.id)
            return "unknown", "internal error", partial(service.lost, task, "internal error")
        return "accepted", None, partial(service.accepted, task, receipt)


def wait_until(at: int, clock: Callable[[], int]) -> None:
    """Sleep until a reserved starting time (ms), which is a fraction of a second away at most."""
    ahead = (at - clock()) / 1000
    if ahead > 0:
        time.sleep(min(ahead, 1.0))
