"""Claims: fair between subscribers, capped for each, and at a cost that does not grow with what is not due."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from math import ceil
from typing import Any
from unittest import mock

import pytest
from sqlalchemy import Connection, event, text

from receiver.models import Subscriber, TaskStatus
from receiver.store import claiming, tasks
from receiver.store import deliveries as delivery_queries
from receiver.store import subscribers as subscriber_queries
from receiver.store.claiming import Claim
from receiver.store.direct import File, Session, directly
from receiver.store.places import database_folder
from receiver.store.prepared import Prepared
from tests.core.stage import HOOK, Clock, Stage
from tests.databases import on_postgresql, on_sqlite


def waiting(stage: Stage, count: int, **more: Any) -> Subscriber:
    """A subscriber with so many deliveries due."""
    subscriber = stage.subscribe(HOOK, "subscriber.ping", **more)
    for _ in range(count):
        stage.tell(subscriber)
    return subscriber


def claim(stage: Stage, room: int, per_subscriber: int = 8) -> Sequence[Claim]:
    """What a lane with so many free seats would take."""
    now = stage.clock()
    with stage.runtime.store.write() as connection:
        return claiming.claim(connection, now, now + 30_000, room, per_subscriber)


def shares(claims: Sequence[Claim]) -> Counter[str]:
    """How many each subscriber got."""
    return Counter(found.subscriber.id for found in claims)


# Fairness ----------------------------------------------------------------------------------------------


def test_a_backlog_keeps_nobody_waiting(stage: Stage) -> None:
    """Beside one with 300 due, five others get their one in the very next claim."""
    crowd = waiting(stage, 300)
    others = [waiting(stage, 1) for _ in range(5)]
    got = shares(claim(stage, 10))
    assert {other.id for other in others} <= set(got)
    assert got[crowd.id] >= 2


def test_nobody_has_more_in_flight_than_allowed(stage: Stage) -> None:
    """The cap counts over all claims until the attempts have ended or their leases have passed."""
    crowd = waiting(stage, 20)
    first = claim(stage, 100, per_subscriber=4)
    assert shares(first) == {crowd.id: 4}
    assert claim(stage, 100, per_subscriber=4) == ()
    stage.finish(list(first[:1]), 200)
    assert len(claim(stage, 100, per_subscriber=4)) == 1
    stage.clock.pass_by(30)
    assert len(claim(stage, 100, per_subscriber=4)) == 4


def test_capped_subscribers_do_not_stand_in_the_way(stage: Stage) -> None:
    """Many that are at their cap, all served longer ago: with one free seat the next one is served all the same."""
    for _ in range(5):
        waiting(stage, 3)
    assert len(claim(stage, 5, per_subscriber=1)) == 5
    stage.clock.pass_by(1)
    late = waiting(stage, 1)
    assert shares(claim(stage, 1, per_subscriber=1)) == {late.id: 1}


def test_the_reserve_is_for_whoever_has_nothing_in_flight(stage: Stage) -> None:
    """Many that are busy, and have more waiting, were served longer ago: their turn keeps no seat from the others."""
    for _ in range(8):
        waiting(stage, 3)
    assert len(claim(stage, 8)) == 8
    stage.clock.pass_by(1)
    late = waiting(stage, 2)
    with stage.runtime.store.write() as connection:
        subscriber_queries.note_served(connection, [late.id], stage.clock())
    found = stage.runtime.deliveries.turn((), 4, reserved=4).claims
    assert shares(found) == {late.id: 1}


def test_subscribers_are_served_in_turn(stage: Stage) -> None:
    """With one seat and three backlogs, each gets every third attempt."""
    three = [waiting(stage, 9) for _ in range(3)]
    order = []
    for _ in range(9):
        (found,) = claim(stage, 1)
        order.append(found.subscriber.id)
        stage.clock.pass_by(0.01)
    assert all(set(order[place : place + 3]) == {one.id for one in three} for place in (0, 3, 6))


@pytest.mark.parametrize("by", ["nobody", "retry", "ping"])
def test_a_rate_limit_spaces_attempts(stage: Stage, by: str) -> None:
    """Two a second is one every half second, whatever waits, how many seats are free, and who wants them sent now."""
    limited = waiting(stage, 10, rate_limit=2.0)
    ids = [row.id for row in stage.rows("SELECT id FROM deliveries WHERE subscriber_id = :id", id=limited.id)]
    times = []
    for number in range(40):
        if by == "retry":
            stage.runtime.deliveries.retry(stage.account, ids[number % 10])
        elif by == "ping":
            stage.ping(limited)
        times += [stage.clock()] * len(claim(stage, 100))
        stage.clock.pass_by(0.1)
    assert len(times) == 8
    assert all(later - earlier >= 500 for earlier, later in pairwise(times))
    assert limited.rate_limit == 2.0


@pytest.mark.parametrize("rate", [1000.0, 700.0, 225.0, 80.0, 30.0, 0.3])
def test_no_rate_limit_is_rounded_up(stage: Stage, rate: float) -> None:
    """At most so many a second, also where that does not divide the second into whole milliseconds."""
    waiting(stage, 3, rate_limit=rate)
    for by_hand in (False, True):
        (taken,) = claim(stage, 1)
        if by_hand:
            (left,) = stage.rows("SELECT id FROM deliveries WHERE NOT leased")
            stage.runtime.deliveries.retry(stage.account, left.id)
        stage.clock.now += ceil(1000 / rate) - 1
        assert not claim(stage, 1), taken
        stage.clock.now += 1
    assert claim(stage, 1)


def test_a_retry_by_hand_waits_for_the_rate_limit_alone(stage: Stage) -> None:
    """A pause that the subscriber asked for ends with it, and the next attempt is a moment away."""
    limited = waiting(stage, 2, rate_limit=2.0)
    stage.attempt(503, retry_after="3600")
    (delivery, *_) = stage.rows("SELECT id FROM deliveries WHERE subscriber_id = :id", id=limited.id)
    stage.runtime.deliveries.retry(stage.account, delivery.id)
    stage.clock.pass_by(0.5)
    assert len(claim(stage, 100)) == 1


def test_a_claim_is_exclusive_and_fenced(build: Any) -> None:
    """Two processes never take the same delivery; each claim has the next fence number."""
    one, two = build(), build()
    waiting(one, 6)
    taken = list(claim(one, 3)) + list(claim(two, 100))
    assert len({found.delivery.id for found in taken}) == len(taken) == 6
    assert {found.delivery.fence for found in taken} == {1}
    one.clock.pass_by(31)
    assert {found.delivery.fence for found in claim(two, 100)} == {2}


def test_claims_come_oldest_due_first(stage: Stage, clock: Clock) -> None:
    """What has waited longest goes first, for deliveries and for tasks."""
    subscriber = stage.subscribe()
    made = []
    for _ in range(5):
        made.append(stage.tell(subscriber).id)
        clock.pass_by(1)
    assert [found.delivery.id for found in claim(stage, 3)] == made[:3]
    queued = []
    for number in range(4):
        queued.append(stage.create(str(number)).id)
        clock.pass_by(1)
    assert [start.task.id for start in stage.claim(2)] == queued[:2]


def test_the_next_look_is_at_the_first_that_can_be_attempted(stage: Stage, clock: Clock) -> None:
    """Held, disabled and deleted subscribers wake nobody; nothing waiting is None."""
    looks = stage.runtime.deliveries.next_look
    assert looks() is None
    subscriber = waiting(stage, 2)
    assert looks() == clock()
    stage.attempt(429, room=1, retry_after="20")
    assert looks() == clock() + 20_000
    stage.runtime.subscribers.change(stage.account, subscriber.id, {"disabled": True})
    assert looks() is None
    stage.runtime.subscribers.change(stage.account, subscriber.id, {"disabled": False})
    stage.runtime.subscribers.delete(stage.account, subscriber.id)
    assert looks() is None
    stage.tell(subscriber)  # by somebody who has read it before
    assert looks() is None
    assert not claim(stage, 1)


# Cost --------------------------------------------------------------------------------------------------


_FETCH, _RUN, _SEND = Prepared.fetch, Prepared.run, Prepared.send


def plans(stage: Stage, work: Any) -> list[str]:
    """How the database would find the rows of every query that the work makes."""
    seen: list[tuple[str, Any]] = []
    direct: list[tuple[str, Any]] = []  # what goes past SQLAlchemy

    def note(_: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
        seen.append((statement, parameters))

    def fetch(query: Prepared, connection: Connection, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        statement, ordered = query._for(connection)
        direct.append((statement, ordered(values)))
        return _FETCH(query, connection, values)

    def run(change: Prepared, connection: Connection, rows: Sequence[Sequence[Any]]) -> int:
        statement, ordered = change._for(connection)
        direct.extend((statement, ordered(values)) for values in rows)
        return _RUN(change, connection, rows)

    def send(change: Prepared, connection: Connection, rows: Sequence[Sequence[Any]]) -> None:
        statement, ordered = change._for(connection)
        direct.extend((statement, ordered(values)) for values in rows)
        _SEND(change, connection, rows)

    event.listen(stage.runtime.store.engine, "before_cursor_execute", note)
    with (
        mock.patch.object(Prepared, "fetch", fetch),
        mock.patch.object(Prepared, "run", run),
        mock.patch.object(Prepared, "send", send),
        stage.runtime.store.write() as connection,
    ):
        work(connection)
    event.remove(stage.runtime.store.engine, "before_cursor_execute", note)
    lines: list[str] = []
    with stage.runtime.store.write() as connection:
        ask = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")  # else it walks through any small table
        for statement, parameters in filter(_finds_rows, seen):
            lines += [str(row[-1]) for row in connection.exec_driver_sql(ask + statement, parameters)]
        for statement, parameters in filter(_finds_rows, direct):
            found = directly(connection, statement, partial(_asked, ask + statement, parameters))
            lines += [str(row[-1]) for row in found]
    return lines


def _finds_rows(asked: tuple[str, Any]) -> bool:
    return asked[0].lstrip().upper().startswith(("SELECT", "WITH", "UPDATE", "DELETE"))


def _asked(statement: str, values: Any, driver: Session | File) -> list[tuple[Any, ...]]:
    return driver.rows(statement, values)


def walks(lines: list[str], table: str, *but: str) -> list[str]:
    """Lines of plans by which every row of a table is gone through. ``but``: by these indexes it may be."""
    found = [line for line in lines if f"Seq Scan on {table}" in line or line.startswith(f"SCAN {table}")]
    return [line for line in found if not any(index in line for index in but)]


@pytest.mark.parametrize("what", ["queued", "lost", "running", "count", "next", "cap", "overdue"])
def test_looking_for_tasks_uses_the_index_of_what_is_due(stage: Stage, what: str) -> None:
    """However many finished tasks lie beside, no look at tasks walks through them."""
    now = stage.clock()
    looks = {
        "queued": lambda c: tasks.claim(c, "toy", TaskStatus.QUEUED, TaskStatus.SUBMITTING, now, now + 1, 5, submits=1),
        "lost": lambda c: tasks.claim(c, "toy", TaskStatus.SUBMITTING, TaskStatus.SUBMITTING, now, now + 1, 5),
        "running": lambda c: tasks.claim(c, "toy", TaskStatus.RUNNING, TaskStatus.RUNNING, now, now + 1, 5),
        "count": lambda c: tasks.count_due(c, "toy", TaskStatus.RUNNING, now, 5),
        "next": lambda c: tasks.next_due(c, "toy", TaskStatus.QUEUED),
        "cap": lambda c: tasks.count_at_provider(c, "toy"),
        "overdue": lambda c: tasks.overdue(c, ["toy"], now, now, {TaskStatus.RUNNING: ["toy"]}, now, 5),
    }
    stage.create()
    lines = plans(stage, looks[what])
    partial = "ix_tasks_deadline" if what == "overdue" else "ix_tasks_due"
    assert any(partial in line for line in lines), lines
    assert not walks(lines, "tasks", partial), lines


@pytest.mark.parametrize("what", ["claim", "next"])
def test_looking_for_deliveries_uses_the_index_of_what_waits(stage: Stage, what: str) -> None:
    """Neither delivered ones nor subscribers with nothing to get are walked through, nor what waits for later."""
    waiting(stage, 2)
    looks = {
        "claim": lambda c: claiming.claim(c, stage.clock(), stage.clock() + 1, 5, 8),
        "next": lambda c: claiming.next_due(c, stage.clock(), 8),
    }
    lines = plans(stage, looks[what])
    assert any("ix_deliveries_due" in line for line in lines), lines
    assert not walks(lines, "deliveries", "USING"), lines
    assert not walks(lines, "subscribers", "USING"), lines


@pytest.mark.parametrize(
    ("index", "look"),
    [
        ("ix_subscribers_registered", lambda c, account: subscriber_queries.of_account(c, account)),
        ("ix_subscribers_registered", lambda c, account: subscriber_queries.count(c, [account])),
        ("ix_subscribers_registered", lambda c, account: subscriber_queries.list_page(c, account, 5, None)),
        ("ix_subscribers_task_only", lambda c, account: subscriber_queries.of_callback_url(c, account, HOOK)),
    ],
)
def test_hidden_subscribers_are_not_walked_through(stage: Stage, index: str, look: Any) -> None:
    """A callback URL of its own for each task leaves one for each: events and new tasks cost the same beside them."""
    lines = plans(stage, lambda connection: look(connection, stage.account))
    assert any(index in line for line in lines), lines
    assert not walks(lines, "subscribers"), lines


def test_the_sweep_looks_for_orphans_among_registered_ones_alone(stage: Stage) -> None:
    """Retries that wait behind ten thousand callback URLs keep the writer's turn no longer than none do."""
    gone = waiting(stage, 2)
    lines = plans(stage, lambda c: delivery_queries.end_orphans(c, stage.clock()))
    assert any("ix_subscribers_registered" in line for line in lines), lines
    assert not walks(lines, "deliveries"), lines
    with stage.runtime.store.write() as connection:
        subscriber_queries.change(connection, gone.id, {"deleted_at": stage.clock()})
        assert delivery_queries.end_orphans(connection, stage.clock()) == 2
        assert delivery_queries.end_orphans(connection, stage.clock()) == 0


def add_for_later(stage: Stage, subscriber: Subscriber, count: int) -> None:
    """So many more deliveries for a subscriber who has one, all of them due in a minute."""
    same = "account_id, event_id, event_type, subscriber_id, status, created_at"
    row = text(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)"
        f" INSERT INTO deliveries (id, due_at, {same}) SELECT 'dlv_' || i, :later, {same} FROM n,"
        " (SELECT * FROM deliveries WHERE subscriber_id = :subscriber LIMIT 1) AS one"
    )
    given = {"count": count, "later": stage.clock() + 60_000, "subscriber": subscriber.id}
    with stage.runtime.store.write() as connection:
        connection.execute(row, given)


def test_what_is_under_way_is_counted_by_an_index_of_its_own(stage: Stage) -> None:
    """On either database: what waits for a later attempt, which may be a whole backlog, is not gone through."""
    subscriber = waiting(stage, 5)
    assert claim(stage, 2)
    add_for_later(stage, subscriber, 1000)
    if not database_folder(stage.runtime.settings.database_url):
        with stage.runtime.store.write() as connection:
            connection.exec_driver_sql("ANALYZE")
    lines = plans(stage, lambda c: claiming._UNDER_WAY_OF.fetch(c, [subscriber.id], (stage.clock(),)))
    assert any("ix_deliveries_leased" in line for line in lines), lines


@on_postgresql
def test_no_value_gets_a_plan_of_its_own(stage: Stage) -> None:
    """What is due for a subscriber is planned once for all: a plan anew costs more than all else about a delivery."""
    waiting(stage, 5)
    with stage.runtime.store.write() as connection:
        for _ in range(3):
            claiming.claim(connection, stage.clock(), stage.clock() + 30_000, 1, 8)
        statement, _ = claiming._DUE._for(connection)
        kept = text("SELECT custom_plans, generic_plans FROM pg_prepared_statements WHERE statement = :statement")
        assert connection.execute(kept, {"statement": statement}).one() == (0, 3)


@on_postgresql
def test_of_many_that_wait_as_many_are_looked_at_as_there_is_room(stage: Stage) -> None:
    """What is under way is counted for those whose turn it is, not for all whose turn will come."""
    for _ in range(20):
        waiting(stage, 1)
    with stage.runtime.store.write() as connection:
        connection.exec_driver_sql("ANALYZE")
        statement, ordered = claiming._READY._for(connection)
        ask = partial(_asked, "EXPLAIN ANALYZE " + statement, ordered((stage.clock(), 8, 3)))
        lines = [line for (line,) in directly(connection, statement, ask)]
    (counted,) = (line for line in lines if "ix_deliveries_leased" in line)
    assert counted.endswith("loops=3)"), lines


@on_postgresql
@pytest.mark.parametrize("what", [claiming._READY, claiming._NEXT_DUE], ids=["claim", "next"])
def test_subscribers_that_nobody_has_counted_yet_are_not_compared_with_all_that_wait(
    stage: Stage, what: Prepared
) -> None:
    """Each is looked up by its id: before its first count of a table PostgreSQL would take it for nearly empty."""
    for _ in range(50):
        waiting(stage, 1)
    with stage.runtime.store.write() as connection:
        statement, ordered = what._for(connection)
        ask = partial(_asked, "EXPLAIN ANALYZE " + statement, ordered((stage.clock(), 8, 50)[: len(what._names)]))
        lines = [line for (line,) in directly(connection, statement, ask)]
    assert any("pk_subscribers" in line and line.endswith("loops=50)") for line in lines), lines
    assert not any("Join Filter" in line for line in lines), lines


def steps(stage: Stage) -> int:
    """Tens of steps of SQLite's machine that a claim takes, and the question when the next one can be."""
    counted = 0

    def tick() -> int:
        nonlocal counted
        counted += 1
        return 0

    with stage.runtime.store.write() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        raw.set_progress_handler(tick, 10)
        now = stage.clock()
        claiming.claim(connection, now, now + 30_000, 1, 8)
        claiming.next_due(connection, now, 8)
        raw.set_progress_handler(None, 10)
    return counted


@on_sqlite
@pytest.mark.parametrize("beside", ["silent subscribers", "deliveries for later"])
def test_the_cost_of_a_claim_does_not_grow_with_what_is_not_due(stage: Stage, beside: str) -> None:
    """Every callback URL makes a subscriber; those with nothing waiting, and retries to come, are not looked at."""
    subscriber = waiting(stage, 5)
    assert claim(stage, 1)
    before = steps(stage)
    if beside == "silent subscribers":
        columns = "id, account_id, url, event_types, created_at, task_only"
        row = text(f"INSERT INTO subscribers ({columns}) VALUES (:id, :account, :id, '[]', 1, 1)")
        with stage.runtime.store.write() as connection:
            connection.execute(row, [{"id": f"sub_{number:06}", "account": stage.account} for number in range(3000)])
    if beside == "deliveries for later":
        add_for_later(stage, subscriber, 3000)
    assert steps(stage) <= before + 5
