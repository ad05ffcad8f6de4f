"""Events: listed, consumed in order, waited for, streamed."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text
from werkzeug.test import TestResponse

from receiver.errors import Busy
from receiver.feed import EventFeed
from receiver.models import first_id
from receiver.runtime import Runtime
from receiver.web import streaming
from receiver.web.face import face_of
from receiver.web.waiting import TICK
from tests.web.conftest import KEY, Caller, Progress
from tests.web.problems import assert_invalid, assert_problem
from tests.web.test_waiting import SOON, in_background, until, waiting_now

STREAM = {"Accept": "text/event-stream"}


def frames(answer: TestResponse) -> Iterator[dict[str, str]]:
    """The frames of a stream as they come, comments under ``""``; the last name wins."""
    text = ""
    for piece in answer.iter_encoded():
        text += piece.decode()
        while "\n\n" in text:
            frame, _, text = text.partition("\n\n")
            fields = (line.partition(":") for line in frame.split("\n"))
            yield {name: value.removeprefix(" ") for name, _, value in fields}


def test_an_event_is_given_as_it_was_sent(api: Caller, progress: Progress, runtime: Runtime) -> None:
    """Its id, and the very text that is signed, numbers included."""
    api.submit()
    progress.finish(raw='{"n": 12345678901234567890.10}')
    newest = api.get("/v1/events").json["data"][0]
    assert (newest["type"], newest["data"]["status"]) == ("task.succeeded", "succeeded")
    answer = api.get(f"/v1/events/{newest['id']}")
    account = runtime.accounts.list_keys("default")[0].account_id
    stored = runtime.feed.get(account, newest["id"]).body
    assert answer.text == f'{{"id":"{newest["id"]}",{stored[1:]}\n'
    assert "12345678901234567890.10" in answer.text
    assert list(newest) == ["id", "type", "timestamp", "data"]


def test_consuming_in_order_misses_and_repeats_nothing(api: Caller, progress: Progress) -> None:
    """Giving the last id each time walks through all events, oldest first."""
    for _ in range(3):
        api.submit()
        progress.finish()
    newest_first = [event["id"] for event in api.get("/v1/events?limit=100").json["data"]]
    consumed: list[str] = []
    after = ""
    while True:
        page = api.get(f"/v1/events?after={after}&limit=2").json
        assert page["next_cursor"] is None
        if not page["data"]:
            break
        consumed += [event["id"] for event in page["data"]]
        after = consumed[-1]
    assert consumed == newest_first[::-1]
    assert len(consumed) == len(set(consumed)) == 6


def test_pages_go_back_in_time(api: Caller, progress: Progress) -> None:
    """Without ``after`` the list is newest first, with a cursor."""
    api.submit()
    progress.finish()
    first = api.get("/v1/events?limit=1").json
    second = api.get(f"/v1/events?limit=1&cursor={first['next_cursor']}").json
    assert [page["data"][0]["type"] for page in (first, second)] == ["task.succeeded", "task.running"]


@pytest.mark.parametrize(
    ("pattern", "types"),
    [("task.succeeded", {"task.succeeded"}), ("task.*", {"task.running", "task.succeeded"}), ("subscriber.*", set())],
)
def test_events_can_be_narrowed_to_types(api: Caller, progress: Progress, pattern: str, types: set[str]) -> None:
    """The same patterns as for subscribers, in both directions."""
    api.submit()
    progress.finish()
    for query in (f"event_type={pattern}", f"event_type={pattern}&after="):
        assert {event["type"] for event in api.get(f"/v1/events?{query}").json["data"]} == types


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("after=x", ["after"]),
        ("after=task_01kahx3mt5k0c4z7d6q8r9w2ve", ["after"]),
        ("after=&cursor=evt_01kahx3mt5k0c4z7d6q8r9w2ve", ["after"]),
        ("wait=61", ["wait"]),
        ("event_type=task.done", ["event_type"]),
        ("event_type=t%5B", ["event_type"]),
        ("limit=0&wait=x", ["limit", "wait"]),
    ],
)
def test_bad_parameters_are_named(api: Caller, query: str, fields: list[str]) -> None:
    """422 with each of them."""
    assert_invalid(api.get(f"/v1/events?{query}"), *fields)


def test_a_reader_whose_event_was_purged_goes_on_by_time(api: Caller, progress: Progress, runtime: Runtime) -> None:
    """After a long silence the last id may be gone; the reader still misses nothing and repeats nothing."""
    api.submit()
    progress.finish()
    ids = [event["id"] for event in api.get("/v1/events?after=").json["data"]]
    with runtime.store.write() as connection:
        connection.exec_driver_sql("DELETE FROM deliveries")
        connection.execute(text("DELETE FROM events WHERE id = :id"), {"id": ids[0]})
    assert [event["id"] for event in api.get(f"/v1/events?after={ids[0]}").json["data"]] == ids[1:]
    assert api.get(f"/v1/events?after={first_id('evt', 2**47)}").json["data"] == []


@pytest.mark.parametrize("wanted", ["", "after="])
def test_waiting_for_an_event(app: Flask, api: Caller, progress: Progress, wanted: str) -> None:
    """The answer comes with the first event, newest first or in order; when there is one already, at once."""
    result = in_background(lambda: Caller(app.test_client(), KEY).get(f"/v1/events?{wanted}&wait=60"))
    until(lambda: waiting_now(app))
    api.submit()
    progress.hand_over()
    assert [event["type"] for event in result().json["data"]] == ["task.running"]
    assert len(api.get(f"/v1/events?{wanted}&wait=60").json["data"]) == 1
    assert api.get(f"/v1/events?{wanted}&wait=1&event_type=task.failed").json["data"] == []


def test_waiting_for_an_event_of_a_rare_type_goes_through_history_once(
    app: Flask, api: Caller, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much else happens meanwhile: a list of a type that an account hardly has walks all of its events."""
    walked: list[str | None] = []
    list_page = EventFeed.list_page

    def listed(*given: Any) -> Any:
        walked.append("a walk")
        return list_page(*given)

    monkeypatch.setattr(EventFeed, "list_page", listed)
    ask = "/v1/events?event_type=task.succeeded&wait=60"
    result = in_background(lambda: Caller(app.test_client(), KEY).get(ask))
    until(lambda: waiting_now(app))
    for _ in range(3):
        api.submit()
        progress.hand_over()
    time.sleep(2 * TICK)
    assert len(walked) == 1
    progress.finish()
    assert {event["type"] for event in result().json["data"]} == {"task.succeeded"}
    assert len(walked) == 2


def test_a_missing_event_is_not_found(api: Caller) -> None:
    """404, for ids and for what is none."""
    assert_problem(api.get("/v1/events/evt_01kahx3mt5k0c4z7d6q8r9w2ve"), 404)
    assert_problem(api.get("/v1/events/evt"), 404)


# -- streams ---------------------------------------------------------------------------------------


def test_a_stream_gives_events_as_they_happen(api: Caller, progress: Progress) -> None:
    """From now on: what was before does not come; each frame has id, type and the body on one line."""
    api.submit()
    progress.finish(raw='{"a":\r\n 1}')
    before = api.get("/v1/events").json["data"][0]["id"]
    with api.get("/v1/events", headers=STREAM) as answer:
        assert answer.content_type.startswith("text/event-stream")
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Accel-Buffering"] == "no"
        stream = frames(answer)
        start = next(stream)
        assert (start["id"], "data" in start) == (before, False)
        task = api.submit()
        progress.finish(raw='{"a":\r\n 2}')
        got = list(itertools.islice(stream, 2))
    assert [frame["event"] for frame in got] == ["task.running", "task.succeeded"]
    body = json.loads(got[1]["data"])
    assert body["data"]["id"] == task["id"]
    assert body["data"]["provider_response"] == {"a": 2}
    assert api.get(f"/v1/events/{got[1]['id']}").json["data"] == body["data"]


@pytest.mark.parametrize("how", ["header", "query"])
def test_a_stream_goes_on_where_it_broke_off(api: Caller, progress: Progress, how: str) -> None:
    """``Last-Event-ID`` (or ``after``) gives all that came since, and nothing twice."""
    for _ in range(2):
        api.submit()
        progress.finish()
    ids = [event["id"] for event in api.get("/v1/events?after=").json["data"]]
    headers = STREAM | ({"Last-Event-ID": ids[0]} if how == "header" else {})
    query = f"?after={ids[0]}" if how == "query" else ""
    with api.get(f"/v1/events{query}", headers=headers) as answer:
        got = [frame["id"] for frame in itertools.islice(frames(answer), 4)]
    assert got == ids


def test_a_stream_that_breaks_before_its_first_event_misses_nothing(api: Caller, progress: Progress) -> None:
    """Even an account without events gets a place to come back to."""
    with api.get("/v1/events", headers=STREAM) as answer:
        place = next(frames(answer))["id"]
    api.submit()
    progress.hand_over()
    with api.get("/v1/events", headers={**STREAM, "Last-Event-ID": place}) as answer:
        assert next(itertools.islice(frames(answer), 1, None))["event"] == "task.running"


def test_a_bad_place_is_refused(api: Caller) -> None:
    """A stream that would begin at the wrong place does not begin."""
    assert_invalid(api.get("/v1/events", headers={**STREAM, "Last-Event-ID": "7"}), "Last-Event-ID")


def test_a_silent_stream_shows_that_it_lives(api: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Comments in the silence, until the longest time is over; then it ends, and its seat is free."""
    monkeypatch.setattr(streaming, "HEARTBEAT", 0.05)
    monkeypatch.setattr(streaming, "LONGEST", 0.3)
    began = time.monotonic()
    with api.get("/v1/events", headers=STREAM) as answer:
        got = list(frames(answer))
    assert got[0]["retry"] == str(streaming.RETRY_MS)
    assert 2 <= sum("" in frame for frame in got) <= 10
    assert 0.25 < time.monotonic() - began < SOON


def test_a_silent_stream_tells_how_far_it_is(api: Caller, progress: Progress, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that wants a type that seldom comes reconnects behind all that went by, which is not read again."""
    monkeypatch.setattr(streaming, "HEARTBEAT", 0.05)
    api.submit()
    with api.get("/v1/events?event_type=task.failed&after=", headers=STREAM) as answer:
        got = frames(answer)
        next(got)
        progress.finish()
        newest = api.get("/v1/events").json["data"][0]["id"]
        end = time.monotonic() + SOON
        while (frame := next(got)).get("id") != newest:
            assert time.monotonic() < end
    assert "data" not in frame


def test_a_stream_ends_with_the_process(app: Flask, api: Caller) -> None:
    """At a stop a client is sent away soon, to come back elsewhere."""
    with api.get("/v1/events", headers=STREAM) as answer:
        stream = frames(answer)
        next(stream)
        face_of(app).alarm.stop()
        assert len(list(stream)) <= 1


def test_a_stream_ends_with_its_key(
    api: Caller, app: Flask, progress: Progress, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that is revoked is over at once: of what happens then its stream tells nothing, nor does it go on."""
    monkeypatch.setattr(streaming, "HEARTBEAT", 0.05)
    monkeypatch.setattr(streaming, "LONGEST", 2.0)
    key, text = runtime.accounts.create_key("default", "x", ["read"])
    with Caller(app.test_client(), text).get("/v1/events", headers=STREAM) as answer:
        stream = frames(answer)
        next(stream)
        runtime.accounts.revoke_key(key.id)
        api.submit()
        progress.finish()
        assert list(stream) == []


def test_a_stream_ends_in_order_when_the_database_goes_away(api: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no fault of ours to be logged as one: the client reconnects, and is told when to come again."""
    monkeypatch.setattr(streaming, "HEARTBEAT", 0.05)
    with api.get("/v1/events", headers=STREAM) as answer:
        stream = frames(answer)
        next(stream)

        def away(*_: object) -> None:
            raise Busy("the database does not answer")

        monkeypatch.setattr(EventFeed, "behind", away)
        assert list(stream) == []


def test_a_stream_without_a_seat_gives_what_there_is(app: Flask, api: Caller, progress: Progress) -> None:
    """Then it ends, and the client comes again: nothing is lost, and no thread is held, not even by a slow reader."""
    api.submit()
    progress.finish()
    alarm = face_of(app).alarm
    held = [alarm.seat(str(number)) for number in range(100)]
    seats = [seat for seat in held if seat.__enter__()]
    try:
        with api.get("/v1/events?after=", headers=STREAM) as answer:
            got = list(frames(answer))
        assert [frame["event"] for frame in got[1:]] == ["task.running", "task.succeeded"]
        assert "X-Accel-Buffering" not in answer.headers
    finally:
        for seat in seats:
            seat.__exit__(None, None, None)


def test_a_client_that_leaves_gives_its_seat_back(app: Flask, api: Caller) -> None:
    """Closing streams early, reading only their heads, or asking with HEAD takes no seat away."""
    for _ in range(40):
        with api.get("/v1/events", headers=STREAM) as answer:
            next(frames(answer))
        api("HEAD", "/v1/events", headers=STREAM).close()
        api.get("/v1/events", headers=STREAM).close()
    with face_of(app).alarm.seat("x") as seated:
        assert seated


@pytest.mark.parametrize("accept", ["application/json", "*/*", "text/html", "", "application/json, text/event-stream"])
def test_whoever_does_not_ask_for_a_stream_gets_json(api: Caller, accept: str) -> None:
    """A stream is given only to those who prefer one."""
    answer: Any = api.get("/v1/events", headers={"Accept": accept})
    assert answer.content_type == "application/json"
