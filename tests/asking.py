"""What the lane query does with the polling service, a step at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from handlers import TaskUpdate
from receiver.models import Task
from receiver.polling import Answer, PollingService


def claim(polling: PollingService, provider: str, room: int) -> Sequence[tuple[int, Sequence[Task]]]:
    """Up to ``room`` batches that are due, each with its starting time (ms)."""
    return polling.turn(provider, (), room).batches


def answered(polling: PollingService, batch: Sequence[Task], updates: Mapping[str, TaskUpdate]) -> None:
    """The provider's answer for a batch, by a task's id. Raises Busy."""
    polling.turn(batch[0].provider, [Answer(batch, updates)], 0)


def failed(polling: PollingService, batch: Sequence[Task], why: str, pause: float | None) -> None:
    """The call failed. ``pause``: asked for by the provider, in seconds. Raises Busy."""
    polling.turn(batch[0].provider, [Answer(batch, {}, why, pause or 0.0)], 0)
