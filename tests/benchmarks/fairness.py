"""What one subscriber that hangs costs twenty that do not, in figures.

    python -m tests.benchmarks.fairness [--rounds 3] [--seconds 10] [--timeout 5] [--queued 500] [--healthy 20]

Each round is two runs of the same load, each with a database and a worker process of its own: the second
beside a subscriber that takes every request and never answers, with a backlog. Prints the time from an
event's writing to its arrival at the healthy ones, and the ratio of the 95th percentiles over all rounds;
exits with 1 when anything was lost or came twice.
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
from tests.core.stage import ONE_KEY, Stage, settings_in
from tests.story.system import ROOT, Process
from tests.subscriber import Subscriber, answer, hang
from tests.toy import visible


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


def measure(options: argparse.Namespace, queued: int) -> Run:
    """Run the load for a while, beside ``queued`` messages to a subscriber that hangs (0: there is none)."""
    with tempfile.TemporaryDirectory() as folder, Subscriber(answer(200)) as alive, Subscriber(hang) as dead:
        stage = Stage(settings_in(Path(folder)), wall_clock)  # type: ignore[arg-type]  # only called
        if queued:
            stuck = stage.subscribe(dead.url, "subscriber.ping")
            for _ in range(queued):
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
            _warm_up(stage, alive, dead if queued else None)
            written: dict[str, int] = {}
            held: list[int] = [0]
            over = threading.Event()
            watcher = threading.Thread(target=_watch, args=(stage, dead.url, held, over))
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


def _watch(stage: Stage, url: str, held: list[int], over: threading.Event) -> None:
    """The most attempts that the hanging subscriber had under way at once."""
    query = text(
        "SELECT count(*) FROM deliveries JOIN subscribers ON subscribers.id = subscriber_id WHERE leased AND url = :url"
    )
    while not over.wait(0.2):
        with stage.runtime.store.read() as connection:
            held[0] = max(held[0], int(connection.execute(query, {"url": url}).scalar_one()))


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="What one subscriber that hangs costs twenty that do not.")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs, one after the other")
    parser.add_argument("--seconds", type=float, default=10.0, help="of load in each run")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds of one attempt")
    parser.add_argument("--queued", type=int, default=500, help="messages that wait for the one that hangs")
    parser.add_argument("--healthy", type=int, default=20, help="subscribers that answer at once")
    parser.add_argument("--rate", type=float, default=2.0, help="messages a second for each of these")
    options = parser.parse_args()
    with visible():
        alone = beside = Run((), 0, 0)
        for _ in range(options.rounds):
            alone += measure(options, 0)
            beside += measure(options, options.queued)
    out = sys.stdout
    out.write(f"{'':22}{'p50':>9}{'p95':>9}{'p99':>9}{'messages':>10}{'wrong':>7}{'seats held':>12}\n")
    for name, run in (("alone", alone), ("beside one that hangs", beside)):
        figures = "".join(f"{run.percentile(share):7.1f}ms" for share in (0.5, 0.95, 0.99))
        out.write(f"{name:22}{figures}{len(run.latencies):10}{run.wrong:7}{run.held:12}\n")
    out.write(f"p95 beside / p95 alone: {beside.percentile(0.95) / alone.percentile(0.95):.2f}\n")
    return 1 if alone.wrong or beside.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
