"""A worker as a process of its own."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from receiver.models import DeliveryStatus, TaskStatus
from receiver.runtime import wall_clock
from receiver.worker import worker
from tests.core.stage import ONE_KEY, Stage
from tests.handlers.fake_provider import FakeProvider, Request, json_answer
from tests.subscriber import Subscriber as HttpSubscriber
from tests.subscriber import answer, hang
from tests.toy import KEY, SECRET
from tests.worker.conftest import until

ROOT = Path(__file__).parents[2]
CODE = """
from tests.toy import visible
from receiver.config import read_settings
from receiver.worker import serve, worker
worker.BACKSTOP = 30.0
with visible():
    serve(read_settings())
"""


def started(stage: Stage, **more: str) -> subprocess.Popen[bytes]:
    """A worker of this stage in a process of its own."""
    variables = {
        "RECEIVER_DATABASE_URL": stage.settings.database_url,
        "RECEIVER_SECRET_KEYS": ONE_KEY,
        "TOY_KEY": KEY,
        "TOY_SECRET": SECRET,
        **more,
    }
    return subprocess.Popen([sys.executable, "-c", CODE], cwd=ROOT, env={**os.environ, **variables})


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_process_wakes_quickly_and_stops_cleanly(build: Any, number: signal.Signals) -> None:
    """Woken across processes, or it would sleep for half a minute; a signal ends it with code 0 after its calls."""
    stage: Stage = build(at=wall_clock)
    came: list[int] = []

    def behave(request: Request) -> Any:
        came.append(wall_clock())
        return json_answer({"id": "job-1"})

    with FakeProvider() as provider:
        provider.answer(behave)
        process = started(stage, TOY_BASE_URL=provider.url)
        try:
            until(lambda: stage.runtime.sweeping.last_beat() is not None, 30)
            for count in (1, 2, 3):
                task = stage.create()
                until(lambda task=task: stage.task(task).status is TaskStatus.RUNNING)
                assert len(came) == count
            process.send_signal(number)
            assert process.wait(20) == 0
            assert stage.runtime.sweeping.last_beat() is None
        finally:
            process.kill()
            process.wait()


@pytest.mark.process
def test_a_worker_that_is_killed_is_followed_at_once(build: Any) -> None:
    """All seats of a busy subscriber are taken when it dies: the next worker delivers long before the lease ends."""
    settings = {"RECEIVER_ALLOWED_NETWORKS": "127.0.0.0/8", "RECEIVER_ALLOW_HTTP": "true", "RECEIVER_LEASE": "3600"}
    stage: Stage = build(at=wall_clock, **settings)
    with HttpSubscriber(*[hang] * 32, answer(200)) as subscriber:
        registered = stage.subscribe(subscriber.url, "subscriber.ping")
        pings = [stage.ping(registered) for _ in range(40)]
        process = started(stage, **settings)
        try:
            subscriber.wait_for(32, 30)
        finally:
            process.kill()
            process.wait()
        process = started(stage, **settings)
        try:
            delivered = DeliveryStatus.DELIVERED
            until(lambda: all(stage.delivery(ping).status is delivered for ping in pings), 60)
        finally:
            process.kill()
            process.wait()
    assert len(subscriber.requests) == 32 + 40


AT_REST = """
import gc
from receiver.config import read_settings
from receiver.worker import serve, worker
worker.wait_for = lambda asked: print("looked through", len(gc.get_objects()), "spared", gc.get_freeze_count())
serve(read_settings())
"""


@pytest.mark.process
def test_what_a_worker_starts_with_is_not_looked_through_for_garbage(build: Any) -> None:
    """Going through all modules each time would stop every delivery for 25 ms and more, every few thousand of them."""
    with subprocess.Popen(
        [sys.executable, "-c", AT_REST],
        cwd=ROOT,
        env={**os.environ, "RECEIVER_DATABASE_URL": build().settings.database_url, "RECEIVER_SECRET_KEYS": ONE_KEY},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        said, _ = process.communicate(timeout=30)
    found = re.search(r"looked through (\d+) spared (\d+)", said)
    assert found is not None
    assert int(found[2]) > 10 * int(found[1])


ANY_TIME = """
import signal, threading, time
from receiver.worker.worker import signals_to_stop, wait_for

asked = signals_to_stop()
signal.raise_signal(signal.SIGTERM)
wait_for(asked)

def later(seconds):
    time.sleep(seconds)
    signal.raise_signal(signal.SIGTERM)

for number in range(50):
    threading.Thread(target=later, args=(number * 0.0002,)).start()
    wait_for(asked)
"""


@pytest.mark.process
def test_a_signal_ends_the_wait_whenever_it_comes() -> None:
    """Before the wait or at any moment of it, and whichever thread gets it: no worker has to be killed for that."""
    assert subprocess.run([sys.executable, "-c", ANY_TIME], cwd=ROOT, timeout=30, check=False).returncode == 0


def test_a_worker_may_open_more_files_than_is_usual() -> None:
    """Where the system allows it, no attempt fails because many others, and idle connections, are open."""
    said = """
import resource
from receiver.worker import worker
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
for usual in (64, 100):
    resource.setrlimit(resource.RLIMIT_NOFILE, (usual, most))
    worker._open_more_files()
    print(*resource.getrlimit(resource.RLIMIT_NOFILE))
    most = 100
"""
    done = subprocess.run([sys.executable, "-c", said], cwd=ROOT, capture_output=True, text=True, check=True)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = worker.FILES if most == resource.RLIM_INFINITY else min(worker.FILES, most)
    assert done.stdout.split() == [str(wanted), str(most), "100", "100"]
