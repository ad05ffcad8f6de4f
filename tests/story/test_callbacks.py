"""Stories of results that a provider's callback brings."""

from __future__ import annotations

import json
import time

import pytest

from tests.story.samples import CALLING, IMG_TOOL, TOPVIEW, VOD, Sample
from tests.story.system import System
from tests.subscriber import Subscriber, answer

pytestmark = pytest.mark.process


def final_events(subscriber: Subscriber, task_id: str) -> list[str]:
    """The types of final events about a task that arrived, in order, each id once."""
    found = {}
    for request in subscriber.requests:
        body = json.loads(request.body)
        if body["data"].get("id") == task_id and body["type"] not in ("task.running", "task.progress"):
            found[request.header("webhook-id")] = body["type"]
    return list(found.values())


@pytest.mark.parametrize("sample", CALLING, ids=str)
def test_callback_brings_the_result(calling: System, sample: Sample) -> None:
    """A provider's callback ends the task, and the signed event is verified by the published libraries."""
    with Subscriber(answer(200)) as subscriber:
        secret = calling.subscribe(subscriber.url, ["task.succeeded"])["secret"]
        task = calling.submit(sample.provider, sample.operation, sample.given(), metadata={"order": "17"})
        done = calling.finished(task)
        assert done["status"] == "succeeded"
        assert done["completed_via"] == "callback"
        assert done["metadata"] == {"order": "17"}
        assert [output["status"] for output in done["outputs"]] == ["ok"] * len(done["outputs"]) != []
        received = subscriber.wait_for(1)[0]
        received.verify(secret)
        assert json.loads(received.body)["data"] == done


@pytest.mark.parametrize("sample", CALLING, ids=str)
def test_many_equal_callbacks_make_one_event(calling: System, sample: Sample) -> None:
    """Ten equal callbacks in parallel end a task once: one final event."""
    with Subscriber(answer(200)) as subscriber:
        calling.subscribe(subscriber.url, ["*"])
        task = calling.submit(sample.provider, sample.operation, sample.given("duplicate-callbacks=10"))
        assert calling.finished(task)["status"] == "succeeded"
        time.sleep(0.5)  # time for a second event, if there were one
        assert final_events(subscriber, task["id"]) == ["task.succeeded"]
        notices = [step for step in calling.timeline(task) if step["kind"] == "notice"]
        assert len(notices) == 1
        assert notices[0]["detail"]["copies"] == 10


@pytest.mark.parametrize("sample", CALLING, ids=str)
def test_callback_before_the_answer(calling: System, sample: Sample) -> None:
    """A callback that comes before the submit's answer has been stored finds its task all the same."""
    task = calling.submit(sample.provider, sample.operation, sample.given("early-callback"))
    done = calling.finished(task, 10)
    assert (done["status"], done["completed_via"]) == ("succeeded", "callback")


@pytest.mark.parametrize("sample", [TOPVIEW, IMG_TOOL], ids=str)
def test_forged_success_never_reaches_a_subscriber(calling: System, sample: Sample) -> None:
    """A forged success while the provider says running changes nothing: only the true result is sent on."""
    with Subscriber(answer(200)) as subscriber:
        calling.subscribe(subscriber.url, ["*"])
        task = calling.submit(sample.provider, sample.operation, sample.given("forged-callback", "duration=20"))
        done = calling.finished(task)
        assert done["status"] == "succeeded"
        subscriber.wait_for(2)
        assert final_events(subscriber, task["id"]) == ["task.succeeded"]
        assert not any(b"attacker" in request.body or b"evil" in request.body for request in subscriber.requests)


@pytest.mark.parametrize("sample", [TOPVIEW, VOD], ids=str)
def test_lost_answer_is_saved_by_the_callback(calling: System, sample: Sample) -> None:
    """When the submit's answer is lost, the task is not bought again: its callback finds it."""
    task = calling.submit(sample.provider, sample.operation, sample.given("drop", f"key={sample.provider}-lost"))
    done = calling.finished(task)
    assert done["status"] == "succeeded"
    assert done["provider_task_id"]
    assert calling.sandbox_call("GET", f"starts?key={sample.provider}-lost")["starts"] == 1


def test_repeating_img_open_under_its_own_id(calling: System) -> None:
    """Img Open takes our id: a lost answer is repeated, and still only one task is started there."""
    task = calling.submit("img_open", "flux_text2image", IMG_TOOL.given("drop", "key=img-lost", "no-callback"))
    done = calling.finished(task)
    assert done["status"] == "succeeded"
    assert calling.sandbox_call("GET", "starts?key=img-lost")["starts"] == 1


@pytest.mark.parametrize("sample", CALLING, ids=str)
def test_provider_says_that_it_failed(calling: System, sample: Sample) -> None:
    """A failed task becomes one task.failed, with the provider's reason in our words and its own."""
    with Subscriber(answer(200)) as subscriber:
        secret = calling.subscribe(subscriber.url, ["task.failed"])["secret"]
        task = calling.submit(sample.provider, sample.operation, sample.given("fail"))
        done = calling.finished(task)
        assert done["status"] == "failed"
        assert done["error"]["code"] in ("provider_error", "content_policy", "empty_result")
        assert done["error"]["message"]
        received = subscriber.wait_for(1)[0]
        received.verify(secret)
        assert json.loads(received.body)["type"] == "task.failed"


def test_callback_url_of_one_task(calling: System) -> None:
    """A task's own callback URL gets its events, signed with the account's secret, without any registration."""
    with Subscriber(answer(200)) as subscriber:
        task = calling.submit("topview", TOPVIEW.operation, TOPVIEW.given(), callback_url=subscriber.url)
        calling.finished(task)
        received = subscriber.wait_for(2)
        secret = calling.call("GET", "/v1/signing-secret")["secret"]
        for request in received:
            request.verify(secret)
        assert [json.loads(request.body)["type"] for request in received] == ["task.running", "task.succeeded"]
        registered = calling.call("GET", "/v1/subscribers?limit=100")["data"]
        assert subscriber.url not in [entry["url"] for entry in registered]
