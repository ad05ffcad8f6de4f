"""Statements given to the driver itself: the same values, rows and errors as SQLAlchemy's, on both databases."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Float,
    LargeBinary,
    MetaData,
    Table,
    Text,
    bindparam,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InternalError, ProgrammingError
from sqlalchemy.exc import OperationalError as Failed

from receiver.errors import Busy
from receiver.store import Store, dialect
from receiver.store.prepared import Prepared, PreparedAmong
from receiver.store.schema import workers
from tests import postgres
from tests.core.stage import Stage
from tests.databases import on_postgresql, on_sqlite

ADD = Prepared(insert(workers), "id", "seen_at", "started_at")
SEE = Prepared(update(workers).where(workers.c.id == bindparam("name")).values(seen_at=bindparam("at")), "name", "at")
SOME = PreparedAmong(
    lambda ids: (
        select(workers.c.id, workers.c.seen_at)
        .where(workers.c.id.in_(ids), workers.c.seen_at >= bindparam("since"))
        .order_by(workers.c.id)
    ),
    "since",
)


def seen(stage: Stage) -> dict[str, int]:
    """What is stored."""
    return {row.id: row.seen_at for row in stage.rows("SELECT id, seen_at FROM workers")}


def impatient(connection: Connection) -> Connection:
    """A connection to an SQLite file that waits for no lock."""
    connection.exec_driver_sql("PRAGMA busy_timeout = 0")
    return connection


def test_many_rows_go_in_at_once_and_are_counted(stage: Stage) -> None:
    """Values are given in the order of the names, whatever the order in the statement; none at all is nothing."""
    with stage.runtime.store.write() as connection:
        assert ADD.run(connection, [("a", 1, 0), ("b", 2, 0), ("c", 3, 0)]) == 3
        assert SEE.run(connection, [("a", 7), ("c", 9), ("nobody", 8)]) == 2
        assert ADD.run(connection, []) == 0
    assert seen(stage) == {"a": 7, "b": 2, "c": 9}


def test_many_rows_bring_any_value(stage: Stage) -> None:
    """Texts with quotes and braces, empty ones, NULL, bytes, fractions and truth come out as they went in."""
    table = Table(
        "odd", MetaData(), *(Column(*each) for each in (("a", Text), ("b", LargeBinary), ("c", Float), ("d", Boolean)))
    )
    add = Prepared(insert(table), "a", "b", "c", "d")
    rows = [('{"é\\,NULL}', b"\x00\xff", 0.5, True), ("", b"", None, False), (None, None, 3, None)]
    with stage.runtime.store.write() as connection:
        table.create(connection)
        assert add.run(connection, rows) == 3
        found = Prepared(select(table)).fetch(connection)
    assert {tuple(row) for row in found} == {*rows}


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 64, 100])
def test_rows_for_some_of_many(stage: Stage, count: int) -> None:
    """However many are asked for, each is found once; what is not there is left out."""
    names = [f"w{number:03}" for number in range(count)]
    with stage.runtime.store.write() as connection:
        ADD.run(connection, [(name, 5, 0) for name in ["other", *names]])
    with stage.runtime.store.read() as connection:
        assert SOME.fetch(connection, names, (5,)) == [(name, 5) for name in names]
        assert SOME.fetch(connection, ["missing", *names], (6,)) == []


def test_a_row_that_is_there_already_is_an_integrity_error(stage: Stage) -> None:
    """Whoever inserts learns it as from SQLAlchemy; the error tells the statement but no value."""
    with pytest.raises(IntegrityError) as caught, stage.runtime.store.write() as connection:
        ADD.run(connection, [("secret-name", 1, 0), ("secret-name", 2, 0)])
    assert "INSERT INTO workers" in str(caught.value)
    assert "[parameters" not in str(caught.value)
    assert seen(stage) == {}


def test_a_statement_that_the_database_does_not_know(stage: Stage) -> None:
    """An error of ours stays one, and is not said to pass by itself; the connection goes on."""
    wrong = Prepared(text("SELECT nothing FROM nowhere"))
    with (
        contextlib.suppress(InternalError),  # PostgreSQL's transaction has no good end then
        stage.runtime.store.read() as connection,
        pytest.raises((ProgrammingError, Failed)) as caught,
    ):
        wrong.fetch(connection)
    assert "nowhere" in str(caught.value)
    stage.runtime.store.ping()


def test_a_value_that_no_column_takes(stage: Stage) -> None:
    """Nothing is stored of any of the rows."""
    with pytest.raises(Exception, match="INSERT INTO workers"), stage.runtime.store.write() as connection:
        ADD.run(connection, [("a", 1, 0), ("b", object(), 0)])
    assert seen(stage) == {}


def test_what_is_sent_is_there_for_whatever_comes_next(stage: Stage) -> None:
    """One row or many, before statements of either kind and before the commit; in the order in which it was sent."""
    with stage.runtime.store.write() as connection:
        ADD.send(connection, [("a", 1, 0)])
        ADD.send(connection, [("b", 2, 0), ("c", 3, 0)])
        SEE.send(connection, [("a", 5)])
        assert SOME.fetch(connection, ["a", "b", "c"], (0,)) == [("a", 5), ("b", 2), ("c", 3)]
        SEE.send(connection, [("b", 6), ("c", 7)])
        assert connection.execute(select(workers.c.seen_at).where(workers.c.id == "c")).scalar_one() == 7
        SEE.send(connection, [])
        SEE.send(connection, [("c", 8)])
    assert seen(stage) == {"a": 5, "b": 6, "c": 8}


def test_what_was_sent_and_fails_stores_nothing(stage: Stage) -> None:
    """Its error comes with the next statement, or with the commit at the latest; none of it is there afterwards."""

    def add_twice(then: Callable[[Connection], object]) -> None:
        with stage.runtime.store.write() as connection:
            ADD.send(connection, [("other", 1, 0)])
            ADD.send(connection, [("a", 1, 0)])
            ADD.send(connection, [("a", 2, 0)])
            SEE.send(connection, [("other", 9)])
            then(connection)

    for then in (
        lambda _: None,
        lambda connection: SOME.fetch(connection, ["a"], (0,)),
        lambda connection: connection.execute(select(workers.c.id)),
    ):
        with pytest.raises(IntegrityError, match=r"(?i)unique"):
            add_twice(then)
        assert seen(stage) == {}


def test_what_was_sent_before_a_failure_of_ours_is_dropped(stage: Stage) -> None:
    """It goes neither with that transaction nor with whatever comes next on the connection."""

    def give_up() -> None:
        with stage.runtime.store.write() as connection:
            ADD.send(connection, [("a", 1, 0)])
            raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            give_up()
        assert stage.runtime.store.ask(lambda connection: SOME.fetch(connection, ["a", "b"], (0,))) == []
    with pytest.raises(KeyError):
        give_up()
    with stage.runtime.store.write() as connection:
        ADD.send(connection, [("b", 2, 0)])
    assert seen(stage) == {"b": 2}


@on_postgresql
def test_a_transaction_in_which_something_failed_is_never_taken_for_stored(stage: Stage) -> None:
    """Even by whoever caught the error: PostgreSQL answers his commit with a rollback, and without an error."""

    def pass_over(then: Callable[[Connection], object]) -> None:
        with stage.runtime.store.write() as connection:
            ADD.run(connection, [("a", 1, 0)])
            with contextlib.suppress(IntegrityError):
                ADD.run(connection, [("a", 2, 0)])
            then(connection)

    for then in (lambda _: None, lambda connection: SEE.send(connection, [("a", 9)])):
        with pytest.raises(DBAPIError, match=r"rolled back|aborted"):
            pass_over(then)
        assert seen(stage) == {}


def test_statements_outlive_what_the_driver_does_after_a_rollback(stage: Stage) -> None:
    """However often SQLAlchemy's own statements ran on the same connection, and whatever was rolled back."""
    for number in range(8):

        def give_up(number: int = number) -> None:
            with stage.runtime.store.write() as connection:
                ADD.run(connection, [(f"gone-{number}", 1, 0)])
                for _ in range(8):
                    connection.execute(select(workers.c.id).where(workers.c.id == "nobody"))
                raise KeyError

        with pytest.raises(KeyError):
            give_up()
    assert seen(stage) == {}


@on_postgresql
def test_a_connection_that_ends_in_flight_is_busy(stage: Stage) -> None:
    """Nobody waits for answers that cannot come; nothing is stored, and the pool gives a new connection."""

    def change() -> None:
        with stage.runtime.store.write() as connection:
            ADD.run(connection, [("a", 1, 0)])
            ADD.send(connection, [("b", 1, 0)])
            postgres.shared().disconnect(stage.settings.database_url)

    with pytest.raises(Busy):
        change()
    assert seen(stage) == {}


@on_postgresql
def test_more_than_a_socket_takes_at_once(stage: Stage) -> None:
    """A flight of many megabytes arrives whole."""
    name = "x" * 1000
    with stage.runtime.store.write() as connection:
        for number in range(20):
            ADD.send(connection, [(f"{number}-{each}-{name}", 1, 0) for each in range(500)])
    assert len(seen(stage)) == 10_000


@on_postgresql
def test_a_text_with_a_nul_is_refused(stage: Stage) -> None:
    """PostgreSQL keeps none; it must not end at the NUL without a word."""
    with pytest.raises(DataError), stage.runtime.store.write() as connection:
        ADD.run(connection, [("cut\0here", 1, 0)])
    assert seen(stage) == {}


@on_postgresql
def test_a_database_in_another_encoding(stage: Stage) -> None:
    """One that knows of no characters keeps what is written in UTF-8, one row or many, and gives it back whole."""
    url = postgres.shared().url("bytes")
    postgres.shared().execute("CREATE DATABASE bytes ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    try:
        store = Store(url)
        store.migrate()
        with store.write() as connection:
            ADD.run(connection, [("é", 1, 0)])
            ADD.run(connection, [("ü", 1, 0), ("ñ", 1, 0)])
        with store.read() as connection:
            ids = connection.execute(select(workers.c.id)).scalars().all()
            assert set(ids) == {row[0] for row in SOME.fetch(connection, ["é", "ü", "ñ"], (0,))} == {"é", "ü", "ñ"}
        store.close()
    finally:
        postgres.shared().drop(url)


@on_sqlite
def test_a_file_that_another_writes_is_busy(stage: Stage) -> None:
    """A lock that does not go away is the same passing trouble as everywhere."""
    store = stage.runtime.store
    with store.write() as holder:
        ADD.run(holder, [("a", 2, 0)])
        with pytest.raises(Busy, match="locked"), store.read() as other:
            ADD.run(impatient(other), [("b", 3, 0)])
    assert seen(stage) == {"a": 2}


@on_postgresql
def test_a_row_that_another_holds_is_busy(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as a transaction waits for a lock at most, and no longer."""
    store = stage.runtime.store
    with store.write() as connection:
        ADD.run(connection, [("a", 1, 0)])
    with store.write() as holder:
        SEE.run(holder, [("a", 2)])
        monkeypatch.setattr(dialect, "BUSY_SECONDS", 0.05)
        with pytest.raises(Busy, match="lock timeout"), store.write() as other:
            SEE.run(other, [("a", 3)])
    assert seen(stage) == {"a": 2}


@on_postgresql
def test_a_connection_that_ends_is_busy_and_replaced(stage: Stage) -> None:
    """In the middle of a transaction: nothing is stored, and the pool gives a new connection to the next one."""

    def change() -> None:
        with stage.runtime.store.write() as connection:
            ADD.run(connection, [("a", 1, 0)])
            postgres.shared().disconnect(stage.settings.database_url)
            SEE.run(connection, [("a", 2)])

    with pytest.raises(Busy):
        change()
    assert seen(stage) == {}
