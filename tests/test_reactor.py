"""The thread that carries many exchanges: each wait ends once, in time, and for what it waited for."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from receiver.reactor import READ, Reactor, Steps, ready, settled

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    """A reactor, ended behind the test."""
    made = Reactor("tested")
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two connected sockets that do not block."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    yield ends
    for end in ends:
        end.close()


def begin(reactor: Reactor, steps: Steps[Any]) -> Future[Any]:
    """An exchange under way; it gives or raises what the steps do."""
    over: Future[Any] = Future()

    def done(result: Any, problem: BaseException | None) -> None:
        over.set_result(result) if problem is None else over.set_exception(problem)

    reactor.start(lambda: steps, done)
    return over


def test_a_long_wait_does_not_put_off_the_end_of_a_short_one(reactor: Reactor, pair: Pair) -> None:
    """Whoever begins to wait later, for longer, leaves the time at which the earliest gives up."""
    began = time.monotonic()
    short = begin(reactor, ready(pair[0], READ, began + 0.2))
    begin(reactor, ready(pair[1], READ, began + 60))
    with pytest.raises(TimeoutError):
        short.result(30)
    assert 0.2 <= time.monotonic() - began < 30


def test_what_comes_too_late_wakes_nobody(reactor: Reactor, pair: Pair) -> None:
    """An exchange that has given up on a look-up and waits for something else is not woken by the look-up's end."""
    late: Future[str] = Future()
    gave_up: Future[None] = Future()

    async def steps() -> bytes:
        try:
            await settled(late, time.monotonic() + 0.05)
        except TimeoutError:
            gave_up.set_result(None)
        await ready(pair[0], READ, time.monotonic() + 60)
        return pair[0].recv(10)

    over = begin(reactor, steps())
    gave_up.result(10)
    late.set_result("an address")
    begin(reactor, ready(pair[1], READ, 0)).exception(10)  # the reactor has been round once
    assert not over.done()
    pair[1].send(b"here")
    assert over.result(10) == b"here"


def test_nothing_that_fails_ends_the_thread(reactor: Reactor, pair: Pair) -> None:
    """A wake, a call and the end of a wait that raise cost nobody else anything: the next exchange is carried."""

    def fail(*_: Any) -> None:
        raise MemoryError

    async def watch() -> None:
        reactor.watch(pair[0], READ, time.monotonic() + 60, fail)
        reactor.watch(pair[1], READ, time.monotonic(), fail)
        pair[1].send(b"x")
        for _ in range(2):
            reactor.start(lambda: ready(pair[0], READ, 0), fail)  # whose end cannot be told

    begin(reactor, watch()).result(10)
    pair[1].send(b"here")
    time.sleep(0.5)
    begin(reactor, ready(pair[0], READ, time.monotonic() + 10)).result(10)


def test_a_socket_that_nobody_waited_for_is_watched_again(reactor: Reactor, pair: Pair) -> None:
    """What came for nobody ends the watching, so that the thread does not spin; the next to wait is told at once."""
    pair[1].send(b"here")
    for _ in range(3):
        begin(reactor, ready(pair[0], READ, time.monotonic() + 10)).result(20)
        for _ in range(2):
            begin(reactor, ready(pair[1], READ, 0)).exception(10)  # rounds in which nobody waits for the first
        assert pair[0].fileno() not in reactor._watched
