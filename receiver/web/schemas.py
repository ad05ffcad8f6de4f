"""What comes in: bodies, query parameters and headers. Unknown names are refused, so that a typo is noticed."""

from __future__ import annotations

from typing import Any, ClassVar

from marshmallow import RAISE, Schema, ValidationError, fields, validate, validates_schema

import handlers
from receiver import events
from receiver.models import IDEMPOTENCY_KEY, DeliveryStatus, TaskStatus
from receiver.signing import MAX_LIVE_SECRETS
from receiver.tasks import MAX_DEADLINE
from receiver.web.fields import Digits, Flag, Id, Instant, Matching, Number, Text, Texts, Whole
from receiver.web.samples import EXAMPLES

MAX_WAIT = 60
"""Seconds for which an answer can be held."""
USUAL_OVERLAP = 86_400
"""Seconds for which the old secrets sign too, where the caller does not say."""
MOST_OVERLAP = 7 * USUAL_OVERLAP

_CURSOR = "`next_cursor` of the page before; newest first."
_ONE_OF_PROVIDERS = validate.OneOf(handlers.available(), error="Must be one of {choices}.")


def _about(text: str, *examples: Any, **more: Any) -> dict[str, Any]:
    return {"description": text, **({"examples": list(examples)} if examples else {}), **more}


class Incoming(Schema):
    """Base of all: an unknown name is an error."""

    optional_body: ClassVar[bool] = False
    error_messages = {"type": "Must be a JSON object."}  # noqa: RUF012  as marshmallow declares it

    class Meta:
        """marshmallow's switches."""

        unknown = RAISE


class NewTaskSchema(Incoming):
    """The body of ``POST /v1/tasks``."""

    provider = Text(1, 64, required=True, metadata=_about("Its name in `GET /v1/providers`.", "topview"))
    operation = Text(
        1, 128, required=True, metadata=_about("One of the provider's operations.", "common_task_image2video")
    )
    input = fields.Dict(
        keys=fields.String(),
        required=True,
        metadata=_about(
            "The provider's own fields; their JSON Schema is in `GET /v1/providers`. Unknown fields are passed on.",
            {"imageFileId": "f-1", "duration": 5, "mode": "lite", "generatingCount": 1},
        ),
    )
    callback_url = Text(
        1,
        2048,
        allow_none=True,
        load_default=None,
        metadata=_about(
            "Gets this task's events beside the account's subscribers, signed with the signing secret.",
            "https://example.com/hooks",
        ),
    )
    metadata = Texts(
        16,
        64,
        512,
        allow_none=True,
        load_default=None,
        metadata=_about("Your own pairs, given back everywhere.", {"order": "4711"}),
    )
    deadline = Number(
        1,
        MAX_DEADLINE,
        allow_none=True,
        load_default=None,
        metadata=_about("Seconds from now after which the task expires; the provider's default when left out.", 3600),
    )


class NewTaskHeaders(Incoming):
    """The headers of ``POST /v1/tasks``."""

    idempotency_key = Matching(
        IDEMPOTENCY_KEY,
        "Must be given once, as 1 to 255 visible ASCII characters.",
        data_key="Idempotency-Key",
        metadata=_about(
            "The same key with the same body gives the same task, which is started once; kept for at least a day.",
            "order-4711",
        ),
    )
    prefer = fields.String(
        data_key="Prefer",
        load_default="",
        metadata=_about(
            f"`wait=N` holds the answer until the task has ended, for N (at most {MAX_WAIT}) seconds.", "wait=30"
        ),
    )


class WaitQuery(Incoming):
    """``?wait=N``."""

    wait = Digits(
        0, MAX_WAIT, load_default=0, metadata=_about("Seconds to hold the answer until the task has ended.", 30)
    )


class PageQuery(Incoming):
    """What all lists take."""

    limit = Digits(1, 100, load_default=20, metadata=_about("How many at most.", 20))


class TaskQuery(PageQuery):
    """``GET /v1/tasks``."""

    cursor = Id("task", metadata=_about(_CURSOR, EXAMPLES["Task"]["id"]))
    status = fields.String(
        validate=validate.OneOf([status.value for status in TaskStatus], error="Must be one of {choices}."),
        metadata=_about("Only tasks in this state.", "failed"),
    )
    provider = fields.String(validate=_ONE_OF_PROVIDERS, metadata=_about("Only tasks of this provider.", "topview"))
    operation = Text(1, 128, metadata=_about("Only tasks of this operation.", "common_task_image2video"))
    created_after = Instant(metadata=_about("RFC 3339; later than this.", "2026-11-21T10:00:00Z"))
    created_before = Instant(metadata=_about("RFC 3339; earlier than this.", "2026-11-22T10:00:00Z"))
    metadata = Texts(
        16,
        64,
        512,
        metadata=_about(
            "Pairs that a task must have: `metadata[order]=4711`, or `metadata.order=4711`.", {"order": "4711"}
        ),
    )


class NewSubscriberSchema(Incoming):
    """The body of ``POST /v1/subscribers``."""

    url = Text(1, 2048, required=True, metadata=_about("Where events are sent.", "https://example.com/hooks"))
    event_types = fields.List(
        Text(1, 64),
        required=True,
        validate=validate.Length(1, 20),
        metadata=_about("Exact types, `task.*`, or `*`.", ["task.succeeded", "task.failed"]),
    )
    providers = fields.List(
        fields.String(validate=_ONE_OF_PROVIDERS),
        allow_none=True,
        load_default=None,
        validate=validate.Length(1, 50),
        metadata=_about("Only task events of these; all when left out.", ["topview"]),
    )
    description = Text(0, 500, allow_none=True, load_default=None, metadata=_about("For people.", "production"))
    headers = Texts(
        20, 100, 1000, allow_none=True, load_default=None, metadata=_about("Sent with every event.", {"X-Team": "a"})
    )
    rate_limit = Number(
        0.01,
        1000,
        allow_none=True,
        load_default=None,
        metadata=_about("Attempts a second at most; null for no limit.", 20),
    )
    secret = Text(
        1,
        128,
        allow_none=True,
        load_default=None,
        metadata=_about("Your own `whsec_…`; made for you when left out.", EXAMPLES["Secrets"]["secret"]),
    )


class SubscriberPatch(Incoming):
    """The body of ``PATCH /v1/subscribers/{id}``: what is left out stays; null clears."""

    url = Text(1, 2048, metadata=_about("Where events are sent.", "https://example.com/hooks"))
    event_types = fields.List(
        Text(1, 64), validate=validate.Length(1, 20), metadata=_about("Exact types, `task.*`, or `*`.", ["task.*"])
    )
    providers = fields.List(
        fields.String(validate=_ONE_OF_PROVIDERS),
        allow_none=True,
        validate=validate.Length(1, 50),
        metadata=_about("Only task events of these; null for all.", ["topview"]),
    )
    description = Text(0, 500, allow_none=True, metadata=_about("For people.", "production"))
    headers = Texts(
        20,
        100,
        1000,
        removable=True,
        allow_none=True,
        metadata=_about(
            "Merged with those that are set; null takes one (or all) away, `***` leaves one as it is.",
            {"X-Team": "video", "X-Old": None},
        ),
    )
    rate_limit = Number(
        0.01, 1000, allow_none=True, metadata=_about("Attempts a second at most; null for no limit.", 20)
    )
    disabled = Flag(metadata=_about("A backlog is kept, and drains when it is enabled again.", True))


class SubscriberQuery(PageQuery):
    """``GET /v1/subscribers``."""

    cursor = Id("sub", metadata=_about(_CURSOR, EXAMPLES["Subscriber"]["id"]))


class Overlap(Incoming):
    """The body of a rotation of the account's signing secret."""

    optional_body = True

    overlap = Whole(
        0,
        MOST_OVERLAP,
        load_default=USUAL_OVERLAP,
        metadata=_about(
            f"Seconds for which the old secrets sign too; {MAX_LIVE_SECRETS} secrets can sign together.", USUAL_OVERLAP
        ),
    )


class Rotation(Overlap):
    """The body of a rotation of a subscriber's secret."""

    secret = Text(
        1,
        128,
        allow_none=True,
        load_default=None,
        metadata=_about("Your own `whsec_…`; made for you when left out.", EXAMPLES["Secrets"]["secret"]),
    )


class Replay(Incoming):
    """Which deliveries a replay is about: a body, or the parameters of a question."""

    since = Instant(required=True, metadata=_about("Deliveries created from here on.", "2026-11-21T10:00:00Z"))
    until = Instant(
        allow_none=True,
        load_default=None,
        metadata=_about("... and before; now when left out.", "2026-11-21T11:00:00Z"),
    )
    status = fields.String(
        load_default="dead",
        validate=validate.OneOf(["dead", "all"], error="Must be one of {choices}."),
        metadata=_about("`dead`: only those given up; `all`: those delivered too.", "dead"),
    )

    @validates_schema
    def _in_order(self, data: dict[str, Any], **_: Any) -> None:
        if data.get("until") is not None and data["until"] <= data["since"]:
            raise ValidationError({"until": ["Must be later than since."]})


def _known_pattern(pattern: str) -> None:
    if not events.valid_pattern(pattern):
        raise ValidationError("Must be an event type, `task.*` or `*`.")


class EventQuery(PageQuery):
    """``GET /v1/events``."""

    cursor = Id("evt", metadata=_about(_CURSOR, EXAMPLES["Event"]["id"]))
    after = Id(
        "evt",
        empty=True,
        metadata=_about("Events behind this one, oldest first; empty: from the beginning.", EXAMPLES["Event"]["id"]),
    )
    wait = Digits(
        0, MAX_WAIT, load_default=0, metadata=_about("Seconds to wait for a first event, while there is none.", 30)
    )
    event_type = fields.String(
        load_default="*", validate=_known_pattern, metadata=_about("A type, `task.*` or `*`.", "task.*")
    )

    @validates_schema
    def _one_way(self, data: dict[str, Any], **_: Any) -> None:
        if "after" in data and "cursor" in data:
            raise ValidationError({"after": ["Goes oldest first, cursor newest first: give one of them."]})


class EventHeaders(Incoming):
    """The headers of ``GET /v1/events``."""

    last_event_id = Id(
        "evt",
        empty=True,
        data_key="Last-Event-ID",
        metadata=_about("Where a stream that broke off goes on.", EXAMPLES["Event"]["id"]),
    )


class DeliveryQuery(PageQuery):
    """``GET /v1/deliveries``."""

    cursor = Id("dlv", metadata=_about(_CURSOR, EXAMPLES["Delivery"]["id"]))
    status = fields.String(
        validate=validate.OneOf([status.value for status in DeliveryStatus], error="Must be one of {choices}."),
        metadata=_about("Only deliveries in this state.", "dead"),
    )
    subscriber = Id("sub", metadata=_about("Only what goes to this subscriber.", EXAMPLES["Subscriber"]["id"]))
    task = Id("task", metadata=_about("Only what tells of this task.", EXAMPLES["Task"]["id"]))
    event_type = fields.String(
        validate=_known_pattern,
        metadata=_about("Only deliveries of such events: a type, `task.*` or `*`.", "task.succeeded"),
    )
