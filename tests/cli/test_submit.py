"""Handing in a task, and watching it."""

from __future__ import annotations

import io
import itertools
from unittest.mock import Mock

import pytest
from rich.console import Console

from receiver.cli.api import Api, ApiProblem
from receiver.cli.submit import Watcher, watch
from tests.cli.conftest import KEY, Run
from tests.cli.service import FAILED, SUCCEEDED, TIMELINE, FakeService, Said, task

ID = task()["id"]
RUNNING = task(status="running", progress=0.5)


@pytest.fixture
def ready(service: FakeService) -> FakeService:
    """A service that takes a task and lets it succeed."""
    service.on("POST", "/v1/tasks", Said(task(), 202))
    service.on("GET", f"/v1/tasks/{ID}", RUNNING, SUCCEEDED)
    service.on("GET", f"/v1/tasks/{ID}/timeline", {"data": TIMELINE["data"][:3]}, TIMELINE)
    return service


def test_a_task_is_submitted_with_all_that_was_said(run: Run, ready: FakeService) -> None:
    """Provider, operation, input, metadata, callback URL, deadline and key reach the API as such."""
    shown = run(
        "submit", "superapp", "text2image", "inputText=a boat", "width=512", "--input", '{"height": 256}',
        "--callback-url", "https://a.example/", "--metadata", "order=17", "--deadline", "60",
        "--idempotency-key", "k1",
    )  # fmt: skip
    assert shown.exit_code == 0
    assert shown.stdout == f"{ID} queued\n"
    asked = ready.asked[0]
    assert asked.json == {
        "provider": "superapp",
        "operation": "text2image",
        "input": {"inputText": "a boat", "width": 512, "height": 256},
        "callback_url": "https://a.example/",
        "metadata": {"order": "17"},
        "deadline": 60,
    }
    assert asked.headers["idempotency-key"] == "k1"


def test_what_was_not_said_is_not_sent(run: Run, ready: FakeService) -> None:
    """Options left out do not appear in the body, so that the service's defaults hold."""
    run("submit", "superapp", "text2image")
    assert ready.asked[0].json == {"provider": "superapp", "operation": "text2image", "input": {}}
    assert "idempotency-key" not in ready.asked[0].headers


def test_a_replayed_request_is_said_to_be_one(run: Run, service: FakeService) -> None:
    """The same idempotency key again: the same task, and people see that it is no new one."""
    service.on("POST", "/v1/tasks", Said(task(), 202, {"Idempotency-Replayed": "true"}))
    assert "(submitted before)" in run("submit", "a", "b", "--idempotency-key", "k").stdout


def test_json_is_the_task(run: Run, ready: FakeService) -> None:
    """``--json`` prints the task, with ``--wait`` as it is at the end and nothing else."""
    assert '"status": "queued"' in run("submit", "a", "b", "--json").stdout
    shown = run("submit", "a", "b", "--json", "--wait")
    assert shown.exit_code == 0
    assert '"status": "succeeded"' in shown.stdout
    assert len(shown.stdout.splitlines()) == 1


def test_waiting_shows_each_state_and_the_outputs(run: Run, ready: FakeService) -> None:
    """Without a terminal: one line a state with its time, then the addresses of the results; code 0."""
    shown = run("submit", "superapp", "text2image", "--wait")
    assert shown.exit_code == 0
    assert [line.strip() for line in shown.stdout.splitlines()] == [
        f"{ID}  superapp text2image",
        "0.0 s  queued",
        "0.1 s  running",
        "3.5 s  succeeded by callback",
        "image https://cdn.example/1.png",
    ]


def test_waiting_for_a_task_that_fails_ends_with_1(run: Run, ready: FakeService) -> None:
    """A failed task: its error on standard error, code 1, with ``--json`` too."""
    ready.on("GET", f"/v1/tasks/{ID}", FAILED)
    shown = run("submit", "a", "b", "--wait")
    assert shown.exit_code == 1
    assert "content_policy: The provider refused the prompt." in shown.stderr
    shown = run("submit", "a", "b", "--wait", "--json")
    assert shown.exit_code == 1
    assert '"status": "failed"' in shown.stdout


def test_waiting_ends_when_its_time_is_over(run: Run, ready: FakeService) -> None:
    """Time over before the end: code 6, and how to look at the task later."""
    ready.on("GET", f"/v1/tasks/{ID}", RUNNING)
    shown = run("submit", "a", "b", "--wait", "0")
    assert shown.exit_code == 6
    assert f"receiver task {ID}" in shown.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["--wait", "30", "x=1"],
        ["--wait=30", "x=1"],
        ["--wait", "x=1"],
        ["x=1", "--wait"],
        ["--wait", "--metadata", "a=b", "x=1"],
        ["--wait", "--", "x=1"],
    ],
)
def test_wait_is_read_with_and_without_seconds(run: Run, ready: FakeService, args: list[str]) -> None:
    """A bare ``--wait`` may stand anywhere and swallows no field."""
    shown = run("submit", "a", "b", *args)
    assert shown.exit_code == 0, shown.output
    assert ready.asked[0].json["input"] == {"x": 1}


@pytest.mark.parametrize("option", ["--wait=soon", "--wait=nan", "--deadline=nan"])
def test_a_time_that_is_no_number_is_a_usage_error(run: Run, option: str) -> None:
    """``--wait=soon`` ends with code 2, and so does ``--wait=nan``, whose end would never come."""
    assert run("submit", "a", "b", option).exit_code == 2


class _Time:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 0.01)


def test_a_service_that_is_away_for_a_moment_is_waited_for(service: FakeService) -> None:
    """A restart of the service does not end the watching; a refusal does."""
    clock, seen = _Time(), []
    service.on("GET", f"/v1/tasks/{ID}", RUNNING, Said(None, 503), Said(b"", 502), SUCCEEDED)
    answer = watch(Api(service.url, KEY), ID, 60, seen.append, clock, clock.sleep)
    assert answer.json()["status"] == "succeeded"
    assert [each and each["status"] for each in seen] == ["running", None, None, "succeeded"]
    service.on("GET", f"/v1/tasks/{ID}", Said(None, 404))
    with pytest.raises(ApiProblem):
        watch(Api(service.url, KEY), ID, 60, seen.append, clock, clock.sleep)


def test_a_service_that_is_away_between_two_questions_is_waited_for(run: Run, ready: FakeService) -> None:
    """Nor does a restart just when the states are read: they are shown at the next look."""
    ready.on("GET", f"/v1/tasks/{ID}/timeline", Said(None, 503), TIMELINE)
    shown = run("submit", "superapp", "text2image", "--wait")
    assert shown.exit_code == 0, shown.stderr
    assert "succeeded by callback" in shown.stdout


def test_the_end_is_shown_though_its_timeline_cannot_be_read(run: Run, ready: FakeService) -> None:
    """The last state line is the last state, also when the service goes away just then, or is busy."""
    ready.on("GET", f"/v1/tasks/{ID}/timeline", {"data": TIMELINE["data"][:3]}, Said(None, 503))
    shown = run("submit", "superapp", "text2image", "--wait")
    assert shown.exit_code == 0, shown.stderr
    assert "succeeded by callback" in shown.stdout


def test_a_service_that_stays_away_ends_the_watching_in_time() -> None:
    """Nobody there until the end: the problem is told then."""
    clock = _Time()
    with pytest.raises(ApiProblem, match="no service"):
        watch(Api("http://127.0.0.1:1", KEY), ID, 1, lambda _: None, clock, clock.sleep)
    assert clock.now >= 1


@pytest.mark.parametrize(("end", "code"), [(KeyboardInterrupt(), 130), (ApiProblem("gone", None), 5)])
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_whoever_stops_watching_is_told_where_the_task_is(
    run: Run, ready: FakeService, monkeypatch: pytest.MonkeyPatch, end: BaseException, code: int, more: tuple[str, ...]
) -> None:
    """Ctrl-C, or a service that went away: the task goes on, may cost money, and is named with what can be done."""
    monkeypatch.setattr("receiver.cli.submit.watch", Mock(side_effect=end))
    shown = run("submit", "superapp", "text2image", "--wait", *more)
    assert shown.exit_code == code
    assert f"The task goes on: `receiver task {ID}` shows it, `receiver cancel {ID}` ends it." in shown.stderr


def test_a_task_is_not_asked_about_without_a_breath(service: FakeService) -> None:
    """A service that answers at once although it was asked to wait is not called in a tight loop."""
    clock = _Time()
    service.on("GET", f"/v1/tasks/{ID}", RUNNING)
    watch(Api(service.url, KEY), ID, 2, lambda _: None, clock, clock.sleep)
    assert len(service.asked) <= 12


def test_on_a_terminal_a_live_line_shows_state_time_and_progress(ready: FakeService) -> None:
    """The live line moves below the lines of past states, and is gone at the end."""
    screen = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    shots: list[str] = []
    with Watcher(Api(ready.url, KEY), ID, screen) as watcher:
        for each in (RUNNING, RUNNING, None):
            watcher.see(each)
            shots.append(str(watcher._spinner.text))
    assert "running for" in shots[0]
    assert "50%" in shots[0]
    assert "does not answer" in shots[2]
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "0.1 s  running" in shown


def test_states_are_read_only_when_they_have_changed(ready: FakeService) -> None:
    """Watching costs one request a look; the timeline is read at a change of state alone."""
    screen = Console(file=io.StringIO())
    with Watcher(Api(ready.url, KEY), ID, screen) as watcher:
        for each in itertools.repeat(RUNNING, 5):
            watcher.see(each)
    assert len(ready.to("GET", f"/v1/tasks/{ID}/timeline")) == 1


@pytest.mark.parametrize("key", ["", "a b", "a\nb", "é", "🐈", "x" * 256])
def test_an_idempotency_key_that_no_header_can_carry_is_a_usage_error(run: Run, service: FakeService, key: str) -> None:
    """It is told what such a key looks like, not that there is no service; nothing is submitted."""
    result = run("submit", "superapp", "text2image", "--idempotency-key", key)
    assert result.exit_code == 2
    assert "1 to 255 visible ASCII characters" in " ".join(result.stderr.split())
    assert not service.asked
