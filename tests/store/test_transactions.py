"""Transactions: all or nothing, readers undisturbed, writers in turn."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import select, text

from receiver.errors import Busy, Conflict
from receiver.store import dialect
from receiver.store.places import database_file, database_folder, place_of
from receiver.store.schema import workers
from tests.core.stage import Stage
from tests.databases import on_sqlite

BEAT = text("INSERT INTO workers (id, started_at, seen_at) VALUES (:id, 1, 1)")


def count(stage: Stage) -> int:
    """Rows written."""
    return int(stage.rows("SELECT count(*) AS n FROM workers")[0].n)


def test_an_error_in_the_block_undoes_all_of_it(stage: Stage) -> None:
    """Half a change is worse than none."""

    def change() -> None:
        with stage.runtime.store.write() as connection:
            connection.execute(BEAT, {"id": "a"})
            raise Conflict("no")

    with pytest.raises(Conflict):
        change()
    assert count(stage) == 0


@on_sqlite
def test_what_was_committed_survives_a_power_cut(stage: Stage) -> None:
    """Write-ahead log, flushed at every commit; foreign keys are enforced."""
    with stage.runtime.store.read() as connection:
        pragma = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragma == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_a_reader_sees_one_moment_and_disturbs_nobody(stage: Stage) -> None:
    """What is written meanwhile is seen by the next reader."""
    query = text("SELECT count(*) FROM workers")
    with stage.runtime.store.read() as reader:
        assert reader.execute(query).scalar_one() == 0
        with stage.runtime.store.write() as writer:
            writer.execute(BEAT, {"id": "a"})
        assert reader.execute(query).scalar_one() == 0
    assert count(stage) == 1


def test_writers_wait_their_turn(stage: Stage) -> None:
    """Twenty threads that read a row to change it, think and write lose no update and meet no error."""
    with stage.runtime.store.write() as connection:
        connection.execute(BEAT, {"id": "a"})

    def run() -> None:
        for _ in range(5):
            with stage.runtime.store.write() as connection:
                seen = connection.execute(dialect.locked(select(workers.c.seen_at))).scalar_one()
                connection.execute(text("UPDATE workers SET seen_at = :seen"), {"seen": seen + 1})

    threads = [threading.Thread(target=run) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stage.rows("SELECT seen_at FROM workers")[0].seen_at == 101


@on_sqlite
def test_a_lock_that_does_not_go_away_is_busy(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The web answers 503 and the provider comes again; nothing was stored."""
    monkeypatch.setattr(dialect, "BUSY_SECONDS", 0.05)
    stage.runtime.store.close()
    impatient = type(stage.runtime.store)(stage.settings.database_url)
    blocker = sqlite3.connect(Path(stage.settings.database_url.removeprefix("sqlite:///")))
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(Busy, match="locked"), impatient.write():
        pass
    with impatient.read() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    blocker.rollback()
    blocker.close()
    impatient.close()


def test_processes_agree_on_what_they_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same file has the same name for the bell, however it is written; other databases go by their URL."""
    monkeypatch.chdir(tmp_path)
    same = {place_of(url) for url in ("sqlite:///r.db", "sqlite:///./r.db", f"sqlite:///{tmp_path}/r.db")}
    assert same == {str(tmp_path / "r.db")}
    assert place_of("postgresql://db/x") == "postgresql://db/x"
    assert database_folder("postgresql://db/x") is None
    assert database_folder("sqlite:///r.db") == tmp_path


def test_what_need_not_survive_a_power_cut_is_not_waited_for(stage: Stage) -> None:
    """A claim is not flushed; the transaction after it is, over the same connection, and so is a claim before it."""
    levels = []
    for flushed in (True, False, False, True):
        with stage.runtime.store.write(flushed=flushed) as connection:
            sqlite = connection.dialect.name == "sqlite"
            ask = "PRAGMA synchronous" if sqlite else "SHOW synchronous_commit"
            levels.append(connection.exec_driver_sql(ask).scalar_one())
    full, hasty = (2, 1) if sqlite else ("on", "off")
    assert levels == [full, hasty, hasty, full]


@on_sqlite
@pytest.mark.parametrize("replaced", [False, True])
def test_nothing_is_acknowledged_into_a_file_that_is_gone(stage: Stage, replaced: bool) -> None:
    """A file that was deleted, or restored over, in use: what is written would be lost, so it is refused and said."""
    file = database_file(stage.runtime.store.url)
    assert file is not None
    if replaced:
        shutil.copy(file, file.with_name("restored"))
        file.with_name("restored").replace(file)
    else:
        file.unlink()
    with pytest.raises(Busy, match="removed or replaced"):
        stage.create()
    with pytest.raises(Busy, match="removed or replaced"):
        stage.runtime.store.ping()
