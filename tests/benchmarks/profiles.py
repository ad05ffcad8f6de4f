"""Where the time goes while callbacks come in, are confirmed and delivered: py-spy on the web and the worker.

    python -m tests.benchmarks.profiles [--quick] [--database sqlite|postgresql] [--mode believing|confirming]

Two views of the same samples of running threads, for each process: our own functions with all that they
call (so shares overlap), and the libraries in whose code the time was spent (shares add up to one).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from tests.benchmarks.load import fire
from tests.benchmarks.outside_client import Outside, outside
from tests.benchmarks.processes import ROOT, tree
from tests.benchmarks.systems import POSTGRESQL, SQLITE, System, ours
from tests.benchmarks.tables import show

RATE = 200
"""Samples per second."""
_FRAME = re.compile(r"(?P<function>.+) \((?P<file>[^():]+)(?::\d+)?\)$")


def parts_of(system: System) -> Iterator[tuple[str, psutil.Process]]:
    """The processes that work, by name: those of the web (the server's parent does nothing) and the worker."""
    for process in tree(system.roots[:1]):
        words = process.cmdline()
        if words[-1] == "worker":
            yield "worker", process
        elif words[-1] == "web" and not process.children():
            yield "web", process


def samples_of(process: psutil.Process, seconds: int, into: Path) -> Counter[tuple[str, ...]]:
    """How often each stack (outermost first) was seen running."""
    command = [
        str(Path(sys.executable).parent / "py-spy"), "record", "--pid", str(process.pid), "--format", "raw",
        "--duration", str(seconds), "--rate", str(RATE), "--nonblocking", "--output", str(into),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    found: Counter[tuple[str, ...]] = Counter()
    for line in into.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        found[tuple(stack.split(";"))] += int(count)
    return found


def whose(frame: str) -> str:
    """The library, or the part of ours, that a frame belongs to."""
    found = _FRAME.match(frame)
    if found is None:
        return "other"
    path = found["file"].removeprefix(f"{ROOT}/")
    if "site-packages/" in path:
        path = path.partition("site-packages/")[2]
    parts = Path(path).parts
    if parts[0] == "receiver":
        return "/".join(parts[:2])
    return parts[0].removesuffix(".py")


def ours_only(frame: str) -> str | None:
    """``module.function`` of a frame of ours, or None."""
    found = _FRAME.match(frame)
    if found is None:
        return None
    path = found["file"].removeprefix(f"{ROOT}/")
    return f"{path}: {found['function']}" if path.startswith(("receiver/", "handlers/")) else None


def tables_of(samples: Counter[tuple[str, ...]], most: int) -> list[str]:
    """Both views of the samples."""
    total = sum(samples.values()) or 1
    inclusive: Counter[str] = Counter()
    libraries: Counter[str] = Counter()
    for stack, count in samples.items():
        for name in {found for frame in stack if (found := ours_only(frame))}:
            inclusive[name] += count
        libraries[whose(stack[-1])] += count

    def rows(counter: Counter[str], place: int) -> Sequence[Sequence[str]]:
        return [[name, f"{count / total:.0%}"] for name, count in counter.most_common(place)]

    return [
        *show(["our function, with what it calls", "share"], rows(inclusive, most)),
        *show(["in whose code", "share"], rows(libraries, most // 2)),
    ]


def watch(system: System, beyond: Outside, seconds: int, most: int) -> list[str]:
    """Profile the processes of a system while callbacks come as fast as they are taken."""
    requests = system.prepare(range(seconds * 4000))
    beyond.begin(system.secret)
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        processes = list(parts_of(system))
        found: dict[str, Counter[tuple[str, ...]]] = {}

        def look(name: str, process: psutil.Process) -> None:
            found[name] = samples_of(process, seconds, Path(folder) / name)

        over = threading.Event()
        load = threading.Thread(target=_load, args=(system.port, requests, over))
        load.start()
        watchers = [threading.Thread(target=look, args=each) for each in processes]
        for thread in watchers:
            thread.start()
        for thread in watchers:
            thread.join()
        over.set()
        load.join()
    for name, samples in sorted(found.items()):
        lines += [f"**{name}**, {sum(samples.values()) / RATE / seconds:.0%} of a core", "", *tables_of(samples, most)]
    return lines


def _load(port: int, requests: Sequence[bytes], over: threading.Event) -> None:
    for place in range(0, len(requests), 200):
        if over.is_set():
            return
        fire(port, requests[place : place + 200])


def main() -> int:
    """Profile and print."""
    parser = argparse.ArgumentParser(description="Where the time of callbacks, queries and deliveries goes.")
    parser.add_argument("--quick", action="store_true", help="SQLite, believing, for 5 seconds")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], help="this one only")
    parser.add_argument("--mode", choices=["believing", "confirming"], help="this one only")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--most", type=int, default=24, help="lines of a table")
    options = parser.parse_args()
    kinds = {"sqlite": SQLITE, "postgresql": POSTGRESQL}
    databases = [kinds[options.database]] if options.database else [SQLITE, POSTGRESQL]
    modes = [options.mode] if options.mode else ["believing", "confirming"]
    if options.quick:
        databases, modes, options.seconds = [SQLITE], ["believing"], 5
    with outside() as beyond:
        for database in databases:
            for mode in modes:
                with ours(database, mode == "confirming", beyond) as system:
                    lines = [f"### {database}, {mode}", "", *watch(system, beyond, options.seconds, options.most)]
                sys.stdout.write("\n".join(lines) + "\n")
                sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
