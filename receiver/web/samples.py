"""Examples for the document, one of each shape."""

from __future__ import annotations

from typing import Any

_TASK = {
    "id": "task_01kahx3mt5k0c4z7d6q8r9w2ve",
    "provider": "topview",
    "operation": "common_task_image2video",
    "status": "succeeded",
    "input": {"imageFileId": "f-1", "prompt": "waves at dusk"},
    "metadata": {"order": "4711"},
    "callback_url": None,
    "provider_task_id": "tv-123",
    "progress": 1,
    "outputs": [
        {
            "kind": "video",
            "url": "https://cdn.example.com/result.mp4",
            "text": None,
            "data": None,
            "name": "result.mp4",
            "status": "ok",
            "expires_at": "2026-11-28T10:01:00.000Z",
            "details": {"duration": 5},
        }
    ],
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
    "docs": "https://www.topview.ai",
    "configured": True,
    "callbacks": "unsigned",
    "uploads": True,
    "resources": {},
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
    "TaskPage": {"data": [_TASK], "next_cursor": None},
    "Timeline": {
        "data": [
            {"at": "2026-11-21T10:00:00.000Z", "kind": "created", "detail": {"provider": "topview"}},
            {"at": "2026-11-21T10:00:00.412Z", "kind": "state", "detail": {"from": "submitting", "to": "running"}},
        ]
    },
    "Providers": {"data": [_PROVIDER]},
    "Resource": {"credits": 120},
    "UploadedFile": {"provider": "topview", "file_id": "f-1", "filename": "cat.png", "size": 48211, "details": {}},
    "Subscriber": _SUBSCRIBER,
    "SubscriberWithSecret": {**_SUBSCRIBER, "secret": _SECRET},
    "SubscriberPage": {"data": [_SUBSCRIBER], "next_cursor": None},
    "Secrets": {"secret": _SECRET, "secrets": [{"secret": _SECRET, "expires_at": None}]},
    "Replayed": {"replayed": 3},
    "Delivery": _DELIVERY,
    "DeliveryPage": {"data": [_DELIVERY], "next_cursor": None},
    "DeliveryWithAttempts": {**_DELIVERY, "attempts": [_ATTEMPT]},
    "Event": _EVENT,
    "EventPage": {"data": [_EVENT], "next_cursor": None},
}
