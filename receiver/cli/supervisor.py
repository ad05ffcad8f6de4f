"""Runs processes, restarts those that die, and stops them all in order."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType

from receiver import logs
from receiver.cli import orphans

BACK_OFF = (1.0, 2.0, 5.0, 10.0)
"""Seconds before a child that died is started again: after its first death within ``WINDOW``, its second, ..."""
MOST_DEATHS = 5
"""So many deaths of one child within ``WINDOW`` seconds, and there is no sense in going on."""
WINDOW = 60.0
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that end the supervisor and its children: asked to, Ctrl-C, and the terminal was closed."""


class Restarts:
    """Decides whether and when a child that died is started again. Pure: the time is passed in."""

    def __init__(self, back_off: Sequence[float] = BACK_OFF, most: int = MOST_DEATHS, window: float = WINDOW) -> None:
        self._back_off = back_off
        self._most = most
        self._window = window
        self._deaths: deque[float] = deque()

    def died(self, now: float) -> float | None:
        """Seconds to wait before the next start, or None to give up. ``now``: seconds of a steady clock."""
        self._deaths.append(now)
        while self._deaths[0] <= now - self._window:
            self._deaths.popleft()
        if len(self._deaths) >= self._most:
            return None
        return self._back_off[min(len(self._deaths), len(self._back_off)) - 1]


@dataclass
class Child:
    """One process to keep alive. ``name`` is for the log; ``argv`` its command; ``environment`` its whole one."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    restarts: Restarts = field(default_factory=Restarts)
    process: subprocess.Popen[bytes] | None = None
    start_at: float | None = 0.0


class Supervisor:
    """Keeps children alive until a signal ends them all.

    Each child leads a process group of its own: a Ctrl-C in the terminal reaches the supervisor alone,
    which then asks the children to stop in peace; and what a child leaves behind can be ended with it.
    """

    def __init__(
        self,
        children: Sequence[Child],
        *,
        patience: float,
        buried: Callable[[int], None] = lambda _: None,
    ) -> None:
        """``patience``: seconds that children get to stop. ``buried`` is told the pid of every child that ended."""
        self._children = children
        self._patience = patience
        self._buried = buried
        self._stops = 0
        self._log = logs.get("supervisor")

    def run(self) -> int:
        """Run until a signal (0), or until a child cannot be kept alive or has to be killed at the end (1).

        Must be called in the main thread, since it takes the signals.
        """
        with self._signals() as bell:
            given_up = False
            try:
                while not self._stops and not given_up:
                    self._start_those_due()
                    bell.wait(self._next_start())
                    given_up = not self._look_after()
            finally:
                clean = self._stop(bell)
        return 0 if clean and not given_up else 1

    def _start_those_due(self) -> None:
        for child in self._children:
            if child.start_at is None or child.start_at > time.monotonic() or self._stops:
                continue
            _signal_group(child, signal.SIGKILL)  # what is left of its predecessor
            child.start_at = None
            environment = {**child.environment, orphans.PARENT: str(os.getpid())}
            child.process = subprocess.Popen(  # noqa: S603  the command is ours, no shell is involved
                list(child.argv), env=environment, stdin=subprocess.DEVNULL, start_new_session=True
            )
            self._log.debug("started", child=child.name, pid=child.process.pid)

    def _next_start(self) -> float | None:
        """Seconds until a child is to be started again; None when all of them run."""
        waiting = [child.start_at for child in self._children if child.start_at is not None]
        return max(0.0, min(waiting) - time.monotonic()) if waiting else None

    def _look_after(self) -> bool:
        """Plan the restart of children that died; False when one of them dies too often."""
        for child in self._children:
            code = None if child.process is None or child.start_at is not None else child.process.poll()
            if code is None or child.process is None or self._stops:
                continue
            self._buried(child.process.pid)
            _signal_group(child, signal.SIGTERM)
            wait = child.restarts.died(time.monotonic())
            if wait is None:
                self._log.error("died too often, giving up", child=child.name, ended=_ending(code))
                child.start_at = None
                return False
            self._log.warning("died, will be restarted", child=child.name, ended=_ending(code), in_seconds=wait)
            child.start_at = time.monotonic() + wait
        return True

    def _stop(self, bell: _Bell) -> bool:
        """Ask all children to stop, the last started first, and wait; whether none had to be killed."""
        for child in reversed(self._children):
            _signal_child(child, signal.SIGTERM)
        asked, deadline = self._stops, time.monotonic() + self._patience
        while (left := deadline - time.monotonic()) > 0 and self._alive() and self._stops <= max(asked, 1):
            bell.wait(left)
        late = self._alive()
        for child in late:
            self._log.warning("did not stop in time and is killed", child=child.name)
        for child in self._children:
            _signal_group(child, signal.SIGKILL)
            if child.process is not None:
                child.process.wait()
                self._buried(child.process.pid)
        return not late

    def _alive(self) -> list[Child]:
        return [child for child in self._children if child.process is not None and child.process.poll() is None]

    @contextlib.contextmanager
    def _signals(self) -> Iterator[_Bell]:
        """Take the signals that matter; each of them, and the death of a child, rings the bell."""
        bell = _Bell()
        before = {number: signal.getsignal(number) for number in (*STOPPING, signal.SIGCHLD)}
        for number in STOPPING:
            signal.signal(number, self._stop_asked)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler, so that it wakes us at all
        previous = signal.set_wakeup_fd(bell.ringer.fileno(), warn_on_full_buffer=False)
        try:
            yield bell
        finally:
            signal.set_wakeup_fd(previous)
            for number, handler in before.items():
                signal.signal(number, handler)
            bell.close()

    def _stop_asked(self, number: int, _: FrameType | None) -> None:
        self._stops += 1
        if self._stops == 1:
            self._log.info("stopping", signal=signal.Signals(number).name)


class _Bell:
    """Sleeps until a signal comes: its number is written into a socket, which ends the sleep."""

    def __init__(self) -> None:
        self._ear, self.ringer = socket.socketpair()
        self._ear.setblocking(False)
        self.ringer.setblocking(False)

    def wait(self, seconds: float | None) -> None:
        """Until a signal, or the time is over; None waits for a signal alone."""
        select.select([self._ear], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            while self._ear.recv(64):
                pass

    def close(self) -> None:
        self._ear.close()
        self.ringer.close()


def _signal_child(child: Child, number: signal.Signals) -> None:
    if child.process is not None and child.process.poll() is None:
        child.process.send_signal(number)


def _signal_group(child: Child, number: signal.Signals) -> None:
    """Signal whatever is left of the child's process group."""
    if child.process is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.process.pid, number)


def _ending(code: int) -> str:
    """How a process ended, in words: ``exit code 1``, ``SIGKILL``."""
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
