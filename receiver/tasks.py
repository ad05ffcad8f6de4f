"""Tasks as callers see them: create, list, cancel, timeline."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import is_
from typing import Any

from marshmallow import ValidationError

import handlers
from handlers import Operation
from receiver.addresses import AddressPolicy, BadUrl, check_url
from receiver.bell import Bell, submit_lane
from receiver.errors import Conflict, IdempotencyMismatch, Invalid, NotFound, field_errors
from receiver.faultpoints import reached
from receiver.lifecycle import Change
from receiver.models import (
    Attempt,
    Delivery,
    Event,
    EventType,
    Page,
    Step,
    StoredNotice,
    Task,
    TaskStatus,
    new_id,
    storable,
)
from receiver.providers import Providers
from receiver.store import Connection, Store, backlog, deliveries, events, notices, subscribers, tasks
from receiver.store.settling import Move, settle
from receiver.store.tasks import Filter

MAX_DEADLINE = 31 * 86_400
"""Seconds that a caller can give a task, at most."""
MOST_LINES = 10_000
"""Lines in a timeline: a thousand subscribers with a hundred statements each would have a million."""


@dataclass(frozen=True, slots=True)
class NewTask:
    """What a caller asks for. ``deadline``: seconds from now, or None for the provider's default."""

    provider: str
    operation: str
    input: Mapping[str, Any]
    callback_url: str | None = None
    metadata: Mapping[str, str] | None = None
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class History:
    """All that is kept of a task; each kind in the order it came.

    ``left_out``: so many more deliveries there are. ``whole``: whether nothing else is left out.
    """

    task: Task
    steps: Sequence[Step]
    notices: Sequence[StoredNotice]
    events: Sequence[Event]
    deliveries: Sequence[Delivery]
    attempts: Sequence[Attempt]
    left_out: int = 0
    whole: bool = True

    def lines(self) -> list[Step]:
        """Every step in order: states, calls, notices, events, delivery attempts (when they ended)."""
        lines = list(self.steps)
        for notice in self.notices:
            detail: dict[str, Any] = {"id": notice.id, "verdict": notice.verdict, "copies": notice.copies}
            lines.append(Step(notice.received_at, "notice", detail))
        lines += [Step(event.created_at, "event", {"id": event.id, "type": event.type}) for event in self.events]
        by_id = {delivery.id: delivery for delivery in self.deliveries}
        for attempt in self.attempts:
            delivery = by_id[attempt.delivery_id]
            lines.append(
                Step(
                    attempt.started_at + attempt.duration_ms,
                    "attempt",
                    {
                        "delivery": delivery.id,
                        "event_type": delivery.event_type,
                        "url": delivery.url,
                        "number": attempt.number,
                        "response_status": attempt.response_status,
                        "error": attempt.error,
                    },
                )
            )
        return sorted(lines, key=lambda line: line.at)  # stable: what happened in one ms keeps its order


class _KeyTaken(Exception):
    """Another request has bound the idempotency key."""


class TaskService:
    """What callers do with tasks: create, find, read and cancel them. Its transactions begin here."""

    def __init__(
        self, store: Store, providers: Providers, policy: AddressPolicy, bell: Bell, clock: Callable[[], int]
    ) -> None:
        """``policy``: which callback URLs are allowed. ``clock``: ms since the epoch."""
        self._store = store
        self._providers = providers
        self._policy = policy
        self._bell = bell
        self._clock = clock

    def create(self, account_id: str, wanted: NewTask, key: str | None = None) -> tuple[Task, bool]:
        """Store a new task, to be submitted by a worker; whether it is a replay of an earlier request.

        ``key``: the idempotency key. Raises Invalid, ProviderOff, IdempotencyMismatch, Conflict.
        """
        fingerprint = _fingerprint(wanted)
        if key is not None:
            replayed = self._find_replay(account_id, key, fingerprint)
            if replayed is not None:
                return replayed, True
        handler, operation = self._providers.operation(wanted.provider, wanted.operation)
        input_json = self._checked_input(wanted, operation)
        now = self._clock()
        deadline = wanted.deadline or handler.pace.task_deadline
        task = Task(
            id=new_id("task", now),
            account_id=account_id,
            provider=wanted.provider,
            operation=wanted.operation,
            status=TaskStatus.QUEUED,
            input_json=input_json,
            metadata=dict(wanted.metadata or {}),
            callback_url=wanted.callback_url,
            created_at=now,
            deadline_at=now + round(deadline * 1000),
            due_at=now,
        )
        try:
            self._add(task, key, fingerprint)
        except _KeyTaken:
            assert key is not None  # only a key can be taken
            replayed = self._find_replay(account_id, key, fingerprint)
            if replayed is None:
                raise Conflict("A request with this Idempotency-Key is being handled; try again in a moment.") from None
            return replayed, True
        reached("task.created")
        self._bell.ring(submit_lane(task.provider))
        return task, False

    def _add(self, task: Task, key: str | None, fingerprint: str) -> None:
        """Store a task with what belongs to it. Raises _KeyTaken, storing nothing."""
        now = task.created_at

        def add(connection: Connection) -> bool:
            if key is not None and tasks.find_key(connection, task.account_id, key) is not None:
                raise _KeyTaken
            if task.callback_url is not None and not self._listens(connection, task.account_id, task.callback_url):
                return False
            tasks.add(connection, task)
            if key is not None and not tasks.remember_key(connection, task.account_id, key, fingerprint, task.id, now):
                raise _KeyTaken  # on PostgreSQL two requests can be here at once; the second waited for the first
            tasks.add_step(connection, task.id, now, "created", {"provider": task.provider})
            return True

        self._store.in_steps(add)

    def _listens(self, connection: Connection, account_id: str, url: str) -> bool:
        """Whether the hidden subscriber behind a callback URL is not disabled; it is made, or a step towards it."""
        now = self._clock()
        hidden = subscribers.behind_callback_url(connection, account_id, url, now)
        return not hidden.disabled or backlog.reopen(connection, hidden.id, now)

    def _find_replay(self, account_id: str, key: str, fingerprint: str) -> Task | None:
        """The task that an idempotency key is bound to, or None. Raises IdempotencyMismatch."""
        with self._store.read() as connection:
            found = tasks.find_key(connection, account_id, key)
            if found is None:
                return None
            known, task_id = found
            if known != fingerprint:
                raise IdempotencyMismatch(
                    "This Idempotency-Key was used with another body; use a new key for a new task."
                )
            # Keys go with their tasks; but a table that is being altered looks empty meanwhile.
            return tasks.get(connection, task_id)

    def _checked_input(self, wanted: NewTask, operation: Operation) -> str:
        """The input as JSON text. Raises Invalid with every problem of the request at once."""
        errors: dict[str, list[str]] = {}
        if wanted.callback_url is not None:
            try:
                check_url(wanted.callback_url, self._policy)
            except BadUrl as error:
                errors["callback_url"] = [str(error)]
        if wanted.deadline is not None and not 1 <= wanted.deadline <= MAX_DEADLINE:
            errors["deadline"] = [f"Must be from 1 to {MAX_DEADLINE} seconds."]
        if not all(storable(name) and storable(value) for name, value in (wanted.metadata or {}).items()):
            errors["metadata"] = ["Must be valid Unicode without NUL."]
        told = wanted.input
        try:
            told = _whole_where_read_so(dict(told), operation.schema().load(dict(told)))
        except ValidationError as error:
            errors.update(field_errors(error.messages, "input"))
        try:
            text = json.dumps(told, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            text.encode()
        except (ValueError, RecursionError):
            errors["input"] = ["Must be JSON whose texts are valid Unicode and whose numbers are finite."]
            text = ""
        if errors:
            raise Invalid(errors)
        return text

    def get(self, account_id: str, task_id: str) -> Task:
        """The task. Raises NotFound."""
        with self._store.read() as connection:
            task = tasks.get(connection, task_id)
        if task is None or task.account_id != account_id:
            raise NotFound("There is no such task.")
        return task

    def list_page(self, account_id: str, wanted: Filter, limit: int, cursor: str | None) -> Page[Task]:
        """An account's tasks, newest first."""
        with self._store.read() as connection:
            return tasks.list_page(connection, account_id, wanted, limit, cursor)

    def cancel(self, account_id: str, task_id: str) -> Task:
        """End a task for its subscribers; what the provider still says of it changes nothing.

        No provider here documents a call that stops a task, so one that runs may still be charged.
        Raises NotFound, or Conflict when the task has ended already.
        """
        self.get(account_id, task_id)
        now = self._clock()
        with self._store.write() as connection:
            task = tasks.hold(connection, [task_id]).get(task_id)
            if task is None:
                raise NotFound("There is no such task.")
            if task.status.final:
                raise Conflict(f"The task has ended already: it is {task.status}.")
            change = Change(TaskStatus.CANCELED, task.progress, None, None, EventType.TASK_CANCELED)
            (settled,) = settle(connection, [Move(task, change)], now)
        self._bell.ring()
        return settled

    def find(self, account_id: str, identity: str) -> list[Task]:
        """An account's tasks with this id, of ours or of a provider (each provider's newest)."""
        with self._store.read() as connection:
            found = [tasks.get(connection, identity)]
            found += [tasks.find_by_provider_id(connection, name, identity) for name in handlers.available()]
        return [task for task in found if task is not None and task.account_id == account_id]

    def history(
        self, account_id: str, task_id: str, *, most: int | None = None, of_each: int | None = None, bodies: bool = True
    ) -> History:
        """A task with all that is kept of it. Raises NotFound.

        Of its deliveries the newest ``most``, of all else the newest ``of_each`` of a kind. ``bodies``: with those of
        notices, events and answers, which may be many times as large as all else together.
        """
        task = self.get(account_id, task_id)
        with self._store.read() as connection:
            of_task = deliveries.of_task(connection, task_id, most)
            ids = [delivery.id for delivery in of_task]
            found = History(
                task,
                steps=tasks.list_steps(connection, task_id, of_each),
                notices=notices.of_task(connection, task_id, of_each, bodies=bodies),
                events=events.of_task(connection, task_id, of_each, bodies=bodies),
                deliveries=of_task,
                attempts=deliveries.attempts_of(connection, ids, of_each, bodies=bodies),
                left_out=0 if most is None else deliveries.count_of_task(connection, task_id) - len(of_task),
            )
        kinds = (found.steps, found.notices, found.events, found.attempts)
        return replace(found, whole=of_each is None or all(len(kind) < of_each for kind in kinds))

    def timeline(self, account_id: str, task_id: str) -> tuple[list[Step], bool]:
        """The steps of a task in order: states, calls, notices, events, delivery attempts; whether these are all.

        The newest MOST_LINES. Raises NotFound.
        """
        of_each = MOST_LINES + 1
        history = self.history(account_id, task_id, most=of_each, of_each=of_each, bodies=False)
        lines = history.lines()
        return lines[-MOST_LINES:], len(lines) <= MOST_LINES and not history.left_out


def _fingerprint(wanted: NewTask) -> str:
    """The same for the same JSON value, however it is written. Raises Invalid for endless nesting."""
    try:
        value = [
            wanted.provider,
            wanted.operation,
            _one_spelling(wanted.input),
            wanted.callback_url,
            dict(wanted.metadata or {}),
            wanted.deadline,
        ]
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
    except RecursionError:
        raise Invalid({"input": ["Is nested too deeply."]}) from None


def _one_spelling(value: Any) -> Any:
    """A JSON value in which 64.0 and 6.4e1 are 64, as they are for most who write JSON (RFC 8785, section 3.2.2.3).

    Only what holds such a number is made anew: of many small values each takes dozens of times its text.
    """
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            members = {name: _one_spelling(inner) for name, inner in value.items()}
            return value if all(map(is_, members.values(), value.values())) else members
        case list():
            items = [_one_spelling(inner) for inner in value]
            return value if all(map(is_, items, value)) else items
    return value


def _whole_where_read_so(given: Any, read: Any) -> Any:
    """An input as it was given, but 2 in place of 2.0 where its schema reads a whole number.

    Only what holds such a number is made anew.
    """
    match given, read:
        case float(), int() if type(read) is int and given == read:
            return read
        case dict(), dict():
            members = {name: _whole_where_read_so(inner, read.get(name)) for name, inner in given.items()}
            return given if all(map(is_, members.values(), given.values())) else members
        case list(), list() if len(given) == len(read):
            items = [_whole_where_read_so(inner, one) for inner, one in zip(given, read, strict=True)]
            return given if all(map(is_, items, given)) else items
    return given
