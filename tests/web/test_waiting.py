"""Waiting for a task: woken at once, bounded in time and number."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from typing import Any

import pytest
from flask import Flask

from receiver.bell import Bell
from receiver.errors import Busy
from receiver.runtime import Runtime
from receiver.web import create_app, waiting
from receiver.web.face import face_of
from receiver.web.waiting import Alarm
from tests.web.conftest import KEY, SAMPLE, Caller, Progress
from tests.web.problems import assert_invalid, assert_problem

SOON = 20.0


def in_background(call: Callable[[], Any]) -> Callable[[], Any]:
    """Start a call; what is given back waits for its result."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()

    def result() -> Any:
        thread.join(SOON)
        assert results, "the call did not end"
        return results[0]

    return result


def until(condition: Callable[[], bool]) -> None:
    """Wait a moment for something to become true."""
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def waiting_now(app: Flask) -> bool:
    """Whether a request sleeps."""
    return bool(waiters(app))


def waiters(app: Flask) -> Collection[Any]:
    """The requests that sleep."""
    return face_of(app).alarm._changed._waiters  # type: ignore[attr-defined,no-any-return]  # the library's own list


def test_a_waiting_read_ends_with_the_task(app: Flask, api: Caller, progress: Progress) -> None:
    """The answer comes when the task ends, long before the time is over."""
    task = api.submit()
    result = in_background(lambda: Caller(app.test_client(), KEY).get(f"/v1/tasks/{task['id']}?wait=60"))
    until(lambda: waiting_now(app))
    progress.finish()
    assert result().json["status"] == "succeeded"


def test_a_waiting_submit_ends_with_the_task(app: Flask, api: Caller, progress: Progress) -> None:
    """``Prefer: wait`` holds the answer of the submit, and the answer says that it did."""
    headers = {"Prefer": "respond-async, wait=60"}
    result = in_background(lambda: Caller(app.test_client(), KEY).post("/v1/tasks", SAMPLE, headers=headers))
    until(lambda: waiting_now(app))
    progress.finish()
    answer = result()
    assert (answer.status_code, answer.json["status"]) == (202, "succeeded")
    assert answer.headers["Preference-Applied"] == "wait=60"


def test_a_wait_tells_a_revoked_key_nothing(app: Flask, api: Caller, progress: Progress, runtime: Runtime) -> None:
    """Neither of the task nor of events that happen after it is over; whoever submitted gets what was accepted."""
    task = api.submit()
    keys = [runtime.accounts.create_key("default", "x", ["read", "submit"]) for _ in range(3)]
    reader, listener, sender = (Caller(app.test_client(), text) for _, text in keys)
    calls = [
        lambda: reader.get(f"/v1/tasks/{task['id']}?wait=60"),
        lambda: listener.get("/v1/events?after=&wait=60"),
        lambda: sender.post("/v1/tasks", SAMPLE, headers={"Prefer": "wait=60"}),
    ]
    results = [in_background(call) for call in calls]
    until(lambda: len(waiters(app)) == len(calls))
    for key, _ in keys:
        runtime.accounts.revoke_key(key.id)
    for _ in calls:  # one at a time, by the provider's rate
        progress.finish()
    read, listened, sent = (result() for result in results)
    assert_problem(read, 401)
    assert_problem(listened, 401)
    assert (sent.status_code, sent.json["status"]) == (202, "queued")
    assert "Preference-Applied" not in sent.headers


@pytest.mark.parametrize("problem", [Busy("The database is away."), RuntimeError("can't start new thread")])
def test_what_fails_in_a_wait_refuses_no_task(
    api: Caller, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    """A submit whose task is stored says so: who is told to come again would send it twice, and pay for both."""

    def fail(*_: Any) -> Any:
        raise problem

    with monkeypatch.context() as patch:
        patch.setattr(runtime.tasks, "get", fail) if isinstance(problem, Busy) else patch.setattr(
            Alarm, "_listen", fail
        )
        answer = api.post("/v1/tasks", SAMPLE, headers={"Prefer": "wait=5"})
    assert (answer.status_code, answer.json["status"]) == (202, "queued")
    assert "Preference-Applied" not in answer.headers
    assert [task["id"] for task in api.get("/v1/tasks").json["data"]] == [answer.json["id"]]


def test_when_the_time_is_over_the_task_is_given_as_it_is(app: Flask, api: Caller) -> None:
    """A second is a second, give or take."""
    task = api.submit()
    began = time.monotonic()
    assert api.get(f"/v1/tasks/{task['id']}?wait=1").json["status"] == "queued"
    assert 0.9 < time.monotonic() - began < SOON


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [("wait=0", "wait=0"), ('Wait="0"', "wait=0"), ("wait = 0", "wait=0"), ("a; b=c, wait=0; x", "wait=0"),
     ("wait=x", None), ("wait=-1", None), ("wait", None), ("await=3", None), ("", None), (",,;=", None)],
)  # fmt: skip
def test_preferences_are_read_leniently(api: Caller, prefer: str, applied: str | None) -> None:
    """What is not understood is passed over (RFC 7240), and not said to be applied."""
    answer = api.post("/v1/tasks", SAMPLE, headers={"Prefer": prefer})
    assert answer.status_code == 202
    assert answer.headers.get("Preference-Applied") == applied


def test_a_longer_wait_is_cut_to_a_minute(api: Caller) -> None:
    """The answer says how long it would have waited (here it is a replay of what has ended)."""
    headers = {"Idempotency-Key": "k"}
    task = api.post("/v1/tasks", SAMPLE, headers=headers).json
    api.post(f"/v1/tasks/{task['id']}/cancel")
    answer = api.post("/v1/tasks", SAMPLE, headers={**headers, "Prefer": "wait=999999999"})
    assert answer.headers["Preference-Applied"] == "wait=60"


@pytest.mark.parametrize("value", ["61", "-1", "x", "1.5", ""])
def test_a_bad_wait_is_refused(api: Caller, value: str) -> None:
    """In the query, a wrong wait is a mistake to be told."""
    task = api.submit()
    assert_invalid(api.get(f"/v1/tasks/{task['id']}?wait={value}"), "wait")


def test_without_a_free_seat_the_answer_comes_at_once(build: Callable[..., Runtime]) -> None:
    """Waiting callers never take the threads that callbacks need."""
    app = create_app(build(web_threads=2))
    me = Caller(app.test_client(), KEY)
    task = me.submit()
    began = time.monotonic()
    with face_of(app).alarm.seat("x") as seated:
        assert seated
        assert me.get(f"/v1/tasks/{task['id']}?wait=60").json["status"] == "queued"
        answer = me.post("/v1/tasks", SAMPLE, headers={"Prefer": "wait=60"})
        assert "Preference-Applied" not in answer.headers
        assert me.get("/v1/events?after=&wait=60").json["data"] == []
    assert time.monotonic() - began < SOON
    with face_of(app).alarm.seat("x") as seated:
        assert seated


def test_one_account_leaves_seats_for_the_others(build: Callable[..., Runtime]) -> None:
    """Whoever streams and waits with all it has does not take uploads and waits away from other accounts."""
    runtime = build(web_threads=16)
    app = create_app(runtime)
    greedy, other = (runtime.accounts.create_key(name, "test", ["manage"]) for name in ("greedy", "other"))
    with ExitStack() as held:
        taken = [held.enter_context(face_of(app).alarm.seat(greedy[0].account_id)) for _ in range(100)]
        assert taken.count(True) == 6
        assert Caller(app.test_client(), greedy[1]).get("/v1/providers/topview/voices").status_code == 503
        upload = {"provider": "superapp", "file": (io.BytesIO(b"x"), "x.png")}
        answer = Caller(app.test_client(), other[1])("POST", "/v1/uploads", data=upload)
        assert_invalid(answer, "provider")  # it takes none, but the request was let through
    with face_of(app).alarm.seat(greedy[0].account_id) as seated:
        assert seated


def test_a_stop_sends_the_waiting_away(app: Flask, api: Caller) -> None:
    """A process that ends does not keep its callers for a minute."""
    task = api.submit()
    result = in_background(lambda: Caller(app.test_client(), KEY).get(f"/v1/tasks/{task['id']}?wait=60"))
    until(lambda: waiting_now(app))
    face_of(app).alarm.stop()
    assert result().json["status"] == "queued"


def listeners() -> set[threading.Thread]:
    """The threads that listen now."""
    return {thread for thread in threading.enumerate() if thread.name == "bell-listener"}


def test_no_thread_is_started_before_somebody_waits(runtime: Runtime) -> None:
    """Making an application and answering leaves no thread behind; the first wait starts one, and only one."""
    before = listeners()
    app = create_app(runtime)
    me = Caller(app.test_client(), KEY)
    task = me.submit()
    me.get(f"/v1/tasks/{task['id']}")
    assert listeners() <= before
    for _ in range(2):
        me.get("/v1/events?after=&wait=1")
    assert len(listeners() - before) == 1
    face_of(app).alarm.stop()
    until(lambda: listeners() <= before)


def test_no_thread_listens_once_the_services_are_closed(tmp_path: Any) -> None:
    """It would look for a database that is gone, twice a second."""
    bell = Bell(str(tmp_path))
    before = listeners()
    assert Alarm(bell, 1).rings == 0
    assert len(listeners() - before) == 1
    bell.close()
    until(lambda: listeners() <= before)


def test_a_lost_ring_costs_a_tick(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """A sleeper looks by itself: the bell reaches one machine only."""
    monkeypatch.setattr(waiting, "TICK", 0.02)
    alarm = Alarm(Bell(str(tmp_path)), 1)
    looks: list[int] = []

    def look() -> int:
        looks.append(1)
        return len(looks)

    assert alarm.until(look, lambda seen: seen >= 3, 30) == 3
    alarm.stop()


def test_a_busy_bell_does_not_make_a_storm_of_looks(tmp_path: Any) -> None:
    """However often it rings, there is a breath between two looks."""
    bell = Bell(str(tmp_path))
    alarm = Alarm(bell, 1)
    stop = threading.Event()

    def ring() -> None:
        while not stop.wait(0.001):
            bell.ring()

    ringer = threading.Thread(target=ring)
    ringer.start()
    looks: list[int] = []
    alarm.until(lambda: looks.append(1), lambda _: False, 0.5)
    stop.set()
    ringer.join()
    alarm.stop()
    assert 3 <= len(looks) <= 0.5 / waiting.BREATH + 3


def _hears(alarm: Alarm, bell: Bell) -> None:
    """It hears the bell, in the end; then it is stopped."""
    heard = alarm.rings

    def rung() -> bool:
        bell.ring()
        return alarm.rings != heard

    until(rung)
    alarm.stop()


def test_who_cannot_start_a_listener_leaves_it_to_the_next(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a limit of threads one request fails; later ones hear the bell again."""
    alarm = Alarm(runtime.bell, 1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            alarm.until(lambda: 1, bool, 0)
    _hears(alarm, runtime.bell)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_listener_that_fails_is_replaced(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits next starts another, whether it failed at its start or later."""
    alarm = Alarm(runtime.bell, 1)
    with monkeypatch.context() as patch:
        patch.setattr(Bell, "listen", lambda _: 1 / 0)
        assert alarm.rings == 0
        until(lambda: not alarm._listening)
    _hears(alarm, runtime.bell)
