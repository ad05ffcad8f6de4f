"""The application put together: sections, errors, and what every answer carries."""

from __future__ import annotations

import secrets
import time

from flask import Flask, Response, g, request

from receiver import logs, tracing, watching
from receiver.config import read_settings
from receiver.runtime import Runtime
from receiver.web import (
    accounts,
    auth,
    callbacks,
    dashboard,
    deliveries,
    documents,
    errors,
    events,
    face,
    health,
    providers,
    subscribers,
    tasks,
)
from receiver.web.answers import API_POLICY, STANDING
from receiver.web.api import open_api
from receiver.web.bodies import SpoolingRequest
from receiver.web.plain import REQUEST_ID

_METHODS = ("GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS")
_KEPT_FILES = ("static", "dashboard.static", "documents.docs", "documents.document")


def build(runtime: Runtime | None = None) -> Flask:
    """The application; see ``receiver.web.create_app``."""
    if runtime is None:
        settings = read_settings()
        logs.set_up(settings.log_format, settings.log_level, "web")
        runtime = Runtime.build(settings)
    tracing.set_up("web")
    app = Flask("receiver.web", static_folder="static", static_url_path="/static")
    app.request_class = SpoolingRequest
    app.url_map.merge_slashes = False  # a redirect would lose a provider's POST
    face.attach(app, runtime)
    errors.register(app)
    app.before_request(_begin)
    app.before_request(auth.before_ids_are_judged)
    app.after_request(_finish)
    api = open_api(app)
    for noun in (tasks, providers, subscribers, events, deliveries, accounts):
        api.register_blueprint(noun.section)
    for plain in (callbacks, health, documents):
        app.register_blueprint(plain.blueprint)
    documents.attach(app, api)
    dashboard.attach(app, runtime)
    return app


def _begin() -> None:
    given = request.headers.get("X-Request-Id", "")
    g.request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(12)
    g.began, g.worked = time.monotonic(), time.thread_time()


def _finish(response: Response) -> Response:
    """What every answer carries. Pages set their own policy before."""
    headers = response.headers
    headers["X-Request-Id"] = g.request_id
    headers.update(STANDING)
    headers.setdefault("Content-Security-Policy", API_POLICY)
    if response.status_code >= 400 or request.endpoint not in _KEPT_FILES:
        headers["Cache-Control"] = "no-store"
    route = request.url_rule.rule if request.url_rule is not None else "none"
    method = request.method if request.method in _METHODS else "other"
    watching.request_answered(
        route, method, response.status_code, g.began, g.request_id,
        g.get("task_id", ""), request.headers.get("traceparent"),
    )  # fmt: skip
    return response
