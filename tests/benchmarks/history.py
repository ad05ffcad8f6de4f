"""What history costs: its bytes, its end, and whether partitions would be cheaper.

    python -m tests.benchmarks.history [--quick] [--tasks 20000]

Fills a database with finished tasks of 35 days (two events, each delivered once, one notice, six steps), then
measures the bytes of each table, what it costs to purge the oldest, how much slower a claim and a callback's
commit are while that happens, and a claim beside deliveries in weekly partitions. fsync is on.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import Connection, insert, text

from receiver.models import EventType, StoredNotice, Verdict, first_id, new_id
from receiver.store import Store, claiming, notices, subscribers
from receiver.store import schema as tables
from receiver.store.settling import publish
from receiver.sweeping import DAY, SweepService
from receiver.worker.worker import LONGEST_REST, REST
from tests import postgres
from tests.benchmarks.processes import Roots, cpu_seconds, fine_cpu_seconds, main_pid
from tests.benchmarks.tables import show

NOW = 1_767_225_600_000
ACCOUNT = "acc_1"
BODY = '{"type":"task.succeeded","data":"' + "x" * 900 + '"}'
HISTORY = ("tasks", "steps", "notices", "events", "deliveries", "attempts")


def fill(connection: Connection, count: int) -> None:
    """Add finished tasks with all that hangs on them."""
    dice = random.Random(7)
    starts = sorted(NOW - dice.randrange(60_000, 35 * DAY) for _ in range(count))
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in HISTORY}
    for number, at in enumerate(starts):
        task = new_id("task", at)
        about = f'{{"prompt":"{dice.randbytes(200).hex()}"}}'
        rows["tasks"].append({
            "id": task, "account_id": ACCOUNT, "provider": "topview", "operation": "draw", "status": "succeeded",
            "input_json": about, "metadata": "{}", "provider_task_id": f"job-{number}", "provider_response": about,
            "completed_via": "callback", "created_at": at, "finished_at": at, "deadline_at": at + DAY,
        })  # fmt: skip
        steps = [{"task_id": task, "at": at, "kind": "state", "detail": '{"from":"queued","to":"running"}'}] * 6
        rows["steps"] += steps
        rows["notices"].append({
            "id": new_id("ntc", at), "provider": "topview", "task_id": task, "notice_key": f"{task}:{number}",
            "received_at": at, "headers": '{"content-type":"application/json"}', "body": about.encode() * 2,
            "verdict": "believed",
        })  # fmt: skip
        for kind in ("task.running", "task.succeeded"):
            event, delivery = new_id("evt", at), new_id("dlv", at)
            rows["events"].append({
                "id": event, "account_id": ACCOUNT, "type": kind, "task_id": task, "created_at": at, "body": BODY,
            })  # fmt: skip
            rows["deliveries"].append({
                "id": delivery, "account_id": ACCOUNT, "event_id": event, "event_type": kind, "task_id": task,
                "subscriber_id": f"sub_{number % 20}", "status": "delivered", "created_at": at, "finished_at": at,
                "attempts": 1, "fence": 1,
            })  # fmt: skip
            rows["attempts"].append({
                "id": new_id("att", at), "delivery_id": delivery, "number": 1, "trigger": "schedule", "started_at": at,
                "duration_ms": 10, "response_status": 200, "response_headers": '{"content-type":"text/plain"}',
                "response_body": "ok", "message": "",
            })  # fmt: skip
        if len(rows["tasks"]) == 1000 or number == count - 1:
            for name in HISTORY:
                connection.execute(insert(tables.metadata.tables[name]), rows[name])
                rows[name] = []


@contextmanager
def filled(url: str, count: int) -> Iterator[Store]:
    """A store with so many finished tasks."""
    store = Store(url)
    store.migrate()
    with store.write() as connection:
        account = {"id": ACCOUNT, "name": "a", "secrets_sealed": "", "created_at": 0}
        connection.execute(insert(tables.accounts), account)
        listeners = [
            {"id": f"sub_{number}", "account_id": ACCOUNT, "url": "http://x", "event_types": '["*"]', "created_at": NOW}
            for number in range(20)
        ]
        connection.execute(insert(tables.subscribers), listeners)
    with store.write() as connection:
        fill(connection, count)
    yield store
    store.close()


def sizes(store: Store, count: int) -> list[list[str]]:
    """Bytes of each table for one task: rows and indexes."""
    if store.url.startswith("sqlite"):
        with store.engine.connect() as connection:
            pages = [connection.exec_driver_sql(f"PRAGMA {what}").scalar_one() for what in ("page_count", "page_size")]
        return [["all of it", str(math.prod(pages) // count), "in it"]]
    query = text("SELECT pg_table_size(CAST(:name AS regclass)), pg_indexes_size(CAST(:name AS regclass))")
    found: list[tuple[str, int, int]] = []
    with store.read() as connection:
        for name in HISTORY:
            table, indexes = connection.execute(query, {"name": name}).one()
            found.append((name, table // count, indexes // count))
    found.append(("all of it", sum(each[1] for each in found), sum(each[2] for each in found)))
    return [[name, str(table), str(indexes)] for name, table, indexes in found]


def callback(store: Store, number: int) -> None:
    """What a believed notice writes: itself, an event and its delivery, in one transaction."""
    now = NOW + number
    with store.write() as connection:
        task = connection.execute(text("SELECT id FROM tasks ORDER BY id DESC LIMIT 1")).scalar_one()
        notice = StoredNotice(new_id("ntc", now), "topview", task, now, {}, b"x" * 800, Verdict.BELIEVED)
        notices.add(connection, [(notice, f"{task}:late-{now}")])
        to = [subscribers.of_account(connection, ACCOUNT)[number % 20]]
        publish(connection, ACCOUNT, EventType.TASK_SUCCEEDED, BODY, to, now)


def claim(store: Store, number: int) -> None:
    """What a worker takes."""
    now = NOW + number
    with store.write() as connection:
        claiming.claim(connection, now, now + DAY, 10, 1000)


def latencies(act: Callable[[Store, int], None], store: Store, seconds: float, start: int) -> list[float]:
    """Milliseconds of each of many acts, one after the other."""
    found: list[float] = []
    until = time.monotonic() + seconds
    while (began := time.monotonic()) < until:
        act(store, start + len(found))
        found.append(1000 * (time.monotonic() - began))
        time.sleep(0.002)
    return found


def percentiles(found: list[float]) -> str:
    """Median and 99th percentile."""
    return f"{statistics.median(found):.1f} / {sorted(found)[int(0.99 * len(found))]:.1f}"


def beside(store: Store) -> list[list[str]]:
    """A callback's commit and a claim: alone, and while a worker purges as fast as it may."""

    def left() -> int:
        with store.read() as connection:
            return int(connection.execute(text("SELECT count(*) FROM tasks")).scalar_one())

    alone = [latencies(act, store, 3, start) for act, start in ((callback, 0), (claim, 10_000))]
    before, began = left(), time.monotonic()
    sweep = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.history", "--sweep", store.url])
    both = [latencies(act, store, 3, start) for act, start in ((callback, 100_000), (claim, 110_000))]
    sweep.kill()
    sweep.wait()
    rate = (before - left()) / (time.monotonic() - began)
    names = ("a callback's commit", "a claim")
    rows = [[name, percentiles(one), percentiles(two)] for name, one, two in zip(names, alone, both, strict=True)]
    return [*rows, ["tasks purged each second", "", f"{rate:.0f}"]]


def sweep_on(url: str) -> None:
    """Purge as a worker does that has much to purge, until it is killed."""
    sweeps = SweepService(Store(url), lambda: NOW, retention_days=5)
    while True:
        began = time.monotonic()
        sweeps.step()
        time.sleep(min(REST * (time.monotonic() - began), LONGEST_REST))


def cost_of_purging(store: Store, roots: Roots, tasks: int) -> float:
    """Microseconds of processor for each task purged, all processes, vacuum included."""
    sweeps = SweepService(store, lambda: NOW, retention_days=5)
    with store.read() as connection:
        before = connection.execute(text("SELECT count(*) FROM tasks")).scalar_one()
    spent = cpu_seconds(roots)
    for _ in range(tasks // 50):
        sweeps.step()
    if not store.url.startswith("sqlite"):
        with psycopg.connect(store.url, autocommit=True) as connection:
            for name in HISTORY:
                connection.execute(f"VACUUM {name}".encode())
    spent = cpu_seconds(roots) - spent
    with store.read() as connection:
        after = connection.execute(text("SELECT count(*) FROM tasks")).scalar_one()
    return 1e6 * spent / (before - after)


def partition_deliveries(store: Store, days: int) -> None:
    """Lay deliveries in partitions of so many days, with the indexes they have."""
    with store.write() as connection:
        of_table = text("SELECT indexdef FROM pg_indexes WHERE tablename = 'deliveries'")
        indexes = connection.execute(of_table).scalars().all()
        run = connection.exec_driver_sql
        run("ALTER TABLE attempts DROP CONSTRAINT fk_attempts_delivery_id")
        run("ALTER TABLE deliveries RENAME TO plain")
        run("CREATE TABLE deliveries (LIKE plain INCLUDING DEFAULTS) PARTITION BY RANGE (id)")
        for place, start in enumerate(range(NOW - 36 * DAY, NOW + 2 * days * DAY, days * DAY)):
            low, high = first_id("dlv", start), first_id("dlv", start + days * DAY)
            run(f"CREATE TABLE part_{place} PARTITION OF deliveries FOR VALUES FROM ('{low}') TO ('{high}')")
        run("INSERT INTO deliveries SELECT * FROM plain")
        run("DROP TABLE plain")
        for index in indexes:
            run(index)


def cost_of_claims(store: Store, roots: Roots, claims: int) -> float:
    """Microseconds of processor for each claim of ten, in the server."""
    with store.write() as connection:
        to = subscribers.of_account(connection, ACCOUNT)
        for number in range(claims * 10 + 200):
            publish(connection, ACCOUNT, EventType.TASK_SUCCEEDED, BODY, [to[number % 20]], NOW + 500_000 + number)
    # What autovacuum and a checkpoint would do sooner or later, and not in the midst of what is measured.
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT", bare=True) as connection:
        for order in ("VACUUM ANALYZE", "CHECKPOINT"):
            connection.exec_driver_sql(order)
    for number in range(20):
        claim(store, 600_000 + number)
    spent = fine_cpu_seconds(roots)
    for number in range(claims):
        claim(store, 700_000 + number)
    return 1e6 * (fine_cpu_seconds(roots) - spent) / claims


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--sweep", help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="a tenth of the tasks, claims measured once")
    options = parser.parse_args()
    if options.sweep:
        sweep_on(options.sweep)
    if options.quick:
        options.tasks //= 10
    count = options.tasks
    with tempfile.TemporaryDirectory() as folder, postgres.server({}) as server:
        roots = (os.getpid(), main_pid(server))
        for url in (f"sqlite:///{folder}/history.db", server.create()):
            name = url.partition(":")[0]
            with filled(url, count) as store:
                say(show([f"bytes a task, {name}", "rows", "indexes"], sizes(store, count)))
                say(
                    [
                        f"{name}: purging costs {cost_of_purging(store, roots, count // 4):.0f} µs of processor a task",
                        "",
                    ]
                )
                say(show([f"{name}, p50 / p99 in ms", "alone", "beside a sweep"], beside(store)))
        found: dict[str, list[float]] = {"one table": [], "weekly partitions": [], "daily partitions": []}
        for _ in range(1 if options.quick else 3):
            for layout, costs in found.items():
                with filled(server.create(), min(count, 2000)) as store:
                    if layout != "one table":
                        partition_deliveries(store, 7 if layout.startswith("weekly") else 1)
                    costs.append(cost_of_claims(store, roots[1:], 100))
        rows = [[layout, f"{statistics.median(costs):.0f}"] for layout, costs in found.items()]
        say(show(["a claim of ten, deliveries in", "µs of the server's processor"], rows))


def say(lines: Sequence[str]) -> None:
    """Print lines."""
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
