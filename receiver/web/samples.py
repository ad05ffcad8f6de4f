"""Examples for the document: one of each shape, the bodies of requests, and answers that differ from their shape's."""

from __future__ import annotations

from typing import Any

_OUTPUT = {
    "kind": "video",
    "url": "https://cdn.example.com/result.mp4",
    "text": None,
    "data": None,
    "name": "result.mp4",
    "status": "ok",
    "expires_at": "2026-11-28T10:01:00.000Z",
    "details": {"duration": 5},
}
_TASK: dict[str, Any] = {
    "id": "task_01kahx3mt5k0c4z7d6q8r9w2ve",
    "provider": "topview",
    "operation": "common_task_image2video",
    "status": "succeeded",
    "input": {"imageFileId": "f-1", "prompt": "waves at dusk"},
    "metadata": {"order": "4711"},
    "callback_url": None,
    "provider_task_id": "tv-123",
    "progress": 1,
    "outputs": [_OUTPUT],
    "error": None,
    "completed_via": "callback",
    "created_at": "2026-11-21T10:00:00.000Z",
    "submitted_at": "2026-11-21T10:00:00.412Z",
    "finished_at": "2026-11-21T10:01:00.120Z",
    "deadline_at": "2026-11-21T11:00:00.000Z",
    "provider_response": {"code": "200"},
}
_SUBSCRIBER = {
    "id": "sub_01kahx3mt5k0c4z7d6q8r9w2ve",
    "url": "https://example.com/hooks",
    "event_types": ["task.succeeded", "task.failed"],
    "providers": None,
    "description": "production",
    "headers": {"X-Team": "video", "Authorization": "***"},
    "rate_limit": None,
    "disabled": False,
    "disabled_reason": None,
    "failing_since": None,
    "created_at": "2026-11-21T09:00:00.000Z",
}
_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105  the published example of Standard Webhooks
_DELIVERY = {
    "id": "dlv_01kahx3mt5k0c4z7d6q8r9w2ve",
    "event_id": "evt_01kahx3mt5k0c4z7d6q8r9w2ve",
    "event_type": "task.succeeded",
    "task_id": _TASK["id"],
    "subscriber": _SUBSCRIBER["id"],
    "url": "https://example.com/hooks",
    "status": "delivered",
    "attempt_count": 1,
    "next_attempt_at": None,
    "created_at": "2026-11-21T10:01:00.120Z",
    "finished_at": "2026-11-21T10:01:00.310Z",
    "reason": None,
}
_ATTEMPT = {
    "id": "att_01kahx3mt5k0c4z7d6q8r9w2ve",
    "number": 1,
    "trigger": "schedule",
    "started_at": "2026-11-21T10:01:00.190Z",
    "duration_ms": 120,
    "response_status": 200,
    "response_headers": {"content-type": "text/plain"},
    "response_body": "ok",
    "error": None,
    "message": "Answered 200.",
}
_EVENT = {
    "id": "evt_01kahx3mt5k0c4z7d6q8r9w2ve",
    "type": "task.succeeded",
    "timestamp": "2026-11-21T10:01:00.120Z",
    "data": _TASK,
}
_PROVIDER = {
    "name": "topview",
    "title": "TopView",
    "docs": "https://docs.topview.ai",
    "configured": True,
    "base_url": "https://api.topview.ai",
    "callbacks": "unsigned",
    "uploads": True,
    "resources": {"credit": "Credit that is left"},
    "operations": [
        {
            "name": "common_task_image2video",
            "title": "Image to video",
            "callbacks": True,
            "experimental": False,
            "input": {"type": "object", "properties": {"prompt": {"type": "string"}}},
        }
    ],
}

EXAMPLES: dict[str, Any] = {
    "Task": _TASK,
    "Output": _OUTPUT,
    "TaskError": {
        "code": "insufficient_credit",
        "message": "The account at the provider does not have enough credit.",
        "retryable": False,
        "provider_code": "4100",
        "provider_message": "Credit not enough",
    },
    "TaskPage": {"data": [_TASK], "next_cursor": None},
    "Timeline": {
        "data": [
            {"at": "2026-11-21T10:00:00.000Z", "kind": "created", "detail": {"provider": "topview"}},
            {"at": "2026-11-21T10:00:00.412Z", "kind": "state", "detail": {"from": "submitting", "to": "running"}},
        ],
        "complete": True,
    },
    "Providers": {"data": [_PROVIDER]},
    "Provider": _PROVIDER,
    "Resource": {"credits": 120},
    "UploadedFile": {"provider": "topview", "file_id": "f-1", "filename": "cat.png", "size": 48211, "details": {}},
    "Subscriber": _SUBSCRIBER,
    "SubscriberWithSecret": {**_SUBSCRIBER, "secret": _SECRET},
    "SubscriberPage": {"data": [_SUBSCRIBER], "next_cursor": None},
    "Secrets": {"secret": _SECRET, "secrets": [{"secret": _SECRET, "expires_at": None}]},
    "Replayed": {"replayed": 3},
    "Backlog": {"replayable": 3, "waiting": 12, "replaying": 0, "retrying": 2},
    "Delivery": _DELIVERY,
    "DeliveryPage": {"data": [_DELIVERY], "next_cursor": None},
    "DeliveryWithAttempts": {**_DELIVERY, "attempts": [_ATTEMPT]},
    "Attempt": _ATTEMPT,
    "Event": _EVENT,
    "EventPage": {"data": [_EVENT], "next_cursor": None},
    "Problem": {
        "type": "urn:receiver:problem:invalid",
        "title": "Invalid request",
        "status": 422,
        "detail": "The request has invalid fields.",
        "errors": {"input.prompt": ["Missing data for required field."]},
    },
}
"""By the name of the shape."""

_UNTOUCHED: dict[str, Any] = {"progress": None, "outputs": [], "completed_via": None, "finished_at": None}
ACCEPTED = {
    **_TASK, **_UNTOUCHED,
    "status": "queued", "provider_task_id": None, "submitted_at": None, "provider_response": None,
}  # fmt: skip
"""A task as it was just accepted."""
CANCELED = {**_TASK, **_UNTOUCHED, "status": "canceled", "finished_at": "2026-11-21T10:00:30.000Z"}
"""A task after its cancellation."""
PENDING = {**_DELIVERY, "status": "pending", "attempt_count": 0, "next_attempt_at": _DELIVERY["created_at"],
           "finished_at": None}  # fmt: skip
"""A delivery before its first attempt."""
STREAM = f"""id: {_EVENT["id"]}
event: task.succeeded
data: {{"type":"task.succeeded","timestamp":"2026-11-21T10:01:00.120Z","data":{{"id":"{_TASK["id"]}"}}}}

"""
"""One event of a stream; its task is shortened."""

REQUESTS: dict[str, dict[str, Any]] = {
    "NewTaskSchema": {
        "SuperApp: a picture from a text": {
            "provider": "superapp",
            "operation": "text2image",
            "input": {"inputText": "a red kite", "width": 1024, "height": 768},
            "metadata": {"order": "4711"},
        },
        "TopView: a video from a picture": {
            "provider": "topview",
            "operation": "common_task_image2video",
            "input": {
                "imageFileId": "f-1", "prompt": "waves at dusk", "duration": 5, "mode": "lite", "generatingCount": 1,
            },
            "callback_url": "https://example.com/hooks",
            "deadline": 3600,
        },
        "ApsaraVideo VOD: a smart cover": {
            "provider": "apsaravideo_vod",
            "operation": "submit_ai_image_job",
            "input": {
                "VideoId": "357a8748c5774a0b89d2726e6436aa00", "AITemplateId": "ef1a8842cb9f4b6c8cea80cad902e416",
            },
        },
        "Img Open: a picture from a text": {
            "provider": "img_open",
            "operation": "flux_text2image",
            "input": {"prompt": "a red kite"},
        },
    },
    "NewSubscriberSchema": {
        "every end of a task": {
            "url": "https://example.com/hooks",
            "event_types": ["task.succeeded", "task.failed", "task.canceled", "task.expired"],
            "description": "production",
        },
        "one provider, with a header and a limit": {
            "url": "https://example.com/hooks",
            "event_types": ["task.*"],
            "providers": ["topview"],
            "headers": {"X-Team": "video"},
            "rate_limit": 20,
        },
    },
    "SubscriberPatch": {
        "pause": {"disabled": True},
        "resume": {"disabled": False},
        "another address": {"url": "https://example.com/new-hooks"},
    },
    "Rotation": {"both sign for a day": {"overlap": 86400}, "the old one has leaked": {"overlap": 0}},
    "Overlap": {"both sign for a day": {"overlap": 86400}, "the old one has leaked": {"overlap": 0}},
    "Replay": {
        "what was given up since an outage": {"since": "2026-11-21T10:00:00Z"},
        "everything of an hour": {
            "since": "2026-11-21T10:00:00Z", "until": "2026-11-21T11:00:00Z", "status": "all",
        },
    },
}  # fmt: skip
"""Bodies of requests, by schema and by what they are for."""
