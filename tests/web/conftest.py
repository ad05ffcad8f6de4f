"""The web on a database of its own: all providers configured, their addresses shut, a clock that can be set ahead."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import handlers
from handlers import Output, OutputKind, Receipt, RemoteStatus, TaskUpdate
from receiver.config import Settings, read_settings
from receiver.models import Task
from receiver.runtime import Runtime
from receiver.sealing import new_secret_key
from receiver.web import create_app
from tests import asking
from tests.databases import Template, empty

KEY = "rk_test_0123456789abcdefghij"
SHUT = "http://127.0.0.1:9"  # nothing listens there, so a call is refused at once
CREDENTIALS = {
    "TOPVIEW_UID": "demo-uid-1",
    "TOPVIEW_API_KEY": "demo-key-0001",
    "SUPERAPP_ACCESS_KEY": "ak-demo-0001",
    "SUPERAPP_SECRET_KEY": "sk-demo-0001",
    "APSARAVIDEO_VOD_ACCESS_KEY_ID": "demo-id",
    "APSARAVIDEO_VOD_ACCESS_KEY_SECRET": "demo-secret-0001",
    "APSARAVIDEO_VOD_CALLBACK_KEY": "Abc123Demo",
    "IMG_OPEN_ACCESS_KEY_ID": "demo-id",
    "IMG_OPEN_ACCESS_KEY_SECRET": "demo-secret-0002",
}
SAMPLE = {
    "provider": "superapp",
    "operation": "text2image",
    "input": {"inputText": "a cat", "width": 512, "height": 512},
}


class Clock:
    """The wall clock, and what it was set ahead by (ms)."""

    def __init__(self) -> None:
        self.ahead = 0

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead


@dataclass
class Caller:
    """Somebody who calls with an API key (or none)."""

    client: FlaskClient
    key: str | None

    def __call__(self, method: str, path: str, headers: Mapping[str, str] | None = None, **more: Any) -> TestResponse:
        auth = {} if self.key is None else {"Authorization": f"Bearer {self.key}"}
        return self.client.open(path, method=method, headers={**auth, **(headers or {})}, **more)

    def get(self, path: str, **more: Any) -> TestResponse:
        return self("GET", path, **more)

    def post(self, path: str, json: Any = None, **more: Any) -> TestResponse:
        return self("POST", path, **({} if json is None else {"json": json}), **more)

    def submit(self, **changes: Any) -> Any:
        """A new task, as answered."""
        answer = self.post("/v1/tasks", {**SAMPLE, **changes})
        assert answer.status_code == 202, answer.text
        return answer.json


@dataclass
class Progress:
    """What workers do, made to happen."""

    runtime: Runtime
    clock: Clock

    def hand_over(self, provider: str = "superapp", provider_task_id: str = "p-1") -> list[Task]:
        """Submit what is queued, to a provider that accepts it."""
        starts = self.runtime.submissions.claim(provider, 10)
        for start in starts:
            self.runtime.submissions.accepted(start.task, Receipt(provider_task_id, '{"accepted": true}'))
        return [start.task for start in starts]

    def finish(self, provider: str = "superapp", raw: str = '{"done": true}', **changes: Any) -> list[Task]:
        """Hand over what is queued, then let every running task of the provider succeed."""
        tasks = self.hand_over(provider)
        self.clock.ahead += 300_000
        output = Output(OutputKind.IMAGE, url="https://cdn.example.test/a.png")
        for _, batch in asking.claim(self.runtime.polling, provider, 10):
            update = TaskUpdate(RemoteStatus.SUCCEEDED, raw, outputs=(output,), **changes)
            asking.answered(self.runtime.polling, batch, {task.id: update for task in batch})
        return tasks


@pytest.fixture(scope="session")
def template(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Template, str]]:
    """A prepared database to copy from, and its secret key."""
    secret = new_secret_key()
    with empty(database, tmp_path_factory.mktemp("web")) as url:
        with pytest.MonkeyPatch.context() as patch:
            set_environment(patch, url, secret)
            runtime = Runtime.build(read_settings())
        runtime.prepare()
        runtime.close()
        yield Template(url), secret


def set_environment(patch: pytest.MonkeyPatch, url: str, secret: str) -> None:
    """An environment of settings for a database, with every provider configured, and nothing from outside."""
    prefixes = ("RECEIVER_", *(f"{name.upper()}_" for name in handlers.available()))
    for name in list(os.environ):
        if name.startswith(prefixes):
            patch.delenv(name)
    values = {
        "RECEIVER_DATABASE_URL": url,
        "RECEIVER_SECRET_KEYS": secret,
        "RECEIVER_API_KEY": KEY,
        "RECEIVER_ALLOWED_NETWORKS": "127.0.0.0/8",
        "RECEIVER_PUBLIC_URL": "https://gw.example.test",
        "RECEIVER_REQUEST_RATE": "0",  # tests ask in storms
        **CREDENTIALS,
        **{f"{name.upper()}_BASE_URL": SHUT for name in handlers.available()},
    }
    for name, value in values.items():
        patch.setenv(name, value)


@pytest.fixture
def settings(tmp_path: Path, template: tuple[Template, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings of an installation with a prepared database."""
    prepared, secret = template
    with prepared.copy(tmp_path) as url:
        set_environment(monkeypatch, url, secret)
        yield read_settings()


@pytest.fixture
def clock() -> Clock:
    """The clock of the services."""
    return Clock()


@pytest.fixture
def build(settings: Settings, clock: Clock) -> Iterator[Callable[..., Runtime]]:
    """Makes a runtime, with some settings changed."""
    built: list[Runtime] = []

    def make(**changes: Any) -> Runtime:
        built.append(Runtime.build(replace(settings, **changes), clock))
        return built[-1]

    yield make
    for runtime in built:
        runtime.close()


@pytest.fixture
def runtime(build: Callable[..., Runtime]) -> Runtime:
    """The services."""
    return build()


@pytest.fixture
def app(runtime: Runtime) -> Flask:
    """The application."""
    return create_app(runtime)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A bare client."""
    return app.test_client()


@pytest.fixture
def key() -> str:
    """The key of the account ``default``."""
    return KEY


@pytest.fixture
def api(client: FlaskClient) -> Caller:
    """The account ``default`` with a key that may do everything."""
    return Caller(client, KEY)


@pytest.fixture
def caller(client: FlaskClient, runtime: Runtime) -> Callable[..., Caller]:
    """Makes a caller with a fresh key of an account with some scopes."""

    def make(account: str = "default", *scopes: str) -> Caller:
        return Caller(client, runtime.accounts.create_key(account, "test", scopes or ["manage"])[1])

    return make


@pytest.fixture
def stranger(caller: Callable[..., Caller]) -> Caller:
    """Another account, with a key that may do everything there."""
    return caller("stranger")


@pytest.fixture
def progress(runtime: Runtime, clock: Clock) -> Progress:
    """What workers do."""
    return Progress(runtime, clock)
