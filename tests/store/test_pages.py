"""Lists: newest first, every row once, however much is added meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from receiver.models import first_id
from receiver.store import deliveries, events, notices, paging, schema, tasks
from receiver.store.deliveries import Filter as DeliveryFilter
from receiver.store.tasks import Filter
from tests.core.stage import HOOK, Clock, Stage
from tests.databases import on_postgresql, on_sqlite
from tests.store.test_claims import plans
from tests.store.test_event_order import add


def walk(fetch: Any, limit: int, between: Any = lambda: None, *, full: bool = True) -> list[str]:
    """All ids of a list, page by page; ``full``: of pages that hold as many as they may."""
    found: list[str] = []
    cursor = None
    while True:
        page = fetch(limit, cursor)
        assert len(page.items) <= limit
        found += [item.id for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return found
        assert len(page.items) == limit or not full
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


def test_a_page_of_large_tasks_ends_early(stage: Stage, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred of the largest never lie in the memory at once, and none is left out for that."""
    made = []
    for text in ("x" * 200,) * 5 + ("small",):
        made.append(stage.create(text).id)
        clock.pass_by(1)
    monkeypatch.setattr(paging, "MOST_TEXT", 500)
    sizes: list[int] = []

    def fetch(size: int, cursor: str | None) -> Any:
        page = stage.runtime.tasks.list_page(stage.account, Filter(), size, cursor)
        sizes.append(len(page.items))
        return page

    assert walk(fetch, 100, full=False) == made[::-1]
    assert sizes == [3, 2, 1]


@pytest.mark.parametrize("types", [(), ("task.running", "subscriber.ping")])
def test_a_page_of_large_events_ends_early(
    stage: Stage, clock: Clock, monkeypatch: pytest.MonkeyPatch, types: Sequence[str]
) -> None:
    """A list, and a reader who consumes them by their types: both get one by one what is larger than a page."""
    made = []
    for _ in range(4):
        with stage.runtime.store.write() as connection:
            made.append(add(connection, stage, clock.pass_by(1)))
    monkeypatch.setattr(paging, "MOST_TEXT", 1)
    feed = stage.runtime.feed
    assert walk(lambda size, at: feed.list_page(stage.account, types, size, at), 100, full=False) == made[::-1]
    read: list[str] = []
    place = 0
    for _ in made:
        found, looked = feed.behind(stage.account, place, types, 100)
        assert looked is not None
        read += [event.id for event in found]
        place = looked.seq
    assert read == made


def test_a_page_is_measured_in_bytes(stage: Stage, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chinese prompts are three times as large as they are long: the memory to plan for holds for them, too."""
    for _ in range(3):
        stage.create("\u732b" * 200)
        clock.pass_by(1)
    monkeypatch.setattr(paging, "MOST_TEXT", 1000)
    assert len(stage.runtime.tasks.list_page(stage.account, Filter(), 100, None).items) == 1


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


def test_what_another_accounts_subscriber_got_is_not_gone_through(stage: Stage) -> None:
    """Asking for it by its id finds nothing, at no cost, however much it was."""
    subscriber = stage.subscribe(HOOK)
    stage.running()
    wanted = DeliveryFilter(subscriber=subscriber.id)
    assert stage.runtime.deliveries.list_page(stage.account, wanted, 5, None).items
    assert not stage.runtime.deliveries.list_page("acct_other", wanted, 5, None).items
    plan = plans(stage, lambda connection: deliveries.list_page(connection, "acct_other", wanted, 5, None))
    assert not any("deliveries" in line for line in plan), plan


def test_the_place_of_an_event_that_was_purged_is_looked_up(stage: Stage) -> None:
    """A reader who was away for a month costs no walk through all that the account has had since then."""
    stage.running()
    plan = plans(stage, lambda connection: events.seq_before(connection, stage.account, first_id("evt", 1)))
    lookup = next(line for line in plan if "ix_events_account" in line)
    assert "seq<" in lookup or any("seq <=" in line for line in plan if "Index Cond" in line), plan


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

    assert [event.id for event in feed.behind(stage.account, 0, (), 10)[0]] == made
    for size in (1, 2, 3, 100):
        assert walk(fetch, size) == made[::-1]
    with stage.runtime.store.write() as connection:
        connection.execute(schema.events.delete().where(schema.events.c.id == first.next_cursor))
    assert [event.id for event in fetch(10, first.next_cursor).items] == made[:-1][::-1]


@pytest.mark.parametrize("few", [0, 1, 100])
def test_a_list_is_the_same_however_its_rows_are_found(
    stage: Stage, clock: Clock, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a pair of metadata is that of few tasks, or few deliveries wait, these are looked up; else all go by."""
    monkeypatch.setattr(paging, "FEW", few)
    stage.subscribe(HOOK)
    made = []
    for number in range(4):
        made.append(stage.running(f"job-{number}", metadata={"kind": "all", "order": str(number % 2)}).id)
        clock.pass_by(1)
    stage.attempt(200, room=1)
    runtime, account = stage.runtime, stage.account

    def tasks_of(**metadata: str) -> list[str]:
        wanted = Filter(metadata=metadata)
        return walk(lambda size, at: runtime.tasks.list_page(account, wanted, size, at), 1)

    assert tasks_of(kind="all") == made[::-1]
    assert tasks_of(kind="all", order="1") == [made[3], made[1]]
    assert tasks_of(kind="none", order="1") == []
    wanted = DeliveryFilter(status="pending")
    waiting = walk(lambda size, at: runtime.deliveries.list_page(account, wanted, size, at), 2)
    assert len(waiting) == 3
    assert runtime.deliveries.list_page("acct_other", wanted, 5, None).items == ()


def test_what_waits_is_looked_up_in_a_long_history(stage: Stage) -> None:
    """A few deliveries that wait are listed at the same cost beside a million finished ones."""
    stage.create()
    waiting = DeliveryFilter(status="pending")
    plan = plans(stage, lambda connection: deliveries.list_page(connection, stage.account, waiting, 50, None))
    assert any("ix_deliveries_due" in line for line in plan), plan


@on_sqlite
@pytest.mark.parametrize("cursor", [None, first_id("dlv", 2**47)])
def test_what_waits_is_looked_up_whatever_waits_for_others(
    stage: Stage, cursor: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backlog of one account does not send the lists of another through its history; nor does a later page."""
    monkeypatch.setattr(paging, "FEW", 1)
    for port in (1, 2):
        stage.subscribe(f"http://127.0.0.1:{port}/hook")
    stage.running()
    waiting = DeliveryFilter(status="pending")
    assert len(stage.runtime.deliveries.list_page(stage.account, waiting, 50, cursor).items) == 2
    plan = plans(stage, lambda connection: deliveries.list_page(connection, "acct_other", waiting, 50, cursor))
    assert any("deliveries USING" in line and "id=?)" in line for line in plan), plan
    assert not any("account_id=?)" in line or "id<" in line for line in plan), plan


@on_postgresql
def test_a_pair_that_many_have_is_looked_up_for_each_task(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never gone through for each task, which takes longer than a statement may where the table was not analyzed."""
    monkeypatch.setattr(paging, "FEW", 0)
    stage.create(metadata={"kind": "all", "order": "1"})
    wanted = Filter(metadata={"kind": "all", "order": "1"})
    plan = plans(stage, lambda connection: tasks.list_page(connection, stage.account, wanted, 50, None))
    assert any("SubPlan" in line for line in plan), plan
    assert not any("Semi Join" in line for line in plan), plan


@on_sqlite
@pytest.mark.parametrize("few", [0, 1])
def test_a_value_that_all_tasks_have_is_not_gathered(stage: Stage, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of a million tasks with the same metadata costs as much as a page of twenty."""
    monkeypatch.setattr(paging, "FEW", few)
    stage.create(metadata={"kind": "all"})
    wanted = Filter(metadata={"kind": "all"})
    plan = plans(stage, lambda connection: tasks.list_page(connection, stage.account, wanted, 50, None))
    assert any("LIST SUBQUERY" in line for line in plan) is bool(few), plan


@on_sqlite
def test_a_page_of_a_time_does_not_go_through_others(stage: Stage, clock: Clock) -> None:
    """The last page before a day costs what the first does; a few tasks with a metadata are looked up in any time."""
    made = []
    for number in range(100):
        made.append(stage.create(metadata={"rare": "yes"} if number == 3 else None).id)
        clock.pass_by(1)

    def effort(wanted: Filter, cursor: str | None) -> int:
        ticks: list[None] = []
        with stage.runtime.store.read() as connection:
            database: Any = connection.connection.driver_connection
            database.set_progress_handler(lambda: ticks.append(None), 1)
            assert tasks.list_page(connection, stage.account, wanted, 2, cursor).items
            database.set_progress_handler(None, 0)
        return len(ticks)

    before = Filter(created_before=clock.now + 1000)
    assert effort(before, made[2]) < 1.5 * effort(before, None)
    of_time = Filter(created_after=1, created_before=clock.now + 1000, metadata={"rare": "yes"})
    assert effort(of_time, None) < 1.5 * effort(Filter(metadata={"rare": "yes"}), None)


@pytest.mark.parametrize("cursor", ["", "nonsense", "zzzz", "' OR 1=1 --", "task_" + "z" * 26])
def test_a_cursor_is_only_a_place(stage: Stage, cursor: str) -> None:
    """A made-up one gives a page or an empty one, never an error or another account's rows."""
    stage.create()
    page = stage.runtime.tasks.list_page("acct_other", Filter(), 10, cursor)
    assert page.items == ()
    assert len(stage.runtime.tasks.list_page(stage.account, Filter(), 10, cursor).items) <= 1


def test_a_move_expects_a_task_that_has_not_ended(stage: Stage) -> None:
    """Compare and set: who comes second changes nothing."""
    task = stage.create()
    with stage.runtime.store.write() as connection:
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
