"""Deliveries and their attempts."""

from __future__ import annotations

from typing import Any

import pytest

from receiver.deliveries import Outcome
from receiver.outbound import OutboundResult
from receiver.runtime import Runtime
from tests.web.conftest import Caller, Progress
from tests.web.problems import assert_invalid, assert_problem

HOOK = {"url": "http://127.0.0.1:9/hook", "event_types": ["task.succeeded"]}


def attempt(runtime: Runtime, status: int) -> None:
    """Let every due delivery be answered with this status."""
    claims = runtime.deliveries.turn((), 10).claims
    result = OutboundResult(status, {"content-type": "text/plain"}, "body", None, f"Answered {status}.", 12)
    runtime.deliveries.turn([Outcome(claim, 1_790_000_000_000, result) for claim in claims], 0)


@pytest.fixture
def made(api: Caller, progress: Progress) -> Any:
    """A delivery to a subscriber, with the task's ``callback_url`` as a second one; both pending."""
    subscriber = api.post("/v1/subscribers", HOOK).json
    task = api.submit(callback_url="http://127.0.0.1:9/of-task")
    progress.finish()
    (found,) = api.get(f"/v1/deliveries?subscriber={subscriber['id']}").json["data"]
    return {**found, "task": task["id"]}


def test_a_delivery_says_where_it_stands(api: Caller, made: Any, runtime: Runtime) -> None:
    """Pending with the next attempt's time; delivered with every attempt made."""
    assert (made["status"], made["attempt_count"], made["finished_at"]) == ("pending", 0, None)
    assert made["next_attempt_at"] is not None
    assert made["task_id"] == made["task"]
    attempt(runtime, 204)
    done = api.get(f"/v1/deliveries/{made['id']}").json
    assert (done["status"], done["attempt_count"], done["next_attempt_at"]) == ("delivered", 1, None)
    (only,) = done["attempts"]
    assert only == {
        "id": only["id"], "number": 1, "trigger": "schedule", "started_at": "2026-09-21T14:13:20.000Z",
        "duration_ms": 12, "response_status": 204, "response_headers": {"content-type": "text/plain"},
        "response_body": "body", "error": None, "message": "Answered 204.",
    }  # fmt: skip


def test_what_goes_to_a_callback_url_names_no_subscriber(api: Caller, made: Any) -> None:
    """The hidden subscriber behind it is nobody's business."""
    of_task = api.get(f"/v1/deliveries?task={made['task']}").json["data"]
    hidden = [found for found in of_task if found["url"].endswith("/of-task")]
    assert hidden
    assert all(found["subscriber"] is None for found in hidden)
    assert api.get("/v1/subscribers").json["data"][0]["url"] == HOOK["url"]
    assert len(api.get("/v1/subscribers").json["data"]) == 1


def test_filters_narrow_down(api: Caller, made: Any, runtime: Runtime) -> None:
    """By status, subscriber, task and type."""
    attempt(runtime, 410)

    def count(query: str) -> int:
        return len(api.get(f"/v1/deliveries?{query}").json["data"])

    assert count("status=dead") == 3
    assert count("status=pending") == 0
    assert count("event_type=task.running") == 1
    assert count("event_type=task.*") == count("event_type=*") == 3
    assert count("event_type=subscriber.*") == 0
    assert count(f"subscriber={made['subscriber']}&event_type=task.succeeded&status=dead") == 1
    assert count("task=task_01kahx3mt5k0c4z7d6q8r9w2ve") == 0
    page = api.get("/v1/deliveries?limit=2").json
    assert len(api.get(f"/v1/deliveries?cursor={page['next_cursor']}").json["data"]) == 1


@pytest.mark.parametrize(
    ("query", "field"),
    [("status=done", "status"), ("subscriber=x", "subscriber"), ("task=%00", "task"),
     ("event_type=task.r*", "event_type"), ("event_type=", "event_type"),
     ("cursor=task_01kahx3mt5k0c4z7d6q8r9w2ve", "cursor"), ("limit=101", "limit"), ("page=2", "page")],
)  # fmt: skip
def test_bad_parameters_are_named(api: Caller, query: str, field: str) -> None:
    """422 with the field."""
    assert_invalid(api.get(f"/v1/deliveries?{query}"), field)


def test_a_retry_by_hand_is_marked_as_one(api: Caller, made: Any, runtime: Runtime) -> None:
    """Attempts are numbered on, those by hand say so, and a delivered one can be sent again."""
    attempt(runtime, 500)
    for status in (500, 200, 200):
        assert api.post(f"/v1/deliveries/{made['id']}/retry").status_code == 202
        attempt(runtime, status)
    done = api.get(f"/v1/deliveries/{made['id']}").json
    assert [found["number"] for found in done["attempts"]] == [1, 2, 3, 4]
    assert [found["trigger"] for found in done["attempts"]] == ["schedule", "manual", "manual", "manual"]
    assert [found["error"] for found in done["attempts"]] == ["http_status", "http_status", None, None]


def test_what_has_no_subscriber_any_more_cannot_be_retried(api: Caller, made: Any) -> None:
    """409 with the reason; a delivery that does not exist is 404."""
    api("DELETE", f"/v1/subscribers/{made['subscriber']}")
    assert_problem(api.post(f"/v1/deliveries/{made['id']}/retry"), 409, "conflict")
    assert_problem(api.post("/v1/deliveries/dlv_01kahx3mt5k0c4z7d6q8r9w2ve/retry"), 404, "not-found")
