"""What it costs to take deliveries that are due, and to write what came of them, from tables small and large.

    python -m tests.benchmarks.claims [--quick] [--rows 1000000] [--turns 40]

A turn is what the worker does in one transaction: it writes the results of ten attempts and claims the next ten (a
hundred where a thousand subscribers wait). Then claims are counted alone, without the writing of their results.
Counted is the processor time of this process and of the database, by delivery. Tables hold a thousand to a million
deliveries that wait, or a million that are finished beside few that wait; all of one subscriber, or of a thousand.
The largest are filled in the first round only.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import text

from receiver.deliveries import Outcome
from receiver.outbound import OutboundResult
from receiver.runtime import Runtime
from tests import postgres
from tests.benchmarks.processes import Roots, fine_cpu_seconds, main_pid
from tests.benchmarks.tables import goal, show
from tests.core.stage import settings_in

NOW = 1_767_225_600_000
MANY = 1000
"""Subscribers that share a table; then so many wait that a hundred are taken in a turn, as by a worker."""
WARM = 5
"""Turns that are not counted."""
ALONE = 10
"""Claims that are made before their results are written, where claims are measured alone."""
GROWTH = 1.3
"""The goal: so many times what it costs with a thousand rows."""

_TAKEN = OutboundResult(200, {"content-type": "application/json"}, "ok", None, "Answered with HTTP 200.", 5)


@dataclass(frozen=True)
class Table:
    """What lies in the database. ``finished``: deliveries that were taken, beside those that wait."""

    waiting: int
    finished: int
    subscribers: int

    @property
    def batch(self) -> int:
        """Deliveries in one turn."""
        return 10 if self.subscribers == 1 else 100

    def __str__(self) -> str:
        beside = f" beside {self.finished:,} finished" if self.finished else ""
        return f"{self.waiting:,} waiting{beside}, {self.subscribers:,} subscriber{'s' * (self.subscribers > 1)}"


@dataclass(frozen=True)
class Cost:
    """Microseconds for each delivery. ``whole``: claimed and finished; ``claiming``: claimed."""

    whole: float
    claiming: float


@contextmanager
def filled(url: str, table: Table) -> Iterator[Runtime]:
    """The service on a database with such a table."""
    with tempfile.TemporaryDirectory() as folder:
        runtime = Runtime.build(replace(settings_in(Path(folder)), database_url=url, subscriber_concurrency=1000))
        runtime.prepare()
        try:
            _fill(runtime, table)
            yield runtime
        finally:
            runtime.close()


def _fill(runtime: Runtime, table: Table) -> None:
    numbers = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :count) "
    with runtime.store.write() as connection:

        def write(statement: str, count: int) -> None:
            if count:
                connection.execute(text(numbers + statement), {"count": count, "now": NOW, "of": table.subscribers})

        write(
            "INSERT INTO subscribers (id, account_id, url, event_types, created_at, task_only)"
            " SELECT 'sub_' || CAST(i AS TEXT), accounts.id, 'https://hooks.example/' || CAST(i AS TEXT), '[]', :now,"
            " (1 = 1) FROM n, accounts",
            table.subscribers,
        )
        write(
            "INSERT INTO events (id, account_id, type, created_at, body) SELECT 'evt_' || CAST(i AS TEXT), accounts.id,"
            " 'task.succeeded', :now, '{}' FROM n, accounts",
            1,
        )
        columns = "id, account_id, event_id, event_type, subscriber_id, status, created_at, due_at, finished_at"
        row = "accounts.id, 'evt_0', 'task.succeeded', 'sub_' || CAST(i % :of AS TEXT)"
        write(
            f"INSERT INTO deliveries ({columns}) SELECT 'dlv_f' || CAST(100000000 + i AS TEXT), {row}, 'delivered',"
            " :now - 60000, NULL, :now - 60000 FROM n, accounts",
            table.finished,
        )
        write(
            f"INSERT INTO deliveries ({columns}) SELECT 'dlv_w' || CAST(100000000 + i AS TEXT), {row}, 'pending',"
            " :now, :now, NULL FROM n, accounts",
            table.waiting,
        )
    # What autovacuum and a checkpoint would do sooner or later, and not in the midst of what is measured.
    with runtime.store.engine.connect() as connection:
        postgresql = connection.dialect.name == "postgresql"
        connection.connection.driver_connection.execute(  # type: ignore[union-attr]  # it is open
            "VACUUM ANALYZE" if postgresql else "PRAGMA wal_checkpoint(TRUNCATE)"
        )


def cost(url: str, table: Table, roots: Roots, turns: int) -> Cost:
    """Microseconds of processor for each delivery."""
    with filled(url, table) as runtime:
        outcomes: Sequence[Outcome] = ()
        spent = 0.0
        for turn in range(WARM + turns):
            if turn == WARM:
                spent = fine_cpu_seconds(roots)
            claims = runtime.deliveries.turn(outcomes, table.batch).claims
            assert len(claims) == table.batch, f"{len(claims)} were claimed"
            outcomes = [Outcome(claim, NOW, _TAKEN) for claim in claims]
        whole = fine_cpu_seconds(roots) - spent
        claiming = 0.0
        for _ in range(turns // ALONE):
            runtime.deliveries.finish(outcomes)
            spent = fine_cpu_seconds(roots)
            claims = [claim for _ in range(ALONE) for claim in runtime.deliveries.turn((), table.batch).claims]
            claiming += fine_cpu_seconds(roots) - spent
            assert len(claims) == ALONE * table.batch, f"{len(claims)} were claimed"
            outcomes = [Outcome(claim, NOW, _TAKEN) for claim in claims]
        made = turns * table.batch
        return Cost(1e6 * whole / made, 1e6 * claiming / (turns // ALONE * ALONE * table.batch))


def middle(costs: Sequence[Cost], part: str) -> float:
    """The median of one part of the costs."""
    return statistics.median(getattr(each, part) for each in costs)


def main() -> int:
    """Measure, and print tables and goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the largest table")
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, SQLite only, one round")
    options = parser.parse_args()
    rows, rounds = (options.rows // 10, 1) if options.quick else (options.rows, options.rounds)
    kinds = ["sqlite"] if options.quick else ["sqlite", "postgresql"]
    of_one = [Table(*size, 1) for size in ((1000, 0), (rows // 10, 0), (rows, 0), (1000, rows))]
    of_many = [Table(*size, MANY) for size in ((10_000, 0), (rows, 0), (10_000, rows))]
    tables = [*of_one, *of_many]
    found: dict[tuple[str, Table], list[Cost]] = {}
    with tempfile.TemporaryDirectory() as folder, postgres.server({}) as server:
        for number in range(rounds):
            for kind in kinds:
                for table in tables:
                    if number and rows in (table.waiting, table.finished):
                        continue
                    url = server.create() if kind == "postgresql" else f"sqlite:///{folder}/{len(found)}-{number}.db"
                    roots = (os.getpid(), main_pid(server)) if kind == "postgresql" else (os.getpid(),)
                    sys.stderr.write(f"{kind}: {table}\n")
                    found.setdefault((kind, table), []).append(cost(url, table, roots, options.turns))
                    if kind == "postgresql":
                        server.drop(url)
                    else:
                        Path(url.removeprefix("sqlite:///")).unlink()
    lines: list[str] = []
    for part, name in (("whole", "claimed and finished"), ("claiming", "claimed alone")):
        lines += show(
            [f"µs of processor, one delivery {name}", *kinds],
            [[str(table), *(f"{middle(found[kind, table], part):.0f}" for kind in kinds)] for table in tables],
        )
        for kind in kinds:
            growths = [
                middle(found[kind, table], part) / middle(found[kind, smallest], part)
                for smallest, *larger in (of_one, of_many)
                for table in larger
            ]
            lines += goal(
                f"a delivery {name} on {kind}: cost beside {rows:,} rows, waiting or finished",
                f"at most {GROWTH} times that beside few",
                f"{max(growths):.2f} times",
                max(growths) <= GROWTH,
            )
        lines.append("")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
