"""The supervisor: restarts what dies, stops everything in order, and leaves nobody behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from receiver.cli.supervisor import Restarts

SUPERVISE = """
import signal, sys
from receiver import logs
from receiver.cli.supervisor import Child, Restarts, Supervisor
logs.set_up("console", "info", "test")
folder, patience, *scripts = sys.argv[1:]
children = [
    Child(f"child{n}", [sys.executable, script, folder], {"PATH": "/usr/bin:/bin"}, Restarts((0.02,), most=4))
    for n, script in enumerate(scripts)
]
buried = open(f"{folder}/buried", "a", buffering=1)
signal.signal(signal.SIGINT, signal.SIG_IGN)  # for those that come when it has ended
supervisor = Supervisor(children, patience=float(patience), buried=lambda pid: buried.write(f"{pid}\\n"))
sys.exit(supervisor.run())
"""

GOOD = """
import os, signal, sys, time
folder = sys.argv[1]
def stop(number, _):
    open(f"{folder}/stopped", "a").write(f"{os.getpid()} {signal.Signals(number).name}\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
open(f"{folder}/started", "a").write(f"{os.getpid()}\\n")
while True:
    time.sleep(10)
"""

BROKEN = """
import os, sys
open(f"{sys.argv[1]}/started", "a").write(f"{os.getpid()}\\n")
sys.exit(3)
"""

DEAF = GOOD.replace("signal.signal(signal.SIGTERM, stop)", "signal.signal(signal.SIGTERM, signal.SIG_IGN)")

PARENTAL = """
import sys, time
sys.path.insert(0, {root!r})
from receiver.cli.orphans import stop_with_parent
stop_with_parent()
{rest}
"""

FORKING = GOOD.replace(
    "while True:",
    'if os.fork() == 0:\n    open(f"{folder}/started", "a").write(f"{os.getpid()}\\n")\nwhile True:',
)


def test_each_death_makes_the_next_start_later_until_it_is_given_up() -> None:
    """1, 2, 5, 10 seconds; the fifth death within a minute is the last."""
    restarts = Restarts()
    assert [restarts.died(now) for now in (0, 2, 5, 11, 22)] == [1, 2, 5, 10, None]


def test_deaths_of_long_ago_are_forgotten() -> None:
    """A child that dies now and then starts again at once each time, for ever."""
    restarts = Restarts()
    assert [restarts.died(60.0 * n) for n in range(20)] == [1] * 20
    assert restarts.died(60.0 * 19 + 59) == 2


class Supervised:
    """A supervisor in a process of its own, with scripts as its children."""

    def __init__(self, folder: Path, patience: float, scripts: tuple[str, ...]) -> None:
        self.folder = folder
        paths = []
        for number, script in enumerate(scripts):
            path = folder / f"script{number}.py"
            path.write_text(textwrap.dedent(script))
            paths.append(str(path))
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISE, str(folder), str(patience), *paths],
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def lines(self, name: str) -> list[str]:
        """The lines that children (or the supervisor) wrote into a file."""
        file = self.folder / name
        return file.read_text().splitlines() if file.exists() else []

    def pids(self) -> list[int]:
        """The pids of all children that ever started."""
        return [int(line) for line in self.lines("started")]

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something to become true, a few seconds at most."""
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.01)

    def end(self) -> tuple[int, str]:
        """The exit code and what was said on standard error."""
        _, error = self.process.communicate(timeout=15)
        return self.process.returncode, error.decode()


def lives(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


Supervise = Callable[..., Supervised]


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Supervise]:
    """Start a supervisor of scripts; whatever is left of it goes away at the end."""
    started: list[Supervised] = []

    def start(*scripts: str, patience: float = 5) -> Supervised:
        started.append(Supervised(tmp_path, patience, scripts))
        return started[-1]

    yield start
    for each in started:
        for pid in [each.process.pid, *each.pids()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        each.process.wait()
        assert each.process.stderr is not None
        each.process.stderr.close()


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_all_children_in_peace(supervise: Supervise, number: signal.Signals) -> None:
    """SIGTERM, Ctrl-C and a closed terminal: every child is asked to stop, and the end is code 0."""
    system = supervise(GOOD, GOOD)
    system.until(lambda: len(system.pids()) == 2)
    system.process.send_signal(number)
    assert system.end()[0] == 0
    assert sorted(system.lines("stopped")) == sorted(f"{pid} SIGTERM" for pid in system.pids())
    assert not any(lives(pid) for pid in system.pids())


@pytest.mark.process
def test_ctrl_c_in_the_terminal_reaches_the_supervisor_alone(supervise: Supervise) -> None:
    """Children are no part of the terminal's process group, so that they end in peace and not all at once."""
    system = supervise(GOOD)
    system.until(lambda: len(system.pids()) == 1)
    os.killpg(system.process.pid, signal.SIGINT)
    assert system.end()[0] == 0
    assert system.lines("stopped") == [f"{system.pids()[0]} SIGTERM"]


@pytest.mark.process
def test_a_child_that_dies_is_started_again(supervise: Supervise) -> None:
    """A killed child has a successor; the others are left in peace; its pid is reported."""
    system = supervise(GOOD, GOOD)
    system.until(lambda: len(system.pids()) == 2)
    first, other = system.pids()
    os.kill(first, signal.SIGKILL)
    system.until(lambda: len(system.pids()) == 3)
    assert lives(other)
    system.process.terminate()
    code, said = system.end()
    assert code == 0
    assert "SIGKILL" in said
    assert "died, will be restarted" in said
    assert system.lines("buried")[0] == str(first)


@pytest.mark.process
def test_a_child_that_keeps_dying_ends_it_all(supervise: Supervise) -> None:
    """Too many deaths: the others are stopped, code 1, and the reason stands in the log."""
    system = supervise(GOOD, BROKEN)
    code, said = system.end()
    assert code == 1
    assert "died too often" in said
    assert "exit code 3" in said
    assert not any(lives(pid) for pid in system.pids())


@pytest.mark.process
def test_a_child_that_does_not_stop_is_killed(supervise: Supervise) -> None:
    """Patience has an end; then the child is killed, and the end is not called a clean one."""
    system = supervise(DEAF, patience=0.3)
    system.until(lambda: len(system.pids()) == 1)
    system.process.terminate()
    code, said = system.end()
    assert code == 1
    assert "did not stop in time" in said
    assert not lives(system.pids()[0])


@pytest.mark.process
def test_a_second_ctrl_c_ends_it_at_once(supervise: Supervise) -> None:
    """Who presses Ctrl-C twice does not wait for the patience of the first."""
    system = supervise(DEAF, patience=60)
    system.until(lambda: len(system.pids()) == 1)

    def pressed() -> bool:  # again and again: all that come before it has begun to stop are one
        system.process.send_signal(signal.SIGINT)
        return system.process.poll() is not None

    system.until(pressed)
    assert system.end()[0] == 1
    assert not lives(system.pids()[0])


@pytest.mark.process
def test_what_a_dead_child_leaves_behind_is_ended(supervise: Supervise) -> None:
    """A child's own children do not outlive it: they would hold its port."""
    system = supervise(FORKING)
    system.until(lambda: len(system.pids()) == 2)
    child, grandchild = system.pids()
    os.kill(child, signal.SIGKILL)
    system.until(lambda: len(system.pids()) == 4)
    system.until(lambda: not lives(grandchild))


@pytest.mark.process
def test_children_end_when_the_supervisor_is_killed(supervise: Supervise) -> None:
    """SIGKILL leaves the supervisor no time; its children stop all the same."""
    root = str(Path(__file__).parents[2])
    system = supervise(PARENTAL.format(root=root, rest=GOOD))
    system.until(lambda: len(system.pids()) == 1)
    system.process.kill()
    system.until(lambda: not lives(system.pids()[0]))
    assert system.lines("stopped") == [f"{system.pids()[0]} SIGTERM"]


WATCHING = PARENTAL.replace(
    "stop_with_parent()\n",
    "from receiver.cli import orphans\n"
    "orphans._ask_the_kernel = lambda: False\n"
    "orphans._LOOK_EVERY = 0.02\n"
    "stop_with_parent()\n",
)


@pytest.mark.process
def test_children_watch_their_parent_where_the_kernel_does_not(supervise: Supervise) -> None:
    """Without Linux's signal a thread looks, and ends the child in the same way."""
    root = str(Path(__file__).parents[2])
    system = supervise(WATCHING.format(root=root, rest=GOOD))
    system.until(lambda: len(system.pids()) == 1)
    system.process.kill()
    system.until(lambda: not lives(system.pids()[0]))
    assert system.lines("stopped") == [f"{system.pids()[0]} SIGTERM"]


@pytest.mark.process
def test_a_child_whose_parent_is_gone_already_does_not_begin() -> None:
    """The parent can die while the child starts: then the child ends by itself."""
    code = "from receiver.cli.orphans import stop_with_parent; stop_with_parent(); print('begun')"
    environment = {**os.environ, "RECEIVER_PARENT_PID": "999999"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert ended.returncode == 1
    assert ended.stdout == b""


@pytest.mark.process
def test_without_a_supervisor_nothing_is_watched() -> None:
    """A command that was started by hand does not care for its parent."""
    code = "from receiver.cli.orphans import stop_with_parent; stop_with_parent(); print('begun')"
    environment = {name: value for name, value in os.environ.items() if name != "RECEIVER_PARENT_PID"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert ended.stdout == b"begun\n"
