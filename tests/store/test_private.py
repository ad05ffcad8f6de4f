"""Who may read what a local database leaves on the disk."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.store import Store


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """The modes of a folder and of the files in it."""
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}


def test_a_new_database_is_its_owners_alone(tmp_path: Path) -> None:
    """The folder, the file and all that SQLite and we put beside it."""
    folder = tmp_path / "here" / "var"
    store = Store(f"sqlite:///{folder}/receiver.db")
    store.migrate()
    with store.write():
        found = modes(folder)
    store.close()
    assert found.pop("var") == 0o700
    assert found == dict.fromkeys(("receiver.db", "receiver.db-wal", "receiver.db-shm", "receiver.db-turn"), 0o600)


def test_what_is_there_keeps_its_mode(tmp_path: Path) -> None:
    """Who has given others the right to read, on purpose, does not lose it."""
    folder, file = tmp_path / "var", tmp_path / "var" / "receiver.db"
    folder.mkdir(mode=0o750)
    file.touch(mode=0o640)
    store = Store(f"sqlite:///{file}")
    store.migrate()
    found = modes(folder)
    store.close()
    assert (found["var"], found["receiver.db"]) == (0o750, 0o640)
