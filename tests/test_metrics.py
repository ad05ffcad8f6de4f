"""Counters outlive what happens to the disk, and begin where alarms can see them move."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import values

import handlers
from receiver import metrics


def test_a_disk_that_fills_up_later_kills_no_process_that_counts(tmp_path: Path) -> None:
    """What is mapped into memory has its blocks from the start: touching a page without one on a full disk is fatal."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    program = "from receiver import metrics; metrics.observe_accepted('toy')"
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    files = {path.name.rpartition("_")[0]: path.stat() for path in tmp_path.iterdir()}
    assert set(files) == {"counter", "histogram", "gauge_livesum", "gauge_max"}
    assert all(file.st_blocks * 512 >= file.st_size for file in files.values()), files


def test_without_room_a_process_counts_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk keeps no process from starting, and leaves nothing that whoever adds the counts up cannot read."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    opened = Path.open

    def full(path: Path, *mode: Any) -> Any:
        if path.name.startswith("histogram"):
            path.touch()
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, *mode)

    monkeypatch.setattr(Path, "open", full)
    assert metrics._in_files_or_memory() is values.MutexValue
    assert not list(tmp_path.iterdir())


def test_what_alarms_wait_for_is_counted_from_zero() -> None:
    """The first one is an increase: Prometheus takes the first value that it sees for none."""
    program = (
        "from prometheus_client import generate_latest; from receiver import metrics;"
        "print(generate_latest(metrics.registry()).decode())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"}
    shown = subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True)
    for reason in ("exhausted", "gone"):
        assert f'receiver_deliveries_ended_total{{reason="{reason}",status="dead"}} 0.0' in shown.stdout
    for provider in handlers.available():
        assert f'receiver_notices_total{{provider="{provider}",verdict="bad_signature"}} 0.0' in shown.stdout
        assert f'receiver_tasks_rescued_total{{provider="{provider}"}} 0.0' in shown.stdout
