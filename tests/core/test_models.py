"""Ids: unique, of one length, in the order of time."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from receiver.models import first_id, new_id

TIMES = st.integers(0, (1 << 48) - 1)


@given(at=TIMES, prefix=st.sampled_from(["task", "sub", "evt", "dlv", "att", "ntc", "key", "acct"]))
def test_an_id_has_its_prefix_and_26_characters(at: int, prefix: str) -> None:
    """Lower case, without look-alikes, so that it can be read out and put in a URL."""
    assert re.fullmatch(prefix + "_[0-9a-hjkmnp-tv-z]{26}", new_id(prefix, at))


@given(earlier=TIMES, later=TIMES)
def test_ids_sort_by_time(earlier: int, later: int) -> None:
    """A list sorted by id is sorted by creation, and ranges of time are ranges of ids."""
    earlier, later = sorted((earlier, later))
    if earlier < later:
        assert new_id("task", earlier) < new_id("task", later)
    assert first_id("task", earlier) <= new_id("task", earlier)
    assert first_id("task", later) <= new_id("task", later)
    if earlier < later:
        assert new_id("task", earlier) < first_id("task", later)


def test_ids_of_one_moment_differ() -> None:
    """80 random bits."""
    assert len({new_id("evt", 5) for _ in range(10_000)}) == 10_000


def test_the_first_id_of_a_time_before_time() -> None:
    """A filter may name any moment."""
    assert first_id("task", -5) == "task_" + "0" * 26
