"""Workers that are stopped: frozen past their lease and woken again, or asked to end with work in their hands."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import postgres
from tests.crash.checker import await_rest
from tests.crash.plant import Group, Plant, until
from tests.databases import empty
from tests.model.ledger import Ledger, Row
from tests.story.samples import TOPVIEW
from tests.subscriber import Subscriber, Talk, answer, hang, slowly

pytestmark = pytest.mark.process

LEASE = 4.0
PATIENT = {"RECEIVER_DELIVERY_TIMEOUT": "10", "RECEIVER_LEASE": "16"}
"""For tests in which nothing hangs: a busy machine is not to be taken for a dead one."""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.fixture
def build(database: str, tmp_path: Path) -> Iterator[Callable[..., Plant]]:
    """Makes a plant with sandbox and web; the tests start the workers. Keywords are environment variables."""
    made: list[Plant] = []

    def make(**more: str) -> Plant:
        made.append(Plant(tmp_path, RECEIVER_DATABASE_URL=url, **more))
        made[-1].start("web")
        made[-1].await_web()
        return made[-1]

    with empty(database, tmp_path) as url:
        yield make
        for plant in made:
            plant.close()


@pytest.fixture
def plant(build: Callable[..., Plant]) -> Plant:
    """One whose workers have some seconds to stop, and as many for a call as a short lease allows."""
    return build(RECEIVER_SHUTDOWN_TIMEOUT="3", RECEIVER_DELIVERY_TIMEOUT="3", RECEIVER_LEASE=str(LEASE))


def submit(plant: Plant, *magic: str) -> str:
    """Hand a task over to the service; its id."""
    body = {"provider": TOPVIEW.provider, "operation": TOPVIEW.operation, "input": TOPVIEW.given(*magic)}
    answered = plant.api("POST", "/v1/tasks", json=body)
    assert answered.status_code == 202, answered.text
    task_id: str = answered.json()["id"]
    return task_id


def status_of(plant: Plant, task_id: str) -> str:
    """What the API says of a task."""
    status: str = plant.api("GET", f"/v1/tasks/{task_id}").json()["status"]
    return status


def final_events(plant: Plant, task_id: str) -> list[str]:
    """The types of a task's final events."""
    final = {"task.succeeded", "task.failed", "task.canceled", "task.expired"}
    return [
        event["type"]
        for event in plant.pages("/v1/events")
        if event["type"] in final and event["data"]["id"] == task_id
    ]


def deliveries(plant: Plant) -> list[Row]:
    """All deliveries as stored."""
    ledger = Ledger(plant.database)
    try:
        return list(ledger.deliveries().values())
    finally:
        ledger.close()


def free(plant: Plant) -> bool:
    """Whether nobody is in the midst of writing."""
    if isinstance(plant.database, str):
        inside = "xact_start IS NOT NULL AND application_name LIKE 'receiver@%'"
        name = postgres.name_of(plant.database)
        return not postgres.shared().execute(f"SELECT 1 FROM pg_stat_activity WHERE datname = '{name}' AND {inside}")
    with contextlib.closing(sqlite3.connect(plant.database, timeout=0.1)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        connection.execute("ROLLBACK")
        return True


def freeze(plant: Plant, worker: Group) -> None:
    """Stop a worker, but not in the midst of a transaction: others would wait for it (on SQLite all who write)."""
    for _ in range(100):
        worker.signal(signal.SIGSTOP)
        until(worker.stands_still, 5, "the worker does not stand still")
        if free(plant):
            return
        worker.signal(signal.SIGCONT)
        time.sleep(0.01)
    raise AssertionError("the worker is always in a transaction")


def freezing(plant: Plant, worker: Group, frozen: threading.Event) -> Any:
    """A behaviour: freeze the worker when its request has been read, and answer all the same."""

    def behave(talk: Talk) -> None:
        talk.read()
        freeze(plant, worker)
        talk.send(OK)
        frozen.set()

    return behave


def test_a_worker_frozen_in_a_delivery_does_not_finish_it_twice(plant: Plant) -> None:
    """Past its lease another worker delivers under the same id; what the first one stores when it wakes is nothing."""
    first, frozen = plant.start("worker"), threading.Event()
    with Subscriber(freezing(plant, first, frozen), answer(200)) as subscriber:
        plant.subscribe(subscriber.url, "task.succeeded")
        task_id = submit(plant)
        assert frozen.wait(20), first.tail()
        plant.start("second", "worker")
        await_rest(plant, LEASE + 20)
        before = deliveries(plant)
        first.signal(signal.SIGCONT)
        time.sleep(LEASE / 2)
        assert deliveries(plant) == before, "a worker whose lease was over has written"
        assert [(row["status"], row["attempts"]) for row in before] == [("delivered", 1)]
        ids = {received.header("webhook-id") for received in subscriber.requests}
        assert (len(subscriber.requests), len(ids)) == (2, 1)
        assert final_events(plant, task_id) == ["task.succeeded"]
        assert first.terminate(10) == 0


def test_a_worker_frozen_in_a_submission_buys_nothing_twice(plant: Plant) -> None:
    """The task that seemed lost ends by the provider's callback, bought once; the late answer adds nothing."""
    first = plant.start("worker")
    task_id = submit(plant, "slow=8", "key=frozen")
    until(lambda: status_of(plant, task_id) == "submitting", 20, first.tail())
    time.sleep(0.3)  # so that the request is on its way
    freeze(plant, first)
    plant.start("second", "worker")
    await_rest(plant, LEASE + 30)
    assert status_of(plant, task_id) == "succeeded"
    before = plant.api("GET", f"/v1/tasks/{task_id}").json()
    first.signal(signal.SIGCONT)
    assert first.terminate(10) == 0
    assert plant.api("GET", f"/v1/tasks/{task_id}").json() == before
    assert final_events(plant, task_id) == ["task.succeeded"]
    assert plant.sandbox_get("starts?key=frozen")["starts"] == 1


def test_a_worker_that_is_asked_to_stop_ends_what_it_has_begun(build: Callable[..., Plant]) -> None:
    """Attempts in flight end and are stored, new ones are not begun, and the process is gone in time."""
    plant = build(RECEIVER_SHUTDOWN_TIMEOUT="20", **PATIENT)
    worker = plant.start("worker")
    with Subscriber(slowly(0.7)) as subscriber:
        plant.subscribe(subscriber.url, "task.succeeded")
        for _ in range(5):
            submit(plant)
        until(lambda: subscriber.connections >= 3, 20, worker.tail())
        assert worker.terminate(20 + 5) == 0
        assert len(subscriber.requests) == sum(row["attempts"] for row in deliveries(plant)), "sent, and not stored"
        plant.start("second", "worker")
        await_rest(plant, 40)
        ids = [received.header("webhook-id") for received in subscriber.requests]
        assert len(ids) == len(set(ids)) == 5, "nothing lost, and nothing sent twice"


def test_a_worker_that_may_not_wait_leaves_its_work_to_the_next(build: Callable[..., Plant]) -> None:
    """With no time to end anything it is gone at once, whatever hangs; the next worker takes everything over."""
    plant = build(RECEIVER_SHUTDOWN_TIMEOUT="0.1", RECEIVER_DELIVERY_TIMEOUT="60", RECEIVER_LEASE="90")
    worker = plant.start("worker")
    with Subscriber(hang) as subscriber:
        plant.subscribe(subscriber.url, "task.succeeded")
        tasks = [submit(plant) for _ in range(5)]
        until(lambda: subscriber.requests, 20, worker.tail())
        assert worker.terminate(20) == 0
        subscriber.script(answer(200))
        plant.start("second", "worker")
        await_rest(plant, 40)
        told = {json.loads(received.body)["data"]["id"] for received in subscriber.requests}
        assert told == set(tasks)
        assert {row["status"] for row in deliveries(plant)} == {"delivered"}
