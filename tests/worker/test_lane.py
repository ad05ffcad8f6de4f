"""A lane: looks when there is reason to, rests when there is none, and survives what goes wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from receiver import watching
from receiver.errors import Busy
from receiver.runtime import wall_clock
from receiver.worker import lane as lane_module
from receiver.worker.lane import Lane, persist
from receiver.worker.submit_lane import wait_until
from tests.worker.conftest import until


class Scripted(Lane):
    """A lane whose looks and times are given."""

    def __init__(self, look: Callable[[int], list[Callable[[], None]]], due: Callable[[], int | None], seats: int = 2):
        super().__init__("scripted", seats, wall_clock)
        self.looks = 0
        self._look, self._due = look, due

    def look(self, room: int) -> list[Callable[[], None]]:
        self.looks += 1
        return self._look(room)

    def next_look(self) -> int | None:
        return self._due()


Make = Callable[..., Scripted]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Starts lanes and stops them at the end."""
    monkeypatch.setattr(lane_module, "TROUBLE", 0.05)
    lanes: list[Scripted] = []

    def start(
        look: Callable[[int], list[Callable[[], None]]], due: Callable[[], int | None] = lambda: None, seats: int = 2
    ) -> Scripted:
        lanes.append(Scripted(look, due, seats))
        lanes[-1].start()
        return lanes[-1]

    yield start
    for found in lanes:
        found.stop()
        found.join()


def test_a_lane_sleeps_until_something_is_due(make: Make) -> None:
    """No look before its time, and one soon after it."""
    due = wall_clock() + 300
    seen: list[int] = []
    lane = make(lambda room: seen.append(wall_clock()) or [], lambda: due if len(seen) < 2 else None)
    until(lambda: lane.looks == 2)  # long before it would have looked by itself (IDLE)
    assert due <= seen[1]


def test_a_ring_makes_it_look_at_once(make: Make) -> None:
    """Also one that comes during a look: what it announced may have been missed."""
    going, go = threading.Event(), threading.Event()

    def look(room: int) -> list[Callable[[], None]]:
        going.set()
        go.wait(5)
        return []

    lane = make(look)
    going.wait(5)
    lane.wake()
    go.set()
    until(lambda: lane.looks == 2)  # long before it would have looked by itself (IDLE)


def test_work_that_is_due_but_cannot_be_claimed_is_no_reason_to_spin(make: Make) -> None:
    """A full cap: the looks become rarer and rarer, until a ring says that something has changed."""
    lane = make(lambda room: [], wall_clock)
    until(lambda: lane.looks >= 2)
    time.sleep(0.5)
    assert lane.looks <= 12
    before = lane.looks
    lane.wake()
    until(lambda: lane.looks > before)


def test_no_more_work_than_seats(make: Make) -> None:
    """The room that a look is given is what is free; an end frees it and causes a look."""
    free = threading.Semaphore(0)
    rooms: list[int] = []

    def look(room: int) -> list[Callable[[], None]]:
        rooms.append(room)
        return [lambda: free.acquire() and None] * min(room, 1)

    lane = make(look, wall_clock, seats=2)
    until(lambda: lane.in_flight == 2)
    time.sleep(0.05)
    assert rooms == [2, 1]
    free.release()
    until(lambda: len(rooms) >= 3)
    assert set(rooms[2:]) == {1}
    lane.stop()
    for _ in range(5):
        free.release()


@pytest.mark.parametrize("trouble", [Busy("the disk is full"), RuntimeError("a mistake")])
def test_a_look_that_fails_is_tried_again_after_a_rest(make: Make, trouble: Exception) -> None:
    """The lane lives on, and does not hammer a database that is in trouble."""
    lane: list[Scripted] = []

    def look(room: int) -> list[Callable[[], None]]:
        if lane and lane[0].looks < 4:
            raise trouble
        return []

    lane.append(make(look))
    lane[0].wake()
    began = time.monotonic()
    until(lambda: lane[0].looks >= 4)
    assert time.monotonic() - began >= 0.1


def test_the_end_of_an_outage_is_told(make: Make, logged: list[Any]) -> None:
    """Once, with how long it took: whoever reads the log sees when it was over."""

    def look(room: int) -> list[Callable[[], None]]:
        if lane.looks in (2, 3):
            raise Busy("the server is gone")
        return []

    lane = Scripted(look, wall_clock)
    lane.start()
    try:
        until(lambda: lane.looks >= 6)
    finally:
        lane.stop()
        lane.join()
    (back,) = [line for line in logged if line["event"] == "database back"]
    assert back["lane"] == "scripted"
    assert 0.1 <= back["away_s"] < 60


def test_work_that_fails_frees_its_seat(make: Make) -> None:
    """A mistake in one piece of work costs that piece, nothing else."""
    left = [1, 2, 3, 4, 5]

    def fail() -> None:
        raise RuntimeError("a mistake")

    def look(room: int) -> list[Callable[[], None]]:
        return [fail] if left and left.pop() else []

    lane = make(look, wall_clock, seats=1)
    until(lambda: not left and lane.in_flight == 0)


def test_a_database_that_is_away_does_not_fill_the_log(
    make: Make, logged: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every lane asks again each second, perhaps all night, and perhaps the disk is full: said now and then."""
    monkeypatch.setattr(watching, "_said", {})
    monkeypatch.setattr(watching, "SAID_EVERY", float("inf"))

    def look(_: int) -> list[Callable[[], None]]:
        raise Busy("no space left on device")

    lane = make(look)
    until(lambda: lane.looks > 5)
    assert [(line["lane"], line["why"]) for line in logged] == [("scripted", "no space left on device")]


# Writing what came -------------------------------------------------------------------------------------


def test_a_result_is_written_however_long_the_database_is_away() -> None:
    """A provider's answer in hand has been paid for."""
    tries: list[int] = []

    def write() -> None:
        tries.append(1)
        if len(tries) < 4:
            raise Busy("locked")

    persist(write, threading.Event())
    assert len(tries) == 4


def test_a_result_outlasts_a_night_without_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else knows what the provider has started: no receipt is dropped because a disk was full till morning."""
    slept: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: 300.0 * len(slept), sleep=slept.append)
    monkeypatch.setattr(lane_module, "time", clock)

    def write() -> None:
        if clock.monotonic() < 12 * 3600:
            raise Busy("no space left on device")

    persist(write, threading.Event())
    assert clock.monotonic() >= 12 * 3600


def test_even_a_stop_gives_it_some_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """And then it gives up loudly; the lease hands the work over."""
    monkeypatch.setattr(lane_module, "TROUBLE", 0.1)
    stopping = threading.Event()
    stopping.set()
    tries: list[int] = []

    def write() -> None:
        tries.append(1)
        raise Busy("locked")

    with pytest.raises(Busy):
        persist(write, stopping)
    assert len(tries) >= 3


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other errors at once, Busy after its time."""
    monkeypatch.setattr(lane_module, "PATIENCE", 0.3)
    calls: list[int] = []

    def busy() -> None:
        calls.append(1)
        raise Busy("locked")

    with pytest.raises(Busy):
        persist(busy, threading.Event())
    assert len(calls) == 3

    def broken() -> None:
        raise RuntimeError("a mistake")

    with pytest.raises(RuntimeError):
        persist(broken, threading.Event())


def test_a_reserved_start_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before its time; a time that has passed costs nothing; a wrong clock cannot hang it."""
    at = wall_clock() + 80
    wait_until(at, wall_clock)
    assert wall_clock() >= at - 1
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    wait_until(0, wall_clock)
    assert slept == []
    wait_until(wall_clock() + 86_400_000, wall_clock)
    assert slept == [1.0]
