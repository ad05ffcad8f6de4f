"""What users see: valid JSON whatever a provider or a caller put in, and events for those who want them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers import ErrorCode, Output, OutputKind, OutputStatus, TaskError
from receiver import events
from receiver.models import CompletedVia, EventType, Subscriber, Task, TaskStatus

NOW = 1_767_225_600_123
TASK = Task(
    "task_1", "acct_1", "toy", "draw", TaskStatus.SUCCEEDED, '{"prompt":"a cat"}', {"a": "b"}, None, NOW, NOW + 1,
    None, completed_via=CompletedVia.POLL,
)  # fmt: skip
SUBSCRIBER = Subscriber("sub_1", "acct_1", "https://x.test/", ("*",), None, "", None, None, None, NOW)
ODD = st.text(st.characters(), max_size=20) | st.sampled_from(["\ud800", "\0", '"', "\\", "\u2028", "🐈", "</script>"])


def shown(task: Task) -> dict[str, Any]:
    """The task as users see it, through the bytes that are sent."""
    found: dict[str, Any] = json.loads(events.task_json(task).encode())
    return found


def test_a_task_has_the_fields_of_the_contract() -> None:
    """Exactly these, in this order; times in RFC 3339 with milliseconds."""
    assert list(shown(TASK)) == [
        "id", "provider", "operation", "status", "input", "metadata", "callback_url", "provider_task_id", "progress",
        "outputs", "error", "completed_via", "created_at", "submitted_at", "finished_at", "deadline_at",
        "provider_response",
    ]  # fmt: skip
    assert shown(TASK)["created_at"] == "2026-01-01T00:00:00.123Z"
    assert shown(TASK)["submitted_at"] is None
    assert shown(TASK)["completed_via"] == "poll"


@given(metadata=st.dictionaries(ODD, ODD, max_size=4), raw=st.none() | ODD, name=ODD)
def test_no_text_can_break_an_event(metadata: dict[str, str], raw: str | None, name: str) -> None:
    """Quotes, control characters, lone surrogates: the bytes are UTF-8 and JSON, and say the same."""
    outputs = events.outputs_json([Output(OutputKind.TEXT, text=name, name=name, details={"x": name})])
    task = replace(TASK, metadata=metadata, provider_response=raw, provider_task_id=name, outputs_json=outputs)
    found = shown(task)
    assert found["metadata"] == metadata
    assert found["provider_task_id"] == name
    assert found["outputs"][0]["text"] == name
    if raw is not None and not is_json(raw):
        assert found["provider_response"] == raw
    body = events.event_body(EventType.TASK_SUCCEEDED, NOW, events.task_json(task)).encode()
    assert json.loads(body)["data"] == found


def is_json(text: str) -> bool:
    """Whether a text is JSON by itself."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    "raw",
    [
        '{"n": 12345678901234567890123, "d": 0.10000000000000000055, "e": 1E400, "z": -0.0}',
        '{"a":1,"a":2}',
        " [1, 2]\n",
        '"text"',
        "null",
        "9" * 5000,
        '{"x":"\\ud800"}',
    ],
)
def test_a_providers_json_goes_out_as_it_came(raw: str) -> None:
    """Large integers, long decimals and doubled names survive, because nobody re-writes them."""
    text = events.task_json(replace(TASK, provider_response=raw))
    assert text.endswith(f'"provider_response":{raw.strip()}}}')
    text.encode()


@pytest.mark.parametrize(
    "raw", ["<html>", "", "NaN", "[Infinity]", "{'a': 1}", "[" * 100_000, '{"x":"\ud800"}', "\ufeff{}"]
)
def test_what_is_no_json_goes_out_as_a_text(raw: str) -> None:
    """The event stays JSON for every parser."""
    assert shown(replace(TASK, provider_response=raw))["provider_response"] == raw


def test_outputs_and_errors_have_the_fields_of_the_contract() -> None:
    """With the provider's own words beside ours."""
    output = Output(OutputKind.IMAGE, "https://x.test/a.png", name="a", expires_at=NOW, status=OutputStatus.BLOCKED)
    assert json.loads(events.outputs_json([output])) == [
        {"kind": "image", "url": "https://x.test/a.png", "text": None, "data": None, "name": "a", "status": "blocked",
         "expires_at": "2026-01-01T00:00:00.123Z", "details": {}}
    ]  # fmt: skip
    error = TaskError(ErrorCode.RATE_LIMITED, "m", retryable=True, provider_code="429", provider_message="pm")
    assert json.loads(events.error_json(error) or "") == {
        "code": "rate_limited", "message": "m", "retryable": True, "provider_code": "429", "provider_message": "pm",
    }  # fmt: skip
    assert events.error_json(None) is None


@given(st.integers(0, 253_402_300_799_999))
def test_times_keep_their_milliseconds(at: int) -> None:
    """No rounding through floating point."""
    text = events.rfc3339(at)
    assert text is not None
    moment = datetime.fromisoformat(text)
    assert (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() == pytest.approx(at / 1000, abs=1e-6)
    assert text.endswith(f".{at % 1000:03}Z")


@pytest.mark.parametrize("at", [-1, 10**15, 10**30])
def test_times_that_have_no_form_are_brought_into_range(at: int) -> None:
    """A provider may name any expiry; a webhook must not fail for it."""
    assert events.rfc3339(at) in ("1970-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z")


def test_no_number_that_is_no_json() -> None:
    """NaN would break every strict parser downstream."""
    with pytest.raises(ValueError, match="JSON"):
        events.dumps({"x": float("nan")})


# Who gets what -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "valid", "matches"),
    [
        ("*", True, len(EventType)),
        ("task.*", True, 6),
        ("subscriber.*", True, 2),
        ("task.succeeded", True, 1),
        ("task", False, 0),
        ("task.", False, 0),
        ("", False, 0),
        ("**", False, len(EventType)),
        ("*.succeeded", False, 1),
        ("task.*d", False, 4),
        ("task.?unning", False, 1),
        ("task.[rs]unning", False, 1),
        ("TASK.*", False, 0),
        ("nothing.*", False, 0),
    ],
)
def test_patterns_of_event_types(pattern: str, valid: bool, matches: int) -> None:
    """Three forms, and each must name something."""
    assert events.valid_pattern(pattern) is valid
    assert sum(events.pattern_matches(pattern, kind) for kind in EventType) == matches


def test_wants() -> None:
    """By type and by provider; what is not about a task passes every provider filter."""
    some = replace(SUBSCRIBER, event_types=("task.failed", "subscriber.*"), providers=("toy",))
    assert events.wants(SUBSCRIBER, EventType.TASK_PROGRESS, "anything")
    assert events.wants(some, EventType.TASK_FAILED, "toy")
    assert not events.wants(some, EventType.TASK_FAILED, "topview")
    assert not events.wants(some, EventType.TASK_SUCCEEDED, "toy")
    assert events.wants(some, EventType.SUBSCRIBER_DISABLED, None)
    assert not events.wants(replace(some, providers=()), EventType.TASK_FAILED, "toy")


def test_service_events_name_their_subscriber() -> None:
    """A ping says that nothing happened; a disabling says who and why."""
    ping = json.loads(events.ping_body(SUBSCRIBER, NOW))
    assert (ping["type"], ping["timestamp"], ping["data"]["subscriber"]) == (
        "subscriber.ping", "2026-01-01T00:00:00.123Z", "sub_1",
    )  # fmt: skip
    disabled = json.loads(events.disabled_body(SUBSCRIBER, "gone", NOW))
    assert disabled["data"] == {"subscriber": "sub_1", "url": "https://x.test/", "reason": "gone"}
