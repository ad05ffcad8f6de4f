"""What subscribers that hang cost the others: at most their share of the seats, and nothing for long."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from receiver import dialling
from receiver.config import read_settings
from receiver.models import DeliveryStatus
from receiver.store.subscribers import note_served
from receiver.worker.deliver_lane import TROUBLED
from tests.core.stage import HOOK, Stage
from tests.databases import Template
from tests.hostile.plant import working
from tests.store.test_claims import claim, shares, waiting
from tests.subscriber import Subscriber, Talk, answer

SEATS = {
    "RECEIVER_DELIVERY_CONCURRENCY": "32",
    "RECEIVER_SUBSCRIBER_CONCURRENCY": "8",
    "RECEIVER_DELIVERY_TIMEOUT": "60",  # what hangs does so until the test is over
    "RECEIVER_LEASE": "90",
}


class Hanging:
    """A behaviour that takes requests and never answers, and knows how many hang at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = 0
        self.most = 0

    def __call__(self, talk: Talk) -> None:
        talk.read()
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        talk.sock.settimeout(0.05)
        while talk.wait(0):  # until the worker gives up, or the test is over
            try:
                talk.sock.recv(1)
            except TimeoutError:
                continue
            except OSError:
                break
            break
        with self._lock:
            self.now -= 1


def test_one_that_hangs_beside_twenty_that_do_not(tmp_path: Path, migrated: Template, toy: None) -> None:
    """Its backlog holds its own eight seats; all the others are served before its first attempt has ended."""
    hanging = Hanging()
    with (
        working(tmp_path, migrated, start=False, **SEATS) as plant,
        Subscriber(hanging) as dead,
        Subscriber(answer(200)) as alive,
    ):
        stuck = plant.subscribe(dead.url, "task.*", "subscriber.ping")
        waiting = [plant.ping(stuck) for _ in range(100)]
        healthy = [plant.subscribe(f"{alive.origin}/{number}", "subscriber.ping") for number in range(20)]
        plant.worker.start()
        plant.until(lambda: hanging.now == 8)
        for _ in range(5):
            for subscriber in healthy:
                plant.ping(subscriber)
        alive.wait_for(100, 40)
        assert hanging.most == 8
        served = [request.target for request in alive.requests if request.header("webhook-id")]
        assert sorted(served) == sorted([f"/{number}" for number in range(20)] * 5), "each once, none lost"
        lost = [one for one in waiting if plant.delivery(one).status is not DeliveryStatus.PENDING]
        assert lost == []


def test_many_newcomers_that_hang_leave_seats_for_others(tmp_path: Path, migrated: Template, toy: None) -> None:
    """Twelve subscribers that hang with a backlog each: a quarter of the seats stays free, from the first look on."""
    hanging = Hanging()
    with (
        working(tmp_path, migrated, start=False, **SEATS) as plant,
        Subscriber(hanging) as dead,
        Subscriber(answer(200)) as alive,
    ):
        for number in range(12):
            stuck = plant.subscribe(f"{dead.origin}/{number}", "subscriber.ping")
            for _ in range(6):
                plant.ping(stuck)
        plant.worker.start()
        plant.until(lambda: hanging.now == 24)
        for number in range(20):
            plant.ping(plant.subscribe(f"{alive.origin}/{number}", "subscriber.ping"))
        alive.wait_for(20, 40)  # not one attempt that hangs had to end first
        assert hanging.most == 24


def test_however_many_hang_at_once_who_is_known_to_answer_is_served(
    tmp_path: Path, migrated: Template, toy: None
) -> None:
    """More newcomers than there are seats, none of which ever answers: one seat in eight is not theirs."""
    hanging = Hanging()
    with (
        working(tmp_path, migrated, **SEATS) as plant,
        Subscriber(hanging) as dead,
        Subscriber(answer(200)) as alive,
    ):
        known = plant.subscribe(alive.url, "subscriber.ping")
        plant.outcome(plant.ping(known))
        for number in range(60):
            plant.ping(plant.subscribe(f"{dead.origin}/{number}", "subscriber.ping"))
        plant.until(lambda: hanging.now == 28)
        for _ in range(20):
            plant.ping(known)
        alive.wait_for(21, 40)  # not one attempt that hangs had to end first
        assert hanging.most == 28


def test_names_that_hang_leave_room_for_those_that_a_new_worker_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a restart, too: as many look-ups as failing subscribers have seats, and another name is looked up."""
    released = threading.Event()
    monkeypatch.setattr(dialling, "_look_up", lambda *_: released.wait(20) and [])
    seats = read_settings().delivery_concurrency // TROUBLED
    begun = [dialling._join_look_up(f"slow{number}.example", 443, Future()) for number in range(seats + 1)]
    released.set()
    assert [lookup and lookup.result(20) for lookup in begun] == [[]] * (seats + 1)


def test_failing_subscribers_share_half_of_the_seats(stage: Stage) -> None:
    """However many there are: the other half is for those whose last attempt went well."""
    failing = [stage.subscribe(HOOK) for _ in range(10)]
    for subscriber in failing:
        stage.ping(subscriber)
    stage.attempt(500)
    for subscriber in failing:
        for _ in range(8):
            stage.ping(subscriber)
    claims: list[Any] = list(stage.runtime.deliveries.turn((), 32, reserved=8, troubled=16).claims)
    assert len(claims) == 16
    assert len({claim.subscriber.id for claim in claims}) == 10, "and they take turns"
    healthy = stage.subscribe(HOOK)
    for _ in range(20):
        stage.ping(healthy)
    claims = list(stage.runtime.deliveries.turn((), 16, reserved=8, troubled=0).claims)
    assert {claim.subscriber.id for claim in claims} == {healthy.id}
    assert len(claims) == 8


def test_reserved_seats_are_for_first_attempts(stage: Stage) -> None:
    """A backlog stops where the reserve begins; who has nothing in flight still gets one seat, and only one."""
    busy, newcomer = stage.subscribe(HOOK), stage.subscribe(HOOK)
    for _ in range(20):
        stage.ping(busy)
    assert len(stage.runtime.deliveries.turn((), 10, reserved=4).claims) == 6
    for _ in range(3):
        stage.ping(newcomer)
    claims = stage.runtime.deliveries.turn((), 4, reserved=4).claims
    assert [claim.subscriber.id for claim in claims] == [newcomer.id]
    assert stage.runtime.deliveries.turn((), 3, reserved=4).claims == ()


def test_the_reserve_goes_to_others_than_the_turn(stage: Stage) -> None:
    """Whoever got a seat in turn gets none of the rest, nor the same delivery twice; and no seat is given twice."""
    for _ in range(8):
        waiting(stage, 3)
    assert len(claim(stage, 8)) == 8
    stage.clock.pass_by(1)
    first, *later = (waiting(stage, 1) for _ in range(6))
    with stage.runtime.store.write() as connection:
        note_served(connection, [one.id for one in later], stage.clock())
    got = shares(stage.runtime.deliveries.turn((), 4, reserved=2).claims)
    assert (len(got), set(got.values())) == (4, {1})
    assert len(got.keys() & {first.id, *(one.id for one in later)}) == 3
