"""The PostgreSQL that the tests run on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from tests import postgres

OWNER = """
import time
from tests import postgres
with postgres.server() as own:
    print(own.folder, flush=True)
    time.sleep(60)
"""


def test_a_fresh_database_is_a_copy_and_goes_away() -> None:
    """Every test has its own, filled by copying, and none is left behind."""
    with postgres.fresh_database() as template:
        with psycopg.connect(template) as connection:
            connection.execute("CREATE TABLE things AS SELECT 7 AS n")
        with postgres.fresh_database(postgres.name_of(template)) as copy, psycopg.connect(copy) as connection:
            assert connection.execute("SELECT n FROM things").fetchone() == (7,)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(copy)


def test_only_servers_for_tests_lie_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is room; what benchmarks measure lies on a disk, as with users."""
    monkeypatch.setattr(postgres.Server, "set_up", lambda *_: None)
    monkeypatch.setattr(postgres, "_MEMORY", tmp_path)
    for room, config, inside in ((0, postgres.FAST, True), (0, {}, False), (1 << 62, postgres.FAST, False)):
        monkeypatch.setattr(postgres, "_ROOM", room)
        with postgres.server(config) as own:
            assert (own.folder.parent == tmp_path) is inside


@pytest.mark.process
def test_a_server_of_ones_own_restarts_and_loses_nothing() -> None:
    """Tests of fail-over stop it as they like; what was committed is there afterwards."""
    with postgres.server() as own:
        url = own.create()
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE things AS SELECT 7 AS n")
        own.restart()
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT n FROM things").fetchone() == (7,)
    assert not own.folder.exists()


@pytest.mark.process
def test_a_killed_session_leaves_no_server_behind() -> None:
    """Whoever kills a test run finds no server running and no folder lying about a moment later."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True, env=environment)
    assert owner.stdout is not None
    folder = Path(owner.stdout.readline().strip())
    pid = int((folder / "data" / "postmaster.pid").read_text().split()[0])
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    deadline = time.monotonic() + 30
    while folder.exists() or Path(f"/proc/{pid}/stat").exists():
        assert time.monotonic() < deadline, "the server outlived its owner"
        time.sleep(0.1)
