"""The demo's service: ``receiver run --with-sandbox``, quick, in a folder that goes away."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click

import handlers
from receiver.cli import orphans
from receiver.cli.api import Api, ApiProblem, local_url
from receiver.cli.ports import free_port

START = 40.0
"""Seconds that the service gets until it is ready."""
STOP = 12.0
_LOG_TAIL = 25


@dataclass(frozen=True)
class DemoService:
    """A running service. ``api`` has a key that may manage."""

    api: Api
    process: subprocess.Popen[bytes]
    log: Path

    def log_tail(self) -> list[str]:
        """The last lines of its log; secrets are blanked out in it already."""
        return [line for line in self.log.read_text(errors="replace").splitlines() if line][-_LOG_TAIL:]

    def ready(self) -> bool:
        """Whether web, worker and database all say so. Raises click.ClickException when the service has ended."""
        if self.process.poll() is not None:
            raise click.ClickException("The service ended:\n" + "\n".join(self.log_tail()))
        with contextlib.suppress(ApiProblem):
            self.api.get("/readyz")
            return True
        return False


@contextlib.contextmanager
def demo_service() -> Iterator[DemoService]:
    """The whole service, ready, for the length of a ``with`` block; nothing of it is left behind."""
    with tempfile.TemporaryDirectory(prefix="receiver-demo-") as name:
        folder = Path(name)
        port, key = free_port(), "rk_" + secrets.token_urlsafe(32)
        log = folder / "service.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "receiver.cli", "run", "--with-sandbox"],
                cwd=folder,
                env=demo_environment(folder, port, key, os.environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        service = DemoService(Api(local_url("127.0.0.1", port), key), process, log)
        try:
            end = time.monotonic() + START
            while not service.ready():
                if time.monotonic() > end:
                    raise click.ClickException("The service is not ready in time:\n" + "\n".join(service.log_tail()))
                time.sleep(0.1)
            yield service
        finally:
            service.api.close()
            _stop(process)


def demo_environment(folder: Path, port: int, key: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Variables for the demo's service: nothing of the user's own settings or accounts, and quick polls."""
    ours = ("RECEIVER_", "SANDBOX_", "PROMETHEUS_", *(f"{name}_".upper() for name in handlers.available()))
    made = {name: value for name, value in environ.items() if not name.startswith(ours)}
    for provider in handlers.available():
        # Callbacks come first where there are any, and a task without one does not wait long.
        calls_back = handlers.find(provider).callbacks is not handlers.Callbacks.NONE
        made[f"{provider}_poll_schedule".upper()] = "2.5" if calls_back else "1"
    return made | {
        "RECEIVER_DATABASE_URL": f"sqlite:///{folder}/receiver.db",
        "RECEIVER_BIND": f"127.0.0.1:{port}",
        "RECEIVER_API_KEY": key,
        "RECEIVER_LOG_FORMAT": "json",
        "RECEIVER_SHUTDOWN_TIMEOUT": "3",
        "SANDBOX_DURATION": "1.2",
        "TMPDIR": str(folder),  # so that what its processes share goes away with it
        orphans.PARENT: str(os.getpid()),
    }


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the supervisor to stop its children and itself; if it cannot, end it (its children follow)."""
    process.terminate()
    try:
        process.wait(STOP)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
