"""The story of a database that takes no writes for a while: refused in time, nothing lost, no restart."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path

import pytest
import requests

from tests.story.samples import TOPVIEW
from tests.story.system import running
from tests.subscriber import Subscriber, answer

pytestmark = pytest.mark.process

AWAY = 18.0
"""Seconds: longer than a sign of life of the worker is good for."""


def test_a_database_that_is_away_for_a_while(tmp_path: Path) -> None:
    """Callbacks and tasks get 503, /readyz says why, /healthz passes; then the running task ends, told once."""
    with running(tmp_path / "system", TOPVIEW_POLL_SCHEDULE="5") as system, Subscriber(answer(200)) as subscriber:
        secret = system.subscribe(subscriber.url, ["task.succeeded"])["secret"]
        task = system.submit("topview", TOPVIEW.operation, TOPVIEW.given("duration=30"))
        while system.call("GET", f"/v1/tasks/{task['id']}")["status"] != "running":
            time.sleep(0.05)
        holder = sqlite3.connect(system.folder / "receiver.db", isolation_level=None, timeout=30)
        holder.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        system.call("POST", "/v1/tasks", 503, json={"provider": "topview", "operation": TOPVIEW.operation,
                                                    "input": TOPVIEW.input})  # fmt: skip
        assert requests.get(f"{system.url}/healthz", timeout=5).status_code == 200
        assert system.call("GET", f"/v1/tasks/{task['id']}")["status"] == "running"
        time.sleep(max(0.0, began + AWAY - time.monotonic()))
        ready = requests.get(f"{system.url}/readyz", timeout=15)
        assert ready.status_code == 503, ready.text
        holder.execute("ROLLBACK")
        holder.close()
        assert system.finished(task, 40)["status"] == "succeeded"
        subscriber.wait_for(1)[0].verify(secret)
        calls = system.sandbox_call("GET", "callbacks")
        refused = [call for call in calls["data"] if not call["accepted"]]
        assert refused, "the callback came while nothing could be stored, and was sent away"
        deadline = time.monotonic() + 15
        while requests.get(f"{system.url}/readyz", timeout=15).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        system.finished(system.submit("topview", TOPVIEW.operation, TOPVIEW.given()))
        bodies = [json.loads(request.body)["data"]["id"] for request in subscriber.wait_for(2)]
        assert bodies.count(task["id"]) == 1
