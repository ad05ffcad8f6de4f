"""Migrations: from empty they give exactly the schema that the code was written for, whoever else migrates too."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from receiver.errors import Busy
from receiver.store import Store
from receiver.store.schema import metadata

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty database in a folder that does not exist yet."""
    found = Store(f"sqlite:///{tmp_path}/deep/er/receiver.db")
    yield found
    found.close()


def test_migrations_make_the_schema(store: Store, tmp_path: Path) -> None:
    """Nothing is missing and nothing is too much: tables, columns, types, defaults, keys and indexes."""
    assert not store.schema_is_current()
    store.migrate()
    assert store.schema_is_current()
    with store.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        migrated = described(connection)
    created = Store(f"sqlite:///{tmp_path}/created.db")
    with created.write() as connection:
        metadata.create_all(connection)
        assert migrated == described(connection)
    created.close()


def described(connection: Connection) -> dict[str, list[Any]]:
    """Everything SQLite knows of the tables and indexes of a database, but for Alembic's own."""
    found: dict[str, list[Any]] = {}
    for (table,) in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").all():
        if table.startswith(("alembic", "sqlite_")):
            continue

        def ask(pragma: str, name: str) -> list[Any]:
            return sorted(map(tuple, connection.exec_driver_sql(f"PRAGMA {pragma}('{name}')").all()), key=str)

        columns = sorted((row[1:] for row in ask("table_info", table)), key=str)
        foreign = sorted((row[2:] for row in ask("foreign_key_list", table)), key=str)
        indexes = [
            (name if origin == "c" else origin, unique, partial, [row[:3] for row in ask("index_xinfo", name)])
            for _, name, unique, origin, partial in ask("index_list", table)
        ]
        found[table] = [columns, foreign, sorted(indexes, key=str)]
    where = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql LIKE '%WHERE%'"
    found["partial"] = sorted((row[0], row[1].split(" WHERE ")[1]) for row in connection.exec_driver_sql(where))
    return found


def test_migrating_twice_changes_nothing(store: Store) -> None:
    """Every start migrates."""
    store.migrate()
    with store.write() as connection:
        connection.execute(text("INSERT INTO workers (id, started_at, seen_at) VALUES ('w', 1, 1)"))
    store.migrate()
    with store.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM workers")).scalar_one() == 1


def test_threads_that_migrate_together_all_succeed(tmp_path: Path) -> None:
    """One migrates, the others wait and find it done."""
    start = threading.Barrier(6)
    troubles: list[BaseException] = []

    def run() -> None:
        store = Store(f"sqlite:///{tmp_path}/receiver.db")
        start.wait()
        try:
            store.migrate()
            assert store.schema_is_current()
        except BaseException as trouble:  # noqa: BLE001  shown below
            troubles.append(trouble)
        finally:
            store.close()

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert troubles == []


def test_processes_that_migrate_together_all_succeed(tmp_path: Path) -> None:
    """Web and worker of a first start come at the same moment."""
    code = f"from receiver.store import Store; s = Store('sqlite:///{tmp_path}/r.db'); s.migrate(); s.ping()"
    started = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    for process in started:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said


def test_a_database_that_is_not_there_is_busy(tmp_path: Path) -> None:
    """The caller is told to come back; nothing else leaks out of the database layer."""
    folder = tmp_path / "gone"
    store = Store(f"sqlite:///{folder}/receiver.db")
    folder.rmdir()
    with pytest.raises(Busy):
        store.ping()
    with pytest.raises(Busy), store.write():
        pass
    store.close()


def test_connections_that_come_first_together_all_succeed(tmp_path: Path) -> None:
    """The change of a new file to write-ahead logging is waited for, which SQLite does not do by itself."""
    troubles: list[BaseException] = []

    def run(path: Path, start: threading.Barrier) -> None:
        store = Store(f"sqlite:///{path}")
        start.wait()
        try:
            store.ping()
            with store.write() as connection:
                connection.execute(text("CREATE TABLE IF NOT EXISTS x (y)"))
        except Busy as trouble:
            troubles.append(trouble)
        finally:
            store.close()

    for round_number in range(10):
        start = threading.Barrier(6)
        path = tmp_path / f"{round_number}.db"
        threads = [threading.Thread(target=run, args=(path, start)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert troubles == []


def test_a_database_that_cannot_be_opened_is_busy_not_a_crash(tmp_path: Path) -> None:
    """Who starts the service with an unusable database is told so in one sentence."""
    (tmp_path / "folder.db").mkdir()
    store = Store(f"sqlite:///{tmp_path}/folder.db")
    with pytest.raises(Busy, match="cannot be migrated"):
        store.migrate()
    store.close()
