"""What only a server can do to us: connections that end, locks and dead ends, poolers, and many who come at once."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import errors
from sqlalchemy import select, text, update
from sqlalchemy.exc import InternalError

from receiver.errors import Busy
from receiver.store import Store, dialect
from receiver.store.prepared import Prepared
from receiver.store.schema import workers
from receiver.store.troubles import trouble
from receiver.store.wire import Wire
from tests import postgres
from tests.deaf import deafen

ROOT = Path(__file__).parents[2]
IDS = Prepared(select(workers.c.id).order_by(workers.c.id))
ADD = Prepared(workers.insert().values(seen_at=1), "id", "started_at")


@pytest.fixture
def url() -> Iterator[str]:
    """An empty database."""
    with postgres.fresh_database() as fresh:
        yield fresh


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """A migrated database with two rows."""
    found = Store(url, pool=4)
    found.migrate()
    with found.write() as connection:
        for name in ("a", "b"):
            connection.execute(workers.insert().values(id=name, started_at=1, seen_at=1))
    yield found
    found.close()


def setting(store: Store, name: str) -> str:
    """What the server says in a transaction of ours."""
    with store.read() as connection:
        return str(connection.execute(text(f"SHOW {name}")).scalar_one())


def test_every_transaction_has_its_time_outs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for ever; an operator sees in the server's list of sessions whose they are."""
    named = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
    assert [setting(store, name) for name in named] == ["10s", "30s", "1min"]
    assert setting(store, "application_name").startswith("receiver@")
    monkeypatch.setattr(dialect, "STATEMENT_SECONDS", 0.05)
    with pytest.raises(Busy, match="statement timeout"), store.read() as connection:
        connection.execute(text("SELECT pg_sleep(5)"))
    store.ping()


def test_a_single_query_has_its_time_outs(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a transaction, too: a table that is locked for long makes nobody wait for ever."""
    monkeypatch.setattr(dialect, "BUSY_SECONDS", 1)
    store = Store(url)
    store.migrate()
    with store.write() as holder:
        holder.execute(text("LOCK TABLE workers IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(Busy, match="lock timeout"):
            store.ask(IDS.fetch)
    assert store.ask(IDS.fetch) == []
    store.close()


def test_the_server_keeps_no_session_whose_machine_is_gone(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a cut of the network the server lets the old sessions go, so that it does not run out of them."""
    brief = {"keepalives_idle": 1, "keepalives_interval": 1, "keepalives_count": 1, "tcp_user_timeout": 1000}
    monkeypatch.setattr(dialect, "_GONE", brief)
    gone, other = Store(url), Store(url)
    with gone.engine.connect() as connection:
        session = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        deafen(dialect.socket_of(connection))
        end = time.monotonic() + 20
        lives = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :session")
        while time.monotonic() < end:
            with other.read() as asking:
                if asking.execute(lives, {"session": session}).scalar_one() == 0:
                    break
            time.sleep(0.2)
        else:
            pytest.fail("the session is still there")
        connection.invalidate()
    for store in (gone, other):
        store.close()


def test_a_lock_that_does_not_go_away_is_busy(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The web answers 503 and the provider comes again; nothing was stored."""
    change = update(workers).where(workers.c.id == "a")
    with store.write() as holder:
        holder.execute(change.values(seen_at=2))
        monkeypatch.setattr(dialect, "BUSY_SECONDS", 0.05)
        with pytest.raises(Busy, match="lock timeout"), store.write() as connection:
            connection.execute(change.values(seen_at=3))
    with store.read() as connection:
        assert connection.execute(select(workers.c.seen_at).where(workers.c.id == "a")).scalar_one() == 2


def test_other_isolation_by_default_refuses_no_write(store: Store, url: str) -> None:
    """A database may hold its users to ``serializable``: a write goes on with what others have stored meanwhile."""
    name = postgres.name_of(url)
    postgres.shared().execute(f"ALTER DATABASE {name} SET default_transaction_isolation = serializable")
    later = Store(url)
    with later.write() as one, later.write() as other:
        for connection in (one, other):
            connection.execute(select(workers))
        other.execute(update(workers).where(workers.c.id == "a").values(seen_at=2))
        other.commit()
        one.execute(update(workers).where(workers.c.id == "a").values(seen_at=workers.c.seen_at + 1))
    with later.read() as connection:
        assert connection.execute(select(workers.c.seen_at).where(workers.c.id == "a")).scalar_one() == 3
    later.close()


def test_of_two_in_a_deadlock_one_goes_on(store: Store) -> None:
    """The server ends one of them, which is Busy; nobody hangs, and nothing is half stored."""
    meet = threading.Barrier(2)
    busy: list[Busy] = []

    def run(first: str, second: str, value: int) -> None:
        try:
            with store.write() as connection:
                connection.execute(update(workers).where(workers.c.id == first).values(seen_at=value))
                meet.wait(10)
                connection.execute(update(workers).where(workers.c.id == second).values(seen_at=value))
        except Busy as trouble:
            busy.append(trouble)

    threads = [threading.Thread(target=run, args=given) for given in (("a", "b", 5), ("b", "a", 6))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (trouble,) = busy
    assert "deadlock" in trouble.detail
    with store.read() as connection:
        assert len(set(connection.execute(select(workers.c.seen_at)).scalars())) == 1


def test_a_pool_that_is_used_up_is_busy(store: Store) -> None:
    """Not a failure of ours: whoever gets no connection in time is told to come again."""
    store.engine.pool._timeout = 0.05  # type: ignore[attr-defined]  # of SQLAlchemy's pool
    with store.read(), store.read(), store.read(), store.read(), pytest.raises(Busy, match="pool"), store.read():
        pass
    store.ping()


def test_connections_that_ended_in_the_pool_are_replaced_unseen(store: Store, url: str) -> None:
    """A fail-over while nobody was in a transaction: the next one notices nothing."""
    with store.read(), store.read(), store.read():
        pass
    assert postgres.shared().disconnect(url) >= 3
    with store.write() as connection, store.read() as other:
        assert connection.execute(select(workers.c.id)).all() == other.execute(select(workers.c.id)).all()
    assert postgres.shared().disconnect(url) >= 1
    assert store.ask(IDS.fetch) == [("a",), ("b",)]


def test_a_connection_that_ends_in_a_transaction_is_busy_and_stores_nothing(store: Store, url: str) -> None:
    """Whoever was in the middle comes again; the pool is whole afterwards."""

    def change() -> None:
        with store.write() as connection:
            connection.execute(update(workers).values(seen_at=7))
            postgres.shared().disconnect(url)
            connection.execute(update(workers).values(seen_at=8))

    with pytest.raises(Busy) as trouble:
        change()
    assert not trouble.value.uncertain
    with store.read() as connection:
        assert set(connection.execute(select(workers.c.seen_at)).scalars()) == {1}


def test_a_connection_that_ends_in_the_commit_leaves_it_uncertain(store: Store, url: str) -> None:
    """Nobody says then that nothing was stored: the server may have got the order, and only its answer be lost."""

    def change() -> None:
        with store.write() as connection:
            connection.execute(update(workers).values(seen_at=7))
            postgres.shared().disconnect(url)

    with pytest.raises(Busy) as trouble:
        change()
    assert trouble.value.uncertain
    store.ping()


def test_a_primary_that_became_a_standby_is_left(store: Store, url: str) -> None:
    """It takes no writes, which is Busy; the next one goes to where the address leads by now, without a restart."""

    def change() -> None:
        with store.write() as connection:
            connection.execute(update(workers).values(seen_at=9))

    name = postgres.name_of(url)
    postgres.shared().execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    postgres.shared().disconnect(url)
    with store.read(), store.read():
        pass
    postgres.shared().execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    with pytest.raises(Busy, match="read-only"):
        change()
    change()


def test_a_column_that_gets_another_type_fails_one_transaction_and_no_more(store: Store, url: str) -> None:
    """Statements kept on a connection fail for good then; no process must be started anew for that."""

    def change(kind: str) -> None:
        with store.write() as connection, store.read() as other:
            assert IDS.fetch(connection) == IDS.fetch(other)
        postgres.shared().execute(f"ALTER TABLE workers ALTER COLUMN id TYPE {kind}", postgres.name_of(url))

    change("varchar(200)")
    with pytest.raises(Busy, match="result type"), store.write() as connection:
        IDS.fetch(connection)
    change("text")
    assert store.ask(IDS.fetch) == [("a",), ("b",)]


@pytest.mark.parametrize(("state", "passes"), [("25P03", True), ("25P04", True), ("XX000", False)])
def test_a_transaction_that_the_server_ended_for_its_length_is_tried_again(state: str, passes: bool) -> None:
    """A database may have limits of its own (``transaction_timeout``): no provider's answer is dropped for them."""
    found = trouble(InternalError("COMMIT", None, errors.lookup(state)("the server ended it")))
    assert (found is not None) == passes


@pytest.mark.process
def test_ten_who_migrate_at_once_all_succeed(url: str) -> None:
    """Ten machines that start together on an empty database: the first migrates, the others wait for it."""
    code = f"from receiver.store import Store; s = Store({url!r}); s.migrate(); s.ping(); s.close()"
    started = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(10)
    ]
    for process in started:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    store = Store(url)
    assert store.schema_is_current()
    store.close()


@pytest.mark.process
def test_behind_a_pooler_all_works_and_no_statement_is_kept(url: str) -> None:
    """PgBouncer in transaction mode hands every transaction to another session: none may need the one before."""
    with postgres.pooler(postgres.shared()) as port:
        store = Store(re.sub(r":\d+/", f":{port}/", url), pool=4)
        store.migrate()
        wire = Wire(store)
        ear = wire.ear("here")
        assert ear.fileno() is None, "it would listen in vain"
        assert not wire.heard_beyond("here")
        beyond = Store(url)
        other_ear = Wire(beyond).ear("there")
        assert other_ear.fileno() is not None
        assert wire.heard_beyond("here"), "one that has no pooler before it"
        assert not wire.heard_beyond("there")
        other_ear.close()
        beyond.close()
        for number in range(20):
            with store.write() as connection:
                connection.execute(workers.insert().values(id=f"{number}", started_at=1, seen_at=1))
                with store.write() as other:  # so that the two sessions of the pooler are both in use
                    ADD.run(other, [(f"other-{number}", 1)])
                assert connection.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one() == 0
            wire.send("x")
        assert setting(store, "statement_timeout") == "30s"
        assert len(store.ask(IDS.fetch)) == 40
        with store.read() as connection:
            assert connection.execute(text("SELECT count(*) FROM workers")).scalar_one() == 40
        ear.close()
        store.close()
