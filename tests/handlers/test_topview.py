"""TopView: every common promise, and what its calls send and mean."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

import handlers
from handlers import (
    ErrorCode,
    OutcomeUnknown,
    Rejected,
    RemoteStatus,
    Reply,
    Unavailable,
)
from handlers._topview_table import FLOWS
from tests.handlers.conformance import (
    CALLBACK_URL,
    ErrorSample,
    HandlerConformance,
    NoticeSample,
    QuerySample,
    SubmitSample,
)
from tests.handlers.fake_provider import Answer, FakeProvider, json_answer
from tests.handlers.topview_samples import (
    ACCEPTED,
    BIZ_TYPES,
    ECHO,
    ID,
    INPUTS,
    LINK,
    PATHS,
    SETTINGS,
    UID,
    VIDEOS,
    asked,
    envelope,
    make,
    notice,
    notice_body,
    submitted,
)


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
        ErrorSample(envelope(None, "7000", status=500), OutcomeUnknown, Unavailable),
        ErrorSample(envelope(None, "-1", status=502), OutcomeUnknown, Unavailable),
        ErrorSample(envelope(VIDEOS, "0"), OutcomeUnknown, Unavailable),
        ErrorSample(envelope(None, "4000", status=500), ErrorCode.INVALID_INPUT, ErrorCode.INVALID_INPUT),
        ErrorSample(envelope({"status": "success"}), OutcomeUnknown),
        ErrorSample(envelope({"status": "fail", "errorMsg": "no"}), ErrorCode.PROVIDER_ERROR, RemoteStatus.FAILED),
        ErrorSample(envelope(None), OutcomeUnknown, Unavailable),
        ErrorSample(envelope(VIDEOS, status=500), OutcomeUnknown, Unavailable),
        ErrorSample(envelope(VIDEOS, status=302), OutcomeUnknown, Unavailable),
        ErrorSample(envelope(VIDEOS, status=408), OutcomeUnknown, Unavailable),
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
    assert len(remote.requests) == 2
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
