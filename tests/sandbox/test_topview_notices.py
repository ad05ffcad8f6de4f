"""TopView's notices: who is called with what, what counts as an answer, and the retry table."""

from __future__ import annotations

import itertools
import json
import threading
from typing import Any

import pytest

from .clients import TopView
from .conftest import Start
from .listener import Heard, Listener, until


def echo(heard: Heard, _: int) -> tuple[int, bytes]:
    """The answer that the provider wants."""
    result = {"uuid": heard.body["uuid"], "topviewUid": "demo-uid", "result": "success"}
    return 200, json.dumps({"code": "200", "message": "Success", "result": result}).encode()


def attempts(sandbox: Any, number: int) -> list[dict[str, Any]]:
    """The recorded attempts, once there are so many."""
    found: list[dict[str, Any]] = until(
        lambda: sandbox.world.callbacks.attempts() if len(sandbox.world.callbacks.attempts()) >= number else None
    )
    return found


def test_a_notice_carries_what_the_query_would(start: Start, listener: Listener) -> None:
    """The uuid of the submit, bizType, task, state and the query's inner result, under the uid's header."""
    listener.reply = echo
    sandbox = start()
    client = TopView(sandbox.url)
    submitted = client.draw(noticeUrl=f"{listener.url}/hook/1")
    heard = listener.wait_for(1)[0]
    assert heard.path == "/hook/1"
    assert heard.headers["topview-uid"] == "demo-uid"
    assert heard.headers["content-type"] == "application/json"
    body = heard.body
    assert body["uuid"] == submitted["noticeUuid"]
    assert (body["bizType"], body["taskId"]) == ("COMMON_TASK_TEXT2IMAGE", submitted["taskId"])
    assert (body["status"], body["errorMsg"]) == ("success", None)
    asked = client.drawn(submitted["taskId"])
    assert body["result"]["images"][0]["fileId"] == asked["images"][0]["fileId"]
    assert [a["accepted"] for a in attempts(sandbox, 1)] == [True]


def test_a_failed_task_says_so(start: Start, listener: Listener) -> None:
    """The notice of a failed task has status fail and the reason."""
    listener.reply = echo
    TopView(start().url).draw("[sandbox:fail=5001]", noticeUrl=listener.url)
    body = listener.wait_for(1)[0].body
    assert (body["status"], body["errorMsg"]) == ("fail", "Feign invoke error")


def test_another_machine_is_called_when_asked_for_only(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """A callback to another machine is not sent, not tried again, and the log says once how to permit it."""
    sandbox = start()
    for _ in range(2):
        TopView(sandbox.url).draw(noticeUrl="http://203.0.113.9/hook")
    tried = attempts(sandbox, 2)
    assert [(attempt["attempt"], attempt["status"]) for attempt in tried] == [(1, None)] * 2
    assert all("not a loopback address" in attempt["error"] for attempt in tried)
    assert caplog.text.count("SANDBOX_ALLOW_REMOTE_CALLBACKS=true") == 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda heard: (500, b"{}"),
        lambda heard: (200, b"not json"),
        lambda heard: (200, b"\xff\xfe"),
        lambda heard: (200, b'{"code":"200"}'),
        lambda heard: (302, b""),
        lambda heard: (200, json.dumps({"code": 200, "result": _good(heard)}).encode()),
        lambda heard: (200, json.dumps({"code": "4000", "result": _good(heard)}).encode()),
        lambda heard: (200, json.dumps({"code": "200", "result": _good(heard, uuid="other")}).encode()),
        lambda heard: (200, json.dumps({"code": "200", "result": _good(heard, result="fail")}).encode()),
        lambda heard: (201, json.dumps({"code": "200", "result": _good(heard)}).encode()),
    ],
)
def test_only_the_documented_answer_counts(start: Start, listener: Listener, wrong: Any) -> None:
    """Anything but code "200" with the same uuid and success is tried 3 more times, then never again."""
    listener.reply = lambda heard, number: wrong(heard)
    sandbox = start(time_scale=0.0001)
    TopView(sandbox.url).draw(noticeUrl=listener.url)
    tried = attempts(sandbox, 4)
    assert [a["attempt"] for a in tried] == [1, 2, 3, 4]
    assert not any(a["accepted"] for a in tried)
    assert all(heard.path == "/" for heard in listener.heard), "a redirect was followed"


def _good(heard: Heard, **change: str) -> dict[str, str]:
    return {"uuid": heard.body["uuid"], "topviewUid": "demo-uid", "result": "success", **change}


def test_retries_stop_at_the_first_good_answer(start: Start, listener: Listener) -> None:
    """After 30 and 120 s, scaled, a good answer ends the retries; every attempt has the same bytes."""
    listener.reply = lambda heard, number: echo(heard, number) if number == 3 else (503, b"")
    sandbox = start(time_scale=0.001)
    TopView(sandbox.url).draw(noticeUrl=listener.url)
    tried = attempts(sandbox, 3)
    assert [a["accepted"] for a in tried] == [False, False, True]
    waits = [later["at"] - earlier["at"] for earlier, later in itertools.pairwise(tried)]
    assert waits[0] >= 0.03
    assert waits[1] >= 0.12
    assert len({heard.raw for heard in listener.heard}) == 1


def test_an_early_notice_comes_before_the_submits_answer(start: Start, listener: Listener) -> None:
    """With early-callback the notice is sent and answered while the caller still waits."""
    answered = threading.Event()
    before: list[bool] = []

    def reply(heard: Heard, number: int) -> tuple[int, bytes]:
        before.append(not answered.is_set())
        return echo(heard, number)

    listener.reply = reply
    client = TopView(start().url)
    submitted = client.draw("[sandbox:early-callback]", noticeUrl=listener.url)
    answered.set()
    assert before == [True]
    assert listener.heard[0].body["taskId"] == submitted["taskId"]
    assert client.drawn(submitted["taskId"])["status"] == "success"


def test_duplicates_come_in_parallel_and_equal(start: Start, listener: Listener) -> None:
    """duplicate-callbacks=5 sends five equal notices at once."""
    together = threading.Barrier(5, timeout=10)

    def reply(heard: Heard, number: int) -> tuple[int, bytes]:
        together.wait()
        return echo(heard, number)

    listener.reply = reply
    TopView(start().url).draw("[sandbox:duplicate-callbacks=5]", noticeUrl=listener.url)
    assert len({heard.raw for heard in listener.wait_for(5)}) == 1


def test_a_forged_notice_comes_while_the_task_runs(start: Start, listener: Listener) -> None:
    """forged-callback claims success with an attacker's link under the right ids; the query knows better."""
    listener.reply = echo
    sandbox = start(time_scale=1, duration=60)
    client = TopView(sandbox.url)
    submitted = client.draw("[sandbox:forged-callback]", noticeUrl=listener.url)
    sandbox.world.shift(20)
    forged = listener.wait_for(1)[0].body
    assert (forged["status"], forged["uuid"]) == ("success", submitted["noticeUuid"])
    assert "attacker.example.test" in forged["result"]["images"][0]["filePath"]
    assert client.drawn(submitted["taskId"])["status"] == "running"
    sandbox.world.shift(60)
    true = listener.wait_for(2)[1].body
    assert "attacker" not in json.dumps(true)
    assert [a["kind"] for a in attempts(sandbox, 2)] == ["forged", "real"]


def test_no_callback_and_late_callback(start: Start, listener: Listener) -> None:
    """A notice can stay away for good, or come so many seconds after the end."""
    listener.reply = echo
    sandbox = start(time_scale=1, duration=0)
    client = TopView(sandbox.url)
    client.draw("[sandbox:no-callback]", noticeUrl=listener.url)
    late = client.draw("[sandbox:late-callback=500]", noticeUrl=listener.url)
    assert client.drawn(late["taskId"])["status"] == "success"
    until(lambda: sandbox.world.find("topview", late["taskId"]).noticed)  # type: ignore[union-attr]  # it is there
    assert listener.heard == []
    sandbox.world.shift(501)
    assert [heard.body["taskId"] for heard in listener.wait_for(1)] == [late["taskId"]]


def test_other_machines_are_not_called(start: Start) -> None:
    """An address outside the loopback is recorded as refused and never tried again."""
    sandbox = start()
    TopView(sandbox.url).draw(noticeUrl="http://203.0.113.9/hook")
    tried = attempts(sandbox, 1)
    assert tried[0]["status"] is None
    assert "loopback" in tried[0]["error"]
