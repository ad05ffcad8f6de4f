"""Writers of one SQLite file take turns."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from receiver.store import Connection, Store, turns
from receiver.store.turns import Turns

_HOLDER = """
import sys
from pathlib import Path
from receiver.store.turns import Turns
with Turns(Path(sys.argv[1])).taken():
    print("taken", flush=True)
    sys.stdin.read()
"""


def test_threads_take_turns(tmp_path: Path) -> None:
    """Of many threads that write, one writes at a time."""
    turn, inside, most = Turns(tmp_path / "db"), [0], [0]

    def write() -> None:
        for _ in range(20):
            with turn.taken():
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.0001)
                inside[0] -= 1

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


@pytest.mark.process
def test_processes_take_turns_and_the_end_of_one_gives_its_turn_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process has the turn nobody else gets it; when that dies, the next one does, at once."""
    monkeypatch.setattr(turns, "PATIENCE", 60.0)
    database = tmp_path / "db"
    taken = threading.Event()

    def write() -> None:
        with Turns(database).taken():
            taken.set()

    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"taken\n"
        waiting = threading.Thread(target=write)
        waiting.start()
        assert not taken.wait(0.2)
        holder.kill()
        assert taken.wait(20)
        waiting.join()


def test_one_who_stands_still_is_not_waited_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that is never given back delays the others; then the database itself says who may write."""
    monkeypatch.setattr(turns, "PATIENCE", 0.05)
    with (tmp_path / "db-turn").open("w") as still:
        fcntl.flock(still, fcntl.LOCK_EX)
        began = time.monotonic()
        with Turns(tmp_path / "db").taken():
            assert 0.05 <= time.monotonic() - began < 30


def test_a_turn_that_failed_is_given_back(tmp_path: Path) -> None:
    """An error inside ends the turn too."""
    turn = Turns(tmp_path / "db")
    with pytest.raises(ZeroDivisionError), turn.taken():
        raise ZeroDivisionError
    with (tmp_path / "db-turn").open("w") as free:
        fcntl.flock(free, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_where_no_file_can_be_made_nobody_waits(tmp_path: Path) -> None:
    """The turns only make waiting short: without them SQLite's own lock still holds."""
    with Turns(tmp_path / "missing" / "db").taken():
        pass
    with Turns(None).taken():
        pass


def test_something_long_leaves_others_their_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two of its steps others write, who look only now and then whether they may."""
    monkeypatch.setattr(turns, "AGAIN", 0.002)
    store, other = (Store(f"sqlite:///{tmp_path}/db") for _ in range(2))
    steps, ended = [0], threading.Event()

    def step(_: Connection) -> bool:
        steps[0] += 1
        time.sleep(0.02)
        return ended.is_set()

    with store.write():  # the file is there
        pass
    long = threading.Thread(target=store.in_steps, args=(step,))
    long.start()
    waited = []
    for _ in range(9):
        time.sleep(0.01)
        before = steps[0]
        with other.write():
            waited.append(steps[0] - before)
    ended.set()
    long.join()
    store.close()
    other.close()
    assert sorted(waited)[4] <= 2, waited
