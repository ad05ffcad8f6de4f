"""A backup made while the service runs is whole, and what is restored from it works."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import func, select

from receiver.store import Store, schema
from tests import postgres

SCRIPT = Path(__file__).parents[2] / "deploy" / "backup.sh"


def back_up(url: str, folder: Path, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script as cron would."""
    path = f"{postgres.programs()}:{os.environ['PATH']}"
    variables = {**os.environ, "RECEIVER_DATABASE_URL": url, "PYTHON": sys.executable, "PATH": path, **environment}
    command = ["sh", str(SCRIPT), str(folder), *more]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def fill(store: Store) -> None:
    """A schema with an account in it."""
    store.migrate()
    with store.write() as connection:
        connection.execute(schema.accounts.insert().values(id="acc_1", name="kept", secrets_sealed="x", created_at=0))


def accounts_in(url: str) -> int:
    """How many accounts a database holds whose schema is that of this version."""
    store = Store(url)
    assert store.schema_is_current()
    with store.read() as connection:
        found: int = connection.execute(select(func.count()).select_from(schema.accounts)).scalar_one()
    store.close()
    return found


def test_sqlite_is_copied_while_somebody_writes(tmp_path: Path) -> None:
    """One file, whole and readable by its owner alone, with what was committed and without what was not."""
    url = f"sqlite:///{tmp_path}/receiver.db"
    store = Store(url)
    fill(store)
    with store.write() as connection:  # somebody is just writing
        connection.execute(schema.accounts.insert().values(id="acc_2", name="open", secrets_sealed="x", created_at=0))
        done = back_up(url, tmp_path / "backups")
    store.close()
    assert done.returncode == 0, done.stderr
    (made,) = (tmp_path / "backups").iterdir()
    assert done.stdout.strip() == str(made)
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert accounts_in(f"sqlite:///{made}") == 1


@pytest.mark.parametrize("name", ["with space", "a#1", "100%", "a%23b", "a%3Fb", "ä"])
def test_a_file_of_any_name_is_copied(tmp_path: Path, name: str) -> None:
    """The copy is that of the file which the service takes the address for, whatever characters are in it."""
    url = f"sqlite:///{tmp_path}/{name}/receiver.db"
    store = Store(url)
    fill(store)
    store.close()
    done = back_up(url, tmp_path / "backups")
    assert done.returncode == 0, done.stderr
    assert accounts_in(f"sqlite:///{done.stdout.strip()}") == 1


def test_a_backup_that_fails_is_told(tmp_path: Path) -> None:
    """No backup that cannot be restored, and no half one: the script fails, and cron tells."""
    (tmp_path / "receiver.db").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    done = back_up(f"sqlite:///{tmp_path}/receiver.db", tmp_path / "backups")
    assert done.returncode != 0
    assert back_up("postgresql://nobody@127.0.0.1:1/receiver", tmp_path / "backups").returncode != 0
    assert back_up("mysql://x", tmp_path / "backups").returncode == 2
    assert not list((tmp_path / "backups").iterdir()), "half backups would fill the disk, night by night"


@pytest.mark.parametrize("stopped", [False, True])
def test_a_backup_that_failed_leaves_nothing(tmp_path: Path, stopped: bool) -> None:
    """Neither a dump for which there was no room nor one that was stopped stays, night after night, on the disk."""
    half = '#!/bin/sh\nfor each; do case $each in --file=*) echo half >"${each#--file=}";; esac; done\n'
    program = tmp_path / "pg_dump"
    program.write_text(half + ("kill -TERM $PPID\nsleep 1\n" if stopped else "exit 1\n"))
    program.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = back_up("postgresql://x/y", tmp_path / "backups", PATH=path, TMPDIR=str(tmp_path))
    assert done.returncode != 0
    assert not list((tmp_path / "backups").iterdir())
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith("tmp")] == []


def test_what_a_killed_backup_has_left_goes_with_the_next(tmp_path: Path) -> None:
    """No half backup stays for good, not even after a loss of power; one that is still being written is left alone."""
    sqlite3.connect(tmp_path / "receiver.db").close()
    folder = tmp_path / "backups"
    folder.mkdir()
    left = [folder / f"receiver-20200101T000000Z.{end}" for end in ("db.part", "db.part-journal", "dump.part")]
    for path in left:
        path.touch()
        os.utime(path, (0, time.time() - 25 * 3600))
    written = folder / "receiver-20200102T000000Z.dump.part"
    written.touch()
    assert back_up(f"sqlite:///{tmp_path}/receiver.db", folder).returncode == 0
    assert not [path.name for path in left if path.exists()]
    assert written.exists()


def test_the_address_may_be_in_a_file(tmp_path: Path) -> None:
    """RECEIVER_DATABASE_URL_FILE wins, as for the service: an address that is mounted as a secret is backed up."""
    store = Store(f"sqlite:///{tmp_path}/receiver.db")
    fill(store)
    store.close()
    (tmp_path / "address").write_text(f"sqlite:///{tmp_path}/receiver.db\n")
    done = back_up("mysql://x", tmp_path / "backups", RECEIVER_DATABASE_URL_FILE=str(tmp_path / "address"))
    assert done.returncode == 0, done.stderr
    assert accounts_in(f"sqlite:///{done.stdout.strip()}") == 1


def test_old_backups_go(tmp_path: Path) -> None:
    """The newest ones stay, as many as asked for; other files in the folder are left alone."""
    sqlite3.connect(tmp_path / "receiver.db").close()
    folder = tmp_path / "backups"
    folder.mkdir()
    for day in range(1, 6):
        (folder / f"receiver-2020010{day}T000000Z.db").touch()
    (folder / "notes.txt").touch()
    assert back_up(f"sqlite:///{tmp_path}/receiver.db", folder, "3").returncode == 0
    left = sorted(path.name for path in folder.iterdir())
    assert left[:3] == ["notes.txt", "receiver-20200104T000000Z.db", "receiver-20200105T000000Z.db"]
    assert len(left) == 4


@pytest.mark.parametrize("keep", ["0", "-1", "all"])
def test_a_number_that_would_keep_nothing_is_refused(tmp_path: Path, keep: str) -> None:
    """0, which elsewhere means without end, takes no backup away: the new one least of all."""
    sqlite3.connect(tmp_path / "receiver.db").close()
    (tmp_path / "receiver-20200101T000000Z.db").touch()
    done = back_up(f"sqlite:///{tmp_path}/receiver.db", tmp_path, keep)
    assert done.returncode == 2
    assert "usage:" in done.stderr
    assert (tmp_path / "receiver-20200101T000000Z.db").exists()


@pytest.mark.process
def test_postgresql_is_dumped_and_restored(tmp_path: Path) -> None:
    """What pg_restore makes of the dump is a database of this version with everything in it."""
    with postgres.fresh_database() as url, postgres.fresh_database() as empty:
        store = Store(url)
        fill(store)
        done = back_up(url, tmp_path / "backups")
        assert done.returncode == 0, done.stderr
        restore = [str(postgres.programs() / "pg_restore"), "--no-owner", "--dbname", empty, done.stdout.strip()]
        subprocess.run(restore, check=True, capture_output=True)
        assert accounts_in(empty) == 1
        store.close()
        parts = urlsplit(url)  # the same with its standbys named, as the documentation says; the first is away
        place = f"host=127.0.0.1:9&host={parts.hostname}:{parts.port}&target_session_attrs=read-write"
        named = f"postgres://{parts.username}:{parts.password or ''}@{parts.path}?{place}"
        done = back_up(named, tmp_path / "standbys")
        assert done.returncode == 0, done.stderr
