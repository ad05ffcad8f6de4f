"""Registering, changing and testing webhooks, and their secrets."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from receiver.runtime import Runtime
from receiver.web import create_app
from tests.web.conftest import KEY, Caller, Clock, Progress
from tests.web.problems import assert_invalid, assert_problem

URL = "http://127.0.0.1:9/hook"
HOOK = {"url": URL, "event_types": ["*"]}
OWN = "whsec_" + base64.b64encode(b"x" * 24).decode()


def register(api: Caller, **changes: Any) -> Any:
    """A new subscriber, as answered."""
    answer = api.post("/v1/subscribers", {**HOOK, **changes})
    assert answer.status_code == 201, answer.text
    return answer.json


def test_a_subscriber_comes_with_its_secret_and_address(api: Caller) -> None:
    """201 with the secret; reading it later shows all but the secret."""
    answer = api.post("/v1/subscribers", {**HOOK, "description": "mine", "providers": ["topview"], "rate_limit": 5})
    assert answer.status_code == 201
    made = answer.json
    assert made["secret"].startswith("whsec_")
    assert answer.headers["Location"] == f"/v1/subscribers/{made['id']}"
    seen = api.get(answer.headers["Location"]).json
    assert seen == {name: value for name, value in made.items() if name != "secret"}
    assert seen == {
        "id": made["id"], "url": URL, "event_types": ["*"], "providers": ["topview"], "description": "mine",
        "headers": {}, "rate_limit": 5, "disabled": False, "disabled_reason": None, "failing_since": None,
        "created_at": made["created_at"],
    }  # fmt: skip
    assert api.get("/v1/subscribers").json == {"data": [seen], "next_cursor": None}


def test_secrets_are_unique_or_the_callers_own(api: Caller) -> None:
    """A generated secret is never given twice; a valid one of the caller's is taken as it is."""
    assert register(api)["secret"] != register(api)["secret"]
    assert register(api, secret=OWN)["secret"] == OWN


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"url": None}, "url"),
        ({"url": ""}, "url"),
        ({"url": "http://8.8.8.8/"}, "url"),
        ({"url": "https://user:password@example.com/"}, "url"),
        ({"url": "https://10.0.0.1/"}, "url"),
        ({"url": "https://example.com/" + "x" * 2048}, "url"),
        ({"event_types": []}, "event_types"),
        ({"event_types": "task.succeeded"}, "event_types"),
        ({"event_types": ["task.unknown"]}, "event_types"),
        ({"event_types": ["t*"]}, "event_types"),
        ({"event_types": [1]}, "event_types.0"),
        ({"providers": ["nobody"]}, "providers.0"),
        ({"providers": []}, "providers"),
        ({"description": "x" * 501}, "description"),
        ({"headers": {"Host": "x"}}, "headers"),
        ({"headers": {"Content-Length": "1"}}, "headers"),
        ({"headers": {"webhook-id": "x"}}, "headers"),
        ({"headers": {"Connection": "close"}}, "headers"),
        ({"headers": {"some:thing": "x"}}, "headers"),
        ({"headers": {"X": "a\r\nY: b"}}, "headers"),
        ({"headers": {"X": "1", "x": "2"}}, "headers"),
        ({"headers": {"X": 1}}, "headers.X"),
        ({"headers": {"X": None}}, "headers.X"),
        ({"headers": {f"X-{n}": "x" for n in range(21)}}, "headers"),
        ({"rate_limit": 0}, "rate_limit"),
        ({"rate_limit": "5"}, "rate_limit"),
        ({"secret": "topsecret"}, "secret"),
        ({"secret": "whsec_c2hvcnQ="}, "secret"),
        ({"disabled": True}, "disabled"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_bad_fields_are_named(api: Caller, changes: dict[str, Any], field: str) -> None:
    """422 with the field, and nothing is registered."""
    assert_invalid(api.post("/v1/subscribers", {**HOOK, **changes}), field)
    assert api.get("/v1/subscribers").json["data"] == []


def test_sensitive_headers_are_not_shown(api: Caller) -> None:
    """What looks like a credential is kept, and never given back."""
    headers = {"Authorization": "Bearer abc", "X-Api-Key": "k", "Cookie": "c", "X-Auth-Token": "t", "X-Team": "video"}
    seen = register(api, headers=headers)["headers"]
    assert seen == {**dict.fromkeys(headers, "***"), "X-Team": "video"}


def test_a_patch_merges(api: Caller) -> None:
    """What is left out stays, null clears, and only what is named changes."""
    made = register(api, providers=["topview"], rate_limit=2, description="old", headers={"X-A": "1", "X-Key": "k"})
    path = f"/v1/subscribers/{made['id']}"
    assert api("PATCH", path, json={}).json["description"] == "old"
    changed = api("PATCH", path, json={"description": "new", "event_types": ["task.*"]}).json
    assert changed == {**api.get(path).json, "description": "new", "event_types": ["task.*"], "providers": ["topview"]}
    cleared = api("PATCH", path, json={"providers": None, "rate_limit": None, "headers": None}).json
    assert (cleared["providers"], cleared["rate_limit"], cleared["headers"]) == (None, None, {})


def test_headers_are_merged_by_name(api: Caller, runtime: Runtime) -> None:
    """Sending back what was shown keeps hidden values; null takes one away; case does not matter."""
    made = register(api, headers={"X-A": "1", "X-Key": "real", "X-B": "2"})
    path = f"/v1/subscribers/{made['id']}"
    both = {"headers": {"X-A": "1", "x-a": None}}  # which one is meant cannot be known
    assert_invalid(api("PATCH", path, json=both), "headers")
    api("PATCH", path, json={"headers": made["headers"]})
    api("PATCH", path, json={"headers": {"X-Key": "***", "x-b": None, "X-C": "3"}})
    account = runtime.accounts.list_keys("default")[0].account_id
    kept = runtime.subscribers.headers(runtime.subscribers.get(account, made["id"]))
    assert kept == {"X-A": "1", "X-Key": "real", "X-C": "3"}


def test_null_is_as_good_as_nothing(api: Caller) -> None:
    """Every member that may be left out may be null, as typed clients send it; in a change null clears."""
    empty = {"providers": None, "description": None, "headers": None, "rate_limit": None}
    made = register(api, **empty, secret=None)
    full = {"providers": ["topview"], "description": "mine", "headers": {"X-A": "1"}, "rate_limit": 5}
    assert register(api, **full)["description"] == "mine"
    path = f"/v1/subscribers/{made['id']}"
    assert api("PATCH", path, json=full).json["description"] == "mine"
    cleared = api("PATCH", path, json=empty).json
    assert cleared == {name: value for name, value in made.items() if name != "secret"}
    assert (cleared["description"], cleared["headers"]) == ("", {})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"url": None}, "url"),
        ({"event_types": None}, "event_types"),
        ({"disabled": "yes"}, "disabled"),
        ({"disabled": 1}, "disabled"),
        ({"disabled": None}, "disabled"),
        ({"secret": OWN}, "secret"),
        ({"id": "sub_x"}, "id"),
        ({"description": "fine", "url": "https://10.0.0.1/"}, "url"),
        ({"headers": {"Host": "x"}}, "headers"),
        ({"headers": {"X-New-Key": "***"}}, "headers"),
    ],
)
def test_a_bad_patch_changes_nothing(api: Caller, change: dict[str, Any], field: str) -> None:
    """All or nothing."""
    made = register(api)
    assert_invalid(api("PATCH", f"/v1/subscribers/{made['id']}", json=change), field)
    assert api.get(f"/v1/subscribers/{made['id']}").json["description"] == ""


def test_disabling_and_enabling(api: Caller, progress: Progress) -> None:
    """A disabled subscriber keeps its backlog; retrying by hand is a conflict until it is enabled."""
    made = register(api)
    path = f"/v1/subscribers/{made['id']}"
    off = api("PATCH", path, json={"disabled": True}).json
    assert (off["disabled"], off["disabled_reason"]) == (True, "by request")
    api.submit()
    progress.finish()
    waiting = api.get("/v1/deliveries?status=pending").json["data"]
    assert waiting
    assert_problem(api.post(f"/v1/deliveries/{waiting[0]['id']}/retry"), 409, "conflict")
    on = api("PATCH", path, json={"disabled": False}).json
    assert (on["disabled"], on["disabled_reason"]) == (False, None)
    assert api.post(f"/v1/deliveries/{waiting[0]['id']}/retry").status_code == 202


def test_a_deleted_subscriber_is_gone(api: Caller) -> None:
    """204 with no body, then 404; what was on its way to it is dead, and says why."""
    made = register(api)
    ping = api.post(f"/v1/subscribers/{made['id']}/ping").json
    answer = api("DELETE", f"/v1/subscribers/{made['id']}")
    assert (answer.status_code, answer.data, answer.content_type) == (204, b"", None)
    assert_problem(api.get(f"/v1/subscribers/{made['id']}"), 404)
    assert_problem(api("DELETE", f"/v1/subscribers/{made['id']}"), 404)
    gone = api.get(f"/v1/deliveries/{ping['id']}").json
    assert (gone["status"], gone["reason"]) == ("dead", "subscriber_deleted")


def test_rotation_keeps_the_old_secret_for_a_while(api: Caller, clock: Clock) -> None:
    """Both sign until the overlap is over; the newest stands first."""
    made = register(api)
    path = f"/v1/subscribers/{made['id']}"
    assert api.get(f"{path}/secret").json == {
        "secret": made["secret"], "secrets": [{"secret": made["secret"], "expires_at": None}],
    }  # fmt: skip
    rotated = api.post(f"{path}/rotate-secret").json
    assert [entry["secret"] for entry in rotated["secrets"]] == [rotated["secret"], made["secret"]]
    assert rotated["secrets"][0]["expires_at"] is None
    assert rotated["secrets"][1]["expires_at"] is not None
    clock.ahead += 86_400_000
    assert [entry["secret"] for entry in api.get(f"{path}/secret").json["secrets"]] == [rotated["secret"]]
    mine = api.post(f"{path}/rotate-secret", {"overlap": 0, "secret": OWN}).json
    assert mine == {"secret": OWN, "secrets": [{"secret": OWN, "expires_at": None}]}


@pytest.mark.parametrize(
    ("body", "field"),
    [({"overlap": -1}, "overlap"), ({"overlap": 604_801}, "overlap"), ({"overlap": "1"}, "overlap"),
     ({"overlap": 1.5}, "overlap"), ({"overlap": True}, "overlap"), ({"secret": "x"}, "secret")],
)  # fmt: skip
def test_bad_rotations_are_refused(api: Caller, body: Any, field: str) -> None:
    """A week at most, whole seconds, valid secrets."""
    made = register(api)
    assert_invalid(api.post(f"/v1/subscribers/{made['id']}/rotate-secret", body), field)


def test_secrets_cannot_pile_up(api: Caller) -> None:
    """Ten sign together at most; ending the old ones makes room."""
    made = register(api)
    path = f"/v1/subscribers/{made['id']}/rotate-secret"
    for _ in range(9):
        assert api.post(path, {"overlap": 3600.0}).status_code == 200
    assert_invalid(api.post(path), "overlap")
    assert len(api.post(path, {"overlap": 0}).json["secrets"]) == 1


def test_a_ping_is_a_delivery(api: Caller) -> None:
    """202 with the delivery to follow; only this subscriber gets it."""
    made, _ = register(api, event_types=["task.failed"]), register(api)
    answer = api.post(f"/v1/subscribers/{made['id']}/ping")
    assert answer.status_code == 202
    ping = answer.json
    assert (ping["event_type"], ping["subscriber"], ping["status"]) == ("subscriber.ping", made["id"], "pending")
    assert api.get(answer.headers["Location"]).json["attempts"] == []
    assert len(api.get("/v1/deliveries").json["data"]) == 1


def test_a_disabled_subscriber_is_not_pinged(api: Caller) -> None:
    """409 that says what to do first, instead of a ping that waits where nobody looks."""
    made = register(api)
    api("PATCH", f"/v1/subscribers/{made['id']}", json={"disabled": True})
    answer = api.post(f"/v1/subscribers/{made['id']}/ping")
    assert "enable it first" in assert_problem(answer, 409, "conflict")["detail"]
    assert api.get("/v1/deliveries").json["data"] == []


def test_a_replay_counts_what_it_sends_again(api: Caller, runtime: Runtime) -> None:
    """Only ended deliveries of the span, dead ones unless all are asked for; a second replay finds none."""
    made = register(api)
    path = f"/v1/subscribers/{made['id']}/replay"
    api.post(f"/v1/subscribers/{made['id']}/ping")
    assert api.post(path, {"since": "2020-01-01T00:00:00Z"}).json == {"replayed": 0}
    nothing = {"replayable": 0, "waiting": 1, "replaying": 0, "retrying": 0}
    assert api.get(f"{path}?since=2020-01-01T00:00:00Z&status=all").json == nothing
    with runtime.store.write() as connection:
        connection.exec_driver_sql("UPDATE deliveries SET status='dead', due_at=NULL")
    assert api.post(path, {"since": "2020-01-01T00:00:00Z", "until": "2020-01-02T00:00:00Z"}).json == {"replayed": 0}
    assert api.post(path, {"since": "2999-01-01T00:00:00Z"}).json == {"replayed": 0}
    assert api.post(path, {"since": "2020-01-01T01:00:00+01:00", "until": None}).json == {"replayed": 1}
    assert api.post(path, {"since": "2020-01-01T00:00:00Z", "status": "all"}).json == {"replayed": 0}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "since"),
        ({"since": 0}, "since"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-01-01T00:00:00Z", "until": "2025-01-01T00:00:00Z"}, "until"),
        ({"since": "2026-01-01T00:00:00Z", "status": "pending"}, "status"),
    ],
)
def test_bad_replays_are_refused(api: Caller, body: Any, field: str) -> None:
    """A span must be one."""
    made = register(api)
    assert_invalid(api.post(f"/v1/subscribers/{made['id']}/replay", body), field)


def test_a_secret_that_signs_already_is_named_as_the_field_that_is_wrong(api: Caller) -> None:
    """``errors`` names what to change: another secret, not another overlap."""
    made = register(api)
    path = f"/v1/subscribers/{made['id']}/rotate-secret"
    assert_invalid(api.post(path, {"overlap": 60, "secret": made["secret"]}), "secret")


def test_the_accounts_signing_secret_rotates_too(api: Caller) -> None:
    """What signs for callback_url is read and replaced in the same way."""
    first = api.get("/v1/signing-secret").json
    rotated = api.post("/v1/signing-secret/rotate", {"overlap": 60}).json
    assert [entry["secret"] for entry in rotated["secrets"]] == [rotated["secret"], first["secret"]]
    assert api.post("/v1/signing-secret/rotate", {"overlap": 0}).json["secrets"][1:] == []
    assert_invalid(api.post("/v1/signing-secret/rotate", {"secret": OWN}), "secret")


def test_a_secret_that_no_key_opens_is_answered_with_what_to_do(api: Caller, build: Callable[..., Runtime]) -> None:
    """After a change of the secret keys: 409 that names the two ways out, of which one is open to the caller."""
    path = f"/v1/subscribers/{register(api)['id']}"
    other = Caller(create_app(build(secret_keys=(b"n" * 32,))).test_client(), KEY)
    account = ("/v1/signing-secret", "/v1/signing-secret/rotate")
    for read, rotate in ((f"{path}/secret", f"{path}/rotate-secret"), account):
        detail = assert_problem(other.get(read), 409, "conflict")["detail"]
        assert "RECEIVER_SECRET_KEYS" in detail
        assert "rotate with an overlap of 0" in detail
        assert other.post(rotate, {"overlap": 0}).status_code == 200
        assert other.get(read).status_code == 200
