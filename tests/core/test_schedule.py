"""Waiting: never shorter than planned, never much longer, and no faster than a provider allows."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver import schedule

NOW = 1_767_225_600_000  # 2026-01-01T00:00:00Z
CHANCES = st.floats(0, 1, exclude_max=True)
PLANS = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=8)


@given(plan=PLANS, step=st.integers(0, 20), chance=CHANCES)
def test_jitter_only_adds_and_only_a_little(plan: list[float], step: int, chance: float) -> None:
    """A wait lies between its entry and a tenth more; the last entry repeats."""
    planned = plan[min(step, len(plan) - 1)] * 1000
    assert planned - 0.5 <= schedule.delay(plan, step, chance) <= planned * 1.1 + 0.5


@given(plan=PLANS.map(sorted), chance=CHANCES)
def test_waits_of_a_growing_plan_grow(plan: list[float], chance: float) -> None:
    """With the same luck no later wait is shorter."""
    waits = [schedule.delay(plan, step, chance) for step in range(len(plan) + 2)]
    assert waits == sorted(waits)


def test_the_attempts_of_a_delivery() -> None:
    """One wait for each entry of the schedule, then none."""
    assert [schedule.attempt_delay((5, 300), failed, 0.0) for failed in (1, 2, 3)] == [5000, 300_000, None]
    assert schedule.attempt_delay((), 1, 0.0) is None


@given(failed=st.integers(0, 50), asked=st.none() | st.floats(0, 1e6), chance=CHANCES)
def test_a_submission_waits_at_least_as_long_as_asked(failed: int, asked: float | None, chance: float) -> None:
    """The provider's pause is kept; without one the waits grow to a minute."""
    wait = schedule.submit_delay(failed, asked, chance)
    assert wait >= round((asked or 0) * 1000)
    assert wait >= 1000
    assert wait <= max(66_000, round((asked or 0) * 1000))


def test_the_pauses_of_a_circuit() -> None:
    """None while it is closed, then ever longer."""
    pauses = [schedule.circuit_pause(failures, 0.0) for failures in range(12)]
    assert pauses[:5] == [None] * 5
    opened = [pause for pause in pauses[5:] if pause is not None]
    assert opened == sorted(opened)
    assert len(opened) == 7


# Retry-After -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("0", 0),
        ("7", 7000),
        (" 120 ", 120_000),
        ("1.2", 2000),
        ("-5", 0),
        ("86400", 86_400_000),
        ("86401", 86_400_000),
        ("9" * 400, None),
        ("1e300", 86_400_000),
        ("inf", None),
        ("nan", None),
        ("", None),
        ("soon", None),
        ("٣", None),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30_000),
        ("Thursday, 01-Jan-26 00:00:30 GMT", 30_000),
        ("Thu Jan  1 00:00:30 2026", 30_000),
        ("Thu, 01 Jan 2026 01:00:30 +0100", 30_000),
        ("Wed, 31 Dec 2025 23:59:59 GMT", 0),
        ("Thu, 01 Jan 2099 00:00:00 GMT", 86_400_000),
        ("Thu, 99 Jan 2026 00:00:30 GMT", None),
        ("Thu, 01 Jan 99999 00:00:30 GMT", None),
        ("Thu, 01 Jan 2026 00:00:30 +9999", None),
    ],
)
def test_the_forms_of_retry_after(text: str, wait: int | None) -> None:
    """Seconds or one of the three dates of RFC 9110; nonsense is nothing."""
    assert schedule.retry_after(text, NOW) == wait


def test_no_header_asks_for_nothing() -> None:
    """Absent is absent."""
    assert schedule.retry_after(None, NOW) is None


@given(st.text(max_size=40) | st.floats().map(str) | st.integers().map(str))
def test_no_retry_after_can_crash_or_wait_for_ever(text: str) -> None:
    """Whatever a subscriber sends: nothing, or 0 to one day."""
    wait = schedule.retry_after(text, NOW)
    assert wait is None or 0 <= wait <= schedule.DAY


@given(st.datetimes(datetime(1980, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001  UTC is given beside
def test_any_date_is_a_wait_until_then(moment: datetime) -> None:
    """To the second, as HTTP writes dates."""
    expected = int(moment.timestamp()) * 1000 - NOW
    assert schedule.retry_after(format_datetime(moment, usegmt=True), NOW) == max(0, min(expected, schedule.DAY))


# Slots -------------------------------------------------------------------------------------------------


@given(
    rate=st.floats(0.05, 500),
    turns=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 40), st.integers(-50, 50)), max_size=40),
    horizon=st.integers(0, 1000),
)
def test_no_second_sees_more_starts_than_the_rate(rate: float, turns: list[tuple[int, int, int]], horizon: int) -> None:
    """However callers interleave, and however their clocks differ a little."""
    now, next_free = NOW, 0
    starts: list[int] = []
    for passed, wanted, skew in turns:
        now += passed
        times, next_free = schedule.slots(next_free, now + skew, rate, horizon, wanted)
        assert len(times) <= wanted
        assert all(now + skew <= time <= now + skew + horizon + 1 for time in times)
        starts += times
    assert starts == sorted(starts)
    for place, start in enumerate(starts):
        within = sum(1 for later in starts[place:] if later < start + 1000)
        assert within <= rate + 1


@given(rate=st.floats(0.05, 500), wanted=st.integers(0, 50))
def test_nothing_is_reserved_that_is_not_given(rate: float, wanted: int) -> None:
    """A caller that gets no slot leaves the next free one where it was; one that gets some moves it behind them."""
    free = NOW + 5000
    assert schedule.slots(free, NOW, rate, 250, wanted) == ([], free)
    times, after = schedule.slots(free, free, rate, 250, wanted)
    assert bool(times) == bool(wanted)
    assert after >= (times[-1] if times else free)


def test_a_caller_that_comes_late_gets_no_saved_up_slots() -> None:
    """An hour of silence does not entitle to a burst."""
    times, _ = schedule.slots(NOW - 3_600_000, NOW, 10, 250, 100)
    assert times == [NOW, NOW + 100, NOW + 200]


def test_slots_taken_one_by_one_keep_the_rate() -> None:
    """What is lost by whole milliseconds goes to the provider: 300 a second are not 333, however they are taken."""
    free = NOW
    for _ in range(300):
        _, free = schedule.slots(free, free, 300, 250, 1)
    assert free >= NOW + 1000
