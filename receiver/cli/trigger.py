"""``receiver trigger``: any event, made by the sandbox, for whoever writes a subscriber."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from receiver.cli import completing
from receiver.cli.api import Api, part, with_api
from receiver.cli.emulated import Emulated, sample_input, with_words
from receiver.cli.exits import Exit, Problem
from receiver.cli.fields import task_input
from receiver.cli.progress import progress
from receiver.cli.screen import clean, console, show_facts, show_json
from receiver.models import FINAL, EventType

PATIENCE = 60.0
"""Seconds to wait for the event; a task of the sandbox takes three."""
_LOOK = 0.2
_LONG = "duration=600"


@dataclass(frozen=True)
class Recipe:
    """How an event is brought about. ``words``: said to the sandbox. ``deadline``: the task's, in seconds."""

    provider: str
    operation: str
    words: tuple[str, ...] = ()
    deadline: float | None = None
    cancel: bool = False


_IMAGE = ("topview", "common_task_text2image")
_DRAWING = ("img_open", "sd_text2image")
_POLLED = ("superapp", "text2image")

RECIPES: Mapping[str, Recipe] = {
    EventType.TASK_RUNNING: Recipe(*_IMAGE),
    EventType.TASK_PROGRESS: Recipe(*_DRAWING, ("duration=20",)),
    EventType.TASK_SUCCEEDED: Recipe(*_IMAGE),
    EventType.TASK_FAILED: Recipe(*_IMAGE, ("fail",)),
    EventType.TASK_CANCELED: Recipe(*_IMAGE, (_LONG,), cancel=True),
    EventType.TASK_EXPIRED: Recipe(*_IMAGE, ("stuck",), deadline=2),
}
"""One for each event of a task."""

ERRORS: Mapping[str, Recipe] = {
    "invalid_input": Recipe(*_IMAGE, ("code=4000",)),
    "authentication": Recipe(*_IMAGE, ("code=4002",)),
    "permission": Recipe(*_IMAGE, ("code=4006",)),
    "insufficient_credit": Recipe(*_IMAGE, ("code=4100",)),
    "content_policy": Recipe(*_IMAGE, ("blocked",)),
    "rate_limited": Recipe(*_IMAGE, ("fail=5003",)),
    "not_found": Recipe(*_IMAGE, ("code=4004",)),
    "provider_error": Recipe(*_IMAGE, ("fail=5000",)),
    "timeout": Recipe(*_POLLED, ("fail=TIMEOUT",)),
    "empty_result": Recipe(*_IMAGE, ("empty",)),
    "submission_unknown": Recipe(*_POLLED, ("drop",)),
}
"""One for each ``error.code`` of ``task.failed``, but ``internal``: that is a fault of ours, which nobody can order."""


@click.command()
@click.argument("event_type", metavar="EVENT_TYPE", type=click.Choice([kind.value for kind in EventType]))
@click.argument("fields", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--error",
    type=click.Choice(list(ERRORS)),
    metavar="CODE",
    help=f"task.failed with this error.code: {', '.join(ERRORS)}.",
)
@click.option("--provider", shell_complete=completing.providers, help="A task of this provider.")
@click.option("--operation", shell_complete=completing.operations, help="... and this operation of it.")
@click.option(
    "--outcome",
    multiple=True,
    metavar="WORD[=VALUE]",
    help="What the sandbox does: late-callback=5, fail=5000, empty, duplicate-callbacks=3, ...; may be repeated.",
)
@click.option("--subscriber", metavar="ID", shell_complete=completing.subscribers, help="Whom to ping.")
@click.option("--json", "as_json", is_flag=True, help="The event as JSON.")
@with_api
def trigger(
    api: Api,
    event_type: str,
    fields: tuple[str, ...],
    error: str | None,
    provider: str | None,
    operation: str | None,
    outcome: tuple[str, ...],
    subscriber: str | None,
    as_json: bool,
) -> None:
    """Have the sandbox make any event, for trying out a subscriber.

    Nothing is forged: a real task goes through the service and the emulated provider, and its events, deliveries
    and timeline are as real. Waits for the event and shows it. Refuses providers that are not emulated, so that it
    never buys anything (`receiver run --with-sandbox` emulates all). EVENT_TYPE is one of task.running, task.progress,
    task.succeeded, task.failed, task.canceled, task.expired, subscriber.ping and subscriber.disabled.

    \b
    receiver trigger task.succeeded
    receiver trigger task.failed --error content_policy
    receiver trigger task.succeeded --provider img_open \\
        --operation sd_text2image prompt="a boat"
    receiver trigger task.succeeded --outcome duplicate-callbacks=5
    receiver trigger subscriber.ping --subscriber sub_...
    """  # noqa: D301  click reads the backspace
    if event_type == EventType.SUBSCRIBER_PING:
        event = _ping(api, subscriber)
    elif event_type == EventType.SUBSCRIBER_DISABLED:
        event = _disable(api)
    else:
        recipe = _recipe(event_type, error, provider, operation, outcome)
        event = _play(api, event_type, recipe, fields)
    if as_json:
        show_json(json.dumps(event, ensure_ascii=False))
    else:
        _show(event)


def _recipe(
    event_type: str, error: str | None, provider: str | None, operation: str | None, outcome: Sequence[str]
) -> Recipe:
    if error is not None and event_type != EventType.TASK_FAILED:
        raise click.UsageError("--error goes with task.failed.")
    if error is not None and outcome:
        raise click.UsageError("Either --error or --outcome: both say how it ends.")
    if (provider is None) != (operation is None):
        raise click.UsageError("--provider and --operation go together; `receiver providers` lists them.")
    made = RECIPES[event_type] if error is None else ERRORS[error]
    if provider is not None and error is not None:
        raise click.UsageError("--error chooses the provider; with --provider say how it ends by --outcome.")
    return Recipe(
        provider or made.provider,
        operation or made.operation,
        (*made.words, *outcome),
        made.deadline,
        made.cancel,
    )


def _play(api: Api, event_type: str, recipe: Recipe, fields: Sequence[str]) -> dict[str, Any]:
    """Submit the task of a recipe, and wait for the event."""
    emulated = Emulated.find(api, recipe.provider)
    emulated.check(recipe.words)
    given = task_input(None, fields)
    made = {**sample_input(emulated.input_of(recipe.operation)), **given}
    body: dict[str, Any] = {
        "provider": recipe.provider,
        "operation": recipe.operation,
        "input": with_words(made, recipe.words),
        "metadata": {"from": "trigger"},
    }
    if recipe.deadline is not None:
        body["deadline"] = recipe.deadline
    task = api.call("POST", "/v1/tasks", body=body).json()["id"]
    if recipe.cancel:
        _event_of(api, task, EventType.TASK_RUNNING)
        api.call("POST", f"/v1/tasks/{part(task)}/cancel")
    return _event_of(api, task, event_type)


def _event_of(api: Api, task_id: str, event_type: str) -> dict[str, Any]:
    """The task's event of this type, once it is there. Raises Problem when it ended with another, or not in time."""

    def look() -> dict[str, Any] | None:
        steps = api.get(f"/v1/tasks/{part(task_id)}/timeline").json()["data"]
        told = {step["detail"]["type"]: step["detail"]["id"] for step in steps if step["kind"] == "event"}
        if event_type in told:
            return _event(api, told[event_type])
        ended = next((kind for kind in told if kind.rpartition(".")[2] in FINAL), None)
        if ended is not None:
            error = api.get(f"/v1/tasks/{part(task_id)}").json()["error"] or {}
            why = f" {error['code']}: {error['message']}" if error else ""
            raise Problem(f"{task_id} ended with {ended}, not {event_type}.{why}", Exit.FAILED)
        return None

    return _awaited(f"{event_type} of {task_id}", look)


def _ping(api: Api, subscriber_id: str | None) -> dict[str, Any]:
    """Ping a subscriber, the only one there is when none is named."""
    if subscriber_id is None:
        known = [each["id"] for each in api.get("/v1/subscribers", {"limit": 100}).json()["data"]]
        if len(known) != 1:
            raise click.UsageError(
                "--subscriber says whom to ping; there are "
                + (", ".join(known) or "none: `receiver subscribers add`")
                + "."
            )
        (subscriber_id,) = known
    delivery = api.call("POST", f"/v1/subscribers/{part(subscriber_id)}/ping").json()
    return _event(api, delivery["event_id"])


def _disable(api: Api) -> dict[str, Any]:
    """Have a subscriber of our own disabled: its address answers 410, gone. It is removed at the end."""
    sandbox = Emulated.find(api, _IMAGE[0]).sandbox
    wanted = {
        "url": f"{sandbox}/_sandbox/answer/410",
        "event_types": [EventType.SUBSCRIBER_PING],
        "description": "of `receiver trigger`",
    }
    gone = api.call("POST", "/v1/subscribers", body=wanted).json()["id"]

    def look() -> dict[str, Any] | None:
        newest = api.get("/v1/events", {"event_type": EventType.SUBSCRIBER_DISABLED, "limit": 20}).json()["data"]
        return next((each for each in newest if each["data"].get("subscriber") == gone), None)

    try:
        api.call("POST", f"/v1/subscribers/{part(gone)}/ping")
        return _awaited(EventType.SUBSCRIBER_DISABLED, look)
    finally:
        api.call("DELETE", f"/v1/subscribers/{part(gone)}")


def _awaited(what: str, look: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
    """What ``look`` finds, looked for until it is there or patience ends."""
    with progress(f"Waiting for {what}", None):
        end = time.monotonic() + PATIENCE
        while (found := look()) is None:
            if time.monotonic() > end:
                raise Problem(f"There is no {what} after {PATIENCE:g} s; perhaps it still comes.", Exit.UNFINISHED)
            time.sleep(_LOOK)
    return found


def _event(api: Api, event_id: str) -> dict[str, Any]:
    return dict(api.get(f"/v1/events/{part(event_id)}").json())


def _show(event: Mapping[str, Any]) -> None:
    """The event, how it can be looked at, and whether anybody gets it."""
    data = event["data"]
    error = data.get("error") or {}
    show_facts(
        {
            "event": event["type"],
            "id": event["id"],
            "task": data.get("id") if event["type"].startswith("task.") else None,
            "subscriber": data.get("subscriber"),
            "error": f"{error['code']}: {error['message']}" if error else None,
        }
    )
    if event["type"].startswith("task."):
        console().print(f"`receiver task {clean(data['id'])} --timeline` shows who got it.")
