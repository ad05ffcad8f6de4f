"""Whom the deliver lane gives its seats to, from one turn to the next."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

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


def test_a_stop_claims_nothing_more(stage: Stage) -> None:
    """What is under way ends and is stored; what waits is left to whoever comes next."""
    busy = stage.subscribe(HOOK)
    delivery = stage.ping(busy)
    lane, courier = lane_of(stage, 8)
    assert lane.make_round()
    stage.ping(busy)
    lane.wake()
    lane.stop()
    courier.sent[0][1](answered(200), None)
    assert lane.make_round()
    assert stage.delivery(delivery).attempts == 1
    assert (len(courier.sent), lane.in_flight) == (1, 0)


def test_a_ring_is_worth_one_look(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second look, which takes the turn of whoever wants to write, is not made for it."""
    lane, _ = lane_of(stage, 8)
    turns = Mock(wraps=lane.turn)
    monkeypatch.setattr(lane, "turn", turns)
    lane.wake()
    for _ in range(3):
        assert not lane.make_round()
    assert turns.call_count == 1


def test_a_doubt_is_worth_one_look(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a ring may have been lost the database is asked; then what the last turn has told is enough again."""
    lane, _ = lane_of(stage, 8)
    looks = Mock(wraps=lane.first_due)
    monkeypatch.setattr(lane, "first_due", looks)
    lane.look_again()
    assert not lane.make_round()
    stage.ping(stage.subscribe())
    lane.wake()
    assert lane.make_round()
    assert not lane.make_round()
    assert looks.call_count == 1


def test_the_only_seat_serves_failing_subscribers_too(stage: Stage) -> None:
    """A share of half a seat is one."""
    failing = stage.subscribe(HOOK)
    stage.ping(failing)
    stage.attempt(500)
    stage.ping(failing)
    lane, courier = lane_of(stage, 1)
    assert lane.make_round()
    assert len(courier.sent) == 1
