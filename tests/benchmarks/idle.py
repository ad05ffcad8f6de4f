"""A system with nothing to do: its CPU and memory, how long it takes to start, and ``receiver --help``.

python -m tests.benchmarks.idle [--quick] [--seconds 30]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.benchmarks.outside_client import Outside, outside
from tests.benchmarks.processes import (
    cpu_seconds,
    fine_cpu_seconds,
    free_port,
    megabytes,
    plain_environment,
    start,
    stop,
    wait_until_ready,
)
from tests.benchmarks.systems import CELERY_PREFORK, OURS, POSTGRESQL, SQLITE, SYSTEMS
from tests.benchmarks.tables import goal, show

SETTLING = 12.0
"""Seconds that a system gets to come to rest after its start: signs of life and sweeps have begun by then."""


def rest(name: str, database: str, beyond: Outside, settling: float, seconds: float) -> tuple[float, float, int]:
    """Share of a core, memory in MB, and processes of a system that is left alone."""
    with SYSTEMS[name](database, True, beyond) as system:
        time.sleep(settling)
        before, began = fine_cpu_seconds(system.roots), time.monotonic()
        time.sleep(seconds)
        share = (fine_cpu_seconds(system.roots) - before) / (time.monotonic() - began)
        found = sum(len(psutil.Process(pid).children(recursive=True)) + 1 for pid in system.roots)
        return share, megabytes(system.roots), found


def help_time() -> tuple[float, float]:
    """Seconds, and seconds of CPU, until ``receiver --help`` has ended."""
    code = [sys.executable, "-m", "receiver.cli", "--help"]
    began, before = time.monotonic(), _children()
    subprocess.run(code, check=True, env=plain_environment(), capture_output=True)
    return time.monotonic() - began, _children() - before


def _children() -> float:
    times = psutil.Process().cpu_times()
    return float(times.children_user + times.children_system)


def start_time() -> tuple[float, float]:
    """Seconds, and seconds of CPU, until ``receiver run`` says that it is ready, on SQLite, from nothing."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder, port = Path(name), free_port()
        environment = plain_environment(
            RECEIVER_DATABASE_URL=f"sqlite:///{folder}/bench.db",
            RECEIVER_BIND=f"127.0.0.1:{port}",
            RECEIVER_API_KEY="rk_benchmark_0123456789",
        )
        process = start(folder, "service", [sys.executable, "-m", "receiver.cli", "run"], environment)
        try:
            return wait_until_ready(process, port, folder / "service.log"), cpu_seconds([process.pid])
        finally:
            stop(process)


def starts(times: int) -> list[str]:
    """How long both take, and their goals."""
    help_times = [help_time() for _ in range(times + 2)]
    ready_times = [start_time() for _ in range(times)]
    rows = []
    for what, found in (("`receiver --help`", help_times), ("`receiver run` until ready", ready_times)):
        middle = [statistics.median(each) for each in zip(*found, strict=True)]
        least = min(seconds for seconds, _ in found)
        rows.append([what, f"{middle[0]:.2f}", f"{least:.2f}", f"{middle[1]:.2f}"])
    helped, ready = (statistics.median(each for each, _ in found) for found in (help_times, ready_times))
    return [
        *show(["", "s, median", "s, least", "CPU s"], rows),
        *goal("`receiver --help`", "< 0.3 s", f"{helped:.2f} s", helped < 0.3),
        *goal("`receiver run` until ready", "< 2 s", f"{ready:.2f} s", ready < 2),
        "",
    ]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Idle systems, and how long they take to start.")
    parser.add_argument("--quick", action="store_true", help="SQLite, ours alone, for 5 seconds")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--starts", type=int, default=5)
    options = parser.parse_args()
    settling = SETTLING
    if options.quick:
        settling, options.seconds, options.starts = 4.0, 5.0, 1
    lines = starts(options.starts)
    rows, goals = [], []
    with outside() as beyond:
        for database in [SQLITE] if options.quick else [SQLITE, POSTGRESQL]:
            for name in [OURS] if options.quick else [OURS, CELERY_PREFORK]:
                share, memory, found = rest(name, database, beyond, settling, options.seconds)
                rows.append([f"{name}, {database}", f"{share:.2%}", f"{memory:.0f}", str(found)])
                if name == OURS:
                    goals += goal(f"idle, {database}, whole system", "< 0.3 % of a core", f"{share:.2%}", share < 0.003)
    lines += [*show(["idle", "of a core", "MB", "processes"], rows), *goals, ""]
    sys.stdout.write("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
