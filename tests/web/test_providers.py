"""What providers can do, reads of their lists, and uploads."""

from __future__ import annotations

import errno
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import pytest
from flask import Flask
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

import handlers
from receiver.config import Settings
from receiver.runtime import Runtime
from receiver.web import create_app, providers
from receiver.web.face import face_of
from tests.handlers.fake_provider import Answer, FakeProvider, json_answer
from tests.web.conftest import CREDENTIALS, KEY, SAMPLE, Caller
from tests.web.problems import assert_invalid, assert_problem


@pytest.fixture
def remote() -> Iterator[FakeProvider]:
    """TopView's side."""
    with FakeProvider() as provider:
        yield provider


@pytest.fixture
def app(build: Callable[..., Runtime], settings: Settings, remote: FakeProvider) -> Flask:
    """The application, with TopView's address being the fake's."""
    topview = {**settings.providers["topview"], "base_url": remote.url}
    return create_app(build(providers={**settings.providers, "topview": topview}))


def envelope(result: Any) -> Answer:
    """TopView's envelope."""
    return json_answer({"code": "200", "message": "Success", "result": result})


def taking(remote: FakeProvider) -> list[Answer]:
    """TopView's answers to an upload that works: credential, transfer, check."""
    return [envelope({"fileId": "file-1", "uploadUrl": f"{remote.url}/put"}), Answer(b""), envelope(True)]


def send(api: Caller, **fields: Any) -> Any:
    """An upload."""
    files = {
        name: FileStorage(*value[:1], filename=value[1], content_type=value[2] if len(value) > 2 else None)
        if isinstance(value, tuple)
        else value
        for name, value in fields.items()
    }
    boundary, body = encode_multipart(files)
    return api("POST", "/v1/uploads", data=body, content_type=f"multipart/form-data; boundary={boundary}")


def test_all_providers_are_described(api: Caller) -> None:
    """Every provider with its operations, each with a valid JSON Schema that takes a good input."""
    found = {provider["name"]: provider for provider in api.get("/v1/providers").json["data"]}
    assert set(found) == set(handlers.available())
    assert all(provider["configured"] and provider["operations"] for provider in found.values())
    for provider in found.values():
        for operation in provider["operations"]:
            jsonschema.Draft202012Validator.check_schema(operation["input"])
    (schema,) = [op["input"] for op in found["superapp"]["operations"] if op["name"] == SAMPLE["operation"]]
    jsonschema.validate(SAMPLE["input"], schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({}, schema)


def test_a_providers_list_comes_as_the_provider_gives_it(api: Caller, remote: FakeProvider) -> None:
    """Parameters are passed on, the answer's JSON comes back."""
    remote.answer(envelope({"data": [{"voiceId": "v", "n": 12345678901234567890}]}))
    answer = api.get("/v1/providers/topview/voices?pageNo=2&language=en")
    assert answer.json == {"data": [{"voiceId": "v", "n": 12345678901234567890}]}
    assert {"pageNo": "2", "language": "en"}.items() <= remote.last.query.items()


def test_what_a_provider_does_not_have_is_not_found(api: Caller) -> None:
    """404 for unknown providers and lists; the answer names those there are."""
    assert_problem(api.get("/v1/providers/nobody/voices"), 404)
    assert "voices" in assert_problem(api.get("/v1/providers/topview/nothing"), 404)["detail"]
    assert_problem(api.get("/v1/providers/topview/../x"), 404)


def test_a_provider_that_is_away_or_refuses(api: Caller, remote: FakeProvider) -> None:
    """503 with Retry-After when trying again helps, 502 when not, 422 when the caller's parameters are wrong."""
    remote.answer(Answer(b"", 429, {"Retry-After": "7"}))
    answer = api.get("/v1/providers/topview/credit")
    assert_problem(answer, 503, "provider-unavailable")
    assert answer.headers["Retry-After"] == "7"
    remote.answer(Answer(b"{}", 401))
    assert_problem(api.get("/v1/providers/topview/credit"), 502, "provider-failed")
    assert_invalid(api.get("/v1/providers/img_open/models?page_num=x"), "parameters")


def test_no_credential_is_in_an_error(api: Caller, remote: FakeProvider) -> None:
    """Whatever the provider says, our credentials do not come back."""
    remote.answer(Answer(json.dumps({"message": f"bad key {CREDENTIALS['TOPVIEW_API_KEY']}"}).encode(), 401))
    assert CREDENTIALS["TOPVIEW_API_KEY"] not in api.get("/v1/providers/topview/credit").text


def test_an_upload_is_passed_on(api: Caller, remote: FakeProvider) -> None:
    """Credential, transfer and check are done; the file's id comes back, the bytes arrive whole."""
    content = bytes(range(256)) * 4000
    remote.answer(*taking(remote))
    answer = send(api, provider="topview", file=(io.BytesIO(content), "/home/me/caf\u00e9.png", "image/png"))
    assert answer.status_code == 201, answer.text
    assert {**answer.json, "details": {}} == {
        "provider": "topview", "file_id": "file-1", "filename": "caf\u00e9.png", "size": len(content), "details": {},
    }  # fmt: skip
    assert [request.body for request in remote.requests if request.method == "PUT"] == [content]


def test_uploads_may_be_larger_than_other_bodies(
    build: Callable[..., Runtime], settings: Settings, remote: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RECEIVER_MAX_BODY is for JSON; uploads have their own bound, and 413 beyond it."""
    topview = {**settings.providers["topview"], "base_url": remote.url}
    me = Caller(create_app(build(max_body=1024, providers={"topview": topview})).test_client(), KEY)
    remote.answer(*taking(remote))
    assert send(me, provider="topview", file=(io.BytesIO(b"x" * 100_000), "a.png")).status_code == 201
    monkeypatch.setattr(providers, "MAX_UPLOAD", 50_000)
    assert_problem(send(me, provider="topview", file=(io.BytesIO(b"x" * 100_000), "a.png")), 413, "too-large")


def test_bad_uploads_are_refused(api: Caller) -> None:
    """422 with the fields; 415 for what is no multipart; nothing is asked of the provider."""
    assert_invalid(send(api), "provider", "file")
    assert_invalid(send(api, provider="topview"), "file")
    assert_invalid(send(api, provider="topview", file="text"), "file")
    assert_invalid(send(api, file=(io.BytesIO(b"x"), "a.png")), "provider")
    assert_invalid(send(api, provider="topview", file=(io.BytesIO(b""), "a.png")), "file")
    assert_invalid(send(api, provider="nobody", file=(io.BytesIO(b"x"), "a.png")), "provider")
    assert_invalid(send(api, provider="img_open", file=(io.BytesIO(b"x"), "a.png")), "provider")
    more = {"filename": "b.png", "mask": (io.BytesIO(b"x"), "m.png")}
    assert_invalid(send(api, provider="topview", file=(io.BytesIO(b"x"), "a.png"), **more), "filename", "mask")
    assert_problem(api.post("/v1/uploads", {"provider": "topview"}), 415)
    broken = api("POST", "/v1/uploads", data=b"--x\r\nhalf", content_type="multipart/form-data; boundary=x")
    assert_invalid(broken, "provider", "file")
    part = '--x\r\nContent-Disposition: form-data; name="{}"\r\n\r\n1\r\n'
    file = part.replace('"{}"', '"file"; filename="a.png"')
    twice = f"{part.format('provider') * 2}{file * 2}--x--\r\n".encode()
    refused = api("POST", "/v1/uploads", data=twice, content_type="multipart/form-data; boundary=x")
    assert_invalid(refused, "provider", "file")


@pytest.mark.parametrize("answers", [[Answer(b"", 500)], [envelope({}), envelope({})]])
def test_an_upload_that_fails_can_be_tried_again(api: Caller, remote: FakeProvider, answers: list[Answer]) -> None:
    """503, and no file id that does not work."""
    remote.answer(*answers)
    assert_problem(send(api, provider="topview", file=(io.BytesIO(b"x"), "a.png")), 503, "provider-unavailable")


def test_long_calls_leave_threads_for_callbacks(app: Flask, api: Caller) -> None:
    """When every seat is taken, uploads and reads are asked to come back."""
    held = [face_of(app).alarm.seat(str(number)) for number in range(100)]
    seats = [seat for seat in held if seat.__enter__()]
    try:
        answer = api.get("/v1/providers/topview/credit")
        assert_problem(answer, 503, "busy")
        assert answer.headers["Retry-After"] == "5"
        assert_problem(send(api, provider="topview", file=(io.BytesIO(b"x"), "a.png")), 503, "busy")
    finally:
        for seat in seats:
            seat.__exit__(None, None, None)


def test_a_list_keeps_its_digits(api: Caller, remote: FakeProvider) -> None:
    """Numbers of a provider's list come as the provider wrote them, however long."""
    remote.answer(Answer(body=b'{"code":"200","message":"Success","result":{"remainCredit":0.12345678901234567890}}'))
    assert b"0.12345678901234567890" in api.get("/v1/providers/topview/credit").data


def test_without_room_for_a_file_the_caller_is_asked_to_come_back(
    api: Caller, remote: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills up while a file is received is no mistake of the caller, nor ours: 503, and nothing begun."""

    class FullDisk(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("werkzeug.wrappers.request.Request._get_file_stream", lambda *_, **__: FullDisk())
    answer = send(api, provider="topview", file=(io.BytesIO(b"x" * 1000), "a.png"))
    assert_problem(answer, 503, "busy")
    assert answer.headers["Retry-After"] == "5"
    assert remote.requests == []
