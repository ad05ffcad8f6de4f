"""Stories of results that asking brings: no callbacks, lost ones, races with them."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.story.samples import ALL, CALLING, SUPERAPP, TOPVIEW, Sample
from tests.story.system import System
from tests.story.test_callbacks import final_events
from tests.subscriber import Subscriber, answer

pytestmark = pytest.mark.process


@pytest.mark.parametrize("sample", ALL, ids=str)
def test_asking_brings_the_result(polling: System, sample: Sample) -> None:
    """Where no callback comes (or it got lost), asking brings the result, and the event is verified."""
    with Subscriber(answer(200)) as subscriber:
        secret = polling.subscribe(subscriber.url, ["task.succeeded"])["secret"]
        task = polling.submit(sample.provider, sample.operation, sample.given("no-callback"))
        done = polling.finished(task)
        assert (done["status"], done["completed_via"]) == ("succeeded", "poll")
        received = subscriber.wait_for(1)[0]
        received.verify(secret)
        assert json.loads(received.body)["data"] == done


@pytest.mark.parametrize("sample", CALLING, ids=str)
def test_callback_and_poll_race(polling: System, sample: Sample) -> None:
    """Callbacks and polls at the same moment, twenty tasks at once: one final state and one event for each."""
    with Subscriber(answer(200)) as subscriber, ThreadPoolExecutor(8) as pool:
        polling.subscribe(subscriber.url, ["task.succeeded", "task.failed"])
        given = sample.given("duplicate-callbacks=3", "duration=4")
        tasks = list(pool.map(lambda _: polling.submit(sample.provider, sample.operation, given), range(20)))
        for task in tasks:
            assert polling.finished(task, 40)["status"] == "succeeded"
        subscriber.wait_for(20)
        time.sleep(0.5)
        for task in tasks:
            assert final_events(subscriber, task["id"]) == ["task.succeeded"]


@pytest.mark.parametrize("sample", ALL, ids=str)
def test_results_are_real_files(polling: System, sample: Sample) -> None:
    """The links in outputs lead to real pictures and films that the sandbox serves."""
    done = polling.finished(polling.submit(sample.provider, sample.operation, sample.given()))
    urls = [output["url"] for output in done["outputs"] if output["url"]]
    assert urls
    for url in urls:
        answered = requests.get(url, timeout=10)
        assert answered.status_code == 200
        assert answered.content[:8] == b"\x89PNG\r\n\x1a\n" or answered.content[4:8] == b"ftyp"


def test_partial_failure(polling: System) -> None:
    """Of several pictures one failed: the task succeeded, and the bad item says so."""
    given = {**TOPVIEW.given("partial"), "generateCount": 3}
    done = polling.finished(polling.submit("topview", TOPVIEW.operation, given))
    assert done["status"] == "succeeded"
    states = sorted(output["status"] for output in done["outputs"])
    assert "failed" in states
    assert "ok" in states


def test_empty_path_is_no_success(polling: System) -> None:
    """SuperApp's success with an empty list as its path fails as empty_result."""
    done = polling.finished(polling.submit("superapp", "text2image", SUPERAPP.given("empty")))
    assert (done["status"], done["error"]["code"]) == ("failed", "empty_result")


def test_deadline_passes(polling: System) -> None:
    """At every provider, a task that never ends there expires at its deadline, and subscribers are told."""
    with Subscriber(answer(200)) as subscriber:
        secret = polling.subscribe(subscriber.url, ["task.expired"])["secret"]
        stuck = [polling.submit(each.provider, each.operation, each.given("stuck"), deadline=2) for each in ALL]
        for task in stuck:
            now = polling.finished(task)
            assert now["status"] == "expired", now
            assert awaited_end(subscriber, now) == ["task.expired"], now
        for request in subscriber.requests:
            request.verify(secret)


def awaited_end(subscriber: Subscriber, task: dict[str, Any]) -> list[str]:
    """The final events about a task, once one has come."""
    patience = time.monotonic() + 30
    while not (events := final_events(subscriber, task["id"])):
        assert time.monotonic() < patience, f"nobody was told of {task}"
        time.sleep(0.05)
    return events


def test_lost_answer_without_callbacks(polling: System) -> None:
    """SuperApp knows no key and no callback: a lost answer fails as submission_unknown, and nothing is bought twice."""
    done = polling.finished(polling.submit("superapp", "text2image", SUPERAPP.given("drop", "key=superapp-lost")))
    assert (done["status"], done["error"]["code"]) == ("failed", "submission_unknown")
    assert polling.sandbox_call("GET", "starts?key=superapp-lost")["starts"] == 1


def test_back_pressure_waits(polling: System) -> None:
    """TopView's "finish the other first" and "busy" put the task back in the queue; it succeeds later, bought once."""
    pressed = {
        key: polling.submit("topview", TOPVIEW.operation, TOPVIEW.given(f"code={code}*2", f"key={key}"))
        for code, key in (("4007", "pressure-4007"), ("5003", "pressure-5003"))
    }
    for key, task in pressed.items():
        assert polling.finished(task, 60)["status"] == "succeeded"
        assert polling.sandbox_call("GET", f"starts?key={key}")["starts"] == 1
        outcomes = [step["detail"]["outcome"] for step in polling.timeline(task) if step["kind"] == "submit"]
        assert outcomes == ["unavailable", "unavailable", "accepted"]


@pytest.mark.parametrize(("magic", "expected"), [("code=4100", "insufficient_credit"), ("code=6001", "content_policy")])
def test_refusals_are_final(polling: System, magic: str, expected: str) -> None:
    """A refusal ends the task at once, with the reason in our words and the provider's code."""
    done = polling.finished(polling.submit("topview", TOPVIEW.operation, TOPVIEW.given(magic)))
    assert (done["status"], done["error"]["code"]) == ("failed", expected)
    assert done["error"]["provider_code"] == magic.removeprefix("code=")


def test_cancel(polling: System) -> None:
    """A canceled task stays canceled, whatever its provider says later; its event says so; twice is a conflict."""
    with Subscriber(answer(200)) as subscriber:
        secret = polling.subscribe(subscriber.url, ["*"])["secret"]
        tasks = [canceled_while_it_runs(polling, sample) for sample in ALL]
        time.sleep(2)  # time for the providers to finish them, and to say so
        for task in tasks:
            assert polling.sandbox_call("GET", f"tasks/{task['provider_task_id']}")["stage"] == "done"
            assert polling.call("GET", f"/v1/tasks/{task['id']}")["status"] == "canceled", task
            assert awaited_end(subscriber, task) == ["task.canceled"], task
            polling.call("POST", f"/v1/tasks/{task['id']}/cancel", 409)
        for request in subscriber.requests:
            request.verify(secret)


def canceled_while_it_runs(system: System, sample: Sample) -> dict[str, Any]:
    """A task, canceled after its provider took it; another one where the machine stood still until it had ended."""
    for _ in range(3):
        task = system.submit(sample.provider, sample.operation, sample.given("duration=10"))
        patience = time.monotonic() + 60
        while (task := system.call("GET", f"/v1/tasks/{task['id']}"))["status"] in ("queued", "submitting"):
            assert time.monotonic() < patience, f"nobody took {task}"
            time.sleep(0.02)
        if task["status"] == "running":
            answered = system.session.post(f"{system.url}/v1/tasks/{task['id']}/cancel", timeout=20)
            if answered.status_code == 200:
                assert answered.json()["status"] == "canceled"
                return task
            assert answered.status_code == 409, answered.text
    raise AssertionError(f"three times it ended before it was canceled: {task}")


def test_upload_then_task(polling: System) -> None:
    """A file is uploaded through us, and its id works in a task of the provider."""
    files = {"file": ("boat.png", b"\x89PNG\r\n\x1a\n" + b"0" * 2000, "image/png")}
    uploaded = polling.call("POST", "/v1/uploads", 201, data={"provider": "topview"}, files=files)
    given = {"imageFileId": uploaded["file_id"], "duration": 5, "mode": "lite", "generatingCount": 1}
    done = polling.finished(polling.submit("topview", "common_task_image2video", given))
    assert done["status"] == "succeeded"
    assert done["outputs"][0]["kind"] == "video"


def test_idempotency_key(polling: System) -> None:
    """Ten equal requests at once with one key make one task and one start; another body is refused."""
    body = {"provider": "topview", "operation": TOPVIEW.operation, "input": TOPVIEW.given("key=idem")}
    headers = {"Idempotency-Key": "story-1"}

    def post(_: int) -> str:
        task: dict[str, str] = polling.call("POST", "/v1/tasks", 202, json=body, headers=headers)
        return task["id"]

    with ThreadPoolExecutor(10) as pool:
        assert len(set(pool.map(post, range(10)))) == 1
    polling.call("POST", "/v1/tasks", 422, json={**body, "metadata": {"a": "b"}}, headers=headers)
    polling.finished({"id": post(0)})
    assert polling.sandbox_call("GET", "starts?key=idem")["starts"] == 1


def test_prefer_wait_holds_the_answer(polling: System) -> None:
    """Prefer: wait gives the finished task in the answer to its submission."""
    body = {"provider": "superapp", "operation": "text2image", "input": SUPERAPP.given()}
    done = polling.call("POST", "/v1/tasks", 202, json=body, headers={"Prefer": "wait=20"})
    assert done["status"] == "succeeded"
