"""Everything that differs between SQLite and PostgreSQL, and nothing else."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    URL,
    BindParameter,
    Connection,
    Engine,
    Insert,
    Select,
    Table,
    bindparam,
    create_engine,
    event,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.sql import ClauseElement

from receiver.store import direct, places, private, silence, troubles

BUSY_SECONDS = 10
"""How long a transaction waits for a lock of another one, or a thread for a connection of the pool."""
STATEMENT_SECONDS = 30
"""After which PostgreSQL gives up a statement. Ours take milliseconds; migrations may take as long as they need."""
IDLE_SECONDS = 60
"""After which PostgreSQL ends a transaction that does nothing, so that one stuck process holds up nobody."""

_GONE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 30_000}
_UNREACHABLE = {"connect_timeout": 5, **_GONE}
"""libpq's time-outs: a machine that is gone without a word is noticed within half a minute. The URL can set others."""

_BY_INDEX = "; SET LOCAL plan_cache_mode = force_generic_plan" + "".join(
    f"; SET LOCAL {way} = off" for way in ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit")
)
"""What a transaction writes it finds by its keys. A plan is kept, and one that was made while a table was small would
read all of it however large it has grown, until PostgreSQL counts its rows anew. Left to itself it also makes some
plans anew for each value: that of what is due for a subscriber, which then costs more than all else about it."""

CACHE_KB = 8_000
"""Pages of a SQLite file that one transaction keeps at hand: the fair choice among a thousand subscribers needs more
than the 2 MB that it has by itself."""

_LEVEL = "synchronous"  # how a connection to SQLite flushes now
_MIGRATION_KEY = 0x7265_6376_6D69_6772  # "recvmigr"; any number that nobody else takes
_ORDER_KEY = 0x7265 << 48  # the lower 48 bits hold a place in the order of events


def open_engine(url: str, pool: int = 10) -> Engine:
    """An engine for either database; makes the folder of a SQLite file. Opens no connection yet.

    ``pool``: connections to PostgreSQL that this process holds at most. Raises ValueError for options that are none.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        private.make_folder(places.database_folder(url))
        engine = create_engine(parsed, connect_args={"timeout": BUSY_SECONDS}, pool_size=16, max_overflow=48)
        event.listen(engine, "do_connect", private.make_file)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    engine = create_engine(
        _with_driver(parsed),
        connect_args=connect_arguments(url),
        poolclass=silence.Pool,
        use_native_hstore=False,  # spares a query on every new connection
        pool_size=pool,
        max_overflow=0,
        pool_timeout=BUSY_SECONDS,
        pool_use_lifo=True,  # what a rush has opened and nobody needs now is not kept warm
    )
    driver: Any = engine.dialect.dbapi
    try:
        driver.conninfo.make_conninfo(**dict.fromkeys(parsed.query, ""))
    except driver.ProgrammingError as error:
        raise ValueError(str(error)) from None
    silence.watch(engine)
    event.listen(engine, "connect", _prepare_postgresql)
    event.listen(engine, "begin", _begin_postgresql)
    event.listen(engine, "before_cursor_execute", _land_postgresql)
    event.listen(engine, "commit", _commit_postgresql)
    event.listen(engine, "checkin", lambda _, record: direct.forget(record.info))
    event.listen(engine, "handle_error", troubles.leave_outdated)
    return engine


def _with_driver(url: URL) -> URL:
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def connect_arguments(url: str) -> dict[str, Any]:
    """What a connection to PostgreSQL is opened with, unless the URL says it."""
    # autocommit: the driver must not begin transactions by itself; _begin_postgresql does.
    given = make_url(url).query
    defaults = {"application_name": f"receiver@{os.uname().nodename}"[:63], **_UNREACHABLE}
    ours = {"autocommit": True, "client_encoding": "UTF8"}  # which ``direct`` writes, whatever the database is in
    return {**ours, **{name: value for name, value in defaults.items() if name not in given}}


def _prepare_postgresql(connection: Any, record: Any) -> None:
    # The driver keeps no statements: to be rid of them after a rollback it has the server forget ours as well. And
    # behind a pooler the next transaction may meet another session, which knows none of either.
    connection.prepare_threshold = None
    lasting = not behind_pooler(connection)
    if lasting:
        # The time-outs are for single queries, see ``Store.ask``. The rest ends sessions whose machine is gone: left to
        # the system the server keeps each for two hours, and after a few cuts of the network it takes no new ones.
        seconds = {"lock_timeout": f"'{BUSY_SECONDS}s'", "statement_timeout": f"'{STATEMENT_SECONDS}s'"}
        said = {**seconds, **{f"tcp_{name.removeprefix('tcp_')}": value for name, value in _GONE.items()}}
        connection.execute("; ".join(f"SET {name} = {value}" for name, value in said.items()))
    record.info[direct.SESSION] = direct.Session(connection, silence.line_of(record), lasting=lasting)


def behind_pooler(connection: Any) -> bool:
    """Whether a pooler like PgBouncer stands between: then the session that answers is not the one that was opened.

    ``connection``: of psycopg, in autocommit. A pooler makes up the process number that it gives at the start.
    """
    return bool(connection.execute("SELECT pg_backend_pid()").fetchone()[0] != connection.info.backend_pid)


def _begin_postgresql(connection: Connection) -> None:
    # The time-outs go with the BEGIN, in one message: they cost nothing that can be measured, and behind a
    # pooler they hold for this transaction alone. A reader sees one moment, as on SQLite. A writer sees what others
    # have stored while it waited for their locks, whatever the user or the database has as its default.
    options = connection.get_execution_options()
    if options.get("bare", False):
        return
    seconds = {"statement_timeout": STATEMENT_SECONDS, "idle_in_transaction_session_timeout": IDLE_SECONDS}
    migrates = options.get("migrates", False)
    timeouts = {"lock_timeout": BUSY_SECONDS, **(dict.fromkeys(seconds, 0) if migrates else seconds)}
    said = "".join(f"; SET LOCAL {name} = {round(1000 * value)}" for name, value in timeouts.items())
    if not options.get("flushed", True):
        said += "; SET LOCAL synchronous_commit = off"
    reads = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY{said}"
    writes = f"BEGIN ISOLATION LEVEL READ COMMITTED{said}{_BY_INDEX}"
    begin = writes if options.get("writes", False) else reads
    session, line = direct.session_of(connection), silence.line_of(connection)
    line.take(silence.BEGINNING if session.lasting else BUSY_SECONDS)  # a pooler may have no session free just now
    direct.directly(connection, begin, lambda _: session.begin(begin))
    line.take(float("inf") if migrates else None)


def _commit_postgresql(connection: Connection) -> None:
    if not connection.get_execution_options().get("bare", False):  # the driver finds nothing to commit afterwards
        direct.directly(connection, "COMMIT", lambda _: direct.session_of(connection).commit())


def _land_postgresql(connection: Connection, *_: Any) -> None:
    direct.directly(connection, "what waited", lambda _: direct.session_of(connection).land())


def _prepare_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself; _begin_sqlite does
    cursor = connection.cursor()
    _use_wal(cursor)
    cursor.execute("PRAGMA synchronous=FULL")  # what was acknowledged survives a power cut
    record.info[_LEVEL] = "FULL"
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute(f"PRAGMA cache_size=-{CACHE_KB}")  # below zero it counts KB
    cursor.close()


def _use_wal(cursor: Any) -> None:
    # Processes of a first start come together, and SQLite does not wait by itself for this change of the file.
    patience = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > patience:
                raise
            time.sleep(0.02)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that begins to write later fails at once when another one writes, whatever the
    # time-out; one that says at its beginning that it will write waits its turn.
    options = connection.get_execution_options()
    if not options.get("writes", False):
        connection.exec_driver_sql("BEGIN")
        return
    # NORMAL leaves a commit to whoever flushes next, as PostgreSQL does without synchronous_commit: ``Store.write``.
    level = "FULL" if options.get("flushed", True) else "NORMAL"
    if connection.info.get(_LEVEL, level) != level:
        connection.exec_driver_sql(f"PRAGMA synchronous={level}")
        connection.info[_LEVEL] = level
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def lock_schema(connection: Connection) -> None:
    """Wait for whoever migrates the same database now; the lock is held until this transaction ends."""
    if connection.dialect.name == "postgresql":
        # However long the other takes; but a change of a table that readers use must not wait for long, because
        # whoever comes after it waits behind it.
        connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_KEY})
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {1000 * BUSY_SECONDS}")


def enter_order(connection: Connection) -> None:
    """Say, before events are added, from which place on this transaction may take places in their order.

    Places are given before the commit, so a later place can be seen before an earlier one. A shared lock whose
    number is the last place given out tells readers of those that are still to come: see ``settled_order``.
    """
    if connection.dialect.name == "postgresql":
        query = "SELECT pg_advisory_xact_lock_shared($1 + last_value) FROM events_seq_seq"
        direct.directly(connection, query, lambda session: session.later(query, [(_ORDER_KEY,)]))


def settled_order(connection: Connection) -> int | None:
    """The place in the order of events up to which no further one can appear; None: there is no such limit.

    To be asked in a transaction of its own, *before* the one that reads the events. Whoever had a place up to
    this one when it was asked has ended: its event is there for whoever looks now, or never will be.
    """
    if connection.dialect.name != "postgresql":
        return None  # one writer at a time
    given: int = connection.execute(text("SELECT last_value FROM events_seq_seq")).scalar_one()
    waiting = text(
        "SELECT min((classid::bigint << 32 | objid::bigint) - :key) FROM pg_locks WHERE locktype = 'advisory'"
        " AND objsubid = 1 AND classid::bigint >> 16 = :prefix"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    first: int | None = connection.execute(waiting, {"key": _ORDER_KEY, "prefix": _ORDER_KEY >> 48}).scalar_one()
    return given if first is None else min(given, first)


def bare(engine: Engine) -> Engine | None:
    """The engine of PostgreSQL for single statements without a transaction; None for SQLite."""
    return engine.execution_options(bare=True) if engine.dialect.name == "postgresql" else None


def state(connection: Connection) -> tuple[str, bool]:
    """A text that changes with every commit of a write, and whether it means something to this connection only.

    On SQLite it does, and tells nothing of the connection's own writes. To be asked there outside of any transaction.
    """
    if connection.dialect.name == "postgresql":
        query = "SELECT pg_current_snapshot()::text"
        ((snapshot,),) = direct.directly(connection, query, lambda session: session.rows(query, ()))
        return str(snapshot), False
    driver: Any = connection.connection.dbapi_connection
    try:
        return str(driver.execute("PRAGMA data_version").fetchone()[0]), True
    except sqlite3.Error as error:
        raise OperationalError("PRAGMA data_version", None, error) from error


def socket_of(connection: Connection) -> int:
    """The number of a connection's socket, to be polled."""
    driver: Any = connection.connection.dbapi_connection
    return int(driver.fileno())


def heard(connection: Connection) -> list[str] | None:
    """The words that have come to a session that listens; None when it broke."""
    driver: Any = connection.connection.dbapi_connection
    errors: Any = connection.dialect.loaded_dbapi
    try:
        return [notice.payload for notice in driver.notifies(timeout=0)]
    except errors.Error:
        return None


# SQLite, with its one writer, leaves out every clause that locks rows. ``key_share`` makes it FOR NO KEY UPDATE: who
# only adds a row that refers to a held one (an event to its task, a delivery to its subscriber) need not wait.


def skip_locked(query: Select[Any], of: Table | None = None) -> Select[Any]:
    """The rows of a claim, without those that another worker is claiming now. ``of``: one of several tables."""
    return query.with_for_update(skip_locked=True, key_share=True, of=of)


def locked(query: Select[Any]) -> Select[Any]:
    """The rows of a query, held for this transaction; who wants to change them too waits."""
    return query.with_for_update(key_share=True)


def kept(query: Select[Any]) -> Select[Any]:
    """The rows of a query, which nobody can delete until this transaction ends; others may change them."""
    return query.with_for_update(read=True, key_share=True)


def deletable(query: Select[Any]) -> Select[Any]:
    """Rows that nobody holds or is referring to now, held to be deleted."""
    return query.with_for_update(skip_locked=True)


def insert_or_nothing(table: Table) -> Insert:
    """An INSERT that does nothing where a unique row is there already; its rowcount tells."""
    # PostgreSQL's words for it are SQLite's as well.
    return postgresql.insert(table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)


def kind_of(connection: Connection) -> str:
    """Which database it is: what is made once for each is kept under this."""
    return connection.dialect.name


def in_text(kind: str, statement: ClauseElement, names: Sequence[str]) -> tuple[str, list[str], dict[str, Any]]:
    """A statement as its driver takes it, the names of its parameters in the order of their places, and its constants.

    ``names``: the columns that an INSERT fills; of any other statement, those of its parameters. What has another
    name is a constant that the statement itself holds.
    """
    compiled = compiled_for(kind, statement, names)
    constants = {name: value for name, value in compiled.params.items() if name not in names}
    return compiled.string, compiled.positiontup, constants


def compiled_for(kind: str, statement: ClauseElement, names: Sequence[str]) -> Any:
    """A statement for one kind of database, with its drivers' places for parameters; see ``in_text``."""
    dialects: Any = postgresql.psycopg if kind == "postgresql" else sqlite
    form = dialects.dialect(paramstyle="numeric_dollar" if kind == "postgresql" else "qmark")
    if isinstance(statement, Insert):
        statement = statement.inline()  # nobody asks for the number that the database gives the row
    return statement.compile(dialect=form, column_keys=list(names))


def inline(word: str) -> BindParameter[str]:
    """A value written into the statement itself: a partial index on it is used only when the planner sees it.

    For words of our own, never for a caller's text.
    """
    return bindparam(None, str(word), literal_execute=True)
