"""Lists that take long: one key's leave the others their threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from flask import Flask

from receiver.runtime import Runtime
from receiver.web import lists
from receiver.web.errors import Refused
from receiver.web.face import face_of
from receiver.web.lists import ListTurns
from tests.web.conftest import KEY, Caller
from tests.web.problems import assert_problem
from tests.web.test_waiting import in_background, until

KEY_ID, OTHER_ID = "key_1", "key_2"
ACCOUNT = "acct_1"
REFUSED = "429, again in 1 s"
PATHS = ("/v1/tasks", "/v1/deliveries", "/v1/events", "/v1/events?after=", "/v1/events?after=&wait=1")


def read(turns: ListTurns, key_id: str = KEY_ID, account_id: str = ACCOUNT) -> str:
    """Read a list; what it came to."""
    try:
        with turns.turn(key_id, account_id):
            return "read"
    except Refused as refused:
        return f"{refused.response.status_code}, again in {refused.response.headers['Retry-After']} s"


def waiting(turns: ListTurns) -> int:
    """How many lists wait for their turn."""
    return sum(turns._waiting.values())


def test_quick_lists_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many a key asks for at once, none is refused while they are quick; nothing is remembered afterwards."""
    monkeypatch.setattr(lists, "PATIENCE", 20.0)
    monkeypatch.setattr(lists, "SLOW", 1000.0)
    turns = ListTurns(16)
    with ExitStack() as held:
        held.enter_context(turns.turn(KEY_ID, ACCOUNT))
        held.enter_context(turns.turn(KEY_ID, ACCOUNT))
        results = [in_background(lambda: read(turns)) for _ in range(5)]
        until(lambda: waiting(turns) == 5)
    assert {result() for result in results} == {"read"}
    assert not turns._began
    assert not turns._waiting


def test_slow_lists_of_one_key_leave_threads_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """An eighth of the threads reads them, as many wait, the next is refused at once; another key has its own turns."""
    monkeypatch.setattr(lists, "PATIENCE", 20.0)
    monkeypatch.setattr(lists, "SLOW", 0.0)
    turns = ListTurns(16)
    with ExitStack() as held:
        held.enter_context(turns.turn(KEY_ID, ACCOUNT))
        assert read(turns) == "read", "there is a second turn"
        held.enter_context(turns.turn(KEY_ID, ACCOUNT))
        results = [in_background(lambda: read(turns)) for _ in range(2)]
        until(lambda: waiting(turns) == 2)
        assert read(turns) == REFUSED
        assert read(turns, OTHER_ID) == "read"
    assert {result() for result in results} == {"read"}


def test_slow_lists_of_an_account_with_many_keys_leave_threads_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the threads are all that it gets for them, however many keys it makes; another account has its turns."""
    monkeypatch.setattr(lists, "SLOW", 0.0)
    turns = ListTurns(16)
    with ExitStack() as held:
        for number in range(8):
            held.enter_context(turns.turn(f"key_{number}", ACCOUNT))
        assert read(turns, "key_8") == REFUSED
        assert read(turns, "key_9", "acct_2") == "read"
    assert read(turns, "key_8") == "read"
    assert not turns._here


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that gets no turn is refused after a while, and can be read when there is one again."""
    monkeypatch.setattr(lists, "PATIENCE", 0.05)
    turns = ListTurns(2)
    with turns.turn(KEY_ID, ACCOUNT):
        assert read(turns) == REFUSED
    assert read(turns) == "read"


def test_a_list_that_fails_gives_its_turn_back() -> None:
    """An error while it is being read costs the key nothing."""
    turns = ListTurns(8)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), turns.turn(KEY_ID, ACCOUNT):
            raise ZeroDivisionError
    assert read(turns) == "read"


@contextmanager
def none_left(app: Flask, runtime: Runtime) -> Iterator[None]:
    """Within the block all turns of KEY are taken."""
    key = runtime.accounts.authenticate(KEY)
    assert key is not None
    turns = face_of(app).lists
    with ExitStack() as held:
        for _ in range(runtime.settings.web_threads // lists.PART):
            held.enter_context(turns.turn(key.id, key.account_id))
        yield


@pytest.mark.parametrize("path", PATHS)
def test_every_list_that_can_take_long_has_its_turn(
    app: Flask, api: Caller, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Tasks, deliveries and events are refused to a key that reads too many, and given to another; one task is."""
    monkeypatch.setattr(lists, "PATIENCE", 0.0)
    _, other = runtime.accounts.create_key("default", "other", ["read"])
    task = api.submit()
    with none_left(app, runtime):
        assert_problem(api.get(path), 429, "too-many-requests")
        assert Caller(app.test_client(), other).get(path).status_code == 200
        assert api.get(f"/v1/tasks/{task['id']}").status_code == 200
    assert api.get(path).status_code == 200
