"""Tasks on their way to a provider, as the submit lane sees them.

Each method is one transaction; the call to the provider lies between two of them, never inside. A
claim is a lease: a worker that lost it writes nothing once the task was submitted again or has moved
on. What may have been started is never started again, unless the handler says that repeating is safe.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from random import random

from handlers import Handler, Receipt, Submission, TaskError, Unavailable, record
from receiver import lifecycle, schedule
from receiver.bell import Bell
from receiver.models import LONGEST_ID, CompletedVia, EventType, Task, TaskStatus
from receiver.providers import Providers, poll_plan
from receiver.signing import CallbackTokens
from receiver.store import Connection, Store, notices, pacing, tasks
from receiver.store.settling import Move, adoption, settle
from receiver.waking import lanes_after

HORIZON = 50
"""How far ahead (ms) a worker reserves a provider's free slots. Less far than for queries: when a worker is killed,
nobody knows whether a task that waited for its slot had been handed over."""
LATE_ANSWER = 60_000
"""How long (ms) the answer of a worker that seemed lost is still waited for, where no callback can save the task, or
its deadline has passed before anybody could write: after an outage that answer and who looks for lost ones race."""

KEPT_ANSWER = 2048
"""Characters of the answer to a submission that its step keeps; the task's own copy gives way to later answers."""


@record
class Start:
    """A task to be handed over at ``at`` (ms). ``repeated``: an earlier call for it may have arrived."""

    at: int
    task: Task
    repeated: bool


class SubmissionService:
    """Claims tasks that wait for submission and writes down what became of each."""

    def __init__(
        self,
        store: Store,
        providers: Providers,
        tokens: CallbackTokens,
        bell: Bell,
        clock: Callable[[], int],
        *,
        public_url: str,
        lease: float,
    ) -> None:
        """``lease``: seconds that a claim holds. ``clock``: ms since the epoch."""
        self._store = store
        self._providers = providers
        self._tokens = tokens
        self._bell = bell
        self._clock = clock
        self._public_url = public_url
        self._lease = round(lease * 1000)

    def claim(self, provider: str, room: int) -> list[Start]:
        """Take up to ``room`` queued tasks that are due, within the provider's rate and in-flight cap.

        They are SUBMITTING from here on, committed before any call: a crash must not buy twice.
        """
        handler = self._providers.get(provider)
        pace = handler.pace
        now = self._clock()
        if not self._anything_due(provider, TaskStatus.QUEUED, now):
            return []
        with self._store.write() as connection:
            now, free = self._take_turn(connection, provider)
            if pace.max_in_flight is not None:
                room = min(room, pace.max_in_flight - tasks.count_at_provider(connection, provider))
            starts = self._reserve(connection, provider, TaskStatus.QUEUED, now, free, room)
            claimed = tasks.claim(
                connection, provider, TaskStatus.QUEUED, TaskStatus.SUBMITTING,
                now, now + self._lease_at(handler), len(starts), submits=1,
            )  # fmt: skip
        return [Start(at, task, repeated=False) for at, task in zip(starts, claimed, strict=False)]

    def claim_lost(self, provider: str, room: int) -> list[Start]:
        """Deal with SUBMITTING tasks whose time is up: a worker died, or an answer never came.

        Returns those to be submitted again, which only a handler that makes it safe ever gets.
        """
        handler = self._providers.get(provider)
        now = self._clock()
        if not self._anything_due(provider, TaskStatus.SUBMITTING, now):
            return []
        again: list[Start] = []
        moves: list[Move] = []
        with self._store.write() as connection:
            now, free = self._take_turn(connection, provider)
            repeats, status = handler.submit_is_safe_to_repeat, TaskStatus.SUBMITTING
            starts = self._reserve(connection, provider, status, now, free, room) if repeats else [now] * room
            until = now + self._lease_at(handler)
            claimed = tasks.claim(
                connection, provider, status, status, now, until, len(starts), submits=1 if repeats else 0
            )
            for at, task in zip(starts, claimed, strict=False):
                if not task.outcome_unknown:
                    tasks.add_step(connection, task.id, now, "submit", {"outcome": "unknown", "why": "worker lost"})
                if task.noticed_id is not None:
                    moves.append(adoption(task, task.noticed_id, now))
                elif now >= task.deadline_at:
                    moves.append(_past_deadline(task, now, task.submits - 1 if repeats else task.submits))
                elif repeats:
                    moves.append(Move(task, None, values={"outcome_unknown": False}))  # somebody is finding out
                    again.append(Start(at, replace(task, outcome_unknown=True), repeated=True))
                else:
                    patience = 0 if task.outcome_unknown else LATE_ANSWER
                    moves.append(_await_news(handler, task, now, patience))
            settle(connection, moves, now)
        self._bell.ring()
        return again

    def _lease_at(self, handler: Handler) -> int:
        """How long (ms) a claim holds: if its worker dies, the provider must know of its call when it is repeated."""
        return self._lease + round(handler.repeat_after * 1000)

    def _anything_due(self, provider: str, status: TaskStatus, now: int) -> bool:
        """Whether a claim would find anything. Most would not, and must not take the writer's turn for that."""
        with self._store.read() as connection:
            return tasks.count_due(connection, provider, status, now, 1) > 0

    def _take_turn(self, connection: Connection, provider: str) -> tuple[int, int]:
        """Let nobody else count or reserve until this claim is written; the time then, and the free slot.

        Slots reserved by the time before a long wait would lie in the past, and all be used at once.
        """
        free = pacing.take_turn(connection, f"{provider}:submit")
        return self._clock(), free

    def _reserve(
        self, connection: Connection, provider: str, status: TaskStatus, now: int, free: int, room: int
    ) -> list[int]:
        """Starting times for as many due tasks as the rate allows."""
        due = tasks.count_due(connection, provider, status, now, max(room, 0))
        rate = self._providers.get(provider).pace.submit_rate
        return pacing.reserve(connection, f"{provider}:submit", free, rate, now, HORIZON, due)[0]

    def next_look(self, provider: str) -> int | None:
        """When (ms) the next look can find something to submit; None when nothing waits."""
        pace = self._providers.get(provider).pace
        cap = pace.max_in_flight
        with self._store.read() as connection:
            queued = tasks.next_due(connection, provider, TaskStatus.QUEUED)
            if queued is not None and cap is not None and tasks.count_at_provider(connection, provider) >= cap:
                queued = None  # a task that ends rings the bell
            lost = tasks.next_due(connection, provider, TaskStatus.SUBMITTING)
            free = pacing.next_free(connection, f"{provider}:submit", self._clock(), pace.submit_rate) - HORIZON
        return min((max(due, free) for due in (queued, lost) if due is not None), default=None)

    def submission_of(self, start: Start) -> Submission:
        """What the handler is to hand over, with the signed callback URL where the operation takes one.

        Raises KeyError for an operation that the provider no longer has.
        """
        task = start.task
        url = None
        if self._providers.get(task.provider).operations[task.operation].callbacks:
            url = f"{self._public_url}/callbacks/{task.provider}/{self._tokens.make(task.provider, task.id)}"
        return Submission(task.id, task.operation, json.loads(task.input_json), url, start.repeated)

    def accepted(self, task: Task, receipt: Receipt) -> None:
        """The provider took the task (as claimed): it runs, unless a callback was faster or it was canceled.

        A receipt that comes late, after its lease had been given up, still saves a task that waits for news, or that
        somebody is submitting once more.
        One with an id that cannot be one is as good as lost.
        """
        if len(receipt.provider_task_id) > LONGEST_ID:
            self.lost(task, f"the provider's id of the task has {len(receipt.provider_task_id)} characters")
            return
        now = self._clock()
        with self._store.write() as connection:
            current = tasks.hold(connection, [task.id]).get(task.id)
            if current is None:
                return  # ended and purged meanwhile
            detail = {
                "outcome": "accepted",
                "provider_task_id": receipt.provider_task_id,
                "answer": receipt.raw[:KEPT_ANSWER],
            }
            tasks.add_step(connection, task.id, now, "submit", detail)
            if current.status is not TaskStatus.SUBMITTING:
                # Somebody was faster; what the provider called it is still worth knowing.
                tasks.fill_provider_task_id(connection, task.id, receipt.provider_task_id)
                return
            change = None
            if receipt.update is not None:
                change = lifecycle.apply_update(current, receipt.update, CompletedVia.POLL)
            if change is None:
                change = lifecycle.Change(TaskStatus.RUNNING, None, None, None, EventType.TASK_RUNNING)
            hinted = bool(notices.last_hints(connection, [task.id]))
            first = schedule.delay(poll_plan(self._providers.get(task.provider), task), 0, random())
            values = {
                "provider_task_id": receipt.provider_task_id,
                "state_json": json.dumps(dict(receipt.state)),
                "submitted_at": now,
                "outcome_unknown": False,
                "provider_response": receipt.raw,
                "due_at": now if hinted else min(now + first, task.deadline_at),
            }
            settled = settle(connection, [Move(current, change, receipt.update, values)], now)
        self._bell.ring(*lanes_after(settled, self._providers))

    def charge(self, provider: str, look_ups: int) -> None:
        """Calls were made beside a submission, to find out about an earlier one: they are queries, by their rate."""
        rate = self._providers.get(provider).pace.query_rate
        with self._store.write(flushed=False) as connection:
            pacing.charge(connection, f"{provider}:query", self._clock(), round(1000 * look_ups / rate))

    def unavailable(self, task: Task, failure: Unavailable) -> None:
        """Certainly nothing was started: back to the queue, and the provider gets the pause it asked for."""
        now = self._clock()
        with self._store.write() as connection:
            if failure.retry_after:
                pacing.postpone(connection, f"{task.provider}:submit", now + round(failure.retry_after * 1000))
            current = self._ours(connection, task)
            if current is None:
                return
            wait = schedule.submit_delay(task.submits, failure.retry_after, random())
            detail = {"outcome": "unavailable", "why": str(failure), "again_in_ms": wait}
            tasks.add_step(connection, task.id, now, "submit", detail)
            values = {"due_at": min(now + wait, task.deadline_at)}
            if current.noticed_id is not None:  # the provider has called back for it: it was started after all
                settle(connection, [adoption(current, current.noticed_id, now)], now)
            elif now >= task.deadline_at:
                settle(connection, [Move(current, lifecycle.past_deadline(task))], now)
            elif task.outcome_unknown:  # an earlier call may have arrived: it is repeated, not begun anew
                tasks.move(connection, task.id, {**values, "outcome_unknown": True})
            else:
                again = {**values, "status": TaskStatus.QUEUED, "outcome_unknown": False}
                tasks.move(connection, task.id, again)
        self._bell.ring()

    def expired(self, task: Task) -> None:
        """The deadline passed before the task was handed over; or once more, if the provider has called back for it."""
        now = self._clock()
        with self._store.write() as connection:
            current = self._ours(connection, task)
            if current is None:
                return
            if current.noticed_id is not None:  # an earlier call, which seemed to start nothing, did: a query tells
                settle(connection, [adoption(current, current.noticed_id, now)], now)
            else:
                settle(connection, [Move(current, lifecycle.past_deadline(task))], now)
        self._bell.ring()

    def lost(self, task: Task, why: str, pause: float | None = None) -> None:
        """The provider's answer was lost: wait for news, or repeat where that is safe; never buy twice.

        ``pause``: seconds for which the provider gets no further submission.
        """
        now = self._clock()
        handler = self._providers.get(task.provider)
        with self._store.write() as connection:
            if pause:
                pacing.postpone(connection, f"{task.provider}:submit", now + round(pause * 1000))
            current = self._ours(connection, task)
            if current is None:
                return
            tasks.add_step(connection, task.id, now, "submit", {"outcome": "unknown", "why": why})
            if current.noticed_id is None and handler.submit_is_safe_to_repeat:
                wait = max(schedule.submit_delay(task.submits, pause, random()), round(handler.repeat_after * 1000))
                values = {"due_at": min(now + wait, task.deadline_at), "outcome_unknown": True}
                tasks.move(connection, task.id, values)
            else:
                settle(connection, [_await_news(handler, current, now, why=why)], now)
        self._bell.ring()

    def rejected(self, task: Task, error: TaskError, raw: str | None) -> None:
        """The provider refused the task for good, unless it has called back for it: then a query tells."""
        now = self._clock()
        with self._store.write() as connection:
            current = self._ours(connection, task)
            if current is None:
                return
            detail = {"outcome": "rejected", "code": error.code, "provider_code": error.provider_code}
            tasks.add_step(connection, task.id, now, "submit", detail)
            values = {} if raw is None else {"provider_response": raw}
            if current.noticed_id is not None:  # an earlier call, which seemed to start nothing, took the credit
                settle(connection, [adoption(current, current.noticed_id, now)], now)
            else:
                settle(connection, [Move(current, lifecycle.rejected(current, error), values=values)], now)
        self._bell.ring()

    def _ours(self, connection: Connection, task: Task) -> Task | None:
        """The claimed task as it is now, held; None when it has moved on, or was submitted once more since.

        Whoever has the lease now, what became of its only call is known to the worker that made it.
        """
        current = tasks.hold(connection, [task.id]).get(task.id)
        if current is None or current.status is not TaskStatus.SUBMITTING or current.submits != task.submits:
            return None
        return current


def _past_deadline(task: Task, now: int, submits: int) -> Move:
    """What becomes of a lost submission past its deadline: it ends, unless its worker may hold the answer in hand.

    ``submits``: the calls that were made: of one that may be repeated the claim has counted another, which is not.
    """
    if task.outcome_unknown:
        return Move(task, lifecycle.submission_unknown(task))
    return Move(task, None, values={"outcome_unknown": True, "submits": submits, "due_at": now + LATE_ANSWER})


def _await_news(handler: Handler, task: Task, now: int, patience: int = 0, *, why: str = "the worker was lost") -> Move:
    """What becomes of a lost submission that must not be repeated: an early callback saves it, or a later one may.

    ``patience``: ms that a task without callbacks is given all the same, for an answer that comes late.
    """
    operation = handler.operations.get(task.operation)
    until = task.deadline_at if operation is not None and operation.callbacks else now + patience
    if task.noticed_id is not None:
        return adoption(task, task.noticed_id, now)
    if until > now:
        return Move(task, None, values={"outcome_unknown": True, "due_at": min(until, task.deadline_at)})
    return Move(task, lifecycle.submission_unknown(task, why))
