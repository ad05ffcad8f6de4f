"""``/v1/tasks``: submit, read, wait for, cancel."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from flask import Response, g

from receiver import watching
from receiver.errors import Busy
from receiver.events import rfc3339, task_json
from receiver.models import Scope, Task
from receiver.store.tasks import Filter
from receiver.tasks import NewTask
from receiver.web import answers
from receiver.web.api import Answer, Section
from receiver.web.auth import READERS, account, admit_again, list_turn, still_admitted
from receiver.web.face import alarm, runtime
from receiver.web.samples import ACCEPTED, CANCELED
from receiver.web.schemas import MAX_WAIT, NewTaskHeaders, NewTaskSchema, TaskQuery, WaitQuery

section = Section("Tasks", "Work handed to providers.")

_WAIT = re.compile(r"\s*wait\s*=\s*\"?(\d{1,9})\"?\s*", re.IGNORECASE | re.ASCII)


@section.operation(
    "POST",
    "/tasks",
    Answer(
        202,
        "Task",
        "The task is accepted, or (replayed, waited for) further on.",
        {
            "Location": ("Where to read the task.", f"/v1/tasks/{ACCEPTED['id']}"),
            "Idempotency-Replayed": ("`true` when the task was made by an earlier request.", "true"),
            "Preference-Applied": ("`wait=N` when the answer was held for up to N seconds.", "wait=30"),
        },
        example=ACCEPTED,
    ),
    scopes=[Scope.SUBMIT],
    body=NewTaskSchema,
    headers=NewTaskHeaders,
    problems=[409],
)
def submit_task(body: Mapping[str, Any], headers: Mapping[str, Any]) -> Response:
    """Submit a task to a provider.

    It is stored before the answer, and handed over by a worker. With `Idempotency-Key` a repeated request gives the
    same task. `input` is checked against the operation's schema first.
    """
    task, replayed = runtime().tasks.create(account(), NewTask(**body), headers.get("idempotency_key"))
    said = {"Location": f"/v1/tasks/{task.id}"}
    if replayed:
        said["Idempotency-Replayed"] = "true"
    else:
        g.task_id = task.id
        watching.task_accepted(task, g.request_id)
    wait = _preferred_wait(headers["prefer"])
    if wait is not None:
        # Whatever becomes of the wait: the task was accepted, and who is told otherwise sends it once more.
        with suppress(Busy, RuntimeError):  # no database, or no thread to listen
            seen, waited = _wait_for(task, wait)
            if waited and still_admitted():
                task = seen
                said["Preference-Applied"] = f"wait={wait}"
    return answers.text(task_json(task), 202, said)


@section.operation("GET", "/tasks", Answer(200, "TaskPage", "Tasks, newest first."), scopes=READERS, query=TaskQuery)
def list_tasks(query: dict[str, Any]) -> Response:
    """List tasks, newest first.

    Every parameter narrows the list; together they must all hold. Times are compared with `created_at`.
    """
    limit, cursor = query.pop("limit"), query.pop("cursor", None)
    with list_turn():
        page = runtime().tasks.list_page(account(), Filter(**query), limit, cursor)
    return answers.listing(map(task_json, page.items), page.next_cursor)


@section.operation(
    "GET", "/tasks/<id(task):task_id>", Answer(200, "Task", "The task."), scopes=READERS, query=WaitQuery
)
def get_task(query: Mapping[str, Any], task_id: str) -> Response:
    """Read a task, or wait until it has ended.

    With `wait`, the answer comes as soon as the task is final, and after that many seconds at the latest. When too
    many requests wait already, it comes at once.
    """
    task = runtime().tasks.get(account(), task_id)
    if query["wait"]:
        task, _ = _wait_for(task, query["wait"])
        admit_again()
    return answers.text(task_json(task))


@section.operation(
    "POST", "/tasks/<id(task):task_id>/cancel", Answer(200, "Task", "The task, canceled.", example=CANCELED),
    scopes=[Scope.SUBMIT], problems=[409],
)  # fmt: skip
def cancel_task(task_id: str) -> Response:
    """End a task for its subscribers.

    No provider documents a call that stops a task, so one that runs already may still be charged; what the provider
    says of it later changes nothing. 409 when the task has ended.
    """
    return answers.text(task_json(runtime().tasks.cancel(account(), task_id)))


@section.operation(
    "GET", "/tasks/<id(task):task_id>/timeline", Answer(200, "Timeline", "Every step, oldest first."), scopes=READERS
)
def get_timeline(task_id: str) -> Response:
    """Read everything that happened to a task.

    Submits, polls, notices with their verdicts, changes of state, events, and every attempt of their deliveries, in
    the order of their times: of an attempt, when it ended. Of more than 10,000 steps the newest.
    """
    steps, complete = runtime().tasks.timeline(account(), task_id)
    told = [{"at": rfc3339(step.at), "kind": step.kind, "detail": dict(step.detail)} for step in steps]
    return answers.value({"data": told, "complete": complete})


def _wait_for(task: Task, seconds: int) -> tuple[Task, bool]:
    """The task when it has ended or the time is over; and whether there was a seat to wait on."""
    service = runtime().tasks
    with alarm().seat(task.account_id) as seated:
        if not seated:
            return task, False
        return alarm().until(
            lambda: service.get(task.account_id, task.id), lambda seen: seen.status.final, seconds
        ), True


def _preferred_wait(prefer: str) -> int | None:
    """Seconds of ``Prefer: wait=N`` (RFC 7240), at most a minute; what is not understood is passed over."""
    found = (_WAIT.fullmatch(part.split(";")[0]) for part in prefer.split(","))
    return next((min(int(wait[1]), MAX_WAIT) for wait in found if wait), None)
