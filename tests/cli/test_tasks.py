"""Reading tasks and their timelines."""

from __future__ import annotations

import json

import pytest
from click.testing import Result

from receiver.cli.timeline import told
from tests.cli.conftest import Run
from tests.cli.service import FAILED, SUCCEEDED, TIMELINE, FakeService, Said, output, task

ID = task()["id"]


def lines(result: Result) -> list[str]:
    """What was printed, without the spaces at the ends of lines."""
    return [line.rstrip() for line in result.stdout.splitlines()]


def test_tasks_are_listed_with_their_states(run: Run, service: FakeService) -> None:
    """One line a task: id, state, provider, operation, time, duration, and what completed it."""
    service.on("GET", "/v1/tasks", {"data": [SUCCEEDED, task()], "next_cursor": None})
    shown = run("tasks")
    assert shown.exit_code == 0
    assert lines(shown)[1].split() == [
        ID, "succeeded", "superapp", "text2image", "2026-11-21", "10:00:00Z", "3.5", "s", "callback",
    ]  # fmt: skip
    assert "queued" in lines(shown)[2]


def test_filters_are_passed_on(run: Run, service: FakeService) -> None:
    """Every filter of the command is one of the API's."""
    service.on("GET", "/v1/tasks", {"data": [], "next_cursor": None})
    shown = run(
        "tasks", "--status", "failed", "--provider", "topview", "--operation", "voice_clone", "--limit", "5",
        "--created-after", "2026-11-21", "--metadata", "order=17", "--cursor", "task_x",
    )  # fmt: skip
    assert shown.stdout == "No tasks.\n"
    assert service.asked[0].query == {
        "status": "failed",
        "provider": "topview",
        "operation": "voice_clone",
        "limit": "5",
        "created_after": "2026-11-21T00:00:00.000Z",
        "metadata.order": "17",
        "cursor": "task_x",
    }


def test_a_next_page_is_told_beside_the_data(run: Run, service: FakeService) -> None:
    """The cursor of the next page goes to standard error, not into the list."""
    service.on("GET", "/v1/tasks", {"data": [task()], "next_cursor": "task_next"})
    shown = run("tasks")
    assert "--cursor task_next" in shown.stderr
    assert "task_next" not in shown.stdout


@pytest.mark.parametrize("args", [["tasks"], ["task", ID], ["task", ID, "--timeline"], ["cancel", ID]])
def test_json_is_the_services_answer_as_it_came(run: Run, service: FakeService, args: list[str]) -> None:
    """``--json`` rounds no number and loses no member."""
    raw = b'{"data": [], "next_cursor": null, "provider_response": 12345678901234567890.12345678901234567890}'
    for method, path in [
        ("GET", "/v1/tasks"),
        ("GET", f"/v1/tasks/{ID}"),
        ("GET", f"/v1/tasks/{ID}/timeline"),
        ("POST", f"/v1/tasks/{ID}/cancel"),
    ]:
        service.on(method, path, Said(raw))
    assert run(*args, "--json").stdout == raw.decode() + "\n"


def test_a_task_is_shown_with_its_outputs(run: Run, service: FakeService) -> None:
    """A finished task shows state, way, duration, input and where the results are."""
    texts = output(kind="text", url=None, text="a boat", name="caption", status="blocked")
    service.on("GET", f"/v1/tasks/{ID}", {**SUCCEEDED, "outputs": [output(), texts]})
    shown = run("task", ID).stdout
    assert "succeeded by callback" in shown
    assert "3.5 s" in shown
    assert json.dumps(SUCCEEDED["input"]) in shown
    assert "image https://cdn.example/1.png" in shown
    assert "text  blocked caption: a boat" in shown


def test_a_failed_task_shows_why(run: Run, service: FakeService) -> None:
    """The error's code and message are there, and the provider's own words."""
    service.on("GET", f"/v1/tasks/{ID}", FAILED)
    shown = run("task", ID).stdout
    assert "content_policy: The provider refused the prompt." in shown
    assert "E-17 unsafe" in shown


def test_a_running_task_shows_its_progress_and_deadline(run: Run, service: FakeService) -> None:
    """While it runs: how far it is, and until when it may."""
    service.on("GET", f"/v1/tasks/{ID}", task(status="running", progress=0.25))
    shown = run("task", ID).stdout
    assert "running, 25%" in shown
    assert "2026-11-21 11:00:00" in shown


def test_a_timeline_is_told_step_by_step(run: Run, service: FakeService) -> None:
    """Each step is one line: seconds since the first, what kind, and what happened."""
    service.on("GET", f"/v1/tasks/{ID}/timeline", TIMELINE)
    assert lines(run("task", ID, "--timeline")) == [
        "    0.000 s  created  accepted, to be handed over",
        "    0.100 s  submit   taken by the provider as p-1",
        "    0.100 s  now      running",
        "    2.000 s  poll     asked: running",
        "    3.000 s  callback the provider called, 2 times; it is asked now",
        "    3.500 s  now      succeeded by callback",
        "    3.500 s  event    task.succeeded",
        "    3.700 s  webhook  task.succeeded to https://a.example/hook: 204",
    ]


@pytest.mark.parametrize(
    ("kind", "detail", "said"),
    [
        ("submit", {"outcome": "unavailable", "why": "busy", "again_in_ms": 1500}, "unavailable: busy, again in 1.5 s"),
        ("submit", {"outcome": "rejected", "code": "permission"}, "rejected: permission"),
        ("submit", {"outcome": "unknown", "why": "the answer was lost"}, "unknown: the answer was lost"),
        ("poll", {"failed": "no answer"}, "asked, but: no answer"),
        ("state", {"to": "failed", "error": "timeout"}, "failed: timeout"),
        ("notice", {"verdict": "contradiction"}, "contradicts the end, changes nothing"),
        ("notice", {"verdict": "something new"}, "something new"),
        ("attempt", {"event_type": "t", "url": "u", "response_status": None, "error": "dns_failure"}, "dns_failure"),
        ("attempt", {"event_type": "t", "url": "u", "response_status": 200, "error": "timeout"}, "200, timeout"),
        ("moved", {"to": "Mars"}, '{"to": "Mars"}'),
        ("moved", None, "{}"),
    ],
)
def test_every_step_is_told_even_one_of_a_kind_not_known(kind: str, detail: object, said: str) -> None:
    """No step of any kind or detail breaks the timeline."""
    assert told({"kind": kind, "detail": detail}).plain.rstrip().endswith(said)


def test_a_task_is_canceled(run: Run, service: FakeService) -> None:
    """``cancel`` asks the API once, and says it is done."""
    service.on("POST", f"/v1/tasks/{ID}/cancel", task(status="canceled"))
    assert run("cancel", ID).stdout == f"Task {ID} is canceled.\n"
