"""At a limit of the machine nothing is held against any subscriber; and what stands still does not keep a worker."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from receiver import deliveries, dialling
from receiver.models import DeliveryStatus
from receiver.runtime import wall_clock
from receiver.worker import Worker
from receiver.worker import worker as worker_module
from tests.core.stage import Stage
from tests.subscriber import Subscriber
from tests.worker.conftest import until

Work = Callable[[Stage], Worker]


def no_file(*_: Any, **__: Any) -> Any:
    """As at the limit of open files."""
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def no_thread(*_: Any) -> Any:
    """As at the limit of threads."""
    raise RuntimeError("can't start new thread")


def no_socket(patch: pytest.MonkeyPatch) -> None:
    """Nothing can be dialled."""
    patch.setattr(dialling, "_connect", no_file)


class NoPort(socket.socket):
    """Of a machine all whose ports to one place are in use, or were a minute ago."""

    def connect_ex(self, address: Any) -> int:
        return errno.EADDRNOTAVAIL if self.type == socket.SOCK_STREAM else super().connect_ex(address)


def no_port(patch: pytest.MonkeyPatch) -> None:
    """The system has no port left from which to dial."""
    patch.setattr(dialling, "socket", SimpleNamespace(**{**vars(socket), "socket": NoPort}))


def no_name(patch: pytest.MonkeyPatch) -> None:
    """The system's resolver opens no file, and says that there is no such name."""

    def look_up(*_: object) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    patch.setattr(dialling, "_look_up", look_up)
    patch.setattr(dialling, "socket", SimpleNamespace(**{**vars(socket), "socket": no_file}))


def no_look_up(patch: pytest.MonkeyPatch) -> None:
    """No name can be looked up."""
    patch.setattr(dialling, "_join_look_up", no_thread)


def no_courier(patch: pytest.MonkeyPatch) -> None:
    """The thread for all attempts cannot be started."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "courier":
            no_thread()
        start(thread)

    patch.setattr(threading.Thread, "start", refuse)


@pytest.mark.parametrize("limit", [no_socket, no_port, no_name, no_look_up, no_courier])
def test_a_limit_of_ours_is_no_failure_of_a_subscriber(
    build: Any, work: Work, logged: list[Any], limit: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """Deliveries wait without an attempt, nothing counts against anybody, the log says it once; then all goes on."""
    stage: Stage = build(at=wall_clock, RECEIVER_RETRY_SCHEDULE="3600", RECEIVER_DELIVERY_CONCURRENCY=2)
    with Subscriber() as server, pytest.MonkeyPatch.context() as outer:
        outer.setattr(deliveries.schedule, "LIMIT_PAUSE", 0.05)
        outer.setattr(dialling, "_look_up", lambda host, port: [(socket.AF_INET, ("127.0.0.1", port))])
        url = server.url.replace("127.0.0.1", "hooks.example.test")
        registered, change = stage.subscribe(url, "subscriber.ping"), stage.runtime.subscribers.change
        pings = [stage.ping(registered) for _ in range(3)]
        claimed = len(pings)
        with pytest.MonkeyPatch.context() as patch:
            limit(patch)
            worker = work(stage)
            until(lambda: _fences(stage) > 3 * claimed)  # given back, and claimed again
            assert [stage.delivery(one).attempts for one in pings] == [0] * claimed
            assert stage.subscriber(registered).failing_since is None
            change(stage.account, registered.id, {"disabled": True})  # no attempt is half before the end of it
            until(lambda: worker.lanes[0].in_flight == 0)
        change(stage.account, registered.id, {"disabled": False})
        until(lambda: all(stage.delivery(one).status is DeliveryStatus.DELIVERED for one in pings))
    until(lambda: worker.lanes[0].in_flight == 0)
    assert [stage.delivery(one).attempts for one in pings] == [1] * claimed
    assert len([line for line in logged if line["log_level"] == "error"]) == 1, logged


def _fences(stage: Stage) -> int:
    with stage.runtime.store.read() as connection:
        return int(connection.exec_driver_sql("SELECT coalesce(sum(fence), 0) FROM deliveries").scalar_one())


def test_a_stop_does_not_wait_for_a_database_that_stands_still(
    stage: Stage, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers nothing and refuses nothing: what is left is found by others, and the process ends in its time."""
    monkeypatch.setattr(worker_module, "BEAT", 0.1)
    stands, asked = threading.Event(), threading.Event()
    worker = work(stage)
    bury = stage.runtime.sweeping.bury

    def stall(worker_id: str) -> int:
        asked.set()
        stands.wait(60)
        return bury(worker_id)

    monkeypatch.setattr(stage.runtime.sweeping, "bury", stall)
    ended = threading.Thread(target=worker.stop, args=[5.0])
    ended.start()
    ended.join(30)
    in_time = not ended.is_alive()
    stands.set()
    assert asked.wait(30)
    assert in_time
    until(lambda: "burial" not in [thread.name for thread in threading.enumerate()])
