"""What goes out, as JSON Schema, for the document: schemas by name, an example of each, and the problems by status."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from handlers import ErrorCode, OutputKind, OutputStatus
from receiver.models import CompletedVia, DeliveryStatus, EventType, TaskStatus, Trigger
from receiver.web.fields import id_pattern
from receiver.web.samples import EXAMPLES

__all__ = ["ABOUT", "EXAMPLES", "PROBLEMS", "SCHEMAS", "SECURITY"]

ABOUT = """One service between your software and generative-AI providers. Submit a task with
`POST /v1/tasks`; its end comes to your subscribers as a signed webhook
([Standard Webhooks](https://www.standardwebhooks.com/)), and can be read with `GET /v1/tasks/{id}`,
`?wait=N` and `GET /v1/events` too.

Errors are problem details (RFC 9457): `type`, `title`, `status`, `detail`, and `errors` by field path. Every answer
carries `X-Request-Id`; send your own to find it in the log. Times are RFC 3339 in UTC. Lists come newest first,
with `next_cursor` for the next page. Clients should ignore members that they do not know."""

SECURITY = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key (`rk_…`). Scopes: `submit` (tasks, uploads), `read` (everything but secrets), `manage`.",
}


def _object(**members: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(members), "properties": members}


def _text(about: str = "", **more: Any) -> dict[str, Any]:
    return {"type": "string", **({"description": about} if about else {}), **more}


def _maybe(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    more = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, "type": [schema["type"], "null"], **more}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(items: dict[str, Any], about: str = "") -> dict[str, Any]:
    return {"type": "array", "items": items, **({"description": about} if about else {})}


def _page(name: str, prefix: str) -> dict[str, Any]:
    cursor = _maybe(_text("Give it as `cursor` for the next page; null at the end.", pattern=f"^{id_pattern(prefix)}$"))
    return _object(data=_list(_ref(name)), next_cursor=cursor)


def _words(words: Any, about: str = "") -> dict[str, Any]:
    return _text(about, enum=[str(word) for word in words])


def _id(prefix: str, about: str = "") -> dict[str, Any]:
    return _text(about, pattern=f"^{id_pattern(prefix)}$")


_TIME = _text(format="date-time")
_PAIRS = {"type": "object", "additionalProperties": {"type": "string"}}
_COUNT = {"type": "integer", "minimum": 0}

_DELIVERY = {
    "id": _id("dlv"),
    "event_id": _id("evt", "Sent as `webhook-id`."),
    "event_type": _words(EventType),
    "task_id": _maybe(_id("task")),
    "subscriber": _maybe(_id("sub", "Null when it goes to a task's `callback_url`.")),
    "url": _text(),
    "status": _words(DeliveryStatus),
    "attempt_count": _COUNT,
    "next_attempt_at": _maybe(_TIME),
    "created_at": _TIME,
    "finished_at": _maybe(_TIME),
    "reason": _maybe(_text("Why it is dead.")),
}
_SUBSCRIBER = {
    "id": _id("sub"),
    "url": _text(),
    "event_types": _list(_text()),
    "providers": {"type": ["array", "null"], "items": _text()},
    "description": _text(),
    "headers": {**_PAIRS, "description": "Values that look like secrets are shown as `***`."},
    "rate_limit": {"type": ["number", "null"], "description": "Attempts a second at most."},
    "disabled": {"type": "boolean"},
    "disabled_reason": _maybe(_text()),
    "failing_since": _maybe(_TIME),
    "created_at": _TIME,
}

SCHEMAS: dict[str, Any] = {
    "Task": _object(
        id=_id("task"),
        provider=_text(),
        operation=_text(),
        status=_words(TaskStatus),
        input={"type": "object"},
        metadata=_PAIRS,
        callback_url=_maybe(_text()),
        provider_task_id=_maybe(_text()),
        progress={"type": ["number", "null"], "minimum": 0, "maximum": 1},
        outputs=_list(_ref("Output")),
        error=_maybe(_ref("TaskError")),
        completed_via=_maybe(_words(CompletedVia)),
        created_at=_TIME,
        submitted_at=_maybe(_TIME),
        finished_at=_maybe(_TIME),
        deadline_at=_TIME,
        provider_response={"description": "The provider's last answer, as it came."},
    ),
    "Output": _object(
        kind=_words(OutputKind),
        url=_maybe(_text()),
        text=_maybe(_text()),
        data={},
        name=_maybe(_text()),
        status=_words(OutputStatus),
        expires_at=_maybe(_TIME),
        details={"type": "object"},
    ),
    "TaskError": _object(
        code=_words(ErrorCode),
        message=_text(),
        retryable={"type": "boolean", "description": "The same task, submitted anew, may succeed."},
        provider_code=_maybe(_text()),
        provider_message=_maybe(_text()),
    ),
    "TaskPage": _page("Task", "task"),
    "Timeline": _object(
        data=_list(
            _object(
                at=_TIME,
                kind=_text("created, submit, state, poll, notice, event or attempt"),
                detail={"type": "object"},
            ),
            "Oldest first.",
        )
    ),
    "Providers": _object(data=_list(_ref("Provider"))),
    "Provider": _object(
        name=_text(),
        title=_text(),
        docs=_text("Where the provider documents it."),
        configured={"type": "boolean", "description": "Whether this service has credentials."},
        callbacks=_words(["none", "unsigned", "signed"]),
        uploads={"type": "boolean"},
        resources={**_PAIRS, "description": "What `GET /v1/providers/{provider}/{resource}` can read."},
        operations=_list(
            _object(
                name=_text(),
                title=_text(),
                callbacks={"type": "boolean"},
                experimental={"type": "boolean"},
                input={"type": "object", "description": "JSON Schema (2020-12) of a task's `input`."},
            )
        ),
    ),
    "Resource": {"description": "The provider's own JSON."},
    "UploadedFile": _object(
        provider=_text(),
        file_id=_text("For a task's input."),
        filename=_text(),
        size=_COUNT,
        details={"type": "object"},
    ),
    "Subscriber": _object(**_SUBSCRIBER),
    "SubscriberWithSecret": _object(**_SUBSCRIBER, secret=_text("Verify webhooks with it.")),
    "SubscriberPage": _page("Subscriber", "sub"),
    "Secrets": _object(
        secret=_text("The newest."),
        secrets=_list(_object(secret=_text(), expires_at=_maybe(_TIME)), "All that sign now, newest first."),
    ),
    "Replayed": _object(replayed={**_COUNT, "description": "How many deliveries are pending again."}),
    "Delivery": _object(**_DELIVERY),
    "DeliveryPage": _page("Delivery", "dlv"),
    "DeliveryWithAttempts": _object(**_DELIVERY, attempts=_list(_ref("Attempt"), "Oldest first.")),
    "Attempt": _object(
        id=_id("att"),
        number={"type": "integer", "minimum": 1},
        trigger=_words(Trigger),
        started_at=_TIME,
        duration_ms=_COUNT,
        response_status={"type": ["integer", "null"]},
        response_headers={**_PAIRS, "description": "Those of note."},
        response_body=_text("The first 16 KiB."),
        error=_maybe(_text("A word; null for a success.")),
        message=_text("A sentence."),
    ),
    "Event": _object(
        id=_id("evt"),
        type=_words(EventType),
        timestamp=_TIME,
        data={"type": "object", "description": "The task as it was, or what the event is about."},
    ),
    "EventPage": _page("Event", "evt"),
    "Problem": {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": _text("Stable: `urn:receiver:problem:…`.", format="uri"),
            "title": _text(),
            "status": {"type": "integer"},
            "detail": _text(),
            "errors": {
                "type": "object",
                "additionalProperties": _list(_text()),
                "description": "Messages by field path, e.g. `input.prompt`.",
            },
        },
    },
}

_WHY = {
    400: ("malformed", "The body cannot be read: it is no JSON, ends early, or is nested too deep."),
    401: ("unauthorized", "There is no API key, or it is not known, or was revoked."),
    403: ("forbidden", "The API key lacks the scope."),
    404: ("not-found", "There is no such thing, or it belongs to another account."),
    409: ("conflict", "Not possible in the present state."),
    413: ("too-large", "The body is larger than what this service takes."),
    415: ("unsupported-media-type", "The Content-Type is not the one documented."),
    422: ("invalid", "Fields, parameters or headers are invalid; `errors` says which and why."),
    429: ("too-many-requests", "The API key asks too often, or too many wrong keys came from this address."),
    500: ("internal", "Something went wrong on our side."),
    502: ("provider-failed", "The provider refused the call."),
    503: ("busy", "Not now, but later: the database or the provider does not answer. Nothing was stored."),
}


def _problem(status: int) -> dict[str, Any]:
    slug, detail = _WHY[status]
    example: dict[str, Any] = {
        "type": f"urn:receiver:problem:{slug}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if status == 422:
        example["errors"] = {"input.prompt": ["Missing data for required field."]}
    said: dict[str, Any] = {
        "description": detail,
        "content": {"application/problem+json": {"schema": _ref("Problem"), "example": example}},
    }
    header = {401: "WWW-Authenticate", 403: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}.get(status)
    if header is not None:
        said["headers"] = {header: {"schema": {"type": "string"}}}
    return said


PROBLEMS: dict[int, Any] = {status: _problem(status) for status in _WHY}
