"""``receiver demo``: the whole system at work, with its proof at the end."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import click
from rich.text import Text

import handlers
from receiver.cli.api import Api
from receiver.cli.demo_service import DemoService, demo_service
from receiver.cli.demo_subscriber import DemoSubscriber, demo_subscriber
from receiver.cli.exits import Exit
from receiver.cli.screen import clean, console, seconds_between, show_table, word
from receiver.cli.timeline import told
from receiver.models import FINAL

PATIENCE = 40.0
"""Seconds that all tasks together get."""
_LOOK = 0.2
_ROOMY = 100  # columns that have room for the operations
_WITHOUT_CALLBACK = "[sandbox:no-callback]"

TASKS: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("topview", "common_task_text2image", {"model": "Nano Banana", "prompt": "a lighthouse at dawn"}),
    ("topview", "voice_text2voice", {"voiceText": "Good morning.", "voiceId": "demo-voice"}),
    ("topview", "common_task_text2image",
     {"model": "Nano Banana", "prompt": f"a lighthouse, the callback is lost {_WITHOUT_CALLBACK}"}),
    ("superapp", "text2image", {"inputText": "a lighthouse at dawn", "width": 1024, "height": 1024}),
    ("apsaravideo_vod", "submit_ai_image_job", {"VideoId": "demo-video", "AITemplateId": "demo-template"}),
    ("img_open", "sd_text2image", {"prompt": "a lighthouse at dawn", "batch_size": 1}),
    ("img_open", "flux_text2image", {"prompt": "a lighthouse at dawn", "comfyTaskType": "Flux1SchnellFP8"}),
)  # fmt: skip
"""Provider, operation and input of each task."""

_UNTOLD = {"created", "event"}


@dataclass
class DemoTask:
    """One task of the demo and what is known of it. ``seen``: steps that were shown."""

    id: str
    provider: str
    operation: str
    task: Mapping[str, Any]
    seen: set[str] = field(default_factory=set)

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.task["status"] in FINAL

    def problem(self, subscriber: DemoSubscriber) -> str:
        """What is missing, empty when nothing is."""
        if self.task["status"] != "succeeded":
            error = self.task["error"] or {}
            return f"is {self.task['status']} {error.get('message', '')}".rstrip()
        if not self.task["outputs"]:
            return "has no output"
        good = [arrival for arrival in subscriber.arrived(self.id) if not arrival.problem]
        if not any(arrival.event_type == "task.succeeded" for arrival in good):
            return "did not arrive, verified, at the subscriber"
        return ""


@click.command()
def demo() -> None:
    """See it all work with emulated providers, in seconds.

    Tasks of every provider go out, come back, and arrive, signed, at a subscriber. Starts the service with
    emulated providers on free ports in a temporary folder, and a subscriber that verifies signatures. Needs
    no account and no internet, and leaves nothing behind. The exit code is 0 only if every result arrived,
    and both callbacks and polls brought some.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it cleans up as on Ctrl-C
    began = time.monotonic()
    screen = console()
    screen.print("Starting the service, emulated providers and a subscriber …", style="bold")
    with demo_subscriber() as subscriber, demo_service() as service:
        screen.print(f"ready at {service.api.url} after {time.monotonic() - began:.1f} s\n", style="bright_black")
        problems = _play(service, subscriber)
        if problems:
            screen.print("\nThe end of the service's log:", style="bold")
            for line in service.log_tail():
                screen.print(clean(line), style="bright_black")
    for problem in problems:
        console(error=True).print(f"Missing: {clean(problem)}", style="red")
    if problems:
        raise SystemExit(Exit.FAILED)
    screen.print(f"\nEvery result arrived, verified, in {time.monotonic() - began:.1f} s.", style="bold green")
    screen.print("Now try it yourself: make run (or: receiver run --with-sandbox)")


def _play(service: DemoService, subscriber: DemoSubscriber) -> list[str]:
    """Register, submit, watch and sum up; what is missing."""
    api = service.api
    wanted = {"url": subscriber.url, "event_types": [f"task.{status}" for status in sorted(FINAL)]}
    subscriber.secret = api.call("POST", "/v1/subscribers", body=wanted).json()["secret"]
    tasks = []
    for provider, operation, given in TASKS:
        body = {"provider": provider, "operation": operation, "input": given, "metadata": {"from": "demo"}}
        task = api.call("POST", "/v1/tasks", body=body).json()
        tasks.append(DemoTask(task["id"], provider, operation, task))
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and service.process.poll() is None:
        _look(api, tasks, subscriber)
        if all(task.done for task in tasks) and not any(task.problem(subscriber) for task in tasks):
            _look(api, tasks, subscriber)  # the attempts that have just been written down
            break
        time.sleep(_LOOK)
    _sum_up(tasks, subscriber)
    return missing(tasks, subscriber)


def _look(api: Api, tasks: list[DemoTask], subscriber: DemoSubscriber) -> None:
    """Show what has happened since the last look, in the order in which it happened."""
    began = min(task.task["created_at"] for task in tasks)
    news: list[tuple[str, DemoTask, Mapping[str, Any]]] = []
    for task in tasks:
        for step in api.get(f"/v1/tasks/{task.id}/timeline").json()["data"]:
            key = json.dumps(step, sort_keys=True)
            if key in task.seen:
                continue
            task.seen.add(key)
            if step["kind"] not in _UNTOLD:
                news.append((step["at"], task, step))
            if step["kind"] == "state":
                task.task = api.get(f"/v1/tasks/{task.id}").json()
    for at, task, step in sorted(news, key=lambda item: item[0]):
        detail = dict(step.get("detail") or {})
        if detail.get("to") in ("submitting", "running"):
            continue  # the submit's own line says as much
        detail.pop("provider_task_id", None)  # long, and of no interest here
        if detail.get("url") == subscriber.url:
            detail["url"] = "the subscriber"
        passed = seconds_between(began, at) or 0.0
        console().print(_line(passed, task, {**step, "detail": detail}, console().width))


def _line(passed: float, task: DemoTask, step: Mapping[str, Any], width: int) -> Text:
    """What happened, in one line of a terminal of 80 columns, too: there the operation is only in the table below."""
    line = Text().append(f"{passed:6.2f} s  ", "bright_black").append(f"{task.provider:<16}", "")
    if width >= _ROOMY:
        line.append(f"{task.operation:<23}  ", "bright_black")
    return line.append_text(told(step))


def _sum_up(tasks: list[DemoTask], subscriber: DemoSubscriber) -> None:
    rows = []
    for task in tasks:
        seconds = seconds_between(task.task["created_at"], task.task["finished_at"])
        rows.append(
            [
                task.provider,
                task.operation,
                task.task["completed_via"] if task.task["status"] == "succeeded" else word(task.task["status"]),
                None if seconds is None else f"{seconds:.1f}",
                word("no" if task.problem(subscriber) else "yes"),
            ]
        )
    console().print()
    show_table(["provider", "operation", "completed via", "seconds", "verified"], rows, "No tasks.")


def missing(tasks: list[DemoTask], subscriber: DemoSubscriber) -> list[str]:
    """What the demo promised and did not show, one sentence each."""
    problems = [
        f"{task.provider} {task.operation} ({task.id}) {problem}"
        for task in tasks
        if (problem := task.problem(subscriber))
    ]
    problems += [f"a webhook that was not believed: {arrival.problem}" for arrival in subscriber.refused()]
    shown = {task.provider for task in tasks}
    problems += [f"no task of {name} was submitted" for name in handlers.available() if name not in shown]
    ways = {task.task["completed_via"] for task in tasks}
    problems += [f"no task was completed by {way}" for way in ("callback", "poll") if way not in ways]
    return problems
