"""TopView: what is required together, what is closed, and what passes through."""

from __future__ import annotations

from typing import Any

import pytest
from marshmallow import ValidationError

import handlers
from handlers import Submission
from tests.handlers.fake_provider import FakeProvider, json_answer
from tests.handlers.topview_samples import INPUTS

AVATAR = {"avatarSourceFrom": "0", "audioSourceFrom": "0", "videoFileId": "f", "audioFileId": "f"}
FILES = {"fileIds": ["f"], "productName": "Cup"}
NEWER = "product_avatar_image2video_v2"
REPLACED = {"replaceProductTaskImageId": "i"}


def problems(operation: str, given: dict[str, Any]) -> dict[str, list[str]]:
    """The fields that are wrong with an input, with the reasons."""
    try:
        handlers.find("topview").operations[operation].schema().load(given)
    except ValidationError as error:
        return error.normalized_messages()
    return {}


@pytest.mark.parametrize(
    ("operation", "given", "field"),
    [
        ("m2v_preview", {}, "productLink"),
        ("m2v_preview", {"fileIds": []}, "fileIds"),
        ("m2v_preview", {"fileIds": ["f"]}, "productName"),
        ("m2v_preview", {"fileIds": ["f"], "productName": "Cup"}, "productDescription"),
        ("m2v_preview", {"fileIds": ["f"], "productName": "Cup", "isDiyScript": False}, "productDescription"),
        ("m2v_preview", {**FILES, "isDiyScript": "false"}, "productDescription"),
        ("m2v_preview", {**FILES, "isDiyScript": "yes"}, "isDiyScript"),
        ("m2v_preview", {**FILES, "isDiyScript": 1}, "isDiyScript"),
        ("m2v_preview", {"productLink": "x", "preview": "false"}, "preview"),
        ("m2v_preview", {"productLink": "x", "preview": False}, "preview"),
        ("m2v_export", {"productLink": "x", "preview": True}, "preview"),
        ("m2v_export", {}, "taskId"),
        ("m2v_export", {"taskId": "t"}, "scriptId"),
        ("m2v_export", {"scriptId": 1}, "taskId"),
        ("m2v_export", {"fileIds": ["f"]}, "productName"),
        ("product_avatar_replace_product_image", {"productImageFileId": "f", "imageEditPrompt": "x"}, "avatarId"),
        (NEWER, {**REPLACED, "scriptMode": "text", "voiceId": "v"}, "ttsText"),
        (NEWER, {**REPLACED, "scriptMode": "text", "ttsText": "hi"}, "voiceId"),
        (NEWER, {**REPLACED, "scriptMode": "audio"}, "audioFileId"),
        ("product_avatar_image2video", {"productReplaceResultKey": "k", "scriptMode": "audio"}, "audioFileId"),
        ("product_any_shoot", {"productImageFileId": "f", "templateMaskFileId": "m", "mode": "x"}, "templateId"),
        ("zero_shot_avatar", {**AVATAR, "videoFileId": ""}, "videoFileId"),
        ("zero_shot_avatar", {**AVATAR, "avatarSourceFrom": "1"}, "aiAvatarId"),
        ("zero_shot_avatar", {**AVATAR, "avatarSourceFrom": 2}, "aiAvatarId"),
        ("zero_shot_avatar", {**AVATAR, "audioSourceFrom": "1"}, "ttsText"),
        ("zero_shot_avatar", {**AVATAR, "audioSourceFrom": "1", "ttsText": "hi"}, "voiceoverId"),
        ("zero_shot_avatar", {"avatarSourceFrom": "0", "audioSourceFrom": 0, "videoFileId": "f"}, "audioFileId"),
    ],
)
def test_fields_that_belong_together_are_asked_for_together(operation: str, given: dict[str, Any], field: str) -> None:
    """A missing half is refused before it costs a call, and the field that is missing is named."""
    assert set(problems(operation, given)) == {field}


@pytest.mark.parametrize(
    ("operation", "given"),
    [
        ("m2v_preview", {**FILES, "productDescription": "Blue."}),
        ("m2v_preview", {**FILES, "isDiyScript": True}),
        ("m2v_preview", {**FILES, "isDiyScript": "true"}),
        ("m2v_preview", {"productLink": "x", "preview": "true"}),
        ("m2v_export", {"productLink": "x", "preview": "false"}),
        ("m2v_preview", {"productLink": "x", "preview": True, "videoLengthType": 4}),
        ("m2v_export", {"productLink": "x", "preview": False}),
        ("m2v_export", {"taskId": "t", "scriptId": 0}),
        ("zero_shot_avatar", AVATAR),
        ("zero_shot_avatar", {"avatarSourceFrom": 3, "audioSourceFrom": 0, "audioFileId": "f", "photo": "f"}),
        (
            "zero_shot_avatar",
            {"avatarSourceFrom": 1, "aiAvatarId": "a", "audioSourceFrom": 1, "ttsText": "hi", "modeType": "2"},
        ),
        ("zero_shot_avatar", {**AVATAR, "modeType": 0}),
        ("m2v_preview", {"productLink": "x", "endcardAspectRatio": "all"}),
        ("m2v_preview", {"productLink": "x", "endcardAspectRatio": "16:9"}),
        ("product_avatar_replace_product_image_v3", {"version": "v4", "productSize": 9}),
        (NEWER, {**REPLACED, "scriptMode": "text", "ttsText": "hi", "voiceId": "v"}),
        ("common_task_text2video", {"model": "A Model Of 2031", "prompt": "x", "aspectRatio": "7:5"}),
        ("product_any_shoot_v3", {"anything": {"goes": [1]}}),
    ],
)
def test_what_is_complete_or_open_passes(operation: str, given: dict[str, Any]) -> None:
    """Valid combinations, new models and fields that are not documented are left to the provider."""
    assert problems(operation, given) == {}


@pytest.mark.parametrize(
    ("operation", "change", "field"),
    [
        ("voice_text2voice", {"voiceSpeed": 0.79}, "voiceSpeed"),
        ("voice_text2voice", {"voiceSpeed": 1.21}, "voiceSpeed"),
        ("voice_clone", {"voiceSpeed": "fast"}, "voiceSpeed"),
        ("zero_shot_avatar", {"voiceSpeed": 2}, "voiceSpeed"),
        ("zero_shot_avatar", {"avatarSourceFrom": "4"}, "avatarSourceFrom"),
        ("zero_shot_avatar", {"avatarSourceFrom": True}, "avatarSourceFrom"),
        ("zero_shot_avatar", {"audioSourceFrom": [1]}, "audioSourceFrom"),
        ("common_task_image2video", {"duration": 7}, "duration"),
        ("common_task_image2video", {"mode": "ultra"}, "mode"),
        ("common_task_image2video", {"generatingCount": 5}, "generatingCount"),
        ("common_task_image2video", {"generatingCount": 0}, "generatingCount"),
        ("common_task_image2video_v2", {"referenceImageFileIds": ["only one"]}, "referenceImageFileIds"),
        ("common_task_image2video_v2", {"sound": "loud"}, "sound"),
        ("product_avatar_replace_product_image", {"productSize": "7"}, "productSize"),
        ("product_avatar_replace_product_image_v3", {"version": "v9"}, "version"),
        ("product_avatar_replace_product_image_v3", {"productSize": 1.5}, "productSize"),
        ("product_avatar_image2video_v3", {"mode": "avatar9"}, "mode"),
        ("common_task_text2video", {"resolution": 720.7}, "resolution"),
        ("common_task_text2video", {"resolution": "720p"}, "resolution"),
        ("common_task_image2video_v2", {"duration": 5.5}, "duration"),
        ("zero_shot_avatar", {"modeType": "7"}, "modeType"),
        ("m2v_preview", {"endcardAspectRatio": "2:1"}, "endcardAspectRatio"),
        ("m2v_preview", {"aspectRatio": "2:1"}, "aspectRatio"),
        ("m2v_preview", {"videoLengthType": 5}, "videoLengthType"),
        ("m2v_script", {"scriptContents": []}, "scriptContents"),
        ("m2v_script", {"scriptContents": [{"segId": 1}]}, "scriptContents"),
        ("m2v_script", {"scriptContents": [1]}, "scriptContents"),
    ],
)
def test_closed_values_are_closed(operation: str, change: dict[str, Any], field: str) -> None:
    """Where the provider documents a range or a full list, everything else is refused by name."""
    assert set(problems(operation, {**INPUTS[operation], **change})) == {field}


@pytest.mark.parametrize("operation", INPUTS)
def test_nobody_else_sets_the_notice_url(operation: str) -> None:
    """The provider calls us and only us; a caller who wants to be called is told how."""
    (reason,) = problems(operation, {**INPUTS[operation], "noticeUrl": "https://evil.test/"})["noticeUrl"]
    assert "callback_url" in reason


def test_numbers_written_as_text_are_passed_on_as_they_came() -> None:
    """The provider writes some numbers as text; both forms are taken, neither is changed."""
    schema = handlers.find("topview").operations["zero_shot_avatar"].schema()
    loaded = schema.load({**AVATAR, "avatarSourceFrom": "0", "audioSourceFrom": 0})
    assert (loaded["avatarSourceFrom"], loaded["audioSourceFrom"]) == ("0", 0)


@pytest.mark.parametrize(("given", "sent"), [("true", True), ("false", False), (True, True), (False, False)])
def test_a_switch_given_as_text_is_sent_as_a_switch(given: object, sent: bool) -> None:
    """The provider's pages write booleans as texts in places: both are taken, and it gets what it can read."""
    with FakeProvider() as remote:
        remote.answer(json_answer({"code": "200", "result": {"taskId": "t-1", "status": "success"}}))
        handler = handlers.load("topview", {"uid": "u", "api_key": "k", "base_url": remote.url})
        asked = {**FILES, "productDescription": "Blue.", "isDiyScript": given}
        assert problems("m2v_preview", asked) == {}
        handler.submit(Submission("task_1", "m2v_preview", asked))
        assert remote.last.json()["isDiyScript"] is sent
