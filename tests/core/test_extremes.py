"""Settings of a provider at the ends of what is allowed."""

from __future__ import annotations

from typing import Any

import pytest

from receiver.errors import SettingsError
from receiver.models import TaskStatus
from tests.core.stage import done, settings_in

TIMES = ("TOY_POLL_SCHEDULE", "TOY_TASK_DEADLINE")
RATES = ("TOY_SUBMIT_RATE", "TOY_QUERY_RATE")
LEAST = {"TOY_POLL_SCHEDULE": "1e-300", "TOY_SUBMIT_RATE": "0.000001", "TOY_QUERY_RATE": "0.000001"}
MOST = dict.fromkeys(TIMES, "2678400") | dict.fromkeys(RATES, "1000000") | {"TOY_MAX_IN_FLIGHT": "9" * 40}


@pytest.mark.parametrize("extremes", [LEAST, MOST], ids=["least", "most"])
def test_a_provider_works_with_what_its_settings_allow(build: Any, extremes: dict[str, str]) -> None:
    """The smallest and the largest pace that is taken is one at which a task is submitted, asked about, and ends."""
    stage = build(**extremes)
    task = stage.running()
    stage.wait_until_due(task)
    stage.poll(done())
    assert stage.task(task).status is TaskStatus.SUCCEEDED
    again = stage.create()
    stage.clock.pass_by(1_000_000)  # until the next slot, at the smallest rate
    assert stage.claim_one().task.id == again.id


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("value", ["0", "2678401", "1e17", "1e308", "inf"])
def test_times_that_no_clock_and_no_database_holds_are_refused(toy: None, tmp_path: Any, name: str, value: str) -> None:
    """A deadline that overflows would fail every submission, and a wait, a task that was bought: neither is taken."""
    with pytest.raises(SettingsError, match=f"{name} must be .*above 0.* at most"):
        settings_in(tmp_path, **{name: value})


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("value", ["0", "1e-17", "1e-306", "1e7", "1e308"])
def test_rates_that_no_clock_and_no_database_holds_are_refused(toy: None, tmp_path: Any, name: str, value: str) -> None:
    """At a rate so low that the next slot overflows nothing would ever be submitted: it is not taken."""
    with pytest.raises(SettingsError, match=f"{name} must be a number from 0.000001 to 1000000"):
        settings_in(tmp_path, **{name: value})
