"""End to end: callback in, stored, signed POST answered, attempt written down; ours beside its peers.

    python -m tests.benchmarks.end_to_end [--quick] [--only NAME ...] [--database sqlite|postgresql]
        [--mode believing|confirming] [--rounds 3] [--events 4800] [--latency]

Each round starts each system anew, one after the other, so that a noisy minute hits all of them alike;
the tables give medians over rounds. Every callback must be answered with 200, every event arrive once at
the subscriber with a good signature, and every attempt be written down, or the run says so and fails.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks.load import Sent, fire
from tests.benchmarks.outside_client import Outside, outside
from tests.benchmarks.processes import cpu_seconds, megabytes
from tests.benchmarks.systems import (
    CELERY_PREFORK,
    CELERY_THREADS,
    HUEY,
    OURS,
    POSTGRESQL,
    RQ,
    SQLITE,
    SYSTEMS,
    System,
)
from tests.benchmarks.tables import goal, show

BELIEVING, CONFIRMING = "believing", "confirming"
WARM_UP = 300
PEERS_SHARE = 4
"""The peers are so many times slower at least: they get that share of the events, to take about as long."""
PATIENCE = 30.0
OTHERS = (RQ, HUEY)
"""Peers that one round shows to be behind; the best of Celery's, whom the goals name, is in all of them."""


@dataclass(frozen=True)
class Run:
    """One measured run. ``latencies``: ms from the callback's sending to its webhook's arrival, sorted."""

    rate: float
    cpu_us: float
    memory_mb: float
    latencies: Sequence[float]
    faults: str = ""

    def percentile(self, share: float) -> float:
        """The ms within which this share arrived."""
        return self.latencies[math.ceil(share * len(self.latencies)) - 1]


def measure(system: System, beyond: Outside, events: int, rate: float | None = None) -> Run:
    """Send callbacks until all is delivered and written down. ``rate``: callbacks per second, or all that go."""
    warming = system.prepare(range(WARM_UP))
    requests = system.prepare(range(WARM_UP, WARM_UP + events))
    beyond.begin(system.secret)
    fire(system.port, warming)
    _wait(system, beyond, WARM_UP, WARM_UP)
    beyond.begin(system.secret)
    before = cpu_seconds(system.roots)
    sent = fire(system.port, requests, rate=rate)
    _wait(system, beyond, events, WARM_UP + events)
    end = time.monotonic()
    spent = cpu_seconds(system.roots) - before
    report = beyond.report()
    keys = [f"bench-{number:08}" for number in range(WARM_UP, WARM_UP + events)]
    arrivals = report["arrivals"]
    latencies = sorted((arrivals[key] - at) * 1000 for key, at in zip(keys, sent.at, strict=True) if key in arrivals)
    return Run(
        rate=events / (end - sent.at[0]),
        cpu_us=spent / events * 1e6,
        memory_mb=megabytes(system.roots),
        latencies=latencies,
        faults=_faults(sent, report, system.delivered() - WARM_UP, events),
    )


def _wait(system: System, beyond: Outside, arrived: int, written: int) -> None:
    """Until so many have arrived, and so many attempts been written down."""
    beyond.wait_for(arrived, PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while system.delivered() < written and time.monotonic() < deadline:
        time.sleep(0.02)


def _faults(sent: Sent, report: dict[str, object], written: int, events: int) -> str:
    """What is wrong with a run, in words; empty for a good one."""
    arrivals, again = report["arrivals"], report["again"]
    assert isinstance(arrivals, dict)
    assert isinstance(again, dict)
    found = {
        f"answers {dict(sent.statuses)}": not sent.all_taken,
        f"{events - len(arrivals)} lost": len(arrivals) != events,
        f"{len(again)} came again": bool(again),
        f"{report['forged']} badly signed": bool(report["forged"]),
        f"{events - written} attempts missing": written != events,
    }
    return ", ".join(text for text, wrong in found.items() if wrong)


def rounds(
    names: Sequence[str],
    database: str,
    mode: str,
    beyond: Outside,
    *,
    count: int,
    events: int,
    rate: float | None = None,
) -> dict[str, list[Run]]:
    """Interleaved rounds: every system once, then all but the ``OTHERS`` again."""
    runs: dict[str, list[Run]] = defaultdict(list)
    for number in range(count):
        for name in names:
            if number and name in OTHERS:
                continue
            share = events if name == OURS or rate is not None else max(events // PEERS_SHARE, 1)
            with SYSTEMS[name](database, mode == CONFIRMING, beyond) as system:
                run = measure(system, beyond, share, rate)
            runs[name].append(run)
            sys.stderr.write(
                f"{database}, {mode}: {name}: {run.rate:.0f}/s, {run.cpu_us:.0f} us, {run.memory_mb:.0f} MB, "
                f"p50 {run.percentile(0.5):.1f} p99 {run.percentile(0.99):.1f} ms {run.faults}\n"
            )
    return runs


def median(runs: Sequence[Run], name: str) -> float:
    """The median of one figure."""
    return statistics.median(getattr(run, name) for run in runs)


def throughput(found: dict[str, list[Run]], database: str, mode: str) -> list[str]:
    """The table of rates, and the goals that depend on it."""
    ours = found[OURS]
    rows = [
        [
            name,
            f"{median(runs, 'rate'):,.0f}",
            f"{median(runs, 'cpu_us'):,.0f}",
            f"{median(runs, 'memory_mb'):.0f}",
            "" if name == OURS else f"{median(ours, 'rate') / median(runs, 'rate'):.1f}",
            "" if name == OURS else f"{median(runs, 'cpu_us') / median(ours, 'cpu_us'):.1f}",
            "; ".join(run.faults for run in runs if run.faults) or "0 lost, 0 doubled",
        ]
        for name, runs in found.items()
    ]
    head = ["", "events/s", "CPU µs/event", "MB", "we do × events", "at 1/× CPU", "checked"]
    lines = [f"### {database}, {mode}", "", *show(head, rows)]
    celery = [found[name] for name in (CELERY_PREFORK, CELERY_THREADS) if name in found]
    if celery:
        best = max(median(runs, "rate") for runs in celery)
        least = min(median(runs, "cpu_us") for runs in celery)
        faster, cheaper = median(ours, "rate") / best, least / median(ours, "cpu_us")
        lines += goal(f"{database}, {mode}: events/s against tuned Celery", "≥ 8 ×", f"{faster:.1f} ×", faster >= 8)
        lines += goal(f"{database}, {mode}: CPU per event against it", "≤ 1/8", f"1/{cheaper:.1f}", cheaper >= 8)
    for name in OTHERS:
        if name in found and celery:
            ahead = median(ours, "rate") / median(found[name], "rate")
            wanted = f"more than against Celery, {faster:.1f} ×"
            lines += goal(f"{database}, {mode}: events/s against {name}", wanted, f"{ahead:.1f} ×", ahead > faster)
    return [*lines, ""]


def latency(found: dict[str, list[Run]], database: str) -> list[str]:
    """The table of latencies at 100/s, and its goals."""
    middle = {name: [statistics.median(run.percentile(each) for run in runs) for each in (0.5, 0.95, 0.99)]
              for name, runs in found.items()}  # fmt: skip
    rows = [
        [name, *(f"{value:.1f}" for value in middle[name]),
         "; ".join(run.faults for run in runs if run.faults) or "0 lost, 0 doubled"]
        for name, runs in found.items()
    ]  # fmt: skip
    p50, _, p99 = middle[OURS]
    return [
        f"### {database}: callback in → request at the subscriber, at 100/s, in ms",
        "",
        *show(["", "p50", "p95", "p99", "checked"], rows),
        *goal(f"{database}: latency at 100/s, p50", "< 5 ms", f"{p50:.1f} ms", p50 < 5),
        *goal(f"{database}: latency at 100/s, p99", "< 20 ms", f"{p99:.1f} ms", p99 < 20),
        "",
    ]


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="End to end: ours beside its peers.")
    parser.add_argument("--quick", action="store_true", help="one round of ours and the best peer, fewer events")
    parser.add_argument("--only", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), help="these systems")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], help="this one only")
    parser.add_argument("--mode", choices=[BELIEVING, CONFIRMING], help="this one only")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=4800, help="for ours; the peers, which are slower, get a quarter")
    parser.add_argument("--latency", action="store_true", help="latency at 100/s instead of the highest rate")
    options = parser.parse_args()
    names = options.only
    if options.latency:
        options.events = 300 if options.quick else 2000
    if options.quick:
        options.rounds, options.events = 1, min(options.events, 2000)
        names = [name for name in names if name in (OURS, CELERY_PREFORK)]
    kinds = {"sqlite": SQLITE, "postgresql": POSTGRESQL}
    databases = [kinds[options.database]] if options.database else [SQLITE, POSTGRESQL]
    modes = [options.mode] if options.mode else [BELIEVING, CONFIRMING]
    lines: list[str] = []
    good = True
    with outside() as beyond:
        for database in databases:
            for mode in modes[:1] if options.latency else modes:
                rate = 100.0 if options.latency else None
                found = rounds(names, database, mode, beyond, count=options.rounds, events=options.events, rate=rate)
                good = good and not any(run.faults for run in found.get(OURS, []))
                lines += latency(found, database) if options.latency else throughput(found, database, mode)
    sys.stdout.write("\n".join(lines))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
