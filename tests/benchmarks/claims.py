"""What it costs to take deliveries that are due, and to write what came of them, from tables small and large.

    python -m tests.benchmarks.claims [--quick] [--rows 1000000] [--turns 40]

A turn is what the worker does in one transaction: it writes the results of ten attempts and claims the next ten (a
hundred where a thousand subscribers wait). Then claims are counted alone, without the writing of their results.
Counted is the processor time of this process and of the database, by delivery. Tables hold a thousand to a million
deliveries that wait, or a million that are finished, or wait for a later attempt, beside few that wait; all of one
subscriber, or of a thousand. Tables are measured in turns, and compared with what the small ones cost in the same
round.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from time import process_time

from sqlalchemy import text

from receiver.deliveries import Outcome
from receiver.outbound import OutboundResult
from receiver.runtime import Runtime
from receiver.store.claiming import Claim
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
FEW, SEVERAL = 1000, 10_000
"""Deliveries that wait in the small tables: of one subscriber, of many."""
GROWTH = 1.3
"""The goal: so many times what it costs with a thousand rows."""

_TAKEN = OutboundResult(200, {"content-type": "application/json"}, "ok", None, "Answered with HTTP 200.", 5)


@dataclass(frozen=True)
class Table:
    """What lies in the database: deliveries that are due (``waiting``) or are for ``later``, or were taken."""

    waiting: int
    subscribers: int
    later: int = 0
    finished: int = 0

    @property
    def batch(self) -> int:
        """Deliveries in one turn."""
        return 10 if self.subscribers == 1 else 100

    def __str__(self) -> str:
        beside = f" beside {self.finished:,} finished" if self.finished else ""
        beside += f" beside {self.later:,} that wait for later" if self.later else ""
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
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL statement_timeout = 0"))  # a million rows take as long as they take

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
        write(
            f"INSERT INTO deliveries ({columns}) SELECT 'dlv_l' || CAST(100000000 + i AS TEXT), {row}, 'pending',"
            " :now, :now * 2, NULL FROM n, accounts",
            table.later,
        )
    # What autovacuum and a checkpoint would do sooner or later, and not in the midst of what is measured.
    with runtime.store.engine.connect().execution_options(isolation_level="AUTOCOMMIT", bare=True) as connection:
        postgresql = connection.dialect.name == "postgresql"
        for order in ("VACUUM ANALYZE", "CHECKPOINT") if postgresql else ("PRAGMA wal_checkpoint(TRUNCATE)",):
            connection.exec_driver_sql(order)


class Measured:
    """A table while it is measured. ``whole``, ``claiming``: seconds of processor so far."""

    def __init__(self, runtime: Runtime, table: Table, server: Roots) -> None:
        """``server``: the processes of the database."""
        self.table = table
        self.whole = self.claiming = 0.0
        self._deliveries = runtime.deliveries
        self._server = server
        self._outcomes: Sequence[Outcome] = ()

    def take_turn(self) -> None:
        """The results of the last claim, and the next claim, in one transaction."""
        with self._counted() as spent:
            claims = self._deliveries.turn(self._outcomes, self.table.batch).claims
        self.whole += spent()
        self._keep(claims, self.table.batch)

    def claim_alone(self) -> None:
        """Several claims; the results of those before are written first, uncounted."""
        self._deliveries.turn(self._outcomes, 0)
        with self._counted() as spent:
            claims = [claim for _ in range(ALONE) for claim in self._deliveries.turn((), self.table.batch).claims]
        self.claiming += spent()
        self._keep(claims, ALONE * self.table.batch)

    @contextmanager
    def _counted(self) -> Iterator[Callable[[], float]]:
        """Gives the seconds of processor that this process and the database spend meanwhile, once it is over."""
        # To look at other processes takes longer than a turn, so that is kept out.
        server, own = -fine_cpu_seconds(self._server), -process_time()
        yield lambda: own + server
        own += process_time()
        server += fine_cpu_seconds(self._server)

    def _keep(self, claims: Sequence[Claim], expected: int) -> None:
        assert len(claims) == expected, f"{len(claims)} were claimed"
        self._outcomes = [Outcome(claim, NOW, _TAKEN) for claim in claims]


def costs(places: Mapping[Table, str], server: Roots, turns: int) -> dict[Table, Cost]:
    """What a delivery costs in each of these tables, at these URLs.

    They are measured turn by turn, one table after the other, since the speed of a machine changes meanwhile.
    """
    with ExitStack() as opened:
        measured = [Measured(opened.enter_context(filled(url, table)), table, server) for table, url in places.items()]
        for turn in range(WARM + turns):
            for each in measured:
                if turn == WARM:
                    each.whole = 0.0
                each.take_turn()
        for _ in range(turns // ALONE):
            for each in measured:
                each.claim_alone()
    return {
        each.table: Cost(
            1e6 * each.whole / (turns * each.table.batch),
            1e6 * each.claiming / (turns // ALONE * ALONE * each.table.batch),
        )
        for each in measured
    }


def middle(costs: Sequence[Cost], part: str) -> float:
    """The median of one part of the costs."""
    return statistics.median(getattr(each, part) for each in costs)


def growth(large: Sequence[Cost], small: Sequence[Cost], part: str) -> float:
    """How many times as much a table costs: the median of the rounds, in each of which both were measured."""
    return statistics.median(getattr(one, part) / getattr(other, part) for one, other in zip(large, small, strict=True))


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
    of_one = [Table(waiting, 1) for waiting in (FEW, rows // 10, rows)]
    of_one += [Table(FEW, 1, later=rows), Table(FEW, 1, finished=rows)]
    of_many = [Table(SEVERAL, MANY), Table(rows, MANY), Table(SEVERAL, MANY, finished=rows)]
    tables = [*of_one, *of_many]
    found: dict[tuple[str, Table], list[Cost]] = {}
    with tempfile.TemporaryDirectory() as folder, postgres.server({}) as server:
        roots = {"sqlite": (), "postgresql": (main_pid(server),)}
        for number, kind, group in product(range(rounds), kinds, (of_one, of_many)):
            urls = [server.create() if kind == "postgresql" else f"sqlite:///{folder}/{place}.db" for place in group]
            sys.stderr.write(f"{number + 1}, {kind}: {'; '.join(map(str, group))}\n")
            for table, each in costs(dict(zip(group, urls, strict=True)), roots[kind], options.turns).items():
                found.setdefault((kind, table), []).append(each)
            for url in urls:
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
        for kind, (smallest, *larger) in product(kinds, (of_one, of_many)):
            growths = [growth(found[kind, table], found[kind, smallest], part) for table in larger]
            of = "one subscriber" if smallest.subscribers == 1 else f"{MANY:,} subscribers"
            lines += goal(
                f"a delivery {name} on {kind}, {of}: cost beside {rows:,} rows, waiting or finished",
                f"at most {GROWTH} times that beside few",
                f"{max(growths):.2f} times",
                max(growths) <= GROWTH,
            )
        lines.append("")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
