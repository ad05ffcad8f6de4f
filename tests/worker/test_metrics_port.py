"""A worker on its own shows what it counts."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import urllib.request
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from receiver import metrics
from receiver.errors import SettingsError
from receiver.worker import worker
from tests.core.stage import Stage
from tests.story.system import free_port


def test_a_worker_shows_its_counts_at_its_own_address(stage: Stage) -> None:
    """Prometheus reads there what this process did, in the names that the web uses too."""
    port = free_port()
    worker._show_metrics(replace(stage.settings, worker_metrics_bind=("127.0.0.1", port)))
    metrics.observe_provider_call("toy", "submit", "accepted", 0.2)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        names = {family.name for family in text_string_to_metric_families(answer.read().decode())}
    assert {"receiver_provider_calls", "receiver_build_info", "receiver_database_connections_in_use"} <= names


def test_who_only_connects_takes_nothing_from_the_work(stage: Stage) -> None:
    """Any number of connections that ask for nothing hold few threads and files, and scrapes are answered meanwhile."""
    port = free_port()
    worker._show_metrics(replace(stage.settings, worker_metrics_bind=("127.0.0.1", port)))
    before = threading.active_count()
    with contextlib.ExitStack() as held:
        for sent in (b"", b"GET /met") * (2 * metrics.READERS):
            held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5)).sendall(sent)
        for _ in range(3):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                assert b"receiver_build_info" in answer.read()
        until = time.monotonic() + 10
        while threading.active_count() > before + metrics.READERS and time.monotonic() < until:
            time.sleep(0.05)  # those that were sent away are ending
        assert threading.active_count() <= before + metrics.READERS


def test_an_address_that_is_taken_is_told(stage: Stage) -> None:
    """The worker does not start without the address that was asked for, and says which setting it is."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings: Any = replace(stage.settings, worker_metrics_bind=taken.getsockname())
        with pytest.raises(SettingsError, match="RECEIVER_WORKER_METRICS_BIND: 127"):
            worker._show_metrics(settings)


def test_nothing_is_opened_unless_asked_for(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default no port."""
    monkeypatch.setattr(metrics, "serve", lambda *_: pytest.fail("a port was opened"))
    worker._show_metrics(stage.settings)
