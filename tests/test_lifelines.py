"""Lifelines: who is dead is known for certain, or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from receiver.lifelines import Lifelines

ROOT = Path(__file__).parents[1]
CODE = """
import sys, time
from pathlib import Path
from receiver.lifelines import Lifelines
Lifelines(Path(sys.argv[1])).hold("vm.example-1")
print("held", flush=True)
time.sleep(60)
"""


def test_one_that_lives_is_not_dead(tmp_path: Path) -> None:
    """Nor is one that never was here: only a lock that was held and is free again tells of a death."""
    folder = tmp_path / "bell"
    ours, others = Lifelines(folder), Lifelines(folder)
    assert others.dead() == []
    ours.hold("vm.example-1")
    others.hold("vm.example-2")
    assert ours.dead() == others.dead() == []


def test_one_that_stopped_in_order_leaves_nothing(tmp_path: Path) -> None:
    """No lock, and no folder when nobody else needs it."""
    folder = tmp_path / "bell"
    lifelines = Lifelines(folder)
    lifelines.hold("one")
    lifelines.hold("two")
    lifelines.let_go("one")
    assert [path.name for path in folder.iterdir()] == ["two.life"]
    lifelines.let_go("two")
    assert not folder.exists()


@pytest.mark.process
def test_one_that_was_killed_is_dead(tmp_path: Path) -> None:
    """The kernel gives its lock back at the very end of the process; whoever buries it takes the file away."""
    lifelines = Lifelines(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", CODE, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert lifelines.dead() == []
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert lifelines.dead() == ["vm.example-1"]
    lifelines.let_go("vm.example-1")
    assert lifelines.dead() == []


def test_where_no_file_can_be_locked_nobody_is_taken_for_dead(tmp_path: Path) -> None:
    """Leases end by themselves then, as they do for workers of other machines."""
    (tmp_path / "file").write_text("in the way")
    lifelines = Lifelines(tmp_path / "file")
    lifelines.hold("worker")
    assert lifelines.dead() == []
    lifelines.let_go("worker")


def test_a_lock_that_is_refused_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an open file nor one in the folder, where the file system knows no locks."""
    lifelines = Lifelines(tmp_path / "bell")
    tried: list[int] = []

    def refuse(number: int, _: int) -> None:
        tried.append(number)
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    lifelines.hold("worker")
    assert list((tmp_path / "bell").iterdir()) == []
    for number in set(tried):
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            os.fstat(number)
    assert tried
