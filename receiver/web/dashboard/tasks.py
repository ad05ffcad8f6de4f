"""The list of tasks, and the page of one: results, error, timeline, and what lies behind each step."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import flask
from flask import Response, request

import handlers
from receiver.errors import Conflict
from receiver.models import Page, Task, TaskStatus, storable
from receiver.store.tasks import Filter
from receiver.web.auth import account, list_turn
from receiver.web.dashboard import exchanges, formatting, words
from receiver.web.dashboard.drawing import picture_of
from receiver.web.dashboard.frame import cursor_of, link, page, redirect, render
from receiver.web.face import runtime

PAGE_SIZE = 25
MOST_DELIVERIES = 40
"""Of one task on its page, which is read again and again; all of them are in the list of deliveries."""
MOST_STEPS = 500
"""Steps, notices, events and attempts on that page, so many of each."""
FILTERS = ("status", "provider", "operation", "after", "before", "metadata")
STATES = tuple(status.value for status in TaskStatus)


@page("GET", "/tasks", nav="Tasks")
def tasks() -> Response:
    """Tasks, newest first, narrowed down; or the one that an id names."""
    given = {name: request.args.get(name, "").strip() for name in (*FILTERS, "q")}
    wrong: dict[str, str] = {}
    cursor = cursor_of("task")
    if given["q"]:
        found = runtime().tasks.find(account(), given["q"]) if storable(given["q"]) else []
        if len(found) == 1:
            return redirect("task", task_id=found[0].id)
        shown: Page[Task] = Page(tuple(found), None)
    else:
        wanted, wrong = _wanted(given)
        with list_turn():
            shown = runtime().tasks.list_page(account(), wanted, PAGE_SIZE, cursor)
    chosen = {name: given[name] for name in FILTERS if given[name]}
    return render(
        "tasks.html",
        page=shown,
        given=given,
        wrong=wrong,
        chosen=chosen,
        narrowed=bool(chosen or given["q"]),
        older=link("tasks", **chosen, cursor=shown.next_cursor) if shown.next_cursor else None,
        first=cursor is None,
        states=STATES,
        providers=handlers.available(),
    )


def _wanted(given: dict[str, str]) -> tuple[Filter, dict[str, str]]:
    """What the list is narrowed down to, and what of it could not be understood, by field."""
    wrong: dict[str, str] = {}
    times: dict[str, int | None] = {}
    for name in ("after", "before"):
        times[name] = formatting.typed_time(given[name])
        if given[name] and times[name] is None:
            wrong[name] = "Write a time like 2026-11-22T10:00."
    parts = [part.partition("=") for part in given["metadata"].split("&") if part]
    # Only %26 and the like have to be told from what they stand for: a + that is typed or pasted is a plus.
    pairs = {unquote(name).strip(): unquote(value) for name, equals, value in parts if equals and name}
    if len(pairs) < len(parts) or not all(map(storable, (*pairs, *pairs.values()))):
        wrong["metadata"] = "Write pairs like order=4711, several with & between them."
        pairs = {}
    return Filter(
        status=given["status"] if given["status"] in STATES else None,
        provider=given["provider"] if given["provider"] in handlers.available() else None,
        operation=given["operation"] if given["operation"] and storable(given["operation"]) else None,
        created_after=times["after"],
        created_before=times["before"],
        metadata=pairs,
    ), wrong


@page("GET", "/tasks/<id(task):task_id>", section="tasks")
def task(task_id: str) -> Response:
    """One task with all that is known of it."""
    history = runtime().tasks.history(account(), task_id, most=MOST_DELIVERIES, of_each=MOST_STEPS)
    found, now = history.task, runtime().clock()
    url = runtime().settings.public_url
    lines = exchanges.lines_of(history, url)
    moving = not found.status.final or any(each.finished_at is None for each in history.deliveries)
    return render(
        "task.html",
        task=found,
        outputs=[_output(output) for output in json.loads(found.outputs_json)],
        error=words.error_of(found),
        lines=lines,
        left_out=history.left_out,
        whole=history.whole,
        picture=picture_of(history, lines, now),
        took=(found.finished_at or now) - found.created_at,
        seconds=(0 if not moving else 2 if not found.status.final else 5),
        read_curl=exchanges.curl_for("GET", f"{url}/v1/tasks/{found.id}"),
        submit_curl=exchanges.submit_curl(found, url),
    )


_SHOWN_TEXT = 20_000


def _output(output: dict[str, Any]) -> dict[str, Any]:
    """An output as the page needs it: only addresses that a browser may load are shown or linked to."""
    address = output.get("url") or ""
    data = output.get("data")
    return {
        **output,
        "url": address if address.startswith(("https://", "http://")) else None,
        "text": (output.get("text") or "")[:_SHOWN_TEXT],
        "expires_at": _stored_time(output.get("expires_at")),
        "data": None if data is None else json.dumps(data, ensure_ascii=False, indent=2)[:_SHOWN_TEXT],
    }


def _stored_time(text: str | None) -> int | None:
    """A time as outputs are stored with it, as ms."""
    return None if text is None else round(datetime.fromisoformat(text).timestamp() * 1000)


@page("POST", "/tasks/<id(task):task_id>/cancel", section="tasks")
def cancel_task(task_id: str) -> Response:
    """End a task for its subscribers."""
    try:
        runtime().tasks.cancel(account(), task_id)
        flask.flash("The task is canceled. What the provider still says of it changes nothing.")
    except Conflict as error:
        flask.flash(error.detail)
    return redirect("task", task_id=task_id)
