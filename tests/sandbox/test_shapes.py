"""Forms that the providers' pages name beside the usual ones: the sandbox gives them, and the handlers cope."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from handlers import (
    ErrorCode,
    Handler,
    Notice,
    OutcomeUnknown,
    Receipt,
    Rejected,
    RemoteStatus,
    RemoteTask,
    Submission,
    TaskUpdate,
    Unavailable,
)
from receiver.sandbox import SandboxSettings

from .conftest import Start
from .listener import Heard, Listener
from .test_every_operation import TASK, handler_for

DRAWING = {"model": "Demo", "prompt": "a cat"}
PICTURE = {"inputText": "a cat", "width": 640, "height": 480}


def submit(handler: Handler, operation: str, given: dict[str, Any], url: str | None = None) -> RemoteTask:
    """Submit a task that the handler's own checks let pass; the task as it is asked for."""
    assert handler.operations[operation].schema().validate(given) == {}
    receipt: Receipt = handler.submit(Submission(TASK, operation, given, url))
    return RemoteTask(TASK, operation, receipt.provider_task_id, receipt.state, given, age=100.0)


def query(handler: Handler, task: RemoteTask) -> TaskUpdate:
    """What the handler makes of a query."""
    return handler.query([task])[TASK]


def read(handler: Handler, heard: Heard, url: str, task: RemoteTask) -> TaskUpdate:
    """What the handler makes of a callback, once it has believed it."""
    notice = Notice(heard.headers, {}, heard.raw, url, int(time.time() * 1000), task)
    handler.verify(notice)
    return handler.read(notice)


# -- TopView ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["text-result", "envelope", "envelope,number-code", "text-result, envelope"])
def test_a_notices_result_in_any_form_is_read(start: Start, listener: Listener, shape: str) -> None:
    """JSON text, the whole envelope, or both: the picture in it is found."""
    handler = handler_for(start(time_scale=0, topview_shape=shape), "topview")
    task = submit(handler, "common_task_text2image", DRAWING, listener.url)
    heard = listener.wait_for(1)[0]
    result = heard.body["result"]
    assert isinstance(result, str) == ("text-result" in shape)
    shown = json.loads(result) if isinstance(result, str) else result
    assert shown.get("code") == ({"envelope,number-code": 200}.get(shape, "200") if "envelope" in shape else None)
    update = read(handler, heard, listener.url, task)
    assert (update.status, len(update.outputs)) == (RemoteStatus.SUCCEEDED, 1)


def test_codes_that_are_numbers_are_read(start: Start) -> None:
    """A number means what the same text means: success, a refusal, a reason to come back later."""
    sandbox = start(time_scale=0, topview_shape="number-code")
    handler = handler_for(sandbox, "topview")
    assert query(handler, submit(handler, "common_task_text2image", DRAWING)).status is RemoteStatus.SUCCEEDED
    assert handler.fetch("credit", {})["remainCredit"] > 0
    with pytest.raises(Unavailable) as busy:
        submit(handler, "common_task_text2image", {**DRAWING, "prompt": "[sandbox:code=4007]"})
    assert busy.value.retry_after == handler.settings["unfinished_wait"]
    with pytest.raises(Rejected) as refused:
        submit(handler, "common_task_text2image", {**DRAWING, "prompt": "[sandbox:code=4100]"})
    assert refused.value.error.code is ErrorCode.INSUFFICIENT_CREDIT


def test_the_word_failed_is_a_failure(start: Start, listener: Listener) -> None:
    """`failed` ends a task as `fail` does, by query and by notice, with the provider's code."""
    handler = handler_for(start(time_scale=0, topview_shape="failed"), "topview")
    given = {**DRAWING, "prompt": "[sandbox:fail=6001]"}
    task = submit(handler, "common_task_text2image", given, listener.url)
    heard = listener.wait_for(1)[0]
    assert heard.body["result"]["status"] == "failed"
    for update in (query(handler, task), read(handler, heard, listener.url, task)):
        assert update.status is RemoteStatus.FAILED
        assert update.error is not None
        assert update.error.code is ErrorCode.CONTENT_POLICY


def test_a_picture_without_a_face_takes_one_mode_only(start: Start) -> None:
    """The output says that there is no face; a video of it in another mode than avatar2 is refused."""
    handler = handler_for(start(time_scale=0), "topview")
    given = {"productImageFileId": "f", "avatarId": "a", "imageEditPrompt": "[sandbox:no-face]"}
    (output,) = query(handler, submit(handler, "product_avatar_replace_product_image", given)).outputs
    assert output.details["faceExistence"] is False
    video = {"productReplaceResultKey": output.details["key"]}
    for mode in ({"mode": "pro"}, {}):
        with pytest.raises(Rejected, match="avatar2") as caught:
            submit(handler, "product_avatar_image2video", {**video, **mode})
        assert caught.value.error.code is ErrorCode.INVALID_INPUT
    task = submit(handler, "product_avatar_image2video", {**video, "mode": "avatar2"})
    assert query(handler, task).status is RemoteStatus.SUCCEEDED


# -- SuperApp --------------------------------------------------------------------------------------


def test_a_success_with_an_empty_path_is_a_failure(start: Start) -> None:
    """Success without anything to fetch is no success."""
    sandbox = start(time_scale=0, superapp_shape="blank-path")
    handler = handler_for(sandbox, "superapp")
    update = query(handler, submit(handler, "text2image", {**PICTURE, "inputText": "[sandbox:empty]"}))
    assert json.loads(update.raw)["model"]["ossPath"] == ""
    assert update.error is not None
    assert (update.status, update.error.code) == (RemoteStatus.FAILED, ErrorCode.EMPTY_RESULT)


@pytest.mark.parametrize(
    ("code", "status", "meaning"),
    [
        ("INTCNN_COMMON_AUTH_CHECK_ERROR", 401, ErrorCode.AUTHENTICATION),
        ("INTCNN_COMMON_PARAM_VALID_ERROR", 400, ErrorCode.INVALID_INPUT),
        ("INTCNN_COMMON_NOT_FOUND", 500, ErrorCode.NOT_FOUND),
        ("INTCNN_COMMON_SYS_ERROR", 500, OutcomeUnknown),
        ("INTCNN_SOMETHING_NEW", 503, OutcomeUnknown),
    ],
)
def test_a_refusal_with_any_http_status_is_read_by_its_code(start: Start, code: str, status: int, meaning: Any) -> None:
    """`success: false` decides, whatever HTTP status comes with it; an unknown outcome stays unknown."""
    sandbox = start(time_scale=0)
    handler = handler_for(sandbox, "superapp")
    text = f"[sandbox:code={code}][sandbox:http={status}]"
    with pytest.raises(meaning if isinstance(meaning, type) else Rejected) as caught:
        submit(handler, "text2image", {**PICTURE, "inputText": text})
    assert (sandbox.world.calls[-1]["verdict"], sandbox.world.calls[-1]["status"]) == (code, status)
    if isinstance(caught.value, Rejected):
        assert caught.value.error.code is meaning


def test_a_query_that_breaks_with_a_code_is_asked_again(start: Start) -> None:
    """A system error in an HTTP 500 says nothing of the task; the next query does."""
    sandbox = start(time_scale=0)
    handler = handler_for(sandbox, "superapp")
    text = "[sandbox:query-code=INTCNN_COMMON_SYS_ERROR*1][sandbox:query-http=500*1]"
    task = submit(handler, "text2image", {**PICTURE, "inputText": text})
    with pytest.raises(Unavailable, match="refused the call"):
        query(handler, task)
    assert (sandbox.world.calls[-1]["verdict"], sandbox.world.calls[-1]["status"]) == ("INTCNN_COMMON_SYS_ERROR", 500)
    assert query(handler, task).status is RemoteStatus.SUCCEEDED


# -- ApsaraVideo VOD -------------------------------------------------------------------------------


def test_throttling_says_when_to_come_back(start: Start) -> None:
    """The header with HTTP 400 is honoured, for submits and for queries, and absent unless it is set."""
    job = {"VideoId": "v", "AITemplateId": "t", "UserData": '{"Extend":"[sandbox:code=Throttling.User]"}'}
    for option, wait in (({}, None), ({"apsaravideo_vod_retry_after": "2500"}, 2.5)):
        sandbox = start(time_scale=0, options=option)
        with pytest.raises(Unavailable) as caught:
            submit(handler_for(sandbox, "apsaravideo_vod"), "submit_ai_image_job", job)
        assert caught.value.retry_after == wait
        assert sandbox.world.calls[-1]["status"] == 400


def test_an_event_in_its_other_form_is_read(start: Start, listener: Listener) -> None:
    """VideoId for MediaId, Data that is no text, milliseconds behind a colon: the job and its images are found."""
    shape = "video-id,plain-data,milliseconds"
    handler = handler_for(start(time_scale=0, apsaravideo_vod_shape=shape), "apsaravideo_vod")
    task = submit(handler, "submit_ai_image_job", {"VideoId": "v", "AITemplateId": "t"}, listener.url)
    heard = listener.wait_for(1)[0]
    assert heard.body["VideoId"] == "v"
    assert "MediaId" not in heard.body
    assert isinstance(heard.body["Data"], list)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d:\d{3}Z", heard.body["EventTime"])
    update = read(handler, heard, listener.url, task)
    assert (update.status, len(update.outputs)) == (RemoteStatus.SUCCEEDED, 3)


# -- Img Open --------------------------------------------------------------------------------------


def test_three_still_runs(start: Start) -> None:
    """A drawing whose V2.0 status is 3 is asked after again, until it is done."""
    sandbox = start(time_scale=1, duration=100, img_open_status_v2="three")
    handler = handler_for(sandbox, "img_open")
    task = submit(handler, "sd_text2image", {"prompt": "a cat", "batch_size": 1})
    sandbox.world.shift(50)
    running = query(handler, task)
    assert json.loads(running.raw)["data"]["status"] == 3
    assert (running.status, running.unknown_status) == (RemoteStatus.RUNNING, None)
    sandbox.world.shift(51)
    assert query(handler, task).status is RemoteStatus.SUCCEEDED


# -- choosing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["round", "envelope,round", "envelope failed"])
def test_a_form_that_does_not_exist_is_refused_at_the_start(text: str) -> None:
    """A misspelled form does not silently leave the usual one."""
    with pytest.raises(ValueError, match="topview_shape must be one of"):
        SandboxSettings(options={"topview_shape": text})
    assert SandboxSettings(options={"topview_shape": " envelope ,failed,"}).chosen("topview", "shape") == {
        "envelope",
        "failed",
    }
