"""The callbacks that every system is sent: TopView's notices, one for each prepared task.

A key, ``bench-`` and a number, is the provider's id of a task. The shape is that of the provider's
page on notifications, with the result that its query would give; together about 1 KB.
"""

from __future__ import annotations

import json
from typing import Any

UID = "bench-uid"
KEY = rb"bench-\d+"
OPERATION = "common_task_image2video"
INPUT = {"imageFileId": "f1a2b3c4d5e6f708", "prompt": "a lighthouse at dawn, slow dolly forward", "duration": 5}


def key_of(number: int) -> str:
    """The provider's id of the task with this number."""
    return f"bench-{number:08}"


def json_of_input() -> str:
    """The task's input as it is stored."""
    return json.dumps(INPUT, separators=(",", ":"))


def result_of(key: str) -> dict[str, Any]:
    """What the provider says of a finished task."""
    path = f"https://artefacts.example.com/{key}/video.mp4?X-Amz-Date=20260101T000000Z&X-Amz-Expires=86400"
    cover = f"https://artefacts.example.com/{key}/cover.jpg?X-Amz-Date=20260101T000000Z&X-Amz-Expires=86400"
    video = {"filePath": path, "coverPath": cover, "width": 1280, "height": 720, "videoDuration": 5000}
    return {
        "taskId": key,
        "status": "success",
        "errorMsg": None,
        "costCredit": 1.5,
        "videos": [{"status": "success", "errorMsg": None, "originVideo": video}],
    }


def notice_of(key: str) -> bytes:
    """The body of the provider's notice."""
    notice = {
        "uuid": f"notice-{key}",
        "bizType": "COMMON_TASK_IMAGE2VIDEO",
        "taskId": key,
        "status": "success",
        "errorMsg": None,
        "result": result_of(key),
    }
    return json.dumps(notice).encode()


def request_of(key: str, path: str, port: int) -> bytes:
    """The whole request, as it goes over the wire."""
    body = notice_of(key)
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        f"Topview-Uid: {UID}",
        "Content-Type: application/json",
        "User-Agent: provider/1.0",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
