"""What it costs to acknowledge a callback durably: verified, committed with full durability, answered.

    python -m tests.benchmarks.ingest [--rounds 3] [--requests 6000] [--quick] [--only NAME]

Ours (the web alone, tasks prepared beforehand) beside a Flask application that says hello and stores nothing, and
one that commits each request by itself, both under the very options of gunicorn that ours runs with; and beside
Debian's ``webhook`` in its synchronous mode, which stores nothing either. Two floors: a WSGI application that answers
200 to everything, without Flask, under the same gunicorn, and a bare loop over sockets in one process of Python.
32 connections are kept alive. Then again with 4 ms added to every flush of the disk by a library that is loaded before
the C library's functions.
Exits with 1 when a request was not answered with 200, or not exactly what was answered is stored.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from unittest import mock

from sqlalchemy import func, select

from receiver.config import read_settings
from receiver.runtime import Runtime
from receiver.sealing import new_secret_key
from receiver.signing import CallbackTokens
from receiver.store import tasks
from receiver.store.schema import accounts, notices
from tests.benchmarks import callbacks, processes, tables
from tests.benchmarks.load import fire
from tests.benchmarks.processes import free_port
from tests.benchmarks.systems import POSTGRESQL, SQLITE, database, running_task

OURS, OURS_POSTGRESQL, HELLO, EACH, WEBHOOK = (
    "ours, SQLite", "ours, PostgreSQL", "hello Flask", "Flask, a commit each, SQLite", "webhook, synchronous",
)  # fmt: skip
EMPTY, LOOP = "floor: an empty WSGI application", "floor: a bare loop over sockets"
FLUSH_MS = 4
SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
static void slow(void) { usleep(%d); }
int fsync(int file) { slow(); return ((int (*)(int)) dlsym(RTLD_NEXT, "fsync"))(file); }
int fdatasync(int file) { slow(); return ((int (*)(int)) dlsym(RTLD_NEXT, "fdatasync"))(file); }
"""
FLASK = """
import sqlite3, sys, threading
from flask import Flask, request
from gunicorn.app.base import BaseApplication
from receiver.config import read_settings
from receiver.web.server import options
app, here, path, kind = Flask("peer"), threading.local(), *sys.argv[1:]

def database():
    if not hasattr(here, "open"):
        here.open = sqlite3.connect(path, timeout=30, isolation_level=None)
        here.open.execute("PRAGMA synchronous=FULL")
    return here.open

@app.post("/<path:rest>")
def take(rest):
    if kind == "each":
        database().execute("INSERT INTO notices (body) VALUES (?)", (request.get_data(),))
    return {"hello": "world"}

def empty(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]

class Server(BaseApplication):
    def load_config(self):
        for name, value in options(read_settings()).items():
            if name not in ("post_worker_init", "pre_request", "child_exit"):
                self.cfg.set(name, value)

    def load(self):
        return empty if kind == "empty" else app

Server().run()
"""
BARE = """
import re, selectors, socket, sys
poller, waiting = selectors.DefaultSelector(), {}
length = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=128)
poller.register(listener, selectors.EVENT_READ)
while True:
    for key, _ in poller.select():
        sock = key.fileobj
        if sock is listener:
            poller.register(sock.accept()[0], selectors.EVENT_READ)
            continue
        data = waiting.pop(sock, b"") + (piece := sock.recv(65536))
        head, end, body = data.partition(b"\\r\\n\\r\\n")
        if not piece:
            poller.unregister(sock)
            sock.close()
        elif end and len(body) >= int(length.search(head)[1]):
            sock.send(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
        else:
            waiting[sock] = data
"""


@dataclass
class Target:
    """A running web. ``requests``: makes so many; ``stored``: how many it has stored, None where it stores nothing."""

    port: int
    pid: Sequence[int]
    requests: Callable[[int], list[bytes]]
    stored: Callable[[], int] | None


@dataclass(frozen=True)
class Run:
    """One run: requests a second, CPU µs of each, and times of an answer in ms."""

    rate: float
    cpu: float
    p50: float
    p99: float
    good: bool


@contextlib.contextmanager
def shim(folder: Path) -> Iterator[dict[str, str]]:
    """Environment variables with which every flush takes longer."""
    source, library = folder / "slow.c", folder / "slow.so"
    source.write_text(SHIM % (FLUSH_MS * 1000))
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    yield {"LD_PRELOAD": str(library)}


@contextlib.contextmanager
def ours(kind: str, folder: Path, more: dict[str, str]) -> Iterator[Target]:
    """``receiver web`` with its defaults, believing notices."""
    with database(kind, folder) as (url, roots):
        port = free_port()
        environment = processes.plain_environment(
            RECEIVER_DATABASE_URL=url, RECEIVER_BIND=f"127.0.0.1:{port}", RECEIVER_SECRET_KEYS=new_secret_key(),
            RECEIVER_API_KEY="rk_benchmark_0123456789", TOPVIEW_UID=callbacks.UID, TOPVIEW_API_KEY="sk-bench",
            TOPVIEW_CONFIRM_NOTICES="false", RECEIVER_PUBLIC_URL=f"http://127.0.0.1:{port}",
        )  # fmt: skip
        with mock.patch.dict("os.environ", environment, clear=True):
            settings = read_settings()
        runtime = Runtime.build(settings)
        runtime.prepare()
        tokens, made = CallbackTokens(settings.secret_keys), 0

        def requests(count: int) -> list[bytes]:
            nonlocal made
            new = []
            with runtime.store.write() as connection:
                account = connection.execute(select(accounts.c.id)).scalar_one()
                for number in range(made, made + count):
                    task = running_task(account, callbacks.key_of(number))
                    tasks.add(connection, task)
                    values = {"status": "running", "provider_task_id": task.provider_task_id, "submitted_at": 1}
                    tasks.move(connection, task.id, values)
                    path = f"/callbacks/topview/{tokens.make('topview', task.id)}"
                    new.append(callbacks.request_of(callbacks.key_of(number), path, port))
            made += count
            return new

        def stored() -> int:
            with runtime.store.read() as connection:
                return int(connection.execute(select(func.count()).select_from(notices)).scalar_one())

        command = [sys.executable, "-m", "receiver.cli", "web"]
        process = processes.start(folder, "web", command, environment | more)
        try:
            processes.wait_for_port(port)
            yield Target(port, [process.pid, *roots], requests, stored)
        finally:
            processes.stop(process)
            runtime.close()


@contextlib.contextmanager
def flask(folder: Path, more: dict[str, str], kind: str) -> Iterator[Target]:
    """Under our gunicorn options: Flask that stores ``each`` request by itself, or says ``hello``; or ``empty``."""
    path, port = folder / "peer.db", free_port()
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE notices (id INTEGER PRIMARY KEY, body BLOB)")
    environment = processes.plain_environment(RECEIVER_BIND=f"127.0.0.1:{port}", RECEIVER_SECRET_KEYS=new_secret_key())

    def stored() -> int:
        return int(database.execute("SELECT count(*) FROM notices").fetchone()[0])

    command = [sys.executable, "-c", FLASK, str(path), kind]
    with contextlib.closing(database), _at("/hello", port, folder, command, environment | more) as target:
        yield replace(target, stored=stored if kind == "each" else None)


@contextlib.contextmanager
def _at(path: str, port: int, folder: Path, command: Sequence[str], environment: dict[str, str]) -> Iterator[Target]:
    """A server that stores nothing, sent notices at one path."""
    process = processes.start(folder, "server", command, environment)
    try:
        processes.wait_for_port(port)
        yield Target(port, [process.pid], lambda count: _notices(count, path, port), None)
    finally:
        processes.stop(process)


def bare(folder: Path, more: dict[str, str]) -> contextlib.AbstractContextManager[Target]:
    """One thread that reads requests and answers each with the same bytes."""
    port = free_port()
    command = [sys.executable, "-c", BARE, str(port)]
    return _at("/", port, folder, command, processes.plain_environment(**more))


def webhook(folder: Path, more: dict[str, str]) -> contextlib.AbstractContextManager[Target]:
    """Debian's webhook; each request is answered when its command has ended."""
    port = free_port()
    hook = {"id": "hook", "execute-command": "/bin/true", "include-command-output-in-response": True}
    (folder / "hooks.json").write_text(json.dumps([hook]))
    command = ["webhook", "-hooks", "hooks.json", "-ip", "127.0.0.1", "-port", str(port)]
    return _at("/hooks/hook", port, folder, command, processes.plain_environment(**more))


def _notices(count: int, path: str, port: int) -> list[bytes]:
    return [callbacks.request_of(callbacks.key_of(number), path, port) for number in range(count)]


def measure(target: Target, count: int) -> Run:
    """Send so many requests, and count what is stored of them."""
    requests = target.requests(count)
    before = target.stored() if target.stored else 0
    cpu = processes.cpu_seconds(target.pid)
    sent = fire(target.port, requests)
    cpu = processes.cpu_seconds(target.pid) - cpu
    kept = target.stored() - before if target.stored else count
    seconds = max(at + took for at, took in zip(sent.at, sent.took, strict=True)) - min(sent.at)
    took = sorted(sent.took)
    good = sent.all_taken and kept == count
    if not good:
        sys.stderr.write(f"answers {dict(sent.statuses)}, stored {kept} of {count}\n")
    places = [took[math.ceil(share * count) - 1] * 1000 for share in (0.5, 0.99)]
    return Run(count / seconds, cpu / count * 1e6, *places, good)


def rounds(names: Sequence[str], options: argparse.Namespace, *, slow: bool) -> dict[str, list[Run]]:
    """All systems, one after the other, in rounds."""
    found: dict[str, list[Run]] = {name: [] for name in names}
    with contextlib.ExitStack() as stack:
        where = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ingest-")))
        more = stack.enter_context(shim(where)) if slow else {}
        systems: dict[str, Target] = {}
        for name in names:
            folder = where / str(len(systems))
            folder.mkdir()
            starts: dict[str, Callable[[], contextlib.AbstractContextManager[Target]]] = {
                OURS: lambda folder=folder: ours(SQLITE, folder, more),
                OURS_POSTGRESQL: lambda folder=folder: ours(POSTGRESQL, folder, more),
                HELLO: lambda folder=folder: flask(folder, more, "hello"),
                EACH: lambda folder=folder: flask(folder, more, "each"),
                EMPTY: lambda folder=folder: flask(folder, more, "empty"),
                LOOP: lambda folder=folder: bare(folder, more),
                WEBHOOK: lambda folder=folder: webhook(folder, more),
            }
            systems[name] = stack.enter_context(starts[name]())
        for target in systems.values():
            measure(target, 200)  # warm
        for number in range(options.rounds):
            for name, target in systems.items():
                # a commit each would take minutes on the slow disk
                run = measure(target, options.requests // 8 if slow and name == EACH else options.requests)
                sys.stderr.write(f"round {number + 1}, {name}: {run}\n")
                found[name].append(run)
    return found


def rows(found: dict[str, list[Run]]) -> list[list[str]]:
    """Medians as rows of a table."""
    shown = (("rate", 0), ("cpu", 0), ("p50", 1), ("p99", 1))
    return [
        [
            name if all(run.good for run in runs) else f"{name} (lost some)",
            *(f"{median(getattr(run, what) for run in runs):,.{digits}f}" for what, digits in shown),
        ]
        for name, runs in found.items()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables; 1 when we lost anything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=6000)
    parser.add_argument("--quick", action="store_true", help="one short round, without PostgreSQL")
    parser.add_argument("--only", action="append", choices=(OURS, OURS_POSTGRESQL, HELLO, EACH, WEBHOOK, EMPTY, LOOP))
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.requests = 1, 1500
    names = options.only or [
        OURS,
        *([] if options.quick else [OURS_POSTGRESQL]),
        HELLO,
        EACH,
        *([WEBHOOK] if shutil.which("webhook") else []),
        EMPTY,
        LOOP,
    ]
    fast = rounds(names, options, slow=False)
    slow = rounds([name for name in names if name in (OURS, EACH)], options, slow=True)
    head = ["", "requests/s", "CPU µs each", "p50 ms", "p99 ms"]
    lines = tables.show(head, rows(fast))
    if slow:
        lines += [f"With {FLUSH_MS} ms more for every flush:", "", *tables.show(head, rows(slow))]
    sys.stdout.write("\n".join([*lines, *goals(fast, slow), ""]))
    own = [run for found in (fast, slow) for name in (OURS, OURS_POSTGRESQL) for run in found.get(name, [])]
    return 0 if all(run.good for run in own) else 1


def goals(fast: dict[str, list[Run]], slow: dict[str, list[Run]]) -> list[str]:
    """A line for each goal whose systems were measured."""

    def middle(found: dict[str, list[Run]], name: str, what: str) -> float:
        return median(getattr(run, what) for run in found[name])

    lines: list[str] = []
    if OURS in fast:
        spread = middle(fast, OURS, "p99") / middle(fast, OURS, "p50")
        lines += tables.goal("durable acknowledgement: p99 / p50", "< 5", f"{spread:.1f}", spread < 5)
    if {OURS, HELLO} <= fast.keys():
        ratio = middle(fast, OURS, "rate") / middle(fast, HELLO, "rate")
        lines += tables.goal("durable acknowledgement / hello Flask, rate", "≥ 0.8", f"{ratio:.2f}", ratio >= 0.8)
    if {OURS, WEBHOOK} <= fast.keys():
        ratio = middle(fast, OURS, "rate") / middle(fast, WEBHOOK, "rate")
        lines += tables.goal("durable acknowledgement / webhook, rate", "≥ 2", f"{ratio:.2f}", ratio >= 2)
        ratio = middle(fast, OURS, "cpu") / middle(fast, WEBHOOK, "cpu")
        lines += tables.goal("durable acknowledgement / webhook, CPU", "≤ 0.33", f"{ratio:.2f}", ratio <= 1 / 3)
    if {OURS, EACH} <= slow.keys():
        ratio = middle(slow, OURS, "rate") / middle(slow, EACH, "rate")
        lines += tables.goal(f"{FLUSH_MS} ms disk: ours / a commit each, rate", "≥ 12", f"{ratio:.1f}", ratio >= 12)
    return lines


if __name__ == "__main__":
    sys.exit(main())
