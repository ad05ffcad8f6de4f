"""Attackers' targets: the whole system with providers that a test controls, and the web alone under gunicorn."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import func, select

from handlers import Receipt
from receiver.config import read_settings
from receiver.runtime import Runtime
from receiver.store import schema
from receiver.web import create_app
from tests.attack.provider import AnyProvider
from tests.databases import Template
from tests.story.samples import IMG_TOOL, TOPVIEW, VOD, Sample
from tests.story.system import PROVIDERS, System, running
from tests.web.conftest import KEY, Caller, build, clock, set_environment, settings, template  # noqa: F401  # fixtures
from tests.web.test_server import Server


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


@dataclass
class Address:
    """The callback address of a running task, the task's id here, and its id at the provider."""

    path: str
    task_id: str
    remote_id: str


@dataclass
class Door:
    """The callback door on a database of its own, in this process."""

    runtime: Runtime
    app: Flask

    @property
    def api(self) -> Caller:
        """The account ``default`` with a key that may do everything."""
        return Caller(self.app.test_client(), KEY)

    def start(self, provider: str = "topview", padding: str = "") -> Address:
        """A running task. ``padding``: what its input has beside the sample's."""
        given = {"topview": TOPVIEW, "apsaravideo_vod": VOD, "img_open": IMG_TOOL}[provider]
        task = self.api.submit(
            provider=provider, operation=given.operation, input=given.input | ({"padding": padding} if padding else {})
        )
        (start,) = self.runtime.submissions.claim(provider, 1)
        url = self.runtime.submissions.submission_of(start).callback_url
        assert url is not None
        remote_id = task["id"] if provider == "img_open" else f"remote-{task['id'][-8:]}"
        self.runtime.submissions.accepted(start.task, Receipt(remote_id, "{}"))
        return Address(url.removeprefix("https://gw.example.test"), task["id"], remote_id)

    def notices(self, task_id: str) -> list[tuple[str, int]]:
        """The notices in a task's timeline: verdict and copies."""
        steps = self.api.get(f"/v1/tasks/{task_id}/timeline").json["data"]
        return [(step["detail"]["verdict"], step["detail"]["copies"]) for step in steps if step["kind"] == "notice"]

    def stored(self) -> dict[str, int]:
        """How many rows each table has, and how often notices came."""
        with self.runtime.store.read() as connection:
            rows = {
                table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in schema.metadata.sorted_tables
            }
            copies = connection.execute(select(func.sum(schema.notices.c.copies))).scalar_one()
        return rows | {"copies": copies or 0}


@pytest.fixture(scope="module")
def door(template: tuple[Template, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:  # noqa: F811
    """A door for a whole file of tests. While it is open, the environment is that of its installation."""
    prepared, secret = template
    with prepared.copy(tmp_path_factory.mktemp("door")) as url, pytest.MonkeyPatch.context() as patch:
        set_environment(patch, url, secret)
        patch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
        for name in PROVIDERS:
            patch.setenv(f"{name.upper()}_SUBMIT_RATE", "1000")
        runtime = Runtime.build(read_settings())
        yield Door(runtime, create_app(runtime))
        runtime.close()


@pytest.fixture(scope="module")
def server(door: Door) -> Iterator[Server]:
    """The web under gunicorn on the same database: two processes, four threads each, bodies up to 1 MiB as usual."""
    up = Server(RECEIVER_WEB_PROCESSES="2", RECEIVER_WEB_THREADS="10", RECEIVER_MAX_BODY="1048576")
    yield up
    up.stop()
