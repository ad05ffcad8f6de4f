"""The parts of the document that no operation under /v1 declares: health, and the webhooks that go out."""

from __future__ import annotations

from typing import Any

from receiver.models import EventType
from receiver.web.samples import EXAMPLES

_STATES = {
    EventType.TASK_RUNNING: "The provider has the task.",
    EventType.TASK_PROGRESS: "The task has come further.",
    EventType.TASK_SUCCEEDED: "The task ended with at least one usable output.",
    EventType.TASK_FAILED: "The task ended with an error.",
    EventType.TASK_CANCELED: "The task was stopped.",
    EventType.TASK_EXPIRED: "The task's deadline passed.",
    EventType.SUBSCRIBER_PING: "A test, sent on request.",
    EventType.SUBSCRIBER_DISABLED: "A subscriber was disabled after failing for long; sent to the others.",
}
_HEADERS = {
    "webhook-id": "The event's id; the same on every attempt, to tell repetitions by.",
    "webhook-timestamp": "Seconds since the epoch, of this attempt.",
    "webhook-signature": "`v1,…`, one for each secret that signs now, with single spaces between them.",
}


def webhooks() -> dict[str, Any]:
    """What subscribers get (OpenAPI 3.1 ``webhooks``), one entry for each type of event."""
    return {str(kind): {"post": _webhook(kind, about)} for kind, about in _STATES.items()}


def _webhook(kind: EventType, about: str) -> dict[str, Any]:
    of_task = kind.startswith("task.")
    data: dict[str, Any] = {"$ref": "#/components/schemas/Task"} if of_task else {"type": "object"}
    schema = {
        "type": "object",
        "required": ["type", "timestamp", "data"],
        "properties": {
            "type": {"const": str(kind)},
            "timestamp": {"type": "string", "format": "date-time"},
            "data": data,
        },
    }
    content: dict[str, Any] = {"schema": schema}
    if kind is EventType.TASK_SUCCEEDED:
        content["example"] = {name: value for name, value in EXAMPLES["Event"].items() if name != "id"}
    return {
        "summary": about,
        "description": "Signed as Standard Webhooks say. Answer 2xx within the time-out; anything else is tried again.",
        "parameters": [
            {"in": "header", "name": name, "required": True, "description": text, "schema": {"type": "string"}}
            for name, text in _HEADERS.items()
        ],
        "requestBody": {"required": True, "content": {"application/json": content}},
        "responses": {"2XX": {"description": "Taken."}, "410": {"description": "No more, please: disables it."}},
    }


def health() -> dict[str, Any]:
    """The operations beside the API, by path; none needs a key."""

    def operation(name: str, summary: str, answers: dict[str, Any]) -> dict[str, Any]:
        return {
            "get": {"operationId": name, "summary": summary, "tags": ["Service"], "security": [], "responses": answers}
        }

    status = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}}
    checks = {"type": "object", "additionalProperties": {"type": "string"}}
    ready = {
        "type": "object",
        "required": ["status", "checks"],
        "properties": {"status": {"enum": ["ready", "not ready"]}, "checks": checks},
    }

    def json(about: str, schema: dict[str, Any]) -> dict[str, Any]:
        return {"description": about, "content": {"application/json": {"schema": schema}}}

    numbers = {"description": "Prometheus text.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    return {
        "/healthz": operation("live", "The process lives.", {"200": json("It does.", status)}),
        "/readyz": operation(
            "ready",
            "Everything is there that a task needs: database, schema, a worker.",
            {"200": json("It is.", ready), "503": json("It is not; `checks` says what is missing.", ready)},
        ),
        "/metrics": operation("show_metrics", "Counters and gauges.", {"200": numbers}),
    }
