"""A PostgreSQL that is there and says nothing: nobody waits for ever, and what comes later finds it as it is."""

from __future__ import annotations

import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, select, text

from receiver.errors import Busy
from receiver.metrics import CONNECTIONS
from receiver.store import Store, dialect, silence
from receiver.store.prepared import Prepared
from receiver.store.schema import workers
from tests import postgres

wait = time.sleep
OPEN = Path("/proc/self/fd")
IDS = Prepared(select(workers.c.id).order_by(workers.c.id))
ADD = Prepared(workers.insert().values(seen_at=1), "id", "started_at")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "LONGEST", 0.6)
    monkeypatch.setattr(silence, "LATEST", 0.05)
    monkeypatch.setattr(silence, "SOONEST", 0.05)


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    """A server of one's own."""
    with postgres.server() as found:
        yield found


@pytest.fixture
def store(server: postgres.Server) -> Iterator[Store]:
    """An empty database with our schema, on it."""
    found = Store(server.create(), pool=2)
    found.migrate()
    yield found
    found.close()


def ends_in_time(work: Callable[[], object]) -> BaseException | None:
    """What came of the work, which must not last."""
    came: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  it is looked at below
            came.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), "it waits without an end"
    return came[0] if came else None


def ask(connection: Connection) -> None:
    """By the driver's cursor."""
    connection.execute(text("SELECT 1"))


def add(connection: Connection) -> None:
    """In one flight with the COMMIT."""
    ADD.send(connection, [("late", 1)])


@pytest.mark.parametrize("step", [ask, IDS.fetch, add])
def test_nobody_waits_for_a_process_that_stands_still(store: Store, step: Callable[[Connection], object]) -> None:
    """Whatever is asked is Busy in the end, and the next who asks gets another connection."""
    stopped: list[int] = []

    def work() -> None:
        with store.write() as connection:
            stopped.append(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
            os.kill(stopped[0], signal.SIGSTOP)
            step(connection)

    try:
        assert isinstance(ends_in_time(work), Busy)
        assert ends_in_time(store.ping) is None
    finally:
        os.kill(stopped[0], signal.SIGCONT)
    assert store.ask(IDS.fetch) == []


def test_a_single_query_is_not_kept_either(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds another connection by itself."""
    monkeypatch.setattr(silence, "LONGEST", 60.0)
    monkeypatch.setattr(silence, "BEGINNING", 0.3)
    with store.read() as connection:
        stopped = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    os.kill(stopped, signal.SIGSTOP)
    try:
        assert ends_in_time(lambda: store.ask(IDS.fetch)) is None
    finally:
        os.kill(stopped, signal.SIGCONT)


@pytest.mark.parametrize("transaction", [Store.read, Store.write])
def test_a_transaction_that_cannot_even_begin_goes_elsewhere(
    store: Store, monkeypatch: pytest.MonkeyPatch, transaction: Callable[[Store], AbstractContextManager[Connection]]
) -> None:
    """Nothing was asked yet, so nobody waits for as long as a statement may take, and nothing is Busy."""
    monkeypatch.setattr(silence, "LONGEST", 60.0)
    monkeypatch.setattr(silence, "BEGINNING", 0.3)

    def work() -> None:
        with transaction(store) as connection:
            connection.execute(text("SELECT pg_sleep(0.6)"))  # longer than a beginning may take

    with store.read() as connection:
        stopped = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    os.kill(stopped, signal.SIGSTOP)
    try:
        assert ends_in_time(work) is None
    finally:
        os.kill(stopped, signal.SIGCONT)


def test_a_process_that_stood_still_itself_gives_nothing_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was answered meanwhile is there to be read, however late it is by the clock."""
    monkeypatch.setattr(silence, "LONGEST", 60.0)
    watched = silence._Watch()
    ours, theirs = socket.socketpair()
    line = silence.Line(ours.fileno())
    line.take(0.0)
    monkeypatch.setattr(silence.time, "sleep", lambda _: wait(10 * silence.LATEST))
    with ours, theirs:
        watched.add(line)
        wait(25 * silence.LATEST)
        theirs.sendall(b"answer")
        assert ours.recv(100) == b"answer"
        watched.remove(line)


def test_one_at_a_time_tries_to_reach_a_server_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are told so meanwhile, instead of waiting each for as long. One that says no is asked again by all."""
    tried, over, both, told = [0], threading.Event(), threading.Barrier(2, timeout=20), []

    def connect(*_: object, **options: object) -> None:
        assert options["port"] == 1, "who listens for another test is not counted"
        tried[0] += 1
        if tried[0] == 1:
            wait(2 * silence.SHORT)
        elif tried[0] == 2:
            over.wait(30)
        elif tried[0] > 3:
            both.wait()
        raise psycopg.OperationalError("timeout" if tried[0] < 3 else "no")

    def ping() -> None:
        with pytest.raises(Busy):
            store.ping()
        told.append(tried[0])

    monkeypatch.setattr(silence, "SHORT", 0.1)
    monkeypatch.setattr(psycopg, "connect", connect)
    store = Store("postgresql://any@127.0.0.1:1/any", pool=8)
    ping()
    threads = [threading.Thread(target=ping) for _ in range(8)]
    for thread in threads:
        thread.start()
    patience = time.monotonic() + 20
    while len(told) < len(threads) and time.monotonic() < patience:
        wait(0.01)
    assert told == [1] + [2] * 7
    assert sum(thread.is_alive() for thread in threads) == 1
    wait(2 * silence.SHORT)
    over.set()
    for thread in threads:
        thread.join()
    ping()
    threads = [threading.Thread(target=ping) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tried[0], len(told)) == (5, 12)
    store.close()


def test_who_waits_for_a_connection_goes_on_when_none_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A place in the pool that is free again is told to the next, who does not wait until his time is over."""

    def connect(*_: object, **__: object) -> None:
        wait(0.2)
        raise psycopg.OperationalError("timeout")

    monkeypatch.setattr(psycopg, "connect", connect)
    monkeypatch.setattr(dialect, "BUSY_SECONDS", 60)
    store = Store("postgresql://any@127.0.0.1:1/any", pool=1)
    lent = CONNECTIONS._value.get()  # type: ignore[attr-defined]
    waiting = [threading.Thread(target=ends_in_time, args=(store.ping,)) for _ in range(3)]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join(20)
    assert store.engine.pool.status().endswith("Current Checked out connections: 0")
    assert CONNECTIONS._value.get() == lent, "none was lent out"  # type: ignore[attr-defined]
    store.close()


def test_patience_that_ends_before_the_next_look_is_looked_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """However rare looks are while all have time: whoever waits is told when his time is over."""
    monkeypatch.setattr(silence, "LATEST", 60.0)
    ours, theirs = socket.socketpair()
    line = silence.Line(ours.fileno())
    line.take(0.5)
    with ours, theirs:
        ours.settimeout(20)
        silence._Watch().add(line)
        assert ours.recv(100) == b""


def test_a_commit_that_waits_for_a_standby_is_uncertain(server: postgres.Server, store: Store) -> None:
    """No time-out of the server ends that wait; whoever tries again afterwards finds what was stored."""
    server.execute("ALTER SYSTEM SET synchronous_standby_names = 'gone'")
    server.execute("SELECT pg_reload_conf()")

    def work() -> None:
        with store.write() as connection:
            ADD.run(connection, [("once", 1)])

    time.sleep(0.3)
    error = ends_in_time(work)
    assert isinstance(error, Busy)
    assert error.uncertain
    assert ends_in_time(store.ping) is None, "reading goes on"
    server.execute("ALTER SYSTEM RESET synchronous_standby_names")
    server.execute("SELECT pg_reload_conf()")
    deadline = time.monotonic() + 10
    while store.ask(IDS.fetch) != [("once",)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_who_goes_on_is_not_given_up(store: Store) -> None:
    """A long transaction of short statements, a connection that lies in the pool, a migration: none is silent."""
    with store.read() as connection:
        for _ in range(6):
            connection.execute(text("SELECT pg_sleep(0.2)"))
            IDS.fetch(connection)
        first = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    time.sleep(1)
    with store.read() as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() == first
    with store._migrator.begin() as connection:
        connection.execute(text("SELECT pg_sleep(1)"))


def test_who_watches_ends_with_the_last_connection(store: Store) -> None:
    """Neither its thread nor its files outlive the store."""
    store.close()
    deadline = time.monotonic() + 10
    while any(thread.name == "silence" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    files = len(list(OPEN.iterdir()))
    for _ in range(20):
        store.ping()
        store.close()
    assert len(list(OPEN.iterdir())) <= files


def test_a_connection_that_could_not_be_made_in_time_is_closed_at_once(request: pytest.FixtureRequest) -> None:
    """A server that comes back finds nobody at its door who went away long ago."""
    gc.collect()
    gc.disable()
    request.addfinalizer(gc.enable)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        store = Store(f"postgresql://any@127.0.0.1:{port}/any?connect_timeout=2&sslmode=disable")
        with pytest.raises(Busy):
            store.ping()
        taken, _ = silent.accept()
        with taken:
            taken.settimeout(5)
            while taken.recv(4096):  # what it had asked, and then the end
                pass
        store.close()
