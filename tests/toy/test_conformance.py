"""The toy keeps every promise that handlers make."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import ClassVar

import pytest

from handlers import BadSignature, ErrorCode, Notice, OutcomeUnknown, RemoteStatus, RemoteTask, Reply, Unavailable
from handlers._signatures import hmac_sha256_hex
from tests.handlers.conformance import (
    CALLBACK_URL,
    NOW,
    ErrorSample,
    HandlerConformance,
    NoticeSample,
    QuerySample,
    SubmitSample,
)
from tests.handlers.fake_provider import Answer, json_answer
from tests.toy import KEY, SECRET, visible

URL = "https://cdn.example.test/cat.png"
TASK = RemoteTask("task_1", "draw", "job-1", {}, {}, 60.0)


@pytest.fixture(autouse=True)
def toy() -> Iterator[None]:
    """The toy's files are where handlers are looked for."""
    with visible():
        yield


def job(state: str, **more: object) -> dict[str, object]:
    """A job as the toy tells it."""
    return {"id": "job-1", "state": state, **more}


def asked(state: str, **more: object) -> Answer:
    """The answer to a query."""
    return json_answer({"jobs": [job(state, **more)]})


def notice(state: str, status: RemoteStatus, **more: object) -> NoticeSample:
    """A signed callback."""
    body = json.dumps(job(state, **more)).encode()
    kinds = ["image"] if status is RemoteStatus.SUCCEEDED else []
    error = ErrorCode.PROVIDER_ERROR if status is RemoteStatus.FAILED else None
    headers = {"x-toy-sign": hmac_sha256_hex(SECRET, body)}
    return NoticeSample(body, status, TASK, headers, kinds=kinds, error=error, reply=Reply(b'{"ok":true}'))


class TestConformance(HandlerConformance):
    provider = "toy"
    settings: ClassVar[Mapping[str, str]] = {"key": KEY, "secret": SECRET}
    signature_headers = ("x-toy-sign",)
    submits = (SubmitSample("draw", {"prompt": "a cat"}, [json_answer({"id": "job-1"})], "job-1", path="/v1/jobs"),)
    queries = (
        QuerySample("draw", asked("done", picture=URL), RemoteStatus.SUCCEEDED, "job-1", kinds=["image"]),
        QuerySample("draw", asked("waiting"), RemoteStatus.QUEUED, "job-1"),
        QuerySample("draw", asked("drawing", progress=0.5), RemoteStatus.RUNNING, "job-1"),
        QuerySample("draw", asked("broken", reason="paint"), RemoteStatus.FAILED, "job-1",
                    error=ErrorCode.PROVIDER_ERROR),
        QuerySample("draw", asked("done"), RemoteStatus.FAILED, "job-1", error=ErrorCode.EMPTY_RESULT),
    )  # fmt: skip
    errors = (
        ErrorSample(json_answer({"code": "bad_prompt"}, 400), ErrorCode.INVALID_INPUT, ErrorCode.INVALID_INPUT),
        ErrorSample(json_answer({"code": "no_money"}, 402), ErrorCode.INSUFFICIENT_CREDIT),
        ErrorSample(json_answer({"code": "bad_signature"}, 401), ErrorCode.AUTHENTICATION, ErrorCode.AUTHENTICATION),
        ErrorSample(json_answer({"code": "busy"}, 503), Unavailable, Unavailable, retry_after=3.0),
        ErrorSample(json_answer({"code": "new"}, 400), ErrorCode.PROVIDER_ERROR, ErrorCode.PROVIDER_ERROR),
        ErrorSample(json_answer({"code": "new"}, 500), OutcomeUnknown, Unavailable),
        ErrorSample(json_answer({"error": "gateway"}, 500), OutcomeUnknown, Unavailable),
        ErrorSample(json_answer({"id": None}), OutcomeUnknown),
    )
    notices = (
        notice("done", RemoteStatus.SUCCEEDED, picture=URL),
        notice("broken", RemoteStatus.FAILED, reason="paint"),
        notice("drawing", RemoteStatus.RUNNING, progress=0.25),
    )
    bad_notices = (Notice({}, {}, b'{"id":"job-1","state":"done"}', CALLBACK_URL, int(NOW * 1000), TASK),)

    def with_status(self, sample: QuerySample, word: str) -> Answer:
        answer = json.loads(sample.answer.body)
        answer["jobs"][0]["state"] = word
        return json_answer(answer)

    def test_a_signature_by_another_secret_is_refused(self) -> None:
        """Only the holder of the account's secret can tell us how a job went."""
        genuine = self.notices[0]
        headers = {"x-toy-sign": hmac_sha256_hex("another-secret", genuine.body)}
        with pytest.raises(BadSignature):
            self.make("http://127.0.0.1:9").verify(
                Notice(headers, {}, genuine.body, CALLBACK_URL, int(NOW * 1000), TASK)
            )
