"""What is counted, for Prometheus. Any process may count; ``/metrics`` of the web shows the sum.

With ``PROMETHEUS_MULTIPROC_DIR`` set, processes share their counts through files in that folder, else
each counts for itself. What the database knows (tasks and deliveries that wait) is not counted here but
asked when somebody looks (``receiver.stats``).
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, values
from prometheus_client.multiprocess import MultiProcessCollector

# The library chooses between one process and several when it is first imported; the environment may have been
# set since.
values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]  # the library leaves it untyped

_OURS = CollectorRegistry()
_QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_CALLS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0)

HTTP_REQUESTS = Counter(
    "receiver_http_requests",
    "Requests answered, by route as it is declared, method and status.",
    ["route", "method", "status"],
    registry=_OURS,
)
HTTP_SECONDS = Histogram(
    "receiver_http_request_seconds",
    "Seconds until the answer began, by route; what the caller asked to wait is in it.",
    ["route"],
    buckets=_QUICK,
    registry=_OURS,
)
NOTICES = Counter(
    "receiver_notices",
    "Calls of providers at callback addresses, by what became of them.",
    ["provider", "verdict"],
    registry=_OURS,
)
TASKS_ACCEPTED = Counter(
    "receiver_tasks_accepted", "Tasks taken from callers (replays do not count).", ["provider"], registry=_OURS
)
PROVIDER_CALLS = Counter(
    "receiver_provider_calls", "Calls to providers, by outcome.", ["provider", "call", "outcome"], registry=_OURS
)
PROVIDER_SECONDS = Histogram(
    "receiver_provider_call_seconds", "Seconds that calls to providers took.", ["provider", "call"],
    buckets=_CALLS, registry=_OURS,
)  # fmt: skip
ATTEMPTS = Counter(
    "receiver_delivery_attempts", "Attempts to deliver a webhook, by result.", ["result"], registry=_OURS
)
ATTEMPT_SECONDS = Histogram(
    "receiver_delivery_attempt_seconds", "Seconds that attempts took.", buckets=_CALLS, registry=_OURS
)


def observe_request(route: str, method: str, status: int, seconds: float) -> None:
    """Count one HTTP request. ``route``: as declared, never the path itself, so that there are few."""
    HTTP_REQUESTS.labels(route, method, str(status)).inc()
    HTTP_SECONDS.labels(route).observe(seconds)


def observe_notice(provider: str, verdict: str) -> None:
    """Count one call at a callback address. ``provider``: a known one, or ``unknown``."""
    NOTICES.labels(provider, verdict).inc()


def observe_accepted(provider: str) -> None:
    """Count one task taken from a caller."""
    TASKS_ACCEPTED.labels(provider).inc()


def observe_provider_call(provider: str, call: str, outcome: str, seconds: float) -> None:
    """Count one call to a provider. ``call``: submit or query; ``outcome``: a word."""
    PROVIDER_CALLS.labels(provider, call, outcome).inc()
    PROVIDER_SECONDS.labels(provider, call).observe(seconds)


def observe_attempt(status: int | None, error: str | None, seconds: float) -> None:
    """Count one attempt of a delivery: by the class of its status (``2xx``), or by the error that prevented one."""
    result = error if error is not None else "none" if status is None else f"{status // 100}xx"
    ATTEMPTS.labels(result).inc()
    ATTEMPT_SECONDS.observe(seconds)


def registry() -> CollectorRegistry:
    """Everything counted, of all processes that share a folder, or of this one; others can be added to it."""
    everything = CollectorRegistry()
    if values.ValueClass is values.MutexValue:
        everything.register(_OURS)
    else:
        MultiProcessCollector(everything)  # type: ignore[no-untyped-call]  # the library leaves it untyped
    return everything
