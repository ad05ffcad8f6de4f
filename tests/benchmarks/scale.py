"""From one event a second to ten thousand in ten regions: the sums, and a day of it minute by minute.

    python -m tests.benchmarks.scale [--retention 7] [--database-us 700 ...] [--write docs/growing.md]

Pure arithmetic on costs that were measured (``costs.json`` says by which benchmark; options replace them), so it runs
anywhere in a second. ``--write`` puts the tables into a page, each in the place of the one with the same head.
A cell is one PostgreSQL with its standby, webs and workers, whole and independent: regions grow by cells. The day
has a wave of demand in each region, chance, and one region that is lost for a while when it is busy: its new
tasks are submitted in the two nearest regions, and the callbacks of its running tasks wait for its return, when
providers repeat them or polls find the results.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from tests.benchmarks.tables import show

DAY = 86_400
MEASURED: dict[str, float] = {
    name: cost["value"] for name, cost in json.loads(Path(__file__).with_name("costs.json").read_text()).items()
}
REGIONS = (0.19, 0.16, 0.14, 0.12, 0.10, 0.09, 0.07, 0.06, 0.04, 0.03)
"""Each region's part of the demand, from the biggest on."""
WAVE = 0.6
"""A region's busiest hour has so much more than its mean, its quietest so much less."""
LOST = 0
"""The region that is lost, an hour after its busiest."""
REGIONS_KEEP = 3.0
"""Days of history in ten regions: at such rates the disk is what costs."""
NEAREST = (1, 9)
"""The two that take its new tasks."""


@dataclass(frozen=True)
class Costs:
    """What one event costs, rounded up from what was measured, and what one machine can do, which is assumed.

    ``retention``: days. ``scaling``: what many cores of a database carry of what as many single ones would.
    ``busy``: how busy a part may be in its busiest hour.
    """

    web_us: float = MEASURED["web_us"]
    worker_us: float = MEASURED["worker_us"]
    database_us: float = MEASURED["database_us"]
    bytes_kept: float = MEASURED["bytes_kept"]
    wal_bytes: float = MEASURED["wal_bytes"]
    row_writes: float = MEASURED["row_writes"]
    retention: float = 30.0
    cores: float = 16.0
    scaling: float = 0.4
    disk_tb: float = 8.0
    wal_mb: float = 250.0
    busy: float = 0.6

    def rates(self) -> dict[str, float]:
        """Events a second, at the peak, at which each part of one database is as busy as it may be."""
        return {
            "processor of the database": self.busy * self.scaling * self.cores * 1e6 / self.database_us,
            "log to disk and standby": self.busy * self.wal_mb * 1e6 / self.wal_bytes,
        }

    def kept(self) -> float:
        """Events a second, on average, whose history fills the disk of one database as far as it may be full."""
        return self.busy * self.disk_tb * 1e12 / (self.bytes_kept * self.retention * DAY)

    def limits(self) -> dict[str, float]:
        """Both, by what is full."""
        return {**self.rates(), "disk for history": self.kept()}

    def cells(self, mean: float, peak: float) -> int:
        """Databases that carry a demand (events a second)."""
        return max(math.ceil(peak / min(self.rates().values())), math.ceil(mean / self.kept()))


def sums(costs: Costs, rates: Sequence[float]) -> list[str]:
    """What each rate needs, all in one place."""
    head = ["events a second", *(f"{rate:,.0f}" for rate in rates)]
    first = min(costs.limits(), key=lambda name: costs.limits()[name])
    lines: list[tuple[str, list[str]]] = [
        ("cores, webs", [_cores(costs, rate, costs.web_us) for rate in rates]),
        ("cores, workers", [_cores(costs, rate, costs.worker_us) for rate in rates]),
        ("cores, database", [_cores(costs, rate, costs.database_us) for rate in rates]),
        ("rows written a second", [f"{rate * costs.row_writes:,.0f}" for rate in rates]),
        ("log, MB/s", [f"{rate * costs.wal_bytes / 1e6:,.2f}" for rate in rates]),
        ("history, GB a day", [f"{rate * costs.bytes_kept * DAY / 1e9:,.1f}" for rate in rates]),
        ("history kept, TB", [f"{rate * costs.bytes_kept * DAY * costs.retention / 1e12:,.2f}" for rate in rates]),
        ("cells", [str(costs.cells(rate, rate)) for rate in rates]),
        ("what is full first", [first] * len(rates)),
    ]
    return show(head, [[name, *cells] for name, cells in lines])


def _cores(costs: Costs, rate: float, us: float) -> str:
    return f"{rate * us / 1e6 / costs.busy:,.2f}"


@dataclass
class Region:
    """One region through the day. ``queue``: events that wait; ``held``: those that wait for its return."""

    mean: float
    peak_at: float
    cells: int
    queue: float = 0.0
    held: float = 0.0
    busiest: float = 0.0
    longest_wait: float = 0.0

    def demand(self, minute: int, dice: random.Random) -> float:
        """New events in this minute."""
        wanted = 60 * self.mean * (1 + WAVE * math.cos(2 * math.pi * (minute - self.peak_at) / 1440))
        return max(0.0, dice.gauss(wanted, math.sqrt(wanted)))

    def work(self, new: float, per_minute: float) -> None:
        """Do in one minute what can be done; ``per_minute``: of all its cells, when nothing is spared."""
        self.queue += new
        done = min(self.queue, per_minute)
        self.queue -= done
        self.busiest = max(self.busiest, done / per_minute)
        self.longest_wait = max(self.longest_wait, 60 * self.queue / per_minute)


def day(costs: Costs, total: float, away: int, seed: int = 1) -> list[Region]:
    """A day of all regions. ``away``: minutes for which one is lost."""
    dice = random.Random(seed)
    regions = [
        Region(mean, 1440 * place / len(REGIONS), costs.cells(mean, mean * (1 + WAVE)))
        for place, mean in enumerate(total * part for part in REGIONS)
    ]
    lost = regions[LOST]
    full = 60 * min(costs.rates().values()) / costs.busy  # when its spare time is used too
    begin = int(lost.peak_at)
    for minute in range(begin, begin + 1440):
        new = [region.demand(minute, dice) for region in regions]
        is_away = begin + 60 <= minute < begin + 60 + away
        if is_away:  # half of its events are of tasks that run already, and come back with it
            lost.held += new[LOST] / 2
            for near in NEAREST:
                new[near] += new[LOST] / 4
        elif minute == begin + 60 + away:
            new[LOST] += lost.held
        for place, region in enumerate(regions):
            if not (is_away and place == LOST):
                region.work(new[place], region.cells * full)
    return regions


def losses(costs: Costs, total: float) -> list[str]:
    """The day with a region lost for longer and longer."""
    rows = []
    for away in (0, 30, 240, 720):
        regions = day(costs, total, away)
        lost, near = regions[LOST], [regions[place] for place in NEAREST]
        rows.append([
            f"{away} minutes",
            f"{100 * max(region.busiest for region in near):.0f} %",
            f"{max(region.longest_wait for region in near):.0f} s",
            f"{lost.held / 1e6:.1f} million",
            f"{lost.longest_wait:.0f} s",
        ])  # fmt: skip
    return show(
        ["region 1 is away", "nearest two, busiest", "wait there", "events held up", "wait at its return"], rows
    )


def each_region(costs: Costs, total: float) -> list[str]:
    """What every region needs."""
    rows = [
        [str(place + 1), f"{region.mean:,.0f}", f"{region.mean * (1 + WAVE):,.0f}", str(region.cells),
         f"{region.mean * costs.bytes_kept * DAY * costs.retention / 1e12:.1f}",
         f"{region.mean * (1 + WAVE) * costs.wal_bytes / 1e6:.1f}"]
        for place, region in enumerate(day(costs, total, 0))
    ]  # fmt: skip
    return show(["region", "mean events/s", "peak", "cells", "history, TB", "log to its standby, MB/s"], rows)


def put(page: str, table: Sequence[str]) -> str:
    """The page with a table in the place of the one that has the same head. ValueError when there is none."""
    lines = page.splitlines()
    wanted = _cells(table[0])
    heads = [place for place, line in enumerate(lines) if line.startswith("|") and _cells(line) == wanted]
    if len(heads) != 1:
        raise ValueError(f"the page has {len(heads)} tables headed {wanted}")
    end = next((place for place in range(heads[0], len(lines)) if not lines[place].startswith("|")), len(lines))
    return "\n".join([*lines[: heads[0]], *(line for line in table if line), *lines[end:]]) + "\n"


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--total", type=float, default=10_000.0, help="events a second of the world")
    parser.add_argument("--write", type=Path, help="the page that has these tables")
    for field in fields(Costs):
        parser.add_argument("--" + field.name.replace("_", "-"), type=float, default=field.default)
    options = vars(parser.parse_args())
    total, page = options.pop("total"), options.pop("write")
    costs = Costs(**options)
    fewer_days = replace(costs, retention=min(costs.retention, REGIONS_KEEP))
    limits = [[name, f"{rate:,.0f}"] for name, rate in costs.limits().items()]
    tables = [
        sums(costs, (1, 100, 1000, total)), show(["one database carries", "events a second"], limits),
        each_region(fewer_days, total), losses(fewer_days, total),
    ]  # fmt: skip
    sys.stdout.write("\n".join("\n".join(table) for table in tables) + "\n")
    if page is not None:
        written = page.read_text()
        for table in tables:
            written = put(written, table)
        page.write_text(written)
    return 0


if __name__ == "__main__":
    sys.exit(main())
