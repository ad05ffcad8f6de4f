"""What every answer carries, and what no answer tells: security headers, and things of other accounts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event
from werkzeug.test import TestResponse

from receiver.errors import Busy
from receiver.models import new_id
from receiver.runtime import Runtime
from receiver.store import prepared
from receiver.tasks import TaskService
from receiver.web import auth, create_app
from tests.web.conftest import KEY, SAMPLE, Caller, Progress

GUARDS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
HOOK = {"url": "http://127.0.0.1:9/", "event_types": ["*"]}


def assert_guarded(answer: TestResponse) -> None:
    """Check the headers that hold for every answer."""
    assert {name: answer.headers.get(name) for name in GUARDS} == GUARDS, answer.request.path
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in re.sub("style-src[^;]*", "", policy)
    assert "Server" not in answer.headers
    assert "Set-Cookie" not in answer.headers
    if answer.request.path.startswith("/v1") or answer.status_code >= 400:
        assert answer.headers["Cache-Control"] == "no-store"


def failing(error: Exception) -> Callable[..., Any]:
    """A method that raises."""

    def fail(*_: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("status", "method", "path", "more"),
    [
        (200, "GET", "/v1/tasks", {}),
        (200, "HEAD", "/v1/tasks", {}),
        (200, "OPTIONS", "/v1/tasks", {}),
        (202, "POST", "/v1/tasks", {"json": SAMPLE}),
        (201, "POST", "/v1/subscribers", {"json": HOOK}),
        (400, "POST", "/v1/tasks", {"data": "{", "content_type": "application/json"}),
        (404, "GET", "/v1/tasks/task_01kahx3mt5k0c4z7d6q8r9w2ve", {}),
        (404, "GET", "/nope", {}),
        (404, "GET", "/static/nope.css", {}),
        (404, "GET", "/static/../config.py", {}),
        (405, "PUT", "/v1/tasks", {}),
        (415, "POST", "/v1/tasks", {"data": "x"}),
        (422, "POST", "/v1/tasks", {"json": {}}),
        (200, "GET", "/healthz", {}),
        (503, "GET", "/readyz", {}),
        (200, "GET", "/metrics", {}),
        (200, "GET", "/openapi.json", {}),
        (200, "GET", "/docs", {}),
        (200, "GET", "/static/docs.js", {}),
        (403, "POST", "/callbacks/topview/nonsense", {}),
        (401, "POST", "/callbacks/apsaravideo_vod", {"json": {}}),
        (404, "POST", "/callbacks/nobody", {}),
        (405, "GET", "/callbacks/topview/nonsense", {}),
    ],
)
def test_every_kind_of_answer_is_guarded(
    api: Caller, status: int, method: str, path: str, more: Mapping[str, Any]
) -> None:
    """Good answers, errors, pages, files, health and callbacks: not to be sniffed, framed, referred or embedded."""
    with api(method, path, **more) as answer:
        assert answer.status_code == status
        assert_guarded(answer)


def test_answers_without_a_valid_key_are_guarded(client: FlaskClient, caller: Callable[..., Caller]) -> None:
    """401 and 403 carry the same headers."""
    assert_guarded(client.get("/v1/tasks"))
    assert_guarded(caller("default", "submit").post("/v1/subscribers", HOOK))


@pytest.mark.parametrize(("error", "status"), [(RuntimeError("x"), 500), (Busy("x"), 503)])
def test_answers_about_our_own_trouble_are_guarded(
    api: Caller, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    """500 and 503 carry the same headers."""
    monkeypatch.setattr(TaskService, "list_page", failing(error))
    answer = api.get("/v1/tasks")
    assert answer.status_code == status
    assert_guarded(answer)


def test_too_much_is_answered_with_the_same_headers(
    build: Callable[..., Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    """413 and 429 carry the same headers."""
    monkeypatch.setattr(auth, "time", SimpleNamespace(monotonic=lambda: 0.0))  # however long the requests take
    me = Caller(create_app(build(request_rate=1.0, max_body=1024)).test_client(), KEY)
    answers = [me.post("/v1/tasks", {"input": "x" * 2000}), me.get("/v1/tasks"), me.get("/v1/tasks")]
    assert [answer.status_code for answer in answers] == [413, 200, 429]
    for answer in answers:
        assert_guarded(answer)


def test_a_stream_and_an_empty_answer_are_guarded(api: Caller) -> None:
    """Server-sent events, and 204."""
    with api.get("/v1/events", headers={"Accept": "text/event-stream"}) as stream:
        assert stream.content_type.startswith("text/event-stream")
        assert_guarded(stream)
    gone = api("DELETE", f"/v1/subscribers/{api.post('/v1/subscribers', HOOK).json['id']}")
    assert gone.status_code == 204
    assert_guarded(gone)


# --- Other accounts' things --------------------------------------------------------------------------

BODIES: Mapping[str, Any] = {
    "PATCH": {"description": "mine now"},
    "replay": {"since": "2020-01-01T00:00:00Z"},
    "rotate-secret": {"overlap": 0},
}


@contextmanager
def statements(runtime: Runtime) -> Iterator[list[str]]:
    """What the database is asked meanwhile, without the values."""
    seen: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        seen.append(statement)

    run = prepared.directly

    def run_noted(connection: Any, sql: str, work: Any) -> Any:
        seen.append(sql)
        return run(connection, sql, work)

    event.listen(runtime.store.engine, "before_cursor_execute", note)
    try:
        with mock.patch.object(prepared, "directly", run_noted):  # what goes past SQLAlchemy
            yield seen
    finally:
        event.remove(runtime.store.engine, "before_cursor_execute", note)


def as_told(answer: TestResponse, asked: str) -> tuple[int, dict[str, str], bytes]:
    """All of an answer but the request's id; the id that was asked for is taken out."""
    headers = {name: value for name, value in answer.headers.items() if name != "X-Request-Id"}
    return answer.status_code, headers, answer.data.replace(asked.encode(), b"ID")


@pytest.fixture
def theirs(api: Caller, progress: Progress) -> dict[str, str]:
    """Ids of things that exist, of the account ``default``, by prefix."""
    api.post("/v1/subscribers", HOOK)
    api.submit(callback_url="http://127.0.0.1:9/x")
    progress.finish()
    nouns = {"task": "tasks", "sub": "subscribers", "dlv": "deliveries", "evt": "events"}
    return {prefix: api.get(f"/v1/{noun}").json["data"][0]["id"] for prefix, noun in nouns.items()}


def routes_with_ids(app: Flask) -> Iterator[tuple[str, str, str]]:
    """(method, path with {}, prefix of the id) of every route of the API that names a thing."""
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith("/v1/") and (found := re.search(r"<id\((\w+)\):\w+>", rule.rule)):
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield method, rule.rule.replace(found[0], "{}"), found[1]


def test_things_of_others_cannot_be_told_from_what_never_was(
    app: Flask, runtime: Runtime, stranger: Caller, theirs: dict[str, str]
) -> None:
    """On every route with an id, to the byte, header by header, and with the same questions to the database."""
    stranger.get("/v1/tasks")  # the use of the key is noted now, and not in one of those compared
    tried = 0
    for method, path, prefix in routes_with_ids(app):
        body = BODIES.get(method) or BODIES.get(path.rpartition("/")[2])
        more = {} if body is None else {"query_string" if method == "GET" else "json": body}
        made_up = new_id(prefix, 1_767_225_600_000)
        with statements(runtime) as asked_for_nothing:
            nothing = stranger(method, path.format(made_up), **more)
        with statements(runtime) as asked_for_theirs:
            foreign = stranger(method, path.format(theirs[prefix]), **more)
        assert foreign.status_code == 404, (method, path)
        assert as_told(foreign, theirs[prefix]) == as_told(nothing, made_up), (method, path)
        assert asked_for_theirs == asked_for_nothing, (method, path)
        tried += 1
    assert tried >= 12


@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        ("/v1/deliveries?subscriber={}", "sub"),
        ("/v1/deliveries?task={}", "task"),
        ("/v1/deliveries?cursor={}", "dlv"),
        ("/v1/tasks?cursor={}", "task"),
        ("/v1/subscribers?cursor={}", "sub"),
        ("/v1/events?cursor={}", "evt"),
        ("/v1/events?after={}", "evt"),
    ],
)
def test_ids_of_others_in_queries_tell_nothing(
    runtime: Runtime, stranger: Caller, theirs: dict[str, str], path: str, prefix: str
) -> None:
    """Filters, cursors and starting points with an id of another account find what a made-up one finds: nothing."""
    made_up = new_id(prefix, 1_767_225_600_000)
    foreign, nothing = stranger.get(path.format(theirs[prefix])), stranger.get(path.format(made_up))
    assert foreign.status_code == 200
    assert foreign.json["data"] == []
    assert as_told(foreign, theirs[prefix]) == as_told(nothing, made_up)


def test_nothing_of_the_owner_was_changed(app: Flask, api: Caller, stranger: Caller, theirs: dict[str, str]) -> None:
    """After a stranger has tried every route with the owner's ids, all is as it was."""
    shown = ["/v1/tasks", "/v1/subscribers", "/v1/deliveries", f"/v1/subscribers/{theirs['sub']}/secret"]
    before = [api.get(path).data for path in shown]
    for method, path, prefix in routes_with_ids(app):
        body = BODIES.get(method) or BODIES.get(path.rpartition("/")[2])
        stranger(method, path.format(theirs[prefix]), **({} if body is None else {"json": body}))
    assert [api.get(path).data for path in shown] == before
