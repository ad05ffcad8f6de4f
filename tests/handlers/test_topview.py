"""TopView: acceptance, states, codes, notices, uploads and reads, and every common promise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

import handlers
from handlers import (
    BadNotice,
    BadSignature,
    ErrorCode,
    Handler,
    Malformed,
    Notice,
    NotSupported,
    OutcomeUnknown,
    Rejected,
    RemoteStatus,
    RemoteTask,
    Reply,
    Submission,
    Unavailable,
    Upload,
    UploadTicket,
)
from handlers._topview_table import FLOWS
from tests.handlers.conformance import (
    CALLBACK_URL,
    NOW,
    ErrorSample,
    HandlerConformance,
    NoticeSample,
    QuerySample,
    SubmitSample,
)
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
    """A notice's body, with changes."""
    whole = {
        "uuid": "uuid-1",
        "bizType": "COMMON_TASK_TEXT2VIDEO",
        "taskId": ID,
        "status": "success",
        "errorMsg": None,
        "result": VIDEOS,
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


class TestConformance(HandlerConformance):
    provider = "topview"
    settings = SETTINGS
    credential_headers = ("Authorization",)
    submits = tuple(SubmitSample(name, given, [ACCEPTED], ID, path=PATHS[name][0]) for name, given in INPUTS.items())
    queries = (
        QuerySample("common_task_text2video", envelope(VIDEOS), RemoteStatus.SUCCEEDED, ID, kinds=["video"]),
        QuerySample(
            "product_avatar_replace_product_image",
            envelope({"taskStatus": "success", "productReplaceResult": [{"key": "k", "url": LINK}]}),
            RemoteStatus.SUCCEEDED,
            ID,
            kinds=["image"],
        ),
        QuerySample("m2v_preview", envelope({"status": "init"}, code=200), RemoteStatus.QUEUED, ID),
        QuerySample("m2v_preview", envelope({"status": "Running"}), RemoteStatus.RUNNING, ID),
        QuerySample("voice_clone", envelope({"status": "processing"}), RemoteStatus.RUNNING, ID),
        QuerySample(
            "common_task_image2video",
            envelope({"status": "fail", "errorMsg": "no face"}),
            RemoteStatus.FAILED,
            ID,
            error=ErrorCode.PROVIDER_ERROR,
        ),
        QuerySample(
            "common_task_image2video",
            envelope({"status": "failed", "errorMsg": "no", "errorCode": 6001}),
            RemoteStatus.FAILED,
            ID,
            error=ErrorCode.CONTENT_POLICY,
        ),
        QuerySample(
            "common_task_text2image",
            envelope({"status": "success", "images": [{"status": "fail", "errorMsg": "odd"}]}),
            RemoteStatus.FAILED,
            ID,
            kinds=["image"],
            error=ErrorCode.EMPTY_RESULT,
        ),
        QuerySample(
            "scraper",
            envelope(
                {"status": "success", "productName": "Cup", "productImages": [LINK, {"fileId": "f", "url": LINK}]}
            ),
            RemoteStatus.SUCCEEDED,
            ID,
            kinds=["data", "image", "image"],
        ),
    )
    errors = (
        ErrorSample(envelope(None, "401"), ErrorCode.AUTHENTICATION, ErrorCode.AUTHENTICATION),
        ErrorSample(envelope(None, 4000), ErrorCode.INVALID_INPUT, ErrorCode.INVALID_INPUT),
        ErrorSample(envelope(None, "4001"), ErrorCode.INVALID_INPUT, ErrorCode.INVALID_INPUT),
        ErrorSample(envelope(None, "4002"), ErrorCode.AUTHENTICATION, ErrorCode.AUTHENTICATION),
        ErrorSample(envelope(None, "4003"), ErrorCode.INVALID_INPUT, ErrorCode.INVALID_INPUT),
        ErrorSample(envelope(None, "4004"), ErrorCode.NOT_FOUND, RemoteStatus.FAILED),
        ErrorSample(envelope(None, "4005"), ErrorCode.INVALID_INPUT, ErrorCode.INVALID_INPUT),
        ErrorSample(envelope(None, "4006"), ErrorCode.PERMISSION, ErrorCode.PERMISSION),
        ErrorSample(envelope(None, "4007"), Unavailable, Unavailable, retry_after=30),
        ErrorSample(envelope(None, "4100"), ErrorCode.INSUFFICIENT_CREDIT, ErrorCode.INSUFFICIENT_CREDIT),
        ErrorSample(envelope(None, "5000"), OutcomeUnknown, Unavailable),
        ErrorSample(envelope(None, "5001", status=500), OutcomeUnknown, Unavailable),
        ErrorSample(envelope(None, 5003), Unavailable, Unavailable, retry_after=15),
        ErrorSample(envelope(None, "5004"), OutcomeUnknown, Unavailable),
        ErrorSample(envelope(None, "5005"), OutcomeUnknown, Unavailable),
        ErrorSample(envelope(None, "6001"), ErrorCode.CONTENT_POLICY, RemoteStatus.FAILED),
        ErrorSample(envelope(None, "4017"), ErrorCode.INVALID_INPUT, ErrorCode.INVALID_INPUT),
        ErrorSample(envelope(None, "5999"), OutcomeUnknown, Unavailable),
        ErrorSample(envelope(None, "7000"), ErrorCode.PROVIDER_ERROR, ErrorCode.PROVIDER_ERROR),
        ErrorSample(envelope({"status": "success"}), OutcomeUnknown),
        ErrorSample(envelope({"status": "fail", "errorMsg": "no"}), ErrorCode.PROVIDER_ERROR, RemoteStatus.FAILED),
        ErrorSample(envelope(None), OutcomeUnknown, Unavailable),
        ErrorSample(envelope(VIDEOS, status=500), OutcomeUnknown, Unavailable),
        ErrorSample(envelope(VIDEOS, status=401), ErrorCode.AUTHENTICATION, ErrorCode.AUTHENTICATION),
        ErrorSample(json_answer({"error": "gateway"}, 404), ErrorCode.NOT_FOUND, Unavailable),
        ErrorSample(json_answer({"result": VIDEOS}), OutcomeUnknown, Unavailable),
        ErrorSample(envelope({**VIDEOS, "taskId": "another"}), on_query=Unavailable),
        ErrorSample(Answer(b"", 302, {"Location": "http://127.0.0.1:9/"}), Unavailable, Unavailable),
    )
    notices = (
        NoticeSample(notice_body(), RemoteStatus.SUCCEEDED, asked(), UID, kinds=["video"], reply=ECHO),
        NoticeSample(
            notice_body(uuid="uuid-2", result=json.dumps(VIDEOS)),
            RemoteStatus.SUCCEEDED,
            asked(provider_id=None),
            UID,
            kinds=["video"],
        ),
        NoticeSample(
            notice_body(uuid="uuid-3", result={"code": "200", "message": "Success", "result": VIDEOS}),
            RemoteStatus.SUCCEEDED,
            asked(state={"noticeUuid": "uuid-3"}),
            UID,
            kinds=["video"],
        ),
        NoticeSample(
            notice_body(uuid="uuid-4", status="fail", errorMsg="no face", result=None),
            RemoteStatus.FAILED,
            asked(),
            UID,
            error=ErrorCode.PROVIDER_ERROR,
        ),
    )
    bad_notices = (
        notice(uid="somebody-else"),
        notice(uid=""),
        notice(notice_body(taskId="other")),
        notice(notice_body(uuid=None)),
        notice(notice_body(status=None)),
        notice(task=asked(state={"noticeUuid": "uuid-9"})),
        notice(b'"success"'),
    )
    junk_reply = Reply(
        b'{"code":"400","message":"Malformed notice","result":{"uuid":null,"topviewUid":"demo-uid-1","result":"fail"}}',
        status=400,
    )

    def with_status(self, sample: QuerySample, word: str) -> Answer:
        answer = json.loads(sample.answer.body)
        name = "taskStatus" if "taskStatus" in answer["result"] else "status"
        answer["result"][name] = word
        return json_answer(answer)


@pytest.fixture
def remote() -> Iterator[FakeProvider]:
    """The provider's side."""
    with FakeProvider() as provider:
        yield provider


def make(remote: FakeProvider, **more: str) -> Handler:
    """A handler that talks to it."""
    return handlers.load("topview", {**SETTINGS, "base_url": remote.url, **more}, clock=lambda: NOW)


def submitted(handler: Handler, operation: str, given: dict[str, Any], url: str | None = None) -> handlers.Receipt:
    """Validate and submit."""
    loaded = handler.operations[operation].schema().load(given)
    return handler.submit(Submission("task_1", operation, loaded, url))


def test_all_fourteen_business_types_are_there() -> None:
    """Every documented bizType is an operation, named by it in lower case, newer versions by a suffix."""
    assert {flow.biz_type for flow in FLOWS.values()} - {None} == BIZ_TYPES
    assert {word.lower() for word in BIZ_TYPES} <= set(FLOWS)
    for name, flow in FLOWS.items():
        if flow.biz_type:
            assert name.removesuffix("_v2").removesuffix("_v3") == flow.biz_type.lower()


def test_what_is_only_assumed_is_called_experimental() -> None:
    """A caller can see from the listing which operations rest on paths by analogy."""
    operations = handlers.find("topview").operations
    assert {name for name, operation in operations.items() if operation.experimental} == {
        "m2v_script",
        "product_avatar_image2video",
        "product_any_shoot",
        "product_any_shoot_v3",
    }


def test_every_call_carries_the_two_credentials(remote: FakeProvider) -> None:
    """The uid and the bearer key are on submits and on queries, spelled as documented."""
    handler = make(remote)
    remote.answer(ACCEPTED, envelope(VIDEOS))
    submitted(handler, "common_task_text2video", INPUTS["common_task_text2video"])
    handler.query([asked()])
    for request in remote.requests:
        assert dict(request.headers)["Topview-Uid"] == "demo-uid-1"
        assert dict(request.headers)["Authorization"] == "Bearer sk-demo-1-never-shown"


def test_the_body_is_the_input_and_our_notice_url(remote: FakeProvider) -> None:
    """Nothing is added to the caller's fields but the address of our own."""
    handler = make(remote)
    remote.answer(ACCEPTED)
    receipt = submitted(handler, "voice_clone", INPUTS["voice_clone"], CALLBACK_URL)
    assert remote.last.json() == {**INPUTS["voice_clone"], "noticeUrl": CALLBACK_URL}
    assert receipt.state == {"noticeUuid": "uuid-1"}


@pytest.mark.parametrize("operation", PATHS)
def test_queries_go_to_the_path_of_the_table(remote: FakeProvider, operation: str) -> None:
    """Paths differ in three ways between operations; each has its own, case included."""
    handler = make(remote)
    remote.answer(envelope({"status": "running"}))
    handler.query([asked(operation)])
    assert (remote.last.method, remote.last.path, remote.last.query) == ("GET", PATHS[operation][1], {"taskId": ID})


def test_single_paths_can_be_overridden(remote: FakeProvider) -> None:
    """A path that is assumed wrongly, or that moved, is mended by a setting."""
    handler = make(remote, paths="product_any_shoot_v3.submit=/v3/x, product_any_shoot.query=/v9/y,voices.fetch=/v2/z")
    remote.answer(ACCEPTED, envelope({"status": "running"}), envelope([]), ACCEPTED)
    submitted(handler, "product_any_shoot_v3", {})
    handler.query([asked("product_any_shoot")])
    handler.fetch("voices", {})
    submitted(handler, "voice_clone", INPUTS["voice_clone"])
    assert [request.path for request in remote.requests] == ["/v3/x", "/v9/y", "/v2/z", PATHS["voice_clone"][0]]


@pytest.mark.parametrize("text", ["nonsense", "scraper.submit", "scraper.submit=v1/x", "a.b=/x", "scraper.query=/x?y"])
def test_overrides_that_cannot_work_are_refused_at_the_start(text: str) -> None:
    """A slip in the setting is told before anything runs."""
    with pytest.raises(handlers.ConfigurationError) as caught:
        handlers.load("topview", {**SETTINGS, "paths": text})
    assert "TOPVIEW_PATHS" in str(caught.value)


def test_previews_and_whole_videos_say_which_they_are(remote: FakeProvider) -> None:
    """One path serves previews and whole videos; ``preview`` tells them apart, and an export has its own path."""
    handler = make(remote)
    remote.answer(ACCEPTED)
    submitted(handler, "m2v_preview", INPUTS["m2v_preview"])
    submitted(handler, "m2v_export", INPUTS["m2v_preview"])
    submitted(handler, "m2v_export", INPUTS["m2v_export"])
    assert [(request.path, request.json().get("preview")) for request in remote.requests] == [
        ("/v1/m2v/task/submit", True),
        ("/v1/m2v/task/submit", False),
        ("/v1/m2v/export", None),
    ]


def test_an_export_without_an_id_of_its_own_keeps_the_previews(remote: FakeProvider) -> None:
    """Where the answer names no task, the task that was continued is asked for."""
    handler = make(remote)
    remote.answer(envelope(True))
    assert submitted(handler, "m2v_export", INPUTS["m2v_export"]).provider_task_id == "preview-1"
    with pytest.raises(OutcomeUnknown):
        submitted(handler, "m2v_export", INPUTS["m2v_preview"])


def test_acceptance_is_not_success(remote: FakeProvider) -> None:
    """``status: success`` right after the submit says that the task was taken, nothing more."""
    handler = make(remote)
    remote.answer(ACCEPTED)
    assert submitted(handler, "voice_clone", INPUTS["voice_clone"]).update is None


def test_a_refused_acceptance_is_a_rejection(remote: FakeProvider) -> None:
    """``status: fail`` in the submit's answer ends the task with the provider's reason."""
    handler = make(remote)
    remote.answer(envelope({"taskId": ID, "status": "fail", "errorMsg": "bad voice"}))
    with pytest.raises(Rejected) as caught:
        submitted(handler, "voice_clone", INPUTS["voice_clone"])
    assert caught.value.error.provider_message == "bad voice"


def test_waits_are_settings(remote: FakeProvider) -> None:
    """How long to stay away after 4007 and 5003 is the operator's choice."""
    handler = make(remote, busy_wait="3", unfinished_wait="4")
    for code, seconds in (("5003", 3), ("4007", 4)):
        remote.answer(envelope(None, code))
        with pytest.raises(Unavailable) as caught:
            handler.query([asked()])
        assert caught.value.retry_after == seconds


def test_a_task_that_is_not_found_is_given_a_grace(remote: FakeProvider) -> None:
    """For ten seconds after the submit a task may be unknown; after that it is lost, and says so."""
    handler = make(remote)
    remote.answer(envelope(None, "4004", "Resource not found!"))
    with pytest.raises(Unavailable):
        handler.query([asked(age=9.9)])
    update = handler.query([asked(age=10.1)])["task_1"]
    assert update.status is RemoteStatus.FAILED
    assert update.error is not None
    assert (update.error.code, update.error.provider_code) == (ErrorCode.NOT_FOUND, "4004")


def test_cdn_links_are_asked_for_when_set(remote: FakeProvider) -> None:
    """The operator may prefer CDN links to the storage's own."""
    remote.answer(envelope({"status": "running"}))
    make(remote, cdn_urls="true").query([asked()])
    assert remote.last.query == {"taskId": ID, "needCloudFrontUrl": "true"}


def test_an_unreachable_task_id_stays_a_parameter(remote: FakeProvider) -> None:
    """Whatever id the provider gave, it is sent as one parameter's value."""
    handler = make(remote)
    remote.answer(envelope({"status": "running"}))
    handler.query([asked(provider_id="a&b=1#/../é")])
    assert remote.last.query == {"taskId": "a&b=1#/../é"}


# -- notices ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "result", [None, "", "not json", 7, [], {}, {"status": "success"}, {"code": "5000", "result": VIDEOS}]
)
def test_a_success_notice_without_a_readable_result_leaves_it_to_the_query(remote: FakeProvider, result: Any) -> None:
    """The shape of ``result`` is assumed, so no task fails because a notice was understood differently."""
    update = make(remote).read(notice(notice_body(result=result)))
    assert update.status is RemoteStatus.RUNNING
    assert update.outputs == ()


def test_an_unknown_word_in_a_notice_ends_nothing(remote: FakeProvider) -> None:
    """A new status word is reported, and the task goes on."""
    update = make(remote).read(notice(notice_body(status="paused")))
    assert (update.status, update.unknown_status) == (RemoteStatus.RUNNING, "paused")


def test_the_notices_reason_wins_over_the_results(remote: FakeProvider) -> None:
    """The reason of a failure is taken from the notice, else from the result inside it."""
    handler = make(remote)
    both = handler.read(notice(notice_body(status="fail", errorMsg="outer", result={"errorMsg": "inner"})))
    inner = handler.read(notice(notice_body(status="fail", errorMsg="", result={"errorMsg": "inner"})))
    assert both.error is not None
    assert inner.error is not None
    assert (both.error.provider_message, inner.error.provider_message) == ("outer", "inner")


def test_the_uid_check_can_be_switched_off(remote: FakeProvider) -> None:
    """Should the provider leave the header out, the operator can take its notices all the same."""
    with pytest.raises(BadSignature):
        make(remote).verify(notice(uid=""))
    make(remote, check_notice_uid="false").verify(notice(uid=""))


def test_a_notice_id_tells_the_outcome_too(remote: FakeProvider) -> None:
    """The same uuid with another status is another statement, not a repetition."""
    handler = make(remote)
    assert handler.notice_id(notice()) == "uuid-1:success"
    assert handler.notice_id(notice(notice_body(status="FAIL"))) == "uuid-1:fail"
    assert handler.notice_id(notice(b"{}")) is None


def test_forged_notices_are_answered_without_our_secrets(remote: FakeProvider) -> None:
    """An answer to anybody holds the uid that they sent us anyway, never the key."""
    assert b"sk-demo" not in make(remote).reply(notice(notice_body(uuid="forged"))).body
    with pytest.raises(BadNotice):
        make(remote).read(notice(notice_body(uuid=" ")))
    with pytest.raises(Malformed):
        make(remote).read(Notice({}, {}, notice_body(), CALLBACK_URL, 0, None))


# -- uploads and reads -------------------------------------------------------------------------------


def test_an_upload_goes_through_its_three_steps(remote: FakeProvider) -> None:
    """Credential, a PUT that carries none of our headers, and the check."""
    handler = make(remote)
    ticket_answer = {"fileId": "file-1", "uploadUrl": "https://s3.test/put?X-Amz-Signature=x", "fileName": "n.png"}
    remote.answer(envelope(ticket_answer), envelope(True))
    ticket = handler.begin_upload(Upload("Photo of me.PNG", "image/png", 3))
    assert (remote.last.path, remote.last.query) == ("/v1/upload/credential", {"format": "png"})
    assert (ticket.file_id, ticket.url, dict(ticket.headers)) == ("file-1", ticket_answer["uploadUrl"], {})
    assert handler.finish_upload(ticket) == {"fileId": "file-1", "fileName": "n.png"}
    assert (remote.last.path, remote.last.query) == ("/v1/upload/check", {"fileId": "file-1"})


def test_a_file_without_an_ending_is_named_by_its_type(remote: FakeProvider) -> None:
    """The provider wants a format; the content type knows it when the name does not."""
    handler = make(remote, accelerated_uploads="true")
    remote.answer(envelope({"fileId": "f", "uploadUrl": "https://s3.test/put"}))
    handler.begin_upload(Upload("photo", "image/webp; x=y", 3))
    assert remote.last.query == {"format": "webp", "needAccelerateUrl": "true"}


@pytest.mark.parametrize("result", [None, {}, {"fileId": "f"}, {"fileId": "f", "uploadUrl": "file:///etc/passwd"}, 1])
def test_an_upload_without_an_address_can_be_tried_again(remote: FakeProvider, result: Any) -> None:
    """Half a credential is no credential."""
    remote.answer(envelope(result))
    with pytest.raises(Unavailable):
        make(remote).begin_upload(Upload("a.png", "image/png", 3))


@pytest.mark.parametrize("result", [False, None, "true", {}])
def test_an_upload_counts_only_when_the_provider_has_it(remote: FakeProvider, result: Any) -> None:
    """Nobody is given a file_id that does not work yet."""
    remote.answer(envelope(result))
    with pytest.raises(Unavailable):
        make(remote).finish_upload(UploadTicket("f", "https://s3.test/put"))


@pytest.mark.parametrize(
    ("resource", "path"),
    [
        ("credit", "/user/credit/detail"),
        ("credit_logs", "/user/credit/logs"),
        ("voices", "/v1/voice/query"),
        ("captions", "/v1/caption/list"),
        ("avatar_categories", "/v1/product_avatar/category/list"),
        ("public_avatars", "/v1/product_avatar/public_avatar/query"),
        ("any_shoot_templates", "/v1/product_anyShoot/template/list"),
    ],
)
def test_resources_are_read_with_the_callers_parameters(remote: FakeProvider, resource: str, path: str) -> None:
    """What a caller needs for an input can be looked up through us."""
    handler = make(remote)
    remote.answer(envelope([{"id": 1}]))
    assert handler.fetch(resource, {"pageNo": "2"}) == [{"id": 1}]
    assert (remote.last.path, remote.last.query) == (path, {"pageNo": "2"})
    assert set(handler.resources) >= {resource}


def test_tasks_cannot_be_canceled(remote: FakeProvider) -> None:
    """The provider knows no such call, and we do not pretend."""
    with pytest.raises(NotSupported):
        make(remote).cancel(asked())
