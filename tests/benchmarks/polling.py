"""What asking after a task costs beside the HTTP call, with 100,000 tasks in flight.

    python -m tests.benchmarks.polling [--tasks 100000] [--polls 4000] [--quick]

Claims, as the query lane makes them, and answers handed in by as many threads as it has seats; no provider is
called, so that what is left is ours. Prints CPU of each poll; exits with 1 when a poll was lost or made twice.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from sqlalchemy import func, insert, select

from handlers import RemoteStatus, TaskUpdate
from receiver.models import Task, TaskStatus
from receiver.runtime import wall_clock
from receiver.store import schema
from receiver.worker.provider_lanes import QUERY_SEATS
from tests.benchmarks import tables
from tests.benchmarks.systems import _running
from tests.core.stage import Stage, settings_in
from tests.toy import visible

GOAL = 300


def fill(stage: Stage, count: int) -> None:
    """So many running tasks, all of them due, the last ones much later."""
    now = wall_clock()
    with stage.runtime.store.write() as connection:
        for begin in range(0, count, 1000):
            rows = [
                _row(_running(stage.account, f"job-{number}"), now, number) for number in range(begin, begin + 1000)
            ]
            connection.execute(insert(schema.tasks), rows)


def _row(task: Task, now: int, number: int) -> dict[str, object]:
    return {
        **asdict(task), "provider": "toy", "operation": "draw", "status": TaskStatus.RUNNING, "metadata": "{}",
        "submitted_at": now, "due_at": now - 1_000_000 + number,
    }  # fmt: skip


def poll(stage: Stage, polls: int) -> float:
    """Ask after so many tasks; CPU seconds."""
    service, asked = stage.runtime.polling, 0
    began = time.process_time()
    with ThreadPoolExecutor(QUERY_SEATS) as seats:
        while asked < polls:
            batches = [batch for _, batch in service.claim("toy", QUERY_SEATS)]
            for batch in batches:
                said = {task.id: TaskUpdate(RemoteStatus.RUNNING, '{"state":"drawing"}') for task in batch}
                seats.submit(service.answered, batch, said)
                asked += len(batch)
            if not batches:
                time.sleep(0.001)
    spent = time.process_time() - began
    with stage.runtime.store.read() as connection:
        made = connection.execute(select(func.sum(schema.tasks.c.polls))).scalar_one()
        most = connection.execute(select(func.max(schema.tasks.c.polls))).scalar_one()
    if (made, most) != (asked, 1):
        raise RuntimeError(f"{asked} polls were made, {made} are written down, one task has {most}")
    return spent / asked


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--polls", type=int, default=4000)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    counts = (1000, 20_000) if options.quick else (5000, options.tasks)
    found: list[tuple[int, float]] = []
    with visible():
        for count in counts:
            with tempfile.TemporaryDirectory(prefix="polling-") as folder:
                settings = settings_in(Path(folder), TOY_QUERY_RATE="100000")
                stage = Stage(settings, wall_clock)  # type: ignore[arg-type]  # only called
                fill(stage, count)
                found.append((count, poll(stage, min(options.polls, count // 2)) * 1e6))
                stage.runtime.close()
    rows = [[f"{count:,} in flight, SQLite", f"{micros:.0f}"] for count, micros in found]
    lines = tables.show(["", "CPU µs of a poll beside the call"], rows)
    count, micros = found[-1]
    lines += tables.goal(
        f"CPU of a poll beside the call, {count:,} in flight", f"≤ {GOAL} µs", f"{micros:.0f} µs", micros <= GOAL
    )
    sys.stdout.write("\n".join([*lines, ""]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
