"""What is counted, for Prometheus. Any process may count; ``/metrics`` of the web shows the sum.

With ``PROMETHEUS_MULTIPROC_DIR`` set, processes share their counts through files in that folder, else
each counts for itself, and a worker on its own shows its counts at a port (``serve``). What the database knows
(tasks and deliveries that wait) is not counted here but asked when somebody looks (``receiver.stats``).

Labels are words of our own: providers, routes as declared, outcomes. Nothing that a caller invents, and no id,
becomes a label, so the number of series is bounded.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections import OrderedDict
from functools import cache
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app, values
from prometheus_client.multiprocess import MultiProcessCollector

import handlers
from receiver import __version__
from receiver.errors import NO_ROOM

_FILES = {"counter": 1 << 19, "histogram": 1 << 19, "gauge_livesum": 1 << 16, "gauge_max": 1 << 16}
"""Files in which a process counts, as the library names them, and bytes that all our series fit into."""


def _in_files_or_memory() -> Any:
    """How values are kept: in files of the shared folder, where one is named, else in memory.

    The library maps sparse files into memory. On a disk that is full, the first touch of a page that has no block yet
    kills the process (SIGBUS). So the blocks are taken now; who gets none counts for itself.
    """
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    files = {Path(folder, f"{kind}_{os.getpid()}.db"): size for kind, size in _FILES.items()} if folder else {}
    try:
        for path, size in files.items():
            with path.open("ab") as file:
                file.write(bytes(max(size - file.tell(), 0)))
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        for path in files:
            path.unlink(missing_ok=True)  # whoever adds the counts up could not read a part of one
        return values.MutexValue
    return values.get_value_class()  # type: ignore[no-untyped-call]  # the library leaves it untyped


# The library chooses between one process and several when it is first imported; the environment may have been
# set since.
values.ValueClass = _in_files_or_memory()

_OURS = CollectorRegistry()
_QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_CALLS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0)
_WAITS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0)

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
TASK_CHANGES = Counter(
    "receiver_task_changes",
    "Tasks that came into a state, and by what: callback, poll or none of them.",
    ["provider", "status", "via"],
    registry=_OURS,
)
TASKS_RESCUED = Counter(
    "receiver_tasks_rescued",
    "Tasks that a poll ended before any notice had come, although the provider calls back for them.",
    ["provider"],
    registry=_OURS,
)
SUBMIT_WAIT = Histogram(
    "receiver_submit_wait_seconds", "Seconds from a task's creation until it was first handed over.", ["provider"],
    buckets=_WAITS, registry=_OURS,
)  # fmt: skip
CALLBACK_TO_EVENT = Histogram(
    "receiver_callback_to_event_seconds", "Seconds from a notice until the task's end was stored.", ["provider"],
    buckets=_WAITS, registry=_OURS,
)  # fmt: skip
EVENT_TO_ATTEMPT = Histogram(
    "receiver_event_to_attempt_seconds", "Seconds from an event until the first attempt of a delivery of it.",
    buckets=_WAITS, registry=_OURS,
)  # fmt: skip
ATTEMPTS = Counter(
    "receiver_delivery_attempts", "Attempts to deliver a webhook, by result.", ["result"], registry=_OURS
)
ATTEMPT_SECONDS = Histogram(
    "receiver_delivery_attempt_seconds", "Seconds that attempts took.", buckets=_CALLS, registry=_OURS
)
DELIVERIES_ENDED = Counter(
    "receiver_deliveries_ended", "Deliveries that came to their end, by it and the reason.", ["status", "reason"],
    registry=_OURS,
)  # fmt: skip
# What alarms wait for counts from zero on: Prometheus takes the first value that it sees for no increase.
for _reason in ("exhausted", "gone"):
    DELIVERIES_ENDED.labels("dead", _reason)
for _provider in handlers.available():
    NOTICES.labels(_provider, "bad_signature")
    TASKS_RESCUED.labels(_provider)
CONNECTIONS = Gauge(
    "receiver_database_connections_in_use", "Connections to the database that are in use now.",
    registry=_OURS, multiprocess_mode="livesum",
)  # fmt: skip
BUILD = Gauge("receiver_build_info", "1; the version is the label.", ["version"],
              registry=_OURS, multiprocess_mode="max")  # fmt: skip
BUILD.labels(__version__).set(1)


@cache
def _counter(metric: Counter, *labels: str) -> Counter:
    """The counter of these labels; looking it up costs more than counting."""
    return metric.labels(*labels)


@cache
def _histogram(metric: Histogram, *labels: str) -> Histogram:
    return metric.labels(*labels)


def observe_request(route: str, method: str, status: int, seconds: float) -> None:
    """Count one HTTP request. ``route``: as declared, never the path itself, so that there are few."""
    _counter(HTTP_REQUESTS, route, method, str(status)).inc()
    _histogram(HTTP_SECONDS, route).observe(seconds)


def observe_notice(provider: str, verdict: str) -> None:
    """Count one call at a callback address. ``provider``: a known one, or ``unknown``."""
    _counter(NOTICES, provider, verdict).inc()


def observe_accepted(provider: str) -> None:
    """Count one task taken from a caller."""
    _counter(TASKS_ACCEPTED, provider).inc()


def observe_provider_call(provider: str, call: str, outcome: str, seconds: float) -> None:
    """Count one call to a provider. ``call``: submit or query; ``outcome``: a word."""
    _counter(PROVIDER_CALLS, provider, call, outcome).inc()
    _histogram(PROVIDER_SECONDS, provider, call).observe(seconds)


def observe_first_submit(provider: str, waited: float) -> None:
    """Note how long (s) a task waited from its creation until it was first handed over."""
    _histogram(SUBMIT_WAIT, provider).observe(max(waited, 0.0))


def observe_task_change(provider: str, status: str, via: str | None, *, rescued: bool) -> None:
    """Count a task that came into a state. ``via``: callback or poll; ``rescued``: by a poll, no notice had come."""
    _counter(TASK_CHANGES, provider, status, via or "none").inc()
    if rescued:
        _counter(TASKS_RESCUED, provider).inc()


def observe_callback_to_event(provider: str, seconds: float) -> None:
    """Note how long it took from a notice until the end of its task was stored."""
    _histogram(CALLBACK_TO_EVENT, provider).observe(max(seconds, 0.0))


def observe_attempt(status: int | None, error: str | None, seconds: float) -> None:
    """Count one attempt of a delivery: by the class of its status (``2xx``), or by the error that prevented one."""
    result = error if error is not None else "none" if status is None else f"{status // 100}xx"
    _counter(ATTEMPTS, result).inc()
    ATTEMPT_SECONDS.observe(seconds)


def observe_first_attempt(waited: float) -> None:
    """Note how long (s) an event waited until the first attempt of a delivery of it."""
    EVENT_TO_ATTEMPT.observe(max(waited, 0.0))


def observe_delivery_ended(status: str, reason: str | None) -> None:
    """Count a delivery that came to its end. ``reason``: why it is dead."""
    _counter(DELIVERIES_ENDED, status, reason or "none").inc()


def registry() -> CollectorRegistry:
    """Everything counted, of all processes that share a folder, or of this one; others can be added to it."""
    everything = CollectorRegistry()
    if values.ValueClass is values.MutexValue:
        everything.register(_OURS)
    else:
        MultiProcessCollector(everything)  # type: ignore[no-untyped-call]  # the library leaves it untyped
    return everything


READERS = 32
"""Connections at a time to the port where a process shows its counts."""


class _Port(ThreadingMixIn, WSGIServer):
    """Shows counts to few at a time: its connections must not use up the files and threads that the work needs.

    Whoever comes when all places are taken gets that of the one who came first: a scrape takes a moment, and who holds
    a place for long asks for nothing.
    """

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler]) -> None:
        self._open: OrderedDict[Any, None] = OrderedDict()
        self.address_family = socket.getaddrinfo(*address)[0][0]
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give a connection a place, and a thread."""
        if len(self._open) >= READERS:
            with contextlib.suppress(KeyError, OSError):  # it ended in this moment
                self._open.popitem(last=False)[0].shutdown(socket.SHUT_RDWR)
        self._open[request] = None
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        """Its place is free."""
        self._open.pop(request, None)
        super().close_request(request)


class _Reader(WSGIRequestHandler):
    def handle(self) -> None:
        """Answer one request; who hangs up gets none."""
        with contextlib.suppress(ConnectionError):
            super().handle()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def serve(host: str, port: int) -> None:
    """Show what is counted at an address, for a process that answers no other HTTP, as long as it lives.

    Raises OSError when the address cannot be used.
    """
    server = make_server(host, port, make_wsgi_app(registry()), _Port, _Reader)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
