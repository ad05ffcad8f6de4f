"""What happens to tasks and deliveries, told once: a line in the log, a count, a span.

Whoever makes something happen calls one function here, after it is stored, so that a log never tells what was
rolled back. A line has the ids by which to find it: ``task``, and the ``request`` that caused it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import handlers
from receiver import logs, metrics, tracing
from receiver.models import CompletedVia, Task, TaskStatus

Told = dict[str, tracing.Value | None]

log = logs.get("watch")

SAID_EVERY = 10.0
"""Seconds between two lines on the same trouble: notices of one provider that were refused for one reason, which
anybody can cause, or a database that is away, which everybody meets all the time."""

_said: dict[tuple[str, str], tuple[float, int]] = {}
_saying = threading.Lock()


def request_answered(
    route: str, method: str, status: int, began: float, request: str, subject: str = "", caller: str | None = None
) -> None:
    """A request was answered. ``began``: ``time.monotonic()`` then. ``subject``: the task that it brought or ended.

    ``caller``: the ``traceparent`` that came with it. Health checks and scrapes are counted, but leave no trace.
    """
    seconds = time.monotonic() - began
    metrics.observe_request(route, method, status, seconds)
    log.debug(
        "request", route=route, method=method, status=status, duration_ms=round(seconds * 1000, 1), request=request
    )
    if tracing.on() and route not in ("/healthz", "/readyz", "/metrics"):
        now = time.time_ns() // 1_000_000
        told: Told = {"http.request.method": method, "http.route": route, "http.response.status_code": status}
        tracing.record(
            f"{method} {route}", subject, now - round(seconds * 1000), now, told,
            kind="server", failed=status >= 500, caller=caller,
        )  # fmt: skip


def task_accepted(task: Task, request: str) -> None:
    """A caller's task was stored. ``request``: the id of the request that brought it."""
    metrics.observe_accepted(task.provider)
    log.info("task accepted", task=task.id, provider=task.provider, operation=task.operation, request=request)


def notice_taken(provider: str, verdict: str, task_id: str | None, request: str, seconds: float) -> None:
    """A notice was kept (or found to be a repetition), and what follows from it is stored. ``seconds``: it took."""
    metrics.observe_notice(provider, verdict)
    if verdict == "believed":
        metrics.observe_callback_to_event(provider, seconds)
    log.info("notice", task=task_id, provider=provider, verdict=verdict, duration_ms=round(seconds * 1000, 1),
             request=request)  # fmt: skip


def notice_refused(provider: str, why: str, request: str) -> None:
    """A call at a callback address was refused; said now and then only, since anybody can call there."""
    metrics.observe_notice(provider, why)
    if (unsaid := _unsaid(provider, why)) is not None:
        log.warning("notice refused", provider=provider, why=why, unsaid=unsaid, request=request)


def database_busy(lane: str, why: str) -> None:
    """A lane of the worker could not have what it wanted of the database; said now and then only."""
    if (unsaid := _unsaid("database busy", lane)) is not None:
        log.warning("database busy", lane=lane, why=why, unsaid=unsaid)


def database_back(lane: str, seconds: float) -> None:
    """A lane of the worker had what it wanted of the database again. ``seconds``: since it first had not."""
    log.info("database back", lane=lane, away_s=round(seconds, 1))


def request_put_off(why: str, request: str | None) -> None:
    """The database could not serve a request, whose caller is to come again; said now and then only."""
    if (unsaid := _unsaid("busy", "")) is not None:
        log.warning("busy", why=why, unsaid=unsaid, request=request)


def _unsaid(what: str, which: str) -> int | None:
    """How often a trouble was not said since the last time; None when it is not to be said now either."""
    now = time.monotonic()
    with _saying:
        last, unsaid = _said.get((what, which), (-SAID_EVERY, 0))
        if now - last < SAID_EVERY:
            _said[what, which] = last, unsaid + 1
            return None
        _said[what, which] = now, 0
        return unsaid


def provider_called(
    provider: str, call: str, outcome: str, tasks: Sequence[Task], began: int, ended: int, *, news: bool = True,
    why: str | None = None,
) -> None:  # fmt: skip
    """A provider was asked (``query``) or given a task (``submit``). ``began``, ``ended``: ms since the epoch.

    ``outcome``: a word; ``accepted`` and ``answered`` are good. ``news``: whether anything changed by it.
    ``why``: what was wrong with one that is not good.
    """
    metrics.observe_provider_call(provider, call, outcome, (ended - began) / 1000)
    good = outcome in ("accepted", "answered")
    say = log.warning if not good else log.info if news else log.debug
    ids = [task.id for task in tasks]
    say(call, provider=provider, outcome=outcome, duration_ms=ended - began,
        **{"task": ids[0]} if len(ids) == 1 else {"tasks": ids}, **{} if good else {"why": why})  # fmt: skip
    if tracing.on():
        told: Told = {"provider": provider, "outcome": outcome}
        for task in tasks:
            more: Told = {"provider_task_id": task.provider_task_id, "operation": task.operation}
            tracing.record(f"{call} {provider}", task.id, began, ended, told | more, kind="client", failed=not good)


def task_changed(was: Task, task: Task, now: int, error: str | None = None) -> None:
    """A task came into another state, and its event is stored. ``now``: ms since the epoch; ``error``: its code."""
    via = task.completed_via
    metrics.observe_task_change(task.provider, task.status, via, rescued=_rescued(was, task))
    log.info("task", task=task.id, provider=task.provider, was=was.status, status=task.status, via=via, error=error)
    if tracing.on():
        told: Told = {"provider": task.provider, "operation": task.operation, "status": task.status, "via": via,
                "error": error, "provider_task_id": task.provider_task_id}  # fmt: skip
        failed = task.status in (TaskStatus.FAILED, TaskStatus.EXPIRED)
        tracing.record(f"settle {task.status}", task.id, now, now, told, failed=failed)
        if task.status.final:
            name = f"task {task.provider} {task.operation}"
            tracing.record(name, task.id, task.created_at, now, told | {"task": task.id}, failed=failed, root=True)


def _rescued(was: Task, task: Task) -> bool:
    """Whether a poll ended a task of which the provider should have called back first."""
    if task.completed_via is not CompletedVia.POLL or was.status is not TaskStatus.RUNNING:
        return False
    try:
        operation = handlers.find(task.provider).operations.get(task.operation)
    except KeyError:
        return False  # a provider that is not there any more; what is only counted must not fail
    return operation is not None and operation.callbacks


def attempt_made(
    delivery_id: str, event_id: str, task_id: str | None, subscriber_id: str, number: int,
    *, created: int, began: int, duration_ms: int, status: int | None, error: str | None,
) -> None:  # fmt: skip
    """A delivery was attempted. ``created``: when there was something to deliver, ``began``: ms since the epoch."""
    metrics.observe_attempt(status, error, duration_ms / 1000)
    if number == 1:
        metrics.observe_first_attempt((began - created) / 1000)
    log.info("attempt", delivery=delivery_id, webhook_id=event_id, task=task_id, subscriber=subscriber_id,
             number=number, status=status, error=error, duration_ms=duration_ms)  # fmt: skip
    if tracing.on():
        told: Told = {"delivery": delivery_id, "event": event_id, "subscriber": subscriber_id, "attempt": number,
                "error.type": error, "http.response.status_code": status}  # fmt: skip
        good = error is None and status is not None and 200 <= status < 300
        tracing.record("delivery attempt", task_id or event_id, began, began + duration_ms, told,
                       kind="client", failed=not good, part=attempt_part(delivery_id, number))  # fmt: skip


def attempt_part(delivery_id: str, number: int) -> str:
    """What the span of an attempt is called by who tells the subscriber of it (see ``tracing.traceparent``)."""
    return f"{delivery_id} {number}"
