"""The tables of the life cycle: every state with every word of a provider, every answer of a subscriber."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers import ErrorCode, RemoteStatus, TaskError, TaskUpdate
from receiver import lifecycle, schedule
from receiver.lifecycle import (
    DISABLE_FAILURES,
    Judgement,
    Result,
    apply_update,
    judge_attempt,
    past_deadline,
    verdict_on_final,
)
from receiver.models import (
    FINAL,
    LIVE,
    CompletedVia,
    Delivery,
    DeliveryStatus,
    EventType,
    Task,
    TaskStatus,
    Trigger,
    Verdict,
)

NOW = 1_767_225_600_000
PLAN = (5.0, 300.0, 1800.0)
TASK = Task("task_1", "acct_1", "toy", "draw", TaskStatus.RUNNING, "{}", {}, None, NOW, NOW + 60_000, NOW)
DELIVERY = Delivery(
    "dlv_1", "acct_1", "evt_1", EventType.TASK_SUCCEEDED, "sub_1", "task_1", "https://x.test/", DeliveryStatus.PENDING,
    NOW, NOW, attempts=1,
)  # fmt: skip
OUR_END = {
    RemoteStatus.SUCCEEDED: (TaskStatus.SUCCEEDED, EventType.TASK_SUCCEEDED),
    RemoteStatus.FAILED: (TaskStatus.FAILED, EventType.TASK_FAILED),
    RemoteStatus.CANCELED: (TaskStatus.CANCELED, EventType.TASK_CANCELED),
}


def said(status: RemoteStatus, progress: float | None = None, error: TaskError | None = None) -> TaskUpdate:
    """A provider's word."""
    return TaskUpdate(status, "{}", "job-1", progress, error=error)


# apply_update ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("via", CompletedVia)
@pytest.mark.parametrize("word", RemoteStatus)
@pytest.mark.parametrize("status", TaskStatus)
def test_every_state_with_every_word(status: TaskStatus, word: RemoteStatus, via: CompletedVia) -> None:
    """A final state never changes; a final word ends every live one; any other makes it run, told once."""
    change = apply_update(replace(TASK, status=status), said(word), via)
    if status in FINAL:
        assert change is None
        return
    assert change is not None
    if word in OUR_END:
        assert (change.status, change.event) == OUR_END[word]
        assert change.completed_via is via
        assert (change.error is not None) == (change.status is TaskStatus.FAILED)
    else:
        assert change.status is TaskStatus.RUNNING
        assert change.event is (None if status is TaskStatus.RUNNING else EventType.TASK_RUNNING)
        assert (change.completed_via, change.error) == (None, None)


def test_states_are_final_or_live() -> None:
    """There is no third kind."""
    assert set(TaskStatus) == FINAL | LIVE
    assert not FINAL & LIVE
    assert all(status.final == (status in FINAL) for status in TaskStatus)


@pytest.mark.parametrize(
    ("before", "given_", "after", "news"),
    [
        (None, None, None, False),
        (None, 0.0, None, False),
        (None, 0.3, 0.3, True),
        (0.3, 0.3, 0.3, False),
        (0.3, 0.2, 0.3, False),
        (0.3, 0.4, 0.4, True),
        (0.3, 7.0, 1.0, True),
        (0.3, float("nan"), 0.3, False),
        (0.3, -1.0, 0.3, False),
        (0.3, None, 0.3, False),
    ],
)
def test_progress_only_grows(before: float | None, given_: float | None, after: float | None, news: bool) -> None:
    """Between 0 and 1; smaller or odd values are no news."""
    change = apply_update(replace(TASK, progress=before), said(RemoteStatus.RUNNING, given_), CompletedVia.POLL)
    assert change is not None
    assert change.progress == after
    assert change.event is (EventType.TASK_PROGRESS if news else None)


def test_success_is_all_of_it_and_failure_keeps_its_reason() -> None:
    """Done is 100 %; a failure without a reason gets one, a success never has one."""
    error = TaskError(ErrorCode.CONTENT_POLICY, "no")
    succeeded = apply_update(TASK, said(RemoteStatus.SUCCEEDED, error=error), CompletedVia.POLL)
    failed = apply_update(replace(TASK, progress=0.5), said(RemoteStatus.FAILED, error=error), CompletedVia.POLL)
    silent = apply_update(TASK, said(RemoteStatus.FAILED), CompletedVia.POLL)
    assert succeeded is not None
    assert (succeeded.progress, succeeded.error) == (1.0, None)
    assert failed is not None
    assert (failed.progress, failed.error) == (0.5, error)
    assert silent is not None
    assert silent.error is not None
    assert silent.error.code is ErrorCode.PROVIDER_ERROR


@pytest.mark.parametrize("status", sorted(LIVE))
@pytest.mark.parametrize("unknown", [False, True])
def test_past_the_deadline(status: TaskStatus, unknown: bool) -> None:
    """It expires; only a lost submission that nobody heard of fails as unknown."""
    change = past_deadline(replace(TASK, status=status, outcome_unknown=unknown))
    if status is TaskStatus.SUBMITTING and unknown:
        assert (change.status, change.event) == (TaskStatus.FAILED, EventType.TASK_FAILED)
        assert change.error is not None
        assert (change.error.code, change.error.retryable) == (ErrorCode.SUBMISSION_UNKNOWN, False)
    else:
        assert (change.status, change.event, change.error) == (TaskStatus.EXPIRED, EventType.TASK_EXPIRED, None)
    assert change.completed_via is None


@pytest.mark.parametrize("status", sorted(FINAL))
@pytest.mark.parametrize("word", RemoteStatus)
def test_verdicts_on_final_tasks(status: TaskStatus, word: RemoteStatus) -> None:
    """Another end is a contradiction; the same end, or no end, is merely late."""
    contradicts = word in OUR_END and OUR_END[word][0] is not status
    verdict = verdict_on_final(replace(TASK, status=status), said(word))
    assert verdict is (Verdict.CONTRADICTION if contradicts else Verdict.LATE)


# judge_attempt -----------------------------------------------------------------------------------------


def judge(
    result: Result,
    delivery: Delivery = DELIVERY,
    plan: Sequence[float] = PLAN,
    failures: int = 0,
    since: int | None = None,
    **more: Any,
) -> Judgement:
    """Judge an attempt that has just ended."""
    values = {"disable_after": 432_000.0, "now": NOW, "chance": 0.0, **more}
    return judge_attempt(delivery, result, plan, failures=failures, failing_since=since, **values)


@pytest.mark.parametrize("status", range(200, 600))
def test_every_status(status: int) -> None:
    """2xx delivers, 410 is the end of both, all else is tried again."""
    verdict = judge(Result(status, None, None))
    if status < 300:
        assert verdict == Judgement(DeliveryStatus.DELIVERED, None, None, None, None, healthy=True)
    elif status == 410:
        assert verdict == Judgement(DeliveryStatus.DEAD, None, "gone", None, "gone", healthy=False)
    else:
        hold = NOW + 10_000 if status == 429 else None
        assert verdict == Judgement(DeliveryStatus.PENDING, NOW + 5000, None, hold, None, healthy=False)


@pytest.mark.parametrize("status", [None, 200, 204])
def test_an_error_is_a_failure_whatever_the_status_said(status: int | None) -> None:
    """A 200 whose body never ended was not a success."""
    assert judge(Result(status, "timeout", None)).status is DeliveryStatus.PENDING


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("asked", "due", "hold"), [(0, 5000, 0), (4000, 5000, 4000), (60_000, 60_000, 60_000)])
def test_retry_after_postpones_and_slows(status: int, asked: int, due: int, hold: int) -> None:
    """It never makes the next attempt earlier than the schedule; it holds the whole subscriber."""
    verdict = judge(Result(status, None, asked))
    assert verdict.due_at == NOW + due
    assert verdict.hold_until == NOW + hold


@pytest.mark.parametrize("status", [400, 404, 500, 302])
def test_retry_after_counts_on_429_and_503_alone(status: int) -> None:
    """Elsewhere the header means something else or nothing."""
    verdict = judge(Result(status, None, 60_000))
    assert (verdict.due_at, verdict.hold_until) == (NOW + 5000, None)


def test_the_schedule_is_used_up_step_by_step() -> None:
    """One attempt more than it has waits; then dead."""
    for attempts, wait in ((1, 5000), (2, 300_000), (3, 1_800_000)):
        assert judge(Result(500, None, None), replace(DELIVERY, attempts=attempts)).due_at == NOW + wait
    verdict = judge(Result(500, None, None), replace(DELIVERY, attempts=4))
    assert (verdict.status, verdict.reason, verdict.due_at) == (DeliveryStatus.DEAD, "exhausted", None)
    last = judge(Result(429, None, 60_000), plan=())
    assert last.hold_until == NOW + 60_000, "the pause is for all that waits, not for this delivery alone"
    assert judge(Result(500, None, None), plan=()).reason == "exhausted", "no schedule: a single attempt"


def test_a_new_run_of_the_schedule_counts_from_its_base() -> None:
    """After a retry by hand the first wait is the first again."""
    again = replace(DELIVERY, attempts=5, base=4, trigger=Trigger.MANUAL)
    assert judge(Result(500, None, None), again).due_at == NOW + 5000


def test_progress_is_attempted_once() -> None:
    """Delivered or dead, never pending."""
    progress = replace(DELIVERY, event_type=EventType.TASK_PROGRESS)
    assert judge(Result(200, None, None), progress).status is DeliveryStatus.DELIVERED
    verdict = judge(Result(429, None, 60_000), progress)
    assert (verdict.status, verdict.reason) == (DeliveryStatus.DEAD, "not_retried")
    assert verdict.hold_until == NOW + 60_000, "the subscriber is slowed all the same"


@pytest.mark.parametrize(
    ("failures", "pause"),
    [(0, None), (3, None), (4, 10), (5, 30), (6, 60), (7, 300), (8, 300), (1000, 300)],
)
def test_the_circuit_opens_with_the_fifth_failure(failures: int, pause: int | None) -> None:
    """``failures`` came before this one; the pauses grow, and the last repeats."""
    hold = judge(Result(500, None, None), failures=failures).hold_until
    assert hold == (None if pause is None else NOW + pause * 1000)


def test_the_longer_pause_wins() -> None:
    """An open circuit does not shorten what Retry-After asks for, nor the other way round."""
    assert judge(Result(503, None, 60_000), failures=4).hold_until == NOW + 60_000
    assert judge(Result(503, None, 1000), failures=4).hold_until == NOW + 10_000
    assert judge(Result(429, None, None), failures=7).hold_until == NOW + 300_000


@pytest.mark.parametrize(
    ("since", "before", "disable"),
    [
        (None, 0, None),
        (NOW - 431_999_999, 1000, None),
        (NOW - 432_000_000, DISABLE_FAILURES - 2, None),
        (NOW - 432_000_000, DISABLE_FAILURES - 1, "failing"),
        (0, 1, None),
        (0, 1000, "failing"),
    ],
)
def test_a_subscriber_is_disabled_after_long_and_frequent_failure(
    since: int | None, before: int, disable: str | None
) -> None:
    """Five days of nothing but failure, and ten of them at least; neither alone disables anybody."""
    assert judge(Result(500, None, None), since=since, failures=before).disable == disable
    assert judge(Result(500, None, None), plan=(), since=since, failures=before).disable == disable, "its last attempt"
    told_once = replace(DELIVERY, event_type=EventType.TASK_PROGRESS)
    assert judge(Result(500, None, None), told_once, since=since, failures=before).disable == disable
    assert judge(Result(200, None, None), since=since, failures=before).disable is None


@given(
    status=st.none() | st.integers(100, 999),
    error=st.none() | st.just("timeout"),
    asked=st.none() | st.integers(0, schedule.DAY),
    attempts=st.integers(1, 10),
    failures=st.integers(0, 50),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_no_attempt_is_ever_earlier_than_its_plan(
    status: int | None, error: str | None, asked: int | None, attempts: int, failures: int, chance: float
) -> None:
    """Whatever happens: pending has a time no earlier than planned or asked for, everything else has none."""
    delivery = replace(DELIVERY, attempts=attempts)
    verdict = judge(Result(status, error, asked), delivery, failures=failures, chance=chance)
    if verdict.status is DeliveryStatus.PENDING:
        assert verdict.due_at is not None
        planned = PLAN[attempts - 1] * 1000
        least = max(planned, asked or 0) if status in (429, 503) else planned
        assert least <= verdict.due_at - NOW <= max(planned * 1.1 + 1, asked or 0)
        assert verdict.reason is None
    else:
        assert verdict.due_at is None
        assert (verdict.reason is None) == (verdict.status is DeliveryStatus.DELIVERED)


def test_a_refusal_keeps_the_providers_error() -> None:
    """The caller learns what the provider said."""
    error = TaskError(ErrorCode.INSUFFICIENT_CREDIT, "no money", provider_code="402")
    change = lifecycle.rejected(TASK, error)
    assert (change.status, change.error, change.event) == (TaskStatus.FAILED, error, EventType.TASK_FAILED)
