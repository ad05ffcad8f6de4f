"""``receiver trigger``: real tasks through the sandbox, and never through a real provider."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from receiver.cli.emulated import sample_input, with_words
from receiver.cli.trigger import ERRORS, RECIPES
from receiver.models import EventType
from receiver.sandbox import RunningSandbox, SandboxSettings, running_sandbox
from tests.cli.conftest import Run
from tests.cli.service import FakeService, Said, task

ID = task()["id"]
SCHEMA = {"type": "object", "required": ["prompt", "link", "count", "mode"], "properties": {
    "prompt": {"type": "string"}, "link": {"type": "string", "format": "url"}, "count": {"type": "integer"},
    "mode": {"enum": ["lite", "pro"]}, "more": {"type": "string"},
}}  # fmt: skip
SAMPLE = {"prompt": "sample", "link": "https://example.com/sample.png", "count": 1, "mode": "lite"}


@pytest.fixture
def sandbox() -> Iterator[RunningSandbox]:
    """A real sandbox."""
    with running_sandbox(SandboxSettings(time_scale=0.01)) as running:
        yield running


def provider(name: str, base_url: str | None, *operations: str) -> Mapping[str, Any]:
    """A provider as the service lists it."""
    return {"name": name, "base_url": base_url, "operations": [{"name": each, "input": SCHEMA} for each in operations]}


@pytest.fixture
def ready(service: FakeService, sandbox: RunningSandbox) -> FakeService:
    """A service whose providers are played by the sandbox; its one task has succeeded."""
    known = [
        provider("topview", f"{sandbox.url}/topview", "common_task_text2image"),
        provider("superapp", f"{sandbox.url}/superapp", "text2image"),
        provider("img_open", None, "sd_text2image"),
    ]
    service.on("GET", "/v1/providers", {"data": known})
    service.on("POST", "/v1/tasks", Said(task(), 202))
    step = {"kind": "event", "detail": {"id": "evt_1", "type": "task.succeeded"}}
    service.on("GET", f"/v1/tasks/{ID}/timeline", {"data": [step]})
    service.on("GET", f"/v1/tasks/{ID}", task())
    service.on("GET", "/v1/events/evt_1", {"id": "evt_1", "type": "task.succeeded", "data": task()})
    return service


def test_an_event_is_made_by_a_real_task(run: Run, ready: FakeService) -> None:
    """A task with the smallest input goes out; its event is waited for and shown."""
    shown = run("trigger", "task.succeeded")
    assert shown.exit_code == 0, shown.stderr
    assert "evt_1" in shown.stdout
    (asked,) = ready.to("POST", "/v1/tasks")
    assert (asked.json["provider"], asked.json["operation"]) == ("topview", "common_task_text2image")
    assert asked.json["input"] == SAMPLE
    assert json.loads(run("trigger", "task.succeeded", "--json").stdout)["id"] == "evt_1"


def test_the_sandbox_is_told_how_it_ends(run: Run, ready: FakeService) -> None:
    """``--outcome`` and fields of the caller's own go into the input."""
    run("trigger", "task.succeeded", "prompt=a boat", "--outcome", "late-callback=5", "--outcome", "empty")
    (asked,) = ready.to("POST", "/v1/tasks")
    assert asked.json["input"] == {
        **SAMPLE,
        "prompt": "a boat",
        "note": "[sandbox:late-callback=5] [sandbox:empty]",
    }


def test_another_end_than_the_wanted_one_is_a_failure(run: Run, ready: FakeService) -> None:
    """A task that ends otherwise cannot bring the event any more: code 1, and why."""
    shown = run("trigger", "task.failed", "--error", "timeout")
    assert shown.exit_code == 1
    assert "ended with task.succeeded, not task.failed" in shown.stderr
    (asked,) = ready.to("POST", "/v1/tasks")
    assert "[sandbox:fail=TIMEOUT]" in asked.json["input"]["note"]


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:1/topview", None, "SERVICE"])
def test_a_provider_that_may_be_the_real_one_gets_nothing(run: Run, ready: FakeService, base_url: str | None) -> None:
    """Unless a sandbox answers at the provider's address no task is submitted: it could cost money."""
    address = f"{ready.url}/topview" if base_url == "SERVICE" else base_url
    ready.on("GET", "/v1/providers", {"data": [provider("topview", address, "common_task_text2image")]})
    for event in ("task.succeeded", "subscriber.disabled"):
        shown = run("trigger", event)
        assert shown.exit_code == 1
        assert "may cost money" in shown.stderr
    assert not [asked for asked in ready.asked if asked.method == "POST"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["task.flies"], "is not one of"),
        (["task.succeeded", "--error", "timeout"], "--error goes with task.failed"),
        (["task.failed", "--error", "timeout", "--outcome", "fail"], "Either --error or --outcome"),
        (["task.failed", "--provider", "topview"], "go together"),
        (["task.failed", "--error", "timeout", "--provider", "a", "--operation", "b"], "chooses the provider"),
        (["task.failed", "--provider", "nobody", "--operation", "b"], "There is no provider 'nobody'"),
        (["task.failed", "--provider", "topview", "--operation", "b"], "has no operation 'b'"),
        (["task.succeeded", "--outcome", "flies"], "does not know 'flies'"),
    ],
)
def test_what_cannot_be_is_a_usage_error(run: Run, ready: FakeService, args: list[str], said: str) -> None:
    """Each mistake is told in words, and nothing is submitted."""
    shown = run("trigger", *args)
    assert shown.exit_code == 2
    assert said in shown.stderr
    assert not ready.to("POST", "/v1/tasks")


def test_a_ping_goes_to_the_only_subscriber_or_the_named_one(run: Run, ready: FakeService) -> None:
    """Without a name there must be exactly one."""
    ready.on("GET", "/v1/events/evt_2", {"id": "evt_2", "type": "subscriber.ping", "data": {"subscriber": "sub_1"}})
    ready.on("POST", "/v1/subscribers/sub_1/ping", Said({"event_id": "evt_2"}, 202))
    ready.on("GET", "/v1/subscribers", {"data": [{"id": "sub_1"}]})
    assert "evt_2" in run("trigger", "subscriber.ping").stdout
    assert "evt_2" in run("trigger", "subscriber.ping", "--subscriber", "sub_1").stdout
    ready.on("GET", "/v1/subscribers", {"data": []})
    assert run("trigger", "subscriber.ping").exit_code == 2


def test_a_disabled_subscriber_is_one_of_our_own_and_goes_again(
    run: Run, ready: FakeService, sandbox: RunningSandbox
) -> None:
    """Its address, at the sandbox, answers 410; it is removed when the event is there."""
    gone = {"id": "evt_3", "type": "subscriber.disabled", "data": {"subscriber": "sub_9", "url": "x", "reason": "gone"}}
    ready.on("POST", "/v1/subscribers", Said({"id": "sub_9"}, 201))
    ready.on("POST", "/v1/subscribers/sub_9/ping", Said({}, 202))
    ready.on("GET", "/v1/events", {"data": [gone]})
    ready.on("DELETE", "/v1/subscribers/sub_9", Said(b"", 200))
    assert "evt_3" in run("trigger", "subscriber.disabled").stdout
    (made,) = ready.to("POST", "/v1/subscribers")
    assert made.json["url"] == f"{sandbox.url}/_sandbox/answer/410"
    assert ready.to("DELETE", "/v1/subscribers/sub_9")


def test_there_is_a_way_to_every_event_and_every_error() -> None:
    """All event types; all error codes but that of a fault of ours. The smallest inputs have what is required."""
    assert {*RECIPES, EventType.SUBSCRIBER_PING, EventType.SUBSCRIBER_DISABLED} == set(EventType)
    codes = "invalid_input authentication permission insufficient_credit content_policy rate_limited not_found"
    assert set(ERRORS) == {*codes.split(), "provider_error", "timeout", "empty_result", "submission_unknown"}
    assert sample_input(SCHEMA) == SAMPLE
    assert with_words(SAMPLE, []) == SAMPLE
