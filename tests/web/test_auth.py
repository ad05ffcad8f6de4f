"""Keys, scopes, tenancy."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from receiver.runtime import Runtime
from tests.web.conftest import KEY, SAMPLE, Caller, Progress
from tests.web.problems import assert_problem

A_TASK = "task_01kahx3mt5k0c4z7d6q8r9w2ve"
A_SUBSCRIBER = "sub_01kahx3mt5k0c4z7d6q8r9w2ve"
A_DELIVERY = "dlv_01kahx3mt5k0c4z7d6q8r9w2ve"
AN_EVENT = "evt_01kahx3mt5k0c4z7d6q8r9w2ve"
SUBMIT_ONLY = [("POST", "/v1/tasks"), ("POST", f"/v1/tasks/{A_TASK}/cancel"), ("POST", "/v1/uploads")]
BOTH = [
    ("GET", "/v1/tasks"),
    ("GET", f"/v1/tasks/{A_TASK}"),
    ("GET", f"/v1/tasks/{A_TASK}/timeline"),
    ("GET", "/v1/providers"),
    ("GET", "/v1/providers/topview/nothing"),
]
READ = [
    ("GET", "/v1/subscribers"),
    ("GET", f"/v1/subscribers/{A_SUBSCRIBER}"),
    ("GET", "/v1/events"),
    ("GET", f"/v1/events/{AN_EVENT}"),
    ("GET", "/v1/deliveries"),
    ("GET", f"/v1/deliveries/{A_DELIVERY}"),
]
MANAGE = [
    ("POST", "/v1/subscribers"),
    ("PATCH", f"/v1/subscribers/{A_SUBSCRIBER}"),
    ("DELETE", f"/v1/subscribers/{A_SUBSCRIBER}"),
    ("GET", f"/v1/subscribers/{A_SUBSCRIBER}/secret"),
    ("POST", f"/v1/subscribers/{A_SUBSCRIBER}/rotate-secret"),
    ("POST", f"/v1/subscribers/{A_SUBSCRIBER}/ping"),
    ("POST", f"/v1/subscribers/{A_SUBSCRIBER}/replay"),
    ("GET", f"/v1/subscribers/{A_SUBSCRIBER}/replay"),
    ("POST", f"/v1/deliveries/{A_DELIVERY}/retry"),
    ("GET", "/v1/signing-secret"),
    ("POST", "/v1/signing-secret/rotate"),
]
ALL = SUBMIT_ONLY + BOTH + READ + MANAGE


def test_every_operation_is_in_these_lists(app: Flask) -> None:
    """A new operation cannot come without a decision about who may call it."""
    declared = {
        (method, rule.rule)
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/v1/")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    adapter = app.url_map.bind("x")
    listed = {(method, adapter.match(path, method=method, return_rule=True)[0].rule) for method, path in ALL}
    assert declared == listed


@pytest.mark.parametrize(("method", "path"), ALL)
def test_without_a_key_nothing_is_done(client: FlaskClient, method: str, path: str) -> None:
    """No key, and no word about whether the thing exists."""
    answer = client.open(path, method=method)
    assert_problem(answer, 401, "unauthorized")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "given",
    ["", "Bearer", "Bearer ", f"Basic {KEY}", KEY, f"Bearer {KEY} x", "Bearer rk_unknown", f"Bearer {KEY}x",
     f"Bearer {'x' * 5000}", "Bearer schl\xfcssel", "Bearer \x00"],
)  # fmt: skip
def test_odd_credentials_are_no_credentials(client: FlaskClient, given: str) -> None:
    """Whatever stands in the header, the answer is 401 and never a failure."""
    answer = client.get("/v1/tasks", environ_overrides={"HTTP_AUTHORIZATION": given})
    assert_problem(answer, 401, "unauthorized")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_read_without_case(client: FlaskClient, scheme: str) -> None:
    """Authentication schemes have no case (RFC 9110)."""
    assert client.get("/v1/tasks", headers={"Authorization": f"{scheme} {KEY}"}).status_code == 200


def test_a_revoked_key_is_over_at_once(runtime: Runtime, client: FlaskClient) -> None:
    """Revoking takes effect with the next request."""
    found, text = runtime.accounts.create_key("default", "x", ["read"])
    caller = Caller(client, text)
    assert caller.get("/v1/tasks").status_code == 200
    runtime.accounts.revoke_key(found.id)
    assert_problem(caller.get("/v1/tasks"), 401)


@pytest.mark.parametrize(
    ("scope", "refused"), [("submit", READ + MANAGE), ("read", SUBMIT_ONLY + MANAGE), ("manage", [])]
)
def test_each_scope_opens_what_it_says(
    caller: Callable[..., Caller], scope: str, refused: list[tuple[str, str]]
) -> None:
    """403 exactly where the scope does not reach, before anything is looked up or read."""
    me = caller("default", scope)
    for method, path in ALL:
        answer = me(method, path)
        assert (answer.status_code == 403) == ((method, path) in refused), (method, path, answer.status)
        if answer.status_code == 403:
            assert_problem(answer, 403, "forbidden")
            assert "insufficient_scope" in answer.headers["WWW-Authenticate"]


def test_another_accounts_things_look_missing(api: Caller, stranger: Caller, progress: Progress) -> None:
    """404 word for word as for what never existed, whatever is tried."""
    api.post("/v1/subscribers", {"url": "http://127.0.0.1:9/", "event_types": ["*"]})
    api.submit(callback_url="http://127.0.0.1:9/x")
    progress.finish()

    def first(noun: str) -> str:
        found: str = api.get(f"/v1/{noun}").json["data"][0]["id"]
        return found

    mine = {A_TASK: first("tasks"), A_SUBSCRIBER: first("subscribers"), A_DELIVERY: first("deliveries"),
            AN_EVENT: first("events")}  # fmt: skip
    bodies = {"PATCH": {}, "replay": {"since": "2026-01-01T00:00:00Z"}}
    for method, path in ALL:
        for missing, own in mine.items():
            if missing in path:
                body = bodies.get(method) or bodies.get(path.rpartition("/")[2]) or {}
                asked = {"query_string": body} if method == "GET" else {"json": body}
                never = stranger(method, path, **asked)
                foreign = stranger(method, path.replace(missing, own), **asked)
                assert_problem(foreign, 404, "not-found")
                assert foreign.text == never.text
    for noun in ("tasks", "subscribers", "deliveries", "events"):
        assert stranger.get(f"/v1/{noun}").json["data"] == []
    assert stranger.get(f"/v1/events?after={mine[AN_EVENT]}").json["data"] == []


def test_a_key_sees_only_its_account(api: Caller, stranger: Caller) -> None:
    """The same idempotency key in two accounts names two tasks."""
    headers = {"Idempotency-Key": "same"}
    mine = api.post("/v1/tasks", SAMPLE, headers=headers)
    other = stranger.post("/v1/tasks", SAMPLE, headers=headers)
    assert mine.json["id"] != other.json["id"]
    assert "Idempotency-Replayed" not in other.headers


@pytest.mark.parametrize("path", ["/v1/tasks/nonsense", "/v1/events/task_1", "/v1/tasks/nonsense/timeline"])
def test_the_key_is_asked_for_before_an_id_is_judged(app: Flask, api: Caller, path: str) -> None:
    """Without a key, 401 for an id of any form; with one, 404 and what is wrong with it."""
    assert app.test_client().get(path).status_code == 401
    assert api("GET", path).status_code == 404
