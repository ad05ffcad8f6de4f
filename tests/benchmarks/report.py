"""Runs every benchmark and puts what they print into one page, its goals gathered in front.

    python -m tests.benchmarks.report [--quick] [--only NAME ...] [--write BENCHMARKS.md]

The page is written from what was measured; only what was done about it is told by hand. Exits with 1 when a benchmark
lost something, or could not be run; goals that are not met are told, and do not fail the run.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.benchmarks.processes import ROOT, stop
from tests.benchmarks.tables import GOAL, show


@dataclass(frozen=True)
class Part:
    """One section of the page.

    ``quick``: its arguments in a quick run, or None to leave it out. ``limit``: seconds after which it is ended,
    several times what it needs on a machine with nothing else to do.
    """

    title: str
    module: str
    arguments: Sequence[str] = ()
    quick: Sequence[str] | None = ("--quick",)
    limit: float = 600.0


PARTS = [
    Part(
        "End to end", "end_to_end", quick=("--quick", "--database", "sqlite", "--mode", "believing"), limit=1500,
    ),
    Part(
        "Latency", "end_to_end", ("--latency", "--rounds", "1", "--only", "ours", "Celery, 2 processes"),
        quick=("--quick", "--latency", "--database", "sqlite", "--only", "ours"),
    ),
    Part("Acknowledging a callback", "ingest"),
    Part("Deliveries", "deliveries"),
    Part("Claims", "claims"),
    Part("Polling", "polling"),
    Part("Idle, and starting", "idle"),
    Part("Fairness", "fairness", quick=None),
    Part("History", "history", quick=None),
    Part("Scale, on paper", "scale", quick=()),
    Part("Where the time goes", "profiles", quick=None),
]  # fmt: skip
SOAKS = [
    Part(f"Soak, {kind}", "soak", ("--database", kind), ("--quick", "--database", kind), limit=float("inf"))
    for kind in ("sqlite", "postgresql")
]
QUICK_LIMIT = 180.0
"""Seconds for a part of a quick run."""
FINDINGS = Path(__file__).with_name("findings.md")
"""What was learnt from the profiles, and what was done; its figures are of the day they were found."""


@dataclass(frozen=True)
class Result:
    """What a part printed, its exit code (None: it took too long and was ended), and the seconds it took."""

    part: Part
    printed: str
    code: int | None
    seconds: float

    @property
    def trouble(self) -> str:
        """How it failed, as a sentence; empty when it did not."""
        if self.code is None:
            return f"This part was ended after {self.seconds:.0f} s."
        return f"This part ended with exit code {self.code}." if self.code else ""


def run(part: Part, *, quick: bool) -> Result:
    """Run a part; its progress is passed on."""
    arguments = part.quick if quick else part.arguments
    command = [sys.executable, "-m", f"tests.benchmarks.{part.module}", *(arguments or ())]
    return run_command(part, command, min(part.limit, QUICK_LIMIT) if quick else part.limit)


def run_command(part: Part, command: Sequence[str], limit: float) -> Result:
    """Run the command of a part; after so many seconds it is ended, with all that it started."""
    sys.stderr.write(f"== {part.title}\n")
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(command, cwd=ROOT, stdout=printed)
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            stop(process, 5)
        seconds = time.monotonic() - began
        sys.stderr.write(f"== {part.title}: {seconds:.0f} s\n")
        printed.seek(0)
        return Result(part, printed.read(), code, seconds)


def machine() -> list[str]:
    """When, where and what, as a list."""
    said = subprocess.run(
        ["git", "log", "-1", "--format=%h %cs"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    changed = subprocess.run(
        ["git", "status", "--porcelain", "receiver", "handlers"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    commit = (said.stdout.strip() or "no git here") + (", with changes not committed" if changed.stdout else "")
    processor = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    box = (
        f"{os.cpu_count()} × {processor[1] if processor else platform.machine()}, "
        f"{psutil.virtual_memory().total / 1e9:.0f} GB, {platform.system()} {platform.release().partition('-')[0]}, "
        f"Python {platform.python_version()}"
    )
    return [
        f"- measured {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, commit {commit}",
        f"- {box}",
        f"- {load()} before it began",
    ]


def load() -> str:
    """How busy the machine has been. Above 2 on two cores while nothing runs here, rates and latencies say little."""
    return "load averages " + ", ".join(f"{each:.1f}" for each in os.getloadavg()) + " (1, 5 and 15 minutes)"


def goals(results: Sequence[Result]) -> list[list[str]]:
    """Rows of the table of goals."""
    rows = []
    for result in results:
        for line in result.printed.splitlines():
            if line.startswith(GOAL):
                verdict, what, wanted, measured = (cell.strip() for cell in line.removeprefix("- ").split(" · "))
                rows.append([what, wanted.removeprefix("goal "), measured.removeprefix("measured "), verdict])
    return rows


def page(results: Sequence[Result], about: Sequence[str], soak: str) -> str:
    """The whole page."""
    rows = goals(results)
    missed = [row for row in rows if "NOT" in row[3]]
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench` from what it measured. How: [tests/benchmarks](tests/benchmarks/README.md). The load",
        "generator, the subscriber and the provider run on the same cores as what is measured, for all systems alike.",
        "Figures that differ by less than a fifth are no finding.",
        "",
        *about,
        "",
        "## Goals",
        "",
        *show(["what", "goal", "measured", ""], rows),
        f"{len(rows) - len(missed)} of {len(rows)} goals are met." + (" Not met:" if missed else ""),
        "",
        *(f"- {row[0]}" for row in missed),
        *([""] if missed else []),
        *[
            f"**{result.part.title}: {result.trouble}** Its figures may be wrong, or missing.\n"
            for result in results
            if result.trouble
        ],
    ]
    for result in results:
        kept = [line for line in result.printed.splitlines() if not line.startswith(GOAL)]
        text = re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()
        lines += [f"## {result.part.title}", "", text, "", f"**{result.trouble}**" if result.trouble else "", ""]
    lines += [FINDINGS.read_text().strip(), ""]
    if soak:
        lines += ["## Soak", "", soak]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def kept_soak(path: Path | None) -> str:
    """The section that ``make soak`` wrote into the page, which is not part of ``make bench``."""
    if path is None or not path.exists():
        return ""
    return path.read_text().partition("\n## Soak\n")[2].strip()


def with_soak(path: Path, printed: str, about: Sequence[str]) -> None:
    """Put what a soak printed into the page, in the place of an older one."""
    before = path.read_text().partition("\n## Soak\n")[0].rstrip() if path.exists() else "# Benchmarks"
    path.write_text("\n".join([before, "", "## Soak", "", *about, "", printed.strip(), ""]))


def main() -> int:
    """Run all, print, and write the page."""
    parser = argparse.ArgumentParser(description="Every benchmark, on one page.")
    parser.add_argument("--quick", action="store_true", help="one round of most, in under two minutes")
    parser.add_argument("--only", nargs="+", choices=sorted({part.module for part in PARTS}), help="these modules")
    parser.add_argument("--soak", action="store_true", help="the soak instead")
    parser.add_argument("--write", type=Path, help="the file that gets the page")
    options = parser.parse_args()
    about = machine()
    if options.quick:
        about.append("- a quick run: one round, few events, small tables; `make bench` measures properly")
    if options.soak:
        soaks = [run(part, quick=options.quick) for part in SOAKS]
        printed = "\n\n".join(f"{soak.printed.strip()}\n\n{soak.trouble}".strip() for soak in soaks)
        sys.stdout.write(printed + "\n")
        if options.write is not None:
            with_soak(options.write, printed, about)
        return int(any(soak.trouble for soak in soaks))
    chosen = [part for part in PARTS if options.only is None or part.module in options.only]
    results = []
    for part in chosen:
        if part.quick is None and options.quick:
            continue
        results.append(run(part, quick=options.quick))
        if options.write is not None:  # what is there so far stays, whatever becomes of the rest
            options.write.write_text(page(results, about, kept_soak(options.write)))
    about.append(f"- {sum(result.seconds for result in results) / 60:.0f} minutes in all")
    text = page(results, about, kept_soak(options.write))
    sys.stdout.write(text)
    if options.write is not None:
        options.write.write_text(text)
    return int(any(result.trouble for result in results))


if __name__ == "__main__":
    sys.exit(main())
