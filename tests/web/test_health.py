"""Health, readiness and metrics."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.exc import OperationalError

from receiver import schedule
from receiver.errors import Busy
from receiver.runtime import Runtime
from receiver.stats import StatsService
from receiver.store import database as database_module
from receiver.store import stats, subscribers, tasks
from receiver.web import create_app
from tests.web.conftest import SAMPLE, Caller, Clock, Progress


def metrics_of(client: FlaskClient) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample at /metrics, by name and labels."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_the_process_lives(client: FlaskClient) -> None:
    """200 without a key and without the database."""
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json) == (200, {"status": "ok"})


def test_ready_needs_a_worker_seen_lately(client: FlaskClient, runtime: Runtime, clock: Clock) -> None:
    """503 while none was seen for 15 s, and it says so; 200 with one."""
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json["checks"]["worker"].startswith("none seen lately")
    assert {answer.json["checks"][name] for name in ("database", "schema")} == {"ok"}
    runtime.sweeping.beat("w-1")
    assert client.get("/readyz").json == {
        "status": "ready", "checks": {"database": "ok", "schema": "ok", "worker": "ok"},
    }  # fmt: skip
    clock.ahead += 15_100
    assert client.get("/readyz").status_code == 503


def test_ready_needs_the_schema(build: Callable[..., Runtime], tmp_path: Path) -> None:
    """A database that was never brought up is said to be so, not a failure."""
    fresh = create_app(build(database_url=f"sqlite:///{tmp_path}/fresh.db")).test_client()
    answer = fresh.get("/readyz")
    assert answer.status_code == 503
    assert answer.json["checks"] == {
        "database": "ok", "schema": "not up to date: run receiver migrate", "worker": "unknown",
    }  # fmt: skip


def test_ready_needs_the_database(build: Callable[..., Runtime], tmp_path: Path) -> None:
    """503 with no inside shown: no path, no user, no host."""
    (tmp_path / "secret-name").mkdir()
    gone = create_app(build(database_url=f"sqlite:///{tmp_path}/secret-name")).test_client()
    answer = gone.get("/readyz")
    assert (answer.status_code, answer.json["checks"]["database"]) == (503, "does not answer")
    assert "secret-name" not in answer.text
    assert metrics_of(gone)[("receiver_database_up", ())] == 0


def test_a_file_that_was_removed_is_a_database_that_is_down(build: Callable[..., Runtime], tmp_path: Path) -> None:
    """What still can be read of a deleted file of SQLite must not look well: nothing is taken any more."""
    runtime = build(database_url=f"sqlite:///{tmp_path}/here.db")
    runtime.prepare()
    client = create_app(runtime).test_client()
    assert metrics_of(client)[("receiver_database_up", ())] == 1
    (tmp_path / "here.db").unlink()
    assert metrics_of(client)[("receiver_database_up", ())] == 0
    assert client.get("/readyz").json["checks"]["database"] == "does not answer"


def test_a_database_that_takes_no_writes_is_not_ready(
    api: Caller, client: FlaskClient, runtime: Runtime, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that answers and refuses all that is to be stored (a full disk) is not ready, and rings the alarm."""
    runtime.sweeping.beat("w-1")
    monkeypatch.setattr(database_module, "REFUSED_FOR", 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(tasks, "add", no_room)
        assert api.post("/v1/tasks", SAMPLE).status_code == 503
        assert client.get("/readyz").status_code == 200  # once is nothing
        time.sleep(0.15)
        assert api.post("/v1/tasks", SAMPLE).status_code == 503
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json["checks"]["database"]) == (503, "takes no writes")
        assert metrics_of(client)[("receiver_database_up", ())] == 0
        patch.setattr(database_module, "REFUSED_LATELY", 0.0)
        assert client.get("/readyz").status_code == 200  # long ago: nobody knows
    api.submit()
    assert client.get("/readyz").status_code == 200
    assert metrics_of(client)[("receiver_database_up", ())] == 1


def test_two_refusals_far_apart_are_no_database_that_takes_no_writes(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that seldom writes met a lock last night and meets one now: it stays ready."""
    clock = SimpleNamespace(monotonic=lambda: 0.0)
    monkeypatch.setattr(database_module, "time", clock)

    def refused_at(second: float) -> bool:
        clock.monotonic = lambda: second
        with pytest.raises(Busy), runtime.store.write():
            no_room()
        return not runtime.store.takes_writes()

    assert [refused_at(second) for second in (0.0, 36_000.0, 36_006.0)] == [False, False, True]


def no_room(*_: object) -> None:
    """What SQLite and PostgreSQL say at a full disk."""
    raise OperationalError("INSERT", None, Exception("No space left on device"))


def test_the_database_is_asked_at_the_scrape(
    api: Caller, client: FlaskClient, progress: Progress, clock: Clock
) -> None:
    """Tasks by state, deliveries by state, and how late the most overdue ones are."""
    api.post("/v1/subscribers", {"url": "http://127.0.0.1:9/", "event_types": ["*"]})
    api.submit()
    progress.finish()
    api.submit()
    clock.ahead += 60_000
    progress.runtime.sweeping.beat("w-1")
    seen = metrics_of(client)
    assert seen[("receiver_tasks", (("provider", "superapp"), ("status", "queued")))] == 1
    assert seen[("receiver_deliveries", (("status", "pending"),))] == 2
    assert seen[("receiver_deliveries", (("status", "dead"),))] == 0
    queued = (("provider", "superapp"), ("status", "queued"))
    assert 60 <= seen[("receiver_task_overdue_seconds", queued)] < 120
    assert 60 <= seen[("receiver_delivery_overdue_seconds", ())] < 3600
    assert seen[("receiver_subscribers_disabled", ())] == seen[("receiver_circuits_open", ())] == 0
    assert seen[("receiver_workers", ())] == 1
    assert seen[("receiver_worker_seen_seconds", ())] < 60
    assert seen[("receiver_database_up", ())] == 1


def test_what_holds_itself_back_is_not_late(api: Caller, client: FlaskClient, progress: Progress, clock: Clock) -> None:
    """A subscriber whose circuit is open, or that is disabled, waits for itself: it must not wake anybody at night."""
    to = api.post("/v1/subscribers", {"url": "http://127.0.0.1:9/", "event_types": ["*"]}).json["id"]
    api.submit()
    progress.finish()
    clock.ahead += 60_000
    assert metrics_of(client)[("receiver_delivery_overdue_seconds", ())] >= 60
    with progress.runtime.store.write() as connection:
        subscribers.change(connection, to, {"failures": schedule.CIRCUIT_AFTER, "ready_at": clock() + 30_000})
    seen = metrics_of(client)
    assert seen[("receiver_delivery_overdue_seconds", ())] == 0
    assert seen[("receiver_circuits_open", ())] == 1
    api("PATCH", f"/v1/subscribers/{to}", json={"disabled": True})
    clock.ahead += 60_000
    seen = metrics_of(client)
    assert seen[("receiver_delivery_overdue_seconds", ())] == 0
    assert seen[("receiver_subscribers_disabled", ())] == 1


def test_counts_end_somewhere(
    api: Caller, client: FlaskClient, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scrape costs the same however long a queue has become."""
    monkeypatch.setattr(stats, "MOST", 2)
    for _ in range(4):
        api.submit()
    assert metrics_of(client)[("receiver_tasks", (("provider", "superapp"), ("status", "queued")))] == 2


def test_connections_in_use_are_shown(client: FlaskClient, runtime: Runtime) -> None:
    """What the pool has lent out right now; the scrape's own question is over by then."""
    before = metrics_of(client)[("receiver_database_connections_in_use", ())]
    with runtime.store.read(), runtime.store.read():
        assert metrics_of(client)[("receiver_database_connections_in_use", ())] == before + 2
    assert metrics_of(client)[("receiver_database_connections_in_use", ())] == before


def test_requests_are_counted_by_route(api: Caller, client: FlaskClient) -> None:
    """Labels are routes as declared: ids and invented paths do not become labels."""
    route = (("method", "GET"), ("route", "/v1/tasks/<id(task):task_id>"), ("status", "200"))
    before = metrics_of(client).get(("receiver_http_requests_total", route), 0)
    for _ in range(2):
        api.get(f"/v1/tasks/{api.submit()['id']}")
    client.get("/invented/path")
    client.open("/healthz", method="INVENTED")
    seen = metrics_of(client)
    assert seen[("receiver_http_requests_total", route)] == before + 2
    labels = {value for name, pairs in seen for _, value in pairs if name == "receiver_http_requests_total"}
    assert not {label for label in labels if "invented" in label.lower() or "task_0" in label}


def test_a_busy_database_costs_only_its_gauges(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The counters are still there when the database is not."""

    def busy(_: StatsService) -> None:
        raise Busy("locked")

    monkeypatch.setattr(StatsService, "read", busy)
    seen = metrics_of(client)
    assert seen[("receiver_database_up", ())] == 0
    assert not any(name == "receiver_tasks" for name, _ in seen)
    assert any(name == "receiver_http_requests_total" for name, _ in seen)
