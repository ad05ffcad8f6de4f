"""The demo: what it promises is what it checks, and it leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import requests

import handlers
from receiver.cli.demo import TASKS, DemoTask, _line, missing
from receiver.cli.demo_service import demo_environment
from receiver.cli.demo_subscriber import Arrival, DemoSubscriber, demo_subscriber
from receiver.signing import new_secret, sign
from tests.cli.service import FAILED, SUCCEEDED, task

BODY = b'{"type":"task.succeeded","timestamp":"2026-11-21T10:00:00.000Z","data":{"id":"task_1"}}'


def headers(secret: str, body: bytes = BODY, at: float | None = None) -> dict[str, str]:
    """The headers of a signed webhook."""
    stamp = int(time.time() if at is None else at)
    signature = sign(secret, "evt_1", stamp, body)
    return {"Webhook-Id": "evt_1", "Webhook-Timestamp": str(stamp), "Webhook-Signature": signature}


def test_the_subscriber_believes_only_what_is_signed() -> None:
    """A webhook counts when its signature fits; all others are refused and remembered as such."""
    subscriber = DemoSubscriber("http://127.0.0.1:1/")
    assert subscriber.take(headers(new_secret()), BODY) == 401  # before it knows its secret
    subscriber.secret = new_secret()
    assert subscriber.take(headers(subscriber.secret), BODY) == 204
    assert subscriber.take(headers(new_secret()), BODY) == 401
    assert subscriber.take(headers(subscriber.secret), BODY.replace(b"succeeded", b"failed")) == 401
    assert subscriber.take(headers(subscriber.secret, at=time.time() - 3600), BODY) == 401
    assert subscriber.take({}, b"\xff") == 401
    assert [bool(arrival.problem) for arrival in subscriber.arrived("task_1")] == [True, False, True, True, True]
    assert len(subscriber.refused()) == 5


def test_the_subscriber_answers_on_a_free_port() -> None:
    """It is a real program on loopback, for as long as the block lasts."""
    with demo_subscriber() as subscriber:
        subscriber.secret = new_secret()
        answer = requests.post(subscriber.url, data=BODY, headers=headers(subscriber.secret), timeout=5)
        assert answer.status_code == 204
        assert [arrival.event_type for arrival in subscriber.arrived("task_1")] == ["task.succeeded"]
    with pytest.raises(requests.ConnectionError):
        requests.post(subscriber.url, data=BODY, timeout=5)


STEPS = (
    ("submit", {"outcome": "accepted"}),
    ("notice", {"verdict": "hint"}),
    ("poll", {"said": "succeeded"}),
    ("state", {"to": "succeeded", "via": "callback"}),
    ("attempt", {"event_type": "task.succeeded", "url": "the subscriber", "response_status": 204}),
)
"""What goes as it should."""


@pytest.mark.parametrize("width", [80, 100])
def test_no_line_is_broken_by_the_terminal(width: int) -> None:
    """Nobody sees the first minute of the service as lines that run over, in a usual terminal as in a wide one."""
    for kind, detail in STEPS:
        for provider, operation, _ in TASKS:
            line = _line(100.0, DemoTask("task_1", provider, operation, {}), {"kind": kind, "detail": detail}, width)
            assert line.cell_len <= width, line.plain
            assert provider in line.plain


class _Heard(DemoSubscriber):
    """A subscriber at which everything arrived but what is left out."""

    def __init__(self, *deaf_to: str, refused: tuple[Arrival, ...] = ()) -> None:
        super().__init__("")
        self._deaf_to = deaf_to
        self._refused = refused

    def arrived(self, task_id: str) -> list[Arrival]:
        return [] if task_id in self._deaf_to else [Arrival("task.succeeded", task_id, "")]

    def refused(self) -> list[Arrival]:
        return list(self._refused)


def played(**changes: Any) -> list[DemoTask]:
    """One task of each provider, of which the first completed by poll; ``changes`` are to the last one."""
    tasks = [
        DemoTask(f"task_{n}", name, "op", {**SUCCEEDED, "completed_via": "callback" if n else "poll"})
        for n, name in enumerate(handlers.available())
    ]
    tasks[-1].task = {**tasks[-1].task, **changes}
    return tasks


def test_nothing_is_missing_when_everything_arrived() -> None:
    """Every provider, both ways, every result: no complaint."""
    assert missing(played(), _Heard()) == []


@pytest.mark.parametrize(
    ("tasks", "subscriber", "said"),
    [
        (played(**FAILED), _Heard(), "is failed The provider refused the prompt."),
        (played(**task(status="running")), _Heard(), "is running"),
        (played(outputs=[]), _Heard(), "has no output"),
        (played(), _Heard("task_1"), "(task_1) did not arrive, verified, at the subscriber"),
        (played(), _Heard(refused=(Arrival("", "", "no signature"),)), "not believed: no signature"),
        (played()[1:], _Heard(), f"no task of {handlers.available()[0]} was submitted"),
        (played()[1:], _Heard(), "no task was completed by poll"),
        (played()[:1], _Heard(), "no task was completed by callback"),
    ],
)
def test_whatever_is_missing_is_told(tasks: list[DemoTask], subscriber: DemoSubscriber, said: str) -> None:
    """Each broken promise has its sentence, so that the demo cannot pass without keeping all."""
    assert any(said in problem for problem in missing(tasks, subscriber))


def test_the_demo_has_a_task_for_every_provider() -> None:
    """No provider is left out, also none that is added later."""
    assert {provider for provider, _, _ in TASKS} == set(handlers.available())
    for provider, operation, given in TASKS:
        assert handlers.find(provider).operations[operation].schema().validate(dict(given)) == {}


def test_the_demo_never_uses_the_accounts_of_its_user(tmp_path: Path) -> None:
    """Settings and credentials of the environment do not reach the demo's service."""
    environ = {
        "PATH": "/bin", "RECEIVER_DATABASE_URL": "postgresql://real", "TOPVIEW_API_KEY": "real",
        "SANDBOX_ALWAYS": "[sandbox:fail]", "PROMETHEUS_MULTIPROC_DIR": "/real",
    }  # fmt: skip
    made = demo_environment(tmp_path, 8123, "rk_demo", environ)
    assert made["PATH"] == "/bin"
    assert "real" not in str(made)
    assert "SANDBOX_ALWAYS" not in made
    assert made["RECEIVER_DATABASE_URL"] == f"sqlite:///{tmp_path}/receiver.db"


@pytest.mark.process
def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path) -> None:
    """Ctrl-C in the middle: every process ends, and the folder is gone."""
    process = subprocess.Popen(
        [sys.executable, "-m", "receiver.cli", "demo"],
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert "Starting" in process.stdout.readline()
        assert "ready at" in process.stdout.readline()
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        family = [child, *Path(f"/proc/{child}/task/{child}/children").read_text().split()]
        assert len(family) == 4
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert not any(Path(f"/proc/{pid}").exists() for pid in family)
        assert not list(tmp_path.iterdir())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
