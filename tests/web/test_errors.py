"""Errors and headers that hold for every answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from flask import Flask
from flask.testing import FlaskClient

from receiver import watching
from receiver.accounts import AccountService
from receiver.errors import Busy, ReceiverError
from receiver.tasks import TaskService
from tests.web.conftest import SAMPLE, Caller
from tests.web.problems import assert_problem


def failing(error: Exception) -> Callable[..., Any]:
    """A method that raises."""

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    "path", ["/nope", "/v1", "/v1/nope", "/callbacks", "/static/nope.js", "/static/../app.py", "/%00"]
)
def test_unknown_addresses_are_problems(client: FlaskClient, path: str) -> None:
    """404 in the one shape, from every room."""
    assert_problem(client.get(path), 404, "not-found")


@pytest.mark.parametrize(
    "path", ["/v1/tasks", "/v1/events", "/v1/providers", "/v1/tasks/nope", "/healthz", "/openapi.json", "/nope"]
)
def test_json_ends_its_line(api: Caller, path: str) -> None:
    """After curl, the prompt of a terminal stands on a line of its own."""
    answer = api.get(path)
    assert answer.mimetype.startswith("application/")
    assert answer.text.endswith("}\n")
    assert int(answer.headers["Content-Length"]) == len(answer.data)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/tasks/task_01kahx3mt5", "There is no such task: the id of one is task_ and 26 letters and digits."),
        ("/v1/tasks/sub_01kahx3mt5k0c4z7d6q8r9w2ve/timeline", "There is no such task: the id of one is task_"),
        ("/v1/subscribers/%0A", "There is no such subscriber: the id of one is sub_"),
        ("/v1/deliveries/4711/retry", "There is no such delivery: the id of one is dlv_"),
        ("/v1/events/x", "There is no such event: the id of one is evt_"),
        ("/v1/tasks/task_01kahx3mt5k0c4z7d6q8r9w2ve/nothing", "There is nothing at this address."),
    ],
)
def test_an_id_that_cannot_be_one_is_said_to_be_the_trouble(api: Caller, path: str, said: str) -> None:
    """404 as for any thing that is not there; who cut an id short does not look for a wrong address."""
    assert assert_problem(api.get(path), 404, "not-found")["detail"].startswith(said)


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/v1/tasks"), ("DELETE", "/v1/tasks"), ("POST", "/healthz"), ("TRACE", "/v1/tasks")]
)
def test_wrong_methods_say_what_is_allowed(client: FlaskClient, method: str, path: str) -> None:
    """405 with Allow."""
    answer = client.open(path, method=method)
    assert_problem(answer, 405, "method-not-allowed")
    assert "GET" in answer.headers["Allow"]


@pytest.mark.parametrize("error", [RuntimeError("the password is hunter2"), ReceiverError("hunter2")])
def test_our_own_mistakes_tell_nothing_but_the_request(
    api: Caller, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """500 with the request's id, under which the log has more as for any request, and nothing of the inside."""
    monkeypatch.setattr(TaskService, "list_page", failing(error))
    with structlog.testing.capture_logs() as logged:
        answer = api.get("/v1/tasks")
    body = assert_problem(answer, 500, "internal")
    assert "hunter2" not in answer.text
    assert answer.headers["X-Request-Id"] in body["detail"]
    found = [line["event"] for line in logged if line.get("request") == answer.headers["X-Request-Id"]]
    assert "a request failed" in found


@pytest.mark.parametrize("service", [TaskService, AccountService])
def test_a_busy_database_is_a_503(api: Caller, monkeypatch: pytest.MonkeyPatch, service: type) -> None:
    """With Retry-After, also when it is busy while the key is looked up."""
    name = "list_page" if service is TaskService else "authenticate"
    monkeypatch.setattr(service, name, failing(Busy("db.internal:5432 is locked")))
    answer = api.get("/v1/tasks")
    assert_problem(answer, 503, "busy")
    assert answer.headers["Retry-After"] == "1"
    assert "db.internal" not in answer.text


def test_a_busy_database_does_not_fill_the_log(api: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is told to come again does, all at once: one line in ten seconds, which says how many were not said."""
    monkeypatch.setattr(watching, "_said", {})
    monkeypatch.setattr(watching, "SAID_EVERY", float("inf"))
    monkeypatch.setattr(TaskService, "list_page", failing(Busy("locked")))
    with structlog.testing.capture_logs() as logged:
        for _ in range(20):
            api.get("/v1/tasks")
        monkeypatch.setattr(watching, "SAID_EVERY", 0.0)
        api.get("/v1/tasks")
    assert [line["unsaid"] for line in logged if line["event"] == "busy"] == [0, 19]


@pytest.mark.parametrize("uncertain", [False, True])
def test_it_is_said_whether_anything_may_be_stored(
    api: Caller, monkeypatch: pytest.MonkeyPatch, uncertain: bool
) -> None:
    """Who believes that nothing was, and has no Idempotency-Key, would buy the task once more."""
    monkeypatch.setattr(TaskService, "create", failing(Busy("broken", uncertain=uncertain)))
    body = assert_problem(api.post("/v1/tasks", SAMPLE), 503, "busy")
    assert ("nothing was stored" in body["detail"]) == (not uncertain)
    assert ("Idempotency-Key" in body["detail"]) == uncertain


def test_the_same_problem_has_the_same_type(api: Caller) -> None:
    """Types are stable names for programs, one for each kind."""
    seen = {api.get(path).json["type"] for path in ("/nope", "/v1/tasks/task_01kahx3mt5k0c4z7d6q8r9w2ve")}
    assert seen == {"urn:receiver:problem:not-found"}


@pytest.mark.parametrize("path", ["/healthz", "/v1/tasks", "/nope", "/docs", "/openapi.json", "/static/docs.js", "/"])
def test_every_answer_is_guarded(client: FlaskClient, path: str) -> None:
    """Whatever is answered: not to be sniffed, framed, referred, or (outside of files) stored."""
    with client.get(path) as answer:
        assert re.fullmatch("[0-9a-f]{24}", answer.headers["X-Request-Id"])
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        stored = answer.headers.get("Cache-Control")
        assert stored == ("no-store" if path in ("/healthz", "/v1/tasks", "/nope", "/") else stored)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("order-4711.a_b", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("a b", False),
        ("<script>", False),
        ("\u00e9", False),
    ],
)
def test_a_callers_request_id_is_kept_when_it_is_plain(client: FlaskClient, given: str, kept: bool) -> None:
    """A trace runs through; nothing odd gets into headers or logs."""
    answer = client.get("/healthz", environ_overrides={"HTTP_X_REQUEST_ID": given})
    assert (answer.headers["X-Request-Id"] == given) is kept


def test_unknown_parameters_are_refused_everywhere(app: Flask, api: Caller) -> None:
    """A parameter that does nothing is said to, on every address that does not pass it on to a provider."""
    ids = {"task_id": "task", "subscriber_id": "sub", "delivery_id": "dlv", "event_id": "evt"}
    values = {name: f"{prefix}_01kahx3mt5k0c4z7d6q8r9w2ve" for name, prefix in ids.items()}
    tried = 0
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith("/v1/") and rule.endpoint != "Providers.get_resource":
            path = rule.build({name: values[name] for name in rule.arguments})[1]
            for method in rule.methods - {"HEAD", "OPTIONS"}:
                body = assert_problem(api(method, f"{path}?nonsense=5"), 422, "invalid")
                assert body["errors"]["nonsense"] == ["Unknown field."], path
                tried += 1
    assert tried > 20


def test_head_and_options_work(api: Caller) -> None:
    """HEAD answers like GET without a body, OPTIONS says what there is."""
    head = api("HEAD", "/v1/tasks")
    assert (head.status_code, head.data) == (200, b"")
    options = api("OPTIONS", "/v1/tasks")
    assert options.status_code == 200
    assert {"GET", "POST"} <= set(options.headers["Allow"].split(", "))
