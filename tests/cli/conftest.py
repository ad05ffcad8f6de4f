"""What the command line's tests share: a clean environment, a runner, a service that says what it is told to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import handlers
from receiver import logs
from receiver.cli import main
from tests.cli.service import FakeService

Run = Callable[..., Result]
KEY = "rk_cli_test_key_0123456789"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of whoever runs the tests, a database of the test's own, and no logging set up in this process."""
    ours = ("RECEIVER_", "SANDBOX_", "PROMETHEUS_", *(f"{name}_".upper() for name in handlers.available()))
    for name in list(os.environ):
        if name.startswith(ours) or name in ("NO_COLOR", "FORCE_COLOR"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("RECEIVER_DATABASE_URL", f"sqlite:///{tmp_path}/receiver.db")
    monkeypatch.setattr(logs, "set_up", lambda *_: None)


@pytest.fixture
def run() -> Run:
    """Run a command in this process: ``run("tasks", "--json")``."""

    def runs(*args: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, list(args), input=stdin, prog_name="receiver")

    return runs


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeService]:
    """A service on loopback, which the commands find by their environment."""
    with FakeService() as fake:
        monkeypatch.setenv("RECEIVER_URL", fake.url)
        monkeypatch.setenv("RECEIVER_API_KEY", KEY)
        yield fake
