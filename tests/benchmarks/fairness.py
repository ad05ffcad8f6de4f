"""What subscribers that hang cost twenty that do not, in figures.

    python -m tests.benchmarks.fairness [--quick] [--rounds 2] [--seconds 10] [--timeout 5] [--queued 500]

Each round is three runs of the same load, each with a database and a worker process of its own: alone; beside one
subscriber that takes every request and never answers, with a backlog; and beside forty of them, more than can have
all their seats at once, who share such a backlog and are all new to the worker. Prints the time from an event's
writing to its arrival at the healthy ones over all rounds; exits with 1 when anything was lost or came twice.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text

from receiver.runtime import wall_clock
from tests.benchmarks.tables import goal, show
from tests.core.stage import ONE_KEY, Stage, settings_in
from tests.story.system import ROOT, Process
from tests.subscriber import Subscriber, answer, hang
from tests.toy import visible

MANY = 40
"""Hanging subscribers: more than the worker could give all the seats that one may take."""


@dataclass(frozen=True)
class Run:
    """One run. ``latencies``: seconds, sorted. ``wrong``: messages lost or delivered twice. ``held``: most seats."""

    latencies: Sequence[float]
    wrong: int
    held: int

    def __add__(self, other: Run) -> Run:
        """Both taken together."""
        return Run(sorted([*self.latencies, *other.latencies]), self.wrong + other.wrong, max(self.held, other.held))

    def percentile(self, share: float) -> float:
        """The time, in ms, within which this share arrived."""
        return 1000 * self.latencies[math.ceil(share * len(self.latencies)) - 1]


def measure(options: argparse.Namespace, hanging: int) -> Run:
    """Run the load for a while, beside so many subscribers that hang, each with its part of the backlog."""
    with tempfile.TemporaryDirectory() as folder, Subscriber(answer(200)) as alive, Subscriber(hang) as dead:
        stage = Stage(settings_in(Path(folder)), wall_clock)  # type: ignore[arg-type]  # only called
        for number in range(hanging):
            stuck = stage.subscribe(f"{dead.origin}/{number}", "subscriber.ping")
            for _ in range(options.queued // hanging):
                stage.ping(stuck)
        healthy = [stage.subscribe(f"{alive.origin}/{number}", "subscriber.ping") for number in range(options.healthy)]
        outside = {name: value for name, value in os.environ.items() if not name.startswith("RECEIVER_")}
        environment = {
            **outside,
            "PYTHONPATH": str(ROOT),
            "RECEIVER_DATABASE_URL": stage.settings.database_url,
            "RECEIVER_SECRET_KEYS": ONE_KEY,
            "RECEIVER_ALLOWED_NETWORKS": "127.0.0.0/8",
            "RECEIVER_DELIVERY_TIMEOUT": str(options.timeout),
        }
        worker = Process(Path(folder), "worker", "worker", environment=environment)
        try:
            _warm_up(stage, alive, dead if hanging else None)
            written: dict[str, int] = {}
            held: list[int] = [0]
            over = threading.Event()
            watcher = threading.Thread(target=_watch, args=(stage, dead.origin, held, over))
            watcher.start()
            pause = 1 / (options.rate * options.healthy)
            began = time.monotonic()
            while (place := len(written)) * pause < options.seconds:
                time.sleep(max(0.0, began + place * pause - time.monotonic()))
                delivery = stage.ping(healthy[place % len(healthy)])
                written[delivery.event_id] = delivery.created_at
            arrived = alive.wait_for(len(written) + 1, 30)
            over.set()
            watcher.join()
        finally:
            worker.popen.kill()  # what hangs would keep it for its time-out
            worker.popen.wait()
            stage.runtime.close()
        came = Counter(request.header("webhook-id") or "" for request in arrived)
        wrong = sum(came[event_id] != 1 for event_id in written)
        latencies = sorted(
            request.at - written[event_id] / 1000
            for request in arrived
            if (event_id := request.header("webhook-id") or "") in written
        )
        return Run(latencies, wrong, held[0])


def _warm_up(stage: Stage, alive: Subscriber, dead: Subscriber | None) -> None:
    """Until the worker works and has come to rest, and what hangs does hang."""
    stage.ping(stage.subscribe(alive.url, "subscriber.ping"))
    alive.wait_for(1, 30)
    if dead is not None:
        dead.wait_for(8, 30)
    time.sleep(2)  # a process that has just started is slow for reasons of its own


def _watch(stage: Stage, origin: str, held: list[int], over: threading.Event) -> None:
    """The most attempts that hanging subscribers had under way at once."""
    query = text(
        "SELECT count(*) FROM deliveries JOIN subscribers ON subscribers.id = subscriber_id"
        " WHERE leased AND url LIKE :beginning"
    )
    while not over.wait(0.2):
        with stage.runtime.store.read() as connection:
            held[0] = max(held[0], int(connection.execute(query, {"beginning": f"{origin}/%"}).scalar_one()))


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="What subscribers that hang cost twenty that do not.")
    parser.add_argument("--rounds", type=int, default=2, help="of all runs, one after the other")
    parser.add_argument("--seconds", type=float, default=10.0, help="of load in each run")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds of one attempt")
    parser.add_argument("--queued", type=int, default=500, help="messages that wait for those that hang")
    parser.add_argument("--healthy", type=int, default=20, help="subscribers that answer at once")
    parser.add_argument("--rate", type=float, default=2.0, help="messages a second for each of these")
    parser.add_argument("--quick", action="store_true", help="one round of 4 seconds each")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 4.0
    runs = {hanging: Run((), 0, 0) for hanging in (0, 1, MANY)}
    with visible():
        for _ in range(options.rounds):
            for hanging in runs:
                runs[hanging] += measure(options, hanging)
    rows, goals = [], []
    alone = runs[0].percentile(0.95)
    for hanging, run in runs.items():
        name = f"beside {hanging} that hang{'s' * (hanging == 1)}" if hanging else "alone"
        p95 = run.percentile(0.95)
        shares = [f"{run.percentile(share):.1f}" for share in (0.5, 0.95, 0.99)]
        rows.append([name, *shares, f"{p95 / alone:.2f}", str(len(run.latencies)), str(run.wrong), str(run.held)])
        if hanging:
            goals += goal(
                f"p95 at {options.healthy} healthy subscribers {name}", "≤ 2 times that alone",
                f"{p95 / alone:.2f} times", p95 <= 2 * alone,
            )  # fmt: skip
    head = [f"{options.healthy} healthy subscribers", "p50 ms", "p95 ms", "p99 ms", "p95 / alone", "messages",
            "lost or twice", "seats held by those that hang"]  # fmt: skip
    sys.stdout.write("\n".join([*show(head, rows), *goals, ""]))
    return int(any(run.wrong for run in runs.values()))


if __name__ == "__main__":
    sys.exit(main())
