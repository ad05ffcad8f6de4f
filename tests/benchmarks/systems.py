"""The systems that are measured, each ready to be sent callbacks: ours, and what a team would put together.

Every system runs with what its own documentation recommends, on a database of its own with full
durability, and delivers to the same subscriber, asking the same provider when it has to confirm.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

from sqlalchemy import create_engine, func, select

from receiver.config import read_settings
from receiver.models import EventType, TaskStatus, new_id
from receiver.models import Task as OurTask
from receiver.runtime import Runtime, wall_clock
from receiver.sealing import new_secret_key
from receiver.signing import CallbackTokens, new_secret
from receiver.store import tasks
from receiver.store.schema import accounts, attempts
from receiver.subscribers import NewSubscriber
from tests.benchmarks import callbacks
from tests.benchmarks.outside_client import Outside
from tests.benchmarks.processes import (
    free_port,
    main_pid,
    plain_environment,
    redis,
    start,
    stop,
    wait_for_port,
    wait_until_ready,
)
from tests.postgres import server

SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"
HOUR = 3_600_000


@dataclass
class System:
    """A running system. ``roots``: its processes, database and broker included; ``secret``: what it signs with."""

    name: str
    port: int
    secret: str
    roots: Sequence[int]
    folder: Path
    prepare: Callable[[Sequence[int]], list[bytes]]
    """Tasks with these numbers are known from now on; the callbacks that will end them."""
    delivered: Callable[[], int]
    """Successful attempts written down so far."""
    prepare_old: Callable[[int], None] = lambda _: None
    """So many tasks that ended days ago are there from now on, for the sweep."""
    database_url: str = ""


Launch = Callable[[str, bool, Outside], contextlib.AbstractContextManager[System]]
"""Starts a system: the kind of database, whether it confirms each callback with a query, and what is outside."""


@contextlib.contextmanager
def database(kind: str, folder: Path) -> Iterator[tuple[str, list[int]]]:
    """A database with the durability it has by default; its URL and its processes."""
    if kind == SQLITE:
        yield f"sqlite:///{folder}/bench.db", []
        return
    with server({}) as own:  # durability unchanged: fsync, full_page_writes and synchronous_commit are on
        yield own.create(), [main_pid(own)]


@contextlib.contextmanager
def ours(kind: str, confirm: bool, outside: Outside, **settings: str) -> Iterator[System]:
    """``receiver run`` with its defaults, TopView configured. ``settings``: further environment variables."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, database(kind, Path(name)) as (url, roots):
        folder, port = Path(name), free_port()
        environment = plain_environment(
            RECEIVER_DATABASE_URL=url,
            RECEIVER_BIND=f"127.0.0.1:{port}",
            RECEIVER_PUBLIC_URL=f"http://127.0.0.1:{port}",
            RECEIVER_SECRET_KEYS=new_secret_key(),
            RECEIVER_API_KEY="rk_benchmark_0123456789",
            RECEIVER_ALLOWED_NETWORKS="127.0.0.0/8",
            TOPVIEW_UID=callbacks.UID,
            TOPVIEW_API_KEY="sk-bench",
            TOPVIEW_BASE_URL=f"http://127.0.0.1:{outside.provider}",
            TOPVIEW_QUERY_RATE="100000",  # the peers have no limit
            TOPVIEW_CONFIRM_NOTICES=str(confirm).lower(),
        )
        environment |= settings
        with mock.patch.dict(os.environ, environment, clear=True):
            read = read_settings()
        runtime = Runtime.build(read)
        runtime.prepare()
        with runtime.store.read() as connection:
            account = connection.execute(select(accounts.c.id)).scalar_one()
        subscriber = NewSubscriber(outside.url, (EventType.TASK_SUCCEEDED,), secret=new_secret())
        secret = runtime.subscribers.create(account, subscriber)[1]
        process = start(folder, "service", [sys.executable, "-m", "receiver.cli", "run"], environment)
        tokens = CallbackTokens(read.secret_keys)

        def prepare(numbers: Sequence[int]) -> list[bytes]:
            requests: list[bytes] = []
            with runtime.store.write() as connection:
                for number in numbers:
                    task = running_task(account, callbacks.key_of(number))
                    tasks.add(connection, replace(task, due_at=task.created_at + 2 * HOUR))
                    handed_over = {
                        "status": TaskStatus.RUNNING,
                        "provider_task_id": task.provider_task_id,
                        "submitted_at": task.created_at,
                    }
                    tasks.move(connection, task.id, handed_over)
                    path = f"/callbacks/topview/{tokens.make('topview', task.id)}"
                    requests.append(callbacks.request_of(callbacks.key_of(number), path, port))
            return requests

        def prepare_old(count: int) -> None:
            for _ in range(0, count, 500):
                with runtime.store.write() as connection:
                    for _ in range(500):
                        task = running_task(account, callbacks.key_of(0), age=48 * HOUR)
                        tasks.add(connection, task)
                        ended = {"status": TaskStatus.SUCCEEDED, "finished_at": task.created_at, "due_at": None}
                        tasks.move(connection, task.id, ended)

        def delivered() -> int:
            with runtime.store.read() as connection:
                good = attempts.c.response_status.between(200, 299)
                return int(connection.execute(select(func.count()).select_from(attempts).where(good)).scalar_one())

        try:
            wait_until_ready(process, port, folder / "service.log")
            yield System(
                f"ours, {kind}", port, secret, [process.pid, *roots], folder, prepare, delivered, prepare_old, url
            )  # fmt: skip
        finally:
            stop(process)
            runtime.close()


def running_task(account: str, key: str, age: int = 0) -> OurTask:
    """A task that the provider works on. ``age``: ms since it was created."""
    now = wall_clock() - age
    return OurTask(
        id=new_id("task", now),
        account_id=account,
        provider="topview",
        operation=callbacks.OPERATION,
        status=TaskStatus.QUEUED,
        input_json=callbacks.json_of_input(),
        metadata={},
        callback_url=None,
        created_at=now,
        deadline_at=now + 2 * HOUR,
        due_at=now,
        provider_task_id=key,
    )


def peer(name: str, queue: str, workers: Sequence[Sequence[str]]) -> Launch:
    """A peer: its web side, and the commands of its workers."""

    @contextlib.contextmanager
    def launch(kind: str, confirm: bool, outside: Outside) -> Iterator[System]:
        with (
            tempfile.TemporaryDirectory(prefix="bench-") as folder_name,
            database(kind, Path(folder_name)) as (url, roots),
            redis() as (redis_pid, redis_port),
            contextlib.ExitStack() as running,
        ):
            folder, port, secret = Path(folder_name), free_port(), new_secret()
            environment = plain_environment(
                PEER_DATABASE_URL=url,
                PEER_REDIS_URL=f"redis://127.0.0.1:{redis_port}/0",
                PEER_SUBSCRIBER_URL=outside.url,
                PEER_SECRET=secret,
                PEER_QUEUE=queue,
            )
            if confirm:
                environment["PEER_PROVIDER_URL"] = f"http://127.0.0.1:{outside.provider}/query"
            with mock.patch.dict(os.environ, environment, clear=True):
                from tests.benchmarks.peers import service  # late: it reads its environment when it is loaded

            engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
            running.callback(engine.dispose)
            service.metadata.create_all(engine)
            web = [
                sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--worker-class", "gthread",
                "--threads", "16", "--no-control-socket", "tests.benchmarks.peers.service:create_app()",
            ]  # fmt: skip
            processes = [start(folder, "web", web, environment)]
            running.callback(stop, processes[0])
            for number, worker in enumerate(workers):
                processes.append(start(folder, f"worker-{number}", [sys.executable, "-m", *worker], environment))
                running.callback(stop, processes[-1])

            def prepare(numbers: Sequence[int]) -> list[bytes]:
                keys = [callbacks.key_of(number) for number in numbers]
                return [
                    callbacks.request_of(key, f"/callbacks/{service.TOKENS.sign(key).decode()}", port) for key in keys
                ]

            def delivered() -> int:
                good = service.attempts.c.response_status.between(200, 299)
                with engine.connect() as connection:
                    return int(
                        connection.execute(select(func.count()).select_from(service.attempts).where(good)).scalar_one()
                    )

            wait_for_port(port)
            time.sleep(3.0)  # the workers, too
            yield System(
                f"{name}, {kind}", port, secret, [each.pid for each in processes] + [redis_pid, *roots],
                folder, prepare, delivered,
            )  # fmt: skip

    return launch


_CELERY = ("celery", "--app", "tests.benchmarks.peers.celery_worker", "worker")
CELERY_PREFORK = "Celery, 2 processes"
CELERY_THREADS = "Celery, 8 threads"
RQ = "RQ, 2 SimpleWorkers"
HUEY = "Huey, 8 threads"
PEERS: dict[str, Launch] = {
    CELERY_PREFORK: peer(CELERY_PREFORK, "celery", [(*_CELERY, "--pool", "prefork", "--concurrency", "2")]),
    CELERY_THREADS: peer(CELERY_THREADS, "celery", [(*_CELERY, "--pool", "threads", "--concurrency", "8")]),
    RQ: peer(RQ, "rq", [("tests.benchmarks.peers.rq_worker",)] * 2),
    HUEY: peer(HUEY, "huey", [("huey.bin.huey_consumer", "tests.benchmarks.peers.huey_worker.huey", "-w", "8")]),
}
OURS = "ours"
SYSTEMS: dict[str, Launch] = {OURS: ours, **PEERS}
