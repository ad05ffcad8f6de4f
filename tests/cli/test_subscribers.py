"""Registered webhooks from a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.cli.service import FakeService, Said

ID = "sub_01kahx3mt5k0c4z7d6q8r9w2ve"
PATH = f"/v1/subscribers/{ID}"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def subscriber(**changes: Any) -> dict[str, Any]:
    """A subscriber as the API shows it."""
    return {
        "id": ID,
        "url": "https://a.example/hook",
        "event_types": ["task.*"],
        "providers": None,
        "description": "",
        "headers": {},
        "rate_limit": None,
        "disabled": False,
        "disabled_reason": None,
        "failing_since": None,
        "created_at": "2026-11-21T10:00:00.000Z",
        **changes,
    }


@pytest.mark.parametrize("args", [["subscribers"], ["subscribers", "list"], ["subscribers", "--limit", "20"]])
def test_subscribers_are_listed_with_or_without_the_word(run: Run, service: FakeService, args: list[str]) -> None:
    """``subscribers`` alone lists them: id, state, address, events."""
    page = {"data": [subscriber(), subscriber(id="sub_2", disabled=True, providers=["topview"])], "next_cursor": None}
    service.on("GET", "/v1/subscribers", page)
    shown = run(*args).stdout.splitlines()
    assert shown[1].split() == [ID, "enabled", "https://a.example/hook", "task.*", "all", "–"]
    assert shown[2].split()[1:] == ["disabled", "https://a.example/hook", "task.*", "topview", "–"]


def test_no_subscribers_say_how_to_register_one(run: Run, service: FakeService) -> None:
    """An empty list names the command that fills it."""
    service.on("GET", "/v1/subscribers", {"data": [], "next_cursor": None})
    assert "receiver subscribers add" in run("subscribers").stdout


def test_a_webhook_is_registered_and_its_secret_shown(run: Run, service: FakeService) -> None:
    """All options reach the API; the secret is shown, since it is needed to verify."""
    service.on("POST", "/v1/subscribers", Said({**subscriber(), "secret": SECRET}, 201))
    shown = run(
        "subscribers", "add", "https://a.example/hook", "--events", "task.succeeded", "--event-types", "task.failed",
        "--provider", "topview", "--description", "mine", "--header", "X-Team=a", "--rate-limit", "5",
        "--secret", SECRET,
    )  # fmt: skip
    assert shown.exit_code == 0
    assert SECRET in shown.stdout
    assert service.asked[0].json == {
        "url": "https://a.example/hook",
        "event_types": ["task.succeeded", "task.failed"],
        "providers": ["topview"],
        "description": "mine",
        "headers": {"X-Team": "a"},
        "rate_limit": 5.0,
        "secret": SECRET,
    }


def test_secrets_of_a_webhook_need_not_stand_in_the_list_of_processes(
    run: Run, service: FakeService, tmp_path: Path
) -> None:
    """Secret and headers are read from ``@file`` or ``-``; an empty secret never means a made one."""
    service.on("POST", "/v1/subscribers", Said({**subscriber(), "secret": SECRET}, 201))
    headers = tmp_path / "headers"
    headers.write_text("Authorization=Bearer a=b\n\nX-Team=a\n")
    add = ("subscribers", "add", "https://a.example/hook", "--header", "X-More=1")
    assert run(*add, "--header", f"@{headers}", "--secret", "-", stdin=f"{SECRET}\n").exit_code == 0
    assert service.asked[0].json["secret"] == SECRET
    assert service.asked[0].json["headers"] == {"X-More": "1", "Authorization": "Bearer a=b", "X-Team": "a"}
    for wrong in (("--secret", "-"), ("--secret", ""), ("--secret", f"@{headers}.not"), ("--header", "-")):
        assert run(*add, *wrong).exit_code == 2
    for lines in ("Authorization: Bearer a\n", "=Bearer a\n", "X-More=Bearer a\n", "X=Bearer a\nX=Bearer b\n"):
        refused = run(*add, "--header", "-", stdin=lines)
        assert refused.exit_code == 2
        assert "Bearer" not in refused.output, lines
    assert len(service.asked) == 1


def test_a_webhook_gets_all_events_unless_told_otherwise(run: Run, service: FakeService) -> None:
    """Without options: every event, and nothing else is sent."""
    service.on("POST", "/v1/subscribers", Said({**subscriber(), "secret": SECRET}, 201))
    assert run("subscribers", "add", "https://a.example/hook", "--json").stdout.startswith("{")
    assert service.asked[0].json == {"url": "https://a.example/hook", "event_types": ["*"]}


def test_one_is_shown_with_its_secret_only_when_asked(run: Run, service: FakeService) -> None:
    """The secret is read and printed with ``--secret`` alone."""
    service.on("GET", PATH, subscriber(disabled=True, disabled_reason="410 Gone", headers={"X-Team": "a"}))
    service.on("GET", f"{PATH}/secret", {"secret": SECRET, "secrets": [{"secret": SECRET, "expires_at": None}]})
    shown = run("subscribers", "show", ID)
    assert "disabled (410 Gone)" in shown.stdout
    assert SECRET not in shown.output
    assert not service.to("GET", f"{PATH}/secret")
    assert SECRET in run("subscribers", "show", ID, "--secret").stdout
    assert SECRET in run("subscribers", "show", ID, "--secret", "--json").stdout


def test_removing_asks_first(run: Run, service: FakeService) -> None:
    """Nothing is removed without a yes."""
    service.on("DELETE", PATH, Said(b"", 204))
    assert run("subscribers", "remove", ID, stdin="n\n").exit_code == 1
    assert not service.asked
    assert run("subscribers", "remove", ID, stdin="y\n").exit_code == 0
    assert run("subscribers", "remove", ID, "--yes").exit_code == 0
    assert len(service.to("DELETE", PATH)) == 2


def test_a_secret_is_rotated_with_its_overlap(run: Run, service: FakeService) -> None:
    """The new secret is shown; the overlap is passed on, a day when left out."""
    service.on("POST", f"{PATH}/rotate-secret", {"secret": SECRET, "secrets": []})
    assert SECRET in run("subscribers", "rotate", ID).stdout
    run("subscribers", "rotate", ID, "--overlap", "0")
    assert [asked.json for asked in service.asked] == [{"overlap": 86_400}, {"overlap": 0}]


def test_a_ping_says_where_to_see_what_came_of_it(run: Run, service: FakeService) -> None:
    """The delivery's id is named with the command that shows it."""
    service.on("POST", f"{PATH}/ping", Said({"id": "dlv_1"}, 202))
    assert "receiver delivery dlv_1" in run("subscribers", "ping", ID).stdout


@pytest.mark.parametrize(("command", "disabled"), [("enable", False), ("disable", True)])
def test_deliveries_are_switched_on_and_off(run: Run, service: FakeService, command: str, disabled: bool) -> None:
    """``enable`` and ``disable`` change that field alone."""
    service.on("PATCH", PATH, subscriber(disabled=disabled))
    assert run("subscribers", command, ID).stdout == f"Subscriber {ID} is {command}d.\n"
    assert service.asked[0].json == {"disabled": disabled}
