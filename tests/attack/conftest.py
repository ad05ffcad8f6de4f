"""Attackers' targets: the whole system with providers that a test controls, and the web alone under gunicorn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from handlers import Receipt
from receiver.runtime import Runtime
from tests.attack.provider import AnyProvider
from tests.handlers.topview_samples import INPUTS
from tests.story.samples import Sample
from tests.story.system import PROVIDERS, System, running
from tests.web.conftest import (  # noqa: F401  # fixtures
    KEY,
    Caller,
    api,
    app,
    build,
    client,
    clock,
    key,
    progress,
    runtime,
    settings,
    template,
)
from tests.web.test_server import Server

OPERATION = "common_task_text2image"


@dataclass
class Target:
    """A system with two web processes, and the providers it calls."""

    system: System
    provider: AnyProvider

    def start(self, sample: Sample) -> dict[str, Any]:
        """A task that runs at the provider, with its ``callback_address``."""
        task = self.system.submit(sample.provider, sample.operation, sample.given())
        deadline = time.monotonic() + 20
        while (now := self.system.call("GET", f"/v1/tasks/{task['id']}"))["status"] != "running":
            assert time.monotonic() < deadline, now
            time.sleep(0.02)
        return {**now, "callback_address": self.provider.callback_urls[now["provider_task_id"]]}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A whole system whose providers do what the test says. It polls every second, and at once after a hint."""
    provider = AnyProvider()
    urls = {f"{name.upper()}_BASE_URL": f"{provider.url}/{name}" for name in PROVIDERS}
    paces = {f"{name.upper()}_POLL_SCHEDULE": "1" for name in PROVIDERS}
    try:
        with running(
            tmp_path_factory.mktemp("attack"), RECEIVER_WEB_PROCESSES="2", APSARAVIDEO_VOD_CALLBACK_KEY="Key1",
            APSARAVIDEO_VOD_SIGNED_URLS_PATIENCE="0.001", **urls, **paces,
        ) as system:  # fmt: skip
            yield Target(system, provider)
    finally:
        provider.close()


@pytest.fixture
def server(settings: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:  # noqa: F811  # the fixture above
    """The web alone: two processes on the prepared database, bodies up to 1 MiB as usual."""
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    up = Server(RECEIVER_WEB_PROCESSES="2", RECEIVER_MAX_BODY="1048576")
    yield up
    if up.process.poll() is None:
        up.process.kill()
        up.process.wait()


@dataclass
class Address:
    """The callback address of a running task: its path, and the task's id here. At TopView it is ``tv-<n>``."""

    path: str
    task_id: str


@pytest.fixture
def start(api: Caller, runtime: Runtime) -> Callable[[], Address]:  # noqa: F811  # the fixtures above
    """Makes running TopView tasks in the prepared database."""
    made: list[str] = []

    def make() -> Address:
        task = api.submit(provider="topview", operation=OPERATION, input=INPUTS[OPERATION])
        (start,) = runtime.submissions.claim("topview", 1)
        url = runtime.submissions.submission_of(start).callback_url
        assert url is not None
        made.append(task["id"])
        runtime.submissions.accepted(start.task, Receipt(f"tv-{len(made)}", "{}"))
        return Address(url.removeprefix("https://gw.example.test"), task["id"])

    return make


def notices(api: Caller, task_id: str) -> list[tuple[str, int]]:  # noqa: F811  # the class
    """The notices in a task's timeline: verdict and copies."""
    steps = api.get(f"/v1/tasks/{task_id}/timeline").json["data"]
    return [(step["detail"]["verdict"], step["detail"]["copies"]) for step in steps if step["kind"] == "notice"]
