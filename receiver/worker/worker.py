"""One worker process: its lanes, its sign of life, and how it stops."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Set

from receiver import logs, metrics, tracing, watching
from receiver.bell import DELIVER, Listener
from receiver.config import Settings, masked
from receiver.errors import Busy, SettingsError
from receiver.lifelines import Lifelines
from receiver.runtime import Runtime
from receiver.store.changes import Changes
from receiver.worker.deliver_lane import DeliverLane
from receiver.worker.lane import Rounds
from receiver.worker.query_lane import QueryLane
from receiver.worker.submit_lane import SubmitLane

BEAT = 5.0
"""Seconds between signs of life (``/readyz`` looks for them)."""
BACKSTOP = 1.0
"""Seconds between two checks for writes of which no bell has told."""
SWEEP = 60.0
"""Seconds between looks for what is old enough to be purged."""
REST = 4.0
LONGEST_REST = 0.2
"""While there is much to purge or to end, a rest of four times what the last step took, so that others come first; at
most this many seconds, so that it goes on where they leave no gap."""

FILES = 4096
"""Open files that a worker may have, if the system lets it: each attempt is one, and so is each idle connection."""

log = logs.get("worker")


class Worker:
    """All lanes of one process."""

    def __init__(self, runtime: Runtime) -> None:
        """``runtime``: prepared."""
        self._runtime = runtime
        self.id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._lifelines = Lifelines(runtime.bell.folder)
        self._stopping = threading.Event()
        self._given_back = 0  # deliveries, at the stop
        self.lanes: list[Rounds] = [DeliverLane(runtime, self.id)]
        for provider in runtime.providers.names:
            self.lanes += [SubmitLane(runtime, provider), QueryLane(runtime, provider)]
        self._threads = [
            threading.Thread(target=self._listen, name="bell", daemon=True),
            threading.Thread(target=self._sweep, name="sweep", daemon=True),
        ]

    def start(self) -> None:
        """Begin to work."""
        self._lifelines.hold(self.id)
        for lane in self.lanes:
            lane.start()
        for thread in self._threads:
            thread.start()
        log.info("worker started", worker=self.id, providers=list(self._runtime.providers.names))

    def stop(self, timeout: float) -> bool:
        """Claim nothing more, and give calls in flight ``timeout`` seconds to end; whether all did.

        If not, end the process next: others may attempt the deliveries that are left from now on. The rest of what
        is left is handed over by its lease.
        """
        self._stopping.set()
        for lane in self.lanes:
            lane.stop()
        deadline = time.monotonic() + timeout
        for lane in self.lanes:
            lane.join(max(deadline - time.monotonic(), 0))
        while time.monotonic() < deadline and any(lane.in_flight for lane in self.lanes):
            time.sleep(0.02)
        left = sum(lane.in_flight for lane in self.lanes)
        self._runtime.bell.ring(DELIVER)  # our own listener hears it as well, and ends
        for thread in self._threads:
            thread.join(BEAT)  # nothing is asked, and no sign of life given, once it is forgotten
        burial = threading.Thread(target=self._give_back, name="burial", daemon=True)
        burial.start()
        burial.join(BEAT)  # a database that stands still must not keep the process
        log.info("worker stopped", worker=self.id, in_flight=left, deliveries_given_back=self._given_back)
        return left == 0

    def _give_back(self) -> None:
        """Hand over what is left; who finds the lifeline of a dead process does, where this fails."""
        try:
            self._given_back = self._runtime.sweeping.bury(self.id)
            self._lifelines.let_go(self.id)
            for lane in self.lanes:
                if isinstance(lane, SubmitLane):
                    lane.give_back()
        except Busy:
            log.warning("the database is away at the stop")
        if self._given_back:
            self._runtime.bell.ring(DELIVER)

    def _listen(self) -> None:
        while not self._stopping.is_set():
            try:
                self._hear()
            except Exception:  # else the lanes would only look by themselves, twice a minute
                log.exception("listening failed")
                self._stopping.wait(BACKSTOP)

    def _hear(self) -> None:
        listener = self._runtime.bell.listen()
        changes = Changes(self._runtime.store)
        try:
            self._follow(listener, changes)
        finally:
            changes.close()
            listener.close()

    def _follow(self, listener: Listener, changes: Changes) -> None:
        asked = time.monotonic()
        rang = True  # perhaps while nobody listened yet
        while not self._stopping.is_set():
            if rang:
                self._wake(listener.lanes())
            rang = listener.wait(BACKSTOP)
            if time.monotonic() >= asked + BACKSTOP and not self._stopping.is_set():
                asked = time.monotonic()
                if changes.any():
                    for lane in self.lanes:
                        lane.look_again()

    def _wake(self, names: Set[str]) -> None:
        """Wake the lanes of these names; all of them when there are none, or one that is not known here."""
        named = [lane for lane in self.lanes if lane.name in names]
        for lane in named if named and len(named) == len(names) else self.lanes:
            lane.wake()

    def _sweep(self) -> None:
        swept = -SWEEP
        while True:
            more = False
            try:
                self._runtime.sweeping.beat(self.id)
                self._runtime.polling.here()
                self._bury_the_dead()
                more = self._go_through(self._runtime.polling.end_overdue)
                if time.monotonic() - swept >= SWEEP:
                    if self._go_through(self._runtime.sweeping.step):
                        more = True
                    else:
                        swept = time.monotonic()
            except Busy as trouble:
                watching.database_busy("sweep", trouble.detail)
            except Exception:
                log.exception("sweeping failed")
            if self._stopping.wait(0 if more else BEAT):
                return

    def _bury_the_dead(self) -> None:
        """Take over at once what workers of this machine had under way when they were killed."""
        for worker_id in self._lifelines.dead():
            deliveries = self._runtime.sweeping.bury(worker_id)
            self._lifelines.let_go(worker_id)
            log.warning("a worker died", worker=worker_id, deliveries_taken_over=deliveries)
            self._runtime.bell.ring(DELIVER)

    def _go_through(self, step: Callable[[], int]) -> bool:
        """Make steps until one finds nothing, or the next sign of life is due; whether there may be more to do."""
        until = time.monotonic() + BEAT
        while (began := time.monotonic()) < until and not self._stopping.is_set():
            if not step():
                return False
            self._stopping.wait(min(REST * (time.monotonic() - began), LONGEST_REST))
        return True


def _show_metrics(settings: Settings) -> None:
    if settings.worker_metrics_bind is None:
        return
    host, port = settings.worker_metrics_bind
    try:
        metrics.serve(host, port)
    except OSError as error:
        raise SettingsError([f"RECEIVER_WORKER_METRICS_BIND: {host}:{port} cannot be used: {error}"]) from None


def _open_more_files() -> None:
    """Raise the usual limit (1024, on macOS 256): at it, attempts would fail, and be held against subscribers."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if most == resource.RLIM_INFINITY else min(FILES, most)
    if now != resource.RLIM_INFINITY and now < wanted:
        with contextlib.suppress(OSError, ValueError):  # then it works with what there is
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def signals_to_stop() -> socket.socket:
    """Where SIGTERM and SIGINT are noted from now on, whichever thread the kernel gives them to.

    No Event: its lock may be held by the very wait that the signal interrupts, which then never ends.
    """
    asked, ringer = socket.socketpair()
    ringer.setblocking(False)
    signal.set_wakeup_fd(ringer.detach())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # a handler, so that it is noted at all
    return asked


def wait_for(asked: socket.socket) -> None:
    """Wait for a signal."""
    asked.recv(1)


def serve(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT. Raises SettingsError."""
    _open_more_files()
    tracing.set_up("worker")
    _show_metrics(settings)
    runtime = Runtime.build(settings)
    runtime.prepare()
    log.debug("settings", **masked(settings))
    worker = Worker(runtime)
    asked = signals_to_stop()
    worker.start()
    gc.freeze()  # what is here stays: looking through it for garbage would hold up everything, again and again
    wait_for(asked)
    clean = worker.stop(settings.shutdown_timeout)
    runtime.close()
    tracing.end()
    if not clean:
        os._exit(0)  # a thread that hangs in a call must not keep the process; its lease hands the work over
