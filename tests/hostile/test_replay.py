"""Sending again in rough weather: by hand, by replay, across kills and deletions; never one copy too many."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, select

from receiver.models import DeliveryStatus, Subscriber, Trigger
from receiver.store import backlog, deliveries, schema
from receiver.store.backlog import DRAIN_RATE
from receiver.store.deliveries import Filter
from receiver.subscribers import REPLAYED_LATELY
from tests.core.stage import ONE_KEY, Clock, Stage
from tests.databases import Template
from tests.hostile.plant import working
from tests.subscriber import Subscriber as Server
from tests.subscriber import Talk, answer, slowly

ROOT = Path(__file__).resolve().parents[2]
MANY = 2000


def delivered(stage: Stage, subscriber: Subscriber, count: int, status: int = 200) -> None:
    """So many deliveries that have ended, written as the first attempt of each would have."""
    ping = stage.ping(subscriber)
    stage.attempt(status)
    with stage.runtime.store.write() as connection:
        one = deliveries.get(connection, ping.id)
        assert one is not None
        for number in range(1, count):
            same = connection.execute(select(schema.deliveries).where(schema.deliveries.c.id == one.id))
            values = dict(same.mappings().one())
            values["id"] = f"{one.id}{number:05}"
            connection.execute(insert(schema.deliveries), values)


def drain(stage: Stage, sent: Counter[str], seconds: int, status: int = 200) -> None:
    """Let so many seconds pass, and all that is due be attempted."""
    for _ in range(seconds):
        while claims := list(stage.runtime.deliveries.turn((), 100).claims):
            sent.update(claim.delivery.id for claim in claims)
            stage.finish(claims, status)
        stage.clock.pass_by(1)


def replay(stage: Stage, subscriber: Subscriber, status: str = "all") -> int:
    """Send everything again."""
    return stage.runtime.subscribers.replay(stage.account, subscriber.id, 0, None, status)


def test_a_replay_of_thousands_that_is_cut_short_and_repeated(build: Any, clock: Clock) -> None:
    """A worker dies in the middle, the replay is asked for again, twice: each delivery is sent again once."""
    before: Stage = build(RECEIVER_SUBSCRIBER_CONCURRENCY=100)
    subscriber = before.subscribe()
    delivered(before, subscriber, MANY)
    sent: Counter[str] = Counter()
    assert replay(before, subscriber) == MANY
    drain(before, sent, 20)
    assert len(sent) == 20 * DRAIN_RATE, "at a bounded rate"
    lost = list(before.runtime.deliveries.turn((), 100).claims)  # the worker dies with these in hand
    after: Stage = build(RECEIVER_SUBSCRIBER_CONCURRENCY=100)
    assert replay(after, subscriber) == 0
    drain(after, sent, 60)
    assert replay(after, subscriber) == 0
    drain(after, sent, 10)
    assert set(sent.values()) == {1}
    assert len(sent) == MANY
    assert set(sent) >= {claim.delivery.id for claim in lost}
    clock.pass_by(REPLAYED_LATELY / 1000 + 1)
    assert replay(after, subscriber) == MANY, "much later it is meant"


def test_a_replay_searches_history_while_others_write(build: Any) -> None:
    """All that a subscriber was sent may be gone through for few dead: no claim and no result waits meanwhile."""
    stage: Stage = build(RECEIVER_RETRY_SCHEDULE="none")
    subscriber = stage.subscribe()
    delivered(stage, subscriber, 3, 500)
    searches: list[bool] = []

    def note(connection: Connection, _: Any, statement: str, *__: Any) -> None:
        if "deliveries.subscriber_id = " in statement and "deliveries.id >= " in statement:
            searches.append(connection.get_execution_options().get("writes", False))

    event.listen(stage.runtime.store.engine, "before_cursor_execute", note)
    assert replay(stage, subscriber, "dead") == 3
    assert searches == [False]


def test_what_ends_otherwise_during_the_search_of_a_replay_is_left_alone(
    build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody retried it by hand and it has arrived: it is not sent a third time, and not counted."""
    stage: Stage = build(RECEIVER_RETRY_SCHEDULE="none")
    subscriber = stage.subscribe()
    delivered(stage, subscriber, 2, 500)
    first = stage.rows("SELECT min(id) FROM deliveries")[0][0]
    search = backlog.replayable

    def arrives_meanwhile(*asked: Any) -> Any:
        found = search(*asked)
        stage.runtime.deliveries.retry(stage.account, first)
        stage.attempt(200)
        return found

    monkeypatch.setattr(backlog, "replayable", arrives_meanwhile)
    assert replay(stage, subscriber, "dead") == 1
    assert stage.runtime.deliveries.get(stage.account, first)[0].status is DeliveryStatus.DELIVERED


def test_a_replay_of_the_dead_leaves_the_delivered_alone(build: Any, clock: Clock) -> None:
    """Repeated as often as anybody likes: what has arrived is not sent again."""
    stage: Stage = build(RECEIVER_SUBSCRIBER_CONCURRENCY=100, RECEIVER_RETRY_SCHEDULE="none")
    subscriber = stage.subscribe()
    delivered(stage, subscriber, 300, 500)
    clock.pass_by(60)
    sent: Counter[str] = Counter()
    assert replay(stage, subscriber, "dead") == 300
    drain(stage, sent, 3)
    assert replay(stage, subscriber, "dead") == 0
    drain(stage, sent, 20)
    clock.pass_by(REPLAYED_LATELY / 1000 + 1)
    assert replay(stage, subscriber, "dead") == 0
    assert (len(sent), set(sent.values())) == (300, {1})


def test_what_a_replay_could_not_deliver_is_sent_by_the_next(build: Any) -> None:
    """Also when that follows at once: only what has arrived is left alone."""
    stage: Stage = build(RECEIVER_RETRY_SCHEDULE="none")
    subscriber = stage.subscribe()
    delivered(stage, subscriber, 2, 500)
    sent: Counter[str] = Counter()
    for status in (500, 200):
        assert replay(stage, subscriber) == 2
        drain(stage, sent, 3, status)
    assert replay(stage, subscriber) == 0
    assert set(sent.values()) == {2}


def test_what_is_under_way_again_is_not_sent_once_more(stage: Stage) -> None:
    """A delivery that somebody retries while a replay looks for it keeps its attempt, and gets no second one."""
    ping = stage.ping(stage.subscribe())
    stage.attempt(200)
    stage.runtime.deliveries.retry(stage.account, ping.id)
    claims = list(stage.runtime.deliveries.turn((), 1).claims)
    with stage.runtime.store.write() as connection:
        backlog.revive(connection, [ping.id], stage.clock(), Trigger.MANUAL)
    assert stage.attempt(200) == []
    stage.finish(claims)
    assert stage.delivery(ping).attempts == 2


def test_a_process_that_dies_inside_a_replay_leaves_nothing_half_done(build: Any, tmp_path: Path) -> None:
    """Killed in its second step: the first is kept, of the second nothing; run again, it sends the rest, once each."""
    stage: Stage = build()
    subscriber = stage.subscribe()
    delivered(stage, subscriber, 1200)
    script = f"""
        import os, signal
        from tests.core.stage import Clock, Stage, settings_in
        from receiver.store import backlog
        from tests.toy import visible
        from pathlib import Path

        replay, made = backlog.replay, []

        def dying(*given, **place):
            made.append(replay(*given, **place))
            if len(made) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return made[-1]

        backlog.STEP, backlog.replay = 500, dying
        with visible():
            database = {stage.settings.database_url!r}
            stage = Stage(settings_in(Path({str(tmp_path)!r}), RECEIVER_DATABASE_URL=database), Clock())
            stage.runtime.subscribers.replay(stage.account, {subscriber.id!r}, 0, None, "all")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        env={**os.environ, "RECEIVER_SECRET_KEYS": ONE_KEY, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert len(stage.rows("SELECT id FROM deliveries WHERE status = 'pending'")) == 500
    assert replay(stage, subscriber) == 700


def test_pressing_retry_makes_one_copy_and_the_schedule_goes_on(tmp_path: Path, migrated: Template, toy: None) -> None:
    """Twenty presses at once on a delivery that waits for its second attempt: that attempt now, and then the third."""
    with (
        Server(answer(500), slowly(1.5, answer(500))) as server,
        working(tmp_path, migrated, RECEIVER_RETRY_SCHEDULE="60,1000") as plant,
    ):
        delivery = plant.ping(plant.subscribe(server.url))
        plant.attempted(delivery)
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(lambda _: plant.runtime.deliveries.retry(plant.account, delivery.id), range(20)))
        after, attempts = plant.attempted(delivery, 2)
        assert len(server.requests) == 2
        assert [attempt.trigger for attempt in attempts] == [Trigger.SCHEDULE, Trigger.MANUAL]
        assert after.status is DeliveryStatus.PENDING
        assert 1_000_000 <= (after.due_at or 0) - attempts[-1].started_at <= 1_110_000


def test_a_delivery_that_was_written_while_its_subscriber_was_deleted(stage: Stage) -> None:
    """Two transactions that do not see each other may leave one; the sweep ends it, and it stays listed."""
    subscriber = stage.subscribe()
    delivery = stage.ping(subscriber)
    stage.runtime.subscribers.delete(stage.account, subscriber.id)
    with stage.runtime.store.write() as connection:
        backlog.revive(connection, [delivery.id], stage.clock(), Trigger.SCHEDULE)
    assert stage.delivery(delivery).status is DeliveryStatus.PENDING
    assert stage.attempt() == []
    stage.runtime.sweeping.step()
    ended = stage.delivery(delivery)
    assert (ended.status, ended.reason, ended.due_at) == (DeliveryStatus.DEAD, "subscriber_deleted", None)


def test_deleting_a_subscriber_in_the_middle_of_an_attempt(tmp_path: Path, migrated: Template, toy: None) -> None:
    """Everything that waited ends at once and stays listed; the answer that comes later changes nothing."""
    released = threading.Event()

    def late(talk: Talk) -> None:
        if released.wait(10):
            answer(200)(talk)

    eight = {"RECEIVER_SUBSCRIBER_CONCURRENCY": "8"}
    with Server(late) as server, working(tmp_path, migrated, start=False, **eight) as plant:
        subscriber = plant.subscribe(server.url)
        waiting = [plant.ping(subscriber) for _ in range(20)]
        plant.worker.start()
        plant.until(lambda: server.connections == 8)
        plant.runtime.subscribers.delete(plant.account, subscriber.id)
        before = [plant.delivery(one) for one in waiting]
        assert {(one.status, one.reason) for one in before} == {(DeliveryStatus.DEAD, "subscriber_deleted")}
        released.set()
        plant.until(lambda: plant.worker.lanes[0].in_flight == 0)
        assert [plant.delivery(one) for one in waiting] == before
        wanted = Filter(subscriber=subscriber.id)
        assert len(plant.runtime.deliveries.list_page(plant.account, wanted, 100, None).items) == 20
