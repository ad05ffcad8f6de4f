"""How fast, and how much at once: limits that hold over all workers, back-pressure that costs nothing, fair polling."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from receiver.models import TaskStatus
from tests import asking
from tests.core.stage import Clock, Stage, still
from tests.databases import Template
from tests.money.mint import minting
from tests.story.samples import SUPERAPP, TOPVIEW, VOD

SUBMITS, QUERIES, AT_ONCE = 4, 5, 3
LATE = 0.5
"""Seconds that a call may come late, its worker being one of many processes, on a machine that does not stand still."""


@contextlib.contextmanager
def standstill() -> Iterator[list[float]]:
    """The longest that this machine stood still within the block (seconds), in a list, at its end.

    Calls that were to be made meanwhile come together then, and nobody can help it.
    """
    over, longest = threading.Event(), [0.0]

    def watch() -> None:
        last = time.monotonic()
        while not over.wait(0.01):
            now = time.monotonic()
            longest[0] = max(longest[0], now - last - 0.01)
            last = now

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield longest
    finally:
        over.set()
        watcher.join()


@pytest.mark.process
def test_limits_hold_over_three_workers(tmp_path: Path, migrated: Template, toy: None) -> None:
    """However many workers, the provider counts no more calls than allowed, nor more tasks at once; all end."""
    limits = {
        "TOPVIEW_SUBMIT_RATE": str(SUBMITS),
        "TOPVIEW_QUERY_RATE": str(QUERIES),
        "TOPVIEW_POLL_SCHEDULE": "0.2",
        "SUPERAPP_MAX_IN_FLIGHT": str(AT_ONCE),
    }
    with minting(tmp_path, migrated, False, **limits) as mint, standstill() as longest:
        workers = [mint.worker(number) for number in range(3)]
        try:
            sent = [mint.submit(TOPVIEW, "duration=30", "no-callback", f"key=pace-{number}") for number in range(16)]
            sent += [mint.submit(SUPERAPP, "duration=10", f"key=flight-{number}") for number in range(15)]
            ended = [mint.ended(task, 60) for task in sent]
        finally:
            codes = [worker.stop() for worker in workers]
        assert codes == [0, 0, 0]
        assert {task.status for task in ended} == {TaskStatus.SUCCEEDED}
        counted = mint.sandbox.world.paces["topview"].most()
        (submits,) = [most for name, most in counted.items() if name.endswith("/submit")]
        (queries,) = [most for name, most in counted.items() if name.endswith("/query")]
        (still_for,) = longest
        second = 1 + 2 * still_for
        most = second + LATE  # a late call comes together with those that are on time
        assert SUBMITS / second <= submits <= min(SUBMITS * most + 1, 2 * SUBMITS)  # three apart: three times as many
        assert (QUERIES - 1) / second <= queries <= min(QUERIES * most + 1, 2 * QUERIES)
        starts = [task.created_at for task in mint.sandbox.world.tasks("topview")]
        assert max(starts) - min(starts) >= (len(starts) - 1) / SUBMITS - LATE - still_for
        asked = [task for task in ended if task.provider == TOPVIEW.provider]
        seconds = (max(task.finished_at or 0 for task in asked) - min(task.submitted_at or 0 for task in asked)) / 1000
        assert sum(task.polls for task in asked) <= QUERIES * seconds + 1
        assert _most_at_once(mint.sandbox.world.tasks("superapp")) == AT_ONCE
        assert all(mint.starts(f"pace-{number}") == 1 for number in range(16))
        assert all(mint.starts(f"flight-{number}") == 1 for number in range(15))


def _most_at_once(tasks: list[Any]) -> int:
    """The most tasks that were unfinished at one moment."""
    moments = sorted([(task.created_at, 1) for task in tasks] + [(task.done_at, -1) for task in tasks])
    now = most = 0
    for _, step in moments:
        now += step
        most = max(most, now)
    return most


def test_back_pressure_costs_nothing(tmp_path: Path, migrated: Template, toy: None) -> None:
    """Every provider's way of saying "later": the task waits in the queue, and is started once."""
    pressure = (
        (TOPVIEW, "code=4007*2"),
        (TOPVIEW, "code=5003*2"),
        (VOD, "code=Throttling.User*2"),
        (VOD, "code=ServiceUnavailable*2"),
        (SUPERAPP, "http=429*2"),
    )
    waits = {"TOPVIEW_BUSY_WAIT": "1", "TOPVIEW_UNFINISHED_WAIT": "1"}
    with minting(tmp_path, migrated, SUPERAPP_RESUBMIT_AFTER_429="true", **waits) as mint:
        sent = [mint.submit(sample, magic, f"key=later-{n}") for n, (sample, magic) in enumerate(pressure)]
        for number, task in enumerate(sent):
            assert mint.ended(task).status is TaskStatus.SUCCEEDED, pressure[number]
            outcomes = [step["outcome"] for step in mint.steps(task, "submit")]
            assert outcomes == ["unavailable", "unavailable", "accepted"], pressure[number]
            assert mint.starts(f"later-{number}") == 1


def test_three_hundred_tasks_are_polled_in_turn(build: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under 20 queries a second each of them is asked after every 15 seconds: none is forgotten, none is favoured."""
    stage: Stage = build(TOY_QUERY_RATE=20, TOY_POLL_SCHEDULE=2, TOY_TASK_DEADLINE=3600)
    monkeypatch.setattr(stage.handler, "query_batch", 1)
    for number in range(300):
        stage.create(f"cat {number}")
    jobs = 0
    while jobs < 300:
        for start in stage.claim(300):
            stage.accept(start, f"job-{jobs}")
            jobs += 1
        clock.pass_by(0.1)
    asked: dict[str, list[int]] = defaultdict(list)
    end = clock() + 32_000
    while clock() < end:
        for at, batch in asking.claim(stage.runtime.polling, "toy", 8):
            (task,) = batch
            asked[task.id].append(at)
            asking.answered(stage.runtime.polling, batch, {task.id: still()})
        clock.pass_by(0.1)
    calls = sorted(at for times in asked.values() for at in times)
    assert all(calls[place + 21] - calls[place] >= 1000 for place in range(len(calls) - 21)), "never more than 20 (+1)"
    assert len(calls) >= 0.95 * 20 * 30, "and the allowance is used"
    assert len(asked) == 300
    counts = [len(times) for times in asked.values()]
    assert max(counts) - min(counts) <= 1
    gaps = [later - earlier for times in asked.values() for earlier, later in pairwise(times)]
    assert max(gaps) <= 17_000


def test_a_wait_for_the_database_makes_no_burst(build: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the writer's turn takes: what is reserved after it begins then, and not in the past all at once."""
    stage: Stage = build(TOY_SUBMIT_RATE=40, TOY_QUERY_RATE=10)
    monkeypatch.setattr(stage.handler, "query_batch", 1)
    for number in range(6):
        stage.create(f"cat {number}")
    real = stage.runtime.store.write

    @contextlib.contextmanager
    def after_a_while(**how: bool) -> Iterator[Any]:
        with real(**how) as connection:
            clock.pass_by(5)
            yield connection

    monkeypatch.setattr(stage.runtime.store, "write", after_a_while)
    starts = stage.runtime.submissions.claim("toy", 3)
    assert [start.at - clock() for start in starts] == [0, 25, 50]
    assert all((start.task.due_at or 0) >= clock() + 30_000 for start in starts), "and the lease begins then, too"
    for start in starts:
        stage.accept(start, start.task.id)
    clock.pass_by(60)
    asked = asking.claim(stage.runtime.polling, "toy", 8)
    assert [at - clock() for at, _ in asked] == [0, 100, 200]
    assert all((task.due_at or 0) >= clock() + 30_000 for _, batch in asked for task in batch)
    delivery = stage.ping(stage.subscribe())
    (claim,) = stage.runtime.deliveries.turn((), 1).claims
    assert claim.delivery.id == delivery.id
    assert claim.delivery.due_at == clock() + 30_000
