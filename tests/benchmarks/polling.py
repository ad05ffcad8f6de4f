"""100,000 tasks in flight, asked after by schedule within the provider's rate: how late, and at what cost.

    python -m tests.benchmarks.polling [--quick] [--tasks 100000] [--seconds 25] [--answer-after 0.05]

A worker process and a provider on this machine that notes when it was asked for which task. The tasks fall due
evenly over the last wait of the handler's schedule, as they do when they have run for a while. Each poll's lateness
is told against its due time, and against what the rate forces: the moment in which a perfect worker would have made
it, who takes the oldest that are due whenever the rate allows a call. Cost is the worker's CPU less that of as many
bare calls of the handler at the same rate. Exits with 1 when a task was asked after twice, or none at all.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from unittest import mock

from sqlalchemy import insert, select, update

from handlers import Handler, RemoteTask
from receiver.config import read_settings
from receiver.models import TaskStatus
from receiver.providers import poll_plan
from receiver.runtime import Runtime, wall_clock
from receiver.sealing import new_secret_key
from receiver.store import pacing, schema
from tests.benchmarks.asked import provider
from tests.benchmarks.callbacks import key_of
from tests.benchmarks.processes import cpu_seconds, plain_environment, start, stop
from tests.benchmarks.systems import POSTGRESQL, SQLITE, database, running_task
from tests.benchmarks.tables import goal, show

GOAL_US = 300
AT_ONCE = 16
"""Threads that make the bare calls."""
SPAN = 2.0
"""Seconds of bare calls before a case, and as many after it: what a call costs drifts with the machine."""
AHEAD = 3_600_000
"""Ms until the first task is due when the worker starts; once it lives, all due times are moved to this moment."""
REST = 3_000
"""Ms from then on until the first task is due: the worker looks once a second."""
MOVING = {SQLITE: 0.0, POSTGRESQL: 0.07}
"""Ms more for each task: to move them all takes seconds."""
LOOK = 2_000
"""Ms within which the worker has surely looked."""
LATE = 1000.0
"""More ms than the rate forces are late."""
VOD, TOPVIEW = "apsaravideo_vod", "topview"
OPERATIONS = {VOD: "submit_ai_image_job", TOPVIEW: "common_task_image2video"}


@dataclass(frozen=True)
class Case:
    """What is polled. ``rate``: calls a second, None for the handler's own; ``kind``: of database."""

    provider: str
    rate: float | None
    kind: str = SQLITE


@dataclass(frozen=True)
class Found:
    """What came of a case. Lateness in ms; ``twice``: polls too many; ``cost``: µs beside the call."""

    calls: int
    polls: int
    rate: float
    late: Sequence[float]
    beyond: Sequence[float]
    twice: int
    cost: float


CASES = (Case(TOPVIEW, None), Case(TOPVIEW, 200.0), Case(VOD, None), Case(VOD, 200.0), Case(VOD, 200.0, POSTGRESQL))
QUICK = (Case(VOD, 200.0),)


def forced(due: Sequence[int], rate: float, batch: int) -> Iterator[float]:
    """When (ms) a perfect worker asks after each task. ``due``: in order; ``batch``: tasks in one call."""
    free, place = 0.0, 0
    while place < len(due):
        at = max(free, float(due[place]))
        size = 0
        while size < batch and place < len(due) and due[place] <= at:
            yield at
            place, size = place + 1, size + 1
        free = at + 1000 / rate


def fill(runtime: Runtime, case: Case, count: int, begin: int) -> list[int]:
    """So many running tasks that fall due evenly over the schedule's last wait; when (ms), in order."""
    with runtime.store.read() as connection:
        account = connection.execute(select(schema.accounts.c.id)).scalar_one()
    model = replace(running_task(account, ""), provider=case.provider, operation=OPERATIONS[case.provider])
    pause = poll_plan(runtime.providers.get(case.provider), model)[-1]
    due = [begin + round(number * pause * 1000 / count) for number in range(count)]
    row = {**asdict(model), "status": TaskStatus.RUNNING, "metadata": "{}", "submitted_at": begin, "polls": 9}
    for first in range(0, count, 5000):
        with runtime.store.write() as connection:
            rows = [
                {**row, "id": f"task_bench{number:09}", "provider_task_id": key_of(number), "due_at": due[number]}
                for number in range(first, min(first + 5000, count))
            ]
            connection.execute(insert(schema.tasks), rows)
    return due


def come_due(runtime: Runtime, kind: str, planned: Sequence[int]) -> list[int]:
    """Wait until the worker lives, then let tasks fall due from soon on; when (ms). ``kind``: of the database.

    Raises RuntimeError when that took so long that the worker may not know of it in time.
    """
    patience = time.monotonic() + 60
    while not alive(runtime) and time.monotonic() < patience:
        time.sleep(0.1)
    with runtime.store.write() as connection:
        earlier = planned[0] - wall_clock() - REST - round(MOVING[kind] * len(planned))
        connection.execute(update(schema.tasks).values(due_at=schema.tasks.c.due_at - earlier))
    if wall_clock() > planned[0] - earlier - LOOK:
        raise RuntimeError(
            "the first task fell due while tasks were still being moved: MOVING is too short for this machine"
        )
    return [at - earlier for at in planned]


def alive(runtime: Runtime) -> bool:
    """Whether a worker has given a sign of life."""
    with runtime.store.read() as connection:
        return pacing.last_beat(connection) is not None


def bare_call(handler: Handler, operation: str, rate: float) -> float:
    """CPU seconds of one full call of the handler, at the rate (calls/s) at which the worker makes them.

    At that rate, and not as fast as can be: a call that comes after a pause finds less of what it needs in the
    processor's caches, and costs more. What it takes to keep the rate is not the call's.
    """
    tasks = [
        RemoteTask(f"task_{number}", operation, key_of(number), {}, {}, 60.0) for number in range(handler.query_batch)
    ]
    with ThreadPoolExecutor(AT_ONCE) as seats:
        list(seats.map(handler.query, [tasks] * AT_ONCE))  # connections are open from here on
        return paced(seats, rate, partial(handler.query, tasks)) - paced(seats, rate, tasks.copy)


def paced(seats: Executor, rate: float, work: Callable[[], object]) -> float:
    """CPU seconds of this process for a piece of work that is done at a rate (per second), for SPAN."""
    count = math.ceil(SPAN * rate)
    began, start = time.process_time(), time.monotonic()
    ends = []
    for number in range(count):
        time.sleep(max(start + number / rate - time.monotonic(), 0.0))
        ends.append(seats.submit(work))
    for end in ends:
        end.result()
    return (time.process_time() - began) / count


def environment_of(case: Case, url: str, port: int) -> dict[str, str]:
    """Of the worker."""
    here = f"http://127.0.0.1:{port}"
    given = {
        TOPVIEW: {"TOPVIEW_UID": "bench", "TOPVIEW_API_KEY": "sk-bench", "TOPVIEW_BASE_URL": here},
        VOD: {
            "APSARAVIDEO_VOD_ACCESS_KEY_ID": "bench", "APSARAVIDEO_VOD_ACCESS_KEY_SECRET": "bench",
            "APSARAVIDEO_VOD_BASE_URL": here,
        },
    }[case.provider]  # fmt: skip
    rate = {} if case.rate is None else {f"{case.provider.upper()}_QUERY_RATE": str(case.rate)}
    return plain_environment(
        RECEIVER_DATABASE_URL=url, RECEIVER_SECRET_KEYS=new_secret_key(), RECEIVER_API_KEY="rk_benchmark_0123456789",
        **given, **rate,
    )  # fmt: skip


def measure(case: Case, count: int, seconds: float, answer_after: float) -> Found:
    """Fill, poll for so long, judge."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="polling-")))
        url, _ = stack.enter_context(database(case.kind, folder))
        asked = stack.enter_context(provider(answer_after))
        environment = environment_of(case, url, asked.port)
        with mock.patch.dict("os.environ", environment, clear=True):
            runtime = Runtime.build(read_settings())
        stack.callback(runtime.close)
        runtime.prepare()
        handler = runtime.providers.get(case.provider)
        rate = handler.pace.query_rate
        call = bare_call(handler, OPERATIONS[case.provider], rate)
        planned = fill(runtime, case, count, wall_clock() + AHEAD)
        asked.seen()  # what the bare calls left
        worker = start(folder, "worker", [sys.executable, "-m", "receiver.cli", "worker"], environment)
        stack.callback(stop, worker)
        due = come_due(runtime, case.kind, planned)
        time.sleep(max(0.0, due[0] / 1000 - time.time()))
        spent = cpu_seconds([worker.pid])
        time.sleep(seconds)
        spent = cpu_seconds([worker.pid]) - spent
        until, seen = time.time() * 1000, asked.seen()
        stop(worker)
        call = (call + bare_call(handler, OPERATIONS[case.provider], rate)) / 2
        return judge(case, handler, due, seen, until, spent, call)


def judge(
    case: Case, handler: Handler, due: Sequence[int], calls: Sequence[tuple[float, Sequence[str]]], until: float,
    spent: float, call: float,
) -> Found:  # fmt: skip
    """Put what was asked beside what should have been. ``calls``: s since the epoch, and for which tasks."""
    at: dict[str, float] = {}
    polls = 0
    for moment, keys in calls:
        for key in keys:
            at.setdefault(key, moment * 1000)
            polls += 1
    rate = handler.pace.query_rate
    late, beyond = [], []
    for number, ideal in enumerate(forced(due, rate, handler.query_batch)):
        if ideal > until:
            break
        asked_at = at.get(key_of(number))
        if asked_at is None:
            beyond.append(until - ideal)
        else:
            late.append(asked_at - due[number])
            beyond.append(asked_at - ideal)
    seconds = (until - due[0]) / 1000
    cost = (spent - call * len(calls)) / max(polls, 1) * 1e6
    return Found(len(calls), polls, polls / seconds, sorted(late), sorted(beyond), polls - len(at), cost)


def share(values: Sequence[float], part: float) -> float:
    """The value below which this part of them lies. ``values``: sorted, at least one."""
    return values[math.ceil(part * len(values)) - 1] if values else math.nan


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=25.0)
    parser.add_argument("--answer-after", type=float, default=0.05, help="seconds that the provider takes")
    parser.add_argument("--quick", action="store_true", help="one case, for 6 seconds")
    options = parser.parse_args(arguments)
    seconds = 6.0 if options.quick else options.seconds
    rows, goals, good = [], [], True
    for case in QUICK if options.quick else CASES:
        found = measure(case, options.tasks, seconds, options.answer_after)
        named = "its own rate" if case.rate is None else f"{case.rate:.0f} calls/s"
        name = f"{case.provider}, {named}, {case.kind}"
        sys.stderr.write(f"{name}: {found.polls} polls in {found.calls} calls, {found.cost:.0f} us\n")
        rows.append([
            name, f"{found.rate:,.0f}", f"{found.polls / max(found.calls, 1):.1f}",
            *(f"{share(found.late, part):,.0f}" for part in (0.5, 1)),
            *(f"{share(found.beyond, part):,.0f}" for part in (0.5, 0.99, 1)),
            f"{found.cost:,.0f}" if found.polls > 500 else "", str(found.twice),
        ])  # fmt: skip
        worst = share(found.beyond, 1)
        goals += goal(
            f"{options.tasks:,} in flight, {name}: latest poll beyond what the rate forces",
            "< 1 s", f"{worst / 1000:.2f} s", worst < LATE,
        )  # fmt: skip
        if found.polls > 500:  # fewer say little of what one costs
            goals += goal(f"{name}: CPU of a poll beside the call", f"≤ {GOAL_US} µs", f"{found.cost:.0f} µs",
                          found.cost <= GOAL_US)  # fmt: skip
        good = good and found.polls > 0 and not found.twice
    head = ["", "polls/s", "in a call", "late, p50 ms", "most", "beyond the rate, p50", "p99", "most",
            "CPU µs of a poll beside the call", "twice"]  # fmt: skip
    sys.stdout.write("\n".join([*show(head, rows), *goals, ""]))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
