"""Handing in a task, and watching it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import click
import requests
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from receiver.cli import completing
from receiver.cli.api import Api, ApiProblem, part, with_api
from receiver.cli.exits import Exit, Problem
from receiver.cli.fields import Real, pairs, task_input
from receiver.cli.screen import clean, console, indented, seconds_between, show_json, since, word
from receiver.cli.tasks import show_outputs
from receiver.models import FINAL, IDEMPOTENCY_KEY

WAIT = 3600.0
"""Seconds that a bare ``--wait`` waits at most."""
_GLANCE = 1
"""Seconds that one look at a task may last, so that a change of state is shown within it."""
_BREATH = 0.2


class _WaitWithOrWithoutSeconds(click.Command):
    """Reads ``--wait`` and ``--wait 30`` alike; what follows a bare ``--wait`` may also be ``key=value``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = iter(list(args))
        joined: list[str] = []
        for arg in given:
            if arg == "--":
                joined += [arg, *given]
            elif arg != "--wait":
                joined.append(arg)
            else:
                following = next(given, None)
                if following is not None and _is_number(following):
                    joined.append(f"--wait={following}")
                else:
                    joined.append(f"--wait={WAIT:g}")
                    joined += [] if following is None else [following]
        return super().parse_args(ctx, joined)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@click.command(cls=_WaitWithOrWithoutSeconds)
@click.argument("provider", shell_complete=completing.providers)
@click.argument("operation", shell_complete=completing.operations)
@click.argument("fields", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--input", "source", metavar="JSON|@FILE|-", help="The input as JSON, from a file, or from standard input."
)
@click.option("--callback-url", metavar="URL", help="Gets this task's events, beside the account's subscribers.")
@click.option("--metadata", multiple=True, metavar="NAME=VALUE", help="Given back everywhere; may be repeated.")
@click.option("--deadline", type=Real(1), metavar="SECONDS", help="After which the task expires.")
@click.option("--idempotency-key", metavar="KEY", help="Repeating the command with the same key starts nothing new.")
@click.option(
    "--wait",
    type=Real(0),
    metavar="[SECONDS]",
    help="Watch it until it ends, or for so long (an hour without a number).",
)
@click.option("--json", "as_json", is_flag=True, help="The task as JSON (with --wait: as it is at the end).")
@with_api
def submit(
    api: Api,
    provider: str,
    operation: str,
    fields: tuple[str, ...],
    source: str | None,
    callback_url: str | None,
    metadata: tuple[str, ...],
    deadline: float | None,
    idempotency_key: str | None,
    wait: float | None,
    as_json: bool,
) -> None:
    """Hand a task to a provider, and watch it if wanted.

    The input is given as key=value, as JSON, or both. Values that are JSON are taken as that (numbers,
    true, lists, ...), all others as text; for a text of digits write key='"123"'. `receiver providers
    NAME` shows operations and their fields.

    \b
    receiver submit superapp text2image inputText="a lighthouse" \\
        width=1024 height=1024 --wait
    receiver submit topview voice_text2voice --input @voice.json \\
        --metadata order=17

    With --wait the exit code is 0 if the task succeeded, 1 if it ended otherwise, 6 if it has not ended yet.
    """  # noqa: D301  click reads the backspace
    body: dict[str, Any] = {"provider": provider, "operation": operation, "input": task_input(source, fields)}
    if callback_url is not None:
        body["callback_url"] = callback_url
    if metadata:
        body["metadata"] = pairs(metadata, "a pair of metadata")
    if deadline is not None:
        body["deadline"] = deadline
    if idempotency_key is not None and not re.fullmatch(IDEMPOTENCY_KEY, idempotency_key):
        raise click.UsageError("--idempotency-key: must be 1 to 255 visible ASCII characters.")
    headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
    answer = api.call("POST", "/v1/tasks", body=body, headers=headers)
    task = answer.json()
    if wait is None:
        if as_json:
            show_json(answer.text)
        else:
            replayed = answer.headers.get("Idempotency-Replayed") == "true"
            console().print(
                f"{clean(task['id'])} {clean(task['status'])}" + (" (submitted before)" if replayed else "")
            )
        return
    try:
        if as_json:
            last = watch(api, task["id"], wait, lambda _: None)
            show_json(last.text)
        else:
            console().print(f"{clean(task['id'])}  {clean(provider)} {clean(operation)}", style="bold")
            with Watcher(api, task["id"], console()) as watcher:
                last = watch(api, task["id"], wait, watcher.see)
    except (ApiProblem, KeyboardInterrupt):
        told = f"The task goes on: `receiver task {task['id']}` shows it, `receiver cancel {task['id']}` ends it."
        click.echo(f"\n{clean(told)}", err=True)
        raise
    _judge(last.json(), wait, quiet=as_json)


def watch(
    api: Api,
    task_id: str,
    seconds: float,
    see: Callable[[Mapping[str, Any] | None], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> requests.Response:
    """Look at a task until it has ended or ``seconds`` have passed; the last answer about it.

    ``see`` is given the task at each look, or None when the service could not be reached: it may be
    back in a moment. Raises ApiProblem when it is not back by the end, or refuses.
    """
    end = clock() + seconds
    while True:
        began = clock()
        try:
            answer = api.get(f"/v1/tasks/{part(task_id)}", {"wait": _GLANCE if end - began > _GLANCE else None})
        except ApiProblem as problem:
            if problem.status not in (None, 429, 502, 503, 504) or clock() >= end:
                raise
            see(None)
        else:
            task = answer.json()
            see(task)
            if task["status"] in FINAL or clock() >= end:
                return answer
        sleep(max(0.0, min(_BREATH - (clock() - began), end - clock())))


class Watcher:
    """Shows a task while it runs: a line for each state, and on a terminal a live line below them."""

    def __init__(self, api: Api, task_id: str, screen: Console) -> None:
        self._api = api
        self._task_id = task_id
        self._screen = screen
        self._status: str | None = None
        self._shown = 0
        self._spinner = Spinner("dots", Text("queued"))
        self._live = Live(self._spinner, console=screen, transient=True, refresh_per_second=8)

    def __enter__(self) -> Watcher:
        if self._screen.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def see(self, task: Mapping[str, Any] | None) -> None:
        """Take a look at the task into account; None: the service cannot be reached just now."""
        if task is None:
            self._spinner.update(text=Text().append("the service does not answer; trying again", "yellow"))
            return
        if task["status"] != self._status:
            try:
                self._show_states()
                self._status = task["status"]
            except ApiProblem:  # away just now, or busy: shown at the next look, if there is one
                if task["status"] in FINAL:
                    passed = seconds_between(task["created_at"], task["finished_at"])
                    self._show_state(passed, task["status"], task["completed_via"])
        progress = "" if task["progress"] is None else f", {task['progress']:.0%}"
        self._spinner.update(text=word(task["status"]).append(f" for {since(task['created_at']):.0f} s{progress}", ""))

    def _show_states(self) -> None:
        """Print the states since the last look, also those that passed between two looks."""
        steps = self._api.get(f"/v1/tasks/{part(self._task_id)}/timeline").json()["data"]
        told_of = [step for step in steps if step["kind"] in ("created", "state")]
        for step in told_of[self._shown :]:
            state = "queued" if step["kind"] == "created" else step["detail"]["to"]
            self._show_state(seconds_between(steps[0]["at"], step["at"]), state, step["detail"].get("via"))
        self._shown = len(told_of)

    def _show_state(self, passed: float | None, state: str, via: str | None) -> None:
        by = f" by {clean(via)}" if via else ""
        self._screen.print(
            Text().append(f"{passed or 0.0:9.1f} s  ", "bright_black").append_text(word(state)).append(by, "")
        )


def _judge(task: Mapping[str, Any], wait: float, *, quiet: bool) -> None:
    """Show how it ended (unless ``quiet``), and end with a code that says so unless it succeeded."""
    if task["status"] not in FINAL:
        raise Problem(
            f"The task has not ended within {wait:g} s; it goes on: `receiver task {task['id']}` shows it.",
            Exit.UNFINISHED,
        )
    if task["status"] == "succeeded":
        if not quiet:
            show_outputs(task)
        return
    if not quiet and task["error"]:
        console(error=True).print(
            Text().append(f"{clean(task['error']['code'])}: {indented(task['error']['message'], 2)}", "red")
        )
    raise SystemExit(Exit.FAILED)
