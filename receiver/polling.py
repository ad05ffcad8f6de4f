"""Running tasks as the query lane sees them: claimed in batches, asked after, settled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import random

from handlers import RemoteTask, TaskUpdate
from receiver import lifecycle, schedule
from receiver.bell import Bell
from receiver.models import CompletedVia, Task, TaskStatus
from receiver.providers import Providers, poll_plan, remote_task
from receiver.store import Connection, Store, notices, pacing, tasks
from receiver.store.settling import settle

HORIZON = 250
"""How far ahead (ms) a worker reserves a provider's free slots."""
HINT_FRESH = 60_000
"""For how long (ms) a notice makes us ask again quickly, when the query does not confirm it yet."""
HINT_RETRY = (1.0, 2.0, 4.0)
LAST_QUERY_GRACE = 600_000
"""How long (ms) past the deadline a provider that does not answer is still asked, before the task expires."""
STEP = 100


class PollingService:
    """Claims running tasks that are due and writes down what the provider says of them."""

    def __init__(
        self, store: Store, providers: Providers, bell: Bell, clock: Callable[[], int], *, lease: float
    ) -> None:
        """``lease``: seconds that a claim holds. ``clock``: ms since the epoch."""
        self._store = store
        self._providers = providers
        self._bell = bell
        self._clock = clock
        self._lease = round(lease * 1000)

    def claim(self, provider: str, room: int) -> list[tuple[int, Sequence[Task]]]:
        """Up to ``room`` batches of due tasks, each with its starting time (ms), within the provider's rate."""
        handler = self._providers.get(provider)
        now = self._clock()
        with self._store.read() as connection:  # a look that finds nothing must not take the writer's turn
            if not tasks.count_due(connection, provider, TaskStatus.RUNNING, now, 1):
                return []
        with self._store.write() as connection:
            pacing.take_turn(connection, f"{provider}:query")
            now = self._clock()  # once it is our turn: slots must not lie in the past, or they are used all at once
            size = handler.query_batch
            due = tasks.count_due(connection, provider, TaskStatus.RUNNING, now, room * size)
            rate = handler.pace.query_rate
            starts = pacing.reserve(connection, f"{provider}:query", rate, now, HORIZON, -(-due // size))
            claimed = tasks.claim(
                connection, provider, TaskStatus.RUNNING, TaskStatus.RUNNING, now, now + self._lease, len(starts) * size
            )
        batches = [claimed[place : place + size] for place in range(0, len(claimed), size)]
        return list(zip(starts, batches, strict=False))

    def next_look(self, provider: str) -> int | None:
        """When (ms) the next look can find something to ask; None when nothing runs."""
        with self._store.read() as connection:
            due = tasks.next_due(connection, TaskStatus.RUNNING, [provider])
            free = pacing.next_free(connection, f"{provider}:query") - HORIZON
        return None if due is None else max(due, free)

    def remote(self, task: Task) -> RemoteTask:
        """The task as its handler needs it."""
        return remote_task(task, self._clock())

    def answered(self, batch: Sequence[Task], updates: Mapping[str, TaskUpdate]) -> None:
        """Write what the provider says of a batch; tasks it did not mention still run."""
        now = self._clock()
        with self._store.write() as connection:
            for task in batch:
                self._answered(connection, task, updates.get(task.id), now)
        self._bell.ring()

    def _answered(self, connection: Connection, claimed: Task, update: TaskUpdate | None, now: int) -> None:
        task = self._ours(connection, claimed)
        if task is None:
            return
        said = "no news" if update is None else update.unknown_status or update.status
        tasks.add_step(connection, task.id, now, "poll", {"said": said})
        hinted = notices.last_hint(connection, task.id)
        via = CompletedVia.POLL if hinted is None else CompletedVia.CALLBACK
        change = None if update is None else lifecycle.apply_update(task, update, via)
        if change is None:
            change = lifecycle.Change(TaskStatus.RUNNING, task.progress, None, None, None)
        if not change.status.final and now >= task.deadline_at:
            change = lifecycle.past_deadline(task)
        values = {"polls": task.polls + 1, "due_at": self._next(task, hinted, now)}
        settle(connection, task, change, now, update=update, fence=task.fence, values=values)

    def _next(self, task: Task, hinted: int | None, now: int) -> int:
        """When to ask next: by the provider's plan, sooner just after a notice, at the deadline at the latest."""
        return min(now + self._wait(task, hinted, now), max(task.deadline_at, now + 1000))

    def _wait(self, task: Task, hinted: int | None, now: int) -> int:
        wait = schedule.delay(poll_plan(self._providers.get(task.provider), task), task.polls + 1, random())
        since = None if hinted is None else max(now - hinted, 0)  # the clock of who took the notice may be ahead
        if since is not None and since < HINT_FRESH:
            wait = min(wait, schedule.delay(HINT_RETRY, since // 2000, random()))
        return wait

    def failed(self, batch: Sequence[Task], why: str, retry_after: float | None) -> None:
        """The call failed, so nothing is known of any task: ask again by the plan, after the pause asked for."""
        now = self._clock()
        pause = round((retry_after or 0) * 1000)
        with self._store.write() as connection:
            if pause:
                pacing.postpone(connection, f"{batch[0].provider}:query", now + pause)
            for claimed in batch:
                self._failed(connection, claimed, why, pause, now)
        self._bell.ring()

    def _failed(self, connection: Connection, claimed: Task, why: str, pause: int, now: int) -> None:
        task = self._ours(connection, claimed)
        if task is None:
            return
        tasks.add_step(connection, task.id, now, "poll", {"failed": why})
        if now >= task.deadline_at + LAST_QUERY_GRACE:
            settle(connection, task, lifecycle.past_deadline(task), now, fence=task.fence)
            return
        wait = self._wait(task, notices.last_hint(connection, task.id), now)
        values = {"polls": task.polls + 1, "due_at": now + max(wait, pause)}
        tasks.move(connection, task.id, values, fence=task.fence)

    def _ours(self, connection: Connection, claimed: Task) -> Task | None:
        """A claimed task as it is now; None when a callback was faster, or another worker has the lease."""
        task = tasks.get(connection, claimed.id)
        if task is None or task.status is not TaskStatus.RUNNING or task.fence != claimed.fence:
            return None
        return task

    def end_overdue(self) -> int:
        """End tasks past their deadline that no lane ends; how many.

        Those still queued, which a provider's cap or pause may hold back for long; and, some time later,
        those of providers that have no credentials here any more. Their callers must not wait for ever.
        """
        now = self._clock()
        asked = (self._providers.names, now, now - LAST_QUERY_GRACE)
        with self._store.read() as connection:
            if not tasks.overdue(connection, *asked, 1):
                return 0
        with self._store.write() as connection:
            found = tasks.overdue(connection, *asked, STEP)
            for task in found:
                settle(connection, task, lifecycle.past_deadline(task), now)
        self._bell.ring()
        return len(found)
