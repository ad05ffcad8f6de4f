"""Starts what lies outside of the systems (``outside.py``), and asks it what came."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import requests

from tests.benchmarks.processes import plain_environment


@dataclass
class Outside:
    """The subscriber's and the provider's port."""

    sink: int
    provider: int

    @property
    def url(self) -> str:
        """Where webhooks go."""
        return f"http://127.0.0.1:{self.sink}/hook"

    def begin(self, secret: str, *, failures: float = 0.0, seconds: float = 0.0) -> None:
        """Forget what came; from now on verify with this secret. See ``outside.py``."""
        about = {"secret": secret, "failures": failures, "seconds": seconds}
        requests.post(f"http://127.0.0.1:{self.sink}/begin", json=about, timeout=30).raise_for_status()

    def report(self) -> dict[str, Any]:
        """What came since ``begin``."""
        found: dict[str, Any] = requests.get(f"http://127.0.0.1:{self.sink}/report", timeout=60).json()
        return found

    def wait_for(self, count: int, seconds: float) -> None:
        """Until so many keys have come, or nothing new has for so many seconds."""
        before, changed = -1, time.monotonic()
        with requests.Session() as session:
            while True:
                came = int(session.get(f"http://127.0.0.1:{self.sink}/count", timeout=30).text)
                if came >= count or time.monotonic() - changed > seconds:
                    return
                if came > before:
                    before, changed = came, time.monotonic()
                time.sleep(0.05)


@contextlib.contextmanager
def outside() -> Iterator[Outside]:
    """The subscriber and the provider, running in a process of their own."""
    command = [sys.executable, "-m", "tests.benchmarks.outside"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=plain_environment(), text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ports = json.loads(process.stdout.readline())
        try:
            yield Outside(ports["sink"], ports["provider"])
        finally:
            process.stdin.close()
