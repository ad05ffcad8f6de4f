"""Reading and ending tasks of a running service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
from rich.text import Text

from receiver.cli import completing
from receiver.cli.api import Api, part, with_api
from receiver.cli.fields import MOMENT, pairs
from receiver.cli.mistyped import Listing
from receiver.cli.screen import (
    Column,
    clean,
    console,
    in_line,
    indented,
    seconds_between,
    show_facts,
    show_json,
    show_more,
    show_table,
    when,
    word,
)
from receiver.cli.timeline import told
from receiver.models import TaskStatus


@click.command(cls=Listing)
@click.option(
    "--status",
    type=click.Choice([status.value for status in TaskStatus]),
    metavar="STATE",
    help=f"Only tasks in this state: {', '.join(TaskStatus)}.",
)
@click.option("--provider", shell_complete=completing.providers, help="Only tasks of this provider.")
@click.option("--operation", shell_complete=completing.operations, help="Only tasks of this operation.")
@click.option("--created-after", type=MOMENT, metavar="TIME", help="RFC 3339, a date, or 30m, 2h, 7d for ago.")
@click.option("--created-before", type=MOMENT, metavar="TIME", help="As --created-after.")
@click.option("--metadata", multiple=True, metavar="NAME=VALUE", help="Only tasks with this pair; may be repeated.")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="How many.")
@click.option("--cursor", help="Where the last page ended.")
@click.option("--json", "as_json", is_flag=True, help="The API's answer as JSON.")
@with_api
def tasks(api: Api, metadata: tuple[str, ...], as_json: bool, **filters: Any) -> None:
    """List tasks, newest first."""
    wanted = {**filters} | {f"metadata.{name}": value for name, value in pairs(metadata, "a pair of metadata").items()}
    answer = api.get("/v1/tasks", wanted)
    if as_json:
        show_json(answer.text)
        return
    page = answer.json()
    rows = [
        [
            task["id"],
            word(task["status"]),
            task["provider"],
            task["operation"],
            when(task["created_at"]),
            _took(task),
            task["completed_via"],
        ]
        for task in page["data"]
    ]
    columns = [
        Column("id"),
        Column("status"),
        Column("provider", drop=4),
        Column("operation", drop=5, long=True),
        Column("created", drop=3),
        Column("took", drop=2),
        Column("via", drop=1),
    ]
    show_table(columns, rows, "No tasks.")
    show_more(page)


@click.command()
@click.argument("task_id", metavar="ID", shell_complete=completing.tasks)
@click.option("--timeline", is_flag=True, help="Every step it took, instead of what it is.")
@click.option("--json", "as_json", is_flag=True, help="The API's answer as JSON.")
@with_api
def task(api: Api, task_id: str, timeline: bool, as_json: bool) -> None:
    """Show one task, or its timeline."""
    answer = api.get(f"/v1/tasks/{part(task_id)}" + ("/timeline" if timeline else ""))
    if as_json:
        show_json(answer.text)
    elif timeline:
        told_of = answer.json()
        show_timeline(told_of["data"])
        if not told_of.get("complete", True):
            console(error=True).print("These are the newest steps; there are earlier ones.")
    else:
        show_task(answer.json())


@click.command()
@click.argument("task_id", metavar="ID", shell_complete=completing.tasks)
@click.option("--json", "as_json", is_flag=True, help="The API's answer as JSON.")
@with_api
def cancel(api: Api, task_id: str, as_json: bool) -> None:
    """End a task that has not ended yet."""
    answer = api.call("POST", f"/v1/tasks/{part(task_id)}/cancel")
    if as_json:
        show_json(answer.text)
    else:
        console().print(f"Task {clean(answer.json()['id'])} is canceled.")


def show_task(task: Mapping[str, Any]) -> None:
    """Print a task for people: what it is, how it stands, its outputs or its error."""
    error = task["error"]
    show_facts(
        {
            "task": task["id"],
            "what": f"{task['provider']} {task['operation']}",
            "status": _status(task),
            "input": task["input"],
            "metadata": task["metadata"] or None,
            "callback_url": task["callback_url"],
            "provider's id": task["provider_task_id"],
            "created": when(task["created_at"]),
            "took": _took(task),
            "deadline": when(task["deadline_at"]) if task["finished_at"] is None else None,
            "error": f"{error['code']}: {error['message']}" if error else None,
            "provider said": _provider_said(error) if error else None,
        }
    )
    show_outputs(task)


def show_outputs(task: Mapping[str, Any]) -> None:
    """Print one line for each output: what it is, and its address or text."""
    for output in task["outputs"]:
        content = output.get("url") or output.get("text") or output.get("data")
        line = Text().append("  ").append_text(Text(f"{clean(output['kind']):<6}", "bold"))
        if output["status"] != "ok":
            line.append(f"{clean(output['status'])} ", style="yellow")
        name = f"{in_line(output['name'])}: " if output.get("name") else ""
        console().print(line.append(f"{name}{indented(content, 8)}"))


def show_timeline(steps: list[Mapping[str, Any]]) -> None:
    """Print steps with the seconds since the first of them."""
    for step in steps:
        passed = seconds_between(steps[0]["at"], step["at"]) or 0.0
        console().print(Text().append(f"{passed:9.3f} s  ", "bright_black").append_text(told(step)))


def _status(task: Mapping[str, Any]) -> Text:
    shown = word(task["status"])
    if task["progress"] is not None and not task["finished_at"]:
        shown.append(f", {task['progress']:.0%}", style="")
    if task["completed_via"]:
        shown.append(f" by {task['completed_via']}", style="")
    return shown


def _took(task: Mapping[str, Any]) -> str | None:
    seconds = seconds_between(task["created_at"], task["finished_at"])
    return None if seconds is None else f"{seconds:.1f} s"


def _provider_said(error: Mapping[str, Any]) -> str | None:
    said = [text for text in (error.get("provider_code"), error.get("provider_message")) if text]
    return " ".join(said) or None
