"""The whole system as real processes on loopback: sandbox, web and worker; the tests speak only HTTP to it."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).resolve().parents[2]
KEY = "rk_story_key_0123456789"

CREDENTIALS = {
    "TOPVIEW_UID": "demo-uid",
    "TOPVIEW_API_KEY": "sk-demo",
    "SUPERAPP_ACCESS_KEY": "ak-demo",
    "SUPERAPP_SECRET_KEY": "sk-demo",
    "APSARAVIDEO_VOD_ACCESS_KEY_ID": "testAccessKeyId",
    "APSARAVIDEO_VOD_ACCESS_KEY_SECRET": "testAccessKeySecret",
    "IMG_OPEN_ACCESS_KEY_ID": "demo-id",
    "IMG_OPEN_ACCESS_KEY_SECRET": "demo-secret",
}
PROVIDERS = ("topview", "superapp", "apsaravideo_vod", "img_open")


_given_out: set[int] = set()


def free_port() -> int:
    """A port nobody listens on, below those the kernel gives to outgoing connections, and given out only once."""
    while True:
        port = random.SystemRandom().randint(12_000, 32_000)  # not the dice that property tests seed
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given_out:
            _given_out.add(port)
            return port


class Process:
    """One process of the system, its output in a file."""

    def __init__(self, folder: Path, name: str, *arguments: str, environment: Mapping[str, str]) -> None:
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as output:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "receiver.cli", *arguments],
                cwd=folder,
                env={**environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def stop(self, timeout: float = 15.0) -> int:
        """Ask it to stop; its exit code."""
        if self.popen.poll() is None:
            self.popen.terminate()
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise AssertionError(f"did not stop in {timeout} s:\n{self.log.read_text()[-3000:]}") from None


class System:
    """Sandbox, web and worker, and an API client.

    ``settings``: environment variables beside what makes it run. Times of the sandbox run ten times as fast.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.sandbox_url = f"http://127.0.0.1:{free_port()}"
        self.url = f"http://127.0.0.1:{free_port()}"
        bare = {name: value for name, value in os.environ.items() if not name.startswith(("RECEIVER_", "SANDBOX_"))}
        self.environment = {
            **bare,
            "PYTHONPATH": str(ROOT),
            "RECEIVER_DATABASE_URL": f"sqlite:///{folder}/receiver.db",
            "RECEIVER_PUBLIC_URL": self.url,
            "RECEIVER_BIND": self.url.removeprefix("http://"),
            "RECEIVER_API_KEY": f"{KEY}_{secrets.token_hex(8)}",  # what answers to it is this very system
            "RECEIVER_ALLOWED_NETWORKS": "127.0.0.0/8",
            "RECEIVER_LOG_FORMAT": "json",
            "SANDBOX_TIME_SCALE": "0.1",
            **CREDENTIALS,
            **{f"{name.upper()}_BASE_URL": f"{self.sandbox_url}/{name}" for name in PROVIDERS},
            **{f"{name.upper()}_SUBMIT_RATE": "200" for name in PROVIDERS},
            **{f"{name.upper()}_QUERY_RATE": "200" for name in PROVIDERS},
            "TOPVIEW_BUSY_WAIT": "1",
            "TOPVIEW_UNFINISHED_WAIT": "1",
            "IMG_OPEN_NOT_FOUND_GRACE": "1",
            **settings,
        }
        port = self.sandbox_url.rpartition(":")[2]
        self.sandbox = Process(folder, "sandbox", "sandbox", "--port", port, environment=self.environment)
        self.service = Process(folder, "service", "run", environment=self.environment)
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {self.environment['RECEIVER_API_KEY']}"
        try:
            self._await_ready()
        except BaseException:
            self.close()
            raise

    def _await_ready(self) -> None:
        deadline = time.monotonic() + 40
        last = "nothing answers"
        while time.monotonic() < deadline:
            with contextlib.suppress(requests.ConnectionError):
                answer = self.session.get(f"{self.url}/readyz", timeout=5)
                requests.get(f"{self.sandbox_url}/_sandbox/", timeout=5)
                if answer.status_code == 200:
                    answer = self.session.get(f"{self.url}/v1/tasks", timeout=5)
                if answer.status_code == 200:
                    return
                last = answer.text
            time.sleep(0.1)
        raise AssertionError(f"not ready: {last}\n{self.service.log.read_text()[-3000:]}")

    def close(self) -> None:
        """Stop everything."""
        codes = {"service": self.service.stop(40), "sandbox": self.sandbox.stop()}
        self.session.close()
        assert codes["service"] == 0, f"the service stopped with {codes}:\n{self.service.log.read_text()[-3000:]}"

    def call(self, method: str, path: str, expect: int = 200, **options: Any) -> Any:
        """An API call; its JSON (None for an empty answer)."""
        answer = self.session.request(method, self.url + path, timeout=70, **options)
        assert answer.status_code == expect, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def submit(self, provider: str, operation: str, given: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """Submit a task."""
        body = {"provider": provider, "operation": operation, "input": dict(given), **more}
        task: dict[str, Any] = self.call("POST", "/v1/tasks", 202, json=body)
        return task

    def finished(self, task: Mapping[str, Any], seconds: float = 30) -> dict[str, Any]:
        """The task once it is final."""
        deadline = time.monotonic() + seconds
        while True:
            now: dict[str, Any] = self.call("GET", f"/v1/tasks/{task['id']}?wait=5")
            if now["status"] in ("succeeded", "failed", "canceled", "expired"):
                return now
            assert time.monotonic() < deadline, f"not final: {now}\n{self.timeline(now)}"

    def timeline(self, task: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The task's steps."""
        steps: list[dict[str, Any]] = self.call("GET", f"/v1/tasks/{task['id']}/timeline")["data"]
        return steps

    def subscribe(self, url: str, event_types: list[str], **more: Any) -> dict[str, Any]:
        """Register a webhook; the answer holds its secret."""
        body = {"url": url, "event_types": event_types, **more}
        subscriber: dict[str, Any] = self.call("POST", "/v1/subscribers", 201, json=body)
        return subscriber

    def sandbox_call(self, method: str, path: str, **options: Any) -> Any:
        """A call of the sandbox's own control interface; its JSON."""
        answer = requests.request(method, f"{self.sandbox_url}/_sandbox/{path}", timeout=10, **options)
        assert answer.status_code < 300, answer.text
        return answer.json()


@contextlib.contextmanager
def running(folder: Path, **settings: str) -> Iterator[System]:
    """A system that runs for the length of the block."""
    system = System(folder, settings)
    try:
        yield system
    finally:
        system.close()
