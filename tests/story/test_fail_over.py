"""The story of a PostgreSQL that fails over and restarts under load: nobody is restarted, and nothing is lost."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import requests

from receiver.sealing import new_secret_key
from tests import postgres
from tests.story.samples import TOPVIEW
from tests.story.system import System, running
from tests.subscriber import Subscriber, answer

pytestmark = pytest.mark.process

AWAY = 3.0


def submit(system: System, count: int) -> list[str]:
    """So many tasks that take two seconds each; their ids."""
    given = TOPVIEW.given("duration=20")
    return [system.submit("topview", TOPVIEW.operation, given)["id"] for _ in range(count)]


def ids_told(subscriber: Subscriber, secret: str) -> set[str]:
    """The tasks that the subscriber was told of, properly signed. One may be told twice, if a commit was cut off."""
    told = set()
    for request in subscriber.wait_for(1):
        request.verify(secret)
        told.add(json.loads(request.body)["data"]["id"])
    return told


def test_a_server_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    """Every session is ended, then the server restarts: 503 meanwhile, and every task ends and is told of."""
    with (
        postgres.server() as server,
        running(
            tmp_path / "system",
            RECEIVER_DATABASE_URL=(url := server.create()),
            RECEIVER_SECRET_KEYS=new_secret_key(),
            RECEIVER_LEASE="16",
            RECEIVER_RETRY_SCHEDULE="0.5,1,1,1",
            TOPVIEW_POLL_SCHEDULE="0.5",
        ) as system,
        Subscriber(answer(200)) as subscriber,
    ):
        secret = system.subscribe(subscriber.url, ["task.succeeded"])["secret"]
        tasks = submit(system, 5)
        assert server.disconnect(url) >= 2
        tasks += submit(system, 5)
        server.stop("immediate")
        body = {"provider": "topview", "operation": TOPVIEW.operation, "input": TOPVIEW.input}
        began = time.monotonic()
        system.call("POST", "/v1/tasks", 503, json=body)
        assert requests.get(f"{system.url}/healthz", timeout=5).status_code == 200
        assert requests.get(f"{system.url}/readyz", timeout=15).status_code == 503
        time.sleep(max(0.0, began + AWAY - time.monotonic()))
        server.start()
        tasks += submit(system, 5)
        for task in tasks:
            assert system.finished({"id": task}, 60)["status"] == "succeeded"
        deadline = time.monotonic() + 30
        while (told := ids_told(subscriber, secret)) != set(tasks):
            assert time.monotonic() < deadline, f"never told of {set(tasks) - told}"
            time.sleep(0.1)
