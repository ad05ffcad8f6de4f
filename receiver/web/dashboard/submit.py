"""A new task: choose what to do, fill in the form that the provider's schema makes, submit once."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from flask import Response, g, request
from marshmallow import ValidationError

from receiver import watching
from receiver.errors import IdempotencyMismatch, Invalid, NotFound, field_errors
from receiver.models import Task, id_pattern
from receiver.providers import input_schema
from receiver.tasks import NewTask
from receiver.web.auth import account
from receiver.web.dashboard import forms
from receiver.web.dashboard.frame import page, redirect, render
from receiver.web.face import runtime
from receiver.web.schemas import NewTaskSchema


@page("GET", "/new-task", section="tasks")
def choose_operation() -> Response:
    """What the configured providers can do."""
    providers = runtime().providers.describe()
    return render("choose_operation.html", providers=sorted(providers, key=lambda each: not each["configured"]))


@page("GET", "/new-task/<name:provider>/<name:operation>", section="tasks")
def new_task(provider: str, operation: str) -> Response:
    """The form; ``like``: with the input of an earlier task in it."""
    title, groups = _form_of(provider, operation)
    typed: dict[str, str] = {}
    further = metadata = ""
    if "like" in request.args:
        earlier = runtime().tasks.get(account(), _task_id(request.args["like"]))
        typed, further = forms.typed_from(groups, json.loads(earlier.input_json))
        metadata = _metadata_text(earlier.metadata)
        typed["callback_url"] = earlier.callback_url or ""
    return _show(provider, operation, title, groups, {**typed, "further": further, "metadata": metadata})


@page("POST", "/new-task/<name:provider>/<name:operation>", section="tasks")
def submit_task(provider: str, operation: str) -> Response:
    """Submit; the same form sent twice makes one task."""
    title, groups = _form_of(provider, operation)
    typed = {name: text for name, text in request.form.items() if name not in ("csrf", "once")}
    try:
        wanted = _wanted(provider, operation, groups, typed)
        task = _create(wanted, request.form.get("once", ""))
    except IdempotencyMismatch:
        said = {"": ["This form was sent already, with something else in it. Send it again to submit another task."]}
        return _show(provider, operation, title, groups, typed, said)
    except Invalid as error:
        said = forms.place_messages(groups, error.errors)
        return _show(provider, operation, title, groups, typed, said, once=request.form.get("once"))
    return redirect("task", task_id=task.id)


def _task_id(given: str) -> str:
    """The id of a task. Raises NotFound for what is none."""
    if not re.fullmatch(id_pattern("task"), given):
        raise NotFound("There is no such task.")
    return given


def _form_of(provider: str, operation: str) -> tuple[str, list[forms.Group]]:
    """The title of an operation and the groups of its form. Raises NotFound for what there is not."""
    try:
        _, found = runtime().providers.operation(provider, operation)
    except Invalid as error:
        raise NotFound(" ".join(message for messages in error.errors.values() for message in messages)) from None
    return found.title, forms.groups_of(input_schema(found))


def _wanted(provider: str, operation: str, groups: list[forms.Group], typed: Mapping[str, str]) -> NewTask:
    """What was typed as a task, checked as the API checks a body. Raises Invalid."""
    errors: dict[str, Any] = {}
    body: dict[str, Any] = {"provider": provider, "operation": operation, "input": {}}
    try:
        body["input"] = forms.input_from(groups, typed, typed.get("further", ""))
    except forms.NotJson as error:
        errors["further"] = [str(error)]
    body["metadata"], wrong = _metadata(typed.get("metadata", ""))
    if wrong:
        errors["metadata"] = [wrong]
    if typed.get("callback_url", "").strip():
        body["callback_url"] = typed["callback_url"].strip()
    if typed.get("deadline", "").strip():
        try:
            body["deadline"] = float(typed["deadline"])
        except ValueError:
            errors["deadline"] = ["Must be a number of seconds."]
    try:
        loaded = NewTaskSchema().load(body)
    except ValidationError as error:
        errors.update(field_errors(error.messages))
    if errors:
        raise Invalid(errors)
    return NewTask(**loaded)


def _metadata(text: str) -> tuple[dict[str, Any], str]:
    """Pairs as they were typed, one on each line or as a JSON object, and what is wrong with them."""
    with suppress(ValueError, RecursionError):
        made = json.loads(text)
        if isinstance(made, dict):
            return made, ""
    pairs = [line.partition("=") for line in text.splitlines() if line.strip()]
    metadata = {key.strip(): value.strip() for key, _, value in pairs}
    if not all(equals for _, equals, _ in pairs):
        return metadata, "Write one pair on each line, like order=4711."
    return metadata, "One name stands on two lines: each has one value." if len(metadata) < len(pairs) else ""


def _metadata_text(metadata: Mapping[str, str]) -> str:
    """Pairs as they would be typed: as lines, or as JSON when lines would be read as something else."""
    lines = "\n".join(f"{key}={value}" for key, value in metadata.items())
    return lines if _metadata(lines) == (dict(metadata), "") else json.dumps(dict(metadata), ensure_ascii=False)


def _create(wanted: NewTask, once: str) -> Task:
    key = f"form-{once}" if once.isascii() and once.isprintable() and 0 < len(once) <= 64 else None
    task, replayed = runtime().tasks.create(account(), wanted, key)
    if not replayed:
        watching.task_accepted(task, g.request_id)
    return task


def _show(
    provider: str,
    operation: str,
    title: str,
    groups: list[forms.Group],
    typed: Mapping[str, str],
    said: Mapping[str, list[str]] | None = None,
    once: str | None = None,
) -> Response:
    """The form with what was typed, and messages at their fields. ``once``: what makes two sendings one."""
    return render(
        "new_task.html",
        422 if said else 200,
        provider=provider,
        operation=operation,
        title=title,
        groups=groups,
        typed=typed,
        said=said or {},
        once=once or secrets.token_urlsafe(18),
    )
