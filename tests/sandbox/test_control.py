"""The sandbox's own API and its knobs: what was called, what was started, faults, clock, reset."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import requests

from receiver.sandbox import _world
from receiver.sandbox._faults import TOKENS, read_directives

from .clients import ImgOpen, SuperApp, TopView, Vod
from .conftest import Start
from .listener import Listener, until

DRAW = "/v1/common_task/text2image/task/submit"
BODY = {"model": "Demo", "prompt": "a cat"}


def get(url: str, path: str, **query: str) -> Any:
    """A read of the control API."""
    return requests.get(f"{url}/_sandbox/{path}", params=query, timeout=10).json()


def post(url: str, path: str, **body: object) -> requests.Response:
    """A knob of the control API."""
    return requests.post(f"{url}/_sandbox/{path}", json=body, timeout=10)


def test_the_index_leads_on(start: Start) -> None:
    """The bare address leads to an index that names providers, links and every magic token."""
    url = start().url
    answer = requests.get(url + "/", timeout=10)
    assert answer.url == f"{url}/_sandbox/"
    index = answer.json()
    assert index["providers"]["topview"] == f"{url}/topview"
    assert set(index["providers"]) == {"topview", "superapp", "apsaravideo_vod", "img_open"}
    assert len(index["magic_tokens"]) == len(TOKENS)
    for name in ("calls", "tasks", "starts", "callbacks", "faults", "clock"):
        assert requests.get(index["links"][name]["url"], timeout=10).status_code == 200


def test_calls_are_recorded_without_secrets(start: Start) -> None:
    """Provider, operation, ids and verdict of each call; no key, no header and no body."""
    url = start().url
    task_id = TopView(url).draw("geheim")["taskId"]
    TopView(url, key="sk-very-secret").post(DRAW, BODY)
    ImgOpen(url).draw("mine")
    SuperApp(url).draw()
    Vod(url).submit()
    found = get(url, "calls")
    verdicts = [(call["provider"], call["operation"], call["verdict"]) for call in found["data"]]
    assert verdicts == [
        ("topview", "v1/common_task/text2image/task/submit", "ok"),
        ("topview", "v1/common_task/text2image/task/submit", "401"),
        ("img_open", "sd/v2/text2image", "ok"),
        ("superapp", "openapi/v1/aigc/submitTask", "ok"),
        ("apsaravideo_vod", "SubmitAIImageJob", "ok"),
    ]
    assert found["data"][0]["ids"] == [task_id]
    assert found["rates"]["topview"]["max_per_second"]["*"] >= 1
    text = str(found)
    for secret in ("sk-demo", "sk-very-secret", "demo-secret", "testAccessKeySecret", "geheim"):
        assert secret not in text
    assert get(url, "calls", provider="img_open")["total"] == 1


def test_starts_are_counted_by_callers_id_url_or_key(start: Start) -> None:
    """Each task counts once, under its magic key, its caller's id or its callback address."""
    url = start(always="[sandbox:no-callback]").url
    client = TopView(url)
    for _ in range(2):
        client.draw("[sandbox:key=job-1]", noticeUrl="http://127.0.0.1:1/a")
    client.draw(noticeUrl="http://127.0.0.1:1/b")
    ImgOpen(url).draw("mine")
    assert get(url, "starts", key="job-1")["starts"] == 2
    assert get(url, "starts", key="http://127.0.0.1:1/b")["starts"] == 1
    assert get(url, "starts", key="mine")["task_ids"] == ["mine"]
    assert get(url, "starts", key="nobody")["starts"] == 0
    assert get(url, "starts")["total"] == 4


def test_tasks_can_be_seen_and_finished(start: Start, listener: Listener) -> None:
    """A task that would never finish ends by hand as asked, and its callback is sent."""
    sandbox = start(time_scale=1)
    client = TopView(sandbox.url)
    task_id = client.draw("[sandbox:stuck]", noticeUrl=listener.url)["taskId"]
    sandbox.world.shift(10**6)
    shown = get(sandbox.url, f"tasks/{task_id}")
    assert (shown["stage"], shown["done_at"], shown["faults"]) == ("running", None, ["stuck"])
    assert post(sandbox.url, f"tasks/{task_id}/finish", outcome="gone").status_code == 400
    assert post(sandbox.url, "tasks/nobody/finish").status_code == 404
    assert requests.get(f"{sandbox.url}/_sandbox/tasks/nobody", timeout=10).status_code == 404
    done = post(sandbox.url, f"tasks/{task_id}/finish", outcome="fail", detail="5000").json()
    assert (done["stage"], done["outcome"]) == ("done", "fail")
    assert listener.wait_for(1)[0].body["status"] == "fail"
    assert client.drawn(task_id)["errorCode"] == "5000"
    assert get(sandbox.url, "tasks", provider="topview")["total"] == 1


def test_callback_attempts_can_be_read(start: Start, listener: Listener) -> None:
    """Each attempt has address, number, status, answer and whether it was accepted."""
    url = start(time_scale=0.001).url
    TopView(url).draw(noticeUrl=f"{listener.url}/hook")
    listener.wait_for(1)
    attempt = until(lambda: get(url, "callbacks")["data"])[0]
    assert attempt["url"] == f"{listener.url}/hook"
    assert (attempt["attempt"], attempt["status"], attempt["accepted"]) == (1, 200, False)
    assert attempt["answer"] == '{"code":"200"}'
    assert get(url, "callbacks", task_id="nobody")["total"] == 0


@pytest.mark.parametrize(
    ("fault", "value", "status", "code"),
    [
        ("code", "5003", 200, "5003"),
        ("http", "500", 500, "5000"),
        ("rate-limit", "", 200, "5003"),
    ],
)
def test_queued_faults_hit_the_next_calls(start: Start, fault: str, value: str, status: int, code: str) -> None:
    """A fault holds for so many calls of the operation, then everything is as before."""
    url = start().url
    added = post(url, "faults", provider="topview", operation="*/submit", times=2, fault=fault, value=value)
    assert added.status_code == 201
    assert get(url, "faults")["data"][0]["times"] == 2
    client = TopView(url)
    assert client.get("/v1/caption/list")["code"] == "200"
    for expected in ((status, code), (status, code), (200, "200")):
        answer = requests.post(client.base + DRAW, json=BODY, headers=client.headers, timeout=10)
        assert (answer.status_code, answer.json()["code"]) == expected
    assert get(url, "faults")["data"] == []


def test_queued_drops_slowness_and_nonsense(start: Start) -> None:
    """Drop cuts after the task was made, drop-before without; malformed is no JSON; slow only waits."""
    sandbox = start(time_scale=0.001)
    client = TopView(sandbox.url)
    for fault, tasks in (("drop", 1), ("drop-before", 1)):
        post(sandbox.url, "faults", fault=fault)
        with pytest.raises(requests.ConnectionError):
            client.post(DRAW, BODY)
        assert len(sandbox.world.tasks()) == tasks
    post(sandbox.url, "faults", fault="malformed")
    answer = requests.post(client.base + DRAW, json=BODY, headers=client.headers, timeout=10)
    assert answer.text.startswith("<html>")
    post(sandbox.url, "faults", fault="slow", value=50)
    begun = time.monotonic()
    client.draw()
    assert time.monotonic() - begun >= 0.05
    assert [call["verdict"] for call in get(sandbox.url, "calls")["data"]] == ["cut", "cut", "malformed", "ok"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"fault": "explode"},
        {"fault": "code"},
        {"fault": "http", "value": 200},
        {"fault": "http", "value": "x"},
        {"fault": "slow", "value": "long"},
        {"fault": "slow", "value": -1},
        {"fault": "slow", "value": 1e300},
        {"fault": "slow", "value": 86_401},
        {"fault": "drop", "times": 0},
        {"fault": "drop", "times": True},
        {"fault": "drop", "provider": "nobody"},
        {"fault": "drop", "provider": []},
        {"fault": "drop", "operation": 5},
        {"fault": []},
        {"fault": "http", "value": "\u00b2"},
    ],
)
def test_bad_faults_are_explained(start: Start, body: dict[str, object]) -> None:
    """A knob turned wrongly is HTTP 400 with a sentence."""
    answer = post(start().url, "faults", **body)
    assert answer.status_code == 400
    assert answer.json()["error"]


@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN"])
def test_no_answer_is_slow_for_ever(start: Start, number: str) -> None:
    """A fault that would keep its call for ever, or fail it, is not queued."""
    url = start().url
    answer = requests.post(f"{url}/_sandbox/faults", data=f'{{"fault": "slow", "value": {number}}}', timeout=10)
    assert (answer.status_code, answer.json()["error"]) == (400, "value must be a number of seconds from 0 to 86400")
    assert get(url, "faults")["data"] == []


@pytest.mark.parametrize("value", [600, 86_400, 1_000_000_000])
def test_no_call_is_held_up_for_long(start: Start, monkeypatch: pytest.MonkeyPatch, value: int) -> None:
    """Whatever a token or a fault asks for, and however time is stretched, the call's thread is free again."""
    monkeypatch.setattr(_world, "_LONGEST_HOLD", 0.1)
    sandbox = start(time_scale=1000)
    client = TopView(sandbox.url)
    begun = time.monotonic()
    client.draw(f"[sandbox:slow={value}]")
    if value <= 86_400:
        post(sandbox.url, "faults", fault="slow", value=value)
        client.draw()
    assert 0.1 <= time.monotonic() - begun < 30


@pytest.mark.parametrize("token", ["duration=inf", "duration=nan", "slow=-1", "slow=1e300", "duplicate-callbacks=-3"])
def test_a_token_whose_number_cannot_be_is_as_good_as_none(start: Start, token: str) -> None:
    """The task runs, and can be looked at."""
    sandbox = start()
    TopView(sandbox.url).draw(f"[sandbox:{token}]")
    assert len(get(sandbox.url, "tasks")["data"]) == 1


def test_magic_codes_can_be_limited(start: Start) -> None:
    """code=4007*2 refuses the same submit twice, then lets it pass; http= sets the status alone."""
    sandbox = start()
    client = TopView(sandbox.url)
    body = {**BODY, "prompt": "[sandbox:code=4007*2]"}
    assert [client.post(DRAW, body)["code"] for _ in range(3)] == ["4007", "4007", "200"]
    other = {**BODY, "prompt": "another [sandbox:code=4100]"}
    assert [client.post(DRAW, other)["code"] for _ in range(3)] == ["4100"] * 3
    answer = Vod(sandbox.url).call("SubmitAIImageJob", {"VideoId": "[sandbox:http=503*1]", "AITemplateId": "t"})
    assert (answer.status_code, answer.json()["Code"]) == (503, "ServiceUnavailable")


def test_queries_of_one_task_can_fail(start: Start) -> None:
    """query-code, query-http and query-drop strike that task's queries so many times."""
    client = TopView(start(time_scale=0).url)
    path = "/v1/common_task/text2image/task/query"
    task_id = client.draw("[sandbox:query-code=5000*2]")["taskId"]
    assert [client.get(path, taskId=task_id)["code"] for _ in range(3)] == ["5000", "5000", "200"]
    task_id = client.draw("[sandbox:query-http=502*1]")["taskId"]
    statuses = [
        requests.get(client.base + path, params={"taskId": task_id}, headers=client.headers, timeout=10).status_code
        for _ in range(2)
    ]
    assert statuses == [502, 200]
    task_id = client.draw("[sandbox:query-drop=1]")["taskId"]
    with pytest.raises(requests.ConnectionError):
        client.drawn(task_id)
    assert client.drawn(task_id)["status"] == "success"


def test_tokens_are_found_anywhere() -> None:
    """At any depth, several in one string, percent-encoded in a link; the last of equal names counts."""
    found = read_directives(
        "[sandbox:fail=a]", {"x": [{"y": "b [sandbox:fail=c][sandbox:stuck] d"}]}, "https://x.test/?[sandbox:blocked]"
    )
    assert found.names() == ["blocked", "fail", "stuck"]
    assert found.text("fail") == "c"
    encoded = read_directives("https://x.test/%5Bsandbox%3Aduration%3D10%5D.png")
    assert encoded.number("duration", 3) == 10
    assert read_directives("[sandbox:fial]").unknown() == ["fial"]
    assert read_directives("[sandbox:duration=long]").number("duration", 3) == 3


def test_tokens_can_hold_for_everything(start: Start) -> None:
    """By setting, for all tasks or one provider's; the task's own tokens come last."""
    url = start(time_scale=0, always="[sandbox:fail=a]", superapp_always="[sandbox:fail=TIMEOUT]").url
    client = SuperApp(url)
    assert client.query(client.draw())["model"]["status"] == "TIMEOUT"
    assert client.query(client.draw("[sandbox:fail=FC_ERROR]"))["model"]["status"] == "FC_ERROR"
    video = Vod(url)
    assert video.job(video.submit())["Code"] == "a"


def test_the_failure_rate_is_a_share(start: Start) -> None:
    """About so many tasks fail, and the same ones for the same seed."""
    outcomes = []
    for _ in range(2):
        sandbox = start(time_scale=0, failure_rate=0.5, seed=7)
        client = ImgOpen(sandbox.url)
        for number in range(20):
            client.draw(str(number))
        outcomes.append([task.outcome for task in sandbox.world.tasks()])
    assert outcomes[0] == outcomes[1]
    assert 3 <= outcomes[0].count("fail") <= 17


def test_the_clock_moves(start: Start) -> None:
    """Shift adds up and moves tasks along; what is not a number is refused."""
    sandbox = start(time_scale=1, duration=100)
    client = TopView(sandbox.url)
    task_id = client.draw()["taskId"]
    assert post(sandbox.url, "clock", shift=50).json()["shift"] == 50
    assert client.drawn(task_id)["status"] == "running"
    assert post(sandbox.url, "clock", shift=60).json()["shift"] == 110
    assert client.drawn(task_id)["status"] == "success"
    assert post(sandbox.url, "clock", signature_skew=-5).json() | {"now": 0} == {
        "now": 0,
        "shift": 110,
        "signature_skew": -5,
    }
    assert post(sandbox.url, "clock").status_code == 400
    assert post(sandbox.url, "clock", shift="x").status_code == 400


@pytest.mark.parametrize("number", ["1e400", "-1e308", "1e15", "-1500000001", "NaN", "-Infinity", "1" + "0" * 400])
@pytest.mark.parametrize("name", ["shift", "signature_skew"])
def test_the_clock_stays_where_dates_can_be_written(start: Start, name: str, number: str) -> None:
    """A number that no calendar has is refused with its limits, and nothing of that request is done."""
    url = start().url
    other = {"shift": "signature_skew", "signature_skew": "shift"}[name]
    answer = requests.post(f"{url}/_sandbox/clock", data=f'{{"{name}": {number}, "{other}": 5}}', timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error"] == f"{name} must be a number of seconds from -1500000000 to 1500000000"
    shown = requests.get(f"{url}/_sandbox/clock", timeout=10)
    assert (shown.status_code, shown.json()["shift"], shown.json()["signature_skew"]) == (200, 0, 0)


@pytest.mark.parametrize("farthest", [1_500_000_000, -1_500_000_000])
def test_many_shifts_go_no_farther_than_one(start: Start, farthest: int) -> None:
    """The sum has the same limits; a provider still works at the very end of them."""
    url = start().url
    assert post(url, "clock", shift=farthest).status_code == 200
    refused = post(url, "clock", shift=farthest / 1_500_000_000, signature_skew=5)
    assert (refused.status_code, refused.json()["error"][:19]) == (400, "all shifts together")
    assert get(url, "clock")["signature_skew"] == 0
    task_id = TopView(url).draw()["taskId"]
    assert get(url, f"tasks/{task_id}")["id"] == task_id
    assert post(url, "clock", shift=-farthest).json()["shift"] == 0


def test_reset_forgets_everything(start: Start, listener: Listener) -> None:
    """After a reset nothing is left: tasks, calls, starts, faults, callbacks to come, the clock's shift."""
    sandbox = start(time_scale=1, duration=50)
    url = sandbox.url
    TopView(url).draw(noticeUrl=listener.url)
    post(url, "faults", fault="drop")
    post(url, "clock", shift=10)
    assert post(url, "reset").status_code == 204
    for path in ("calls", "tasks", "starts", "callbacks"):
        assert get(url, path)["total"] == 0, path
    assert get(url, "faults")["data"] == []
    assert get(url, "clock")["shift"] == 0
    sandbox.world.shift(100)
    TopView(url).draw("[sandbox:duration=0]", noticeUrl=f"{listener.url}/second")
    assert listener.wait_for(1)[0].path == "/second"


def test_memory_is_bounded(start: Start) -> None:
    """Beyond the limit the oldest tasks are forgotten."""
    sandbox = start(max_tasks=5)
    client = ImgOpen(sandbox.url)
    for number in range(8):
        client.draw(str(number))
    assert [task.id for task in sandbox.world.tasks()] == ["3", "4", "5", "6", "7"]
    assert client.drawn("0")["code"] == "402"
    assert get(sandbox.url, "calls")["total"] == 5
    for _ in range(8):  # of callers who give neither an id nor a callback URL: counted under one name
        TopView(sandbox.url).draw()
    assert get(sandbox.url, "starts", key="")["starts"] == 5


def test_many_callers_at_once(start: Start) -> None:
    """Forty submits from eight threads become forty tasks; the most calls per second are known."""
    sandbox = start()
    client = TopView(sandbox.url)
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.extend(client.draw()["taskId"] for _ in range(5))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 40
    assert get(sandbox.url, "calls")["rates"]["topview"]["max_per_second"]["*"] > 1


def test_the_sandbox_plays_a_subscriber_that_answers_anything(start: Start) -> None:
    """An address for each status, so that a webhook can be refused without a program of one's own."""
    sandbox = start()
    for status in (200, 410, 503):
        assert post(sandbox.url, f"answer/{status}").status_code == status
    assert post(sandbox.url, "answer/42").status_code == 400
