"""``/healthz``, ``/readyz`` and ``/metrics``."""

from __future__ import annotations

from collections.abc import Iterable

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from receiver import metrics
from receiver.errors import Busy
from receiver.runtime import Runtime
from receiver.stats import WORKER_SEEN, Stats
from receiver.web import answers
from receiver.web.face import runtime

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def live() -> Response:
    """The process lives and answers."""
    return answers.value({"status": "ok"})


@blueprint.get("/readyz")
def ready() -> Response:
    """Whether everything is there that a task needs: 200, or 503 and what is missing."""
    checks = _checks(runtime())
    fine = all(found == "ok" for found in checks.values())
    return answers.value({"status": "ready" if fine else "not ready", "checks": checks}, 200 if fine else 503)


def _checks(services: Runtime) -> dict[str, str]:
    checks = {"database": "does not answer", "schema": "unknown", "worker": "unknown"}
    try:
        services.store.ping()
        checks["database"] = "ok" if services.store.takes_writes() else "takes no writes"
        if not services.store.schema_is_current():
            checks["schema"] = "not up to date: run receiver migrate"
            return checks
        checks["schema"] = "ok"
        seen = services.sweeping.last_beat()
        lately = seen is not None and services.clock() - seen <= WORKER_SEEN
        checks["worker"] = "ok" if lately else "none seen lately: run receiver worker"
    except Busy:
        checks["database"] = "does not answer"
    return checks


@blueprint.get("/metrics")
def show_metrics() -> Response:
    """Counters of all processes that share a folder, and what the database says now."""
    registry = metrics.registry()
    registry.register(_Waiting(runtime()))
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_PLAIN_0_0_4)


class _Waiting(Collector):
    """Gauges from the database, asked at the moment of the scrape."""

    def __init__(self, services: Runtime) -> None:
        self._services = services

    def collect(self) -> Iterable[Metric]:
        """The gauges; when the database does not answer, only that."""
        up = GaugeMetricFamily("receiver_database_up", "Whether the database answers and takes writes.")
        try:
            self._services.store.ping()
            seen = self._services.stats.read()
        except Busy:
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], self._services.store.takes_writes())
        yield up
        yield from _families(seen)


def _families(seen: Stats) -> Iterable[Metric]:
    tasks = GaugeMetricFamily("receiver_tasks", "Live tasks by state.", labels=["provider", "status"])
    for provider, status, number in seen.tasks:
        tasks.add_metric([provider, status], number)
    yield tasks
    overdue = GaugeMetricFamily(
        "receiver_task_overdue_seconds", "The most overdue task's age.", labels=["provider", "status"]
    )
    for provider, status, age in seen.task_ages:
        overdue.add_metric([provider, status], age)
    yield overdue
    deliveries = GaugeMetricFamily("receiver_deliveries", "Deliveries by state.", labels=["status"])
    deliveries.add_metric(["pending"], seen.deliveries_pending)
    deliveries.add_metric(["dead"], seen.deliveries_dead)
    yield deliveries
    for name, help_text, value in (
        ("receiver_delivery_overdue_seconds", "The most overdue delivery's age.", seen.delivery_age),
        ("receiver_subscribers_disabled", "Subscribers that are disabled.", seen.subscribers_disabled),
        ("receiver_circuits_open", "Subscribers that only get a probe now and then.", seen.circuits_open),
        ("receiver_workers", "Workers seen lately.", seen.workers),
    ):
        yield GaugeMetricFamily(name, help_text, value)
    if seen.worker_age is not None:
        yield GaugeMetricFamily("receiver_worker_seen_seconds", "Since a worker was seen.", seen.worker_age)
