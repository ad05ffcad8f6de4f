"""Callbacks of providers: who is let in, what is answered, and that nothing odd becomes a failure."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from receiver import metrics
from receiver.errors import Busy
from receiver.notices import NoticeService
from receiver.runtime import Runtime
from tests import asking
from tests.handlers.topview_samples import INPUTS, notice_body
from tests.web.conftest import CREDENTIALS, Caller, Clock, Progress
from tests.web.problems import assert_problem

UID = {"TopView-Uid": CREDENTIALS["TOPVIEW_UID"]}
OPERATION = "common_task_text2video"


@pytest.fixture
def running(api: Caller, progress: Progress, runtime: Runtime) -> tuple[str, str]:
    """A running TopView task, and the path of its callback address."""
    task = api.submit(provider="topview", operation=OPERATION, input=INPUTS[OPERATION])
    (start,) = runtime.submissions.claim("topview", 1)
    url = runtime.submissions.submission_of(start).callback_url
    assert url is not None
    assert url.startswith("https://gw.example.test/callbacks/topview/")
    progress.runtime.submissions.accepted(start.task, progress_receipt())
    return task["id"], url.removeprefix("https://gw.example.test")


def progress_receipt() -> Any:
    """TopView's acceptance."""
    from handlers import Receipt

    return Receipt("tv-1", "{}")


def counted(provider: str, verdict: str) -> float:
    """How often this verdict was counted."""
    return metrics.NOTICES.labels(provider, verdict)._value.get()  # type: ignore[no-any-return]


def verdicts(api: Caller, task_id: str) -> list[tuple[str, int]]:
    """The notices in a task's timeline: verdict and copies."""
    steps = api.get(f"/v1/tasks/{task_id}/timeline").json["data"]
    return [(step["detail"]["verdict"], step["detail"]["copies"]) for step in steps if step["kind"] == "notice"]


def test_a_notice_is_taken_and_answered_as_the_provider_wants(
    api: Caller, client: FlaskClient, running: tuple[str, str], runtime: Runtime
) -> None:
    """The echo comes back, the next query is due at once, and the timeline shows the notice."""
    task_id, path = running
    before = counted("topview", "hint")
    answer = client.post(path, data=notice_body(taskId="tv-1"), headers=UID)
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert answer.json["result"] == {"uuid": "uuid-1", "topviewUid": "demo-uid-1", "result": "success"}
    assert verdicts(api, task_id) == [("hint", 1)]
    assert counted("topview", "hint") == before + 1
    assert asking.claim(runtime.polling, "topview", 1)


def test_repetitions_are_answered_alike_and_kept_once(app: Flask, api: Caller, running: tuple[str, str]) -> None:
    """A storm of identical notices in parallel: each gets the reply, one is stored."""
    task_id, path = running
    together = threading.Barrier(5)
    answers: list[Any] = []

    def call() -> None:
        client = app.test_client()
        together.wait()
        answers.append(client.post(path, data=notice_body(taskId="tv-1"), headers=UID))

    threads = [threading.Thread(target=call) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {(answer.status_code, answer.text) for answer in answers} == {(200, answers[0].text)}
    assert verdicts(api, task_id) == [("hint", 5)]


def test_a_late_notice_changes_nothing(api: Caller, client: FlaskClient, running: tuple[str, str]) -> None:
    """After the end it is recorded, answered, and has no effect."""
    task_id, path = running
    api.post(f"/v1/tasks/{task_id}/cancel")
    assert client.post(path, data=notice_body(taskId="tv-1"), headers=UID).status_code == 200
    assert api.get(f"/v1/tasks/{task_id}").json["status"] == "canceled"
    assert verdicts(api, task_id)[0][0] in ("late", "contradiction")


@pytest.mark.parametrize("change", ["other provider", "cut", "longer", "last sign", "case", "nonsense"])
def test_a_wrong_token_is_forbidden(api: Caller, client: FlaskClient, running: tuple[str, str], change: str) -> None:
    """403 for whatever we did not make for this provider; nothing is stored."""
    task_id, path = running
    wrong = {
        "other provider": path.replace("topview", "img_open"),
        "cut": path[:-1],
        "longer": path + "A",
        "last sign": path[:-1] + ("B" if path[-1] != "B" else "C"),
        "case": path[:20] + path[20:].swapcase(),
        "nonsense": "/callbacks/topview/%00%ff..",
    }[change]
    answer = client.post(wrong, data=notice_body(taskId="tv-1"), headers=UID)
    assert_problem(answer, 403, "bad-notice")
    assert verdicts(api, task_id) == []


@pytest.mark.parametrize("headers", [{}, {"TopView-Uid": "somebody-else"}, {"TopView-Uid": "\u00fc"}])
def test_a_wrong_signature_is_unauthorized(
    api: Caller, client: FlaskClient, running: tuple[str, str], headers: dict[str, str]
) -> None:
    """401 when the provider's own sign is missing or wrong, and nothing is stored."""
    task_id, path = running
    answer = client.post(path, data=notice_body(taskId="tv-1"), headers=headers)
    assert_problem(answer, 401, "bad-notice")
    assert answer.headers["WWW-Authenticate"]
    assert verdicts(api, task_id) == []


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"a": NaN}', b"\xff\xfe", b"\x00", b"[" * 100_000, b'"success"',
             notice_body(taskId="other"), notice_body(taskId="tv-1", status=None)]
)  # fmt: skip
def test_what_the_provider_never_sends_is_malformed(client: FlaskClient, running: tuple[str, str], body: bytes) -> None:
    """400, whatever the bytes are."""
    assert_problem(client.post(running[1], data=body, headers=UID), 400, "bad-notice")


def test_no_content_type_is_asked_of_providers(client: FlaskClient, running: tuple[str, str]) -> None:
    """The raw bytes count; providers send odd types, and bodies that look like forms must not be swallowed."""
    for kind in (None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = client.post(running[1], data=notice_body(taskId="tv-1"), headers=UID, content_type=kind)
        assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/callbacks/nobody", "/callbacks/nobody/token", "/callbacks/../etc/x"])
def test_an_unknown_provider_is_not_found(client: FlaskClient, path: str) -> None:
    """404; the counter does not grow a label for every invented name."""
    before = counted("unknown", "no_such_provider")
    assert_problem(client.post(path, data=b"{}"), 404, "not-found")
    after = counted("unknown", "no_such_provider")
    assert after - before == ("nobody" in path)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_only_post_is_taken(client: FlaskClient, running: tuple[str, str], method: str) -> None:
    """405 with what is allowed; a link checker changes nothing."""
    answer = client.open(running[1], method=method)
    assert_problem(answer, 405, "method-not-allowed")
    assert "POST" in answer.headers["Allow"]


def test_the_provider_wide_address_takes_only_signed_notices(client: FlaskClient, clock: Clock) -> None:
    """VOD's notices are signed over the address that we gave out, never over the request's Host."""
    body = json.dumps({"EventType": "FileUploadComplete", "VideoId": "v", "Status": "success"})
    stamp = str(clock() // 1000)
    url = "https://gw.example.test/callbacks/apsaravideo_vod"
    signature = hashlib.md5(f"{url}|{stamp}|{CREDENTIALS['APSARAVIDEO_VOD_CALLBACK_KEY']}".encode()).hexdigest()
    headers = {"X-VOD-TIMESTAMP": stamp, "X-VOD-SIGNATURE": signature}
    path = "/callbacks/apsaravideo_vod"
    assert client.post(path, data=body, headers=headers).status_code == 200
    assert client.post(path, data=body, headers={**headers, "Host": "evil.example"}).status_code == 200
    assert_problem(client.post(path, data=body), 401)
    assert_problem(client.post(path, data=body, headers={**headers, "X-VOD-SIGNATURE": "0" * 32}), 401)
    assert_problem(client.post("/callbacks/topview", data=notice_body(), headers=UID), 401)


def test_a_busy_database_asks_the_provider_to_come_again(
    client: FlaskClient, running: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 with Retry-After, so that nothing is lost; the reason stays inside."""
    monkeypatch.setattr(NoticeService, "take", _raise(Busy("secret-host is down")))
    answer = client.post(running[1], data=notice_body(), headers=UID)
    body = assert_problem(answer, 503, "busy")
    assert answer.headers["Retry-After"] == "1"
    assert "secret-host" not in json.dumps(body)


def test_a_mistake_of_ours_is_a_500_that_says_nothing(
    client: FlaskClient, running: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider tries again; the mistake is counted, and its text stays inside."""
    before = counted("topview", "error")
    monkeypatch.setattr(NoticeService, "take", _raise(RuntimeError("secret detail")))
    answer = client.post(running[1], data=notice_body(), headers=UID)
    assert "secret" not in str(assert_problem(answer, 500, "internal"))
    assert counted("topview", "error") == before + 1


def _raise(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise error

    return fail
