"""The web under gunicorn, started from our own settings instead of a command line."""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]  # the library has no types
from gunicorn.glogging import Logger  # type: ignore[import-untyped]  # the library has no types
from gunicorn.http import wsgi as _wsgi  # type: ignore[import-untyped]  # the library has no types

from receiver import logs, metrics
from receiver.config import Settings, read_settings
from receiver.errors import Busy

if TYPE_CHECKING:
    from flask import Flask

    from receiver.store import Store

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
KEEPALIVE = 5
"""Seconds that an idle connection is kept."""
_KEY = "IDEMPOTENCY-KEY"

log = logs.get("web")


def options(settings: Settings) -> dict[str, Any]:
    """The options of gunicorn for our settings, its hooks among them (also used by ``deploy/gunicorn.conf.py``)."""
    host, port = settings.bind
    return {
        "bind": [f"[{host}]:{port}" if ":" in host else f"{host}:{port}"],
        "worker_class": "receiver.web.gate.PatientWorker",  # gunicorn's threads, out of the reach of slow senders
        "workers": settings.web_processes,
        "threads": settings.web_threads,
        "keepalive": KEEPALIVE,
        "timeout": 30,  # a process whose main loop is silent that long; requests may take longer
        "graceful_timeout": max(1, round(settings.shutdown_timeout)),
        "max_requests": 0,
        "http_parser": "python",  # the one that our tests know; another, if it is installed, may judge otherwise
        "limit_request_line": 8190,
        "limit_request_fields": 100,
        "limit_request_field_size": 8190,
        "worker_connections": 800,  # of each process; the usual limit on open files is 1024
        "forwarder_headers": "",  # no header of a request can move the application to another path
        "sendfile": False,  # it would wait without end for a client that does not read
        "control_socket_disable": True,  # its default path is shared by all instances of a user
        "accesslog": None,
        "errorlog": None,  # no handler of gunicorn's own
        "logger_class": "receiver.web.server.Journal",
        "loglevel": "warning",
        "proc_name": "receiver-web",
        "when_ready": _when_ready,
        "post_fork": _post_fork,
        "post_worker_init": _post_worker_init,
        "pre_request": _pre_request,
        "child_exit": _child_exit,
    }


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Does not return. ``settings``: as read; logging is set up already."""
    with _metrics_folder(settings):
        _Server(settings).run()


class Journal(Logger):  # type: ignore[misc]  # the library has no types
    """gunicorn's own lines, as ours: in the format of the settings, with secrets blanked out."""

    def setup(self, cfg: Any) -> None:
        """Called by gunicorn at the start and at a reload."""
        super().setup(cfg)
        if not logging.getLogger().handlers:  # started by gunicorn's command: ours sets the log up first
            settings = read_settings()
            logs.set_up(settings.log_format, settings.log_level, "web")
        self.error_log.propagate = True


class _Server(BaseApplication):  # type: ignore[misc]  # the library has no types
    """gunicorn with our options; the application is built in each process, after the fork."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        for name, value in options(self._settings).items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        # late: what is built belongs to the forked process
        from receiver.runtime import Runtime
        from receiver.web import create_app

        return create_app(Runtime.build(self._settings))


@contextlib.contextmanager
def _metrics_folder(settings: Settings) -> Iterator[None]:
    """With several processes, a folder of our own for their counters, unless the environment names one."""
    if settings.web_processes == 1 or os.environ.get(METRICS_FOLDER):
        yield
        return
    folder = tempfile.mkdtemp(prefix="receiver-metrics-")
    os.environ[METRICS_FOLDER] = folder
    owner = os.getpid()
    try:
        yield
    finally:
        # A forked worker ends here too, and must leave the others their folder, unless its parent was killed.
        if os.getpid() == owner or os.getppid() != owner:
            os.environ.pop(METRICS_FOLDER, None)
            shutil.rmtree(folder, ignore_errors=True)


def _when_ready(arbiter: Any) -> None:
    """Before any worker is forked: say where we listen, and nothing about the server in answers."""
    log.info("web started", address=", ".join(map(str, arbiter.LISTENERS)), processes=arbiter.cfg.workers)
    given: Callable[[Any], list[str]] = _wsgi.Response.default_headers
    _wsgi.Response.default_headers = lambda response: [
        line for line in given(response) if not line.startswith("Server:")
    ]


def _post_fork(_: Any, __: Any) -> None:
    """In a worker, first of all: what counts is loaded again, if there is a folder for it.

    When it was first loaded, before the fork, it chose between one process and several, and took room in files of that
    process. This one has files of its own.
    """
    if os.environ.get(METRICS_FOLDER):
        importlib.reload(metrics)


def _post_worker_init(worker: Any) -> None:
    """In a worker: bodies are waited for up to our limit, plain callbacks need no thread each.

    SIGTERM also sends waiting requests and streams away. The first worker looks at the schema, once for all.
    """
    from receiver.web.express import Express  # late: see load()
    from receiver.web.face import face_of

    face = face_of(worker.wsgi)
    worker.express = Express(worker.wsgi, worker.answer)
    worker.express.start()
    worker.body_limit = face.runtime.settings.max_body
    alarm = face.alarm

    def leave(number: int, frame: FrameType | None) -> None:
        alarm.stop()
        worker.handle_exit(number, frame)

    signal.signal(signal.SIGTERM, leave)
    signal.siginterrupt(signal.SIGTERM, False)  # system calls of requests in flight are not to be broken off
    if worker.age == 1:  # beside the rest: a database that is away must not hold up the start
        threading.Thread(target=_look_at_schema, args=[face.runtime.store], name="schema", daemon=True).start()
    gc.freeze()  # what is here stays: looking through it for garbage would hold up everything, again and again


def _look_at_schema(store: Store) -> None:
    with contextlib.suppress(Busy):
        if not store.schema_is_current():
            log.warning("the database's schema is not up to date: run receiver migrate")


def _pre_request(_: Any, request: Any) -> None:
    """Before a request is served: two idempotency keys stay two.

    gunicorn joins the values of a name by commas, and that would be a key like any other. With the space that HTTP
    allows behind the comma (RFC 9110 §5.3) it is none.
    """
    keys = [value for name, value in request.headers if name == _KEY]
    if len(keys) > 1:
        others = [(name, value) for name, value in request.headers if name != _KEY]
        request.headers = [*others, (_KEY, ", ".join(keys))]


def _child_exit(_: Any, worker: Any) -> None:
    """After a worker's end: its live gauges go, its counts stay."""
    folder = os.environ.get(METRICS_FOLDER)
    if folder and Path(folder).is_dir():
        from prometheus_client.multiprocess import mark_process_dead  # late: see load()

        mark_process_dead(worker.pid, folder)  # type: ignore[no-untyped-call]  # the library leaves it untyped
