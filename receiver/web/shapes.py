"""What goes out, as JSON Schema, for the document: schemas by name, each with an example, and what stands in paths."""

from __future__ import annotations

from typing import Any

from handlers import ErrorCode, OutputKind, OutputStatus
from receiver.models import CompletedVia, DeliveryStatus, EventType, TaskStatus, Trigger, id_pattern
from receiver.web.samples import EXAMPLES

__all__ = ["ABOUT", "IN_PATHS", "SCHEMAS", "SECURITY"]

ABOUT = """One service between your software and generative-AI providers. Submit a task with
`POST /v1/tasks`; its end comes to your subscribers as a signed webhook
([Standard Webhooks](https://www.standardwebhooks.com/)), and can be read with `GET /v1/tasks/{id}`,
`?wait=N` and `GET /v1/events` too.

Errors are problem details (RFC 9457): `type`, `title`, `status`, `detail`, and `errors` by field path. Every answer
carries `X-Request-Id`; send your own to find it in the log. Times are RFC 3339 in UTC. Lists come newest first,
with `next_cursor` for the next page; one of very large tasks or events (8 MiB together) ends early. Clients should
ignore members that they do not know."""

SECURITY = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key (`rk_…`). Scopes: `submit` (tasks, uploads), `read` (everything but secrets), `manage`.",
}


def _object(about: str, /, **members: Any) -> dict[str, Any]:
    return {"type": "object", "description": about, "required": list(members), "properties": members}


def _text(about: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": about, **more}


def _flag(about: str) -> dict[str, Any]:
    return {"type": "boolean", "description": about}


def _time(about: str) -> dict[str, Any]:
    return _text(about, format="date-time")


def _count(about: str, least: int = 0) -> dict[str, Any]:
    return {"type": "integer", "minimum": least, "description": about}


def _open(about: str) -> dict[str, Any]:
    return {"type": "object", "description": about}


def _pairs(about: str) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": {"type": "string"}, "description": about}


def _maybe(schema: dict[str, Any]) -> dict[str, Any]:
    more = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, "type": [schema["type"], "null"], **more}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(items: dict[str, Any], about: str) -> dict[str, Any]:
    return {"type": "array", "items": items, "description": about}


def _page(name: str, prefix: str, about: str) -> dict[str, Any]:
    cursor = _maybe(_text("Give it as `cursor` for the next page; null at the end.", pattern=f"^{id_pattern(prefix)}$"))
    return _object(about, data=_list(_ref(name), "The page, newest first."), next_cursor=cursor)


def _words(words: Any, about: str) -> dict[str, Any]:
    return _text(about, enum=[str(word) for word in words])


def _id(prefix: str, about: str) -> dict[str, Any]:
    return _text(about, pattern=f"^{id_pattern(prefix)}$")


_DELIVERY = {
    "id": _id("dlv", "The delivery's id."),
    "event_id": _id("evt", "The event that is delivered; sent as `webhook-id`."),
    "event_type": _words(EventType, "The event's type."),
    "task_id": _maybe(_id("task", "The task that the event tells of; null for events about subscribers.")),
    "subscriber": _maybe(_id("sub", "To whom; null when it goes to a task's `callback_url`.")),
    "url": _text("Where it goes now: the subscriber's present address."),
    "status": _words(DeliveryStatus, "`pending`: to be attempted; `delivered`: answered with 2xx; `dead`: given up."),
    "attempt_count": _count("Attempts made so far, those by hand included."),
    "next_attempt_at": _maybe(_time("When the next attempt is due; null once it has ended.")),
    "created_at": _time("When it was stored, together with the event."),
    "finished_at": _maybe(_time("When it was delivered or given up.")),
    "reason": _maybe(_text("Why it is dead: `exhausted`, `gone`, `not_retried` or `subscriber_deleted`.")),
}
_SUBSCRIBER = {
    "id": _id("sub", "The subscriber's id."),
    "url": _text("Where its events are sent."),
    "event_types": _list({"type": "string"}, "The events it gets: exact types, `task.*` or `*`."),
    "providers": {
        "type": ["array", "null"],
        "items": {"type": "string"},
        "description": "Only task events of these providers; null for all.",
    },
    "description": _text("For people."),
    "headers": _pairs("Sent with every event. Values that look like secrets are shown as `***`."),
    "rate_limit": {"type": ["number", "null"], "description": "Attempts a second at most; null for no limit."},
    "disabled": _flag("Whether deliveries are held back. They are kept, and go out when it is enabled again."),
    "disabled_reason": _maybe(
        _text("`by request`, `failing` (nothing but failures for days) or `gone` (it answered 410).")
    ),
    "failing_since": _maybe(_time("The first failure since its last success; null while all is well.")),
    "created_at": _time("When it was registered."),
}
_SECRET = _text("A signing secret, `whsec_` and base64.")

SCHEMAS: dict[str, Any] = {
    "Task": _object(
        "One piece of work handed to a provider.",
        id=_id("task", "The task's id; it begins with its time of creation, so ids sort by time."),
        provider=_text("The provider's name."),
        operation=_text("What the provider does."),
        status=_words(TaskStatus, "Where it stands. `succeeded`, `failed`, `canceled` and `expired` are final."),
        input=_open("The input, as it was given."),
        metadata=_pairs("Your own pairs, as they were given."),
        callback_url=_maybe(_text("An address that gets this task's events beside the subscribers.")),
        provider_task_id=_maybe(_text("The provider's own id of the task, as soon as it is known.")),
        progress={
            "type": ["number", "null"],
            "minimum": 0,
            "maximum": 1,
            "description": "How far it is, where the provider says so; 1 after a success.",
        },
        outputs=_list(_ref("Output"), "What it made. Addresses are the provider's own and often expire."),
        error={
            "anyOf": [_ref("TaskError"), {"type": "null"}],
            "description": "Why it failed; null unless `status` is `failed`.",
        },
        completed_via=_maybe(
            _words(CompletedVia, "What brought its end: the provider's callback, or our query; null while it is open.")
        ),
        created_at=_time("When it was accepted."),
        submitted_at=_maybe(_time("When the provider took it.")),
        finished_at=_maybe(_time("When it came into a final state.")),
        deadline_at=_time("When it expires unless it has ended."),
        provider_response={
            "description": "The provider's last answer, as it came; any JSON, or null before the first."
        },
    ),
    "Output": _object(
        "One thing that a task made. `url`, `text` or `data` holds it when `status` is `ok`.",
        kind=_words(OutputKind, "What it is."),
        url=_maybe(_text("Where to fetch it.")),
        text=_maybe(_text("The text itself.")),
        data={"description": "The data itself: any JSON."},
        name=_maybe(_text("The provider's field that held it.")),
        status=_words(OutputStatus, "`ok`; `failed`: it is missing; `blocked`: withheld by the provider's moderation."),
        expires_at=_maybe(_time("When `url` stops working, where that is known.")),
        details=_open("What else the provider says of it, in the provider's names."),
    ),
    "TaskError": _object(
        "Why a task failed.",
        code=_words(ErrorCode, "A word to program by."),
        message=_text("A sentence for people."),
        retryable=_flag("Whether the same task, submitted anew, may succeed."),
        provider_code=_maybe(_text("The provider's own code.")),
        provider_message=_maybe(_text("What the provider said.")),
    ),
    "TaskPage": _page("Task", "task", "A page of tasks."),
    "Timeline": _object(
        "Everything that happened to a task.",
        data=_list(
            _object(
                "One step.",
                at=_time("When."),
                kind=_text("`created`, `submit`, `state`, `poll`, `notice`, `event` or `attempt`."),
                detail=_open("What belongs to a step of this kind."),
            ),
            "Oldest first.",
        ),
        complete=_flag("Whether these are all: of more than 10,000 steps the newest are given."),
    ),
    "Providers": _object("All providers.", data=_list(_ref("Provider"), "By name.")),
    "Provider": _object(
        "What a provider can do.",
        name=_text("Its name in this API."),
        title=_text("Its name for people."),
        docs=_text("Where the provider documents it."),
        configured=_flag("Whether this service has credentials for it."),
        base_url={
            "type": ["string", "null"],
            "format": "uri",
            "description": "Where this service reaches it (`<PROVIDER>_BASE_URL`); null unless it is configured.",
        },
        callbacks=_words(["none", "unsigned", "signed"], "Whether it calls back, and whether it signs that."),
        uploads=_flag("Whether it takes files by `POST /v1/uploads`."),
        resources=_pairs("What `GET /v1/providers/{provider}/{resource}` can read: name and meaning."),
        operations=_list(
            _object(
                "One thing it can do.",
                name=_text("For a task's `operation`."),
                title=_text("For people."),
                callbacks=_flag("Whether it calls back for this operation."),
                experimental=_flag("Rests on an address or a rule that no page of the provider states."),
                input=_open("JSON Schema (2020-12) of a task's `input`."),
            ),
            "All its operations.",
        ),
    ),
    "Resource": {"description": "The provider's own JSON, as it came."},
    "UploadedFile": _object(
        "A file that the provider has now.",
        provider=_text("Who has it."),
        file_id=_text("For a task's input: fields that end in `FileId`."),
        filename=_text("Its name."),
        size=_count("Bytes."),
        details=_open("What else the provider says of it."),
    ),
    "Subscriber": _object("A registered webhook.", **_SUBSCRIBER),
    "SubscriberWithSecret": _object(
        "A registered webhook, with the secret that signs what it gets.",
        **_SUBSCRIBER,
        secret=_text("Verify webhooks with it."),
    ),
    "SubscriberPage": _page("Subscriber", "sub", "A page of subscribers."),
    "Secrets": _object(
        "The secrets that sign now.",
        secret=_text("The newest."),
        secrets=_list(
            _object(
                "One of them.",
                secret=_SECRET,
                expires_at=_maybe(_time("When it stops signing; null for the newest.")),
            ),
            "All that sign now, newest first.",
        ),
    ),
    "Replayed": _object("What a replay did.", replayed=_count("How many deliveries are pending again.")),
    "Backlog": _object(
        "What waits for a subscriber. 100000 stands for more.",
        replayable=_count("How many deliveries a replay of this span would send again now."),
        waiting=_count("How many deliveries wait, for their first attempt or another one."),
        replaying=_count("How many of these were sent again by a replay or by hand, and not attempted since."),
        retrying=_count("How many of those that wait failed and are to be tried again."),
    ),
    "Delivery": _object("One event on its way to one receiver.", **_DELIVERY),
    "DeliveryPage": _page("Delivery", "dlv", "A page of deliveries."),
    "DeliveryWithAttempts": _object(
        "One event on its way to one receiver, with its attempts.",
        **_DELIVERY,
        attempts=_list(_ref("Attempt"), "The newest 100, oldest first."),
    ),
    "Attempt": _object(
        "One POST of a delivery.",
        id=_id("att", "The attempt's id."),
        number=_count("1 for the first.", 1),
        trigger=_words(Trigger, "`schedule`: by the plan of retries; `manual`: somebody asked for it."),
        started_at=_time("When it began."),
        duration_ms=_count("Milliseconds until its end."),
        response_status={"type": ["integer", "null"], "description": "The HTTP status; null when no answer came."},
        response_headers=_pairs("Headers of note of the answer."),
        response_body=_text("The first 16 KiB of the answer."),
        error=_maybe(_text("Why it failed, in a word; null for a success.")),
        message=_text("How it went, in a sentence."),
    ),
    "Event": _object(
        "One statement to subscribers: what is sent as the webhook, and its id.",
        id=_id("evt", "Sent as `webhook-id`."),
        type=_words(EventType, "What happened."),
        timestamp=_time("When it happened."),
        data=_open("The task as it was then, or what the event is about."),
    ),
    "EventPage": _page("Event", "evt", "A page of events."),
    "Problem": {
        "type": "object",
        "description": "An error (RFC 9457).",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": _text("What programs should look at, stable: `urn:receiver:problem:…`.", format="uri"),
            "title": _text("The kind of problem, for people."),
            "status": {"type": "integer", "description": "The HTTP status."},
            "detail": _text("What is wrong with this request."),
            "errors": {
                "type": "object",
                "additionalProperties": {"type": "array", "items": {"type": "string"}},
                "description": "Messages by field path, e.g. `input.prompt`.",
            },
        },
    },
}
for _name, _schema in SCHEMAS.items():
    _schema["examples"] = [EXAMPLES[_name]]

IN_PATHS: dict[str, dict[str, Any]] = {
    "task_id": {"description": "The task's id.", "example": EXAMPLES["Task"]["id"]},
    "subscriber_id": {"description": "The subscriber's id.", "example": EXAMPLES["Subscriber"]["id"]},
    "delivery_id": {"description": "The delivery's id.", "example": EXAMPLES["Delivery"]["id"]},
    "event_id": {
        "description": "The event's id, which webhooks carry as `webhook-id`.",
        "example": EXAMPLES["Event"]["id"],
    },
    "provider": {"description": "The provider's name, as `GET /v1/providers` shows it.", "example": "img_open"},
    "resource": {"description": "One of the provider's `resources`.", "example": "models"},
}
"""What stands in the paths of operations, by the parameter's name."""
