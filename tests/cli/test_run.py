"""``receiver run`` as a user starts it: real processes, real sockets."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import requests

from receiver.cli.ports import free_port
from receiver.cli.run import first_call
from tests.cli.conftest import Run

SANDBOX = {"SANDBOX_DURATION": "0.2", "SUPERAPP_POLL_SCHEDULE": "0.3", "RECEIVER_SHUTDOWN_TIMEOUT": "3"}


class Running:
    """A ``receiver run`` in a folder of its own."""

    def __init__(self, folder: Path, *args: str, output: Path | None = None, **settings: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.environment = {
            **os.environ,
            **SANDBOX,
            "RECEIVER_BIND": self.url.removeprefix("http://"),
            "RECEIVER_URL": self.url,
            "TMPDIR": str(folder),
            **settings,
        }
        self.log = folder / f"{time.monotonic_ns()}.log"
        with (output or self.log).open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "receiver.cli", "run", *args],
                cwd=folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    def said(self) -> str:
        """What it and its children printed so far."""
        return self.log.read_text()

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for something, some seconds at most."""
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end, f"{what} did not happen:\n{self.said()}"
            time.sleep(0.05)

    def ready(self) -> bool:
        """Whether /readyz says yes."""
        with contextlib.suppress(requests.RequestException):
            return requests.get(f"{self.url}/readyz", timeout=2).status_code == 200
        return False

    def children(self) -> list[int]:
        """The pids of its children, by the kernel's list."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in listed.split()]

    def receiver(self, *args: str, key: str = "") -> subprocess.CompletedProcess[str]:
        """Another command beside it."""
        environment = {**self.environment, "RECEIVER_API_KEY": key}
        command = [sys.executable, "-m", "receiver.cli", *args]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)

    @contextlib.contextmanager
    def listening(self, key: str) -> Iterator[tuple[str, IO[str]]]:
        """``receiver listen`` beside it: the first line it says, and its events; ended by Ctrl-C with 0."""
        with subprocess.Popen(
            [sys.executable, "-m", "receiver.cli", "listen", "--json", "--key", key],
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stderr is not None
            assert process.stdout is not None
            try:
                yield process.stderr.readline(), process.stdout
                process.send_signal(signal.SIGINT)
                assert process.wait(10) == 0
            finally:
                process.kill()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        return self.process.wait(15)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start services; those still running at the end are killed, and with them their children."""
    started: list[Running] = []

    def starting(*args: str, **settings: Any) -> Running:
        started.append(Running(tmp_path, *args, **settings))
        return started[-1]

    yield starting
    for each in started:
        each.process.kill()
        each.process.wait()


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.process
def test_a_first_start_is_all_it_takes(start: Callable[..., Running]) -> None:
    """One command: schema, key, emulated providers, web and worker; a task succeeds; the key is shown only once."""
    system = start("--with-sandbox")
    system.until(system.ready, "readiness")
    said = system.said()
    assert f"dashboard  {system.url}/\n" in said
    assert f"{system.url}/docs" in said
    assert "nothing is bought" in said
    found = re.search(r"API key +(rk_\S+)", said)
    assert found is not None
    key = found[1]
    with system.listening(key) as (said_first, events):
        assert "Listening" in said_first
        shown = system.receiver(
            "submit", "superapp", "text2image", "inputText=a boat", "width=512", "height=512", "--wait", "20", key=key
        )
        assert shown.returncode == 0, shown.stdout + shown.stderr
        assert "succeeded by poll" in shown.stdout
        assert "http://127.0.0.1" in shown.stdout
        assert [json.loads(events.readline())["type"] for _ in range(2)] == ["task.running", "task.succeeded"]
    assert "superapp" in system.receiver("tasks", key=key).stdout
    assert "enabled" not in system.receiver("subscribers", key=key).stdout
    assert requests.get(f"{system.url}/metrics", timeout=5).status_code == 200
    children = system.children()
    assert len(children) == 3
    assert system.stop() == 0
    assert all(map(gone, children))

    again = start("--with-sandbox")
    again.until(again.ready, "readiness")
    assert "rk_" not in again.said()
    assert again.receiver("tasks", key=key).returncode == 0
    assert again.stop() == 0


@pytest.mark.process
def test_web_and_worker_are_restarted_and_end_with_their_supervisor(start: Callable[..., Running]) -> None:
    """A killed worker is back in a second; a killed supervisor takes everybody along."""
    system = start(RECEIVER_API_KEY="rk_a_key_of_one_s_own")
    system.until(system.ready, "readiness")
    assert "rk_" not in system.said()  # a key that was given is not repeated
    assert "receiver check" in system.said()  # no provider has credentials
    before = system.children()
    assert len(before) == 2
    os.kill(before[1], signal.SIGKILL)
    system.until(lambda: len(system.children()) == 2 and before[1] not in system.children(), "the restart")
    assert before[0] in system.children()
    after = system.children()
    system.process.kill()
    system.until(lambda: all(map(gone, after)), "the children's end")


@pytest.mark.process
def test_a_full_disk_for_the_output_keeps_nothing_from_running(start: Callable[..., Running]) -> None:
    """A restart, perhaps because of that disk, must come up though it can say nothing; it stops in order, too."""
    system = start("--with-sandbox", output=Path("/dev/full"))
    system.until(system.ready, "readiness")
    assert system.stop() == 0


@pytest.mark.process
def test_with_a_provider_configured_no_sandbox_is_started(start: Callable[..., Running]) -> None:
    """The flag never puts an emulator beside real accounts."""
    settings = {"TOPVIEW_UID": "u", "TOPVIEW_API_KEY": "not-a-real-key"}
    system = start("--with-sandbox", **settings)
    system.until(lambda: len(system.children()) == 2, "the start")
    assert "not started, because providers are configured" in system.said()
    assert "TopView cannot call back" in system.said()  # the public URL is this machine's own
    system.until(system.ready, "readiness")
    assert system.stop() == 0


def test_a_port_in_use_is_told_before_anything_starts(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The mistake is named with its mend; no database, no key comes into being."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("RECEIVER_BIND", f"127.0.0.1:{taken.getsockname()[1]}")
        result = run("run")
    assert result.exit_code == 1
    assert "RECEIVER_BIND to another port" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.process
def test_the_web_alone_tells_too_that_its_port_is_in_use(tmp_path: Path) -> None:
    """After its tries the last line names the setting that mends it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = subprocess.run(
            [sys.executable, "-m", "receiver.cli", "web"], cwd=tmp_path, capture_output=True, text=True, timeout=60,
            env={**os.environ, "RECEIVER_BIND": address}, check=False,
        )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].endswith("or set RECEIVER_BIND to another port."), ended.stderr


def test_an_address_of_another_machine_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """RECEIVER_BIND must be an address of this machine."""
    monkeypatch.setenv("RECEIVER_BIND", "192.0.2.1:8000")
    result = run("run")
    assert result.exit_code == 1
    assert "an address of this machine" in result.stderr


def test_the_first_call_buys_nothing_from_real_providers() -> None:
    """With real providers the sample call only reads; with emulated ones it submits a task."""
    assert " -d " not in first_call("http://x", "rk_1", sandboxed=False)
    assert first_call("http://x", "rk_1", sandboxed=False).endswith("http://x/v1/providers")
    task = first_call("http://x", "rk_1", sandboxed=True).partition(" -d '")[2].rstrip("'")
    assert json.loads(task)["provider"] == "superapp"


@pytest.mark.process
def test_the_sandbox_says_where_it_is_and_ends_in_peace(tmp_path: Path) -> None:
    """Port 0 takes a free one, the address is printed, SIGTERM ends it with 0."""
    process = subprocess.Popen(
        [sys.executable, "-m", "receiver.cli", "sandbox", "--port", "0"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    url = process.stdout.readline().rpartition(" ")[2].strip()
    assert requests.get(f"{url}/_sandbox/", timeout=5).status_code == 200
    process.terminate()
    assert process.wait(10) == 0
    process.stdout.close()


def test_a_sandbox_that_cannot_start_says_why(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A taken port and a misspelled setting are told plainly."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("sandbox", "--port", str(taken.getsockname()[1]))
    assert result.exit_code == 1
    assert "another --port" in result.stderr
    monkeypatch.setenv("SANDBOX_SPEED", "fast")
    result = run("sandbox", "--port", "0")
    assert result.exit_code == 1
    assert "SANDBOX_SPEED is not a setting" in result.stderr
