"""Forged, tampered, replayed and stale callbacks against the whole system: what a subscriber gets is the truth."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from typing import Any

import pytest
import requests

from tests.attack.conftest import Target
from tests.attack.test_fuzz_door import notice
from tests.story.samples import IMG_TOOL, TOPVIEW, VOD, Sample
from tests.story.system import CREDENTIALS
from tests.story.test_callbacks import final_events
from tests.subscriber import Subscriber, answer

pytestmark = pytest.mark.process

ATTACKER = "https://attacker.example/malware.png"
TRUTH = "https://cdn.example.test/true.png"
CALLING = [TOPVIEW, VOD, IMG_TOOL]


def headers(sample: Sample, address: str, age: int = 0) -> dict[str, str]:
    """What the provider authenticates itself with; ``age``: how old the signature is, in seconds."""
    stamp = str(int(time.time()) - age)
    return {
        "topview": {"Topview-Uid": CREDENTIALS["TOPVIEW_UID"]},
        "apsaravideo_vod": {
            "X-VOD-TIMESTAMP": stamp,
            "X-VOD-SIGNATURE": hashlib.md5(f"{address}|{stamp}|Key1".encode()).hexdigest(),
        },
    }.get(sample.provider, {})


def forged(sample: Sample, task: dict[str, Any]) -> bytes:
    """A notice of a success with the attacker's URL."""
    text = json.dumps(notice(sample.provider, task["provider_task_id"]))
    return (
        text.replace("https://cdn.example.test/a.png", ATTACKER).replace("https://s3.test/out/clip", ATTACKER).encode()
    )


def post(address: str, body: bytes, given: dict[str, str]) -> int:
    """The status of the answer."""
    return requests.post(address, data=body, headers=given, timeout=10).status_code


def await_query(target: Target, task: dict[str, Any]) -> None:
    """Until the provider has been asked after the notice came."""
    deadline = time.monotonic() + 10
    while True:
        kinds = [step["kind"] for step in target.system.timeline(task)]
        if "notice" in kinds and "poll" in kinds[kinds.index("notice") :]:
            return
        assert time.monotonic() < deadline, kinds
        time.sleep(0.05)


@pytest.mark.parametrize("sample", CALLING, ids=str)
def test_a_forged_success_never_reaches_a_subscriber(target: Target, sample: Sample) -> None:
    """Even from somebody who knows the address and the header: the provider is asked, and its word counts."""
    with Subscriber(answer(200)) as subscriber:
        hook = target.system.subscribe(subscriber.url, ["*"])
        task = target.start(sample)
        address = task["callback_address"]
        assert ATTACKER.encode() in forged(sample, task)
        assert post(address, forged(sample, task), headers(sample, address)) == 200
        await_query(target, task)
        assert target.system.call("GET", f"/v1/tasks/{task['id']}")["status"] == "running"
        target.provider.finish(sample.provider, task["provider_task_id"], TRUTH)
        done = target.system.finished(task)
        assert [output["url"] for output in done["outputs"]] == [TRUTH]
        # Once more after the end, as a replay: recorded, and without effect.
        assert post(address, forged(sample, task), headers(sample, address)) == 200
        assert target.system.call("GET", f"/v1/tasks/{task['id']}") == done
        subscriber.wait_for(2)
        time.sleep(0.3)  # time for a second end, if there were one
        assert final_events(subscriber, task["id"]) == ["task.succeeded"]
        assert not any(b"attacker" in request.body for request in subscriber.requests)
        target.system.call("DELETE", f"/v1/subscribers/{hook['id']}", 204)


@pytest.mark.parametrize("sample", CALLING, ids=str)
def test_what_is_not_for_this_address_is_refused(target: Target, sample: Sample) -> None:
    """A genuine notice of another task, a genuine address of another provider, a stale or foreign signature."""
    one, other = target.start(sample), target.start(sample)
    address, elsewhere = one["callback_address"], other["callback_address"]
    body = forged(sample, one)
    wanted: dict[int, list[tuple[str, bytes, dict[str, str]]]] = {
        400: [(elsewhere, body, headers(sample, elsewhere)), (address, b"", headers(sample, address))],
        403: [
            (address.replace(sample.provider, provider), body, headers(sample, address))
            for provider in ("topview", "superapp", "apsaravideo_vod", "img_open")
            if provider != sample.provider
        ],
        401: [],
    }
    if sample is TOPVIEW:
        wanted[401] = [(address, body, {}), (address, body, {"Topview-Uid": "somebody-else"})]
    if sample is VOD:
        stale, foreign = headers(sample, address, age=900), headers(sample, elsewhere)
        wanted[401] = [(address, body, {}), (address, body, stale), (address, body, foreign)]
    for status, calls in wanted.items():
        for call in calls:
            assert post(*call) == status, call
    for task in (one, other):
        assert target.system.call("GET", f"/v1/tasks/{task['id']}")["status"] == "running"
        assert not [step for step in target.system.timeline(task) if step["kind"] == "notice"]


@pytest.mark.parametrize("sample", CALLING, ids=str)
def test_fifty_copies_in_parallel_make_one_event(target: Target, sample: Sample) -> None:
    """Over two web processes, while the worker asks: fifty equal answers, one notice, one event."""
    with Subscriber(answer(200)) as subscriber:
        hook = target.system.subscribe(subscriber.url, ["task.succeeded"])
        task = target.start(sample)
        target.provider.finish(sample.provider, task["provider_task_id"], TRUTH)
        address = task["callback_address"]
        body = json.dumps(notice(sample.provider, task["provider_task_id"])).encode()
        given, together, found = headers(sample, address), threading.Barrier(50), list[int]()

        def call() -> None:
            together.wait()
            found.append(post(address, body, given))

        threads = [threading.Thread(target=call) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [200] * 50
        assert target.system.finished(task)["status"] == "succeeded"
        subscriber.wait_for(1)
        time.sleep(0.3)  # time for a second event, if there were one
        assert final_events(subscriber, task["id"]) == ["task.succeeded"]
        (kept,) = [step["detail"] for step in target.system.timeline(task) if step["kind"] == "notice"]
        assert kept["copies"] == 50
        target.system.call("DELETE", f"/v1/subscribers/{hook['id']}", 204)
