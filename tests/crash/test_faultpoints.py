"""The fault points themselves: silent unless asked for, deadly where they are."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from receiver import faultpoints

SOURCES = Path(faultpoints.__file__).parent


def test_every_point_is_in_the_code_and_every_one_in_the_code_is_known() -> None:
    """A label that is misspelled, or whose place was removed, would make a crash test pass for nothing."""
    found: list[str] = []
    for path in SOURCES.rglob("*.py"):
        found += re.findall(r'\breached\("([^"]+)"\)', path.read_text())
    assert sorted(found) == sorted(faultpoints.POINTS)


def test_nothing_happens_unless_it_is_asked_for() -> None:
    """A service that runs as usual passes every point by."""
    for label in faultpoints.POINTS:
        faultpoints.reached(label)


@pytest.mark.parametrize("text", ["nowhere", "notice.kept:0", "notice.kept:x", "notice.kept:-1", ""])
def test_nonsense_is_refused(text: str) -> None:
    """A point that does not exist is an error at the start, not a kill that never comes."""
    with pytest.raises(ValueError, match="RECEIVER_FAULT_POINT"):
        faultpoints.FaultPoint(text)


@pytest.mark.parametrize(("text", "survived"), [("submit.claimed", 0), ("submit.claimed:3", 2)])
def test_the_process_dies_the_nth_time(text: str, survived: int) -> None:
    """It is gone at once, by SIGKILL, when it comes by for the given time; other points do not count."""
    code = (
        "from receiver.faultpoints import reached\n"
        "while True:\n"
        "    reached('query.claimed')\n"
        "    reached('submit.claimed')\n"
        "    print('alive', flush=True)\n"
    )
    environment = {**os.environ, "RECEIVER_FAULT_POINT": text, "PYTHONPATH": str(SOURCES.parent)}
    ended = subprocess.run(
        [sys.executable, "-c", code], check=False, env=environment, capture_output=True, text=True, timeout=30
    )
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout.split() == ["alive"] * survived
