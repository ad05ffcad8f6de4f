"""Odd numbers and odd nesting: the sandbox answers them as its providers would, never by breaking down."""

from __future__ import annotations

import json
import time

import pytest
import requests

from receiver.sandbox._topview_table import MESSAGES

from .clients import ImgOpen, SuperApp, TopView
from .conftest import Start

HUGE = int("9" * 400)
"""A whole number of JSON that no float can hold."""
EDIT = "/v1/common_task/image_edit/task"


def test_numbers_without_end_are_numbers(start: Start) -> None:
    """A huge count passes where there is no limit, and is refused in the provider's form where there is one."""
    sandbox = start(time_scale=0)
    drawing = ImgOpen(sandbox.url)
    drawing.draw("a", batch_size=HUGE, n_iter=HUGE)
    assert len(drawing.drawn("a")["data"]["differentialImageRspList"]) == 100
    assert drawing.post("sd/v2/queryModelList", {"pageSize": 1, "pageNum": HUGE})["data"]["rows"] == []
    client = SuperApp(sandbox.url)
    given = {"workflow": "TEXT2IMAGE", "version": "1.0.0", "algoInput": {"inputText": "a", "width": HUGE, "height": 64}}
    assert client.submit(given).json()["errorCode"] == "INTCNN_COMMON_PARAM_VALID_ERROR"
    assert client.submit(given, stamp="9" * 400).json()["errorCode"] == "INTCNN_COMMON_AUTH_CHECK_ERROR"


def test_digits_that_are_no_numbers_are_texts(start: Start) -> None:
    """A superscript as a seed, a count or a script's id does not make a task that cannot be asked after."""
    sandbox = start(time_scale=0)
    drawing = ImgOpen(sandbox.url)
    drawing.draw("a", seed="\u00b2")
    assert drawing.drawn("a")["code"] == "200"
    client = TopView(sandbox.url)
    for path, given, query in (
        (f"{EDIT}/submit", {"generateCount": "\u00b2"}, f"{EDIT}/query"),
        (f"{EDIT}/submit", {"generateCount": "9" * 5000}, f"{EDIT}/query"),
        ("/v1/m2v/export", {"taskId": "p", "scriptId": "\u00b2"}, "/v1/m2v/task/query"),
    ):
        task_id = client.post(path, given)["result"]["taskId"]
        assert client.get(query, taskId=task_id)["result"]["status"] == "success"


@pytest.mark.parametrize("text", ["http=99999", "http=0", "http=103", "http=600", "http=\u00b2", "http"])
def test_a_token_with_a_status_that_is_none_means_500(start: Start, text: str) -> None:
    """No answer goes out with a status line that a caller cannot read, or would take for no answer yet."""
    sandbox = start()
    answer = requests.post(
        f"{sandbox.url}/topview{EDIT}/submit",
        json={"prompt": f"[sandbox:{text}]"},
        headers={"Topview-Uid": "demo-uid", "Authorization": "Bearer sk-demo"},
        timeout=10,
    )
    assert (answer.status_code, answer.json()["code"]) == (500, "5000")


def test_a_token_with_a_count_that_is_none_holds_always(start: Start) -> None:
    """``code=4007*x`` refuses every time."""
    client = TopView(start().url)
    for _ in range(3):
        answer = client.post(f"{EDIT}/submit", {"prompt": "[sandbox:code=4007*\u00b2]"})
        assert (answer["code"], answer["message"]) == ("4007", MESSAGES["4007"])


def test_nesting_without_end_is_no_json(start: Start) -> None:
    """It is refused as any other body that cannot be read."""
    sandbox = start()
    deep = b"[" * 100_000
    headers = {"Content-Type": "application/json"}
    topview = {**headers, "Topview-Uid": "demo-uid", "Authorization": "Bearer sk-demo"}
    answer = requests.post(f"{sandbox.url}/topview{EDIT}/submit", data=deep, headers=topview, timeout=10)
    assert answer.json()["code"] == "4001"
    keys = {**headers, "X-Request-req-accessKeyId": "demo-id", "X-Request-req-accessKeySecret": "demo-secret"}
    address = f"{sandbox.url}/img_open/AIGCImgOpenServ/saas/tool/roop"
    assert requests.post(address, data=deep, headers=keys, timeout=10).json()["code"] == "400"
    assert json.loads(requests.get(f"{sandbox.url}/_sandbox/tasks", timeout=10).text)["total"] == 0


def test_half_a_character_is_no_json(start: Start) -> None:
    """It is refused as any other body that cannot be read, and not kept as an id that breaks every query."""
    sandbox = start(time_scale=0)
    drawing = ImgOpen(sandbox.url)
    given = {"prompt": "a", "batch_size": 1, "alwayson_scripts": {"id_task": "\ud800"}}
    assert drawing.post("sd/v2/text2image", given)["code"] == "400"
    assert drawing.post("sd/v2/queryTaskInfo", {"businessTaskId": "\ud800"})["code"] == "400"
    assert TopView(sandbox.url).post(f"{EDIT}/submit", {"prompt": "\ud800"})["code"] == "4001"


def test_a_link_with_letters_that_no_signature_has_is_denied(start: Start) -> None:
    """It is answered like any other forged link."""
    answer = requests.get(f"{start().url}/_sandbox/files/open.a.0.\u00e9.png", timeout=10)
    assert answer.status_code == 403


def test_a_task_that_lasts_for_ever_can_be_shown(start: Start) -> None:
    """However the times are stretched, a task ends in a year that can be written."""
    sandbox = start(time_scale=1000)
    TopView(sandbox.url).post(f"{EDIT}/submit", {"prompt": "[sandbox:duration=1000000000]"})
    assert requests.get(f"{sandbox.url}/_sandbox/tasks", timeout=10).json()["total"] == 1


def test_callbacks_without_end_are_a_thousand(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistyped number neither fills the memory nor calls somebody for hours."""
    sandbox = start(time_scale=0)
    sent = []
    monkeypatch.setattr(sandbox.world.callbacks, "send", lambda notice, **_: sent.append(notice))
    given = {"prompt": "[sandbox:duplicate-callbacks=1000000000]", "noticeUrl": "http://127.0.0.1:9/"}
    task_id = TopView(sandbox.url).post(f"{EDIT}/submit", given)["result"]["taskId"]
    requests.post(f"{sandbox.url}/_sandbox/tasks/{task_id}/finish", json={}, timeout=60)
    monkeypatch.undo()
    until = time.monotonic() + 10
    while len(sent) < 1000 and time.monotonic() < until:
        time.sleep(0.01)
    assert len(sent) == 1000
