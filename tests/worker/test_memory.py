"""What a worker holds in its memory of the deliveries under way."""

from __future__ import annotations

from typing import Any

from receiver.outbound import OutboundRequest
from receiver.worker.deliver_lane import DeliverLane
from tests.core.stage import HOOK, Stage, answered


class Waiting:
    """A courier whose subscribers do not answer before they are told to."""

    def __init__(self) -> None:
        self.sent: list[tuple[OutboundRequest, Any]] = []

    def send(self, request: OutboundRequest, end: Any) -> None:
        """Keep it."""
        self.sent.append((request, end))


def test_an_event_is_there_once_however_many_turns_it_is_claimed_in(stage: Stage) -> None:
    """A thousand subscribers come by a few at a time, as seats become free: a large event is not there for each."""
    for number in range(5):
        stage.subscribe(f"{HOOK}/{number}")
    stage.running()
    lane, courier = DeliverLane(stage.runtime, "w"), Waiting()
    lane._courier, lane.seats = courier, 2  # type: ignore[assignment]
    for under_way in (2, 3, 4, 5):
        assert lane.make_round()
        assert len(courier.sent) == under_way
        bodies = [request.body for request, _ in courier.sent]
        assert all(body is bodies[0] for body in bodies)
        _, end = courier.sent[under_way - 2]
        end(answered(200), None)
    _, end = courier.sent[-1]
    end(answered(200), None)
    assert lane.make_round()
    assert not lane._bodies, "and once all have it, not at all"
