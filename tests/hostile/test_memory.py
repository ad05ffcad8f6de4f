"""A worker of its own, and hundreds of answers that are too large: its memory stays as it was."""

from __future__ import annotations

import gzip
import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from receiver.models import DeliveryStatus
from tests.core.stage import ONE_KEY
from tests.databases import Template
from tests.hostile.plant import Plant
from tests.story.system import ROOT, Process
from tests.subscriber import Behaviour, Subscriber, answer, drip_body, huge_body, informational_flood, pour

pytestmark = pytest.mark.process

MEGABYTE = 1024 * 1024
BOMB = gzip.compress(b"\0" * 50_000_000)
ENDLESS: tuple[Behaviour, ...] = (
    huge_body(),
    pour(b"x" * 65536, b"HTTP/1.1 500 No\r\nContent-Length: 10737418240\r\n\r\n"),
    pour(b"1000\r\n" + b"x" * 4096 + b"\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    pour(b"f" * 65536, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    pour(b"X: yyyyyyyyyyyyyyyyyyyyyy\r\n", b"HTTP/1.1 200 OK\r\n"),
    pour(b"y" * 65536, b"HTTP/1.1 200 OK\r\nX: "),
    pour(b"y" * 65536),
    informational_flood(103),
    answer(200, {"Content-Encoding": "gzip"}, BOMB),
    drip_body(),
)


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    told = Path(f"/proc/{pid}/statm")
    if told.exists():
        return int(told.read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    shown = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True)
    return int(shown.stdout) * 1024  # other systems than Linux


def test_memory_stays_flat(tmp_path: Path, migrated: Template, toy: None) -> None:
    """200 attempts at bodies of 10 GB, bombs and floods: less than 30 MB more than before, and every one is judged."""
    with migrated.copy(tmp_path) as url:
        _attempt_endless_bodies(tmp_path, url)


def _attempt_endless_bodies(tmp_path: Path, url: str) -> None:
    plant = Plant(tmp_path, RECEIVER_DATABASE_URL=url)
    outside = {name: value for name, value in os.environ.items() if not name.startswith("RECEIVER_")}
    environment = {
        **outside,
        "PYTHONPATH": str(ROOT),
        "RECEIVER_DATABASE_URL": url,
        "RECEIVER_SECRET_KEYS": ONE_KEY,
        "RECEIVER_ALLOWED_NETWORKS": "127.0.0.0/8",
        "RECEIVER_RETRY_SCHEDULE": "none",
        "RECEIVER_DELIVERY_TIMEOUT": "1",
    }
    with ExitStack() as stack:
        servers = [stack.enter_context(Subscriber(behaviour)) for behaviour in ENDLESS]
        worker = Process(tmp_path, "worker", "worker", environment=environment)
        try:

            def attempts(each: int) -> None:
                """So many attempts at each of them, every one by a subscriber of its own: no circuit opens."""
                sent = [
                    plant.ping(plant.subscribe(f"{server.origin}/{number}", "subscriber.ping"))
                    for server in servers
                    for number in range(each)
                ]
                for delivery in sent:
                    ended, attempt = plant.outcome(delivery)
                    assert ended.status is not DeliveryStatus.PENDING
                    assert attempt.duration_ms < 15_000  # a timeout of 1 s, and a machine that may stand still

            attempts(3)
            before = resident(worker.popen.pid)
            attempts(20)
            grown = resident(worker.popen.pid) - before
            assert grown < 30 * MEGABYTE, f"{grown / MEGABYTE:.1f} MB more"
        finally:
            assert worker.stop() == 0
            plant.runtime.close()
