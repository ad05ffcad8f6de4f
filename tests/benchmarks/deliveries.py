"""What one delivery costs beside a bare POST, and how many slow subscribers one worker serves at once.

    python -m tests.benchmarks.deliveries [--quick] [--count 5000] [--rounds 5] [--seconds 20]

The first: processor time of making a signed request from a claim, sending it, reading the answer and judging it,
as the worker does, beside ``http.client`` that posts the same bytes over one connection that it keeps. Both talk
to the same subscriber, a process of its own that is not counted; rounds are interleaved.

The second: a worker process with 500 seats, and subscribers that answer after two seconds. Ideal are 250 deliveries
a second; counted is what was written down as delivered, and the worker's memory (PSS).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from ipaddress import ip_network
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from random import random

from sqlalchemy import text

from receiver import lifecycle
from receiver.addresses import AddressPolicy
from receiver.courier import Courier
from receiver.lifecycle import Result
from receiver.models import DeliveryStatus, EventType
from receiver.outbound import OutboundResult
from receiver.runtime import wall_clock
from receiver.store.claiming import Claim
from receiver.store.settling import publish
from tests.benchmarks.processes import megabytes
from tests.benchmarks.tables import goal, show
from tests.core.stage import ONE_KEY, Stage, settings_in
from tests.story.system import ROOT, Process
from tests.toy import visible

BODY = '{"type":"task.succeeded","timestamp":"2026-01-01T00:00:00.000Z","data":{"filler":"' + "x" * 900 + '"}}'
TIMES = 1.5
SEATS, SLOW, SUBSCRIBERS = 500, 2.0, 20
IDEAL = SEATS / SLOW
AT_ONCE = 32
"""Attempts in flight in the first measurement."""


class _Taker(asyncio.Protocol):
    """Takes every POST, and answers after a while."""

    def __init__(self, wait: float) -> None:
        self._wait = wait
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            lines = self._held[:end].lower().split(b"\r\n")
            size = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
            if len(self._held) < end + 4 + size:
                return
            self._held = self._held[end + 4 + size :]
            asyncio.get_running_loop().call_later(self._wait, self._answer)

    def _answer(self) -> None:
        said = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        if isinstance(self._transport, asyncio.Transport) and not self._transport.is_closing():
            self._transport.write(said)


def _take(wait: float, tell: Connection) -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(partial(_Taker, wait), "127.0.0.1", 0, backlog=1000)
        tell.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


@contextlib.contextmanager
def taker(wait: float) -> Iterator[int]:
    """The port of a subscriber that answers after so many seconds."""
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_take, args=(wait, theirs), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.kill()
        process.join()
        ours.close()
        theirs.close()


def bare(port: int, claim: Claim, stage: Stage, count: int) -> float:
    """Microseconds of one POST with ``http.client``, of the same bytes, over one connection."""
    request = stage.runtime.deliveries.request_of(claim)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.connect()
    began = time.process_time()
    for _ in range(count):
        connection.request("POST", "/hook", request.body, dict(request.headers))
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
    spent = time.process_time() - began
    connection.close()
    return 1e6 * spent / count


def ours(claim: Claim, stage: Stage, count: int) -> float:
    """Microseconds of one delivery: signed, sent, its answer read and judged."""
    courier = Courier("courier", AddressPolicy((ip_network("127.0.0.0/8"),)))
    came: deque[OutboundResult | None] = deque()
    news = threading.Event()

    def done(result: OutboundResult | None, _: BaseException | None) -> None:
        came.append(result)
        news.set()

    sent = ended = 0
    began = time.process_time()
    while ended < count:
        while sent < count and sent - ended < AT_ONCE:
            courier.send(stage.runtime.deliveries.request_of(claim), done)
            sent += 1
        news.wait()
        news.clear()
        while came:
            result = came.popleft()
            assert result is not None
            judged = lifecycle.judge_attempt(
                replace(claim.delivery, attempts=1), Result(result.status, result.error, None), (5.0,),
                failures=0, failing_since=None, disable_after=1000, now=wall_clock(), chance=random(),
            )  # fmt: skip
            assert judged.status is DeliveryStatus.DELIVERED
            ended += 1
    spent = time.process_time() - began
    courier.close()
    return 1e6 * spent / count


def one_delivery(count: int, rounds: int) -> list[str]:
    """The first measurement."""
    found: dict[str, list[float]] = {"bare": [], "ours": []}
    with tempfile.TemporaryDirectory() as folder, taker(0) as port, visible():
        stage = Stage(settings_in(Path(folder)), wall_clock)  # type: ignore[arg-type]  # only called
        subscriber = stage.subscribe(f"http://127.0.0.1:{port}/hook")
        with stage.runtime.store.write() as connection:
            publish(connection, stage.account, EventType.TASK_SUCCEEDED, BODY, [subscriber], wall_clock())
        (claim,) = stage.runtime.deliveries.turn((), 1).claims
        for number in range(rounds + 1):
            measured = {"bare": bare(port, claim, stage, count), "ours": ours(claim, stage, count)}
            if number:  # the first is to warm up
                for name, figure in measured.items():
                    found[name].append(figure)
        stage.runtime.close()
    plain, whole = statistics.median(found["bare"]), statistics.median(found["ours"])
    ratio = statistics.median(mine / theirs for mine, theirs in zip(found["ours"], found["bare"], strict=True))
    lines = show(
        ["one delivery", "µs of processor"],
        [["http.client, one connection kept", f"{plain:.0f}"], ["signed, sent, judged", f"{whole:.0f}"]],
    )
    return lines + goal(
        "CPU of one delivery (sign, send, judge) beside a bare http.client POST",
        f"at most {TIMES} times",
        f"{ratio:.2f} times",
        ratio <= TIMES,
    )


def slow_ones(seconds: float) -> tuple[list[str], bool]:
    """The second measurement, and whether every delivery was made."""
    with tempfile.TemporaryDirectory() as folder, taker(SLOW) as port, visible():
        stage = Stage(settings_in(Path(folder)), wall_clock)  # type: ignore[arg-type]  # only called
        subscribers = [stage.subscribe(f"http://127.0.0.1:{port}/{number}") for number in range(SUBSCRIBERS)]
        count = round(IDEAL * seconds)
        now = wall_clock()
        with stage.runtime.store.write() as connection:
            for number in range(count):
                to = [subscribers[number % SUBSCRIBERS]]
                publish(connection, stage.account, EventType.TASK_SUCCEEDED, BODY, to, now)
        outside = {name: value for name, value in os.environ.items() if not name.startswith("RECEIVER_")}
        environment = {
            **outside,
            "PYTHONPATH": str(ROOT),
            "RECEIVER_DATABASE_URL": stage.settings.database_url,
            "RECEIVER_SECRET_KEYS": ONE_KEY,
            "RECEIVER_ALLOWED_NETWORKS": "127.0.0.0/8",
            "RECEIVER_DELIVERY_CONCURRENCY": str(SEATS * 4 // 3),  # a quarter is kept for those with nothing in flight
            "RECEIVER_SUBSCRIBER_CONCURRENCY": str(SEATS // SUBSCRIBERS),
        }
        worker = Process(Path(folder), "worker", "worker", environment=environment)
        try:
            made, memory, took = _watch(stage, worker.popen.pid, count, seconds)
        finally:
            worker.popen.kill()
            worker.popen.wait()
            stage.runtime.close()
    rate = made / took
    figures = [[f"{SEATS}, each for {SLOW:g} s", f"{rate:.0f}", f"{rate / IDEAL:.0%}", f"{memory:.0f}"]]
    lines = show(["in flight", "deliveries/s", "of the ideal", "MB"], figures)
    return lines + goal(
        f"{SEATS} deliveries in flight to subscribers that take {SLOW:g} s, one worker",
        f"at least 90% of {IDEAL:g}/s, under 120 MB",
        f"{rate / IDEAL:.0%}, {memory:.0f} MB",
        rate >= 0.9 * IDEAL and memory < 120,
    ), made > 0


def _watch(stage: Stage, worker: int, count: int, seconds: float) -> tuple[int, float, float]:
    """Deliveries made between the first answers and the last but one round of them, most memory, and the time."""
    query = text("SELECT count(*) FROM deliveries WHERE status = 'delivered'")

    def delivered() -> int:
        with stage.runtime.store.read() as connection:
            return int(connection.execute(query).scalar_one())

    patience = time.monotonic() + 30 + 3 * seconds
    while (first := delivered()) == 0 and time.monotonic() < patience:
        time.sleep(0.01)
    began, memory = time.monotonic(), 0.0
    # As long as there is enough to fill every seat; the first SEATS came at once.
    while (last := delivered()) < count - SEATS and time.monotonic() < patience:
        memory = max(memory, megabytes([worker]))
        time.sleep(0.2)
    return last - first, memory, time.monotonic() - began + SLOW


def main() -> int:
    """Measure, and print tables and goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0, help="of slow deliveries")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    count, rounds, seconds = (1000, 3, 8.0) if options.quick else (options.count, options.rounds, options.seconds)
    lines = one_delivery(count, rounds)
    slow, complete = slow_ones(seconds)
    sys.stdout.write("\n".join([*lines, "", *slow]) + "\n")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
