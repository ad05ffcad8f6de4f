"""Sandbox, web and worker as processes that can be killed one by one, started again, and told where to die.

Web and worker are groups of processes, and a kill takes the whole group: as if the machine lost power.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import requests

from receiver.faultpoints import VARIABLE
from receiver.sealing import new_secret_key
from tests.databases import place_of
from tests.story.system import CREDENTIALS, KEY, PROVIDERS, ROOT, free_port

LEASE = 2.0
DELIVERY_TIMEOUT = 1.0
VOD_KEY = "an-auth-key-of-notices"


def environment(folder: Path, **more: str) -> dict[str, str]:
    """What every process of one plant needs; short leases, so that recovery is fast. ``more``: further variables.

    An SQLite file in the folder, unless they name another database.
    """
    url, sandbox_url = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("RECEIVER_", "SANDBOX_"))}
    return {
        **bare,
        "PYTHONPATH": str(ROOT),
        "RECEIVER_PARENT_PID": str(os.getpid()),
        "RECEIVER_DATABASE_URL": f"sqlite:///{folder}/receiver.db",
        "RECEIVER_PUBLIC_URL": url,
        "RECEIVER_BIND": url.removeprefix("http://"),
        "RECEIVER_API_KEY": KEY,
        "RECEIVER_SECRET_KEYS": new_secret_key(),
        "RECEIVER_ALLOWED_NETWORKS": "127.0.0.0/8",
        "RECEIVER_LOG_FORMAT": "json",
        "RECEIVER_LEASE": str(LEASE),
        "RECEIVER_DELIVERY_TIMEOUT": str(DELIVERY_TIMEOUT),
        "RECEIVER_RETRY_SCHEDULE": "0.2,0.3,0.5,1,1,1,2,2,2,2",
        "SANDBOX_URL": sandbox_url,
        "SANDBOX_TIME_SCALE": "0.1",
        "SANDBOX_VOD_CALLBACK_KEY": VOD_KEY,
        "APSARAVIDEO_VOD_CALLBACK_KEY": VOD_KEY,
        **CREDENTIALS,
        **{f"{name.upper()}_BASE_URL": f"{sandbox_url}/{name}" for name in PROVIDERS},
        **{f"{name.upper()}_SUBMIT_RATE": "200" for name in PROVIDERS},
        **{f"{name.upper()}_QUERY_RATE": "200" for name in PROVIDERS},
        **{f"{name.upper()}_POLL_SCHEDULE": "0.5,1" for name in PROVIDERS},
        **more,
    }


class Group:
    """One command of the service with all processes that it makes."""

    def __init__(self, folder: Path, name: str, *arguments: str, variables: Mapping[str, str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as output:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "receiver.cli", *arguments],
                cwd=folder,
                env=dict(variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def signal(self, number: int) -> None:
        """Send a signal to every process of the group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, number)

    def kill(self) -> None:
        """End all of it at once."""
        self.signal(signal.SIGKILL)
        self.popen.wait()

    def terminate(self, seconds: float) -> int:
        """Ask it to stop, as an operator does; its exit code. AssertionError when it takes longer."""
        self.popen.terminate()
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not stop in {seconds} s:\n{self.tail()}") from None

    def children(self) -> set[int]:
        """The processes that the first one has made."""
        path = Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children")
        with contextlib.suppress(OSError):
            return {int(text) for text in path.read_text().split()}
        return set()

    def stands_still(self) -> bool:
        """Whether every thread of the first process has been stopped, which takes a moment after the signal."""
        stats = Path(f"/proc/{self.popen.pid}/task").glob("*/stat")
        return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in stats)

    def tail(self) -> str:
        """The end of its output."""
        return self.log.read_text()[-3000:]


class Plant:
    """The whole system. Start processes from the main thread only: they end with the thread that made them."""

    def __init__(self, folder: Path, **more: str) -> None:
        """``more``: environment variables beside what makes it run. Starts the sandbox and brings the schema up."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.variables = environment(folder, **more)
        self.url = self.variables["RECEIVER_PUBLIC_URL"]
        self.sandbox_url = self.variables.pop("SANDBOX_URL")
        self.database = place_of(self.variables["RECEIVER_DATABASE_URL"])
        self.groups: list[Group] = []
        self.sandbox = self.start("sandbox", "sandbox", "--port", self.sandbox_url.rpartition(":")[2])
        migrated = self.start("migrate", "migrate")
        assert migrated.popen.wait(30) == 0, migrated.tail()

    def start(self, name: str, *arguments: str, fault: str | None = None, **more: str) -> Group:
        """Start a command. ``fault``: where it is to die (``label`` or ``label:N``)."""
        variables = {**self.variables, **more, **({VARIABLE: fault} if fault else {})}
        group = Group(self.folder, name, *(arguments or (name,)), variables=variables)
        self.groups.append(group)
        return group

    def close(self) -> None:
        """End everything."""
        for group in self.groups:
            group.signal(signal.SIGCONT)
            group.kill()

    def api(self, method: str, path: str, **options: Any) -> requests.Response:
        """One API call; raises requests' errors while the web is down."""
        headers = {"Authorization": f"Bearer {KEY}", "Connection": "close", **options.pop("headers", {})}
        return requests.request(method, self.url + path, headers=headers, timeout=10, **options)

    def pages(self, path: str) -> list[dict[str, Any]]:
        """Everything that a list of the API holds."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            glue = "&" if "?" in path else "?"
            page = self.api("GET", f"{path}{glue}limit=100{cursor}").json()
            found += page["data"]
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    def subscribe(self, url: str, *event_types: str) -> str:
        """Register a webhook; its secret."""
        answer = self.api("POST", "/v1/subscribers", json={"url": url, "event_types": list(event_types) or ["*"]})
        assert answer.status_code == 201, answer.text
        secret: str = answer.json()["secret"]
        return secret

    def sandbox_get(self, path: str) -> Any:
        """What the sandbox has seen."""
        return requests.get(f"{self.sandbox_url}/_sandbox/{path}", timeout=10).json()

    def await_web(self, seconds: float = 20.0) -> None:
        """Wait until the web answers."""

        def answers() -> bool:
            with contextlib.suppress(requests.RequestException):
                return self.api("GET", "/healthz").ok
            return False

        until(answers, seconds, "the web does not answer")


def until(happened: Callable[[], Any], seconds: float, otherwise: str) -> Any:
    """What the function gives as soon as it gives something true. AssertionError when it does not in time."""
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)
    return found
