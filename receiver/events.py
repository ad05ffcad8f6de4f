"""What users see of a task, and the events that state it. Pure: records in, JSON text out.

The bytes of an event are made once, here, and then stored, signed and sent unchanged. What a
provider answered is put in as the text that came, so that large integers and long decimals
survive unrounded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from handlers import Output, TaskError, json_text
from receiver.models import EventType, Subscriber, Task

_END_OF_TIME = 253_402_300_799_999  # ms; the last of the year 9999


def rfc3339(at: int | None) -> str | None:
    """Milliseconds since the epoch as ``2026-11-21T10:00:00.000Z``; None stays None.

    Times that have no such form (a provider may name any) become the nearest one that has.
    """
    if at is None:
        return None
    if not 0 <= at <= _END_OF_TIME:
        at = 0 if at < 0 else _END_OF_TIME
    return f"{_second(at // 1000)}.{at % 1000:03}Z"


@lru_cache(maxsize=1024)
def _second(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def dumps(value: Any) -> str:
    """Compact JSON text that can be encoded. Raises ValueError for NaN and infinities, which are not JSON."""
    text = _AS_WRITTEN.encode(value)
    return text if _encodable(text) else _ASCII.encode(value)  # there a lone surrogate stays an escape


# Made once: to make an encoder costs more than to encode a short text with it.
_AS_WRITTEN = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_ASCII = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


def _encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def outputs_json(outputs: Sequence[Output]) -> str:
    """The outputs of a task as users see them; numbers in them with the digits that came."""
    return json_text(
        [
            {
                "kind": output.kind,
                "url": output.url,
                "text": output.text,
                "data": output.data,
                "name": output.name,
                "status": output.status,
                "expires_at": rfc3339(output.expires_at),
                "details": dict(output.details),
            }
            for output in outputs
        ]
    )


def error_json(error: TaskError | None) -> str | None:
    """The error of a task as users see it, or None."""
    if error is None:
        return None
    return dumps(
        {
            "code": error.code,
            "message": error.message,
            "retryable": error.retryable,
            "provider_code": error.provider_code,
            "provider_message": error.provider_message,
        }
    )


def task_json(task: Task) -> str:
    """A task as users see it, in answers and events alike (``docs/api.md``, "The task")."""
    members = {
        "id": _word(task.id),
        "provider": _word(task.provider),
        "operation": _word(task.operation),
        "status": _word(task.status),
        "input": task.input_json,
        "metadata": dumps(task.metadata) if task.metadata else "{}",
        "callback_url": _text(task.callback_url),
        "provider_task_id": _text(task.provider_task_id),
        "progress": "null" if task.progress is None else dumps(task.progress),
        "outputs": task.outputs_json,
        "error": task.error_json or "null",
        "completed_via": _word(task.completed_via),
        "created_at": _word(rfc3339(task.created_at)),
        "submitted_at": _word(rfc3339(task.submitted_at)),
        "finished_at": _word(rfc3339(task.finished_at)),
        "deadline_at": _word(rfc3339(task.deadline_at)),
        "provider_response": _as_it_came(task.provider_response),
    }
    return "{" + ",".join([f'"{name}":{text}' for name, text in members.items()]) + "}"


def _word(word: str | None) -> str:
    """JSON of a word of ours, an id or a time, in which nothing has to be escaped."""
    return "null" if word is None else f'"{word}"'


def _text(text: str | None) -> str:
    return "null" if text is None else dumps(text)


def _as_it_came(raw: str | None) -> str:
    """A provider's text as a JSON value: itself when it is JSON, else a JSON string of it."""
    if raw is None:
        return "null"
    try:
        _READER.decode(raw)
    except (ValueError, RecursionError):
        return dumps(raw)
    return raw.strip() if _encodable(raw) else dumps(raw)


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


_READER = json.JSONDecoder(parse_constant=_no_constant, parse_int=str, parse_float=str)


def event_body(event_type: EventType, now: int, data: str) -> str:
    """The body of an event (Standard Webhooks): ``data`` is JSON text."""
    return f'{{"type":{_word(event_type)},"timestamp":{_word(rfc3339(now))},"data":{data}}}'


def ping_body(subscriber: Subscriber, now: int) -> str:
    """The body of a ``subscriber.ping``."""
    data: Mapping[str, Any] = {"subscriber": subscriber.id, "message": "This is a test event; nothing happened."}
    return event_body(EventType.SUBSCRIBER_PING, now, dumps(data))


def disabled_body(subscriber: Subscriber, reason: str, now: int) -> str:
    """The body of a ``subscriber.disabled``."""
    data: Mapping[str, Any] = {"subscriber": subscriber.id, "url": subscriber.url, "reason": reason}
    return event_body(EventType.SUBSCRIBER_DISABLED, now, dumps(data))


def wants(subscriber: Subscriber, event_type: EventType, provider: str | None) -> bool:
    """Whether a subscriber gets events of this type and provider (None: not about a task)."""
    if subscriber.providers is not None and provider is not None and provider not in subscriber.providers:
        return False
    return any(pattern_matches(pattern, event_type) for pattern in subscriber.event_types)


def pattern_matches(pattern: str, event_type: str) -> bool:
    """``*``, an exact type, or ``prefix.*``."""
    return fnmatchcase(event_type, pattern)


def types_of(pattern: str) -> list[EventType]:
    """The event types that a pattern names."""
    return [kind for kind in EventType if pattern_matches(pattern, kind)]


def valid_pattern(pattern: str) -> bool:
    """Whether a pattern names at least one event type, in one of the three forms."""
    plain = pattern == "*" or "*" not in pattern or (pattern.endswith(".*") and "*" not in pattern[:-1])
    return plain and not set(pattern) & set("?[]") and bool(types_of(pattern))
