"""Whom the deliver lane gives its seats to, from one turn to the next."""

from __future__ import annotations

from receiver.worker.deliver_lane import RESERVED, TROUBLED, DeliverLane
from tests.core.stage import HOOK, Stage, answered
from tests.worker.test_memory import Waiting


def lane_of(stage: Stage, seats: int) -> tuple[DeliverLane, Waiting]:
    """A lane with so many seats, and its courier."""
    lane, courier = DeliverLane(stage.runtime, "w"), Waiting()
    lane._courier, lane.seats = courier, seats  # type: ignore[assignment]
    return lane, courier


def test_failing_subscribers_never_have_more_than_their_share(stage: Stage) -> None:
    """However many turns they come in; a seat that one of them leaves goes to the next of them."""
    failing = [stage.subscribe(f"{HOOK}/{number}") for number in range(6)]
    for one in failing:
        stage.ping(one)
    stage.attempt(500)
    for one in failing:
        stage.ping(one)
    lane, courier = lane_of(stage, 8)
    assert lane.make_round()
    assert len(courier.sent) == 8 // TROUBLED
    lane.look_again()
    assert not lane.make_round()
    courier.sent[0][1](answered(500), None)
    assert lane.make_round()
    assert len(courier.sent) == 8 // TROUBLED + 1


def test_a_backlog_leaves_some_seats_free(stage: Stage) -> None:
    """Whoever has nothing in flight finds one."""
    busy = stage.subscribe(HOOK)
    for _ in range(8):
        stage.ping(busy)
    lane, courier = lane_of(stage, 8)
    assert lane.make_round()
    assert len(courier.sent) == 8 - 8 // RESERVED
    stage.ping(stage.subscribe(f"{HOOK}/new"))
    lane.look_again()
    assert lane.make_round()
    assert courier.sent[-1][0].url == f"{HOOK}/new"
