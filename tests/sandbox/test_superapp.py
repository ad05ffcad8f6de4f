"""SuperApp in the sandbox: signatures, the three workflows, every state."""

from __future__ import annotations

import base64
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from receiver.sandbox.superapp import AUTH, FAILURES, INVALID, NOT_FOUND, SYSTEM, sign

from .clients import SuperApp
from .conftest import Start

TEXT = {"inputText": "a cat", "width": 640, "height": 480}
VIDEO = {"inputText": "a cat", "inputImage": "https://cdn.example.test/cat.png"}
FITTING = {
    "modelImage": "https://cdn.example.test/m.png",
    "garmentImage": "https://cdn.example.test/g.png",
    "category": "upper",
    "seed": 0,
}


def body(workflow: str, given: object) -> dict[str, Any]:
    """A submit's body."""
    return {"workflow": workflow, "version": "1.0.0", "algoInput": given}


@pytest.mark.parametrize(
    ("method", "uri", "access_key", "secret", "stamp", "sent", "signature"),
    [
        (
            "POST",
            "/openapi/v1/a/b",
            "46b1cac78ed94ca4b99ad6de550afb68",
            "demo-secret-key",
            "1676904384074",
            '{"appId":"223232323","grantType":"authorization_code"}',
            "NDg5ODkzOWU3ZjMzMWNjMmUwODJkODBhZTJjOGFiYjIzMDRlNWY5Yw==",
        ),
        (
            "POST",
            "/openapi/v1/aigc/submitTask",
            "ak-demo-0001",
            "sk-demo-0001",
            "1741855077857",
            '{"workflow":"TEXT2IMAGE","version":"1.0.0","algoInput":{"inputText":"a cat","width":1024,"height":1024}}',
            "MjRhZDQ4Mjk5ZmIyYWU2NTc1NGI3YjNiYzNhNTVlNGJlZDkzNDA2OQ==",
        ),
        (
            "POST",
            "/openapi/v1/aigc/submitTask",
            "ak-demo-0001",
            "sk-demo-0001",
            "1741855077858",
            (
                '{"workflow":"IMAGE2VIDEO","version":"1.0.0","algoInput":{"inputText":"一只猫在月光下行走 🐈",'
                '"inputImage":"https://cdn.example.test/cat.png"}}'
            ),
            "NDU5ZTg1M2M4Njk1MzFkMTFkM2IxZGVhODlkOWJlYzZhMjM2MWEwYw==",
        ),
        (
            "GET",
            "/openapi/v1/aigc/queryTask",
            "ak-demo-0001",
            "sk-demo-0001",
            "1741855077859",
            "",
            "NzBlYzdmZmVlYmUyZGRkOGQ2ZWUyM2YwOTdjYzgwZDcwZDkzZDU0OA==",
        ),
    ],
)
def test_vectors_of_the_signature(
    method: str, uri: str, access_key: str, secret: str, stamp: str, sent: str, signature: str
) -> None:
    """The four vectors, made with the provider's own code, come out the same."""
    plain = sign(method, uri, sent.encode(), stamp, access_key, secret)
    assert base64.b64encode(plain.encode()).decode() == signature


@pytest.mark.parametrize(
    ("workflow", "given", "kind"),
    [
        ("TEXT2IMAGE", TEXT, "image/png"),
        ("IMAGE2VIDEO", VIDEO, "video/mp4"),
        ("CATVTON", FITTING, "image/png"),
    ],
)
def test_each_workflow_ends_in_a_link(start: Start, workflow: str, given: object, kind: str) -> None:
    """A submit gives a UUID; the finished task's ossPath is a link with an expiry in the future."""
    client = SuperApp(start(time_scale=0).url)
    answer = client.submit(body(workflow, given)).json()
    assert (answer["success"], answer["errorCode"], answer["errorMsg"]) == (True, None, None)
    assert len(answer["model"]) == 36
    model = client.query(answer["model"])["model"]
    assert model["status"] == "SUCCESS"
    query = parse_qs(urlsplit(model["ossPath"]).query)
    assert set(query) == {"Expires", "OSSAccessKeyId", "Signature"}
    assert int(query["Expires"][0]) > time.time()
    assert requests.get(model["ossPath"], timeout=10).headers["Content-Type"] == kind


def test_a_task_waits_runs_and_ends(start: Start) -> None:
    """WAITING, RUNNING, SUCCESS as time passes; no ossPath before the end."""
    sandbox = start(time_scale=1, duration=100)
    client = SuperApp(sandbox.url)
    task_id = client.draw()
    seen = []
    for _ in range(3):
        seen.append(client.query(task_id)["model"])
        sandbox.world.shift(51)
    assert [model["status"] for model in seen] == ["WAITING", "RUNNING", "SUCCESS"]
    assert ["ossPath" in model for model in seen] == [False, False, True]


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Request_Sign": "wrong"},
        {"X_Request_Sign": None},
        {"X_Access_Key": "nobody"},
        {"X_Access_Key": None},
        {"X_Request_Timestamp": None},
        {"X_Request_Timestamp": "yesterday"},
        {"x_acs_request_id": None},
    ],
)
def test_bad_headers_are_refused_in_http_200(start: Start, headers: dict[str, str | None]) -> None:
    """Each missing or wrong header is the provider's authentication error, success false, HTTP 200."""
    sandbox = start()
    answer = SuperApp(sandbox.url).submit(body("TEXT2IMAGE", TEXT), **headers)
    assert answer.status_code == 200
    assert answer.json()["success"] is False
    assert answer.json()["errorCode"] == AUTH
    assert answer.json()["model"] is None
    assert sandbox.world.tasks() == []


def test_the_clock_may_be_off_by_a_quarter_of_an_hour(start: Start) -> None:
    """A timestamp beyond the window is refused; the window moves with the skew that a test sets."""
    sandbox = start()
    client = SuperApp(sandbox.url)
    for seconds, taken in ((-890, True), (890, True), (-920, False), (920, False)):
        stamp = str(int((time.time() + seconds) * 1000))
        assert client.submit(body("TEXT2IMAGE", TEXT), stamp=stamp).json()["success"] is taken, seconds
    sandbox.world.shift(10_000)
    assert client.submit(body("TEXT2IMAGE", TEXT)).json()["success"] is True
    sandbox.world.skew = 10_000
    assert client.submit(body("TEXT2IMAGE", TEXT)).json()["errorCode"] == AUTH


def test_the_signature_covers_the_bytes_as_sent(start: Start) -> None:
    """The same JSON value in other bytes has another signature."""
    sandbox = start()
    client = SuperApp(sandbox.url)
    stamp, uri = str(int(time.time() * 1000)), "/openapi/v1/aigc/submitTask"
    raw = b'{"workflow":"TEXT2IMAGE","version":"1.0.0","algoInput":{"inputText":"a","width":64,"height":64}}'
    headers = client.headers(client.sign("POST", uri, raw, stamp), stamp)
    spaced = raw.replace(b",", b", ")
    assert requests.post(client.base + uri, data=spaced, headers=headers, timeout=10).json()["success"] is False
    assert requests.post(client.base + uri, data=raw, headers=headers, timeout=10).json()["success"] is True


@pytest.mark.parametrize("form", ["default", "hex", "path_with_query"])
def test_only_the_chosen_form_of_a_querys_signature_is_taken(start: Start, form: str) -> None:
    """Whichever form is set, the other two are refused, so that a mismatch shows."""
    client = SuperApp(start(time_scale=0, superapp_query_sign=form).url)
    task_id = client.draw()
    for tried in ("default", "hex", "path_with_query"):
        assert client.query(task_id, tried)["success"] is (tried == form), tried


@pytest.mark.parametrize(
    ("workflow", "given"),
    [
        ("TEXT2VIDEO", TEXT),
        ("", TEXT),
        ("TEXT2IMAGE", None),
        ("TEXT2IMAGE", "text"),
        ("TEXT2IMAGE", {**TEXT, "inputText": "x" * 501}),
        ("TEXT2IMAGE", {**TEXT, "inputText": ""}),
        ("TEXT2IMAGE", {**TEXT, "width": "640"}),
        ("TEXT2IMAGE", {**TEXT, "width": True}),
        ("TEXT2IMAGE", {**TEXT, "height": 63}),
        ("TEXT2IMAGE", {**TEXT, "height": 4097}),
        ("TEXT2IMAGE", {"inputText": "a"}),
        ("IMAGE2VIDEO", {"inputText": "a"}),
        ("IMAGE2VIDEO", {**VIDEO, "inputImage": "cat.png"}),
        ("CATVTON", {**FITTING, "category": "shoes"}),
        ("CATVTON", {**FITTING, "seed": -1}),
        ("CATVTON", {**FITTING, "seed": 2147483648}),
        ("CATVTON", {**FITTING, "garmentImage": None}),
    ],
)
def test_bad_fields_are_refused(start: Start, workflow: str, given: object) -> None:
    """Each field outside its documented type, range or words is the parameter error."""
    answer = SuperApp(start().url).submit(body(workflow, given)).json()
    assert (answer["success"], answer["errorCode"]) == (False, INVALID)


def test_five_hundred_characters_are_enough(start: Start) -> None:
    """The limits themselves are allowed; characters count, not bytes."""
    client = SuperApp(start().url)
    given = {"inputText": "猫" * 500, "width": 64, "height": 4096}
    assert client.submit(body("TEXT2IMAGE", given)).json()["success"] is True


@pytest.mark.parametrize("status", FAILURES)
def test_every_failure_can_be_had(start: Start, status: str) -> None:
    """Each documented failure is reached by a magic prompt, without a link."""
    client = SuperApp(start(time_scale=0).url)
    model = client.query(client.draw(f"[sandbox:fail={status}]"))["model"]
    assert model["status"] == status
    assert "ossPath" not in model


def test_success_with_an_empty_list_for_a_link(start: Start) -> None:
    """The token empty gives the provider's own oddity: the key of the object is an empty list."""
    client = SuperApp(start(time_scale=0).url)
    model = client.query(client.draw("[sandbox:empty]"))["model"]
    assert model["status"] == "SUCCESS"
    assert urlsplit(model["ossPath"]).path.endswith("/%5B%5D")
    assert requests.get(model["ossPath"], timeout=10).status_code == 403


def test_links_expire_and_are_made_anew(start: Start) -> None:
    """A link is refused after an hour; a new query gives a fresh one."""
    sandbox = start(time_scale=0)
    client = SuperApp(sandbox.url)
    task_id = client.draw()
    link = client.query(task_id)["model"]["ossPath"]
    sandbox.world.shift(3601)
    assert requests.get(link, timeout=10).status_code == 403
    fresh = client.query(task_id)["model"]["ossPath"]
    assert requests.get(fresh, timeout=10).status_code == 200
    late = client.query(client.draw("[sandbox:expired-url]"))["model"]["ossPath"]
    assert requests.get(late, timeout=10).status_code == 403


def test_unknown_tasks_and_operations(start: Start) -> None:
    """An unknown id is the parameter error, an unknown path the not-found code."""
    client = SuperApp(start().url)
    assert client.query("nobody")["errorCode"] == INVALID
    answer = requests.get(client.base + "/openapi/v1/aigc/cancelTask", timeout=10).json()
    assert answer["errorCode"] == NOT_FOUND


def test_unknown_status_while_running(start: Start) -> None:
    """The token shows an undocumented word until the task is done."""
    sandbox = start(time_scale=1, duration=100)
    client = SuperApp(sandbox.url)
    task_id = client.draw("[sandbox:unknown-status]")
    assert client.query(task_id)["model"]["status"] == "ARCHIVING"
    sandbox.world.shift(101)
    assert client.query(task_id)["model"]["status"] == "SUCCESS"


def test_a_dropped_answer_leaves_a_task(start: Start) -> None:
    """Drop cuts the connection after the task was made, drop-before without making one."""
    sandbox = start()
    client = SuperApp(sandbox.url)
    for token, tasks in (("drop-before", 0), ("drop", 1)):
        with pytest.raises(requests.ConnectionError):
            client.draw(f"[sandbox:{token}]")
        assert len(sandbox.world.tasks("superapp")) == tasks


def test_too_many_calls_are_429_with_the_system_error(start: Start) -> None:
    """Above the rate the answer is the provider's error body with HTTP 429."""
    client = SuperApp(start(superapp_rate="0.01").url)
    client.draw()
    answer = client.submit(body("TEXT2IMAGE", TEXT))
    assert answer.status_code == 429
    assert answer.json()["errorCode"] == SYSTEM
