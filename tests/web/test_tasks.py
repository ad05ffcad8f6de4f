"""Submitting, listing, reading and canceling tasks."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from receiver.config import Settings
from receiver.runtime import Runtime
from receiver.web import create_app
from tests.web.conftest import KEY, SAMPLE, Caller, Clock, Progress
from tests.web.problems import assert_invalid, assert_problem

SWAP = {"provider": "img_open", "operation": "face_swap_v2"}
SWAP_FIELDS = ("sourceUrl", "targetUrl", "fidelityWeight")
TRAINING = {"provider": "img_open", "operation": "model_training"}


def test_a_task_is_accepted_with_its_address(api: Caller) -> None:
    """202, Location, and the whole task; reading it gives the same text."""
    answer = api.post("/v1/tasks", {**SAMPLE, "metadata": {"order": "4711"}, "deadline": 3600})
    assert answer.status_code == 202
    task = answer.json
    assert answer.headers["Location"] == f"/v1/tasks/{task['id']}"
    assert task["status"] == "queued"
    assert task["input"] == SAMPLE["input"]
    assert task["metadata"] == {"order": "4711"}
    assert task["deadline_at"] > task["created_at"]
    assert api.get(answer.headers["Location"]).text == answer.text


def test_numbers_come_back_to_the_last_digit(api: Caller, progress: Progress) -> None:
    """What a provider said is passed on as it came, and so are large integers of the caller's."""
    big = 123456789012345678901234567890
    task = api.submit(input={**SAMPLE["input"], "seed": big})
    progress.finish(raw='{"id": 98765432109876543210987654321, "price": 0.10000000000000000005, "a":\n1e2}')
    answer = api.get(f"/v1/tasks/{task['id']}")
    assert f'"seed":{big}' in answer.text
    assert '"provider_response":{"id": 98765432109876543210987654321, "price": 0.10000000000000000005' in answer.text
    assert answer.json["status"] == "succeeded"
    assert answer.json["outputs"][0]["url"] == "https://cdn.example.test/a.png"


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"provider": None}, ["provider"]),
        ({"provider": "nobody"}, ["provider"]),
        ({"provider": 7}, ["provider"]),
        ({"provider": "topview\x00"}, ["provider"]),
        ({"operation": "nothing"}, ["operation"]),
        ({"input": {}}, ["input.inputText", "input.width", "input.height"]),
        ({"input": []}, ["input"]),
        ({"input": "text"}, ["input"]),
        ({"input": None}, ["input"]),
        ({"input": {**SAMPLE["input"], "width": "512"}}, ["input.width"]),
        ({"input": {**SAMPLE["input"], "x": "\ud800"}}, ["input"]),
        ({"callback_url": "ftp://example.com/"}, ["callback_url"]),
        ({"callback_url": "http://169.254.169.254/latest"}, ["callback_url"]),
        ({"callback_url": "http://127.0.0.1:9\\@example.com/"}, ["callback_url"]),
        ({"callback_url": 1}, ["callback_url"]),
        ({"metadata": {"a": 1}}, ["metadata.a"]),
        ({"metadata": {"": "x"}}, ["metadata."]),
        ({"metadata": {"a": "x" * 513}}, ["metadata.a"]),
        ({"metadata": {"k" * 65: "x"}}, ["metadata." + "k" * 65]),
        ({"metadata": {"a": "\x00"}}, ["metadata.a"]),
        ({"metadata": {str(n): "x" for n in range(17)}}, ["metadata"]),
        ({"metadata": []}, ["metadata"]),
        ({"deadline": 0}, ["deadline"]),
        ({"deadline": True}, ["deadline"]),
        ({"deadline": "60"}, ["deadline"]),
        ({"deadline": 10**400}, ["deadline"]),
        ({**SWAP, "input": {"fidelityWeight": 10**400}}, [f"input.{name}" for name in SWAP_FIELDS]),
        ({**TRAINING, "input": {"learningRate": -(10**400)}}, ["input.fileUrlList", "input.learningRate"]),
        ({"dead_line": 60}, ["dead_line"]),
        ({"provider": 1, "input": 1, "metadata": 1}, ["provider", "input", "metadata"]),
    ],
)
def test_bad_fields_are_named_all_at_once(api: Caller, changes: dict[str, Any], fields: list[str]) -> None:
    """422 with the path of each wrong field; nothing is stored."""
    assert_invalid(api.post("/v1/tasks", {**SAMPLE, **changes}), *fields)
    assert api.get("/v1/tasks").json["data"] == []


def test_a_missing_field_is_named(api: Caller) -> None:
    """An empty object lacks all that is required."""
    assert_invalid(api.post("/v1/tasks", {}), "provider", "operation", "input")


@pytest.mark.parametrize("body", ["[]", "null", '"text"', "7", "true"])
def test_a_body_that_is_no_object_is_invalid(api: Caller, body: str) -> None:
    """JSON of another kind is understood, and refused as a whole."""
    assert_invalid(api("POST", "/v1/tasks", data=body, content_type="application/json"), "body")


def test_a_provider_without_credentials_is_said_to_be_off(build: Callable[..., Runtime], settings: Settings) -> None:
    """422 with its own type, so that it is told apart from a typing mistake."""
    without = {name: options for name, options in settings.providers.items() if name != "superapp"}
    me = Caller(create_app(build(providers=without)).test_client(), KEY)
    assert_problem(me.post("/v1/tasks", SAMPLE), 422, "provider-off")
    configured = {found["name"]: found["configured"] for found in me.get("/v1/providers").json["data"]}
    assert configured == {"superapp": False, "topview": True, "img_open": True, "apsaravideo_vod": True}


# -- idempotency -----------------------------------------------------------------------------------


def test_the_same_key_gives_the_same_task(api: Caller, progress: Progress) -> None:
    """A replay says so, whatever the order of members and however far the task is."""
    headers = {"Idempotency-Key": "order-4711"}
    first = api.post("/v1/tasks", SAMPLE, headers=headers)
    progress.finish()
    turned = json.dumps(dict(reversed(SAMPLE.items())))
    again = api("POST", "/v1/tasks", headers=headers, data=turned, content_type="application/json")
    assert "Idempotency-Replayed" not in first.headers
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (202, "true")
    assert again.headers["Location"] == first.headers["Location"]
    assert again.json["status"] == "succeeded"
    assert len(api.get("/v1/tasks").json["data"]) == 1


@pytest.mark.parametrize(
    ("given", "same"),
    [
        ('{"inputText": "a cat", "width": 512, "height": 512, "strength": 1, "steps": [2]}', True),
        ('{ "height": 512.0, "width":5.12e2, "inputText": "\\u0061 cat", "steps": [2.0], "strength": 1e0 }', True),
        ('{"inputText": "a cat", "width": 512, "height": 512, "strength": 1.5, "steps": [2]}', False),
        ('{"inputText": "a cat", "width": 512, "height": 512, "strength": "1", "steps": [2]}', False),
        ('{"inputText": "a cat", "width": 512, "height": 512, "strength": true, "steps": [2]}', False),
    ],
)
def test_the_spelling_of_a_value_does_not_matter(api: Caller, given: str, same: bool) -> None:
    """A program that writes its numbers or letters in another way sends the same JSON value; any other is another."""
    sample = {"inputText": "a cat", "width": 512, "height": 512, "strength": 1.0, "steps": [2]}
    headers = {"Idempotency-Key": "k"}
    first = api.post("/v1/tasks", {**SAMPLE, "input": sample}, headers=headers).json
    body = f'{{"provider": "superapp", "operation": "text2image", "input": {given}}}'
    again = api("POST", "/v1/tasks", headers=headers, data=body, content_type="application/json")
    assert (again.status_code, again.json.get("id") == first["id"]) == ((202, True) if same else (422, False))


def test_the_same_key_with_another_body_is_refused(api: Caller) -> None:
    """422, and the first task stays the only one."""
    headers = {"Idempotency-Key": "k"}
    api.post("/v1/tasks", SAMPLE, headers=headers)
    other = {**SAMPLE, "metadata": {"a": "b"}}
    assert_problem(api.post("/v1/tasks", other, headers=headers), 422, "idempotency-mismatch")
    assert len(api.get("/v1/tasks").json["data"]) == 1


def test_a_refused_request_binds_no_key(api: Caller) -> None:
    """A corrected request may use the key of the one that was invalid."""
    headers = {"Idempotency-Key": "k"}
    assert_invalid(api.post("/v1/tasks", {**SAMPLE, "deadline": 0}, headers=headers), "deadline")
    assert api.post("/v1/tasks", SAMPLE, headers=headers).status_code == 202


@pytest.mark.parametrize("value", ["", "a b", "x" * 256, "schl\xfcssel", "a\x7f"])
def test_odd_keys_are_refused(api: Caller, value: str) -> None:
    """1 to 255 visible ASCII characters, so that every proxy passes them on alike."""
    answer = api("POST", "/v1/tasks", json=SAMPLE, environ_overrides={"HTTP_IDEMPOTENCY_KEY": value})
    assert_invalid(answer, "Idempotency-Key")


def test_any_visible_ascii_is_a_key(api: Caller) -> None:
    """Both ends of the range, and all 255 characters."""
    for value in ("!", "~" * 255, '"8e03978e-40d5-43dd-bc93-6894a57f9324"'):
        assert api.post("/v1/tasks", SAMPLE, headers={"Idempotency-Key": value}).status_code == 202


def test_parallel_requests_with_one_key_start_one_task(app: Flask, api: Caller) -> None:
    """However many arrive at once: one task, everybody gets it, one of the answers is not a replay."""
    together = threading.Barrier(6)
    answers: list[Any] = []

    def submit() -> None:
        me = Caller(app.test_client(), KEY)
        together.wait()
        answers.append(me.post("/v1/tasks", SAMPLE, headers={"Idempotency-Key": "storm"}))

    threads = [threading.Thread(target=submit) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [202] * 6
    assert len({answer.json["id"] for answer in answers}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
    assert len(api.get("/v1/tasks").json["data"]) == 1


# -- lists -----------------------------------------------------------------------------------------


def test_pages_are_stable_and_newest_first(api: Caller) -> None:
    """Following the cursor gives each task once, even while new ones come."""
    ids = [api.submit()["id"] for _ in range(5)]
    seen: list[str] = []
    path = "/v1/tasks?limit=2"
    while True:
        page = api.get(path).json
        seen += [task["id"] for task in page["data"]]
        if page["next_cursor"] is None:
            break
        path = f"/v1/tasks?limit=2&cursor={page['next_cursor']}"
        api.submit()
    assert seen == sorted(ids, reverse=True)


def test_filters_narrow_down(api: Caller, progress: Progress, clock: Clock) -> None:
    """Each filter alone and together, metadata in both spellings."""
    old = api.submit(metadata={"order": "1", "a.b": "x y"})
    progress.finish()
    new = api.submit(metadata={"order": "2"})
    between = old["created_at"][:-1] + "Z"

    def found(query: str) -> list[str]:
        return [task["id"] for task in api.get(f"/v1/tasks?{query}").json["data"]]

    assert found("status=succeeded") == [old["id"]]
    assert found("status=queued&provider=superapp&operation=text2image") == [new["id"]]
    assert found("provider=topview") == []
    assert found("operation=nothing") == []
    assert found("metadata.order=1") == found("metadata[order]=1") == [old["id"]]
    assert found("metadata.a.b=x%20y&metadata.order=1") == [old["id"]]
    assert found("metadata.order=3") == []
    assert found(f"created_after={between}") == [new["id"]]
    assert found(f"created_before={new['created_at']}") == [old["id"]]
    assert found("created_after=2000-01-01T00:00:00%2B02:00") == [new["id"], old["id"]]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=ten", "limit"),
        ("limit=1_0", "limit"),
        ("limit=%D9%A3", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=evt_01kahx3mt5k0c4z7d6q8r9w2ve", "cursor"),
        ("cursor=task_01kahx3mt5k0c4z7d6q8r9w2ve%0A", "cursor"),
        ("status=done", "status"),
        ("provider=nobody", "provider"),
        ("operation=%00", "operation"),
        ("created_after=yesterday", "created_after"),
        ("created_after=2026-01-01", "created_after"),
        ("created_after=2026-01-01T00:00:00", "created_after"),
        ("created_after=2026-13-01T00:00:00Z", "created_after"),
        ("created_before=2026-01-01T00:00:00+02:00", "created_before"),
        ("metadata.a=%00", "metadata.a"),
        ("metadata=1", "metadata"),
        ("metadata.a=1&metadata[a]=2", "metadata[a]"),
        ("stauts=failed", "stauts"),
    ],
)
def test_bad_parameters_are_named(api: Caller, query: str, field: str) -> None:
    """A mistake is said, never passed over: a list that is too long would look right."""
    assert_invalid(api.get(f"/v1/tasks?{query}"), field)


# -- one task --------------------------------------------------------------------------------------


def test_a_task_can_be_canceled_once(api: Caller) -> None:
    """Then it is final, and a second time is a conflict."""
    task = api.submit()
    assert api.post(f"/v1/tasks/{task['id']}/cancel").json["status"] == "canceled"
    assert_problem(api.post(f"/v1/tasks/{task['id']}/cancel"), 409, "conflict")
    assert api.get(f"/v1/tasks/{task['id']}").json["status"] == "canceled"


def test_the_timeline_tells_every_step(api: Caller, progress: Progress) -> None:
    """From its creation to its event, in order."""
    task = api.submit()
    progress.finish()
    steps = api.get(f"/v1/tasks/{task['id']}/timeline").json["data"]
    kinds = [step["kind"] for step in steps]
    assert kinds[0] == "created"
    assert {"submit", "poll", "state", "event"} <= set(kinds)
    assert [step["at"] for step in steps] == sorted(step["at"] for step in steps)
    assert {"from": "running", "to": "succeeded", "via": "poll"} in [step["detail"] for step in steps]


@pytest.mark.parametrize("path", ["/v1/tasks/x", "/v1/tasks/task_", "/v1/tasks/task_%00", "/v1/tasks/", "/v1//tasks"])
def test_what_is_no_id_is_not_found(api: Caller, path: str) -> None:
    """Odd paths are 404, not a failure or a redirect."""
    assert_problem(api.get(path), 404, "not-found")
