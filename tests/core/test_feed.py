"""The order of events, for readers who consume them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from receiver.errors import NotFound
from tests.core.stage import Clock, Stage


def test_events_are_read_in_the_order_of_commits(stage: Stage) -> None:
    """One after the other, by pages, by type; nothing twice, nothing left out."""
    tasks = [stage.running(f"job-{number}") for number in range(4)]
    for number, task in enumerate(tasks):
        stage.notice(task, f"job-{number}")
    feed = stage.runtime.feed
    seen: list[str] = []
    place = feed.place_of(stage.account, None)
    while batch := feed.behind(stage.account, place, (), 3)[0]:
        seen += [event.id for event in batch]
        place = feed.place_of(stage.account, batch[-1].id)
    assert len(seen) == len(set(seen)) == 8
    assert [event.id for event in stage.events()] == seen
    ends = feed.behind(stage.account, 0, ["task.succeeded"], 100)[0]
    assert [event.task_id for event in ends] == [task.id for task in tasks]
    newest = feed.newest(stage.account)
    assert newest is not None
    assert newest.id == seen[-1]
    listed: list[str] = []
    cursor = None
    while True:
        page = feed.list_page(stage.account, (), 3, cursor)
        listed += [event.id for event in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert sorted(listed) == sorted(seen)


def test_what_a_reader_does_not_want_is_gone_through_once(stage: Stage) -> None:
    """Whoever waits for a type that seldom comes goes on behind what there was, and misses none that comes then."""
    task = stage.running()
    feed = stage.runtime.feed
    found, place = feed.behind(stage.account, 0, ["task.succeeded"], 10)
    assert not found
    assert place is not None
    assert place.id == stage.events()[-1].id
    assert feed.behind(stage.account, place.seq, ["task.succeeded"], 10) == ([], None)
    stage.notice(task)
    (end,), seen = feed.behind(stage.account, place.seq, ["task.succeeded"], 10)
    assert seen is not None
    assert (end.type, seen.seq, seen.id) == ("task.succeeded", end.seq, end.id)


def test_a_place_survives_the_purge_of_its_event(build: Any, clock: Clock) -> None:
    """A reader who comes back after a long silence misses nothing that is still there."""
    stage: Stage = build(RECEIVER_RETENTION_DAYS=3)
    old = stage.running("job-1")
    stage.notice(old)
    last_read = stage.events()[-1]
    clock.pass_by(4 * 86_400)
    new = stage.running("job-2")
    stage.runtime.sweeping.step()
    feed = stage.runtime.feed
    place = feed.place_of(stage.account, last_read.id)
    assert [event.task_id for event in feed.behind(stage.account, place, (), 10)[0]] == [new.id]


def test_events_hold_the_task_as_it_was_then(stage: Stage) -> None:
    """The bytes are made once: later changes do not reach into earlier events."""
    task = stage.running(metadata={"a": "ü"})
    stage.notice(task)
    running, succeeded = (json.loads(event.body) for event in stage.events(task))
    assert (running["type"], running["data"]["status"]) == ("task.running", "running")
    assert (succeeded["type"], succeeded["data"]["status"]) == ("task.succeeded", "succeeded")
    assert succeeded["data"]["metadata"] == {"a": "ü"}
    assert succeeded["data"]["provider_response"]["state"] == "done"
    assert stage.runtime.feed.get(stage.account, stage.events(task)[0].id).task_id == task.id
    with pytest.raises(NotFound):
        stage.runtime.feed.get("acct_other", stage.events(task)[0].id)


def test_an_event_of_another_account_is_no_place(stage: Stage) -> None:
    """It tells nothing of how many events others have."""
    stage.notice(stage.running())
    assert stage.runtime.feed.place_of("acct_other", stage.events()[-1].id) == 0
