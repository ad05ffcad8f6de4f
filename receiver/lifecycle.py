"""What may become what, and when next. Pure functions: no clock, no I/O, no database.

Callback and poll both end in ``apply_update``; every attempt of a delivery ends in ``judge_attempt``.
"""

from __future__ import annotations

from collections.abc import Sequence

from handlers import ErrorCode, RemoteStatus, TaskError, TaskUpdate, record
from receiver import schedule
from receiver.models import CompletedVia, Delivery, DeliveryStatus, EventType, Task, TaskStatus, Verdict

_FINAL_OF = {
    RemoteStatus.SUCCEEDED: TaskStatus.SUCCEEDED,
    RemoteStatus.FAILED: TaskStatus.FAILED,
    RemoteStatus.CANCELED: TaskStatus.CANCELED,
}

DISABLE_FAILURES = 10
"""A subscriber is disabled only after this many failed attempts in a row, however long ago the first of them was.

A webhook that is hardly ever used is not given up for two failures that happen to lie days apart.
"""

EVENT_OF = {
    TaskStatus.RUNNING: EventType.TASK_RUNNING,
    TaskStatus.SUCCEEDED: EventType.TASK_SUCCEEDED,
    TaskStatus.FAILED: EventType.TASK_FAILED,
    TaskStatus.CANCELED: EventType.TASK_CANCELED,
    TaskStatus.EXPIRED: EventType.TASK_EXPIRED,
}


@record
class Change:
    """What an update does to a task. ``event`` is None when subscribers have nothing new to learn."""

    status: TaskStatus
    progress: float | None
    error: TaskError | None
    completed_via: CompletedVia | None
    event: EventType | None


def apply_update(task: Task, update: TaskUpdate, via: CompletedVia) -> Change | None:
    """What the provider's word makes of a task; None when the task is final already.

    A final word wins in every live state, also before the submission's answer has been stored.
    """
    if task.status.final:
        return None
    if update.status.final:
        status = _FINAL_OF[update.status]
        error = None
        if status is TaskStatus.FAILED:
            error = update.error or TaskError(ErrorCode.PROVIDER_ERROR, "The provider says that the task failed.")
        progress = 1.0 if status is TaskStatus.SUCCEEDED else task.progress
        return Change(status, progress, error, via, EVENT_OF[status])
    progress = task.progress
    if update.progress is not None and update.progress > (task.progress or 0.0):
        progress = min(update.progress, 1.0)
    if task.status is not TaskStatus.RUNNING:
        return Change(TaskStatus.RUNNING, progress, None, None, EventType.TASK_RUNNING)
    event = EventType.TASK_PROGRESS if progress != task.progress else None
    return Change(TaskStatus.RUNNING, progress, None, None, event)


def past_deadline(task: Task) -> Change:
    """The end of a task whose deadline passed without a final word.

    A task whose submission's answer was lost, and of which nothing was heard since, fails as
    ``submission_unknown``; any other expires.
    """
    if task.status is TaskStatus.SUBMITTING and task.outcome_unknown:
        return submission_unknown(task)
    return Change(TaskStatus.EXPIRED, task.progress, None, None, EventType.TASK_EXPIRED)


def submission_unknown(task: Task, why: str = "nothing was heard of it since") -> Change:
    """The end of a task of which nobody knows whether it was started: it is never bought a second time."""
    error = TaskError(
        ErrorCode.SUBMISSION_UNKNOWN,
        f"Whether the provider started the task is not known ({why}). It may have run (and been charged) there; "
        "submitting again is your decision.",
        retryable=False,
    )
    return Change(TaskStatus.FAILED, task.progress, error, None, EventType.TASK_FAILED)


def rejected(task: Task, error: TaskError) -> Change:
    """The end of a task that the provider refused to take."""
    return Change(TaskStatus.FAILED, task.progress, error, None, EventType.TASK_FAILED)


def verdict_on_final(task: Task, update: TaskUpdate) -> Verdict:
    """How a notice about a task that is final already is filed."""
    if not update.status.final or _FINAL_OF[update.status] is task.status:
        return Verdict.LATE
    return Verdict.CONTRADICTION


@record
class Judgement:
    """What an attempt makes of its delivery, and of its subscriber.

    ``due_at``: of the next attempt (pending only). ``hold_until``: no attempt to this subscriber
    starts before (None: leave as it is). ``disable``: why the subscriber is to be disabled, if so.
    """

    status: DeliveryStatus
    due_at: int | None
    reason: str | None
    hold_until: int | None
    disable: str | None
    healthy: bool


DELIVERED = Judgement(DeliveryStatus.DELIVERED, None, None, None, None, healthy=True)


@record
class Result:
    """An attempt's outcome as far as judging needs it. ``retry_after``: delay in ms asked for, or None."""

    status: int | None
    error: str | None
    retry_after: int | None


def is_success(result: Result) -> bool:
    """Whether the subscriber has taken it: 2xx, complete, and nothing else."""
    return result.error is None and result.status is not None and 200 <= result.status < 300


def judge_attempt(
    delivery: Delivery,
    result: Result,
    plan: Sequence[float],
    *,
    failures: int,
    failing_since: int | None,
    disable_after: float,
    now: int,
    chance: float,
) -> Judgement:
    """Decide after an attempt that just ended (``delivery.attempts`` counts it already).

    ``failures``/``failing_since``: the subscriber's record before this attempt. ``disable_after``: seconds of
    nothing but failure, at least DISABLE_FAILURES of them, after which the subscriber is disabled.
    Only 2xx is success; 410 ends the delivery and disables the subscriber (Standard Webhooks).
    """
    if is_success(result):
        return DELIVERED
    if result.status == 410:
        return Judgement(DeliveryStatus.DEAD, None, "gone", None, "gone", healthy=False)
    overloaded = result.status in (429, 503)
    asked = result.retry_after if overloaded else None
    pauses = [pause for pause in (asked, schedule.circuit_pause(failures + 1, chance)) if pause is not None]
    if result.status == 429 and asked is None:
        pauses.append(schedule.delay((schedule.SLOW_DOWN,), 0, chance))
    hold = now + max(pauses) if pauses else None
    since = failing_since if failing_since is not None else now
    hopeless = now - since >= disable_after * 1000 and failures + 1 >= DISABLE_FAILURES
    disable = "failing" if hopeless else None
    if delivery.event_type is EventType.TASK_PROGRESS:
        # Progress is soon out of date: a late repetition would only follow newer news.
        return Judgement(DeliveryStatus.DEAD, None, "not_retried", hold, disable, healthy=False)
    wait = schedule.attempt_delay(plan, delivery.attempts - delivery.base, chance)
    if wait is None:
        return Judgement(DeliveryStatus.DEAD, None, "exhausted", hold, disable, healthy=False)
    return Judgement(DeliveryStatus.PENDING, now + max(wait, asked or 0), None, hold, disable, healthy=False)
