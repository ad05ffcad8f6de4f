"""The lanes submit and query: one of each per provider, so that a slow provider costs the others nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from handlers import ErrorCode, HandlerError, OutcomeUnknown, Rejected, TaskError, TaskUpdate, Unavailable
from receiver import logs, metrics, watching
from receiver.bell import query_lane, submit_lane
from receiver.faultpoints import reached
from receiver.models import Task
from receiver.runtime import Runtime
from receiver.submissions import Start
from receiver.worker.lane import Lane, persist

SUBMIT_SEATS = 8
QUERY_SEATS = 8

NOT_MADE = TaskError(
    ErrorCode.INTERNAL, "The submission could not be made, perhaps because the provider no longer has the operation."
)

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

    def look(self, room: int) -> list[Callable[[], None]]:
        """Lost submissions first: they have waited longest."""
        self._due = self._service.next_look(self._provider)
        if self._due is None or self._due > self.clock():
            return []
        starts = self._service.claim_lost(self._provider, room)
        starts += self._service.claim(self._provider, room - len(starts))
        return [partial(self._hand_over, start) for start in starts]

    def next_look(self) -> int | None:
        """When the next queued or lost task can be submitted, by the last look."""
        return self._due

    def _hand_over(self, start: Start) -> None:
        reached("submit.claimed")
        task = start.task
        if self.clock() >= task.deadline_at and not start.repeated:
            persist(partial(self._service.expired, task), self._stopping)
            return
        wait_until(start.at, self.clock)
        if task.due_at is not None and self.clock() >= task.due_at:
            log.warning("lease over before the call", provider=self._provider, task=task.id)
            return  # this process stood still; to others the task is lost, and may have been given up
        began = self.clock()
        if task.submits == 1:
            metrics.observe_first_submit(self._provider, (began - task.created_at) / 1000)
        outcome, write = self._submit(start)
        watching.provider_called(self._provider, "submit", outcome, [task], began, self.clock())
        reached("submit.answered")
        persist(write, self._stopping)

    def _submit(self, start: Start) -> tuple[str, Callable[[], None]]:
        """Make the call; returns its outcome in a word, and what to write."""
        service, task = self._service, start.task
        try:
            submission = service.submission_of(start)
        except Exception:
            log.exception("a submission could not be made", provider=self._provider, task=task.id)
            return "rejected", partial(service.rejected, task, NOT_MADE, None)
        try:
            receipt = self._handler.submit(submission)
        except Rejected as error:
            return "rejected", partial(service.rejected, task, error.error, error.raw)
        except Unavailable as error:
            return "unavailable", partial(service.unavailable, task, error)
        except OutcomeUnknown as error:
            return "unknown", partial(service.lost, task, str(error))
        except Exception:
            # A mistake of ours after the call may have begun: whether it was started is not known.
            log.exception("submitting failed", provider=self._provider, task=task.id)
            return "unknown", partial(service.lost, task, "internal error")
        return "accepted", partial(service.accepted, task, receipt)


class QueryLane(Lane):
    """Asks one provider after its running tasks, in batches."""

    def __init__(self, runtime: Runtime, provider: str) -> None:
        """``provider``: a configured one."""
        super().__init__(query_lane(provider), QUERY_SEATS, runtime.clock)
        self._service = runtime.polling
        self._handler = runtime.providers.get(provider)
        self._provider = provider
        self._logged: set[str] = set()
        self._logged_lock = threading.Lock()

    def look(self, room: int) -> list[Callable[[], None]]:
        """Batches that are due."""
        return [partial(self._ask, at, batch) for at, batch in self._service.claim(self._provider, room)]

    def next_look(self) -> int | None:
        """When the next running task is to be asked after."""
        return self._service.next_look(self._provider)

    def _ask(self, at: int, batch: Sequence[Task]) -> None:
        reached("query.claimed")
        wait_until(at, self.clock)
        began = self.clock()
        outcome, news, write = self._query(batch)
        watching.provider_called(self._provider, "query", outcome, batch, began, self.clock(), news=news)
        reached("query.answered")
        persist(write, self._stopping)

    def _query(self, batch: Sequence[Task]) -> tuple[str, bool, Callable[[], None]]:
        """Make the call; returns its outcome in a word, whether a task ended by it, and what to write."""
        service = self._service
        try:
            updates = self._handler.query([service.remote(task) for task in batch])
        except Unavailable as error:
            return "unavailable", False, partial(service.failed, batch, str(error), error.retry_after)
        except Rejected as error:
            log.warning("query refused", provider=self._provider, code=error.error.code, why=error.error.message)
            return "rejected", False, partial(service.failed, batch, error.error.message, None)
        except HandlerError as error:
            return "failed", False, partial(service.failed, batch, str(error), None)
        except Exception:
            log.exception("asking failed", provider=self._provider)
            return "failed", False, partial(service.failed, batch, "internal error", None)
        for update in updates.values():
            self._note_unknown(update)
        news = any(update.status.final for update in updates.values())
        return "answered", news, partial(service.answered, batch, updates)

    def _note_unknown(self, update: TaskUpdate) -> None:
        """An unknown status word is logged once: it means still running, and a handler to be brought up to date."""
        word = update.unknown_status
        if word is None:
            return
        with self._logged_lock:
            if word in self._logged or len(self._logged) >= 100:
                return
            self._logged.add(word)
        log.warning("unknown status word", provider=self._provider, word=word)


def wait_until(at: int, clock: Callable[[], int]) -> None:
    """Sleep until a reserved starting time (ms), which is a fraction of a second away at most."""
    ahead = (at - clock()) / 1000
    if ahead > 0:
        time.sleep(min(ahead, 1.0))
