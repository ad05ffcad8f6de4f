"""What one event costs the web, the worker and PostgreSQL, each by itself: the figures behind ``scale``.

    python -m tests.benchmarks.costs [--events 4000] [--rounds 3] [--write]

The load of ``end_to_end``, believing signed notices, on PostgreSQL. ``--write`` puts the medians into
``costs.json``, rounded up, from where ``scale`` takes them. Bytes kept come from ``history`` and stay as they are.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from pathlib import Path

from sqlalchemy import create_engine, text

from tests.benchmarks.end_to_end import WARM_UP, measure
from tests.benchmarks.outside_client import Outside, outside
from tests.benchmarks.processes import cpu_seconds
from tests.benchmarks.profiles import parts_of
from tests.benchmarks.systems import POSTGRESQL, System, ours
from tests.benchmarks.tables import show

KEPT = Path(__file__).with_name("costs.json")
STEPS = {"web_us": 50, "worker_us": 50, "database_us": 50, "wal_bytes": 500, "row_writes": 0.5}
"""Each is rounded up to a multiple of this."""
_WRITTEN = "SELECT sum(n_tup_ins + n_tup_upd) FROM pg_stat_user_tables"
_LOGGED = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"


def one_round(beyond: Outside, events: int) -> dict[str, float]:
    """What an event cost in one run, the warm-up with it, by the names of ``STEPS``."""
    with ours(POSTGRESQL, False, beyond) as system:
        before = _state(system)
        run = measure(system, beyond, events)
        if run.faults:
            raise RuntimeError(run.faults)
        after = _state(system)
    return {name: (after[name] - before[name]) / (events + WARM_UP) for name in STEPS}


def _state(system: System) -> dict[str, float]:
    """What has been used so far."""
    parts = {name: process.pid for name, process in parts_of(system)}
    engine = create_engine(system.database_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_stat_force_next_flush()"))
        written, logged = (float(connection.execute(text(query)).scalar_one()) for query in (_WRITTEN, _LOGGED))
    engine.dispose()
    return {
        "web_us": 1e6 * cpu_seconds([parts["web"]]),
        "worker_us": 1e6 * cpu_seconds([parts["worker"]]),
        "database_us": 1e6 * cpu_seconds(system.roots[1:]),
        "wal_bytes": logged,
        "row_writes": written,
    }


def main() -> int:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round of 1,000 events")
    parser.add_argument("--write", action="store_true", help="into costs.json")
    options = parser.parse_args()
    if options.quick:
        options.events, options.rounds = 1000, 1
    with outside() as beyond:
        found = [one_round(beyond, options.events) for _ in range(options.rounds)]
    kept = json.loads(KEPT.read_text())
    rows = []
    for name, step in STEPS.items():
        measured = statistics.median(each[name] for each in found)
        rows.append([name, kept[name]["unit"], f"{measured:,.1f}", f"{kept[name]['value']:,g}"])
        kept[name]["value"] = math.ceil(measured / step) * step
    sys.stdout.write("\n".join(show(["", "", "measured", "kept before"], rows)) + "\n")
    if options.write:
        lines = ",\n".join(
            f"  {json.dumps(name)}: {json.dumps(cost, ensure_ascii=False)}" for name, cost in kept.items()
        )
        KEPT.write_text("{\n" + lines + "\n}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
