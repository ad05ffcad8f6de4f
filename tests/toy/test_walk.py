"""A fifth provider from nothing to a verified webhook, by adding files alone.

The whole service runs: the provider's side in the sandbox, the web with the callback addresses, the worker.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from werkzeug.serving import make_server

from receiver.runtime import wall_clock
from receiver.sandbox import RunningSandbox, SandboxSettings, running_sandbox
from receiver.web import create_app
from receiver.worker import Worker
from tests.core.stage import Stage
from tests.subscriber import Subscriber

ROOT = Path(__file__).parents[2]
API_KEY = "rk_walk_0123456789abcdef"


class Service:
    """The service's address, for a caller with an API key, and the sandbox that it talks to."""

    def __init__(self, url: str, sandbox: RunningSandbox) -> None:
        self.url = url
        self.sandbox = sandbox

    def call(self, method: str, path: str, **body: Any) -> Any:
        """The JSON of an answer."""
        headers = {"Authorization": f"Bearer {API_KEY}"}
        with requests.Session() as session:
            session.trust_env = False
            answer = session.request(method, self.url + path, json=body or None, headers=headers, timeout=30)
        assert answer.ok, answer.text
        return answer.json()


@pytest.fixture
def service(build: Any) -> Iterator[Service]:
    """The whole service in this process, with the toy as its only provider."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with listener, running_sandbox(SandboxSettings(time_scale=0.05, duration=4)) as sandbox:
        stage: Stage = build(
            at=wall_clock,
            RECEIVER_PUBLIC_URL=url,
            RECEIVER_API_KEY=API_KEY,
            TOY_BASE_URL=f"{sandbox.url}/toy",
            TOY_POLL_SCHEDULE="2,0.3",
        )
        server = make_server("127.0.0.1", 0, create_app(stage.runtime), threaded=True, fd=listener.fileno())
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        worker = Worker(stage.runtime)
        thread.start()
        worker.start()
        try:
            yield Service(url, sandbox)
        finally:
            worker.stop(5)
            server.shutdown()
            thread.join()
            server.server_close()


def test_submit_callback_webhook(service: Service) -> None:
    """Three tasks over HTTP: done by a signed callback, done by polling, failed; each told once, verified."""
    with Subscriber() as subscriber:
        secret = service.call("POST", "/v1/subscribers", url=subscriber.url, event_types=["task.*"])["secret"]
        made = {}
        for prompt in ("a cat", "a dog [sandbox:no-callback]", "a bird [sandbox:fail]"):
            task = service.call("POST", "/v1/tasks", provider="toy", operation="draw", input={"prompt": prompt})
            made[prompt.split()[1]] = task["id"]
        ended = {name: service.call("GET", f"/v1/tasks/{task_id}?wait=20") for name, task_id in made.items()}
        assert {name: (task["status"], task["completed_via"]) for name, task in ended.items()} == {
            "cat": ("succeeded", "callback"),
            "dog": ("succeeded", "poll"),
            "bird": ("failed", "callback"),
        }
        assert ended["cat"]["outputs"][0]["url"].startswith(service.sandbox.url)
        told: list[tuple[str, str]] = []
        while sum(kind in ("task.succeeded", "task.failed") for kind, _ in told) < 3:
            request = subscriber.wait_for(len(told) + 1)[len(told)]
            request.verify(secret)
            event = json.loads(request.body)
            told.append((event["type"], event["data"]["id"]))
        for name, end in (("cat", "task.succeeded"), ("dog", "task.succeeded"), ("bird", "task.failed")):
            kinds = [kind for kind, task_id in told if task_id == made[name] and kind != "task.progress"]
            # a callback that overtakes the submit's answer ends a task that was never seen running
            assert kinds in (["task.running", end], [end, "task.running"], [end])
    assert len(service.sandbox.world.tasks("toy")) == 3


def test_it_is_known_everywhere(service: Service) -> None:
    """The API describes it and its input; its settings are read from the environment like any other's."""
    listed = {entry["name"]: entry for entry in service.call("GET", "/v1/providers")["data"]}
    assert listed["toy"]["configured"]
    assert listed["toy"]["callbacks"] == "signed"
    assert listed["toy"]["operations"][0]["input"]["required"] == ["prompt"]
    assert not listed["topview"]["configured"]


def test_no_list_route_or_migration_names_a_provider_of_tests() -> None:
    """What makes the toy work is in its own files: no other source has ever heard of it."""
    for folder in ("handlers", "receiver"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not re.search(r"\btoy\b", path.read_text().lower()), path
