"""Lists: newest first, every row once, however much is added meanwhile."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from receiver.store import deliveries, events, notices, schema, tasks
from receiver.store.deliveries import Filter as DeliveryFilter
from receiver.store.tasks import Filter
from tests.core.stage import HOOK, Clock, Stage
from tests.store.test_claims import plans
from tests.store.test_event_order import add


def walk(fetch: Any, limit: int, between: Any = lambda: None) -> list[str]:
    """All ids of a list, page by page."""
    found: list[str] = []
    cursor = None
    while True:
        page = fetch(limit, cursor)
        assert len(page.items) <= limit
        found += [item.id for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return found
        assert len(page.items) == limit
        between()


@pytest.mark.parametrize("limit", [1, 3, 7, 8, 100])
def test_pages_hold_every_row_once(stage: Stage, clock: Clock, limit: int) -> None:
    """Whatever the size of a page, also when the last one is full; what is added meanwhile shifts nothing."""
    made = []
    for number in range(7):
        made.append(stage.create(str(number)).id)
        clock.pass_by(0.5)

    def fetch(size: int, cursor: str | None) -> Any:
        return stage.runtime.tasks.list_page(stage.account, Filter(), size, cursor)

    assert walk(fetch, limit, stage.create) == made[::-1]


def test_every_list_has_pages(stage: Stage, clock: Clock) -> None:
    """Subscribers, events and deliveries as well; deliveries by status, subscriber, task and type."""
    subscribers = []
    for _ in range(4):
        subscribers.append(stage.subscribe(HOOK))
        clock.pass_by(1)
    task = stage.running()
    stage.attempt(410, room=1)
    runtime, account = stage.runtime, stage.account
    assert walk(lambda size, at: runtime.subscribers.list_page(account, size, at), 3) == [
        one.id for one in reversed(subscribers)
    ]

    def count(**wanted: str) -> int:
        def fetch(size: int, at: str | None) -> Any:
            return runtime.deliveries.list_page(account, DeliveryFilter(**wanted), size, at)

        return len(walk(fetch, 2))

    everything = len(stage.rows("SELECT id FROM deliveries"))
    assert count() == everything
    assert count(task=task.id) == 4
    assert count(status="dead") == 1
    assert count(status="pending") == everything - 1
    assert count(subscriber=subscribers[0].id, event_type="task.running") == 1
    assert count(event_type="task.succeeded") == 0


def test_a_list_of_one_state_is_looked_up(stage: Stage) -> None:
    """A few failed tasks among a million others are found without going through those."""
    stage.create()
    wanted = Filter(status="failed")
    plan = plans(stage, lambda connection: tasks.list_page(connection, stage.account, wanted, 50, None))
    assert any("ix_tasks_status" in line for line in plan), plan


def test_the_lists_of_an_account_are_not_sorted_and_a_tasks_deliveries_are_looked_up(stage: Stage) -> None:
    """Neither the newest events nor the deliveries of one task cost more beside a million others."""
    stage.subscribe(HOOK)
    task = stage.running()
    plan = plans(stage, lambda connection: events.list_page(connection, stage.account, (), 50, None))
    assert any("ix_events_account" in line for line in plan), plan
    assert not any("B-TREE" in line for line in plan), plan
    wanted = DeliveryFilter(task=task.id)
    plan = plans(stage, lambda connection: deliveries.list_page(connection, stage.account, wanted, 50, None))
    assert any("ix_deliveries_task" in line for line in plan), plan


def test_pages_of_events_hold_every_event_once(stage: Stage, clock: Clock) -> None:
    """In the order that the feed has too, though clocks differ; also on from one that was purged meanwhile."""
    made = []
    for seconds in (5, -3, -1, 7):
        with stage.runtime.store.write() as connection:
            made.append(add(connection, stage, clock.pass_by(seconds)))
    feed = stage.runtime.feed
    first = feed.list_page(stage.account, (), 1, None)
    assert first.next_cursor is not None

    def fetch(size: int, cursor: str | None) -> Any:
        return feed.list_page(stage.account, (), size, cursor)

    assert [event.id for event in feed.behind(stage.account, 0, (), 10)] == made
    for size in (1, 2, 3, 100):
        assert walk(fetch, size) == made[::-1]
    with stage.runtime.store.write() as connection:
        connection.execute(schema.events.delete().where(schema.events.c.id == first.next_cursor))
    assert [event.id for event in fetch(10, first.next_cursor).items] == made[:-1][::-1]


@pytest.mark.parametrize("cursor", ["", "nonsense", "zzzz", "' OR 1=1 --", "task_" + "z" * 26])
def test_a_cursor_is_only_a_place(stage: Stage, cursor: str) -> None:
    """A made-up one gives a page or an empty one, never an error or another account's rows."""
    stage.create()
    page = stage.runtime.tasks.list_page("acct_other", Filter(), 10, cursor)
    assert page.items == ()
    assert len(stage.runtime.tasks.list_page(stage.account, Filter(), 10, cursor).items) <= 1


def test_a_move_expects_a_state_and_a_fence(stage: Stage) -> None:
    """Compare and set: who comes second changes nothing."""
    task = stage.create()
    with stage.runtime.store.write() as connection:
        assert not tasks.move(connection, task.id, {"due_at": 5}, fence=7)
        assert tasks.move(connection, task.id, {"due_at": 5}, fence=0)
        assert tasks.move(connection, task.id, {"status": "canceled"})
        assert not tasks.move(connection, task.id, {"status": "failed"})
    assert stage.task(task).status == "canceled"


def test_a_notice_is_kept_once_however_parallel(build: Any) -> None:
    """Ten equal notices at once over two processes: one row, ten copies."""
    stages: list[Stage] = [build(), build()]
    task = stages[0].running()
    start = threading.Barrier(10)

    def run(stage: Stage) -> None:
        start.wait()
        stage.notice(task)

    threads = [threading.Thread(target=run, args=(stages[number % 2],)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with stages[0].runtime.store.read() as connection:
        (kept,) = notices.of_task(connection, task.id)
    assert kept.copies == 10
