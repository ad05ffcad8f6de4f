"""``receiver listen``: events live, over many connections, and forwarded with signatures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from receiver.cli import listen as listening
from receiver.cli.api import Api, ApiProblem
from receiver.cli.listen import Forwarded, Forwarder, follow
from receiver.cli.stream import ServerEvent
from receiver.cli.timeline import told
from receiver.signing import new_secret, verify
from tests.cli.conftest import KEY, Run
from tests.cli.service import FakeService, Said
from tests.cli.service import task as task_of

BODY = json.dumps(
    {"type": "task.succeeded", "timestamp": "2026-11-21T10:00:03.500Z", "data": task_of(status="succeeded")}
).encode()
STREAM = {"Content-Type": "text/event-stream"}


def frame(number: int, kind: str = "task.succeeded", body: bytes = BODY) -> bytes:
    """One event as the service streams it."""
    return b"id: evt_%d\nevent: %s\ndata: %s\n\n" % (number, kind.encode(), body)


@pytest.fixture
def streaming(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> FakeService:
    """A service with one stream of two events, after which Ctrl-C is pressed."""
    service.on("GET", "/v1/events", {"data": [{"id": "evt_0"}], "next_cursor": None},
               Said(frame(1) + frame(2, "task.failed"), headers=STREAM))  # fmt: skip

    def pressed(_: float) -> None:
        raise KeyboardInterrupt

    real = follow
    monkeypatch.setattr(listening, "follow", lambda *said: real(*said, sleep=pressed))
    return service


def test_events_are_printed_until_ctrl_c(run: Run, streaming: FakeService) -> None:
    """One line an event: type, provider, operation, task; Ctrl-C is no failure."""
    shown = run("listen")
    assert shown.exit_code == 0
    first, second = shown.stdout.splitlines()
    assert first.split()[2:] == ["task.succeeded", "superapp", "text2image", task_of()["id"]]
    assert "task.failed" in second
    assert "Listening at" in shown.stderr


@pytest.mark.parametrize("args", [(), ("--after", "evt_1")])
def test_nobody_listens_before_there_is_a_connection(run: Run, streaming: FakeService, args: tuple[str, ...]) -> None:
    """A service that is away, or refuses, is all that is told: who reads "Listening" can make events."""
    streaming.on("GET", "/v1/events", Said(None, 503))
    shown = run("listen", *args)
    assert shown.stderr
    assert "Listening" not in shown.stderr


def test_listening_begins_behind_the_newest_event(run: Run, streaming: FakeService) -> None:
    """The place is taken before the first connection, so that a broken one loses nothing."""
    run("listen")
    newest, stream = streaming.asked
    assert newest.query == {"limit": "1"}
    assert stream.query == {"after": "evt_0"}
    assert stream.headers["accept"] == "text/event-stream"


def test_listening_can_begin_behind_any_event(run: Run, streaming: FakeService) -> None:
    """``--after`` names the event; nothing else is asked."""
    streaming.on("GET", "/v1/events", Said(frame(8), headers=STREAM))
    run("listen", "--after", "evt_7")
    assert [asked.query for asked in streaming.asked] == [{"after": "evt_7"}]


def test_json_is_one_event_a_line_with_its_id(run: Run, streaming: FakeService) -> None:
    """Each line is the event's body and its id."""
    lines = run("listen", "--json").stdout.splitlines()
    assert json.loads(lines[0]) == {"id": "evt_1", **json.loads(BODY)}
    assert len(lines) == 2


def test_only_wanted_events_are_shown(run: Run, streaming: FakeService) -> None:
    """``--events`` takes types and groups, and refuses what matches none."""
    assert run("listen", "--events", "task.failed").stdout.count("task.") == 1
    result = run("listen", "--events", "task.unheard")
    assert result.exit_code == 2
    assert "matches no event" in result.stderr


def stop_after(count: int) -> tuple[list[float], Callable[[float], None]]:
    """A sleep that notes how long, and is interrupted at the ``count``-th time."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == count:
            raise KeyboardInterrupt

    return slept, sleep


def followed(service: FakeService, after: str, sleep: Callable[[float], None], lost: list[str]) -> list[str]:
    """The ids that arrive until the sleep is interrupted."""
    found: list[str] = []
    events = follow(Api(service.url, KEY), after, lost.append, sleep=sleep)
    with pytest.raises(KeyboardInterrupt):
        found.extend(event.id for event in events)
    return found


def test_a_broken_connection_goes_on_where_it_was(service: FakeService) -> None:
    """Reconnections name the last whole event; nothing is lost, nothing comes twice."""
    cut = Said(b"retry: 300\nid: evt_0\n\n" + frame(1) + frame(2)[:-10], headers=STREAM, cut=True)
    service.on("GET", "/v1/events", cut, Said(frame(2) + frame(3), headers=STREAM), Said(b"", headers=STREAM))
    slept, sleep = stop_after(3)
    assert followed(service, "", sleep, []) == ["evt_1", "evt_2", "evt_3"]
    assert [asked.query["after"] for asked in service.asked] == ["", "evt_1", "evt_3"]
    assert slept[1] == 0  # an orderly end of the stream is no reason to wait


def test_the_services_own_pause_is_kept(service: FakeService) -> None:
    """``retry:`` in the stream sets the pause before the next connection."""
    service.on("GET", "/v1/events", Said(b"retry: 300\nid: evt_0\n\n", headers=STREAM))
    slept, sleep = stop_after(1)
    followed(service, "", sleep, [])
    assert slept == [0.3]


def test_a_service_that_is_away_is_waited_for_ever_longer(service: FakeService) -> None:
    """Failures are told, and pauses double up to a limit; the first event resets them."""
    away = [Said(None, 503)] * 6
    service.on("GET", "/v1/events", *away, Said(frame(1), headers=STREAM), Said(None, 503))
    slept, sleep = stop_after(8)
    lost: list[str] = []
    assert followed(service, "", sleep, lost) == ["evt_1"]
    assert slept == [1, 2, 4, 8, 15, 15, 0, 1]
    assert len(lost) == 7


@pytest.mark.parametrize("status", [401, 403, 404, 422])
def test_a_refusal_ends_the_listening(service: FakeService, status: int) -> None:
    """A key that may not listen is told at once, not tried again."""
    service.on("GET", "/v1/events", Said(None, status))
    with pytest.raises(ApiProblem):
        next(follow(Api(service.url, KEY), "", lambda _: None))


def test_events_are_forwarded_signed_with_the_accounts_secrets(run: Run, streaming: FakeService) -> None:
    """The local program gets the same bytes and headers as a webhook, and can verify them."""
    old, new = new_secret(), new_secret()
    secrets = [{"secret": new, "expires_at": None}, {"secret": old, "expires_at": "2026-11-22T00:00:00.000Z"}]
    streaming.on("GET", "/v1/signing-secret", {"secret": new, "secrets": secrets})
    streaming.on("POST", "/hook", Said(b"", 204))
    shown = run("listen", "--events", "task.succeeded", "--forward", f"{streaming.url}/hook")
    assert shown.exit_code == 0
    assert "204" in shown.stdout
    (hook,) = streaming.to("POST", "/hook")
    assert hook.body == BODY
    assert hook.headers["webhook-id"] == "evt_1"
    assert hook.headers["content-type"] == "application/json"
    assert "authorization" not in hook.headers
    for secret in (old, new):
        verify([secret], hook.headers, hook.body, float(hook.headers["webhook-timestamp"]))


def test_an_event_broken_off_while_it_is_forwarded_comes_again(
    run: Run, streaming: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the local program has not answered yet: to go on begins with that event, not behind it."""
    streaming.on("GET", "/v1/signing-secret", {"secret": new_secret()})
    real = Forwarder.send

    def send(self: Forwarder, event: ServerEvent) -> Forwarded:
        if event.id == "evt_2":
            raise KeyboardInterrupt
        return real(self, event)

    monkeypatch.setattr(Forwarder, "send", send)
    shown = run("listen", "--forward", f"{streaming.url}/hook")
    assert shown.exit_code == 0
    assert "receiver listen --after evt_1\n" in shown.stderr


def test_a_secret_of_ones_own_signs_without_asking(run: Run, streaming: FakeService) -> None:
    """``--secret`` is used as it is; a text that is none is a usage error."""
    streaming.on("POST", "/hook", Said(b"", 500))
    secret = new_secret()
    shown = run("listen", "--forward", f"{streaming.url}/hook", "--secret", secret)
    assert shown.exit_code == 0
    assert "500" in shown.stdout
    assert not streaming.to("GET", "/v1/signing-secret")
    hook = streaming.to("POST", "/hook")[0]
    verify([secret], hook.headers, hook.body, float(hook.headers["webhook-timestamp"]))
    assert run("listen", "--forward", f"{streaming.url}/hook", "--secret", "geheim").exit_code == 2


@pytest.mark.parametrize("source", ["@secret", "-"])
def test_a_secret_need_not_stand_in_the_list_of_processes(
    run: Run, streaming: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """``--secret @file`` and ``--secret -`` read it; an empty one, or no such file, is a usage error."""
    monkeypatch.chdir(tmp_path)
    streaming.on("POST", "/hook", Said(b"", 204))
    secret = new_secret()
    Path("secret").write_text(f"{secret}\n")
    listen = ("listen", "--forward", f"{streaming.url}/hook", "--secret")
    assert run(*listen, source, stdin=f"{secret}\n").exit_code == 0
    hook = streaming.to("POST", "/hook")[0]
    verify([secret], hook.headers, hook.body, float(hook.headers["webhook-timestamp"]))
    Path("secret").unlink()
    assert run(*listen, source, stdin=" \n").exit_code == 2


def test_a_key_that_may_not_sign_is_told_the_way_out(run: Run, streaming: FakeService) -> None:
    """Without the right to read the secret the message names the scope and ``--secret``."""
    streaming.on("GET", "/v1/signing-secret", Said({"detail": "no"}, 403))
    result = run("listen", "--forward", f"{streaming.url}/hook")
    assert result.exit_code == 4
    assert "--secret @FILE" in result.stderr


def test_an_address_to_forward_to_must_be_one(run: Run, streaming: FakeService) -> None:
    """A port alone is a usage error with an example."""
    result = run("listen", "--forward", "3000")
    assert result.exit_code == 2
    assert "http://localhost:3000/hook" in result.stderr


def test_a_program_that_is_not_there_does_not_end_the_listening(service: FakeService) -> None:
    """What happens at the local port is told and never raised."""
    event = ServerEvent("evt_1", "task.succeeded", BODY)
    sent = Forwarder("http://127.0.0.1:1/", [new_secret()]).send(event)
    assert sent.status is None
    assert "nothing listens there" in sent.problem
    service.on("POST", "/moved", Said(b"", 307, {"Location": f"{service.url}/elsewhere"}))
    assert Forwarder(f"{service.url}/moved", [new_secret()]).send(event).status == 307
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    "body",
    [b"no json", b"{}", b'{"timestamp": "2026-11-21T10:00:00Z", "data": {"subscriber": "sub_1", "progress": 0.5}}'],
)
def test_an_event_of_any_shape_is_shown(run: Run, streaming: FakeService, body: bytes) -> None:
    """An event that is not about a task is a line too."""
    streaming.on("GET", "/v1/events", Said(frame(1, "task.progress", body), headers=STREAM))
    shown = run("listen", "--after", "evt_0")
    assert shown.exit_code == 0
    assert "task.progress" in shown.stdout


def test_a_failed_task_shows_its_error_live(run: Run, streaming: FakeService) -> None:
    """Code and message of the error stand in the event's line."""
    data: dict[str, Any] = task_of(status="failed", error={"code": "timeout", "message": "Too slow."})
    body = json.dumps({"timestamp": "2026-11-21T10:00:00.000Z", "data": data}).encode()
    streaming.on("GET", "/v1/events", Said(frame(1, "task.failed", body), headers=STREAM))
    assert "timeout: Too slow." in run("listen", "--after", "evt_0").stdout


def test_a_providers_words_begin_no_line(run: Run, streaming: FakeService) -> None:
    """Each event is one line, whatever its error says: no provider can make up another event, or a step."""
    said = "no\n2026-11-21 10:00:01Z  task.succeeded  superapp"
    data: dict[str, Any] = task_of(status="failed", error={"code": "timeout", "message": said})
    body = json.dumps({"timestamp": "2026-11-21T10:00:00.000Z", "data": data}).encode()
    streaming.on("GET", "/v1/events", Said(frame(1, "task.failed", body), headers=STREAM))
    shown = run("listen", "--after", "evt_0").stdout
    assert [line for line in shown.splitlines() if "task.succeeded" in line] == [shown.splitlines()[0]]
    assert "\n" not in told({"kind": "poll", "detail": {"failed": said}}).plain


def test_from_the_very_first_event_when_there_is_none_yet(service: FakeService) -> None:
    """An account without events is listened to from its beginning, so that the first one is not missed."""
    service.on("GET", "/v1/events", {"data": [], "next_cursor": None})
    assert listening.newest_event(Api(service.url, KEY)) == ""
