"""Processes of a measured system: started, looked at with all that descends from them, stopped."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil
import requests

from tests.postgres import Server
from tests.story.system import free_port

ROOT = Path(__file__).resolve().parents[2]
Roots = Sequence[int]


def tree(roots: Roots) -> list[psutil.Process]:
    """The processes with these ids and all that descend from them."""
    found: list[psutil.Process] = []
    for pid in roots:
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            found += [root, *root.children(recursive=True)]
    return found


def cpu_seconds(roots: Roots) -> float:
    """User and system time of the trees since they began, children that have ended included."""
    total = 0.0
    for process in tree(roots):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])
    return total


def fine_cpu_seconds(roots: Roots) -> float:
    """The same in nanoseconds' steps instead of the kernel's ticks, for living threads alone: for idle systems."""
    total = 0
    for process in tree(roots):
        for path in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                total += int(path.read_text().split()[0])
    return total / 1e9


def megabytes(roots: Roots) -> float:
    """Memory that would be free without the trees (PSS: what is shared counts by share)."""
    total = 0
    for process in tree(roots):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss
    return total / 1e6


def start(folder: Path, name: str, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A process whose output goes to a file in the folder."""
    with (folder / f"{name}.log").open("ab") as output:
        return subprocess.Popen(
            command, cwd=folder, env={**environment}, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )


def stop(process: subprocess.Popen[bytes], seconds: float = 40.0) -> None:
    """Ask it to stop; kill it and its descendants when it does not."""
    if process.poll() is not None:
        return
    descendants = tree([process.pid])
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    for left in descendants:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()
    process.wait()


def plain_environment(**more: str) -> dict[str, str]:
    """This process's environment without settings of the service, and what is given."""
    own = ("RECEIVER_", "SANDBOX_", "TOPVIEW_", "PROMETHEUS_", "PEER_", "PYTHONDONTWRITEBYTECODE")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(own)},
        "PYTHONPATH": str(ROOT),
        **more,
    }


def main_pid(server: Server) -> int:
    """The process id of a PostgreSQL server, the parent of all its others."""
    return int((server.folder / "data" / "postmaster.pid").read_text().split()[0])


@contextlib.contextmanager
def redis() -> Iterator[tuple[int, int]]:
    """A Redis server without persistence (which favours those who use it); its process id and its port."""
    folder, port = Path(tempfile.mkdtemp(prefix="bench-redis-")), free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = start(folder, "redis", command, plain_environment())
    try:
        wait_for_port(port)
        yield process.pid, port
    finally:
        stop(process)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for_port(port: int, seconds: float = 20.0) -> None:
    """Until somebody listens at a port of this machine. TimeoutError when nobody does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise TimeoutError(f"nobody listens at port {port}")


def wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path, seconds: float = 60.0) -> float:
    """Until our service says that it is ready; the seconds that took. TimeoutError shows the end of its log."""
    began = time.monotonic()
    while (waited := time.monotonic() - began) < seconds and process.poll() is None:
        with contextlib.suppress(requests.ConnectionError):
            if requests.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200:
                return time.monotonic() - began
        time.sleep(0.02)
    raise TimeoutError(f"not ready after {waited:.0f} s:\n{log.read_text()[-3000:]}")
