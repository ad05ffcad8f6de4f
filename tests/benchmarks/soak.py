"""A long run under everything at once: nothing lost, nothing doubled, flat memory, flat latency.

    python -m tests.benchmarks.soak [--seconds 600] [--database sqlite|postgresql]

At half of the rate that is measured first, to a subscriber that refuses one request in twenty; the worker
is ended by SIGKILL and by SIGTERM in turns; old tasks are purged meanwhile. Exits with 1 when an event was
lost, or came again although no kill explains it: a worker that is killed may have sent what it had under
way, which its lease then hands to the next one (at least once).
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import psutil

from receiver.config import SETTINGS
from tests.benchmarks.callbacks import key_of
from tests.benchmarks.load import Sent, fire
from tests.benchmarks.outside_client import Outside, outside
from tests.benchmarks.processes import megabytes, tree
from tests.benchmarks.systems import POSTGRESQL, SQLITE, System, ours
from tests.benchmarks.tables import goal, show

FAILURES = 0.05
RETRIES = "1,1,2,2,5,5,5,5,5,5,10,10,10,10"
OLD = 20_000
"""Tasks that ended long ago and are purged during the run."""
TRIAL = 6000
"""Events that show how much the system can take, before the run."""
AT_ONCE = 1 - 3 * FAILURES
"""The share of them that counts: the last ones wait for retries, which come by schedule and not by what it can take."""
SEGMENT = 10.0
"""Seconds of load whose tasks are stored while the segment before is sent."""


@dataclass
class Record:
    """What was seen during the run. Times are monotonic seconds."""

    sent: dict[str, float] = field(default_factory=dict)
    statuses: dict[int, int] = field(default_factory=dict)
    kills: list[float] = field(default_factory=list)
    stops: list[float] = field(default_factory=list)
    memory: list[tuple[float, float, float]] = field(default_factory=list)
    """When; MB of the web; MB of the whole system."""

    def add(self, numbers: Sequence[int], result: Sent) -> None:
        """One segment's outcome."""
        self.sent.update(zip(map(key_of, numbers), result.at, strict=True))
        for status, count in result.statuses.items():
            self.statuses[status] = self.statuses.get(status, 0) + count


def part(system: System, name: str) -> psutil.Process | None:
    """The process of our system that runs this command (``web``, ``worker``), if it is up."""
    for process in tree(system.roots[:1]):
        with contextlib.suppress(psutil.Error, IndexError):
            if process.cmdline()[-1] == name:
                return process
    return None


def stored(system: System, numbers: range) -> list[bytes]:
    """Store tasks; their callbacks. In small transactions: other writers must not wait for long."""
    requests: list[bytes] = []
    for place in range(0, len(numbers), 50):
        requests += system.prepare(numbers[place : place + 50])
    return requests


def maximum(system: System, beyond: Outside) -> float:
    """Events per second that the system can take to this subscriber while as many tasks are stored, as in the run."""
    requests = stored(system, range(TRIAL))
    with ThreadPoolExecutor(1) as other:
        began = time.monotonic()
        following = other.submit(stored, system, range(TRIAL, 2 * TRIAL))
        fire(system.port, requests)
        beyond.wait_for(round(TRIAL * AT_ONCE), 60)
        following.result()
        took = time.monotonic() - began
    beyond.wait_for(TRIAL, 60)
    return TRIAL * AT_ONCE / took


@contextlib.contextmanager
def restarts(system: System, every: float, record: Record) -> Iterator[None]:
    """End the worker again and again, by force and in order in turns; the supervisor starts it again."""
    over = threading.Event()

    def run() -> None:
        by_force = True
        while not over.wait(every):
            worker = part(system, "worker")
            if worker is None:
                continue
            (record.kills if by_force else record.stops).append(time.monotonic())
            os.kill(worker.pid, signal.SIGKILL if by_force else signal.SIGTERM)
            by_force = not by_force

    with _thread(run, over):
        yield


@contextlib.contextmanager
def looks(system: System, record: Record) -> Iterator[None]:
    """Note the memory every few seconds."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(5):
            web = part(system, "web")
            if web is not None:
                record.memory.append((time.monotonic(), megabytes([web.pid]), megabytes(system.roots)))

    with _thread(run, over):
        yield


@contextlib.contextmanager
def _thread(run: object, over: threading.Event) -> Iterator[None]:
    thread = threading.Thread(target=run)  # type: ignore[arg-type]  # a function without arguments
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def send(system: System, rate: float, seconds: float, first: int, record: Record) -> None:
    """The load: callbacks of tasks that are stored just before."""
    size = max(round(rate * SEGMENT), 1)
    numbers = range(first, first + size)
    requests = stored(system, numbers)
    with ThreadPoolExecutor(1) as other:
        for segment in range(max(round(seconds / SEGMENT), 1)):
            following = range(numbers.stop, numbers.stop + size)
            further = other.submit(stored, system, following)
            record.add(numbers, fire(system.port, requests, rate=rate))
            numbers, requests = following, further.result()
            sys.stderr.write(f"soak: {(segment + 1) * SEGMENT:.0f} s, {len(record.sent)} callbacks\n")


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Growth per hour by linear regression; the first fifth, in which a process warms up, left out."""
    kept = points[len(points) // 5 :]
    if len(kept) < 2:
        return 0.0
    return statistics.linear_regression([at for at, _ in kept], [value for _, value in kept]).slope * 3600


def by_minute(record: Record, arrivals: dict[str, float]) -> list[list[str]]:
    """Rows: minute, callbacks, p50 and p99 in ms, memory."""
    began = min(record.sent.values())
    minutes: dict[int, list[float]] = {}
    for key, at in record.sent.items():
        if key in arrivals:
            minutes.setdefault(int((at - began) // 60), []).append((arrivals[key] - at) * 1000)
    rows = []
    for minute, found in sorted(minutes.items()):
        found.sort()
        during = [whole for at, _, whole in record.memory if minute <= (at - began) / 60 < minute + 1]
        shares = [f"{found[math.ceil(share * len(found)) - 1]:.1f}" for share in (0.5, 0.95, 0.99)]
        rows.append([str(minute + 1), str(len(found)), *shares, f"{max(during, default=0):.0f}"])
    return rows


def flatness(record: Record, arrivals: dict[str, float]) -> list[str]:
    """Goals for a run long enough to show whether anything grows; none for a shorter one."""
    whole = int((max(record.sent.values()) - min(record.sent.values())) // 60)
    rows = [row for row in by_minute(record, arrivals) if int(row[0]) <= whole]
    if len(rows) < 5:
        return []
    early, late = float(rows[1][2]), float(rows[-1][2])
    own = [web for _, web, _ in record.memory]
    grown = statistics.mean(own[-6:]) - statistics.mean(own[len(own) // 2 :][:6])
    return [
        *goal("soak: the web's memory, second half", "< 10 MB more", f"{grown:+.0f} MB", grown < 10),
        *goal("soak: p50, last whole minute / second minute", "≤ 2", f"{late / early:.1f}", late <= 2 * early),
    ]


def judge(record: Record, report: dict[str, dict[str, float]], rate: float, seats: int) -> tuple[list[str], bool]:
    """What came of it, in Markdown, and whether nothing was lost or doubled without a reason."""
    lost = sum(key not in report["arrivals"] for key in record.sent)
    again = sum(report["again"].values())
    explained = len(record.kills) * seats
    untaken = {status: count for status, count in record.statuses.items() if status != 200}
    web = [(at, own) for at, own, _ in record.memory] or [(0.0, 0.0)]
    summary = (
        f"{len(record.sent):,} callbacks at {rate:.0f}/s (half of what it can take while as many tasks are stored), "
        f"{len(record.kills)} kills and {len(record.stops)} orderly stops of the worker, {report['refused']:,} answers "
        f"of 500 by the subscriber, "
        f"{OLD:,} old tasks to purge."
    )
    memory = f"The web's memory: {web[0][1]:.0f} MB at first, {web[-1][1]:.0f} MB at last, {slope(web):+.0f} MB/h."
    lines = [
        summary,
        "",
        *show(["minute", "callbacks", "p50 ms", "p95 ms", "p99 ms", "MB"], by_minute(record, report["arrivals"])),
        memory,
        "",
        *goal("soak: lost", "0", str(lost), not lost),
        *goal("soak: doubled", f"≤ {explained} ({seats} under way at each kill)", str(again), again <= explained),
        *goal("soak: callbacks not answered with 200", "0", str(sum(untaken.values())), not untaken),
        *goal("soak: badly signed", "0", str(report["forged"]), not report["forged"]),
        *flatness(record, report["arrivals"]),
        "",
    ]
    return lines, not lost and not untaken and again <= explained and not report["forged"]


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description="A long run with failures, kills and purging.")
    parser.add_argument("--quick", action="store_true", help="for 30 seconds")
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("SOAK_SECONDS", "600")))
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    options = parser.parse_args()
    seconds = 30.0 if options.quick else options.seconds
    # what one worker can have under way to the one subscriber, results not yet written included
    seats = int(next(each for each in SETTINGS if each.name == "RECEIVER_SUBSCRIBER_CONCURRENCY").default)
    kind = POSTGRESQL if options.database == "postgresql" else SQLITE
    settings = {"RECEIVER_RETRY_SCHEDULE": RETRIES, "RECEIVER_RETENTION_DAYS": "1"}
    record = Record()
    with outside() as beyond, ours(kind, False, beyond, **settings) as system:
        beyond.begin(system.secret, failures=FAILURES)
        rate = maximum(system, beyond) / 2
        system.prepare_old(OLD)
        beyond.begin(system.secret, failures=FAILURES)
        with restarts(system, max(min(60.0, seconds / 4), 8.0), record), looks(system, record):
            send(system, rate, seconds, 2 * TRIAL, record)
        beyond.wait_for(len(record.sent), 90)  # longer than a lease, in which a killed worker's deliveries rest
        lines, good = judge(record, beyond.report(), rate, seats)
    sys.stdout.write("\n".join([f"### {kind}, {seconds:.0f} s", "", *lines]))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
