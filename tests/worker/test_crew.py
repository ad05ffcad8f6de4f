"""A crew: each piece at its time, one thread while pieces are quick, as many as are needed when they are slow."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from receiver.worker import crew as crew_module
from receiver.worker.crew import Crew
from tests.worker.conftest import until

Make = Callable[..., Crew]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes crews, and ends them."""
    made: list[Crew] = []

    def make(most: int = 8) -> Crew:
        made.append(Crew("crew-tested", most))
        return made[-1]

    yield make
    for each in made:
        each.close()
    until(lambda: not any(thread.name == "crew-tested" for thread in threading.enumerate()))


def test_pieces_are_done_each_at_its_time(make: Make) -> None:
    """In order, none before its time, and soon after it."""
    done: list[tuple[int, float]] = []
    began = time.monotonic()
    plan = [0.0, 0.05, 0.1, 0.3]

    def piece(number: int) -> Callable[[], None]:
        return lambda: done.append((number, time.monotonic() - began))

    make().give([(ahead, piece(number)) for number, ahead in enumerate(plan)])
    until(lambda: len(done) == 4)
    assert [number for number, _ in done] == [0, 1, 2, 3]
    assert all(0 <= at - ahead < 5 for (_, at), ahead in zip(done, plan, strict=True))


def test_quick_pieces_share_a_thread(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that only wait for each other are not started."""
    monkeypatch.setattr(crew_module, "PATIENCE", 0.5)
    threads: set[str] = set()
    done: list[int] = []

    def piece() -> None:
        threads.add(str(threading.get_ident()))
        done.append(1)

    crew = make()
    crew.give([(0.0, piece)])
    until(lambda: len(done) == 1)
    for _ in range(20):
        crew.give([(0.0, piece)] * 10)
    until(lambda: len(done) == 201)
    assert len(threads) <= 2


def test_slow_pieces_keep_nobody_waiting(make: Make) -> None:
    """Pieces that hang get a thread each, up to the limit; the rest is done when one of them ends."""
    going = threading.Semaphore(0)
    begun: list[int] = []

    def hang() -> None:
        begun.append(1)
        going.acquire()

    make(4).give([(0.0, hang)] * 6)
    until(lambda: len(begun) == 4)
    time.sleep(0.1)
    assert len(begun) == 4
    for _ in range(6):
        going.release()
    until(lambda: len(begun) == 6)


def test_a_call_that_hangs_among_quick_ones_holds_nobody_up(make: Make) -> None:
    """However quick calls were: whoever waits behind one that is not is soon given a thread."""
    over = threading.Event()
    done: list[int] = []
    crew = make(2)
    for count in range(1, 11):
        crew.give([(0.0, lambda: done.append(1))])
        until(lambda: len(done) == count)  # noqa: B023  it is awaited in the same round
    crew.give([(0.0, lambda: over.wait(60) and None)] + [(0.0, lambda: done.append(1))] * 5)
    until(lambda: len(done) == 15)  # while it hangs
    over.set()


def test_a_piece_that_fails_costs_nothing_else(make: Make, logged: list[Any]) -> None:
    """A mistake is logged, and the thread goes on."""
    done: list[int] = []

    def fail() -> None:
        raise RuntimeError("a mistake")

    make(1).give([(0.0, fail), (0.0, lambda: done.append(1))])
    until(lambda: done)
    assert [entry["log_level"] for entry in logged] == ["error"]


def test_a_wrong_clock_cannot_stop_it(make: Make) -> None:
    """A start that lies far ahead is not one that a provider's rate gave."""
    done: list[float] = []
    began = time.monotonic()
    make().give([(86_400.0, lambda: done.append(time.monotonic() - began)), (-5.0, lambda: done.append(0.0))])
    until(lambda: len(done) == 2)
    assert done[0] >= 0.9
