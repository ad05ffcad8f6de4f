"""ApsaraVideo VOD: the conformance suite with its samples, and what is special about it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from marshmallow import ValidationError

import handlers
from handlers import (
    ConfigurationError,
    ErrorCode,
    Notice,
    OutcomeUnknown,
    Rejected,
    RemoteStatus,
    RemoteTask,
    Reply,
    Submission,
    Unavailable,
)
from handlers._signatures import md5_hex
from handlers.apsaravideo_vod import ApsaraVideoVod
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

SETTINGS = {"access_key_id": "ak-visible", "access_key_secret": "sk-secret-0001"}
KEY, OLD_KEY = "Abc123Demo", "Old456Demo"
INPUT = {"VideoId": "video-1", "AITemplateId": "template-1"}
OPERATION = "submit_ai_image_job"
DONE = {
    "JobId": "remote-1", "VideoId": "video-1", "TemplateId": "template-1", "Status": "success",
    "Code": "Success", "Message": "success", "CreationTime": "2026-01-01T00:00:00Z",
    "AIImageResult": '[{"Score": 0.9, "Url": "http://bucket.test/1.gif"}, {"Score": 0.5, "Url": "http://bucket.test/2.gif"}]',
    "UserData": "{}",
}  # fmt: skip
FAILED = DONE | {"Status": "fail", "Code": "InvalidParameter.Video", "Message": "no picture in it", "AIImageResult": ""}
SIGNED = {
    "AIImageInfoId": "info-1", "JobId": "remote-1", "VideoId": "video-1", "Score": "0.9", "Format": "gif",
    "FileURL": "https://cdn.test/1.gif?auth_key=1-0-0-abc", "Version": "1", "CreationTime": "2026-01-01T00:00:00Z",
}  # fmt: skip


def jobs(*entries: Mapping[str, Any]) -> Answer:
    """An answer of GetAIImageJobs."""
    return json_answer({"RequestId": "r-1", "AIImageJobList": list(entries)})


def images(*entries: Mapping[str, Any]) -> Answer:
    """An answer of ListAIImageInfo."""
    return json_answer({"RequestId": "r-2", "AIImageInfoList": list(entries)})


def refusal(code: str, status: int = 400, **headers: str) -> Answer:
    """An error body of the gateway."""
    body = {"RequestId": "r-3", "HostId": "vod", "Code": code, "Message": "said so"}
    return json_answer(body, status, **headers)


def nothing_but(code: str, status: int, job_id: str | None = None, **headers: str) -> Answer:
    """The same with the members of a success in it, all of them null or empty."""
    jobs: list[str] | None = None if job_id is None else []
    body = {"JobId": job_id, "AIImageJobList": jobs, "AIImageInfoList": jobs, "Code": code, "Message": "said so"}
    return json_answer(body, status, **headers)


def task(number: int = 1, **changes: Any) -> RemoteTask:
    """A task that runs there as ``remote-<number>``."""
    return replace(RemoteTask(f"task_{number}", OPERATION, f"remote-{number}", {}, INPUT, 60.0), **changes)


def event(**fields: Any) -> dict[str, Any]:
    """The event of a finished job, shaped like its documented siblings."""
    return {
        "EventTime": "2026-01-01T00:00:00Z", "EventType": "AIImageComplete", "JobId": "remote-1", "MediaId": "video-1",
        "Status": "success", "Code": "0", "Message": "OK", "Data": DONE["AIImageResult"], "Extend": "{}", **fields,
    }  # fmt: skip


def sign(url: str = CALLBACK_URL, stamp: int = int(NOW), key: str = KEY) -> dict[str, str]:
    """The two headers of a notice."""
    return {"x-vod-timestamp": str(stamp), "x-vod-signature": md5_hex(f"{url}|{stamp}|{key}")}


def notice(body: Mapping[str, Any], **changes: Any) -> Notice:
    """A signed notice at the address of task 1."""
    sample = NoticeSample(json.dumps(body).encode(), RemoteStatus.SUCCEEDED, task(), sign())
    return replace(sample.notice, **changes)


@pytest.fixture
def remote() -> Iterator[FakeProvider]:
    """The provider's side."""
    with FakeProvider() as provider:
        yield provider


def load(remote: FakeProvider | None = None, **settings: str) -> ApsaraVideoVod:
    """The handler with these settings, pointed at the fake provider."""
    given = SETTINGS | ({"base_url": remote.url} if remote else {}) | settings
    return cast("ApsaraVideoVod", handlers.load("apsaravideo_vod", given, clock=lambda: NOW))


def submission(callback_url: str | None = CALLBACK_URL, **more: Any) -> Submission:
    """A validated submission."""
    schema = ApsaraVideoVod.operations[OPERATION].schema()
    return Submission("task_1", OPERATION, schema.load({**INPUT, **more}), callback_url)


class TestConformance(HandlerConformance):
    """Every handler's promises."""

    provider = "apsaravideo_vod"
    settings = SETTINGS | {"callback_key": KEY}
    signature_headers = ("x-vod-timestamp", "x-vod-signature")
    junk_reply = Reply(b"{}")
    submits = (
        SubmitSample(
            OPERATION,
            {**INPUT, "UserData": {"Extend": {"localId": "job-1"}}, "AIPipelineId": "pipe-1"},
            [json_answer({"JobId": "remote-1", "RequestId": "r-1"})],
            "remote-1",
            path="/",
        ),
    )
    queries = (
        QuerySample(OPERATION, jobs(DONE), RemoteStatus.SUCCEEDED, kinds=("image", "image")),
        QuerySample(OPERATION, jobs(FAILED), RemoteStatus.FAILED, error=ErrorCode.INVALID_INPUT),
        QuerySample(
            OPERATION, jobs(FAILED | {"Code": "Whatever"}), RemoteStatus.FAILED, error=ErrorCode.PROVIDER_ERROR
        ),
        QuerySample(OPERATION, jobs(DONE | {"Status": "Processing"}), RemoteStatus.RUNNING),
        QuerySample(OPERATION, jobs(DONE | {"Status": ""}), RemoteStatus.RUNNING),
        QuerySample(OPERATION, jobs(DONE | {"AIImageResult": "[]"}), RemoteStatus.FAILED, error=ErrorCode.EMPTY_RESULT),
    )
    errors = (
        ErrorSample(refusal("MissingParameter"), ErrorCode.INVALID_INPUT, ErrorCode.INVALID_INPUT),
        ErrorSample(refusal("InvalidParameter"), ErrorCode.INVALID_INPUT, ErrorCode.INVALID_INPUT),
        ErrorSample(refusal("InvalidVideo.NotFound", 404), ErrorCode.NOT_FOUND, ErrorCode.NOT_FOUND),
        ErrorSample(refusal("OperationDenied", 403), ErrorCode.PERMISSION, ErrorCode.PERMISSION),
        ErrorSample(refusal("OperationDenied.Suspended", 403), ErrorCode.INSUFFICIENT_CREDIT),
        ErrorSample(refusal("Forbidden.RAM", 403), ErrorCode.PERMISSION, ErrorCode.PERMISSION),
        ErrorSample(refusal("SignatureDoesNotMatch"), ErrorCode.AUTHENTICATION, ErrorCode.AUTHENTICATION),
        ErrorSample(refusal("InvalidAccessKeyId.NotFound", 404), ErrorCode.AUTHENTICATION),
        ErrorSample(refusal("InvalidTimeStamp.Expired"), ErrorCode.AUTHENTICATION, ErrorCode.AUTHENTICATION),
        ErrorSample(refusal("IncompleteSignature"), ErrorCode.AUTHENTICATION),
        ErrorSample(refusal("UnsupportedOperation"), ErrorCode.PROVIDER_ERROR),
        ErrorSample(refusal("SignatureNonceUsed"), Unavailable, Unavailable),
        ErrorSample(refusal("Throttling.User", x_acs_retry_after="1500"), Unavailable, Unavailable, retry_after=1.5),
        ErrorSample(refusal("Throttling"), Unavailable, Unavailable),
        ErrorSample(refusal("Throttling.Api"), Unavailable, Unavailable),
        ErrorSample(refusal("ServiceUnAvailable", 503), Unavailable, Unavailable),
        ErrorSample(refusal("ServiceUnavailable", 503), Unavailable, Unavailable),
        ErrorSample(refusal("InternalError", 500), OutcomeUnknown, Unavailable),
        ErrorSample(refusal("NeverHeardOf", 500), OutcomeUnknown, Unavailable),
        ErrorSample(json_answer({"RequestId": "r-1"}), OutcomeUnknown),
        ErrorSample(refusal("Success", 200), OutcomeUnknown, Unavailable),  # no error of the provider comes so
        ErrorSample(refusal("MissingParameter", 200), ErrorCode.INVALID_INPUT, ErrorCode.INVALID_INPUT),
        ErrorSample(nothing_but("Throttling.User", 400, x_acs_retry_after="1500"), Unavailable, Unavailable, 1.5),
        ErrorSample(nothing_but("Throttling.User", 400, "", x_acs_retry_after="1500"), Unavailable, Unavailable, 1.5),
        ErrorSample(nothing_but("OperationDenied.Suspended", 403), ErrorCode.INSUFFICIENT_CREDIT),
        ErrorSample(json_answer({"RequestId": "r-1", "JobId": "job-1"}, 408), OutcomeUnknown),
        ErrorSample(json_answer({"RequestId": "r-1", "JobId": "job-1"}, 302), OutcomeUnknown),
        ErrorSample(json_answer({"RequestId": "r-1"}, 403), ErrorCode.PERMISSION, ErrorCode.PERMISSION),
        ErrorSample(Answer(b"<Error/>", 400), ErrorCode.INVALID_INPUT, Unavailable),
    )
    notices = (
        NoticeSample(json.dumps(event()).encode(), RemoteStatus.SUCCEEDED, task(), sign(), kinds=("image", "image")),
        NoticeSample(
            json.dumps(event(Status="fail", Code="InternalError", Message="broke", Data="")).encode(),
            RemoteStatus.FAILED,
            task(),
            sign(),
            error=ErrorCode.PROVIDER_ERROR,
        ),
    )
    bad_notices = (
        notice(event(JobId="another")),
        notice(event(), url="https://elsewhere.example.test/callbacks"),
        notice(event(), headers=sign(key="WrongKey1")),
        notice(event(), received_at=int(NOW * 1000) + 301_000),
    )

    def with_status(self, sample: QuerySample, word: str) -> Answer:
        """The job's Status."""
        value = json.loads(sample.answer.body)
        value["AIImageJobList"][0]["Status"] = word
        return json_answer(value)


# -- settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "host"),
    [
        ({}, "vod.cn-shanghai.aliyuncs.com"),
        ({"region": "cn-beijing"}, "vod.cn-beijing.aliyuncs.com"),
        ({"region": "cn-hangzhou"}, "vod.cn-shanghai.aliyuncs.com"),
        ({"region": "cn-beijing", "base_url": "https://vod.aliyuncs.com"}, "vod.aliyuncs.com"),
    ],
)
def test_the_region_chooses_the_address_unless_one_is_given(settings: dict[str, str], host: str) -> None:
    """Each region has its host; Hangzhou is served by Shanghai; BASE_URL wins."""
    assert load(**settings).http.host == host


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"region": "eu-central-1"}, "APSARAVIDEO_VOD_REGION must be cn-shanghai or cn-beijing"),
        ({"signing": "v4"}, "APSARAVIDEO_VOD_SIGNING must be one of acs3, rpc"),
        ({"callback_key": "One1,Two2,Three3"}, "APSARAVIDEO_VOD_CALLBACK_KEY must be one key"),
        ({"callback_key": "One1,"}, "APSARAVIDEO_VOD_CALLBACK_KEY must be one key"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_the_start(settings: dict[str, str], named: str) -> None:
    """The operator reads which variable is wrong and what is allowed, and no key."""
    with pytest.raises(ConfigurationError, match=named) as caught:
        load(**settings)
    assert "Three3" not in str(caught.value)


# -- calls -----------------------------------------------------------------------------------------


def test_a_signed_call_has_the_documented_form(remote: FakeProvider) -> None:
    """POST to / with the parameters in the query, an empty body, and a header for each signed name."""
    remote.answer(json_answer({"JobId": "j"}))
    load(remote).submit(submission())
    request = remote.last
    assert (request.method, request.path, request.body) == ("POST", "/", b"")
    assert request.header("Content-Length") == "0"
    assert request.header("Host") == urlsplit(remote.url).netloc
    authorization = request.header("Authorization") or ""
    signed = authorization.split("SignedHeaders=")[1].split(",")[0].split(";")
    assert {name for name, _ in request.headers if name.startswith("x-acs-")} < set(signed)
    assert all(request.header(name) for name in signed)
    assert request.header("x-acs-action") == "SubmitAIImageJob"
    assert request.header("x-acs-version") == "2017-03-21"
    assert request.header("x-acs-date") == "2026-01-01T00:00:00Z"
    assert re.fullmatch(r"/\?[A-Za-z0-9%&=_.~-]+", request.target)


def test_rpc_signing_is_a_setting(remote: FakeProvider) -> None:
    """With ``signing=rpc`` everything travels as parameters, JSON asked for, the token included."""
    remote.answer(json_answer({"JobId": "j"}))
    load(remote, signing="rpc", security_token="sts-1").submit(submission())
    sent = remote.last.query
    assert (sent["Action"], sent["Format"], sent["SignatureMethod"]) == ("SubmitAIImageJob", "JSON", "HMAC-SHA1")
    assert (sent["SecurityToken"], sent["AccessKeyId"]) == ("sts-1", "ak-visible")
    assert sent["Signature"]
    assert remote.last.header("Authorization") is None


def test_every_call_has_its_own_nonce(remote: FakeProvider) -> None:
    """The gateway refuses a nonce it has seen, so none is used twice."""
    remote.answer(json_answer({"JobId": "j"}))
    handler = load(remote)
    for _ in range(3):
        handler.submit(submission())
    assert len({request.header("x-acs-signature-nonce") for request in remote.requests}) == 3


# -- UserData --------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [{"Extend": {"localId": "é"}}, '{"Extend": {"localId": "é"}}'])
def test_user_data_holds_our_callback_beside_the_callers_extend(remote: FakeProvider, given: Any) -> None:
    """Object or JSON text, the caller's Extend is kept and our address is added as a nested object."""
    remote.answer(json_answer({"JobId": "j"}))
    load(remote).submit(submission(UserData=given))
    assert json.loads(remote.last.query["UserData"]) == {
        "MessageCallback": {"CallbackURL": CALLBACK_URL, "CallbackType": "http"},
        "Extend": {"localId": "é"},
    }


def test_user_data_members_can_be_texts(remote: FakeProvider) -> None:
    """Where the provider wants JSON texts inside, and another CallbackType, settings say so."""
    remote.answer(json_answer({"JobId": "j"}))
    handler = load(remote, user_data_members="text", callback_type="HTTP")
    handler.submit(submission(UserData={"Extend": {"a": 1}}))
    sent = json.loads(remote.last.query["UserData"])
    assert sent["Extend"] == '{"a":1}'
    assert json.loads(sent["MessageCallback"])["CallbackType"] == "HTTP"


def test_without_a_callback_and_extend_there_is_no_user_data(remote: FakeProvider) -> None:
    """The provider refuses UserData with neither member, so none is sent."""
    remote.answer(json_answer({"JobId": "j"}))
    load(remote).submit(submission(callback_url=None))
    assert "UserData" not in remote.last.query


def test_an_extend_that_leaves_no_room_for_the_callback_is_refused(remote: FakeProvider) -> None:
    """512 bytes, not characters: one byte too many is refused before the provider is called, with the numbers."""
    remote.answer(json_answer({"JobId": "j"}))
    handler = load(remote)
    empty = {"MessageCallback": {"CallbackURL": CALLBACK_URL, "CallbackType": "http"}, "Extend": ""}
    room = 512 - len(json.dumps(empty, separators=(",", ":")))
    handler.submit(submission(UserData={"Extend": "é" * (room // 2) + "x" * (room % 2)}))
    assert len(remote.last.query["UserData"].encode()) == 512
    with pytest.raises(Rejected, match=r"UserData is 513 bytes .* at least 1 bytes") as caught:
        handler.submit(submission(UserData={"Extend": "é" * (room // 2) + "x" * (room % 2 + 1)}))
    assert caught.value.error.code is ErrorCode.INVALID_INPUT
    assert len(remote.requests) == 1


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"UserData": "not json"}, "UserData"),
        ({"UserData": [1]}, "UserData"),
        ({"UserData": {"Extend": "é" * 260}}, "UserData"),
        ({"UserData": {"MessageCallback": {"CallbackURL": "https://mine.test"}}}, "UserData"),
        ({"Action": "DeleteVideo"}, "Action"),
        ({"VideoId": ""}, "VideoId"),
    ],
)
def test_input_that_cannot_work_is_refused_by_name(bad: dict[str, Any], field: str) -> None:
    """Broken or too long UserData, our own members of it and the gateway's own parameters are named."""
    with pytest.raises(ValidationError) as caught:
        submission(**bad)
    assert list(caught.value.normalized_messages()) == [field]


def test_parameters_that_are_no_texts_go_as_json(remote: FakeProvider) -> None:
    """Unknown fields pass through whatever their type, and a lone surrogate does not break signing."""
    remote.answer(json_answer({"JobId": "j"}))
    load(remote).submit(submission(Flag=True, List=[1], Odd="a\ud800b"))
    sent = remote.last.query
    assert (sent["Flag"], sent["List"], sent["Odd"]) == ("true", "[1]", "a?b")
