"""What comes in: bodies, query parameters and headers. Unknown names are refused, so that a typo is noticed."""

from __future__ import annotations

from typing import Any, ClassVar

from marshmallow import RAISE, Schema, ValidationError, fields, validate, validates_schema

import handlers
from receiver import events
from receiver.models import DeliveryStatus, EventType, TaskStatus
from receiver.signing import MAX_LIVE_SECRETS
from receiver.tasks import MAX_DEADLINE
from receiver.web.fields import Digits, Flag, Id, Instant, Matching, Number, Text, Texts, Whole

MAX_WAIT = 60
DAY = 86_400
MOST_OVERLAP = 7 * DAY

_ONE_OF_PROVIDERS = validate.OneOf(handlers.available(), error="Must be one of {choices}.")
_ONE_OF_TYPES = validate.OneOf([kind.value for kind in EventType], error="Must be one of {choices}.")


def _about(text: str, *examples: Any, **more: Any) -> dict[str, Any]:
    return {"description": text, **({"examples": list(examples)} if examples else {}), **more}


class Incoming(Schema):
    """Base of all: an unknown name is an error."""

    optional_body: ClassVar[bool] = False

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
            "The provider's own fields; their JSON Schema is in `GET /v1/providers`. Unknown fields are passed on."
        ),
    )
    callback_url = Text(
        1,
        2048,
        allow_none=True,
        load_default=None,
        metadata=_about("Gets this task's events beside the account's subscribers, signed with the signing secret."),
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
        "[!-~]{1,255}",
        "Must be 1 to 255 visible ASCII characters.",
        data_key="Idempotency-Key",
        metadata=_about(
            "The same key with the same body gives the same task, which is started once; kept for at least a day.",
        ),
    )
    prefer = fields.String(
        data_key="Prefer",
        load_default="",
        metadata=_about(f"`wait=N` holds the answer until the task has ended, for N (at most {MAX_WAIT}) seconds."),
    )


class WaitQuery(Incoming):
    """``?wait=N``."""

    wait = Digits(0, MAX_WAIT, load_default=0, metadata=_about("Seconds to hold the answer until the task has ended."))


class PageQuery(Incoming):
    """What all lists take."""

    limit = Digits(1, 100, load_default=20, metadata=_about("How many at most."))


class TaskQuery(PageQuery):
    """``GET /v1/tasks``."""

    cursor = Id("task", metadata=_about("`next_cursor` of the page before."))
    status = fields.String(
        validate=validate.OneOf([status.value for status in TaskStatus], error="Must be one of {choices}."),
    )
    provider = fields.String(validate=_ONE_OF_PROVIDERS)
    operation = Text(1, 128)
    created_after = Instant(metadata=_about("RFC 3339; later than this."))
    created_before = Instant(metadata=_about("RFC 3339; earlier than this."))
    metadata = Texts(
        16, 64, 512, metadata=_about("Pairs that a task must have: `metadata[order]=4711`, or "
                                                        "`metadata.order=4711`.")
    )  # fmt: skip


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
        metadata=_about("Only tasks of these; all when left out."),
    )
    description = Text(0, 500, load_default="")
    headers = Texts(
        20, 100, 1000, allow_none=True, load_default=None, metadata=_about("Sent with every event.", {"X-Team": "a"})
    )
    rate_limit = Number(
        0.01, 1000, allow_none=True, load_default=None, metadata=_about("Attempts a second at most; null for no limit.")
    )
    secret = Text(
        1, 128, allow_none=True, load_default=None, metadata=_about("Your own `whsec_…`; made for you when left out.")
    )


class SubscriberPatch(Incoming):
    """The body of ``PATCH /v1/subscribers/{id}``: what is left out stays; null clears."""

    url = Text(1, 2048)
    event_types = fields.List(Text(1, 64), validate=validate.Length(1, 20))
    providers = fields.List(fields.String(validate=_ONE_OF_PROVIDERS), allow_none=True, validate=validate.Length(1, 50))
    description = Text(0, 500)
    headers = Texts(
        20,
        100,
        1000,
        removable=True,
        allow_none=True,
        metadata=_about("Merged with those that are set; null takes one (or all) away, `***` leaves one as it is."),
    )
    rate_limit = Number(0.01, 1000, allow_none=True)
    disabled = Flag(metadata=_about("A backlog is kept, and drains when it is enabled again."))


class SubscriberQuery(PageQuery):
    """``GET /v1/subscribers``."""

    cursor = Id("sub", metadata=_about("`next_cursor` of the page before."))


class Overlap(Incoming):
    """The body of a rotation of the account's signing secret."""

    optional_body = True

    overlap = Whole(
        0,
        MOST_OVERLAP,
        load_default=DAY,
        metadata=_about(
            f"Seconds for which the old secrets sign too; {MAX_LIVE_SECRETS} secrets can sign together.", DAY
        ),
    )


class Rotation(Overlap):
    """The body of a rotation of a subscriber's secret."""

    secret = Text(
        1, 128, allow_none=True, load_default=None, metadata=_about("Your own `whsec_…`; made for you when left out.")
    )


class Replay(Incoming):
    """The body of ``POST /v1/subscribers/{id}/replay``."""

    since = Instant(required=True, metadata=_about("Deliveries created from here on.", "2026-11-21T10:00:00Z"))
    until = Instant(allow_none=True, load_default=None, metadata=_about("... and before; now when left out."))
    status = fields.String(
        load_default="dead",
        validate=validate.OneOf(["dead", "all"], error="Must be one of {choices}."),
        metadata=_about("`dead`: only those given up; `all`: those delivered too."),
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

    cursor = Id("evt", metadata=_about("`next_cursor` of the page before (newest first)."))
    after = Id(
        "evt",
        empty=True,
        metadata=_about("Events behind this one, oldest first; empty: from the beginning."),
    )
    wait = Digits(0, MAX_WAIT, load_default=0, metadata=_about("With `after`: seconds to wait for a first event."))
    event_type = fields.String(load_default="*", validate=_known_pattern, metadata=_about("A type, `task.*` or `*`."))

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
        metadata=_about("Where a stream that broke off goes on."),
    )


class DeliveryQuery(PageQuery):
    """``GET /v1/deliveries``."""

    cursor = Id("dlv", metadata=_about("`next_cursor` of the page before."))
    status = fields.String(
        validate=validate.OneOf([status.value for status in DeliveryStatus], error="Must be one of {choices}."),
    )
    subscriber = Id("sub")
    task = Id("task")
    event_type = fields.String(validate=_ONE_OF_TYPES)
