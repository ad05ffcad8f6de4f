"""Callers and subscribers of a plant: many tasks of every provider, and webhooks that are steady, or not."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import requests

from tests.crash.plant import Plant
from tests.model.ledger import Ledger
from tests.story.samples import ALL, Sample
from tests.subscriber import Received, Subscriber, Talk

DEADLINE = 25
"""Seconds that each task gets: what was lost between claim and call ends after them."""
MAGIC = (
    (),
    (),
    (),
    ("duplicate-callbacks=2",),
    ("early-callback",),
    ("drop",),
    ("query-http=502*1",),
    ("no-callback",),
)
PAUSE = 0.12
MOST_QUEUED = 10


@dataclass
class Order:
    """One task that a caller wants, and what it was told. ``ids``: the tasks that answers named."""

    key: str
    sample: Sample
    magic: tuple[str, ...]
    ids: set[str] = field(default_factory=set)


class Callers:
    """Threads that submit with idempotency keys, and ask again until they are answered, as callers should."""

    def __init__(self, plant: Plant, seed: int, threads: int = 3, magic: Sequence[tuple[str, ...]] = MAGIC) -> None:
        """``magic``: the sandbox's words, one of these for each task."""
        self._plant = plant
        self._magic = magic
        self._stop = threading.Event()
        self.orders: list[Order] = []
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._submit_all, args=(random.Random(seed + number), number))
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Order nothing more; ends when everything that was ordered has been answered."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a caller was never answered"

    def _submit_all(self, dice: random.Random, number: int) -> None:
        count = 0
        ledger = Ledger(self._plant.database)
        while not self._stop.wait(PAUSE):
            if ledger.rows("SELECT count(*) AS n FROM tasks WHERE status = 'queued'")[0]["n"] > MOST_QUEUED:
                continue  # so that even a slow machine, killed every second, gets everything done in time
            order = Order(f"{number}-{count}", dice.choice(ALL), dice.choice(self._magic))
            with self._lock:
                self.orders.append(order)
            self._submit(order)
            if dice.random() < 0.2:
                self._submit(order)  # a caller that did not believe the first answer
            count += 1
        ledger.close()

    def _submit(self, order: Order) -> None:
        body = {
            "provider": order.sample.provider,
            "operation": order.sample.operation,
            "input": order.sample.given(f"key={order.key}", *order.magic),
            "deadline": DEADLINE,
        }
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(requests.RequestException):
                answer = self._plant.api("POST", "/v1/tasks", json=body, headers={"Idempotency-Key": order.key})
                if answer.status_code == 202:
                    order.ids.add(answer.json()["id"])
                    return
                assert answer.status_code in (409, 429, 503), f"{answer.status_code} {answer.text}"
            time.sleep(0.1)


class Hook:
    """A webhook of somebody: fails now and then when ``flaky``, and can be made to act in the midst of a request."""

    def __init__(self, seed: int, *, flaky: bool) -> None:
        self._dice = random.Random(seed)
        self._flaky = flaky
        self._lock = threading.Lock()
        self._failed_in_a_row = 0
        self._trap: Callable[[], None] | None = None
        self.sprung = threading.Event()
        self.taken: dict[str, list[Received]] = {}
        self.doubted: list[Received] = []
        """Badly signed. Judged on arrival, since a signature is good for a few minutes only."""
        self.subscriber = Subscriber(self._behave)
        self.url = self.subscriber.url
        self.secret = ""

    def set_trap(self, trap: Callable[[], None]) -> None:
        """When the next request has been read, do this before it is answered."""
        with self._lock:
            self.sprung.clear()
            self._trap = trap

    def ends_of(self) -> dict[str, set[str]]:
        """The ids of the final events that were answered with 2xx, by task."""
        found: dict[str, set[str]] = {}
        with self._lock:
            for event_id, requests_of in self.taken.items():
                said = json.loads(requests_of[0].body)
                if said["type"] not in ("task.running", "task.progress"):
                    found.setdefault(said["data"]["id"], set()).add(event_id)
        return found

    def _behave(self, talk: Talk) -> None:
        received = talk.read()
        if received is None:
            return
        with self._lock:
            trap, self._trap = self._trap, None
            status = self._next_status()
        if trap is not None:
            trap()
            self.sprung.set()
        if status is None:
            talk.reset()
            return
        if 200 <= status < 300:
            with self._lock:
                self.taken.setdefault(received.header("webhook-id") or "", []).append(received)
                if not received.is_verified_by(self.secret):
                    self.doubted.append(received)
        talk.send(f"HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())

    def _next_status(self) -> int | None:
        """Mostly 200; never so many failures in a row that the circuit opens and holds everything up."""
        if not self._flaky or self._failed_in_a_row == 2 or self._dice.random() < 0.7:
            self._failed_in_a_row = 0
            return 200
        self._failed_in_a_row += 1
        return self._dice.choice([500, 503, None])
