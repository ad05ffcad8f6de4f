"""Running tasks as the query lane sees them: claimed in batches, asked about, settled."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from itertools import accumulate
from random import random

from handlers import Handler, RemoteTask, TaskUpdate, record
from receiver import lifecycle, metrics, schedule
from receiver.bell import Bell
from receiver.lifecycle import Change
from receiver.models import CompletedVia, Step, Task, TaskStatus
from receiver.providers import Providers, poll_plan, remote_task
from receiver.store import Connection, Store, notices, pacing, tasks
from receiver.store.database import after_commit
from receiver.store.settling import FEW, MOST_TOLD, Move, how_many_hear, settle
from receiver.waking import lanes_after

HORIZON = 250
"""How far ahead (ms) a worker reserves a provider's free slots."""
AHEAD = 125
"""How long before the next free slot (ms) the worker looks again, to reserve several at once where the rate allows."""
TOGETHER = 50
"""Tasks that fall due within so many ms are claimed together, so that fewer calls have fuller batches; a ring of the
bell is answered at once."""
HINT_FRESH = 60_000
"""For how long (ms) a notice makes us ask again quickly, when the query does not confirm it yet."""
HINT_RETRY = (1.0, 2.0, 4.0)
"""Seconds to the next query then: in the first two seconds after the notice, in the next two, and later."""
LAST_QUERY_GRACE = 600_000
"""How long (ms) past its deadline a task is still asked about when the provider does not answer, says nothing of it, or
has just called back; then it expires. Counted from this process's start when that is later: nobody could ask before."""
PAUSE_GRACE = 7_200_000
"""How long (ms) past its deadline a task lasts at most while its provider wants no calls: longer than any one pause.
Counted from this process's start when that is later: nobody could ask before."""
AWAY = 60_000
"""The longest gap (ms) between two calls of ``here``, which come every few seconds, that is no absence: a process that
was suspended, or had no database, could not ask anybody meanwhile, as before its start."""
LEAST_PAUSE = 60_000
"""A free slot that lies this much (ms) further ahead than the rate alone can put it means that the provider asked for a
pause."""
STEP = 20
"""Overdue tasks that are ended in one transaction: a thousand subscribers may have to be told of each."""


@record
class Answer:
    """What a query gave for a batch. ``failed``: why it failed (None: it did not). ``pause``: the seconds asked for.

    ``calls``: how many calls to the provider it took.
    """

    batch: Sequence[Task]
    updates: Mapping[str, TaskUpdate]
    failed: str | None = None
    pause: float = 0.0
    calls: int = 1

    def tells(self, task: Task, now: int) -> bool:
        """Whether subscribers may be told of this task, of the batch, when the answer is written."""
        update = self.updates.get(task.id)
        change = None if update is None else lifecycle.apply_update(task, update, CompletedVia.POLL)
        return now >= task.deadline_at or (change is not None and change.event is not None)

    def step(self, task: Task, now: int) -> Step:
        """The line in the task's timeline."""
        if self.failed is not None:
            return Step(now, "poll", {"failed": self.failed})
        update = self.updates.get(task.id)
        return Step(now, "poll", {"said": "no news" if update is None else update.unknown_status or update.status})


@record
class Turn:
    """What a turn gave: batches to ask about, each with its starting time; and when (ms) the next can be claimed.

    ``next_look``: None when nothing runs.
    """

    batches: Sequence[tuple[int, Sequence[Task]]]
    next_look: int | None


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
        self._began = clock()
        self._seen: int | None = None

    def here(self) -> None:
        """Note that a worker can ask, and has its database; to be called every few seconds.

        After an absence the time that providers are given past a deadline begins anew.
        """
        now = self._clock()
        self._note_return(now)
        self._seen = now

    def _note_return(self, now: int) -> None:
        if self._seen is not None and abs(now - self._seen) > AWAY:
            self._began = self._seen = now

    def next_look(self, provider: str) -> int | None:
        """When (ms) the next look can find something to ask; None when nothing runs."""
        with self._store.read() as connection:
            due = tasks.next_due(connection, provider, TaskStatus.RUNNING)
            rate = self._providers.get(provider).pace.query_rate
            free = pacing.next_free(connection, f"{provider}:query", self._clock(), rate)
        return None if due is None else max(due, free - AHEAD)

    def turn(self, provider: str, answers: Sequence[Answer], room: int) -> Turn:
        """Write a provider's answers and claim up to ``room`` batches, all in one transaction. Raises Busy."""
        with self._store.write(flushed=bool(answers)) as connection:
            news = self._write(connection, answers) if answers else ()
            turn = self._claim(connection, provider, room) if room > 0 else Turn((), self._clock())
        if news:
            self._bell.ring(*lanes_after((task for task in news if task.status.final), self._providers))
        return turn

    def together(self, answers: Sequence[Answer]) -> int:
        """How many answers (at least one), from the first, one ``turn`` should write. Raises Busy.

        Fewer than all where very many subscribers are to be told: others want to write in between.
        """
        now = self._clock()
        news = [
            (place, task) for place, answer in enumerate(answers) for task in answer.batch if answer.tells(task, now)
        ]
        if len(news) <= FEW:
            return len(answers)
        hearing = self._store.ask(lambda connection: how_many_hear(connection, [task for _, task in news]))
        beyond = (place for (place, _), told in zip(news, accumulate(hearing), strict=True) if told > MOST_TOLD)
        return max(next(beyond, len(answers)), 1)

    def _claim(self, connection: Connection, provider: str, room: int) -> Turn:
        """Claim batches.

        The pace is locked last: whoever waits for it holds no task or subscriber that its holder may want.
        """
        name = f"{provider}:query"
        free = pacing.take_turn(connection, name)
        now = self._clock()  # once it is our turn: slots must not lie in the past, or they are used all at once
        handler = self._providers.get(provider)
        size, rate = handler.query_batch, handler.pace.query_rate
        due = tasks.due(connection, provider, TaskStatus.RUNNING, now, room * size)
        starts, free = pacing.reserve(connection, name, free, rate, now, HORIZON, -(-len(due) // size))
        ids = due[: len(starts) * size]
        claimed = tasks.lease(connection, ids, TaskStatus.RUNNING, TaskStatus.RUNNING, now + self._lease)
        batches = [claimed[place : place + size] for place in range(0, len(claimed), size)]
        if len(due) == room * size or len(ids) < len(due):
            look: int | None = max(now, free - AHEAD)
        else:
            next_due = tasks.next_due(connection, provider, TaskStatus.RUNNING)
            look = None if next_due is None else max(next_due, now + TOGETHER, free - AHEAD)
        return Turn(list(zip(starts, batches, strict=False)), look)

    def remote(self, task: Task) -> RemoteTask:
        """The task as its handler needs it."""
        return remote_task(task, self._clock())

    def _next(self, task: Task, hinted: int | None, now: int, latest: int) -> int:
        """When to ask next: by the provider's plan, sooner just after a notice, at a time (ms) at the latest."""
        return min(now + self._wait(task, hinted, now), max(latest, now + 1000))

    def _wait(self, task: Task, hinted: int | None, now: int) -> int:
        wait = schedule.delay(poll_plan(self._providers.get(task.provider), task), task.polls + 1, random())
        if hinted is not None and _is_fresh(hinted, now):
            since = max(now - hinted, 0)  # the clock of who took the notice may be ahead
            wait = min(wait, schedule.delay(HINT_RETRY, since // 2000, random()))
        return wait

    def _write(self, connection: Connection, answers: Sequence[Answer]) -> Sequence[Task]:
        """Write answers; the tasks for which that made an event. That one still runs is no news, and wakes nobody."""
        now = self._clock()
        self._note_return(now)
        claims = [(answer, claimed) for answer in answers for claimed in answer.batch]
        ids = {claimed.id for _, claimed in claims}
        held = tasks.hold(connection, ids)
        hints = notices.last_hints(connection, ids)
        found: dict[str, tuple[Answer, Task, Task]] = {}
        for answer, claimed in sorted(claims, key=lambda each: not _is_final(*each)):  # a final word goes before others
            task = held.get(claimed.id)
            if task is not None and _counts(answer, task, claimed):
                found.setdefault(task.id, (answer, task, claimed))
        ours = list(found.values())
        tasks.add_steps(connection, [(task.id, answer.step(task, now)) for answer, task, _ in ours])
        moves = [self._move(answer, task, claimed, hints.get(task.id), now) for answer, task, claimed in ours]
        settled = settle(connection, moves, now)
        for task in settled:
            if task.status.final and task.id in hints:
                took = (now - hints[task.id]) / 1000
                after_commit(connection, partial(metrics.observe_callback_to_event, task.provider, took))
        self._hold_back(connection, answers, now)
        return [task for move, task in zip(moves, settled, strict=True) if move.change and move.change.event]

    def _hold_back(self, connection: Connection, answers: Sequence[Answer], now: int) -> None:
        """Have the next queries wait for the calls that these took beyond one each, and for the pauses asked for."""
        for answer in answers:
            provider = answer.batch[0].provider
            if answer.calls > 1:
                rate = self._providers.get(provider).pace.query_rate
                pacing.charge(connection, f"{provider}:query", now, round(1000 * (answer.calls - 1) / rate))
            if answer.pause:
                pacing.postpone(connection, f"{provider}:query", now + round(answer.pause * 1000))

    def _move(self, answer: Answer, task: Task, claimed: Task, hinted: int | None, now: int) -> Move:
        """What an answer makes of a task, ``claimed`` for it. ``hinted``: when a notice came that asked for a query."""
        update = answer.updates.get(task.id)
        if update is None:
            return self._no_news(answer, task, hinted, now)
        via = CompletedVia.POLL if hinted is None else CompletedVia.CALLBACK
        change = lifecycle.apply_update(task, update, via)
        latest = task.deadline_at
        if self._asked_last(claimed):
            latest = self._end_of_grace(task)
            if (now >= latest or not _is_fresh(hinted, now)) and (change is None or not change.status.final):
                change = lifecycle.past_deadline(task)
        return Move(task, change, update, {"polls": task.polls + 1, "due_at": self._next(task, hinted, now, latest)})

    def _asked_last(self, claimed: Task) -> bool:
        """Whether a query was claimed past its task's deadline, so that the task need not be asked about any more."""
        assert claimed.due_at is not None  # the end of its lease
        return claimed.due_at - self._lease >= claimed.deadline_at

    def _end_of_grace(self, task: Task) -> int:
        """Until when (ms) a task is asked about past its deadline, if there is a reason to."""
        return max(task.deadline_at, self._began) + LAST_QUERY_GRACE

    def _no_news(self, answer: Answer, task: Task, hinted: int | None, now: int) -> Move:
        """What becomes of a task of which an answer says nothing: it is asked about again, until its time is over."""
        until = self._end_of_grace(task)
        if now >= until:
            return Move(task, lifecycle.past_deadline(task))
        due = now + max(self._wait(task, hinted, now), round(answer.pause * 1000))
        last = task.deadline_at if now < task.deadline_at else until
        return Move(task, None, values={"polls": task.polls + 1, "due_at": min(due, max(last, now + 1000))})

    def end_overdue(self) -> int:
        """End tasks past their deadline that no lane ends; how many.

        Those still queued, which a provider's cap or pause may hold back for long; some time later those of
        providers that have no credentials here any more; and at last those that nobody could ask about, since their
        provider wants no calls. Their callers must not wait for ever.
        """
        now = self._clock()
        asked = (self._providers.names, now, now - LAST_QUERY_GRACE)
        with self._store.read() as connection:
            unasked = self._unasked(connection, now)
            if not tasks.overdue(connection, *asked, unasked, now - PAUSE_GRACE, 1):
                return 0
        with self._store.write() as connection:
            found = tasks.overdue(connection, *asked, unasked, now - PAUSE_GRACE, STEP, held=True)
            settle(connection, [Move(task, _end_of(task)) for task in found], now)
        self._bell.ring()
        return len(found)

    def _unasked(self, connection: Connection, now: int) -> Mapping[TaskStatus, Collection[str]]:
        """The providers that want no calls now about tasks in a state; none while we may not have asked for long."""
        if now - self._began < PAUSE_GRACE:
            return {}
        free = pacing.held_back(connection, now + LEAST_PAUSE)

        def paused(handler: Handler, call: str, calls: int, rate: float) -> bool:
            return free.get(f"{handler.name}:{call}", 0) >= now + LEAST_PAUSE + 1000 * calls / rate

        every = [self._providers.get(name) for name in self._providers.names]
        # A query may take one more call for each of its tasks, and all are charged.
        asked = [each.name for each in every if paused(each, "query", 1 + each.query_batch, each.pace.query_rate)]
        started = [each.name for each in every if paused(each, "submit", 1, each.pace.submit_rate)]
        return {TaskStatus.RUNNING: asked, TaskStatus.SUBMITTING: started}


def _end_of(task: Task) -> Change:
    """The end of a task past its deadline that no lane has in hand: of its submission's answer nobody ever told."""
    if task.status is TaskStatus.SUBMITTING:
        return lifecycle.submission_unknown(task)
    return lifecycle.past_deadline(task)


def _counts(answer: Answer, task: Task, claimed: Task) -> bool:
    """Whether an answer says something new: not when a callback was faster, or another worker has the lease.

    A final word counts all the same: where answers take longer than leases, none would ever come in time.
    """
    return task.status is TaskStatus.RUNNING and (_is_final(answer, task) or task.fence == claimed.fence)


def _is_fresh(hinted: int | None, now: int) -> bool:
    """Whether a notice came so lately that a query may not confirm it yet, or was under way already."""
    return hinted is not None and now - hinted < HINT_FRESH


def _is_final(answer: Answer, task: Task) -> bool:
    update = answer.updates.get(task.id)
    return update is not None and update.status.final
