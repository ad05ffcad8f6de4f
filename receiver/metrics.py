"""Counters and timings for Prometheus. Depths of queues are not here: they are asked of the database at scrape time.

With several processes, ``PROMETHEUS_MULTIPROC_DIR`` names a folder in which they meet (set by ``receiver run``).
"""

from __future__ import annotations

from prometheus_client import Counter, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0)

_notices = Counter("receiver_notices", "Notices of providers, by what became of them", ["provider", "verdict"])
_calls = Histogram(
    "receiver_provider_call_seconds", "Calls to providers", ["provider", "call", "outcome"], buckets=_SECONDS
)
_attempts = Histogram("receiver_attempt_seconds", "Attempts of deliveries", ["outcome"], buckets=_SECONDS)
_requests = Histogram(
    "receiver_request_seconds", "Requests to the HTTP API", ["method", "route", "status"], buckets=_SECONDS
)


def count_notice(provider: str, verdict: str) -> None:
    """One notice came. ``verdict``: one of ours, or why it was refused."""
    _notices.labels(provider, verdict).inc()


def observe_provider_call(provider: str, call: str, outcome: str, seconds: float) -> None:
    """One call to a provider ended. ``call``: submit or query."""
    _calls.labels(provider, call, outcome).observe(seconds)


def observe_attempt(status: int | None, error: str | None, seconds: float) -> None:
    """One attempt of a delivery ended: by its error, else by the class of its status (``2xx``)."""
    outcome = error if error is not None else f"{(status or 0) // 100}xx"
    _attempts.labels(outcome).observe(seconds)


def observe_request(method: str, route: str, status: int, seconds: float) -> None:
    """One request to the API was answered. ``route``: its pattern, never the path (ids would be without number)."""
    _requests.labels(method, route, str(status)).observe(seconds)
