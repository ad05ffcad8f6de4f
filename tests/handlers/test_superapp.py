"""SuperApp: signatures against the provider's recipe, statuses, odd results, and every common promise."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

import handlers
from handlers import (
    ErrorCode,
    Handler,
    OutcomeUnknown,
    OutputKind,
    Rejected,
    RemoteStatus,
    RemoteTask,
    Submission,
    Unavailable,
)
from handlers.superapp import STATUSES, signature
from tests.handlers.conformance import NOW, ErrorSample, HandlerConformance, QuerySample, SubmitSample
from tests.handlers.fake_provider import Answer, FakeProvider, json_answer
from tests.handlers.samples import json_schema

ID = "6d1f2f1e-9d7a-4a46-8b0c-6f2e6a3c6a01"
ACCEPTED = json_answer({"success": True, "model": ID, "errorCode": None, "errorMsg": None})
URL = "http://superapp.oss-ap-southeast-1.aliyuncs.com/aigc/out-1?Expires=1767232800&OSSAccessKeyId=x&Signature=y"
SETTINGS = {"access_key": "ak-demo-0001", "secret_key": "sk-demo-0001-never-shown"}
CAT = {"inputText": "a cat", "width": 1024, "height": 768}
CAT_VIDEO = {"inputText": "一只猫 🐈", "inputImage": "https://cdn.example.test/cat.png"}
TRY_ON = {
    "modelImage": "https://cdn.example.test/m.png",
    "garmentImage": "http://127.0.0.1:8123/g.jpg",
    "category": "upper",
    "seed": 0,
}


def task_answer(status: object, **more: object) -> Answer:
    """A query's answer about a task in this state."""
    model = {"taskId": ID, "status": status, **more}
    return json_answer({"success": True, "model": model, "errorCode": None, "errorMsg": None})


def failure(code: object, status: int = 200) -> Answer:
    """A call that failed, in the provider's form."""
    return json_answer({"success": False, "model": None, "errorCode": code, "errorMsg": "why"}, status)


def asked(age: float = 60.0, operation: str = "text2image", provider_id: str = ID) -> RemoteTask:
    """A task to ask for."""
    return RemoteTask("task_1", operation, provider_id, {}, {}, age)


class TestConformance(HandlerConformance):
    provider = "superapp"
    settings = SETTINGS
    refusal_is_certain = False
    submits = (
        SubmitSample("text2image", CAT, [ACCEPTED], ID, path="/openapi/v1/aigc/submitTask"),
        SubmitSample("image2video", CAT_VIDEO, [ACCEPTED], ID, path="/openapi/v1/aigc/submitTask"),
        SubmitSample("catvton", TRY_ON, [ACCEPTED], ID, path="/openapi/v1/aigc/submitTask"),
    )
    queries = (
        QuerySample("text2image", task_answer("SUCCESS", ossPath=URL), RemoteStatus.SUCCEEDED, ID, kinds=["image"]),
        QuerySample("image2video", task_answer("SUCCESS", ossPath=URL), RemoteStatus.SUCCEEDED, ID, kinds=["video"]),
        QuerySample("text2image", task_answer("WAITING"), RemoteStatus.QUEUED, ID),
        QuerySample("text2image", task_answer(" running "), RemoteStatus.RUNNING, ID),
        QuerySample("catvton", task_answer("AIGC_ERROR"), RemoteStatus.FAILED, ID, error=ErrorCode.PROVIDER_ERROR),
        QuerySample("catvton", task_answer("TIMEOUT"), RemoteStatus.FAILED, ID, error=ErrorCode.TIMEOUT),
        QuerySample("catvton", task_answer("SUCCESS"), RemoteStatus.FAILED, ID, error=ErrorCode.EMPTY_RESULT),
    )
    errors = (
        ErrorSample(failure("INTCNN_COMMON_AUTH_CHECK_ERROR"), ErrorCode.AUTHENTICATION, ErrorCode.AUTHENTICATION),
        ErrorSample(failure("INTCNN_COMMON_NOT_FOUND", 404), ErrorCode.NOT_FOUND, ErrorCode.NOT_FOUND),
        ErrorSample(failure("INTCNN_COMMON_PARAM_VALID_ERROR"), ErrorCode.INVALID_INPUT, RemoteStatus.FAILED),
        ErrorSample(failure("INTCNN_COMMON_PARAM_VALID_ERROR:"), ErrorCode.INVALID_INPUT, RemoteStatus.FAILED),
        ErrorSample(failure("INTCNN_COMMON_AUTH_CHECK_ERROR", 500), ErrorCode.AUTHENTICATION),
        ErrorSample(failure("INTCNN_COMMON_SYS_ERROR"), OutcomeUnknown, Unavailable),
        ErrorSample(failure("INTCNN_SOMETHING_NEW"), ErrorCode.PROVIDER_ERROR, Unavailable),
        ErrorSample(failure("INTCNN_SOMETHING_NEW", 500), OutcomeUnknown, Unavailable),
        ErrorSample(failure("INTCNN_SOMETHING_NEW", 503), OutcomeUnknown, Unavailable),
        ErrorSample(json_answer({"success": False, "model": ID, "errorCode": "NEW"}), OutcomeUnknown, Unavailable),
        ErrorSample(failure(None), ErrorCode.PROVIDER_ERROR, Unavailable),
        ErrorSample(json_answer({"error": "gateway"}, 500), OutcomeUnknown, Unavailable),
        ErrorSample(json_answer({"error": "gateway"}, 403), ErrorCode.PERMISSION, ErrorCode.PERMISSION),
        ErrorSample(json_answer({"success": True, "model": None}), OutcomeUnknown, Unavailable),
        ErrorSample(json_answer({"success": "true", "model": ID}), OutcomeUnknown, Unavailable),
        ErrorSample(json_answer({"success": None, "model": ID}), OutcomeUnknown, Unavailable),
        ErrorSample(Answer(b"", 302, {"Location": "http://127.0.0.1:9/"}), Unavailable, Unavailable),
    )

    def with_status(self, sample: QuerySample, word: str) -> Answer:
        answer = json.loads(sample.answer.body)
        answer["model"]["status"] = word
        return json_answer(answer)


@pytest.fixture
def remote() -> Iterator[FakeProvider]:
    """The provider's side."""
    with FakeProvider() as provider:
        yield provider


def make(remote: FakeProvider, **more: str) -> Handler:
    """A handler that talks to it."""
    return handlers.load("superapp", {**SETTINGS, "base_url": remote.url, **more}, clock=lambda: NOW)


def java_recipe(secret: str, key: str, timestamp: str, method: str, uri: str, body: bytes) -> str:
    """The provider's Java sample step by step, written without the kit: the oracle of these tests."""
    content = method.encode("utf-8") + b" " + uri.encode("utf-8") + b"\n" + body
    content += b"." + timestamp.encode("utf-8") + b"." + key.encode("utf-8")
    block = secret.encode("utf-8")
    block = (hashlib.sha1(block).digest() if len(block) > 64 else block).ljust(64, b"\0")
    inner = hashlib.sha1(bytes(byte ^ 0x36 for byte in block) + content).digest()
    mac = hashlib.sha1(bytes(byte ^ 0x5C for byte in block) + inner).digest()
    digits = "0123456789abcdef"
    characters = "".join(digits[byte >> 4] + digits[byte & 15] for byte in mac)
    return base64.b64encode(characters.encode("ascii")).decode("ascii")


VECTORS = {
    "worked shape": (
        ("demo-secret-key", "46b1cac78ed94ca4b99ad6de550afb68", "1676904384074", "POST", "/openapi/v1/a/b"),
        '{"appId":"223232323","grantType":"authorization_code"}',
        "4898939e7f331cc2e082d80ae2c8abb2304e5f9c",
        "NDg5ODkzOWU3ZjMzMWNjMmUwODJkODBhZTJjOGFiYjIzMDRlNWY5Yw==",
    ),
    "ascii": (
        ("sk-demo-0001", "ak-demo-0001", "1741855077857", "POST", "/openapi/v1/aigc/submitTask"),
        '{"workflow":"TEXT2IMAGE","version":"1.0.0","algoInput":{"inputText":"a cat","width":1024,"height":1024}}',
        "24ad48299fb2ae65754b7b3bc3a55e4bed934069",
        "MjRhZDQ4Mjk5ZmIyYWU2NTc1NGI3YjNiYzNhNTVlNGJlZDkzNDA2OQ==",
    ),
    "not ascii": (
        ("sk-demo-0001", "ak-demo-0001", "1741855077858", "POST", "/openapi/v1/aigc/submitTask"),
        (
            '{"workflow":"IMAGE2VIDEO","version":"1.0.0","algoInput":{"inputText":"一只猫在月光下行走 🐈",'
            '"inputImage":"https://cdn.example.test/cat.png"}}'
        ),
        "459e853c869531d11d3b1dea89d9bec6a2361a0c",
        "NDU5ZTg1M2M4Njk1MzFkMTFkM2IxZGVhODlkOWJlYzZhMjM2MWEwYw==",
    ),
    "query, assumed form": (
        ("sk-demo-0001", "ak-demo-0001", "1741855077859", "GET", "/openapi/v1/aigc/queryTask"),
        "",
        "70ec7ffeebe2ddd8d6ee23f097cc80d70d93d548",
        "NzBlYzdmZmVlYmUyZGRkOGQ2ZWUyM2YwOTdjYzgwZDcwZDkzZDU0OA==",
    ),
}


@pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS)
def test_signatures_match_the_vectors(vector: tuple[tuple[str, str, str, str, str], str, str, str]) -> None:
    """What the provider's own Java code computes is what we compute."""
    parts, body, hexadecimal, header = vector
    assert signature(*parts, body.encode()) == hexadecimal
    assert java_recipe(*parts, body.encode()) == header


@given(st.text(max_size=80), st.text(max_size=10), st.binary(max_size=60), st.integers(0, 2**42))
def test_signatures_follow_the_recipe_for_any_body(secret: str, key: str, body: bytes, timestamp: int) -> None:
    """No secret, key or body, of whatever bytes, is signed otherwise than the recipe says."""
    ours = signature(secret, key, str(timestamp), "POST", "/openapi/v1/aigc/submitTask", body)
    oracle = java_recipe(secret, key, str(timestamp), "POST", "/openapi/v1/aigc/submitTask", body)
    assert base64.b64encode(ours.encode()).decode() == oracle


def test_submit_signs_the_very_bytes_it_sends(remote: FakeProvider) -> None:
    """The signature covers the received bytes, and the bytes are ASCII so that no charset can change them."""
    handler = make(remote)
    remote.answer(ACCEPTED)
    handler.submit(Submission("task_1", "image2video", {**CAT_VIDEO, "odd": "\ud800"}))
    request = remote.last
    assert request.method == "POST"
    assert request.body.isascii()
    assert request.json() == {
        "workflow": "IMAGE2VIDEO",
        "version": "1.0.0",
        "algoInput": {**CAT_VIDEO, "odd": "\ud800"},
    }
    assert request.header("X-Request-Timestamp") == "1767225600000"
    assert request.header("X-Request-Sign") == java_recipe(
        SETTINGS["secret_key"], "ak-demo-0001", "1767225600000", "POST", request.target, request.body
    )


def test_headers_are_spelled_as_documented(remote: FakeProvider) -> None:
    """The provider calls header names case-sensitive, so they go out in its spelling, with a fresh UUID."""
    handler = make(remote)
    remote.answer(ACCEPTED)
    handler.submit(Submission("task_1", "text2image", CAT))
    handler.submit(Submission("task_2", "text2image", CAT))
    sent = [dict(request.headers) for request in remote.requests]
    for headers in sent:
        assert {"X-Access-Key", "X-Request-Timestamp", "X-Request-Sign", "x-acs-request-id"} <= set(headers)
        assert headers["Content-Type"] == "application/json"
        uuid.UUID(headers["x-acs-request-id"])
    assert sent[0]["x-acs-request-id"] != sent[1]["x-acs-request-id"]


@pytest.mark.parametrize("form", ["default", "hex", "path_with_query"])
def test_queries_are_signed_in_the_chosen_form(remote: FakeProvider, form: str) -> None:
    """The provider does not publish how a query is signed, so the operator can choose among three forms."""
    handler = make(remote, query_sign=form)
    remote.answer(task_answer("RUNNING"))
    handler.query([asked()])
    request = remote.last
    assert (request.method, request.body) == ("GET", b"")
    assert request.target == f"/openapi/v1/aigc/queryTask?taskId={ID}"
    uri = request.target if form == "path_with_query" else "/openapi/v1/aigc/queryTask"
    full = java_recipe(SETTINGS["secret_key"], "ak-demo-0001", "1767225600000", "GET", uri, b"")
    expected = base64.b64decode(full).decode() if form == "hex" else full
    assert hmac.compare_digest(request.header("X-Request-Sign") or "", expected)
    assert request.header("X-Request-Id") == request.header("x-acs-request-id") is not None


def test_a_prefix_in_the_base_url_is_not_signed(remote: FakeProvider) -> None:
    """Behind a gateway's prefix the signed path stays the provider's own, which is all the provider sees."""
    handler = make(remote, base_url=remote.url + "/prefix")
    remote.answer(ACCEPTED)
    handler.submit(Submission("task_1", "text2image", CAT))
    request = remote.last
    assert request.target == "/prefix/openapi/v1/aigc/submitTask"
    assert request.header("X-Request-Sign") == java_recipe(
        SETTINGS["secret_key"],
        "ak-demo-0001",
        "1767225600000",
        "POST",
        "/openapi/v1/aigc/submitTask",
        request.body,
    )


def test_a_task_id_cannot_reach_out_of_its_parameter(remote: FakeProvider) -> None:
    """Whatever id the provider gave, it is asked for as one parameter's value."""
    handler = make(remote, query_sign="path_with_query")
    odd = "a/../b&x=1#é +%"
    remote.answer(json_answer({"success": True, "model": {"taskId": odd, "status": "RUNNING"}}))
    handler.query([asked(provider_id=odd)])
    assert remote.last.query == {"taskId": odd}
    full = java_recipe(SETTINGS["secret_key"], "ak-demo-0001", "1767225600000", "GET", remote.last.target, b"")
    assert remote.last.header("X-Request-Sign") == full


def test_the_version_is_a_setting(remote: FakeProvider) -> None:
    """A new workflow version needs no new code."""
    handler = make(remote, version="2.1.0")
    remote.answer(ACCEPTED)
    handler.submit(Submission("task_1", "catvton", TRY_ON))
    assert remote.last.json()["version"] == "2.1.0"


@pytest.mark.parametrize("word", STATUSES)
def test_every_documented_status_is_known(remote: FakeProvider, word: str) -> None:
    """Ten words: two go on, one succeeds, seven fail and say so with the provider's word."""
    handler = make(remote)
    remote.answer(task_answer(word, ossPath=URL))
    update = handler.query([asked()])["task_1"]
    assert update.unknown_status is None
    assert update.status.final == (word not in ("WAITING", "RUNNING"))
    if update.error is not None:
        assert update.error.provider_code == word
        assert word in update.error.message


@pytest.mark.parametrize(
    "path",
    [
        None,
        "",
        "[]",
        [],
        "http://superapp.oss-ap-southeast-1.aliyuncs.com/%5B%5D?Expires=1767232800&Signature=y",
        "http://superapp.oss-ap-southeast-1.aliyuncs.com/aigc/[]",
        "http://superapp.oss-ap-southeast-1.aliyuncs.com/",
        "aigc/out.png",
        "javascript:alert(1)",
        "http://[",
    ],
)
def test_success_without_a_usable_artefact_is_a_failure(remote: FakeProvider, path: object) -> None:
    """Nobody is told that a task succeeded when there is nothing to fetch; the sample's ``[]`` is nothing."""
    handler = make(remote)
    remote.answer(task_answer("SUCCESS", ossPath=path))
    update = handler.query([asked()])["task_1"]
    assert update.status is RemoteStatus.FAILED
    assert update.error is not None
    assert update.error.code is ErrorCode.EMPTY_RESULT


def test_the_artefact_carries_its_expiry(remote: FakeProvider) -> None:
    """Subscribers learn until when the URL works, from the URL itself."""
    handler = make(remote)
    remote.answer(task_answer("SUCCESS", ossPath=URL))
    (output,) = handler.query([asked()])["task_1"].outputs
    assert (output.url, output.expires_at) == (URL, 1767232800_000)


@pytest.mark.parametrize(
    ("operation", "name", "kind"),
    [
        ("image2video", "out", OutputKind.VIDEO),
        ("text2image", "out", OutputKind.IMAGE),
        ("catvton", "out", OutputKind.IMAGE),
        ("image2video", "frame.PNG", OutputKind.IMAGE),
        ("text2image", "clip.mp4", OutputKind.VIDEO),
    ],
)
def test_the_kind_follows_the_operation_unless_the_name_knows_better(
    remote: FakeProvider, operation: str, name: str, kind: OutputKind
) -> None:
    """A video is called a video, even where the provider's page only speaks of images."""
    handler = make(remote)
    remote.answer(task_answer("SUCCESS", ossPath=f"http://host.example.test/a/{name}?Expires=1767232800"))
    (output,) = handler.query([asked(operation=operation)])["task_1"].outputs
    assert output.kind is kind


def test_an_unknown_task_is_believed_only_after_a_grace(remote: FakeProvider) -> None:
    """Right after the submit a query may know the task not yet; later it is gone for good."""
    handler = make(remote)
    remote.answer(failure("INTCNN_COMMON_PARAM_VALID_ERROR"))
    with pytest.raises(Unavailable):
        handler.query([asked(age=59)])
    update = handler.query([asked(age=61)])["task_1"]
    assert update.error is not None
    assert update.error.code is ErrorCode.NOT_FOUND


def test_an_answer_about_another_task_is_not_believed(remote: FakeProvider) -> None:
    """A mixed-up answer never ends the wrong task."""
    handler = make(remote)
    remote.answer(json_answer({"success": True, "model": {"taskId": "other", "status": "SUCCESS", "ossPath": URL}}))
    with pytest.raises(Unavailable):
        handler.query([asked()])


def test_input_that_json_cannot_say_is_rejected(remote: FakeProvider) -> None:
    """A caller's NaN is refused before anything is sent."""
    with pytest.raises(Rejected) as caught:
        make(remote).submit(Submission("task_1", "text2image", {**CAT, "x": float("nan")}))
    assert caught.value.error.code is ErrorCode.INVALID_INPUT
    assert remote.requests == []


@pytest.mark.parametrize(
    ("operation", "change", "field"),
    [
        ("text2image", {"inputText": "x" * 501}, "inputText"),
        ("text2image", {"inputText": ""}, "inputText"),
        ("text2image", {"width": 63}, "width"),
        ("text2image", {"height": 4097}, "height"),
        ("text2image", {"height": 1.5}, "height"),
        ("text2image", {"height": True}, "height"),
        ("image2video", {"inputImage": "ftp://x.test/a.png"}, "inputImage"),
        ("image2video", {"inputImage": "cat.png"}, "inputImage"),
        ("image2video", {"inputImage": " https://x.test/a.png\n"}, "inputImage"),
        ("catvton", {"category": "hat"}, "category"),
        ("catvton", {"seed": -1}, "seed"),
        ("catvton", {"seed": 2147483648}, "seed"),
    ],
)
def test_inputs_out_of_range_are_refused_by_name(operation: str, change: dict[str, object], field: str) -> None:
    """What the provider documents as impossible is refused before it costs a call."""
    valid = {"text2image": CAT, "image2video": CAT_VIDEO, "catvton": TRY_ON}[operation]
    schema = handlers.find("superapp").operations[operation].schema()
    with pytest.raises(ValidationError) as caught:
        schema.load({**valid, **change})
    assert set(caught.value.normalized_messages()) == {field}


def test_the_limits_themselves_are_taken() -> None:
    """The documented extremes pass."""
    operations = handlers.find("superapp").operations
    operations["text2image"].schema().load({**CAT, "inputText": "x" * 500, "width": 64, "height": 4096})
    operations["catvton"].schema().load({**TRY_ON, "seed": 2147483647, "category": "overall"})


def test_the_range_of_sides_is_a_setting(remote: FakeProvider) -> None:
    """No range is published: an operator who knows better changes it, for the check and for the description."""
    operation = make(remote, side_range="512-5000").operations["text2image"]
    assert set(operation.schema().validate({**CAT, "width": 511, "height": 5001})) == {"width", "height"}
    assert operation.schema().validate({**CAT, "width": 512, "height": 5000}) == {}
    described = json_schema(operation.schema)["properties"]["width"]
    assert (described["minimum"], described["maximum"]) == (512, 5000)


@pytest.mark.parametrize("text", ["64", "64-", "4096-64", "0-64", "-1-64", "64,4096", "64-4096px"])
def test_a_range_that_takes_nothing_is_refused_at_the_start(remote: FakeProvider, text: str) -> None:
    """A range that no picture could fit, or that cannot be read, is named before a task is lost to it."""
    with pytest.raises(handlers.ConfigurationError, match="SUPERAPP_SIDE_RANGE"):
        make(remote, side_range=text)
