"""The service with a worker of flesh and blood: real threads, real sockets on loopback, the clock on the wall."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from receiver.models import Attempt, Delivery, DeliveryStatus
from receiver.runtime import wall_clock
from receiver.worker.worker import Worker
from tests.core.stage import Stage, settings_in
from tests.databases import Template

PATIENCE = 20.0


class Plant(Stage):
    """A stage whose deliveries are attempted by a worker that runs beside the test."""

    def __init__(self, folder: Path, **variables: str) -> None:
        """``folder``: with a prepared database. ``variables``: of the environment."""
        super().__init__(settings_in(folder, **variables), wall_clock)  # type: ignore[arg-type]  # only called
        self.worker = Worker(self.runtime)

    def outcome(self, delivery: Delivery) -> tuple[Delivery, Attempt]:
        """A delivery and its only attempt, once it has ended."""
        self.until(lambda: self.delivery(delivery).status is not DeliveryStatus.PENDING)
        ended, attempts = self.runtime.deliveries.get(self.account, delivery.id)
        (attempt,) = attempts
        return ended, attempt

    def attempted(self, delivery: Delivery, times: int = 1) -> tuple[Delivery, list[Attempt]]:
        """A delivery and its attempts, once there are so many."""
        self.until(lambda: self.delivery(delivery).attempts >= times)
        found, attempts = self.runtime.deliveries.get(self.account, delivery.id)
        return found, list(attempts)

    def until(self, true: Callable[[], Any], seconds: float = PATIENCE) -> None:
        """Wait until something is true."""
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, f"not true within {seconds:g} s"
            time.sleep(0.01)


@contextlib.contextmanager
def working(folder: Path, template: Template, *, start: bool = True, **variables: str) -> Iterator[Plant]:
    """A plant with its own copy of a prepared database. ``start``: whether its worker works at once."""
    with template.copy(folder) as url, _working(Plant(folder, RECEIVER_DATABASE_URL=url, **variables), start) as plant:
        yield plant


@contextlib.contextmanager
def _working(plant: Plant, start: bool) -> Iterator[Plant]:
    try:
        if start:
            plant.worker.start()
        yield plant
    finally:
        if start or plant.worker.lanes[0]._thread.is_alive():
            assert plant.worker.stop(PATIENCE), "a seat never came back"
        plant.runtime.close()


@pytest.fixture
def plant(tmp_path: Path, migrated: Template, toy: None) -> Iterator[Plant]:
    """One attempt of three seconds for each delivery: time enough, on a busy machine, for an answer that does come."""
    with working(tmp_path, migrated, RECEIVER_RETRY_SCHEDULE="none", RECEIVER_DELIVERY_TIMEOUT="3") as made:
        yield made
