"""A provider that throttles submissions of which it does not say what became of them."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from handlers import OutcomeUnknown, Receipt, Submission
from handlers._deadline import begin_call
from receiver.models import TaskStatus
from receiver.store import pacing
from receiver.worker.submit_lane import SubmitLane
from tests.core.stage import Stage


@pytest.mark.parametrize("repeatable", [False, True])
def test_a_lost_submission_may_ask_for_a_pause(stage: Stage, monkeypatch: pytest.MonkeyPatch, repeatable: bool) -> None:
    """A provider that throttles gets no further submissions meanwhile: each could be lost like the first."""
    monkeypatch.setattr(stage.handler, "submit_is_safe_to_repeat", repeatable, raising=False)
    stage.create()
    stage.runtime.submissions.lost(stage.claim_one().task, "HTTP 429", 60.0)
    other = stage.create()
    stage.clock.pass_by(59)
    assert stage.claim() == []
    stage.clock.pass_by(1)
    assert other.id in [start.task.id for start in stage.claim()]


def test_the_pause_of_the_call_is_kept(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HTTP 429 to a submission says of the time to come back holds back the tasks behind it."""

    def submit(_: Submission) -> Receipt:
        raise OutcomeUnknown("HTTP 429", 60.0)

    monkeypatch.setattr(stage.handler, "submit", submit, raising=False)
    task = stage.create()
    (hand_over,) = SubmitLane(stage.runtime, "toy").look(1)
    hand_over()
    assert stage.task(task).outcome_unknown
    other = stage.create()
    stage.clock.pass_by(59)
    assert stage.claim() == []
    assert stage.task(other).status is TaskStatus.QUEUED


def test_look_ups_of_a_submission_count_as_queries(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a repeated submission asks before it starts anything leaves the provider alone for as long as queries do."""

    def submit(_: Submission) -> Receipt:
        for _ in range(3):
            begin_call(time.monotonic())
        return Receipt("job-2", "{}")

    stage.running("job-1")
    stage.clock.pass_by(6)
    stage.asked_for()
    monkeypatch.setattr(stage.handler, "submit", submit, raising=False)
    monkeypatch.setattr(stage.handler, "pace", replace(stage.handler.pace, query_rate=0.5), raising=False)
    stage.create()
    (hand_over,) = SubmitLane(stage.runtime, "toy").look(1)
    hand_over()
    with stage.runtime.store.read() as connection:
        free = pacing.next_free(connection, "toy:query", stage.clock(), 0.5)
    assert free == pytest.approx(stage.clock() + 4000, abs=300)


def test_a_clock_that_was_years_ahead_for_a_moment_holds_back_nothing_for_years(stage: Stage) -> None:
    """Of what it left behind, a provider's free slot delays tasks by little more than the longest pause there is."""
    years = 10 * 365 * 86_400
    stage.clock.pass_by(years)
    stage.running("early")
    stage.clock.pass_by(-years)
    late = stage.create(deadline=86_400)
    assert stage.claim() == []
    stage.clock.pass_by(71 * 60)
    assert [start.task.id for start in stage.claim()] == [late.id]


@pytest.mark.parametrize("call", ["query", "submit"])
def test_a_free_slot_in_years_is_looked_at_now_and_set_right(stage: Stage, call: str) -> None:
    """A lane that believed in it would sleep until then, and no turn that mends it would ever be taken."""
    service = stage.runtime.polling if call == "query" else stage.runtime.submissions
    stage.running("early") if call == "query" else stage.create()
    stage.clock.pass_by(30)
    with stage.runtime.store.write() as connection:
        pacing.postpone(connection, f"toy:{call}", stage.clock() + 10 * 365 * 86_400_000)
    assert (service.next_look("toy") or 0) <= stage.clock()
    stage.poll() if call == "query" else stage.claim()
    assert stage.clock() < (service.next_look("toy") or 0) < stage.clock() + 71 * 60_000


def test_a_cap_makes_no_worker_take_more_than_it_has_seats_for(build: Any) -> None:
    """What it has claimed waits for a seat while its lease runs out: no provider's cap adds to its room."""
    stage: Stage = build(TOY_MAX_IN_FLIGHT=5)
    for _ in range(3):
        stage.create()
    assert len(stage.claim(room=1)) == 1
