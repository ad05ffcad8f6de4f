"""Migrations: from empty they give exactly the schema that the code was written for, whoever else migrates too."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from receiver.errors import Busy
from receiver.models import TaskStatus
from receiver.store import Store, tasks
from receiver.store.schema import metadata
from tests.databases import empty

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(database: str, tmp_path: Path) -> Iterator[Store]:
    """An empty database; an SQLite file lies in a folder that does not exist yet."""
    with empty(database, tmp_path / "deep" / "er") as url:
        found = Store(url)
        yield found
        found.close()


def test_migrations_make_the_schema(store: Store, database: str, tmp_path: Path) -> None:
    """Nothing is missing and nothing is too much: tables, columns, types, defaults, keys and indexes."""
    assert not store.schema_is_current()
    store.migrate()
    assert store.schema_is_current()
    with store.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        migrated = described(connection)
    with empty(database, tmp_path) as url:
        created = Store(url)
        with created.write() as connection:
            metadata.create_all(connection)
            assert migrated == described(connection)
        created.close()


def described(connection: Connection) -> dict[str, list[Any]]:
    """Everything the database knows of its tables and indexes, but for Alembic's own."""
    return described_sqlite(connection) if connection.dialect.name == "sqlite" else described_postgresql(connection)


def described_postgresql(connection: Connection) -> dict[str, list[Any]]:
    """From the catalogues."""
    columns = """SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
        WHERE table_schema = 'public' AND table_name <> 'alembic_version' ORDER BY 1, 2"""
    keys = """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND conrelid <> 'alembic_version'::regclass ORDER BY 1, 2"""
    indexes = """SELECT indexname, indexdef FROM pg_indexes
        WHERE schemaname = 'public' AND tablename <> 'alembic_version' ORDER BY 1"""
    queries = {"columns": columns, "keys": keys, "indexes": indexes}
    if connection.execute(text("SELECT to_regclass('alembic_version')")).scalar() is None:
        queries["keys"] = keys.replace("AND conrelid <> 'alembic_version'::regclass", "")
    return {name: list(map(tuple, connection.execute(text(query)).all())) for name, query in queries.items()}


def described_sqlite(connection: Connection) -> dict[str, list[Any]]:
    """From its pragmas."""
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


def test_every_older_schema_with_data_comes_up_to_the_newest(store: Store) -> None:
    """From the first migration on: rows of every table stay as they are, and the code can use them."""
    rows = {
        "accounts": {"id": "acc_1", "name": "default", "secrets_sealed": "", "created_at": 1},
        "tasks": {
            "id": "task_1", "account_id": "acc_1", "provider": "topview", "operation": "draw", "status": "running",
            "input_json": "{}", "metadata": "{}", "created_at": 1, "deadline_at": 9, "due_at": 1,
        },
        "steps": {"task_id": "task_1", "at": 1, "kind": "created", "detail": "{}"},
        "notices": {
            "id": "ntc_1", "provider": "topview", "task_id": "task_1", "notice_key": "task_1:a", "received_at": 1,
            "headers": "{}", "body": b"x", "verdict": "hint",
        },
        "events": {
            "id": "evt_1", "account_id": "acc_1", "type": "task.running", "task_id": "task_1", "created_at": 1,
            "body": "{}",
        },
    }  # fmt: skip
    with store.write() as connection:
        up_to(connection, "0001")
        for table, values in rows.items():
            connection.execute(metadata.tables[table].insert().values(values))
        before = {table: connection.execute(text(f"SELECT * FROM {table}")).all() for table in rows}
    assert not store.schema_is_current()
    store.migrate()
    assert store.schema_is_current()
    with store.write() as connection:
        assert before == {table: connection.execute(text(f"SELECT * FROM {table}")).all() for table in rows}
        (claimed,) = tasks.claim(connection, "topview", TaskStatus.RUNNING, TaskStatus.RUNNING, now=5, until=9, limit=3)
        assert (claimed.id, claimed.fence) == ("task_1", 1)


def up_to(connection: Connection, revision: str) -> None:
    """Migrate an empty database up to a revision."""
    config = Config()
    config.set_main_option("script_location", str(ROOT / "receiver" / "store" / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def test_a_newer_schema_serves_older_code_and_is_left_alone(store: Store) -> None:
    """While a new version is rolled out, the old one starts, says that it is ready, and migrates nothing back."""
    store.migrate()
    with store.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9001'"))
    assert store.schema_is_current()
    store.migrate()
    with store.read() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "9001"


def test_migrating_twice_changes_nothing(store: Store) -> None:
    """Every start migrates."""
    store.migrate()
    with store.write() as connection:
        connection.execute(text("INSERT INTO workers (id, started_at, seen_at) VALUES ('w', 1, 1)"))
    store.migrate()
    with store.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM workers")).scalar_one() == 1


def test_threads_that_migrate_together_all_succeed(store: Store) -> None:
    """One migrates, the others wait and find it done."""
    url = store.url
    start = threading.Barrier(6)
    troubles: list[BaseException] = []

    def run() -> None:
        store = Store(url)
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


def test_processes_that_migrate_together_all_succeed(store: Store) -> None:
    """Web and worker of a first start come at the same moment."""
    code = f"from receiver.store import Store; s = Store({store.url!r}); s.migrate(); s.ping()"
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
