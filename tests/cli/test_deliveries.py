"""Deliveries, their attempts, and sending again."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.cli.service import FakeService, Said

ID = "dlv_01kahx3mt5k0c4z7d6q8r9w2ve"


def delivery(**changes: Any) -> dict[str, Any]:
    """A delivery as the API shows it."""
    return {
        "id": ID,
        "event_id": "evt_1",
        "event_type": "task.succeeded",
        "task_id": "task_1",
        "subscriber": "sub_1",
        "url": "https://a.example/hook",
        "status": "pending",
        "attempt_count": 2,
        "next_attempt_at": "2026-11-21T10:05:00.000Z",
        "created_at": "2026-11-21T10:00:00.000Z",
        "finished_at": None,
        "reason": None,
        **changes,
    }


def attempt(**changes: Any) -> dict[str, Any]:
    """An attempt as the API shows it."""
    return {
        "id": "att_1",
        "number": 1,
        "trigger": "schedule",
        "started_at": "2026-11-21T10:00:00.000Z",
        "duration_ms": 20,
        "response_status": None,
        "response_headers": {},
        "response_body": "",
        "error": "connection_refused",
        "message": "Nothing listens there.",
        **changes,
    }


def test_deliveries_are_listed_and_filters_passed_on(run: Run, service: FakeService) -> None:
    """One line a delivery; each filter of the command is one of the API's."""
    service.on("GET", "/v1/deliveries", {"data": [delivery()], "next_cursor": "dlv_next"})
    shown = run(
        "deliveries", "--status", "pending", "--subscriber", "sub_1", "--task", "task_1", "--event-type", "task.failed"
    )
    assert shown.stdout.splitlines()[1].split()[:5] == [
        ID, "pending", "task.succeeded", "https://a.example/hook", "2",
    ]  # fmt: skip
    assert "--cursor dlv_next" in shown.stderr
    assert service.asked[0].query == {
        "status": "pending", "subscriber": "sub_1", "task": "task_1", "event_type": "task.failed", "limit": "20",
    }  # fmt: skip


def test_a_delivery_is_shown_with_its_attempts(run: Run, service: FakeService) -> None:
    """Each attempt: when, what was answered, how long it took, and the body of a refusal."""
    attempts = [
        attempt(),
        attempt(number=2, response_status=500, error="server_error", response_body="oh\x1b[2Jno", message="It failed."),
        attempt(number=3, response_status=204, error=None, message="", trigger="manual"),
    ]
    found = delivery(status="dead", reason="schedule_used_up", subscriber=None, attempts=attempts)
    service.on("GET", f"/v1/deliveries/{ID}", found)
    shown = run("delivery", ID).stdout
    assert "dead (schedule_used_up)" in shown
    assert "the task's callback_url" in shown
    assert "1. 2026-11-21 10:00:00Z  connection_refused  20 ms  Nothing listens there." in shown
    assert "2. 2026-11-21 10:00:00Z  500  20 ms  It failed." in shown
    assert "oh\N{REPLACEMENT CHARACTER}[2Jno" in shown
    assert "3. 2026-11-21 10:00:00Z  204  20 ms  by request" in shown


def test_a_delivery_that_waits_says_for_what(run: Run, service: FakeService) -> None:
    """No time at which nothing will happen: a disabled subscriber's deliveries wait until it is enabled."""
    service.on("GET", f"/v1/deliveries/{ID}", delivery(attempts=[]))
    service.on("GET", "/v1/subscribers/sub_1", {"disabled": True}, {"disabled": False}, Said({"title": "Busy"}, 503))
    assert "none while its subscriber is disabled: receiver subscribers enable sub_1" in run("delivery", ID).stdout
    for _ in range(2):
        assert "next attempt  2026-11-21 10:05:00Z" in run("delivery", ID).stdout


def test_a_delivery_is_retried(run: Run, service: FakeService) -> None:
    """``retry`` asks for one more attempt now."""
    service.on("POST", f"/v1/deliveries/{ID}/retry", Said(delivery(), 202))
    assert ID in run("retry", ID).stdout
    assert run("retry", ID, "--json").stdout.startswith("{")
    assert len(service.asked) == 2


def test_a_replay_says_how_many_go_out_again(run: Run, service: FakeService) -> None:
    """``replay`` passes its range on, dead ones only unless told otherwise, and tells the count."""
    service.on("POST", "/v1/subscribers/sub_1/replay", {"replayed": 1}, {"replayed": 3})
    assert run("replay", "sub_1", "--since", "2026-11-21").stdout == "1 delivery goes out again.\n"
    shown = run("replay", "sub_1", "--since", "2026-11-21", "--until", "2026-11-22", "--status", "all")
    assert shown.stdout == "3 deliveries go out again.\n"
    first, second = (asked.json for asked in service.asked)
    assert first == {"since": "2026-11-21T00:00:00.000Z", "status": "dead"}
    assert second == {**first, "until": "2026-11-22T00:00:00.000Z", "status": "all"}


def test_a_replay_needs_its_beginning(run: Run) -> None:
    """Without ``--since`` nothing is replayed: code 2."""
    assert run("replay", "sub_1").exit_code == 2


REPLAY = ("replay", "sub_1", "--since", "2026-11-21")
PATH = "/v1/subscribers/sub_1/replay"


def test_a_replay_is_counted_beforehand(run: Run, service: FakeService) -> None:
    """``--count`` asks, and sends nothing again."""
    service.on("GET", PATH, {"replayable": 12, "waiting": 0, "replaying": 0})
    assert run(*REPLAY, "--count", "--status", "all").stdout == "12 deliveries would go out again.\n"
    assert service.asked[0].query == {"since": "2026-11-21T00:00:00.000Z", "status": "all"}
    assert not service.to("POST", PATH)


@pytest.mark.parametrize(
    ("last", "code", "said"),
    [
        (
            {"replayable": 0, "waiting": 0, "replaying": 0, "retrying": 0},
            0,
            "2 deliveries went out again; everything arrived.\n",
        ),
        (
            {"replayable": 1, "waiting": 1, "replaying": 0, "retrying": 1},
            1,
            "2 deliveries went out again; 1 to be tried again later, 1 dead.\n",
        ),
    ],
)
def test_a_replay_can_be_waited_for(
    run: Run, service: FakeService, monkeypatch: pytest.MonkeyPatch, last: object, code: int, said: str
) -> None:
    """``--wait`` ends when each was attempted; the exit code says whether everything arrived."""
    monkeypatch.setattr("receiver.cli.deliveries._LOOK", 0)
    service.on("POST", PATH, {"replayed": 2})
    service.on("GET", PATH, {"replayable": 0, "waiting": 2, "replaying": 2}, last)
    shown = run(*REPLAY, "--wait")
    assert (shown.exit_code, shown.stdout, shown.stderr) == (code, said, "")


def test_new_events_on_their_way_are_no_failure_of_a_replay(
    run: Run, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--wait`` at a busy subscriber: what was not attempted yet says nothing of what was sent again."""
    monkeypatch.setattr("receiver.cli.deliveries._LOOK", 0)
    service.on("POST", PATH, {"replayed": 2})
    service.on("GET", PATH, {"replayable": 0, "waiting": 7, "replaying": 0, "retrying": 0})
    shown = run(*REPLAY, "--wait")
    assert (shown.exit_code, shown.stdout) == (0, "2 deliveries went out again; everything arrived.\n")


def test_a_second_replay_waits_for_what_the_first_has_under_way(
    run: Run, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--wait`` broken off and begun anew: 0 is no success while what was sent again has not arrived."""
    monkeypatch.setattr("receiver.cli.deliveries._LOOK", 0)
    service.on("POST", PATH, {"replayed": 0})
    last = {"replayable": 1, "waiting": 0, "replaying": 0, "retrying": 0}
    service.on("GET", PATH, {"replayable": 0, "waiting": 3, "replaying": 3}, last)
    shown = run(*REPLAY, "--wait")
    assert (shown.exit_code, shown.stdout) == (1, "3 deliveries went out again; 0 to be tried again later, 1 dead.\n")


def test_a_replay_that_does_not_move_is_not_waited_for_for_ever(
    run: Run, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disabled subscriber or no worker: told, with the code for what goes on."""
    monkeypatch.setattr("receiver.cli.deliveries._STUCK", -1)
    service.on("POST", PATH, {"replayed": 2})
    service.on("GET", PATH, {"replayable": 0, "waiting": 2, "replaying": 2})
    shown = run(*REPLAY, "--wait")
    assert shown.exit_code == 6
    assert "Is the subscriber disabled" in shown.stderr
