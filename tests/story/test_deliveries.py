"""Stories of events on their way to subscribers: retries, dead letters, replay, rotation, reading instead."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.story.samples import SUPERAPP
from tests.story.system import System
from tests.subscriber import Subscriber, answer

pytestmark = pytest.mark.process


def one_task(system: System) -> dict[str, Any]:
    """A task that has succeeded."""
    return system.finished(system.submit("superapp", "text2image", SUPERAPP.given("duration=1")))


def delivery(system: System, subscriber: dict[str, Any], status: str, seconds: float = 15) -> dict[str, Any]:
    """The newest delivery of a subscriber, once it has this status, with its attempts."""
    deadline = time.monotonic() + seconds
    while True:
        found = system.call("GET", f"/v1/deliveries?subscriber={subscriber['id']}&status={status}")["data"]
        if found:
            one: dict[str, Any] = system.call("GET", f"/v1/deliveries/{found[0]['id']}")
            return one
        assert time.monotonic() < deadline, system.call("GET", f"/v1/deliveries?subscriber={subscriber['id']}")
        time.sleep(0.05)


def test_retry_then_success(polling: System) -> None:
    """A subscriber that fails twice gets the same bytes under the same id a third time, freshly signed."""
    with Subscriber(answer(500), answer(503), answer(200)) as receiving:
        subscriber = polling.subscribe(receiving.url, ["task.succeeded"])
        one_task(polling)
        received = receiving.wait_for(3)
        for request in received:
            request.verify(subscriber["secret"])
        assert len({request.header("webhook-id") for request in received}) == 1
        assert len({request.body for request in received}) == 1
        done = delivery(polling, subscriber, "delivered")
        assert [attempt["response_status"] for attempt in done["attempts"]] == [500, 503, 200]
        assert [attempt["number"] for attempt in done["attempts"]] == [1, 2, 3]


def test_dead_letter_then_replay(polling: System) -> None:
    """A delivery whose schedule is used up is dead and listed; a replay delivers it under the same id."""
    with Subscriber(answer(500)) as receiving:
        subscriber = polling.subscribe(receiving.url, ["task.succeeded"])
        one_task(polling)
        dead = delivery(polling, subscriber, "dead")
        assert (dead["reason"], len(dead["attempts"])) == ("exhausted", 4)
        receiving.script(answer(204))
        body = {"since": "2020-01-01T00:00:00Z", "status": "dead"}
        assert polling.call("POST", f"/v1/subscribers/{subscriber['id']}/replay", json=body)["replayed"] == 1
        done = delivery(polling, subscriber, "delivered")
        assert done["id"] == dead["id"]
        received = receiving.wait_for(5)
        assert len({request.header("webhook-id") for request in received}) == 1
        received[-1].verify(subscriber["secret"])
        assert done["attempts"][-1]["trigger"] == "manual"


def test_rotation(polling: System) -> None:
    """After a rotation both secrets verify; with an overlap of nothing the old one ends at once."""
    with Subscriber(answer(200)) as receiving:
        subscriber = polling.subscribe(receiving.url, ["task.succeeded"])
        path = f"/v1/subscribers/{subscriber['id']}"
        second = polling.call("POST", f"{path}/rotate-secret", json={})["secret"]
        one_task(polling)
        first_request = receiving.wait_for(1)[0]
        first_request.verify(subscriber["secret"])
        first_request.verify(second)
        third = polling.call("POST", f"{path}/rotate-secret", json={"overlap": 0})["secret"]
        one_task(polling)
        second_request = receiving.wait_for(2)[1]
        second_request.verify(third)
        assert not second_request.is_verified_by(second)
        assert not second_request.is_verified_by(subscriber["secret"])


def test_gone_disables(polling: System) -> None:
    """410 ends the delivery at once and disables the subscriber."""
    with Subscriber(answer(410)) as receiving:
        subscriber = polling.subscribe(receiving.url, ["task.succeeded"])
        one_task(polling)
        dead = delivery(polling, subscriber, "dead")
        assert (dead["reason"], len(dead["attempts"])) == ("gone", 1)
        assert polling.call("GET", f"/v1/subscribers/{subscriber['id']}")["disabled"] is True


def test_retry_after_postpones(polling: System) -> None:
    """Retry-After on 429 postpones the next attempt beyond the schedule."""
    with Subscriber(answer(429, {"Retry-After": "2"}), answer(200)) as receiving:
        subscriber = polling.subscribe(receiving.url, ["task.succeeded"])
        one_task(polling)
        received = receiving.wait_for(2)
        assert received[1].at - received[0].at >= 2
        delivery(polling, subscriber, "delivered")


def test_disabled_backlog_drains(polling: System) -> None:
    """While disabled nothing is sent and nothing is lost: enabling delivers the backlog."""
    with Subscriber(answer(200)) as receiving:
        subscriber = polling.subscribe(receiving.url, ["task.succeeded"])
        path = f"/v1/subscribers/{subscriber['id']}"
        polling.call("PATCH", path, json={"disabled": True})
        one_task(polling)
        time.sleep(0.5)
        assert receiving.requests == []
        polling.call("PATCH", path, json={"disabled": False})
        receiving.wait_for(1)[0].verify(subscriber["secret"])


def test_forbidden_address_is_never_dialled(polling: System) -> None:
    """An inside address is refused at registration, with the field named."""
    body = {"url": "https://169.254.169.254/latest", "event_types": ["*"]}
    problem = polling.call("POST", "/v1/subscribers", 422, json=body)
    assert "url" in problem["errors"]


def test_consuming_events_without_a_webhook(polling: System) -> None:
    """A caller that no webhook can reach reads the same events in order, waiting for the next one."""
    earlier = one_task(polling)
    newest = polling.call("GET", "/v1/events?limit=1")["data"][0]
    task = polling.submit("superapp", "text2image", SUPERAPP.given("duration=5"))
    seen: list[str] = []
    after = newest["id"]
    deadline = time.monotonic() + 20
    while "task.succeeded" not in seen and time.monotonic() < deadline:
        for event in polling.call("GET", f"/v1/events?after={after}&wait=5")["data"]:
            after = event["id"]
            assert event["data"].get("id") != earlier["id"], "it was told before the place to go on from"
            if event["data"].get("id") == task["id"]:
                seen.append(event["type"])
    assert seen[0] == "task.running"
    assert seen[-1] == "task.succeeded"


def test_stream_of_events(polling: System) -> None:
    """The event stream brings a task's events live."""
    url = f"{polling.url}/v1/events"
    with polling.session.get(url, headers={"Accept": "text/event-stream"}, stream=True, timeout=20) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        task = polling.submit("superapp", "text2image", SUPERAPP.given("duration=2"))
        for line in stream.iter_lines():
            if line.startswith(b"data:"):
                body = json.loads(line[5:])
                if body["data"].get("id") == task["id"] and body["type"] == "task.succeeded":
                    return
    pytest.fail("the stream ended without the event")


def test_ping(polling: System) -> None:
    """A ping reaches its subscriber alone, signed, whatever its event types."""
    with Subscriber(answer(200)) as receiving, Subscriber(answer(200)) as other:
        subscriber = polling.subscribe(receiving.url, ["task.failed"])
        polling.subscribe(other.url, ["*"])
        polling.call("POST", f"/v1/subscribers/{subscriber['id']}/ping", 202)
        received = receiving.wait_for(1)[0]
        received.verify(subscriber["secret"])
        assert json.loads(received.body)["type"] == "subscriber.ping"
        assert other.requests == []
