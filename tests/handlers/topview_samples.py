"""TopView's samples, shared by its tests."""

from __future__ import annotations

import json
from typing import Any

import handlers
from handlers import Handler, Notice, RemoteTask, Reply, Submission
from tests.handlers.conformance import CALLBACK_URL, NOW
from tests.handlers.fake_provider import Answer, FakeProvider, json_answer

SETTINGS = {"uid": "demo-uid-1", "api_key": "sk-demo-1-never-shown"}
ID = "b2a7f0b1c5a94d3e"
LINK = "https://s3.test/out/clip?X-Amz-Date=20260101T000000Z&X-Amz-Expires=86400&X-Amz-Signature=x"


def envelope(result: Any, code: object = "200", message: str = "Success", status: int = 200) -> Answer:
    """An answer of the provider."""
    return json_answer({"code": code, "message": message, "result": result}, status)


ACCEPTED = envelope({"taskId": ID, "status": "success", "errorMsg": None, "noticeUuid": "uuid-1"})
VIDEOS = {"taskId": ID, "status": "success", "videos": [{"status": "success", "filePath": LINK, "errorMsg": None}]}
INPUTS: dict[str, dict[str, Any]] = {
    "scraper": {"productLink": "https://shop.test/p/1"},
    "zero_shot_avatar": {
        "avatarSourceFrom": "1",
        "aiAvatarId": "a1",
        "audioSourceFrom": 1,
        "ttsText": "hi",
        "voiceSpeed": 1.2,
    },
    "m2v_preview": {"productLink": "https://shop.test/p/1", "aspectRatio": "9:16", "videoLengthType": "2"},
    "m2v_export": {"taskId": "preview-1", "scriptId": 2},
    "m2v_script": {"taskId": ID, "scriptId": 2, "scriptContents": [{"segId": 1, "segText": "Buy it."}]},
    "product_avatar_replace_product_image": {"productImageFileId": "f1", "imageEditPrompt": "hold", "avatarId": "a1"},
    "product_avatar_replace_product_image_v2": {"productImageFileId": "f1"},
    "product_avatar_replace_product_image_v3": {"location": [[1, 2.5], [3, 4]], "keepTarget": "model"},
    "product_avatar_image2video": {"productReplaceResultKey": "k1", "mode": "pro"},
    "product_avatar_image2video_v2": {"replaceProductTaskImageId": "i1", "scriptMode": "audio", "audioFileId": "f"},
    "product_avatar_image2video_v3": {"replaceProductTaskImageId": "i1"},
    "product_any_shoot": {"productImageFileId": "f1", "templateId": "t1", "templateMaskFileId": "m1", "mode": "auto"},
    "product_any_shoot_v3": {"anything": 1},
    "common_task_image2video": {"imageFileId": "f1", "duration": 5, "mode": "lite", "generatingCount": 4},
    "common_task_image2video_v2": {"model": "A Brand New Model", "referenceImageFileIds": ["f1", "f2"]},
    "common_task_text2video": {"model": "M", "prompt": "a cat", "sound": "on", "resolution": 720},
    "common_task_text2image": {"model": "M", "prompt": "a cat", "generateCount": 2, "resolution": "1K"},
    "common_task_video2aiavatar": {"videoFileId": "f1"},
    "voice_clone": {"originVoiceFileId": "f1", "voiceSpeed": 0.8},
    "voice_text2voice": {"voiceText": "hi", "voiceId": "v1"},
    "remove_background": {"imageFileId": "f1"},
    "image_edit": {"model": "M"},
    "photo_avatar": {"imageFileId": "f1"},
}
PATHS = {
    "scraper": ("/v1/scraper/task/submit", "/v1/scraper/task/query"),
    "zero_shot_avatar": ("/v1/video_avatar/task/submit", "/v1/video_avatar/task/query"),
    "m2v_preview": ("/v1/m2v/task/submit", "/v1/m2v/task/query"),
    "m2v_export": ("/v1/m2v/export", "/v1/m2v/task/query"),
    "m2v_script": ("/v1/m2v/script/update", "/v1/m2v/script/list"),
    "product_avatar_replace_product_image": (
        "/v1/product_avatar/task/image_replace/submit",
        "/v1/product_avatar/task/image_replace/result",
    ),
    "product_avatar_replace_product_image_v2": (
        "/v2/product_avatar/task/image_replace/submit",
        "/v2/product_avatar/task/image_replace/query",
    ),
    "product_avatar_replace_product_image_v3": (
        "/v3/product_avatar/task/image_replace/submit",
        "/v3/product_avatar/task/image_replace/query",
    ),
    "product_avatar_image2video": (
        "/v1/product_avatar/task/image2Video/submit",
        "/v1/product_avatar/task/image2Video/query",
    ),
    "product_avatar_image2video_v2": (
        "/v2/product_avatar/task/image2Video/submit",
        "/v2/product_avatar/task/image2Video/query",
    ),
    "product_avatar_image2video_v3": (
        "/v3/product_avatar/task/image2Video/submit",
        "/v3/product_avatar/task/image2Video/query",
    ),
    "product_any_shoot": ("/v1/product_anyShoot/task/submit", "/v1/product_anyShoot/task/result"),
    "product_any_shoot_v3": (
        "/v3/product_anyShoot/product_model/task/submit",
        "/v3/product_anyShoot/product_model/task/result",
    ),
    "common_task_image2video": ("/v1/common_task/image2video/submit", "/v1/common_task/image2video/result"),
    "common_task_image2video_v2": (
        "/v2/common_task/image2video/task/submit",
        "/v2/common_task/image2video/task/query",
    ),
    "common_task_text2video": ("/v1/common_task/text2video/task/submit", "/v1/common_task/text2video/task/query"),
    "common_task_text2image": ("/v1/common_task/text2image/task/submit", "/v1/common_task/text2image/task/query"),
    "common_task_video2aiavatar": (
        "/v1/common_task/video2aiAvatar/submit",
        "/v1/common_task/video2aiAvatar/query",
    ),
    "voice_clone": ("/v1/voice/clone/task/submit", "/v1/voice/clone/task/query"),
    "voice_text2voice": ("/v1/voice/text2voice/task/submit", "/v1/voice/text2voice/task/query"),
    "remove_background": ("/v1/common_task/remove_background/submit", "/v1/common_task/remove_background/query"),
    "image_edit": ("/v1/common_task/image_edit/task/submit", "/v1/common_task/image_edit/task/query"),
    "photo_avatar": ("/v1/photo_avatar/task/submit", "/v1/photo_avatar/task/query"),
}
BIZ_TYPES = {
    "SCRAPER", "ZERO_SHOT_AVATAR", "M2V_PREVIEW", "M2V_EXPORT", "M2V_SCRIPT",
    "PRODUCT_AVATAR_REPLACE_PRODUCT_IMAGE", "PRODUCT_AVATAR_IMAGE2VIDEO", "PRODUCT_ANY_SHOOT",
    "COMMON_TASK_IMAGE2VIDEO", "COMMON_TASK_TEXT2VIDEO", "COMMON_TASK_TEXT2IMAGE", "COMMON_TASK_VIDEO2AIAVATAR",
    "VOICE_CLONE", "VOICE_TEXT2VOICE",
}  # fmt: skip


def asked(
    operation: str = "common_task_text2video",
    age: float = 60.0,
    provider_id: str | None = ID,
    state: dict[str, Any] | None = None,
    given: dict[str, Any] | None = None,
) -> RemoteTask:
    """A task of ours at the provider."""
    return RemoteTask("task_1", operation, provider_id, state or {}, given or {}, age)


def notice_body(**changes: Any) -> bytes:
    """A notice's body, with changes; its result is about the same task."""
    whole = {
        "uuid": "uuid-1",
        "bizType": "COMMON_TASK_TEXT2VIDEO",
        "taskId": ID,
        "status": "success",
        "errorMsg": None,
        "result": {**VIDEOS, "taskId": changes.get("taskId", ID)},
    }
    return json.dumps({**whole, **changes}).encode()


def notice(body: bytes | None = None, task: RemoteTask | None = None, uid: str = "demo-uid-1") -> Notice:
    """A notice at a per-task address."""
    headers = {"topview-uid": uid} if uid else {}
    return Notice(headers, {}, body or notice_body(), CALLBACK_URL, int(NOW * 1000), task or asked())


ECHO = Reply(
    b'{"code":"200","message":"Success","result":{"uuid":"uuid-1","topviewUid":"demo-uid-1","result":"success"}}'
)
UID = {"topview-uid": "demo-uid-1"}


def make(remote: FakeProvider, **more: str) -> Handler:
    """A handler that talks to it."""
    return handlers.load("topview", {**SETTINGS, "base_url": remote.url, **more}, clock=lambda: NOW)


def submitted(handler: Handler, operation: str, given: dict[str, Any], url: str | None = None) -> handlers.Receipt:
    """Validate and submit."""
    loaded = handler.operations[operation].schema().load(given)
    return handler.submit(Submission("task_1", operation, loaded, url))
