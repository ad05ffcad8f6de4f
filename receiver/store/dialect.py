"""Everything that differs between SQLite and PostgreSQL, and nothing else."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import BindParameter, Connection, Engine, Insert, Select, Table, bindparam, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url

BUSY_SECONDS = 10


def open_engine(url: str) -> Engine:
    """An engine for either database; makes the folder of a SQLite file. Opens no connection yet."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database and parsed.database != ":memory:":
            Path(parsed.database).resolve().parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(parsed, connect_args={"timeout": BUSY_SECONDS}, pool_size=16, max_overflow=48)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    return create_engine(parsed, pool_size=16, max_overflow=48, pool_pre_ping=True)


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself; _begin_sqlite does
    cursor = connection.cursor()
    _use_wal(cursor)
    cursor.execute("PRAGMA synchronous=FULL")  # what was acknowledged survives a power cut
    cursor.execute("PRAGMA foreign_keys=ON")
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
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def skip_locked(connection: Connection, query: Select[Any]) -> Select[Any]:
    """The rows of a claim, without those that another worker is claiming now (SQLite has one writer anyway)."""
    if connection.dialect.name == "postgresql":
        return query.with_for_update(skip_locked=True)
    return query


def locked(connection: Connection, query: Select[Any]) -> Select[Any]:
    """The rows of a query, held for this transaction; who wants them too waits (SQLite has one writer anyway)."""
    return query.with_for_update() if connection.dialect.name == "postgresql" else query


def insert_or_nothing(connection: Connection, table: Table) -> Insert:
    """An INSERT that does nothing where a unique row is there already; its rowcount tells."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()


def inline(word: str) -> BindParameter[str]:
    """A value written into the statement itself: a partial index on it is used only when the planner sees it.

    For words of our own, never for a caller's text.
    """
    return bindparam(None, str(word), literal_execute=True)


def database_folder(url: str) -> Path | None:
    """The folder of a SQLite file, or None for any other database."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        return None
    return Path(parsed.database).resolve().parent


def place_of(url: str) -> str:
    """What all processes that share a database call it: the absolute path of a SQLite file, else the URL."""
    folder = database_folder(url)
    return url if folder is None else str(folder / Path(str(make_url(url).database)).name)


def password_of(url: str) -> str:
    """The password in a database URL; empty when there is none."""
    return str(make_url(url).password or "")
