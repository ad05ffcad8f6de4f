"""The sandbox's memory: its clock, its tasks, its record of what happened. Safe for threads, bounded."""

from __future__ import annotations

import hashlib
import itertools
import logging
import threading
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ._artefacts import Artefacts
from ._callbacks import Agenda, Callbacks, Notice
from ._faults import Directives, FaultQueue, read_directives
from ._fields import whole
from ._pace import Pace
from ._settings import SandboxSettings

log = logging.getLogger(__name__)

Stage = Literal["queued", "running", "done"]
OUTCOMES = ("success", "fail", "empty", "partial", "blocked")
"""How a task can end, apart from never."""

_LONGEST = 1e9
"""The longest delay in seconds, whatever its scale: about 31 years, which every kind of time stamp can hold."""
_LONGEST_HOLD = 600.0
"""The longest time in seconds that a call is held up, whatever was asked for: longer than any client waits."""
_MOST_COPIES = 1000
"""The most equal callbacks of one task: enough to test a receiver with, too few to be a load."""
_QUEUED_SHARE = 0.2
_FORGED_SHARE = 0.3


class Refusal(Exception):
    """The call is answered with the provider's own error.

    ``code`` is the provider's; ``message`` empty means the provider's usual text; ``http`` None the usual status.
    """

    def __init__(self, code: str, message: str = "", http: int | None = None) -> None:
        super().__init__(f"{code} {message}".strip())
        self.code = code
        self.message = message
        self.http = http


class ConnectionCut(Exception):
    """The connection is closed without an answer."""


@dataclass
class Task:
    """One task that a provider has accepted. Times are seconds since the epoch, on the world's clock.

    ``done_at`` None: it never finishes. ``caller_id``: the id that the caller chose, where the provider has
    one. ``detail``: the code or status that a failure shows. ``data``: what its provider's module keeps.
    """

    id: str
    provider: str
    operation: str
    created_at: float
    done_at: float | None
    outcome: str
    detail: str
    input: Mapping[str, Any]
    directives: Directives
    base_url: str
    start_key: str
    caller_id: str | None = None
    callback_url: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    queries: int = 0
    noticed: bool = False
    notice: Callable[[Task, bool], Notice | None] | None = field(default=None, repr=False)

    def stage(self, now: float) -> Stage:
        """How far the task is: a fifth of its time queued, then running, then done."""
        if self.done_at is None:
            return "running"
        if now >= self.done_at:
            return "done"
        return "queued" if self.progress(now) < _QUEUED_SHARE else "running"

    def progress(self, now: float) -> float:
        """From 0 to 1; a task that never finishes stays at a half."""
        if self.done_at is None:
            return 0.5
        span = self.done_at - self.created_at
        return 1.0 if span <= 0 else max(0.0, min(1.0, (now - self.created_at) / span))


@dataclass(frozen=True)
class Start:
    """What a provider's module says about a task that it accepts; see `Task` for the names.

    ``scope`` separates caller ids that may be equal without being duplicates; ``duplicate`` is the answer to a
    caller id that was used before. ``guard`` looks at the other tasks while nothing else can start, and raises to
    refuse.
    """

    provider: str
    operation: str
    input: Mapping[str, Any]
    directives: Directives
    base_url: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    caller_id: str | None = None
    scope: str = ""
    duplicate: Refusal | None = None
    guard: Callable[[], None] | None = None
    callback_url: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    notice: Callable[[Task, bool], Notice | None] | None = None


class World:
    """Everything the sandbox knows. One per app."""

    def __init__(self, settings: SandboxSettings, wall: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.faults = FaultQueue()
        self.agenda = Agenda(self.now, settings.callback_threads)
        self.callbacks = Callbacks(
            self.agenda,
            self.now,
            scale=settings.time_scale,
            allow_remote=settings.allow_remote_callbacks,
            timeout=settings.callback_timeout,
            kept=settings.max_tasks,
        )
        self.artefacts = Artefacts(hashlib.sha256(f"sandbox {settings.seed}".encode()).digest(), self.now)
        self.lock = threading.RLock()
        self.calls: deque[dict[str, Any]] = deque(maxlen=settings.max_tasks)
        self.offset = 0.0
        self.skew = 0.0
        self.uploads: OrderedDict[str, int | None] = OrderedDict()
        self.paces: dict[str, Pace] = {}
        self._wall = wall
        self._tasks: OrderedDict[tuple[str, str], Task] = OrderedDict()
        self._by_caller: OrderedDict[tuple[str, str, str], Task] = OrderedDict()
        self._starts: OrderedDict[str, deque[str]] = OrderedDict()
        self._numbers = itertools.count(1)
        self._closed = threading.Event()

    # Time

    def now(self) -> float:
        """Seconds since the epoch on the sandbox's calendar, which can be shifted."""
        return self._wall() + self.offset

    def signature_now(self) -> float:
        """Seconds since the epoch that request timestamps are checked against; shifted only on its own."""
        return self._wall() + self.skew

    def scaled(self, seconds: float) -> float:
        """A documented delay as it is kept here."""
        return min(seconds * self.settings.time_scale, _LONGEST)

    def shift(self, seconds: float) -> None:
        """Move the calendar: tasks finish, links expire, callbacks fall due accordingly."""
        self.offset += seconds
        self.agenda.wake()

    def hold_up(self, seconds: float) -> None:
        """Let the current call wait, by the scale of time; until the end of this world at most."""
        self._closed.wait(min(self.scaled(seconds), _LONGEST_HOLD))

    # Submits

    def admit(self, provider: str, *values: object) -> Directives:
        """The magic tokens that hold for a submit, those that refuse it already acted on.

        Raises Refusal or ConnectionCut where a token asks for it. Call it after the checks of the signature.
        """
        always = self.settings.always, self.settings.option(provider, "always")
        directives = read_directives(*always, *values)
        for name in directives.unknown():
            log.warning("unknown magic token [sandbox:%s]", name)
        if "slow" in directives:
            self.hold_up(directives.number("slow", 3))
        if self._cuts(directives, "drop-before"):
            raise ConnectionCut
        self._refuse(directives, "http", "code")
        return directives

    def start(self, start: Start) -> Task:
        """Keep a new task and see to its callbacks; with ``early-callback`` one is sent before returning.

        Raises the start's ``duplicate`` when its caller id is taken, and what its ``guard`` raises.
        """
        directives = start.directives
        now = self.now()
        seconds = directives.number("duration", self.settings.duration)
        done_at: float | None = now if "early-callback" in directives else now + self.scaled(seconds)
        if "stuck" in directives:
            done_at = None
        with self.lock:
            taken = (start.provider, start.scope, start.caller_id or "") in self._by_caller
            if start.duplicate is not None and taken:
                raise start.duplicate
            if start.guard is not None:
                start.guard()
            task = Task(
                id=start.id,
                provider=start.provider,
                operation=start.operation,
                created_at=now,
                done_at=done_at,
                outcome=self._outcome(directives),
                detail=directives.text("fail"),
                input=start.input,
                directives=directives,
                base_url=start.base_url,
                start_key=directives.text("key") or start.caller_id or start.callback_url or "",
                caller_id=start.caller_id,
                callback_url=start.callback_url,
                data=dict(start.data),
                notice=start.notice,
            )
            self._keep(task, start.scope)
        self._plan_notices(task)
        return task

    def _keep(self, task: Task, scope: str) -> None:
        self._tasks[task.provider, task.id] = task
        if task.caller_id is not None:
            self._by_caller[task.provider, scope, task.caller_id] = task
        self._starts.setdefault(task.start_key, deque(maxlen=self.settings.max_tasks)).append(task.id)
        for kept in (self._tasks, self._by_caller, self._starts):
            while len(kept) > self.settings.max_tasks:
                kept.popitem(last=False)

    def _outcome(self, directives: Directives) -> str:
        for name in ("fail", "empty", "blocked", "partial"):
            if name in directives:
                return name
        number = next(self._numbers)
        dice = int.from_bytes(hashlib.sha256(f"{self.settings.seed}/{number}".encode()).digest()[:4], "big")
        return "fail" if dice / 2**32 < self.settings.failure_rate else "success"

    # Queries

    def find(self, provider: str, task_id: str) -> Task | None:
        """A provider's task by the provider's id."""
        with self.lock:
            return self._tasks.get((provider, task_id))

    def by_caller(self, provider: str, scope: str, caller_id: str) -> Task | None:
        """A provider's task by the id that the caller chose."""
        with self.lock:
            return self._by_caller.get((provider, scope, caller_id))

    def asked(self, task: Task) -> None:
        """Note a query. Raises Refusal or ConnectionCut where the task's tokens ask for it."""
        with self.lock:
            task.queries += 1
        if self._cuts(task.directives, "query-drop"):
            raise ConnectionCut
        self._refuse(task.directives, "query-http", "query-code")

    def tasks(self, provider: str | None = None) -> list[Task]:
        """All tasks kept, oldest first."""
        with self.lock:
            return [task for task in self._tasks.values() if provider in (None, task.provider)]

    def starts(self) -> dict[str, list[str]]:
        """Ids of the tasks that were started, by what they are counted under; the last ones of each name."""
        with self.lock:
            return {key: list(ids) for key, ids in self._starts.items()}

    # Ends

    def finish(self, task: Task, outcome: str, detail: str = "") -> None:
        """End a task now, whatever its tokens said, and send its callback.

        Raises ValueError for an outcome that is not in `OUTCOMES`.
        """
        if outcome not in OUTCOMES:
            raise ValueError(f"outcome must be one of {', '.join(OUTCOMES)}")
        with self.lock:
            task.outcome, task.detail, task.done_at = outcome, detail, self.now()
        self._finished(task)

    def reset(self) -> None:
        """Forget tasks, records and faults, and set the clock right."""
        with self.lock:
            self.agenda.clear()
            self.faults.clear()
            self.callbacks.clear()
            for kept in (self._tasks, self._by_caller, self._starts):
                kept.clear()
            self.calls.clear()
            self.uploads.clear()
            self._numbers = itertools.count(1)
            for pace in self.paces.values():
                pace.clear()
            self.offset = self.skew = 0.0

    def close(self) -> None:
        """Let the threads end."""
        self._closed.set()
        self.agenda.close()

    def _plan_notices(self, task: Task) -> None:
        if task.notice is None:
            return
        if "early-callback" in task.directives:
            self._finished(task, now=True)
        elif task.done_at is not None:
            self.agenda.at(task.done_at, lambda: self._finished(task))
        if "forged-callback" in task.directives:
            forged = task.notice(task, True)
            if forged is not None:
                span = (task.done_at or task.created_at) - task.created_at
                self.callbacks.send(forged, due=task.created_at + span * _FORGED_SHARE)

    def _finished(self, task: Task, *, now: bool = False) -> None:
        with self.lock:
            if task.noticed or task.notice is None or "no-callback" in task.directives:
                return
            task.noticed = True
        notice = task.notice(task, False)
        if notice is None:
            return
        if now:
            self.callbacks.send_now(notice)
            return
        due = self.now() + self.scaled(task.directives.number("late-callback", 0))
        copies = max(1, int(task.directives.number("duplicate-callbacks", 1)))
        for _ in range(min(copies, _MOST_COPIES)):
            self.callbacks.send(notice, due=due)

    def _cuts(self, directives: Directives, name: str) -> bool:
        limited = directives.limited(name)
        if limited is None:
            return False
        value, _, source = limited
        return self.faults.spend(source, whole(value))

    def _refuse(self, directives: Directives, http: str, code: str) -> None:
        status, reason = self._spend(directives, http), self._spend(directives, code)
        if status is not None:
            number = whole(status) or 0
            if not 200 <= number <= 599:  # no final answer's status
                number = 500
            raise Refusal(reason or "", "asked for by a magic token", http=number)
        if reason is not None:
            raise Refusal(reason)

    def _spend(self, directives: Directives, name: str) -> str | None:
        """The value of a limited token that still works, one of its times used up; None if there is none."""
        limited = directives.limited(name)
        if limited is None or not self.faults.spend(limited[2], limited[1]):
            return None
        return limited[0]
