"""Bodies of every kind: too large, cut, chunked, not JSON, odd JSON."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from receiver.runtime import Runtime
from receiver.web import create_app
from tests.web.conftest import KEY, SAMPLE, Caller
from tests.web.problems import assert_invalid, assert_problem

JSON = "application/json"
LIMIT = 2048


@pytest.fixture
def app(build: Callable[..., Runtime]) -> Flask:
    """An application that takes small bodies only."""
    return create_app(build(max_body=LIMIT))


def sized(size: int) -> bytes:
    """A good body of exactly this size."""
    body = json.dumps(SAMPLE).encode()
    return body + b" " * (size - len(body))


def chunked(api: Caller, path: str, body: bytes) -> Any:
    """A request whose length is not declared, as the server passes a chunked body on."""
    more = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    return api("POST", path, input_stream=io.BytesIO(body), content_type=JSON, environ_overrides=more)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b'{"provider": }',
        b"{'provider': 'topview'}",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 2000 + b"}}",
        b'{"provider": "topview", "provider": "superapp"}',
        b'{"input": {"a": 1, "a": 1}}',
        b'{"a": "\xff"}',
        b'\xef\xbb\xbf{"a": 1}',
        json.dumps({"a": 1}).encode("utf-16"),
        json.dumps({"a": 1}).encode("utf-32"),
        b'{"a": "\x00"}',
        b'{"a": 1} {"b": 2}',
        b'{"a": ' + b"[" * 101 + b"]" * 101 + b"}",
        b"[" * 1000,
        b'{"a":' * 400,
    ],
)
def test_what_is_not_strict_json_is_malformed(api: Caller, body: bytes) -> None:
    """400, with a sentence that says what is wrong."""
    assert_problem(api("POST", "/v1/tasks", data=body, content_type=JSON), 400, "malformed")


def test_very_deep_and_very_long_numbers_are_malformed(build: Callable[..., Runtime]) -> None:
    """Neither the recursion limit nor the limit on digits can be made into a failure."""
    me = Caller(create_app(build()).test_client(), KEY)
    for body in (b"[" * 200_000, b'{"a":' * 100_000, b'{"a": ' + b"9" * 5000 + b"}"):
        assert_problem(me("POST", "/v1/tasks", data=body, content_type=JSON), 400, "malformed")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "The body is empty"),
        (b" \n", "The body is empty"),
        (b"\xef\xbb\xbf{}", "byte-order mark"),
        (b'{"a": ' + b"9" * 1900 + b"9" * 3000 + b"}", "a number has thousands of digits"),
    ],
)
def test_a_refused_body_is_told_in_words_for_its_sender(build: Callable[..., Runtime], body: bytes, said: str) -> None:
    """What is wrong with the body, not which switch of Python would take it."""
    me = Caller(create_app(build()).test_client(), KEY)
    detail = assert_problem(me("POST", "/v1/tasks", data=body, content_type=JSON), 400, "malformed")["detail"]
    assert said in detail
    assert "sys." not in detail
    assert "utf-8-sig" not in detail


@pytest.mark.parametrize("body", [b"null", b"[]", b"1", b'"x"'])
@pytest.mark.parametrize(
    "path", ["/v1/tasks", "/v1/signing-secret/rotate", "/v1/tasks/task_01kahx3mt5k0c4z7d6q8r9w2ve/cancel"]
)
def test_a_body_that_is_no_object_is_told_so(api: Caller, path: str, body: bytes) -> None:
    """JSON that is a list, a number or null: the answer says that an object is wanted."""
    answer = api("POST", path, data=body, content_type=JSON)
    assert assert_invalid(answer, "body")["errors"]["body"] == ["Must be a JSON object."]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/tasks/task_01kahx3mt5k0c4z7d6q8r9w2ve/cancel",
        "/v1/subscribers/sub_01kahx3mt5k0c4z7d6q8r9w2ve/ping",
        "/v1/deliveries/dlv_01kahx3mt5k0c4z7d6q8r9w2ve/retry",
    ],
)
def test_what_takes_no_body_refuses_members_too(api: Caller, path: str) -> None:
    """An unknown member is a mistake here as well, and nothing is done before it is told; no body will do."""
    assert_invalid(api.post(path, {"reason": "too late"}), "reason")
    assert_problem(api("POST", path, data="{", content_type=JSON), 400, "malformed")
    assert_problem(api("POST", path, data="x", content_type="text/plain"), 415)
    for nothing in ({"data": b""}, {"data": b"{}", "content_type": JSON}):
        assert_problem(api("POST", path, **nothing), 404)


def test_a_name_that_stands_twice_among_very_many_is_found_at_once(build: Callable[..., Runtime]) -> None:
    """Finding it costs as much as reading the body: one request of the longest body stops nobody's thread."""
    me = Caller(create_app(build()).test_client(), KEY)
    body = "{" + ",".join(f'"{number:x}":0' for number in [*range(90_000), 89_999]) + "}"
    began = time.thread_time()
    assert_problem(me("POST", "/v1/tasks", data=body, content_type=JSON), 400, "malformed")
    assert time.thread_time() - began < 5


def test_a_hundred_levels_are_taken(build: Callable[..., Runtime]) -> None:
    """The bound on nesting lets everything through that anybody sends."""
    me = Caller(create_app(build()).test_client(), KEY)
    deep: Any = []
    for _ in range(96):
        deep = [deep]
    assert me.post("/v1/tasks", {**SAMPLE, "input": {**SAMPLE["input"], "x": deep}}).status_code == 202


@pytest.mark.parametrize(
    "kind",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx",
     "application/json; charset=utf-16", "application/json; charset=latin-1", "json"],
)  # fmt: skip
def test_another_content_type_is_refused(api: Caller, kind: str | None) -> None:
    """415: nothing is guessed from the body."""
    assert_problem(api("POST", "/v1/tasks", data=json.dumps(SAMPLE), content_type=kind), 415, "unsupported-media-type")


@pytest.mark.parametrize(
    "kind", [JSON, "application/json; charset=UTF-8", "APPLICATION/JSON", "application/vnd.a+json"]
)
def test_every_spelling_of_json_is_taken(api: Caller, kind: str) -> None:
    """Parameters and case of the Content-Type do not matter."""
    assert api("POST", "/v1/tasks", data=json.dumps(SAMPLE), content_type=kind).status_code == 202


@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/signing-secret/rotate", "/callbacks/topview/token"])
def test_a_body_beyond_the_limit_is_too_large(api: Caller, path: str) -> None:
    """413, declared or not; a body of exactly the limit is read whole."""
    assert_problem(api("POST", path, data=sized(LIMIT + 1), content_type=JSON), 413, "too-large")
    assert_problem(chunked(api, path, sized(LIMIT + 1)), 413, "too-large")
    assert_problem(chunked(api, path, sized(50 * LIMIT)), 413, "too-large")
    assert api("POST", path, data=sized(LIMIT), content_type=JSON).status_code != 413
    assert chunked(api, path, sized(LIMIT)).status_code != 413


def test_a_chunked_body_is_read_whole(api: Caller) -> None:
    """A missing Content-Length is no missing body, up to the last byte that is allowed."""
    assert chunked(api, "/v1/tasks", sized(LIMIT)).status_code == 202
    assert chunked(api, "/v1/tasks", json.dumps(SAMPLE).encode()).status_code == 202


@pytest.mark.parametrize("path", ["/v1/tasks", "/callbacks/topview/token"])
@pytest.mark.parametrize("terminated", [True, False])
def test_a_body_that_ends_early_is_refused(api: Caller, path: str, terminated: bool) -> None:
    """A declared length that the body does not have is never taken for a short body."""
    more: dict[str, Any] = {"CONTENT_LENGTH": "1000"} | ({"wsgi.input_terminated": True} if terminated else {})
    answer = api("POST", path, input_stream=io.BytesIO(b"{}"), content_type=JSON, environ_overrides=more)
    assert_problem(answer, 400, "malformed")


def test_a_declared_length_of_more_than_the_limit_is_refused_unread(api: Caller) -> None:
    """413 without reading a byte, even when hardly any come."""
    more = {"CONTENT_LENGTH": "99999999999", "wsgi.input_terminated": True}
    answer = api("POST", "/v1/tasks", input_stream=io.BytesIO(b"{}"), content_type=JSON, environ_overrides=more)
    assert_problem(answer, 413, "too-large")


def test_where_nothing_is_needed_an_empty_body_will_do(api: Caller) -> None:
    """A rotation without a body takes the defaults; one with a body is read strictly."""
    assert api.post("/v1/signing-secret/rotate").status_code == 200
    assert api.post("/v1/signing-secret/rotate", {}).status_code == 200
    assert_problem(api("POST", "/v1/signing-secret/rotate", data="x"), 415)
    assert_problem(api("POST", "/v1/signing-secret/rotate", data="{", content_type=JSON), 400)
    assert_invalid(api.post("/v1/signing-secret/rotate", {"x": 1}), "x")


@pytest.mark.parametrize("text", ["\x00", "\ud800", "a\ud83d", "￿", "🐈", "\u2028"])
def test_no_text_can_break_the_database(api: Caller, text: str) -> None:
    """Taken or refused as invalid in every place where a text is kept: never a failure."""
    tries = [
        {"metadata": {"k": text}},
        {"metadata": {text: "v"}},
        {"operation": text},
        {"provider": text},
        {"callback_url": f"http://127.0.0.1/{text}"},
        {"input": {**SAMPLE["input"], "note": text}},
        {"input": {**SAMPLE["input"], text: 1}},
    ]
    for change in tries:
        assert api.post("/v1/tasks", {**SAMPLE, **change}).status_code in (202, 422), change
    hook = {"url": "http://127.0.0.1:9/", "event_types": ["*"]}
    for field, value in (("description", text), ("url", text), ("event_types", [text]), ("providers", [text]),
                         ("headers", {"X": text}), ("headers", {text: "x"}), ("secret", text)):  # fmt: skip
        assert api.post("/v1/subscribers", {**hook, field: value}).status_code in (201, 422), field
