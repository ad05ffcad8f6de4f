"""The parts of the document that no operation under /v1 declares: health, and the webhooks that go out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from receiver.models import EventType
from receiver.web.samples import ACCEPTED, CANCELED, EXAMPLES

_TASK = EXAMPLES["Task"]
_RUNNING = {**ACCEPTED, "status": "running", "provider_task_id": "tv-123", "submitted_at": _TASK["submitted_at"]}
_UNSUCCESSFUL = {**_RUNNING, "completed_via": "callback", "finished_at": _TASK["finished_at"]}
_SUBSCRIBER = EXAMPLES["Subscriber"]

_STATES: Mapping[EventType, tuple[str, dict[str, Any]]] = {
    EventType.TASK_RUNNING: ("The provider has the task.", _RUNNING),
    EventType.TASK_PROGRESS: ("The task has come further.", {**_RUNNING, "progress": 0.4}),
    EventType.TASK_SUCCEEDED: ("The task ended with at least one usable output.", _TASK),
    EventType.TASK_FAILED: (
        "The task ended with an error.",
        {**_UNSUCCESSFUL, "status": "failed", "error": EXAMPLES["TaskError"]},
    ),
    EventType.TASK_CANCELED: ("The task was stopped.", CANCELED),
    EventType.TASK_EXPIRED: (
        "The task's deadline passed.",
        {**_RUNNING, "status": "expired", "finished_at": _TASK["deadline_at"]},
    ),
    EventType.SUBSCRIBER_PING: (
        "A test, sent on request.",
        {"subscriber": _SUBSCRIBER["id"], "message": "This is a test event; nothing happened."},
    ),
    EventType.SUBSCRIBER_DISABLED: (
        "A subscriber was disabled after failing for long; sent to the others.",
        {"subscriber": _SUBSCRIBER["id"], "url": _SUBSCRIBER["url"], "reason": "failing"},
    ),
}
"""What each type of event says, and an example of its ``data``."""

_HEADERS = {
    "webhook-id": ("The event's id; the same on every attempt, to tell repetitions by.", EXAMPLES["Event"]["id"]),
    "webhook-timestamp": ("Seconds since the epoch, of this attempt.", "1763719217"),
    "webhook-signature": (
        "`v1,…`, one for each secret that signs now, with single spaces between them.",
        "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
    ),
}


def webhooks() -> dict[str, Any]:
    """What subscribers get (OpenAPI 3.1 ``webhooks``), one entry for each type of event."""
    return {str(kind): {"post": _webhook(kind, about, data)} for kind, (about, data) in _STATES.items()}


def _webhook(kind: EventType, about: str, data: dict[str, Any]) -> dict[str, Any]:
    of_task = kind.startswith("task.")
    task = {"$ref": "#/components/schemas/Task", "description": "The task as it was then."}
    schema = {
        "type": "object",
        "required": ["type", "timestamp", "data"],
        "properties": {
            "type": {"const": str(kind), "description": "What happened."},
            "timestamp": {"type": "string", "format": "date-time", "description": "When it happened."},
            "data": task if of_task else {"type": "object", "description": "The subscriber that it is about."},
        },
    }
    example = {"type": str(kind), "timestamp": data.get("finished_at") or _TASK["submitted_at"], "data": data}
    return {
        "summary": about,
        "description": "Signed as Standard Webhooks say. Answer 2xx within the time-out; anything else is tried again.",
        "parameters": [
            {
                "in": "header",
                "name": name,
                "required": True,
                "description": text,
                "schema": {"type": "string"},
                "example": shown,
            }
            for name, (text, shown) in _HEADERS.items()
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}},
        "responses": {"2XX": {"description": "Taken."}, "410": {"description": "No more, please: disables it."}},
    }


def health() -> dict[str, Any]:
    """The operations beside the API, by path; none needs a key."""
    status = {
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"type": "string", "description": "Always `ok`."}},
    }
    ready = {
        "type": "object",
        "required": ["status", "checks"],
        "properties": {
            "status": {"enum": ["ready", "not ready"], "description": "`ready` when every check says `ok`."},
            "checks": {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "description": "`database`, `schema` and `worker`: `ok`, or what is wrong.",
            },
        },
    }
    fine = {"database": "ok", "schema": "ok", "worker": "ok"}
    lonely = {**fine, "worker": "none seen lately: run receiver worker"}
    return {
        "/healthz": _operation(
            "live",
            "The process lives.",
            "Asks nobody, not even the database. Restart a process that does not answer.",
            {"200": _json("It does.", status, {"status": "ok"})},
        ),
        "/readyz": _operation(
            "ready",
            "Everything is there that a task needs: database, schema, a worker.",
            "Take a machine that is not ready out of the load balancer; do not restart it for that.",
            {
                "200": _json("It is.", ready, {"status": "ready", "checks": fine}),
                "503": _json(
                    "It is not; `checks` says what is missing.", ready, {"status": "not ready", "checks": lonely}
                ),
            },
        ),
        "/metrics": _operation(
            "show_metrics",
            "Counters, histograms and gauges.",
            "In Prometheus' text format, over all web processes of this machine.",
            {
                "200": {
                    "description": "Prometheus text.",
                    "content": {
                        "text/plain": {
                            "schema": {"type": "string"},
                            "example": "# TYPE receiver_workers gauge\nreceiver_workers 2.0\n",
                        }
                    },
                }
            },
        ),
    }


def _operation(name: str, summary: str, about: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {
        "get": {
            "operationId": name,
            "summary": summary,
            "description": about,
            "tags": ["Service"],
            "security": [],
            "responses": responses,
        }
    }


def _json(about: str, schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    return {"description": about, "content": {"application/json": {"schema": schema, "example": example}}}
