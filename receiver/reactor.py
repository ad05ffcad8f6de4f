"""Network work in steps, so that one thread carries hundreds of exchanges and each still reads like a plain function.

An exchange is a coroutine that waits through ``ready`` and ``settled`` alone, always until a time. ``run``
drives one in the caller's thread; a ``Reactor`` drives any number in a thread of its own.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_futures
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from receiver import logs

TROUBLE = 0.1
"""Seconds of rest after a round that failed."""
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

log = logs.get("reactor")

T = TypeVar("T")
_Thing: TypeAlias = "socket.socket | Future[Any]"
_Wait: TypeAlias = "tuple[_Thing, int, float]"
Steps: TypeAlias = Coroutine[_Wait, None, T]


@types.coroutine
def ready(sock: socket.socket, event: int, until: float) -> Generator[_Wait, None, None]:
    """Wait until a socket can be read (READ) or written (WRITE). Raises TimeoutError at ``until``.

    ``until``: on the clock of ``time.monotonic``.
    """
    yield sock, event, until


@types.coroutine
def settled(future: Future[T], until: float) -> Generator[_Wait, None, T]:
    """Wait for what another thread works out. Raises what that raised, and TimeoutError at ``until``."""
    yield future, 0, until
    return future.result()


async def receive(sock: socket.socket, most: int, until: float) -> bytes:
    """What came, empty at its end. Raises TimeoutError and OSError.

    Waits also where something is there already: whoever sends without end takes turns like all others.
    """
    while True:
        await ready(sock, READ, until)
        try:
            return sock.recv(most)
        except BlockingIOError:
            pass  # it was nothing after all


async def send(sock: socket.socket, data: bytes, until: float) -> None:
    """Send all of it. Raises TimeoutError and OSError."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[sock.send(rest) :]
        except BlockingIOError:
            await ready(sock, WRITE, until)


def run(steps: Steps[T]) -> T:
    """Drive one exchange to its end in this thread; gives what it gives, raises what it raises."""
    error: TimeoutError | None = None
    while True:
        try:
            thing, event, until = steps.send(None) if error is None else steps.throw(error)
        except StopIteration as end:
            result: T = end.value
            return result
        left = max(until - time.monotonic(), 0)  # what is there already counts at the last moment too
        error = None if _came(thing, event, left) else TimeoutError()


def _came(thing: _Thing, event: int, seconds: float) -> bool:
    if isinstance(thing, Future):
        return bool(wait_for_futures([thing], seconds).done)
    with selectors.DefaultSelector() as selector:
        selector.register(thing, event)
        return bool(selector.select(seconds))


@dataclass(slots=True, eq=False)
class _Waiting:
    """Somebody who waits. ``wake`` is called once, in the reactor's thread: whether it came, or the time is over."""

    until: float
    wake: Callable[[bool], None]


class Reactor:
    """One thread that carries many exchanges. ``start`` may be called from any thread, all else inside it only."""

    def __init__(self, name: str) -> None:
        """``name``: of the thread, which begins with the first exchange."""
        self._name = name
        self._watched: dict[int, tuple[socket.socket, int]] = {}
        self._waiting: dict[int | _Waiting, _Waiting] = {}  # by the number of the socket; without one, by itself
        self._check_at = float("inf")  # when the next of them may have waited long enough
        self._calls: deque[Callable[[], None]] = deque()
        self._rung = False
        self._closed = False
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self, make: Callable[[], Steps[T]], done: Callable[[T | None, BaseException | None], None]) -> None:
        """Begin the exchange that ``make`` makes.

        ``done``: called in the reactor's thread with what it gave, or with what it raised; must not raise itself.
        """
        with self._starting:
            if self._thread is None:
                self._open()
        self._call(lambda: self._go_on(make(), done, None))

    def close(self) -> None:
        """End the thread; exchanges that are not over are dropped, and their connections closed."""
        self._closed = True
        if self._thread is None:
            return
        self._ring()
        self._thread.join()
        self._waiting.clear()
        self._watched.clear()
        self._shut()

    def _open(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._bell, self._ringer = socket.socketpair()
        for end in (self._bell, self._ringer):
            end.setblocking(False)
        self._selector.register(self._bell, READ)
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no further thread can be started: the next exchange tries again
            self._shut()
            raise
        self._thread = thread

    def _shut(self) -> None:
        self._selector.close()
        self._bell.close()
        self._ringer.close()

    def watch(self, sock: socket.socket, event: int, until: float, wake: Callable[[bool], None]) -> None:
        """Call ``wake`` once: with True when the socket is ready for the event, with False at ``until``."""
        place = sock.fileno()
        known = self._watched.get(place)
        if known is None or known[0] is not sock:  # a socket that is closed leaves by itself, its number stays
            if known is not None:
                with contextlib.suppress(KeyError):
                    self._selector.unregister(place)
            self._selector.register(place, event, sock)
            self._watched[place] = (sock, event)
        elif known[1] != event:
            self._selector.modify(place, event, sock)
            self._watched[place] = (sock, event)
        self._wait(place, _Waiting(until, wake))

    def unwatch(self, sock: socket.socket) -> None:
        """Nobody waits for this socket any more."""
        self._waiting.pop(sock.fileno(), None)

    def _wait(self, key: int | _Waiting, waiting: _Waiting) -> None:
        self._waiting[key] = waiting
        self._check_at = min(self._check_at, waiting.until)

    def _call(self, call: Callable[[], None]) -> None:
        self._calls.append(call)
        if not self._rung:
            self._rung = True
            self._ring()

    def _ring(self) -> None:
        with contextlib.suppress(OSError):  # its buffer is full: it is awake anyway
            self._ringer.send(b"1")

    def _run(self) -> None:
        while not self._closed:
            try:
                self._go_round()
            except Exception:  # one exchange's trouble, or a passing one: all others depend on this thread
                log.exception("a round failed", thread=self._name)
                time.sleep(TROUBLE)

    def _go_round(self) -> None:
        """Serve all that is ready, once something is; whatever a failure leaves undone is there in the next round."""
        pause = None if self._check_at == float("inf") else max(self._check_at - time.monotonic(), 0)
        for key, _ in self._selector.select(0 if self._calls else pause):
            if key.data is None:
                self._hear()
                continue
            if self._watched.get(key.fd, (None,))[0] is not key.data:
                continue  # it was closed while others of these were served, and its number is another's now
            waiting = self._waiting.pop(key.fd, None)
            if waiting is None:  # nobody wants to know
                self._selector.unregister(key.fd)
                del self._watched[key.fd]
            else:
                waiting.wake(True)
        while self._calls:
            self._calls.popleft()()
        if time.monotonic() >= self._check_at:
            self._end_waits(time.monotonic())

    def _hear(self) -> None:
        with contextlib.suppress(OSError):
            self._bell.recv(4096)
        self._rung = False  # before the calls are taken: one that comes now rings again

    def _end_waits(self, now: float) -> None:
        over = [key for key, waiting in self._waiting.items() if waiting.until <= now]
        for key in over:
            waiting = self._waiting.pop(key, None)  # another's end may have ended it
            if waiting is not None:
                waiting.wake(False)
        self._check_at = min((waiting.until for waiting in self._waiting.values()), default=float("inf"))

    def _go_on(
        self, steps: Steps[T], done: Callable[[T | None, BaseException | None], None], error: Exception | None
    ) -> None:
        """Take an exchange to its next wait, or to its end. ``error``: what its last wait ended with."""
        try:
            thing, event, until = steps.send(None) if error is None else steps.throw(error)
        except StopIteration as end:
            done(end.value, None)
            return
        except Exception as problem:  # noqa: BLE001 - for who has started it
            done(None, problem)
            return

        def wake(came: bool) -> None:
            self._go_on(steps, done, None if came else TimeoutError())

        if not isinstance(thing, Future):
            try:
                self.watch(thing, event, until, wake)
            except Exception as problem:  # noqa: BLE001 - the kernel watches no more: this exchange's trouble alone
                self._go_on(steps, done, problem)
            return
        waiting = _Waiting(until, wake)
        self._wait(waiting, waiting)
        thing.add_done_callback(lambda _: self._call(lambda: self._settle(waiting)))

    def _settle(self, waiting: _Waiting) -> None:
        if self._waiting.pop(waiting, None) is not None:  # its time is not over
            waiting.wake(True)
